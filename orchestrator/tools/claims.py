"""Keep calls apart that touch the same thing: readers together, a writer alone, whoever came first.

What a call touches follows from its declared effects: the paths in its arguments, or the whole workspace
when it runs code or declares nothing. A folder stands for all that is in it. Between runs, in this process or
another, only writes to the same named file are kept apart: nobody waits for the command of another run.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import struct
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.effects import Effects
from orchestrator.errors import StorageError

POLL_SECONDS = 0.02
"""How often a file that another process writes is tried again."""


@dataclass(frozen=True)
class Claim:
    """One thing that a call touches."""

    path: tuple[str, ...]
    """Parts of the real path; all that lies below is meant too."""
    writes: bool
    is_file: bool = False
    """Whether one named file is meant, which other processes are kept from as well."""

    def clashes(self, other: Claim) -> bool:
        """Whether both cannot be held at once."""
        length = min(len(self.path), len(other.path))
        return (self.writes or other.writes) and self.path[:length] == other.path[:length]


def claims_of(
    effects: Effects, arguments: Mapping[str, Any], root: Path, *, reads: bool
) -> tuple[Claim, ...]:
    """What a call touches; `reads` says that it changes nothing."""
    if reads and not effects.reads:
        return ()
    values = [arguments.get(name) for name in effects.paths]
    named = [value for value in values if isinstance(value, str) and "\0" not in value]
    if effects.executes or len(named) < len(values) or not named:
        return (Claim(_parts(root, "."), writes=not reads),)
    return tuple(Claim(_parts(root, value), writes=not reads, is_file=not reads) for value in named)


def _parts(root: Path, path: str) -> tuple[str, ...]:
    return Path(os.path.realpath(root / path)).parts


@dataclass(eq=False)
class _Party:
    claims: Sequence[Claim]
    turn: asyncio.Event = field(default_factory=asyncio.Event)

    def clashes(self, other: _Party) -> bool:
        return any(mine.clashes(theirs) for mine in self.claims for theirs in other.claims)


class Claims:
    """Everything that the calls of one turn hold, all its agents together."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        """Where processes see each other's writes; None: they do not."""
        self._parties: list[_Party] = []
        """Those that hold their claims and those that wait, in the order in which they came."""

    @asynccontextmanager
    async def held(self, claims: Sequence[Claim]) -> AsyncIterator[None]:
        """Wait until nothing clashes, then hold all claims at once: no two wait for each other."""
        party = _Party(claims)
        self._parties.append(party)
        try:
            self._call_up()
            await party.turn.wait()
            async with self._held_outside(claims):
                yield
        finally:
            self._parties.remove(party)
            self._call_up()

    def _call_up(self) -> None:
        for number, party in enumerate(self._parties):
            if not any(party.clashes(earlier) for earlier in self._parties[:number]):
                party.turn.set()

    @asynccontextmanager
    async def _held_outside(self, claims: Sequence[Claim]) -> AsyncIterator[None]:
        """Hold the named files against other processes; the kernel lets go of them when we die."""
        places = sorted({_place(claim) for claim in claims if claim.writes and claim.is_file})
        if self._file is None or not places:
            yield
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            file = self._file.open("a")
        except OSError as error:
            raise StorageError(f"cannot use {self._file}: {error}; free some space, then go on") from None
        with file:
            for place in places:
                while not _locked(file.fileno(), place):  # noqa: ASYNC110 - the kernel tells nobody
                    await asyncio.sleep(POLL_SECONDS)
            yield


def _place(claim: Claim) -> int:
    """The byte of the lock file that stands for a path."""
    digest = hashlib.blake2b(os.fsencode(Path(*claim.path)), digest_size=7)
    return int.from_bytes(digest.digest(), "big")


def _locked(fd: int, place: int) -> bool:
    """Lock one byte for this open file, which two tasks of a process do not share; False when it is taken.

    Where the system has no such locks, or the file system none at all, processes do not see each other.
    """
    if sys.platform != "linux":
        return True
    wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
