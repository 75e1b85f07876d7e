"""What the policy says of a command on its own: nothing confines it, and no snapshot brings anything back.

`orc policy check` prints this. In a run the sandbox and the snapshots carry what only asks here.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

from orchestrator.safety.rulebook import Book
from orchestrator.safety.shell import examine
from orchestrator.safety.verdict import Finding, Level, gravest, spelt
from orchestrator.safety.words import Scene

Decision = Literal["allow", "allow_with_snapshot", "review", "ask", "deny"]
UNFAMILIAR = frozenset({"shell.not-known", "http.fetch", "net.copies-in", "shell.write-private"})
"""Findings that say only that little is known, and nothing bad: they stay `review`."""
MILD = frozenset({"shell.raises-rights-to-read", "remote.reads"})
"""Findings on something outside the workspace that is read, and no more."""
_LIKELY = re.compile(
    r"(\./)?((src|lib|app)/)?"
    r"(app|main|index|server|config|settings|utils|models|views|routes|urls|style|notes|data)\.(?!log$)\w+"
)
"""Files that most projects have: in a run, whether they are there is looked up."""
FAILURES = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError, RecursionError)


@dataclass(frozen=True)
class Opinion:
    """The verdict on one command, with nothing around it that would soften it."""

    decision: Decision
    """`ask` for what loses something or runs something grave; `review` and `allow_with_snapshot` are
    mild forms of allow: nothing speaks against the command, but it is unfamiliar, or may overwrite."""
    level: Level
    """The gravest level of the findings."""
    rule: str
    why: str
    inside: bool
    """Whether everything that it touches lies in the workspace."""
    findings: tuple[Finding, ...] = ()
    error: str = ""
    """Why there is no proper verdict; the decision is then `ask`."""

    @property
    def confined(self) -> str:
        """What follows in a sandbox with snapshots: `allow`, `ask` or `deny`."""
        if self.level >= Level.ASK:
            return self.level.name.lower()
        return "allow" if self.inside or self.level is Level.ALLOW else "ask"

    def as_json(self) -> dict[str, Any]:
        """Plain values for one line of JSON."""
        findings = [
            {**asdict(item), "command": item.subject, "level": spelt(item.level)} for item in self.findings
        ]
        for item in findings:
            del item["subject"], item["path"]
        shown = {
            "decision": self.decision,
            "level": spelt(self.level),
            "in_sandbox": self.confined,
            "rule": self.rule,
            "why": self.why,
            "inside": self.inside,
            "findings": findings,
        }
        return shown | ({"error": self.error} if self.error else {})


def opinion(command: str, scene: Scene, book: Book) -> Opinion:
    """The verdict on a command; never raises: a failure in here asks."""
    try:
        found = examine(command, scene, book)
    except FAILURES as error:
        return failed(f"the policy could not judge this ({type(error).__name__})")
    worst = gravest(found.findings)
    if not found.findings and not found.reads_only:
        return failed("the policy found nothing to say")
    why = worst.why or ("only reads" if found.reads_only else "known to be harmless")
    return Opinion(
        _decision(found.findings, worst.level, inside=found.inside),
        worst.level,
        worst.rule if found.findings else "harmless",
        why,
        found.inside,
        found.findings,
    )


def _decision(findings: tuple[Finding, ...], worst: Level, *, inside: bool) -> Decision:
    if worst >= Level.ASK:
        return "deny" if worst is Level.DENY else "ask"
    reviewed = {item.rule for item in findings if item.level is Level.REVIEW}
    losses = {
        "yes" if item.loss == "maybe" and _LIKELY.fullmatch(item.target) else item.loss for item in findings
    }
    if "yes" in losses or reviewed - UNFAMILIAR - MILD or (reviewed - MILD and not inside):
        return "ask"
    if reviewed:
        return "review"
    return "allow_with_snapshot" if "maybe" in losses else "allow"


def failed(why: str) -> Opinion:
    """The verdict where there can be none: a person has to look."""
    finding = Finding("policy.failed", Level.ASK, why)
    return Opinion("ask", Level.ASK, finding.rule, why, inside=False, findings=(finding,), error=why)
