"""`orc policy`: what the policy says of a command, whether its rules hold, and what it would say today."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.agents import plain_when_asked
from orchestrator.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from orchestrator.safety.alone import Opinion
    from orchestrator.safety.rejudging import Flip
    from orchestrator.safety.rulebook import Book

_COLORS = {"allow": "green", "allow_with_snapshot": "green", "review": "cyan", "ask": "yellow", "deny": "red"}
_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
LONGEST_LINE = 16 * 1024 * 1024
"""Bytes of one line of input that are read; the rest of a longer one is skipped."""


@click.group(epilog='\b\nExamples:\n  orc policy check "rm -rf build"\n  orc policy rejudge --since 30d\n')
@click.pass_context
def policy(ctx: click.Context) -> None:
    """Explain, test and re-judge what commands may do."""
    plain_when_asked(ctx)


@policy.command(
    epilog='\b\nExamples:\n  orc policy check "git push --force"\n  orc policy check --json "rm -rf build"\n'
    "  orc policy check - < commands.jsonl\n"
)
@click.argument("command")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--cwd", help="Folder in which it would run; the workspace when left out.")
def check(command: str, as_json: bool, cwd: str | None) -> None:
    """Say what the policy thinks of COMMAND, and why; nothing is run.

    The verdict is on the command alone, as if there were no sandbox and no snapshot. With `-` as COMMAND,
    read one JSON object a line with `cmd` and, if wanted, `workspace`, `cwd` and `home`, and print one
    verdict a line; a line that cannot be judged gets `ask` and an `error`.
    """
    from orchestrator.safety.alone import opinion  # noqa: PLC0415
    from orchestrator.safety.policy_file import load_book  # noqa: PLC0415
    from orchestrator.safety.words import Scene  # noqa: PLC0415
    from orchestrator.workspace.folders import nearest_workspace  # noqa: PLC0415

    root = nearest_workspace(Path.cwd())
    book = load_book(root)
    if command == "-":
        for verdict in _verdicts(_lines(), root, book):
            click.echo(json.dumps(verdict))
        return
    folder = str(root / cwd) if cwd else str(root)
    found = opinion(command, Scene(str(root), str(Path.home()), folder), book)
    click.echo(json.dumps(found.as_json(), indent=2) if as_json else _explained(found))


def _lines() -> Iterator[bytes]:
    """The lines of the input, as bytes; the rest of one that is too long is skipped."""
    stream = sys.stdin.buffer
    while line := stream.readline(LONGEST_LINE):
        if not line.endswith(b"\n") and len(line) == LONGEST_LINE:
            while (rest := stream.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
        yield line


def _verdicts(lines: Iterator[bytes], root: Path, book: Book) -> Iterator[dict[str, Any]]:
    from orchestrator.safety.alone import failed  # noqa: PLC0415

    for line in lines:
        try:
            asked = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield failed(f"the line is not JSON: {type(error).__name__}").as_json()
            continue
        yield _verdict(asked, root, book).as_json()


def _verdict(asked: Any, root: Path, book: Book) -> Opinion:
    from orchestrator.safety.alone import failed, opinion  # noqa: PLC0415
    from orchestrator.safety.words import Scene  # noqa: PLC0415

    if not isinstance(asked, dict) or not isinstance(asked.get("cmd"), str):
        return failed("the line must be an object with a text under `cmd`")
    workspace = asked.get("workspace", str(root))
    home, cwd = asked.get("home", str(Path.home())), asked.get("cwd", workspace)
    if not (isinstance(workspace, str) and isinstance(home, str) and isinstance(cwd, str)):
        return failed("`workspace`, `cwd` and `home` must be texts")
    if not workspace.startswith("/") or "\0" in workspace + home + cwd:
        return failed("`workspace` must be an absolute path")
    folder = cwd if cwd.startswith("/") else f"{workspace}/{cwd}"
    return opinion(asked["cmd"], Scene(workspace, home, folder), book)


def _explained(found: Opinion) -> str:
    """A verdict for the screen: the decision, then every finding with its command, target and scope."""
    from orchestrator.safety.verdict import Level, spelt  # noqa: PLC0415

    lines = [
        f"{click.style(found.decision, fg=_COLORS[found.decision], bold=True)}: {found.why} [{found.rule}]"
    ]
    for item in sorted(found.findings, key=lambda item: -item.level):
        if item.level is Level.ALLOW:
            continue
        lines.append(f"  {spelt(item.level)}: {item.why} [{item.rule}]")
        if item.subject:
            lines.append(f"      command: {item.subject}")
        if item.target:
            lines.append(f"      target:  {item.target} ({item.scope})")
    if found.confined != found.decision:
        lines.append(f"  in the sandbox, with snapshots: {found.confined}")
    return "\n".join(lines)


@policy.command(epilog="\b\nExamples:\n  orc policy test\n")
def test() -> None:
    """Try every rule on its own examples; exit 1 with file, line and rule where one comes out wrong."""
    from orchestrator.safety.policy_file import load_book  # noqa: PLC0415
    from orchestrator.safety.rulebook import FOLDER, builtin, check_rules  # noqa: PLC0415
    from orchestrator.workspace.folders import nearest_workspace  # noqa: PLC0415

    problems = []
    for wrong in check_rules(builtin()):
        for file in sorted(FOLDER.glob("*.yaml")):
            lines = file.read_text("utf-8").splitlines()
            if f"- id: {wrong.rule.id}" in lines:
                line = lines.index(f"- id: {wrong.rule.id}") + 1
                problems.append(f"{file}:{line}:3: {wrong.rule.id}: {wrong.text}")
    try:
        book = load_book(nearest_workspace(Path.cwd()))
    except ConfigError as error:
        problems += [str(problem) for problem in error.problems]
        book = builtin()
    for problem in problems:
        click.echo(problem, err=True)
    count = sum(len(rule.match) + len(rule.not_match) for rule in book.rules)
    click.echo(f"{len(book.rules)} rules, {count} examples, {len(problems)} wrong")
    if problems:
        sys.exit(1)


@policy.command(
    epilog="\b\nExamples:\n  orc policy rejudge --since 30d\n  orc policy rejudge --since 12h --check\n"
)
@click.option("--since", default="30d", show_default=True, help="How far back, such as 45m, 12h, 30d or 4w.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a flip.")
@click.option("--check", "checks", is_flag=True, help="Exit 1 when a call is judged more loosely now.")
def rejudge(since: str, as_json: bool, checks: bool) -> None:
    """Judge the recorded calls again with today's policy and list those that come out otherwise."""
    from orchestrator.storage import opened_state, state_path  # noqa: PLC0415
    from orchestrator.workspace.folders import nearest_workspace  # noqa: PLC0415

    match = re.fullmatch(r"(\d{1,6})([mhdw])", since)
    if not match:
        raise UsageError(f"--since {since!r} is no time span; write a number and m, h, d or w, such as 30d")
    root = nearest_workspace(Path.cwd())
    if not state_path(root).exists():
        click.echo("no runs here yet, so there is nothing to judge again", err=True)
        return
    with opened_state(root) as connection:
        count, found = _rejudged(connection, root, time.time() - int(match[1]) * _UNITS[match[2]])
    for flip in found:
        click.echo(json.dumps(_plain(flip)) if as_json else _flip_line(flip))
    looser = sum(flip.is_looser for flip in found)
    click.echo(f"{count} calls: {looser} looser, {len(found) - looser} stricter", err=True)
    if checks and looser:
        sys.exit(1)


