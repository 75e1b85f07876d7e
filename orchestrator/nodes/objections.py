"""Cheap checks of an answer by code, before it is taken for the result of a step.

Each catches what small models do often: to end without having done anything, to pass over a failure,
to forget half of the task, to make up a number. An objection is advice: the model may insist.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

from orchestrator.nodes.think import FINISH
from orchestrator.state import Brief, SpecialistState

_FILE = re.compile(r"(?<![\w/.@-])[\w-][\w./-]*\.[A-Za-z]\w{0,4}\b")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*(?![\w])")
_THOUSANDS = re.compile(r"(?<=\d)[,_ ](?=\d{3}\b)")
_CHANGE = re.compile(
    r"(?:^|[.,;:!?\n]|\b(?:and|then|to|please|you|und|bitte|et|y)\b)\s*"
    r"(?:fix|repair|correct|change|edit|write|create|add|append|insert|rename|move|copy|delete|remove|replace|sort"
    r"|convert|update|save|store|put|make|set|generate|implement|run|execute|lege|erstelle|schreibe?|ändere|lösche"
    r"|benenne|verschiebe|sortiere|behebe|crée|écris|ajoute|supprime|renomme|corrige|crea|escribe|añade|borra)\b",
    re.I,
)
_FAILED = re.compile(r"Error: (.{0,200})|(exit code (?!0\b)\d+)")


_ADMITS = re.compile(
    r"fail|error|could not|cannot|not possible|unable|did not|does not|exit code|fehl|erreur|error", re.I
)
_PASSES = re.compile(r"\b(?:pass(?:es|ed)?|succe\w+|läuft|besteht|bestanden|réussi\w*|pasa)\b", re.I)
_TEST = re.compile(r"\btests?\b|\bassert", re.I)
CHANGING = frozenset({"write_file", "edit_file", "move_file", "delete_file", "run_command", "run_python"})
"""Tools that can do what a task with a verb of change asks for."""


@dataclass(frozen=True)
class Objection:
    """Why an answer is sent back."""

    text: str
    """An instruction for the model."""
    is_grave: bool = False
    """The work is not done: an answer that stands by it is a failure."""


def objection_to(text: str, state: SpecialistState) -> Objection | None:
    """What speaks against taking this answer; None when nothing does."""
    brief, messages = state["brief"], state["messages"]
    results = [message for message in messages if isinstance(message, ToolMessage) and message.name != FINISH]
    if not text:
        return Objection("The answer is empty. Say what you did and what you found.", is_grave=True)
    if not results:
        return Objection("You have not used a tool yet. Do the task with the tools first, then finish.")
    failed = _FAILED.match(str(results[-1].content))
    if failed and not _ADMITS.search(text):
        why = failed[0].strip()
        return Objection(
            f"Not done: the last call failed ({why}). Find out why and do it right.", is_grave=True
        )
    if _PASSES.search(text) and _TEST.search(brief["step"]["goal"]) and not _is_proved(results):
        return Objection(
            "Nothing was run after the last change. Run the test and see whether it passes.", is_grave=True
        )
    if state.get("objections", 0):
        return None
    if _CHANGE.search(brief["step"]["goal"]) and not any(message.name in CHANGING for message in results):
        return Objection(
            "You have only looked: nothing is changed and nothing was run. Do what the task says."
        )
    if name := _untouched(brief, messages):
        return Objection(f"The task names {name}, which no call of yours has touched. Do that part as well.")
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
