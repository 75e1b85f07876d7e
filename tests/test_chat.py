"""The model client, against a real endpoint that answers what a script says."""

from __future__ import annotations

import asyncio
import time

import pytest
from asking import ASKED, TOOLS, Route, act, ask, fill
from langchain_core.messages import AIMessage, ToolMessage
from patience import until
from scripted import (
    Call,
    Calls,
    Fill,
    HalfJson,
    Reply,
    Request,
    Say,
    ScriptedModel,
    Stall,
    Status,
)

from orchestrator.errors import ModelNonsense
from orchestrator.llm.base import ChatModel, Usage
from orchestrator.llm.chat import open_model


@pytest.mark.parametrize("mode", ["native", "json"])
def test_one_script_serves_native_and_json_calls(mode: str) -> None:
    with ScriptedModel([Call("write_file", path="ä.txt", content='a "b"\n' * 9)]) as model:
        answer = act(model.settings(tool_calls=mode))
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [
        ("write_file", {"path": "ä.txt", "content": 'a "b"\n' * 9})
    ]
    assert model.requests[0].wants == "action"
    assert model.requests[0].tools == ["read_file", "write_file"]


def test_parallel_calls_arrive_together_natively_and_one_by_one_in_json_mode() -> None:
    both = Calls([Call("read_file", path="a"), Call("read_file", path="b")])
    with ScriptedModel([both]) as model:
        answer = act(model.settings())
    assert [call["args"]["path"] for call in answer.tool_calls] == ["a", "b"]
    assert len({call["id"] for call in answer.tool_calls}) == 2
    with ScriptedModel([both]) as model:
        settings = model.settings(tool_calls="json")
        assert [act(settings).tool_calls[0]["args"]["path"] for _ in "ab"] == ["a", "b"]


def test_prose_without_a_call_comes_back_as_text() -> None:
    with ScriptedModel([Say("nothing to do")]) as model:
        answer = act(model.settings())
    assert (answer.text, answer.tool_calls) == ("nothing to do", [])


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "read_file", "arguments": {"path": "a"}}\n</tool_call>',
        '```json\n{"tool": "read_file", "path": "a"}\n```',
        '{"type": "function", "function": {"name": "read_file", "arguments": "{\\"path\\": \\"a\\"}"}}',
    ],
)
def test_a_call_that_the_server_left_in_the_text_is_a_call(text: str) -> None:
    with ScriptedModel([Say(text)]) as model:
        answer = act(model.settings())
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [("read_file", {"path": "a"})]
    assert not answer.text


def test_prose_around_a_json_example_is_no_call() -> None:
    with ScriptedModel([Say('I would say {"tool": "read_file", "path": "a"} here')]) as model:
        assert act(model.settings()).tool_calls == []


def test_half_written_arguments_are_an_invalid_call_and_never_a_shorter_one() -> None:
    with ScriptedModel([Call("write_file", raw='{"path": "a", "content": "hal')]) as model:
        answer = act(model.settings())
    assert answer.tool_calls == []
    assert answer.invalid_tool_calls[0]["name"] == "write_file"
    assert "JSON" in (answer.invalid_tool_calls[0]["error"] or "")


def test_the_schema_on_the_wire_is_compact_and_the_key_and_limit_are_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-1")
    with ScriptedModel([Call("read_file", path="a")]) as model:
        act(model.settings(api_key_env="MY_KEY", max_output_tokens=99))
    request = model.requests[0]
    assert "title" not in str(request["tools"])
    assert request["max_tokens"] == 99
    assert request["stream"] is True
    assert request["stream_options"] == {"include_usage": True}
    assert request.headers["authorization"] == "Bearer sk-1"


def test_a_history_with_calls_and_results_is_sent_as_such() -> None:
    call = {"name": "read_file", "args": {"path": "a"}, "id": "c1", "type": "tool_call"}
    history = [*ASKED, AIMessage("", tool_calls=[call]), ToolMessage("hi", tool_call_id="c1")]
    with ScriptedModel([Say("ok")]) as model:
        ask(model.settings(), lambda chat: chat.act(history, TOOLS))
    sent = model.requests[0]["messages"]
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool"]
    assert sent[2]["tool_calls"][0]["id"] == sent[3]["tool_call_id"] == "c1"


@pytest.mark.parametrize("mode", ["native", "json"])
def test_a_schema_is_filled(mode: str) -> None:
    with ScriptedModel([Fill({"agent": "coder", "confidence": 0.5})]) as model:
        route = fill(model.settings(tool_calls=mode))
    assert route == Route(agent="coder", confidence=0.5)
    assert model.requests[0].wants == "Route"
    assert model.requests[0]["max_tokens"] == 700


def test_a_wrong_value_gets_one_repair_that_says_what_is_wrong() -> None:
    with ScriptedModel([Fill({"agent": "cook"}), Fill({"agent": "none"})]) as model:
        assert fill(model.settings()).agent == "none"
    assert "agent: Input should be 'coder' or 'none'" in model.requests[1].last


def test_a_second_wrong_value_is_nonsense() -> None:
    with (
        ScriptedModel([Say("a cook"), Say("the cook")]) as model,
        pytest.raises(ModelNonsense, match="Route"),
    ):
        fill(model.settings())
    assert len(model.requests) == 2


