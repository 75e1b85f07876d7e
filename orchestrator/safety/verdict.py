"""The words of a judgement: what was asked, what was found, what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from orchestrator.effects import Effects
from orchestrator.safety.visible import escaped

Loss = Literal["no", "maybe", "yes"]
STRICTNESS = {"allow": 0, "ask": 1, "deny": 2}
"""Of decisions: a higher one is stricter."""


class Level(IntEnum):
    """How grave a finding is; of several, the gravest decides."""

    ALLOW = 0
    SNAPSHOT = 1
    """Changes or deletes something that a snapshot of the workspace brings back."""
    REVIEW = 2
    """Not known to be harmless: fit for a sandbox, otherwise for a person."""
    ASK = 3
    DENY = 4


@dataclass(frozen=True)
class Finding:
    """One thing that one part of a call would do."""

    rule: str
    """Such as `shell.delete-outside`."""
    level: Level
    why: str
    subject: str = ""
    """The command or path that it was found in, shortened and without control characters."""
    target: str = ""
    """The path that would change or be read, if the finding is on one."""
    scope: str = ""
    """Where the target lies, such as `inside` or `system`."""
    path: str = ""
    """The target as an absolute path on this machine; empty where it is not known."""
    loss: Loss = "no"
    """Whether something that is there now would be gone afterwards, were there no snapshot."""


@dataclass(frozen=True)
class Call:
    """One tool call, before it runs."""

    tool: str
    arguments: Mapping[str, Any]
    effects: Effects
    agent: str
    approval: Literal["auto", "ask", "read-only"] = "auto"
    hosts: tuple[str, ...] = ()
    """What its commands may reach, see `reach`; without any, the sandbox keeps them from the network."""


@dataclass(frozen=True)
class Judgement:
    """What follows for a call."""

    decision: Literal["allow", "ask", "deny"]
    rule: str
    why: str
    """One sentence for the person and for the model."""
    inside: bool
    """Whether everything that it touches lies in the workspace."""
    read_only: bool = False
    """The command only reads, with programs that run nothing else: the `inspect` view is safe for it."""
    findings: tuple[Finding, ...] = ()
    reaches: tuple[str, ...] = ()
    """Commands and code in it that would reach another machine, whole."""


def spelt(level: Level) -> str:
    """A level as rule files and verdicts write it."""
    return "allow_with_snapshot" if level is Level.SNAPSHOT else level.name.lower()


def gravest(findings: tuple[Finding, ...]) -> Finding:
    """The finding that decides; the first one of several equals."""
    return max(findings, key=lambda finding: finding.level, default=Finding("none", Level.ALLOW, ""))


def printable(text: str, limit: int = 120) -> str:
    """A text on one line, with everything that a terminal would hide or obey shown escaped."""
    shown = escaped(text[: limit + 1].replace("\n", "; "), keep="")
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def explain(judgement: Judgement) -> str:
    """A judgement for the screen: the decision with its reason, then the other findings, gravest first."""
    lines = [f"{judgement.decision}: {judgement.why} [{judgement.rule}]"]
    seen = {judgement.rule}
    for finding in sorted(judgement.findings, key=lambda found: -found.level):
        if finding.level > Level.ALLOW and finding.rule not in seen:
            seen.add(finding.rule)
            subject = f" — {finding.subject}" if finding.subject else ""
            lines.append(f"  {finding.level.name.lower()}: {finding.why} [{finding.rule}]{subject}")
    return "\n".join(lines)
