"""What to hand over when a limit ends a turn: what was done, and what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.effects import Effects
from orchestrator.events import Event, Journal

MOST = 8
"""Lines of each list."""


def hand_over(journal: Journal, effects: Mapping[str, Effects]) -> None:
    """Write down what is done and what is left, from the events of the turn."""
    events = journal.of_turn()
    ended = done(events, effects)
    more = len(ended) - MOST
    shown = [f"{more} things before that", *ended[-MOST:]] if more > 0 else ended
    journal.write("budget", ended=True, done=shown, left=left(events)[:MOST])


def done(events: Sequence[Event], effects: Mapping[str, Effects]) -> list[str]:
    """Steps that ended well, and calls of the step under way that changed something."""
    found: list[str] = []
    calls: list[str] = []
    for event in events:
        fields = event.fields
        if event.kind == "step" and fields.get("status") == "done":
            found.append(f"{fields['goal']}: {_line(str(fields['text']))}")
            calls = []
        elif event.kind == "tool_result" and fields.get("status") == "ok":
            effect = effects.get(str(fields["tool"]))
            if effect is None or not effect.is_read_only:
                calls.append(f"{fields['tool']} {_target(fields.get('arguments', {}))}".strip())
    return [*found, *calls]


def left(events: Sequence[Event]) -> list[str]:
    """Steps of the last plan that have not ended; the request when there is no plan."""
    plan: list[str] = []
    request = ""
    for event in events:
        if event.kind == "turn":
            request = str(event.fields.get("request", ""))
        elif event.kind == "plan":
            plan = [str(step["goal"]) for step in event.fields["steps"]]
        elif event.kind == "step" and event.fields.get("status") == "done":
            plan = [goal for goal in plan if goal != event.fields["goal"]]
    return [_line(goal) for goal in plan] or [_line(request)]


def _target(arguments: Mapping[str, Any]) -> str:
    for name in ("path", "source", "command", "url", "code"):
        if arguments.get(name):
            return _line(str(arguments[name]))
    return ""


def _line(text: str) -> str:
    first = text.strip().split("\n", 1)[0]
    return first if len(first) <= 100 else f"{first[:99]}…"
