"""Ask a small model for a new program in the form it was trained on: a wish in words, code in the answer.

As an action in JSON it writes worse code, or copies from the worked examples. A program that fails when it is
run is asked for again together with its error, a few times.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage

from orchestrator.nodes import mending
from orchestrator.nodes.mending import BLOCK, HEADING, MOST_ERROR, parses, shown
from orchestrator.nodes.proof import is_small_file, is_test, named_in
from orchestrator.nodes.rounds import WRITES, is_move, is_run_of, passed, rounds_of

DRAFTS = 3
"""Tries of a program; after that the model goes on as with any task."""
_WANTED = re.compile(
    r"\b(?:writ|creat|generat|implement|add|make|build|need|want|would like|give me|erstell|schreib|brauch"
    r"|möcht|écri|crée|besoin|voudr|crea|escrib|necesit|quier)",
    re.I,
)
_NOT_NEW = re.compile(
    r"\b(?:renam|mov|cop(?:y|ies)|benenn|verschieb|kopier|renomm|déplac|renombr|muev)", re.I
)
_PROGRAM = re.compile(r"\.(?:py|sh|js)\Z")
_ASSERTS = re.compile(r"\s*(?:self\.assert\w+\(.*\)|assert .*)\s*\Z")
MOST_ASSERTIONS = 6
"""Assertions in a row that are kept of a new test."""
MOST_TORN = 4
"""Lines at the end of an answer that may be incomplete."""
MOST_SHOWN = 3
RIGHT = "The code that is tested is right; an expectation is wrong. Correct the line that fails."


def wanted(goal: str, history: Sequence[AnyMessage], root: Path) -> str:
    """The one program that is to be written now; empty when there is none, or it runs."""
    names = [name for name in dict.fromkeys(named_in(goal)) if _PROGRAM.search(name)]
    if not _WANTED.search(goal) or _NOT_NEW.search(goal):
        return ""
    drafts = written(history)
    missing = [name for name in names if not (root / name).exists()]
    if not drafts:
        return missing[0] if len(missing) == 1 else ""
    name, last = drafts[-1], rounds_of(history)[-1]
    ran = is_move(last[0]) and last[0].tool_calls[-1]["name"] == "run_command"
    is_failing = ran and not passed(last[1][-1]) and name in names
    return name if is_failing and len(drafts) < DRAFTS else ""


def written(history: Sequence[AnyMessage]) -> list[str]:
    """The paths that the model wrote so far."""
    calls = [c for message, _ in rounds_of(history) if not is_move(message) for c in message.tool_calls]
    return [str(call["args"].get("path", "")) for call in calls if call["name"] in WRITES]


def failing(history: Sequence[AnyMessage]) -> str:
    """The command that code ran to try a program, when it failed the last time; empty otherwise."""
    rounds = rounds_of(history)
    runs = [message.tool_calls[-1] for message, _ in rounds if is_move(message)]
    commands = [str(call["args"]["command"]) for call in runs if call["name"] == "run_command"]
    if not commands or not written(history):
        return ""
    last = [results[-1] for message, results in rounds if is_run_of(commands[-1], message)]
    return "" if passed(last[-1]) else commands[-1]


def question(goal: str, name: str, history: Sequence[AnyMessage], root: Path) -> list[AnyMessage]:
    """The task, the files that it names, what there is of the program and how that fails."""
    named = [file for file in dict.fromkeys(named_in(goal)) if file != name and is_small_file(root / file)]
    parts = [f"Task: {goal}", *(shown(file, root) for file in named[:MOST_SHOWN])]
    if is_small_file(root / name):
        error = rounds_of(history)[-1][1][-1].text[-MOST_ERROR:]
        parts += ["So far:", shown(name, root), f"It fails:\n{error}"]
        parts += [RIGHT] if is_test(name) else []
    parts.append(f"Write the whole {name} in one code block. {_advice(name)}")
    return [SystemMessage("You are an expert programmer."), HumanMessage("\n\n".join(parts))]


def _without_itself(code: str, name: str) -> str:
    """A script without the lines that make it executable or start it: it would start itself for ever."""
    own = re.compile(rf"\s*(?:chmod\s+\S+\s+|(?:bash|sh|python3?)\s+|(?=\./))(?:\./)?{re.escape(name)}\s*")
    return "".join(line for line in code.splitlines(keepends=True) if not own.fullmatch(line))


def _shortened(code: str) -> str:
    """A test without the assertions that go on without end: a few in each block, and no torn last line."""
    kept: list[str] = []
    count = 0
    for line in code.splitlines():
        count = count + 1 if _ASSERTS.match(line) else 0
        kept += [line] if count <= MOST_ASSERTIONS else []
    torn = 0
    while torn < MOST_TORN and not parses("\n".join(kept[: len(kept) - torn])):
        torn += 1
    return "\n".join(kept[: len(kept) - torn] if torn < MOST_TORN else kept) + "\n"


def _advice(name: str) -> str:
    """What small models get wrong otherwise: endless tests, and scripts that start themselves."""
    if is_test(name):
        return "Use the unittest module. Keep it short: three or four cases whose result is certain."
    alone = (
        "It holds the program alone: it is made executable and run later, by others. "
        "It prints exactly what the task asks for, without any label."
    )
    return f"Use the standard library only. {alone}" if name.endswith(".py") else alone


def draft(answer: str, name: str) -> AIMessage | None:
    """The answer as a call of write_file; None when there is no code in it."""
    blocks = BLOCK.findall(answer)
    if not answer.strip() or not (blocks or (name.endswith(".py") and parses(answer))):
        return None
    code = max(blocks, key=len) if blocks else answer
    heading = HEADING.match(code)
    if is_test(name):
        code = _shortened(code)
    return mending.written(name, _without_itself(code[heading.end() :] if heading else code, name))
