"""A sandbox that confines nothing, and the context that tests give to tools."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from orchestrator.sandbox import Confinement
from orchestrator.settings import ToolSettings
from orchestrator.tools.base import ToolContext, call, parse
from orchestrator.tools.registry import TOOLS


class Unconfined:
    """Satisfies `Sandbox`; remembers the last confinement that was asked for."""

    name = "none"
    is_confining = False
    has_gate = False

    def __init__(self) -> None:
        self.last: Confinement | None = None

    def wrap(self, argv: list[str], confinement: Confinement) -> list[str]:
        self.last = confinement
        return argv


def context(root: Path, **settings: Any) -> ToolContext:
    return ToolContext(root=root, sandbox=Unconfined(), settings=ToolSettings(**settings))


def use(tool: str, root: Path, /, **arguments: Any) -> str:
    """Call a tool as the tools node does, in an event loop of its own."""
    return use_with(context(root), tool, **arguments)


def use_with(given: ToolContext, tool: str, /, **arguments: Any) -> str:
    found = TOOLS[tool]
    return asyncio.run(call(found, parse(found, arguments), given))
