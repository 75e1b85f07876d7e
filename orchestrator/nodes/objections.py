"""Cheap checks of an answer by code, before it is taken for the result of a step.

Each catches what small models do often: to end without having done anything, to pass over a failure,
to forget half of the task, to make up a number. An objection is advice: the model may insist.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

from orchestrator.nodes import drafting
from orchestrator.nodes.changes import DONE_SO_FAR, UNCHANGED
from orchestrator.nodes.circles import CUT_OFF
from orchestrator.nodes.intent import asks_for_change, asks_for_deletion
from orchestrator.nodes.messages import FINISH
from orchestrator.nodes.moves import is_tried_out
from orchestrator.nodes.proof import named_in
from orchestrator.nodes.renames import left_over
from orchestrator.nodes.repair import still_failing
from orchestrator.nodes.rounds import WRITES, is_vain, passed
from orchestrator.state import Brief, SpecialistState

_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*(?![\w])")
_THOUSANDS = re.compile(r"(?<=\d)[,_ ](?=\d{3}\b)")
_WRITE = re.compile(r"\b(?:writ|creat|generat|implement|erstell|schreib|écri|crée|crea|escrib)", re.I)
_MOVE = re.compile(r"\b(?:renam|mov|benenn|verschieb|renomm|déplac|renombr|muev)", re.I)
_DENIES = re.compile(
    r"\b(?:did|was|has|were)(?: not|n't) (?:been )?(?:run|ran|execut|start|complet|finish)", re.I
)
_FOLDER = re.compile(r"(?<![\w.])[\w-]+(?:/[\w-]+)*/?(?![\w.])")
_FAILED = re.compile(r"\AError: .{0,200}|\Aexit code (?!0\b)\d+|^syntax error .*", re.M)


_ADMITS = re.compile(
    r"fail|error|could not|cannot|not possible|unable|did not|does not|exit code|fehl|erreur|error", re.I
)
_HALF_DONE = (
    "The last call ended with {why}, but it did change files first; its result says which. Do not do that "
    "again. If the files are as the task wants them, finish and say so; else do what is left."
)
_PROGRAM = re.compile(
    r"(?:\A|/)(?:Makefile|[^./]+)\Z"
    r"|\.(?:py|sh|bash|js|mjs|ts|rb|pl|php|go|rs|c|cc|cpp|java|kt|lua|r|sql)\Z",
    re.I,
)
CHANGING = frozenset({"write_file", "edit_file", "add_lines", "move_file", "delete_file"})
RUNNING = frozenset({"run_command", "run_python"})


@dataclass(frozen=True)
class Objection:
    """Why an answer is sent back."""

    text: str
    """An instruction for the model."""
    is_grave: bool = False
    """The work is not done: an answer that stands by it is a failure."""


def objection_to(text: str, state: SpecialistState, root: Path) -> Objection | None:
    """What speaks against taking this answer; None when nothing does."""
    messages, sent_back = state["messages"], state.get("objections", 0)
    results = [message for message in messages if isinstance(message, ToolMessage) and message.name != FINISH]
    if not text:
        return Objection("The answer is empty. Say what you did and what you found.", is_grave=True)
    if not results:
        return Objection("You have not used a tool yet. Do the task with the tools first, then finish.")
    if grave := _undone(text, state["brief"]["step"]["goal"], messages, root, sent_back):
        return grave
    return None if sent_back else _loose_end(text, state["brief"], messages, root)


def _undone(
    text: str, goal: str, messages: Sequence[AnyMessage], root: Path, sent_back: int
) -> Objection | None:
    """What shows that the work is not done; an honest "it failed" is taken after a third try."""
    results = [message for message in messages if isinstance(message, ToolMessage) and message.name != FINISH]
    if sent_back < 2 and _DENIES.search(text) and any(r.text.startswith(CUT_OFF) for r in results):
        return Objection("A call was cut off after it had started. Say that, and what is there now.")
    if _ADMITS.search(text) and (sent_back >= 2 or not asks_for_change(goal)):
        return None
    if (name := _unwritten(goal, root)) and sent_back < 2:
        return Objection(f"{name} does not exist yet. Make it with write_file now.")
    if sent_back < 2 and (left := left_over(goal, messages, root)):
        return Objection(f"Not everywhere yet: {left}")
    if fails := _failing(goal, messages, root):
        return fails
    if failed := _FAILED.search(str(results[-1].content)):
        why = failed[0].strip()
        if DONE_SO_FAR in results[-1].text:
            return None if sent_back else Objection(_HALF_DONE.format(why=why))
        return Objection(f"Not done: the last call failed ({why}). Find out why, do it right.", is_grave=True)
    changes = [message for message in results if _may_have_changed(message)]
    if not changes and asks_for_change(goal) and sent_back < 2:
        return Objection(
            "Nothing has been changed yet, you have only looked. Make the change in the files now."
        )
    if changes and is_tried_out(goal) and _has_program(messages) and not _is_proved(results):
        return Objection("Nothing was run after the last change. Run it to see if it is so.", is_grave=True)
    return None


def _failing(goal: str, messages: Sequence[AnyMessage], root: Path) -> Objection | None:
    """A check or a new program that failed the last time that it was run."""
    if failing := still_failing(goal, messages, root):
        return Objection(f"Not done: {failing} still fails. Repair the code, not the check.", is_grave=True)
    if tried := drafting.failing(messages):
        return Objection(f"Not done: `{tried}` failed the last time that it was run.", is_grave=True)
    return None


def _loose_end(text: str, brief: Brief, messages: Sequence[AnyMessage], root: Path) -> Objection | None:
    """What an answer may have missed; said once, since it may well be right."""
    if name := _empty(brief["step"]["goal"], root):
        return Objection(f"{name} is empty. Write into it what the task asks for.")
    if name := _not_executable(brief["step"]["goal"], root):
        return Objection(f"{name} is not executable yet: run chmod +x {name}.")
    if name := _untouched(brief, messages):
        is_there = (root / name).exists()
        what = "no call of yours has touched" if is_there else "does not exist yet: make it now"
        return Objection(f"The task names {name}, which {what}, unless it is not needed.")
    if folder := _unvisited(brief, messages, root):
        return Objection(
            f"The task is about the folder {folder}, and no call of yours was. Look only in there."
        )
    if number := _invented(text, brief, messages):
        return Objection(
            f"No tool result shows the number {number}. Get it with a tool, then answer with what it shows."
        )
    return None


def _may_have_changed(result: ToolMessage) -> bool:
    """Whether a call may have changed a file; of commands the result says so, where it was looked at."""
    if result.name in RUNNING:
        return not result.text.endswith(UNCHANGED)
    return result.name in CHANGING and not is_vain(result)


def _has_program(messages: Sequence[AnyMessage]) -> bool:
    """Whether something that was changed can be run; of what a command changed, nobody knows."""
    calls = [call for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]
    paths = [str(call["args"].get("path", "")) for call in calls if call["name"] in WRITES]
    return not paths or any(_PROGRAM.search(path) for path in paths)


def _is_proved(results: Sequence[ToolMessage]) -> bool:
    """Whether something ran well after the last change of a file."""
    for message in reversed(results):
        if message.name in RUNNING and passed(message):
            return True
        if message.name in WRITES and not is_vain(message):
            return False
    return False


def _called(messages: Sequence[AnyMessage]) -> str:
    """The arguments of all calls; the answer itself left out."""
    calls = [call for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]
    return " ".join(str(call["args"]) for call in calls if call["name"] != FINISH)


def _said(messages: Sequence[AnyMessage]) -> str:
    """Everything that calls and results contain; the answer itself left out."""
    results = [str(message.content) for message in messages if not isinstance(message, AIMessage)]
    return " ".join([_called(messages), *results])


def _unwritten(goal: str, root: Path) -> str:
    """The first file that a task to write something names and that is not there."""
    if not _WRITE.search(goal) or asks_for_deletion(goal) or _MOVE.search(goal):
        return ""
    return next((str(name) for name in named_in(goal) if not (root / name).exists()), "")


def _empty(goal: str, root: Path) -> str:
    """The first file that the step names and that holds nothing, unless emptiness is what was asked for."""
    if re.search(r"\b(?:empty|blank|touch|leer|vide|vac[ií])", goal, re.I):
        return ""
    files = ((name, root / name) for name in named_in(goal))
    return next((str(name) for name, path in files if path.is_file() and not path.stat().st_size), "")


def _not_executable(goal: str, root: Path) -> str:
    """The first program that is to be made executable and is not."""
    if not re.search(r"\b(?:executable|ausführbar|exécutable|ejecutable|chmod \+x)\b", goal, re.I):
        return ""
    files = ((name, root / name) for name in named_in(goal) if _PROGRAM.search(name))
    return next((name for name, path in files if path.is_file() and not path.stat().st_mode & 0o100), "")


def _untouched(brief: Brief, messages: Sequence[AnyMessage]) -> str:
    """The first file that the step names and that appears in no call and no result."""
    seen = _said(messages[1:])
    names = named_in(brief["step"]["goal"])
    return next((str(name) for name in names if name.rsplit("/", 1)[-1] not in seen), "")


def _unvisited(brief: Brief, messages: Sequence[AnyMessage], root: Path) -> str:
    """The first folder of the workspace that the step names and that no call is about."""
    calls = _called(messages)
    words = _FOLDER.findall(brief["step"]["goal"])
    return next((str(word) for word in words if word not in calls and (root / word).is_dir()), "")


def _invented(text: str, brief: Brief, messages: Sequence[AnyMessage]) -> str:
    """The first number of two or more digits in the answer that neither the user nor a tool has said."""
    known = " ".join([brief["request"], *brief["before"], _said(messages)])
    plain = _THOUSANDS.sub("", known)
    for number in _NUMBER.findall(text):
        digits = _THOUSANDS.sub("", number)
        if len(digits) > 1 and digits not in plain and number not in known:
            return str(number)
    return ""
