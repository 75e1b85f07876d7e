"""`orc evals`: run a suite of tasks, list the suites, check their files."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.agents import plain_when_asked, print_table
from orchestrator.errors import ConfigError, Interrupted, Problem, UsageError, WeightsError

if TYPE_CHECKING:
    from orchestrator.evaluate import Case, Result, Suite, Work
    from orchestrator.settings import Settings

EXAMPLES = """\b
Examples:
  orc evals run
  orc evals run everyday --model embedded --at-least 0.8
  orc evals run everyday --kind answer --keep
  orc evals list
  orc evals check
"""
NOTHING_MEASURED = 3
COLUMNS = ("case", "kind", "passed", "seconds", "model calls", "tool calls", "tokens in", "tokens out")


@click.group(epilog=EXAMPLES)
@click.pass_context
def evals(ctx: click.Context) -> None:
    """Run a suite of tasks and count what passes.

    A suite is a YAML file in the folder evals/ of the workspace, or a built-in one.
    """
    plain_when_asked(ctx)


# --- run


@dataclass
class Measurement:
    """One run of a suite: what is to be done and what is known so far."""

    suite: str
    model: str
    sandbox: str
    cases: Sequence[Case]
    results: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Take a result and show it."""
        self.results.append(result)
        mark = click.style("passed", fg="green") if result.passed else click.style("failed", fg="red")
        count = f"[{len(self.results):>{len(str(len(self.cases)))}}/{len(self.cases)}]"
        click.echo(f"{count} {mark} {result.case} {result.seconds:.1f} s  {_line(result.why)}", err=True)
        if result.workspace:
            click.echo(f"        kept in {result.workspace}", err=True)


