"""The journal: one append-only stream of events that terminal, JSONL, resume and evals all read.

A row survives the death of the process as soon as `write` returns, and a loss of power too where it
says what was about to be done to the world. The rows of a run are chained by hash: a changed, missing
or added one is found by `broken_links`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from orchestrator.branches import Lineage, Seen, seen_events
from orchestrator.errors import StorageError
from orchestrator.mirror import Mirror
from orchestrator.redaction import redact, secrets_of, unsecret, writable
from orchestrator.settings import Logs
from orchestrator.storage import FOLDER, commits

Kind = Literal[
    "turn",
    "route",
    "plan",
    "step",
    "model_call",
    "partial",
    "tool_intent",
    "tool_result",
    "verdict",
    "facts",
    "approval",
    "nudge",
    "retry",
    "budget",
    "breaker",
    "compaction",
    "note",
    "text",
    "answer",
    "end",
    "error",
    "model",
    "exchange",
    "resume",
    "snapshot",
    "served",
    "taint",
    "network",
    "fork",
    "undo",
    "redo",
]
DURABLE = frozenset({"turn", "approval", "tool_intent", "tool_result", "answer", "end", "undo", "redo"})
"""Kinds that are forced to the disk (fsync) before `write` returns, and all rows before them."""


class Event(BaseModel):
    """One thing that happened in a run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    seq: int = 0
    """Position in the file; 0 when it is shown only and not stored."""
    at: float
    """Seconds since the epoch."""
    run: str
    branch: str = ""
    """Id of the branch that it happened on."""
    turn: int
    node: str = ""
    """The graph node that was running, such as `think`."""
    step: str = ""
    agent: str = ""
    kind: Kind
    call: str = ""
    """Id of the tool call that it belongs to."""
    seconds: float | None = None
    fields: dict[str, Any] = {}
    """What this kind carries; plain JSON values."""


Listener = Callable[[Event], None]

_SCOPE: ContextVar[dict[str, str]] = ContextVar("scope", default={})  # noqa: B039 - never changed in place

_COLUMNS = "seq, at, run, branch, turn, node, step, agent, kind, call, seconds, fields, version"
_STORED = _COLUMNS.removeprefix("seq, ")
_NAMES = tuple(_COLUMNS.split(", "))
_PLAIN = frozenset({str, int, float, bool, type(None)})


def scope() -> dict[str, str]:
    """Node, step and agent that the events of this task belong to."""
    return dict(_SCOPE.get())


@dataclass(frozen=True)
class Place:
    """Where in the tree of a run a journal writes."""

    run: str
    turn: int
    lineage: Lineage = ()
    """What it sees; by default the run's first branch alone."""

    @property
    def seen(self) -> Lineage:
        """The lineage, never empty."""
        return self.lineage or (Seen(self.run),)


@dataclass
class Marks:
    """Where the journal of a run stands; kept in memory, since a run has one writer."""

    seq: int = 0
    hash: str = ""
    step: int = 0
    tasks: set[str] = field(default_factory=set)
    """Graph tasks that have their step already: a node that asks a person starts twice."""


