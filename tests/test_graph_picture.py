"""The picture in the README shows the graphs as they are wired."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.workspace.drawing import builtin_agents, edges, mermaid, specialist_edges

README = Path(__file__).parents[1] / "README.md"


def pictures() -> list[str]:
    return re.findall(r"```mermaid\n(.*?)\n```", README.read_text("utf-8"), re.DOTALL)


def test_the_readme_holds_the_picture_of_todays_graphs() -> None:
    assert mermaid() in pictures(), (
        "put the output of `python -m orchestrator.workspace.drawing` in README.md"
    )


def test_the_picture_has_exactly_the_edges_of_the_compiled_main_graph() -> None:
    main = mermaid().split("subgraph")[0]
    found = re.findall(r"^\s*(\w+)(?:\(\(\w+\)\))? --> (\w+)", main, re.MULTILINE)
    ends = {"begin": "START", "finish": "END"}
    assert {(ends.get(a, a), ends.get(b, b)) for a, b in found} == edges()
    assert len(found) == len(set(found))


def test_every_call_passes_the_guardian_and_every_specialist_the_review() -> None:
    assert {source for source, target in specialist_edges() if target == "tools"} == {"guardian", "approval"}
    assert {source for source, target in specialist_edges() if target == "approval"} == {"guardian"}
    for agent in builtin_agents():
        assert {target for source, target in edges() if source == agent} == {"review"}
