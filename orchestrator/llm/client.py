"""ChatOpenAI as we need it: errors and bodies seen before the SDK rewrites them, odd servers understood.

Importing this module takes about a second, so it is imported at the first request only.
"""

from __future__ import annotations

import warnings
from typing import Any

import httpx2
import openai
from langchain_core.language_models import LanguageModelInput
from langchain_core.outputs import ChatGenerationChunk
from langchain_openai import ChatOpenAI

from orchestrator.llm.endpoint import Endpoint
from orchestrator.llm.faults import BadStatus, LimitPassed, NoAnswer, message_in
from orchestrator.llm.wire import Wire, telling
from orchestrator.settings import Timeouts

WIRE_ERRORS: tuple[type[Exception], ...] = (
    openai.OpenAIError,
    httpx2.HTTPError,
    BadStatus,
    LimitPassed,
    NoAnswer,
    # What the parsers of SDK and LangChain raise for events that are no JSON, or no object.
    ValueError,
    AttributeError,
    RecursionError,
)


LARGEST = 1_000_000_000
"""Tokens of a request or an answer beyond which a report is none."""
# The SDK does not check what it parses, and complains when LangChain copies it.
warnings.filterwarnings("ignore", "Pydantic serializer warnings", UserWarning)


class StreamedChat(ChatOpenAI):
    """Reads chunks of servers that leave parts of the format out, and keeps llama.cpp's timings."""

    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        payload = super()._get_request_payload(input_, stop=stop, **kwargs)
        # The SDK would hold every field of every message against its types: a fifth of a call's time.
        payload["extra_body"] = {**payload.get("extra_body", {}), "messages": payload["messages"]}
        payload["messages"] = []
        return payload

    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], default_chunk_class: type, base_generation_info: dict[str, Any] | None
    ) -> ChatGenerationChunk | None:
        try:
            _number_the_calls(chunk)
            chunk["usage"] = _report(chunk.get("usage"))
            converted = super()._convert_chunk_to_generation_chunk(
                chunk, default_chunk_class, base_generation_info
            )
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise NoAnswer(f"sent a chunk that is no part of a completion ({error!r})") from error
        if converted and isinstance(timings := chunk.get("timings"), dict):
            converted.message.response_metadata["cached"] = int(timings.get("cache_n") or 0)
        return converted


def _number_the_calls(chunk: dict[str, Any]) -> None:
    """Fill in a missing `index`: without it the call would be dropped silently."""
    for choice in chunk.get("choices") or []:
        for position, call in enumerate((choice.get("delta") or {}).get("tool_calls") or []):
            if call.get("index") is None:
                call["index"] = position


def _report(usage: Any) -> dict[str, Any] | None:
    """What a usage report says, as far as that can be; without its counts the tokens are estimated."""
    if not isinstance(usage, dict):
        return None
    into, out = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    if into is None or out is None:
        return None
    found: dict[str, Any] = {"prompt_tokens": into, "completion_tokens": out, "total_tokens": into + out}
    details = usage.get("prompt_tokens_details")
    if isinstance(details, dict) and (cached := _count(details.get("cached_tokens"))):
        found["prompt_tokens_details"] = {"cached_tokens": min(cached, into)}
    return found


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= LARGEST else None


async def _look_at(response: httpx2.Response) -> None:
    """Raise what the server really said, before a client library turns it into something else."""
    if response.is_redirect or response.request.method != "POST":
        return
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if response.is_success and kind not in {"text/html", "application/json"}:
        return
    body = (await response.aread()).decode("utf-8", "replace")
    if not response.is_success:
        raise BadStatus(response.status_code, dict(response.headers), body)
    if kind == "application/json" and '"error"' in body:
        raise NoAnswer(f"sent an error with status 200: {message_in(body)}")
    raise NoAnswer(f"sent {kind} instead of a stream of chunks: {body.strip()[:120]!r}")


def connect(
    endpoint: Endpoint, model: str, timeouts: Timeouts, wire: Wire
) -> tuple[StreamedChat, httpx2.AsyncClient]:
    """A client for the running event loop, and the connection pool that its owner closes."""
    # On this machine a new connection costs nothing, and none is left open when the loop ends.
    kept = 0 if endpoint.is_loopback else 10
    http = httpx2.AsyncClient(
        timeout=httpx2.Timeout(timeouts.total, connect=timeouts.connect),
        limits=httpx2.Limits(max_keepalive_connections=kept, max_connections=100),
        event_hooks={"response": [*([telling(wire.heard)] if wire.heard else []), _look_at]},
        # What is recorded is recorded as text.
        headers={"accept-encoding": "identity"},
        transport=wire.served,
        follow_redirects=True,
        trust_env=not endpoint.is_loopback,
        # Reading the certificates takes 90 ms, and plain http to this machine needs none.
        verify=not (endpoint.is_loopback and endpoint.base_url.startswith("http:")),
    )

    async def key() -> str:
        return endpoint.api_key

    chat = StreamedChat(
        model=model,
        base_url=endpoint.base_url,
        # As a coroutine: with a plain string a synchronous client would be built besides.
        api_key=key,
        http_async_client=http,
        max_retries=0,
        stream_usage=True,
        use_responses_api=False,
        # Our own limits tell first token, gap and total apart.
        stream_chunk_timeout=0,
    )
    return chat, http


UNLISTED = "default"


async def model_names(endpoint: Endpoint, http: httpx2.AsyncClient) -> list[str]:
    """Ids of the models that an endpoint lists; empty when nothing answers there.

    One that answers and lists nothing gets the name `default`: small servers have one model and no list.
    """
    headers = {"authorization": f"Bearer {endpoint.api_key}"}
    try:
        response = await http.get(f"{endpoint.base_url}/models", headers=headers, timeout=10)
        listed = response.json()["data"]
        return [str(entry["id"]) for entry in listed] or [UNLISTED]
    except httpx2.HTTPError:
        return []
    except (ValueError, KeyError, TypeError):
        return [UNLISTED]
