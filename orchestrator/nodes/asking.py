"""What a person is shown of a call that needs them, and what they may answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from langchain_core.messages.tool import ToolCall

from orchestrator.approvals import canonical
from orchestrator.approvals.remembered import scope
from orchestrator.nodes.judging import Situation
from orchestrator.nodes.stakes import stakes
from orchestrator.safety.origin import origin
from orchestrator.safety.visible import escaped, warnings
from orchestrator.state import Verdict

NEVER_REMEMBERED = ("request.", "taint.")
"""Rules that look at more than the call: the next time the same call may be another matter."""
BY_YES = "--yes"
"""Who decided, where nobody looked at the call."""


def is_attended(decision: Mapping[str, Any]) -> bool:
    """Whether a person approved the call, now or for good."""
    return decision["type"] == "approve" and decision.get("by") != BY_YES


def may_remember(verdict: Verdict) -> bool:
    """Whether the same call may be allowed from now on: only what is the user's own and stays inside."""
    is_own = not verdict.get("taint") and not verdict.get("sources")
    return verdict["inside"] and is_own and not verdict["rule"].startswith(NEVER_REMEMBERED)


async def request_of(situation: Situation, verdict: Verdict) -> dict[str, Any]:
    """An action request in LangChain's HITL shape, with everything that helps to decide.

    `args` are what would run, letter by letter; texts for reading have hidden characters written out.
    """
    call, context = situation.call, situation.context
    agent = context.agents[situation.brief["step"]["agent"]]
    counted = await stakes(situation.judged, situation.effects, context)
    text = canonical(call["args"])
    return {
        "call": str(call["id"]),
        "name": call["name"],
        "args": call["args"],
        "description": escaped(verdict["why"]),
        "rule": verdict["rule"],
        "origin": origin(verdict["rule"], context.root, agent),
        "inside": verdict["inside"],
        "agent": agent.name,
        "stakes": counted.as_json(),
        "warnings": warnings(json.dumps(call["args"], ensure_ascii=False, default=str)),
        "sources": [escaped(source) for source in verdict.get("sources", [])],
        "remember": scope(agent.name, call["name"], text, verdict["rule"]) if may_remember(verdict) else "",
    }


def payload(step: str, requests: list[dict[str, Any]]) -> dict[str, Any]:
    """The question, one action request for each call, in order."""
    return {
        "step": step,
        "action_requests": requests,
        "review_configs": [
            {"action_name": request["name"], "allowed_decisions": ["approve", "edit", "reject"]}
            for request in requests
        ],
    }


def answers(answer: Any, identifiers: list[str]) -> list[dict[str, Any]] | None:
    """The decisions in an answer; None when it answers another question than this one.

    What is no decision is a rejection, so that nothing runs by mistake.
    """
    given = answer if isinstance(answer, dict) else {}
    if given.get("ids") != identifiers:
        return None
    decisions = given.get("decisions")
    if not isinstance(decisions, list) or len(decisions) != len(identifiers):
        return [{"type": "reject", "message": "no valid decision was given"}] * len(identifiers)
    return [decision(item) for item in decisions]


def decision(item: Any) -> dict[str, Any]:
    """One decision, reduced to what it may hold."""
    given = item if isinstance(item, dict) else {}
    if given.get("type") == "approve":
        return {"type": "approve"} | ({"remember": True} if given.get("remember") is True else {})
    if given.get("type") == "edit" and isinstance(given.get("edited_action"), dict):
        return {"type": "edit", "edited_action": given["edited_action"]}
    return {"type": "reject", "message": str(given.get("message") or "")}


def is_asked(verdicts: dict[str, Verdict], call: ToolCall) -> bool:
    """Whether the guardian wants a person to look at a call."""
    verdict = verdicts.get(str(call["id"]))
    return verdict is not None and verdict["decision"] == "ask"
