"""What can be read off shfmt's tree without walking it: words, names, and who calls whom."""

from __future__ import annotations

import re

from orchestrator.safety.syntax import Node

FORK_BOMB = re.compile(r"(:|\b\w{1,30})\s*\(\)\s*\{\s*\1\s*\|\s*\1\s*&?\s*;?\s*\}")
"""As it is often written, without the blanks that a shell needs."""


def nodes(node: object) -> list[Node]:
    """Every node below, itself included."""
    found: list[Node] = []
    stack = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            found.append(item)
            stack.extend(item.values())
    return found


def as_word(assignment: Node) -> Node:
    """An assignment as the word that it is written as."""
    name = assignment.get("Name", {}).get("Value", "")
    return {
        "Parts": [{"Type": "Lit", "Value": f"{name}="}, *((assignment.get("Value") or {}).get("Parts") or [])]
    }


def literal(word: Node | None) -> str:
    """A word's literal parts, joined, those in quotes included."""
    parts = (word or {}).get("Parts") or []
    return "".join(str(part.get("Value", "")) + literal(part) for part in parts)


def names(node: Node) -> tuple[str, ...]:
    """Names of the variables that a call sets for itself."""
    return tuple(item.get("Name", {}).get("Value", "") for item in node.get("Assigns") or [])


def programs(node: Node) -> tuple[str, ...]:
    """The literal words of all calls anywhere below a node."""
    return tuple(
        literal(word)
        for item in nodes(node)
        if item.get("Type") == "CallExpr"
        for word in item.get("Args") or []
    )


def assigned(node: object) -> set[str]:
    """Names of the variables that are set anywhere below a node."""
    return {
        item["Name"]["Value"]
        for entry in nodes(node)
        for item in entry.get("Assigns") or []
        if isinstance(item, dict) and item.get("Name")
    }


def calls_itself_beside(name: str, body: Node) -> bool:
    """Whether a function calls itself in a pipe or in the background."""
    for item in nodes(body):
        beside = item.get("Background") or (item.get("Type") == "BinaryCmd" and item.get("Op") == "|")
        if beside and name in programs(item):
            return True
    return False


def starts_itself(body: object) -> bool:
    """Whether a loop starts its own script again, beside itself."""
    return any(
        item.get("Background") and any(below.get("Param", {}).get("Value") == "0" for below in nodes(item))
        for item in nodes(body)
    )
