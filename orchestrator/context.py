"""What the nodes may use: handed to each by LangGraph, built once per turn by the session.

Nodes never open a database, read a setting or build a model themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.agents import Agent
from orchestrator.approvals import Grants, Remembered
from orchestrator.cancel import Cancel
from orchestrator.events import Journal
from orchestrator.limits import Budget
from orchestrator.llm.base import ChatModel
from orchestrator.reach import allowed
from orchestrator.safety.policy import Policy
from orchestrator.settings import Settings, Tier
from orchestrator.snapshots import Snapshots
from orchestrator.tools.base import Tool, ToolContext
from orchestrator.tools.claims import Claims

if TYPE_CHECKING:
    from langgraph.runtime import Runtime


@dataclass(frozen=True)
class Context:
    """Everything that a node may reach."""

    root: Path
    """The workspace."""
    settings: Settings
    agents: Mapping[str, Agent]
    tools: Mapping[str, Tool]
    model: Callable[[Tier], Awaitable[ChatModel]]
    """Opens the model of a tier; the same object each time."""
    journal: Journal
    budget: Budget
    policy: Policy
    grants: Grants
    """What a person decides on single calls."""
    remembered: Remembered
    """What a person allowed from now on."""
    tool_context: ToolContext
    approves: bool = False
    """`--yes`: what would be asked inside the workspace is approved."""
    snapshots: Snapshots | None = None
    """Keeps the files around every call that may write; None where that is not possible."""
    cancel: Cancel = field(default_factory=Cancel)
    """Set when the work is to end."""
    claims: Claims = field(default_factory=Claims)
    """Keeps calls apart that touch the same thing."""

    def hosts_of(self, agent: str) -> tuple[str, ...]:
        """What the commands of a specialist may reach: its file grants it, and the settings allow it."""
        if not self.tool_context.sandbox.has_gate:
            return ()
        return allowed(self.agents[agent].hosts, self.settings.sandbox.hosts)

    async def open_model(self, agent: str) -> ChatModel:
        """The model that a specialist works with."""
        return await self.model(self.agents[agent].model)


def enter(runtime: Runtime[Context], node: str, *, step: str = "", agent: str = "") -> Context:
    """Begin a node: its events and the moment at which one can fork are noted under its name."""
    task = runtime.execution_info.checkpoint_ns if runtime.execution_info else ""
    runtime.context.journal.enter(node, step=step, agent=agent, task=task)
    return runtime.context
