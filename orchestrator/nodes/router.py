"""Decide who takes the request: the user's own word, a trained classifier, the model when that is unsure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Literal

from langchain_core.messages import AnyMessage, HumanMessage, SystemMessage
from langgraph.runtime import Runtime
from pydantic import create_model

from orchestrator.agents import mention
from orchestrator.context import Context, enter
from orchestrator.errors import ModelNonsense
from orchestrator.nodes.classifier import NONE, TAUGHT, Classifier, corpus, lifted, trained
from orchestrator.state import Route, State

SURE = 0.55
"""Probability from which the classifier decides alone."""
SURE_ENOUGH = 0.35
"""The same where the model is small: it is no better at this than the classifier, and slow."""
PLAIN = 0.6
"""Probability from which a request is taken to need no tool: an answer without one may be made up."""
CLAUSE = 0.8
"""Probability from which a part of the request is taken to need a specialist of its own."""
_CLAUSES = re.compile(r"[.;,!?]\s+|\s(?:and|then|und|dann|et|puis|y|luego)\s", re.I)
_CONCRETE = re.compile(
    r"[\w-]+\.\w{1,5}\b|[\w.-]+/[\w.-]*|`[^`]+`|\b(file|folder|directory|here|workspace)s?\b", re.I
)
"""What names a thing of the workspace: such a request is never just answered."""


async def router(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Route the request of this turn."""
    context, request = enter(runtime, "router"), state["request"]
    name, rest = mention(request)
    if name in context.agents:
        route = _route(str(name), 1.0, "you named it", "user")
        context.journal.write("route", **route)
        return {"route": route, "request": rest}
    classify = trained(corpus(context.agents))
    plain = classify(request)
    scores = lifted(plain, request, context.agents)
    raised = {name for name in scores if scores[name] > plain[name]}
    route = by_scores(scores, request, state.get("route"), raised)
    model = await context.model("fast")
    small = model.settings.size == "small"
    is_taught = all(len(agent.routing.examples) >= TAUGHT for agent in context.agents.values())
    if route["confidence"] < (SURE_ENOUGH if small and is_taught else SURE):
        # A small model takes too much for small talk; alone it may not say so.
        may_be_none = not _CONCRETE.search(request) and (
            not small or max(scores, key=scores.__getitem__) == NONE
        )
        names = [*context.agents, *([NONE] if may_be_none else [])]
        route = await by_model(request, names, state, context) or route
    if route["agent"] != NONE:
        route["agents"] = several(request, route["agent"], classify)
    context.journal.write("route", **route)
    return {"route": route}


def _route(
    agent: str, confidence: float, why: str, decided_by: Literal["user", "classifier", "model"]
) -> Route:
    return Route(
        agent=agent,
        agents=[] if agent == NONE else [agent],
        confidence=round(confidence, 2),
        why=why,
        decided_by=decided_by,
    )


def by_scores(
    scores: Mapping[str, float], request: str, last: Route | None, raised: Collection[str] = ()
) -> Route:
    """Turn probabilities into a route; a short follow-up stays with the agent who worked last.

    `raised` are the agents whose score comes from words that only they use, not from examples.
    """
    ranked = sorted(scores, key=lambda name: -scores[name])
    best = ranked[0]
    if best == NONE and (scores[NONE] < PLAIN or _CONCRETE.search(request)):
        best = ranked[1]
    if last and last["agent"] != NONE and len(request.split()) <= 6 and scores[best] < SURE and best != NONE:
        return _route(last["agent"], SURE, "it follows up on the last request", "classifier")
    why = f"it uses words that only {best} uses" if best in raised else f"closest to {best}'s examples"
    return _route(best, scores[best], why, "classifier")


def several(request: str, first: str, classify: Classifier) -> list[str]:
    """All specialists that the parts of a request point to, the routed one first."""
    found = [first]
    for clause in _CLAUSES.split(request):
        if len(clause.split()) < 4:
            continue
        scores = classify(clause)
        best = max(scores, key=lambda name: scores[name])
        if best not in {*found, NONE} and scores[best] >= CLAUSE:
            found.append(best)
    return found


async def by_model(request: str, names: list[str], state: State, context: Context) -> Route | None:
    """Ask the model; None when its answer is of no use, which the classifier's guess then replaces."""
    agents: Any = Literal[tuple(names)]
    schema = create_model("RouteChoice", agent=(agents, ...), why=(str, ""))
    menu = "\n".join(f"- {name}: {agent.description}" for name, agent in context.agents.items())
    if NONE in names:
        menu += f"\n- {NONE}: small talk or general knowledge that needs no file, no command and no look-up."
    last = state.get("route")
    before = f"\nThe last request went to {last['agent']}." if last else ""
    messages: list[AnyMessage] = [
        SystemMessage(f"You pick who works on a request.\n{menu}\nAnswer in JSON.{before}"),
        HumanMessage(f"Request: {request[:2000]}"),
    ]
    context.budget.check()
    try:
        choice = await (await context.model("fast")).fill(messages, schema)
    except ModelNonsense:
        return None
    picked = choice.model_dump()
    return _route(picked["agent"], SURE, picked["why"][:120], "model")
