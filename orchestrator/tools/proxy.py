"""Let what runs in a sandbox reach granted hosts, and nothing else: an HTTP proxy for the time of one call.

It takes CONNECT for TLS, and plain requests in absolute form, one to a connection. A name is granted before
it is looked up, and an address is judged after that, so that neither the command nor a name server chooses
where a connection goes. It cannot see into TLS: what a granted host is sent there is for the policy.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import ToolError
from orchestrator.reach import LONGEST, covers, normal_host, split
from orchestrator.tools.address import checked
from orchestrator.tools.hello import server_name

HEAD_BYTES = 16 << 10
"""Of a request's head, and of the first message of TLS."""
PIECE = 64 << 10
TLS = 22
"""The kind of record that a client begins with."""
_DROPPED = re.compile(
    r"host|(proxy-)?connection|keep-alive|proxy-authorization|te|trailer|upgrade|expect", re.IGNORECASE
)
"""Headers that speak to the proxy, or to the next connection."""
_REQUEST = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]{1,8192}) HTTP/1\.[01]")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}):[ \t]*([^\r\n\0]*)")
_ABSOLUTE = re.compile(r"(?i:http)://([^/?#@\s]+)(/[^#]*|\?[^#]*)?(#.*)?")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Reached:
    """A host that a command wanted to reach."""

    host: str
    port: int
    allowed: bool
    why: str = ""
    """Why not."""

    @property
    def place(self) -> str:
        """Host and port in one word."""
        return f"{_shown(self.host)}:{self.port}"


@dataclass(frozen=True)
class Gate:
    """What a call may reach."""

    hosts: tuple[str, ...]
    """Grants in normal form, see `reach`."""
    private: Sequence[str] = ()
    """Hosts that may be on private addresses."""
    heard: Callable[[Reached], object] = lambda _: None
    """Told once of each host that was reached or refused."""


@dataclass(frozen=True)
class Bounds:
    """What one call may use of the network."""

    at_a_time: int = 64
    """Connections."""
    connections: int = 5_000
    sent_bytes: int = 64 << 20
    received_bytes: int = 4 << 30
    head_seconds: float = 10
    """Until a request is there, and until the host has taken the connection."""
    told: int = 200
    """Hosts that are told of."""


