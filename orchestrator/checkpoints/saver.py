"""LangGraph's checkpointer on our file: the public methods, sync and async."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from orchestrator.checkpoints import care, lineage, threads
from orchestrator.checkpoints.caches import Memory
from orchestrator.checkpoints.elements import Recent
from orchestrator.checkpoints.ink import Ink
from orchestrator.checkpoints.operations import Change, PutCheckpoint, PutWrites
from orchestrator.checkpoints.outline import Point, outline
from orchestrator.checkpoints.reading import Query, Reader, Write
from orchestrator.checkpoints.serializer import strict_serializer
from orchestrator.checkpoints.store import SqliteStorage, Storage
from orchestrator.checkpoints.threads import Choice
from orchestrator.checkpoints.writer import Writer

Names: TypeAlias = list[str]
Points: TypeAlias = list[Point]
Levels: TypeAlias = list[tuple[str, int | None]]
Full: TypeAlias = tuple[CheckpointTuple, list[Write]]


_OF_GRAPH = "__pregel_runtime"
"""What LangGraph adds to the config of a graph that runs."""
_HALTS = frozenset({"__error__", "__interrupt__"})
_HALTED = 1 << 12


class Checkpointer(BaseCheckpointSaver[str]):
    """Keeps every step of every thread in one SQLite file.

    All methods may be called from any thread and any event loop. What `put` or `put_writes` returned
    from survives the end of the process; writes of a running graph, which it does not wait for, 20 ms later.
    Errors of the file are StorageError.
    """

    def __init__(self, path: str | Path, *, serde: SerializerProtocol | None = None) -> None:
        """Open the file, made if it is missing; `:memory:` keeps everything in memory."""
        self._open(SqliteStorage(path), serde)

    def _open(self, storage: Storage, serde: SerializerProtocol | None) -> None:
        super().__init__(serde=serde or strict_serializer())
        self._storage = storage
        self._memory = Memory(storage.key, storage.peek(lambda rows, _: int(rows.meta("epoch"))))
        self._writer = Writer(storage, self._memory)
        self._halted: Recent[str, bool] = Recent(_HALTED)
        """Ids of checkpoints with an error or an interrupt: another one may never follow them."""
        self._reader = Reader(storage, self._memory)

    @classmethod
    def over(cls, storage: Storage, *, serde: SerializerProtocol | None = None) -> Checkpointer:
        """A checkpointer on an open storage."""
        made = cls.__new__(cls)
        made._open(storage, serde)
        return made

    @classmethod
    def from_conn_string(cls, path: str | Path) -> Checkpointer:
        """For `with` and `async with`, as the savers of LangGraph are opened."""
        return cls(path)

    def close(self) -> None:
        """Commit what waits and close the file; closing twice does nothing."""
        try:
            self._writer.close()
        finally:
            self._storage.close()

    async def aclose(self) -> None:
        """The same."""
        self.close()

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Checkpointer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Reading.

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that the config names, or the head: the one inserted last."""
        self._writer.flush()
        return self._get(config)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The same."""
        await self._writer.aflush()
        return self._get(config)

    def _get(self, config: RunnableConfig) -> CheckpointTuple | None:
        thread, ns = _address(config)
        if _OF_GRAPH in config["configurable"]:
            self._writer.forgive(thread, ns)
        checkpoint_id = get_checkpoint_id(config)
        found = self._reader.get(self.serde, thread, ns, checkpoint_id or None)
        return found._replace(config=config) if found is not None and checkpoint_id else found

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, the one inserted last first. Tuples of one listing share their messages."""
        self._writer.flush()
        yield from self._reader.listing(self.serde, _query(config, filter, before, limit))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """The same."""
        await self._writer.aflush()
        for found in self._reader.listing(self.serde, _query(config, filter, before, limit)):
            yield found

    # Writing.

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,  # noqa: ARG002 - every value is compared, not only these
    ) -> RunnableConfig:
        """Store a checkpoint; it is committed when this returns."""
        self._writer.put(self._checkpoint(config, checkpoint, metadata))
        return _stored(config, checkpoint)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,  # noqa: ARG002 - as in `put`
    ) -> RunnableConfig:
        """The same."""
        await self._writer.aput(self._checkpoint(config, checkpoint, metadata))
        return _stored(config, checkpoint)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store pending writes of a task; they are committed when this returns.

        Those that a running graph makes and does not wait for are committed within 20 ms.
        """
        if writes:
            operation = self._writes(config, writes, (task_id, task_path))
            if not self._is_left(operation, config):
                self._writer.put(operation)
                return
            self._writer.leave(operation)
            if not self._is_left(operation, config):
                # A task beside it, in another thread, has just asked or failed.
                self._writer.flush(operation)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """The same."""
        if not writes:
            return
        operation = self._writes(config, writes, (task_id, task_path))
        if self._is_left(operation, config):
            self._writer.leave(operation)
        else:
            await self._writer.aput(operation)

    def _checkpoint(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata
    ) -> PutCheckpoint:
        address = (*_address(config), get_checkpoint_id(config))
        return PutCheckpoint(self.serde, address, (checkpoint, get_checkpoint_metadata(config, metadata)))

    def _writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task: tuple[str, str]
    ) -> PutWrites:
        address = (*_address(config), str(config["configurable"]["checkpoint_id"]))
        indexed = [
            (WRITES_IDX_MAP.get(channel, at), channel, value) for at, (channel, value) in enumerate(writes)
        ]
        if any(channel in _HALTS for channel, _ in writes):
            self._halted.put(address[2], True)
        return PutWrites(self.serde, address, task, indexed)

    def _is_left(self, operation: PutWrites, config: RunnableConfig) -> bool:
        """Whether a graph that goes on made them: after an error or an interrupt nothing may follow."""
        is_running = _OF_GRAPH in config["configurable"]
        is_last = any(channel in WRITES_IDX_MAP for _, channel, _ in operation.writes)
        return is_running and not is_last and not self._halted.get(operation.checkpoint_id)

    def store_writes(
        self, address: tuple[str, str, str], task: tuple[str, str], writes: Sequence[tuple[int, str, Any]]
    ) -> None:
        """Pending writes with their indexes, as another saver had them."""
        self._writer.put(PutWrites(self.serde, address, task, writes))

    def history(self, thread_id: str) -> Iterator[Full]:
        """All checkpoints of a thread in the order of their insertion, with all that is known of writes."""
        self._writer.flush()
        return self._reader.history(self.serde, str(thread_id))

    def get_next_version(self, current: str | None, channel: None) -> str:  # noqa: ARG002 - LangGraph's
        """The version after one of ours or of another saver.

        Branches of one thread count alike; the random end keeps their versions apart in savers that
        look values up by version.
        """
        last = current if isinstance(current, int) else int(current.split(".")[0]) if current else 0
        return f"{last + 1:032}.{random.getrandbits(20):07}"

    # Threads.

    def position(self, thread_id: str) -> int:
        """A moment of a thread: grows with every write to it, in any namespace; 0 when it is empty."""
        return self._writer.position(str(thread_id))

    def lineage(self, thread_id: str) -> Levels:
        """The thread and its ancestors, each with the position up to which it is seen (None: all).

        An ancestor that was deleted, and is kept for its forks only, has an empty name.
        """
        with self._storage.reading() as rows:
            levels = lineage.lineage(rows, str(thread_id))
        return [(level.thread.id or "", level.upto if at else None) for at, level in enumerate(levels)]

    def threads(self) -> Names:
        """The names of all threads, oldest first."""
        self._writer.flush()
        with self._storage.reading() as rows:
            return [thread.id for thread in rows.threads() if thread.id is not None]

    def outline(self, thread_id: str, ns: str | None = None) -> Points:
        """All checkpoints of a thread without their content, newest first; quick at any size."""
        self._writer.flush()
        with self._storage.reading() as rows:
            return outline(rows, str(thread_id), ns)

    def fork(self, thread_id: str, new_thread_id: str, position: int | None = None) -> None:
        """Make a thread that sees what another saw at a position, in the same time at any length.

        Raises UsageError when there is no such thread or position, or when the new one exists.
        """
        old, new = str(thread_id), str(new_thread_id)
        self._writer.put(Change(lambda ink: threads.fork(ink, old, new, position)))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Make the target see all checkpoints and pending writes that the source has now."""
        self._writer.put(self._copying(source_thread_id, target_thread_id))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """The same."""
        await self._writer.aput(self._copying(source_thread_id, target_thread_id))

    def _copying(self, source: str, target: str) -> Change:
        return Change(lambda ink: threads.copy(ink, self._memory.caches, str(source), str(target)))

    def delete_thread(self, thread_id: str) -> None:
        """Remove a thread; its forks keep all that they see."""
        self._writer.put(_deleting([thread_id]))

    async def adelete_thread(self, thread_id: str) -> None:
        """The same."""
        await self._writer.aput(_deleting([thread_id]))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep the head of each namespace (`keep_latest`), or nothing (`delete`); forks keep all."""
        self._writer.put(self._pruning(thread_ids, strategy))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """The same."""
        await self._writer.aput(self._pruning(thread_ids, strategy))

    def _pruning(self, thread_ids: Sequence[str], strategy: str) -> Change:
        if strategy == "delete":
            return _deleting(thread_ids)
        if strategy != "keep_latest":
            raise ValueError(f"unknown strategy {strategy!r}: it is keep_latest or delete")
        return self._keeping(threads.newest(self.serde), [str(name) for name in thread_ids])

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints whose metadata name one of these runs, in every thread."""
        self._writer.put(self._keeping(threads.without_runs(self.serde, run_ids), None))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """The same."""
        await self._writer.aput(self._keeping(threads.without_runs(self.serde, run_ids), None))

    def _keeping(self, choose: Choice, names: Sequence[str] | None) -> Change:
        def work(ink: Ink) -> None:
            wanted = (
                names if names is not None else [one.id for one in ink.rows.threads() if one.id is not None]
            )
            for name in wanted:
                threads.keep(ink, self._memory.caches, name, choose)

        return Change(work)

    # Care.

    def gc(self) -> int:
        """Remove what no thread needs any more; returns the bytes that this set free in the file."""
        freed = []
        self._writer.put(Change(lambda ink: freed.append(care.collect(ink, self._memory.caches))))
        return freed[0]

    def compact(self) -> None:
        """Give free space back to the file system; rewrites the file."""
        self._writer.flush()
        self._storage.compact()

    def verify(self) -> Names:
        """All problems of the file, one line each; empty when everything can be read."""
        self._writer.flush()
        with self._storage.reading() as rows:
            return care.verify(rows, Memory(self._storage.key, 0).caches, self.serde)

    def stats(self) -> dict[str, int]:
        """Counts of threads, forks, checkpoints, writes and elements, and bytes."""
        self._writer.flush()
        with self._storage.reading() as rows:
            return care.stats(rows)


def _deleting(names: Sequence[str]) -> Change:
    def work(ink: Ink) -> None:
        for name in names:
            threads.delete(ink, str(name))

    return Change(work)


def _address(config: RunnableConfig) -> tuple[str, str]:
    configurable = config["configurable"]
    return str(configurable["thread_id"]), str(configurable.get("checkpoint_ns") or "")


def _stored(config: RunnableConfig, checkpoint: Checkpoint) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": config["configurable"]["thread_id"],
            "checkpoint_ns": config["configurable"].get("checkpoint_ns", ""),
            "checkpoint_id": checkpoint["id"],
        }
    }


def _query(
    config: RunnableConfig | None,
    wanted: dict[str, Any] | None,
    before: RunnableConfig | None,
    limit: int | None,
) -> Query:
    earlier = get_checkpoint_id(before) if before else None
    if config is None:
        return Query(before=earlier, filter=wanted, limit=limit)
    thread, _ = _address(config)
    ns = config["configurable"].get("checkpoint_ns")
    return Query(thread, ns, get_checkpoint_id(config) or None, earlier, wanted, limit)
