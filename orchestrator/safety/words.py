"""What the words of a shell command come to, as far as that can be known without running anything.

A part that cannot be known becomes UNKNOWN inside the text; it is never guessed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from orchestrator.safety.syntax import Node, substitutions

UNKNOWN = "\0"
_OPEN, _COMMA, _CLOSE = "\1", "\2", "\3"
SPLIT = "\4"
"""Between the fields of a text that splits into several, such as an array."""
MOST = 64
"""Alternatives of one word that are followed; beyond, the word is unknown."""

LONGEST = 64 * 1024
"""Characters of one word that are followed: a script can double a text with every line."""

Output = Callable[[list[Node]], str | None]
"""Judges the statements of a substitution and returns its output, where that is certain."""


@dataclass
class Scene:
    """What is known at one point of a script."""

    root: str
    home: str
    cwd: str | None
    """None: not known."""
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By variable, every value that it may have."""
    references: dict[str, str] = field(default_factory=dict)
    positional: list[str] | None = None
    functions: dict[str, Node] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)
    scripts: dict[str, str] = field(default_factory=dict)
    """Content of the files that the script itself wrote, by path; one that ends with a slash: all below."""
    mounts: tuple[tuple[str, str], ...] = ()
    """In a container: (path inside, path on the machine)."""
    remote: bool = False
    """In a container or on another machine."""
    certain: bool = True
    """False in branches and loops, where an assignment may or may not have happened."""

    def script(self, path: str) -> str | None:
        """What is in a file, if the script wrote or fetched it."""
        if path in self.scripts:
            return self.scripts[path]
        return UNKNOWN if any(key[-1] == "/" and path.startswith(key) for key in self.scripts) else None

    def copy(self, **changes: Any) -> Scene:
        """A scene for a subshell: what happens there does not come back, except calls and files."""
        mine: dict[str, Any] = {**vars(self), **changes}
        for name in ("values", "references", "functions"):
            mine[name] = dict(mine[name])
        return Scene(**mine)

    def takes_over(self, other: Scene, but: tuple[str, ...]) -> None:
        """Keep what a command did to its own copy of the scene, but not the variables set for it alone."""
        mine = {name: self.values[name] for name in but if name in self.values}
        self.values = {name: value for name, value in other.values.items() if name not in but} | mine
        self.cwd, self.positional, self.functions = other.cwd, other.positional, other.functions

    def name(self, variable: str) -> str:
        """The variable that a name stands for, through references."""
        for _ in range(8):
            if variable not in self.references:
                break
            variable = self.references[variable]
        return variable

    def assign(self, variable: str, values: tuple[str, ...]) -> None:
        """Set a variable; in a branch its old values stay possible."""
        variable = self.name(variable)
        if not self.certain:
            values = tuple(dict.fromkeys(self.values.get(variable, (UNKNOWN,)) + values))
        self.values[variable] = values if len(values) <= MOST else (UNKNOWN,)

    def value(self, variable: str) -> tuple[str, ...]:
        """Every value that a variable may have; UNKNOWN among them when that is possible."""
        variable = self.name(variable)
        if variable in self.values:
            return self.values[variable]
        if variable in {"@", "*"}:
            return (UNKNOWN,) if self.positional is None else (SPLIT.join(self.positional),)
        if variable.isdigit() and variable != "0" and self.positional is not None:
            return ("".join(self.positional[int(variable) - 1 : int(variable)]),)
        known = {"HOME": self.home, "PWD": self.cwd or UNKNOWN, "IFS": " \t\n"}
        return (known.get(variable, UNKNOWN),)


def fields(word: Node, scene: Scene, output: Output) -> list[list[str]]:
    """Every way that a word may come out, each as the list of fields that it splits into."""
    ways = _parts(word.get("Parts") or [], scene, output, quoted=False)
    quoted = any(part["Type"] in {"SglQuoted", "DblQuoted"} for part in word.get("Parts") or [])
    result = []
    for way in ways:
        split: list[str] = []
        for text in _braces(way):
            pieces = [_plain(piece) for piece in text.split(SPLIT)]
            split += [piece for piece in pieces if piece or (quoted and len(pieces) == 1)]
        result.append(split)
    return result


def flat(words: list[Node], scene: Scene, output: Output) -> list[str]:
    """All fields that the words may come to, in order."""
    return [text for word in words for way in fields(word, scene, output) for text in way]


def single(word: Node | None, scene: Scene, output: Output) -> tuple[str, ...]:
    """Every text that a word may be where it is not split, as in an assignment."""
    ways = _parts((word or {}).get("Parts") or [], scene, output, quoted=False)
    return tuple(dict.fromkeys(_plain(way.replace(SPLIT, " ")) for way in ways))


