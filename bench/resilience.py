"""Our own time for budget, circuit breaker, retry and time limits, for each model call.

The same question is asked of a scripted model over loopback, by the same client: once bare, once through the
whole path, turn about; the median of the differences is its cost. Under limits of dollars, in both ledgers
here, what is set aside has to be on the disk before the call: how long that takes is up to the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from scripted import Say, ScriptedModel

TARGET_MS = 1.0


async def measure(
    times: int, root: Path, model: ScriptedModel, clock: Callable[[], float], unit: str = "usd"
) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds of each bare call, of each whole call, and of the bookings alone."""
    from langchain_core.messages import HumanMessage  # noqa: PLC0415

    from orchestrator.breaker import Breakers  # noqa: PLC0415
    from orchestrator.events import Journal, Place  # noqa: PLC0415
    from orchestrator.limits import Budget, Ledger, Who  # noqa: PLC0415
    from orchestrator.limits.meter import BudgetMeter  # noqa: PLC0415
    from orchestrator.llm.base import Usage  # noqa: PLC0415
    from orchestrator.llm.caller import Listeners  # noqa: PLC0415
    from orchestrator.llm.chat import open_model  # noqa: PLC0415
    from orchestrator.settings import Limits  # noqa: PLC0415
    from orchestrator.storage import open_state  # noqa: PLC0415

    settings = model.settings(model="gpt-4o-mini")
    connection = open_state(root)
    journal = Journal(connection, root, Place("r-1", 1))
    most = {unit: 50 if unit == "usd" else 10**9}
    limits = Limits.model_validate({"model_calls": 10_000, **most, "day": most, "month": most, "user": most})
    ledger = Ledger.of(root, connection)
    meter = BudgetMeter(Budget(limits, ledger, Who("r-1", 1, "me")), journal, settings)
    bare = await open_model(settings)
    whole = await open_model(settings, listeners=Listeners(meter=meter, breakers=Breakers(connection)))
    question = [HumanMessage("say something short")]
    taken: tuple[list[float], list[float], list[float]] = ([], [], [])
    for number in range(times + 5):
        pair = [(bare, taken[0]), (whole, taken[1])]
        for chat, into in pair if number % 2 else pair[::-1]:
            started = clock()
            await chat.write(question)
            into.append((clock() - started) * 1000)
        started = clock()
        meter.reserve("gpt-4o-mini", 5000, 1000).settle(Usage("gpt-4o-mini", 900, 90, 0, 0.1, None))
        taken[2].append((clock() - started) * 1000)
        if number == 4:  # imports, pages and connections are warm now
            for each in taken:
                each.clear()
    for chat in (bare, whole):
        await chat.aclose()
    ledger.close()
    journal.close()
    connection.close()
    return taken


def tenth(taken: list[float]) -> float:
    """What the quickest tenth took at most."""
    return statistics.quantiles(taken, n=10)[0]


def main() -> None:
    """Measure and print; always exit 0, because a shared machine decides more than the code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200, help="calls of each kind")
    times = parser.parse_args().times
    for unit, what in (("tokens", "limits of tokens"), ("usd", "limits of dollars, on the disk")):
        for name, clock in (("time", time.perf_counter), ("CPU of our thread", time.thread_time)):
            with (
                tempfile.TemporaryDirectory(prefix="orc-bench-") as folder,
                ScriptedModel(lambda _r: Say("hi")) as model,
            ):
                os.environ["ORC_DATA_DIR"] = folder
                bare, whole, books = asyncio.run(measure(times, Path(folder), model, clock, unit))
            over = statistics.median(more - less for less, more in zip(bare, whole, strict=True))
            least = tenth(whole) - tenth(bare)
            sys.stdout.write(
                f"{what}, {name}: a bare call {statistics.median(bare):.2f} ms, the path {over:.2f} ms more "
                f"in pairs (target {TARGET_MS:.0f} on an idle machine), {least:.2f} in the quickest tenth; "
                f"reserve, settle and the journal row alone {statistics.median(books):.2f} ms\n"
            )
    sys.stdout.write(
        f"conditions: median of {times}, Python {platform.python_version()}, {os.cpu_count()} CPUs, "
        f"load per CPU {os.getloadavg()[0] / (os.cpu_count() or 1):.2f}\n"
    )


if __name__ == "__main__":
    main()
