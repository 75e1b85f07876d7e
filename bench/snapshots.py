"""Time a snapshot of a workspace against what Git needs for the same, in one run.

`python bench/snapshots.py [FILES …]`; the rounds of all are interleaved, the figures are medians.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from orchestrator.snapshots import Snapshots

ROUNDS = 9
PER_FOLDER = 20


def main() -> None:
    """Print one table for each number of files."""
    for files in [int(word) for word in sys.argv[1:]] or [1_000, 10_000]:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), files)


def measure(root: Path, files: int) -> None:
    """First snapshot, then unchanged and with one file changed, ours and Git's by turns."""
    fill(root, files)
    ours = Snapshots(root)
    git(root, "init", "--quiet")
    (root / ".git" / "info" / "exclude").write_text(".orc\n", "utf-8")
    first = {"snapshot": seconds(ours.take), "git add + write-tree": seconds(lambda: add(root))}
    git(root, "commit", "--quiet", "--message", "all")
    actors: dict[str, Callable[[], object]] = {
        "snapshot": ours.take,
        "snapshot, new process": lambda: Snapshots(root).take(),
        "git add + write-tree": lambda: add(root),
        "git stash create": lambda: git(root, "stash", "create"),
    }
    unchanged, changed = rounds(root, actors, 0), rounds(root, actors, 1)
    sys.stdout.write(f"{files:,} files of 1-5 KB, {PER_FOLDER} a folder; ms, medians of {ROUNDS} rounds\n")
    for name in actors:
        begun = f"{1e3 * first[name]:8.1f}" if name in first else " " * 8
        figures = f"first {begun}  unchanged {unchanged[name]:7.1f}  one changed {changed[name]:7.1f}"
        sys.stdout.write(f"  {name:<24}{figures}\n")


def fill(root: Path, files: int) -> None:
    """Text that compresses as source code does."""
    for number in range(files):
        folder = root / f"part{number // PER_FOLDER % 25}" / f"folder{number // PER_FOLDER}"
        folder.mkdir(parents=True, exist_ok=True)
        text = f"def f{number}(x: int) -> int:\n    return x * {number}\n\n" * (25 + number % 75)
        (folder / f"module{number}.py").write_text(text, "utf-8")


def rounds(root: Path, actors: dict[str, Callable[[], object]], changes: int) -> dict[str, float]:
    """Milliseconds of each."""
    times: dict[str, list[float]] = {name: [] for name in actors}
    some = next(iter(root.glob("part0/*/*.py")))
    for number in range(ROUNDS):
        for name, act in actors.items():
            if changes:
                some.write_text(f"{name} {number}", "utf-8")
            times[name].append(1e3 * seconds(act))
    return {name: statistics.median(found) for name, found in times.items()}


def add(root: Path) -> None:
    """What a snapshot by Git alone takes at least."""
    git(root, "add", "--all")
    git(root, "write-tree")


def git(root: Path, *words: str) -> None:
    """Run git as on a machine without settings."""
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a"}
    settings |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a"}
    subprocess.run(
        ["git", *words], cwd=root, env=os.environ | settings, check=True, stdout=subprocess.DEVNULL
    )


def seconds(act: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
