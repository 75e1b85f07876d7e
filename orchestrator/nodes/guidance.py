"""How a model is led at its next action: what it is asked, which tools it is offered, at which temperature.

All of it is for models that get stuck; a model that goes its way sees its conversation and all its tools.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

from orchestrator.nodes import drafting, filenames, mending, oneliners
from orchestrator.nodes.intent import asks_for_change
from orchestrator.nodes.messages import FINISH
from orchestrator.nodes.proof import is_test
from orchestrator.nodes.repair import TRIES, WARMTH, is_trial, spoilt, still_failing, tried
from orchestrator.nodes.rounds import WRITES, is_move, is_vain, rounds_of
from orchestrator.settings import ModelSettings
from orchestrator.state import SpecialistState

AFRESH = 0.5
"""Temperature of a small model's second try, which at 0 would be its first one again."""
RESTLESS = 0.8
"""Temperature after a second repeated call: at 0 a model repeats itself for ever."""


MOST_OF_A_TEST, MOST_OF_A_COMMAND = 700, 600
"""Tokens of an answer: what is longer is a list of cases, or of names, that does not end."""


@dataclass(frozen=True)
class Code:
    """A question whose answer is code, and how that becomes a call."""

    question: list[AnyMessage]
    call: Callable[[str], AIMessage | None]
    """None where the answer holds no code."""
    most: int | None = None
    """Tokens that the answer may have; None leaves it to the settings."""


@dataclass(frozen=True)
class Guidance:
    """What holds for one call of the model."""

    warmth: float | None = None
    """The temperature; None leaves it as it is set."""
    withheld: set[str] = field(default_factory=set)
    """Tools that are not offered."""
    code: Code | None = None
    """What is asked for as code, when that is the next thing to do."""
    gives_up: str = ""
    """Why the model is not asked any more."""


def guided(
    state: SpecialistState,
    history: Sequence[AnyMessage],
    model: ModelSettings,
    root: Path,
    tools: Sequence[str],
) -> Guidance:
    """Lead the next call; a small model is asked for code as code: a repair, a program or a command."""
    step = state["brief"]["step"]
    goal, again = step["goal"], int(step["id"].startswith("r"))
    if model.size == "small" and is_trial(goal, history, root):
        check, count = still_failing(goal, history, root), tried(history)
        return Guidance(
            warmth=_warmer(count + again),
            code=Code(
                mending.question(goal, check, history, root),
                partial(mending.proposal, check=check, root=root),
            ),
            gives_up=f"{check} fails after {count} repairs; none of them was kept" if count >= TRIES else "",
        )
    if model.size == "small" and (name := drafting.wanted(goal, history, root)):
        return Guidance(
            warmth=_warmer(len(drafting.written(history)) + again),
            code=Code(
                drafting.question(goal, name, history, root),
                partial(drafting.draft, name=name),
                MOST_OF_A_TEST if is_test(name) else None,
            ),
        )
    if model.size == "small" and (code := _housekeeping(goal, history, root, tools)):
        return Guidance(warmth=_warmer(again), code=code)
    return Guidance(_warmth(state, model), _withheld(state))


def _housekeeping(goal: str, history: Sequence[AnyMessage], root: Path, tools: Sequence[str]) -> Code | None:
    """What is asked for where files are renamed, sorted, counted, moved or the machine is asked about."""
    if "run_command" in tools and (names := filenames.to_rename(goal, history, root)):
        call = partial(filenames.call, goal=goal, names=names)
        return Code(filenames.question(goal, names), call, MOST_OF_A_COMMAND)
    form = oneliners.form_of(goal, history, root, tools)
    if form is None:
        return None
    call = partial(oneliners.call, form=form, goal=goal, root=root)
    return Code(oneliners.question(goal, form, root), call, MOST_OF_A_COMMAND)


def _warmer(tries: int) -> float:
    """The temperature after so many tries."""
    return WARMTH[min(tries, len(WARMTH) - 1)]


def watches(goal: str, message: AIMessage) -> bool:
    """Whether a small model is told what a command of this message did to the files."""
    return asks_for_change(goal) and not is_move(message)


def unfit(
    message: AIMessage, state: SpecialistState, root: Path, again: dict[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Texts for repeated calls and for calls that would spoil a repair, in which a repeat is none."""
    goal = state["brief"]["step"]["goal"]
    return {} if is_trial(goal, state["messages"], root) else again, spoilt(message, goal, root)


def _withheld(state: SpecialistState) -> set[str]:
    """Tools that make no sense as the very next call: what was just repeated, refused or in vain."""
    last = state.get("messages", [])[-1:]
    if state.get("repeats", 0):
        own = (message for message, _ in reversed(rounds_of(state["messages"])) if not is_move(message))
        return {call["name"] for message in islice(own, 1) for call in message.tool_calls}
    if not last or not isinstance(last[0], ToolMessage):
        return set()
    if last[0].text.startswith("Error: not edited") or (last[0].name in WRITES and is_vain(last[0])):
        return {FINISH, "edit_file"}
    return {FINISH} if last[0].name == FINISH or "\nsyntax error" in str(last[0].content) else set()


def _warmth(state: SpecialistState, model: ModelSettings) -> float | None:
    """A higher temperature where the model is stuck, or tries a second time; None leaves it as it is set."""
    if state.get("repeats", 0) >= 2:
        return RESTLESS
    wrote_nonsense = any(
        "\nsyntax error" in str(message.content) for message in state.get("messages", [])[-1:]
    )
    is_second_try = state.get("objections", 0) >= 2 or state["brief"]["step"]["id"].startswith("r")
    return AFRESH if model.size == "small" and (is_second_try or wrote_nonsense) else None
