"""The moves that need no model, made by code for a small one.

Before it thinks: read what the task names, run the check that is said to fail. After a change: run the
check, and judge what it shows. The calls are ordinary ones: judged, journalled and shown like any other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.messages.tool import ToolCall

from orchestrator.nodes import drafting, expecting, oneliners, placing
from orchestrator.nodes.imports import failed_script, forgotten, import_place
from orchestrator.nodes.intent import asks_for_change
from orchestrator.nodes.messages import FINISH, TRY_CHANGES, with_search
from orchestrator.nodes.observing import observation
from orchestrator.nodes.proof import is_small_file, is_test, is_text, named_in, proof_of, sources_of
from orchestrator.nodes.renames import places, renaming
from orchestrator.nodes.repair import (
    NEARER,
    UNDONE,
    Calls,
    asks_for_repair,
    check_of,
    is_trial,
    judged,
    repaired,
    tried,
)
from orchestrator.nodes.rounds import MOVE, Round, changed, is_move, is_run_of, passed, rounds_of
from orchestrator.state import Brief
from orchestrator.tools import mutants

MOST_FILES = 4
FIRST_LINES = 5
"""Lines of a large file that show how it is built."""
SEARCH = "try all small changes"
CORRECTED = "expect what the code gives"
_RUN = re.compile(
    r"\b(?:run|execut|tests?\b|unittest|try (?:it|out)|führ\w* .*aus|starte|lanc|exécut|ejecut|prueba)", re.I
)
_RUN_TESTS = re.compile(
    r"\b(?:run|execut|starte|führ|lanc|exécut|ejecut)\w*\b.*\b(?:unit)?(?:tests?|pruebas)\b", re.I
)
_DOCUMENTS = re.compile(
    r"\b(?:docs?|documents?|documentation|handbook|manual|guide|readme|runbook|wiki|handbuch|anleitung|doku\w*"
    r"|manuel|documentación)\b",
    re.I,
)
_INPUT = re.compile(r"\bargv\b|\binput\(|\bargparse\b|\$[1@*]")


def next_move(
    history: Sequence[AnyMessage], brief: Brief, root: Path, tools: Sequence[str], identifier: str
) -> AIMessage | None:
    """The calls that any sensible specialist would make now; None where the model has to think."""
    goal = brief["step"]["goal"]
    calls = _opening(goal, root, tools) if not history else _after(history, goal, root)
    if not calls or any(name not in with_search(tools) for name, _ in calls[1]):
        return None
    return AIMessage(
        calls[0],
        id=identifier,
        tool_calls=[
            ToolCall(name=name, args=dict(arguments), id=f"{identifier}.{number}", type="tool_call")
            for number, (name, arguments) in enumerate(calls[1])
        ],
        additional_kwargs={MOVE: True},
    )


def is_tried_out(goal: str) -> bool:
    """Whether a task's result can be tried out: then something has to be run after the last change."""
    return _RUN.search(goal) is not None or asks_for_repair(goal)


def _opening(goal: str, root: Path, tools: Sequence[str]) -> Calls | None:
    names = [name for name in named_in(goal) if is_small_file(root / name)]
    check = check_of(goal, root) if "run_command" in tools else ""
    names += sources_of(check, root)
    if (names_of := renaming(goal)) and "search_files" in tools and places(names_of[0], root):
        return "see where it is used", [("search_files", {"pattern": rf"\b{names_of[0]}\b"})]
    reads: list[tuple[str, dict[str, Any]]] = [
        ("read_file", {"path": name}) for name in list(dict.fromkeys(names))[:MOST_FILES]
    ]
    large = [name for name in named_in(goal) if name not in names and is_text(root / name)]
    reads += [("read_file", {"path": name, "limit": FIRST_LINES}) for name in large[:MOST_FILES]]
    if not check and not asks_for_change(goal) and _RUN_TESTS.search(goal) and "run_command" in tools:
        tests = proof_of(goal, root)
        return ("run the tests", [_run(tests)]) if tests else None
    if check:
        program = observation(check, root) if "run_python" in tools else ""
        looks = [*reads, ("run_python", {"code": program})] if program else reads
        return "look at the files and see how the check fails", [*looks, _run(check)]
    if reads and "read_file" in tools:
        return "look at the file first", reads
    is_about_documents = tools[:1] == ("search_docs",) or _DOCUMENTS.search(goal)
    may_search = "search_docs" in tools and is_about_documents and _has_documents(root)
    if may_search and oneliners.form_of(goal, [], root, tools) is None:
        return "see what the documents say", [("search_docs", {"query": goal[:500]})]
    return None


