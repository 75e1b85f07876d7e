"""The specialists of a workspace: the built-in ones, and those that its files define or replace.

A new file counts at once. A file that breaks keeps its last good version; its copy lies in the
workspace's `.orc/`, and only a trusted folder's copies are believed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.agents import Agent
from orchestrator.errors import ConfigError, Problem
from orchestrator.workspace.agent_files import AgentFile, agent_paths, read_agent
from orchestrator.workspace.folders import builtin_folder
from orchestrator.workspace.inheritance import Resolver
from orchestrator.workspace.trust import is_trusted, write_whole

GOOD_COPIES = Path(".orc") / "agents-good"
Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Agents(Mapping[str, Agent]):
    """The specialists by name, and what was wrong on the way."""

    by_name: Mapping[str, Agent]
    origins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By agent and key: `file:line`, or `default`."""
    problems: tuple[Problem, ...] = ()
    """Of all files that are broken now."""
    lost: tuple[Path, ...] = ()
    """Broken files without a last good version: their agents are missing here."""
    needs_trust: bool = False
    """The folder has agent files and is not trusted, so those agents have read-only tools only."""

    def __getitem__(self, name: str) -> Agent:
        return self.by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)


def offered_tools() -> tuple[tuple[str, ...], frozenset[str]]:
    """All tools by name, and those that change nothing and reach nothing outside this machine."""
    from orchestrator.tools.registry import TOOLS  # noqa: PLC0415 - only this function needs the tools

    harmless = (
        name for name, tool in TOOLS.items() if tool.effects.is_read_only and not tool.effects.network
    )
    return tuple(TOOLS), frozenset(harmless)


def load_agents(root: Path, tool_names: Collection[str], read_only_tools: frozenset[str]) -> Agents:
    """All specialists of a workspace; raises ConfigError with every problem of every file."""
    agents = AgentFolder(root, tool_names, read_only_tools).survey()
    if agents.problems:
        raise ConfigError(list(agents.problems))
    return agents


class AgentFolder:
    """The agent files of a workspace, read again whenever one of them changed."""

    def __init__(self, root: Path, tool_names: Collection[str], read_only_tools: frozenset[str]) -> None:
        self._root = root
        self._copies = root / GOOD_COPIES
        self._tools = tuple(tool_names)
        self._read_only_tools = read_only_tools
        self._good: dict[Path, AgentFile] = {}
        self._seen: tuple[bool, Signature] | None = None
        self._agents: Agents | None = None

    def current(self) -> Agents:
        """The specialists as the files say now, with last good versions in place of broken files.

        Raises ConfigError when a file is broken that never was good, but only at the first call: a
        session that is under way goes on without that agent and shows the problem.
        """
        is_first = self._agents is None
        seen = (is_trusted(self._root), self._signature())
        if self._agents is None or seen != self._seen:
            agents = self.survey(keep=True)
            if is_first and agents.lost:
                raise ConfigError(list(agents.problems))
            self._agents, self._seen = agents, seen
        return self._agents

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was wrong when `current` read the files last."""
        return self._agents.problems if self._agents else ()

    def survey(self, *, keep: bool = False) -> Agents:
        """Read everything now; never raises for a broken file of the workspace.

        With `keep`, last good versions stand in for broken files, and good files are kept as such.
        """
        trusted = is_trusted(self._root)
        before = self._signature()
        builtins = [read_agent(path, is_builtin=True) for path in agent_paths(builtin_folder("agents"))]
        resolver = Resolver(builtins, self._tools, None if trusted else self._read_only_tools)
        paths = self._paths()
        files, problems = _read(paths)
        broken = {path.stem for path in problems}
        problems |= resolver.problems(files.values(), broken)
        fine = {path: file for path, file in files.items() if path not in problems}
        standing = dict(fine)
        if keep:
            standing |= {path: good for path in problems if (good := self._last_good(path, trusted))}
        agents, origins, dropped = resolver.resolve(standing)
        lost = [path for path in paths if path not in standing or path in dropped]
        for path in lost:
            # The built-in agent of that name would have other tools than this file meant to give it.
            agents.pop(files[path].name if path in files else path.stem, None)
        if keep:
            self._good |= fine
            if trusted and before == self._signature():
                self._save(fine, paths)
        found = tuple(sorted(problem for several in problems.values() for problem in several))
        return Agents(agents, origins, found, tuple(lost), bool(paths) and not trusted)

    def _paths(self) -> list[Path]:
        folder = self._root / "agents"
        return [] if folder.resolve() == builtin_folder("agents").resolve() else agent_paths(folder)

    def _signature(self) -> Signature:
        marks = []
        for path in (*agent_paths(builtin_folder("agents")), *self._paths()):
            with suppress(OSError):
                status = path.stat()
                marks.append((str(path), status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(marks)

    def _last_good(self, path: Path, trusted: bool) -> AgentFile | None:
        if path in self._good or not trusted:
            return self._good.get(path)
        try:
            return read_agent(self._copies / path.name, stands_for=path)
        except ConfigError:
            return None

    def _save(self, fine: Mapping[Path, AgentFile], paths: list[Path]) -> None:
        """Keep copies of the good files; a folder that cannot be written just has none."""
        with suppress(OSError):
            if fine:
                self._copies.mkdir(parents=True, exist_ok=True)
            for path, copy in ((path, self._copies / path.name) for path in fine):
                content = path.read_bytes()
                if not copy.is_file() or copy.read_bytes() != content:
                    write_whole(copy, content)
            if self._copies.is_dir():
                names = {path.name for path in paths}
                for copy in [copy for copy in self._copies.iterdir() if copy.name not in names]:
                    copy.unlink()


def _read(paths: list[Path]) -> tuple[dict[Path, AgentFile], dict[Path, list[Problem]]]:
    """Read each file by itself; a name that two files give is a problem of the second."""
    files: dict[Path, AgentFile] = {}
    problems: dict[Path, list[Problem]] = {}
    taken: dict[str, AgentFile] = {}
    for path in paths:
        try:
            file = read_agent(path)
        except ConfigError as error:
            problems[path] = error.problems
            continue
        if first := taken.get(file.name):
            text = f"the name '{file.name}' is taken by {first.document.file}; each agent needs its own"
            problems[path] = [file.document.problem(("name",), text)]
            continue
        taken[file.name] = files[path] = file
    return files, problems
