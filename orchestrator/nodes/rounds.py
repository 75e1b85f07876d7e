"""What happened in a step so far, read from its messages: calls with their results, round by round."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.messages.tool import ToolCall

from orchestrator.tools.edit import BLANK_ONLY, UNCHANGED_WRITE

MOVE = "move"
"""Key in a message's `additional_kwargs`: code made these calls, not the model."""
WRITES = frozenset({"write_file", "edit_file", "add_lines"})

Round = tuple[AIMessage, list[ToolMessage]]
"""A message with calls and the results of its calls."""


def is_move(message: AnyMessage) -> bool:
    """Whether the calls of a message were made by code."""
    return bool(message.additional_kwargs.get(MOVE))


def is_vain(result: ToolMessage) -> bool:
    """Whether a call that should write a file failed, or changed nothing but blank space."""
    first = result.text.partition("\n")[0]
    return first.startswith(("Error", "Not allowed")) or BLANK_ONLY in first or UNCHANGED_WRITE in first


def rounds_of(history: Sequence[AnyMessage]) -> list[Round]:
    """The rounds of a step, those without a result left out."""
    rounds: list[Round] = []
    for message in history:
        if isinstance(message, AIMessage):
            rounds.append((message, []))
        elif isinstance(message, ToolMessage) and rounds:
            rounds[-1][1].append(message)
    return [(message, results) for message, results in rounds if results]


def changed(message: AIMessage, results: Sequence[ToolMessage]) -> list[ToolCall]:
    """The calls of a round that wrote a file."""
    good = {result.tool_call_id for result in results if not is_vain(result)}
    return [call for call in message.tool_calls if call["name"] in WRITES and call["id"] in good]


def is_run_of(command: str, message: AIMessage) -> bool:
    """Whether the last call of a message runs a command."""
    last = message.tool_calls[-1] if message.tool_calls else None
    return last is not None and last["name"] == "run_command" and last["args"].get("command") == command


def passed(result: ToolMessage) -> bool:
    """Whether a command ended well."""
    return result.text.startswith("exit code 0")
