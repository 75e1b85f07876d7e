"""Put a turn together: settings, specialists, tools, policy, sandbox and models become a Context.

Graph files are loaded by path, not imported: a workspace may bring its own, once it is trusted.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from orchestrator.agents import Agent
from orchestrator.approvals import Grants, Remembered
from orchestrator.breaker import Breakers
from orchestrator.cancel import Cancel
from orchestrator.context import Context
from orchestrator.errors import BudgetExceeded, ConfigError, Problem
from orchestrator.events import Journal
from orchestrator.limits import Budget, Ledger, Who
from orchestrator.limits.entries import identity
from orchestrator.limits.handover import hand_over
from orchestrator.limits.meter import BudgetMeter
from orchestrator.llm import record
from orchestrator.llm.base import ChatModel, ToolSpec
from orchestrator.llm.caller import Listeners
from orchestrator.llm.chat import open_model
from orchestrator.llm.endpoint import resolved
from orchestrator.llm.fallback import Chain
from orchestrator.llm.wire import Exchange, Wire
from orchestrator.safety.policy import Policy
from orchestrator.sandbox.detect import detect
from orchestrator.settings import ModelSettings, Settings, Tier, chosen_model
from orchestrator.snapshots import Snapshots
from orchestrator.storage import FOLDER
from orchestrator.tools.base import ToolContext
from orchestrator.tools.claims import Claims
from orchestrator.tools.registry import TOOLS
from orchestrator.workspace.folders import builtin_folder
from orchestrator.workspace.loading import Loaded
from orchestrator.workspace.trust import is_trusted

HURRY_SECONDS = 0.2


class Models:
    """The models of a turn, opened when first asked for, one for each distinct setting."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        budget: Budget,
        breakers: Breakers,
        *,
        override: str | None,
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._budget = budget
        self._breakers = breakers
        self._override = override
        self._open: dict[str, ChatModel] = {}
        self._told: set[Tier] = set()
        self._lock = asyncio.Lock()

    def settings_of(self, tier: Tier) -> ModelSettings:
        """What a tier resolves to; `--model` replaces every tier."""
        return chosen_model(self._settings, tier, os.environ, self._override)

    async def __call__(self, tier: Tier) -> ChatModel:
        """Open the model of a tier."""
        settings = self.settings_of(tier)
        key = settings.model_dump_json()
        async with self._lock:
            if tier not in self._told:
                self._told.add(tier)
                self._journal.write("model", tier=tier, settings=resolved(settings).model_dump(mode="json"))
            if key not in self._open:
                self._open[key] = await self._opened(settings)
            return self._open[key]

    async def _opened(self, settings: ModelSettings) -> ChatModel:
        """A model, with those that stand behind it."""
        wanted = [settings]
        for other in settings.fallback if self._override is None else ():
            found = self.settings_of(other) if isinstance(other, str) else other
            wanted += [] if found in wanted else [found]
        models = [
            await open_model(each, listeners=self._listeners(each), wire=Wire(heard=self._heard))
            for each in wanted
        ]
        finish = TOOLS["finish"]
        spec = ToolSpec(finish.name, finish.description, finish.arguments)
        tell = partial(self._journal.write, "breaker")
        return models[0] if len(models) == 1 else Chain(models, spec, lambda text: tell(text=text))

    def _listeners(self, settings: ModelSettings) -> Listeners:
        return Listeners(
            on_retry=lambda why, wait: self._journal.write("retry", why=why, wait=wait),
            progress=lambda text: self._journal.show("note", text=text),
            meter=BudgetMeter(self._budget, self._journal, settings),
            breakers=self._breakers,
            on_open=lambda text: self._journal.write("breaker", text=text),
            on_partial=lambda name, text: self._journal.write("partial", model=name, text=text),
        )

    def _heard(self, exchange: Exchange) -> None:
        self._journal.write("exchange", **record.written(exchange, self._journal.keep))

    async def close(self) -> None:
        """Close what was opened."""
        for model in self._open.values():
            await model.aclose()


def context(
    loaded: Loaded,
    journal: Journal,
    *,
    model: str | None = None,
    approves: bool = False,
    cancel: Cancel | None = None,
) -> Context:
    """Build the context of a turn."""
    root, settings = loaded.root, loaded.settings
    who = Who(journal.run, journal.turn, *identity(), journal.branch)
    ledger = Ledger.of(root, journal.connection)
    budget = Budget(settings.limits, ledger, who, agents=loaded.agents, journal=journal)
    breakers = Breakers(journal.connection)
    sandbox = detect(settings.sandbox)
    cancel = cancel or Cancel()
    return Context(
        root=root,
        settings=settings,
        agents=loaded.agents,
        tools=TOOLS,
        model=Models(settings, journal, budget, breakers, override=model),
        journal=journal,
        budget=budget,
        policy=Policy(root, Path.home(), sandbox, loaded.book),
        grants=Grants(journal.connection, journal.plain),
        remembered=Remembered(root),
        tool_context=ToolContext(
            root=root,
            sandbox=sandbox,
            settings=settings.tools,
            cancel=cancel.asked,
            breakers=breakers,
            results=root / FOLDER / "results" / journal.run,
        ),
        approves=approves,
        snapshots=Snapshots(root),
        cancel=cancel,
        claims=Claims(root / FOLDER / "locks" / "files"),
    )


def ending(used: Context) -> Callable[..., Awaitable[None]]:
    """What is done when a turn ends, as the exit of a `with` block."""

    async def end(_kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, BudgetExceeded):
            hand_over(used.journal, {name: tool.effects for name, tool in used.tools.items()})
        # A person who stops the run is not made to wait for those who are told of a warning.
        seconds = HURRY_SECONDS if used.cancel.error else None
        await asyncio.to_thread(used.budget.finish, seconds)
        if isinstance(used.model, Models):
            await used.model.close()
        used.budget.close()

    return end


def graph(root: Path, agents: Mapping[str, Agent], saver: BaseCheckpointSaver[str] | None) -> Any:
    """The main graph for these agents, compiled.

    The built-in one depends on nothing but their names, so runs share its wiring: for each of them it would
    be some 80 KB. A workspace's own may depend on anything.
    """
    main, part = graph_file(root, "main"), graph_file(root, "specialist")
    builtin = builtin_folder("graphs")
    if {Path(str(each.__file__)).parent for each in (main, part)} != {builtin}:
        return main.build(agents, part.build(), saver)
    own = copy(_shared(main, part, tuple(agents)))
    own.checkpointer = saver
    return own


@lru_cache(maxsize=8)
def _shared(main: ModuleType, part: ModuleType, names: tuple[str, ...]) -> Any:
    return main.build(names, part.build(), None)


def graph_file(root: Path, name: str) -> ModuleType:
    """Load a graph file: the workspace's own when it has one and is trusted, else the built-in."""
    own = root / "graphs" / f"{name}.py"
    path = own if own.is_file() and is_trusted(root) else builtin_folder("graphs") / f"{name}.py"
    return _module(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _module(path: Path, _changed: int) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"orc_graph_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError([Problem(path, 0, 0, "", "cannot be loaded as a Python file")])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, "build", None)):
        raise ConfigError([Problem(path, 0, 0, "", "defines no function `build`")])
    return module
