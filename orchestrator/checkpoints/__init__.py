"""Where the graphs keep their checkpoints; nothing outside this package knows how."""

from __future__ import annotations

from pathlib import Path

from orchestrator.checkpoints.outline import Point
from orchestrator.checkpoints.saver import Checkpointer
from orchestrator.checkpoints.serializer import strict_serializer
from orchestrator.checkpoints.store import SqliteStorage
from orchestrator.checkpoints.transfer import adopt, export_to, import_from
from orchestrator.storage import state_path

__all__ = [
    "Checkpointer",
    "Point",
    "export_to",
    "import_from",
    "saver_of",
    "strict_serializer",
]


def saver_of(root: Path) -> Checkpointer:
    """The workspace's checkpoints, for whoever closes them; StorageError when the file is not usable."""
    path = state_path(root)
    saver = Checkpointer.over(SqliteStorage(path, shared=True))
    try:
        adopt(path, saver)
    except BaseException:
        saver.close()
        raise
    return saver
