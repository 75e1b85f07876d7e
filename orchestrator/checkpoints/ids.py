"""Checkpoint ids in the form in which they are indexed."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from orchestrator.checkpoints.elements import damaged

_MASK = (1 << 64) - 1


class Place(NamedTuple):
    """A checkpoint id in the form in which it is indexed: uuids are ordered by time."""

    tag: int
    rest: bytes | str


@lru_cache(maxsize=1024)
def place_of(checkpoint_id: str) -> Place:
    """Where a checkpoint id is found; any text is an id, a uuid is a short one."""
    if len(checkpoint_id) == 36:
        try:
            number = UUID(checkpoint_id)
        except ValueError:
            pass
        else:
            if str(number) == checkpoint_id:
                written = number.bytes
                return Place(int.from_bytes(written[:8], "big", signed=True), written[8:])
    digest = hashlib.blake2b(checkpoint_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return Place(int.from_bytes(digest, "big", signed=True), checkpoint_id)


def id_of(tag: int, rest: object) -> str:
    """The inverse of `place_of`."""
    if isinstance(rest, str):
        return rest
    if not isinstance(rest, bytes):
        raise damaged("a checkpoint without an id")
    text = f"{tag & _MASK:016x}{rest.hex()}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
