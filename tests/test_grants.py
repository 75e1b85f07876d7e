"""An approval is good for one call, once, and for nothing that differs from it in anything."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.approvals import Asked, Grants, Remembered, Row, canonical
from orchestrator.errors import UsageError
from orchestrator.storage import open_state

ASKED = Asked(
    run="r-1111",
    branch="r-1111",
    turn=1,
    step="s1",
    call="1.s1.1.0",
    agent="coder",
    tool="run_command",
    arguments=canonical({"command": "make deploy"}),
    policy="p1",
)
APPROVE = {"type": "approve"}


@pytest.fixture
def grants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Grants]:
    monkeypatch.setenv("ORC_DATA_DIR", str(tmp_path / "data"))
    connection = open_state(tmp_path)
    yield Grants(connection)
    connection.close()


def approved(grants: Grants, asked: Asked = ASKED) -> Row:
    return grants.decide(grants.ask(asked, {"args": {}}).id, APPROVE, "person")


def test_an_approval_is_used_once(grants: Grants) -> None:
    row = approved(grants)
    assert grants.ask(ASKED, {}).id == row.id
    assert grants.use([row])
    assert not grants.use([row])
    assert grants.ask(ASKED, {}).id != row.id, "used up, so the same call asks anew"


@pytest.mark.parametrize(
    "change",
    [
        {"arguments": canonical({"command": "make deploy "})},
        {"agent": "sysadmin"},
        {"tool": "run_python"},
        {"policy": "p2"},
        {"taint": 2},
        {"turn": 2},
        {"run": "r-2222"},
    ],
    ids=str,
)
def test_what_differs_in_anything_is_asked_anew_and_the_old_answer_is_void(
    grants: Grants, change: dict[str, Any]
) -> None:
    row = approved(grants)
    other = grants.ask(replace(ASKED, **change), {})
    assert other.is_open
    assert not grants.use([other])
    assert "changed" in grants.get(row.id).void
    assert not grants.use([row])


def test_an_approval_on_one_branch_is_none_on_another(grants: Grants) -> None:
    row = approved(grants)
    assert grants.ask(replace(ASKED, branch="r-1111.2"), {}).is_open
    assert grants.use([row])


def test_an_undecided_row_cannot_be_used(grants: Grants) -> None:
    assert not grants.use([grants.ask(ASKED, {})])


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, b"\xff\x00"])
@pytest.mark.parametrize("column", ["request", "decision"])
def test_a_damaged_row_is_void_and_the_call_is_asked_again(
    grants: Grants, column: str, text: str | bytes
) -> None:
    row = approved(grants)
    grants._connection.execute(f"update approvals set {column}=?", (text,))
    found = grants.get(row.id)
    assert (found.is_open, "damaged" in found.void) == (False, True)
    assert not grants.use([row])
    with pytest.raises(UsageError, match=r"is void: it is damaged in the state file"):
        grants.decide(row.id, APPROVE, "person")
    fresh = grants.ask(ASKED, {})
    assert (fresh.is_open, fresh.id == row.id) == (True, False)


def test_of_several_answers_all_are_used_or_none(grants: Grants) -> None:
    first, second = approved(grants), approved(grants, replace(ASKED, call="1.s1.1.1"))
    assert grants.use([second])
    assert not grants.use([first, second])
    assert grants.use([first])


def test_the_first_answer_stands(grants: Grants) -> None:
    row = grants.ask(ASKED, {})
    grants.decide(row.id, {"type": "reject", "message": "no"}, "person")
    with pytest.raises(UsageError, match="decided already \\(reject by person\\)"):
        grants.decide(row.id, APPROVE, "person")


@pytest.mark.parametrize(
    "change", [("decision", json.dumps(APPROVE)), ("digest", "0" * 64), ("by", "someone")]
)
def test_an_answer_that_someone_wrote_into_the_file_is_void(
    grants: Grants, change: tuple[str, str], tmp_path: Path
) -> None:
    row = grants.ask(ASKED, {})
    grants.decide(row.id, {"type": "reject", "message": ""}, "person")
    connection = open_state(tmp_path)
    connection.execute(f"update approvals set {change[0]}=?", (change[1],))
    connection.close()
    assert not grants.use([grants.get(row.id)])
    assert grants.ask(ASKED, {}).is_open


def test_a_state_file_of_another_user_approves_nothing(
    grants: Grants, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    row = approved(grants)
    monkeypatch.setenv("ORC_DATA_DIR", str(tmp_path / "of someone else"))
    assert not grants.use([row])
    assert grants.ask(ASKED, {}).is_open


def _use(root: str, start: Any, identifier: str, results: Any) -> None:
    connection = open_state(Path(root))
    grants = Grants(connection)
    row = grants.get(identifier)
    start.wait()
    results.put(grants.use([row]))
    connection.close()


def test_of_many_processes_one_gets_an_approval(grants: Grants, tmp_path: Path) -> None:
    row = approved(grants)
    spawn = multiprocessing.get_context("spawn")
    start, results = spawn.Barrier(4), spawn.Queue()
    processes = [spawn.Process(target=_use, args=(str(tmp_path), start, row.id, results)) for _ in range(4)]
    for process in processes:
        process.start()
    won = [results.get(timeout=50) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(won) == [False, False, False, True]


def test_what_is_remembered_covers_the_same_call_for_the_same_rule_here(
    tmp_path: Path, grants: Grants
) -> None:
    here, there = Remembered(tmp_path / "a"), Remembered(tmp_path / "b")
    arguments = {"command": "make deploy", "cwd": "."}
    assert here.list() == []
    rule = here.add("coder", "run_command", arguments, "shell.x")
    assert here.add("coder", "run_command", arguments, "shell.x") == rule
    assert here.covering("coder", "run_command", {"cwd": ".", "command": "make deploy"}, "shell.x") == rule
    assert here.covering("coder", "run_command", arguments, "shell.y") is None
    assert here.covering("sysadmin", "run_command", arguments, "shell.x") is None
    assert here.covering("coder", "run_command", {**arguments, "seconds": 1}, "shell.x") is None
    assert there.covering("coder", "run_command", arguments, "shell.x") is None
    with pytest.raises(UsageError, match=r"no remembered approval 9; did you mean 1\?"):
        here.forget(9)
    here.forget(rule.id)
    assert here.covering("coder", "run_command", arguments, "shell.x") is None
