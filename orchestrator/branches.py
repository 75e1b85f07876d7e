"""The branches of a run, and the steps at which one can fork.

A fork is a moment: the new branch sees what had been written by then, events and checkpoints alike,
just as if the process had been killed at that moment. So it costs the same at any length.
"""

from __future__ import annotations

import re
import sqlite3
import time
from dataclasses import dataclass, fields
from typing import Any, Literal

from orchestrator.errors import StorageError, UsageError, near

Status = Literal["running", "waiting", "done", "failed", "refused", "stopped", "budget", "cut off"]
"""`failed` and `refused` have ended, with an answer that says so; `stopped` has not, whatever stopped it."""
MAIN = "main"
_NAME = re.compile(r"[A-Za-z][\w.-]{0,39}")


@dataclass(frozen=True)
class Branch:
    """One line of a run."""

    id: str
    """Also the name of its LangGraph thread."""
    run: str
    name: str
    parent: str
    """Id of the branch that it was forked from; empty for the first one."""
    forked_at: int
    """Number of the step that it was forked before; 0 for the first branch."""
    seq: int | None
    """The last event of the parent that it sees."""
    position: int | None
    """The moment of the parent's checkpoints that it starts from."""
    created: float
    """Seconds since the epoch."""
    status: Status
    turns: int
    agent: str
    """Who worked last."""
    approves: bool
    """Whether `--yes` was given for the current turn."""
    reason: str
    """Why it stopped, when it did."""
    removed: bool = False
    """Taken out of lists; its rows stay while other branches stand on them."""


@dataclass(frozen=True)
class Step:
    """A node of the graph that was about to run; one can fork here."""

    number: int
    """Counted from 1 along the branch and its ancestors."""
    branch: str
    at: float
    turn: int
    node: str
    """Name of the node, or `turn` for the moment before a request was taken in."""
    step: str
    """Id of the plan's step, where there is one."""
    agent: str
    position: int
    """The moment in the branch's checkpoints."""
    seq: int
    """The last event before it."""


@dataclass(frozen=True)
class Seen:
    """How much a branch sees of itself or of an ancestor; None is all of it."""

    branch: str
    seq: int | None = None
    """The last event."""
    before: int | None = None
    """The number of the first step that is not seen any more."""


Lineage = tuple[Seen, ...]
"""A branch and its ancestors, itself first."""


_BRANCH = ", ".join(item.name for item in fields(Branch))
_STEP = ", ".join(item.name for item in fields(Step))


