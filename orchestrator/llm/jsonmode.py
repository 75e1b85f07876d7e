"""Tool calls as plain JSON texts, for models that do not emit tool calls reliably.

An action is one flat object, `{"tool": "write_file", "path": "a.txt", "content": "hi"}`. What the
model wrote is kept and rendered again letter by letter: only then is the prompt of the next call a
continuation of this one, and the server need not read it all again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args
from uuid import uuid4

from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolCall,
    ToolMessage,
)

from orchestrator.llm.base import ToolSpec

RULE = (
    "Answer with one JSON object that calls one tool, and nothing else: "
    '{"tool": NAME, ARGUMENT: VALUE, …}. Arguments with ? may be left out. Tools:'
)
THINKING_RULE = RULE.replace('{"tool"', '{"thought": WHY, "tool"')
THOUGHT = "thought"
"""A short reason before the call: it makes small models pick better, for a dozen tokens."""
_LOST_BACKSLASH = re.compile(r"(?<!\\)(?:\\\\)*\\[bf]")
REPAIR = 'That is no tool call. Answer with one JSON object only, such as {{"tool": "{name}", …}}.'


def new_call_id() -> str:
    """An id for a call whose model gave none."""
    return f"call_{uuid4().hex[:12]}"


def tool_lines(tools: Sequence[ToolSpec]) -> str:
    """One line for each tool: its call and what it does."""
    return "\n".join(f"{_signature(tool)} - {tool.description}" for tool in tools)


def _signature(tool: ToolSpec) -> str:
    fields = tool.arguments.model_fields.items()
    return f"{tool.name}({', '.join(_argument(name, info) for name, info in fields)})"


def _argument(name: str, info: Any) -> str:
    """A name, with `?` when it may be left out and the choices when there are few."""
    choices = get_args(info.annotation)
    words = "|".join(choices) if choices and all(isinstance(choice, str) for choice in choices) else ""
    return f"{name}{'' if info.is_required() else '?'}{f'={words}' if words else ''}"


def render(
    messages: Sequence[AnyMessage], tools: Sequence[ToolSpec] = (), *, thinks: bool = False
) -> list[AnyMessage]:
    """The conversation in plain system, user and assistant turns, with the tools in the first of them."""
    names = {call["id"]: call["name"] for m in messages if isinstance(m, AIMessage) for call in m.tool_calls}
    rendered: list[AnyMessage] = []
    if tools:
        first = messages[0].text if messages and isinstance(messages[0], SystemMessage) else ""
        messages = messages[1:] if first else messages
        rule = THINKING_RULE if thinks else RULE
        rendered.append(SystemMessage(f"{first}\n\n{rule}\n{tool_lines(tools)}".lstrip()))
    for message in _one_by_one(messages):
        rendered.append(_turn(message, names, is_first=not rendered))
    return merged(rendered)


def _one_by_one(messages: Sequence[AnyMessage]) -> Iterator[AnyMessage]:
    """Show several calls of one message as one turn each with its result: the form the model answers in."""
    results = {message.tool_call_id: message for message in messages if isinstance(message, ToolMessage)}
    split: set[str] = set()
    for message in messages:
        if isinstance(message, AIMessage) and len(message.tool_calls) > 1:
            for call in message.tool_calls:
                yield AIMessage(message.text, tool_calls=[call])
                if result := results.get(str(call["id"])):
                    split.add(result.tool_call_id)
                    yield result
        elif not (isinstance(message, ToolMessage) and message.tool_call_id in split):
            yield message


def merged(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """One message for each turn, since many chat templates want the roles to alternate."""
    turns: list[AnyMessage] = []
    for message in messages:
        last = turns[-1] if turns else None
        if isinstance(last, HumanMessage) and isinstance(message, HumanMessage):
            turns[-1] = HumanMessage(f"{last.text}\n\n{message.text}")
        elif _is_text(last) and _is_text(message) and last:
            turns[-1] = AIMessage(f"{last.text}\n\n{message.text}")
        else:
            turns.append(message)
    return turns


def _is_text(message: AnyMessage | None) -> bool:
    return isinstance(message, AIMessage) and not (message.tool_calls or message.invalid_tool_calls)


def _turn(message: AnyMessage, names: dict[str | None, str], *, is_first: bool) -> AnyMessage:
    if isinstance(message, AIMessage):
        return AIMessage(_written(message))
    if isinstance(message, ToolMessage):
        name = message.name or names.get(message.tool_call_id, "the call")
        return HumanMessage(f"Result of {name}:\n{message.text}")
    if isinstance(message, SystemMessage) and is_first:
        return SystemMessage(message.text)
    # Many chat templates refuse a system turn that is not the first one.
    return HumanMessage(message.text)


def _written(message: AIMessage) -> str:
    """What the model wrote; a call that a person has edited since is written anew."""
    raw = message.additional_kwargs.get("raw")
    if not message.tool_calls:
        return raw if isinstance(raw, str) else message.text
    if isinstance(raw, str):
        before = [(name, arguments) for name, arguments in _actions_in(raw)]
        if before == [(call["name"], call["args"]) for call in message.tool_calls]:
            return raw
    return "\n".join(canonical(call["name"], call["args"], message.text) for call in message.tool_calls)


def canonical(name: str, arguments: dict[str, Any], thought: str = "") -> str:
    """An action as models write it when nobody tells them how: a space after colon and comma."""
    first = {THOUGHT: thought} if thought else {}
    return json.dumps({**first, "tool": name, **arguments}, ensure_ascii=False)


def _actions_in(text: str) -> list[tuple[str, dict[str, Any]]]:
    value = find_object(text)
    action = None if value is None else as_action(value)
    return [] if action is None else [action]


def read_action(text: str, *, is_truncated: bool = False) -> AIMessage:
    """The message for an answer: a call, an invalid call with what is wrong, or just its text."""
    kept = {"raw": text}
    why = _fault(text, is_truncated=is_truncated)
    for name, arguments in [] if why else _actions_in(text):
        call = ToolCall(name=name, args=arguments, id=new_call_id(), type="tool_call")
        thought = (find_object(text) or {}).get(THOUGHT, "")
        return AIMessage(str(thought), tool_calls=[call], additional_kwargs=kept)
    if why or text.lstrip().startswith(("{", "```")):
        named = re.search(r'"tool"\s*:\s*"(\w+)"', text)
        wrong = InvalidToolCall(
            name=named[1] if named else None,
            args=text,
            id=new_call_id(),
            error=why or "the answer is no valid JSON object with a `tool`",
            type="invalid_tool_call",
        )
        return AIMessage("", invalid_tool_calls=[wrong], additional_kwargs=kept)
    return AIMessage(text, additional_kwargs=kept)


def _fault(text: str, *, is_truncated: bool) -> str:
    """What is wrong with an answer although it may be JSON: cut off, or patterns without their backslashes.

    A small model writes patterns into JSON with one backslash, which makes a backspace of a word's border.
    """
    if is_truncated:
        return "the answer was cut off because it is longer than the output limit; write less at a time"
    if _LOST_BACKSLASH.search(text):
        return (
            "in JSON each backslash of a pattern is written twice, as in \\\\b and \\\\w; or do it without re"
        )
    return ""


def as_action(value: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Name and arguments of a call in any of the shapes that models were trained on."""
    inner = value.get("function")
    if isinstance(inner, dict):
        value = inner
    if isinstance(name := value.get("tool"), str):
        rest = {key: item for key, item in value.items() if key not in {"tool", THOUGHT}}
        nested = rest.get("arguments")
        return name, nested if len(rest) == 1 and isinstance(nested, dict) else rest
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):
        arguments = find_object(arguments)
    if isinstance(name := value.get("name"), str) and isinstance(arguments, dict):
        return name, arguments
    return None


