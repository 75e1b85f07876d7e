"""The figures of a checkpointer: ours, langgraph-checkpoint-sqlite and, where it fits, InMemorySaver.

Every function takes the rivals in one go and goes round them in turn, so that a busy moment of the machine
hits all of them. Nothing here knows what is a good figure: targets are in checkpoints.py.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import turns
from langgraph.checkpoint.base import empty_checkpoint

WAL_HEADER, FRAME_HEADER = 32, 24
"""Bytes; https://www.sqlite.org/fileformat2.html#walformat"""
CHECKPOINTS_PER_LIGHT_TURN = 3
"""Input, __start__ and reply."""
CONVERSATIONS = 32


@dataclass(frozen=True)
class Rival:
    """One saver under measurement; `path` is empty for the one that keeps nothing on disk."""

    name: str
    path: Path
    open: Callable[[], AbstractContextManager[Any]]
    aopen: Callable[[], AbstractAsyncContextManager[Any]]


Rivals = Callable[[Path, str], list[Rival]]
"""Makes the rivals with files of their own, named after the figure, in a folder."""


def config(thread: str, **more: Any) -> dict[str, Any]:
    """How LangGraph is told which thread."""
    return {"configurable": {"thread_id": thread, **more}, "recursion_limit": 10_000}


def emptied(path: Path) -> int:
    """Bytes of the file once its log is folded in and empty."""
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return sum(part.stat().st_size for part in path.parent.glob(path.name + "*") if "-shm" not in part.name)


