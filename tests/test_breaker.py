"""What keeps failing is left alone, by all processes together, and others take over meanwhile."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asking import ASKED, QUICK, TOOLS, write
from desk import Desk
from langchain_core.messages import HumanMessage
from scripted import Call, Reply, Request, Say, ScriptedModel, Status

from orchestrator.breaker import FAILURES, Breakers, Resting
from orchestrator.errors import ModelRejected, ModelUnreachable, ToolError
from orchestrator.llm.caller import Listeners
from orchestrator.llm.chat import Chat, open_model
from orchestrator.llm.fallback import Chain
from orchestrator.settings import ModelSettings
from orchestrator.storage import open_state
from orchestrator.tables import BUDGETS
from orchestrator.tools.hosts import HostAnswered, HostFailed, guarded
from orchestrator.tools.registry import TOOLS as REAL


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breakers(tmp_path: Path, clock: Clock) -> Iterator[Breakers]:
    connection = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    connection.executescript(f"pragma journal_mode=wal; {BUDGETS}")
    yield Breakers(connection, clock)
    connection.close()


def fail(breakers: Breakers, times: int = FAILURES) -> None:
    for _ in range(times):
        with breakers.passing("m", 10) as passed:
            passed.failed("HTTP 503")


def test_five_failures_in_a_row_open_it_and_a_success_in_between_does_not_count(breakers: Breakers) -> None:
    fail(breakers, 4)
    with breakers.passing("m", 10) as passed:
        passed.succeeded()
    fail(breakers, 4)
    with breakers.passing("m", 10):
        pass
    fail(breakers, 1)
    with pytest.raises(Resting, match=r"m failed 5 times in a row \(last: HTTP 503\).* another 30 s"):
        breakers.passing("m", 10).__enter__()
    with breakers.passing("other", 10):
        pass


def test_after_the_rest_one_probe_goes_and_closes_it(breakers: Breakers, clock: Clock) -> None:
    fail(breakers)
    clock.now += 31
    with breakers.passing("m", 10) as probe:
        with pytest.raises(Resting):
            breakers.passing("m", 10).__enter__()
        probe.succeeded()
    with breakers.passing("m", 10) as passed:
        assert not passed.is_probe
    assert breakers.list() == []


def test_a_probe_that_fails_doubles_the_rest_up_to_ten_minutes(breakers: Breakers, clock: Clock) -> None:
    fail(breakers)
    rests = []
    for _ in range(7):
        clock.now += 601
        with breakers.passing("m", 10) as probe:
            probe.failed("again")
        rests.append(breakers.list()[0].rest)
    assert rests == [60, 120, 240, 480, 600, 600, 600]


def test_a_probe_that_proved_nothing_or_died_lets_the_next_one_go(breakers: Breakers, clock: Clock) -> None:
    fail(breakers)
    clock.now += 31
    with pytest.raises(KeyboardInterrupt), breakers.passing("m", 10):
        raise KeyboardInterrupt
    killed = breakers.passing("m", 10)
    killed.__enter__()
    with pytest.raises(Resting):
        breakers.passing("m", 10).__enter__()
    clock.now += 11
    with breakers.passing("m", 10) as passed:
        assert passed.is_probe


def test_a_clock_that_jumps_back_does_not_lengthen_the_rest(breakers: Breakers, clock: Clock) -> None:
    fail(breakers)
    clock.now -= 100_000
    with pytest.raises(Resting) as raised:
        breakers.passing("m", 10).__enter__()
    assert raised.value.seconds <= 30


PROBE = """
import os, sqlite3, sys
from orchestrator.breaker import Breakers, Resting
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
sys.stdin.readline()
try:
    passing = Breakers(connection, lambda: 1_000_031.0).passing("m", 10)
    passing.__enter__()
    print("probe", flush=True)
    os._exit(0)  # as if it were killed
except Resting:
    print("resting")
