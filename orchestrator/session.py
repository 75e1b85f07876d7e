"""Run a turn of a conversation: the one door that the command, evals and programs go through.

A session opens what the nodes need (state file, models, policy, sandbox), drives the main graph
until it ends or waits, and records how it ended. It prints nothing; listeners get the events.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.branches import Status
from orchestrator.cancel import Cancel
from orchestrator.effects import Trust
from orchestrator.errors import (
    BudgetExceeded,
    Interrupted,
    OrcError,
    UsageError,
    WaitingForApproval,
)
from orchestrator.events import Event, Journal, Listener, Place
from orchestrator.interrupts import Check, Signals, driven, time_limit
from orchestrator.runs import RESUMABLE, Run, Runs
from orchestrator.sandbox.detect import detect
from orchestrator.storage import opened_state, state_path
from orchestrator.telemetry import FLUSH_SECONDS, Exporter
from orchestrator.workspace.loading import Loaded, check_request, load

if TYPE_CHECKING:
    from orchestrator.context import Context
    from orchestrator.limits import Spent

Decided = dict[str, Any] | None
Approver = Callable[[Mapping[str, Any]], Decided | Coroutine[Any, Any, Decided]]
"""Shows a request in LangChain's HITL shape and returns the decisions; None when nobody can decide now.