def _rejudged(connection: Any, root: Path, since: float) -> tuple[int, list[Flip]]:
    from orchestrator.reach import allowed  # noqa: PLC0415
    from orchestrator.safety.policy import Policy  # noqa: PLC0415
    from orchestrator.safety.rejudging import flips, recorded  # noqa: PLC0415
    from orchestrator.sandbox.detect import detect  # noqa: PLC0415
    from orchestrator.tools.registry import TOOLS  # noqa: PLC0415
    from orchestrator.workspace.loading import load  # noqa: PLC0415

    loaded = load(root)
    calls = list(recorded(connection, since))
    wanted = loaded.settings.sandbox
    judge = Policy(root, Path.home(), detect(wanted), loaded.book)
    effects = {name: tool.effects for name, tool in TOOLS.items() if tool.effects}
    approvals = {name: agent.approval for name, agent in loaded.agents.items()}
    gated = loaded.agents.items() if judge.sandbox.has_gate else ()
    hosts = {name: allowed(agent.hosts, wanted.hosts) for name, agent in gated}
    return len(calls), list(flips(calls, judge, effects, approvals, hosts))


def _plain(flip: Flip) -> dict[str, Any]:
    then = flip.then
    return {
        "run": then.run,
        "at": then.at,
        "agent": then.agent,
        "tool": then.tool,
        "arguments": dict(then.arguments),
        "then": {"decision": then.decision, "rule": then.rule},
        "now": {"decision": flip.decision, "rule": flip.rule, "why": flip.why},
        "flip": "looser" if flip.is_looser else "stricter",
    }


def _flip_line(flip: Flip) -> str:
    from orchestrator.safety.verdict import printable  # noqa: PLC0415

    then = flip.then
    word = click.style("looser", fg="red") if flip.is_looser else click.style("stricter", fg="green")
    shown = printable(" ".join(str(value) for value in then.arguments.values()), 80)
    change = f"{then.decision} [{then.rule}] → {flip.decision} [{flip.rule}]"
    return f"{word}  {then.run}  {then.tool} {shown}\n    {change}: {flip.why}"