def find_object(text: str) -> dict[str, Any] | None:
    """The first JSON object in a text: fenced or not, prose around it or not, trailing commas forgiven."""
    for candidate in _candidates(text):
        # strict=False: small models put real line breaks into strings.
        decoder = json.JSONDecoder(strict=False)
        try:
            value, _ = decoder.raw_decode(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return None


def _candidates(text: str) -> Iterator[str]:
    starts = [match.start() for match in re.finditer(r"\{", text)]
    for start in starts[:5]:
        yield text[start:]
    for start in starts[:1]:
        yield _without_trailing_commas(text[start:])


def _without_trailing_commas(text: str) -> str:
    """Drop commas before a closing bracket, but not inside strings."""
    return re.sub(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])', lambda found: found[1] or "", text)


def calls_in_text(text: str, known: set[str]) -> list[ToolCall]:
    """The calls of a text that is nothing but calls of known tools, as some servers leave them there."""
    blocks = re.findall(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", text, re.DOTALL)
    rest = re.sub(r"<tool_call>\s*\{.*?\}\s*</tool_call>", "", text, flags=re.DOTALL).strip()
    if not blocks:
        fenced = re.fullmatch(r"\s*```(?:json|tool_call)?\s*(\{.*\})\s*```\s*", text, re.DOTALL)
        blocks, rest = [fenced[1] if fenced else text.strip()], ""
    calls: list[ToolCall] = []
    for block in blocks:
        try:
            value = json.loads(block, strict=False)
        except (ValueError, RecursionError):
            return []
        action = as_action(value) if isinstance(value, dict) else None
        if action is None or action[0] not in known or rest:
            return []
        calls.append(ToolCall(name=action[0], args=action[1], id=new_call_id(), type="tool_call"))
    return calls
