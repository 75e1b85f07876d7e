"""Where the graphs keep their checkpoints; nothing outside this package knows how."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from orchestrator.checkpoints.outline import Point
from orchestrator.checkpoints.saver import Checkpointer, strict_serializer
from orchestrator.checkpoints.store import SqliteStorage
from orchestrator.checkpoints.transfer import adopt, export_to, import_from
from orchestrator.storage import state_path

__all__ = [
    "Checkpointer",
    "Point",
    "export_to",
    "import_from",
    "open_saver",
    "saver_of",
    "strict_serializer",
]


@asynccontextmanager
async def open_saver(root: Path) -> AsyncIterator[Checkpointer]:
    """Open the workspace's checkpoints; raises StorageError when the file is not usable."""
    async with saver_of(root) as saver:
        yield saver


def saver_of(root: Path) -> Checkpointer:
    """The workspace's checkpoints, for whoever closes them; raises StorageError."""
    path = state_path(root)
    saver = Checkpointer.over(SqliteStorage(path, shared=True))
    try:
        adopt(path, saver)
    except BaseException:
        saver.close()
        raise
    return saver
