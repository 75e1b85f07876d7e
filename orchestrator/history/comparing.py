"""Compare two points of one run or of two: what was said, decided, called, changed and spent."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice

from orchestrator.branches import Seen
from orchestrator.events import Event, seen_by, selected
from orchestrator.history.points import Point
from orchestrator.limits import Spent
from orchestrator.runs import Runs

SECTIONS = ("messages", "decisions", "tools")
LONGEST = 200
"""Characters of one line that are shown; the journal has the rest."""
_BEFORE = 60
"""Characters that are shown before a difference in a longer line."""
_TOOK = re.compile(r"^((?:exit code|ended by signal) .*?) \(\d+\.\d s\)", re.MULTILINE)
"""How long a command took, which is no difference between two of them."""


@dataclass(frozen=True)
class Story:
    """What happened up to a point, a line for each thing."""

    point: str
    messages: list[str]
    decisions: list[str]
    tools: list[str]
    totals: Spent
    snapshot: str
    """The files as they were found or left last; empty where none were ever kept."""


@dataclass(frozen=True)
class Comparison:
    """How two stories differ."""

    a: Story
    b: Story
    lines: dict[str, list[str]]
    """By section, the lines of a unified diff, `-` for what only `a` has; empty where both are the same."""


def compare(runs: Runs, a: Point, b: Point) -> Comparison:
    """Compare two points."""
    one, other = story(runs, a), story(runs, b)
    lines = {name: _diff(getattr(one, name), getattr(other, name)) for name in SECTIONS}
    return Comparison(one, other, lines)


def events_of(runs: Runs, point: Point) -> list[Event]:
    """The events before a point, as its branch sees them."""
    lineage = runs.branches.lineage(point.branch)
    if point.step is not None:
        position = next(i for i, part in enumerate(lineage) if part.branch == point.step.branch)
        lineage = (Seen(point.step.branch, point.step.seq), *lineage[position + 1 :])
    return seen_by(runs.connection, point.run.id, lineage)


def story(runs: Runs, point: Point) -> Story:
    """Tell what happened up to a point."""
    events = events_of(runs, point)
    told = {name: [line for event in events for line in _TELL[name](event)] for name in SECTIONS}
    kept = list(_snapshots(events)) or list(islice(_snapshots(selected(runs.connection, point.run.id)), 1))
    return Story(point.name, **told, totals=totals(events), snapshot=kept[-1] if kept else "")


def _snapshots(events: Iterable[Event]) -> Iterator[str]:
    """The files as they were found and left, oldest first."""
    for event in events:
        names = {"snapshot": ("id",), "tool_result": ("before", "after")}.get(event.kind, ())
        yield from (str(event.fields[name]) for name in names if event.fields.get(name))


def totals(events: Iterable[Event]) -> Spent:
    """Add up what calls and turns took."""
    events = list(events)
    calls = [event.fields for event in events if event.kind == "model_call"]
    return Spent(
        model_calls=len(calls),
        tool_calls=sum(event.kind == "tool_result" for event in events),
        input_tokens=sum(call.get("input_tokens", 0) for call in calls),
        output_tokens=sum(call.get("output_tokens", 0) for call in calls),
        usd=sum((Decimal(call.get("usd") or 0) for call in calls), Decimal(0)),
        unpriced_calls=sum(call.get("usd") is None for call in calls),
        seconds=sum(event.seconds or 0.0 for event in events if event.kind == "end"),
    )


def _messages(event: Event) -> list[str]:
    if event.kind == "turn":
        return [f"user: {line}" for line in str(event.fields["request"]).splitlines()]
    if event.kind == "answer":
        return [f"answer: {line}" for line in str(event.fields["text"]).splitlines()]
    return []


def _decisions(event: Event) -> list[str]:
    fields = event.fields
    if event.kind == "route":
        return [f"route: {fields['agent']} ({fields['decided_by']})"]
    if event.kind == "plan":
        return [f"plan {step['id']}: {step['agent']}: {_line(step['goal'])}" for step in fields["steps"]]
    if event.kind == "verdict":
        return [f"verdict on {fields['tool']}: {fields['decision']} ({fields['rule']})"]
    if event.kind == "approval":
        return [f"approval of {fields['tool']}: {fields['type']}"]
    if event.kind == "step":
        return [f"step {event.step}: {fields['status']}: {_line(fields['text'])}"]
    return []


def _tools(event: Event) -> list[str]:
    if event.kind != "tool_result":
        return []
    fields = event.fields
    call = json.dumps(fields.get("arguments", {}), ensure_ascii=False, sort_keys=True)
    text = _TOOK.sub(r"\1", str(fields["text"]))
    return [f"{fields['tool']} {_line(call)} → {fields['status']}: {_line(text)}"]


_TELL = {"messages": _messages, "decisions": _decisions, "tools": _tools}


def _line(text: str) -> str:
    return " ".join(text.split())


def _diff(a: Sequence[str], b: Sequence[str]) -> list[str]:
    lines = list(difflib.unified_diff(a, b, lineterm="", n=1))[2:]
    gone: list[int] = []
    same: dict[int, int] = {}
    for at, line in enumerate(lines):
        if line[0] == "-":
            gone.append(at)
        elif line[0] == "+" and gone:
            other = gone.pop(0)
            same[at] = same[other] = _alike(line[1:], lines[other][1:])
        else:
            gone.clear()
    return [_shortened(line, same.get(at, 0)) for at, line in enumerate(lines)]


def _alike(one: str, other: str) -> int:
    """With how many characters both begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _shortened(line: str, same: int) -> str:
    """A line with what is different in it; its first `same` characters are not."""
    if len(line) <= LONGEST:
        return line
    if same < LONGEST - _BEFORE:
        return f"{line[: LONGEST - 1]}…"
    part = line[same - _BEFORE : same + LONGEST - 2 * _BEFORE]
    return f"{line[:_BEFORE]}…{part}{'…' if same + LONGEST - 2 * _BEFORE < len(line) else ''}"
