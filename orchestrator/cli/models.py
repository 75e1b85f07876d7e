"""`orc models`: which models the tiers use, fetching the embedded one, and trying one for real."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from orchestrator.cli.agents import plain_when_asked, print_table
from orchestrator.errors import Interrupted, ModelError, ModelUnreachable, OrcError, UsageError, WeightsError

if TYPE_CHECKING:
    from orchestrator.llm.base import ToolSpec, Usage
    from orchestrator.llm.fetching import Report
    from orchestrator.settings import ModelSettings, Settings, Tier

EXAMPLES = """\b
Examples:
  orc models list
  orc models pull
  orc models check
  orc models check strong --json
"""


@click.group(epilog=EXAMPLES)
@click.pass_context
def models(ctx: click.Context) -> None:
    """List, fetch and check models.

    A tier (default, fast, strong, guardian) names a model; one that is not set uses `default`. With nothing
    configured all of them use the embedded model, which needs no key.
    """
    plain_when_asked(ctx)


# --- list


@models.command("list", epilog="\b\nExamples:\n  orc models list\n  orc models list --json | jq '.[0]'\n")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_models(as_json: bool) -> None:
    """List the tiers and the model that each one uses."""
    settings = _settings()
    rows = [_row(settings, tier) for tier in _tiers()]
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    columns = ("tier", "provider", "model", "base_url", "tool_calls", "key", "weights")
    print_table(columns, [[_cell(row[column]) for column in columns] for row in rows])
    if any(row["weights"] is False for row in rows):
        click.echo("The weights are fetched with the first request, or now with `orc models pull`.", err=True)


def _row(settings: Settings, tier: Tier) -> dict[str, Any]:
    """One tier; what does not apply to its provider is None."""
    from orchestrator.settings import resolve_model  # noqa: PLC0415

    model = resolve_model(settings, tier, os.environ)
    is_embedded = model.provider == "embedded"
    base_url = None if is_embedded else model.base_url or os.environ.get("OPENAI_BASE_URL") or "default"
    return {
        "tier": tier,
        "is_set": tier in settings.models,
        "provider": model.provider,
        "model": model.model or None,
        "base_url": base_url,
        "tool_calls": model.tool_calls,
        "key": None if is_embedded else bool(os.environ.get(model.api_key_env)),
        "key_env": None if is_embedded else model.api_key_env,
        "weights": _has_weights(model) if is_embedded else None,
    }


def _has_weights(model: ModelSettings) -> bool:
    from orchestrator.llm import weights  # noqa: PLC0415

    if model.model.endswith(".gguf"):
        return weights.is_gguf(Path(model.model).expanduser())
    return weights.find() is not None


def _cell(value: Any) -> str:
    return {None: "-", True: "yes", False: "no"}.get(value, str(value))


def _tiers() -> tuple[Tier, ...]:
    from orchestrator.settings import Tier  # noqa: PLC0415

    tiers: tuple[Tier, ...] = get_args(Tier)
    return ("default", *(tier for tier in tiers if tier != "default"))


def _settings() -> Settings:
    from orchestrator.workspace.folders import nearest_workspace  # noqa: PLC0415
    from orchestrator.workspace.layers import load_settings  # noqa: PLC0415

    return load_settings(nearest_workspace(Path.cwd()))


# --- pull


@models.command(epilog="\b\nExamples:\n  orc models pull\n  ORC_CACHE_DIR=/big/disk orc models pull\n")
def pull() -> None:
    """Fetch the embedded model's weights (1.1 GB); a fetch that was stopped goes on where it was."""
    click.echo(str(_fetched()))


def _fetched() -> Path:
    from orchestrator.llm import weights  # noqa: PLC0415

    try:
        with _progress() as report:
            return weights.pull(report)
    except KeyboardInterrupt:
        raise Interrupted("stopped; what is here is kept, `orc models pull` goes on") from None


def fetch_before_use(model: ModelSettings) -> None:
    """Fetch the weights with a progress bar when this model is the embedded one and they are missing."""
    can_run = importlib.util.find_spec("xllamacpp") is not None
    if model.provider == "embedded" and can_run and not _has_weights(model):
        _fetched()


@contextmanager
def _progress() -> Iterator[Report]:
    """A bar on a terminal, a line per tenth elsewhere; always on stderr."""
    from orchestrator.llm.weights import narrated  # noqa: PLC0415

    if not sys.stderr.isatty():
        yield narrated(lambda line: click.echo(line, err=True))
        return
    from rich import progress  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, progress.TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                for earlier in tasks.values():
                    bar.update(earlier, visible=False)
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield report


# --- check


@dataclass(frozen=True)
class Trial:
    """What came of one tool call in one mode."""

    mode: str
    works: bool
    seconds: float
    tokens_per_second: float | None = None
    reason: str = ""
    """Why it does not work, in a sentence."""


