"""Care of the state file: is all of it sound, how much is it, and what may go."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.branches import Branch
from orchestrator.errors import OrcError, StorageError, UsageError
from orchestrator.events import broken_links, events_since, kept
from orchestrator.mirror import forget
from orchestrator.runs import RESUMABLE, Run, Runs
from orchestrator.settings import Retention
from orchestrator.snapshots import Snapshots
from orchestrator.storage import FOLDER, state_path

if TYPE_CHECKING:
    from orchestrator.checkpoints import Checkpointer

DAY = 86_400.0
_PARTS = ("events", "steps", "branches", "undos", "approvals")


def verify(root: Path, runs: Runs) -> list[str]:
    """Everything that is wrong, a line each; reads the whole file, so it takes its time."""
    connection = runs.connection
    found = [f"the file is damaged: {text}" for (text,) in connection.execute("pragma integrity_check")]
    found = [text for text in found if not text.endswith(": ok")]
    for (identifier,) in connection.execute("select id from runs").fetchall():
        found += _told(partial(_unreachable, runs, identifier))
        found += _told(partial(broken_links, connection, identifier))
    found += _told(partial(_unreadable_blobs, connection))
    found += _told(partial(_missing_blobs, connection))
    found += _told(partial(_in_checkpoints, root, runs))
    return [*found, *_told(partial(_missing_snapshots, root, connection))]


def stats(root: Path, runs: Runs) -> dict[str, int]:
    """Counts and sizes in bytes."""
    from orchestrator.checkpoints import saver_of  # noqa: PLC0415

    with saver_of(root) as saver:
        checkpoints = saver.stats()
    connection = runs.connection
    counts = {
        name: connection.execute(f"select count(*) from {name}").fetchone()[0]  # noqa: S608
        for name in ("runs", "branches", "events", "blobs")
    }
    blobs = connection.execute("select ifnull(sum(length(data)), 0) from blobs").fetchone()[0]
    return {
        **counts,
        **{name: count for name, count in checkpoints.items() if name not in {"bytes", "free_bytes"}},
        "file_bytes": _size(state_path(root).parent.glob("state.db*")),
        "free_bytes": checkpoints["free_bytes"],
        "recorded_bytes": blobs,
        "snapshot_bytes": _size((root / FOLDER / "snapshots").rglob("*")),
        "log_bytes": _size((root / FOLDER / "logs").glob("*")),
    }


def prunable(runs: Runs, retention: Retention, now: float) -> list[Run]:
    """The ended runs that retention does not keep, oldest first; one that can go on on any branch is kept."""
    everything = runs.list(1_000_000_000)
    marks = ", ".join("?" * len(RESUMABLE))
    rows = runs.connection.execute(
        f"select run from branches where not removed and status in ({marks})",  # noqa: S608
        tuple(RESUMABLE),
    )
    unfinished = {run for (run,) in rows}
    found = {
        run.id: run
        for at, run in enumerate(everything)
        if run.id not in unfinished
        and (
            (retention.days is not None and now - run.updated > retention.days * DAY)
            or (retention.runs is not None and at >= retention.runs)
        )
    }
    return list(reversed(found.values()))


def prune(root: Path, runs: Runs, doomed: Iterable[Run]) -> list[Run]:
    """Remove whole runs, with their branches, checkpoints and logs; returns them. Then `gc` frees space.

    A run that another process works on is left alone.
    """
    from orchestrator.checkpoints import saver_of  # noqa: PLC0415

    removed = []
    with saver_of(root) as saver:
        for run in doomed:
            with suppress(UsageError):
                _remove(root, runs, saver, run.id)
                removed.append(run)
    return removed


def remove(root: Path, runs: Runs, run: str) -> None:
    """Remove one whole run, ended or not; raises UsageError when another process works on it."""
    from orchestrator.checkpoints import saver_of  # noqa: PLC0415

    with saver_of(root) as saver:
        _remove(root, runs, saver, run)


def _remove(root: Path, runs: Runs, saver: Checkpointer, run: str) -> None:
    with runs.lock(run):
        threads = runs.connection.execute("select id from branches where run=? order by rowid desc", (run,))
        for (thread,) in threads.fetchall():
            saver.delete_thread(thread)
        _forget(runs.connection, run)
    forget(root / FOLDER / "logs", run)
    (root / FOLDER / "locks" / run).unlink(missing_ok=True)


def gc(root: Path, runs: Runs) -> dict[str, int]:
    """Free what nothing stands on any more; returns bytes by part. The caller holds all runs.

    Raises StorageError, and frees nothing, where the journal is damaged: its rows say what is needed.
    """
    from orchestrator.checkpoints import saver_of  # noqa: PLC0415

    connection = runs.connection
    _check_journal(connection)
    before = _size(state_path(root).parent.glob("state.db*"))
    alive = _alive(_all_branches(runs))
    with saver_of(root) as saver:
        for thread in saver.threads():
            row = connection.execute("select removed from branches where id=?", (thread,)).fetchone()
            if row and row[0] and thread not in alive:
                saver.delete_thread(thread)
        saver.gc()
        needed = _needed_blobs(connection)
        for (digest,) in connection.execute("select digest from blobs").fetchall():
            if digest not in needed:
                connection.execute("delete from blobs where digest=?", (digest,))
        saver.compact()
    connection.execute("pragma wal_checkpoint(truncate)")
    freed = {"file": max(0, before - _size(state_path(root).parent.glob("state.db*"))), "snapshots": 0}
    if (root / FOLDER / "snapshots").exists():
        freed["snapshots"] = Snapshots(root).keep_only(_needed_snapshots(connection))
    return freed


def _check_journal(connection: sqlite3.Connection) -> None:
    _needed_blobs(connection)
    _needed_snapshots(connection)
    for (run,) in connection.execute("select id from runs").fetchall():
        broken = broken_links(connection, run)
        if broken:
            raise StorageError(
                f"the journal is damaged ({broken[0]}), so what it needs is not known and nothing was freed; "
                f"restore a backup or remove the run: `orc runs rm {run}`"
            )


def backup(runs: Runs, target: Path) -> int:
    """Write a whole and checked copy of the state file; returns its bytes. Raises OrcError."""
    _make_new(target)
    try:
        runs.connection.execute("vacuum into ?", (str(target),))
        with closing(sqlite3.connect(target)) as copy:
            is_sound = copy.execute("pragma integrity_check").fetchone()[0] == "ok"
    except sqlite3.Error as error:
        target.unlink(missing_ok=True)
        advice = (
            "the state file is damaged, `orc db verify` tells more"
            if "malformed" in str(error)
            else "free some space or name another place"
        )
        raise StorageError(f"cannot write {target}: {error}; {advice}") from None
    if not is_sound:
        target.unlink()
        raise StorageError(
            f"the copy in {target} was damaged and is removed: `orc db verify` says if the state file is; "
            "if not, the disk is"
        )
    return target.stat().st_size


def import_file(root: Path, runs: Runs, source: Path) -> int:
    """Bring the threads of a SqliteSaver's file in, each as a run; returns how many checkpoints."""
    from orchestrator.checkpoints import import_from, saver_of  # noqa: PLC0415

    with saver_of(root) as saver:
        before = set(saver.threads())
        count = import_from(source, saver)
        added = {thread: _turns_in(saver, thread) for thread in saver.threads() if thread not in before}
    for thread, turns in added.items():
        run = runs.create(f"imported: {thread}")
        runs.connection.execute(
            "update branches set id=?, status='done', turns=? where id=?", (thread, turns, run.branch)
        )
        runs.switch(run.id, thread)
    return count


