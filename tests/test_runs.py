"""The state file: many processes, damage, foreign files, and what a forged row may do."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import ormsgpack
import pytest
from desk import KEY, ORC, Desk
from scripted import Call, Say

from orchestrator.branches import Seen
from orchestrator.checkpoints import heads, saver_of
from orchestrator.errors import StorageError, UsageError
from orchestrator.events import seen_by
from orchestrator.runs import Runs
from orchestrator.storage import MIGRATIONS, open_state, state_path

LISTS = [Call("list_files"), Say("nothing here")]


def test_a_file_that_is_no_database_is_named(desk: Desk) -> None:
    desk.write(".orc/state.db", "these are not the records you are looking for\n" * 100)
    done = desk.orc("run", "@coder list")
    assert (done.code, done.out) == (1, "")
    assert "state.db" in done.err
    assert "not a state file of orc" in done.err
    assert "Traceback" not in done.err


def test_a_newer_format_asks_for_a_newer_orc(desk: Desk) -> None:
    open_state(desk.root).execute("pragma user_version=99")
    error = desk.work("@coder list", []).error
    assert isinstance(error, StorageError)
    assert "format 99" in str(error)


def test_listing_makes_no_file(desk: Desk) -> None:
    done = desk.orc("runs", "list")
    assert done.code == 0
    assert "no runs here yet" in done.err
    assert not (desk.root / ".orc").exists()


def test_list_and_show_tell_what_was_done(desk: Desk) -> None:
    desk.work("@coder what is here?", LISTS)
    run = desk.runs()[0]
    listed = desk.orc("runs", "list", "--json")
    assert json.loads(listed.out)["id"] == run.id
    shown = desk.orc("runs", "show", run.id.removeprefix("r-"))
    assert "list_files" in shown.out
    assert "nothing here" in shown.out
    assert shown.err == ""


def test_the_mirror_has_every_stored_event(desk: Desk) -> None:
    desk.work("@coder what is here?", LISTS)
    lines = (desk.root / ".orc" / "logs" / f"{desk.runs()[0].id}.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [event.model_dump(mode="json") for event in desk.events()]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB, where one can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    # Lazily: what a failed test left open must not keep the next ones from being cleaned up.
    subprocess.run(["umount", "-l", str(place)], capture_output=True, check=True)


def test_a_full_disk_is_a_clear_message_and_loses_nothing(desk: Desk, small_disk: Path) -> None:
    desk.root = small_disk
    desk.work("@coder what is here?", LISTS)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    error = desk.work("@coder what is here?", LISTS).error
    assert isinstance(error, StorageError), error
    assert "free some" in str(error)
    filler.unlink()
    assert desk.work("@coder what is here?", LISTS).answer == "nothing here"
    assert "nothing here" in desk.orc("runs", "show", desk.runs()[0].id).out


def test_a_read_only_folder_is_a_clear_message(desk: Desk, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    desk.root = small_disk
    error = desk.work("@coder list", []).error
    assert isinstance(error, StorageError)
    assert "check that the folder is writable" in str(error)


def test_a_forged_checkpoint_runs_nothing_and_is_named(desk: Desk) -> None:
    first = desk.work("@coder list", LISTS)
    assert first.outcome is not None
    marker = desk.root / "forged"
    call = ormsgpack.packb(["os", "system", f"touch {marker}"])
    evil = {f"x{code}": b"\0" + ormsgpack.packb(ormsgpack.Ext(code, call)) for code in range(6)}
    kept = ormsgpack.packb({"v": 4, "ts": "", "channel_versions": {}, "versions_seen": {}})
    plain = heads.record(("msgpack", kept), ("msgpack", ormsgpack.packb({"source": "loop", "step": 1})), evil)
    connection = sqlite3.connect(state_path(desk.root))
    for (seq,) in connection.execute("select seq from ck_steps where kind=0").fetchall():
        row, _ = heads.shrink(plain, seq, 1, None)
        connection.execute("update ck_steps set data=? where seq=?", (row, seq))
    connection.commit()
    connection.close()
    turn = desk.work("@coder list", LISTS, run=first.outcome.run)
    assert isinstance(turn.error, StorageError)
    assert "os.system" in str(turn.error)
    assert desk.orc("db", "verify").code == 1
    assert not marker.exists()


def test_two_runs_of_one_workspace_go_on_side_by_side(desk: Desk) -> None:
    first = open_state(desk.root)
    second = open_state(desk.root)
    one, two = Runs(first, desk.root).create("one"), Runs(second, desk.root).create("two")
    with Runs(first, desk.root).lock(one.id), Runs(second, desk.root).lock(two.id):
        assert {run.title for run in Runs(first, desk.root).list()} == {"one", "two"}
        with pytest.raises(UsageError, match="another process"), Runs(second, desk.root).lock(one.id):
            pass
    first.close()
    second.close()


def test_a_file_of_the_first_format_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as old:
        old.setattr("orchestrator.storage.MIGRATIONS", MIGRATIONS[:1])
        connection = open_state(tmp_path)
        connection.execute("insert into runs values ('r-1', 1, 2, 'old', 'stopped', 3, 'coder', 1, '', 'x')")
        row = (7, 1.0, "r-1", 3, "", "", "", "note", "", None, "{}", 1)
        connection.execute(f"insert into events values ({', '.join('?' * 12)})", row)
        connection.close()
    connection = open_state(tmp_path)
    run = Runs(connection, tmp_path).get("r-1")
    assert (run.status, run.turns, run.approves, run.reason) == ("stopped", 3, True, "x")
    assert run.branch_name == "main"
    assert [event.kind for event in seen_by(connection, "r-1", (Seen("r-1"),))] == ["note"]
    connection.close()


class Late(Runs):
    """Gets its lock after somebody else did something."""

    @contextlib.contextmanager
    def lock(self, identifier: str) -> Iterator[None]:
        self.connection.execute("update branches set turns=7, status='running' where id=?", (identifier,))
        with super().lock(identifier):
            yield


def test_a_run_that_is_held_is_seen_as_it_is_by_then(desk: Desk) -> None:
    connection = open_state(desk.root)
    runs = Late(connection, desk.root)
    made = runs.create("count")
    with runs.held(made.id) as run:
        assert (run.turns, run.status) == (7, "cut off")
    with pytest.raises(UsageError, match="did you mean"), runs.held(f"{made.id}0"):
        pass
    connection.close()


def test_a_secret_in_a_result_is_kept_nowhere(desk: Desk) -> None:
    desk.write("notes", f"the key is {KEY}\n")
    script = [Call("read_file", path="notes"), Call("run_command", command="cat notes"), Say("a key")]
    turn = desk.work("@coder what is in notes?", script)
    assert turn.answer == "a key"
    assert KEY not in json.dumps([request["messages"] for request in turn.requests])
    with saver_of(desk.root) as saver:
        assert KEY not in repr(list(saver.list(None)))
    assert not any(
        KEY.encode() in path.read_bytes() for path in state_path(desk.root).parent.glob("state.db*")
    )


def test_any_command_works_as_if_started_in_another_folder(desk: Desk, tmp_path: Path) -> None:
    desk.work("@coder hello", [Say("hello")])
    (tmp_path / "elsewhere").mkdir()

    def orc(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ORC, "-C", *arguments], cwd=tmp_path / "elsewhere", capture_output=True, text=True, check=False
        )

    listed = orc(str(desk.root), "runs", "list", "--json")
    assert json.loads(listed.stdout)["id"] == desk.runs()[0].id
    assert orc(".", "runs", "list").stdout == ""
    for wrong in ("missing", str(desk.write("a file", ""))):
        assert orc(wrong, "runs", "list").returncode == 2


def test_others_cannot_read_what_a_workspace_keeps(desk: Desk) -> None:
    desk.work("@coder hello", [Say("hello")])
    assert (desk.root / ".orc").stat().st_mode & 0o777 == 0o700
