"""Spans of a turn: named by the conventions, nested as the work was, without content unless it is wanted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from desk import Desk
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from scripted import Call, Calls, Fill, Reply, Request, Say, Status

from orchestrator.telemetry import Spans

SECRET = "the launch code is 0000"
SCRIPT: list[Reply] = [
    Calls([Call("read_file", path="notes.txt"), Call("run_command", command="false")]),
    Say("the notes say alpha"),
]


def spans_of(desk: Desk, script: Any, *, content: bool = False) -> dict[str, ReadableSpan]:
    """The spans of a turn by name, made from the events that its listeners got."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    listen = Spans(provider.get_tracer("test"), content=content)
    for event in desk.work("@coder what do notes.txt say?", script).shown:
        listen(event)
    return {span.name: span for span in exporter.get_finished_spans()}


def parent_of(span: ReadableSpan, spans: dict[str, ReadableSpan]) -> str:
    return next((n for n, s in spans.items() if span.parent and s.context.span_id == span.parent.span_id), "")


def test_every_part_of_a_turn_has_its_span_and_its_place(desk: Desk) -> None:
    desk.write("notes.txt", f"alpha {SECRET}\n")
    spans = spans_of(desk, SCRIPT)
    assert {name: parent_of(span, spans) for name, span in spans.items()} == {
        "invoke_workflow orc": "",
        "route": "invoke_workflow orc",
        "plan": "invoke_workflow orc",
        "invoke_agent coder": "invoke_workflow orc",
        "chat scripted": "invoke_agent coder",
        "guardian": "invoke_agent coder",
        "execute_tool read_file": "invoke_agent coder",
        "execute_tool run_command": "invoke_agent coder",
    }
    chat = spans["chat scripted"]
    assert chat.kind == SpanKind.CLIENT
    assert chat.attributes is not None
    assert chat.attributes["gen_ai.operation.name"] == "chat"
    assert chat.attributes["gen_ai.request.model"] == "scripted"
    assert int(str(chat.attributes["gen_ai.usage.input_tokens"])) > 0
    tool = spans["execute_tool read_file"].attributes or {}
    assert (tool["gen_ai.operation.name"], tool["gen_ai.tool.name"]) == ("execute_tool", "read_file")
    for span in spans.values():
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time


def test_content_is_sent_only_when_it_is_wanted(desk: Desk) -> None:
    desk.write("notes.txt", f"alpha {SECRET}\n")
    plain = [str(span.to_json()) for span in spans_of(desk, SCRIPT).values()]
    assert not any(SECRET in text or "notes.txt" in text for text in plain)
    full = spans_of(desk, SCRIPT, content=True)
    assert SECRET in str((full["execute_tool read_file"].attributes or {})["gen_ai.tool.call.result"])
    assert "what do notes.txt say?" in str(
        (full["invoke_workflow orc"].attributes or {})["gen_ai.input.messages"]
    )


def test_what_failed_is_marked(desk: Desk) -> None:
    spans = spans_of(desk, [Call("read_file", path="missing"), Status(401)])
    for name, kind in {
        "execute_tool read_file": "tool_error",
        "invoke_workflow orc": "ModelRejected",
    }.items():
        assert (spans[name].attributes or {})["error.type"] == kind
        assert not spans[name].status.is_ok


def test_the_planner_is_the_parent_of_its_model_call(desk: Desk) -> None:
    def script(request: Request) -> Reply:
        step = {"agent": "coder", "goal": "say ok", "tools": [], "after": [], "check": ""}
        return Fill({"steps": [step]}) if request.wants not in {"action", "text"} else Say("ok")

    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    listen = Spans(provider.get_tracer("test"), content=False)
    turn = desk.work("first write a.txt, then run the tests, then look for docs on retries", script)
    for event in turn.shown:
        listen(event)
    spans = exporter.get_finished_spans()
    chats = [s for s in spans if s.name.startswith("chat")]
    nodes = {s.context.span_id: s.name for s in spans}
    assert any(chat.parent and nodes.get(chat.parent.span_id) in {"plan", "route"} for chat in chats)


class Collector(BaseHTTPRequestHandler):
    """Takes spans over HTTP, as a collector does."""

    names: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
        for resource in sent.resource_spans:
            self.names.extend(span.name for scope in resource.scope_spans for span in scope.spans)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[str]:
    Collector.names.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_the_command_sends_its_spans_to_the_collector(desk: Desk, collector: str) -> None:
    desk.user_settings({"telemetry": {"enabled": True}})
    with desk.model([Call("list_files"), Say("nothing")]):
        done = desk.orc("run", "@coder list", OTEL_EXPORTER_OTLP_ENDPOINT=collector)
    assert (done.code, done.out) == (0, "nothing\n")
    assert {"invoke_workflow orc", "chat scripted", "execute_tool list_files"} <= set(Collector.names)


def test_a_collector_that_is_down_holds_nothing_up(desk: Desk) -> None:
    desk.user_settings({"telemetry": {"enabled": True}})
    with desk.model([Say("nothing")]):
        done = desk.orc("run", "hello, how are you?", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert (done.code, done.out) == (0, "nothing\n")
    assert "Traceback" not in done.err


def test_an_untrusted_folder_cannot_send_anything(desk: Desk) -> None:
    desk.settings({"telemetry": {"enabled": True, "content": True}})
    with desk.model([Say("hello")]):
        done = desk.orc("run", "hello")
    assert (done.code, "telemetry" in done.err) == (2, True)
