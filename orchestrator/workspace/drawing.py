"""Draw the graphs as they are wired, for the README and for whoever wants to look.

`python -m orchestrator.workspace.drawing` prints the picture as Mermaid; a test keeps the README's true.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from orchestrator.workspace.assembly import graph_file
from orchestrator.workspace.folders import builtin_folder

Edge = tuple[str, str]
_ENDS = {"__start__": "START", "__end__": "END"}


def builtin_agents() -> list[str]:
    """Names of the specialists that come with orc."""
    return sorted(path.stem for path in builtin_folder("agents").glob("*.md"))


def edges() -> set[Edge]:
    """Edges of the compiled main graph with the built-in specialists, START and END included."""
    root = Path(sys.prefix)
    compiled = graph_file(root, "main").build(builtin_agents(), graph_file(root, "specialist").build())
    return {(_named(edge.source), _named(edge.target)) for edge in compiled.get_graph().edges}


def specialist_edges() -> set[Edge]:
    """Edges of the graph that every specialist works in."""
    compiled = graph_file(Path(sys.prefix), "specialist").build()
    return {(_named(edge.source), _named(edge.target)) for edge in compiled.get_graph().edges}


def mermaid() -> str:
    """Both graphs as one Mermaid flowchart; the same text whenever the wiring is the same."""
    lines = ["flowchart TD", *_lines(edges(), "")]
    lines += ["  subgraph specialist [inside each specialist]", "    direction TB"]
    lines += [f"  {line}" for line in _lines(specialist_edges(), "s_")]
    return "\n".join([*lines, "  end"])


def _named(node: str) -> str:
    return _ENDS.get(node, node)


def _lines(drawn: Iterable[Edge], prefix: str) -> list[str]:
    return [f"  {_node(source, prefix)} --> {_node(target, prefix)}" for source, target in _ordered(drawn)]


def _node(name: str, prefix: str) -> str:
    """`end` and `start` in any case are words of Mermaid, so nodes get other ids and keep their names."""
    if name in _ENDS.values():
        return f"{prefix}{'begin' if name == 'START' else 'finish'}(({name}))"
    return f"{prefix}{name}[{name}]" if prefix else name


def _ordered(drawn: Iterable[Edge]) -> list[Edge]:
    """Edges in the order in which one meets their sources from START on."""
    left, seen, order = sorted(drawn), ["START"], []
    for source in seen:
        for edge in [edge for edge in left if edge[0] == source]:
            order.append(edge)
            if edge[1] not in seen:
                seen.append(edge[1])
    return order


if __name__ == "__main__":
    sys.stdout.write(mermaid() + "\n")
