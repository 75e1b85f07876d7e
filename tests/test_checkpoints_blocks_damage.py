"""Damaged and forged blocks: a clear message, nothing read as if it were right, nothing lost beside it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from checkpointing import address, blocks, put, saver_at, sql, talk, tell, values

from orchestrator.checkpoints.blocks import Block, read_block, write_block
from orchestrator.checkpoints.elements import Hasher, pack
from orchestrator.errors import StorageError


@pytest.mark.parametrize(
    "damage",
    [
        "delete from ck_blocks",
        "delete from ck_blocks where n=(select max(n) from ck_blocks)",
        "delete from ck_members",
        "update ck_members set block=(select min(n) from ck_blocks)",
        "update ck_members set block='text'",
        "update ck_blocks set data=x''",
        "update ck_blocks set data='text'",
        "update ck_blocks set data=substr(data, 1, length(data) - 9)",
        "update ck_blocks set data=(select data from ck_blocks order by n desc limit 1)",
        "drop table ck_members",
    ],
)
def test_a_damaged_block_is_a_clear_message(tmp_path: Path, damage: str) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": talk(150)})
    assert len(blocks(tmp_path)) > 1
    sql(tmp_path, damage)
    with saver_at(tmp_path) as saver:
        with pytest.raises(StorageError):
            values(saver)
        assert saver.verify()


@pytest.mark.parametrize(
    "damage",
    [
        "delete from ck_members where n=(select min(n) from ck_members)",
        "update ck_members set block='text' where n=(select min(n) from ck_members)",
        "update ck_members set block=block+1 where n=(select min(n) from ck_members)",
        "insert into ck_members values(100000, (select min(n) from ck_blocks))",
        "insert into ck_members values(100000, 100000)",
        "insert into ck_elements select m.n, e.kind, e.hash, e.data from ck_members m, ck_elements e "
        "where e.kind=3 order by m.n limit 1",
    ],
)
def test_a_table_that_is_wrong_about_a_block_is_told_by_verify(tmp_path: Path, damage: str) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": talk(150)})
    sql(tmp_path, damage)
    with saver_at(tmp_path) as saver:
        assert saver.verify()
        assert values(saver)["messages"] == talk(150)


@pytest.mark.parametrize(
    "shape",
    [
        [[0], [b"x" * 16], [b"y"]],
        [[-3], [b"x" * 16], [b"y"]],
        [[1 << 63], [b"x" * 16], [b"y"]],
        [],
        [[1], [b"x" * 16]],
        [[1], [b"x"], [b"y"]],
        [[1], [], []],
        [["n"], [b"x" * 16], [b"y"]],
        "x",
    ],
)
def test_a_block_of_another_shape_is_damage(shape: Any) -> None:
    forged = pack(write_block(Block([1], [b"x" * 16], [b"y"])))[1]
    assert read_block(forged) == Block([1], [b"x" * 16], [b"y"])
    with pytest.raises(StorageError, match="damaged"):
        read_block(write_block(shape))


def test_a_bit_that_turned_in_a_block_is_found(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": talk(40)})
    ((number, data),) = sql(tmp_path, "select n, data from ck_blocks")
    rng = random.Random(2)
    for _ in range(60):
        at = rng.randrange(len(data) * 8)
        turned = data[: at // 8] + bytes((data[at // 8] ^ 1 << at % 8,)) + data[at // 8 + 1 :]
        sql(tmp_path, "update ck_blocks set data=? where n=?", turned, number)
        with saver_at(tmp_path) as saver:
            try:
                assert values(saver)["messages"] == talk(40)
            except StorageError:
                assert saver.verify()


def test_a_hash_that_is_not_its_content_s_is_found(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": talk(40)})
    ((number, data),) = sql(tmp_path, "select n, data from ck_blocks")
    block = read_block(data)
    block.digests[3] = Hasher(b"another key")(block.contents[3])
    sql(tmp_path, "update ck_blocks set data=? where n=?", write_block(block), number)
    with saver_at(tmp_path) as saver:
        assert saver.verify()


def test_a_damaged_element_stays_where_it_is_and_stops_no_one(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        told = tell(saver, 30)
    loose = sql(tmp_path, "select n, kind, data from ck_elements where kind in (0, 1, 5) order by n")[-4:]
    for number, _, _ in loose:
        sql(tmp_path, "update ck_elements set data=substr(data, 1, 9) where n=?", number)
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": talk(90)[40:]}, address("other"))
        assert values(saver, address("other"))["messages"] == talk(90)[40:]
        with pytest.raises(StorageError, match="damaged"):
            values(saver)
    for number, _, data in loose:
        sql(tmp_path, "update ck_elements set data=? where n=?", data, number)
    with saver_at(tmp_path) as saver:
        assert values(saver, told[-1])["messages"] == talk(30)
        assert saver.verify() == []


def test_a_hash_of_another_length_spoils_no_block(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        told = put(saver, {"messages": talk(8)})
        ((number,),) = sql(tmp_path, "select min(n) from ck_elements where kind=1")
        sql(tmp_path, "update ck_elements set hash=x'00' where n=?", number)
        put(saver, {"messages": talk(40)}, told)
    held = [n for block in blocks(tmp_path).values() for n in block.numbers]
    assert len(held) > 30
    assert number not in held


def test_a_bit_that_turned_before_the_move_is_not_sealed_in(tmp_path: Path) -> None:
    rng = random.Random(4)
    many = [rng.randbytes(300) for _ in range(30)]  # nothing packs it, so no frame has a checksum
    with saver_at(tmp_path) as saver:
        told = put(saver, {"many": many[:5]})
        number, data = sql(tmp_path, "select n, data from ck_elements where kind=0 order by n")[2]
        sql(tmp_path, "update ck_elements set data=? where n=?", data[:-1] + bytes((data[-1] ^ 1,)), number)
        put(saver, {"many": many}, told)
        assert saver.verify()
    assert number not in [n for block in blocks(tmp_path).values() for n in block.numbers]
    with saver_at(tmp_path) as saver, pytest.raises(StorageError, match=f"element {number} is not what"):
        values(saver)


def test_a_run_whose_block_is_damaged_can_be_deleted_and_others_stay(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": talk(40)})
        put(saver, {"messages": talk(100)[50:]}, address("whole"))
        put(saver, {"messages": talk(100)[90:]}, address("part"))
    first = min(blocks(tmp_path))
    sql(tmp_path, "update ck_blocks set data=x'00' where n=?", first)
    with saver_at(tmp_path) as saver:
        assert saver.verify()
        saver.delete_thread("t")
        saver.delete_thread("whole")
        saver.gc()
        assert saver.verify() == []
        assert values(saver, address("part"))["messages"] == talk(100)[90:]
    assert first not in blocks(tmp_path)


def test_a_damaged_block_of_which_some_is_needed_stays_as_it_is(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": talk(40)})
        put(saver, {"messages": talk(40)[20:]}, address("part"))
        ((number, data),) = sql(tmp_path, "select n, data from ck_blocks")
        sql(tmp_path, "update ck_blocks set data=x'00' where n=?", number)
        saver.delete_thread("t")
        saver.gc()
    assert sql(tmp_path, "select data from ck_blocks where n=?", number) == [(b"\0",)]
    sql(tmp_path, "update ck_blocks set data=? where n=?", data, number)
    with saver_at(tmp_path) as saver:
        assert values(saver, address("part"))["messages"] == talk(40)[20:]


@pytest.mark.parametrize("lost", ["", "where block=(select min(block) from ck_members)"])
def test_content_whose_block_is_not_known_any_more_is_found_by_gc(tmp_path: Path, lost: str) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": talk(90)[60:]}, address("gone"))
        put(saver, {"messages": talk(150)})
        put(saver, {"messages": talk(30)}, address("part"))
    sql(tmp_path, f"delete from ck_members {lost}")
    with saver_at(tmp_path) as saver:
        assert saver.verify()
        saver.delete_thread("gone")
        saver.gc()
        assert saver.verify() == []
        assert values(saver)["messages"] == talk(150)
        assert values(saver, address("part"))["messages"] == talk(30)


@pytest.mark.parametrize(
    "damage", ["update ck_elements set data=5", "update ck_meta set value='x' where name='primer'"]
)
def test_a_primer_that_makes_no_sense_stops_nobody_from_writing(tmp_path: Path, damage: str) -> None:
    with saver_at(tmp_path) as saver:
        tell(saver, 30)
    sql(tmp_path, damage)
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": talk(90)[40:]}, address("other"))
        assert values(saver, address("other"))["messages"] == talk(90)[40:]
