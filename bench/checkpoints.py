"""Our checkpointer against langgraph-checkpoint-sqlite and InMemorySaver, in one process and one run.

A light turn is two messages of about 1 KB, with a tool result of 5 to 50 KB in one turn of ten; an agent turn
is one tool round. Durability is "sync" for all, so that a superstep waits for its checkpoint.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import checkpoint_figures as figures
from checkpoint_figures import Build, Rival
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from neighbours import waits

from orchestrator.checkpoints import Checkpointer

OURS, THEIRS, MEMORY = "ours", "theirs", "memory"
ROUNDS = 9
FORKS = 200
"""So many that what they add to the file is more than a page."""
TURNS, AGENT_TURNS = 1_000, 300
PREFIX = 300
"""Turns that theirs really makes with --quick; its size after 1,000 is worked out from there."""
FREE = 25_000_000_000
"""Bytes of free disk without which theirs is not driven to 1,000 turns: its file takes some 7 GB."""
QUIET_LOAD = 0.5
"""Load per CPU above which figures are marked as measured on a busy machine."""


@dataclass(frozen=True)
class Row:
    """One line of the table; figures are text with their unit, `reached` is None where there is no target."""

    figure: str
    ours: str
    theirs: str
    ratio: str
    target: str
    reached: bool | None

    def __str__(self) -> str:
        mark = {True: "reached", False: "MISSED", None: ""}[self.reached]
        return f"{self.figure:50} {self.ours:>12} {self.theirs:>12} {self.ratio:>10}  {self.target:22} {mark}"


def rivals(folder: Path, figure: str) -> list[Rival]:
    """All three savers, on files of their own."""
    ours, theirs, memory = folder / f"{figure}-ours.db", folder / f"{figure}-theirs.db", InMemorySaver()
    return [
        Rival(
            OURS,
            ours,
            lambda: Checkpointer.from_conn_string(str(ours)),
            lambda: Checkpointer.from_conn_string(str(ours)),
        ),
        Rival(
            THEIRS,
            theirs,
            lambda: SqliteSaver.from_conn_string(str(theirs)),
            lambda: AsyncSqliteSaver.from_conn_string(str(theirs)),
        ),
        Rival(MEMORY, Path(), lambda: nullcontext(memory), lambda: nullcontext(memory)),
    ]


def on_disk(folder: Path, figure: str) -> list[Rival]:
    """The two savers that keep a file."""
    return rivals(folder, figure)[:2]


def size(count: float) -> str:
    """Bytes for people."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}"
    return f"{count:.0f} B"


def ms(seconds: float) -> str:
    """Milliseconds for people."""
    return f"{seconds * 1_000:.2f} ms"


def faster(figure: str, ours: float, theirs: float, at_least: float, against: str = "") -> Row:
    """A row for seconds: how many times less ours takes."""
    ratio = theirs / ours if ours > 0 else float("inf")
    return Row(
        figure, ms(ours), ms(theirs), f"{ratio:.1f} x", f">= {at_least:g} x less{against}", ratio >= at_least
    )


def at_most(figure: str, ours: str, value: float, limit: float, shown: str) -> Row:
    """A row that has a limit of its own and no rival."""
    return Row(figure, ours, "-", "-", f"<= {shown}", value <= limit)


def quadratic(sizes: dict[int, int], measured: int, wanted: int) -> float:
    """Where a + b·n + c·n² through half and all of the measured turns, with a = 0, comes to."""
    half = measured // 2 // 50 * 50
    curve = (sizes[measured] / measured - sizes[half] / half) / (measured - half)
    slope = sizes[half] / half - curve * half
    return slope * wanted + curve * wanted**2


