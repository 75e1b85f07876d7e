"""What a command does through a file that was written in this step: a script is judged as what it runs.

Where texts of others were read, an order to delete could else go by way of a file: written by one call that
looks harmless, run by another one that does not show what it does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from orchestrator.safety.policy import Policy
from orchestrator.safety.taint import losses
from orchestrator.safety.thread import Thread
from orchestrator.safety.verdict import Call, Finding, Judgement
from orchestrator.tools.registry import TOOLS

_SHELL = re.compile(r"(?:^|/)(?:[\w-]+|[Mm]akefile|.*\.(?:sh|bash|zsh|mk|command))\Z")
_PYTHON_LINE = re.compile(r"#!.*python")
MOST = 20
"""Files that are looked into, the last ones first."""


def launched(call: Call, thread: Thread, policy: Policy) -> tuple[Finding, ...]:
    """Losses in the files that were written in this step, as far as they are in the workspace now.

    Which of them a command reaches is not known: tests, build files and modules are run without being named.
    """
    found: list[Finding] = []
    for path, text in thread.written[-MOST:]:
        if run := _as_run(call, path, text):
            found += losses(run, _present(policy.judge(run), policy.root), thread)
    return tuple(replace(each, subject=f"{each.subject} by {path}") for each in found)


def _as_run(call: Call, path: str, text: str) -> Call | None:
    """The call that would run a text directly; None for what is no program of a kind that can be judged."""
    if path.endswith(".py") or _PYTHON_LINE.match(text):
        return replace(call, tool="run_python", arguments={"code": text}, effects=_EFFECTS["run_python"])
    if _SHELL.search(path) or text.startswith("#!"):
        return replace(call, tool="run_command", arguments={"command": text}, effects=_EFFECTS["run_command"])
    return None


_EFFECTS = {name: TOOLS[name].effects for name in ("run_python", "run_command")}


def _present(judged: Judgement, root: Path) -> Judgement:
    """A judgement with those findings alone that are on something in the workspace."""
    return replace(judged, findings=tuple(_on_files(judged.findings, root)))


def _on_files(findings: tuple[Finding, ...], root: Path) -> Iterator[Finding]:
    for finding in findings:
        if finding.path and Path(finding.path).is_relative_to(root) and os.path.lexists(finding.path):
            yield finding
