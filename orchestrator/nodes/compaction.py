"""Keep a step's conversation within its model's window: oldest results go first, then a summary stands in.

Only the view that the model gets is shorter. The state and the journal keep every word, and what was cut is
part of the state: going back to an earlier step brings it back. The view changes only when it must, and
then by a good deal, so that the front of the prompt stays the same from call to call.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import BaseModel

from orchestrator.context import Context
from orchestrator.errors import ModelError, ModelOverfull
from orchestrator.llm.base import ChatModel, ToolSpec
from orchestrator.llm.tokens import correction, tokens
from orchestrator.settings import ModelSettings
from orchestrator.state import Compaction
from orchestrator.tools.results import cut

EACH = 8
"""Tokens of a message for itself."""
TARGET = 0.6
"""The share of the room that a compaction leaves filled."""
TAIL = 0.4
"""The share of the room that the newest messages may keep beside a summary."""
SHORT = 60
"""Tokens of a result that is not worth cutting."""
SUMMARY_TOKENS = 1_200
REFUSALS = 2
"""How often a server may find a request too long before that is the end."""
UNCUT = Compaction(results=0, start=1, summary="")
ASKED = (
    "You keep the notes of an agent whose conversation no longer fits. Write down, as briefly as you can, "
    "what the next step needs: what was found (names, numbers, paths exactly as they stand), what was "
    "changed, what failed and why, and what is left to do. Nothing that does not stand there."
)


@dataclass(frozen=True)
class Prompt:
    """What a specialist's model is asked with."""

    front: Sequence[AnyMessage]
    """Stays the same from call to call."""
    history: Sequence[AnyMessage]
    specs: Sequence[ToolSpec]

    @property
    def fixed(self) -> int:
        """Tokens of all but the history."""
        schemas = (tokens(spec.description) + _schema_tokens(spec.arguments) for spec in self.specs)
        return size(self.front) + sum(schemas)


async def answered(
    prompt: Prompt,
    before: Compaction | None,
    model: ChatModel,
    context: Context,
    ask: Callable[[list[AnyMessage]], Awaitable[AIMessage]],
) -> tuple[AIMessage, dict[str, Any]]:
    """Ask with what fits; shortened further when the server finds it too long all the same.

    Returns the answer and what changes in the state; raises ModelError, BudgetExceeded.
    """
    now = before
    changed: dict[str, Any] = {}
    refused = 0
    while True:
        messages, cut = await compacted(prompt, now, model, context)
        changed |= cut
        now = cut.get("compaction", now)
        try:
            return await ask(messages), changed
        except ModelOverfull:
            refused += 1
            if refused > REFUSALS or len(prompt.history) < 2:
                raise
            most = int((prompt.fixed + size(messages) - size(prompt.front)) * TARGET)
            now = Compaction(**{**(now or UNCUT), "most": most})


async def compacted(
    prompt: Prompt, before: Compaction | None, model: ChatModel, context: Context
) -> tuple[list[AnyMessage], dict[str, Any]]:
    """The messages to send, and what changes in the state; raises BudgetExceeded."""
    front, history = prompt.front, prompt.history
    now = before or UNCUT
    shown = view(history, now)
    window = _window(model.settings) / _correction(prompt.fixed, history, now)
    room = max(int(min(window, now.get("most", window))) - prompt.fixed, 256)
    filled = size(shown)
    if filled <= room:
        return [*front, *shown], {}
    now = _without_results(history, now, int(room * TARGET))
    if size(view(history, now)) > room:
        now = await _summarised(history, now, room, model)
    shown = _squeezed(view(history, now), room)
    context.journal.write(
        "compaction",
        tokens_before=filled,
        tokens_after=size(shown),
        room=room,
        results_cut=now["results"],
        messages_summarised=now["start"] - 1,
        summary=now["summary"],
    )
    return [*front, *shown], {"compaction": now}


def size(messages: Sequence[AnyMessage]) -> int:
    """About how many tokens messages have, calls included."""
    total = 0
    for message in messages:
        total += tokens(str(message.content)) + EACH
        if isinstance(message, AIMessage):
            total += sum(tokens(str(call["args"])) + EACH for call in message.tool_calls)
    return total