One that is a coroutine can be stopped while it waits; another one holds up everything in its event loop.
"""


@dataclass(frozen=True)
class Options:
    """How a turn is to be run."""

    approves: bool = False
    """Approve what would be asked inside the workspace (`--yes`)."""
    approver: Approver | None = None
    """Asks a person; None means that the run waits instead."""
    model: str | None = None
    """Use this model for every tier: `embedded`, or a name at the configured endpoint."""
    agents_of: Path | None = None
    """The workspace whose specialists work here, where that is another one, as in evals."""
    listeners: Sequence[Listener] = ()
    handles_signals: bool = False
    """Take Ctrl-C and SIGTERM: the turn ends within 2 s, saved; a second one leaves it no time."""
    seconds: float | None = None
    """Time limit of a turn, from its start; waiting for a person is counted."""


@dataclass(frozen=True)
class Outcome:
    """How a turn ended."""

    run: str
    """As one writes it: `r-7f3a`, or `r-7f3a/try-1` for a branch that is not the current one."""
    status: Status
    answer: str
    spent: Spent


class Session:
    """The runs of one workspace."""

    def __init__(self, root: Path, options: Options | None = None) -> None:
        self.root = root
        self.options = options or Options()
        self._running: set[Cancel] = set()
        self._exporter = Exporter()

    def stop(self) -> None:
        """End all turns that are under way here: each is saved and raises Interrupted within 2 s."""
        for cancel in self._running:
            cancel.stop("stopped by the program")

    def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """Send what telemetry has left, within so many seconds."""
        self._exporter.close(seconds)

    def check(self, request: str | None, run: str | None) -> None:
        """Raise UsageError, ConfigError or StorageError for what cannot be worked on.

        It is quick, for callers that do something slow before, such as to fetch weights.
        """
        loaded = load(self.root, self.options.agents_of)
        if request is not None:
            check_request(request, loaded, model=self.options.model)
        if not state_path(self.root).exists() and (run is not None or request is None):
            raise UsageError(f"there is no run {run or 'to resume'} here yet")
        with opened_state(self.root) as connection:
            runs = Runs(connection, self.root)
            if request is None:
                _resumable(runs, run)
            elif run is not None:
                runs.get(run)

    async def run(self, request: str, *, run: str | None = None) -> Outcome:
        """Work on a request, in a new run or as the next turn of one; raises OrcError."""
        loaded = load(self.root, self.options.agents_of)
        check_request(request, loaded, model=self.options.model)
        # The probe takes its time: here, no run can be cut off by then without its request.
        detect(loaded.settings.sandbox)
        with opened_state(self.root) as connection:
            runs = Runs(connection, self.root)
            name = runs.create(request).id if run is None else run
            with runs.held(name) as row:
                if row.status in {"waiting", "cut off"}:
                    raise UsageError(
                        f"{row.name} is not finished with its last request; `orc resume {row.name}` first"
                    )
                return await self._turn(replace(row, turns=row.turns + 1), runs, loaded, request)

    async def resume(self, run: str | None = None) -> Outcome:
        """Go on with a run that stopped, waits or was cut off; raises OrcError."""
        loaded = load(self.root, self.options.agents_of)
        with opened_state(self.root) as connection:
            runs = Runs(connection, self.root)
            name = runs.last_resumable().id if run is None else run
            with runs.held(name) as row:
                _resumable(runs, name)
                return await self._turn(row, runs, loaded, None)

    async def _turn(self, row: Run, runs: Runs, loaded: Loaded, request: str | None) -> Outcome:
        place = Place(row.id, row.turns, runs.branches.lineage(runs.branches.get(row.branch)))
        heard = [*self.options.listeners, *self._exporter.listeners(loaded.settings.telemetry)]
        journal = Journal(runs.connection, self.root, place, listeners=heard, logs=loaded.settings.logs)
        started = time.monotonic()
        checks: list[Check] = [runs.watch(row.id)]
        checks += [time_limit(self.options.seconds)] if self.options.seconds else []
        cancel = Cancel(row.name)
        self._running.add(cancel)
        sandbox = detect(loaded.settings.sandbox).name
        # Only now: what fails before leaves the run as it is.
        row = self._begun(row, runs, sandbox, is_new=request is not None)
        if request is not None:
            # Before langgraph is loaded, which takes seconds: a run cut off until then knows its request.
            journal.write("turn", request=request, sandbox=sandbox)
        else:
            journal.write("resume", sandbox=sandbox, alive=runs.worked_until(row.id))
        status: Status = "stopped"
        reason = ""
        spent = None
        try:
            async with self._opened(row, loaded, journal, cancel) as (context, graph):
                for note in loaded.notes:
                    journal.show("note", text=note)
                told = len(_answers(journal))
                try:
                    end = await self._drive(graph, context, row, request, checks)
                finally:
                    spent = context.budget.spent
                if len(_answers(journal)) == told:
                    # Cut off after its last step: the answer is known, and nobody has seen it end.
                    journal.show("answer", text=end["answer"])
            status = end.get("status", "done")
            reason = {"failed": "a step failed", "refused": "its calls were refused"}.get(status, "")
            runs.update(row, agent=str(end["route"]["agent"]))
            return Outcome(row.name, status, end["answer"], spent)
        except (OrcError, asyncio.CancelledError) as error:
            status, reason = _ending(error), str(error)
            if isinstance(error, OrcError) and not isinstance(error, WaitingForApproval | Interrupted):
                journal.write("error", text=str(error), type=type(error).__name__)
            raise
        finally:
            self._running.discard(cancel)
            figures = {k: str(v) if k == "usd" else v for k, v in vars(spent).items()} if spent else {}
            figures.pop("seconds", None)
            journal.write("end", status=status, reason=reason, seconds=time.monotonic() - started, **figures)
            runs.update(row, status=status, reason=reason[:500])
            journal.close()

    def _begun(self, row: Run, runs: Runs, sandbox: str, *, is_new: bool) -> Run:
        approves = self.options.approves or (row.approves and not is_new)
        runs.update(
            row, status="running", sandbox=sandbox, turns=row.turns, approves=int(approves), reason=""
        )
        return runs.get(row.name)

    @asynccontextmanager
    async def _opened(
        self, row: Run, loaded: Loaded, journal: Journal, cancel: Cancel
    ) -> AsyncIterator[tuple[Context, Any]]:
        """Everything that the turn needs, closed at its end."""
        from orchestrator.checkpoints import saver_of  # noqa: PLC0415 - langgraph takes seconds
        from orchestrator.nodes.keeping import keep_files  # noqa: PLC0415
        from orchestrator.workspace import assembly  # noqa: PLC0415

        async with AsyncExitStack() as stack:
            context = assembly.context(
                loaded, journal, model=self.options.model, approves=row.approves, cancel=cancel
            )
            stack.push_async_exit(assembly.ending(context))
            saver = await stack.enter_async_context(saver_of(self.root))
            journal.position = lambda: saver.position(row.branch)
            await keep_files(context)
            yield context, assembly.graph(self.root, context.agents, saver)

    async def _drive(
        self, graph: Any, context: Context, row: Run, request: str | None, checks: Sequence[Check]
    ) -> dict[str, Any]:
        """Run the graph until it ends; a person's answers lead it on."""
        from langgraph.types import Command  # noqa: PLC0415

        config = {"configurable": {"thread_id": row.branch}, "recursion_limit": 100_000}
        asked = _asked(context.journal, row)
        context.journal.enter("turn", task=f"turn {row.turns}", seq=asked.seq - 1)
        # The journal has the request without its secrets.
        request = request or str(asked.fields["request"])
        step: Any = await _first_step(graph, row, request)
        signals = Signals(context.cancel, context.journal)
        while True:
            with signals.listening() if self.options.handles_signals else nullcontext():
                work = graph.ainvoke(step, config, context=context, durability="sync")
                end: dict[str, Any] = await driven(work, context.cancel, [*checks, context.budget.watch])
            waiting = end.get("__interrupt__")
            if not waiting:
                return end
            if context.cancel.error:
                raise context.cancel.error
            with context.budget.paused():
                decided = await self._decide(waiting[0].value, row.name, context.cancel, checks)
            # By id: LangGraph takes an empty answer for no answer at all, and would ask again for ever.
            step = Command(resume={waiting[0].id: decided})

    async def _decide(
        self, payload: Mapping[str, Any], run: str, cancel: Cancel, checks: Sequence[Check]
    ) -> dict[str, Any]:
        decided = self.options.approver(payload) if self.options.approver else None
        if isinstance(decided, Coroutine):
            decided = await driven(decided, cancel, checks)
        if decided is None:
            names = ", ".join(str(request["name"]) for request in payload["action_requests"])
            raise WaitingForApproval(
                f"{names} needs a person: {payload['action_requests'][0]['description']}. "
                f"`orc resume {run}` in a terminal asks you, `orc approvals list` shows what waits"
            )
        return {**decided, "ids": [request.get("id") for request in payload["action_requests"]]}


