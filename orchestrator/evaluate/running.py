"""Run the cases of a suite one after the other, each in a workspace of its own, and measure them.

What a case took is read from its journal, so that a case that crashed or ran out of time is measured too.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import ModelRejected, ModelUnreachable, OrcError, ToolError, WeightsError
from orchestrator.evaluate.checks import End, first_failure
from orchestrator.evaluate.folders import contents, lay_out
from orchestrator.evaluate.suite import Case
from orchestrator.events import Event, read_events
from orchestrator.runs import Runs
from orchestrator.sandbox import Sandbox
from orchestrator.settings import ModelSettings
from orchestrator.storage import open_state, state_path

Work = Callable[[Path, str], Awaitable[object]]
"""Works on a request in a workspace; what it raises is how the case ended."""

UNMEASURED = (ModelRejected, ModelUnreachable, WeightsError)
"""After these the model was never asked, so the case says nothing about it."""


@dataclass(frozen=True)
class Conditions:
    """How cases are run."""

    work: Work
    sandbox: Sandbox
    seconds: float = 120.0
    """Time limit of a case that does not set its own."""
    keeps: bool = False
    """Leave the workspaces of failed cases where they are."""


@dataclass(frozen=True)
class Result:
    """What became of a case."""

    case: str
    kind: str
    passed: bool
    why: str
    """The first thing that did not hold; empty when it passed."""
    seconds: float
    model_calls: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    status: str = ""
    """How the run ended, such as `done`; `time-out` and `crashed` are ours."""
    is_measured: bool = True
    """False when the model could not be asked at all."""
    workspace: str = ""
    """Where it is kept, when it is."""


async def run_suite(
    cases: Iterable[Case], conditions: Conditions, on_result: Callable[[Result], None]
) -> None:
    """Run cases in order in this event loop; each result is handed over as soon as it is there."""
    for case in cases:
        on_result(await run_case(case, conditions))


async def run_case(case: Case, conditions: Conditions) -> Result:
    """Run one case; whatever goes wrong in it is its result."""
    root = Path(tempfile.mkdtemp(prefix=f"orc-eval-{case.id}-", dir=_scratch()))
    keep = False
    try:
        lay_out(case, root)
        before = contents(root)
        started = time.monotonic()
        status, error = await _worked(case, root, conditions)
        seconds = time.monotonic() - started
        events = _events(root)
        answer = next((str(event.fields["text"]) for event in reversed(events) if event.kind == "answer"), "")
        why = _reason(status, error) or await _checked(case, End(root, before, answer, conditions.sandbox))
        keep = bool(why) and conditions.keeps
        end = next((event for event in reversed(events) if event.kind == "end"), None)
        return Result(
            case=case.id,
            kind=case.kind,
            passed=not why,
            why=why,
            seconds=seconds,
            **_counts(events),
            status=status or (str(end.fields["status"]) if end else ""),
            is_measured=not isinstance(error, UNMEASURED),
            workspace=str(root) if keep else "",
        )
    finally:
        if not keep:
            shutil.rmtree(root, ignore_errors=True)


def _scratch() -> str:
    """The folder for workspaces, without links in its path: paths that tools print begin with it."""
    return os.path.realpath(tempfile.gettempdir())


async def _worked(case: Case, root: Path, conditions: Conditions) -> tuple[str, BaseException | None]:
    """Do the work; returns our own status, empty when the run has one, and what was raised."""
    try:
        async with asyncio.timeout(case.seconds or conditions.seconds) as limit:
            await conditions.work(root, case.request)
    except OrcError as error:
        return "", error
    except TimeoutError as error:
        return ("time-out" if limit.expired() else "crashed"), error
    except Exception as error:  # noqa: BLE001 - the border: a fault of ours fails its case, not the suite
        return "crashed", error
    return "", None


async def _checked(case: Case, end: End) -> str:
    try:
        return await first_failure(case, end)
    except (ToolError, OSError) as error:
        return f"the end state could not be checked: {error}"


def _reason(status: str, error: BaseException | None) -> str:
    """Why a case that did not end by itself failed; the end state of one that did decides."""
    if error is None:
        return ""
    if status == "time-out":
        return "it took too long and was stopped"
    text = str(error).splitlines()[0] if str(error) else ""
    return text if isinstance(error, OrcError) and text else f"{type(error).__name__}: {text}"


def _events(root: Path) -> list[Event]:
    """The journal of the case's only run; empty when there is none or it cannot be read."""
    if not state_path(root).is_file():
        return []
    try:
        connection = open_state(root)
        try:
            runs = Runs(connection, root).list(1)
            return read_events(connection, runs[0].id) if runs else []
        finally:
            connection.close()
    except (OrcError, sqlite3.Error):
        return []


def _counts(events: Iterable[Event]) -> dict[str, int]:
    """Calls and tokens, added up call by call: the totals at the end are missing after a crash."""
    counts = {"model_calls": 0, "tool_calls": 0, "input_tokens": 0, "output_tokens": 0}
    for event in events:
        if event.kind == "model_call":
            counts["model_calls"] += 1
            counts["input_tokens"] += event.fields.get("input_tokens", 0)
            counts["output_tokens"] += event.fields.get("output_tokens", 0)
        elif event.kind == "tool_result":
            counts["tool_calls"] += 1
    return counts


async def ready(settings: ModelSettings, say: Callable[[str], None]) -> None:
    """Fetch and load the embedded model now, so that no case is charged for it; raises WeightsError.

    Its server belongs to the process, and every later session in it uses the same one.
    """
    if settings.provider != "embedded":
        return
    from orchestrator.llm.embedded import EmbeddedServer  # noqa: PLC0415 - only where it is used

    await EmbeddedServer(settings).start(say)
