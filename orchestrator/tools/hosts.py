"""Leave a host alone that keeps failing, for the tools that reach out; see `breaker`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.breaker import Breakers, Resting
from orchestrator.errors import ToolError


class HostFailed(ToolError):
    """The host did not answer, or its server failed: what was asked had no part in it."""


class HostAnswered(ToolError):
    """The host is well and refused what was asked."""


@contextmanager
def guarded(breakers: Breakers | None, host: str, seconds: float) -> Iterator[None]:
    """Reach a host unless it is known to fail; raises ToolError that says for how long."""
    if breakers is None:
        yield
        return
    try:
        with breakers.passing(f"host {host}", seconds) as passed:
            try:
                yield
            except HostFailed as error:
                passed.failed(str(error))
                raise
            except HostAnswered:
                passed.succeeded()
                raise
            passed.succeeded()
    except Resting as resting:
        raise ToolError(f"{resting}; use another source meanwhile") from None
