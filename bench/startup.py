"""How long the light commands take from the shell: medians of several starts, each in a new process."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = (("--help",), ("runs", "list"))
RUNS = 30
TARGET = 0.2
"""Seconds on an idle machine."""


def orc() -> list[str]:
    """The installed command beside this Python, else the module's main function."""
    beside = Path(sys.executable).with_name("orc")
    found = str(beside) if beside.exists() else shutil.which("orc")
    return [found] if found else [sys.executable, "-c", "from orchestrator.cli import main; main()"]


def seconds(argv: list[str], folder: Path) -> float:
    """Wall time of one process."""
    started = time.perf_counter()
    subprocess.run(argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - started


def with_runs(folder: Path) -> None:
    """Make a folder a workspace in which something was asked before."""
    from orchestrator.runs import Runs  # noqa: PLC0415
    from orchestrator.storage import open_state  # noqa: PLC0415

    (folder / "orchestrator.yaml").touch()
    connection = open_state(folder)
    runs = Runs(connection, folder)
    for number in range(RUNS):
        runs.create(f"request number {number}")
    connection.close()


def main() -> None:
    """Measure and print; always exit 0, because a shared machine decides more than the code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=11, help="starts of each command")
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory(prefix="orc-bench-") as folder:
        with_runs(Path(folder))
        for words in COMMANDS:
            argv = [*orc(), *words]
            seconds(argv, Path(folder))  # compiled modules and the page cache
            taken = [seconds(argv, Path(folder)) for _ in range(times)]
            sys.stdout.write(
                f"orc {' '.join(words):10} {statistics.median(taken) * 1000:6.0f} ms "
                f"(fastest {min(taken) * 1000:.0f}, slowest {max(taken) * 1000:.0f}; "
                f"target {TARGET * 1000:.0f} on an idle machine)\n"
            )
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    sys.stdout.write(
        f"conditions: median of {times}, Python {platform.python_version()}, {os.cpu_count()} CPUs, "
        f"load per CPU {load:.2f}\n"
    )


if __name__ == "__main__":
    main()
