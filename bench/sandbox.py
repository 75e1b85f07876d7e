"""What the sandbox costs for each command: `/bin/true` confined against `/bin/true` as it is, in turns."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from orchestrator.sandbox import Confinement
from orchestrator.sandbox.detect import detect

TARGET_MS = 15
"""On an idle machine."""


def milliseconds(argv: list[str]) -> float:
    """Wall time of one process."""
    started = time.perf_counter()
    subprocess.run(argv, check=True, capture_output=True)
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    """Measure and print; always exit 0, because a shared machine decides more than the code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=60, help="runs of each kind")
    times = parser.parse_args().times
    sandbox = detect()
    with tempfile.TemporaryDirectory(prefix="orc-bench-") as folder:
        root = Path(folder)
        confined = sandbox.wrap(["/bin/true"], Confinement(root, root))
        plain, inside = [], []
        for _ in range(times):
            plain.append(milliseconds(["/bin/true"]))
            inside.append(milliseconds(confined))
    cost = statistics.median(inside) - statistics.median(plain)
    sys.stdout.write(
        f"sandbox ({sandbox.name}): {cost:.1f} ms a command over {statistics.median(plain):.1f} ms without "
        f"(medians of {times}; target {TARGET_MS} ms on an idle machine)\n"
    )


if __name__ == "__main__":
    main()
