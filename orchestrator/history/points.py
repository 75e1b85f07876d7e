"""Name a moment of a run as people write it: `RUN[/BRANCH][@STEP]`.

STEP is a number as `orc runs show` prints it, or the name of a node, which means the last time that it ran.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from orchestrator.branches import Branch, Step
from orchestrator.errors import UsageError, near
from orchestrator.runs import Run, Runs


@dataclass(frozen=True)
class Point:
    """A moment of a run."""

    run: Run
    branch: Branch
    step: Step | None
    """The step that was about to run; None is the end of the branch."""

    @property
    def name(self) -> str:
        """The point in full."""
        at = f"@{self.step.number}" if self.step else ""
        return f"{self.run.id}/{self.branch.name}{at}"


def find_point(runs: Runs, text: str) -> Point:
    """The moment that a text names; raises UsageError with near matches."""
    name, at, wanted = text.partition("@")
    run = runs.get(name)
    branch = runs.branches.get(run.branch)
    return Point(run, branch, find_step(runs, branch, wanted) if at else None)


@contextmanager
def held(runs: Runs, text: str) -> Iterator[Point]:
    """The same, with its run held so that it stays so; raises UsageError when a run is worked on."""
    with runs.held(text.partition("@")[0]):
        yield find_point(runs, text)


def find_step(runs: Runs, branch: Branch, wanted: str) -> Step:
    """A step of a branch by number or by the name of its node."""
    steps = runs.branches.steps(branch)
    where = f"{branch.run}/{branch.name}"
    if not steps:
        raise UsageError(f"{where} has no steps yet that one could name")
    if wanted.isdecimal():
        found = [step for step in steps if step.number == int(wanted)]
        if not found:
            raise UsageError(f"{where} has steps 1 to {steps[-1].number}, not {wanted}")
        return found[-1]
    found = [step for step in steps if step.node == wanted]
    if not found:
        names = list(dict.fromkeys(step.node for step in reversed(steps)))
        raise UsageError(f"{where} has no step {wanted!r}{near(wanted, names)}")
    return found[-1]


def start_of_turn(runs: Runs, branch: Branch, turn: int) -> Step:
    """The moment before a turn took its request in; raises UsageError when it was not kept."""
    for step in reversed(runs.branches.steps(branch)):
        if step.node == "turn" and step.turn == turn:
            return step
    raise UsageError(f"{branch.run}/{branch.name} has no beginning of turn {turn} to go back to")
