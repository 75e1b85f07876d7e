"""What an agent is in the end: its own file, what it extends, and the tools that it may have.

A child that says nothing on a key takes the parent's. Routing is the exception: two agents with the
same examples cannot be told apart, so it passes only to a file that replaces the agent of its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.agents import Agent, Routing
from orchestrator.documents import suggestion
from orchestrator.errors import ConfigError, Problem
from orchestrator.settings import StepLimits
from orchestrator.workspace.agent_files import AgentFile

ENDS = "finish"
"""The tool that ends a step: every agent has it, whether its file names it or not."""
Resolved = tuple[dict[str, Agent], dict[str, dict[str, str]], set[Path]]


class Resolver:
    """Turns agent files into agents; `allowed` bounds the tools of a folder that is not trusted."""

    def __init__(
        self, builtins: Sequence[AgentFile], tools: Sequence[str], allowed: frozenset[str] | None
    ) -> None:
        self._builtins = {file.name: file for file in builtins}
        self._tools = tools
        self._allowed = allowed

    def problems(self, files: Iterable[AgentFile], broken: set[str]) -> dict[Path, list[Problem]]:
        """What is wrong between files: unknown tools and parents, cycles; by file.

        Agents that extend a broken file are not blamed for it.
        """
        own = {file.name: file for file in files}
        found: dict[Path, list[Problem]] = {}
        for file in own.values():
            problems = [*self._tool_problems(file), *self._parent_problems(file, own, broken)]
            if problems:
                found[file.path] = problems
        return found

    def resolve(self, files: Mapping[Path, AgentFile]) -> Resolved:
        """Agents and origins by name, and the files that could not be resolved.

        Raises ConfigError when a built-in file is wrong.
        """
        own = {file.name: file for file in files.values()}
        agents: dict[str, Agent] = {}
        origins: dict[str, dict[str, str]] = {}
        dropped: set[Path] = set()
        for name, file in sorted({**self._builtins, **own}.items()):
            problems = [*self._tool_problems(file), *self._parent_problems(file, own, set())]
            if problems and file.is_builtin:
                raise ConfigError(problems)
            if problems:
                dropped.add(file.path)
                continue
            agents[name], origins[name] = self._agent(self._chain(file, own))
        return agents, origins, dropped

    def _parent(self, file: AgentFile, own: Mapping[str, AgentFile]) -> AgentFile | None:
        wanted = file.settings.extends or ""
        if wanted == file.name or file.is_builtin:
            parent = self._builtins.get(wanted)
            return None if parent is file else parent
        return own.get(wanted) or self._builtins.get(wanted)

    def _chain(self, file: AgentFile, own: Mapping[str, AgentFile]) -> list[AgentFile]:
        """The file, its parent, its parent's parent and so on; the last is repeated in a cycle."""
        chain = [file]
        while (parent := self._parent(chain[-1], own)) is not None:
            chain.append(parent)
            if parent in chain[:-1]:
                break
        return chain

    def _parent_problems(
        self, file: AgentFile, own: Mapping[str, AgentFile], broken: set[str]
    ) -> Iterator[Problem]:
        chain = self._chain(file, own)
        last, wanted = chain[-1], chain[-1].settings.extends
        if last in chain[:-1]:
            circle = " → ".join(link.name for link in chain)
            yield file.document.problem(("extends",), f"leads back to itself: {circle}")
        elif wanted is not None and wanted not in broken:
            names = sorted({*own, *self._builtins} - {file.name})
            hint = suggestion(wanted, names) or f"; known agents: {', '.join(names)}"
            text = f"unknown agent '{wanted}'{hint}"
            if last is not file:
                text = f"'{last.name}' extends an unknown agent '{wanted}'"
            yield file.document.problem(("extends",), text)

    def _tool_problems(self, file: AgentFile) -> Iterator[Problem]:
        for position, tool in enumerate(file.settings.tools or []):
            if tool not in self._tools:
                hint = suggestion(tool, self._tools) or f"; known tools: {', '.join(self._tools)}"
                yield file.document.problem(("tools", position), f"unknown tool '{tool}'{hint}")

    def _agent(self, chain: list[AgentFile]) -> tuple[Agent, dict[str, str]]:
        file = chain[0]
        fields: dict[str, Any] = {}
        origins: dict[str, str] = {"name": _origin(file, "name"), "description": _origin(file, "description")}
        for key in ("tools", "model", "approval"):
            giver = next((link for link in chain if getattr(link.settings, key) is not None), None)
            origins[key] = _origin(giver, key)
            if giver:
                fields[key] = getattr(giver.settings, key)
        speaker = next((link for link in chain if link.prompt), file)
        origins["prompt"] = str(speaker.document.file)
        namesakes = [link for link in chain if link.name == file.name]
        router = next((link for link in namesakes if "routing" in link.settings.model_fields_set), None)
        origins["routing"] = _origin(router, "routing")
        fields["tools"], narrowed = self._granted(fields.get("tools"), chain)
        if narrowed:
            origins["tools"] += " (read-only: the folder is not trusted)"
        fields["hosts"] = self._hosts(chain, origins)
        fields["limits"] = _limits(chain, origins)
        agent = Agent(
            name=file.name,
            description=file.settings.description,
            routing=router.settings.routing if router else Routing(),
            prompt=speaker.prompt,
            source=file.path,
            is_builtin=file.is_builtin,
            **fields,
        )
        return agent, origins

    def _hosts(self, chain: list[AgentFile], origins: dict[str, str]) -> tuple[str, ...]:
        """The hosts that an agent's commands may reach: a folder that is not trusted grants none."""
        giver = next((link for link in chain if link.settings.sandbox is not None), None)
        origins["hosts"] = _origin(giver, "sandbox", "hosts")
        if giver is None or giver.settings.sandbox is None:
            return ()
        if self._allowed is not None and not all(link.is_builtin for link in chain):
            origins["hosts"] += " (none: the folder is not trusted)"
            return ()
        return tuple(dict.fromkeys(giver.settings.sandbox.hosts))

    def _granted(self, wanted: list[str] | None, chain: list[AgentFile]) -> tuple[tuple[str, ...], bool]:
        """The tools that an agent gets, and whether some were taken away."""
        tools = list(dict.fromkeys(self._tools if wanted is None else wanted))
        if ENDS in self._tools and ENDS not in tools:
            tools.append(ENDS)
        if self._allowed is None or all(link.is_builtin for link in chain):
            return tuple(tools), False
        granted = tuple(tool for tool in tools if tool in self._allowed or tool == ENDS)
        return granted, len(granted) < len(tools)


def _limits(chain: list[AgentFile], origins: dict[str, str]) -> StepLimits | None:
    """The limits of all levels, the nearest first for each key."""
    limits: dict[str, Any] = {}
    for link in reversed(chain):
        for key in link.settings.limits.model_fields_set if link.settings.limits else ():
            limits[key] = getattr(link.settings.limits, key)
            origins[f"limits.{key}"] = _origin(link, "limits", key)
    return StepLimits(**limits) if limits else None


def _origin(file: AgentFile | None, *place: str) -> str:
    if file is None or place not in file.document.values:
        return "default" if file is None else str(file.document.file)
    return f"{file.document.file}:{file.document.values[place][0]}"
