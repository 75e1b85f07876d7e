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

from orchestrator.nodes.messages import FINISH
from orchestrator.state import Brief, SpecialistState

_FILE = re.compile(r"(?<![\w/.@-])[\w-][\w./-]*\.[A-Za-z]\w{0,4}\b")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*(?![\w])")
_THOUSANDS = re.compile(r"(?<=\d)[,_ ](?=\d{3}\b)")
_CHANGE = re.compile(
    r"\b(?:fix|repair|correct|chang|edit|writ|creat|add\b|append|insert|renam|mov|cop|delet|remov|replac|sort"
    r"|convert|updat|sav|stor|put\b|make\b|set\b|generat|implement|leg|erstell|schreib|änder|lösch|benenn"
    r"|verschieb|sortier|beheb|reparier|korrigier|crée|écri|ajout|supprim|renomm|corrig|remplac|crea|escrib"
    r"|añad|borra|cambi)",
    re.I,
)
_QUESTION = re.compile(
    r"\s*(?:what|which|how|where|who|why|when|is|are|does|did|was|wie|welche\w*|wo|wer|warum|quel\w*|combien|où"
    r"|qui|pourquoi|cu[áa]\w+|d[óo]nde|qui[ée]n|qu[ée])\b",
    re.I,
)
_RUN = re.compile(
    r"\b(?:run|execut|tests?\b|unittest|pass\b|fix|repair|correct|debug|führ\w* .*aus|starte|beheb|reparier"
    r"|korrigier|lanc|exécut|corrig|répar|ejecut|prueba|arregl)",
    re.I,
)
"""Tasks whose result can be tried out: something has to be run after the last change."""
_FAILED = re.compile(r"\AError: .{0,200}|\Aexit code (?!0\b)\d+|^syntax error .*", re.M)


_ADMITS = re.compile(
    r"fail|error|could not|cannot|not possible|unable|did not|does not|exit code|fehl|erreur|error", re.I
)
CHANGING = frozenset({"write_file", "edit_file", "move_file", "delete_file", "run_command", "run_python"})
"""Tools that can do what a task with a verb of change asks for."""


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
    if grave := _undone(text, state["brief"]["step"]["goal"], results, sent_back):
        return grave
    return None if sent_back else _loose_end(text, state["brief"], messages, root)


def _undone(text: str, goal: str, results: Sequence[ToolMessage], sent_back: int) -> Objection | None:
    """What shows that the work is not done; an honest "it failed" is taken after a third try."""
    if _ADMITS.search(text) and (sent_back >= 2 or not _CHANGE.search(goal)):
        return None
    if failed := _FAILED.search(str(results[-1].content)):
        why = failed[0].strip()
        return Objection(f"Not done: the last call failed ({why}). Find out why, do it right.", is_grave=True)
    changes = [message for message in results if message.name in CHANGING]
    if not changes and _CHANGE.search(goal) and not _QUESTION.match(goal) and sent_back < 2:
        return Objection("You have only looked: nothing is changed, nothing was run. Do what the task says.")
    if changes and _RUN.search(goal) and not _is_proved(results):
        return Objection("Nothing was run after the last change. Run it to see if it is so.", is_grave=True)
    return None


def _loose_end(text: str, brief: Brief, messages: Sequence[AnyMessage], root: Path) -> Objection | None:
    """What an answer may have missed; said once, since it may well be right."""
    if name := _empty(brief["step"]["goal"], root):
        return Objection(f"{name} is empty. Write into it what the task asks for.")
    if name := _untouched(brief, messages):
        is_there = (root / name).exists()
        what = "no call of yours has touched" if is_there else "does not exist yet: make it now"
        return Objection(f"The task names {name}, which {what}, unless it is not needed.")
    if number := _invented(text, brief, messages):
        return Objection(
            f"No tool result shows the number {number}. Get it with a tool, then answer with what it shows."
        )
    return None


def _is_proved(results: Sequence[ToolMessage]) -> bool:
    """Whether something ran well after the last change of a file."""
    for message in reversed(results):
        if message.name in {"run_command", "run_python"} and str(message.content).startswith("exit code 0"):
            return True
        if message.name in {"write_file", "edit_file"} and not str(message.content).startswith("Error"):
            return False
    return False


def _said(messages: Sequence[AnyMessage]) -> str:
    """Everything that calls and results contain; the answer itself left out."""
    parts = []
    for message in messages:
        if isinstance(message, AIMessage):
            parts += [str(call["args"]) for call in message.tool_calls if call["name"] != FINISH]
        else:
            parts.append(str(message.content))
    return " ".join(parts)


def _empty(goal: str, root: Path) -> str:
    """The first file that the step names and that holds nothing, unless emptiness is what was asked for."""
    if re.search(r"\b(?:empty|blank|touch|leer|vide|vac[ií])", goal, re.I):
        return ""
    files = ((name, root / name) for name in _FILE.findall(goal))
    return next((str(name) for name, path in files if path.is_file() and not path.stat().st_size), "")


def _untouched(brief: Brief, messages: Sequence[AnyMessage]) -> str:
    """The first file that the step names and that appears in no call and no result."""
    seen = _said(messages[1:])
    names = _FILE.findall(brief["step"]["goal"])
    return next((str(name) for name in names if name.rsplit("/", 1)[-1] not in seen), "")


def _invented(text: str, brief: Brief, messages: Sequence[AnyMessage]) -> str:
    """The first number of two or more digits in the answer that neither the user nor a tool has said."""
    known = " ".join([brief["request"], *brief["before"], _said(messages)])
    plain = _THOUSANDS.sub("", known)
    for number in _NUMBER.findall(text):
        digits = _THOUSANDS.sub("", number)
        if len(digits) > 1 and digits not in plain and number not in known:
            return str(number)
    return ""
