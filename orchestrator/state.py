"""The state that the graphs carry: plain values and LangChain messages only, so that it can be stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.graph.message import add_messages

StepStatus = Literal["todo", "done", "failed", "refused"]
"""`refused` is a failure that no replan helps: what was tried may not be done."""


class Taint(TypedDict):
    """What a text inherits from the texts that it was written from."""

    level: int
    """The highest level of trust among them (`effects.Trust`); 0 when all are the user's."""
    secret: bool
    """One of them came from a file of secrets."""


class Route(TypedDict):
    """Who takes the request, and why."""

    agent: str
    """Name of a specialist, or `none` for a plain answer."""
    agents: list[str]
    """All specialists that the request seems to need; more than one makes the planner draft steps."""
    confidence: float
    """From 0 to 1."""
    why: str
    decided_by: Literal["user", "classifier", "model", "default"]


class Step(TypedDict):
    """One step of a plan."""

    id: str
    agent: str
    goal: str
    tools: list[str]
    """Names of the tools that the step may use; empty means all tools of its agent."""
    after: list[str]
    """Steps whose results this one needs."""
    check: str
    """How one sees that it is done, in words; may be empty."""
    taint: NotRequired[int]
    """Level of the texts that it was drafted from; missing where these are the user's words alone."""


def offered(step: Step, tools: Sequence[str]) -> list[str]:
    """Which of its agent's tools a step may use: those that its plan gives it."""
    return [name for name in tools if not step["tools"] or name in step["tools"]]


class Result(TypedDict):
    """What a specialist hands back for a step."""

    status: StepStatus
    text: str
    taint: NotRequired[Taint]
    """What it inherits from the texts that the specialist read."""


def merge(old: dict[str, Any], new: dict[str, Any] | None) -> dict[str, Any]:
    """Reducer: later keys win; None empties the channel, which starts a new turn."""
    return {} if new is None else {**old, **new}


class State(TypedDict, total=False):
    """The main graph's state: one conversation."""

    messages: Annotated[list[AnyMessage], add_messages]
    """What the user said and what was answered; the work between is in the subgraphs."""
    request: str
    """The user's words of this turn."""
    turn: int
    """Counted from 1."""
    route: Route
    plan: list[Step]
    results: Annotated[dict[str, Result], merge]
    """Results by step id."""
    replans: int
    answer: str
    status: Literal["done", "failed", "refused"]
    """How the turn ended."""
    taint: Taint
    """What the answers so far inherit; a later turn sees them."""


def first_input(request: str, turn: int) -> dict[str, Any]:
    """What a turn starts with."""
    return {
        "messages": [HumanMessage(request, id=f"{turn}-request")],
        "request": request,
        "turn": turn,
        "plan": [],
        "results": None,
        "replans": 0,
        "answer": "",
        "status": "done",
    }


class Verdict(TypedDict):
    """What the guardian decided on one call."""

    decision: Literal["allow", "ask", "deny"]
    rule: str
    """Id of the rule that decided, such as `shell.delete-outside`."""
    why: str
    """One sentence for the person and for the model."""
    inside: bool
    """Whether everything that the call touches lies in the workspace."""
    read_only: bool
    """Whether the call only looks, so that a command may see the whole machine."""
    taint: NotRequired[int]
    """How far from trusted what the call is made of is; 0, or missing, is the user's own."""
    hosts: NotRequired[list[str]]
    """What the command may reach; missing: it runs without a network."""
    sources: NotRequired[list[str]]
    """Where arguments that are not the user's own came from."""


class Brief(TypedDict):
    """What a specialist gets to work with, instead of the whole conversation."""

    request: str
    """The user's words."""
    step: Step
    before: list[str]
    """Results of the steps that this one depends on, and the last answer of the conversation."""
    said: NotRequired[list[str]]
    """Everything that the user said in this conversation."""
    taint: NotRequired[Taint]
    """What `before` inherits from the texts that it was written from."""


class Compaction(TypedDict):
    """What of a step's messages the model no longer gets as they are."""

    results: int
    """Results of tools before this position are cut."""
    start: int
    """Messages from 1 up to here are replaced by the summary."""
    summary: str
    """Empty while there is none."""
    most: NotRequired[int]
    """Tokens that a request may have, where the server has refused one that the settings allow."""


class SpecialistState(TypedDict, total=False):
    """A specialist's state: one step of one turn."""

    brief: Brief
    messages: Annotated[list[AnyMessage], add_messages]
    compaction: Compaction
    """Missing while the model gets all messages."""
    verdicts: dict[str, Verdict]
    """Verdicts of the pending calls, by call id."""
    decisions: dict[str, dict[str, Any]]
    """What the person said of the calls that were asked, by call id."""
    repeats: int
    """How many calls in a row were repeats; drives nudge, temperature and hand-over."""
    denials: int
    """How many messages in a row had all their calls refused."""
    denied: int
    """How many of the turn's last calls the guardian denied; 0 while the pending ones are fine."""
    objections: int
    """How often an answer was sent back."""
    result: Result
