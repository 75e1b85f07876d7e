"""Where the graphs keep their checkpoints; nothing outside this package knows which saver it is."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from orchestrator.errors import StorageError
from orchestrator.storage import state_path


def strict_serializer() -> JsonPlusSerializer:
    """A serializer that revives LangChain messages and plain values, and nothing else.

    The library's default imports and calls whatever a row names, so a forged row runs code.
    """
    return JsonPlusSerializer(allowed_msgpack_modules=None, allowed_json_modules=None)


@asynccontextmanager
async def open_saver(root: Path) -> AsyncIterator[BaseCheckpointSaver[str]]:
    """Open the workspace's checkpoints; raises StorageError when the file is not usable."""
    import aiosqlite  # noqa: PLC0415
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver  # noqa: PLC0415

    path = state_path(root)
    try:
        async with aiosqlite.connect(path, timeout=30) as connection:
            saver = AsyncSqliteSaver(connection, serde=strict_serializer())
            await saver.setup()
            yield saver
    except sqlite3.Error as error:
        raise StorageError(
            f"cannot keep checkpoints in {path}: {error}; "
            "free some disk space or close the other program, then `orc resume`"
        ) from None