def _resumable(runs: Runs, run: str | None) -> Run:
    row = runs.last_resumable() if run is None else runs.get(run)
    if row.status not in RESUMABLE:
        raise UsageError(f'{row.name} is {row.status}; say more with `orc run -c {row.name} "…"`')
    return row


async def _first_step(graph: Any, row: Run, request: str) -> dict[str, Any] | None:
    """What the turn starts with; nothing where it has a checkpoint: then that is enough.

    A question that was put off comes up again from the checkpoint, so that `--yes` given now counts.
    """
    from orchestrator.state import Taint, first_input  # noqa: PLC0415

    snapshot = await graph.aget_state({"configurable": {"thread_id": row.branch}})
    turn = snapshot.values.get("turn")
    if turn == row.turns:
        return None
    is_of_another = bool(snapshot.values) and not isinstance(turn, int)
    taint = {"taint": Taint(level=int(Trust.WEB), secret=False)} if is_of_another else {}
    return first_input(request, row.turns) | taint


def _asked(journal: Journal, row: Run) -> Event:
    """The event that holds the request of this turn."""
    asked = next((event for event in journal.of_turn() if event.kind == "turn"), None)
    if asked is None:
        raise UsageError(
            f'{row.name} was cut off before its request was saved; say it again: `orc run -c {row.name} "…"`'
        )
    return asked


def _answers(journal: Journal) -> list[Event]:
    return [event for event in journal.of_turn() if event.kind == "answer"]


def _ending(error: BaseException) -> Status:
    """The status that a run is left in."""
    kinds: tuple[tuple[type[BaseException], Status], ...] = (
        (WaitingForApproval, "waiting"),
        (BudgetExceeded, "budget"),
        (UsageError, "failed"),
    )
    return next((status for kind, status in kinds if isinstance(error, kind)), "stopped")
