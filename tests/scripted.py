"""A model that says what a test tells it to, behind a real loopback HTTP endpoint.

    with ScriptedModel([Call("write_file", path="a", content="hi"), Call("finish", answer="done")]) as model:
        settings = model.settings(tool_calls="json")

It speaks OpenAI's chat completions. One script serves native and json mode: how a reply is put on the
wire depends on what the request asks for. Instead of a list, a function from request to reply may be given.
"""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from replies import (
    Call,
    Calls,
    Cut,
    EmptyChoices,
    Fill,
    Garbage,
    HalfJson,
    Reply,
    Request,
    Say,
    Stall,
    Status,
)

from orchestrator.settings import ModelSettings

__all__ = [
    "Call",
    "Calls",
    "Cut",
    "EmptyChoices",
    "Fill",
    "Garbage",
    "HalfJson",
    "Reply",
    "Request",
    "Say",
    "Script",
    "ScriptedModel",
    "Stall",
    "Status",
]

Script = Callable[[Request], Reply]


class ScriptedModel:
    """The endpoint; serves while the `with` block lasts."""

    def __init__(
        self,
        script: Sequence[Reply] | Script = (),
        *,
        models: Sequence[str] = ("scripted",),
        reports_usage: bool = True,
        pause: float = 0.0,
    ) -> None:
        self.script: Script = script if callable(script) else self._in_order(deque(script))
        self.models = list(models)
        self.reports_usage = reports_usage
        self.pause = pause
        """Seconds between two chunks of a stream."""
        self.requests: list[Request] = []
        self.disconnects = 0
        """Answers that the client did not wait for."""
        self.stopped = threading.Event()
        self._waiting: deque[Reply] = deque()
        self._lock = threading.Lock()
        self._server = _Server(self)
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def settings(self, **changes: Any) -> ModelSettings:
        """Settings of a model at this endpoint."""
        return ModelSettings(**{"model": "scripted", "base_url": self.base_url, **changes})

    def reply_to(self, request: Request) -> Reply:
        """Record the request and take the next reply."""
        with self._lock:
            self.requests.append(request)
            reply = self._waiting.popleft() if self._waiting else self.script(request)
            if isinstance(reply, Calls) and not request.get("tools") and len(reply.calls) > 1:
                self._waiting.extend(reply.calls[1:])
                return reply.calls[0]
            return reply

    @staticmethod
    def _in_order(replies: deque[Reply]) -> Script:
        missing = Status(400, body={"error": {"message": "the script has no more replies"}})
        return lambda _request: replies.popleft() if replies else missing

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, model: ScriptedModel) -> None:
        self.model = model
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Count the clients that went away; anything else is shown."""
        import sys

        if isinstance(sys.exception(), ConnectionError):
            self.model.disconnects += 1
        else:
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._send_json(200, {"data": [{"id": name} for name in self.server.model.models]})

    def do_POST(self) -> None:
        request = Request(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        request.headers = {name.lower(): value for name, value in self.headers.items()}
        request.at = time.monotonic()
        if not self.path.endswith("/chat/completions"):
            self._send_json(404, {"error": {"message": f"no such path: {self.path}"}})
            return
        self._answer(request, self.server.model.reply_to(request))

    def _answer(self, request: Request, reply: Reply) -> None:
        if isinstance(reply, Status):
            message = {"error": {"message": f"scripted status {reply.code}"}}
            self._send_json(reply.code, message if reply.body is None else reply.body, reply.headers)
        elif isinstance(reply, Garbage):
            self._send(200, reply.body.encode(), {"content-type": reply.content_type})
        elif isinstance(reply, Stall) and not request.get("stream"):
            self._wait(reply.seconds)
            self._answer(request, reply.reply)
        elif request.get("stream"):
            self._stream(request, reply)
        else:
            self._send_json(200, _completion(request, reply))

    def _stream(self, request: Request, reply: Reply) -> None:
        cut = reply if isinstance(reply, Cut) else None
        stall = reply if isinstance(reply, Stall) else None
        inner = reply.reply if isinstance(reply, Cut | Stall) else reply
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        sent = 0
        for delta, finish in _deltas(request, inner):
            if stall and sent >= stall.after:
                self._wait(stall.seconds)
                stall = None
            if cut and sent >= cut.after:
                break
            self._event(_chunk({"index": 0, "delta": delta, "finish_reason": finish}))
            sent += _size(delta)
            self._wait(self.server.model.pause)
        if cut and not cut.is_clean:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        if not cut:
            self._end(request, inner)
        self.wfile.write(b"0\r\n\r\n")

    def _end(self, request: Request, reply: Reply) -> None:
        wants_usage = request.get("stream_options", {}).get("include_usage")
        if self.server.model.reports_usage and wants_usage:
            self._event({**_chunk(None), "usage": _usage(request, reply)})
        self._write(b"data: [DONE]\n\n")

    def _event(self, chunk: Mapping[str, Any]) -> None:
        self._write(f"data: {json.dumps(chunk)}\n\n".encode())

    def _write(self, body: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
        self.wfile.flush()

    def _wait(self, seconds: float) -> None:
        """Wait, but no longer than the client does."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self.server.model.stopped.is_set():
            readable, _, _ = select.select([self.connection], [], [], min(left, 0.05))
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                raise ConnectionAbortedError

    def _send_json(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        self._send(status, text.encode(), {"content-type": "application/json", **(headers or {})})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _text(request: Request, reply: Reply) -> str:
    """The visible text of a reply."""
    match reply:
        case Say() | HalfJson():
            return reply.text
        case Fill() if not isinstance(request.get("tool_choice"), dict):
            return json.dumps(reply.values, ensure_ascii=False)
        case Call() if not request.get("tools"):
            return reply.raw or json.dumps({"tool": reply.tool, **reply.arguments}, ensure_ascii=False)
        case Calls():
            return reply.text if request.get("tools") else _text(request, reply.calls[0])
        case _:
            return ""


def _calls(request: Request, reply: Reply) -> list[dict[str, Any]]:
    """The native tool calls of a reply."""
    if not request.get("tools"):
        return []
    calls: Sequence[Call] = ()
    match reply:
        case Call():
            calls = [reply]
        case Calls():
            calls = reply.calls
        case Fill() if request.wants != "action":
            calls = [Call(request.wants, **reply.values)]
    return [
        {
            "index": index,
            "id": f"call_{id(call):x}_{index}",
            "type": "function",
            "function": {
                "name": call.tool,
                "arguments": json.dumps(call.arguments) if call.raw is None else call.raw,
            },
        }
        for index, call in enumerate(calls)
    ]


def _finish(request: Request, reply: Reply) -> str:
    if isinstance(reply, Say | HalfJson):
        return reply.finish
    return "tool_calls" if _calls(request, reply) else "stop"


def _deltas(request: Request, reply: Reply) -> Iterator[tuple[dict[str, Any], str | None]]:
    """A reply in fragments, as a server streams it."""
    if isinstance(reply, EmptyChoices):
        return
    yield {"role": "assistant", "content": ""}, None
    text = _text(request, reply)
    for start in range(0, len(text), 6):
        yield {"content": text[start : start + 6]}, None
    for call in _calls(request, reply):
        arguments = call["function"]["arguments"]
        yield {"tool_calls": [{**call, "function": {**call["function"], "arguments": ""}}]}, None
        for start in range(0, len(arguments), 6):
            piece = {"arguments": arguments[start : start + 6]}
            yield {"tool_calls": [{"index": call["index"], "function": piece}]}, None
    yield {}, _finish(request, reply)


def _size(delta: Mapping[str, Any]) -> int:
    pieces = [call["function"]["arguments"] for call in delta.get("tool_calls", [])]
    return len(delta.get("content") or "") + sum(map(len, pieces))


def _usage(request: Request, reply: Reply) -> dict[str, Any]:
    """Made-up but steady counts: four characters are a token."""
    into = sum(map(len, request.texts)) // 4 + 1
    out = (len(_text(request, reply)) + len(json.dumps(_calls(request, reply)))) // 4 + 1
    return {
        "prompt_tokens": into,
        "completion_tokens": out,
        "total_tokens": into + out,
        "prompt_tokens_details": {"cached_tokens": into // 2},
    }


def _chunk(choice: Mapping[str, Any] | None) -> dict[str, Any]:
    choices = [choice] if choice else []
    return {
        "id": "c-1",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "scripted",
        "choices": choices,
    }


def _completion(request: Request, reply: Reply) -> dict[str, Any]:
    """A reply in one piece, for clients that do not stream."""
    message: dict[str, Any] = {"role": "assistant", "content": _text(request, reply)}
    if calls := _calls(request, reply):
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "finish_reason": _finish(request, reply)}
    choices = [] if isinstance(reply, EmptyChoices) else [choice]
    return {
        "id": "c-1",
        "object": "chat.completion",
        "created": 0,
        "model": "scripted",
        "choices": choices,
        "usage": _usage(request, reply),
    }