def written() -> int:
    """Bytes that this process has sent to the disk so far; where Linux does not say, bytes it wrote."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    counts = {name: int(value) for name, value in (line.split(": ") for line in lines)}
    return counts["write_bytes"] or counts["wchar"]


@contextmanager
def timed(into: list[float]) -> Iterator[None]:
    """Append the seconds that the block took."""
    started = time.perf_counter()
    yield
    into.append(time.perf_counter() - started)


@dataclass
class Build:
    """What a conversation left on the disk; sizes are bytes after each block of turns, log folded in."""

    sizes: dict[int, int] = field(default_factory=dict)
    written: int = 0
    content: int = 0
    seconds: float = 0.0

    def grown(self, start: int, end: int) -> int:
        """Bytes that the turns from start to end added."""
        return self.sizes[end] - self.sizes[start]


def build(rivals: list[Rival], lengths: dict[str, int], kind: str, block: int = 100) -> dict[str, Build]:
    """Have each rival keep one conversation of its length, a block of turns in turn."""
    builds = {rival.name: Build() for rival in rivals}
    talkers = {rival.name: turns.Talker(11) for rival in rivals}
    for end in range(block, max(lengths.values()) + 1, block):
        for rival in rivals:
            if end > lengths[rival.name]:
                continue
            made, talker = builds[rival.name], talkers[rival.name]
            before, started = written(), time.perf_counter()
            with rival.open() as saver:
                say = light if kind == "light" else agent
                say(saver, talker, range(end - block, end))
            made.seconds += time.perf_counter() - started
            made.sizes[end] = emptied(rival.path)
            made.written += written() - before
            made.content = talker.content
    return builds


def light(saver: Any, talker: turns.Talker, numbers: range) -> None:
    """Light turns; the node is given its answer, so that no state is read but by the saver."""
    answers: list[Any] = []
    graph = turns.light_graph(answers, saver)
    for number in numbers:
        asked, answered = talker.light(number)
        answers[:] = answered
        graph.invoke({"messages": asked}, config("talk"), durability="sync")


def agent(saver: Any, talker: turns.Talker, numbers: range) -> None:
    """Agent turns, through a model node and a tool node."""
    said: dict[str, Any] = {}
    graph = turns.agent_graph(said, saver)
    for number in numbers:
        asked, said["call"], said["result"], said["answer"] = talker.agent(number)
        graph.invoke({"messages": [asked]}, config("talk"), durability="sync")


def supersteps(rivals: list[Rival], count: int, rounds: int, steps: int = 10) -> dict[str, float]:
    """Median seconds from one superstep to the next at so many messages, minus the same without any saver."""
    taken: dict[str, list[float]] = {name: [] for name in ["none", *(rival.name for rival in rivals)]}
    talker = turns.Talker(count)
    history = list(turns.messages(talker, count))
    with ExitStack() as stack:
        savers = {rival.name: stack.enter_context(rival.open()) for rival in rivals}
        for number in range(rounds):
            for name in taken:
                start = {"messages": list(history), "left": 1}
                if name != "none":
                    grow(savers[name], history, f"talk-{number}")
                    start = {"messages": [talker.human(1_000)], "left": 1}
                marks: list[float] = []
                graph = turns.loop_graph(talker, marks, savers.get(name))
                start["left"] = steps + 1
                durability = {} if name == "none" else {"durability": "sync"}
                graph.invoke(start, config(f"talk-{number}"), **durability)
                taken[name] += [later - earlier for earlier, later in pairwise(marks)]
    bare = statistics.median(taken.pop("none"))
    return {name: statistics.median(seconds) - bare for name, seconds in taken.items()}


def grow(saver: Any, history: list[Any], thread: str, batch: int = 200) -> None:
    """Put a history into a thread in a few updates."""
    graph = turns.light_graph([], saver)
    for start in range(0, len(history), batch):
        graph.update_state(config(thread), {"messages": history[start : start + batch]}, as_node="reply")


def reads(rivals: list[Rival], count: int, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of get_state at so many messages: from a saver in use, and with a saver just opened."""
    history = list(turns.messages(turns.Talker(count), count))
    warm: dict[str, list[float]] = {rival.name: [] for rival in rivals}
    cold: dict[str, list[float]] = {rival.name: [] for rival in rivals}
    with ExitStack() as stack:
        savers = {rival.name: stack.enter_context(rival.open()) for rival in rivals}
        for saver in savers.values():
            grow(saver, history, "talk")
        for _ in range(rounds):
            for rival in rivals:
                graph = turns.light_graph([], savers[rival.name])
                with timed(warm[rival.name]):
                    found = graph.get_state(config("talk"))
                if len(found.values["messages"]) != count:
                    raise RuntimeError(f"{rival.name} gave back {len(found.values['messages'])} messages")
                # Freeing what one gave back takes a millisecond, which is not the next one's.
                del found
                if rival.path.name:
                    with timed(cold[rival.name]), rival.open() as opened:
                        turns.light_graph([], opened).get_state(config("talk"))
                    del opened
    return medians(warm), medians(cold)


def medians(taken: dict[str, list[float]]) -> dict[str, float]:
    """The median of each rival that has any times."""
    return {name: statistics.median(seconds) for name, seconds in taken.items() if seconds}


def histories(rivals: list[Rival], rounds: dict[str, int]) -> tuple[dict[str, float], dict[str, float], int]:
    """Median seconds of a whole history, from saver.list and from graph.get_state_history, and its length."""
    listed: dict[str, list[float]] = {rival.name: [] for rival in rivals}
    shown: dict[str, list[float]] = {rival.name: [] for rival in rivals}
    lengths = set()
    for number in range(max(rounds.values())):
        for rival in rivals:
            if number >= rounds[rival.name]:
                continue
            with rival.open() as saver:
                with timed(listed[rival.name]):
                    lengths.add(len(list(saver.list(config("talk")))))
                graph = turns.agent_graph({}, saver)
                with timed(shown[rival.name]):
                    lengths.add(len(list(graph.get_state_history(config("talk")))))
    (length,) = lengths
    return medians(listed), medians(shown), length


def commits(rivals: list[Rival], count: int) -> dict[str, float]:
    """Commits per superstep, read from the log: frames that end a transaction, over checkpoints.

    A reader's open snapshot keeps SQLite from starting the log again, so every commit stays in it.
    """
    found = {}
    for rival in rivals:
        with rival.open() as saver:
            graph = turns.light_graph([], saver)
            graph.update_state(config("first"), {"rounds": 1}, as_node="reply")  # sets the file up
            with closing(sqlite3.connect(rival.path, isolation_level=None)) as reader:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
                before = ended(rival.path)
                light(saver, turns.Talker(3), range(1, count + 1))
                found[rival.name] = (ended(rival.path) - before) / (count * CHECKPOINTS_PER_LIGHT_TURN)
    return found


