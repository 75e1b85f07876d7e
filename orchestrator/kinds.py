"""What each kind of event carries, one model for each: the published form of the journal.

Writing an event does not pass through here, so that it costs nothing; tests hold every event that they see
against its model. A field may be added within a version; one that goes or changes its meaning needs another.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from orchestrator.events import Event


class Fields(BaseModel):
    """Base of all: exactly the fields that are named."""

    model_config = ConfigDict(extra="forbid")


class Turn(Fields):
    """A request came in."""

    request: str
    sandbox: str
    """What commands are confined by."""


class Resume(Fields):
    """A turn that had stopped goes on."""

    sandbox: str
    alive: float | None = None
    """Until when its last process may have worked on it, in seconds since the epoch."""


class Route(Fields):
    """Who takes the request."""

    agent: str
    agents: list[str]
    confidence: float
    why: str
    decided_by: Literal["user", "classifier", "model", "default"]


class PlannedStep(Fields):
    """One step of a plan."""

    id: str
    agent: str
    goal: str
    tools: list[str]
    """Those that it may use; empty: all of its agent."""
    after: list[str]
    check: str
    taint: int = 0
    """Level of the texts that it was drafted from."""


class Plan(Fields):
    """The steps that were drafted."""

    steps: list[PlannedStep]
    why: str
    """Why there is a new plan; empty for the first one."""


class StepEvent(Fields):
    """A step began (shown, not stored) or ended."""

    goal: str
    status: Literal["started", "todo", "done", "failed", "refused"]
    text: str = ""
    """The result."""
    taint: dict[str, int | bool] = {}
    """The level of the least trusted text that it was written from, and whether one held a secret."""


class Model(Fields):
    """A tier of models is used for the first time in a turn."""

    tier: str
    settings: dict[str, Any]


class Exchange(Fields):
    """What went over the wire: texts by digest, stored once each."""

    path: str
    messages: list[str]
    options: str
    status: int
    content_type: str
    response: str


class ModelCall(Fields):
    """A model answered; `seconds` of the event is how long it took."""

    model: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    first_token_seconds: float | None
    attempts: int
    usd: str | None
    """A decimal; null when the price is not known."""


class Partial(Fields):
    """What a model had said when its call was cancelled."""

    model: str
    text: str


class Retry(Fields):
    """A model did not answer and is asked again."""

    why: str
    wait: float
    """Seconds until then."""


class Breaker(Fields):
    """A circuit breaker opened, or another model took over."""

    text: str


class Verdict(Fields):
    """What the guardian decided on a call."""

    tool: str
    decision: Literal["allow", "ask", "deny"]
    rule: str
    why: str
    inside: bool
    read_only: bool
    arguments: dict[str, Any] | None
    """Null for an allowed call: its intent has them."""
    taint: int = 0
    """How far from trusted what the call is made of is; 0 is the user's own."""
    hosts: list[str] = []
    """What the command may reach, by the grant of its agent."""
    sources: list[str] = []
    """Where arguments that are not the user's own were read."""


class Network(Fields):
    """A command wanted to reach a host; written once for each host of a call."""

    tool: str
    host: str
    port: int
    allowed: bool
    why: str = ""
    """Why not."""


class Facts(Fields):
    """What a call would change, counted before the guardian's model is asked."""

    arguments: dict[str, Any]
    facts: dict[str, Any]


class Approval(Fields):
    """What a person, or `--yes`, decided on a call."""

    tool: str
    type: Literal["approve", "edit", "reject"]
    by: str | None = None
    """Such as `--yes`, `remembered 3` or `person (a-7f3a)`, with the id of the approval."""
    user: str | None = None
    """Whose process it was."""
    message: str | None = None
    edited_action: dict[str, Any] | None = None


class ToolIntent(Fields):
    """A call is about to run."""

    tool: str
    arguments: dict[str, Any]
    before: str | None = None
    """Snapshot of the files before it."""
    outside: bool | None = None
    """Whether it may change something that is no file of the workspace."""