@evals.command("run", epilog=EXAMPLES)
@click.argument("suite", default="everyday")
@click.option(
    "--model", metavar="NAME", help="Use this model for all: a name at the endpoint, or `embedded`."
)
@click.option("--case", "ids", metavar="ID", multiple=True, help="Only this case; may be repeated.")
@click.option("--kind", "kinds", metavar="KIND", multiple=True, help="Only this kind; may be repeated.")
@click.option(
    "--at-least",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Exit 1 when a smaller share passes, such as 0.8.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.option("--keep", "keeps", is_flag=True, help="Keep the workspaces of failed cases.")
def run_suite_command(
    suite: str,
    model: str | None,
    ids: tuple[str, ...],
    kinds: tuple[str, ...],
    at_least: float | None,
    as_json: bool,
    keeps: bool,
) -> None:
    """Run the cases of a SUITE, each in a fresh folder with real tools, and count what passes.

    Models, limits, tools and agents are this workspace's. Exit 0 when it ran, 1 below --at-least,
    2 when something is named wrong, 3 when nothing was measured, 130 after Ctrl-C.
    """
    from orchestrator.evaluate import find_suite, load_suite  # noqa: PLC0415
    from orchestrator.workspace.folders import nearest_workspace  # noqa: PLC0415
    from orchestrator.workspace.layers import load_settings  # noqa: PLC0415

    root = nearest_workspace(Path.cwd())
    settings = load_settings(root)
    loaded = load_suite(find_suite(suite, root))
    measurement = Measurement(suite, *_conditions(settings, model), _chosen(loaded, ids, kinds))
    try:
        with _settings_for_every_folder(settings):
            worker = _worker(root, model)
            asyncio.run(_measure(measurement, loaded, settings, worker, model=model, keeps=keeps))
    except (KeyboardInterrupt, asyncio.CancelledError):
        _print(measurement, as_json=as_json)
        raise Interrupted(
            f"stopped after {len(measurement.results)} of {len(measurement.cases)} cases"
        ) from None
    except WeightsError as error:
        click.echo(f"{click.style('error:', fg='red', bold=True)} {error}", err=True)
        sys.exit(NOTHING_MEASURED)
    _print(measurement, as_json=as_json)
    sys.exit(_exit_code(measurement, at_least))


def _conditions(settings: Settings, model: str | None) -> tuple[str, str]:
    """The names of model and sandbox, which a share means little without."""
    from orchestrator.sandbox.detect import detect  # noqa: PLC0415
    from orchestrator.settings import chosen_model  # noqa: PLC0415

    chosen = chosen_model(settings, "default", os.environ, model)
    return chosen.model or f"the model at {chosen.base_url}", detect().name


def _chosen(suite: Suite, ids: Sequence[str], kinds: Sequence[str]) -> list[Case]:
    """The cases that were asked for; raises UsageError for a name that is none."""
    from orchestrator.documents import suggestion  # noqa: PLC0415

    for noun, asked, known in (
        ("case", ids, [case.id for case in suite.cases]),
        ("kind", kinds, _kinds(suite)),
    ):
        for name in asked:
            if name not in known:
                raise UsageError(
                    f"there is no {noun} '{name}'"
                    + (suggestion(name, known) or f"; there are: {_some(known)}")
                )
    cases = [
        case for case in suite.cases if (not ids or case.id in ids) and (not kinds or case.kind in kinds)
    ]
    if not cases:
        raise UsageError("no case is of that kind and has that id")
    return cases


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")


@contextmanager
def _settings_for_every_folder(settings: Settings) -> Iterator[None]:
    """Let this workspace's settings hold in the cases' folders: lay them where the user's own are read.

    A file inside the folders would be seen, counted and perhaps deleted by the tasks.
    """
    before = os.environ.get("ORC_CONFIG_DIR")
    with tempfile.TemporaryDirectory(prefix="orc-eval-settings-") as folder:
        text = settings.model_dump_json(exclude_unset=True)
        (Path(folder) / "orchestrator.yaml").write_text(text, encoding="utf-8")
        os.environ["ORC_CONFIG_DIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["ORC_CONFIG_DIR"]
            else:
                os.environ["ORC_CONFIG_DIR"] = before


async def _measure(
    measurement: Measurement, suite: Suite, settings: Settings, work: Work, *, model: str | None, keeps: bool
) -> None:
    from orchestrator.evaluate import Conditions, ready, run_suite  # noqa: PLC0415
    from orchestrator.sandbox.detect import detect  # noqa: PLC0415
    from orchestrator.settings import chosen_model  # noqa: PLC0415

    count = len(measurement.cases)
    click.echo(f"{measurement.suite}: {count} cases on {measurement.model}", err=True)
    await ready(chosen_model(settings, "default", os.environ, model), lambda text: click.echo(text, err=True))
    conditions = Conditions(work, detect(), seconds=suite.seconds, keeps=keeps)
    await run_suite(measurement.cases, conditions, measurement.add)


def _worker(agents_of: Path, model: str | None) -> Work:
    """What works on a request: a session with a workspace's agents; it approves what lies in its folder."""
    from orchestrator.session import Options, Session  # noqa: PLC0415

    async def work(root: Path, request: str) -> object:
        return await Session(root, Options(approves=True, model=model, agents_of=agents_of)).run(request)

    return work


def _print(measurement: Measurement, *, as_json: bool) -> None:
    from orchestrator.evaluate import figures  # noqa: PLC0415

    summary = figures(measurement.results)
    if as_json:
        whole = {
            "suite": measurement.suite,
            "model": measurement.model,
            "sandbox": measurement.sandbox,
            "asked": len(measurement.cases),
            "summary": asdict(summary),
            "cases": [asdict(result) for result in measurement.results],
        }
        click.echo(json.dumps(whole, indent=2, ensure_ascii=False))
        return
    print_table(COLUMNS, [_row(result) for result in measurement.results])
    click.echo(
        f"passed {summary.passed} of {summary.cases} ({summary.share:.0%}) · "
        f"median {summary.median_seconds:.1f} s · "
        f"tokens {summary.input_tokens:,} in, {summary.output_tokens:,} out · "
        f"{measurement.model}, sandbox {measurement.sandbox}",
        err=True,
    )


def _row(result: Result) -> list[str]:
    return [
        result.case,
        result.kind,
        "yes" if result.passed else "no",
        f"{result.seconds:.1f}",
        str(result.model_calls),
        str(result.tool_calls),
        str(result.input_tokens),
        str(result.output_tokens),
    ]


def _exit_code(measurement: Measurement, at_least: float | None) -> int:
    from orchestrator.evaluate import figures  # noqa: PLC0415

    summary = figures(measurement.results)
    if not summary.measured:
        why = next((result.why for result in measurement.results if result.why), "no case ran")
        click.echo(f"nothing was measured: {why}", err=True)
        return NOTHING_MEASURED
    if at_least is not None and summary.share < at_least:
        click.echo(f"{summary.share:.1%} is less than --at-least {at_least:.1%}", err=True)
        return 1
    return 0


def _line(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:199]}…"


# --- list and check


@evals.command("list", epilog="\b\nExamples:\n  orc evals list\n  orc evals list --json | jq -r '.[].name'\n")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_suites(as_json: bool) -> None:
    """List the suites of this workspace, the built-in ones included."""
    from orchestrator.documents import shown  # noqa: PLC0415

    known = _known()
    suites, problems = _loaded(known)
    rows = [
        (name, len(suite.cases), _kinds(suite), str(shown(known[name])), suite.description)
        for name, suite in suites.items()
    ]
    columns = ("name", "cases", "kinds", "file", "description")
    if as_json:
        listed = [dict(zip(columns, row, strict=True)) for row in rows]
        click.echo(json.dumps(listed, indent=2, ensure_ascii=False))
    else:
        cells = [[name, str(count), ", ".join(kinds), file, text] for name, count, kinds, file, text in rows]
        print_table(columns, cells)
    if problems:
        raise ConfigError(problems)


@evals.command(epilog="\b\nExamples:\n  orc evals check\n  orc evals check evals/mine.yaml\n")
@click.argument("suites", nargs=-1, metavar="[SUITE]…")
def check(suites: tuple[str, ...]) -> None:
    """Check suite files without running a case; exit 2 with one line for each problem."""
    known = _known()
    asked = {name: known.get(name, Path(name)) for name in suites} or known
    found, problems = _loaded(asked)
    if problems:
        raise ConfigError(problems)
    cases = sum(len(suite.cases) for suite in found.values())
    click.echo(f"{len(found)} suites with {cases} cases, no problems")


def _known() -> dict[str, Path]:
    from orchestrator.evaluate import suite_files  # noqa: PLC0415
    from orchestrator.workspace.folders import nearest_workspace  # noqa: PLC0415

    return suite_files(nearest_workspace(Path.cwd()))


def _loaded(paths: Mapping[str, Path]) -> tuple[dict[str, Suite], list[Problem]]:
    """The suites that are right, and the problems of the others."""
    from orchestrator.evaluate import load_suite  # noqa: PLC0415

    suites: dict[str, Suite] = {}
    problems: list[Problem] = []
    for name, path in paths.items():
        try:
            suites[name] = load_suite(path)
        except ConfigError as error:
            problems += error.problems
    return suites, problems


def _kinds(suite: Suite) -> list[str]:
    return list(dict.fromkeys(case.kind for case in suite.cases))
