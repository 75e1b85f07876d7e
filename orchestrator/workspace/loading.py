"""Read what a workspace says, and check a request against it, before anything heavy is imported."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.agents import check_mention, mention
from orchestrator.errors import UsageError
from orchestrator.safety.policy_file import load_book
from orchestrator.safety.rulebook import Book
from orchestrator.settings import Settings, chosen_model
from orchestrator.workspace.layers import load_settings
from orchestrator.workspace.specialists import AgentFolder, Agents, offered_tools


@dataclass(frozen=True)
class Loaded:
    """A workspace's settings and specialists, checked."""

    root: Path
    settings: Settings
    agents: Agents
    book: Book
    """The rules for commands: built in, the user's and the workspace's."""

    @property
    def notes(self) -> Iterable[str]:
        """What the person should know although the run goes on."""
        for problem in self.agents.problems:
            yield f"{problem}; the last good version of the file is used"
        if self.agents.needs_trust:
            yield "this folder's agents can only read until you trust it: `orc trust`"


def load(root: Path, agents_of: Path | None = None) -> Loaded:
    """Read settings, agent files and policy; raises ConfigError with every problem of every file.

    With `agents_of` the specialists are those of another workspace.
    """
    agents = AgentFolder(agents_of or root, *offered_tools()).current()
    return Loaded(root, load_settings(root), agents, load_book(root))


def check_request(request: str, loaded: Loaded, *, model: str | None) -> None:
    """Raise UsageError when a request cannot be worked on: empty, too long, or for nobody."""
    check_mention(request, loaded.agents)
    if not mention(request)[1].strip():
        raise UsageError("the request is empty; say what is to be done")
    window = chosen_model(loaded.settings, "default", os.environ, model).context_tokens
    if len(request) > window * 2:
        raise UsageError(
            f"the request has {len(request):,} characters; the model reads about {window * 2:,} "
            f"({window:,} tokens with room to work). Put the text into a file here and name the file instead"
        )
