"""Several processes on one file: nothing is lost, nobody waits long, and clocks need not agree."""

from __future__ import annotations

from pathlib import Path

import pytest
from doomed import processes
from neighbours import TURNS, said, say, say_late, waits

from orchestrator.checkpoints import Checkpointer

PATIENCE = 2.0
"""Seconds; on a machine with nothing else to do it is a tenth of a second, which `make bench` measures."""


@pytest.mark.parametrize("count", [2, 4])
def test_neighbours_lose_nothing_and_wait_for_a_moment_only(tmp_path: Path, count: int) -> None:
    path = tmp_path / "shared.db"
    seconds = waits(path, count)
    with Checkpointer.from_conn_string(path) as saver:
        for number in range(count):
            name = f"neighbour-{number}"
            assert said(saver, name) == ["first", *(f"{name} {turn}" for turn in range(TURNS))]
        assert saver.verify() == []
    assert seconds[int(len(seconds) * 0.99)] < PATIENCE


def test_a_saver_sees_what_a_neighbour_said_in_its_thread(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    with Checkpointer.from_conn_string(path) as saver:
        for turn in range(3):
            say(saver, "talk", f"mine {turn}")
            elsewhere(path, f"theirs {turn}", behind=0)
        assert said(saver, "talk") == [f"{who} {turn}" for turn in range(3) for who in ("mine", "theirs")]
        assert saver.verify() == []


def test_a_neighbour_whose_clock_is_behind_loses_no_turn(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    with Checkpointer.from_conn_string(path) as saver:
        for turn in range(3):
            say(saver, "talk", f"mine {turn}")
            elsewhere(path, f"theirs {turn}", behind=60)
        expected = [f"{who} {turn}" for turn in range(3) for who in ("mine", "theirs")]
        assert said(saver, "talk") == expected
        listed = list(saver.list({"configurable": {"thread_id": "talk"}}))
        assert [found.metadata["step"] for found in listed] == sorted(
            (found.metadata["step"] for found in listed), reverse=True
        )
    with Checkpointer.from_conn_string(path) as saver:
        assert said(saver, "talk") == expected


def elsewhere(path: Path, text: str, behind: float) -> None:
    """Say it in another process."""
    process = processes.Process(target=say_late, args=(path, "talk", text, behind))
    process.start()
    process.join()
    assert process.exitcode == 0
