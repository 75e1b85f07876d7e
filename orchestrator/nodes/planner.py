"""Draft the steps of a request where steps help, and check the draft by code.

A request that one specialist can do in one go gets one step and costs no model call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AnyMessage, HumanMessage, SystemMessage
from langgraph.runtime import Runtime
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.context import Context, enter
from orchestrator.effects import WORST
from orchestrator.errors import ModelNonsense
from orchestrator.nodes.messages import FINISH
from orchestrator.nodes.taint import inherited
from orchestrator.state import State, Step

MOST = 6
REPLANS = 1
_SEQUENCE = re.compile(
    r"\b(and then|then|after that|afterwards|once (that|this) is done|finally|next,"
    r"|danach|anschließend|ensuite|puis|después)\b",
    re.I,
)
_NUMBERED = re.compile(r"(?m)(?:^|\s)\(?[1-9][.)]\s+\S")
_LITERAL = re.compile(r"`([^`]+)`|\"([^\"]{2,60})\"|(?<![\w/.])([\w-][\w./-]*\.[A-Za-z]\w{0,4})\b")
_SENTENCE_END = re.compile(r"[.;!?]+(?:\s+|$)|\n")
"""A full stop inside a name such as `main.py` ends nothing."""
_PROHIBITION = re.compile(r"\b(?:do not|don't|never|without|except|must not|nicht|ohne|sans)\b", re.I)


class _PlainStep(BaseModel):
    model_config = ConfigDict(extra="forbid")
    agent: str
    goal: str = Field(min_length=3, max_length=400)
    after: list[int] = Field(default=[], max_length=MOST)
    check: str = Field(default="", max_length=200)


class _DraftStep(_PlainStep):
    tools: list[str] = Field(default=[], max_length=20)


class Draft(BaseModel):
    """A plan as a model writes it; steps are numbered from 1."""

    model_config = ConfigDict(extra="forbid")
    steps: list[_DraftStep] = Field(min_length=1, max_length=MOST)


class SmallDraft(BaseModel):
    """What a small model is asked for: it would leave out tools that its steps need."""

    model_config = ConfigDict(extra="forbid")
    steps: list[_PlainStep] = Field(min_length=1, max_length=MOST)


async def planner(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Give the turn its plan: one step, or several drafted ones."""
    context, request, route = enter(runtime, "planner"), state["request"], state["route"]
    replans = state.get("replans", 0)
    failed = _failure(state)
    if not context.settings.plan or not needs_steps(request, route["agents"]):
        plan = [_only_step(route["agent"], request, replans)]
    else:
        plan = _inheriting(await _drafted(state, context, failed), state) or [
            _only_step(route["agent"], request, replans)
        ]
    context.journal.write("plan", steps=plan, why=failed)
    return {"plan": [*_kept(state), *plan]}


def needs_steps(request: str, agents: Sequence[str]) -> bool:
    """Whether drafting steps is worth a model call: several specialists, a list, a longer sequence."""
    if len(agents) > 1 or len(_NUMBERED.findall(request)) > 1:
        return True
    return len(_SEQUENCE.findall(request)) > 1


def _only_step(agent: str, request: str, replans: int) -> Step:
    return Step(id=_step_id(1, replans), agent=agent, goal=request, tools=[], after=[], check="")


def _step_id(number: int, replans: int) -> str:
    return f"r{replans}s{number}" if replans else f"s{number}"


def _failure(state: State) -> str:
    """Why the plan before this one failed; empty for a first plan."""
    if not state.get("replans"):
        return ""
    return "; ".join(result["text"] for result in state["results"].values() if result["status"] == "failed")


def _kept(state: State) -> list[Step]:
    """The steps of the failed plan that are done; a replan builds on them."""
    done = {key for key, result in state.get("results", {}).items() if result["status"] == "done"}
    return [step for step in state.get("plan", []) if step["id"] in done]


def _inheriting(plan: list[Step], state: State) -> list[Step]:
    """Steps that were drafted in view of earlier results inherit what these were written from."""
    level = inherited(state)["level"] if state.get("replans") else 0
    return [{**step, "taint": level} for step in plan] if level else plan