class Branches:
    """The branches of the runs of one workspace."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def begin(self, run: str, created: float) -> Branch:
        """The first branch of a new run."""
        branch = Branch(run, run, MAIN, "", 0, None, None, created, "stopped", 0, "", False, "")
        self._insert(branch)
        return branch

    def fork(self, source: Branch, step: Step | None, name: str, end: int) -> Branch:
        """Add a branch that starts before a step, or at the end of its source (`end`, the last event).

        It counts as removed until the caller has forked the checkpoints too.
        """
        count = self._connection.execute(
            "select count(*) from branches where run=?", (source.run,)
        ).fetchone()[0]
        status, turns = source.status, source.turns
        if step is not None:
            is_start = step.node == "turn"
            status, turns = ("done", step.turn - 1) if is_start else ("stopped", step.turn)
        branch = Branch(
            id=f"{source.run}.{count}",
            run=source.run,
            name=name,
            parent=step.branch if step else source.id,
            forked_at=step.number if step else self.last_number(source) + 1,
            seq=step.seq if step else end,
            position=step.position if step else None,
            created=time.time(),
            status=status,
            turns=turns,
            agent=source.agent,
            approves=False,
            reason="",
            removed=True,
        )
        self._insert(branch)
        return branch

    def check_name(self, run: str, name: str) -> None:
        """Raise UsageError for a name that cannot be given to a new branch."""
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} is no name for a branch: a letter first, then letters, digits, `.`, `_` or `-`"
            )
        if any(branch.name == name for branch in self.of(run)):
            raise UsageError(f"{run} has a branch {name!r} already; take another name")

    def free_name(self, run: str, stem: str) -> str:
        """The first of `stem-1`, `stem-2`, … that is not taken."""
        taken = {branch.name for branch in self.of(run)}
        return next(name for n in range(1, len(taken) + 2) if (name := f"{stem}-{n}") not in taken)

    def get(self, identifier: str) -> Branch:
        """One branch by id; raises StorageError when its row is lost."""
        row = self._connection.execute(
            f"select {_BRANCH} from branches where id=?",  # noqa: S608
            (identifier,),
        ).fetchone()
        if row is None:
            raise _lost(f"the branch {identifier} is missing")
        return _branch(row)

    def named(self, run: str, name: str) -> Branch:
        """One branch by name; raises UsageError with near matches."""
        found = self.of(run)
        branch = next((each for each in found if each.name == name), None)
        if branch is None:
            raise UsageError(f"{run} has no branch {name!r}{near(name, [each.name for each in found])}")
        return branch

    def of(self, run: str) -> list[Branch]:
        """The branches of a run, oldest first; removed ones are left out."""
        rows = self._connection.execute(
            f"select {_BRANCH} from branches where run=? and not removed order by rowid",  # noqa: S608
            (run,),
        )
        return [_branch(row) for row in rows]

    def update(self, identifier: str, **columns: str | float | None) -> None:
        """Set columns of a branch."""
        names = ", ".join(f"{name}=?" for name in columns)
        self._connection.execute(
            f"update branches set {names} where id=?",  # noqa: S608
            (*columns.values(), identifier),
        )

    def lineage(self, branch: Branch) -> Lineage:
        """What a branch sees of itself and of its ancestors."""
        found = [Seen(branch.id)]
        while branch.parent:
            if any(part.branch == branch.parent for part in found):
                raise _lost(f"the branch {branch.id} stands on itself")
            found.append(Seen(branch.parent, branch.seq, branch.forked_at))
            branch = self.get(branch.parent)
        return tuple(found)

    def steps(self, branch: Branch) -> list[Step]:
        """The steps that a branch has behind it, its ancestors' included, in order."""
        found: list[Step] = []
        for part in self.lineage(branch):
            rows = self._connection.execute(
                f"select {_STEP} from steps where run=? and branch=? and number < ifnull(?, 1e18)"  # noqa: S608
                " order by number, id",
                (branch.run, part.branch, part.before),
            )
            found = [*(Step(*row) for row in rows), *found]
        return found

    def last_number(self, branch: Branch) -> int:
        """The number of the last step of a branch; 0 when it has none."""
        steps = self.steps(branch)
        return steps[-1].number if steps else 0

    def _insert(self, branch: Branch) -> None:
        row = tuple(vars(branch).values())
        marks = ", ".join("?" * len(row))
        self._connection.execute(f"insert into branches ({_BRANCH}) values ({marks})", row)  # noqa: S608


def _lost(what: str) -> StorageError:
    return StorageError(f"the state file is damaged: {what}; restore a backup")


def seen_events(lineage: Lineage) -> tuple[str, list[Any]]:
    """A condition on `branch` and `seq` for the events that a branch sees, and its values."""
    parts: list[str] = []
    values: list[Any] = []
    for part in lineage:
        parts.append("branch=?" if part.seq is None else "(branch=? and seq<=?)")
        values += [part.branch] if part.seq is None else [part.branch, part.seq]
    return f"({' or '.join(parts)})", values


def _branch(row: tuple[Any, ...]) -> Branch:
    names = (item.name for item in fields(Branch))
    values = dict(zip(names, row, strict=True))
    flags = {name: bool(values[name]) for name in ("approves", "removed")}
    return Branch(**{**values, **flags})
