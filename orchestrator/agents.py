"""What an agent file may say: one specialist, settings above the line, prompt below.

This module knows the shape only; `workspace` finds the files, `documents` reads them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from orchestrator.errors import UsageError
from orchestrator.reach import Host
from orchestrator.settings import StepLimits, Strict, Tier

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]


class Routing(Strict):
    """How the router recognises this specialist's requests."""

    keywords: list[str] = Field(default_factory=list)
    """Words and short phrases that speak for it."""
    examples: list[str] = Field(default_factory=list)
    """Requests as users would write them."""
    not_examples: list[str] = Field(default_factory=list)
    """Requests that look like this specialist's and are not."""


class AgentSandbox(Strict):
    """What the commands of this specialist may have beyond the workspace."""

    hosts: Annotated[tuple[Host, ...], Field(max_length=100)] = ()
    """Hosts that they may reach: `example.org` (ports 443 and 80), `example.org:8443`, `*.example.org`."""


class AgentSettings(Strict):
    """The settings of an agent file, before `extends` is applied."""

    name: Name | None = None
    """The file's name without its ending when left out."""
    description: Annotated[str, Field(min_length=1, max_length=500)]
    """One sentence; router and planner read it."""
    extends: Name | None = None
    """Another agent whose settings and prompt hold where this file says nothing."""
    tools: list[str] | None = None
    """Names of tools; all of them when neither this file nor the extended one says."""
    model: Tier | None = None
    """The tier of models that it works with; `default` when nothing is said."""
    limits: StepLimits | None = None
    """Limits of one step; those of the settings hold for the whole turn besides."""
    routing: Routing = Routing()
    """How the router recognises its requests; not taken over from an agent of another name."""
    approval: Literal["auto", "ask", "read-only"] | None = None
    """`auto`: policy decides; `ask`: calls that change something are asked; `read-only`: those are denied."""
    sandbox: AgentSandbox | None = None
    """What its commands may reach; nothing when neither this file nor the extended one says."""
    prompt: str | None = None
    """In a YAML file; in Markdown the prompt is the text below the second `---`."""


class Agent(Strict):
    """A specialist, ready to use: `extends` applied, tools resolved."""

    name: Name
    description: str
    tools: tuple[str, ...]
    model: Tier = "default"
    limits: StepLimits | None = None
    """Limits of one step; those of the settings hold for the whole turn besides."""
    routing: Routing = Routing()
    approval: Literal["auto", "ask", "read-only"] = "auto"
    hosts: tuple[str, ...] = ()
    """What its commands may reach, see `reach`."""
    prompt: str
    source: Path
    """The file it comes from."""
    is_builtin: bool = False


_MENTION = re.compile(r"^\s*@([A-Za-z][\w-]*)[:,]?(?:\s+|\Z)")


def mention(request: str) -> tuple[str | None, str]:
    """Split `@agent the request` into the agent's name and the rest."""
    found = _MENTION.match(request)
    return (found[1].lower(), request[found.end() :]) if found else (None, request)


def check_mention(request: str, agents: Collection[str]) -> None:
    """Raise UsageError when the request names an agent that does not exist."""
    name, _ = mention(request)
    if name is None or name in agents:
        return
    near = difflib.get_close_matches(name, agents, 1)
    hint = f"; did you mean @{near[0]}?" if near else ""
    raise UsageError(f"there is no agent @{name}{hint} (there are: {', '.join(agents)})")
