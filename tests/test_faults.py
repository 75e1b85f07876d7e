"""A server that fails in every way: the right attempts and waits, nothing twice, a clear end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from asking import ASKED, ask, waits
from desk import Desk
from scripted import Call, Cut, EmptyChoices, Garbage, Reply, Request, Say, ScriptedModel, Stall, Status

from orchestrator.errors import ModelError, ModelNonsense, ModelRejected, ModelUnreachable
from orchestrator.llm.base import Usage
from orchestrator.settings import Timeouts

DATE = "Mon, 12 Jan 1970 13:46:45 GMT"
"""Five seconds after the clock of `asking`."""
HALF = (
    'data: {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "ha'
)
QUICK = Timeouts(first_token=0.15, between_tokens=0.15)


@dataclass(frozen=True)
class Fault:
    reply: Reply
    said: str
    """What the end says when it lasts."""
    waits: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])
    """When it lasts; one less than there are attempts."""
    error: type[ModelError] = ModelUnreachable
    timeouts: Timeouts = field(default_factory=Timeouts)


NONSENSE: dict[str, Any] = {"waits": [0.5, 1.0], "error": ModelNonsense}
FAULTS = {
    "429 in seconds": Fault(Status(429, {"Retry-After": "7"}), "status 429", [7.0, 7.0, 7.0]),
    "429 with a date": Fault(Status(429, {"Retry-After": DATE}), "asks to wait 5 s", [5.0, 5.0, 5.0]),
    "429 for an hour": Fault(Status(429, {"Retry-After": "3600"}), "asks to wait 3600 s", []),
    "429 without sense": Fault(Status(429, {"Retry-After": "soon, -1"}), "status 429"),
    "429 of zero": Fault(Status(429, {"Retry-After": "0"}), "status 429"),
    "500": Fault(Status(500, body="<h1>oops</h1>"), "status 500"),
    "503": Fault(Status(503), "status 503"),
    "slow first token": Fault(Stall(5), "first token limit of 0.15 s", timeouts=QUICK),
    "stall midway": Fault(Stall(5, Say("one two three"), after=6), "between tokens limit", timeouts=QUICK),
    "cut stream": Fault(Cut(6, Say("one two three")), "no answer from"),
    "cut stream that ends well": Fault(
        Cut(6, Say("one two"), is_clean=True), "broke the stream off", **NONSENSE
    ),
    "half JSON": Fault(Garbage(HALF, "text/event-stream"), "without a usable answer", **NONSENSE),
    "wrong content type": Fault(Garbage("<p>login</p>"), "sent text/html", **NONSENSE),
    "empty choices": Fault(EmptyChoices(), "answered nothing", **NONSENSE),
    "200 with an error": Fault(
        Garbage('{"error": {"message": "overloaded"}}', "application/json"),
        "an error with status 200: overloaded",
        **NONSENSE,
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_lasts_ends_after_the_right_attempts_and_says_why(name: str) -> None:
    fault, told = FAULTS[name], list[tuple[str, float]]()
    with ScriptedModel(lambda _request: fault.reply) as model, pytest.raises(fault.error, match=fault.said):
        ask(
            model.settings(timeouts=fault.timeouts),
            lambda chat: chat.write(ASKED),
            on_retry=lambda why, wait: told.append((why, wait)),
        )
    assert waits == fault.waits
    assert len(model.requests) == len(fault.waits) + 1
    assert [wait for _, wait in told] == fault.waits
    assert all(why for why, _ in told)


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.waits])
def test_a_fault_that_passes_leaves_no_text_twice(name: str) -> None:
    fault, pieces, used = FAULTS[name], list[str](), list[Usage]()
    with ScriptedModel([fault.reply, Say("one two three four")]) as model:
        text = ask(
            model.settings(timeouts=fault.timeouts),
            lambda chat: chat.write(ASKED, on_text=pieces.append),
            on_usage=used.append,
        )
    assert text == "".join(pieces) == "one two three four"
    assert waits == fault.waits[:1]
    assert [usage.attempts for usage in used] == [2]


PASSING = ["429 of zero", "500", "stall midway", "cut stream", "half JSON", "empty choices"]


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_between_two_tools_repeats_no_effect_and_is_an_event(desk: Desk, name: str) -> None:
    fault = FAULTS[name]
    replies = iter([Call("run_command", command="echo x >> log"), fault.reply, Say("logged x")])
    limits = fault.timeouts.model_dump()
    turn = desk.work("@coder log x", lambda _request: next(replies), model={"timeouts": limits})
    assert turn.answer == "logged x"
    assert desk.text("log") == "x\n"
    retries = desk.events("retry")
    assert len(retries) == 1
    assert retries[0].at > 0
    assert retries[0].fields["why"]
    assert retries[0].fields["wait"] > 0


def test_a_fault_that_lasts_leaves_a_run_that_goes_on(desk: Desk) -> None:
    def script(request: Request) -> Reply:
        if len(request["messages"]) < 4:
            return Call("run_command", command="echo x >> log")
        return Status(429, {"Retry-After": "3600"})

    turn = desk.work("@coder log x", script)
    assert isinstance(turn.error, ModelUnreachable)
    assert desk.runs()[0].status == "stopped"
    again = desk.work(None, [Say("logged x")])
    assert again.answer == "logged x"
    assert desk.text("log") == "x\n"


def test_a_refused_connection_is_tried_four_times() -> None:
    with ScriptedModel() as model:
        gone = model.settings()
    with pytest.raises(ModelUnreachable, match=r"is the server running.*tried 4 times"):
        ask(gone, lambda chat: chat.write(ASKED))
    assert waits == [0.5, 1.0, 2.0]


def test_a_server_without_tls_behind_https_is_told_at_once() -> None:
    with ScriptedModel() as model:
        settings = model.settings(base_url=model.base_url.replace("http:", "https:"))
        with pytest.raises(ModelRejected, match=r"no secure connection .*http or https"):
            ask(settings, lambda chat: chat.write(ASKED))
    assert waits == []


@contextmanager
def hangs_up() -> Iterator[str]:
    """A port where every connection is closed at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(2)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_that_is_closed_at_once_is_tried_again(scheme: str) -> None:
    with hangs_up() as host, ScriptedModel() as model, pytest.raises(ModelUnreachable, match="tried 4 times"):
        ask(model.settings(base_url=f"{scheme}://{host}/v1"), lambda chat: chat.write(ASKED))
    assert waits == [0.5, 1.0, 2.0]


@pytest.mark.filterwarnings("ignore:Pydantic serializer")
@pytest.mark.parametrize("usage", ["null", '"many"', '{"prompt_tokens": "x"}', '{"prompt_tokens": -4}', "[]"])
def test_a_usage_report_without_sense_is_no_reason_to_fail(usage: str) -> None:
    chunk = '{"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": %s%s}'
    text = chunk % ('[{"index": 0, "delta": {"content": "fine"}, "finish_reason": "stop"}]', "")
    report = chunk % ("[]", f', "usage": {usage}')
    body = f"data: {text}\n\ndata: {report}\n\ndata: [DONE]\n\n"
    used: list[Usage] = []
    with ScriptedModel([Garbage(body, "text/event-stream")]) as model:
        answer = ask(model.settings(), lambda chat: chat.write(ASKED), on_usage=used.append)
    assert answer == "fine"
    assert used[0].input_tokens > 0