class _Refused(Exception):
    """A request is not let through."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


@dataclass
class _Request:
    method: str
    target: str
    headers: list[tuple[str, str]]


@dataclass
class Proxy:
    """The proxy of one call; what it has seen is there when it has ended."""

    gate: Gate
    bounds: Bounds = Bounds()
    seen: dict[tuple[str, int, bool], Reached] = field(default_factory=dict)
    _open: set[asyncio.Task[None]] = field(default_factory=set)
    _count: int = 0
    _left: dict[str, int] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """The number of a socket for the command to inherit; every connection is closed at the end."""
        self._left = {"sent": self.bounds.sent_bytes, "received": self.bounds.received_bytes}
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        taking = asyncio.ensure_future(self._take(ours))
        try:
            yield theirs.fileno()
        finally:
            theirs.close()
            tasks = [taking, *self._open]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            ours.close()

    async def _take(self, ours: socket.socket) -> None:
        """Wait for the listener of the sandbox, then serve its connections."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_reader(ours, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            loop.remove_reader(ours)
        _, numbers, _, _ = socket.recv_fds(ours, 1, 1)
        if not numbers:
            return
        with socket.socket(fileno=numbers[0]) as listener:
            listener.setblocking(False)
            while self._count < self.bounds.connections:
                connection, _ = await loop.sock_accept(listener)
                self._count += 1
                if len(self._open) >= self.bounds.at_a_time:
                    connection.close()
                    continue
                task = asyncio.ensure_future(self._serve(connection))
                self._open.add(task)
                task.add_done_callback(self._open.discard)

    async def _serve(self, connection: socket.socket) -> None:
        """One connection from inside, to its end."""
        try:
            reader, writer = await asyncio.open_connection(sock=connection, limit=HEAD_BYTES)
        except OSError:
            connection.close()
            return
        try:
            await self._answered((reader, writer))
        except _Refused as refused:
            await _say(writer, refused)
        except (OSError, EOFError, TimeoutError):
            pass
        finally:
            await _closed(writer)

    async def _answered(self, inside: Streams) -> None:
        try:
            async with asyncio.timeout(self.bounds.head_seconds):
                request = await _head(inside[0])
        except TimeoutError:
            raise _Refused("408 Request Timeout", "no request came") from None
        if request.method == "CONNECT":
            host, port = _authority(request.target, 0)
            await self._tunnel(
                inside, await self._reach(host, port, "https"), Reached(host, port, allowed=True)
            )
        else:
            await self._forward(inside, request)

    async def _reach(self, host: str, port: int, scheme: str) -> Streams:
        """A connection to a host, if it is granted and at an address that may be reached."""
        if not covers(self.gate.hosts, host, port):
            raise self._refusal(host, port, f"only {', '.join(self.gate.hosts)} may be reached")
        shown = _shown(host)
        try:
            async with asyncio.timeout(self.bounds.head_seconds):
                address = await checked(f"{scheme}://{shown}:{port}/", self.gate.private)
                streams = await asyncio.open_connection(address, port, limit=PIECE)
        except ToolError as error:
            raise self._refusal(host, port, str(error)) from None
        except (OSError, TimeoutError) as error:
            why = f"{shown}:{port} does not answer: {error or 'it took too long'}"
            raise _Refused("502 Bad Gateway", why) from None
        self._tell(Reached(host, port, allowed=True))
        return streams

    def _refusal(self, host: str, port: int, why: str) -> _Refused:
        reached = Reached(host, port, allowed=False, why=why)
        self._tell(reached)
        return _Refused("403 Forbidden", f"{reached.place} is refused: {why}")

    def _tell(self, reached: Reached) -> None:
        key = (reached.host, reached.port, reached.allowed)
        if key not in self.seen and len(self.seen) < self.bounds.told:
            self.seen[key] = reached
            self.gate.heard(reached)

    async def _tunnel(self, inside: Streams, outside: Streams, to: Reached) -> None:
        """TLS to the host that was named, and to no other behind it."""
        try:
            inside[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            first = await self._hello(inside[0], to)
            self._counted("sent", len(first))
            outside[1].write(first)
            back = self._copied(outside[0], inside[1], "received")
            await _both(self._copied(inside[0], outside[1], "sent"), back)
        finally:
            await _closed(outside[1])

    async def _hello(self, reader: asyncio.StreamReader, to: Reached) -> bytes:
        """The first message of TLS; raises EOFError when it is none, or names another host."""
        async with asyncio.timeout(self.bounds.head_seconds):
            first = await reader.readexactly(5)
            size = int.from_bytes(first[3:])
            is_tls = first[0] == TLS and size <= HEAD_BYTES
            first += await reader.readexactly(size) if is_tls else b""
        name = server_name(first) if is_tls else None
        if name not in {"", to.host}:
            shown = "no TLS" if name is None else f"TLS for another host, {name[:LONGEST]!r}"
            why = f"{shown} in a tunnel; use an http:// address for what is not encrypted"
            self._tell(Reached(to.host, to.port, allowed=False, why=why))
            raise EOFError
        return first

    async def _forward(self, inside: Streams, request: _Request) -> None:
        """One plain request, with the host of its target as its only host."""
        found = _ABSOLUTE.fullmatch(request.target)
        if found is None:
            raise _Refused("400 Bad Request", "ask for a whole http:// address, or use CONNECT")
        host, port = _authority(found[1], 80)
        size = _body_bytes(request.headers)
        reader, writer = await self._reach(host, port, "http")
        try:
            path = found[2] or "/"
            lines = [f"{request.method} {path if path[0] == '/' else '/' + path} HTTP/1.1"]
            lines += [f"Host: {_shown(host)}" + (f":{port}" if port != 80 else ""), "Connection: close"]
            named = [item for name, item in request.headers if name.lower() == "connection"]
            dropped = {item.strip().lower() for value in named for item in value.split(",")}
            lines += [
                f"{name}: {value}"
                for name, value in request.headers
                if not _DROPPED.fullmatch(name) and name.lower() not in dropped - {"content-length"}
            ]
            head = "\r\n".join([*lines, "", ""]).encode("latin-1")
            self._counted("sent", len(head))
            writer.write(head)
            back = self._copied(reader, inside[1], "received")
            await _both(self._copied(inside[0], writer, "sent", size), back)
        finally:
            await _closed(writer)

    async def _copied(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: str,
        size: int | None = None,
    ) -> None:
        """Copy to the end, or so many bytes; raises EOFError when there is too much of it."""
        while size is None or size > 0:
            piece = await reader.read(PIECE if size is None else min(PIECE, size))
            if not piece:
                break
            self._counted(way, len(piece))
            writer.write(piece)
            await writer.drain()
            size = None if size is None else size - len(piece)
        if size is None:
            writer.write_eof()

    def _counted(self, way: str, size: int) -> None:
        self._left[way] -= size
        if self._left[way] < 0:
            self._tell(Reached("*", 0, allowed=False, why=f"more was {way} than one call may"))
            raise EOFError


async def _both(up: Coroutine[Any, Any, None], back: Coroutine[Any, Any, None]) -> None:
    """Copy both ways until the answer has ended, or one of them fails."""
    going, coming = asyncio.ensure_future(up), asyncio.ensure_future(back)
    try:
        await asyncio.wait({going, coming}, return_when=asyncio.FIRST_COMPLETED)
        if going.done():
            going.result()
        await coming
    finally:
        going.cancel()
        coming.cancel()
        await asyncio.gather(going, coming, return_exceptions=True)


async def _head(reader: asyncio.StreamReader) -> _Request:
    """The head of a request; raises _Refused for what is none."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise _Refused("431 Request Header Fields Too Large", "the head of the request is too long") from None
    first, *rest = raw[:-4].split(b"\r\n")
    found = _REQUEST.fullmatch(first)
    headers = [_HEADER.fullmatch(line) for line in rest]
    if found is None or None in headers:
        raise _Refused("400 Bad Request", "that is no HTTP request")
    named = [(item[1].decode("latin-1"), item[2].decode("latin-1").rstrip()) for item in headers if item]
    return _Request(found[1].decode(), found[2].decode(), named)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _authority(text: str, port: int) -> tuple[str, int]:
    """Host and port in normal form; raises _Refused for what is neither."""
    try:
        host, own = split(text)
        if not (own or port):
            raise ValueError("names no port")
        return normal_host(host), own or port
    except ValueError as error:
        raise _Refused("400 Bad Request", f"{text[:200]!r} {error}") from None


def _body_bytes(headers: list[tuple[str, str]]) -> int:
    """How long the body is; a length that can be read in two ways is refused."""
    lengths = {value for name, value in headers if name.lower() == "content-length"}
    if any(name.lower() == "transfer-encoding" for name, _ in headers):
        raise _Refused("411 Length Required", "say how long the body is; parts without a length are refused")
    if not lengths:
        return 0
    length = lengths.pop()
    if lengths or not re.fullmatch(r"\d{1,15}", length, re.ASCII):
        raise _Refused("400 Bad Request", "the length of the body is not clear")
    return int(length)


async def _say(writer: asyncio.StreamWriter, refused: _Refused) -> None:
    body = f"{refused.why}\n".encode()
    head = (
        f"HTTP/1.1 {refused.status}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with contextlib.suppress(OSError):
        writer.write(head.encode() + body)
        await writer.drain()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()
