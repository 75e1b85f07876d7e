"""Judge every call that the model asked for, before anything runs."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_core.messages.tool import ToolCall
from langgraph.runtime import Runtime

from orchestrator.context import Context, enter
from orchestrator.effects import WORST
from orchestrator.nodes.intent import NOT_ASKED, WHOLESALE, beyond_yes, is_unasked
from orchestrator.nodes.messages import FINISH, last_answer
from orchestrator.safety.verdict import Call
from orchestrator.state import SpecialistState, Verdict


async def guardian(state: SpecialistState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Give each pending call a verdict; runs nothing and asks nobody."""
    step = state["brief"]["step"]
    context = enter(runtime, "guardian", step=step["id"], agent=step["agent"])
    verdicts = {}
    for call in last_answer(state).tool_calls:
        if call["name"] == FINISH:
            continue
        verdict = await _judge(call, state, context)
        verdicts[str(call["id"])] = verdict
        # What runs has its arguments in its intent; of the rest, this is the only record.
        kept = None if verdict["decision"] == "allow" else call["args"]
        context.journal.write("verdict", call=str(call["id"]), tool=call["name"], **verdict, arguments=kept)
    return {"verdicts": verdicts, "decisions": {}}


async def _judge(call: ToolCall, state: SpecialistState, context: Context) -> Verdict:
    brief = state["brief"]
    agent_name, allowed = brief["step"]["agent"], brief["step"]["tools"]
    agent, tool = context.agents[agent_name], context.tools.get(call["name"])
    if tool is None or tool.name not in agent.tools or (allowed and tool.name not in allowed):
        names = ", ".join(name for name in agent.tools if not allowed or name in allowed)
        return Verdict(
            decision="deny",
            rule="tool.not-available",
            why=f"{agent_name} has no tool {call['name']!r}; it has: {names}",
            inside=True,
            read_only=False,
        )
    judged = await asyncio.to_thread(
        context.policy.judge,
        Call(
            tool=tool.name,
            arguments=call["args"],
            effects=tool.effects or WORST,
            agent=agent_name,
            approval=agent.approval,
        ),
    )
    rules = [finding.rule for finding in judged.findings]
    done = [message for message in state["messages"] if message.id != last_answer(state).id]
    if judged.decision == "allow" and is_unasked(rules, call["args"], brief["request"], done):
        why = "it deletes something, and the request does not speak of deleting"
        return Verdict(decision="ask", rule=NOT_ASKED, why=why, inside=judged.inside, read_only=False)
    is_read_only = judged.read_only or (tool.effects or WORST).is_read_only
    too_much = beyond_yes(rules, brief["request"], is_read_only=is_read_only)
    if judged.decision != "deny" and too_much:
        return Verdict(decision="ask", rule=WHOLESALE, why=too_much, inside=judged.inside, read_only=False)
    return Verdict(
        decision=judged.decision,
        rule=judged.rule,
        why=judged.why,
        inside=judged.inside,
        read_only=judged.read_only,
    )