class Journal:
    """Writes the events of one turn of one run, and the steps that one can fork at."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        root: Path,
        place: Place,
        *,
        listeners: Iterable[Listener] = (),
        logs: Logs | None = None,
    ) -> None:
        self.run, self.turn = place.run, place.turn
        self.place = place
        self.branch = place.seen[0].branch
        self.position: Callable[[], int] = lambda: 0
        """The moment of the branch's checkpoints; set by whoever opens them."""
        self.connection = self._connection = connection
        self._listeners = list(listeners)
        self._secrets = secrets_of(os.environ)
        self._kept: set[str] = set()
        self._said: set[str] = set()
        self._marks = _marks(connection, place)
        folder = root / FOLDER / "logs"
        try:
            self._mirror = Mirror(folder, self.run, logs or Logs())
        except OSError as error:
            raise StorageError(f"cannot write the log in {folder}: {error}") from None

    def enter(
        self, node: str, *, step: str = "", agent: str = "", task: str = "", seq: int | None = None
    ) -> None:
        """Say what the events of this task belong to, from here on; LangGraph runs each node as a task.

        `task` is the node's checkpoint namespace: with it the moment becomes a step of the run, which
        sees the events up to `seq`, by default all that there are.
        """
        _SCOPE.set({"node": node, "step": step, "agent": agent})
        if not task or task in self._marks.tasks:
            return
        self._marks.tasks.add(task)
        self._marks.step += 1
        row = (self.run, self.branch, self._marks.step, time.time(), self.turn, node, step, agent, task)
        try:
            commits(self._connection, "normal")
            self._connection.execute(
                "insert into steps (run, branch, number, at, turn, node, step, agent, task, position, seq)"
                " values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, self.position(), self._marks.seq if seq is None else seq),
            )
        except sqlite3.Error as error:
            raise self._refused(error) from None

    def write(self, kind: Kind, *, call: str = "", seconds: float | None = None, **fields: Any) -> Event:
        """Store one event, mirror it, tell the listeners; raises StorageError when the disk refuses."""
        node, step, agent = (_SCOPE.get().get(name, "") for name in ("node", "step", "agent"))
        fields = self.plain(fields)
        text = json.dumps(fields, ensure_ascii=False)
        row = (time.time(), self.run, self.branch, self.turn, node, step, agent, kind, call, seconds, text, 1)
        link = chained(self._marks.hash, row)
        try:
            commits(self._connection, "full" if kind in DURABLE else "normal")
            seq = self._connection.execute(
                f"insert into events ({_STORED}, hash) values ({', '.join('?' * 13)})",  # noqa: S608
                (*row, link),
            ).lastrowid
            stored: dict[str, Any] = dict(zip(_NAMES, (seq, *row[:-2], fields, 1), strict=True))
            event = Event(**stored)
            self._marks.seq, self._marks.hash = event.seq, link
            self._mirror.write(event.model_dump_json())
        except (sqlite3.Error, OSError) as error:
            raise self._refused(error) from None
        self._tell(event)
        return event

    def show(self, kind: Kind, **fields: Any) -> None:
        """Tell the listeners something that is not worth storing, such as a piece of streamed text."""
        fields = {key: writable(value) if isinstance(value, str) else value for key, value in fields.items()}
        self._tell(
            Event(at=time.time(), run=self.run, turn=self.turn, kind=kind, fields=fields, **_SCOPE.get())  # type: ignore[arg-type]
        )

    def note_once(self, text: str) -> None:
        """Store a note for the person, unless it was said in this turn and process already."""
        if text not in self._said:
            self._said.add(text)
            self.write("note", text=text)

    def of_call(self, call: str, kind: Kind) -> Event | None:
        """The last event of a kind that belongs to a tool call, as far as this branch sees."""
        condition, values = seen_events(self.place.seen)
        row = self._connection.execute(
            f"select {_COLUMNS} from events where run=? and call=? and kind=? and {condition}"  # noqa: S608
            " order by seq desc limit 1",
            (self.run, call, kind, *values),
        ).fetchone()
        return _event(row) if row else None

    def of_turn(self) -> list[Event]:
        """All events of this turn, oldest first."""
        return seen_by(self._connection, self.run, self.place.seen, self.turn)

    def is_same(self, recorded: Any, value: Any) -> bool:
        """Whether a value is what was recorded, secrets aside."""
        return bool(self.plain({"value": value})["value"] == recorded)

    def keep(self, text: str) -> str:
        """Store a long text once, without its secrets; returns its digest, for `kept`."""
        data = writable(redact(text, self._secrets)).encode()
        digest = hashlib.sha256(data).hexdigest()[:32]
        if digest not in self._kept:
            try:
                commits(self._connection, "normal")
                self._connection.execute(
                    "insert or ignore into blobs (digest, data) values (?, ?)", (digest, zlib.compress(data))
                )
            except sqlite3.Error as error:
                raise self._refused(error) from None
            self._kept.add(digest)
        return digest

    def close(self) -> None:
        """Close the mirror and note where the chain ends; the connection belongs to the caller."""
        self._mirror.close()
        with suppress(sqlite3.Error):
            self._connection.execute("update runs set head=? where id=?", (self._marks.hash, self.run))

    def plain(self, fields: dict[str, Any]) -> Any:
        """Fields as plain JSON values without secrets."""
        if _PLAIN.issuperset(map(type, fields.values())):
            return unsecret(fields, self._secrets)
        return unsecret(json.loads(json.dumps(fields, default=str)), self._secrets)

    def _refused(self, error: Exception) -> StorageError:
        return StorageError(
            f"cannot write the journal of {self.run}: {error}; "
            f"free some space or close the other program, then `orc resume {self.run}`"
        )

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)


