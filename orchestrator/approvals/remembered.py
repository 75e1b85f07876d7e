"""Calls that a person allowed from now on: this agent, this tool, these very arguments, in this workspace.

They lie in the user's data folder, where no workspace can add one, and hold only while the same rule asks.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from orchestrator.approvals.grants import canonical
from orchestrator.errors import StorageError, UsageError, near
from orchestrator.settings import data_dir

FILE = "approvals.db"
_TABLE = """
create table if not exists rules (
    id integer primary key, workspace text not null, agent text not null, tool text not null,
    arguments text not null, rule text not null, since real not null,
    unique (workspace, agent, tool, arguments, rule)
)
"""
GUARDIAN = "guardian."
"""How the rules of the guardian's model begin: which of them asks may differ from time to time."""


@dataclass(frozen=True)
class Rule:
    """One remembered approval."""

    id: int
    workspace: str
    agent: str
    tool: str
    arguments: str
    """In canonical form."""
    rule: str
    """The policy's rule that asked; another one asks anew."""
    since: float
    """Seconds since the epoch."""

    @property
    def scope(self) -> str:
        """What it covers, in words."""
        return scope(self.agent, self.tool, self.arguments, self.rule)


_NAMES = ", ".join(item.name for item in fields(Rule))


def scope(agent: str, tool: str, arguments: str, rule: str) -> str:
    """What a remembered approval covers, in words."""
    return f"{agent} may use {tool} with {arguments} in this workspace, whenever {rule} asks"


class Remembered:
    """The remembered approvals of one workspace; raises StorageError."""

    def __init__(self, root: Path) -> None:
        self._workspace = str(root.resolve())

    def covering(self, agent: str, tool: str, arguments: Mapping[str, Any], rule: str) -> Rule | None:
        """The remembered approval of a call, for the rule that asks."""
        text = canonical(arguments)
        for each in self.list():
            is_same = (each.agent, each.tool, each.arguments) == (agent, tool, text)
            is_reviewed = each.rule.startswith(GUARDIAN) and rule.startswith(GUARDIAN)
            if is_same and (each.rule == rule or is_reviewed):
                return each
        return None

    def list(self) -> list[Rule]:
        """All of this workspace, oldest first."""
        if not _path().exists():
            return []
        with _opened() as connection:
            found = connection.execute(
                f"select {_NAMES} from rules where workspace=? order by id",  # noqa: S608 - our own names
                (self._workspace,),
            )
            return [Rule(*row) for row in found.fetchall()]

    def add(self, agent: str, tool: str, arguments: Mapping[str, Any], rule: str) -> Rule:
        """Remember a call."""
        text = canonical(arguments)
        with _opened() as connection:
            connection.execute(
                "insert or ignore into rules (workspace, agent, tool, arguments, rule, since)"
                " values (?, ?, ?, ?, ?, ?)",
                (self._workspace, agent, tool, text, rule, time.time()),
            )
        return next(
            each
            for each in self.list()
            if (each.agent, each.tool, each.arguments, each.rule) == (agent, tool, text, rule)
        )

    def forget(self, identifier: int) -> Rule:
        """Take one back; raises UsageError with near matches."""
        rules = {str(rule.id): rule for rule in self.list()}
        if str(identifier) not in rules:
            hint = near(str(identifier), list(rules)) or "; nothing is remembered here"
            raise UsageError(f"no remembered approval {identifier}{hint}")
        with _opened() as connection:
            connection.execute("delete from rules where id=?", (identifier,))
        return rules[str(identifier)]


def _path() -> Path:
    return data_dir() / FILE


@contextmanager
def _opened() -> Iterator[sqlite3.Connection]:
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
            connection.execute(_TABLE)
            yield connection
    except (OSError, sqlite3.Error) as error:
        raise StorageError(
            f"the remembered approvals in {path} cannot be used: {error}; "
            "move the file away to start with none"
        ) from None
