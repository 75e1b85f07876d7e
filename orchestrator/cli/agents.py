"""`orc agents`: list, check, make and show specialists."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from orchestrator.agents import Agent
    from orchestrator.workspace.specialists import Agents

EXAMPLES = """\b
Examples:
  orc agents list
  orc agents new dba --description "Finds out why queries are slow." --extends sysadmin
  orc agents check
  orc agents show dba
"""


@click.group(epilog=EXAMPLES)
@click.pass_context
def agents(ctx: click.Context) -> None:
    """List, check, make and show specialists.

    A specialist is one file in the folder agents/ of the workspace: settings between two lines `---`,
    the prompt below them.
    """
    plain_when_asked(ctx)


def plain_when_asked(ctx: click.Context) -> None:
    """Honour NO_COLOR (https://no-color.org) in all that the command prints."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False


@agents.command(
    "list", epilog="\b\nExamples:\n  orc agents list\n  orc agents list --json | jq -r '.[].name'\n"
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_agents(as_json: bool) -> None:
    """List the specialists of this workspace, the built-in ones included."""
    found = _survey()
    rows = [_row(agent, found) for agent in found.values()]
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        columns = ("name", "model", "tools", "source", "trusted", "description")
        print_table(columns, [[_cell(row[column]) for column in columns] for row in rows])
    for problem in found.problems:
        click.echo(f"{click.style('warning:', fg='yellow')} {problem}", err=True)
    if found.needs_trust:
        click.echo(
            "This folder's agents have read-only tools only: look at their files, then `orc trust`.", err=True
        )


def _survey() -> Agents:
    from orchestrator.workspace.folders import nearest_workspace  # noqa: PLC0415
    from orchestrator.workspace.specialists import AgentFolder, offered_tools  # noqa: PLC0415

    return AgentFolder(nearest_workspace(Path.cwd()), *offered_tools()).survey()


def _row(agent: Agent, found: Agents) -> dict[str, Any]:
    from orchestrator.documents import shown  # noqa: PLC0415

    return {
        "name": agent.name,
        "model": agent.model,
        "tools": len(agent.tools),
        "source": "built-in" if agent.is_builtin else str(shown(agent.source)),
        "trusted": agent.is_builtin or not found.needs_trust,
        "description": agent.description,
    }


def _cell(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal; in a pipe one line for each row, cells parted by tabs, no heading."""
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(" ".join(cell.split()) for cell in row))
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


@agents.command(epilog="\b\nExamples:\n  orc agents check\n  orc agents check && git commit\n")
def check() -> None:
    """Check every agent file; exit 2 with one line for each problem."""
    from orchestrator.workspace.agent_files import agent_paths  # noqa: PLC0415
    from orchestrator.workspace.folders import builtin_folder, nearest_workspace  # noqa: PLC0415

    found = _survey()
    if found.problems:
        raise ConfigError(list(found.problems))
    folder = nearest_workspace(Path.cwd()) / "agents"
    paths = {path.resolve() for path in (*agent_paths(folder), *agent_paths(builtin_folder("agents")))}
    click.echo(f"{len(paths)} agent files, no problems")


NEW_MARKDOWN = """\
---
description: {description}
{extends}# tools: [read_file, search_files, run_command]   # all tools when left out
# model: default                                   # fast, default or strong
routing:
  # Requests as you would write them; ten or more make the router sure.
  examples: []
  keywords: []
---
{prompt}
"""
NEW_YAML = """\
description: {description}
{extends}# tools: [read_file, search_files, run_command]   # all tools when left out
# model: default                                   # fast, default or strong
routing:
  # Requests as you would write them; ten or more make the router sure.
  examples: []
  keywords: []
prompt: |
  {prompt}
"""


@agents.command(
    epilog='\b\nExamples:\n  orc agents new dba --description "Finds out why queries are slow."\n'
    '  orc agents new reviewer --extends coder --description "Reviews a change, edits nothing."\n'
)
@click.argument("name")
@click.option("--description", default="", help="One sentence; router and planner read it.")
@click.option("--extends", default="", metavar="AGENT", help="Take over what the new file does not say.")
@click.option("--yaml", "as_yaml", is_flag=True, help="Write agents/NAME.yaml instead of Markdown.")
def new(name: str, description: str, extends: str, as_yaml: bool) -> None:
    """Write agents/NAME.md, a specialist to start from; never overwrites one."""
    from orchestrator.documents import shown  # noqa: PLC0415
    from orchestrator.workspace.agent_files import NAME, RESERVED, agent_paths  # noqa: PLC0415
    from orchestrator.workspace.folders import nearest_workspace  # noqa: PLC0415
    from orchestrator.workspace.trust import trust  # noqa: PLC0415

    if not NAME.fullmatch(name) or name in RESERVED:
        raise UsageError(f"'{name}' cannot be an agent's name; use a-z, 0-9 and -, starting with a letter")
    found = _survey()
    if extends and extends not in found:
        raise UsageError(f"there is no agent '{extends}' to extend; there are {', '.join(found)}")
    root = nearest_workspace(Path.cwd())
    folder = root / "agents"
    if taken := [path for path in agent_paths(folder) if path.stem == name]:
        raise UsageError(f"{shown(taken[0])} is there already; edit it, or choose another name")
    is_first = not agent_paths(folder)
    description = " ".join(description.split()) or f"Describe in one sentence what {name} does."
    text = (NEW_YAML if as_yaml else NEW_MARKDOWN).format(
        description=json.dumps(description, ensure_ascii=False),
        extends=f"extends: {extends}\n" if extends else "",
        prompt=f"You are {name}. {description}",
    )
    path = folder / f"{name}{'.yaml' if as_yaml else '.md'}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{shown(path)} cannot be written: {error.strerror}") from None
    if is_first:
        trust(root)  # all that is in the folder comes from this command
    click.echo(f"{shown(path)} written; add examples for the router, then `orc agents check`")


@agents.command(epilog="\b\nExamples:\n  orc agents show coder\n  orc agents show dba --json\n")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(name: str, as_json: bool) -> None:
    """Show what holds for one specialist, where each value comes from, and its prompt."""
    found = _survey()
    if name not in found:
        wrong = "\n".join(str(problem) for problem in found.problems)
        raise UsageError(
            f"there is no agent '{name}'; there are {', '.join(found)}" + (f"\n{wrong}" if wrong else "")
        )
    agent, origins = found[name], found.origins[name]
    values = agent.model_dump(mode="json", exclude={"prompt"})
    if as_json:
        whole = {**values, "prompt": agent.prompt, "origins": dict(origins)}
        click.echo(json.dumps(whole, indent=2, ensure_ascii=False))
        return
    routing = agent.routing
    values["tools"] = ", ".join(agent.tools)
    values["hosts"] = ", ".join(agent.hosts)
    values["routing"] = f"{len(routing.examples)} examples, {len(routing.keywords)} keywords"
    limits = values.pop("limits") or {}
    values |= {f"limits.{key}": limits[key] for key in limits if f"limits.{key}" in origins}
    rows = [
        [key, _cell(values[key]), origins.get(key, "")]
        for key in values
        if key not in {"source", "is_builtin"}
    ]
    print_table(("key", "value", "from"), rows)
    click.echo(f"\n{agent.prompt}")
