"""What a run recorded, in the order in which today's code has to ask for it again.

Answers are found by position (turn, node, step of the plan) and checked by content: the first thing that
differs ends the replay.
"""

from __future__ import annotations

import difflib
import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.branches import Step
from orchestrator.events import Event
from orchestrator.llm.record import Asked, asked, exchange_of, request_of
from orchestrator.llm.wire import Exchange

CHECKED = ("route", "plan", "verdict", "approval", "nudge", "step", "answer", "tool_intent")
"""Kinds of events that today's code has to write just as they are recorded."""
_IGNORED = frozenset({"by", "user", "why", "confidence", "before"})
"""Fields that explain and decide nothing, and the snapshot before a call, which a replay does not take."""
END = 1 << 63
"""Comes after every event."""
SHOWN = 40
"""Lines of a difference that are shown; a longer one says how many there are."""


class Diverged(BaseException):
    """Today's code does something else than was recorded.

    No Exception: what makes a run robust must not take it for a fault to be retried.
    """

    def __init__(self, where: str, what: str, difference: Sequence[str] = ()) -> None:
        super().__init__(f"{where}: {what}")
        self.where, self.what = where, what
        self.difference = list(difference)


class RecordEnds(BaseException):
    """A turn that was stopped was replayed up to where it stopped."""


@dataclass
class Recorded:
    """One turn of a run, consumed as it is replayed."""

    turn: int
    request: str
    events: list[Event]
    kept: Callable[[str], str]
    """Returns the text of a digest."""
    cleaned: Callable[[str], str]
    """Takes the secrets out of a text, as was done when it was recorded."""
    checked: int = 0
    """How many recorded things today's code has done again."""
    _queues: dict[tuple[str, ...], deque[Event]] = field(default_factory=dict)

    _lookups: dict[str, Event] = field(default_factory=dict)
    """By path, what is asked once by every process, such as which models there are."""

    def __post_init__(self) -> None:
        for event in self.events:
            if event.kind == "exchange" and not event.fields["messages"]:
                self._lookups[event.fields["path"]] = event
            elif event.kind in {*CHECKED, "exchange"}:
                self._queues.setdefault(_key(event), deque()).append(event)

    @property
    def has_ended(self) -> bool:
        """Whether the turn came to its answer."""
        return any(event.kind == "answer" for event in self.events)

    @property
    def is_whole(self) -> bool:
        """Whether all that models answered was kept: the first versions of orc kept their calls only."""
        kinds = [event.kind for event in self.events]
        return "model_call" not in kinds or "model" in kinds[: kinds.index("model_call")]

    def files(self) -> str:
        """The files before what comes next; empty when they were not kept."""
        upto = min((queue[0].seq for queue in self._queues.values() if queue), default=END)
        found = ""
        for event in self.events:
            if event.seq < upto and event.kind in {"snapshot", "tool_result"}:
                found = str(event.fields.get("id") or event.fields.get("after") or found)
        return found

    def answer(self, where: dict[str, str], path: str, body: bytes) -> Exchange:
        """The recorded answer to a request; raises Diverged when the request is another one now."""
        queue = self._queues.get(("exchange", where.get("node", ""), where.get("step", ""), ""))
        now = self._asked(body)
        if not now.messages and path in self._lookups:
            return exchange_of(self._lookups[path].fields, self.kept)
        if not queue:
            if not self.has_ended:
                raise RecordEnds
            raise Diverged(self._at(where), "the model is asked once more than was recorded", _shown(now))
        event = queue.popleft()
        before = request_of(event.fields, self.kept)
        if not now.is_like(before) or path != event.fields["path"]:
            raise Diverged(self._at(where), "the model is asked something else", _difference(before, now))
        self.checked += 1
        return exchange_of(event.fields, self.kept)

    def _asked(self, body: bytes) -> Asked:
        request = asked(body)
        return Asked(tuple(map(self.cleaned, request.messages)), self.cleaned(request.options))

    def check(self, event: Event) -> None:
        """Compare an event of today's code with the recorded one; raises Diverged."""
        if event.kind == "served":
            self._served(event)
        if event.kind not in CHECKED or not event.seq:
            return
        queue = self._queues.get(_key(event))
        where = self._at({"node": event.node, "step": event.step})
        if not queue:
            if not self.has_ended and not any(self._queues.values()):
                raise RecordEnds
            raise Diverged(where, f"a {event.kind} that was not recorded", _lines(_content(event)))
        before, after = _content(queue.popleft()), _content(event)
        if before != after:
            differ = difflib.unified_diff(_lines(before), _lines(after), "recorded", "now", lineterm="", n=2)
            raise Diverged(where, f"another {event.kind}", list(differ))
        self.checked += 1
        if event.kind == "tool_intent" and not self.has_ended and not self._has_result(event.call):
            raise RecordEnds

    def _has_result(self, call: str) -> bool:
        """Whether a call came to its end, or was found cut off by a process that went on."""
        return any(event.kind == "tool_result" and event.call == call for event in self.events)

    def decisions(self, step: str, calls: Sequence[str]) -> list[dict[str, Any]]:
        """What was decided on these calls the next time that a person was asked in a step of the plan."""
        queues = {
            call: queue
            for (kind, _, where, call), queue in self._queues.items()
            if (kind, where) == ("approval", step)
        }
        found = [queues[call][0] for call in calls if queues.get(call)]
        if len(found) < len(calls):
            if not self.has_ended:
                raise RecordEnds
            raise Diverged(f"turn {self.turn}", "a person is asked what they were not asked then")
        return [{**event.fields} for event in found]

    def finish(self) -> None:
        """Raise Diverged when something recorded was not done again."""
        left = [event for queue in self._queues.values() for event in queue]
        if left and self.has_ended:
            first = min(left, key=lambda event: event.seq)
            where = self._at({"node": first.node, "step": first.step})
            raise Diverged(
                where, f"a recorded {first.kind} does not happen any more", _lines(_content(first))
            )

    def _served(self, event: Event) -> None:
        """A call was answered from the record, so its intent is not written again."""
        queue = self._queues.get(("tool_intent", event.node, event.step, event.call))
        if queue:
            queue.clear()
            self.checked += 1

    def _at(self, where: dict[str, str]) -> str:
        step = f", step {where['step']}" if where.get("step") else ""
        return f"turn {self.turn}{step}, {where.get('node') or 'start'}"


