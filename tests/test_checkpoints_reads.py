"""What is kept of elements that were read, and for how long."""

from __future__ import annotations

import random
from pathlib import Path

from checkpointing import address, put, saver_at, talk


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
