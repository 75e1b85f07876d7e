"""Read whom a TLS client asks for: the name in its first message (RFC 8446, section 4.1.2; RFC 6066, 3)."""

from __future__ import annotations

_CLIENT_HELLO, _SERVER_NAME, _HOST_NAME = 1, 0, 0


class _Bytes:
    """Bytes that are taken from the front; raises ValueError when there are too few."""

    def __init__(self, raw: bytes) -> None:
        self.rest = raw

    def take(self, size: int) -> bytes:
        taken, self.rest = self.rest[:size], self.rest[size:]
        if len(taken) < size:
            raise ValueError("too short")
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, size: int) -> _Bytes:
        """What follows a length of so many bytes."""
        return _Bytes(self.take(self.number(size)))


def server_name(record: bytes) -> str | None:
    """The host that a client asks for, empty when it names none; None when this is no whole client hello."""
    try:
        message = _Bytes(record[5:])
        if message.number(1) != _CLIENT_HELLO:
            return None
        hello = message.vector(3)
        hello.take(2 + 32)
        for size in (1, 2, 1):
            hello.vector(size)
        name = ""
        extensions = hello.vector(2) if hello.rest else _Bytes(b"")
        while extensions.rest:
            kind, content = extensions.number(2), extensions.vector(2)
            if kind == _SERVER_NAME:
                names = content.vector(2)
                if name or names.number(1) != _HOST_NAME:
                    return None
                name = names.vector(2).rest.decode("ascii").lower().removesuffix(".") or "?"
    except ValueError:
        return None
    return name
