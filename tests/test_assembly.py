"""Runs share what is wired alike, and nothing else: not the saver, not a workspace's own graph."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from desk import Desk
from scripted import Request, Say

from orchestrator.checkpoints import saver_of
from orchestrator.session import Options, Session
from orchestrator.storage import open_state
from orchestrator.workspace import assembly
from orchestrator.workspace.folders import builtin_folder
from orchestrator.workspace.loading import load
from orchestrator.workspace.trust import trust


def test_the_wiring_is_shared_and_the_saver_is_not(desk: Desk, tmp_path: Path) -> None:
    graphs, savers = [], []
    for name in ("one", "two"):
        open_state(tmp_path / name).close()
        savers.append(saver_of(tmp_path / name))
        graphs.append(assembly.graph(tmp_path / name, load(desk.root).agents, savers[-1]))
    assert graphs[0].nodes is graphs[1].nodes
    assert [each.checkpointer for each in graphs] == savers
    for saver in savers:
        saver.close()


def test_other_specialists_are_wired_otherwise(desk: Desk) -> None:
    before = assembly.graph(desk.root, load(desk.root).agents, None)
    desk.write("agents/dba.md", "---\ndescription: databases\nextends: coder\n---\nYou know databases.\n")
    after = assembly.graph(desk.root, load(desk.root).agents, None)
    assert set(after.nodes) - set(before.nodes) == {"dba"}
    assert "dba" not in assembly.graph(desk.home, {"coder": load(desk.root).agents["coder"]}, None).nodes


def test_a_graph_of_the_workspace_is_built_for_each_run(desk: Desk) -> None:
    shutil.copytree(builtin_folder("graphs"), desk.root / "graphs")
    path = desk.root / "graphs" / "main.py"
    path.write_text(
        path.read_text("utf-8") + "\n\nBUILT = []\n_build = build\n\n\ndef build(agents, *rest):\n"
        "    BUILT.append(agents)\n    return _build(agents, *rest)\n",
        "utf-8",
    )
    trust(desk.root)
    agents = load(desk.root).agents
    for _ in range(2):
        assembly.graph(desk.root, agents, None)
    built = assembly.graph_file(desk.root, "main").BUILT
    assert built == [agents, agents]


def test_runs_side_by_side_keep_their_conversations_apart(desk: Desk) -> None:
    def script(request: Request) -> Say:
        asked = next(m["content"] for m in request["messages"] if m["role"] == "user")
        return Say(f"answer to {asked.split()[-1]}")

    async def work() -> list[str]:
        sessions = [Session(desk.root, Options()) for _ in range(6)]
        outcomes = await asyncio.gather(
            *(session.run(f"@coder say {number}") for number, session in enumerate(sessions))
        )
        return [outcome.answer for outcome in outcomes]

    with desk.model(script):
        assert asyncio.run(work()) == [f"answer to {number}" for number in range(6)]
    assert len({run.id for run in desk.runs()}) == 6