async def _drafted(state: State, context: Context, failed: str) -> list[Step]:
    """Steps by the model; empty when two drafts in a row were of no use."""
    model = await context.model("default")
    small = model.settings.size == "small"
    messages: list[AnyMessage] = [
        SystemMessage(_instructions(context, names_tools=not small)),
        HumanMessage(_question(state, failed)),
    ]
    for _ in range(2):
        context.budget.check()
        try:
            filled = await model.fill(messages, SmallDraft if small else Draft)
        except ModelNonsense:
            return []
        draft = Draft.model_validate(filled.model_dump())
        tools = {name: agent.tools for name, agent in context.agents.items()}
        problems = faults(draft, state["request"], tools)
        if not problems:
            return _steps(draft, state.get("replans", 0), context)
        context.journal.write("nudge", text="; ".join(problems))
        messages.append(HumanMessage("That plan is wrong: " + "; ".join(problems) + ". Write it again."))
    return []


def _instructions(context: Context, *, names_tools: bool) -> str:
    agents = [f"- {name}: {agent.description}" for name, agent in context.agents.items()]
    hint = ""
    if names_tools:
        lists = [_acting(agent.tools, context) for agent in context.agents.values()]
        agents = [f"{line} Tools: {', '.join(names)}." for line, names in zip(agents, lists, strict=True)]
        hint = (
            "`tools` lists every one of these tools that the step may need, for its check too; files may be "
            "read anyway. Leave it out where that is not certain. "
        )
    return (
        "You split a request into the fewest steps that specialists can do one after the other.\n"
        + "\n".join(agents)
        + f"\nAt most {MOST} steps; one is often enough. Each goal repeats the file names, values and "
        "prohibitions of the request that it needs. `after` lists the numbers of the steps whose results "
        f"it uses. `check` says how one sees that it is done. {hint}Answer in JSON."
    )


def _acting(tools: Sequence[str], context: Context) -> list[str]:
    """The tools that change, run or reach something: what a plan can keep a step from."""
    found = ((name, context.tools[name].effects or WORST) for name in tools if name != FINISH)
    return [name for name, effects in found if not effects.is_read_only or effects.network]


def _allowed(step: _DraftStep, context: Context) -> list[str]:
    """The tools that a drafted step names, and those that only read files; empty where it names none."""
    own = context.agents[step.agent].tools
    acting = _acting(own, context) if step.tools else own
    return [name for name in own if name in step.tools or name not in acting]


def _question(state: State, failed: str) -> str:
    lines = [f"Request: {state['request']}", f"The router thinks of: {', '.join(state['route']['agents'])}."]
    if failed:
        done = [state["results"][step["id"]]["text"] for step in _kept(state)]
        lines += [f"Already done: {text}" for text in done]
        lines.append(f"A first attempt failed: {failed}. Plan only what is left, in another way.")
    return "\n".join(lines)


def faults(draft: Draft, request: str, agents: Mapping[str, Sequence[str]]) -> list[str]:
    """What is wrong with a draft, each as a sentence for the model; `agents` are names and their tools."""
    found = []
    for number, step in enumerate(draft.steps, 1):
        if step.agent not in agents:
            found.append(f"step {number} names {step.agent!r}; the specialists are {', '.join(agents)}")
        elif unknown := [name for name in step.tools if name not in agents[step.agent]]:
            has = ", ".join(agents[step.agent])
            found.append(f"step {number}: {step.agent} has no tool {unknown[0]!r}; it has {has}")
        if any(other >= number or other < 1 for other in step.after):
            found.append(f"step {number} may only come after steps before it")
    goals = " ".join(step.goal for step in draft.steps)
    missing = [literal for literal in literals(request) if literal not in goals]
    if missing:
        found.append(f"no goal mentions {', '.join(missing[:5])}")
    return found


def literals(request: str) -> list[str]:
    """File names, quoted texts and code of a request: what a plan must not lose."""
    return [next(group for group in found if group) for found in _LITERAL.findall(request)]


def _steps(draft: Draft, replans: int, context: Context) -> list[Step]:
    return [
        Step(
            id=_step_id(number, replans),
            agent=step.agent,
            goal=step.goal,
            tools=_allowed(step, context),
            after=[_step_id(other, replans) for other in step.after],
            check=step.check,
        )
        for number, step in enumerate(draft.steps, 1)
    ]


def prohibitions(request: str) -> list[str]:
    """What the user forbids, in their own words; every step is told."""
    return [part.strip() for part in _SENTENCE_END.split(request) if _PROHIBITION.search(part)]


def next_step(state: State) -> Step | None:
    """The first step that has no result yet; steps run in the order of the plan."""
    results = state.get("results", {})
    return next((step for step in state.get("plan", []) if step["id"] not in results), None)
