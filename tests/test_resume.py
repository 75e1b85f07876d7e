"""A run that was killed goes on where it was, and does nothing twice."""

from __future__ import annotations

import subprocess
import time

import pytest
from desk import PATIENCE, Desk, alive, wait_for
from scripted import Call, Calls, Fill, Reply, Request, Say, Stall

from orchestrator.errors import UsageError
from orchestrator.runs import Runs
from orchestrator.storage import open_state


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=PATIENCE)


def test_a_run_killed_during_a_tool_ends_right_and_repeats_nothing(desk: Desk) -> None:
    script = [
        Call("run_command", command="echo first >> log"),
        Call("run_command", command="echo second >> log; touch marker; sleep 47"),
        Call("read_file", path="log"),
        Say("both are logged"),
    ]
    with desk.model(script) as served:
        process = desk.start("run", "@coder log first and second")
        wait_for(desk.root / "marker")
        kill(process)
        assert "cut off" in desk.orc("runs", "list").out
        done = desk.orc("resume")
    assert (done.code, done.out) == (0, "both are logged\n")
    assert desk.text("log") == "first\nsecond\n"
    told = [m["content"] for m in served.requests[2]["messages"] if m["role"] == "tool"]
    assert "it may have done all, a part or nothing" in told[1]
    assert [event.fields["status"] for event in desk.events("tool_result")] == ["ok", "unknown", "ok"]
    assert not alive("sleep 47")
    assert desk.runs()[0].status == "done"


def test_finished_calls_of_a_cut_off_message_are_served_from_the_journal(desk: Desk) -> None:
    both = Calls([
        Call("run_command", command="echo one >> log"),
        Call("run_command", command="touch marker; sleep 48"),
        Call("run_command", command="echo three >> log"),
    ])
    with desk.model([both, Say("logged one and three")]):
        process = desk.start("run", "@coder log one and three")
        wait_for(desk.root / "marker")
        kill(process)
    turn = desk.work(None, [Say("logged one and three")])
    assert turn.answer == "logged one and three"
    assert desk.text("log") == "one\nthree\n"


def test_a_cut_off_call_may_be_made_again_when_the_model_finds_it_undone(desk: Desk) -> None:
    again = Call("run_command", command="test -e marker && echo x >> log || { touch marker; sleep 49; }")
    with desk.model([again]):
        process = desk.start("run", "@coder log x")
        wait_for(desk.root / "marker")
        kill(process)
    turn = desk.work(None, [again, Say("logged x")])
    assert turn.answer == "logged x"
    assert desk.text("log") == "x\n"


def test_a_run_killed_during_a_model_call_asks_again(desk: Desk) -> None:
    script = [Call("write_file", path="a", content="1"), Stall(30)]
    with desk.model(script) as served:
        process = desk.start("run", "@coder write a")
        until = time.monotonic() + PATIENCE
        while len(served.requests) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        kill(process)
    turn = desk.work(None, [Say("wrote a")])
    assert turn.answer == "wrote a"
    assert len(turn.requests) == 1
    assert len(desk.events("tool_intent")) == 1


def test_a_run_killed_in_its_second_step_does_not_repeat_the_first(desk: Desk) -> None:
    def first(request: Request) -> Reply:
        if request.wants == "Draft":
            return Fill({
                "steps": [
                    {"agent": "coder", "goal": "log one"},
                    {"agent": "sysadmin", "goal": "log two", "after": [1]},
                ]
            })
        if "Do only this part now: log two" in request.texts[1]:
            return Call("run_command", command="touch marker; sleep 46")
        if len(request["messages"]) < 4:
            return Call("run_command", command="echo one >> log")
        return Say("one is logged")

    with desk.model(first):
        process = desk.start("run", "@coder 1. log one 2. log two")
        wait_for(desk.root / "marker")
        kill(process)

    def second(request: Request) -> Reply:
        if request.wants == "text":
            return Say("both are logged")
        if len(request["messages"]) < 6:
            return Call("run_command", command="echo two >> log")
        return Say("two is logged")

    turn = desk.work(None, second)
    assert turn.answer == "both are logged"
    assert desk.text("log") == "one\ntwo\n"
    assert [event.agent for event in desk.events("step")] == ["coder", "sysadmin"]


def test_a_turn_cut_off_before_its_first_checkpoint_keeps_its_request(desk: Desk) -> None:
    first = desk.work("@coder write a", [Call("write_file", path="a", content="1"), Say("wrote a")])
    assert first.outcome is not None
    with desk.model([]):
        process = desk.start("run", "-c", first.outcome.run, "@coder write b")
        until = time.monotonic() + PATIENCE
        while len(desk.events("turn")) < 2 and time.monotonic() < until:
            time.sleep(0.005)
        kill(process)
    assert desk.runs()[0].status == "cut off"
    turn = desk.work(None, [Call("write_file", path="b", content="2"), Say("wrote b")])
    assert turn.answer == "wrote b"
    assert desk.text("b") == "2"


def test_a_run_cut_off_after_its_end_shows_its_answer(desk: Desk) -> None:
    first = desk.work("@coder list", [Call("list_files"), Say("nothing here")])
    assert first.outcome is not None
    connection = open_state(desk.root)
    Runs(connection, desk.root).update(Runs(connection, desk.root).get(first.outcome.run), status="running")
    connection.close()
    turn = desk.work(None, [])
    assert turn.answer == "nothing here"
    assert turn.texts("answer") == ["nothing here"]
    assert not turn.requests


def test_what_has_ended_is_not_resumed(desk: Desk) -> None:
    first = desk.work("@coder list", [Call("list_files"), Say("nothing here")])
    assert first.outcome is not None
    assert isinstance(desk.work(None, []).error, UsageError)
    named = desk.work(None, [], run=first.outcome.run)
    assert f"orc run -c {first.outcome.run}" in str(named.error)


def test_a_run_in_use_is_not_touched_by_another_process(desk: Desk) -> None:
    waits = "touch marker; while [ ! -e go ]; do sleep 0.1; done; echo x >> log"
    with desk.model([Call("run_command", command=waits), Say("logged x")]):
        process = desk.start("run", "@coder log x")
        wait_for(desk.root / "marker")
        run = desk.runs()[0]
        assert run.status == "running"
        for arguments in (("resume",), ("run", "-c", run.id, "more")):
            done = desk.orc(*arguments)
            assert (done.code, done.out) == (2, "")
            assert "another process" in done.err
        desk.write("go", "")
        out, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, "logged x\n")


@pytest.mark.parametrize("name", ["r-zzzz", "zzzz"])
def test_an_unknown_run_gets_near_matches(desk: Desk, name: str) -> None:
    first = desk.work("@coder list", [Call("list_files"), Say("nothing here")])
    assert first.outcome is not None
    error = desk.work("more", [], run=name).error
    assert isinstance(error, UsageError)
    assert first.outcome.run in str(error)
