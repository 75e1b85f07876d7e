"""A program whose user presses Ctrl-C at any moment; it ends when its saver still answers after each."""

from __future__ import annotations

import random
import signal
import sys
from pathlib import Path

from checkpointing import put, saver_at


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main(folder: Path) -> int:
    """How often an interrupt came during a call."""
    moments = random.Random(1)
    hits = 0
    with saver_at(folder) as saver:
        put(saver, {"n": 1})
        signal.signal(signal.SIGALRM, interrupt)
        for _ in range(10_000):
            try:
                signal.setitimer(signal.ITIMER_REAL, moments.uniform(10e-6, 60e-6))
                saver.position("t")
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                hits += 1
                assert saver.position("t") == 1
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
    return hits


if __name__ == "__main__":
    sys.stdout.write(str(main(Path(sys.argv[1]))))
