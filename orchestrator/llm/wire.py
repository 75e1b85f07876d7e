"""What goes over the wire to a model: every finished exchange is told, and can be served again.

It sits below the client library, so that parsing, streaming and retries run for real in a replay too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import httpx2

from orchestrator.llm.faults import NoAnswer

LARGEST = 64 << 20
"""Bytes of one answer: several times what the longest ones take."""
END = b"[DONE]"
"""How a stream ends; clients stop reading here."""


@dataclass(frozen=True)
class Exchange:
    """A request to a model server, and its whole answer."""

    path: str
    """Such as `/v1/chat/completions`."""
    request: bytes
    status: int
    content_type: str
    response: bytes


Heard = Callable[[Exchange], None]
"""Gets each exchange as soon as its answer is whole; answers that were cut off are not told."""


def telling(heard: Heard) -> Callable[[httpx2.Response], object]:
    """A response hook that passes on what is read from the response."""

    async def hook(response: httpx2.Response) -> None:
        kind = response.headers.get("content-type", "")
        if response.is_redirect:
            return

        def tell(body: bytes) -> None:
            # A request that was sent on has no content of its own any more.
            asked = [*response.history, response][0].request
            heard(Exchange(asked.url.path, asked.content, response.status_code, kind, body))

        if isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _Told(response.stream, tell)

    return hook


class _Told(httpx2.AsyncByteStream):
    """A stream that tells its content when it has been read."""

    def __init__(self, stream: httpx2.AsyncByteStream, tell: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._tell = tell
        self._read: list[bytes] = []
        self._is_told = False
        self._bytes = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            self._read.append(piece)
            self._bytes += len(piece)
            if self._bytes > LARGEST:
                raise NoAnswer(f"sent more than {LARGEST >> 20} MB in one answer")
            yield piece
        self._end()

    async def aclose(self) -> None:
        if END in b"".join(self._read[-3:]):
            self._end()
        await self._stream.aclose()

    def _end(self) -> None:
        if not self._is_told:
            self._is_told = True
            self._tell(b"".join(self._read))


class Served(httpx2.AsyncBaseTransport):
    """Answers requests from a record instead of the network."""

    def __init__(self, answer: Callable[[str, bytes], Exchange]) -> None:
        self._answer = answer
        """Gets path and body of a request; raises what ends the replay where it has no answer."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Serve one recorded answer."""
        found = self._answer(request.url.path, await request.aread())
        return httpx2.Response(
            found.status,
            headers={"content-type": found.content_type},
            stream=httpx2.ByteStream(found.response),
        )


@dataclass(frozen=True)
class Wire:
    """What a model is reached through."""

    heard: Heard | None = None
    served: Served | None = None
    """Answers instead of the network; no key and no server is needed then."""
