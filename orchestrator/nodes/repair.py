"""Repair by trial: a small model proposes a change, code runs the check and keeps what helps.

After a failure a small model argues with itself. So each try starts from the same place, the sources and
the failing check, at a higher temperature.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage

from orchestrator.nodes.intent import is_question
from orchestrator.nodes.proof import is_test, proof_of, sources_of
from orchestrator.nodes.rounds import WRITES, Round, changed, is_move, is_run_of, passed, rounds_of

UNDONE = "that did not help: put it back and try something else"
NEARER = "the check comes further now: go on from here"
TRIES = 7
WARMTH = (0.0, 0.4, 0.7, 0.9)
"""Temperature by the number of tries so far."""
MOST_CHARACTERS = 2_500
"""A source that is longer is not written anew, so its repair is left to the model."""
_MEND = re.compile(
    r"\b(?:fix(?:es|ing)?\b|repair|debug (?:the|this|that|it|my|why)\b"
    r"|correct (?:the|this|that|it|its|my|all|any)\b|(?:make|get|let)\b.*\bpass\b"
    r"|beheb|reparier|korrigier|corrig|répar|arregl|repar)",
    re.I,
)
"""Words that ask for a repair."""
_WRONG = re.compile(r"\b(?:fail(?:s|ed|ing|ures?)?\b|pass\b|broken|bugs?\b|fehl|échou|falla)", re.I)
_REPORT = re.compile(
    r"\b(?:tell|say|show|report|list|count|how many|which|whether|nenne|sag\w*|zeig\w*|wie viele|welche\w*"
    r"|dis|montre\w*|combien|quel\w*|dime|muestra|cu[aá]nt\w+|qu[eé])\b",
    re.I,
)
_ABOUT_TEST = re.compile(
    r"\b(?:chang|updat|adapt|adjust|edit|extend|rewrit)\w* (?:the |this |that )?(?:test|check|expect)", re.I
)
_MORE = re.compile(
    r"\b(?:then|also|why|explain|tell|show|say|report|what|which|add|write|creat|commit|document|dann|auch|warum|erklär"
    r"|sag|zeig|puis|aussi|pourquoi|expli|dis|luego|también|dime)",
    re.I,
)
"""Words of a task that wants more than a repair."""
MOST_SHOWN = 12
_NOT = re.compile(r"\b(?:do not|don't|never|without|not)\b", re.I)
_WHOLE = re.compile(r"\A(\S+): lines? 1(?:–(\d+))? of (\d+)\n")  # noqa: RUF001 - as read_file writes it

Calls = tuple[str, list[tuple[str, dict[str, Any]]]]
"""Why, then names and arguments."""


def check_of(goal: str, root: Path) -> str:
    """The check that a repair has to make pass; empty when the task is none or has none."""
    return proof_of(goal, root) if asks_for_repair(goal) else ""


def asks_for_repair(goal: str) -> bool:
    """Whether a failure is to be mended; to be told what fails is another task."""
    if _MEND.search(goal):
        return True
    return _WRONG.search(goal) is not None and not (is_question(goal) or _REPORT.search(goal))


def still_failing(goal: str, history: Sequence[AnyMessage], root: Path) -> str:
    """The check of a repair when it failed the last time that it was run; empty otherwise."""
    check = check_of(goal, root)
    runs = [results[-1] for message, results in rounds_of(history) if check and is_run_of(check, message)]
    return check if runs and not passed(runs[-1]) else ""


def is_trial(goal: str, history: Sequence[AnyMessage], root: Path) -> bool:
    """Whether the next thing to do is to change a short source, and nothing else."""
    check = still_failing(goal, history, root)
    code = [root / name for name in sources_of(check, root) if not is_test(name)]
    return bool(code) and all(path.stat().st_size <= MOST_CHARACTERS for path in code)


def tried(history: Sequence[AnyMessage]) -> int:
    """How many files the model has written since the check came further for the last time."""
    count = 0
    for message, _ in rounds_of(history):
        if is_move(message):
            count = 0 if message.text == NEARER else count
        else:
            count += any(call["name"] in WRITES for call in message.tool_calls)
    return count


def spoilt(message: AIMessage, goal: str, root: Path) -> dict[str, str]:
    """Texts for the calls that would change the check, or lose a part of the code, by call id."""
    if is_move(message) or not (check := check_of(goal, root)):
        return {}
    sources = sources_of(check, root)
    code = [name for name in sources if not is_test(name)]
    wants_test = _ABOUT_TEST.search(goal) and not _NOT.search(goal)
    texts = {}
    for call in message.tool_calls:
        path = str(call["args"].get("path", "")).removeprefix("./")
        if call["name"] not in WRITES or path not in sources or not code:
            continue
        if is_test(path) and not wants_test:
            texts[str(call["id"])] = (
                f"Error: not edited: {path} is the check and stays as it is. "
                f"The mistake is in {' or '.join(code)}."
            )
        elif _is_copy(root / path, str(call["args"].get("content", ""))):
            texts[str(call["id"])] = (
                f"Error: not edited: that is {path} as it was. A line in it has to change."
            )
        elif lost := _lost(root / path, str(call["args"].get("content", ""))):
            texts[str(call["id"])] = f"Error: not edited: {lost} would be missing in {path}; it has to stay."
    return texts


def _is_copy(path: Path, content: str) -> bool:
    """Whether new content is what the file holds, blank space left out."""
    return path.is_file() and content.split() == path.read_text(encoding="utf-8", errors="replace").split()


def _lost(path: Path, content: str) -> str:
    """The first function or class at the top of a file that new content leaves out."""
    try:
        before, after = ast.parse(path.read_text(encoding="utf-8")), ast.parse(content)
    except (OSError, SyntaxError, ValueError):
        return ""
    kept = _names(after)
    return next((name for name in _names(before) if name not in kept), "") if content else ""


def _names(tree: ast.Module) -> list[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node.name for node in tree.body if isinstance(node, kinds)]


def judged(history: Sequence[AnyMessage], check: str) -> Calls | None:
    """What to do after a check that still fails: keep what brought it nearer, put back what did not."""
    rounds = rounds_of(history)
    start = next((i for i in range(len(rounds) - 1, -1, -1) if _is_start(rounds[i][0], check)), None)
    if start is None or start == len(rounds) - 1:
        return None
    last_undo = max((i for i in range(start, len(rounds)) if rounds[i][0].text == UNDONE), default=start)
    since = rounds[last_undo + 1 : -1]
    wrote = [str(call["args"]["path"]) for message, results in since for call in changed(message, results)]
    paths = list(dict.fromkeys(wrote))
    if not paths:
        return None
    if score(rounds[-1][1][-1].text) < score(rounds[start][1][-1].text):
        return NEARER, [*(("read_file", {"path": path}) for path in paths), _run(check)]
    originals = {path: _whole(rounds[: start + 1], path) for path in paths}
    if any(text is None for text in originals.values()):
        return None
    return UNDONE, [("write_file", {"path": p, "content": text or ""}) for p, text in originals.items()]


def repaired(goal: str, history: Sequence[AnyMessage], check: str) -> str:
    """The answer when a check passes that failed before; empty when the task asks for more than that."""
    rounds = rounds_of(history)
    has_failed = any(is_run_of(check, message) and not passed(results[-1]) for message, results in rounds)
    if not has_failed or _MORE.search(goal) or is_question(goal):
        return ""
    calls = [call for message, results in rounds for call in changed(message, results)]
    last = {str(call["args"]["path"]): str(call["args"].get("content", "")) for call in calls}
    first = {path: _whole(rounds[:1], path) for path in last}
    wrote = [path for path in last if first[path] is None or first[path] != last[path]]
    lines = [f"{' and '.join(wrote)}: repaired, `{check}` passes now."]
    for path in wrote:
        before, after = (first[path] or "").splitlines(), last[path].splitlines()
        rows = [*difflib.unified_diff(before, after, lineterm="", n=0)][2:] if before and after else []
        lines += [row for row in rows if row.strip("+- ") and not row.startswith("@@")][:MOST_SHOWN]
    return "\n".join(lines) if wrote else ""


def _run(command: str) -> tuple[str, dict[str, str]]:
    return "run_command", {"command": command}


def _whole(rounds: Sequence[Round], path: str) -> str | None:
    """The content of a file as it was last read in full."""
    for _, results in reversed(rounds):
        for result in results:
            head = _WHOLE.match(result.text)
            if head and head[1] == path and (head[2] or "1") == head[3] and "cut …]" not in result.text:
                lines = result.text[head.end() :].splitlines()
                return "".join(f"{line.partition('| ')[2]}\n" for line in lines)
    return None


def score(output: str) -> tuple[int, int]:
    """How far a failing check is from passing, less is better: failures, then how late it stopped."""
    if counted := re.search(r"^FAILED \((.*)\)", output, re.M):
        return sum(map(int, re.findall(r"\d+", counted[1]))), 0
    if failed := re.search(r"\b(\d+) failed", output):
        return int(failed[1]), 0
    line = re.search(r"line (\d+), in <module>", output)
    return 1, -int(line[1]) if line else 0


def _is_start(message: AnyMessage, check: str) -> bool:
    """Whether a round of code shows sources and check together: where tries begin."""
    return (
        isinstance(message, AIMessage)
        and is_move(message)
        and len(message.tool_calls) > 1
        and is_run_of(check, message)
    )
