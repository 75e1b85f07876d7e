"""The commands that README and docs show are commands that work."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from desk import Desk
from scripted import Call, Reply, Request, Say

ROOT = Path(__file__).parents[1]
PROBE = "r-7f3a"
"""The run that the texts speak of."""


pytestmark = pytest.mark.timeout(240)


def commands(name: str) -> list[list[str]]:
    """The `orc` lines of a text's code blocks, without their comments."""
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / name).read_text("utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("orc ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def obliging(request: Request) -> Reply:
    """A model that looks once and then says that it could not do it."""
    if request.wants not in {"action", "text"}:
        return Call("list_files")
    is_first = not any(message["role"] == "tool" for message in request["messages"])
    return Call("run_command", command="touch done") if is_first else Say("not possible: nothing is here")


def run_all(desk: Desk, name: str) -> None:
    desk.orc("init", ".")
    with desk.model(obliging):
        first = desk.orc("run", "@coder write a")
        run = re.search(r"r-\w+", first.err)
        assert run, first.err
        for words in commands(name):
            done = desk.orc(*(word.replace(PROBE, run[0]) for word in words))
            works = done.code in {0, 1} or "no run here is waiting to go on" in done.err
            assert works, f"orc {shlex.join(words)}: {done.err}"
            assert "Traceback" not in done.err, f"orc {shlex.join(words)}: {done.err}"


def test_the_commands_of_the_readme_work(desk: Desk) -> None:
    assert len(commands("README.md")) > 10
    run_all(desk, "README.md")


def test_the_commands_on_runs_work(desk: Desk) -> None:
    assert len(commands("docs/runs.md")) > 20
    run_all(desk, "docs/runs.md")
