"""What a call would change and what could be lost by it, counted by code on the files as they are now.

The person who is asked reads it, and so does the guardian's model: it is fact, and nobody's opinion.
Counting is bounded in time and number, follows no link and changes nothing.
"""

from __future__ import annotations

import asyncio
import glob
import os
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from orchestrator.context import Context
from orchestrator.effects import Effects
from orchestrator.safety.verdict import Finding, Judgement
from orchestrator.safety.visible import escaped
from orchestrator.sandbox import Confinement
from orchestrator.snapshots.model import SnapshotLimits
from orchestrator.snapshots.scan import HEAVY
from orchestrator.tools.process import environment

MOST_TARGETS, MOST_ENTRIES, MOST_SECONDS = 12, 20_000, 0.3
GIT_SECONDS = 2.0
_INSIDE = frozenset({"inside", "root", "git"})
_UNSAFE_TO_WALK = frozenset({"device", "nowhere"})


@dataclass(frozen=True)
class Stake:
    """One path that a call would change, as it is now."""

    target: str
    """As the call names it, with hidden characters written out."""
    effect: str
    """Such as `delete`, `write` or `move`."""
    where: str
    """Such as `inside`, `outside`, `system` or `unknown`."""
    exists: bool | None = None
    """None where nobody knows, because the path is not known before the command runs."""
    files: int = 0
    bytes: int = 0
    is_partial: bool = False
    """There is more than was counted."""
    tracked: bool | None = None
    """Whether Git has a version of it; None where nobody knows."""


@dataclass(frozen=True)
class Stakes:
    """Everything that a call would change."""

    changes: tuple[Stake, ...]
    more: int
    """Targets beyond those that are listed."""
    undo: str
    """`yes`, or why not, in one clause."""

    def as_json(self) -> dict[str, Any]:
        """Plain values for a payload."""
        return {"changes": [asdict(each) for each in self.changes], "more": self.more, "undo": self.undo}


async def stakes(judged: Judgement, effects: Effects, context: Context) -> Stakes:
    """Count what a judged call would change."""
    return await asyncio.to_thread(_stakes, judged, effects, context)


def _stakes(judged: Judgement, effects: Effects, context: Context) -> Stakes:
    found = list({(each.target, each.rule): each for each in judged.findings if each.scope}.values())
    changing = [each for each in found if _effect(each) != "read"]
    until = time.monotonic() + MOST_SECONDS
    tracked = _tracked([each.path for each in changing[:MOST_TARGETS] if each.scope in _INSIDE], context)
    counted = [(each, _stake(each, until, tracked)) for each in changing[:MOST_TARGETS]]
    undo = _undo(judged, effects, counted, context)
    return Stakes(tuple(each for _, each in counted), max(0, len(changing) - MOST_TARGETS), undo)


def _effect(finding: Finding) -> str:
    """The word between the dots and dashes of `shell.delete-outside` and `path.write`."""
    return finding.rule.partition(".")[2].partition("-")[0]


def _stake(finding: Finding, until: float, tracked: dict[str, bool]) -> Stake:
    shown, where = escaped(finding.target, keep=""), finding.scope
    if not finding.path or where in _UNSAFE_TO_WALK:
        return Stake(shown, _effect(finding), where)
    files = size = entries = 0
    is_partial = False
    for found in _found(finding.path):
        entries += 1
        is_partial = entries > MOST_ENTRIES or time.monotonic() > until
        if is_partial:
            break
        files += not stat.S_ISDIR(found.st_mode)
        size += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return Stake(
        shown, _effect(finding), where, entries > 0, files, size, is_partial, tracked.get(finding.path)
    )


def _found(path: str) -> Iterator[os.stat_result]:
    """What is at a path, or at all that a pattern matches, and below it."""
    is_pattern = glob.has_magic(path) and not os.path.lexists(path)
    names = glob.iglob(path) if is_pattern else iter([path])  # noqa: PTH207 - Path.glob takes no absolute one
    for name in names:
        try:
            found = os.lstat(name)
        except OSError:
            continue
        yield found
        if stat.S_ISDIR(found.st_mode):
            yield from _below(name)


def _below(folder: str) -> Iterator[os.stat_result]:
    for place, folders, files in os.walk(folder, followlinks=False):
        for name in (*folders, *files):
            try:
                yield os.lstat(os.path.join(place, name))  # noqa: PTH118 - in a loop over many
            except OSError:
                continue


def _tracked(paths: list[str], context: Context) -> dict[str, bool]:
    """By path, whether Git tracks it or something below; empty where Git cannot be asked safely.

    A repository's own settings can make Git run programs, so it is asked inside the sandbox only.
    """
    root, sandbox = context.root, context.tool_context.sandbox
    plain = [path for path in paths if path and not glob.has_magic(path)]
    if not plain or not sandbox.is_confining or not (root / ".git").exists():
        return {}
    relative = [os.path.relpath(path, root) for path in plain]
    argv = ["git", "-c", "core.fsmonitor=false", "--literal-pathspecs", "ls-files", "-z", "--", *relative]
    try:
        ended = subprocess.run(
            sandbox.wrap(argv, Confinement(root=root, cwd=root, view="work")),
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=GIT_SECONDS,
            env=environment(),
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    if ended.returncode:
        return {}
    listed = [name.decode("utf-8", "replace") for name in islice(ended.stdout.split(b"\0"), MOST_ENTRIES)]
    return {
        path: any(name == short or short == "." or name.startswith(f"{short}/") for name in listed if name)
        for path, short in zip(plain, relative, strict=True)
    }


def _undo(judged: Judgement, effects: Effects, counted: list[tuple[Finding, Stake]], context: Context) -> str:
    """`yes`, or why `orc undo` cannot bring back what was there."""
    if judged.read_only or effects.is_read_only:
        return "yes"
    if context.snapshots is None:
        return "no files are kept here"
    if effects.executes and not context.tool_context.sandbox.is_confining:
        return "nothing confines the command, so it may change anything"
    if not judged.inside or (effects.network and effects.writes):
        return "it may change something outside the workspace, which is not kept"
    large = SnapshotLimits().file_bytes
    for finding, stake in counted:
        if stake.bytes > large:
            return f"{stake.target} is large, and files above {large >> 20} MB are not kept"
        if HEAVY.intersection(Path(finding.path).parts):
            return f"{stake.target} is in a folder that is not kept, because tools can fill it again"
    return "yes"
