"""`orc init`: make a folder a workspace."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.errors import UsageError

SETTINGS = """\
# Settings of this workspace. What is not set here comes from your own orchestrator.yaml
# (`orc config show --origin` tells), else from the defaults. All keys: `orc schema settings`.

# models:
#   default:
#     model: gpt-5-mini                      # any OpenAI-compatible endpoint
#     # base_url: http://localhost:11434/v1  # such as Ollama, vLLM or llama-server
#     # api_key_env: OPENAI_API_KEY          # the variable's name, never the key
#   fast:
#     provider: embedded                     # runs in the process, without a key

# limits:                                    # of one turn
#   model_calls: 100
#   tool_calls: 100
#   seconds: 3600
#   usd: 2.00

# tools:
#   docs: [docs, README.md]                  # what search_docs reads
"""


@click.command(epilog="\b\nExamples:\n  orc init\n  orc init ~/work/shop\n")
@click.argument("folder", default=".", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Make a folder a workspace: orchestrator.yaml, agents/, and your trust; overwrites nothing."""
    from orchestrator.workspace.trust import trust  # noqa: PLC0415

    root = folder.resolve()
    try:
        (root / "agents").mkdir(parents=True, exist_ok=True)
        done = ["agents/ is there"]
        done.append(_write_settings(root / "orchestrator.yaml"))
        if (root / ".git").exists():
            done.append(_ignore_runs(root / ".gitignore"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{root} cannot become a workspace: {error}") from None
    trust(root)
    for line in [*done, "the folder is trusted"]:
        click.echo(line)
    click.echo('\nNext: `orc doctor`, then `orc run "…"`; `orc agents new NAME` makes a specialist.')


def _write_settings(path: Path) -> str:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(SETTINGS)
    except FileExistsError:
        return "orchestrator.yaml was there already and stays as it is"
    return "orchestrator.yaml written; everything in it is a comment so far"


def _ignore_runs(path: Path) -> str:
    """Keep `.orc/` out of Git; the file's other lines stay."""
    text = path.read_text("utf-8") if path.exists() else ""
    if {".orc", ".orc/", "/.orc", "/.orc/"} & set(text.splitlines()):
        return ".gitignore names .orc/ already"
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if text and not text.endswith("\n") else "") + ".orc/\n")
    return ".gitignore names .orc/ now"
