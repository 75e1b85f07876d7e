"""No sandbox: commands run as they are, and the policy asks for each of them."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.sandbox import Confinement


@dataclass
class NoSandbox:
    """Where nothing can confine a process."""

    name: str = "none"
    has_gate: bool = False
    why: str = ""
    """Why there is none, in words for a person."""

    @property
    def is_confining(self) -> bool:
        """Never."""
        return False

    def wrap(self, argv: list[str], confinement: Confinement) -> list[str]:  # noqa: ARG002
        """The argument vector as it is."""
        return list(argv)