def ended(path: Path) -> int:
    """How many frames of the log end a transaction."""
    log = path.with_name(path.name + "-wal").read_bytes()
    (page,) = struct.unpack(">I", log[8:12])
    starts = range(WAL_HEADER, len(log), FRAME_HEADER + page)
    return sum(1 for start in starts if struct.unpack(">I", log[start + 4 : start + 8])[0])


async def conversations(rivals: list[Rival], rounds: int, length: int) -> dict[str, float]:
    """Median supersteps per second of 32 conversations at once, from their first turn on."""
    taken: dict[str, list[float]] = {rival.name: [] for rival in rivals}
    for number in range(rounds):
        for rival in rivals:
            async with rival.aopen() as saver:
                talks = [converse(saver, f"{number}-{talk}", length) for talk in range(CONVERSATIONS)]
                with timed(taken[rival.name]):
                    await asyncio.gather(*talks)
    made = CONVERSATIONS * length * CHECKPOINTS_PER_LIGHT_TURN
    return {name: made / seconds for name, seconds in medians(taken).items()}


async def converse(saver: Any, thread: str, length: int) -> None:
    """One conversation of light turns."""
    talker, answers = turns.Talker(len(thread)), list[Any]()
    graph = turns.light_graph(answers, saver)
    for number in range(1, length + 1):
        asked, answered = talker.light(number)
        answers[:] = answered
        await graph.ainvoke({"messages": asked}, config(thread), durability="sync")


def forks(rival: Rival, thread: str, rounds: int) -> tuple[float, float]:
    """Median seconds of a fork of ours, and the mean bytes that one adds to the file."""
    taken: list[float] = []
    before = emptied(rival.path)
    with rival.open() as saver:
        for number in range(rounds):
            with timed(taken):
                saver.fork(thread, f"{thread}-fork-{number}")
    return statistics.median(taken), (emptied(rival.path) - before) / rounds


def trees(rivals: list[Rival], rounds: int, branches: int = 40, length: int = 80) -> dict[str, float]:
    """Median seconds to read the shape of one thread with so many branches, and its checkpoints' parents."""
    taken: dict[str, list[float]] = {rival.name: [] for rival in rivals}
    with ExitStack() as stack:
        savers = {rival.name: stack.enter_context(rival.open()) for rival in rivals}
        for saver in savers.values():
            plant(saver, branches, length)
        for _ in range(rounds):
            for name, saver in savers.items():
                with timed(taken[name]):
                    found = shape(saver)
                if len(found) != branches * length:
                    raise RuntimeError(f"{name} showed {len(found)} of {branches * length} checkpoints")
    return medians(taken)


def plant(saver: Any, branches: int, length: int) -> None:
    """Put branches of checkpoints, each off the middle of the one before; their values are small."""
    start = config("tree", checkpoint_ns="")
    for branch in range(branches):
        middle = at = start
        for step in range(length):
            checkpoint = {**empty_checkpoint(), "channel_values": {"branch": branch, "step": step}}
            at = saver.put(at, checkpoint, {"source": "loop", "step": step, "parents": {}}, {})
            middle = at if step == length // 2 else middle
        start = middle


def shape(saver: Any) -> list[tuple[str, str | None]]:
    """Each checkpoint and its parent: from our index, and from a listing where there is none."""
    if hasattr(saver, "outline"):
        return [(point.checkpoint_id, point.parent_id) for point in saver.outline("tree")]
    return [(name(each.config), name(each.parent_config)) for each in saver.list(config("tree"))]


def name(found: Any) -> str:
    """The checkpoint id in a configuration, if any."""
    return str(found["configurable"]["checkpoint_id"]) if found else ""
