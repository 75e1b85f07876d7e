"""A file that cannot be used is a clear message; nothing is lost, and the next call works again."""

from __future__ import annotations

import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import ormsgpack
import pytest
from checkpointing import address, put, run_sql, saver_at, steps, talk, values
from langchain_core.messages import HumanMessage

from orchestrator.checkpoints import Checkpointer, heads, store
from orchestrator.checkpoints.elements import Hasher
from orchestrator.errors import StorageError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A closed file with a conversation of twenty checkpoints."""
    with saver_at(tmp_path) as saver:
        config = None
        for step in range(20):
            config = put(saver, {"messages": talk(step + 1)}, config, step=step)
    return tmp_path / "checkpoints.db"


def test_a_file_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.db"
    run_sql(theirs, "create table theirs(x)")
    before = theirs.read_bytes()
    with pytest.raises(StorageError, match="another program"):
        Checkpointer(theirs)
    assert theirs.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.db"]


def test_what_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database at all " * 100)
    with pytest.raises(StorageError, match="not a database"):
        Checkpointer(tmp_path / "text")
    assert (tmp_path / "text").read_text() == "no database at all " * 100


def test_a_newer_format_asks_for_an_update(file: Path) -> None:
    run_sql(file, "update ck_meta set value=? where name='format'", store.FORMAT + 1)
    with pytest.raises(StorageError, match="update orc"):
        Checkpointer(file)


def test_a_file_that_is_held_fails_and_works_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "WAIT_SECONDS", 0.05)
    holder = sqlite3.connect(file, isolation_level=None)
    with Checkpointer(file) as saver:
        holder.execute("begin immediate")
        with pytest.raises(StorageError, match="another program holds the file"):
            put(saver, {"n": 1})
        assert len(steps(saver)) == 20
        holder.execute("rollback")
        put(saver, {"n": 2})
        assert values(saver) == {"n": 2}
        assert len(steps(saver)) == 21
    holder.close()


def test_a_full_disk_loses_nothing_and_works_again(file: Path) -> None:
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = HumanMessage("".join(map(chr, range(0x4E00, 0x9000))) * 20, id="large")
    try:
        with Checkpointer(file) as saver:
            put(saver, {"messages": talk(20)}, step=20)
            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, most))
            with pytest.raises(StorageError, match="free some disk space"):
                put(saver, {"messages": [large]})
            assert values(saver)["messages"] == talk(20)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            put(saver, {"messages": [large]})
            assert values(saver)["messages"] == [large]
            assert saver.verify() == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("cut", [1, 100, 3000])
def test_a_torn_log_costs_the_last_commit_at_most(tmp_path: Path, cut: int) -> None:
    with saver_at(tmp_path) as saver:
        for step in range(9):
            put(saver, {"messages": talk(step + 1)}, step=step)
        for ending in ("", "-wal"):
            shutil.copy(tmp_path / f"checkpoints.db{ending}", tmp_path / f"torn.db{ending}")
    log = tmp_path / "torn.db-wal"
    log.write_bytes(log.read_bytes()[:-cut])
    with Checkpointer(tmp_path / "torn.db") as saver:
        assert steps(saver)[0][0] == 7
        assert values(saver)["messages"] == talk(8)
        assert saver.verify() == []


@pytest.mark.parametrize(
    "damage",
    [
        "update ck_elements set data=x'00ff' where n=(select max(n) from ck_elements where kind<3)",
        "update ck_elements set hash=x'00' where n=(select max(n) from ck_elements where kind<3)",
        "update ck_elements set kind=2",
        "update ck_elements set kind=3",
        "delete from ck_elements where n=(select max(n) from ck_elements where kind<3)",
        "update ck_steps set data=x'0102'",
        "update ck_steps set data='text'",
        "update ck_steps set rest=5",
        "delete from ck_steps where seq=19",
        "update ck_threads set parent=n, upto=3",
        "delete from ck_meta",
    ],
)
def test_a_damaged_row_is_a_clear_message(file: Path, damage: str) -> None:
    run_sql(file, damage)
    with pytest.raises(StorageError), Checkpointer(file) as saver:
        values(saver)
    if "ck_meta" not in damage and "ck_threads" not in damage:
        with Checkpointer(file) as saver:
            assert saver.verify()


@pytest.mark.parametrize("code", range(7))
def test_a_forged_row_runs_nothing(file: Path, tmp_path: Path, code: int) -> None:
    marker = tmp_path / "forged"
    call = ormsgpack.packb(["os", "system", f"touch {marker}", "system"])
    evil = b"\0" + ormsgpack.packb(ormsgpack.Ext(code, call))
    connection = sqlite3.connect(file)
    hasher = Hasher(connection.execute("select value from ck_meta where name='key'").fetchone()[0])
    connection.execute("update ck_elements set kind=0, data=?, hash=?", (evil, hasher(evil)))
    kept = ormsgpack.packb({"channel_versions": {}, "evil": ormsgpack.Ext(code, call)})
    plain = heads.record(("msgpack", kept), ("msgpack", b"\x80"), {"inline": evil, "element": 1})
    for (seq,) in connection.execute("select seq from ck_steps").fetchall():
        connection.execute(
            "update ck_steps set data=? where seq=?", (heads.shrink(plain, seq, 1, None)[0], seq)
        )
    connection.commit()
    connection.close()
    with Checkpointer(file) as saver:
        with pytest.raises(StorageError, match="damaged"):
            values(saver)
        with pytest.raises(StorageError, match="damaged"):
            list(saver.list(None))
    assert not marker.exists()


@pytest.mark.parametrize("place", ["text", None, [0, 7], [1, [1]], [9, 1], [0, [[1]]], 10**9, {"a": 1}])
def test_a_record_of_another_shape_is_a_clear_message(file: Path, place: object) -> None:
    connection = sqlite3.connect(file)
    kept = ormsgpack.packb({"v": 4, "ts": "", "channel_versions": {}, "versions_seen": {}})
    plain = heads.record(("msgpack", kept), ("msgpack", b"\x80"), {"messages": place})
    for (seq,) in connection.execute("select seq from ck_steps where kind<>1").fetchall():
        connection.execute(
            "update ck_steps set data=? where seq=?", (heads.shrink(plain, seq, 1, None)[0], seq)
        )
    connection.commit()
    connection.close()
    with Checkpointer(file) as saver:
        with pytest.raises(StorageError, match="damaged"):
            values(saver)
        assert saver.verify()


def test_a_ctrl_c_at_any_moment_leaves_nothing_locked(tmp_path: Path) -> None:
    program = Path(__file__).with_name("interrupted.py")
    command = [sys.executable, str(program), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert int(done.stdout) > 100


def test_a_ctrl_c_right_after_a_thread_was_deleted_loses_nothing_written_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"n": 1})

        def interrupted(epoch: int) -> None:
            monkeypatch.undo()
            raise KeyboardInterrupt

        monkeypatch.setattr(saver._memory, "forget", interrupted)
        with pytest.raises(KeyboardInterrupt):
            saver.delete_thread("t")
        assert saver.get_tuple(address()) is None
        put(saver, {"n": 2})
        assert values(saver) == {"n": 2}
        assert saver.verify() == []
