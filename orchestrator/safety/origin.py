"""Where a rule stands: the file and the line that a person can look at and change."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.agents import Agent
from orchestrator.safety.policy_file import POLICY_FILE
from orchestrator.safety.rulebook import FOLDER
from orchestrator.settings import config_dir

BUILT_IN = "built in"


def origin(rule: str, root: Path, agent: Agent | None = None) -> str:
    """`file:line` of a rule, or `built in` for what the code decides without a file."""
    if rule.startswith("approval.") and agent is not None:
        return _line(agent.source, re.compile(r"\s*approval\s*:")) or str(agent.source)
    own = [config_dir() / POLICY_FILE, root / POLICY_FILE]
    level = re.compile(rf"""\s*["']?{re.escape(rule)}["']?\s*:""")
    name = re.compile(rf"""\s*(?:-\s+)?id\s*:\s*["']?{re.escape(rule)}["']?\s*(?:#.*)?$""")
    # A level that a person set for a rule is what they look for first.
    places = [_line(file, level) or _line(file, name) for file in own]
    places += [_line(file, name) for file in sorted(FOLDER.glob("*.yaml"))]
    return next((place for place in places if place), BUILT_IN)


def _line(file: Path, pattern: re.Pattern[str]) -> str:
    """`file:line` of the first line that matches; empty when there is none."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    number = next((at for at, line in enumerate(lines, 1) if pattern.match(line)), 0)
    shown = f"rules/{file.name}" if file.parent == FOLDER else str(file)
    return f"{shown}:{number}" if number else ""