def turns_of(
    events: Iterable[Event],
    steps: Sequence[Step],
    kept: Callable[[str], str],
    cleaned: Callable[[str], str],
) -> list[Recorded]:
    """Cut what a branch recorded into its turns; what a resumed run did over again counts once."""
    turns: dict[int, list[Event]] = {}
    for event in events:
        turns.setdefault(event.turn, []).append(event)
    return [
        Recorded(turn, str(told[0].fields["request"]), _settled(told, steps), kept, cleaned)
        for turn, told in turns.items()
        if told[0].kind == "turn"
    ]


def _settled(events: list[Event], steps: Sequence[Step]) -> list[Event]:
    """Leave out what a node did that was cut off, where a resumed run did it again."""
    settled: list[Event] = []
    for event in events:
        if event.kind == "resume":
            last = next((step for step in reversed(steps) if step.seq < event.seq), None)
            if last is not None and _is_done_again(events, steps, last, event.seq):
                settled = [each for each in settled if not _is_undone(each, last)]
        settled.append(event)
    return settled


def _is_done_again(events: list[Event], steps: Sequence[Step], last: Step, resumed: int) -> bool:
    """Whether the node that was the last to start did something after a run was resumed.

    Where it had come to its end before, as when it was forked or stopped then, the next step follows.
    """
    upto = min((step.seq for step in steps if step.seq >= resumed), default=events[-1].seq)
    return any(resumed < each.seq <= upto and each.node == last.node for each in events)


def _is_undone(event: Event, step: Step) -> bool:
    """Whether an event belongs to a node that was cut off; results of calls hold all the same."""
    is_result = event.kind in {"tool_intent", "tool_result", "turn", "snapshot"}
    return event.seq > step.seq and event.node == step.node and not is_result


def _key(event: Event) -> tuple[str, ...]:
    return (event.kind, event.node, event.step, event.call)


def _content(event: Event) -> dict[str, Any]:
    return {key: value for key, value in event.fields.items() if key not in _IGNORED}


def _lines(value: Any) -> list[str]:
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True).splitlines()


def _shown(request: Asked) -> list[str]:
    last = request.messages[-1] if request.messages else request.options
    return _lines(json.loads(last)) if last else []


def _difference(before: Asked, now: Asked) -> list[str]:
    """The first message that differs, or else the options, as lines of a unified diff."""
    pairs = [
        *((f"message {n}", a, b) for n, (a, b) in enumerate(_padded(before.messages, now.messages), 1)),
        ("options", before.options, now.options),
    ]
    name, a, b = next((pair for pair in pairs if pair[1] != pair[2]), ("path", "", ""))
    lines = list(
        difflib.unified_diff(
            _readable(a), _readable(b), f"{name}, recorded", f"{name}, now", lineterm="", n=2
        )
    )
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], f"… {more} more lines"] if more > 0 else lines


def _padded(a: Sequence[str], b: Sequence[str]) -> list[tuple[str, str]]:
    longest = max(len(a), len(b))
    return list(zip([*a, *[""] * (longest - len(a))], [*b, *[""] * (longest - len(b))], strict=True))


def _readable(text: str) -> list[str]:
    """A message or the options, a line for each line of a text in it."""
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        return text.splitlines()
    return [line for part in _lines(value) for line in part.replace("\\n", "\n").split("\n")]