def document(redirect: Node, scene: Scene, output: Output) -> str:
    """The text of a here document; nothing is expanded where its mark is quoted."""
    parts = (redirect.get("Hdoc") or {}).get("Parts") or []
    mark = (redirect.get("Word") or {}).get("Parts") or []
    if any(part["Type"] != "Lit" or "\\" in part.get("Value", "") for part in mark):
        return "".join(str(part.get("Value", "")) for part in parts)
    ways = _parts(parts, scene, output, quoted=True)
    return _plain(ways[0]) if len(ways) == 1 else UNKNOWN


def _plain(text: str) -> str:
    return text.replace(_OPEN, "{").replace(_COMMA, ",").replace(_CLOSE, "}")


def _parts(parts: list[Node], scene: Scene, output: Output, *, quoted: bool) -> list[str]:
    ways = [_part(part, scene, output, quoted=quoted, first=not at) for at, part in enumerate(parts)]
    count = 1
    for way in ways:
        count *= max(1, len(way))
        if count > MOST:
            return [UNKNOWN]
    if sum(max(map(len, way), default=0) for way in ways) > LONGEST:
        return [UNKNOWN]
    return ["".join(combination) for combination in itertools.product(*ways)]


def _part(part: Node, scene: Scene, output: Output, *, quoted: bool, first: bool) -> list[str]:
    kind = part["Type"]
    if kind == "Lit":
        return [_literal(part["Value"], scene, quoted=quoted, first=first)]
    if kind == "SglQuoted":
        return [ansi_c(part.get("Value", "")) if part.get("Dollar") else part.get("Value", "")]
    if kind == "DblQuoted":
        return _parts(part.get("Parts") or [], scene, output, quoted=True)
    if kind == "ProcSubst":
        inside = part.get("Stmts") or []
        text = output([_fed(node) for node in inside] if part.get("Op") == ">(" else inside)
        path = f"/dev/fd/{63 - sum(key.startswith('/dev/fd/') for key in scene.scripts)}"
        scene.scripts[path] = UNKNOWN if text is None or part.get("Op") == ">(" else text
        return [path]
    if kind == "CmdSubst":
        text = output(part.get("Stmts") or [])
        ways = [UNKNOWN if text is None else text.rstrip("\n")]
    elif kind == "ParamExp":
        ways = list(_parameter(part, scene, output))
    else:
        for below in substitutions(part):
            output(below.get("Stmts") or [])
        return [UNKNOWN]
    return ways if quoted else [_split(way, scene) for way in ways]


def _fed(node: Node) -> Node:
    """A statement that reads what is not known yet."""
    source = {"Cmd": {"Type": "CallExpr", "Args": [{"Parts": [{"Type": "Lit", "Value": "cat"}]}]}}
    return {"Cmd": {"Type": "BinaryCmd", "Op": "|", "X": source, "Y": node}}


def _split(text: str, scene: Scene) -> str:
    """Split an unquoted expansion into fields, by the IFS that holds."""
    separators = scene.values.get("IFS", ("",))
    if len(separators) != 1 or UNKNOWN in separators[0] or not separators[0].strip():
        return re.sub(r"[ \t\n]+", SPLIT, text)
    return re.sub(f"[{re.escape(separators[0])}]+", SPLIT, text)


def _literal(text: str, scene: Scene, *, quoted: bool, first: bool) -> str:
    if quoted:
        return re.sub(r"\\([$`\"\\])", r"\1", text.replace("\\\n", ""))
    if first and text.startswith("~"):
        user, slash, rest = text[1:].partition("/")
        if not user or user == "+":
            text = (scene.home if not user else scene.cwd or UNKNOWN) + slash + rest
        elif re.fullmatch(r"[A-Za-z_][\w-]*", user):
            text = ("/root" if user == "root" else f"/home/{user}") + slash + rest
    marks = {"{": _OPEN, ",": _COMMA, "}": _CLOSE}
    pieces = re.findall(r"\\\n|\\.|[^\\]|\\$", text, re.DOTALL)
    return "".join(
        "" if piece == "\\\n" else piece[1:] if len(piece) == 2 else marks.get(piece, piece)
        for piece in pieces
    )


_SIMPLE = {"\\": "\\", "'": "'", '"': '"', "?": "?"} | dict(
    zip("abefnrtv", "\a\b\x1b\f\n\r\t\v", strict=True)
)
_ESCAPE = re.compile(
    r"\\(x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{1,4}|U[0-9a-fA-F]{1,8}|0?[0-7]{1,3}|c.|E|[\\'\"?abefnrtv])"
)


def ansi_c(text: str) -> str:
    """Undo the escapes of `$'…'`, `echo -e` and `printf`."""

    def undo(match: re.Match[str]) -> str:
        code = match[1]
        if code in _SIMPLE:
            return _SIMPLE[code]
        if code[0] in "xuU":
            number = int(code[1:], 16)
            return chr(number) if 0 < number < 0x110000 else UNKNOWN
        if code[0] in "01234567":
            return chr(int(code, 8) & 0xFF) or UNKNOWN
        return "\x1b" if code == "E" else UNKNOWN

    return _ESCAPE.sub(undo, text)


