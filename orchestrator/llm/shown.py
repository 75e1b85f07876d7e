"""Text on its way to the screen, shown once even when the stream breaks and starts again."""

from __future__ import annotations

from orchestrator.llm.base import OnText


class Shown:
    """What of an answer the reader has seen.

    A new attempt that begins with what was shown goes on from there. One that says something else
    stays silent and is shown whole at its end, below the broken one: text cannot be taken back.
    """

    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text
        self._seen = ""
        self._fresh = ""

    def restart(self) -> None:
        """A new attempt begins."""
        self._fresh = ""

    def add(self, piece: str) -> None:
        """Show a piece of the running attempt, as far as it is new."""
        self._fresh += piece
        if len(self._fresh) > len(self._seen) and self._fresh.startswith(self._seen):
            self._on_text(self._fresh[len(self._seen) :])
            self._seen = self._fresh

    def finish(self) -> None:
        """The running attempt is the answer: make sure that it was shown."""
        if self._seen != self._fresh:
            self._on_text(f"\n\n{self._fresh}")
            self._seen = self._fresh
