"""Keep the files around a call that may write, so that it can be undone.

A call is not held up by a snapshot that fails: it is noted once, and the call then counts as not undoable.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.messages.tool import ToolCall

from orchestrator.context import Context
from orchestrator.errors import StorageError
from orchestrator.events import Event
from orchestrator.snapshots.history import history_mark
from orchestrator.state import Verdict
from orchestrator.tools.base import Tool


@dataclass
class Keeping:
    """The snapshots before and after one call; none for a call that only reads."""

    tool: Tool
    call: ToolCall
    verdict: Verdict
    context: Context
    _before: str = field(default="", init=False)
    _history: tuple[str, ...] | None = field(default=None, init=False)

    async def before(self) -> dict[str, Any]:
        """What the journal notes with the intent."""
        if self.tool.effects.is_read_only or self.verdict["read_only"]:
            return {}
        self._before = await self._taken()
        if self.tool.effects.executes:
            self._history = await asyncio.to_thread(history_mark, self.context.root)
        return {"before": self._before, "outside": self._reaches_outside()}

    async def cut_off(self, intent: Event) -> dict[str, Any]:
        """What the journal notes of a call that began in a process that is gone."""
        noted: dict[str, Any] = {
            name: intent.fields[name] for name in ("before", "outside") if name in intent.fields
        }
        self._before = str(noted.get("before", ""))
        noted |= await self.after()
        if noted.get("before") and noted.get("after"):
            with suppress(StorageError):
                noted |= await asyncio.to_thread(self._later, noted["before"], noted["after"])
        return noted

    def _later(self, before: str, after: str) -> dict[str, Any]:
        """The paths that somebody else changed before the run went on."""
        snapshots = self.context.snapshots
        resumed = [event for event in self.context.journal.of_turn() if event.kind == "resume"]
        alive = resumed[-1].fields.get("alive") if resumed else None
        if snapshots is None or not alive:
            return {}
        paths = snapshots.changed_after(before, after, alive)
        return {"later": paths} if paths else {}

    async def after(self) -> dict[str, Any]:
        """What the journal notes with the result."""
        noted: dict[str, Any] = {"after": await self._taken()} if self._before else {}
        if self._history is not None:
            now = await asyncio.to_thread(history_mark, self.context.root)
            noted |= {"history": True} if now != self._history else {}
        return noted

    async def _taken(self) -> str:
        """The id of a snapshot; empty where none could be taken."""
        if self.context.snapshots is None:
            return ""
        paths = [Path(str(self.call["args"].get(name, ""))) for name in self.tool.effects.paths]
        try:
            taken = await asyncio.to_thread(self.context.snapshots.take, paths)
        except StorageError as error:
            self.context.journal.note_once(f"this cannot be undone: {error}")
            return ""
        for note in taken.notes:
            self.context.journal.note_once(f"not kept for undo: {note}")
        return taken.id

    def _reaches_outside(self) -> bool:
        """Whether the call may change something that is no file of the workspace."""
        effects, sandbox = self.tool.effects, self.context.tool_context.sandbox
        is_loose = effects.executes and not sandbox.is_confining
        network = effects.network or bool(self.verdict.get("hosts"))
        return is_loose or not self.verdict["inside"] or (network and effects.writes)


async def keep_files(context: Context) -> None:
    """Keep the files as a turn finds them, at its start and when it goes on: a replay needs them."""
    if context.snapshots is None:
        return
    known = [_left_by(event) for event in context.journal.of_turn()]
    with suppress(StorageError):
        taken = await asyncio.to_thread(context.snapshots.take)
        if taken.id != next(filter(None, reversed(known)), ""):
            context.journal.write("snapshot", id=taken.id, left_out=list(taken.notes))


def _left_by(event: Event) -> str:
    """The snapshot that an event speaks of, if it does."""
    name = {"snapshot": "id", "tool_result": "after"}.get(event.kind, "")
    return str(event.fields.get(name, ""))
