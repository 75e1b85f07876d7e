"""The events as files and as `orc logs`: rotated, published, followed while they come."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
from desk import ORC, PATIENCE, Desk, wait_for
from scripted import Call, Calls, Say, Stall

from orchestrator.documents import read_yaml, validate
from orchestrator.events import PAGE, Journal, Kind, Place, read_events, selected
from orchestrator.kinds import KINDS, schema
from orchestrator.mirror import Mirror, files_of
from orchestrator.settings import Logs, Settings
from orchestrator.storage import open_state, opened_state

SCRIPT = [
    Calls([Call("read_file", path="notes.txt"), Call("list_files")]),
    Call("run_command", command="echo hi > a.txt"),
    Say("a.txt says hi"),
]


@pytest.fixture
def worked(desk: Desk) -> Desk:
    desk.write("notes.txt", "alpha\n")
    assert desk.work("@coder say hi in a.txt", SCRIPT).answer == "a.txt says hi"
    return desk


def mirrored(root: Path, run: str) -> list[list[int]]:
    """Positions of the events in each file of a run."""
    files = files_of(root / ".orc" / "logs", run)
    return [[json.loads(line)["seq"] for line in file.read_text("utf-8").splitlines()] for file in files]


def written(root: Path, run: str, count: int, logs: Logs) -> sqlite3.Connection:
    connection = open_state(root)
    journal = Journal(connection, root, Place(run, 1), logs=logs)
    for number in range(count):
        journal.write("note", text=f"{number} " + "x" * 700)
    journal.close()
    return connection


def test_a_full_file_is_put_aside_and_so_many_are_kept(tmp_path: Path) -> None:
    connection = written(tmp_path, "r-1", 20, Logs(megabytes=0.003, files=3))
    files = sorted(mirrored(tmp_path, "r-1"))
    assert files == [[13, 14, 15], [16, 17, 18], [19, 20]]
    assert len(read_events(connection, "r-1")) == 20
    connection.close()


def test_the_files_of_the_oldest_runs_make_room(tmp_path: Path) -> None:
    for number in range(1, 5):
        written(tmp_path, f"r-{number}", 4, Logs(megabytes=0.001, files=5, runs=2)).close()
        for path in (tmp_path / ".orc" / "logs").glob(f"r-{number}.*"):
            os.utime(path, (number, number))
    left = {path.name.split(".")[0] for path in (tmp_path / ".orc" / "logs").iterdir()}
    assert left == {"r-3", "r-4"}


def test_a_file_that_another_run_removed_meanwhile_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "r-gone.jsonl").symlink_to("removed")
    mirror = Mirror(tmp_path, "r-new", Logs(runs=1))
    mirror.write("{}")
    mirror.close()
    assert (tmp_path / "r-new.jsonl").read_text("utf-8") == "{}\n"


def test_runs_with_alike_names_keep_their_own_files(tmp_path: Path) -> None:
    written(tmp_path, "r-1", 1, Logs()).close()
    written(tmp_path, "r-12", 1, Logs()).close()
    assert [path.name for path in files_of(tmp_path / ".orc" / "logs", "r-1")] == ["r-1.jsonl"]


def fits(value: Any, form: dict[str, Any], defs: dict[str, Any]) -> bool:
    """Whether a value has a form, as far as the published one uses JSON Schema."""
    if "$ref" in form:
        return fits(value, defs[form["$ref"].rsplit("/", 1)[1]], defs)
    if "anyOf" in form:
        return any(fits(value, each, defs) for each in form["anyOf"])
    if "enum" in form:
        return value in form["enum"]
    kinds: dict[str, Any] = {
        "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int,
        "number": (int, float),
    }  # fmt: skip
    if "type" in form and not isinstance(value, kinds[form["type"]]):
        return False
    if isinstance(value, list):
        return all(fits(each, form.get("items", {}), defs) for each in value)
    if isinstance(value, dict):
        known = form.get("properties", {})
        is_whole = set(form.get("required", ())) <= set(value)
        is_closed = form.get("additionalProperties") is not False or set(value) <= set(known)
        return is_whole and is_closed and all(fits(v, known.get(k, {}), defs) for k, v in value.items())
    return True


def test_every_line_has_the_published_form(worked: Desk) -> None:
    done = worked.orc("logs", "--json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["seq"] for line in lines] == [event.seq for event in worked.events()]
    published = json.loads(worked.orc("schema", "events").out)
    defs = published["$defs"]
    for line in lines:
        assert fits(line, {**published, "allOf": []}, defs), line
        rule = next(
            each for each in published["allOf"] if each["if"]["properties"]["kind"]["const"] == line["kind"]
        )
        assert fits(line["fields"], rule["then"]["properties"]["fields"], defs), line
    assert {
        "turn",
        "route",
        "plan",
        "model_call",
        "tool_intent",
        "tool_result",
        "verdict",
        "answer",
        "end",
    } <= {line["kind"] for line in lines}


def test_a_wrong_event_does_not_have_the_published_form() -> None:
    form = schema()
    rule = form["$defs"]["tool_result.fields"]
    right = {"tool": "t", "arguments": {}, "status": "ok", "text": ""}
    assert fits(right, rule, form["$defs"])
    for wrong in (
        {**right, "status": "fine"},
        {**right, "more": 1},
        {"tool": "t"},
        {**right, "arguments": []},
    ):
        assert not fits(wrong, rule, form["$defs"]), wrong


def test_every_kind_is_published() -> None:
    assert set(get_args(Kind)) == set(KINDS)


def test_events_are_picked_by_kind_agent_and_time(worked: Desk) -> None:
    shown = worked.orc("logs", "--kind", "tool_intent", "--kind", "answer")
    assert [line.split()[1] for line in shown.out.splitlines()] == ["tool_intent"] * 3 + ["answer"]
    assert "path=notes.txt" in shown.out
    assert "\x1b" not in shown.out
    assert worked.orc("logs", "--agent", "sysadmin").out == ""
    assert worked.orc("logs", "--since", "2100-01-01").out == ""
    wrong = worked.orc("logs", "--kind", "tool_results")
    assert (wrong.code, "tool_result" in wrong.err) == (2, True)


def test_a_run_is_followed_to_its_end_by_another_process(desk: Desk) -> None:
    script = [Call("run_command", command="touch marker"), Stall(3, Say("done"))]
    with desk.model(script):
        process = desk.start("run", "@coder touch it")
        wait_for(desk.root / "marker")
        followed = desk.orc("logs", "-f", "--json")
        process.communicate(timeout=PATIENCE)
    kinds = [json.loads(line)["kind"] for line in followed.out.splitlines()]
    assert (followed.code, kinds) == (0, [event.kind for event in desk.events()])
    assert kinds[-1] == "end"


def test_a_slow_reader_holds_no_transaction_open(worked: Desk) -> None:
    with opened_state(worked.root) as connection, opened_state(worked.root) as other:
        seen = selected(connection)
        next(seen)
        other.execute("update runs set title='new'")
        assert connection.execute("select title from runs").fetchone() == ("new",)
        assert other.execute("pragma wal_checkpoint(restart)").fetchone()[0] == 0
        assert [event.seq for event in selected(connection)][1:] == [event.seq for event in seen]


def test_all_pages_are_read_in_order(worked: Desk) -> None:
    with opened_state(worked.root) as connection:
        journal = Journal(connection, worked.root, Place(worked.runs()[0].id, 1))
        for number in range(2 * PAGE):
            journal.write("note", text=str(number))
        journal.close()
        found = [event.seq for event in selected(connection)]
        assert found == [seq for (seq,) in connection.execute("select seq from events order by seq")]


@pytest.mark.parametrize(
    ("where", "code", "said"),
    [
        ("> /dev/full", 1, "error: what was to be shown cannot be written"),
        (">&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
    ],
)
def test_an_output_that_cannot_be_written_is_told(worked: Desk, where: str, code: int, said: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{ORC} logs --json {where}"],
        cwd=worked.root,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert done.stderr.startswith(said)


def test_a_reader_that_goes_away_is_no_error(worked: Desk) -> None:
    command = f"{ORC} logs --json | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=worked.root,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert json.loads(done.stdout)["kind"] == "turn"
    assert "Traceback" not in done.stderr


def test_what_the_page_says_of_settings_is_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "logs.md").read_text("utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    for text in blocks:
        path = tmp_path / "file.yaml"
        path.write_text(text, "utf-8")
        validate(read_yaml(path), Settings)


def test_the_examples_of_the_page_run(worked: Desk) -> None:
    page = (Path(__file__).parents[1] / "docs" / "logs.md").read_text("utf-8")
    lines = [line.partition("#")[0].partition("|")[0].strip() for line in page.splitlines()]
    commands = [line.split()[1:] for line in lines if line.startswith("orc ")]
    assert len(commands) == 6
    run = worked.runs()[0].id
    for command in commands:
        words = [word.replace("r-7f3a/try-1", f"{run}/main").replace("r-7f3a", run) for word in command]
        done = worked.orc(*words)
        assert (done.code, bool(done.out)) == (0, "error" not in command), words
