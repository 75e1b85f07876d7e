"""Is the journal as it was written, and what was decided in it: by whom, by which rule, with what result."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import StorageError
from orchestrator.events import Event, broken_links, events_since, read_events
from orchestrator.redaction import redact, secrets_of
from orchestrator.storage import FOLDER

KINDS = ("verdict", "approval", "tool_intent", "tool_result")
COLUMNS = (
    *("at", "run", "branch", "turn", "step", "agent", "call", "tool", "arguments"),
    *("decision", "rule", "why", "approval", "by", "user", "message", "result", "seconds"),
)
_STARTS = frozenset({"turn", "resume", "fork"})
"""Kinds that begin what a process writes: what the one before was about to mirror may be missing."""


@dataclass(frozen=True)
class Checked:
    """What an audit of one run found."""

    run: str
    events: int
    problems: tuple[str, ...]
    """The first one names the first broken row."""


def verify(connection: sqlite3.Connection, root: Path, run: str) -> Checked:
    """Walk the chain of a run's journal, and its mirror where there is one."""
    problems = broken_links(connection, run)
    try:
        events = read_events(connection, run)
    except StorageError as error:
        # One row that cannot be read must not keep the other runs from being looked at.
        count = connection.execute("select count(*) from events where run=?", (run,)).fetchone()[0]
        return Checked(run, count, (*problems, str(error)))
    return Checked(run, len(events), (*problems, *_mirror_problems(events, _logs(root, run))))


def _logs(root: Path, run: str) -> list[Path]:
    """The files of a run's log, the oldest first; a full one is numbered: `RUN.1.jsonl`."""
    found = {}
    for path in (root / FOLDER / "logs").glob(f"{run}*.jsonl"):
        if match := re.fullmatch(rf"{re.escape(run)}(?:\.(\d+))?\.jsonl", path.name):
            found[int(match[1] or 0)] = path
    return [found[age] for age in sorted(found, reverse=True)]


def lost_calls(connection: sqlite3.Connection, root: Path, run: str) -> list[str]:
    """Calls with effects that a run's log has after all that its journal has, such as `write_file a.txt`.

    A log of the database that was torn, or an older copy of it, takes them from the journal: what is asked
    next is then asked as if they had not been made.
    """
    last = connection.execute("select ifnull(max(at), 0) from events where run=?", (run,)).fetchone()[0]
    # Every resume asks this, so what cannot be the answer is not read, and not parsed.
    logs = [path for path in _logs(root, run) if path.stat().st_mtime > last - 1]
    found = []
    for line in (line for path in logs for line in _lines(path) if '"tool_intent"' in line):
        try:
            event = Event(**json.loads(line))
        except (ValueError, TypeError):
            continue
        # With the files before it: calls that only read have none.
        if event.kind == "tool_intent" and event.at > last and "before" in event.fields:
            first = next(iter(event.fields.get("arguments", {}).values()), "")
            found.append(f"{event.fields.get('tool', '')} {first}"[:100])
    return found


def _mirror_problems(events: list[Event], logs: list[Path]) -> Iterator[str]:
    """Where the log says something else than the journal.

    Its beginning may be gone, when it was full; a killed process may leave its last line torn or unwritten.
    Anything else was changed by someone.
    """
    known = {event.seq: event for event in events}
    seen: set[int] = set()
    lines = [(path.name, n, line) for path in logs for n, line in enumerate(_lines(path), 1)]
    for at, (name, number, line) in enumerate(lines, 1):
        try:
            said = json.loads(line)
            seq = int(said["seq"])
        except (ValueError, LookupError, TypeError):
            if at < len(lines):
                yield f"{name}:{number}: the line is torn"
            continue
        seen.add(seq)
        if seq not in known:
            yield f"{name}:{number}: event {seq} is not in the journal"
        elif said != json.loads(known[seq].model_dump_json()):
            yield f"{name}:{number}: event {seq} ({known[seq].kind}) is not what the journal has"
    begin = min(seen, default=0) if len(logs) > 1 else 0
    following = [*events[1:], None]
    for event, after in zip(events, following, strict=True):
        is_owed = bool(logs) and event.seq >= begin and after is not None and after.kind not in _STARTS
        if is_owed and event.seq not in seen:
            yield f"{logs[-1].name}: event {event.seq} ({event.kind}) is missing"


def _lines(path: Path) -> list[str]:
    # By the line end alone: a text may hold other characters that end lines.
    return [line for line in path.read_text("utf-8", "replace").split("\n") if line]


def decisions(connection: sqlite3.Connection, since: float, run: str = "") -> Iterator[dict[str, Any]]:
    """Every verdict since a time, with what a person said and what came of the call; secrets left out."""
    secrets = secrets_of(os.environ)
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for event in events_since(connection, since, KINDS):  # type: ignore[arg-type]
        if run and event.run != run:
            continue
        key = (event.run, event.branch, event.call)
        if event.kind == "verdict":
            if key in rows:
                yield _clean(rows[key], secrets)
            rows[key] = _begun(event)
        elif key in rows:
            rows[key] |= _more(event)
        elif event.kind == "approval":
            # No call, such as the start of a dear plan.
            yield _clean({**_begun(event), **_more(event)}, secrets)
    yield from (_clean(row, secrets) for row in sorted(rows.values(), key=lambda row: row["at"]))


def _begun(event: Event) -> dict[str, Any]:
    fields = event.fields
    return {
        **dict.fromkeys(COLUMNS, ""),
        **{name: getattr(event, name) for name in ("at", "run", "branch", "turn", "step", "agent", "call")},
        "tool": fields.get("tool", ""),
        "arguments": fields.get("arguments") or {},
        "decision": fields.get("decision", ""),
        "rule": fields.get("rule", ""),
        "why": fields.get("why", ""),
        "result": "did not run",
        "seconds": None,
    }


def _more(event: Event) -> dict[str, Any]:
    """What a later event adds to a decision."""
    fields = event.fields
    if event.kind == "approval":
        edited = (fields.get("edited_action") or {}).get("args")
        said = fields.get("message", "") or (json.dumps(edited, ensure_ascii=False) if edited else "")
        return {
            "approval": fields.get("type", ""),
            "by": fields.get("by", "person"),
            "user": fields.get("user", ""),
            "message": said,
        }
    if event.kind == "tool_intent":
        return {"arguments": fields.get("arguments", {}), "result": "began, and nobody knows how it ended"}
    return {
        "arguments": fields.get("arguments", {}),
        "result": fields.get("status", ""),
        "seconds": event.seconds,
    }


def _clean(row: dict[str, Any], secrets: Iterable[str]) -> dict[str, Any]:
    """The journal keeps no secret that was known then; take out those known now as well."""
    cleaned: dict[str, Any] = json.loads(redact(json.dumps(row, ensure_ascii=False), secrets))
    return cleaned