def disk_rows(folder: Path, quick: bool) -> Iterator[Row]:
    """File sizes, bytes written, growth and forks, all from the same two builds."""
    shortened = quick or shutil.disk_usage(folder).free < FREE
    reach = PREFIX if shortened else TURNS
    pair = on_disk(folder, "light")
    builds = figures.build(pair, {OURS: TURNS, THEIRS: reach}, "light", block=50)
    ours, theirs = builds[OURS], builds[THEIRS]
    scale = quadratic(theirs.sizes, reach, TURNS) / theirs.sizes[reach] if shortened else 1.0
    note = f" (theirs from {reach})" if shortened else ""
    yield from file_rows(f"file, {TURNS:,} light turns{note}", ours, theirs, 2_000, scale)
    yield more(f"written to disk, {TURNS:,} light turns{note}", ours.written, theirs.written * scale, 200)
    early, late = ours.grown(100, 200), ours.grown(900, 1_000)
    yield Row(
        "growth, turns 900-1,000 to turns 100-200",
        f"{size(late)}/{size(early)}",
        "-",
        f"{late / early:.2f}",
        "<= 1.1",
        late / early <= 1.1,
    )
    yield from fork_rows(folder, pair[0])
    pair[1].path.unlink()


def more(figure: str, ours: float, theirs: float, at_least: float | None) -> Row:
    """A row for bytes: how many times fewer ours takes."""
    ratio = theirs / ours
    target = f">= {at_least:,} x fewer" if at_least else ""
    reached = ratio >= at_least if at_least else None
    return Row(figure, size(ours), size(theirs), f"{ratio:,.0f} x", target, reached)


def file_rows(
    figure: str, ours: Build, theirs: Build, at_least: float | None, scale: float = 1.0
) -> Iterator[Row]:
    """What the files come to, against each other and against the text in them."""
    mine, other = max(ours.sizes.values()), max(theirs.sizes.values()) * scale
    yield more(figure, mine, other, at_least)
    share = mine / ours.content
    yield Row("  … to its new content", size(mine), size(ours.content), f"{share:.2f}", "<= 1.0", share <= 1)


def fork_rows(folder: Path, light: Rival) -> Iterator[Row]:
    """Forks of a short and of a long conversation; theirs has no fork."""
    short = on_disk(folder, "short")[0]
    figures.build([short], {OURS: 10}, "light", block=10)
    for turns, rival in ((10, short), (TURNS, light)):
        seconds, added = figures.forks(rival, "talk", FORKS)
        yield at_most(f"fork at {turns:,} turns, time", ms(seconds), seconds, 0.002, "2 ms")
        yield at_most(f"fork at {turns:,} turns, bytes", size(added), added, 4_096, "4 KB")


def agent_rows(folder: Path, _: bool) -> Iterator[Row]:
    """Size of 300 agent turns and the time of their whole history."""
    pair = on_disk(folder, "agent")
    builds = figures.build(pair, {OURS: AGENT_TURNS, THEIRS: AGENT_TURNS}, "agent")
    # Theirs takes about a thousand times the content, so 2,000 times less than that cannot hold it.
    yield from file_rows(f"file, {AGENT_TURNS} agent turns", builds[OURS], builds[THEIRS], None)
    # Theirs takes half a minute or more for each.
    listed, shown, length = figures.histories(pair, {OURS: ROUNDS, THEIRS: 1})
    yield faster(f"saver.list, {length:,} checkpoints (theirs: 1 round)", listed[OURS], listed[THEIRS], 50)
    trees = figures.trees(on_disk(folder, "tree"), ROUNDS)
    figure = f"tree of 3,200 checkpoints (theirs: {ms(trees[THEIRS])})"
    yield at_most(figure, ms(trees[OURS]), trees[OURS], 0.010, "10 ms")
    yield faster("graph.get_state_history (theirs: 1 round)", shown[OURS], shown[THEIRS], 50)
    pair[1].path.unlink()


