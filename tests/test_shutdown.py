"""Fifty runs in one process end together, as when a server is shut down: nothing lost, nothing done twice."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from desk import Desk, slowness
from scripted import Call, Reply, Request, Say, ScriptedModel, Stall

from orchestrator.errors import Interrupted
from orchestrator.session import Outcome, Session

RUNS = 50


def number_of(request: Request) -> str:
    """Which of the runs asks."""
    return str(next(m["content"] for m in request["messages"] if m["role"] == "user")).split()[-1]


def answered(request: Request) -> int:
    return sum(message["role"] == "assistant" for message in request["messages"])


def half_way(request: Request) -> Reply:
    """Half of the runs wait for the model, the others for a command, when they are stopped."""
    number = number_of(request)
    if not answered(request):
        return Call("run_command", command=f"echo {number} >> did-{number}")
    if int(number) % 2:
        return Stall(600)
    return Call("run_command", command=f"touch begun-{number}; sleep 600; touch late")


def to_the_end(request: Request) -> Reply:
    return Say(f"done {number_of(request)}")


async def stopped_together(desk: Desk, served: ScriptedModel) -> float:
    """Start all runs, wait until each is in the middle of something, and end them; the seconds that took."""
    session = Session(desk.root)
    tasks = [asyncio.create_task(session.run(f"@coder note {number}")) for number in range(RUNS)]
    begun = [desk.root / f"begun-{number}" for number in range(0, RUNS, 2)]
    while not all(path.exists() for path in begun) or sum(map(bool, map(answered, served.requests))) < RUNS:
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
    stopped = time.monotonic()
    session.stop()
    ended: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in ended] == [Interrupted] * RUNS
    return time.monotonic() - stopped


def test_fifty_running_runs_are_ended_and_go_on(desk: Desk) -> None:
    with desk.model(half_way) as served:
        assert asyncio.run(stopped_together(desk, served)) < 2 * slowness()
    runs = [row.name for row in desk.runs()]
    assert len(runs) == RUNS

    async def resumed() -> list[Outcome]:
        return await asyncio.gather(*(Session(desk.root).resume(run) for run in runs))

    with desk.model(to_the_end):
        outcomes = asyncio.run(resumed())
    assert sorted(outcome.answer for outcome in outcomes) == sorted(
        f"done {number}" for number in range(RUNS)
    )
    assert not (desk.root / "late").exists()
    assert all(desk.text(f"did-{number}") == f"{number}\n" for number in range(RUNS))
    assert desk.orc("audit", "verify").code == 0
