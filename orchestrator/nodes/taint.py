"""Where the texts of a step come from: marks on tool results, and what a call may have taken from them.

The level of a thread is that of the least trusted text in it. It passes on to results, later steps and later
turns, and never falls within a conversation.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.messages.tool import ToolCall

from orchestrator.context import Context
from orchestrator.effects import Effects, Trust
from orchestrator.nodes.intent import leaves_choice, only_looks
from orchestrator.nodes.messages import FINISH
from orchestrator.reach import named
from orchestrator.redaction import redact, secrets_of
from orchestrator.safety.naming import host_of, names
from orchestrator.safety.provenance import OURS, Mark, level_of_names, mark_of
from orchestrator.safety.thread import Thread, strings
from orchestrator.settings import Settings
from orchestrator.state import Brief, State, Taint

_LINK = re.compile(r"(?m)^\d+\. .*\n   (https?://\S+)$")
"""The address of a result as web_search prints it; what a page says of itself stands on other lines."""
WRITTEN = {"write_file": "content", "edit_file": "new", "add_lines": "text"}
"""Tools that write a text into a file, and the argument that holds it."""
_PLAIN = r"(?:(?!-exec|-ok)[^|;&`$<>\n])*"
_LISTING = re.compile(
    rf"\s*(?:ls|find|du|stat|tree|(?:md5|sha\d+)sum)\b{_PLAIN}(?:\|\s*(?:sort|head|tail|uniq)\b{_PLAIN})*"
)
"""A command that prints names and figures of files, and nothing of what they hold."""


def secret_values(settings: Settings) -> tuple[str, ...]:
    """Values that must never leave: secrets of the environment, and the keys of all models."""
    keys = {model.api_key_env: os.environ.get(model.api_key_env, "") for model in settings.models.values()}
    named = {f"{name}_KEY": value for name, value in keys.items()}
    return secrets_of({**os.environ, **named})


def unsecret_text(text: str, settings: Settings) -> str:
    """A text without secrets, for answers and results."""
    return redact(text, secret_values(settings))


def together(taints: Iterable[Taint | None]) -> Taint:
    """What a text inherits that was written from several."""
    known = [taint for taint in taints if taint]
    return Taint(
        level=max((taint["level"] for taint in known), default=0),
        secret=any(taint["secret"] for taint in known),
    )


def taint_of(brief: Brief, messages: Sequence[AnyMessage]) -> Taint:
    """The taint of a step's thread: what its brief inherits, and what it read."""
    marks = [mark for _, mark in _results(messages)]
    read = Taint(
        level=max((mark["trust"] for mark in marks), default=0),
        secret=any(mark.get("secret") for mark in marks),
    )
    drafted = Taint(level=brief["step"].get("taint", 0), secret=False)
    listed = Taint(level=level_of_names(_listed(messages).rstrip(".").split(", ")), secret=False)
    return together([brief.get("taint"), drafted, listed, read])


def inherited(state: State, steps: Iterable[str] | None = None) -> Taint:
    """What the conversation so far, and the results of some steps or of all, pass on."""
    results = state.get("results", {})
    wanted = results if steps is None else [step for step in steps if step in results]
    return together([state.get("taint"), *(results[step].get("taint") for step in wanted)])


def thread_of(brief: Brief, messages: Sequence[AnyMessage], context: Context) -> Thread:
    """What the guardian has to know of the texts that a call may have come from."""
    taint, said = taint_of(brief, messages), _said(brief, context)
    calls = {
        str(call["id"]): call
        for message in messages
        if isinstance(message, AIMessage)
        for call in message.tool_calls
    }
    links: set[str] = set()
    reached: set[str] = set()
    read, foreign, delegated, listings = list[str](), list[str](), list[str](), list[str]()
    for message, mark in _results(messages):
        call, text = calls.get(message.tool_call_id), message.text
        arguments = call["args"] if call else {}
        if mark["trust"] == Trust.USER:
            continue
        read.append(text)
        tool = context.tools.get(str(message.name))
        if tool is None or tool.effects.output < Trust.WEB:
            foreign.append(text)
        if message.name == "web_search" and not mark.get("odd"):
            links |= set(_LINK.findall(text))
        if message.name == "fetch_url" and not mark.get("asked"):
            reached.add(host_of(str(arguments.get("url", ""))))
        if message.name == "list_files" or _LISTING.fullmatch(str(arguments.get("command", ""))):
            listings.append(text)
        if message.name == "read_file" and _is_named(str(arguments.get("path", "")), said):
            delegated.append(text)
    if taint["level"] <= Trust.WORKSPACE and leaves_choice(brief["request"]):
        delegated += [*listings, _listed(messages)]
    return Thread(
        level=taint["level"],
        secret=taint["secret"],
        said=said,
        foreign=tuple(foreign),
        read=(*brief["before"], *read),
        links=frozenset(links),
        hosts=frozenset(reached - {""}) | named(context.hosts_of(brief["step"]["agent"])),
        own=_made(messages, calls),
        written=_written(messages, calls),
        delegated=tuple(delegated),
        listed=_listed(messages),
        secrets=secret_values(context.settings),
        only_looks=only_looks(brief["request"]),
    )


