"""Have what was set aside on the disk before an answer is used, beside the event loop.

A commit that waits for the disk holds up every run of the process, for as long as the disk takes. Here a
thread waits for it while the model is asked, and only the first piece of the answer waits for the thread.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache


@cache
def _threads(_process: int) -> ThreadPoolExecutor:
    """Those of this process: a fork has none of its parent's."""
    return ThreadPoolExecutor(4, "disk")


def soon(paths: Sequence[str]) -> Future[None]:
    """Put what was written to files on the disk; the result raises OSError when it refuses."""
    return _threads(os.getpid()).submit(_synced, paths)


def _synced(paths: Sequence[str]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDWR)
        try:
            getattr(os, "fdatasync", os.fsync)(descriptor)
        finally:
            os.close(descriptor)