"""


def test_of_several_processes_one_gets_the_probe(breakers: Breakers, tmp_path: Path) -> None:
    fail(breakers)
    command = [sys.executable, "-c", PROBE, str(tmp_path / "state.db")]
    several = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    for process in several:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate()[0].strip() for process in several]
    assert sorted(said) == ["probe", "resting", "resting", "resting"]


def test_a_model_that_fails_is_left_alone_and_told(breakers: Breakers, clock: Clock) -> None:
    opened: list[str] = []
    with ScriptedModel(lambda _request: Status(503)) as model:
        for _ in range(FAILURES):
            with pytest.raises(ModelUnreachable, match="tried 4 times"):
                write(model.settings(), breakers=breakers, on_open=opened.append)
        asked = len(model.requests)
        assert asked == FAILURES * 4
        with pytest.raises(ModelUnreachable, match=r"left alone for another 30 s; `orc doctor` shows it"):
            write(model.settings(), breakers=breakers)
        assert len(model.requests) == asked
        assert len(opened) == 1
        model.script = lambda _request: Say("back")
        clock.now += 31
        assert write(model.settings(), breakers=breakers) == "back"
        assert breakers.list() == []


def test_a_refusal_is_no_failure(breakers: Breakers) -> None:
    with ScriptedModel(lambda _request: Status(401)) as model:
        for _ in range(6):
            with pytest.raises(ModelRejected):
                write(model.settings(), breakers=breakers)
    assert breakers.list() == []


def test_a_host_that_fails_is_left_alone_and_one_that_refuses_is_not(breakers: Breakers) -> None:
    def reach(error: Exception) -> None:
        with guarded(breakers, "example.org", 5):
            raise error

    for _ in range(FAILURES):
        with pytest.raises(HostAnswered):
            reach(HostAnswered("404"))
    for _ in range(FAILURES):
        with pytest.raises(HostFailed):
            reach(HostFailed("503"))
    with pytest.raises(ToolError, match=r"host example.org failed 5 times .* use another source"):
        reach(HostFailed("503"))


def chain(*settings: ModelSettings, told: list[str] | None = None, breakers: Breakers | None = None) -> Chain:
    async def opened() -> list[Chat]:
        return [await open_model(s, patience=QUICK, listeners=Listeners(breakers=breakers)) for s in settings]

    finish = next(tool for tool in (REAL["finish"],))
    from orchestrator.llm.base import ToolSpec

    spec = ToolSpec(finish.name, finish.description, finish.arguments)
    return Chain(asyncio.run(opened()), spec, (told if told is not None else []).append)


def test_another_model_takes_over_in_its_own_form() -> None:
    told: list[str] = []
    with ScriptedModel(lambda _r: Status(503)) as down, ScriptedModel([Call("finish", answer="hi")]) as up:
        models = chain(down.settings(), up.settings(tool_calls="json", model="spare"), told=told)
        answer = asyncio.run(models.act(ASKED, TOOLS))
    assert answer.tool_calls[0]["name"] == "finish"
    assert "finish" in up.requests[0].tools
    assert "asking spare instead" in told[0]


def test_a_model_that_cannot_hold_the_question_is_passed_over() -> None:
    with ScriptedModel(lambda _r: Status(503)) as down, ScriptedModel([Say("hi")]) as up:
        small = up.settings(context_tokens=1024, max_output_tokens=100, model="small")
        with pytest.raises(ModelUnreachable, match=r"small: its window of 1,024 tokens is too small"):
            asyncio.run(chain(down.settings(), small).write([HumanMessage("x " * 4000)]))
    assert not up.requests


def test_while_the_first_model_rests_prompts_are_made_for_the_next(breakers: Breakers) -> None:
    with ScriptedModel(lambda _r: Status(503)) as down, ScriptedModel(lambda _r: Say("hi")) as up:
        models = chain(down.settings(), up.settings(model="spare"), breakers=breakers)
        for _ in range(FAILURES):
            assert asyncio.run(models.write(ASKED)) == "hi"
        asked = len(down.requests)
        assert models.settings.model == "spare"
        assert asyncio.run(models.write(ASKED)) == "hi"
    assert len(down.requests) == asked


def test_doctor_shows_what_rests_and_a_run_falls_over(desk: Desk) -> None:
    def script(request: Request) -> Reply:
        if request["model"] == "first":
            return Status(503, {"Retry-After": "0"})
        return Call("list_files") if len(request["messages"]) < 4 else Say("nothing here")

    model: dict[str, Any] = {"model": "first"}
    with desk.model(script) as served:
        model |= {"base_url": served.base_url, "fallback": [{"model": "spare", "base_url": served.base_url}]}
        desk.user_settings({"models": {"default": model}})
        done = desk.orc("run", "@coder list")
    assert (done.code, done.out) == (0, "nothing here\n")
    assert "asking spare instead" in done.err
    connection = open_state(desk.root)
    for _ in range(FAILURES):
        Breakers(connection).failed("127.0.0.1:9 m", "no answer")
    connection.close()
    found = {item["check"]: item for item in json.loads(desk.orc("doctor", "--json").out)}
    assert found["breakers"]["status"] == "warn"
    assert "127.0.0.1:9 m failed 5 times in a row" in found["breakers"]["text"]


def test_a_folder_that_is_not_trusted_may_not_name_a_fallback_elsewhere(desk: Desk) -> None:
    spare = {"model": "m", "base_url": "https://elsewhere.example/v1"}
    desk.settings({"models": {"default": {"model": "m", "fallback": [spare]}}})
    done = desk.orc("config", "show")
    assert done.code == 2
    assert "models.default.fallback.0.base_url" in done.err
