"""The statements on the checkpoint tables, and the rows as plain values.

Knows numbers and bytes only, not what they mean.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

from orchestrator.checkpoints.elements import HASH_BYTES, Recent, damaged
from orchestrator.checkpoints.ids import Place
from orchestrator.checkpoints.seals import opened, sealed

Row: TypeAlias = tuple[int, int, bytes, bytes]
"""Number, kind, hash and data of an element."""
PUT, WRITES, AGAIN = range(3)
"""Kinds of steps: a checkpoint, pending writes on one, a checkpoint whose id was put before."""
END = (1 << 63) - 1
"""An upper bound that is no bound."""
_UNPACKED = 1 << 22
"""Bytes of content in blocks that are kept for one transaction, twice."""
_MANY = 400
"""Parameters of one statement; SQLite allows more, but keeps such statements no longer."""


class Thread(NamedTuple):
    """A thread, named or only kept for its forks."""

    n: int
    id: str | None
    parent: int | None
    upto: int | None
    """The last step of the parent that this thread sees."""


class Step(NamedTuple):
    """One appended row."""

    seq: int
    space: int
    kind: int
    tag: int
    rest: bytes | str
    parent: int | str | None
    """The parent checkpoint: its step where it is known, else its id."""
    data: bytes
    """As it is stored."""

    @property
    def content(self) -> bytes:
        """What was to be stored; raises StorageError when the row is not what was written."""
        return opened(self[:-1], self.data)


def _is_dense(numbers: Sequence[int]) -> bool:
    """Whether it takes less to read all rows between the least number and the greatest."""
    return len(numbers) > _MANY and max(numbers) - min(numbers) < 2 * len(numbers)


def _parts(numbers: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
    """The marks and parameters of statements for numbers, in few lengths, so that statements are kept."""
    for start in range(0, len(numbers), _MANY):
        part = [*numbers[start : start + _MANY]]
        part += [-1] * (-len(part) % 50)
        yield ",".join("?" * len(part)), part


class Rows:
    """One connection in a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._sql = connection.execute
        self._many = connection.executemany
        self.unpacked: Recent[int, Any] = Recent(_UNPACKED)
        """The blocks that were read, by their numbers."""

    # What is there.

    def meta(self, name: str) -> int | bytes:
        """A fact about the file, 0 when it is not known."""
        found = self._sql("select value from ck_meta where name=?", (name,)).fetchone()
        if found and type(found[0]) not in {int, bytes}:
            raise damaged(f"the file's {name} makes no sense")
        return found[0] if found else 0

    def set_meta(self, name: str, value: int) -> None:
        self._sql("insert or replace into ck_meta values(?, ?)", (name, value))

    def thread(self, thread_id: str) -> Thread | None:
        row = self._sql("select n, id, parent, upto from ck_threads where id=?", (thread_id,)).fetchone()
        return Thread(*row) if row else None

    def thread_number(self, n: int) -> Thread | None:
        row = self._sql("select n, id, parent, upto from ck_threads where n=?", (n,)).fetchone()
        return Thread(*row) if row else None

    def threads(self) -> list[Thread]:
        return [Thread(*row) for row in self._sql("select n, id, parent, upto from ck_threads order by n")]

    def forks(self, n: int) -> list[Thread]:
        found = self._sql("select n, id, parent, upto from ck_threads where parent=? order by n", (n,))
        return [Thread(*row) for row in found]

    def spaces(self, thread: int) -> list[tuple[str, int]]:
        """Namespaces of a thread and their numbers."""
        return self._sql("select ns, n from ck_spaces where thread=?", (thread,)).fetchall()

    def space(self, thread: int, ns: str) -> int | None:
        row = self._sql("select n from ck_spaces where thread=? and ns=?", (thread, ns)).fetchone()
        return row[0] if row else None

    def last(self, thread: int, upto: int = END) -> int:
        """The last step of a thread's own, 0 without one."""
        row = self._sql(
            "select max((select max(seq) from ck_steps where space=s.n and seq<=?)) "
            "from ck_spaces s where thread=?",
            (upto, thread),
        ).fetchone()
        return row[0] or 0

    def head(self, space: int, upto: int = END) -> Step | None:
        """The checkpoint put last."""
        row = self._sql(
            "select seq, space, kind, tag, rest, parent, data from ck_steps "
            "where space=? and seq<=? and kind=0 order by seq desc limit 1",
            (space, upto),
        ).fetchone()
        return Step(*row) if row else None

    def at(self, space: int, place: Place, upto: int = END) -> list[Step]:
        """All steps on one checkpoint id, in their order."""
        found = self._sql(
            "select seq, space, kind, tag, rest, parent, data from ck_steps "
            "where space=? and tag=? and seq<=? order by seq",
            (space, place.tag, upto),
        )
        return [step for row in found if (step := Step(*row)).rest == place.rest]

    def step(self, seq: int) -> Step | None:
        row = self._sql(
            "select seq, space, kind, tag, rest, parent, data from ck_steps where seq=?", (seq,)
        ).fetchone()
        return Step(*row) if row else None

    def outline(
        self, space: int, upto: int = END
    ) -> list[tuple[int, int, int, bytes | str, int | str | None]]:
        """seq, kind, tag, rest and parent of all steps, newest first."""
        return self._sql(
            "select seq, kind, tag, rest, parent from ck_steps where space=? and seq<=? order by seq desc",
            (space, upto),
        ).fetchall()

    def steps(self, space: int, upto: int = END) -> Iterator[Step]:
        """All steps of a space in their order."""
        found = self._sql(
            "select seq, space, kind, tag, rest, parent, data from ck_steps "
            "where space=? and seq<=? order by seq",
            (space, upto),
        )
        return (Step(*row) for row in found)

    def elements(self, numbers: Sequence[int]) -> list[Row]:
        """Elements with a row of their own, in no order; others are left out."""
        if _is_dense(numbers):
            ends = (min(numbers), max(numbers))
            dense = self._sql(
                "select n, kind, hash, data from ck_elements where n between ? and ?", ends
            ).fetchall()
            wanted = set(numbers)
            return dense if len(dense) == len(wanted) else [row for row in dense if row[0] in wanted]
        return self._among("select n, kind, hash, data from ck_elements", numbers)

    def small_contents(self, numbers: Sequence[int], below: int) -> list[Row]:
        """Those of these elements that have a row of their own with little content in it, and no block."""
        where = (
            "and kind in (0, 1, 5) and length(data)<? and typeof(data)='blob' and typeof(hash)='blob' "
            "and length(hash)=? and n not in (select n from ck_members)"
        )
        return self._among("select n, kind, hash, data from ck_elements", numbers, where, below, HASH_BYTES)

    def _among(self, select: str, numbers: Sequence[int], where: str = "", *more: object) -> list[Any]:
        """The rows with one of these numbers; `where` says more of them."""
        found: list[Any] = []
        for marks, part in _parts(numbers):
            found += self._sql(f"{select} where n in ({marks}) {where}", (*part, *more)).fetchall()
        return found

    def latest_packed(self, first: int) -> Iterator[tuple[int, int, bytes]]:
        """Number, kind and data of elements from one on, newest first."""
        return iter(self._sql("select n, kind, data from ck_elements where n>=? order by n desc", (first,)))

    def packed_bytes(self, first: int, most: int) -> int:
        """Bytes of content stored from an element on, each row of an element counted up to `most`."""
        found = self._sql(
            "select sum(min(length(data), ?)) from ck_elements where n>=? and kind in (0, 1, 5)",
            (most, first),
        ).fetchone()[0]
        if not self._has_blocks:
            return found or 0
        packed = self._sql("select sum(length(data)) from ck_blocks where n>=?", (first,)).fetchone()[0]
        return (found or 0) + (packed or 0)

    def all_elements(self) -> Iterator[Row]:
        """All that have a row of their own."""
        return iter(self._sql("select n, kind, hash, data from ck_elements order by n"))

    def elements_of(self, kind: int) -> Iterator[Row]:
        """Those of one kind."""
        return iter(self._sql("select n, kind, hash, data from ck_elements where kind=? order by n", (kind,)))

    @cached_property
    def _has_blocks(self) -> bool:
        """A file of an older format has none, until it is written to."""
        found = self._sql("select 1 from sqlite_master where type='table' and name='ck_members'")
        return found.fetchone() is not None

    def blocks_of(self, numbers: Sequence[int]) -> list[int]:
        """The blocks that hold elements; some may hold none of them."""
        if not self._has_blocks:
            return []
        if _is_dense(numbers):
            wanted = [("n between ? and ?", [min(numbers), max(numbers)])]
        else:
            wanted = [(f"n in ({marks})", part) for marks, part in _parts(numbers)]
        blocks: set[int] = set()
        for where, part in wanted:
            found = self._sql(f"select distinct block from ck_members where {where}", part)  # noqa: S608
            blocks.update(block for (block,) in found)
        return list(blocks)

    def blocks(self, numbers: Sequence[int]) -> list[tuple[int, bytes]]:
        """Number and data of blocks, in no order."""
        return self._among("select n, data from ck_blocks", numbers)

    def all_blocks(self, first: int = 0) -> Iterator[tuple[int, bytes]]:
        """Number and data of the blocks from one on, newest first."""
        if not self._has_blocks:
            return iter(())
        return iter(self._sql("select n, data from ck_blocks where n>=? order by n desc", (first,)))

    def block_numbers(self) -> list[int]:
        return [n for (n,) in self._sql("select n from ck_blocks")] if self._has_blocks else []

    def block(self, n: int) -> bytes:
        """The data of a block."""
        data: bytes = self._sql("select data from ck_blocks where n=?", (n,)).fetchone()[0]
        return data

    def all_members(self) -> Iterator[tuple[int, int]]:
        """The elements in blocks, and their blocks."""
        return iter(self._sql("select n, block from ck_members order by n")) if self._has_blocks else iter(())

    # What is added.

    def next_step(self) -> int:
        return (self._sql("select max(seq) from ck_steps").fetchone()[0] or 0) + 1

    def next_element(self) -> int:
        """A number that no element and no block has had."""
        last = self._sql(
            "select max(n) from (select max(n) n from ck_elements union all select max(n) from ck_blocks)"
        )
        return (last.fetchone()[0] or 0) + 1

    def add_thread(self, thread_id: str, parent: int | None = None, upto: int | None = None) -> int:
        added = self._sql(
            "insert into ck_threads(id, parent, upto) values(?, ?, ?)", (thread_id, parent, upto)
        ).lastrowid
        return int(added or 0)

    def add_space(self, thread: int, ns: str, n: int) -> None:
        self._sql("insert into ck_spaces(thread, ns, n) values(?, ?, ?)", (thread, ns, n))

    def add_step(self, step: Step) -> None:
        """Append a step, whose data get a checksum."""
        columns = step[:-1]
        data = sealed(columns, step.data)
        self._sql("insert into ck_steps values(?, ?, ?, ?, ?, ?, ?)", (*columns, data))

    def add_elements(self, rows: Iterable[Row]) -> None:
        self._many("insert into ck_elements values(?, ?, ?, ?)", rows)

    def add_block(self, n: int, data: bytes, members: Sequence[int]) -> None:
        """Store elements together that had rows of their own."""
        self._sql("insert into ck_blocks values(?, ?)", (n, data))
        self.list_members(n, members)
        self.drop_elements(members)

    def list_members(self, n: int, members: Iterable[int]) -> None:
        """Tell which block holds elements."""
        self._many("insert into ck_members values(?, ?)", ((member, n) for member in members))

    # What is removed.

    def rename_thread(self, n: int, thread_id: str | None) -> None:
        self._sql("update ck_threads set id=? where n=?", (thread_id, n))

    def drop_thread(self, n: int) -> None:
        """Remove a thread and its steps; the last step of the file stays as a mark, so numbers only grow."""
        self._blank_last(n, 0)
        self._sql("delete from ck_steps where space in (select n from ck_spaces where thread=?)", (n,))
        self._sql("delete from ck_spaces where thread=?", (n,))
        self._sql("delete from ck_threads where n=?", (n,))

    def trim_thread(self, n: int, bound: int) -> int:
        """Remove a thread's steps after one, with the same mark; returns their bytes."""
        where = "from ck_steps where space in (select n from ck_spaces where thread=?) and seq>?"
        size = self._sql(f"select sum(length(data) + 20) {where}", (n, bound)).fetchone()[0]
        self._blank_last(n, bound)
        self._sql(f"delete {where}", (n, bound))
        return size or 0

    def _blank_last(self, n: int, bound: int) -> None:
        """Make a mark of the last step of the file, if it is a thread's and comes after one."""
        self._sql("delete from ck_steps where space=0 and seq < (select max(seq) from ck_steps)")
        self._sql(
            "update ck_steps set space=0, kind=1, tag=0, rest='', parent=null, data=x'' where seq>? and "
            "seq=(select max(seq) from ck_steps) and space in (select n from ck_spaces where thread=?)",
            (bound, n),
        )

    def drop_elements(self, numbers: Iterable[int]) -> None:
        self._many("delete from ck_elements where n=?", ((n,) for n in numbers))

    def shrink_block(self, n: int, data: bytes | None, gone: Iterable[int]) -> None:
        """Store a block again without some of its elements; None removes it."""
        self.unpacked.clear()
        if data is None:
            self._sql("delete from ck_blocks where n=?", (n,))
        else:
            self._sql("update ck_blocks set data=? where n=?", (data, n))
        self._many("delete from ck_members where n=?", ((member,) for member in gone))

    def pack_again(self, n: int, kind: int, data: bytes) -> None:
        """Store the same content of an element in another way."""
        self._sql("update ck_elements set kind=?, data=? where n=?", (kind, data, n))

    def blank_element(self, n: int, kind: int, digest: bytes) -> None:
        """Leave an empty row in the place of an element or a block, so that its number is not given again."""
        self._sql("insert or replace into ck_elements values(?, ?, ?, x'')", (n, kind, digest))

    def next_epoch(self) -> None:
        """Tell everyone that rows are gone."""
        self._sql("update ck_meta set value=value+1 where name='epoch'")

    def pages(self) -> tuple[int, int, int]:
        """Pages in the file, free ones among them, and their size."""
        return (
            self._sql("pragma page_count").fetchone()[0],
            self._sql("pragma freelist_count").fetchone()[0],
            self._sql("pragma page_size").fetchone()[0],
        )

    def count_steps(self, kind: int) -> int:
        return int(
            self._sql("select count(*) from ck_steps where kind=? and space<>0", (kind,)).fetchone()[0]
        )

    def count_elements(self) -> int:
        alone = self._sql("select count(*) from ck_elements").fetchone()[0]
        members = self._sql("select count(*) from ck_members").fetchone()[0] if self._has_blocks else 0
        return int(alone + members)

    def integrity(self) -> list[str]:
        """What SQLite says of the file; `ok` when it is whole."""
        return [text for (text,) in self._sql("pragma quick_check")]

    def lost_steps(self) -> list[int]:
        """Steps whose namespace is gone."""
        found = self._sql(
            "select seq from ck_steps where case space when 0 then length(data)>0 "
            "else space not in (select n from ck_spaces) end"
        )
        return [seq for (seq,) in found]
