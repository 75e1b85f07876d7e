"""Ask a person about the calls that the guardian does not let through alone.

A node that calls `interrupt` runs again from its first line when the answer comes, so what this one does
before it can be done twice: it reads, and makes the rows that the answers are bound to.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.messages import AIMessage
from langchain_core.messages.tool import ToolCall
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt

from orchestrator.approvals import Asked, Row, canonical
from orchestrator.context import Context, enter
from orchestrator.errors import UsageError
from orchestrator.nodes.asking import BY_YES, answers, is_asked, may_remember, payload, request_of
from orchestrator.nodes.intent import NOT_ASKED, WHOLESALE
from orchestrator.nodes.judging import Situation, is_outdated, situation_of
from orchestrator.nodes.messages import last_answer
from orchestrator.state import SpecialistState, Verdict


@dataclass(frozen=True)
class Question:
    """One call that a person has to decide on."""

    situation: Situation
    verdict: Verdict
    request: dict[str, Any]
    row: Row


async def approval(
    state: SpecialistState, runtime: Runtime[Context]
) -> Command[Literal["guardian", "tools"]]:
    """Get a decision for each asked call: approve, edit or reject.

    The payload has LangChain's human-in-the-loop shape, one action request for each call, and the
    answer is `{"decisions": [{"type": "approve"} | {"type": "reject", "message": …} |
    {"type": "edit", "edited_action": {"name": …, "args": …}}, …], "ids": […]}`, in the same order;
    `ids` are those of the requests.
    """
    step = state["brief"]["step"]
    context = enter(runtime, "approval", step=step["id"], agent=step["agent"])
    message = last_answer(state)
    asked = [call for call in message.tool_calls if is_asked(state["verdicts"], call)]
    situations = [await situation_of(call, state, context) for call in asked]
    if any(situation.judged.decision == "deny" for situation in situations):
        context.grants.withdraw(context.journal.branch, keep=())
        # The policy has changed since it was judged, and nobody can approve what it denies.
        return Command(goto="guardian")
    beside = [call for call in message.tool_calls if _is_let_through(state["verdicts"], call)]
    if any([await is_outdated(call, state, context) for call in beside]):
        # An answer may take days: what was let through beside the question is judged as of now.
        return Command(goto="guardian")
    decisions: dict[str, dict[str, Any]] = {}
    attended: list[Situation] = []
    for situation in situations:
        standing = _standing(situation, state["verdicts"][str(situation.call["id"])])
        if standing:
            decisions[str(situation.call["id"])] = standing
        else:
            attended.append(situation)
    context.grants.withdraw(context.journal.branch, keep=[str(each.call["id"]) for each in attended])
    decisions |= await _attended(attended, state)
    # An edit is judged first; what was approved beside it keeps its row until then.
    edited = {key: value["edited_action"] for key, value in decisions.items() if value["type"] == "edit"}
    settled = {key: value for key, value in decisions.items() if not edited or key in edited}
    for call in asked:
        if str(call["id"]) in settled:
            said = {**settled[str(call["id"])], "user": context.budget.who.user}
            context.journal.write("approval", call=str(call["id"]), tool=call["name"], **said)
    if edited:
        return Command(goto="guardian", update={"messages": [_with_edits(message, edited)]})
    return Command(goto="tools", update={"decisions": decisions})


def _is_let_through(verdicts: Mapping[str, Verdict], call: ToolCall) -> bool:
    verdict = verdicts.get(str(call["id"]))
    return verdict is not None and verdict["decision"] == "allow"


def _standing(situation: Situation, verdict: Verdict) -> dict[str, Any] | None:
    """What was decided before: remembered by a person, or by `--yes` for all that stays inside."""
    call, context = situation.call, situation.context
    agent = situation.brief["step"]["agent"]
    if may_remember(verdict):
        rule = context.remembered.covering(agent, call["name"], call["args"], verdict["rule"])
        if rule:
            return {"type": "approve", "by": f"remembered {rule.id}"}
    if not context.approves or not verdict["inside"]:
        return None
    if verdict["rule"] in {NOT_ASKED, WHOLESALE} or verdict["rule"].startswith("taint."):
        return {"type": "reject", "by": BY_YES, "message": f"{verdict['why']}; go on without it"}
    return {"type": "approve", "by": BY_YES}


async def _attended(situations: list[Situation], state: SpecialistState) -> dict[str, dict[str, Any]]:
    """The decisions of a person, by call; each answer is used up here, once."""
    if not situations:
        return {}
    context = situations[0].context
    while True:
        questions = [await _question(situation, state) for situation in situations]
        waiting = [each for each in questions if each.row.is_open]
        if waiting:
            identifiers = [each.row.id for each in waiting]
            requests = [{"id": each.row.id, **each.request} for each in waiting]
            given = answers(interrupt(payload(state["brief"]["step"]["id"], requests)), identifiers)
            for each, said in zip(waiting, given or [], strict=bool(given)):
                with suppress(UsageError):  # decided elsewhere in the meantime: that stands
                    context.grants.decide(each.row.id, said, "person")
            continue
        decisions = {each.row.call: dict(each.row.decision) for each in questions}
        edits = [each for each in questions if each.row.decision["type"] == "edit"]
        if context.grants.use([each.row for each in edits or questions]):
            return {
                each.row.call: _told(each, decisions[each.row.call], is_used=each in edits or not edits)
                for each in questions
            }


async def _question(situation: Situation, state: SpecialistState) -> Question:
    call, context, brief = situation.call, situation.context, situation.brief
    verdict, agent = state["verdicts"][str(call["id"])], brief["step"]["agent"]
    request = await request_of(situation, verdict)
    asked = Asked(
        run=context.journal.run,
        branch=context.journal.branch,
        turn=context.journal.turn,
        step=brief["step"]["id"],
        call=str(call["id"]),
        agent=agent,
        tool=call["name"],
        arguments=canonical(call["args"]),
        policy=" ".join([context.policy.digest, context.agents[agent].approval, *context.hosts_of(agent)]),
        taint=verdict.get("taint", 0),
    )
    return Question(situation, verdict, request, context.grants.ask(asked, request))


def _told(question: Question, said: dict[str, Any], *, is_used: bool) -> dict[str, Any]:
    """A decision as state and journal have it; what is to be remembered is remembered now."""
    wish = said.pop("remember", False)
    by = f"{question.row.by} ({question.row.id})"
    if wish and is_used and may_remember(question.verdict):
        call, agent = question.situation.call, question.row.agent
        rule = question.situation.context.remembered.add(
            agent, call["name"], call["args"], question.verdict["rule"]
        )
        by += f", remembered as {rule.id}"
    return {**said, "by": by}


def _with_edits(message: AIMessage, edited: dict[str, dict[str, Any]]) -> AIMessage:
    """The same message with the person's arguments; its id makes it replace the old one.

    The text that the model wrote goes, because it would show the model a call that never ran.
    """
    calls: list[ToolCall] = [
        {**call, "args": edited[str(call["id"])].get("args", call["args"])}
        if str(call["id"]) in edited
        else call
        for call in message.tool_calls
    ]
    return AIMessage(content="", id=message.id, tool_calls=calls)
