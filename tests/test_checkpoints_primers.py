"""What is packed against earlier content comes back whole, and goes when that content has to go."""

from __future__ import annotations

import random
import sqlite3
import zlib
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import ormsgpack
import pytest
import zstandard
from checkpointing import address, put, run_sql, saver_at, values
from langchain_core.messages import BaseMessage, HumanMessage

from orchestrator.checkpoints import Checkpointer, store
from orchestrator.checkpoints.dictionary import HEADS
from orchestrator.checkpoints.elements import (
    PRIMED,
    PRIMER,
    Hasher,
    decompressors,
    unpack_all,
    write_node,
)
from orchestrator.checkpoints.heads import grow_writes
from orchestrator.checkpoints.primers import Primer, Primers
from orchestrator.checkpoints.rows import Rows, Step
from orchestrator.errors import StorageError

WORDS = ["".join(parts) for parts in product(("kar", "mel", "tos", "bin", "sul", "vet"), repeat=4)]


def chatter(count: int, mark: str, length: int = 120) -> list[BaseMessage]:
    """Messages of the same words in ever another order, each with a mark."""
    rng = random.Random(mark)
    return [
        HumanMessage(" ".join(rng.choices(WORDS, k=length)) + f" {mark}{at}", id=f"{mark}{at}")
        for at in range(count)
    ]


def tell(saver: Checkpointer, messages: list[BaseMessage], thread: str = "t", batch: int = 5) -> None:
    config = address(thread)
    for end in range(batch, len(messages) + 1, batch):
        config = put(saver, {"messages": apart(messages[:end])}, config)


def apart(messages: list[BaseMessage]) -> dict[str, list[BaseMessage]]:
    """The same in short lists: what a long one names would move into blocks."""
    return {str(start): messages[start : start + 5] for start in range(0, len(messages), 5)}


def told(saver: Checkpointer, thread: str = "t") -> list[BaseMessage]:
    return [message for part in values(saver, address(thread))["messages"].values() for message in part]


def stored(file: Path) -> list[tuple[int, int, bytes]]:
    """Number, kind and data of all elements."""
    return run_sql(file, "select n, kind, data from ck_elements order by n")


def test_content_like_earlier_content_takes_less_and_is_read_back(tmp_path: Path) -> None:
    messages = chatter(200, "m")
    for start in range(0, 200, 50):  # a process for each part, as the command line has it
        with saver_at(tmp_path) as saver:
            tell(saver, messages[: start + 50], batch=start + 50)
    with saver_at(tmp_path) as saver:
        assert told(saver) == messages
        assert saver.verify() == []
    sizes = [len(data) for _, kind, data in stored(saver_path(tmp_path)) if kind in {0, 1, PRIMED}]
    assert sum(sizes[-50:]) < 0.8 * sum(sizes[:50])


def saver_path(folder: Path) -> Path:
    return folder / "checkpoints.db"


def test_primers_are_renewed_and_stay_shallow(tmp_path: Path) -> None:
    messages = chatter(1_500, "m", 220)
    with saver_at(tmp_path) as saver:
        tell(saver, messages, batch=25)
    primers = [ormsgpack.unpackb(data) for _, kind, data in stored(saver_path(tmp_path)) if kind == PRIMER]
    assert sum(size == 0 for _, size, _, _ in primers) > 1
    assert max(depth for _, _, depth, _ in primers) <= 4
    with saver_at(tmp_path) as saver:
        assert told(saver) == messages


def test_two_savers_on_one_file_read_each_other(tmp_path: Path) -> None:
    first, second = chatter(120, "a"), chatter(120, "b")
    with saver_at(tmp_path) as one, saver_at(tmp_path) as two:
        for end in range(10, 121, 10):
            put(one, {"messages": apart(first[:end])}, address("one"))
            put(two, {"messages": apart(second[:end])}, address("two"))
        assert told(two, "one") == first
        assert told(one, "two") == second
        assert one.verify() == []


def test_deleted_content_is_not_kept_as_a_primer(tmp_path: Path) -> None:
    later = chatter(40, "later")
    with saver_at(tmp_path) as saver:
        tell(saver, chatter(60, "secret"), "gone")
        tell(saver, later)
        saver.delete_thread("gone")
        saver.gc()
        assert told(saver) == later
        assert saver.verify() == []
        tell(saver, [*later, *chatter(60, "more")], batch=100)
    connection = sqlite3.connect(saver_path(tmp_path))
    rows = Rows(connection)
    primers = Primers(Hasher(bytes(rows.meta("key"))))
    plain = [primers.plain(rows, kind, data) for _, kind, _, data in rows.all_elements() if kind in {0, 1, 5}]
    connection.close()
    assert any(b"later3" in part for part in plain)
    assert not any(b"secret" in part for part in plain)