def _marks(connection: sqlite3.Connection, place: Place) -> Marks:
    """Where the journal of a run stands now."""
    seq, link = connection.execute(
        "select seq, hash from events where run=? order by seq desc limit 1", (place.run,)
    ).fetchone() or (0, "")
    number = 0
    tasks: set[str] = set()
    for part in place.seen:
        last = connection.execute(
            "select max(number) from steps where run=? and branch=? and number < ifnull(?, 1e18)",
            (place.run, part.branch, part.before),
        ).fetchone()[0]
        number = max(number, last or 0)
        tasks |= {
            task
            for (task,) in connection.execute(
                "select task from steps where run=? and branch=? and turn=? and number < ifnull(?, 1e18)",
                (place.run, part.branch, place.turn, part.before),
            )
        }
    return Marks(seq, link or "", number, tasks)


def read_events(connection: sqlite3.Connection, run: str) -> list[Event]:
    """The stored events of a run, all its branches together, oldest first."""
    rows = connection.execute(f"select {_COLUMNS} from events where run=? order by seq", (run,))  # noqa: S608
    return [_event(row) for row in rows]


def seen_by(
    connection: sqlite3.Connection, run: str, lineage: Lineage, turn: int | None = None
) -> list[Event]:
    """The stored events that a branch sees, of one turn or of all, oldest first."""
    condition, values = seen_events(lineage)
    of_turn = "" if turn is None else " and turn=?"
    rows = connection.execute(
        f"select {_COLUMNS} from events where run=?{of_turn} and {condition} order by seq",  # noqa: S608
        (run, *([] if turn is None else [turn]), *values),
    )
    return [_event(row) for row in rows]


PAGE = 100
"""Events that are read at once: a slow reader holds no transaction open, so the file's log stays short."""


def selected(
    connection: sqlite3.Connection, run: str = "", lineage: Lineage = (), *, after: int = 0
) -> Iterator[Event]:
    """Stored events behind a position in the file, one by one: of a branch, or of all runs without one."""
    condition, values = seen_events(lineage) if lineage else ("1", [])
    where, named = ("seq>? and run=?", [run]) if run else ("seq>?", [])
    query = f"select {_COLUMNS} from events where {where} and {condition} order by seq limit {PAGE}"  # noqa: S608
    while rows := connection.execute(query, (after, *named, *values)).fetchall():
        yield from map(_event, rows)
        after = rows[-1][0]


def kept(connection: sqlite3.Connection, digest: str) -> str:
    """A text that `Journal.keep` stored; raises StorageError when it is not what was stored."""
    row = connection.execute("select data from blobs where digest=?", (digest,)).fetchone()
    try:
        data = zlib.decompress(row[0]) if row else b""
    except zlib.error:
        data = b""
    if hashlib.sha256(data).hexdigest()[:32] != digest:
        raise StorageError(
            f"a recorded text ({digest}) is missing or damaged; `orc db verify` finds what else is"
        )
    return data.decode()


def chained(before: str, row: tuple[Any, ...]) -> str:
    """The hash of a row and of all rows of its run before it."""
    text = json.dumps([before, *row], ensure_ascii=False, separators=(",", ":"), default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def broken_links(connection: sqlite3.Connection, run: str) -> list[str]:
    """What is wrong with the chain of a run's events; empty when nothing was changed, added or taken out.

    Rows written before chaining was introduced have no hash and are not covered.
    """
    before, found, known = "", [], set()
    # Read first: a run that works meanwhile moves it on.
    head = connection.execute("select head from runs where id=?", (run,)).fetchone()
    rows = connection.execute(f"select hash, {_COLUMNS} from events where run=? order by seq", (run,))  # noqa: S608
    for link, seq, *row in rows:
        if link is None:
            continue
        if chained(before, tuple(row)) != link:
            found.append(f"{run}: event {seq} ({row[7]}) was changed, or one before it is missing")
        before = link
        known.add(link)
    if head and head[0] and head[0] not in known:
        found.append(f"{run}: events at its end are missing")
    return found


def events_since(connection: sqlite3.Connection, since: float, kinds: tuple[Kind, ...]) -> list[Event]:
    """The stored events of some kinds, of all runs, since a time in seconds since the epoch, oldest first."""
    marks = ", ".join("?" * len(kinds))
    rows = connection.execute(
        f"select {_COLUMNS} from events where at>=? and kind in ({marks}) order by seq",  # noqa: S608
        (since, *kinds),
    )
    return [_event(row) for row in rows]


def _event(row: tuple[Any, ...]) -> Event:
    values = dict(zip(_NAMES, row, strict=True))
    try:
        return Event(**{**values, "branch": values["branch"] or "", "fields": json.loads(values["fields"])})
    except (ValueError, TypeError):
        raise StorageError(
            f"event {values['seq']} of {values['run']} is damaged; `orc db verify` finds what else is: "
            f"restore a backup or remove the run, `orc runs rm {values['run']}`"
        ) from None
