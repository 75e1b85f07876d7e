"""The queue of changes and their commits: one commit takes everything that waits.

Whoever needs a commit makes it, in its own thread, and takes the others' changes along. Pending writes of
a running graph, which nobody waits for, are left to the checkpoint that follows them, so a superstep is one
commit; a `Watchman` commits those that nothing followed within 20 ms. A checkpoint is never stored when
what was left to it could not be.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from orchestrator.checkpoints import lineage
from orchestrator.checkpoints.caches import Memory
from orchestrator.checkpoints.elements import Recent
from orchestrator.checkpoints.ink import Ends, Ink
from orchestrator.checkpoints.operations import Operation
from orchestrator.checkpoints.outcome import Outcome
from orchestrator.checkpoints.rows import Rows
from orchestrator.checkpoints.store import WAIT_SECONDS, Busy, Storage
from orchestrator.checkpoints.watchman import Watchman
from orchestrator.errors import StorageError

_THREADS = 1 << 12
_OWED = 256


class Writer:
    """Commits operations in the order in which they came."""

    def __init__(self, storage: Storage, memory: Memory) -> None:
        self._storage = storage
        self._memory = memory
        self._queue: deque[Operation] = deque()
        self._turn: Outcome | None = None
        """Of the batch that is neither committed nor in the queue, which a thread is at."""
        self._process = os.getpid()
        self._is_closed = False
        self._latest = ""
        """The thread that had a checkpoint last, from an event loop."""
        self._last: Recent[str, int] = Recent(_THREADS)
        """The last steps of threads."""
        self._ends: Ends | None = None
        """Of the last transaction, while no other connection had one."""
        self._watchman = Watchman(self)
        self._owed: dict[tuple[str, str, str], Exception] = {}
        """By checkpoint, why a change of it that nobody waited for could not be stored."""

    def close(self) -> None:
        """Commit what waits; nothing can be left any more."""
        self._is_closed = True
        self.flush()

    def leave(self, operation: Operation) -> None:
        """Let the next commit take a change along, some 20 ms from now at the latest.

        When it cannot be stored, what follows its checkpoint is not stored either and raises why.
        """
        if self._is_closed:
            self.put(operation)
            return
        operation.queued = time.monotonic()
        # The work is left too: two threads at it get in each other's way.
        self._enqueue(operation, is_ready=False)
        if not self._watchman.call():
            self.flush(operation)

    def queued(self) -> float | None:
        """Since when the oldest change waits that nobody commits."""
        return min((one.queued for one in list(self._queue) if one.queued), default=None)

    def commit_left(self) -> None:
        """Commit what waits, unless another one is at it; raises Busy then."""
        self._commit(wait=False)

    def forgive(self, thread: str, ns: str) -> None:
        """Owe a namespace nothing more: a graph begins there, with what is stored."""
        for after in list(self._owed):
            if after[:2] == (thread, ns):
                self._owed.pop(after, None)

    # From threads.

    def put(self, operation: Operation) -> None:
        """Commit; raises StorageError."""
        with self._answering(operation):
            self._enqueue(operation)
            self.flush(operation)
            operation.done.result()

    def flush(self, only: Operation | None = None) -> None:
        """Commit everything that waits, or until one operation is done; errors go to who waits for each.

        What comes in the meantime may have somebody to wait for, so it is not taken unasked.
        """
        self._renew()
        while not (only is not None and only.done.is_set()):
            if (turn := self._turn) is not None:
                turn.result()
            elif self._queue:
                with suppress(Busy):
                    self._commit(wait=True)
            elif self._turn is None:
                break

    # From event loops.

    async def aput(self, operation: Operation) -> None:
        """The same; the loop is never blocked for longer than a commit takes."""
        with self._answering(operation):
            self._enqueue(operation)
            try:
                if operation.thread != self._latest:
                    # Other conversations are at work, and have a checkpoint ready in this turn of the loop.
                    self._latest = operation.thread
                    await asyncio.sleep(0)
                await self.aflush(operation)
                await operation.done.settle()
            except asyncio.CancelledError:
                with suppress(Busy, StorageError):
                    self._commit(wait=False)
                raise
            operation.done.result()

    async def aflush(self, only: Operation | None = None) -> None:
        """The same, giving way while another process or thread writes."""
        self._renew()
        until = time.monotonic() + WAIT_SECONDS
        pause = 0.0003
        while not (only is not None and only.done.is_set()):
            if self._queue:
                try:
                    self._commit(wait=time.monotonic() > until)
                except Busy:
                    await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311 - no secret
                    pause = min(pause * 1.5, 0.002)
            elif (turn := self._turn) is not None:
                await turn.settle()
            elif not self._queue:
                break

    def position(self, thread: str) -> int:
        """The last step that a thread sees; asks the disk only when another process wrote."""
        return self._storage.peek(lambda rows, changed: self._position(thread, rows, changed))

    def _position(self, thread: str, rows: Rows, changed: bool) -> int:
        if changed:
            self._catch_up(rows)
        known = self._last.get(thread)
        if known is None:
            known = lineage.position(rows, thread)
            if known:
                self._last.put(thread, known)
        return known

    def _renew(self) -> None:
        """After a fork, what waits is the parent's to commit, and its locks may be held for ever."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._queue = deque()
            self._turn = None
            self._owed = {}
            self._watchman = Watchman(self)
            self._memory.forget(self._memory.caches.epoch)

    def _enqueue(self, operation: Operation, *, is_ready: bool = True) -> None:
        self._renew()
        caches = self._memory.caches
        if not caches.primers.is_loaded:
            with self._storage.reading() as rows:
                caches.primers.load(rows)
        if is_ready:
            operation.prepare(caches)
        self._queue.append(operation)

    @contextmanager
    def _answering(self, operation: Operation) -> Iterator[None]:
        """Forget what was left to an operation, once who waits for it is told that it was not stored."""
        at = operation.after[:2]
        try:
            yield
        except Exception as error:
            self._owed.pop(operation.after, None)
            if isinstance(error, StorageError):
                for one in list(self._queue):
                    if one is operation or (one.queued and one.after[:2] == at):
                        with suppress(ValueError):
                            self._queue.remove(one)
            raise

    def _take(self, batch: list[Operation], turn: Outcome) -> None:
        """What goes into one transaction; an operation that removes rows goes alone."""
        if self._turn is not None:
            # Changes of a batch that failed are tried one by one, and go first.
            raise Busy
        self._turn = turn
        while self._queue and not (batch and (batch[0].alone or self._queue[0].alone)):
            batch.append(self._queue.popleft())

    def _get_ready(self) -> None:
        """Encode what waits before a turn is taken; what cannot be encoded fails by itself later."""
        caches = self._memory.caches
        for operation in list(self._queue):
            if operation.caches is None:
                with suppress(Exception):
                    operation.prepare(caches)

    def _commit(self, *, wait: bool) -> None:
        self._get_ready()
        batch: list[Operation] = []
        turn = Outcome()

        def work(rows: Rows, changed: bool) -> Ink:
            if changed:
                self._catch_up(rows)
            self._take(batch, turn)
            return self._apply(rows, batch)

        def committed(ink: Ink) -> None:
            self._committed(ink)
            self._over(turn)

        try:
            self._storage.write(work, committed, wait=wait)
        except Busy:
            raise
        except Exception as error:
            if not batch:
                raise
            self._failed(batch, error)
        except BaseException:
            self._queue.extendleft(one for one in reversed(batch) if not one.done.is_set())
            raise
        else:
            for operation in batch:
                operation.done.set()
        finally:
            self._over(turn)

    def _over(self, turn: Outcome) -> None:
        if self._turn is turn:
            self._turn = None
        turn.set()

    def _failed(self, batch: list[Operation], error: Exception) -> None:
        """Find whose fault it is by giving each a transaction of its own."""
        for operation in batch:
            problem = error if len(batch) == 1 else self._alone(operation)
            if problem is not None and operation.queued:
                self._owed.setdefault(operation.after, problem)
                while len(self._owed) > _OWED:
                    self._owed.pop(next(iter(self._owed)))
            operation.done.set(problem)

    def _alone(self, operation: Operation) -> Exception | None:
        def work(rows: Rows, changed: bool) -> Ink:
            if changed:
                self._catch_up(rows)
            return self._apply(rows, [operation])

        try:
            self._storage.write(work, self._committed, wait=True)
        except Exception as error:  # noqa: BLE001 - as above
            return error
        return None

    def _apply(self, rows: Rows, batch: list[Operation]) -> Ink:
        caches = self._memory.caches
        caches.primers.load(rows)
        ink = Ink(rows, caches, self._ends)
        for operation in batch:
            owed = self._owed.get(operation.after) if self._owed else None
            if owed is not None and not operation.queued:
                # A checkpoint after it would hide the gap.
                raise owed
            if operation.caches is not caches:
                operation.prepare(caches)
            seq = operation.apply(ink, caches)
            if seq:
                ink.after_commit(lambda thread=operation.thread, seq=seq: self._last.put(thread, seq))  # type: ignore[misc]
        ink.finish()
        return ink

    def _committed(self, ink: Ink) -> None:
        self._ends = None if ink.removes else ink.ends
        if ink.removes:
            self._last.clear()
            self._memory.forget(self._memory.caches.epoch + 1)
        else:
            ink.committed()

    def _catch_up(self, rows: Rows) -> None:
        """Another connection committed: forget what may have moved."""
        self._last.clear()
        self._ends = None
        epoch = int(rows.meta("epoch"))
        if epoch != self._memory.caches.epoch:
            self._memory.forget(epoch)