def test_a_file_of_the_first_format_is_read_as_it_is_and_written_on(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        config = put(saver, {"messages": chatter(3, "old")})
        saver.put_writes(config, [("messages", chatter(1, "write"))], str(UUID(int=7)), "path")
        saver.put_writes(config, [("notes", ["more"])], "no uuid")
    file = saver_path(tmp_path)
    connection = sqlite3.connect(file)
    for row in connection.execute("select * from ck_steps where kind=1").fetchall():
        seq, data = row[0], Step(*row).content
        packer = zlib.compressobj(6, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, HEADS)
        older = packer.compress(write_node(list(grow_writes(data, seq)))) + packer.flush()
        connection.execute("update ck_steps set data=? where seq=?", (older, seq))
    connection.commit()
    connection.close()
    run_sql(file, f"delete from ck_elements where kind={PRIMER}")
    run_sql(file, "delete from ck_meta where name='primer'")
    run_sql(file, "update ck_meta set value=1 where name='format'")

    def version() -> int:
        found: int = run_sql(file, "select value from ck_meta where name='format'")[0][0]
        return found

    with saver_at(tmp_path) as saver:
        assert values(saver)["messages"] == chatter(3, "old")
        found = saver.get_tuple(config)
        assert found is not None
        assert found.pending_writes == [
            ("no uuid", "notes", ["more"]),
            (str(UUID(int=7)), "messages", chatter(1, "write")),
        ]
        assert version() == 1
        put(saver, {"messages": chatter(60, "old")})
        put(saver, {"messages": chatter(90, "old")})
        assert version() == store.FORMAT
    with saver_at(tmp_path) as saver:
        assert values(saver)["messages"] == chatter(90, "old")
        assert saver.verify() == []


@pytest.mark.parametrize(
    "damage",
    [
        "delete from ck_elements where kind=6",
        "update ck_elements set data=x'94010100' where kind=6",
        "update ck_elements set kind=1 where kind=6",
        "update ck_elements set data=cast(x'05' || substr(data, 2) as blob) where kind=5",
        "update ck_elements set data=x'ffffffffffffffffffffff' where kind=5",
        "delete from ck_elements where kind=1",
    ],
)
def test_a_damaged_primer_is_a_clear_message(tmp_path: Path, damage: str) -> None:
    with saver_at(tmp_path) as saver:
        tell(saver, chatter(80, "m"))
    run_sql(saver_path(tmp_path), damage)
    with saver_at(tmp_path) as saver:
        with pytest.raises(StorageError):
            values(saver)
        assert saver.verify()


def test_primers_that_build_on_each_other_are_a_clear_message(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        tell(saver, chatter(80, "m"))
    file = saver_path(tmp_path)
    connection = sqlite3.connect(file)
    key = connection.execute("select value from ck_meta where name='key'").fetchone()[0]
    for number, kind, data in stored(file):
        if kind == PRIMER:
            primed = [n for n, one, _ in stored(file) if one == PRIMED]
            forged = ormsgpack.packb([*ormsgpack.unpackb(data)[:3], primed])
            connection.execute(
                "update ck_elements set data=?, hash=? where n=?", (forged, Hasher(key)(forged), number)
            )
    connection.commit()
    connection.close()
    with saver_at(tmp_path) as saver, pytest.raises(StorageError):
        values(saver)


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize(
    "harm",
    [
        lambda frame: frame[:-1] + bytes((frame[-1] ^ 1,)),
        lambda frame: frame[:10],
        lambda _: b"",
        lambda _: b"nonsense nonsense",
        lambda frame: frame[:4] + bytes((0xE4,)) + (1 << 45).to_bytes(8, "little") + frame[6:],
    ],
    ids=["changed", "cut", "empty", "nonsense", "says that it is huge"],
)
def test_a_damaged_frame_is_told_alone_and_among_many(count: int, harm: Callable[[bytes], bytes]) -> None:
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    contents = [f"message {number} ".encode() * 40 for number in range(count)]
    frames = [compressor.compress(content) for content in contents]
    assert unpack_all(decompressors, frames) == contents
    frames[count // 2] = harm(frames[count // 2])
    with pytest.raises(StorageError, match="cannot be unpacked"):
        unpack_all(decompressors, frames)


@pytest.mark.parametrize("number", [5, 1 << 35])
def test_primers_whose_numbers_begin_alike_are_told_apart(number: int) -> None:
    primers, plain = Primers(Hasher(b"key")), b"what was said before, word for word " * 4
    rows: list[Any] = []
    for at, content in ((number, plain), (number + (1 << 28), plain.upper())):
        primer = Primer(at, (0, 1, 1, [1]), content)
        primers.use(primer)
        kind, packed = primer.pack(content + b"!")
        rows.append((at, kind, b"", packed))
    assert [kind for _, kind, _, _ in rows] == [PRIMED] * 2
    found: Any = None  # nothing has to be read
    assert primers.plains(found, rows).contents == [plain + b"!", plain.upper() + b"!"]
