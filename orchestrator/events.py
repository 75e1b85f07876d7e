"""The journal: one append-only stream of events that terminal, JSONL, resume and evals all read.

A row is on disk (fsync) before `write` returns, so a call's intent is known even after a crash.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from orchestrator.errors import StorageError
from orchestrator.storage import FOLDER

Kind = Literal[
    "turn",
    "route",
    "plan",
    "step",
    "model_call",
    "tool_intent",
    "tool_result",
    "verdict",
    "approval",
    "nudge",
    "retry",
    "note",
    "text",
    "answer",
    "end",
    "error",
]


class Event(BaseModel):
    """One thing that happened in a run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    seq: int = 0
    """Position in the file; 0 when it is shown only and not stored."""
    at: float
    """Seconds since the epoch."""
    run: str
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

_COLUMNS = "seq, at, run, turn, node, step, agent, kind, call, seconds, fields, version"
_SECRET_NAME = re.compile(r"(?i)(key|token|secret|passw|credential)")
_SECRET_SHAPE = re.compile(r"\b(sk-[\w-]{16,}|gh[pousr]_\w{20,}|AKIA[0-9A-Z]{16}|xox[abpr]-[\w-]{10,})")


def secrets_of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Values of the environment that must never be written down."""
    found = {v for k, v in environment.items() if _SECRET_NAME.search(k) and len(v) >= 8}
    return tuple(sorted(found, key=len, reverse=True))


def redact(text: str, secrets: Iterable[str]) -> str:
    """Replace known secrets, and what is shaped like one, by a mark."""
    for secret in secrets:
        text = text.replace(secret, "[redacted]")
    return _SECRET_SHAPE.sub("[redacted]", text)


def writable(text: str) -> str:
    """Replace halves of a surrogate pair, which models do write, by `?`: no file takes them."""
    return text.encode("utf-8", "replace").decode("utf-8")


class Journal:
    """Writes the events of one turn of one run."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        root: Path,
        *,
        run: str,
        turn: int,
        listeners: Iterable[Listener] = (),
    ) -> None:
        self.run = run
        self.turn = turn
        self._connection = connection
        self._listeners = list(listeners)
        self._secrets = secrets_of(os.environ)
        logs = root / FOLDER / "logs"
        try:
            logs.mkdir(parents=True, exist_ok=True)
            self._mirror = (logs / f"{run}.jsonl").open("a", encoding="utf-8")
        except OSError as error:
            raise StorageError(f"cannot write the log in {logs}: {error.strerror}") from None

    @staticmethod
    def enter(node: str, *, step: str = "", agent: str = "") -> None:
        """Name what the events of this task belong to, from here on; LangGraph runs each node as a task."""
        _SCOPE.set({"node": node, "step": step, "agent": agent})

    def write(self, kind: Kind, *, call: str = "", seconds: float | None = None, **fields: Any) -> Event:
        """Store one event, mirror it, tell the listeners; raises StorageError when the disk refuses."""
        node, step, agent = (_SCOPE.get().get(name, "") for name in ("node", "step", "agent"))
        text = writable(redact(json.dumps(fields, ensure_ascii=False, default=str), self._secrets))
        at = time.time()
        row = (at, self.run, self.turn, node, step, agent, kind, call, seconds, text, 1)
        try:
            seq = self._connection.execute(
                f"insert into events ({_COLUMNS[5:]}) values ({', '.join('?' * 11)})",  # noqa: S608
                row,
            ).lastrowid
            event = _event((seq, *row))
            self._mirror.write(event.model_dump_json() + "\n")
            self._mirror.flush()
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"cannot write the journal of {self.run}: {error}; "
                f"free some space or close the other program, then `orc resume {self.run}`"
            ) from None
        self._tell(event)
        return event

    def show(self, kind: Kind, **fields: Any) -> None:
        """Tell the listeners something that is not worth storing, such as a piece of streamed text."""
        fields = {key: writable(value) if isinstance(value, str) else value for key, value in fields.items()}
        self._tell(
            Event(at=time.time(), run=self.run, turn=self.turn, kind=kind, fields=fields, **_SCOPE.get())  # type: ignore[arg-type]
        )

    def of_call(self, call: str, kind: Kind) -> Event | None:
        """The last event of a kind that belongs to a tool call of this run."""
        row = self._connection.execute(
            f"select {_COLUMNS} from events where run=? and call=? and kind=? order by seq desc limit 1",  # noqa: S608
            (self.run, call, kind),
        ).fetchone()
        return _event(row) if row else None

    def of_turn(self) -> list[Event]:
        """All events of this turn, oldest first."""
        return read_events(self._connection, self.run, turn=self.turn)

    def close(self) -> None:
        """Close the mirror; the connection belongs to the caller."""
        self._mirror.close()

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)


def read_events(connection: sqlite3.Connection, run: str, *, turn: int | None = None) -> list[Event]:
    """The stored events of a run, oldest first."""
    where, arguments = ("run=?", (run,)) if turn is None else ("run=? and turn=?", (run, turn))
    rows = connection.execute(
        f"select {_COLUMNS} from events where {where} order by seq",  # noqa: S608
        arguments,
    )
    return [_event(row) for row in rows]


def _event(row: tuple[Any, ...]) -> Event:
    names = _COLUMNS.split(", ")
    values = dict(zip(names, row, strict=True))
    return Event(**{**values, "fields": json.loads(values["fields"])})