def _made(messages: Sequence[AnyMessage], calls: Mapping[str, ToolCall]) -> frozenset[str]:
    """Files that were written where nothing was; one that was replaced stays the user's."""
    made = (
        calls[message.tool_call_id]["args"]
        for message, _ in _results(messages)
        if message.name == "write_file"
        and message.text.startswith("wrote ")
        and message.tool_call_id in calls
    )
    return frozenset(str(arguments.get("path", "")).removeprefix("./") for arguments in made)


def _written(messages: Sequence[AnyMessage], calls: Mapping[str, ToolCall]) -> tuple[tuple[str, str], ...]:
    """Paths and the texts that were written there, in order."""
    done = (
        (calls[message.tool_call_id]["args"], WRITTEN[str(message.name)])
        for message, _ in _results(messages)
        if message.name in WRITTEN and not message.text.startswith("Error:") and message.tool_call_id in calls
    )
    return tuple((str(arguments.get("path", "")), str(arguments.get(text, ""))) for arguments, text in done)


def with_paths(thread: Thread, arguments: Mapping[str, Any], effects: Effects, root: Path) -> Thread:
    """The thread with the paths of a call that are there already: to write them is to lose what they hold."""
    paths = [path for name in effects.paths for path in strings(arguments.get(name))]
    there = {path for path in paths if len(path) < 4096 and "\0" not in path and os.path.lexists(root / path)}
    return replace(thread, exists=frozenset(there))


def origins(things: Iterable[str], messages: Sequence[AnyMessage]) -> list[str]:
    """Where things that a call names were read: the tool, and what it was asked for."""
    calls = {str(call["id"]): call for m in messages if isinstance(m, AIMessage) for call in m.tool_calls}
    wanted = [thing for thing in things if thing]
    found = []
    for message, mark in _results(messages):
        if mark["trust"] and any(thing.casefold() in message.text.casefold() for thing in wanted):
            asked = next(strings(list(calls[message.tool_call_id]["args"].values())), "")
            found.append(f"{message.name} {asked}".strip()[:120])
    return list(dict.fromkeys(found))


def _said(brief: Brief, context: Context) -> tuple[str, ...]:
    """Words of those who may decide: the user, the plan drafted from these alone, the settings."""
    step, tools = brief["step"], context.settings.tools
    plan = [] if step.get("taint") else [step["goal"], step["check"]]
    config = [*tools.allowed_private_hosts, tools.searxng_url or ""]
    return tuple(text for text in (brief["request"], *brief.get("said", []), *plan, *config) if text)


def _is_named(path: str, said: Sequence[str]) -> bool:
    return bool(path) and (names(said, path) or names(said, path.rpartition("/")[2]))


def _results(messages: Sequence[AnyMessage]) -> Iterator[tuple[ToolMessage, Mark]]:
    """The results in a thread with their marks; what was said to the model in between is ours."""
    for message in messages:
        if isinstance(message, ToolMessage):
            yield message, OURS if message.name == FINISH else mark_of(message.artifact)


def _listed(messages: Sequence[AnyMessage]) -> str:
    """The names of files that the brief lists."""
    first = next((message for message in messages if isinstance(message, HumanMessage)), None)
    return first.text.partition("\n")[0].removeprefix("The workspace holds ") if first else ""
