"""Ctrl-C once stops after the running call, twice ends the call; nothing is lost either way."""

from __future__ import annotations

import signal
import subprocess
import time

from desk import Desk, Terminal, alive, wait_for
from scripted import Call, Calls, Say, ScriptedModel, Stall


def requests_of(served: ScriptedModel, count: int) -> None:
    until = time.monotonic() + 15
    while len(served.requests) < count and time.monotonic() < until:
        time.sleep(0.02)
    assert len(served.requests) >= count


def ended(process: subprocess.Popen[str]) -> tuple[int, str, float]:
    started = time.monotonic()
    _, err = process.communicate(timeout=15)
    return process.returncode, err, time.monotonic() - started


def test_one_press_lets_the_call_end_and_resume_does_not_repeat_it(desk: Desk) -> None:
    slow = Calls([
        Call("run_command", command="touch marker; sleep 1; echo one >> log"),
        Call("run_command", command="echo two >> log"),
    ])
    with desk.model([slow]):
        process = desk.start("run", "@coder log one and two")
        wait_for(desk.root / "marker")
        process.send_signal(signal.SIGINT)
        code, err, _ = ended(process)
    assert code == 130
    assert "orc resume" in err
    assert "Traceback" not in err
    assert desk.text("log") == "one\n"
    assert desk.runs()[0].status == "stopped"
    turn = desk.work(None, [Say("logged one and two")])
    assert turn.answer == "logged one and two"
    assert desk.text("log") == "one\ntwo\n"


def test_two_presses_end_the_call_and_leave_no_process(desk: Desk) -> None:
    with desk.model([Call("run_command", command="touch marker; sleep 45 & sleep 44; echo late >> log")]):
        process = desk.start("run", "@coder wait")
        wait_for(desk.root / "marker")
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        code, err, seconds = ended(process)
    assert (code, "Traceback" in err) == (130, False)
    assert seconds < 2.5
    assert not alive("sleep 45")
    assert not alive("sleep 44")
    assert not (desk.root / "log").exists()
    turn = desk.work(None, [Say("it was stopped")])
    assert "stopped by the user" in turn.requests[0].last
    assert turn.answer == "it was stopped"


def test_one_press_during_a_model_call_keeps_its_answer(desk: Desk) -> None:
    with desk.model([Stall(1, Call("run_command", command="echo x >> log"))]) as served:
        process = desk.start("run", "@coder log x")
        requests_of(served, 1)
        process.send_signal(signal.SIGINT)
        code, _, _ = ended(process)
    assert code == 130
    assert not (desk.root / "log").exists()
    turn = desk.work(None, [Say("logged x")])
    assert (turn.answer, desk.text("log")) == ("logged x", "x\n")


def test_two_presses_end_a_model_call_and_resume_asks_again(desk: Desk) -> None:
    with desk.model([Stall(30)]) as served:
        process = desk.start("run", "@coder log x")
        requests_of(served, 1)
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        code, err, seconds = ended(process)
    assert (code, "Traceback" in err) == (130, False)
    assert seconds < 2
    turn = desk.work(None, [Call("run_command", command="echo x >> log"), Say("logged x")])
    assert (turn.answer, desk.text("log")) == ("logged x", "x\n")


def test_a_termination_ends_the_call_at_once_and_saves_the_run(desk: Desk) -> None:
    with desk.model([Call("run_command", command="touch marker; sleep 43")]):
        process = desk.start("run", "@coder wait")
        wait_for(desk.root / "marker")
        process.terminate()
        code, err, seconds = ended(process)
    assert (code, "Traceback" in err) == (130, False)
    assert seconds < 2.5
    assert not alive("sleep 43")
    assert desk.runs()[0].status == "stopped"
    assert desk.work(None, [Say("it was stopped")]).answer == "it was stopped"


def test_a_press_while_models_are_loaded_ends_without_a_traceback(desk: Desk) -> None:
    with desk.model([Call("list_files"), Say("nothing here")]):
        process = desk.start("run", "@coder list")
        wait_for(desk.root / ".orc" / "logs")
        process.send_signal(signal.SIGINT)
        code, err, _ = ended(process)
    assert (code, "Traceback" in err) == (130, False)
    assert desk.runs()[0].status in {"stopped", "cut off"}
    assert desk.work(None, [Call("list_files"), Say("nothing here")]).answer == "nothing here"


def test_a_press_at_the_question_puts_it_off(desk: Desk) -> None:
    with (
        desk.model([Call("run_command", command="git push --force")]),
        Terminal(desk, "run", "@coder push") as terminal,
    ):
        terminal.wait_for("decide later")
        terminal.interrupt()
        done = terminal.end()
    assert done.code == 3
    assert "Traceback" not in done.err
    assert desk.runs()[0].status == "waiting"
    assert not desk.events("tool_intent")
