"""Runs killed with -9 at random moments: what was reached is kept, whole, and the run goes on from there."""

from __future__ import annotations

import os
import random
from itertools import groupby
from pathlib import Path

import pytest
from doomed import CONFIG, LENGTH, LINES, SHAPES, logged, processes, work

from orchestrator.checkpoints import Checkpointer

KILLS = int(os.environ.get("ORC_KILLS", "2"))
"""Kills of each kind of run; ORC_KILLS=40 makes 240 in all."""
SECONDS = 0.15
"""The longest time that a process lives; a whole run takes about as long, or longer."""


@pytest.mark.timeout(60 if KILLS < 10 else 1_800)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, shape: str, is_async: bool) -> None:
    moments = random.Random(f"{shape} {is_async}")
    kills, number = 0, 0
    while kills < KILLS:
        folder = tmp_path / str(number := number + 1)
        folder.mkdir()
        kills_here = 0
        while killed(folder, shape, is_async, moments.uniform(0, SECONDS)):
            kills_here += 1
            assert_kept(folder, shape)
        kills += kills_here
        assert_whole(folder, shape, kills_here)


def killed(folder: Path, shape: str, is_async: bool, seconds: float) -> bool:
    """Let the run work for so long, then kill it; False when it was over before."""
    ready = processes.Event()
    process = processes.Process(target=work, args=(folder, shape, is_async, ready))
    process.start()
    assert ready.wait(20), "the process did not start"
    process.join(seconds)
    process.kill()
    process.join()
    assert process.exitcode in {0, -9}
    return process.exitcode == -9


def assert_kept(folder: Path, shape: str) -> None:
    """Every checkpoint can be read and is a state that the run really had; nothing reached is missing."""
    with Checkpointer.from_conn_string(folder / "doomed.db") as saver:
        assert saver.verify() == []
        history = list(saver.list({"configurable": {**CONFIG["configurable"], "checkpoint_ns": ""}}))
    lengths = []
    for found in history:
        values = found.checkpoint["channel_values"]
        steps, parts = values.get("steps", []), values.get("parts", [])
        assert steps == list(range(len(steps)))
        assert [message.id for message in values.get("messages", [])] == [f"m{step}" for step in steps]
        assert parts in [expected_parts(shape, len(steps) - more) for more in (0, 1)]
        lengths.append(len(steps))
    assert lengths == sorted(lengths, reverse=True)
    per_act = LINES[shape] // LENGTH
    reached = max(logged(folder), default=-1)
    # A line of an act claims all acts before it, a line of what comes after an act claims that act too.
    assert max(lengths, default=0) >= reached // per_act + (reached % per_act > 0)


def expected_parts(shape: str, acts: int) -> list[str]:
    """What the parts come to after so many acts."""
    names = {"sequential": "", "parallel": "abcd", "subgraph": "2"}[shape]
    return [f"{act}{name}" for act in range(acts) for name in names]


def assert_whole(folder: Path, shape: str, kills: int) -> None:
    """The run came to the end that it would have had unharmed, and repeated only what was in flight."""
    with Checkpointer.from_conn_string(folder / "doomed.db") as saver:
        found = saver.get_tuple(CONFIG)
        assert found is not None
        assert found.checkpoint["channel_values"]["steps"] == list(range(LENGTH))
        assert found.checkpoint["channel_values"].get("parts", []) == expected_parts(shape, LENGTH)
        assert saver.verify() == []
    lines = logged(folder)
    # Nothing that was saved is done again: the log never goes back.
    assert [line for line, _ in groupby(lines)] == list(range(LINES[shape]))
    at_once = 4 if shape == "parallel" else 1
    assert max(sum(1 for _ in group) for _, group in groupby(lines)) <= at_once * (1 + kills)