def time_rows(folder: Path, _: bool) -> Iterator[Row]:
    """What a superstep and a read cost at different lengths."""
    for count, at_least in ((20, 1.5), (200, 1.0), (2_000, 15.0)):
        found = figures.supersteps(rivals(folder, f"steps-{count}"), count, ROUNDS)
        name = f"overhead per superstep, {count:,} messages"
        if count != 200:
            yield faster(name, found[OURS], found[THEIRS], at_least)
        if count >= 200:
            yield faster(f"  … {count:,} messages, theirs: InMemorySaver", found[OURS], found[MEMORY], 1)
    warm, cold = figures.reads(rivals(folder, "reads"), 2_000, ROUNDS)
    yield faster("get_state, 2,000 messages, warm", warm[OURS], warm[THEIRS], 5)
    yield faster("get_state, 2,000 messages, cold", cold[OURS], cold[THEIRS], 1)


def traffic_rows(folder: Path, _: bool) -> Iterator[Row]:
    """Many conversations at once, and commits."""
    found = asyncio.run(figures.conversations(rivals(folder, "async"), ROUNDS, 8))
    ratio = found[OURS] / found[THEIRS]
    yield Row(
        f"{figures.CONVERSATIONS} async conversations, supersteps/s",
        f"{found[OURS]:,.0f}",
        f"{found[THEIRS]:,.0f}",
        f"{ratio:.1f} x",
        ">= 2 x",
        ratio >= 2,
    )
    counts = figures.commits(on_disk(folder, "commits"), 40)
    ours, theirs = counts[OURS], counts[THEIRS]
    yield Row(
        "commits per superstep", f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.1f} x", "1", ours <= 1.005
    )
    for count in (2, 4):
        shared = folder / str(count)
        shared.mkdir()
        puts = [statistics.quantiles(waits(shared / "shared.db", count), n=100) for _ in range(3)]
        half, most = (statistics.median(each[at] for each in puts) for at in (49, 98))
        name = f"{count} processes, a put takes (half: {ms(half)}; 3 rounds)"
        yield at_most(name, ms(most), most, 0.1, "100 ms, 99 of 100")


Part = Callable[[Path, bool], Iterator[Row]]
PARTS: dict[str, Part] = {"time": time_rows, "traffic": traffic_rows, "agent": agent_rows, "disk": disk_rows}


@contextmanager
def workplace(parent: str | None) -> Iterator[Path]:
    """A folder on a real disk, emptied afterwards; /tmp may be memory."""
    with tempfile.TemporaryDirectory(prefix="orc-bench-", dir=parent or "/var/tmp") as name:  # noqa: S108
        yield Path(name)


def conditions(seconds: float) -> str:
    """Versions and machine, without which the figures mean little."""
    names = ("langgraph", "langgraph-checkpoint", "langgraph-checkpoint-sqlite")
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    busy = " (BUSY: repeat on an idle machine)" if load > QUIET_LOAD else ""
    return "\n".join([
        f"conditions: medians of {ROUNDS} interleaved rounds unless a row says otherwise, one build per file",
        f"  {seconds:.0f} s; Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{os.cpu_count()} CPUs, load per CPU {load:.2f}{busy}",
        "versions: " + ", ".join(f"{name} {version(name)}" for name in names),
        "files after wal_checkpoint(TRUNCATE); bytes written are write_bytes of /proc/self/io",
        "overhead is the time from one superstep to the next minus the same loop without a saver",
        "commits are the frames of the log that end a transaction; cold: opening included, page cache warm",
        "durability \"sync\" for all; SQLite's synchronous is normal for ours and theirs' default, full",
    ])


def main() -> None:
    """Measure and print; exit 0 whatever comes out, because a shared machine decides part of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help=f"theirs makes {PREFIX} light turns; the rest is worked out"
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part (repeatable)")
    parser.add_argument("--folder", help="where the files go; the longest needs some 15 GB")
    arguments = parser.parse_args()
    started = time.perf_counter()
    header = Row("figure", "ours", "theirs", "ratio", "to reach", None)
    sys.stdout.write(f"{header}\n")
    for name in arguments.only or PARTS:
        with workplace(arguments.folder) as folder:
            for row in PARTS[name](folder, arguments.quick):
                sys.stdout.write(f"{row}\n")
                sys.stdout.flush()
    sys.stdout.write(f"{conditions(time.perf_counter() - started)}\n")


if __name__ == "__main__":
    main()
