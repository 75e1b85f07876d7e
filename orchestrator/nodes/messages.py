"""The messages of a specialist: their ids, the last answer, and what is said to the model in between."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.messages.tool import ToolCall

from orchestrator.redaction import writable
from orchestrator.state import SpecialistState

FINISH = "finish"
"""The tool by which a model that cannot answer in text ends its work."""
TRY_CHANGES = "try_changes"
"""The tool that only code calls: it runs a check, so who may run commands has it."""


def calling(name: str, **arguments: Any) -> AIMessage:
    """A message with one call, as a model would make it; `numbered` gives the call its id."""
    return AIMessage("", tool_calls=[ToolCall(name=name, args=arguments, id="", type="tool_call")])


def with_search(tools: Sequence[str]) -> list[str]:
    """The tools of a step, with the one that code may call beside them."""
    return [*tools, TRY_CHANGES] if "run_command" in tools and TRY_CHANGES not in tools else list(tools)


def numbered(answer: AIMessage, prefix: str) -> AIMessage:
    """Give message and calls ids that derive from their position.

    Some endpoints reuse call ids; the journal must never take one call's result for another's.
    """
    calls = [
        {**call, "args": _sound(call["args"]), "id": f"{prefix}.{index}"}
        for index, call in enumerate(answer.tool_calls)
    ]
    count = len(calls)
    broken = [
        {**call, "id": f"{prefix}.{count + index}"} for index, call in enumerate(answer.invalid_tool_calls)
    ]
    return AIMessage(
        content=answer.content,
        id=prefix,
        tool_calls=calls,
        invalid_tool_calls=broken,
        usage_metadata=answer.usage_metadata,
        additional_kwargs={k: v for k, v in answer.additional_kwargs.items() if k == "raw"},
    )


def _sound(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments that can be stored and sent: models do write halves of surrogate pairs."""
    sound: dict[str, Any] = json.loads(writable(json.dumps(arguments, ensure_ascii=False)))
    return sound


def last_answer(state: SpecialistState) -> AIMessage:
    """The newest message of the model."""
    return next(message for message in reversed(state["messages"]) if isinstance(message, AIMessage))


def nudge(text: str, identifier: str) -> HumanMessage:
    """Tell the model what is wrong with its last answer."""
    return HumanMessage(text, id=identifier)