def _turns_in(saver: Checkpointer, thread: str) -> int:
    """How many turns a conversation of orc has had, so that the next one is not taken for one of them."""
    found = saver.get_tuple({"configurable": {"thread_id": thread, "checkpoint_ns": ""}})
    turns = found.checkpoint["channel_values"].get("turn") if found else None
    return turns if type(turns) is int and turns > 0 else 0


def export_file(root: Path, target: Path) -> int:
    """Write all threads to a new file of SqliteSaver; returns how many checkpoints."""
    from orchestrator.checkpoints import export_to, saver_of  # noqa: PLC0415

    try:
        from langgraph.checkpoint.sqlite import SqliteSaver  # noqa: PLC0415 - only this command needs it
    except ImportError:
        raise UsageError(
            "this needs the package langgraph-checkpoint-sqlite: install it beside orc"
        ) from None
    _make_new(target)
    try:
        with saver_of(root) as saver, SqliteSaver.from_conn_string(str(target)) as other:
            return export_to(saver, other)
    except BaseException as error:
        for ending in ("", "-wal", "-shm"):
            Path(f"{target}{ending}").unlink(missing_ok=True)
        if isinstance(error, sqlite3.Error):
            raise StorageError(
                f"cannot write {target}: {error}; free some space or name another place"
            ) from None
        raise


