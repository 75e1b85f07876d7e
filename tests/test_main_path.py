"""A request goes all the way: routed, worked on with real tools, answered, on any kind of model."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from desk import Desk
from scripted import Call, Calls, Fill, HalfJson, Reply, Request, Say, Status

from orchestrator.errors import BudgetExceeded, ModelRejected
from orchestrator.safety.visible import escaped

SMALL = {"size": "small", "tool_calls": "json"}


def test_a_native_model_writes_and_reads_a_file_and_answers_in_text(desk: Desk) -> None:
    script = [
        Call("write_file", path="a.txt", content="one\ntwo\n"),
        Call("run_command", command="wc -l < a.txt"),
        Say("a.txt has 2 lines"),
    ]
    turn = desk.work("@coder write a.txt with two lines and count them", script)
    assert turn.answer == "a.txt has 2 lines"
    assert desk.text("a.txt") == "one\ntwo\n"
    assert [event.fields["status"] for event in turn.of("tool_result")] == ["ok", "ok"]
    assert all(request["stream"] for request in turn.requests)
    assert "exit code 0" in turn.requests[2].last
    assert "finish" not in turn.requests[0].tools


@pytest.mark.parametrize("size", ["small", "large"])
def test_a_json_model_ends_by_finish(desk: Desk, size: str) -> None:
    script = [Call("write_file", path="a.txt", content="hi\n"), Call("finish", answer="wrote a.txt")]
    turn = desk.work("@coder write hi into a.txt", script, model={"tool_calls": "json", "size": size})
    assert turn.answer == "wrote a.txt"
    assert desk.text("a.txt") == "hi\n"
    assert "finish" in turn.requests[0].tools
    assert not any(request.get("tools") for request in turn.requests)


def test_a_small_model_is_given_the_named_file_and_fewer_tools(desk: Desk) -> None:
    desk.write("notes.txt", "alpha\n")
    turn = desk.work("@coder what does notes.txt say?", [Call("finish", answer="alpha")], model=SMALL)
    assert turn.answer == "alpha"
    assert [event.fields["arguments"]["path"] for event in turn.of("tool_intent")] == ["notes.txt"]
    assert "alpha" in " ".join(turn.requests[0].texts)
    assert "delete_file" not in turn.requests[0].tools


def test_a_large_model_pays_nothing_for_the_help_of_small_ones(desk: Desk) -> None:
    large = desk.work("@coder say ok", [Call("list_files"), Say("ok")])
    small = desk.work(
        "@coder say ok", [Call("read_file", path="."), Call("finish", answer="ok")], model=SMALL
    )
    assert len(large.requests[0].system) * 2 < len(small.requests[0].system)


def test_small_talk_is_answered_directly_and_streamed(desk: Desk) -> None:
    turn = desk.work("hello, how are you today?", [Say("I am fine, thank you for asking.")])
    assert turn.answer == "I am fine, thank you for asking."
    assert turn.of("route")[0].fields["agent"] == "none"
    assert len(turn.of("text")) > 2
    assert "".join(turn.texts("text")) == turn.answer
    assert not turn.of("plan")


def test_the_next_turn_sees_the_answer_before_and_its_ids_do_not_collide(desk: Desk) -> None:
    first = desk.work("@coder write a", [Call("write_file", path="a", content="1"), Say("wrote a: 1")])
    assert first.outcome is not None
    script = [Call("write_file", path="a", content="2"), Say("wrote a: 2")]
    second = desk.work("@coder now put 2 into it", script, run=first.outcome.run)
    assert second.answer == "wrote a: 2"
    assert desk.text("a") == "2"
    assert "wrote a: 1" in second.requests[0].last
    intents = [event.call for event in desk.events("tool_intent")]
    assert len(intents) == len(set(intents)) == 2
    assert desk.runs()[0].turns == 2


def test_a_direct_answer_sees_the_conversation(desk: Desk) -> None:
    first = desk.work("hello, how are you today?", [Say("Fine. I am orc.")])
    assert first.outcome is not None
    second = desk.work("thanks a lot, bye", [Say("Bye.")], run=first.outcome.run)
    assert "Fine. I am orc." in second.requests[0].texts


MISTAKES: dict[str, tuple[Reply, str]] = {
    "unknown tool": (Call("teleport", to="mars"), "has no tool 'teleport'"),
    "wrong arguments": (Call("read_file", file="a"), "wrong arguments for read_file"),
    "half JSON": (Call("write_file", raw='{"path": "a", "con'), "not valid JSON"),
    "a list for arguments": (Call("write_file", raw="[1, 2]"), "JSON"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_native_model_is_told_of_its_mistake_and_goes_on(desk: Desk, name: str) -> None:
    mistake, told = MISTAKES[name]
    turn = desk.work("@coder write a", [mistake, Call("write_file", path="a", content="ok"), Say("wrote a")])
    assert turn.answer == "wrote a"
    assert told in turn.requests[1].last
    assert desk.text("a") == "ok"


JSON_MISTAKES: dict[str, Reply] = {
    "prose": Say("I would write the file now."),
    "half JSON": HalfJson('{"tool": "write_file", "path": "a", "content": "o'),
    "cut off": HalfJson('{"tool": "write_file", "path": "a", "content": "oooo', finish="length"),
    "unknown tool": Call("teleport", to="mars"),
    "wrong arguments": Call("read_file", file="a"),
}


@pytest.mark.parametrize("name", JSON_MISTAKES)
def test_a_json_model_is_told_of_its_mistake_and_goes_on(desk: Desk, name: str) -> None:
    good = [Call("write_file", path="a", content="ok"), Call("finish", answer="wrote a")]
    turn = desk.work("@coder write a", [JSON_MISTAKES[name], *good], model=SMALL)
    assert turn.answer == "wrote a"
    assert desk.text("a") == "ok"


def test_prose_in_place_of_work_is_sent_back(desk: Desk) -> None:
    script = [Say("I have written the file."), Call("write_file", path="a", content="x"), Say("wrote a")]
    turn = desk.work("@coder write a file a", script)
    assert "not used a tool yet" in turn.requests[1].last
    assert turn.answer == "wrote a"


def test_half_a_surrogate_pair_of_a_model_is_not_our_crash(desk: Desk) -> None:
    broken = Call("write_file", raw='{"path": "a", "content": "half \\ud83d pair"}')
    turn = desk.work("@coder write a", [broken, Call("list_files"), Say("done")])
    assert turn.of("tool_intent")[0].fields["arguments"]["content"] == "half ? pair"
    assert desk.runs()[0].status in {"done", "stopped"}


@pytest.mark.parametrize("name", [b"caf\xe9.txt", b"two\nlines.txt"])
@pytest.mark.parametrize("model", [{}, SMALL])
def test_any_name_that_a_file_can_have_is_told_in_one_line(
    desk: Desk, model: dict[str, Any], name: bytes
) -> None:
    (desk.root / os.fsdecode(name)).write_text("x", "utf-8")
    first = iter([Call("list_files")])
    last = Call("finish", answer="ok") if model else Say("ok")
    turn = desk.work("@coder say ok", lambda _request: next(first, last), model=model)
    assert turn.answer == "ok"
    shown = escaped(os.fsdecode(name), keep="")
    assert any(shown in text for text in turn.requests[0].texts)


def test_an_endless_talker_ends_with_a_reason(desk: Desk) -> None:
    def nonsense(_request: Request) -> Reply:
        return Call("teleport", to="mars")

    turn = desk.work("@coder write a", nonsense)
    assert turn.outcome is not None
    assert turn.outcome.status == "failed"
    assert "has no tool 'teleport'" in turn.answer
    assert len(turn.requests) < 20


@pytest.mark.parametrize("mode", ["native", "json"])
def test_a_model_that_never_writes_valid_json_meets_the_budget(desk: Desk, mode: str) -> None:
    desk.settings({"limits": {"model_calls": 9}})
    reply = Call("write_file", raw="{{{") if mode == "native" else HalfJson("{{{")
    turn = desk.work("@coder write a", lambda _request: reply, model={"tool_calls": mode})
    assert isinstance(turn.error, BudgetExceeded) or "I could not finish this" in turn.answer
    assert len(turn.requests) <= 12


def test_the_budget_stops_a_run_that_goes_on_when_the_limit_is_raised(desk: Desk) -> None:
    desk.settings({"limits": {"model_calls": 2}})
    script = [Call("run_command", command="echo x >> log"), Call("read_file", path="log"), Say("never")]
    turn = desk.work("@coder log x", script)
    assert isinstance(turn.error, BudgetExceeded)
    assert "2 of 2 model calls" in str(turn.error)
    assert desk.runs()[0].status == "budget"
    desk.settings({"limits": {"model_calls": 5}})
    again = desk.work(None, [Say("logged x")])
    assert again.answer == "logged x"
    assert desk.text("log") == "x\n"


def test_a_refused_key_is_one_clear_sentence(desk: Desk) -> None:
    with desk.model(lambda _request: Status(401)):
        done = desk.orc("run", "@coder write a")
    assert done.code == 1
    assert "OPENAI_API_KEY was refused" in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def test_a_run_that_met_a_wrong_key_can_be_resumed_with_the_right_one(desk: Desk) -> None:
    turn = desk.work("@coder write a", [Call("write_file", path="a", content="1"), Status(401)])
    assert isinstance(turn.error, ModelRejected)
    again = desk.work(None, [Say("wrote a")])
    assert again.answer == "wrote a"
    assert len(desk.events("tool_intent")) == 1


def test_an_endpoint_that_is_down_is_named(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with desk.model([]) as served:
        url = served.base_url
    patience: dict[str, Any] = {"base_url": url, "model": "m", "timeouts": {"total": 1}}
    desk.user_settings({"models": {"default": patience}})
    done = desk.orc("run", "@coder write a", OPENAI_API_KEY="k")
    assert done.code == 1
    assert url.split("/")[2] in done.err
    assert "Traceback" not in done.err
    assert desk.runs()[0].status == "stopped"


def test_reads_of_one_message_overlap_and_results_keep_their_order(desk: Desk) -> None:
    desk.write("a.txt", "first\n")
    desk.write("b.txt", "second\n")
    reads = Calls([Call("read_file", path="a.txt"), Call("read_file", path="b.txt")])
    turn = desk.work("@coder what do a.txt and b.txt say?", [reads, Say("first and second")])
    kinds = [event.kind for event in turn.shown if event.kind.startswith("tool_")]
    assert kinds == ["tool_intent", "tool_intent", "tool_result", "tool_result"]
    told = [m["content"] for m in turn.requests[1]["messages"] if m["role"] == "tool"]
    assert ["first" in told[0], "second" in told[1]] == [True, True]


def test_writes_of_one_message_run_one_at_a_time_in_order(desk: Desk) -> None:
    slow = "echo start-{0} >> log; sleep 0.1; echo end-{0} >> log"
    writes = Calls([Call("run_command", command=slow.format(name)) for name in "abc"])
    turn = desk.work("@coder log three things", [writes, Say("logged")])
    assert desk.text("log").split() == [f"{when}-{name}" for name in "abc" for when in ("start", "end")]
    kinds = [event.kind for event in turn.shown if event.kind.startswith("tool_")]
    assert kinds == ["tool_intent", "tool_result"] * 3


def test_a_secret_of_the_environment_reaches_neither_journal_nor_log(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET_TOKEN", "hush-hush-12345")
    turn = desk.work("@coder say hush-hush-12345", [Call("list_files"), Say("ok hush-hush-12345")])
    log = next((desk.root / ".orc" / "logs").iterdir()).read_text("utf-8")
    assert turn.outcome is not None
    assert "hush-hush-12345" not in log
    assert desk.runs()[0].title == "@coder say [redacted]"
    assert "[redacted]" in log
    assert not [event for event in desk.events() if "hush-hush-12345" in json.dumps(event.fields)]


def test_the_router_asks_the_model_when_it_is_unsure(desk: Desk) -> None:
    def script(request: Request) -> Reply:
        if request.wants == "RouteChoice":
            return Fill({"agent": "sysadmin", "why": "it is about this machine"})
        return Call("run_command", command="uname") if len(request["messages"]) < 4 else Say("Linux")

    turn = desk.work("flurbl the gnarf?", script)
    assert turn.of("route")[0].fields["decided_by"] == "model"
    assert turn.answer == "Linux"