def test_a_server_without_schemas_is_asked_by_a_forced_call_and_this_is_remembered() -> None:
    def script(request: Request) -> Reply:
        if "response_format" in request:
            return Status(400, body={"error": {"message": "response_format is not supported"}})
        return Fill({"agent": "coder"})

    async def twice(chat: ChatModel) -> list[str]:
        return [(await chat.fill(ASKED, Route)).agent for _ in "ab"]

    with ScriptedModel(script) as model:
        assert ask(model.settings(), twice) == ["coder", "coder"]
    assert ["response_format" in request for request in model.requests] == [True, False, False]


def test_a_server_without_schemas_and_calls_is_asked_in_words() -> None:
    def script(request: Request) -> Reply:
        if "response_format" in request or "tools" in request:
            return Status(400, body={"error": {"message": "no such option"}})
        return Say('Sure:\n```json\n{"agent": "coder",}\n```')

    with ScriptedModel(script) as model:
        assert fill(model.settings()).agent == "coder"
    assert '"enum"' in model.requests[-1].last


def test_text_is_streamed_in_pieces_and_usage_is_reported() -> None:
    pieces: list[str] = []
    usages: list[Usage] = []
    with ScriptedModel([Say("The answer is forty-two.")]) as model:
        text = ask(
            model.settings(),
            lambda chat: chat.write(ASKED, on_text=pieces.append),
            on_usage=usages.append,
        )
    assert text == "".join(pieces) == "The answer is forty-two."
    assert len(pieces) > 2
    usage = usages[0]
    assert (usage.model, usage.input_tokens, usage.cached_tokens) == ("scripted", 6, 3)
    assert usage.output_tokens > 0
    assert 0 < (usage.first_token_seconds or 0) <= usage.seconds
    assert not usage.is_estimated


def test_usage_is_estimated_and_marked_when_the_server_does_not_count() -> None:
    usages: list[Usage] = []
    with ScriptedModel([Say("x" * 320)], reports_usage=False) as model:
        answer = act(model.settings(), on_usage=usages.append)
    assert (usages[0].output_tokens, usages[0].is_estimated) == (70, True)
    assert answer.usage_metadata
    assert answer.usage_metadata["output_tokens"] == 70


def test_a_cancelled_call_closes_its_connection_within_a_second() -> None:
    async def main(model: ScriptedModel) -> float:
        chat = await open_model(model.settings())
        asking = asyncio.create_task(chat.write(ASKED))
        await asyncio.to_thread(until, lambda: bool(model.requests))
        asking.cancel()
        cancelled = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.to_thread(until, lambda: model.disconnects > 0)
        return time.monotonic() - cancelled

    with ScriptedModel([Stall(30)]) as model:
        assert asyncio.run(main(model)) < 1
        assert model.disconnects == 1


def test_a_model_can_be_used_from_one_event_loop_after_another() -> None:
    with ScriptedModel([Say("one"), Say("two")]) as model:
        chat = asyncio.run(open_model(model.settings()))
        assert [asyncio.run(chat.write(ASKED)) for _ in "ab"] == ["one", "two"]


@pytest.mark.parametrize("bad", [HalfJson('{"tool": "read_fi'), Say("I will read the file now.")])
def test_json_mode_repairs_an_answer_once(bad: Reply) -> None:
    with ScriptedModel([bad, Call("read_file", path="a")]) as model:
        answer = act(model.settings(tool_calls="json"))
    assert answer.tool_calls[0]["args"] == {"path": "a"}
    assert "one JSON object only" in model.requests[1].last


def test_json_mode_gives_up_repairing_after_one_time() -> None:
    with ScriptedModel([Say("I refuse."), Say("Still no.")]) as model:
        answer = act(model.settings(tool_calls="json"))
    assert (answer.text, answer.tool_calls) == ("Still no.", [])


def test_an_action_cut_off_at_the_output_limit_is_an_invalid_call() -> None:
    cut = HalfJson('{"tool": "write_file", "path": "a", "content": "lo', finish="length")
    with ScriptedModel([cut]) as model:
        answer = act(model.settings(tool_calls="json"))
    assert answer.invalid_tool_calls[0]["name"] == "write_file"
    assert "cut off" in (answer.invalid_tool_calls[0]["error"] or "")


def test_json_mode_works_with_a_server_that_knows_no_schemas() -> None:
    def script(request: Request) -> Reply:
        return Status(400) if "response_format" in request else Call("read_file", path="a")

    with ScriptedModel(script) as model:
        assert act(model.settings(tool_calls="json")).tool_calls[0]["name"] == "read_file"


def test_the_prompt_of_the_next_call_continues_this_one_letter_by_letter() -> None:
    odd = '{ "tool" : "read_file",\n  "path":"a" }'
    with ScriptedModel([Say(odd), Call("read_file", path="b")]) as model:

        async def twice(chat: ChatModel) -> None:
            first = await chat.act(ASKED, TOOLS)
            result = ToolMessage("hello", tool_call_id=first.tool_calls[0]["id"] or "")
            await chat.act([*ASKED, first, result], TOOLS)

        ask(model.settings(tool_calls="json"), twice)
    before, after = (request["messages"] for request in model.requests)
    assert after[: len(before)] == before
    assert after[len(before) :] == [
        {"role": "assistant", "content": odd},
        {"role": "user", "content": "Result of read_file:\nhello"},
    ]