@models.command(epilog="\b\nExamples:\n  orc models check strong\n  orc models check --json | jq .works\n")
@click.argument("tier", default="default")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def check(tier: str, as_json: bool) -> None:
    """Send one real tool call in each mode and say which works; exit 1 when none does.

    TIER is one of default, fast, strong, guardian.
    """
    from orchestrator.settings import resolve_model  # noqa: PLC0415

    known = [name for name in _tiers() if name == tier]
    if not known:
        raise UsageError(f"there is no tier '{tier}'; there are {', '.join(_tiers())}")
    settings = resolve_model(_settings(), known[0], os.environ)
    say: Callable[[str], None] = lambda line: click.echo(line, err=True)  # noqa: E731
    try:
        trials = asyncio.run(_try_both(settings, say))
    except KeyboardInterrupt:
        raise Interrupted("the check was stopped") from None
    works = [trial.mode for trial in trials if trial.works]
    if as_json:
        shown = {"tier": tier, "provider": settings.provider, "model": settings.model or None}
        told = {**shown, "configured": settings.tool_calls, "works": works}
        click.echo(json.dumps({**told, "trials": [asdict(trial) for trial in trials]}, indent=2))
    else:
        _show(trials, settings, works)
    if not works:
        raise ModelError(
            f"{settings.model or settings.provider} made no usable tool call: {trials[-1].reason}"
        )


def _show(trials: list[Trial], settings: ModelSettings, works: list[str]) -> None:
    for trial in trials:
        mark = click.style("works", fg="green") if trial.works else click.style("fails", fg="red")
        speed = f", {trial.tokens_per_second:.0f} tokens/s" if trial.tokens_per_second else ""
        reason = f": {trial.reason}" if trial.reason else ""
        click.echo(f"{trial.mode:<7} {mark}  {trial.seconds:.1f} s{speed}{reason}")
    if works and settings.tool_calls not in works:
        click.echo(f"Set `tool_calls: {works[0]}` for this model in orchestrator.yaml.", err=True)


async def _try_both(settings: ModelSettings, say: Callable[[str], None]) -> list[Trial]:
    """Both modes, unless the model cannot be reached at all."""
    trials: list[Trial] = []
    for mode in ("native", "json"):
        started = time.monotonic()
        try:
            trials.append(await _try(settings.model_copy(update={"tool_calls": mode}), say))
        except WeightsError:
            raise
        except ModelUnreachable as error:
            return [Trial(mode, False, time.monotonic() - started, reason=str(error))]
        except OrcError as error:
            trials.append(Trial(mode, False, time.monotonic() - started, reason=str(error)))
    return trials


async def _try(settings: ModelSettings, say: Callable[[str], None]) -> Trial:
    """Ask for one call whose right arguments are known."""
    from langchain_core.messages import HumanMessage, SystemMessage  # noqa: PLC0415

    from orchestrator.llm.caller import Listeners  # noqa: PLC0415
    from orchestrator.llm.chat import open_model  # noqa: PLC0415

    usages: list[Usage] = []
    started = time.monotonic()
    model = await open_model(settings, listeners=Listeners(on_usage=usages.append, progress=say))
    told = SystemMessage("You act by calling a tool. Answer with exactly one call.")
    asked = HumanMessage("Read lines from the file notes/plan.txt with read_file.")
    answer = await model.act([told, asked], _tools())
    took, speed = time.monotonic() - started, _speed(usages)
    for call in answer.tool_calls:
        if call["name"] == "read_file" and call["args"].get("path") == "notes/plan.txt":
            return Trial(settings.tool_calls, True, took, speed)
    said = [f"{call['name']}({call['args']})" for call in answer.tool_calls] or [str(answer.text)[:80]]
    reason = f"it was to call read_file('notes/plan.txt') and answered {said[0]!r}"
    return Trial(settings.tool_calls, False, took, speed, reason)


def _speed(usages: list[Usage]) -> float | None:
    """Tokens a second while the last answer was written, its prompt's time left out."""
    if not usages or usages[-1].first_token_seconds is None:
        return None
    writing = usages[-1].seconds - usages[-1].first_token_seconds
    return usages[-1].output_tokens / writing if writing > 0 else None


def _tools() -> list[ToolSpec]:
    from pydantic import BaseModel  # noqa: PLC0415

    from orchestrator.llm.base import ToolSpec  # noqa: PLC0415

    class ReadFile(BaseModel):
        path: str

    class Finish(BaseModel):
        answer: str

    return [
        ToolSpec("read_file", "Read a text file.", ReadFile),
        ToolSpec("finish", "End the work with an answer.", Finish),
    ]
