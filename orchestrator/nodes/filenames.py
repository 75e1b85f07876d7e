"""Ask a small model for the new names of files as a list: it changes a list of names well, and loops badly.

Which files a task is about is told by their endings, kinds and folders; the list becomes one `mv` command.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage

from orchestrator.nodes.changes import files
from orchestrator.nodes.messages import calling
from orchestrator.nodes.renames import renaming
from orchestrator.nodes.rounds import is_move, rounds_of

MOST_NAMES = 60
"""Files above which a list is too long for one answer."""
_RENAME = re.compile(
    r"\b(?:renam\w+|umbenenn\w*|benenn\w*|renomm\w+|renombr\w+|cambi\w+ (?:el |los )?nombres?"
    r"|(?:file|datei)[ -]?names?|dateinamen|noms? (?:de |des )?fichiers?|nombres? de (?:los )?archivos?"
    r"|(?:chang|replac)\w* the (?:extension|ending|suffix)|(?:prefix|suffix)\b.*\bfiles)",
    re.I,
)
_NO_NAMES = re.compile(
    r"\b(?:function|class|method|variable|column|field|key|branch|table|list|print|show|write|count|how many"
    r"|which|what|sort)\b",
    re.I,
)
_KINDS = {
    "text": {"txt"},
    "markdown": {"md"},
    "python": {"py"},
    "log": {"log"},
    "image": {"jpg", "jpeg", "png", "gif", "webp"},
    "picture": {"jpg", "jpeg", "png", "gif", "webp"},
    "photo": {"jpg", "jpeg", "png", "heic"},
    "bild": {"jpg", "jpeg", "png", "gif"},
    "foto": {"jpg", "jpeg", "png"},
    "music": {"mp3", "flac", "ogg"},
}
_SPACING = re.compile(
    r"\b(?:blank|space|whitespace|underscore|hyphen|dash|kebab|snake|leerzeichen|unterstrich|bindestrich|espac|guion"
    r"|tiret|soulign)",
    re.I,
)
_CASING = re.compile(
    r"\b(?:case|upper|lower|capital|klein|groß|majuscul|minuscul|mayúscul|minúscul|kebab|snake)", re.I
)
_SYSTEM = "You give files new names. Answer with the list of names as they are then. Nothing else changes."
_SHOTS = (
    ("Give every .GIF file the ending .png", ("Trip 1.GIF", "a b c.GIF", "Old.GIF"),
     ("Trip 1.png", "a b c.png", "Old.png")),
    ("use dots for blanks in the names", ("my cat.txt", "Tree.txt", "README"),
     ("my.cat.txt", "Tree.txt", "README")),
    ("Write new_ in front of the mp3 files", ("song.mp3", "Talk.mp3"), ("new_song.mp3", "new_Talk.mp3")),
)  # fmt: skip
"""Tasks, the names before and the names after."""


def to_rename(goal: str, history: Sequence[AnyMessage], root: Path) -> list[str]:
    """The files that are to get new names now; none where the task is another one, or was begun."""
    if not _RENAME.search(goal) or _NO_NAMES.search(goal) or renaming(goal):
        return []
    if any(not is_move(message) for message, _ in rounds_of(history)):
        return []
    names = _meant(goal, sorted(name for name in files(root) or () if name.isprintable()))
    return names if len(names) <= MOST_NAMES else []


def _meant(goal: str, names: Sequence[str]) -> list[str]:
    """The files that a task is about: by their names, or by the endings, kinds and folders in its words."""
    named = [name for name in names if re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w-])", goal)]
    if named:
        return named
    folders = {str(PurePosixPath(name).parent) for name in names} - {"."}
    inside = [
        folder for folder in folders if re.search(rf"(?<![\w.-]){re.escape(folder)}(?![\w.-])", goal, re.I)
    ]
    if inside:
        names = [name for name in names if str(PurePosixPath(name).parent) in inside]
    endings = {PurePosixPath(name).suffix[1:] for name in names} - {""}
    wanted = {
        ending
        for ending in endings
        if re.search(
            rf"\.{re.escape(ending)}\b|\b{re.escape(ending)}(?:s\b|[ -](?:files?|datei|archivo|fichier))",
            goal,
        )
    }
    for kind, members in _KINDS.items():
        if not wanted and re.search(rf"\b{kind}(?:s|er)?\b", goal, re.I):
            wanted = {ending for ending in endings if ending.lower() in members}
    return [name for name in names if not wanted or PurePosixPath(name).suffix[1:] in wanted]


def question(goal: str, names: Sequence[str]) -> list[AnyMessage]:
    """Worked examples, then the task with the numbered names, without their folders."""
    asked: list[AnyMessage] = [SystemMessage(_SYSTEM)]
    for task, before, after in _SHOTS:
        asked += [HumanMessage(_numbered(task, before)), AIMessage(_lines(after))]
    return [*asked, HumanMessage(_numbered(goal, [PurePosixPath(name).name for name in names]))]


def _numbered(task: str, names: Sequence[str]) -> str:
    return f"Task: {task}\n\n{_lines(names)}"


def _lines(names: Sequence[str]) -> str:
    return "\n".join(f"{number}. {name}" for number, name in enumerate(names, 1))


def call(answer: str, goal: str, names: Sequence[str]) -> AIMessage | None:
    """The list as a command; None where it is no list of so many good names, or changes none."""
    after = [line.partition(". ")[2].strip() for line in answer.strip().splitlines()]
    if len(after) != len(names) or not all(after):
        return None
    pairs = [(name, _new(name, given, goal)) for name, given in zip(names, after, strict=True)]
    changed = [(old, new) for old, new in pairs if old != new]
    targets = [new for _, new in pairs]
    if not changed or len(set(targets)) < len(targets) or {new for _, new in changed} & set(names):
        return None
    moves = [f"mv -n -- {shlex.quote(old)} {shlex.quote(new)}" for old, new in changed]
    return calling("run_command", command=" && ".join(moves))


def _new(name: str, given: str, goal: str) -> str:
    """A new name in the old folder; blanks and letter case stay where the task does not speak of them."""
    old, new = PurePosixPath(name), PurePosixPath(given)
    stem = new.stem
    if _bare(stem, goal) == _bare(old.stem, goal):
        stem = old.stem
    return str(old.parent / f"{stem}{new.suffix}")


def _bare(stem: str, goal: str) -> str:
    """A name without the differences that a task does not ask for."""
    stem = stem if _SPACING.search(goal) else re.sub(r"[\s_-]+", "_", stem)
    return stem if _CASING.search(goal) else stem.casefold()