def _window(settings: ModelSettings) -> float:
    """Tokens of the model's window that a request may fill."""
    answer = min(settings.max_output_tokens, settings.context_tokens // 2)
    return (settings.context_tokens - answer) * 0.95


def _correction(fixed: int, history: Sequence[AnyMessage], now: Compaction) -> float:
    """By what our estimate is off, after the last request that was counted.

    From the state alone, so that a replay shortens the conversation at the same place.
    """
    for index in range(len(history) - 1, 0, -1):
        message = history[index]
        if isinstance(message, AIMessage) and message.usage_metadata:
            return correction(
                fixed + size(view(history[:index], now)), message.usage_metadata["input_tokens"]
            )
    return 1.0


@lru_cache(maxsize=256)
def _schema_tokens(arguments: type[BaseModel]) -> int:
    return tokens(str(arguments.model_json_schema()))


def view(history: Sequence[AnyMessage], compaction: Compaction) -> list[AnyMessage]:
    """A conversation as a compaction shows it: always the same for the same two."""
    shown = [
        _stub(message) if index < compaction["results"] and isinstance(message, ToolMessage) else message
        for index, message in enumerate(history)
    ]
    if not compaction["summary"]:
        return shown
    task = shown[0]
    text = f"{task.content}\n\nWhat was done so far, in short:\n{compaction['summary']}"
    return [task.model_copy(update={"content": text}), *shown[compaction["start"] :]]


def _stub(message: ToolMessage) -> ToolMessage:
    text = str(message.content)
    if tokens(text) <= SHORT:
        return message
    kept = re.search(r"results:[0-9a-f]{16}", text)
    where = f"it stands in {kept[0]}" if kept else "make the call again if you need it"
    lines = text.count("\n") + 1
    return message.model_copy(
        update={"content": f"[an earlier result of {lines} lines, cut to save room; {where}]"}
    )


def _without_results(history: Sequence[AnyMessage], now: Compaction, target: int) -> Compaction:
    """Cut results, the oldest first, until the target is met; those of the last message stay."""
    last = max((index for index, m in enumerate(history) if isinstance(m, AIMessage)), default=0)
    filled = size(view(history, now))
    upto = now["results"]
    for index in range(max(upto, now["start"]), last):
        if filled <= target:
            break
        message = history[index]
        if isinstance(message, ToolMessage):
            filled -= size([message]) - size([_stub(message)])
        upto = index + 1
    return Compaction(**{**now, "results": upto})


async def _summarised(
    history: Sequence[AnyMessage], now: Compaction, room: int, model: ChatModel
) -> Compaction:
    """Have the older messages put into a summary; calls and their results are never parted."""
    starts = [index for index, message in enumerate(history) if isinstance(message, AIMessage) and index > 1]
    fitting = [index for index in starts if size(view(history[index:], _plain(now, index))) <= room * TAIL]
    start = fitting[0] if fitting else starts[-1] if starts else now["start"]
    if start <= now["start"]:
        return now
    old = history[now["start"] : start]
    said = f"Task: {history[0].content}\n\nEarlier notes: {now['summary'] or 'none'}\n\n{_told(old)}"
    told = cut(said, max(len(said) * max(room - SUMMARY_TOKENS, 200) // max(tokens(said), 1), 400))
    try:
        summary = await model.write([SystemMessage(ASKED), HumanMessage(told)])
    except ModelError:
        summary = _told(old, brief=True)
    short = cut(summary.strip(), SUMMARY_TOKENS * 3)
    return Compaction(**{**now, "start": start, "summary": short or "nothing of note"})


def _plain(now: Compaction, offset: int) -> Compaction:
    return Compaction(results=now["results"] - offset, start=1, summary="")


def _told(messages: Sequence[AnyMessage], *, brief: bool = False) -> str:
    """Messages as plain text for whoever sums them up; brief without the results' texts."""
    lines = []
    for message in messages:
        if isinstance(message, AIMessage):
            lines += [f"It said: {message.content}"] if str(message.content).strip() else []
            lines += [
                f"It called {call['name']} {cut(str(call['args']), 600)}" for call in message.tool_calls
            ]
        else:
            first = str(message.content).split("\n", 1)[0][:120]
            lines.append(f"Result: {first if brief else cut(str(message.content), 2_000)}")
    return "\n".join(lines)


def _squeezed(messages: list[AnyMessage], room: int) -> list[AnyMessage]:
    """Cut the longest texts where even the newest messages are too much for the window."""
    for _ in range(len(messages)):
        over = size(messages) - room
        if over <= 0:
            break
        index = max(range(len(messages)), key=lambda n: tokens(str(messages[n].content)))
        text = str(messages[index].content)
        had = tokens(text)
        if had <= SHORT:
            break
        left = max(had - over - EACH, SHORT // 2)
        messages[index] = messages[index].model_copy(update={"content": cut(text, len(text) * left // had)})
    return messages
