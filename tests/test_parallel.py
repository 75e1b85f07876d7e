"""Calls that only read run together, everything else alone; nothing overlaps on the same thing."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from desk import Desk
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Call, Calls, Reply, Request, Say

from orchestrator.effects import Effects
from orchestrator.errors import StorageError
from orchestrator.tools.base import ToolContext
from orchestrator.tools.claims import Claim, Claims, claims_of
from orchestrator.tools.files import READ_FILE
from orchestrator.tools.registry import TOOLS

LINE = Effects(executes=False, network=False, paths=("path",))


class Slow:
    """Stands in for read_file: takes its time, and says how many of it run at once."""

    def __init__(self, seconds: float = 0.2) -> None:
        self.seconds = seconds
        self.now = self.most = self.ended = 0

    async def run(self, arguments: Any, _context: ToolContext) -> str:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if arguments.path == "broken":
                raise StorageError("the disk is gone")
            await asyncio.sleep(self.seconds)
            self.ended += 1
            return f"text of {arguments.path}"
        finally:
            self.now -= 1


@contextmanager
def reading_by(run: Callable[[Any, ToolContext], Any], patch: pytest.MonkeyPatch) -> Iterator[None]:
    patch.setitem(TOOLS, "read_file", replace(READ_FILE, run=run))
    yield


def reads(*paths: str) -> Calls:
    return Calls([Call("read_file", path=path) for path in paths])


def test_eight_reads_of_a_message_take_as_long_as_one(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow()
    with reading_by(slow.run, monkeypatch):
        turn = desk.work("@coder read them", [reads(*"abcdefgh"), Say("read")])
    assert (slow.most, slow.ended) == (8, 8)
    assert [event.fields["text"] for event in turn.of("tool_result")] == [f"text of {n}" for n in "abcdefgh"]
    assert max(e.at for e in turn.of("tool_result")) - min(e.at for e in turn.of("tool_intent")) < 0.8


def test_the_settings_bound_how_many_run_at_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.settings({"tools": {"parallel": 3}})
    slow = Slow(0.02)
    with reading_by(slow.run, monkeypatch):
        desk.work("@coder read them", [reads(*"abcdefghij"), Say("read")])
    assert (slow.most, slow.ended) == (3, 10)


def test_a_read_that_raises_leaves_no_other_running(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(30)
    with reading_by(slow.run, monkeypatch):
        turn = desk.work("@coder read them", [reads("a", "b", "broken", "c"), Say("read")])
    assert isinstance(turn.error, StorageError)
    assert (slow.now, slow.ended) == (0, 0)


def test_commands_that_only_look_run_together(desk: Desk) -> None:
    script = [Calls([Call("run_command", command=f"sleep 0.4; wc -l {n}") for n in "abcd"]), Say("looked")]
    turn = desk.work("@coder look at them", script)
    order = [event.kind for event in turn.shown if event.kind in {"tool_intent", "tool_result"}]
    assert order[:4] == ["tool_intent"] * 4


def test_writes_run_alone_and_in_order(desk: Desk) -> None:
    calls = [Call("read_file", path="a"), *(Call("run_command", command=f"echo {n} >> log") for n in "123")]
    turn = desk.work("@coder log", [Calls([*calls, Call("read_file", path="log")]), Say("logged")])
    order = [event.kind for event in turn.shown if event.kind in {"tool_intent", "tool_result"}]
    assert order == ["tool_intent", "tool_result"] * 5
    assert desk.text("log") == "1\n2\n3\n"


def test_what_a_call_touches_follows_from_its_effects(tmp_path: Path) -> None:
    whole = tmp_path.resolve().parts
    (tmp_path / "link").symlink_to("a")

    def touched(effects: Effects, *, reads: bool = False, **arguments: Any) -> tuple[Claim, ...]:
        return claims_of(effects, arguments, tmp_path, reads=reads)

    assert touched(LINE, path="b/../a") == touched(LINE, path="link") == (Claim((*whole, "a"), True, True),)
    assert touched(READ_FILE.effects, reads=True, path="a") == (Claim((*whole, "a"), False),)
    assert touched(Effects()) == touched(LINE) == (Claim(whole, True),)
    assert touched(LINE, path=7) == touched(LINE, path="a\0") == (Claim(whole, True),)
    assert touched(Effects(reads=False, writes=False, executes=False), reads=True) == ()


CLAIMS = st.builds(
    Claim, st.lists(st.sampled_from("ab"), max_size=2).map(tuple), st.booleans(), is_file=st.booleans()
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(CLAIMS, max_size=3), min_size=1, max_size=8), st.booleans())
def test_no_two_that_clash_ever_hold_at_once(parties: list[list[Claim]], shares: bool) -> None:
    async def all_of_them(file: Path | None) -> None:
        # Two turns see each other's files by the lock file alone.
        turns = [Claims(file), Claims(file)] if shares else [Claims(file)]
        holding: list[tuple[int, list[Claim]]] = []

        async def one(number: int, claims: list[Claim]) -> None:
            turn = number % len(turns)
            async with turns[turn].held(claims):
                for other, theirs in holding:
                    clashing = [(m, t) for m in claims for t in theirs if m.clashes(t)]
                    if other != turn:
                        clashing = [(m, t) for m, t in clashing if m == t and m.writes and m.is_file]
                    assert not clashing
                holding.append((turn, claims))
                for _ in range(number % 3):
                    await asyncio.sleep(0)
                holding.remove((turn, claims))

        async with asyncio.timeout(10):
            await asyncio.gather(*(one(number, claims) for number, claims in enumerate(parties)))

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(all_of_them(Path(folder) / "files"))


def test_one_that_stops_waiting_lets_the_others_go_on(tmp_path: Path) -> None:
    claim = [Claim(("a",), True, True)]

    async def three() -> list[str]:
        claims, order = Claims(tmp_path / "files"), []

        async def one(name: str) -> None:
            async with claims.held(claim):
                order.append(name)
                await asyncio.sleep(0.05)

        tasks = [asyncio.create_task(one(name)) for name in "xyz"]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return order

    assert asyncio.run(three()) == ["x", "z"]


def test_two_processes_do_not_write_one_file_at_once(desk: Desk) -> None:
    def edit(request: Request) -> Reply:
        return Say("added") if "added to" in request.last else ADD

    desk.write("list.txt", "start\n")
    with desk.model(edit):
        both = [desk.start("run", "--yes", f"@coder add a line {number}") for number in "12"]
        assert [process.wait(timeout=40) for process in both] == [0, 0]
    assert desk.text("list.txt").count("more") == 2


ADD = Call("add_lines", path="list.txt", place="end", text="more\n")
