"""Strict replay: recorded model answers and tool results drive today's code, and nothing else happens.

It works in a folder of its own that holds the files as they were: no network, no tool, no change to the
workspace, no trace in its state file. Agent files, prompts, policy and code are those of today.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from orchestrator.branches import Lineage, Seen
from orchestrator.context import Context
from orchestrator.errors import OrcError, StorageError, UsageError
from orchestrator.events import Event, Journal, Place, kept, scope
from orchestrator.history.comparing import events_of
from orchestrator.history.points import Point
from orchestrator.history.recorded import Diverged, Recorded, RecordEnds, turns_of
from orchestrator.llm.base import ChatModel
from orchestrator.redaction import redact, secrets_of, writable
from orchestrator.runs import Runs
from orchestrator.settings import ModelSettings, Tier
from orchestrator.snapshots import Snapshots
from orchestrator.storage import open_state
from orchestrator.workspace.loading import Loaded, load

THEN, NOW = "recorded", "replay"
"""Branches of the replay's own state file: what was recorded, and what is replayed on top of it."""


@dataclass(frozen=True)
class Report:
    """How a strict replay went."""

    point: str
    turns: int
    checked: int
    """Recorded decisions, calls and model answers that today's code did again."""
    diverged: Diverged | None
    notes: tuple[str, ...] = ()


async def replay_strictly(root: Path, runs: Runs, point: Point) -> Report:
    """Replay a branch up to a point; raises UsageError when it has nothing to replay."""
    secrets = secrets_of(os.environ)
    recorded = turns_of(
        events_of(runs, point),
        runs.branches.steps(point.branch),
        lambda digest: kept(runs.connection, digest),
        lambda text: writable(redact(text, secrets)),
    )
    if not recorded:
        raise UsageError(f"{point.name} holds no turn that could be replayed")
    if older := next((turn.turn for turn in recorded if not turn.is_whole), 0):
        raise UsageError(
            f"turn {older} of {point.name} was recorded by an older orc, which did not keep what models "
            f"answered; `orc runs show {point.run.name}` shows it, it cannot be checked"
        )
    loaded = load(root)
    diverged: Diverged | None = None
    with tempfile.TemporaryDirectory(prefix="orc-replay-") as folder:
        stage = Stage(root, Path(folder), point.run.id, loaded)
        try:
            await stage.play(recorded)
        except Diverged as found:
            diverged = found
        finally:
            stage.close()
    return Report(
        point.name, len(recorded), sum(turn.checked for turn in recorded), diverged, tuple(stage.notes)
    )


