"""What each sandbox costs a command, keeper included, over `/bin/true` as it is, in turns."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from orchestrator.sandbox import Confinement, Sandbox, keeper, needs_keeper
from orchestrator.sandbox.detect import detect
from orchestrator.sandbox.landlock import LEAST, Landlock, version
from orchestrator.sandbox.none import NoSandbox

TARGET_MS = 15
"""On an idle machine."""


def milliseconds(argv: list[str], inherits: tuple[int, ...] = ()) -> float:
    """Wall time of one process."""
    started = time.perf_counter()
    subprocess.run(argv, check=True, capture_output=True, pass_fds=inherits)
    return 1000 * (time.perf_counter() - started)


def cost(sandbox: Sandbox, times: int) -> str:
    """What a sandbox adds, in words."""
    reader, told = os.pipe()
    with tempfile.TemporaryDirectory(prefix="orc-bench-") as folder:
        root = Path(folder)
        confined = sandbox.wrap(["/bin/true"], Confinement(root, root))
        if needs_keeper(sandbox):
            confined = keeper.kept(confined, told, 1, 1)
        plain, inside = [], []
        for _ in range(times):
            plain.append(milliseconds(["/bin/true"]))
            inside.append(milliseconds(confined, (told,)))
    os.close(reader)
    os.close(told)
    without = statistics.median(plain)
    return (
        f"sandbox {sandbox.name}: {statistics.median(inside) - without:.1f} ms over {without:.1f} ms without"
    )


def main() -> None:
    """Measure and print; always exit 0, because a shared machine decides more than the code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=60, help="runs of each kind")
    times = parser.parse_args().times
    sandboxes: list[Sandbox] = [detect(), NoSandbox()]
    if version() >= LEAST and detect().name != "landlock":
        sandboxes.append(Landlock())
    for sandbox in sandboxes:
        sys.stdout.write(
            f"{cost(sandbox, times)} (medians of {times}; target {TARGET_MS} ms on an idle machine)\n"
        )


if __name__ == "__main__":
    main()
