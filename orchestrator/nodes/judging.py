"""Judge one call: what the policy says of it, then steps that may only tighten that.

A step sees the call in its situation and the verdict so far, and proposes another one or None.
`tightest` stands between any two of them, so no step can loosen what was decided before it. The guardian's
model, where one is set, comes last and sees only what would be let through unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from langchain_core.messages import AnyMessage
from langchain_core.messages.tool import ToolCall

from orchestrator.approvals.remembered import GUARDIAN
from orchestrator.context import Context
from orchestrator.effects import WORST, Effects, Trust
from orchestrator.nodes.circles import NOT_AVAILABLE
from orchestrator.nodes.grey import is_grey, reviewed
from orchestrator.nodes.intent import NOT_ASKED, WHOLESALE, beyond_yes, is_unasked
from orchestrator.nodes.launched import launched
from orchestrator.nodes.messages import last_answer, with_search
from orchestrator.nodes.taint import origins, thread_of, with_paths
from orchestrator.safety.taint import ASKED, LEAVES, concerns, is_own_temporary
from orchestrator.safety.thread import Thread
from orchestrator.safety.verdict import STRICTNESS, Call, Judgement, Level, gravest
from orchestrator.sandbox import no_way
from orchestrator.state import Brief, SpecialistState, Verdict, offered


@dataclass(frozen=True)
class Situation:
    """A call, and what is known when it is judged."""

    call: ToolCall
    effects: Effects
    judged: Judgement
    """The policy's judgement, with all its findings."""
    brief: Brief
    """The user's words and the step of the plan."""
    done: Sequence[AnyMessage]
    """The messages of the step before the one that makes the call."""
    context: Context
    thread: Thread
    """The texts that it may have come from."""


SHOWN = ("command", "code")
"""Arguments that show what a call runs."""
PLAIN = ("shell.", "path.")
"""Rules on programs that are known and reach nothing, as long as they are mild."""
Tighten = Callable[[Situation, Verdict], Verdict | None]
"""Proposes a verdict in view of the one so far; None where it has nothing to add."""


async def judge(call: ToolCall, state: SpecialistState, context: Context) -> Verdict:
    """The verdict on a call; runs nothing and asks nobody."""
    situation, verdict = await _ruled(call, state, context)
    if situation is None:
        return verdict
    looked = await _reviewed(situation, verdict) if verdict["decision"] == "allow" else None
    verdict = tightest(verdict, looked) if looked else verdict
    hosts = granted(situation, verdict)
    return verdict if hosts is None else Verdict(**verdict, hosts=list(hosts))


async def is_outdated(call: ToolCall, state: SpecialistState, context: Context) -> bool:
    """Whether a call that was let through would be held to more by now, as rules and files are."""
    before = state["verdicts"][str(call["id"])]
    _, now = await _ruled(call, state, context)
    is_stricter = STRICTNESS[now["decision"]] > STRICTNESS[before["decision"]]
    return is_stricter or (before["read_only"] and not now["read_only"])


async def _ruled(
    call: ToolCall, state: SpecialistState, context: Context
) -> tuple[Situation | None, Verdict]:
    """What policy and steps say of a call, before any model; no situation where its agent lacks the tool."""
    brief = state["brief"]
    tool = context.tools.get(call["name"])
    tools = with_search(offered(brief["step"], context.agents[brief["step"]["agent"]].tools))
    if tool is None or tool.name not in tools:
        return None, _not_available(call, brief, context)
    situation = await situation_of(call, state, context)
    verdict = Verdict(
        decision=situation.judged.decision,
        rule=situation.judged.rule,
        why=situation.judged.why,
        inside=situation.judged.inside,
        read_only=situation.judged.read_only,
    )
    for step in STEPS:
        proposed = step(situation, verdict)
        verdict = tightest(verdict, proposed) if proposed else verdict
    return situation, verdict


async def _reviewed(situation: Situation, verdict: Verdict) -> Verdict | None:
    """What the guardian's model adds, where one is set and no person has allowed this very call for good."""
    call, judged, context = situation.call, situation.judged, situation.context
    if not is_grey(judged) or "guardian" not in context.settings.models:
        return None
    agent = situation.brief["step"]["agent"]
    is_own = not verdict.get("taint")
    if is_own and context.remembered.covering(agent, call["name"], call["args"], GUARDIAN):
        return None
    return await reviewed(call, judged, situation.effects, situation.brief, context)


def granted(situation: Situation, verdict: Verdict) -> tuple[str, ...] | None:
    """The hosts that a command gets a way to; none where it is kept from what its agent may reach.

    A command that names what it reaches has been judged for that. Of one that does not, nothing shows what it
    would send, so once texts were read that are not the user's, it has to be in the user's words or the plan.
    """
    call, judged = situation.call, situation.judged
    hosts = _hosts(situation.brief, situation.effects, situation.context)
    if not hosts or verdict["decision"] == "deny" or verdict["read_only"]:
        return None
    if judged.reaches:
        return hosts
    if all(finding.level < Level.REVIEW and finding.rule.startswith(PLAIN) for finding in judged.findings):
        return None
    texts = {name: call["args"][name] for name in SHOWN if name in call["args"]}
    effects = replace(situation.effects, network=True, targets=SHOWN)
    asked = Call(call["name"], texts, effects, situation.brief["step"]["agent"])
    found = concerns(asked, judged, situation.thread)
    return () if any(finding.rule in {*LEAVES, ASKED} for finding in found) else hosts


