"""Which commands are known to change nothing, by `rules/programs.yaml` and, for filters, by their scripts."""

from __future__ import annotations

import re
from itertools import pairwise

from orchestrator.safety.familiar import orders_loss
from orchestrator.safety.rulebook import Book, Reader, begins, has, operands

_SED_QUERY = re.compile(
    r"(?:(?:[\d$]+|/[^/]*/)(?:,(?:[\d$+~]+|/[^/]*/))?)?!?\s*(?:[pdq=nNhHgGxD]|s([/|#,:@])(?:(?!\1).)*\1(?:(?!\1).)*\1[gpiI\d]*)?"
)


_AWK_ACTION = re.compile(r"\bsystem\b|getline|[|>@]|\bclose\b|fflush")
_AWK_COMPARISON = re.compile(r"(?:^|[;{(&|!]|\bif\s*\()\s*(?:[$\w]+|length(?:\([^)]*\))?)\s*>=?\s*[\d.]+|>=")
_AWK_PATTERN = re.compile(r"((?:^|[{;(,!~]|&&|\|\|)\s*)/(?:[^/\\]|\\.)*/")
_EDITS = re.compile(r"-[a-zA-Z]*[ifE]|--(in-place|file|include|load|exec)")


def entry(name: str, arguments: list[str], book: Book) -> Reader | None:
    """The description by which a command only reads; None when there is none."""
    if name in {"sed", "gsed", "awk", "gawk", "mawk"}:
        return Reader(programs=(name,)) if _filters(name, arguments) else None
    if name == "find":
        return Reader(programs=(name,))
    candidates = (item for item in book.readers if name in item.programs)
    return next((item for item in candidates if _holds(item, name, arguments, book)), None)


def is_certain(name: str, arguments: list[str], book: Book) -> bool:
    """Whether a description names the very subcommand, and it only reads."""
    found = entry(name, arguments, book)
    return found is not None and bool(found.words) and not any(word.startswith("*") for word in found.words)


def asks_only(name: str, arguments: list[str], book: Book) -> bool:
    """Whether an option makes the command a question, or its first word is `help`."""
    found = entry(name, arguments, book)
    return found is not None and (bool(found.any) or arguments[:1] == ["help"])


def _holds(reader: Reader, name: str, arguments: list[str], book: Book) -> bool:
    if any(has(option, arguments) or _attached(option, arguments) for option in reader.never):
        return False
    if reader.any and not any(has(option, arguments) for option in reader.any):
        return False
    found = operands(name, arguments, book.values)
    if reader.operands is not None and len(found) > reader.operands:
        return False
    if reader.words == ("--version",):
        return arguments == ["--version"]
    return not reader.words or any(_asks(found, words) for words in reader.words)


def _asks(found: list[str], words: str) -> bool:
    """Whether the operands begin so, and none that may be anything orders a loss."""
    free = [item for item, word in zip(found, words.split(), strict=False) if word == "*"]
    return begins(found, (words,)) and not any(orders_loss([item]) for item in free)


def _attached(option: str, arguments: list[str]) -> bool:
    """Whether a letter was given with its value behind it, such as `-Ocat`."""
    return bool(re.fullmatch("-[A-Z]", option)) and any(item.startswith(option) for item in arguments)


def _filters(name: str, arguments: list[str]) -> bool:
    """Whether every part of the script of a `sed` or `awk` is known to only print."""
    if any(_EDITS.match(item) for item in arguments if not item.startswith("-F")):
        return False
    given = [item.partition("=")[2] for item in arguments if item.startswith("--expression=")]
    given += [after for item, after in pairwise(arguments) if item == "-e"]
    scripts = given or [item for item in arguments if not item.startswith("-")][:1]
    if name.endswith("sed"):
        parts = [part.strip() for text in scripts for part in text.split(";")]
        return bool(parts) and all(_SED_QUERY.fullmatch(part) for part in parts)
    return bool(scripts) and not _AWK_ACTION.search(
        _AWK_COMPARISON.sub("", _AWK_PATTERN.sub(r"\1", scripts[0]).replace("||", ";"))
    )
