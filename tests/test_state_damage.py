"""A damaged state folder: what can be said is said, what cannot be done changes nothing, nothing hangs."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from desk import Desk
from scripted import Call, Say

from orchestrator import storage
from orchestrator.errors import StorageError
from orchestrator.history import undoing
from orchestrator.runs import Runs
from orchestrator.storage import opened_state, state_path


def sql(root: Path, *statements: str) -> None:
    with opened_state(root) as connection:
        for statement in statements:
            connection.execute(statement)


def branched(desk: Desk) -> str:
    """A run with the branches main, try-1, and undo-1 which is current."""
    turn = desk.work("@coder write a", [Call("write_file", path="a", content="1\n"), Say("wrote a")])
    assert turn.outcome is not None
    run = turn.outcome.run
    desk.orc("fork", f"{run}@think")
    assert desk.work(None, [Say("wrote it")], run=run).answer == "wrote it"
    assert desk.orc("undo").code == 0
    assert not (desk.root / "a").exists()
    return run


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("update branches set parent=id where parent<>''", "stands on itself"),
        ("delete from branches where name='main'", "is missing"),
        ("update runs set branch='nowhere'", "has lost its branch"),
    ],
)
def test_lost_branches_are_told_by_all_that_need_them(desk: Desk, statement: str, told: str) -> None:
    run = branched(desk)
    sql(desk.root, statement)
    for command in (
        ["runs", "show", run],
        ["fork", run],
        ["diff", run, run],
        ["db", "verify"],
        ["redo", run],
    ):
        done = desk.orc(*command)
        assert (done.code, told in done.err + done.out) == (1, True), (command, done)
    assert not (desk.root / "a").exists()


@pytest.mark.parametrize("name", ["locks", "logs"])
def test_a_turn_that_cannot_start_is_none(desk: Desk, name: str) -> None:
    run = branched(desk)
    folder = desk.root / ".orc" / name
    shutil.rmtree(folder)
    folder.write_text("in the way", "utf-8")
    with desk.model([Say("never asked")]) as model:
        done = desk.orc("run", "-c", run, "@coder go on")
    assert (done.code, str(folder) in done.err, model.requests) == (1, True, [])
    assert "Traceback" not in done.err
    folder.unlink()
    [found] = desk.runs()
    assert (found.turns, found.status) == (0, "done")
    assert desk.work("@coder look", [Call("list_files"), Say("seen")], run=run).answer == "seen"


def test_calls_that_an_older_copy_does_not_know_are_named(desk: Desk, tmp_path: Path) -> None:
    desk.work("@coder write a", [Call("write_file", path="a", content="1\n")])
    run = desk.runs()[0].id
    assert desk.orc("db", "backup", str(tmp_path / "copy.db")).code == 0
    odd = Call("write_file", path="b\x1b[2J", content="1\n")
    desk.work(None, [odd, Call("list_files")], run=run)
    for path in state_path(desk.root).parent.glob("state.db*"):
        path.unlink()
    (tmp_path / "copy.db").rename(state_path(desk.root))
    log = state_path(desk.root).parent / "logs" / f"{run}.jsonl"
    log.rename(log.with_name(f"{run}.1.jsonl"))  # full, and put aside
    with desk.model([]):
        refused = desk.orc("resume")
    assert refused.code == 2
    assert "may now be made again:\n  write_file b\\x1b[2J\n" in refused.err
    assert f"`orc resume {run} --despite-loss`" in refused.err
    with desk.model([Say("wrote a")]):
        done = desk.orc("resume", "--despite-loss")
    assert (done.code, done.out) == (0, "wrote a\n")
    assert "may now be made again" in done.err
    with desk.model([Call("list_files"), Say("seen")]):
        assert "made again" not in desk.orc("run", "-c", run, "@coder look").err


@pytest.mark.parametrize("command", ["undo", "undo --files", "fork RUN@turn --files", "redo"])
def test_what_cannot_be_journalled_moves_no_file(desk: Desk, command: str) -> None:
    run = branched(desk)
    if command != "redo":
        desk.orc("redo")
    there = (desk.root / "a").exists()
    folder = desk.root / ".orc" / "logs"
    shutil.rmtree(folder)
    folder.write_text("in the way", "utf-8")
    done = desk.orc(*command.replace("RUN", run).split())
    assert (done.code, "cannot write the log" in done.err) == (1, True)
    assert (desk.root / "a").exists() == there


def move(root: Path, run: str, command: str) -> None:
    with opened_state(root) as connection:
        runs = Runs(connection, root)
        with runs.held(run) as held:
            if command == "redo":
                undoing.redo(root, runs, held)
            else:
                undoing.undo(root, runs, undoing.target(runs, held), "files")


@pytest.mark.parametrize("command", ["undo --files", "redo"])
def test_a_file_that_is_held_moves_no_file(desk: Desk, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "WAIT_SECONDS", 0.05)
    run = branched(desk)
    if command != "redo":
        desk.orc("redo")
    there = (desk.root / "a").exists()
    with closing(sqlite3.connect(state_path(desk.root), isolation_level=None)) as holder:
        holder.execute("begin immediate")
        with pytest.raises(StorageError, match="locked"):
            move(desk.root, run, command)
    assert (desk.root / "a").exists() == there


def test_undo_without_snapshots_says_what_still_works(desk: Desk) -> None:
    run = branched(desk)
    desk.work("@coder write b", [Call("write_file", path="b", content="1\n"), Say("wrote b")], run=run)
    shutil.rmtree(desk.root / ".orc" / "snapshots")
    lost = desk.orc("db", "verify")
    assert (lost.code, "snapshots of the files are missing" in lost.out) == (1, True)
    done = desk.orc("undo")
    assert (done.code, "orc undo --chat" in done.err) == (1, True)
    assert desk.text("b") == "1\n"
    assert desk.runs()[0].turns == 1
    assert "is missing" in desk.orc("db", "verify").out
    assert desk.orc("undo", "--chat").code == 0
    assert desk.runs()[0].turns == 0


def test_the_tree_shows_what_stands_on_an_undone_branch(desk: Desk) -> None:
    run = branched(desk)
    assert desk.orc("fork", run, "--name", "later").code == 0
    assert desk.orc("switch", f"{run}/undo-1").code == 0
    assert desk.orc("redo").code == 0
    tree = desk.orc("branches", "list", run).out
    assert "later" in tree
    assert "undo-1" not in tree


def test_retention_that_fails_is_a_note(desk: Desk) -> None:
    desk.settings({"retention": {"runs": 1}})
    branched(desk)
    (desk.root / ".orc" / "pruned").symlink_to("nowhere/pruned")
    with desk.model([Call("list_files"), Say("seen")]):
        done = desk.orc("run", "@coder look")
    assert (done.code, done.out) == (0, "seen\n")
    assert "old runs were not removed" in done.err


def test_a_copy_of_a_damaged_file_is_not_taken_for_a_backup(desk: Desk, tmp_path: Path) -> None:
    branched(desk)
    with closing(sqlite3.connect(state_path(desk.root))) as connection:
        connection.execute("pragma writable_schema=1")
        index = "CREATE INDEX idx_steps_run_branch_number on steps (node, branch, number)"
        connection.execute("update sqlite_master set sql=? where name like 'idx_steps%'", (index,))
        connection.commit()
    target = tmp_path / "copy.db"
    done = desk.orc("db", "backup", str(target))
    assert (done.code, "orc db verify" in done.err) == (1, True), done
    assert not target.exists()
    assert "the file is damaged" in desk.orc("db", "verify").out


def test_rows_and_tables_that_cannot_be_read_are_told_by_all_commands(desk: Desk) -> None:
    run = branched(desk)
    sql(desk.root, "update events set fields=cast(x'ff00' as text) where kind='tool_result'")
    main = f"{run}/main"
    commands = (["runs", "show", main], ["diff", main, run], ["audit", "export"])
    shown = [desk.orc(*words) for words in commands]
    verified = desk.orc("db", "verify")
    assert [done.code for done in (*shown, verified)] == [1] * 4
    assert all("it is damaged" in done.err for done in shown), shown
    assert "not decode" in verified.out
    sql(desk.root, "drop table spending", "drop table breakers")
    for words in (["cost"], ["doctor"]):
        done = desk.orc(*words)
        assert (done.code, "Traceback" in done.err) == (1, False), (words, done)
