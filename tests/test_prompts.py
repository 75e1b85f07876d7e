"""Assembled prompts are snapshot files, so that a change of a prompt is a diff that can be read.

ORC_SNAPSHOTS=write makes them anew.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from desk import Desk
from scripted import Call, Fill, Reply, Request, Say

SNAPSHOTS = Path(__file__).parent / "snapshots"
SIZES: dict[str, dict[str, Any]] = {
    "large": {},
    "small": {"size": "small", "tool_calls": "json"},
}


def shown(request: Request) -> str:
    """A request as a person reads it."""
    parts = [f"# {m['role']}\n{m['content']}" for m in request["messages"]]
    return "\n\n".join([*parts, f"# tools\n{', '.join(request.tools)}"]) + "\n"


def check(name: str, text: str) -> None:
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("ORC_SNAPSHOTS") == "write":
        path.write_text(text, "utf-8")
    told = f"{path} is out of date: look at the difference, then set ORC_SNAPSHOTS=write"
    assert path.read_text("utf-8") == text, told


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("agent", ["coder", "researcher", "sysadmin"])
def test_the_prompt_of_a_specialist(desk: Desk, agent: str, size: str) -> None:
    desk.write("notes/todo.txt", "x")
    desk.write("main.py", "x = 1\n" * 2000)
    ends: list[Reply] = [Call("finish", answer="ok")] * 4 if size == "small" else [Say("ok")] * 4
    turn = desk.work(f"@{agent} what does main.py do?", ends, model=SIZES[size])
    check(f"{agent}_{size}", shown(turn.requests[0]))


def test_the_prompts_of_router_and_planner(desk: Desk) -> None:
    def script(request: Request) -> Reply:
        if request.wants == "RouteChoice":
            return Fill({"agent": "coder", "why": "scripted"})
        if request.wants == "Draft":
            return Fill({"steps": [{"agent": "coder", "goal": "gnarf it; flurbl it"}]})
        return Say("ok")

    turn = desk.work("1. flurbl it 2. gnarf it", script)
    for name in ("RouteChoice", "Draft"):
        asked = next((request for request in turn.requests if request.wants == name), None)
        assert asked is not None, [request.wants for request in turn.requests]
        check(name.lower(), shown(asked))


def test_the_front_of_a_prompt_does_not_change_within_a_step(desk: Desk) -> None:
    """An endpoint's prompt cache serves what did not change."""
    script = [Call("write_file", path="a", content="1"), Call("list_files"), Say("wrote a")]
    turn = desk.work("@coder write a", script)
    for before, after in zip(turn.requests, turn.requests[1:], strict=False):
        assert after["messages"][: len(before["messages"])] == before["messages"]
        assert after["tools"] == before["tools"]