class ToolResult(ToolIntent):
    """A call has run; `unknown`: it had begun when the process died."""

    status: Literal["ok", "error", "unknown"]
    text: str
    after: str | None = None
    """Snapshot of the files after it."""
    later: list[str] | None = None
    """Of a call that was cut off: the paths that changed again after its process had died."""
    history: bool | None = None
    """It moved the workspace's own Git history, which no undo turns back."""


class Served(Fields):
    """A call was answered from the journal instead of being run again."""

    tool: str


class Taint(Fields):
    """A result came in that is not to be trusted, or held a secret."""

    tool: str
    trust: int
    """0, 1 or 2, as in docs/safety.md."""
    secret: bool = False
    asked: bool = False
    """A person let this very call run."""
    odd: list[str] = []
    """What in it looks like an order."""
    hidden: int = 0
    """Hidden characters that were taken out."""


class Text(Fields):
    """Something to read: a note, a piece of a streamed answer, what a model was told."""

    text: str


class Compaction(Fields):
    """The conversation was shortened for the model."""

    tokens_before: int
    tokens_after: int
    room: int
    results_cut: int
    messages_summarised: int
    summary: str


class Budget(Fields):
    """A warning, an estimate of a plan, or what is handed over when a limit ends the turn."""

    warning: bool | None = None
    limit: str | None = None
    used: str | None = None
    of: str | None = None
    share: float | None = None
    estimate: bool | None = None
    steps: int | None = None
    low: str | None = None
    high: str | None = None
    unpriced_steps: int | None = None
    ended: bool | None = None
    done: list[str] | None = None
    left: list[str] | None = None


class Answer(Fields):
    """The answer of the turn."""

    text: str
    status: Literal["done", "failed", "refused"] | None = None


class Error(Fields):
    """What ended the turn before its end."""

    text: str
    type: str


class End(Fields):
    """The turn has ended or stopped; `seconds` of the event is how long it took in this process."""

    status: str
    reason: str
    model_calls: int | None = None
    tool_calls: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    usd: str | None = None
    unpriced_calls: int | None = None


class Snapshot(Fields):
    """The files as the turn found them."""

    id: str
    left_out: list[str]


class Fork(Fields):
    """A branch begins."""

    point: str
    name: str


class Undo(Fields):
    """A person took steps back, or took that back; the event stands on the branch that goes on from there."""

    came_from: str
    """The branch that was left."""
    point: str
    what: Literal["both", "files", "chat"]
    files: list[str]
    """What was done to each, such as `write a.txt`."""
    left: list[str]
    """Files that someone else changed since, which stayed as they are."""
    outside: list[str]
    """What cannot be taken back."""


KINDS: dict[str, type[Fields]] = {
    "turn": Turn,
    "route": Route,
    "plan": Plan,
    "step": StepEvent,
    "model_call": ModelCall,
    "partial": Partial,
    "tool_intent": ToolIntent,
    "tool_result": ToolResult,
    "verdict": Verdict,
    "network": Network,
    "facts": Facts,
    "taint": Taint,
    "approval": Approval,
    "nudge": Text,
    "retry": Retry,
    "budget": Budget,
    "breaker": Breaker,
    "compaction": Compaction,
    "note": Text,
    "text": Text,
    "answer": Answer,
    "end": End,
    "error": Error,
    "model": Model,
    "exchange": Exchange,
    "resume": Resume,
    "snapshot": Snapshot,
    "served": Served,
    "fork": Fork,
    "undo": Undo,
    "redo": Undo,
}
"""By kind."""


def schema() -> dict[str, Any]:
    """The JSON Schema of one line of the log."""
    defs: dict[str, Any] = {}
    envelope = Event.model_json_schema()
    for name, kind in KINDS.items():
        made = kind.model_json_schema(ref_template="#/$defs/{model}")
        defs |= made.pop("$defs", {})
        defs[f"{name}.fields"] = made
    return {
        "title": "Event",
        "type": "object",
        "properties": {**envelope["properties"], "kind": {"enum": list(KINDS)}},
        "required": [*envelope["required"], "fields", "version", "seq"],
        "additionalProperties": False,
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": name}}},
                "then": {"properties": {"fields": {"$ref": f"#/$defs/{name}.fields"}}},
            }
            for name in KINDS
        ],
        "$defs": defs,
    }
