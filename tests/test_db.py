"""Care of the state file: checks find damage, copies are whole, and what is removed was not needed."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from desk import Desk
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from scripted import Call, Reply, Say

from orchestrator.branches import Branch
from orchestrator.errors import StorageError
from orchestrator.runs import Runs
from orchestrator.storage import open_state, state_path


def write(name: str) -> list[Reply]:
    return [Call("write_file", path=name, content="1\n"), Say(f"wrote {name}")]


def sql(desk: Desk, statement: str, *values: object) -> None:
    connection = open_state(desk.root)
    connection.execute(statement, values)
    connection.close()


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def branches(desk: Desk, run: str) -> list[Branch]:
    connection = open_state(desk.root)
    try:
        return Runs(connection, desk.root).branches.of(run)
    finally:
        connection.close()


def worked(desk: Desk, name: str = "a") -> str:
    turn = desk.work(f"@coder write {name}", write(name))
    assert turn.outcome is not None
    return turn.outcome.run


def test_a_sound_file_is_said_to_be_sound(desk: Desk) -> None:
    run = worked(desk)
    desk.orc("fork", f"{run}@think")
    done = desk.orc("db", "verify")
    assert (done.code, done.out) == (0, ""), done.out
    assert "all sound" in done.err


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("update events set fields='{}' where kind='tool_result'", "was changed"),
        ("delete from events where kind='verdict'", "was changed, or one before it is missing"),
        ("delete from events where seq=(select max(seq) from events)", "at its end are missing"),
        ("update events set fields='{' where kind='exchange'", "is damaged"),
        ("update blobs set data=x'00'", "damaged"),
        ("delete from blobs", "is missing"),
        ("update ck_elements set data=x'00'", ""),
    ],
)
def test_damage_is_found(desk: Desk, statement: str, told: str) -> None:
    worked(desk)
    sql(desk, statement)
    done = desk.orc("db", "verify", "--json")
    assert done.code == 1
    problems = json.loads(done.out)["problems"]
    assert problems
    assert any(told in problem for problem in problems), problems
    assert "Traceback" not in done.err


def test_a_backup_is_whole_and_overwrites_nothing(desk: Desk, tmp_path: Path) -> None:
    run = worked(desk)
    copy = tmp_path / "copy.db"
    assert desk.orc("db", "backup", str(copy)).code == 0
    again = desk.orc("db", "backup", str(copy))
    assert again.code == 2
    assert "there already" in again.err
    for path in state_path(desk.root).parent.glob("state.db*"):
        path.unlink()
    copy.rename(state_path(desk.root))
    assert "wrote a" in desk.orc("runs", "show", run).out
    assert desk.orc("db", "verify").code == 0


def test_pruned_runs_are_gone_and_the_others_are_whole(desk: Desk) -> None:
    old = worked(desk)
    sql(desk, "update runs set updated=? where id=?", time.time() - 40 * 86_400, old)
    new = worked(desk, "b")
    listed = desk.orc("db", "prune", "--days", "30", "--dry-run")
    assert old in listed.out
    assert new not in listed.out
    assert desk.orc("db", "prune", "--days", "30").code == 0
    assert [run.id for run in desk.runs()] == [new]
    assert desk.orc("db", "gc").code == 0
    assert desk.orc("db", "verify").code == 0
    assert desk.orc("replay", new, "--check").code == 0
    assert not (desk.root / ".orc" / "logs" / f"{old}.jsonl").exists()


def test_a_run_that_can_go_on_is_never_pruned(desk: Desk) -> None:
    desk.work("@coder write a", write("a")[:1])
    assert desk.runs()[0].status == "stopped"
    sql(desk, "update runs set updated=1")
    assert desk.orc("db", "prune", "--days", "1").code == 0
    assert len(desk.runs()) == 1


def test_a_run_that_can_go_on_on_another_branch_is_never_pruned(desk: Desk) -> None:
    run = worked(desk)
    assert desk.orc("fork", f"{run}@think").code == 0
    assert desk.orc("switch", f"{run}/main").code == 0
    sql(desk, "update runs set updated=1")
    assert desk.orc("db", "prune", "--days", "1").code == 0
    assert len(desk.runs()) == 1
    assert desk.orc("branches", "rm", f"{run}/try-1").code == 0
    sql(desk, "update runs set updated=1")
    assert desk.orc("db", "prune", "--days", "1").code == 0
    assert desk.runs() == []


def test_a_file_without_a_table_is_a_clear_error(desk: Desk) -> None:
    run = worked(desk)
    sql(desk, "drop table branches")
    for request in ("@coder go on", None):
        turn = desk.work(request, [], run=run)
        assert isinstance(turn.error, StorageError)
        assert "no such table" in str(turn.error)


def test_retention_is_applied_once_a_day(desk: Desk) -> None:
    desk.settings({"retention": {"runs": 1}})
    first = worked(desk)
    with desk.model(write("b")):
        assert desk.orc("run", "@coder write b").code == 0
    assert [run.id for run in desk.runs() if run.id == first] == []
    with desk.model(write("c")):
        assert desk.orc("run", "@coder write c").code == 0
    assert len(desk.runs()) == 2
    yesterday = time.time() - 90_000
    os.utime(desk.root / ".orc" / "pruned", (yesterday, yesterday))
    with desk.model(write("d")):
        assert desk.orc("run", "@coder write d").code == 0
    assert len(desk.runs()) == 1


def test_a_removed_branch_frees_its_checkpoints_only(desk: Desk) -> None:
    run = worked(desk)
    desk.orc("fork", f"{run}@turn", "--name", "other")
    desk.work("@coder write b", [Call("write_file", path="b", content="2"), Say("wrote b")], run=run)
    desk.orc("switch", f"{run}/main")
    desk.orc("branches", "rm", f"{run}/other")
    before = json.loads(desk.orc("db", "stats", "--json").out)
    assert desk.orc("db", "gc").code == 0
    after = json.loads(desk.orc("db", "stats", "--json").out)
    assert after["checkpoints"] < before["checkpoints"]
    assert desk.orc("db", "verify").code == 0
    assert desk.orc("replay", run, "--check").code == 0


def test_conversations_go_to_a_file_of_sqlite_saver_and_back(desk: Desk, tmp_path: Path) -> None:
    worked(desk)
    target = tmp_path / "exported.db"
    assert desk.orc("db", "export", str(target)).code == 0
    other = tmp_path / "other"
    other.mkdir()
    desk.root = other
    assert desk.orc("db", "import", str(target)).code == 0
    assert [run.status for run in desk.runs()] == ["done"]
    turn = desk.work("@coder and now?", [Call("list_files"), Say("the same")], run=desk.runs()[0].id)
    assert turn.answer == "the same"
    assert len(turn.requests) == 2
    assert desk.runs()[0].turns == 2
    assert desk.orc("db", "verify").code == 0


def test_a_conversation_of_another_graph_goes_on_and_decides_nothing(desk: Desk, tmp_path: Path) -> None:
    def chat(state: dict[str, Any]) -> dict[str, Any]:
        return {"messages": [AIMessage("blue")], "turn": "last", "taint": 0, "route": "x", "results": [1]}

    class Chat(TypedDict, total=False):
        messages: Annotated[list[Any], add_messages]
        turn: str
        taint: int
        route: str
        results: list[int]

    graph: Any = StateGraph(Chat)
    graph.add_node("chat", chat)
    graph.add_edge(START, "chat")
    with SqliteSaver.from_conn_string(str(tmp_path / "chat.db")) as saver:
        said = {"messages": [HumanMessage("which colour?")]}
        graph.compile(checkpointer=saver).invoke(said, {"configurable": {"thread_id": "c-1"}})
    assert desk.orc("db", "import", str(tmp_path / "chat.db")).code == 0
    turn = desk.work("@coder and now?", [Call("list_files"), Say("blue")], run=desk.runs()[0].id)
    assert turn.answer == "blue"
    assert [event.fields.get("taint", {}).get("level") for event in desk.events("step")] == [2]


def test_a_file_that_is_none_of_ours_is_not_imported(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("no database", "utf-8")
    done = desk.orc("db", "import", str(tmp_path / "x.db"))
    assert done.code == 1
    assert "cannot be imported" in done.err


def test_what_an_earlier_orc_kept_in_the_file_is_taken_over(desk: Desk, tmp_path: Path) -> None:
    run = worked(desk)
    exported = tmp_path / "exported.db"
    assert desk.orc("db", "export", str(exported)).code == 0
    sql(desk, "delete from ck_threads")
    with sqlite3.connect(state_path(desk.root)) as connection:
        connection.execute("attach ? as old", (str(exported),))
        connection.execute("create table checkpoints as select * from old.checkpoints")
        connection.execute("create table writes as select * from old.writes")
    connection.close()
    turn = desk.work("@coder and now?", [Call("list_files"), Say("a is there")], run=run)
    assert turn.answer == "a is there"
    with sqlite3.connect(state_path(desk.root)) as connection:
        tables = {name for (name,) in connection.execute("select name from sqlite_master")}
    connection.close()
    assert not {"checkpoints", "writes"} & tables


def test_a_file_of_another_program_is_left_as_it_is(desk: Desk) -> None:
    path = state_path(desk.root)
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute("create table mine (a)")
    connection.close()
    before = path.read_bytes()
    done = desk.orc("runs", "list")
    assert done.code == 1
    assert "another program" in done.err
    assert path.read_bytes() == before


def test_nothing_is_collected_while_a_run_works(desk: Desk) -> None:
    run = worked(desk)
    connection = open_state(desk.root)
    with Runs(connection, desk.root).lock(run):
        done = desk.orc("db", "gc")
    connection.close()
    assert done.code == 2
    assert "being worked on" in done.err
    assert desk.orc("db", "gc").code == 0


@pytest.mark.parametrize(
    "statement", ["pragma user_version=99", "update ck_meta set value=99 where name='format'"]
)
def test_a_file_of_a_newer_orc_is_left_as_it_is(desk: Desk, statement: str) -> None:
    run = worked(desk)
    with sqlite3.connect(state_path(desk.root)) as connection:
        connection.execute(statement)
    connection.close()
    before = files(desk.root)
    for command in (["runs", "list"], ["run", "@coder write b"], ["undo"], ["fork", run], ["db", "gc"]):
        done = desk.orc(*command)
        assert (done.code, "update orc" in done.err) == (1, True), (command, done)
        assert files(desk.root) == before, command


@pytest.mark.parametrize("command", ["undo", "fork RUN@turn --files"])
def test_no_file_moves_where_the_conversation_cannot(desk: Desk, command: str) -> None:
    run = worked(desk)
    sql(desk, "drop table ck_steps")
    done = desk.orc(*command.replace("RUN", run).split())
    assert done.code == 1
    assert "it is damaged" in done.err
    assert desk.text("a") == "1\n"
    assert [branch.name for branch in branches(desk, run)] == ["main"]


@pytest.mark.parametrize(
    "statement",
    [
        "update events set kind='note' where kind='exchange'",
        "update events set fields='{' where kind='exchange'",
        "delete from events where kind='exchange'",
    ],
)
def test_nothing_is_freed_where_the_journal_is_damaged(desk: Desk, statement: str) -> None:
    run = worked(desk)
    desk.orc("fork", f"{run}@turn", "--name", "other")
    desk.orc("switch", f"{run}/main")
    desk.orc("branches", "rm", f"{run}/other")
    sql(desk, statement)
    before = json.loads(desk.orc("db", "stats", "--json").out)
    done = desk.orc("db", "gc")
    assert done.code == 1
    assert f"orc runs rm {run}" in done.err
    assert json.loads(desk.orc("db", "stats", "--json").out) == before
    assert desk.orc("runs", "rm", run).code == 0
    assert desk.orc("db", "gc").code == 0
    assert desk.orc("db", "verify").code == 0


def test_runs_are_removed_by_name_and_branches_are_not(desk: Desk) -> None:
    first, second = worked(desk), worked(desk, "b")
    desk.orc("fork", f"{first}@turn", "--name", "other")
    refused = desk.orc("runs", "rm", f"{first}/main")
    assert (refused.code, "orc branches rm" in refused.err) == (2, True)
    assert desk.orc("runs", "rm", second, "r-none").code == 2
    assert len(desk.runs()) == 2
    assert desk.orc("runs", "rm", first).code == 0
    assert [run.id for run in desk.runs()] == [second]
    assert desk.orc("db", "verify").code == 0
    assert not (desk.root / ".orc" / "logs" / f"{first}.jsonl").exists()
    assert desk.text("a") == "1\n"


def test_a_run_that_is_worked_on_is_not_removed(desk: Desk) -> None:
    run = worked(desk)
    connection = open_state(desk.root)
    with Runs(connection, desk.root).lock(run):
        done = desk.orc("runs", "rm", run)
    connection.close()
    assert (done.code, "being worked on" in done.err) == (2, True)
    assert len(desk.runs()) == 1


def test_an_export_that_fails_leaves_no_file(desk: Desk, tmp_path: Path) -> None:
    worked(desk)
    sql(desk, "update ck_steps set data=x'00'")
    done = desk.orc("db", "export", str(tmp_path / "x.db"))
    assert done.code == 1
    assert "damaged" in done.err
    assert not list(tmp_path.glob("x.db*"))


def test_care_of_the_file_is_told_in_json(desk: Desk, tmp_path: Path) -> None:
    run = worked(desk)
    told = [
        json.loads(desk.orc("db", *words.split(), "--json").out)
        for words in (
            f"backup {tmp_path}/copy.db",
            f"export {tmp_path}/other.db",
            "prune --days 0.0000001 --dry-run",
            "prune --days 0.0000001",
            "gc",
            f"import {tmp_path}/other.db",
        )
    ]
    backup, exported, would, did, freed, imported = told
    assert backup == {"file": f"{tmp_path}/copy.db", "bytes": (tmp_path / "copy.db").stat().st_size}
    assert (would, did) == ({"runs": [run], "dry_run": True}, {"runs": [run], "dry_run": False})
    assert freed["file_bytes"] > 0
    assert imported["checkpoints"] == exported["checkpoints"] > 0
