"""Faults of an endpoint: what is tried again, what is not, and what the person is told."""

from __future__ import annotations

import time

import pytest
from asking import ASKED, act, ask, waits, write
from scripted import (
    Cut,
    EmptyChoices,
    Garbage,
    Reply,
    Request,
    Say,
    ScriptedModel,
    Stall,
    Status,
)

from orchestrator.errors import ModelNonsense, ModelRejected, ModelUnreachable
from orchestrator.llm.base import ChatModel, Usage
from orchestrator.llm.faults import retry_after
from orchestrator.llm.shown import Shown
from orchestrator.llm.whole import paired
from orchestrator.settings import ModelSettings, Timeouts


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (Status(429), "429"),
        (Status(500, body="<h1>oops</h1>"), "500"),
        (Status(408), "408"),
        (Cut(6, Say("broken in the middle")), ""),
        (Cut(6, Say("broken in the middle"), is_clean=True), "broke the stream off"),
        (EmptyChoices(), ""),
        (Garbage("<html>login</html>"), "text/html"),
        (Garbage('{"error": {"message": "overloaded"}}', "application/json"), "overloaded"),
        (Garbage("data: {nonsense\n\n", "text/event-stream"), ""),
        (Garbage('data: {"error": {"message": "slot lost", "code": 500}}\n\n', "text/event-stream"), "slot"),
        (Garbage('data: {"choices": [{"oops": 1}]}\n\n', "text/event-stream"), ""),
        (Garbage('data: "oops"\n\n', "text/event-stream"), ""),
        (Garbage(f'data: {{"choices": {"[" * 50_000}{"]" * 50_000}}}\n\n', "text/event-stream"), "recursion"),
        (Say(""), "answered nothing"),
    ],
)
def test_a_passing_fault_is_retried_and_told(fault: Reply, named: str) -> None:
    retries: list[str] = []
    usages: list[Usage] = []
    with ScriptedModel([fault, Say("fine")]) as model:
        text = write(model.settings(), on_retry=lambda why, wait: retries.append(why), on_usage=usages.append)
    assert text == "fine"
    assert len(retries) == 1
    assert named in retries[0]
    assert usages[0].attempts == 2


def streamed(text: str, usage: str = "null") -> Garbage:
    """An answer with a report, both as JSON."""
    chunk = '{"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", '
    chunk += '"choices": %s, "usage": %s}'
    said = f'[{{"index": 0, "delta": {{"content": {text}}}, "finish_reason": "stop"}}]'
    events = [chunk % (said, "null"), chunk % ("[]", usage), "[DONE]"]
    return Garbage("".join(f"data: {event}\n\n" for event in events), "text/event-stream")


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize(
    "report",
    [
        '{"prompt_tokens": -5, "completion_tokens": 3}',
        '{"prompt_tokens": 5.5, "completion_tokens": 3}',
        '{"prompt_tokens": "5", "completion_tokens": "3"}',
        '{"prompt_tokens": NaN, "completion_tokens": 3}',
        '{"prompt_tokens": true, "completion_tokens": false}',
        f'{{"prompt_tokens": {10**30}, "completion_tokens": 3}}',
        '{"prompt_tokens": 5}',
        "[1, 2]",
        '"many"',
        "{}",
    ],
)
def test_a_report_without_sense_is_estimated(report: str) -> None:
    usages: list[Usage] = []
    with ScriptedModel([streamed('"fine"', report)]) as model:
        assert write(model.settings(), on_usage=usages.append) == "fine"
    assert usages[0].is_estimated
    assert 0 < usages[0].input_tokens < 100


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize(
    ("more", "cached"),
    [
        ('"prompt_tokens_details": {"cached_tokens": -100}', 0),
        ('"prompt_tokens_details": {"cached_tokens": "many"}', 0),
        ('"prompt_tokens_details": {"cached_tokens": 100}', 50),
        ('"prompt_tokens_details": [], "completion_tokens_details": {"reasoning_tokens": "x"}', 0),
        ('"total_tokens": NaN', 0),
        ('"total_tokens": -7', 0),
    ],
)
def test_what_a_report_says_besides_its_counts_need_make_no_sense(more: str, cached: int) -> None:
    usages: list[Usage] = []
    with ScriptedModel([
        streamed('"fine"', f'{{"prompt_tokens": 50, "completion_tokens": 3, {more}}}')
    ]) as model:
        assert write(model.settings(), on_usage=usages.append) == "fine"
    assert (usages[0].input_tokens, usages[0].output_tokens, usages[0].cached_tokens) == (50, 3, cached)
    assert not usages[0].is_estimated


def test_half_a_character_does_not_end_the_conversation() -> None:
    assert whole_text(r'"a \ud83d b"') == "a \ufffd b"
    assert whole_text(r'"a \ud83d\ude00 b"') == "a \U0001f600 b"
    assert paired("a \ud83d\ude00 b") == "a \U0001f600 b"


