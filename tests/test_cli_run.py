"""The command: the answer on stdout, the rest on stderr, and an exit code that says how it ended."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess

import pytest
from desk import ORC, PATIENCE, Desk, Terminal
from scripted import Call, Say

from orchestrator.errors import UsageError

WRITES = [Call("write_file", path="a.txt", content="hi\n"), Say("wrote [b]a.txt[/b] ✓")]


def test_stdout_has_the_answer_only_and_no_colour_in_a_pipe(desk: Desk) -> None:
    with desk.model(WRITES):
        done = desk.orc("run", "@coder write hi into a.txt")
    assert (done.code, done.out) == (0, "wrote [b]a.txt[/b] ✓\n")
    assert "write_file a.txt" in done.err
    assert "coder" in done.err
    assert "orc run -c r-" in done.err
    assert "\x1b" not in done.out + done.err
    assert "Blocked deserialization" not in done.err
    assert "unregistered" not in done.err


STEERS = "a\x1b[2J\x9bb\r\n\x07c"


def test_what_a_model_writes_cannot_steer_the_terminal(desk: Desk) -> None:
    script = [Call("run_command", command="echo '\x1b[2J'"), Say(STEERS)]
    ours, theirs = pty.openpty()
    with desk.model(script):
        done = subprocess.run(
            [str(ORC), "run", "@coder say it"],
            cwd=desk.root, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE,
            check=False, timeout=PATIENCE,
        )  # fmt: skip
    os.close(theirs)
    shown = os.read(ours, 10_000)
    os.close(ours)
    assert b"\x1b" not in shown + done.stderr
    assert "a\ufffd[2J\ufffdb\r\n\ufffdc" in shown.decode()


def test_an_answer_is_piped_as_it_is(desk: Desk) -> None:
    with desk.model([Call("list_files"), Say(STEERS)]):
        done = desk.start("run", "@coder say it")
        assert done.stdout is not None
        out = done.communicate(timeout=PATIENCE)[0]
    assert out.startswith("a\x1b[2J\x9bb")


def test_json_gives_events_only(desk: Desk) -> None:
    with desk.model(WRITES):
        done = desk.orc("run", "--json", "@coder write hi into a.txt")
    events = [json.loads(line) for line in done.out.splitlines()]
    kinds = [event["kind"] for event in events if event["seq"]]
    assert done.code == 0
    assert done.err == ""
    assert kinds[:3] == ["turn", "snapshot", "route"]
    assert kinds[-2:] == ["answer", "end"]
    assert {event["version"] for event in events} == {1}


def test_quiet_shows_the_answer_alone_and_a_pipe_adds_text(desk: Desk) -> None:
    with desk.model([Call("list_files"), Say("ok")]) as served:
        done = desk.orc("run", "-q", "@coder count these lines", "-", stdin="one\ntwo\n")
    assert (done.code, done.out, done.err) == (0, "ok\n", "")
    assert "one\ntwo" in served.requests[0].last


def test_a_terminal_without_colour_gets_none(desk: Desk) -> None:
    with (
        desk.model([Call("run_command", command="git push --force")]),
        Terminal(desk, "run", "@coder push", NO_COLOR="1") as terminal,
    ):
        terminal.wait_for("decide later")
        terminal.type("q\n")
        done = terminal.end()
    assert done.code == 3
    assert not re.findall(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7])m", done.err)


def test_a_closed_pipe_is_no_crash(desk: Desk) -> None:
    with desk.model([Say("I am fine. " * 20)]):
        process = desk.start("run", "hello, how are you today?")
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        process.wait(10)
    assert "Traceback" not in err


USAGE = {
    "empty": (["run", "  "], "say what is to be done"),
    "only a name": (["run", "@coder "], "empty"),
    "unknown agent": (["run", "@codr write a"], "did you mean @coder?"),
    "unknown run": (["run", "-c", "r-9999", "more"], "no run r-9999"),
    "nothing to resume": (["resume"], "no run to resume"),
}


@pytest.mark.parametrize("name", USAGE)
def test_a_wrong_command_is_one_sentence_and_exit_2(desk: Desk, name: str) -> None:
    arguments, told = USAGE[name]
    done = desk.orc(*arguments)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert "Traceback" not in done.err


def test_a_request_of_a_megabyte_is_refused_with_what_to_do(desk: Desk) -> None:
    turn = desk.work("@coder " + "x" * 1_000_000, [])
    assert isinstance(turn.error, UsageError)
    assert "file" in str(turn.error)
    assert not turn.requests


def test_bytes_that_are_no_text_are_no_crash(desk: Desk) -> None:
    with desk.model([Call("list_files"), Say("ok")]):
        process = subprocess.run(
            [b"orc", b"run", b"-q", b"@coder what is \xff\xfe?"],
            executable=ORC,
            cwd=desk.root,
            capture_output=True,
            check=False,
        )
    assert (process.returncode, process.stdout) == (0, b"ok\n"), process.stderr