class Stage:
    """The folder, the state file and the graph that a replay runs on."""

    def __init__(self, root: Path, folder: Path, run: str, loaded: Loaded) -> None:
        from orchestrator.checkpoints import Checkpointer  # noqa: PLC0415 - langgraph takes seconds
        from orchestrator.workspace import assembly  # noqa: PLC0415

        self.folder, self.run, self.root, self.loaded = folder, run, root, loaded
        self.connection = open_state(folder)
        self.saver = Checkpointer(":memory:")
        self.graph = assembly.graph(root, loaded.agents, self.saver)
        self.snapshots = Snapshots(root)
        self.notes: list[str] = []
        self.laid_out: str | None = None

    def close(self) -> None:
        """Close what was opened; the folder belongs to the caller."""
        self.saver.close()
        self.connection.close()

    async def play(self, turns: list[Recorded]) -> None:
        """Replay turns one after the other; raises Diverged."""
        for turn in turns:
            self._lay_out(turn)
            _believe(self.connection, self.folder, self.run, turn.events)
            try:
                await self._turn(turn)
            except RecordEnds:
                continue
            turn.finish()

    async def _turn(self, turn: Recorded) -> None:
        lineage: Lineage = (Seen(NOW), Seen(THEN))
        journal = Journal(
            self.connection,
            self.folder,
            Place(self.run, turn.turn, lineage),
            listeners=[turn.check, lambda _: self._lay_out(turn)],
        )
        try:
            await self._drive(turn, self._context(turn, journal))
        except StorageError:
            raise
        except OrcError as error:
            _same_end(turn, error)
        finally:
            journal.close()

    def _lay_out(self, turn: Recorded) -> None:
        """Bring the files to where they were when what comes next in the record began."""
        snapshot = turn.files()
        if snapshot == self.laid_out:
            return
        self.laid_out = snapshot
        try:
            if not snapshot:
                raise StorageError("they were not kept")
            self.snapshots.lay_out(snapshot, self.folder)
        except StorageError as error:
            self.notes.append(f"turn {turn.turn}: its files are not at hand ({error}), so prompts may differ")

    def _context(self, turn: Recorded, journal: Journal) -> Context:
        from orchestrator.workspace import assembly  # noqa: PLC0415

        context = assembly.context(replace(self.loaded, root=self.folder), journal)
        tools = {name: replace(tool, run=_never(name)) for name, tool in context.tools.items()}
        policy = replace(context.policy, root=self.root)
        return replace(context, model=_models(turn), tools=tools, policy=policy, snapshots=None)

    async def _drive(self, turn: Recorded, context: Context) -> None:
        from langgraph.types import Command  # noqa: PLC0415

        from orchestrator.state import first_input  # noqa: PLC0415

        config = {"configurable": {"thread_id": NOW}, "recursion_limit": 100_000}
        step: Any = first_input(turn.request, turn.turn)
        while True:
            end = await self.graph.ainvoke(step, config, context=context, durability="sync")
            waiting = end.get("__interrupt__")
            if not waiting:
                return
            asked: Mapping[str, Any] = waiting[0].value
            requests = asked["action_requests"]
            decisions = turn.decisions(asked["step"], [request.get("call", "") for request in requests])
            identifiers = [request.get("id") for request in requests]
            step = Command(resume={waiting[0].id: {"decisions": decisions, "ids": identifiers}})


def _believe(connection: sqlite3.Connection, folder: Path, run: str, events: list[Event]) -> None:
    """Put what was found out then where the nodes look for it: results of calls, and facts of files."""
    found = [event for event in events if event.kind in {"tool_result", "facts"}]
    if found:
        journal = Journal(connection, folder, Place(run, found[0].turn, (Seen(THEN),)))
        for event in found:
            journal.write(event.kind, call=event.call, **event.fields)
        journal.close()


def _never(name: str) -> Callable[[Any, Any], Awaitable[str]]:
    async def run(_arguments: Any, _context: Any) -> NoReturn:
        raise Diverged("tools", f"{name} was about to run, which has no recorded result")

    return run


def _models(turn: Recorded) -> Callable[[Tier], Awaitable[ChatModel]]:
    """Open models as they were set then, with recorded answers instead of a network."""
    from orchestrator.llm.chat import open_model  # noqa: PLC0415
    from orchestrator.llm.faults import Patience  # noqa: PLC0415
    from orchestrator.llm.wire import Served, Wire  # noqa: PLC0415

    settings = {
        str(event.fields["tier"]): ModelSettings(**event.fields["settings"])
        for event in turn.events
        if event.kind == "model"
    }
    wire = Wire(served=Served(lambda path, body: turn.answer(scope(), path, body)))
    opened: dict[str, ChatModel] = {}

    async def model(tier: Tier) -> ChatModel:
        if tier not in settings:
            if not turn.has_ended:
                raise RecordEnds
            raise Diverged(f"turn {turn.turn}", f"the {tier} model is used, which was not used then")
        if tier not in opened:
            opened[tier] = await open_model(settings[tier], patience=Patience(sleep=_at_once), wire=wire)
        return opened[tier]

    return model


async def _at_once(_seconds: float) -> None:
    await asyncio.sleep(0)


def _same_end(turn: Recorded, error: OrcError) -> None:
    """Take an error for the end that was recorded, or raise Diverged."""
    before = [event for event in turn.events if event.kind in {"error", "end"}]
    if any(event.kind == "error" and event.fields["text"] == str(error) for event in before):
        return
    raise Diverged(f"turn {turn.turn}", "it ends with an error", [f"+ {error}"])
