"""What a turn may use: counted from the journal, checked before a call is made."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from desk import Desk
from scripted import Call, Say

from orchestrator.errors import BudgetExceeded
from orchestrator.events import Event
from orchestrator.limits import Budget, price
from orchestrator.settings import Limits, ModelSettings


def event(kind: Any, seconds: float | None = None, **fields: Any) -> Event:
    return Event(at=0, run="r-1", turn=1, kind=kind, seconds=seconds, fields=fields)


def test_past_events_count_so_that_a_pause_resets_nothing() -> None:
    past = [
        event("model_call", input_tokens=10, output_tokens=2, usd="0.25"),
        event("tool_result"),
        event("end", seconds=7.0),
    ]
    clock = iter([100.0, 103.0])
    spent = Budget(Limits(), past, clock=lambda: next(clock)).spent
    assert (spent.model_calls, spent.tool_calls, spent.input_tokens, spent.output_tokens) == (1, 1, 10, 2)
    assert (spent.usd, spent.seconds) == (Decimal("0.25"), 10.0)


@pytest.mark.parametrize(
    ("limits", "kind", "told"),
    [
        ({"model_calls": 1}, "model_call", "1 of 1 model calls; raise limits.model_calls"),
        ({"tool_calls": 1}, "tool_result", "1 of 1 tool calls; raise limits.tool_calls"),
        ({"usd": "0.10"}, "model_call", "$0.2000 of $0.10; raise limits.usd"),
    ],
)
def test_the_call_over_the_limit_is_refused_with_both_numbers(
    limits: dict[str, Any], kind: str, told: str
) -> None:
    budget = Budget(Limits.model_validate(limits))
    budget.check()
    budget.count(event(kind, usd="0.20"))
    with pytest.raises(BudgetExceeded) as raised:
        budget.check()
    assert told in str(raised.value)


def test_time_is_a_limit() -> None:
    now = [0.0]
    budget = Budget(Limits(seconds=5), clock=lambda: now[0])
    budget.check()
    now[0] = 5.0
    with pytest.raises(BudgetExceeded, match="seconds"):
        budget.check()


def test_an_unknown_price_is_never_zero_dollars() -> None:
    budget = Budget(Limits(usd=Decimal(1)))
    budget.count(event("model_call", usd=None))
    with pytest.raises(BudgetExceeded, match="unknown price"):
        budget.check()
    assert price(ModelSettings(model="no-such-model"), "no-such-model", 10, 10) is None
    assert price(ModelSettings(provider="embedded"), "anything", 10, 10) == 0


def test_a_known_price_is_counted() -> None:
    found = price(ModelSettings(model="gpt-4o-mini"), "gpt-4o-mini", 1_000_000, 0)
    assert found is not None
    assert found > 0


def test_the_limit_of_tool_calls_stops_the_command_with_exit_5(desk: Desk) -> None:
    desk.settings({"limits": {"tool_calls": 1}})
    with desk.model([Call("list_files"), Call("run_command", command="touch a"), Say("never")]):
        done = desk.orc("run", "@coder look")
    assert (done.code, done.out) == (5, "")
    assert "1 of 1 tool calls" in done.err
    assert "orc resume" in done.err
    assert not (desk.root / "a").exists()


def test_an_agents_own_limit_ends_its_step_and_not_the_run(desk: Desk) -> None:
    text = "---\ndescription: Looks.\ntools: [list_files, read_file]\nlimits: {model_calls: 2}\n---\nLook.\n"
    desk.write("agents/looker.md", text)
    for name in "abcd":
        desk.write(name, name)
    calls = [Call("read_file", path=name) for name in "abcd"]
    turn = desk.work("@looker look", calls)
    assert turn.outcome is not None
    assert turn.outcome.status == "failed"
    assert "looker used 2 of its 2 model calls" in turn.answer
