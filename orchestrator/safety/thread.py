"""What the guardian knows of the texts that a call may have come from, as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Thread:
    """What the guardian knows of the texts that a call may have come from."""

    level: int
    """The highest level of trust among them."""
    secret: bool
    """A file of secrets was read."""
    said: tuple[str, ...]
    """The user's words, the plan, the hosts of the settings, and trusted results."""
    foreign: tuple[str, ...] = ()
    """Texts of the workspace, whose content may not go out."""
    read: tuple[str, ...] = ()
    """Every untrusted text: a link that stands there carries nothing else out."""
    links: frozenset[str] = frozenset()
    """URLs that a search gave as its results."""
    hosts: frozenset[str] = frozenset()
    """Hosts that calls reached before without a question, and those that the agent's file names."""
    own: frozenset[str] = frozenset()
    """Files that the specialist made in this step, where nothing was before."""
    written: tuple[tuple[str, str], ...] = ()
    """Paths that it wrote in this step, and what it wrote there."""
    delegated: tuple[str, ...] = ()
    """Texts that may say what to delete in the workspace: of files that the user named, or listings where
    the user left the choice."""
    listed: str = ""
    """The names of files that its brief lists."""
    secrets: tuple[str, ...] = ()
    """Values that must never go out."""
    only_looks: bool = False
    """The request asks for no change."""
    exists: frozenset[str] = frozenset()
    """Paths among the arguments that are there already."""


def strings(value: Any) -> Iterator[str]:
    """Every text in an argument, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield str(key)
            yield from strings(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from strings(each)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
