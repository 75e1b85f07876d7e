"""What a tool can do to the world, declared once and read by guardian, sandbox, tools node and journal."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Trust(IntEnum):
    """Where a text comes from; the higher, the less it may decide."""

    USER = 0
    WORKSPACE = 1
    WEB = 2


@dataclass(frozen=True)
class Effects:
    """The declared effects of a tool; the default is the worst case, so that silence is never safe."""

    reads: bool = True
    """Reads files of the workspace or facts of the machine."""
    writes: bool = True
    """Changes files."""
    executes: bool = True
    """Runs code that someone or some model wrote; such a call belongs into the sandbox."""
    network: bool = True
    """Reaches beyond this machine."""
    reversible: bool = False
    """What it changes can be restored from what the workspace still has."""
    repeatable: bool = False
    """Running the same call twice leaves the same end state, so an interrupted call may run again."""
    paths: tuple[str, ...] = ()
    """Names of the arguments that hold paths."""
    targets: tuple[str, ...] | None = None
    """Arguments that say whom or what a call reaches; `()`: whom the settings name. None: all of them."""
    output: Trust = Trust.WEB
    """Provenance of what it returns."""

    @property
    def is_read_only(self) -> bool:
        """Whether a call changes nothing and may run beside others."""
        return not (self.writes or self.executes)


WORST = Effects()
"""What an undeclared tool is taken for."""
