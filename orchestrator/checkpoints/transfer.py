"""Checkpoints from and to other savers, with all namespaces, branches and pending writes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, CheckpointTuple

from orchestrator.checkpoints.reading import Write
from orchestrator.errors import StorageError, UsageError

if TYPE_CHECKING:
    from orchestrator.checkpoints.saver import Checkpointer


def import_from(path: str | Path, saver: Checkpointer) -> int:
    """Bring over all threads of a SqliteSaver's file; returns how many checkpoints.

    Raises StorageError when the file is none, UsageError when one of its threads is here already; then
    nothing is brought over. The file itself is not changed.
    """
    try:
        with closing(_open(path)) as connection:
            names = [name for (name,) in connection.execute("select distinct thread_id from checkpoints")]
            present = set(saver.threads())
            double = sorted(name for name in names if name in present)
            if double:
                raise UsageError(f"thread {double[0]!r} is here already; delete it before it is imported")
            try:
                return sum(_import(connection, saver, name) for name in names)
            except BaseException:
                for name in names:
                    saver.delete_thread(name)
                raise
    except sqlite3.Error as error:
        raise StorageError(f"{path} cannot be imported: {error}; is it a file of SqliteSaver?") from None


def adopt(path: Path, saver: Checkpointer) -> None:
    """Take over what an orc before format 2 kept in the same file through SqliteSaver, once."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
        names = {name for (name,) in connection.execute("select name from sqlite_master where type='table'")}
        if not {"checkpoints", "writes"} <= names:
            return
        present = set(saver.threads())
        for (thread,) in connection.execute("select distinct thread_id from checkpoints").fetchall():
            if thread in present:
                # Cut off the last time.
                saver.delete_thread(thread)
            _import(connection, saver, thread)
        connection.execute("begin immediate")
        connection.execute("drop table checkpoints")
        connection.execute("drop table writes")
        connection.execute("commit")


def _open(path: str | Path) -> sqlite3.Connection:
    if not Path(path).is_file():
        raise StorageError(f"there is no file {path}")
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
    try:
        tables = {name for (name,) in connection.execute("select name from sqlite_master")}
        if not {"checkpoints", "writes"} <= tables:
            raise StorageError(f"{path} is no file of SqliteSaver: it has no table `checkpoints`")
    except BaseException:
        connection.close()
        raise
    return connection


def _import(connection: sqlite3.Connection, saver: Checkpointer, thread: str) -> int:
    columns = {row[1] for row in connection.execute("pragma table_info(writes)")}
    path = "task_path" if "task_path" in columns else "''"
    # That saver's head is the largest id, so ids are the order of insertion here.
    rows = connection.execute(
        "select checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata "
        "from checkpoints where thread_id=? order by checkpoint_id",
        (thread,),
    )
    count = 0
    for ns, identifier, parent, kind, content, metadata in rows:
        configurable = {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": parent}
        checkpoint = saver.serde.loads_typed((kind, content))
        saver.put({"configurable": configurable}, checkpoint, json.loads(metadata or "{}"), {})
        writes = connection.execute(
            f"select task_id, {path}, idx, channel, type, value from writes "  # noqa: S608 - our own words
            "where thread_id=? and checkpoint_ns=? and checkpoint_id=? order by task_id, idx",
            (thread, ns, identifier),
        )
        address = (thread, ns, identifier)
        for task, items in _by_task(
            Write(t, p, i, c, saver.serde.loads_typed((k, v))) for t, p, i, c, k, v in writes
        ):
            saver.store_writes(address, task, items)
        count += 1
    return count


def _by_task(writes: Iterator[Write]) -> Iterator[tuple[tuple[str, str], list[tuple[int, str, Any]]]]:
    """Tasks and their writes; special ones apart, since they are stored in another way."""
    found: dict[tuple[str, str, bool], list[tuple[int, str, Any]]] = {}
    for write in writes:
        key = (write.task_id, write.task_path, write.channel in WRITES_IDX_MAP)
        found.setdefault(key, []).append((write.at, write.channel, write.value))
    for (task_id, task_path, _), items in found.items():
        yield (task_id, task_path), items


def export_to(saver: Checkpointer, other: BaseCheckpointSaver[Any]) -> int:
    """Put all threads into another saver; returns how many checkpoints. A fork becomes a whole thread."""
    count = 0
    for thread in saver.threads():
        versions: dict[tuple[str, str], Any] = {}
        for found, writes in saver.history(thread):
            count += 1
            _export(other, found, versions)
            for (task_id, task_path), items in _by_task(iter(writes)):
                ordered = [(channel, value) for _, channel, value in sorted(items, key=lambda item: item[0])]
                other.put_writes(found.config, ordered, task_id, task_path)
    return count


def _export(
    other: BaseCheckpointSaver[Any], found: CheckpointTuple, versions: dict[tuple[str, str], Any]
) -> None:
    """Put one checkpoint, naming the channel versions that its parent does not have."""
    configurable = found.config["configurable"]
    ns = configurable["checkpoint_ns"]
    parent = found.parent_config["configurable"]["checkpoint_id"] if found.parent_config else None
    known = versions.get((ns, parent), {}) if parent else {}
    now = found.checkpoint["channel_versions"]
    versions[ns, configurable["checkpoint_id"]] = now
    config = {"configurable": {**configurable, "checkpoint_id": parent}}
    fresh = {name: version for name, version in now.items() if known.get(name) != version}
    other.put(config, found.checkpoint, found.metadata, fresh)  # type: ignore[arg-type]
