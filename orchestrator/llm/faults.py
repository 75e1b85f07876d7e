"""What can go wrong with a model call, whether asking again may help, and what to tell the person."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from orchestrator.errors import ModelError, ModelNonsense, ModelOverfull, ModelRejected, ModelUnreachable

Kind = Literal["unreachable", "rejected", "overfull", "nonsense"]
ERRORS: dict[Kind, type[ModelError]] = {
    "unreachable": ModelUnreachable,
    "rejected": ModelRejected,
    "overfull": ModelOverfull,
    "nonsense": ModelNonsense,
}
AGAIN = {408, 409, 429}
TOO_LONG = (
    "context_length",
    "context length",
    "context window",
    "context size",
    "maximum context",
    "prompt is too long",
    "too many tokens",
)
NO_CREDIT = ("insufficient_quota", "exceeded your current quota", "billing")


class BadStatus(Exception):
    """The endpoint answered with an HTTP error."""

    def __init__(self, status: int, headers: Mapping[str, str], body: str) -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.headers, self.body = status, headers, body


class NoAnswer(Exception):
    """What came back is no answer of a model; the text goes on after the name of the host."""


class LimitPassed(Exception):
    """A time limit of the call is over."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(f"{name} limit of {seconds:g} s")
        self.name, self.seconds = name, seconds


@dataclass(frozen=True)
class Fault:
    """A failed attempt."""

    kind: Kind
    text: str
    is_transient: bool = False
    status: int = 0
    body: str = ""
    wait: float | None = None
    """Seconds that the endpoint asks for before the next attempt."""
    may_cost: bool = False
    """The endpoint was at work when it ended."""