def _make_new(target: Path) -> None:
    """Make an empty file that no other process makes too."""
    try:
        target.touch(exist_ok=False)
    except FileExistsError:
        raise UsageError(f"{target} is there already; name a new file") from None
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror}; name another place") from None


def _alive(branches: list[Branch]) -> set[str]:
    """Branches that are not removed, and all that they stand on."""
    by_id = {branch.id: branch for branch in branches}
    found: set[str] = set()
    for branch in branches:
        at: Branch | None = branch
        while at and not branch.removed and at.id not in found:
            found.add(at.id)
            at = by_id.get(at.parent)
    return found


def _all_branches(runs: Runs) -> list[Branch]:
    return [runs.branches.get(name) for (name,) in runs.connection.execute("select id from branches")]


def _forget(connection: sqlite3.Connection, run: str) -> None:
    connection.execute("begin immediate")
    for table in _PARTS:
        connection.execute(f"delete from {table} where run=?", (run,))  # noqa: S608 - our own names
    connection.execute("delete from runs where id=?", (run,))
    connection.execute("commit")


def _missing_blobs(connection: sqlite3.Connection) -> list[str]:
    # In this order, so that what a run adds meanwhile is not taken for missing.
    needed = _needed_blobs(connection)
    have = {digest for (digest,) in connection.execute("select digest from blobs")}
    return [f"a recorded text ({digest}) is missing" for digest in needed - have]


def _missing_snapshots(root: Path, connection: sqlite3.Connection) -> list[str]:
    needed = _needed_snapshots(connection)
    if (root / FOLDER / "snapshots").exists():
        return Snapshots(root).verify(needed)
    return [f"all {len(needed)} snapshots of the files are missing"] if needed else []


def _needed_blobs(connection: sqlite3.Connection) -> set[str]:
    found: set[str] = set()
    for event in events_since(connection, 0.0, ("exchange",)):
        value = event.fields
        found |= {*value["messages"], value["options"], value["response"]}
    return found


def _needed_snapshots(connection: sqlite3.Connection) -> set[str]:
    found: set[str] = set()
    for event in events_since(connection, 0.0, ("snapshot", "tool_intent", "tool_result")):
        value = event.fields
        found |= {str(value[name]) for name in ("id", "before", "after") if value.get(name)}
    for (record,) in connection.execute("select record from undos where not redone"):
        found |= {snapshot for edge in json.loads(record)["edges"] for snapshot in edge}
    return found


def _unreachable(runs: Runs, run: str) -> None:
    """Raise an error where a branch, or what it stands on, is lost."""
    runs.get(run)
    for branch in runs.branches.of(run):
        runs.branches.lineage(branch)


def _unreadable_blobs(connection: sqlite3.Connection) -> list[str]:
    digests = connection.execute("select digest from blobs").fetchall()
    return [line for (digest,) in digests for line in _told(partial(_unreadable, connection, digest))]


def _unreadable(connection: sqlite3.Connection, digest: str) -> None:
    kept(connection, digest)


def _in_checkpoints(root: Path, runs: Runs) -> list[str]:
    from orchestrator.checkpoints import saver_of  # noqa: PLC0415 - langgraph takes seconds

    with saver_of(root) as saver:
        return [*saver.verify(), *_without_checkpoints(runs, set(saver.threads()))]


def _without_checkpoints(runs: Runs, threads: set[str]) -> list[str]:
    return [
        f"{branch.run}/{branch.name} has no checkpoints"
        for branch in _all_branches(runs)
        if branch.parent and not branch.removed and branch.id not in threads
    ]


def _told(check: Callable[[], Iterable[str] | None]) -> list[str]:
    try:
        return list(check() or ())
    except OrcError as error:
        return [str(error)]
    except sqlite3.Error as error:
        return [f"the file is damaged: {str(error)[:200]}"]


def _size(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())


def is_due(root: Path, now: float | None = None) -> bool:
    """Whether retention was not applied for a day; marks it as applied."""
    mark = root / FOLDER / "pruned"
    now = time.time() if now is None else now
    if mark.exists() and now - mark.stat().st_mtime < DAY:
        return False
    mark.touch()
    return True
