"""What is kept of elements that were read, and for how long."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from checkpointing import address, put, saver_at, talk, values

from orchestrator.checkpoints import Checkpointer
from orchestrator.checkpoints import values as encoded


def test_what_was_read_is_known_again_when_it_is_written(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": talk(300)})
    with saver_at(tmp_path) as saver:
        before = saver.stats()["elements"]
        for _ in range(100):
            saver.get_tuple(address())
        put(saver, {"messages": talk(300)})
        assert saver.stats()["elements"] - before < 10


def test_what_is_only_read_is_not_kept_for_ever(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        for thread in range(30):
            put(saver, {"text": random.Random(thread).randbytes(1 << 20)}, address(str(thread)))
    with saver_at(tmp_path) as saver:
        for thread in range(30):
            saver.get_tuple(address(str(thread)))
        kept = [leaf for leaves in saver._memory.caches.values._read for leaf in leaves.values()]
        assert sum(len(leaf.content) for leaf in kept) <= 17 << 20


def ids(saver: Checkpointer) -> list[int]:
    return [id(message) for message in values(saver)["messages"]]


def test_a_list_that_is_read_again_and_again_is_compared_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": talk(80)})
        first = [ids(saver) for _ in range(3)][-1]
        monkeypatch.setattr(encoded, "free_again", None)
        assert ids(saver) == first
        assert values(saver)["messages"] == talk(80)


def test_messages_of_a_remembered_list_are_used_again_for_the_next_one(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver, saver_at(tmp_path) as other:
        told = put(saver, {"messages": talk(80)})
        first = [ids(saver) for _ in range(4)][-1]
        told = put(saver, {"messages": talk(81)}, told)
        assert ids(saver)[:80] == first
        assert [ids(saver) for _ in range(4)][-1][:80] == first
        assert values(other)["messages"] == talk(81)
        put(other, {"messages": talk(90)}, told)  # unknown here, so it has to be read
        assert ids(saver)[:80] == first
