"""Judge every call that the model asked for, before anything runs."""

from __future__ import annotations

from typing import Any

from langgraph.runtime import Runtime

from orchestrator.context import Context, enter
from orchestrator.nodes.circles import denied_lately
from orchestrator.nodes.judging import judge
from orchestrator.nodes.messages import FINISH, last_answer
from orchestrator.state import SpecialistState


async def guardian(state: SpecialistState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Give each pending call a verdict; runs nothing and asks nobody."""
    step = state["brief"]["step"]
    context = enter(runtime, "guardian", step=step["id"], agent=step["agent"])
    verdicts = {}
    for call in last_answer(state).tool_calls:
        if call["name"] == FINISH:
            continue
        verdict = await judge(call, state, context)
        verdicts[str(call["id"])] = verdict
        # What runs has its arguments in its intent; of the rest, this is the only record.
        kept = None if verdict["decision"] == "allow" else call["args"]
        context.journal.write("verdict", call=str(call["id"]), tool=call["name"], **verdict, arguments=kept)
    is_denied = any(verdict["decision"] == "deny" for verdict in verdicts.values())
    denied = denied_lately(context.journal.of_turn()) if is_denied else 0
    return {"verdicts": verdicts, "decisions": {}, "denied": denied}
