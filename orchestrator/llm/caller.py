"""One question to one model: sent, timed, retried, counted.

The order is: set the money aside, pass the circuit breaker, try and try again, each try within its time
limits. It knows nothing of tools or schemas: a question carries its options ready for the wire.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from langchain_core.messages import AIMessage
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from orchestrator.breaker import FAILURES, Breakers, Resting
from orchestrator.errors import ModelNonsense, ModelRejected, ModelUnreachable, OrcError, StorageError
from orchestrator.llm.base import Hold, Meter, OnRetry, OnText, OnUsage, Usage
from orchestrator.llm.counted import Bound, Counted
from orchestrator.llm.endpoint import Endpoint, Front, endpoint_of
from orchestrator.llm.faults import Failed, Fault, LimitPassed, Patience, causes, connect_limit, fault_of
from orchestrator.llm.pacing import Received, paced
from orchestrator.llm.question import Question
from orchestrator.llm.shown import Shown
from orchestrator.llm.tokens import tokens
from orchestrator.llm.whole import whole
from orchestrator.settings import ModelSettings, Timeouts

if TYPE_CHECKING:
    import httpx2

    from orchestrator.llm.client import StreamedChat
    from orchestrator.llm.wire import Wire


class LocalServer(Protocol):
    """A model server in this process."""

    async def start(self, progress: Callable[[str], None] | None = None) -> Any:
        """Start it unless it runs; returns an object with `base_url` and `api_key`."""
        ...

    async def before(self, front: Front) -> None:
        """Called before a request that begins so."""
        ...

    async def after(self, front: Front) -> None:
        """Called after it."""
        ...


@dataclass(frozen=True)
class Listeners:
    """Who is told what, while a call runs."""

    on_usage: OnUsage | None = None
    on_retry: OnRetry | None = None
    progress: Callable[[str], None] | None = None
    meter: Meter | None = None
    breakers: Breakers | None = None
    on_open: Callable[[str], object] | None = None
    """Gets the reason when a circuit breaker opens."""
    on_partial: Callable[[str, str], object] | None = None
    """Gets the model and what it had said when the call was cancelled."""


@dataclass(frozen=True)
class Line:
    """An open way to a model."""

    endpoint: Endpoint
    model: str
    chat: StreamedChat
    http: httpx2.AsyncClient
    loop: asyncio.AbstractEventLoop


@dataclass
class Attempts:
    """What the attempts of one question share."""

    shown: Shown | None
    hold: Hold | None
    bound: Bound
    count: int = 0


class Caller:
    """Asks one model; may be used by several tasks at a time."""

    def __init__(
        self,
        settings: ModelSettings,
        listeners: Listeners,
        patience: Patience,
        *,
        local: LocalServer | None = None,
        wire: Wire | None = None,
    ) -> None:
        self.settings, self.listeners, self.patience, self.local = settings, listeners, patience, local
        self.wire = wire
        self._line: Line | None = None
        self._opening: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._refused: set[str] = set()
        """Options that this endpoint does not take, as it told us."""
        self._known = Counted()

    async def ask(self, question: Question, on_text: OnText | None = None) -> AIMessage:
        """The model's answer, whole; raises ModelError."""
        line = await self._open()
        shown = Shown(on_text) if on_text else None
        bound = self._known.bound(question)
        hold = self._reserve(line, question, bound)
        try:
            if hold:
                question = replace(question, max_tokens=hold.output_tokens)
            answer = await self._guarded(line, question, Attempts(shown, hold, bound))
        finally:
            if hold:
                hold.release()
        if shown:
            shown.finish()
        return answer

    def _reserve(self, line: Line, question: Question, bound: Bound) -> Hold | None:
        meter = self.listeners.meter
        return meter.reserve(line.model, bound.tokens, question.max_tokens) if meter else None

    async def _guarded(self, line: Line, question: Question, attempts: Attempts) -> AIMessage:
        """Ask unless the model is known to fail; what comes of it is told to the circuit breaker."""
        breakers, limit = self.listeners.breakers, self.settings.timeouts.total
        if breakers is None or self.local:
            return await self._in_time(line, question, attempts)
        name = _name(line)
        try:
            with breakers.passing(name, limit) as passed:
                try:
                    answer = await self._in_time(line, question, attempts)
                except (ModelUnreachable, ModelNonsense) as error:
                    if passed.failed(str(error)) and self.listeners.on_open:
                        self.listeners.on_open(f"{name} failed {FAILURES} times in a row and gets a rest")
                    raise
                except ModelRejected:
                    passed.succeeded()
                    raise
                passed.succeeded()
                return answer
        except Resting as resting:
            raise ModelUnreachable(f"{resting}; `orc doctor` shows it") from None

    async def _in_time(self, line: Line, question: Question, attempts: Attempts) -> AIMessage:
        limit = self.settings.timeouts.total
        try:
            async with asyncio.timeout(limit) as deadline:
                return await self._patiently(line, question, attempts)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise ModelUnreachable(
                f"{line.endpoint.host} was too slow: the total limit of {limit:g} s passed; "
                "raise timeouts.total"
            ) from None

    @property
    def is_resting(self) -> bool:
        """Whether the circuit breaker of the model holds calls off now."""
        line, breakers = self._line, self.listeners.breakers
        return bool(line and breakers and breakers.is_resting(_name(line)))

    async def close(self) -> None:
        """Close the connections; the next question opens them again."""
        line, self._line = self._line, None
        if line and line.loop is asyncio.get_running_loop():
            await line.http.aclose()

    async def _open(self) -> Line:
        """The line for the running event loop, since connections do not outlive theirs."""
        loop = asyncio.get_running_loop()
        if self._opening is None or self._opening[0] is not loop:
            self._opening = (loop, asyncio.Lock())
        async with self._opening[1]:
            endpoint = await self._endpoint()
            line = self._line
            if line is None or line.loop is not loop or line.endpoint != endpoint:
                line = self._line = await self._connect(endpoint, loop)
        return line

    async def _endpoint(self) -> Endpoint:
        """Asked for at each question: a local server that died is started again, somewhere else."""
        if self.wire and self.wire.served:
            return Endpoint(self.settings.base_url or "http://localhost/v1", "none")
        if self.local is None:
            return endpoint_of(self.settings)
        started = await self.local.start(self.listeners.progress)
        return Endpoint(_with_version(started.base_url), started.api_key)

    async def _connect(self, endpoint: Endpoint, loop: asyncio.AbstractEventLoop) -> Line:
        # Loading the SDK takes a second or more, in which Ctrl-C and other runs would wait.
        await asyncio.to_thread(importlib.import_module, "orchestrator.llm.client")
        from orchestrator.llm.client import connect, model_names  # noqa: PLC0415
        from orchestrator.llm.wire import Wire  # noqa: PLC0415

        name = self.settings.model or ("embedded" if self.local else "")
        chat, http = connect(endpoint, name, self.settings.timeouts, self.wire or Wire())
        if not name:
            names = await model_names(endpoint, http)
            if not names:
                await http.aclose()
                raise ModelRejected(
                    f"nothing answers at {endpoint.host}: is the server running there? "
                    "If so, name the model (`model:` in orchestrator.yaml)"
                )
            name = names[0]
            chat.model_name = name
        return Line(endpoint, name, chat, http, loop)

    async def _patiently(self, line: Line, question: Question, attempts: Attempts) -> AIMessage:
        def is_over(state: RetryCallState) -> bool:
            return self.patience.is_over(_fault(state), state.attempt_number)

        def wait(state: RetryCallState) -> float:
            return self.patience.wait(state.attempt_number, _fault(state).wait)

        def tell(state: RetryCallState) -> None:
            if self.listeners.on_retry:
                self.listeners.on_retry(_fault(state).text, float(state.upcoming_sleep))

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Failed),
            stop=is_over,
            wait=wait,
            sleep=self.patience.sleep,
            before_sleep=tell,
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    attempts.count = attempt.retry_state.attempt_number
                    return await self._adapting(line, question, attempts)
        except Failed as failed:
            if failed.fault.status == 404:
                failed = Failed(await self._missing_model(line, failed.fault))
            error = failed.as_error(retrying.statistics.get("attempt_number", 1))
            error.__cause__ = failed
            raise error from failed
        raise ModelUnreachable(f"no attempt was made at {line.endpoint.host}")

    async def _adapting(self, line: Line, question: Question, attempts: Attempts) -> AIMessage:
        """One attempt, and again at once without an option that the endpoint turns out not to take."""
        while True:
            try:
                return await self._once(line, question, attempts)
            except Failed as failed:
                option = _refused_option(failed.fault)
                if option is None or option in self._refused:
                    raise
                self._refused.add(option)

    async def _once(self, line: Line, question: Question, attempts: Attempts) -> AIMessage:
        from orchestrator.llm.client import WIRE_ERRORS  # noqa: PLC0415

        hold = attempts.hold
        if attempts.shown:
            attempts.shown.restart()
        if hold:
            hold.again()
        if self.local:
            await self.local.before(question.front)
        received = Received(time.monotonic(), question.max_tokens)
        try:
            answer = await self._stream(line, question, received, attempts)
        except WIRE_ERRORS as error:
            fault = self._fault(error, line)
            if hold and (received.chunks or fault.may_cost):
                hold.lose()
            raise Failed(fault) from error
        except (asyncio.CancelledError, StorageError):
            if hold:
                hold.lose()
            if received.chunks and self.listeners.on_partial:
                self.listeners.on_partial(line.model, received.text)
            raise
        if self.local:
            await self.local.after(question.front)
        seconds = time.monotonic() - received.started
        usage = Usage(line.model, 0, 0, 0, seconds, received.first_seconds, attempts.count)
        return self._counted(answer, question, usage, attempts)

    async def _stream(
        self, line: Line, question: Question, received: Received, attempts: Attempts
    ) -> AIMessage:
        stream = line.chat.astream(question.messages, **self._options(line, question))
        async with aclosing(paced(stream, self._limits(question))) as chunks:
            async for chunk in chunks:
                if attempts.hold and not received.chunks:
                    await attempts.hold.safe()
                received.add(chunk)
                if attempts.shown and chunk.text:
                    attempts.shown.add(str(chunk.text))
        return whole(received.chunks, line.endpoint.host)

    def _counted(self, answer: AIMessage, question: Question, usage: Usage, attempts: Attempts) -> AIMessage:
        """Give the usage to the listener, estimated where the server did not count."""
        counted = answer.usage_metadata
        if counted is None:
            calls = "".join(json.dumps(call["args"]) for call in answer.tool_calls)
            into, out = question.prompt_tokens, tokens(answer.text + calls)
            answer.usage_metadata = {"input_tokens": into, "output_tokens": out, "total_tokens": into + out}
            answer.response_metadata["usage_is_estimated"] = True
            usage = replace(usage, input_tokens=into, output_tokens=out, is_estimated=True)
        else:
            cached = counted.get("input_token_details", {}).get("cache_read")
            usage = replace(
                usage,
                input_tokens=counted["input_tokens"],
                output_tokens=counted["output_tokens"],
                cached_tokens=cached or answer.response_metadata.get("cached", 0),
            )
            self._known.learn(attempts.bound, usage.input_tokens)
        if attempts.hold:
            attempts.hold.settle(usage)
        if self.listeners.on_usage:
            self.listeners.on_usage(usage)
        return answer

    def _options(self, line: Line, question: Question) -> dict[str, Any]:
        """Options of the request, as `extra_body`: the SDK does not act on them, nor copy every schema."""
        swapped = "max_tokens" in self._refused
        limit = "max_completion_tokens" if line.endpoint.is_public or swapped else "max_tokens"
        body: dict[str, Any] = {**question.options, limit: question.max_tokens}
        if question.response_format:
            body["response_format"] = dict(question.response_format)
        if "temperature" not in self._refused:
            body["temperature"] = question.temperature
        return {"extra_body": body, "stream_usage": "stream_options" not in self._refused}

    def _limits(self, question: Question) -> Timeouts:
        limits = self.settings.timeouts
        if not self.local:
            return limits
        # Two cores read some 70 tokens a second: a long prompt is not a server that hangs.
        return limits.model_copy(update={"first_token": limits.first_token + question.prompt_tokens / 30})

    def _fault(self, error: BaseException, line: Line) -> Fault:
        """What an exception of the wire means; raises what is no fault of the wire."""
        if ours := next((cause for cause in causes(error) if isinstance(cause, OrcError)), None):
            raise ours from None
        if connect_limit(error):
            error = LimitPassed("connect", self.settings.timeouts.connect)
        return fault_of(error, line.endpoint.host, self.settings.api_key_env, self.patience.clock())

    async def _missing_model(self, line: Line, fault: Fault) -> Fault:
        from orchestrator.llm.client import model_names  # noqa: PLC0415

        names = await model_names(line.endpoint, line.http)
        if not names:
            return replace(fault, text=f"{fault.text}; is base_url right? It usually ends in /v1")
        if line.model in names:
            return replace(fault, text=f"{fault.text}, although it lists {line.model!r}; is base_url right?")
        some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        return replace(fault, text=f"{line.endpoint.host} has no model {line.model!r}; it has {some}")


def _name(line: Line) -> str:
    """What the circuit breaker of a model is called."""
    return f"{line.endpoint.host} {line.model}"


def _fault(state: RetryCallState) -> Fault:
    error = state.outcome.exception() if state.outcome else None
    return error.fault if isinstance(error, Failed) else Fault("unreachable", repr(error))


def _refused_option(fault: Fault) -> str | None:
    """The option that a 400 complains about, when the call can do without it."""
    if fault.status not in {400, 422}:
        return None
    said = fault.body.lower()
    if "max_completion_tokens" in said and "max_tokens" in said.replace("max_completion_tokens", ""):
        return "max_tokens"
    names = ("temperature", "stream_options")
    words = ("unsupported", "not support", "unknown", "unrecognized", "not permitted", "only the default")
    return next((name for name in names if name in said and any(word in said for word in words)), None)


def _with_version(base_url: str) -> str:
    return base_url if base_url.rstrip("/").endswith("/v1") else f"{base_url.rstrip('/')}/v1"
