"""Today's policy over the calls that were recorded: which verdicts would come out otherwise now."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.effects import WORST, Effects
from orchestrator.events import Event, events_since
from orchestrator.safety.policy import Policy
from orchestrator.safety.verdict import STRICTNESS, Call

Approval = Literal["auto", "ask", "read-only"]
_BESIDE_POLICY = ("request.", "guardian.", "taint.", "tool.not-available")
"""Rules of the guardian beside the policy: they look at more than the call."""


@dataclass(frozen=True)
class Recorded:
    """One call as it was judged then."""

    at: float
    run: str
    agent: str
    tool: str
    arguments: Mapping[str, Any]
    decision: str
    rule: str


@dataclass(frozen=True)
class Flip:
    """A call that is judged otherwise today."""

    then: Recorded
    decision: str
    rule: str
    why: str

    @property
    def is_looser(self) -> bool:
        """Whether it needs less today than then."""
        return STRICTNESS[self.decision] < STRICTNESS[self.then.decision]


def recorded(connection: sqlite3.Connection, since: float) -> Iterator[Recorded]:
    """Every judged call since a time, with its arguments; calls whose arguments nobody kept are left out."""
    verdicts: dict[tuple[str, str], Event] = {}
    arguments: dict[tuple[str, str], Mapping[str, Any]] = {}
    for event in events_since(connection, since, ("verdict", "tool_intent", "tool_result")):
        key = (event.run, event.call)
        if event.kind == "verdict":
            verdicts[key] = event
        if isinstance(event.fields.get("arguments"), dict):
            arguments[key] = event.fields["arguments"]
    for key, event in verdicts.items():
        decision, rule = str(event.fields.get("decision")), str(event.fields.get("rule"))
        if key in arguments and decision in STRICTNESS and not rule.startswith(_BESIDE_POLICY):
            tool = str(event.fields.get("tool"))
            yield Recorded(event.at, event.run, event.agent, tool, arguments[key], decision, rule)


def flips(
    calls: Iterator[Recorded] | list[Recorded],
    policy: Policy,
    effects: Mapping[str, Effects],
    approvals: Mapping[str, Approval],
    hosts: Mapping[str, tuple[str, ...]],
) -> Iterator[Flip]:
    """The calls that come out otherwise with this policy, in their order."""
    for call in calls:
        judged = policy.judge(
            Call(
                call.tool,
                call.arguments,
                effects.get(call.tool, WORST),
                call.agent,
                approvals.get(call.agent, "auto"),
                hosts.get(call.agent, ()),
            )
        )
        if judged.decision != call.decision:
            yield Flip(call, judged.decision, judged.rule, judged.why)
