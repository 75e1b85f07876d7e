"""What a tool is: typed arguments, declared effects, limits, and one async function.

A tool knows its workspace and its sandbox; it knows nothing of models, graphs or people.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.breaker import Breakers
from orchestrator.effects import WORST, Effects
from orchestrator.errors import ToolError
from orchestrator.sandbox import Sandbox
from orchestrator.settings import ToolSettings
from orchestrator.tools.proxy import Gate
from orchestrator.tools.results import shaped


class Arguments(BaseModel):
    """Base of all argument models: a misspelt argument is an error, not silence."""

    model_config = ConfigDict(extra="forbid")


A = TypeVar("A", bound=Arguments)


@dataclass(frozen=True)
class ToolContext:
    """What a running tool may use."""

    root: Path
    """The workspace; paths of arguments are relative to it and never leave it."""
    sandbox: Sandbox
    settings: ToolSettings
    cancel: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the person wants the running call to end now."""
    breakers: Breakers | None = None
    """Hosts that keep failing are left alone; without, they are not."""
    results: Path | None = None
    """Where results too long for the model are kept for read_file; without, they are only cut."""
    read_only_command: bool = False
    """The policy found that the command only reads: it may see the whole machine and change nothing."""
    gate: Gate | None = None
    """Hosts that a command may reach; without, it has no network."""
    approved: bool = False
    """A person said yes to this very call: it may change what makes Git run programs."""


@dataclass(frozen=True)
class Tool:
    """One thing that a specialist can do."""

    name: str
    description: str
    """One sentence for the model, in the imperative; argument descriptions live in `arguments`."""
    arguments: type[Arguments]
    run: Callable[[Any, ToolContext], Awaitable[str]]
    """Returns the text for the model; raises ToolError with what to do next."""
    effects: Effects = WORST
    seconds: float = 30.0
    """Time limit of one call."""
    tokens: int = 4_000
    """Budget of one result; what is over it is cut from the middle, with a count, and kept in a file."""


def parse(tool: Tool, arguments: Mapping[str, Any]) -> Arguments:
    """Check the arguments of a call; raises ToolError that names each wrong argument and the right ones."""
    try:
        return tool.arguments.model_validate(dict(arguments))
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'arguments'}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        raise ToolError(f"wrong arguments for {tool.name}: {wrong}. Use: {signature(tool)}") from None


def signature(tool: Tool) -> str:
    """A tool's call in one line, such as `read_file(path, offset?, limit?)`."""
    fields = tool.arguments.model_fields
    names = ", ".join(name if info.is_required() else f"{name}?" for name, info in fields.items())
    return f"{tool.name}({names})"


async def call(tool: Tool, arguments: Arguments, context: ToolContext) -> str:
    """Run a tool within its time and result limits; raises ToolError."""
    try:
        async with asyncio.timeout(tool.seconds):
            text = await tool.run(arguments, context)
    except TimeoutError:
        raise ToolError(f"{tool.name} took longer than {tool.seconds:g} s and was stopped") from None
    return shaped(text, context.settings.result_tokens.get(tool.name, tool.tokens), context.results)
