"""Servers that send one on, never end, or contradict themselves: a clear end, and no traceback."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest
from asking import write
from desk import Desk
from scripted import Say

from orchestrator.errors import ModelError, ModelNonsense
from orchestrator.llm import wire
from orchestrator.session import Session
from orchestrator.settings import ModelSettings

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
Sent = Callable[[int], Iterator[bytes]]
"""From the number of a request, counted from 1, what is sent."""


class RawServer:
    """Sends bytes as they are; serves while the `with` block lasts."""

    def __init__(self, sent: Sent) -> None:
        self._sent = sent
        self.paths: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as asked:
            method, path, _ = asked.readline().decode().split()
            headers = dict(line.decode().lower().split(": ", 1) for line in iter(asked.readline, b"\r\n"))
            asked.read(int(headers.get("content-length", 0)))
            if method == "GET":
                body = b'{"data": [{"id": "scripted"}]}'
                kind = b"content-type: application/json\r\nconnection: close\r\n\r\n"
                connection.sendall(b"HTTP/1.1 200 OK\r\n" + kind + body)
                return
            self.paths.append(path)
            try:
                for piece in self._sent(len(self.paths)):
                    connection.sendall(piece)
            except OSError:
                return


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "scripted",
        "choices": [choice],
    }
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def fine() -> Iterator[bytes]:
    yield HEAD + chunk({"role": "assistant", "content": "Fine."}) + chunk({}, "stop") + b"data: [DONE]\n\n"


NOTHING = b"content-length: 0\r\nconnection: close\r\n\r\n"


def sent_on(place: str) -> Iterator[bytes]:
    yield b"HTTP/1.1 307 Elsewhere\r\nlocation: " + place.encode() + b"\r\n" + NOTHING


def test_a_run_behind_a_redirect_is_recorded_and_replayed(desk: Desk) -> None:
    with RawServer(lambda number: sent_on("/v2/chat/completions") if number == 1 else fine()) as server:
        tier = {"model": "scripted", "base_url": server.base_url}
        desk.user_settings({"models": {"default": tier}})
        done = desk.orc("run", "-q", "hello, how are you today?")
    assert (done.code, done.out, done.err) == (0, "Fine.\n", "")
    assert server.paths == ["/v1/chat/completions", "/v2/chat/completions"]
    (exchange,) = desk.events("exchange")
    assert exchange.fields["path"] == "/v1/chat/completions"
    assert desk.orc("replay", desk.runs()[0].name, "--check").code == 0


def test_a_redirect_without_end_is_told(desk: Desk) -> None:
    with RawServer(lambda _: sent_on("/v1/chat/completions")) as server:
        desk.user_settings({"models": {"default": {"model": "scripted", "base_url": server.base_url}}})
        done = desk.orc("run", "-q", "hello, how are you today?")
    assert (done.code, "Traceback" in done.err) == (1, False)
    assert "redirects" in done.err


def endless(*pieces: bytes) -> Iterator[bytes]:
    yield HEAD
    yield from itertools.cycle(pieces)


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([chunk({"content": "spam " * 500})], "characters and went on, where 100 tokens were asked for"),
        ([chunk({"content": ""}) * 100], "pieces and went on"),
        ([chunk({"tool_calls": [{"index": 0, "function": {"arguments": "x" * 9_000}}]})], "went on"),
    ],
    ids=["text", "nothing", "arguments"],
)
def test_an_answer_without_end_is_cut_off_long_before_it_fills_the_memory(
    pieces: list[bytes], said: str
) -> None:
    with RawServer(lambda _: endless(*pieces)) as server:
        settings = ModelSettings(model="scripted", base_url=server.base_url, max_output_tokens=100)
        with pytest.raises(ModelNonsense, match=said):
            write(settings)
    assert len(server.paths) == 3


def test_a_line_without_end_is_cut_off_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LARGEST", 1 << 20)
    with RawServer(lambda _: endless(b"data: " + b"x" * 65_536)) as server:
        desk.user_settings({"models": {"default": {"model": "scripted", "base_url": server.base_url}}})
        with pytest.raises(ModelNonsense, match="more than 1 MB in one answer"):
            asyncio.run(Session(desk.root).run("hello, how are you today?"))


def test_a_server_that_lists_a_model_and_has_it_not_is_told_so() -> None:
    with RawServer(lambda _: iter([b"HTTP/1.1 404 No\r\n" + NOTHING])) as server:
        settings = ModelSettings(model="scripted", base_url=server.base_url)
        with pytest.raises(ModelError, match="although it lists 'scripted'"):
            write(settings)


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://host/v1", "http://", "http://host:99999/v1", "http://[::1"]
)
def test_what_is_no_url_is_refused_where_it_is_written(desk: Desk, url: str) -> None:
    for settings, place in (
        ({"models": {"default": {"model": "m", "base_url": url}}}, "models.default.base_url"),
        ({"limits": {"on_warning": {"webhook": url}}}, "limits.on_warning.webhook"),
        ({"tools": {"searxng_url": url}}, "tools.searxng_url"),
    ):
        desk.user_settings(settings)
        done = desk.orc("config", "show")
        assert done.code == 2
        assert f"{place}: is no URL; write it like" in done.err
    desk.user_settings({})
    done = desk.orc("run", "-q", "hello, how are you today?", OPENAI_BASE_URL=url)
    assert done.code == 2
    assert f"OPENAI_BASE_URL: {url!r} is no URL" in done.err


def test_a_limit_of_no_time_names_one_that_leads_on(desk: Desk) -> None:
    desk.settings({})
    with desk.model([Say("Fine.")]):
        assert desk.orc("cost", "cap", "seconds=0").code == 0
        done = desk.orc("run", "-q", "hello, how are you today?")
        assert done.code == 5
        assert "--raise seconds=60" in done.err
        assert desk.orc("resume", "-q", "--raise", "seconds=60").out == "Fine.\n"
    assert "nothing was used here since then" in desk.orc("cost", "--since", "2999-01-01").err
