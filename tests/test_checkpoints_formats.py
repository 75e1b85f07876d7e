"""Files of the format before go on; in the present one every bit that turns is found."""

from __future__ import annotations

import lzma
import random
from pathlib import Path
from typing import Any

import pytest
from checkpointing import address, chat, put, run_sql, say, steps, talk, values

from orchestrator.checkpoints import Checkpointer, store
from orchestrator.errors import StorageError

DATA = Path(__file__).parent / "data"
OLDER = {"second": 2, "third": 3}
"""Written by the last orc of that format (8423621, b4f930c): `t` with 14 turns, its `fork`, and `plain` with
40 puts."""


@pytest.fixture(params=OLDER)
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file = tmp_path / f"{request.param}.db"
    file.write_bytes(lzma.decompress((DATA / f"{request.param}_format.db.xz").read_bytes()))
    return file


def version(file: Path) -> int:
    found: int = run_sql(file, "select value from ck_meta where name='format'")[0][0]
    return found


def test_a_file_of_an_older_format_is_read_as_it_is(older: Path) -> None:
    with Checkpointer(older) as saver:
        assert saver.verify() == []
        assert len(values(saver)["messages"]) == 28
        assert [message.id for message in values(saver, address("fork"))["messages"]][-2] == "another way"
        assert values(saver, address("plain")) == {"messages": talk(40), "many": list(range(120))}
        assert next(one for one in steps(saver, "plain") if one[1]) == (39, [talk(39)[-1:], ["x" * 200]])
        assert saver.stats()["elements"] > 40
    assert version(older) == OLDER[older.stem]


def test_a_file_of_an_older_format_is_written_on_copied_and_pruned(older: Path) -> None:
    with Checkpointer(older) as saver:
        say(chat(saver), "and now?", "fork")
        before = values(saver, address("fork"))["messages"]
        put(saver, {"messages": talk(41)}, address("plain"))
        saver.copy_thread("plain", "copy")
        saver.copy_thread("fork", "copy")
        saver.prune(["plain", "fork"])
        saver.gc()
        assert saver.verify() == []
    assert version(older) == store.FORMAT
    with Checkpointer(older) as saver:
        assert saver.verify() == []
        assert values(saver, address("plain"))["messages"] == talk(41)
        assert values(saver, address("fork"))["messages"] == before
        assert (39, [talk(39)[-1:], ["x" * 200]]) in steps(saver, "copy")


def test_content_of_an_older_format_is_packed_together_by_gc(older: Path) -> None:
    with Checkpointer(older) as saver:
        before = len(run_sql(older, "select n from ck_elements where kind in (0, 1, 5)"))
        saver.gc()
        assert len(run_sql(older, "select n from ck_members")) > 30
        assert saver.verify() == []
        assert values(saver, address("plain"))["messages"] == talk(40)
        assert len(values(saver)["messages"]) == 28
        assert [message.id for message in values(saver, address("fork"))["messages"]][-2] == "another way"
        assert (39, [talk(39)[-1:], ["x" * 200]]) in steps(saver, "plain")
    assert len(run_sql(older, "select n from ck_elements where kind in (0, 1, 5)")) < before - 30


def turned(value: Any, rng: random.Random) -> Any:
    """The value with one bit turned."""
    if isinstance(value, int):
        return value ^ 1 << rng.randrange(6)
    at = rng.randrange(len(value) * 8)
    return value[: at // 8] + bytes((value[at // 8] ^ 1 << at % 8,)) + value[at // 8 + 1 :]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    file = tmp_path / "whole.db"
    with Checkpointer(file) as saver:
        config = address()
        for length in range(1, 13):
            config = put(saver, {"messages": talk(length), "plan": ["x" * 100]}, config, step=length)
            saver.put_writes(config, [("messages", talk(length)[-1:])], "task", "path")
    return file


@pytest.mark.parametrize("column", ["data", "rest", "tag", "kind", "space", "parent"])
def test_a_bit_that_turned_in_a_step_is_found(whole: Path, column: str) -> None:
    rng = random.Random(column)
    where = f"from ck_steps where {column} is not null"
    for seq, value in rng.sample(run_sql(whole, f"select seq, {column} {where}"), 10):
        run_sql(whole, f"update ck_steps set {column}=? where seq=?", turned(value, rng), seq)
        with Checkpointer(whole) as saver:
            assert saver.verify()
        run_sql(whole, f"update ck_steps set {column}=? where seq=?", value, seq)
    with Checkpointer(whole) as saver:
        assert saver.verify() == []


@pytest.mark.parametrize("column", ["data", "hash"])
def test_a_bit_that_turned_in_content_is_never_read_as_if_it_were_right(whole: Path, column: str) -> None:
    rng = random.Random(column)
    for number, value in run_sql(whole, f"select n, {column} from ck_elements"):
        run_sql(whole, f"update ck_elements set {column}=? where n=?", turned(value, rng), number)
        with Checkpointer(whole) as saver:
            try:
                assert values(saver)["messages"] == talk(12)
            except StorageError:
                assert saver.verify()
            if column == "hash":
                assert saver.verify()
        run_sql(whole, f"update ck_elements set {column}=? where n=?", value, number)


def test_a_file_that_became_newer_meanwhile_is_not_called_older_again(older: Path) -> None:
    with Checkpointer(older) as saver:
        run_sql(older, "update ck_meta set value=? where name='format'", store.FORMAT + 1)
        put(saver, {"messages": talk(41)}, address("plain"))
    assert version(older) == store.FORMAT + 1