def _after(history: Sequence[AnyMessage], goal: str, root: Path) -> Calls | None:
    """What follows from the last results: a check after a change, a verdict on the change after a check."""
    rounds = rounds_of(history)
    if not rounds:
        return None
    message, results = rounds[-1]
    if with_import := _with_import(message, results[-1].text, root):
        return with_import
    if meant := placing.meant(message, results[-1].text, goal):
        return "the one that the task names", [("edit_file", meant)]
    if corrected := _corrected_test(message, results[-1].text, history, root):
        return corrected
    if not is_tried_out(goal):
        return None
    check = check_of(goal, root)
    if searched := _search(rounds[-1], history, goal, root):
        return searched
    if message.text != UNDONE and (wrote := changed(message, results)):
        command = check or _first_run(str(wrote[-1]["args"].get("path", "")), goal, root)
        return ("see if it works now", [_run(command)]) if command else None
    if not check or not is_run_of(check, message):
        return None
    if not passed(results[-1]):
        return judged(history, check)
    answer = repaired(goal, history, check)
    return ("the check passes", [(FINISH, {"answer": answer})]) if answer else None


def _corrected_test(
    message: AIMessage, output: str, history: Sequence[AnyMessage], root: Path
) -> Calls | None:
    """A test that the model wrote just now, with what the code gives in place of what it expected.

    Code that the model wrote in the same step is no measure of its test.
    """
    written = drafting.written(history)
    name = written[-1] if written and all(map(is_test, written)) else ""
    is_run = is_move(message) and message.tool_calls[-1]["name"] == "run_command"
    if not name or not is_run or message.text == CORRECTED or not is_small_file(root / name):
        return None
    source = (root / name).read_text(encoding="utf-8", errors="replace")
    text = expecting.corrected(source, name, output)
    if text is None:
        return None
    return CORRECTED, [("write_file", {"path": name, "content": text}), _run(proof_of(name, root))]


def _search(last: Round, history: Sequence[AnyMessage], goal: str, root: Path) -> Calls | None:
    """Look for the repair among all small changes, once the model's first idea did not help."""
    message, results = last
    if message.text == SEARCH:
        return _small_change(results[-1].text, root)
    is_vain_try = message.text == UNDONE or (not is_move(message) and not changed(message, results))
    since = takewhile(lambda earlier: earlier.text != NEARER, (m for m, _ in reversed(rounds_of(history))))
    if not is_vain_try or any(earlier.text == SEARCH for earlier in since):
        return None
    if not tried(history) or not is_trial(goal, history, root):
        return None
    check = check_of(goal, root)
    code = [name for name in sources_of(check, root) if not is_test(name)]
    return SEARCH, [(TRY_CHANGES, {"command": check, "paths": code})]


def _small_change(output: str, root: Path) -> Calls | None:
    """The change that a search found, as a new content of its file."""
    if not (change := mutants.found(output)):
        return None
    path, number, text = change
    lines = (root / path).read_text(encoding="utf-8").splitlines()
    lines[number - 1] = text
    return "one small change makes it pass", [
        ("write_file", {"path": path, "content": "\n".join(lines) + "\n"})
    ]


def _with_import(message: AIMessage, output: str, root: Path) -> Calls | None:
    """The same run with the import that it lacked; None where that is not what ended it."""
    last = message.tool_calls[-1] if message.tool_calls else None
    if last is None or "NameError" not in output:
        return None
    if last["name"] == "run_python":
        code = str(last["args"].get("code", ""))
        line = forgotten(output, code, root)
        fixed = {**last["args"], "code": f"{line}\n{code}"}
        return (f"`{line}` was missing", [("run_python", fixed)]) if line else None
    script = failed_script(output, root) if last["name"] == "run_command" else ""
    if not script:
        return None
    code = (root / script).read_text(encoding="utf-8", errors="replace")
    line, place = forgotten(output, code, (root / script).parent), import_place(code)
    if not line or place is None:
        return None
    added = {"path": script, "place": place, "text": line}
    return f"`{line}` is missing in {script}", [("add_lines", added), ("run_command", last["args"])]


def _first_run(path: str, goal: str, root: Path) -> str:
    """How to try out what was just written, when that needs no arguments."""
    quoted = re.search(rf"[\"'`]((?:bash|sh|python3?) {re.escape(path)}[^\"'`\n]*)[\"'`]", goal)
    if quoted:
        return quoted[1]
    if not is_small_file(root / path):
        return ""
    text = (root / path).read_text(encoding="utf-8", errors="replace")
    if _INPUT.search(text):
        return ""
    return proof_of(path, root) or {"py": f"python3 {path}", "sh": f"bash {path}"}.get(
        path.split(".")[-1], ""
    )


def _run(command: str) -> tuple[str, dict[str, str]]:
    return "run_command", {"command": command}


def _has_documents(root: Path) -> bool:
    """Whether there is anything at the top of the workspace that search_docs would look into."""
    return any((root / name).exists() for name in ("docs", "doc", "README.md")) or any(
        next(root.glob(f"*.{ending}"), None) for ending in ("md", "txt", "rst", "html")
    )
