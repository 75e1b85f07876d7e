"""Read a YAML or Markdown file into plain values, with the line and column of each key and value.

Values follow YAML 1.2
(`no` is a text, `0o17` is fifteen, `12:30` is a text), unlike PyYAML's own loader; see
https://yaml.org/spec/1.2.2/#103-core-schema.
"""

from __future__ import annotations

import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import ConfigError, Problem

Place = tuple[str | int, ...]
"""Keys and list positions that lead to a value; empty for the whole document."""
Mark = tuple[int, int]
"""Line and column, counted from 1."""

MAX_BYTES = 1_048_576
MAX_DEPTH = 40
MAX_NODES = 20_000
"""With aliases written out; keeps a few lines of nested aliases from becoming gigabytes."""
MAX_NUMBER = 100
"""Characters of a number: Python's own limit would raise at 4,300."""

# libyaml is ten times as fast; where the wheel lacks it, only the wording of syntax errors differs.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_FORBIDDEN = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {text: text.lower() == "true" for text in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


@dataclass
class Document:
    """What a file says, and where it says it."""

    file: Path
    """As shown to people: relative to the current folder where it lies below it."""
    value: dict[str, Any] = field(default_factory=dict)
    body: str = ""
    """The text below the front matter, without blank lines around it."""
    keys: dict[Place, Mark] = field(default_factory=dict)
    values: dict[Place, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    """What is wrong already, before any model looks at it; `validate` raises them with its own."""

    def known(self, place: Place) -> Place:
        """The longest beginning of a place that the file has."""
        while place and place not in self.values:
            place = place[:-1]
        return place

    def problem(self, place: Place, text: str, *, at_key: bool = False) -> Problem:
        """Make a problem that points at a value, or at its key, or at what is around it."""
        marks = self.keys if at_key and place in self.keys else self.values
        line, column = marks.get(place) or self.values.get(self.known(place), (1, 1))
        return Problem(self.file, line, column, ".".join(_printable(str(part)) for part in place), text)


def shown(file: Path) -> Path:
    """The path as people should see it: relative to the current folder where it lies below it."""
    try:
        return file.absolute().relative_to(Path.cwd())
    except (ValueError, OSError):
        return file


def read_yaml(file: Path) -> Document:
    """Read a YAML file; an empty one is an empty mapping. Raises ConfigError."""
    return _parse(Document(shown(file)), read_text(file))


def read_front_matter(file: Path) -> Document:
    """Read a Markdown file that starts with settings between two `---` lines. Raises ConfigError."""
    document = Document(shown(file))
    lines = read_text(file).split("\n")
    if lines[0].rstrip() != "---":
        text = "must start with a line `---`, then the settings, then a line `---`, then the prompt"
        raise ConfigError([Problem(document.file, 1, 1, "", text)])
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        text = "the settings that start here never end; add a line `---` between them and the prompt"
        raise ConfigError([Problem(document.file, 1, 1, "", text)])
    document.body = "\n".join(lines[end + 1 :]).strip()
    # The empty first line stands for the opening `---`, so that lines count in the whole file.
    return _parse(document, "\n".join(["", *lines[1:end]]))


def read_text(file: Path) -> str:
    """Read a file as UTF-8 with Unix line ends and without a byte order mark. Raises ConfigError."""
    name = shown(file)
    try:
        status = file.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ConfigError([Problem(name, 0, 0, "", "is a folder, not a file")])
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError([Problem(name, 0, 0, "", "is not a regular file")])
        if status.st_size > MAX_BYTES:
            text = f"is too large ({status.st_size:,} bytes, at most {MAX_BYTES:,})"
            raise ConfigError([Problem(name, 0, 0, "", text)])
        content = file.read_bytes()
    except OSError as error:
        text = f"cannot be read: {error.strerror or error}"
        raise ConfigError([Problem(name, 0, 0, "", text)]) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _mark_of(content[: error.start].decode("utf-8-sig", "replace"))
        wrong = f"is not UTF-8 text (byte 0x{content[error.start]:02x}); save the file as UTF-8"
        raise ConfigError([Problem(name, line, column, "", wrong)]) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _mark_of(before: str) -> Mark:
    """Line and column of what follows a text."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _printable(text: str, limit: int = 60) -> str:
    """A text from a file, safe to show: short, on one line, without control characters."""
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _parse(document: Document, text: str) -> Document:
    if bad := _FORBIDDEN.search(text):
        line, column = _mark_of(text[: bad.start()])
        wrong = f"the control character U+{ord(bad.group()):04X} is not allowed"
        raise ConfigError([Problem(document.file, line, column, "", wrong)])
    try:
        value = _Builder(document, yaml.parse(text, Loader=LOADER)).build()
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_syntax_problem(document.file, text, error)]) from None
    if value is not None and not isinstance(value, dict):
        wrong = f"must be a mapping of keys to values (got {describe(value)})"
        raise ConfigError([document.problem((), wrong)])
    document.value = value or {}
    return document


def _syntax_problem(file: Path, text: str, error: yaml.MarkedYAMLError) -> Problem:
    mark: Any = error.problem_mark or error.context_mark
    line, column = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
    lines = text.split("\n")
    around = lines[line - 1][: column + 1] if line <= len(lines) else ""
    what = error.problem or "cannot be understood"
    if "tab" in what or "\t" in around:
        what = "tabs cannot indent in YAML; use spaces"
    elif "mapping values are not allowed" in what:
        what = "a second `:` on this line; put the text in quotes"
    elif "cannot start any token" in what:
        what = "a text cannot start with this character; put it in quotes"
    context = f" {error.context}" if error.context and "while" in error.context else ""
    start: Any = error.context_mark
    begun = 0 if start is None else start.line + 1
    since = f" that starts on line {begun}" if context and begun not in {0, line} else ""
    return Problem(file, line, column, "", f"not valid YAML: {what}{context}{since}")


class _Builder:
    """Turns parser events into plain values and notes where each one stands."""

    def __init__(self, document: Document, events: Iterator[Any]) -> None:
        self._document = document
        self._events = events
        self._anchors: dict[str, tuple[Any, int] | None] = {}
        self._nodes = 0

    def build(self) -> Any:
        """Return the one document's value, None when there is none. Raises ConfigError."""
        value = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._fatal(event, "a second document starts here; a file holds one")
                value = self._node(next(self._events), (), 0)
        return value

    def _fatal(self, event: Any, text: str) -> ConfigError:
        here = Problem(self._document.file, *_start(event), "", text)
        return ConfigError([*self._document.problems, here])

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise self._fatal(event, f"too many values (more than {MAX_NODES:,}, aliases written out)")

    def _node(self, event: Any, place: Place, depth: int) -> Any:
        self._document.values[place] = _start(event)
        if depth > MAX_DEPTH:
            raise self._fatal(event, f"nested too deeply (more than {MAX_DEPTH} levels)")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self._count(event, 1)
        before = self._nodes
        if event.anchor:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif event.tag not in {None, "!", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"}:
            raise self._fatal(event, f"the tag {_printable(event.tag)} is not supported; remove it")
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(place, depth)
        else:
            value = self._mapping(place, depth)
        if event.anchor:
            self._anchors[event.anchor] = (value, self._nodes - before + 1)
        return value

    def _alias(self, event: Any) -> Any:
        name = _printable(event.anchor)
        if event.anchor not in self._anchors:
            raise self._fatal(event, f"the alias *{name} has no anchor &{name} before it")
        anchored = self._anchors[event.anchor]
        if anchored is None:
            raise self._fatal(event, f"the alias *{name} stands inside its own anchor")
        self._count(event, anchored[1])
        return anchored[0]

    def _sequence(self, place: Place, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*place, len(items)), depth + 1))
        return items

    def _mapping(self, place: Place, depth: int) -> dict[str, Any]:
        items: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self._fatal(event, "a key must be a plain text")
            self._count(event, 1)
            # Runs that read the same files then hold the same keys.
            key = sys.intern(event.value)
            if key == "<<" and event.implicit[0]:
                raise self._fatal(event, "merge keys (<<) are not supported; write the keys out")
            mark = _start(event)
            if key in items:
                self._duplicate((*place, key), mark, depth)
                continue
            self._document.keys[*place, key] = mark
            items[key] = None
            items[key] = self._node(next(self._events), (*place, key), depth + 1)
        return items

    def _duplicate(self, place: Place, mark: Mark, depth: int) -> None:
        """Note a key that is there twice; its value is read past and the first one stays."""
        first = self._document.keys[place]
        path = ".".join(_printable(str(part)) for part in place)
        text = f"key is already set on line {first[0]}; keep one of the two"
        self._document.problems.append(Problem(self._document.file, *mark, path, text))
        self._node(next(self._events), (*place, f"again on line {mark[0]}"), depth + 1)

    def _scalar(self, event: Any) -> Any:
        text = event.value
        if event.tag not in {None, "!", "tag:yaml.org,2002:str"}:
            raise self._fatal(event, f"the tag {_printable(event.tag)} is not supported; remove it")
        if event.tag or not event.implicit[0]:
            return text
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        if not (_INT.fullmatch(text) or _FLOAT.fullmatch(text)):
            return text
        if len(text) > MAX_NUMBER:
            raise self._fatal(event, f"a number of {len(text):,} characters (at most {MAX_NUMBER})")
        return _number(text)


def _start(event: Any) -> Mark:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _number(text: str) -> int | float:
    if _INT.fullmatch(text):
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text[2:] if base != 10 else text, base)
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def describe(value: Any) -> str:
    """A value as a message shows it: short, and never a whole list or mapping."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"'{_printable(value)}'"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    return str(value)