class Failed(Exception):
    """An attempt failed; stays inside `llm`."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault

    def as_error(self, attempts: int) -> ModelError:
        """The error that leaves `llm`."""
        tried = f" (tried {attempts} times)" if attempts > 1 else ""
        return ERRORS[self.fault.kind](f"{self.fault.text}{tried}")


@dataclass(frozen=True)
class Patience:
    """How long to keep trying; time and chance can be replaced."""

    attempts: int = 4
    nonsense_attempts: int = 3
    """Attempts when answers arrive that are none: a fault that seldom passes."""
    first_wait: float = 0.5
    longest_wait: float = 60.0
    """An endpoint that asks for more than this is not waited for."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.time
    chance: Callable[[], float] = random.SystemRandom().random
    """From 0 to 1."""

    def wait(self, attempt: int, asked: float | None) -> float:
        """Seconds before the attempt after this one: doubled each time, half of it by chance."""
        longest: float = min(self.first_wait * 2.0 ** (attempt - 1), self.longest_wait)
        own = longest * (0.5 + 0.5 * self.chance())
        # An endpoint that asks for 0 s, or for a moment that is past by our clock, is not hammered.
        return own if asked is None else max(asked, own)

    def is_over(self, fault: Fault, attempt: int) -> bool:
        """Whether this fault ends the call."""
        most = self.nonsense_attempts if fault.kind == "nonsense" else self.attempts
        too_long = fault.wait is not None and fault.wait > self.longest_wait
        return not fault.is_transient or attempt >= most or too_long


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a Retry-After header asks for, given as seconds or as an HTTP date (RFC 9110, 10.2.3)."""
    value = next((text for name, text in headers.items() if name.lower() == "retry-after"), "").strip()
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        pass
    try:
        then = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() - now)


def fault_of(error: BaseException, host: str, key_name: str, now: float) -> Fault:
    """What an exception of the wire means."""
    for cause in causes(error):
        if isinstance(cause, BadStatus):
            return _of_status(cause, host, key_name, now)
        if isinstance(cause, NoAnswer):
            return Fault("nonsense", f"{host} {cause}", is_transient=True)
        if isinstance(cause, LimitPassed):
            return _too_slow(host, cause.name, cause.seconds)
    body = getattr(error, "body", None)
    if isinstance(body, dict):
        return _of_stream_error(body, host)
    if isinstance(error, ValueError | AttributeError | RecursionError):
        why = next(iter(str(error).splitlines()), "")
        return Fault("nonsense", f"{host} sent a stream without a usable answer ({why})", is_transient=True)
    if (tls := _tls_fault(error)) is not None:
        text = (
            f"no secure connection to {host}: {tls.reason or tls}; check base_url (http or https?) and the "
        )
        return Fault("rejected", f"{text}server's certificate")
    root = [*causes(error)][-1]
    why = str(root) or type(root).__name__
    return Fault(
        "unreachable",
        f"no answer from {host}: {why}; is the server running, and is base_url right?",
        is_transient=True,
    )


def _tls_fault(error: BaseException) -> ssl.SSLError | None:
    """What made a secure connection impossible; one that was only cut off may come about later."""
    passing = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLWantReadError, ssl.SSLSyscallError)
    found = (cause for cause in causes(error) if isinstance(cause, ssl.SSLError))
    return next((cause for cause in found if not isinstance(cause, passing)), None)


def connect_limit(error: BaseException) -> bool:
    """Whether an exception says that no connection came about in time."""
    return any(type(cause).__name__ in {"ConnectTimeout", "PoolTimeout"} for cause in causes(error))


def causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what led to it, the nearest first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _too_slow(host: str, name: str, seconds: float) -> Fault:
    setting = name.replace(" ", "_")
    text = f"{host} was too slow: the {name} limit of {seconds:g} s passed; raise timeouts.{setting}"
    return Fault("unreachable", text, is_transient=True, may_cost=name != "connect")


def _of_status(error: BadStatus, host: str, key_name: str, now: float) -> Fault:
    said = message_in(error.body)
    quoted = f": {said}" if said else ""
    status, lower = error.status, error.body.lower()
    if status in {401, 403}:
        text = f"the key in {key_name} was refused by {host}{quoted}; set {key_name} to a valid key"
        return Fault("rejected", text, status=status, body=error.body)
    if is_too_long(lower):
        text = f"the request is too long for the model at {host}{quoted}; lower context_tokens"
        return Fault("overfull", text, status=status, body=error.body)
    if status in AGAIN and any(word in lower for word in NO_CREDIT):
        return Fault(
            "rejected",
            f"{host} says that the account has no credit left{quoted}",
            status=status,
            body=error.body,
        )
    if status in AGAIN or status >= 500:
        asked = retry_after(error.headers, now)
        later = f"; it asks to wait {asked:.0f} s" if asked else ""
        text = f"{host} answered with status {status}{quoted}{later}"
        return Fault("unreachable", text, is_transient=True, status=status, body=error.body, wait=asked)
    return Fault(
        "rejected", f"{host} refused the request with status {status}{quoted}", status=status, body=error.body
    )


def _of_stream_error(body: Mapping[str, Any], host: str) -> Fault:
    """An error object in the middle of a stream, after status 200."""
    said, code = str(body.get("message") or body), body.get("code")
    status = code if isinstance(code, int) else 0
    too_long = is_too_long(said.lower())
    is_final = too_long or (400 <= status < 500 and status not in AGAIN)
    kind: Kind = "overfull" if too_long else "rejected" if is_final else "unreachable"
    text = f"{host} broke off with an error: {said[:300]}"
    return Fault(kind, text, is_transient=not is_final, status=status, body=json.dumps(body, default=str))


def is_too_long(lower: str) -> bool:
    """Whether an error text, in lower case, says that the prompt does not fit."""
    return any(words in lower for words in TOO_LONG)


def message_in(body: str) -> str:
    """The sentence in an error body."""
    try:
        value = json.loads(body)
    except ValueError:
        return body.strip()[:300]
    error = value.get("error", value) if isinstance(value, dict) else value
    message = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    return str(message or body).strip()[:500]
