"""Ask a small model for a repair in the form it was trained on: code in a question, code in the answer.

As an action in JSON the same model finds the mistake far less often. What it writes becomes an ordinary
write_file call, judged, journalled and tried out like any other.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage

from orchestrator.nodes.messages import calling
from orchestrator.nodes.observing import GIVES
from orchestrator.nodes.proof import is_test, sources_of
from orchestrator.nodes.repair import NEARER
from orchestrator.nodes.rounds import is_run_of, rounds_of

MOST_ERROR = 900
"""Characters of the failure that are shown: its end says what is wrong."""
BLOCK = re.compile(r"```[\w+-]*\n(.*?)(?:```|\Z)", re.S)
HEADING = re.compile(r"\A(?:#|//)\s*([\w./-]+\.\w{1,4})\s*\n")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def question(goal: str, check: str, history: Sequence[AnyMessage], root: Path) -> list[AnyMessage]:
    """The test, how it fails, the code, and the wish for a corrected file."""
    sources = sources_of(check, root)
    tests = [name for name in sources if is_test(name)]
    code = [name for name in sources if not is_test(name)]
    runs = [results[-1].text for message, results in rounds_of(history) if is_run_of(check, message)]
    parts = [f"Task: {goal}", "This test fails:", *(shown(name, root) for name in tests)]
    parts += [
        runs[-1][-MOST_ERROR:] if runs else "",
        *_observed(history),
        "The code:",
        *(shown(name, root) for name in code),
    ]
    wanted = code[0] if len(code) == 1 else "the file that has to change"
    parts.append(f"Find the mistake and write the whole corrected {wanted} in one Python code block.")
    return [SystemMessage("You are an expert Python programmer."), HumanMessage("\n\n".join(parts))]


def _observed(history: Sequence[AnyMessage]) -> Iterator[str]:
    """What the calls of the failing assertion gave, unless a repair has changed that since."""
    rounds = rounds_of(history)
    if rounds and not any(message.text == NEARER for message, _ in rounds):
        for result in rounds[0][1]:
            if result.name == "run_python" and GIVES in result.text:
                yield "\n".join(line for line in result.text.splitlines() if GIVES in line)


def shown(name: str, root: Path) -> str:
    """A file as a block of code under its name."""
    language = "python" if name.endswith(".py") else ""
    return f"```{language}\n# {name}\n{_text(root / name)}\n```"


def proposal(answer: str, check: str, root: Path) -> AIMessage:
    """The answer as a call of write_file; without code in it, the file is written as it was."""
    code = [name for name in sources_of(check, root) if not is_test(name)]
    blocks = BLOCK.findall(answer) or [answer]
    block = next((found for found in blocks if HEADING.match(found)), max(blocks, key=len))
    heading = HEADING.match(block)
    name = heading[1] if heading and heading[1] in code else _home(block, code, root)
    before = _text(root / name)
    content = _whole(block[heading.end() :] if heading else block, before)
    return written(name, content if "```" in answer or parses(answer) else before)


def written(path: str, content: str) -> AIMessage:
    """A call of write_file."""
    return calling("write_file", path=path, content=content)


def parses(text: str) -> bool:
    """Whether a text is Python."""
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return False
    return True


def _home(block: str, code: Sequence[str], root: Path) -> str:
    """The file whose functions, classes and variables a block holds; the first where none fits."""
    names = set(re.findall(r"^(?:\s*(?:async def|def|class) )?(\w+)", block, re.M))
    return max(code, key=lambda name: len(names & set(re.findall(r"\b\w+\b", _text(root / name)))))


def _whole(block: str, before: str) -> str:
    """A whole file: where a block holds only functions that the file has, they take the place of those."""
    try:
        new, old = ast.parse(textwrap.dedent(block)), ast.parse(before)
    except (SyntaxError, ValueError, RecursionError):
        return block
    if not new.body or not all(isinstance(node, Function) for node in new.body):
        return block
    if {node.name for node in old.body if isinstance(node, Function)} <= {
        node.name for node in new.body if isinstance(node, Function)
    } and not any(isinstance(node, ast.ClassDef) for node in old.body):
        return block
    lines = before.splitlines()
    # From the end, so that the numbers of the lines above stay true.
    for function, place in sorted(_pairs(new, old), key=lambda pair: -pair[1].lineno):
        text = ast.get_source_segment(textwrap.dedent(block), function) or ""
        lines[place.lineno - 1 : place.end_lineno] = textwrap.indent(
            text, " " * place.col_offset
        ).splitlines()
    return "\n".join(lines) + "\n"


def _pairs(new: ast.Module, old: ast.Module) -> list[tuple[Function, Function]]:
    """The functions of a block with those of the file that have the same name, where there is just one."""
    places: dict[str, list[Function]] = {}
    for node in ast.walk(old):
        if isinstance(node, Function):
            places.setdefault(node.name, []).append(node)
    functions = [node for node in new.body if isinstance(node, Function)]
    return [(node, places[node.name][0]) for node in functions if len(places.get(node.name, ())) == 1]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").rstrip("\n")
