"""A long conversation stays within the model's window, and nothing of it is lost."""

from __future__ import annotations

from typing import Any

from desk import Desk
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from scripted import Call, Reply, Request, Say, Status

from orchestrator.nodes.compaction import _squeezed, _without_results, size, view
from orchestrator.state import Compaction

WINDOW = {"context_tokens": 6000, "max_output_tokens": 500}


def reader(request: Request) -> Reply:
    """Reads one page after the other; what was done so far is told by the names of the calls."""
    if "You keep the notes" in request.system:
        return Say("NOTES: pages were read, the word is apple")
    done = sum(message["role"] == "tool" for message in request["messages"])
    reader.calls = getattr(reader, "calls", 0) + 1  # type: ignore[attr-defined]
    if reader.calls > 14:  # type: ignore[attr-defined]
        return Say(f"read it all, {done} results in sight")
    return Call("read_file", path="a.txt", offset=1 + 40 * reader.calls, limit=40)  # type: ignore[attr-defined]


def is_whole(request: Request) -> bool:
    """Whether each result follows the call that it answers, as servers demand."""
    called: set[str] = set()
    for message in request["messages"]:
        called |= {call["id"] for call in message.get("tool_calls") or []}
        if message["role"] == "tool" and message["tool_call_id"] not in called:
            return False
    return True


def work(desk: Desk, script: Any) -> Any:
    reader.calls = 0  # type: ignore[attr-defined]
    desk.write("a.txt", "".join(f"line {n} tells of apples, pears and {n * 7} plums\n" for n in range(900)))
    return desk.work("@coder read a.txt to its end", script, model=WINDOW)


def test_the_oldest_results_go_first_and_the_window_is_never_passed(desk: Desk) -> None:
    turn = work(desk, reader)
    assert turn.answer.startswith("read it all")
    cuts = turn.of("compaction")
    assert cuts
    for request in turn.requests:
        assert is_whole(request)
        assert sum(map(len, request.texts)) // 4 <= 5500, "as the server counts"
    shortened = turn.requests[-1].texts
    assert any("an earlier result of 41 lines, cut to save room" in text for text in shortened)
    stored = [str(event.fields["text"]) for event in desk.events("tool_result")]
    assert len(stored) == 14
    assert all("cut to save room" not in text for text in stored)


def test_the_front_of_the_prompt_stays_as_it_is_between_compactions(desk: Desk) -> None:
    turn = work(desk, reader)
    changed = 0
    for before, after in zip(turn.requests, turn.requests[1:], strict=False):
        assert before["messages"][0] == after["messages"][0]
        changed += after["messages"][: len(before["messages"])] != before["messages"]
    assert changed <= len(turn.of("compaction")) < 8


def test_what_is_still_too_long_is_summed_up_by_the_model(desk: Desk) -> None:
    numbers = iter(range(200))

    def script(request: Request) -> Reply:
        if "You keep the notes" in request.system:
            return Say("NOTES: many were written")
        number = next(numbers)
        if number > 60:
            return Say("wrote them all")
        return Call("write_file", path=f"f{number}.txt", content=f"words {number} " * 60)

    turn = work(desk, script)
    assert turn.answer == "wrote them all"
    summed = [event.fields for event in turn.of("compaction") if event.fields["summary"]]
    assert summed
    assert summed[0]["messages_summarised"] > 4
    assert "NOTES: many were written" in turn.requests[-1].texts[1]
    assert all(is_whole(request) for request in turn.requests)
    assert desk.text("f60.txt")


def test_a_model_that_cannot_sum_up_is_no_reason_to_stop(desk: Desk) -> None:
    numbers = iter(range(200))

    def script(request: Request) -> Reply:
        if "You keep the notes" in request.system:
            return Status(400, body={"error": {"message": "no"}})
        number = next(numbers)
        if number > 40:
            return Say("wrote them all")
        return Call("write_file", path=f"f{number}.txt", content=f"words {number} " * 60)

    turn = work(desk, script)
    assert turn.answer == "wrote them all"
    assert "It called write_file" in turn.requests[-1].texts[1]


def conversation(sizes: list[int]) -> list[AnyMessage]:
    messages: list[AnyMessage] = [HumanMessage("do it", id="0")]
    for number, length in enumerate(sizes):
        call = {"name": "read_file", "args": {"path": "a"}, "id": f"c{number}", "type": "tool_call"}
        messages.append(AIMessage("", tool_calls=[call], id=f"a{number}"))
        messages.append(ToolMessage("word " * length, tool_call_id=f"c{number}", name="read_file"))
    return messages


@given(st.lists(st.integers(1, 900), min_size=1, max_size=25), st.integers(300, 4000))
@settings(deadline=None)
def test_any_conversation_fits_and_keeps_its_order(sizes: list[int], room: int) -> None:
    history = conversation(sizes)
    now = _without_results(history, Compaction(results=0, start=1, summary=""), room)
    shown = view(history, now)
    assert [type(message) for message in shown] == [type(message) for message in history]
    assert shown[-1] == history[-1]
    assert shown == view(history, now)
    squeezed = _squeezed(list(shown), room)
    assert size(squeezed) <= max(room, 60 * len(squeezed))


def test_a_server_that_takes_less_than_the_settings_say_gets_less(desk: Desk) -> None:
    refused = 0

    def narrow(request: Request) -> Reply:
        nonlocal refused
        if sum(map(len, request.texts)) > 16_000:
            refused += 1
            said = "This model's maximum context length is 4096 tokens, your messages have more"
            return Status(400, body={"error": {"message": said, "code": "context_length_exceeded"}})
        return reader(request)

    reader.calls = 0  # type: ignore[attr-defined]
    desk.write("a.txt", "".join(f"line {n} tells of apples, pears and {n * 7} plums\n" for n in range(900)))
    turn = desk.work("@coder read a.txt to its end", narrow)
    assert turn.answer.startswith("read it all")
    assert 1 <= refused <= 3, "what was learned is not forgotten"
    assert all(is_whole(request) for request in turn.requests)
    assert len(desk.events("tool_result")) == 14


def test_a_task_that_is_too_long_by_itself_ends_with_advice(desk: Desk) -> None:
    full = Status(400, body={"error": {"message": "maximum context length exceeded"}})
    turn = desk.work("@coder " + "read it " * 50, lambda _: full)
    assert "lower context_tokens" in str(turn.error)
    assert len(turn.requests) == 1
