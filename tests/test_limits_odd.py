"""Clocks and names without sense: limits hold, and nothing ends with a traceback."""

from __future__ import annotations

import pytest
from desk import Desk
from scripted import Say

from orchestrator.limits.entries import day_of, identity

CLOCK = "import os, time\nreal = time.time\ntime.time = lambda: real() + float(os.environ['AHEAD'])\n"
DAY, YEAR = 86_400, 31_557_600


@pytest.mark.parametrize(
    ("now", "day"),
    [
        (0.0, "1970-01-01"),
        (-1.0, "1969-12-31"),
        (1_769_903_999.9, "2026-01-31"),
        (1_769_904_000.0, "2026-02-01"),
        (1e15, "9999-12-31"),
        (-1e15, "0001-01-01"),
        (float("inf"), "9999-12-31"),
    ],
)
def test_every_time_has_a_day(now: float, day: str) -> None:
    assert day_of(now) == day


def test_a_limit_of_a_day_outlives_clocks_that_jump(desk: Desk) -> None:
    desk.write("clock/sitecustomize.py", CLOCK)
    desk.settings({"limits": {"day": {"model_calls": 1}}})
    with desk.model(lambda _: Say("Fine.")) as served:

        def code(ahead: float) -> int:
            return desk.orc(
                "run", "-q", "hello, how are you today?", PYTHONPATH="clock", AHEAD=str(ahead)
            ).code

        assert [code(0), code(0), code(-DAY), code(18_000 * YEAR), code(18_000 * YEAR), code(0)] == [
            *(0, 5, 5),
            *(0, 5, 5),
        ]
    assert len(served.requests) == 2


@pytest.mark.parametrize("name", ["anna", " anna", "anna\n"])
def test_blanks_make_no_other_user(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("ORC_USER", name)
    assert identity()[0] == "anna"


def test_a_user_without_a_name_is_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORC_USER", raising=False)
    account = identity()[0]
    monkeypatch.setenv("ORC_USER", " ")
    assert identity()[0] == account


def test_a_notice_that_fails_for_each_warning_is_told_once(desk: Desk) -> None:
    desk.user_settings({
        "limits": {"tokens": 20_000, "warn_at": 0.00001, "on_warning": {"command": ["false"]}}
    })
    with desk.model([Say("Fine.")]):
        done = desk.orc("run", "hello, how are you today?")
    told = [line for line in done.err.splitlines() if "on_warning" in line]
    assert told == ["! limits.on_warning.command 'false' ended with 1"]
