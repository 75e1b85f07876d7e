"""Take a tool's result in: cleaned, without secrets, marked with its provenance; and fence it for the model.

The state keeps the text without its fence, so that code which reads results finds them as tools wrote them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AnyMessage, ToolMessage
from langchain_core.messages.tool import ToolCall

from orchestrator.context import Context
from orchestrator.effects import WORST, Trust
from orchestrator.nodes.rounds import WRITES
from orchestrator.nodes.taint import secret_values
from orchestrator.safety.fences import briefly_fenced, fenced, nonce
from orchestrator.safety.provenance import OURS, Mark, mark_of, received
from orchestrator.safety.secrets import names_secret_file
from orchestrator.safety.thread import strings
from orchestrator.state import Verdict
from orchestrator.tools.results import SCHEME, cut


def message_of(
    call: ToolCall, text: str, verdict: Verdict | None, context: Context, *, limit: int
) -> ToolMessage:
    """The message that answers a call; without a verdict it did not run, and the text is ours."""
    mark: Mark = OURS
    if verdict is not None:
        text, mark = _received(call, text, verdict, context)
    return ToolMessage(
        cut(text, limit),
        tool_call_id=str(call["id"]),
        name=call["name"],
        id=f"{call['id']}-result",
        artifact=dict(mark),
    )


def _received(call: ToolCall, text: str, verdict: Verdict, context: Context) -> tuple[str, Mark]:
    tool = context.tools.get(call["name"])
    effects = tool.effects if tool else WORST
    texts = list(strings(call["args"]))
    is_kept = any(each.strip().startswith(SCHEME) for each in texts)
    is_loose = effects.executes and not context.tool_context.sandbox.is_confining
    trust = Trust.WEB if is_kept or is_loose or verdict.get("hosts") else effects.output
    text, mark = received(
        text, trust, secret_values(context.settings), secret=effects.reads and names_secret_file(texts)
    )
    if verdict["decision"] == "ask":
        mark["asked"] = True
    if mark["trust"] > Trust.WORKSPACE or mark.get("secret") or mark.get("hidden"):
        context.journal.write("taint", call=str(call["id"]), tool=call["name"], **mark)
    return text, mark


def fenced_results(messages: Sequence[AnyMessage], run: str, *, small: bool) -> list[AnyMessage]:
    """Messages as the model gets them: what may not give orders stands between marks.

    What comes from beyond the workspace, or looks like an order, says so in its marks; what is in the
    workspace gets short ones, because the front of the prompt says it of all. A small model gets only the
    former fenced, and in few tokens: each costs it time, and its own reads are what it works with.
    """
    return [_fenced(m, run, small=small) if isinstance(m, ToolMessage) else m for m in messages]


def _fenced(message: ToolMessage, run: str, *, small: bool) -> AnyMessage:
    mark, text = mark_of(message.artifact), message.text
    says_what_it_did = message.name in WRITES and mark["trust"] < Trust.WEB
    if mark["trust"] < (Trust.WEB if small else Trust.WORKSPACE) or says_what_it_did:
        return message
    marked = nonce(run, message.tool_call_id, text)
    odd = mark.get("odd") or []
    shown = (
        briefly_fenced(text, marked, odd)
        if small or (mark["trust"] < Trust.WEB and not odd)
        else fenced(text, marked, str(message.name or "a tool"), odd)
    )
    update: dict[str, Any] = {"content": shown}
    return message.model_copy(update=update)