def _parameter(part: Node, scene: Scene, output: Output) -> tuple[str, ...]:
    name = part.get("Param", {}).get("Value", "")
    for below in substitutions([part.get("Index"), part.get("Slice"), part.get("Repl")]):
        output(below.get("Stmts") or [])
    values = scene.value(name)
    if part.get("Excl"):
        values = tuple(text for value in values for text in scene.value(value))
    if part.get("Index"):
        return _element(part["Index"], values)
    if any(part.get(key) for key in ("Length", "Width", "Slice", "Repl", "Names")):
        return tuple(_cut_or_replaced(part, value, scene, output) for value in values)
    operation = part.get("Exp")
    if not operation:
        return values
    kind = operation.get("Op", "")
    other = single(operation.get("Word"), scene, output)
    if kind in {":-", "-", ":=", "="}:
        return _or_default(name, values, other, scene, sets="=" in kind)
    if kind in {":+", "+"}:
        return (*other, "")
    if kind in {":?", "?"}:
        return values
    if kind in {"%", "%%", "#", "##"} and len(other) == 1:
        return tuple(_trimmed(value, kind, other[0]) for value in values)
    change = {",,": str.lower, "^^": str.upper}.get(kind)
    return tuple(change(value) for value in values) if change else (UNKNOWN,)


def _or_default(
    name: str, values: tuple[str, ...], other: tuple[str, ...], scene: Scene, *, sets: bool
) -> tuple[str, ...]:
    """`${x:-y}` and `${x:=y}`: the default first, where the variable may be empty."""
    empty = any(value in {"", UNKNOWN} for value in values)
    ways = tuple(dict.fromkeys(other + values)) if empty else values
    if sets:
        scene.assign(name, ways)
    return ways


def _cut_or_replaced(part: Node, value: str, scene: Scene, output: Output) -> str:
    """`${x:1:2}` or `${x/a/b}`, where everything in it is written out."""
    if UNKNOWN in value or not (part.get("Slice") or part.get("Repl")):
        return UNKNOWN
    change, cut = part.get("Repl"), part.get("Slice") or {}
    if change:
        old, new = single(change.get("Orig"), scene, output), single(change.get("With"), scene, output)
        is_plain = (
            len(old) == len(new) == 1 and not re.search(r"[*?\[\\#%]", old[0]) and UNKNOWN not in old[0]
        )
        return value.replace(old[0], new[0], -1 if change.get("All") else 1) if is_plain else UNKNOWN
    numbers = [
        "".join(str(item.get("Value", "")) for item in (cut.get(key) or {}).get("Parts") or [])
        for key in ("Offset", "Length")
    ]
    if not numbers[0].isdigit() or not (numbers[1].isdigit() or not cut.get("Length")):
        return UNKNOWN
    start = int(numbers[0])
    return value[start : start + int(numbers[1])] if numbers[1] else value[start:]


def _element(index: Node, values: tuple[str, ...]) -> tuple[str, ...]:
    """One element of an array where its number is written out; else all of them."""
    parts = index.get("Parts") or []
    number = parts[0].get("Value", "") if len(parts) == 1 else ""
    if not number.isdigit() or UNKNOWN in values:
        return values
    return tuple("".join(value.split(SPLIT)[int(number) : int(number) + 1]) for value in values)


def _trimmed(value: str, kind: str, pattern: str) -> str:
    """A value without the prefix or suffix that matches; UNKNOWN where both hold globs."""
    if UNKNOWN in value + pattern:
        return UNKNOWN
    if not re.search(r"[*?\[\\]", pattern):
        return value.removesuffix(pattern) if kind[0] == "%" else value.removeprefix(pattern)
    if re.search(r"[*?\[]", value):
        return UNKNOWN
    cuts = range(len(value) + 1)
    ends = cuts if kind in {"#", "%%"} else reversed(cuts)
    for cut in ends:
        if kind[0] == "#" and fnmatchcase(value[:cut], pattern):
            return value[cut:]
        if kind[0] == "%" and fnmatchcase(value[cut:], pattern):
            return value[:cut]
    return value


def _braces(text: str) -> list[str]:
    """Brace expansion; braces that expand to nothing stay as they are."""
    match = re.search(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}", text)
    if not match:
        return [text]
    before, body, after = text[: match.start()], match[1], text[match.end() :]
    if _COMMA in body:
        items = body.split(_COMMA)
    elif steps := re.fullmatch(r"(-?\d+)\.\.(-?\d+)", body):
        low, high = sorted((int(steps[1]), int(steps[2])))
        items = [str(number) for number in range(low, high + 1)] if high - low < MOST else [UNKNOWN]
    elif steps := re.fullmatch(r"([A-Za-z])\.\.([A-Za-z])", body):
        first, last = sorted((ord(steps[1]), ord(steps[2])))
        items = [chr(number) for number in range(first, last + 1)]
    else:
        items = ["{" + body + "}"]
    expanded = [way for item in items for way in _braces(before + item + after)]
    return expanded if len(expanded) <= MOST else [UNKNOWN]