def _hosts(brief: Brief, effects: Effects, context: Context) -> tuple[str, ...]:
    """What a call may reach by the grant of its agent: only what runs in the sandbox is held to it."""
    agent = context.agents[brief["step"]["agent"]]
    hosts = context.hosts_of(agent.name) if effects.executes else ()
    if agent.hosts and effects.executes and not hosts:
        sandbox = context.tool_context.sandbox
        why = "sandbox.hosts in the settings does not allow it" if sandbox.has_gate else no_way(sandbox.name)
        context.journal.note_once(f"{agent.name} may not reach {', '.join(agent.hosts)}: {why}")
    return hosts


def tightest(before: Verdict, proposed: Verdict) -> Verdict:
    """The proposed verdict, held to the one before: no decision and no claim of harmlessness gets looser.

    Of two equal decisions the proposed one gives the rule and the reason.
    """
    is_looser = STRICTNESS[proposed["decision"]] < STRICTNESS[before["decision"]]
    decides = before if is_looser else proposed
    verdict = Verdict(
        decision=decides["decision"],
        rule=decides["rule"],
        why=decides["why"],
        inside=before["inside"] and proposed["inside"],
        read_only=before["read_only"] and proposed["read_only"],
    )
    if taint := max(before.get("taint", 0), proposed.get("taint", 0)):
        verdict["taint"] = taint
    if sources := list(dict.fromkeys([*before.get("sources", []), *proposed.get("sources", [])])):
        verdict["sources"] = sources
    return verdict


def _not_available(call: ToolCall, brief: Brief, context: Context) -> Verdict:
    agent = context.agents[brief["step"]["agent"]]
    names = ", ".join(offered(brief["step"], agent.tools))
    holder = "this step of the plan" if call["name"] in agent.tools else agent.name
    why = f"{holder} has no tool {call['name']!r}; it has: {names}"
    return Verdict(decision="deny", rule=NOT_AVAILABLE, why=why, inside=True, read_only=False)


async def situation_of(call: ToolCall, state: SpecialistState, context: Context) -> Situation:
    """A call as the policy judges it now."""
    brief = state["brief"]
    agent, tool = context.agents[brief["step"]["agent"]], context.tools.get(call["name"])
    effects = (tool.effects if tool else None) or WORST
    asked = Call(
        tool=call["name"],
        arguments=call["args"],
        effects=effects,
        agent=agent.name,
        approval=agent.approval,
        hosts=_hosts(brief, effects, context),
    )
    judged = await asyncio.to_thread(context.policy.judge, asked)
    done = [message for message in state["messages"] if message.id != last_answer(state).id]
    return Situation(
        call=call,
        effects=replace(effects, network=True) if asked.hosts and judged.reaches else effects,
        judged=judged,
        brief=brief,
        done=done,
        context=context,
        thread=thread_of(brief, done, context),
    )


def _wholesale(situation: Situation, verdict: Verdict) -> Verdict | None:
    """Too much to lose on a word that may have been meant otherwise: `--yes` does not cover it."""
    is_read_only = situation.judged.read_only or situation.effects.is_read_only
    why = beyond_yes(_rules(situation), situation.brief["request"], is_read_only=is_read_only)
    return _asking(WHOLESALE, why, verdict) if why else None


def _unasked(situation: Situation, verdict: Verdict) -> Verdict | None:
    """A deletion that the user did not speak of, and that the policy or `--yes` would let through."""
    arguments, request = situation.call["args"], situation.brief["request"]
    is_settled = verdict["decision"] == "deny" or not verdict["inside"]
    rules = [each.rule for each in situation.judged.findings if not is_own_temporary(each)]
    if is_settled or not is_unasked(rules, arguments, request, situation.thread.own):
        return None
    return _asking(NOT_ASKED, "it deletes something, and the request does not speak of deleting", verdict)


def _rules(situation: Situation) -> list[str]:
    return [finding.rule for finding in situation.judged.findings]


def _asking(rule: str, why: str, verdict: Verdict) -> Verdict:
    return Verdict(decision="ask", rule=rule, why=why, inside=verdict["inside"], read_only=False)


def _tainted(situation: Situation, verdict: Verdict) -> Verdict | None:
    """What neither the user nor the plan named loses its approval in a thread with untrusted text in it."""
    thread = with_paths(situation.thread, situation.call["args"], situation.effects, situation.context.root)
    call = Call(
        situation.call["name"], situation.call["args"], situation.effects, situation.brief["step"]["agent"]
    )
    found = concerns(call, situation.judged, thread)
    if situation.effects.executes and not situation.judged.read_only and thread.level >= Trust.WORKSPACE:
        found += launched(call, thread, situation.context.policy)
    if not found:
        return None
    worst = gravest(found)
    why = f"{worst.why}: {worst.subject}" if worst.subject else worst.why
    return Verdict(
        decision="deny" if worst.level is Level.DENY else "ask",
        rule=worst.rule,
        why=why,
        inside=verdict["inside"] and not any(finding.rule in LEAVES for finding in found),
        read_only=False,
        taint=max(thread.level, Trust.WORKSPACE.value),
        sources=origins([finding.subject for finding in found], situation.done),
    )


STEPS: tuple[Tighten, ...] = (_wholesale, _unasked, _tainted)
"""In this order; of equal decisions the last one's rule counts, and `--yes` never covers one of `taint`."""
