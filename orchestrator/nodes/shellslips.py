"""Slips in a line of shell that small models make again and again, mended by their form alone.

Each mend makes a command do less, or do it in the place that the task names.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from orchestrator.nodes.intent import asks_for_change
from orchestrator.nodes.proof import named_in

_ENDING = re.compile(r"(?<![\w*/-])\*?(\.[a-z]\w{0,4})\b(?![\w/.])", re.I)
_ALL_FILES = re.compile(
    r"\bfind ([\w./-]+ )?-type f(?! -(?:name|iname|regex|empty|size|mtime|newer))(?! \\\()"
)
_TESTS = re.compile(
    r"((?:-i?name '[^']*'|-i?name \"[^\"]*\")(?: -o (?:-type f )?-i?name (?:'[^']*'|\"[^\"]*\"))+)"
)
_ACTS = re.compile(r"\s-(?:delete|exec|ok|print0?)\b|\|")
_TO_ANOTHER = re.compile(r"\A(?:sort|uniq|sed|awk|tr|tac|grep|cut)\b[^;&|<>]*?(\S+) ?> ?([\w./-]+)\Z")
_ELSEWHERE = re.compile(
    r"\b(?:new|another|other|separate|copy|into|called|named|neue\w*|andere\w*|nouveau|autre|otro|nuevo)\b",
    re.I,
)


def mended(command: str, goal: str, root: Path) -> str:
    """A command without the slips that its form shows."""
    return _in_place(_narrowed(_grouped(command), goal), goal, root)


def _grouped(command: str) -> str:
    """`-name A -o -name B -delete` deletes only B: the names belong into parentheses."""
    if " -o " not in command or "\\(" in command or not _ACTS.search(command):
        return command
    return _TESTS.sub(lambda found: rf"\( {found[1].replace('-type f ', '')} \)", command)


def _narrowed(command: str, goal: str) -> str:
    """A search through all files where the task names one ending."""
    words = " ".join(word for word in goal.split() if not named_in(word))
    endings = set(_ENDING.findall(words))
    if len(endings) != 1 or (ending := endings.pop()) in command:
        return command
    return _ALL_FILES.sub(lambda found: f"{found[0]} -name '*{ending}'", command)


def _in_place(command: str, goal: str, root: Path) -> str:
    """A change that went to a file of which the task does not speak, put in the place of the one it names."""
    found = _TO_ANOTHER.match(command)
    if not found or not asks_for_change(goal) or _ELSEWHERE.search(goal):
        return command
    source, target = found[1], found[2]
    if named_in(goal) != [source] or not (root / source).is_file() or (root / target).exists():
        return command
    return f"{command} && mv {shlex.quote(target)} {shlex.quote(source)}"
