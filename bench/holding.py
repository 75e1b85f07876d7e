"""How long eight slow reads of a message take, what an idle run holds, how fast many runs are stopped.

The runs are real ones in this process; while they idle, a scripted model over loopback does not answer them.
The memory of that model's threads is counted as theirs.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from scripted import Call, Calls, Reply, Request, Say, ScriptedModel, Stall

SLOW_SECONDS, READS_MS = 0.2, 260
IDLE_KB, STOP_SECONDS = 1024, 2.0


def resident_kb() -> int:
    """Memory of this process."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


async def reading(root: Path, times: int) -> list[float]:
    """Milliseconds from the first intent to the last result of eight reads, and of the same one by one."""
    from orchestrator.events import Event  # noqa: PLC0415
    from orchestrator.session import Options, Session  # noqa: PLC0415
    from orchestrator.tools.files import READ_FILE  # noqa: PLC0415
    from orchestrator.tools.registry import TOOLS  # noqa: PLC0415

    async def slow(_arguments: Any, _context: Any) -> str:
        await asyncio.sleep(SLOW_SECONDS)
        return "text"

    seen: list[Event] = []
    session = Session(root, Options(listeners=[seen.append]))
    TOOLS["read_file"], usual = replace(READ_FILE, run=slow), TOOLS["read_file"]
    taken = []
    try:
        for _ in range(times):
            seen.clear()
            await session.run("@coder read them")
            began = [event.at for event in seen if event.kind == "tool_intent"]
            ended = [event.at for event in seen if event.kind == "tool_result"]
            taken.append((max(ended) - min(began)) * 1000)
    finally:
        TOOLS["read_file"] = usual
    return taken


async def idling(root: Path, model: ScriptedModel, count: int) -> tuple[float, float]:
    """Kilobytes that each of so many runs holds while it waits, and seconds until all have been stopped."""
    from orchestrator.errors import Interrupted  # noqa: PLC0415
    from orchestrator.session import Session  # noqa: PLC0415

    session = Session(root)
    gc.collect()
    before, asked = resident_kb(), len(model.requests)
    tasks = [asyncio.create_task(session.run(f"@coder wait {number}")) for number in range(count)]
    while len(model.requests) < asked + count:  # noqa: ASYNC110 - the model is no part of this loop
        await asyncio.sleep(0.05)
    gc.collect()
    held = (resident_kb() - before) / count
    started = time.monotonic()
    session.stop()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    lost = [end for end in ends if not isinstance(end, Interrupted)]
    if lost:
        sys.exit(f"{len(lost)} runs did not stop as they should: {lost[0]!r}")
    return held, time.monotonic() - started


def reads(request: Request) -> Reply:
    """Eight reads, then the answer."""
    if request["messages"][-1]["role"] == "tool":
        return Say("done")
    return Calls([Call("read_file", path=name) for name in "abcdefgh"])


def main() -> None:
    """Measure and print; exit 1 for lost runs only, because a shared machine decides more than the code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50, help="runs that idle at once")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="orc-bench-") as folder:
        # Beside the workspace, not around it: what lies in these folders no tool may read.
        home = str(Path(folder) / "home")
        os.environ |= {"OPENAI_API_KEY": "scripted", "ORC_CONFIG_DIR": home, "ORC_DATA_DIR": home}
        root = Path(folder) / "work"
        root.mkdir()
        with ScriptedModel(reads) as model:
            os.environ["OPENAI_BASE_URL"] = model.base_url
            taken = asyncio.run(reading(root, 7))
        with ScriptedModel(lambda _: Stall(600)) as model:
            os.environ["OPENAI_BASE_URL"] = model.base_url
            asyncio.run(idling(root, model, 5))
            held, seconds = asyncio.run(idling(root, model, runs))
    sys.stdout.write(
        f"8 reads of {SLOW_SECONDS * 1000:.0f} ms: {statistics.median(taken):.0f} ms (target {READS_MS})\n"
        f"an idle run holds {held:.0f} KB (target {IDLE_KB}); {runs} of them were stopped and saved in "
        f"{seconds:.2f} s (target {STOP_SECONDS:.0f})\n"
        f"conditions: Python {platform.python_version()}, {os.cpu_count()} CPUs, "
        f"load per CPU {os.getloadavg()[0] / (os.cpu_count() or 1):.2f}\n"
    )


if __name__ == "__main__":
    main()
