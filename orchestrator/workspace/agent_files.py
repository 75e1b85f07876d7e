"""Agent files, each by itself: which ones there are, and what one says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from orchestrator.agents import AgentSettings
from orchestrator.documents import Document, read_front_matter, read_yaml, shown, validate
from orchestrator.errors import ConfigError, Problem

ENDINGS = frozenset({".md", ".yaml", ".yml"})
RESERVED = frozenset({"none", "recall", "router", "planner", "estimate", "review", "answer"})
"""`none` is the route of a plain answer."""
NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")


@dataclass(frozen=True)
class AgentFile:
    """One agent file that is right in itself."""

    path: Path
    """The file that it stands for; a last good copy stands for the file that broke."""
    document: Document
    settings: AgentSettings
    prompt: str
    is_builtin: bool

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.settings.name or self.path.stem


def agent_paths(folder: Path) -> list[Path]:
    """The agent files of a folder, by name; none when it is not there. Raises ConfigError."""
    try:
        paths = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        text = f"cannot be read: {error.strerror}"
        raise ConfigError([Problem(shown(folder), 0, 0, "", text)]) from None
    return [
        path
        for path in paths
        if path.suffix in ENDINGS and path.name[0] not in ".#" and path.stem.lower() != "readme"
    ]


def read_agent(path: Path, *, is_builtin: bool = False, stands_for: Path | None = None) -> AgentFile:
    """Read one agent file; raises ConfigError with all of its problems."""
    document = read_front_matter(path) if path.suffix == ".md" else read_yaml(path)
    settings = validate(document, AgentSettings)
    file = AgentFile(
        path=stands_for or path,
        document=document,
        settings=settings,
        prompt=document.body or (settings.prompt or "").strip(),
        is_builtin=is_builtin,
    )
    if problems := _own_problems(file):
        raise ConfigError(problems)
    return file


def _own_problems(file: AgentFile) -> list[Problem]:
    document, settings = file.document, file.settings
    problems = []
    if settings.name is None and not NAME.fullmatch(file.name):
        text = f"the file's name '{file.name}' is no agent name; use a-z, 0-9 and -, or set `name:`"
        problems.append(document.problem((), text))
    if file.name in RESERVED:
        problems.append(document.problem(("name",), f"the name '{file.name}' is reserved; choose another"))
    if document.body and settings.prompt is not None:
        text = "the prompt is also below the second `---`; keep one of the two"
        problems.append(document.problem(("prompt",), text, at_key=True))
    if not file.prompt and settings.extends is None:
        where = "below the second `---`" if file.path.suffix == ".md" else "as `prompt: |`"
        problems.append(document.problem((), f"has no prompt; write one {where}"))
    return problems
