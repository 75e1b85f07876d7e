"""`orc config`, `orc schema` and `orc trust`: what holds here, what may be said, and whom to believe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.agents import plain_when_asked, print_table
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

DIALECT = "https://json-schema.org/draft/2020-12/schema"


@click.group(epilog="\b\nExamples:\n  orc config show\n  orc config show --origin\n")
@click.pass_context
def config(ctx: click.Context) -> None:
    """Show the settings and where they come from."""
    plain_when_asked(ctx)


@config.command(
    epilog="\b\nExamples:\n  orc config show\n  orc config show --origin\n  orc config show --json\n"
)
@click.option("--origin", is_flag=True, help="Add the file and line that each value comes from.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(origin: bool, as_json: bool) -> None:
    """Show the settings that hold in this workspace."""
    from orchestrator.workspace.folders import nearest_workspace  # noqa: PLC0415
    from orchestrator.workspace.layers import read_layers  # noqa: PLC0415

    layers = read_layers(nearest_workspace(Path.cwd()))
    values = layers.settings.model_dump(mode="json")
    if as_json:
        click.echo(
            json.dumps({"settings": values, "origins": dict(layers.origins)} if origin else values, indent=2)
        )
        return
    rows = [[key, value, layers.origins.get(key, "default")] for key, value in _flat(values, "")]
    if origin:
        print_table(("key", "value", "from"), rows)
    else:
        print_table(("key", "value"), [row[:2] for row in rows])


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Dotted keys and values of nested settings."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else key)
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@click.command(
    epilog="\b\nExamples:\n  orc schema agent > agent.schema.json\n  orc schema settings\n"
    "  orc schema events > events.schema.json\n"
)
@click.argument("kind", type=click.Choice(["agent", "settings", "events"]))
def schema(kind: str) -> None:
    """Print the JSON Schema of a file, or of a line of the log, for editors and for checks elsewhere."""
    if kind == "events":
        from orchestrator.kinds import schema as of_events  # noqa: PLC0415

        printed = {"$schema": DIALECT, **of_events()}
        click.echo(json.dumps(printed, indent=2, ensure_ascii=False))
        return
    from orchestrator.agents import AgentSettings  # noqa: PLC0415
    from orchestrator.settings import Settings  # noqa: PLC0415

    model: type[BaseModel] = AgentSettings if kind == "agent" else Settings
    printed = {"$schema": DIALECT, **model.model_json_schema()}
    texts = _field_texts()
    for name, part in {**printed.get("$defs", {}), model.__name__: printed}.items():
        for key, field in part.get("properties", {}).items():
            if text := texts.get((name, key)):
                field.setdefault("description", text)
    click.echo(json.dumps(printed, indent=2, ensure_ascii=False))


def _field_texts() -> dict[tuple[str, str], str]:
    """The strings below the fields, by class and field.

    Pydantic can collect them itself, but it does so at import, which costs every command 35 ms.
    """
    import ast  # noqa: PLC0415

    from orchestrator import agents, settings  # noqa: PLC0415

    texts = {}
    for source in (agents.__file__, settings.__file__):
        tree = ast.parse(Path(source or "").read_text("utf-8"))
        for holder in [node for node in tree.body if isinstance(node, ast.ClassDef)]:
            for field, below in zip(holder.body, holder.body[1:], strict=False):
                match field, below:
                    case ast.AnnAssign(target=ast.Name(id=key)), ast.Expr(
                        value=ast.Constant(value=str(text))
                    ):
                        texts[holder.name, key] = " ".join(text.split())
    return texts


@click.command(
    epilog="\b\nExamples:\n  orc trust\n  orc trust ~/work/shop\n  orc trust --revoke\n  orc trust --list\n"
)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--revoke", is_flag=True, help="Stop trusting the folder.")
@click.option("--list", "as_list", is_flag=True, help="List the folders that you trust.")
def trust(folder: Path | None, revoke: bool, as_list: bool) -> None:
    """Trust a folder's agent files and settings, or stop trusting them.

    Until you trust a folder, its agents have read-only tools, and its settings cannot choose where
    requests and keys go. FOLDER is the workspace around the current folder when left out.
    """
    from orchestrator.workspace.folders import nearest_workspace  # noqa: PLC0415
    from orchestrator.workspace.trust import distrust, trusted_folders  # noqa: PLC0415
    from orchestrator.workspace.trust import trust as add  # noqa: PLC0415

    if as_list:
        for path, since in sorted(trusted_folders().items()):
            click.echo(f"{path}\t{since}")
        return
    root = folder.resolve() if folder else nearest_workspace(Path.cwd())
    if revoke:
        distrust(root)
        click.echo(f"{root} is no longer trusted")
        return
    if not root.is_dir():
        raise UsageError(f"{root} is no folder; name the one that holds orchestrator.yaml or agents/")
    add(root)
    click.echo(f"{root} is trusted; undo it with `orc trust --revoke`")
