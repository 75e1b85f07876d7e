"""The events of a turn as OpenTelemetry spans, named by the conventions for generative AI.

What was asked, said and returned is left out unless the settings want it. Where spans go is said by the
standard variables, such as OTEL_EXPORTER_OTLP_ENDPOINT. A collector that is down never holds a run up.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from orchestrator.errors import UsageError
from orchestrator.events import Event, Listener
from orchestrator.settings import Telemetry

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

EXPORT_SECONDS = 2.0
"""How long the collector gets for a batch, where OTEL_EXPORTER_OTLP_TIMEOUT does not say it."""
FLUSH_SECONDS = 5.0
"""How long the end of a session waits for the spans to be on their way."""
OPENED = {"router": "route", "planner": "plan", "guardian": "guardian"}
"""Nodes that have a span of their own, and its name; it begins with their first event."""
Attributes = dict[str, Any]


class Spans:
    """A listener that makes spans of the events of one turn."""

    def __init__(self, tracer: Tracer, *, content: bool) -> None:
        self._tracer, self._content = tracer, content
        self._open: dict[str, Span] = {}
        """By what they stand for: `turn`, `step:…`, `node:…`, `call:…`."""
        self._last = 0.0
        """When the event before this one happened."""

    def __call__(self, event: Event) -> None:
        """Take one event."""
        take = getattr(self, f"_on_{event.kind}", None)
        if event.kind in {"turn", "resume"} or self._open:
            self._last = self._last or event.at
            if event.node in OPENED:
                self._in_node(event)
            if take is not None:
                take(event)
            self._last = event.at

    def _on_turn(self, event: Event) -> None:
        attributes: Attributes = {
            "gen_ai.operation.name": "invoke_workflow",
            "gen_ai.workflow.name": "orc",
            "gen_ai.conversation.id": event.run,
            "orc.turn": event.turn,
            "orc.branch": event.branch,
        }
        said = event.fields.get("request")
        attributes |= self._told("gen_ai.input.messages", _message("user", said)) if said else {}
        self._begin("turn", "invoke_workflow orc", event, attributes)

    _on_resume = _on_turn

    def _on_route(self, event: Event) -> None:
        fields = event.fields
        self._end(
            "node:router",
            event,
            {"gen_ai.agent.name": fields["agent"], "orc.route.decided_by": fields["decided_by"]},
        )

    def _on_plan(self, event: Event) -> None:
        steps = len(event.fields["steps"])
        self._end("node:planner", event, {"gen_ai.operation.name": "plan", "orc.plan.steps": steps})

    def _on_verdict(self, event: Event) -> None:
        fields = event.fields
        attributes = {"orc.verdict.decision": fields["decision"], "orc.verdict.rule": fields["rule"]}
        self._end("node:guardian", event, {**_call(event), **attributes})

    def _on_step(self, event: Event) -> None:
        key = f"step:{event.step}"
        if event.fields["status"] == "started":
            attributes = {
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.agent.name": event.agent,
                "gen_ai.conversation.id": event.run,
            }
            self._begin(key, f"invoke_agent {event.agent}", event, attributes)
        else:
            failed = "step_failed" if event.fields["status"] == "failed" else ""
            self._end(key, event, {}, failed)

    def _on_model_call(self, event: Event) -> None:
        fields = event.fields
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": fields["model"],
            "gen_ai.response.model": fields["model"],
            "gen_ai.usage.input_tokens": fields["input_tokens"],
            "gen_ai.usage.output_tokens": fields["output_tokens"],
            "gen_ai.usage.cache_read.input_tokens": fields["cached_tokens"],
            "orc.attempts": fields["attempts"],
        }
        if fields["usd"] is not None:
            attributes["orc.usd"] = float(fields["usd"])
        span = self._start(f"chat {fields['model']}", event, attributes, event.at - (event.seconds or 0), 3)
        span.end(_ns(event.at))

    def _on_tool_intent(self, event: Event) -> None:
        attributes: Attributes = {"gen_ai.operation.name": "execute_tool", **_call(event)}
        arguments = json.dumps(event.fields["arguments"], ensure_ascii=False)
        attributes |= self._told("gen_ai.tool.call.arguments", arguments)
        self._begin(f"call:{event.call}", f"execute_tool {event.fields['tool']}", event, attributes)

    def _on_tool_result(self, event: Event) -> None:
        if f"call:{event.call}" not in self._open:
            self._on_tool_intent(event)
        status = str(event.fields["status"])
        told = self._told("gen_ai.tool.call.result", str(event.fields["text"]))
        self._end(f"call:{event.call}", event, told, "" if status == "ok" else f"tool_{status}")

    def _on_retry(self, event: Event) -> None:
        span = self._parent(event)
        if span is not None:
            span.add_event("retry", {"orc.retry.wait": float(event.fields["wait"])}, _ns(event.at))

    def _on_answer(self, event: Event) -> None:
        told = self._told("gen_ai.output.messages", _message("assistant", event.fields["text"]))
        if "turn" in self._open:
            self._open["turn"].set_attributes(told)

    def _on_error(self, event: Event) -> None:
        if "turn" in self._open:
            self._failed(self._open["turn"], str(event.fields["type"]))

    def _on_end(self, event: Event) -> None:
        for key in [key for key in reversed(self._open) if key != "turn"]:
            # A turn that is cut off leaves these open.
            self._end(key, event, {}, "" if key.startswith("node:") else "interrupted")
        fields = event.fields
        used = {
            f"gen_ai.usage.{name}": fields[name]
            for name in ("input_tokens", "output_tokens")
            if name in fields
        }
        self._end("turn", event, {"orc.status": fields["status"], **used})

    def _in_node(self, event: Event) -> None:
        key = f"node:{event.node}"
        if key not in self._open:
            attributes = {"gen_ai.agent.name": event.agent} if event.agent else {}
            start = min(self._last, event.at - (event.seconds or 0))
            self._open[key] = self._start(OPENED[event.node], event, attributes, start)

    def _begin(self, key: str, name: str, event: Event, attributes: Attributes) -> None:
        self._open[key] = self._start(name, event, attributes, event.at)

    def _start(self, name: str, event: Event, attributes: Attributes, at: float, kind: int = 1) -> Span:
        from opentelemetry.trace import SpanKind, set_span_in_context  # noqa: PLC0415

        parent = self._parent(event)
        return self._tracer.start_span(
            name,
            set_span_in_context(parent) if parent else None,
            kind=SpanKind.CLIENT if kind == 3 else SpanKind.INTERNAL,
            attributes=attributes,
            start_time=_ns(at),
        )

    def _parent(self, event: Event) -> Span | None:
        """The innermost open span that the event lies in."""
        keys = (f"node:{event.node}", f"step:{event.step}", "turn")
        return next((self._open[key] for key in keys if key in self._open), None)

    def _end(self, key: str, event: Event, attributes: Attributes, failed: str = "") -> None:
        span = self._open.pop(key, None)
        if span is not None:
            span.set_attributes(attributes)
            if failed:
                self._failed(span, failed)
            span.end(_ns(event.at))

    def _failed(self, span: Span, what: str) -> None:
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

        span.set_attribute("error.type", what)
        span.set_status(Status(StatusCode.ERROR))

    def _told(self, name: str, text: str) -> Attributes:
        return {name: text} if self._content else {}


def _call(event: Event) -> Attributes:
    return {
        "gen_ai.tool.name": event.fields["tool"],
        "gen_ai.tool.call.id": event.call,
        "gen_ai.tool.type": "function",
    }


def _message(role: str, text: Any) -> str:
    parts = [{"type": "text", "content": str(text)}]
    return json.dumps([{"role": role, "parts": parts}], ensure_ascii=False)


def _ns(seconds: float) -> int:
    return int(seconds * 1_000_000_000)


class Exporter:
    """What sends the spans of a session's turns; nothing is imported or sent before telemetry is enabled."""

    def __init__(self) -> None:
        self._provider: TracerProvider | None = None

    def listeners(self, settings: Telemetry) -> list[Listener]:
        """A listener for one turn where the settings want it; raises UsageError without the extra."""
        if not settings.enabled:
            return []
        provider = self._provider = self._provider or _provider()
        return [Spans(provider.get_tracer("orchestrator"), content=settings.content)]

    def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """Send what is left, within so many seconds."""
        provider, self._provider = self._provider, None
        if provider is not None:
            sending = threading.Thread(target=provider.shutdown, name="spans", daemon=True)
            sending.start()
            sending.join(seconds)


def _provider() -> TracerProvider:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        raise UsageError(
            "telemetry.enabled is set and OpenTelemetry is not installed: "
            "`pip install 'orc-orchestrator[otel]'`, or unset it"
        ) from None
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "orc"}
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    seconds = None if os.environ.get("OTEL_EXPORTER_OTLP_TIMEOUT") else EXPORT_SECONDS
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=seconds)))
    # A collector that is down is told of in its own log; each try of ours would be a line in the terminal.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    return provider
