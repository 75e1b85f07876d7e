"""The journal is found as it was written, or the first changed row is named; decisions can be taken out."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from desk import Desk
from scripted import Call, Calls, Say

from orchestrator.storage import open_state

KEY = "sk-abcdefghijklmnop1234567890"


APPROVE = {"type": "approve"}


def worked(desk: Desk, decision: dict[str, Any] = APPROVE) -> str:
    """A run with a call that was allowed, one denied and one that a person decided; returns its id."""
    calls = Calls([
        Call("write_file", path="a.txt", content=f"=1+1 {KEY}"),
        Call("run_command", command="rm -rf /etc"),
        Call("run_command", command="git push --force || true"),
    ])
    said = {"decisions": [decision]}
    turn = desk.work("@coder write and push", [calls, Say("done")], approver=lambda _payload: said)
    assert turn.outcome is not None
    return turn.outcome.run


def change(desk: Desk, statement: str, *values: Any) -> None:
    connection = open_state(desk.root)
    connection.execute(statement, values)
    connection.close()


def mirror(desk: Desk, run: str) -> Path:
    return desk.root / ".orc" / "logs" / f"{run}.jsonl"


def test_a_journal_that_nobody_touched_is_as_it_was_written(desk: Desk) -> None:
    run = worked(desk)
    done = desk.orc("audit", "verify")
    assert (done.code, done.out) == (0, "")
    assert "1 runs" in done.err
    one = json.loads(desk.orc("audit", "verify", run, "--json").out)
    assert (one["run"], one["ok"], one["first"]) == (run, True, None)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (
            "update events set fields=replace(fields, 'deny', 'allow') where kind='verdict'",
            "(verdict) was changed",
        ),
        ("update events set agent='someone' where kind='approval'", "(approval) was changed"),
        ("delete from events where kind='tool_intent'", "or one before it is missing"),
        ("delete from events where kind='end'", "events at its end are missing"),
        ("update events set fields='{' where kind='verdict'", "(verdict) was changed"),
        ("update events set fields=x'ff00' where kind='verdict'", "(verdict) was changed"),
        ("update events set hash=x'ff' where kind='verdict'", "(verdict) was changed"),
    ],
)
def test_the_first_row_that_someone_changed_is_named(desk: Desk, statement: str, says: str) -> None:
    run = worked(desk)
    change(desk, statement)
    done = desk.orc("audit", "verify")
    assert done.code == 1
    assert done.out.startswith(f"{run}: event")
    assert says in done.out.splitlines()[0]
    shown = json.loads(desk.orc("audit", "verify", "--json").out)
    assert shown["ok"] is False
    assert says in shown["first"]


def test_a_row_that_cannot_be_read_keeps_no_other_run_from_being_verified(desk: Desk) -> None:
    first, second = worked(desk), worked(desk)
    change(desk, "update events set fields='[' where run=? and kind='verdict'", first)
    done = desk.orc("audit", "verify", "--json")
    shown = {row["run"]: row for row in map(json.loads, done.out.splitlines())}
    assert (done.code, shown[first]["ok"], shown[second]["ok"]) == (1, False, True)
    assert "is damaged" in shown[first]["problems"][-1]
    assert desk.orc("audit", "export", "--run", first).code == 1


def test_a_changed_and_a_missing_line_of_the_log_are_named(desk: Desk) -> None:
    run = worked(desk)
    lines = mirror(desk, run).read_text("utf-8").splitlines()
    number = next(at for at, line in enumerate(lines) if '"kind":"verdict"' in line)
    changed = [line.replace('"deny"', '"allow"') for line in lines]
    mirror(desk, run).write_text("\n".join(changed) + "\n", "utf-8")
    done = desk.orc("audit", "verify")
    assert (done.code, "is not what the journal has" in done.out) == (1, True)
    mirror(desk, run).write_text("\n".join(lines[:number] + lines[number + 1 :]) + "\n", "utf-8")
    done = desk.orc("audit", "verify")
    assert (done.code, "(verdict) is missing" in done.out) == (1, True)


def test_what_a_kill_leaves_of_the_log_is_no_forgery(desk: Desk) -> None:
    run = worked(desk)
    text = mirror(desk, run).read_text("utf-8")
    mirror(desk, run).write_text(text[:-40], "utf-8")
    assert desk.orc("audit", "verify").code == 0
    mirror(desk, run).unlink()
    assert desk.orc("audit", "verify").code == 0


def test_every_decision_is_exported_with_rule_approval_and_result(desk: Desk) -> None:
    run = worked(desk)
    done = desk.orc("audit", "export", "--json", "--since", "1d")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [(row["tool"], row["decision"], row["result"]) for row in rows] == [
        ("write_file", "allow", "ok"),
        ("run_command", "deny", "did not run"),
        ("run_command", "ask", "ok"),
    ]
    assert all((row["run"], row["agent"]) == (run, "coder") for row in rows)
    assert (rows[2]["approval"], rows[2]["by"].split(" ")[0]) == ("approve", "person")
    assert rows[1]["arguments"] == {"command": "rm -rf /etc"}
    assert rows[1]["rule"]
    assert KEY not in done.out


def test_a_sheet_has_a_line_for_each_decision_and_runs_no_formula(desk: Desk) -> None:
    run = worked(desk, {"type": "reject", "message": "=1+1"})
    target = desk.root / "decisions.csv"
    assert desk.orc("audit", "export", "--run", run, "--format", "csv", "-o", str(target)).code == 0
    rows = list(csv.DictReader(io.StringIO(target.read_text("utf-8"))))
    assert len(rows) == 3
    assert rows[2]["message"] == "'=1+1"
    assert desk.orc("audit", "export", "-o", str(target)).code == 2
    assert desk.orc("audit", "export", "--run", "r-none").code == 2
    assert desk.orc("audit", "export", "--since", "yesterday").code == 2