def whole_text(text: str) -> str:
    with ScriptedModel([streamed(text)]) as model:
        return write(model.settings())


def test_waits_double_and_retry_after_is_honoured() -> None:
    faults: list[Reply] = [Status(503), Status(503), Status(429, {"Retry-After": "7"}), Say("fine")]
    with ScriptedModel(faults) as model:
        assert write(model.settings()) == "fine"
    assert waits == [0.5, 1.0, 7.0]


def test_retry_after_may_be_a_date() -> None:
    headers = {"retry-after": "Mon, 12 Jan 1970 13:46:50 GMT"}
    assert retry_after(headers, now=1_000_000.0) == 10.0
    assert retry_after({"retry-after": "soon"}, now=0.0) is None


def test_a_wait_of_an_hour_is_not_waited_for() -> None:
    hour = Status(429, {"retry-after": "3600"})
    with ScriptedModel([hour]) as model, pytest.raises(ModelUnreachable, match="asks to wait 3600 s"):
        write(model.settings())
    assert len(model.requests) == 1


def test_four_failed_attempts_end_the_call() -> None:
    with ScriptedModel([Status(502)] * 9) as model, pytest.raises(ModelUnreachable, match="tried 4 times"):
        write(model.settings())
    assert len(model.requests) == 4


def test_answers_that_are_none_end_the_call_after_three() -> None:
    with ScriptedModel([EmptyChoices()] * 9) as model, pytest.raises(ModelNonsense):
        write(model.settings())
    assert len(model.requests) == 3


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (Status(401, body={"error": {"message": "bad key"}}), r"key in OPENAI_API_KEY was refused.*bad key"),
        (Status(400, body={"error": {"message": "maximum context length is 8"}}), "too long"),
        (Status(429, body={"error": {"message": "x", "code": "insufficient_quota"}}), "no credit"),
        (Status(404, body={"error": {"message": "nope"}}), "no model 'scripted'; it has a, b, c, d, e and 1"),
        (Status(400, body={"error": "model x does not support tools"}), "tool_calls: json"),
    ],
)
def test_a_refusal_is_not_repeated_and_says_what_to_do(status: Status, said: str) -> None:
    with (
        ScriptedModel([status] * 2, models=list("abcdef")) as model,
        pytest.raises(ModelRejected, match=said),
    ):
        act(model.settings())
    assert len(model.requests) == 1


def test_a_model_that_takes_no_temperature_is_asked_without_one_from_then_on() -> None:
    def script(request: Request) -> Reply:
        if "temperature" in request:
            return Status(400, body={"error": {"message": "Unsupported value: 'temperature'"}})
        return Say("fine")

    async def twice(chat: ChatModel) -> None:
        await chat.write(ASKED)
        await chat.write(ASKED)

    with ScriptedModel(script) as model:
        ask(model.settings(), twice)
    assert ["temperature" in request for request in model.requests] == [True, False, False]


def test_no_server_and_no_key_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with ScriptedModel() as model:
        gone = model.settings()
    with pytest.raises(ModelUnreachable, match="is the server running"):
        write(gone)
    with pytest.raises(ModelRejected, match="OPENAI_API_KEY"):
        write(ModelSettings(model="m"))


def test_an_unnamed_model_is_the_first_that_the_server_lists() -> None:
    with ScriptedModel([Say("hi")], models=["first", "second"]) as model:
        write(model.settings(model=""))
    assert model.requests[0]["model"] == "first"


@pytest.mark.parametrize(
    ("limits", "reply", "said"),
    [
        (Timeouts(first_token=0.1), Stall(5), "first token limit of 0.1 s"),
        (Timeouts(between_tokens=0.1), Stall(5, Say("a long text here"), after=6), "between tokens limit"),
        (Timeouts(total=0.2), Stall(5), "total limit of 0.2 s"),
    ],
)
def test_each_time_limit_ends_a_call_and_is_named(limits: Timeouts, reply: Reply, said: str) -> None:
    started = time.monotonic()
    with ScriptedModel([reply] * 4) as model, pytest.raises(ModelUnreachable, match=said):
        write(model.settings(timeouts=limits))
    assert time.monotonic() - started < 3


def test_text_that_was_shown_before_a_break_is_not_shown_again() -> None:
    pieces: list[str] = []
    with ScriptedModel([Cut(12, Say("one two three four")), Say("one two three four")]) as model:
        text = ask(model.settings(), lambda chat: chat.write(ASKED, on_text=pieces.append))
    assert text == "".join(pieces) == "one two three four"


def test_another_text_after_a_break_is_shown_whole_at_its_end() -> None:
    pieces: list[str] = []
    shown = Shown(pieces.append)
    shown.add("I think")
    shown.restart()
    for piece in ("I ", "know it"):
        shown.add(piece)
    assert pieces == ["I think"]
    shown.finish()
    assert pieces == ["I think", "\n\nI know it"]
