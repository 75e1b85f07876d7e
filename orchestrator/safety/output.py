"""What a harmless command prints, where its words alone decide it: `$(echo rm)` is `rm`."""

from __future__ import annotations

import base64
import binascii
import posixpath
import re

from orchestrator.safety.decoding import decoded
from orchestrator.safety.expressions import printed
from orchestrator.safety.words import UNKNOWN, Scene, ansi_c

LONGEST = 64 * 1024


def output_of(argv: list[str], given: str | None, scene: Scene) -> str | None:
    """The exact output of a command; None when it depends on more than its words."""
    argv = _carried(argv)
    name, arguments = posixpath.basename(argv[0]), argv[1:]
    if any(UNKNOWN in item for item in argv) or len(given or "") > LONGEST:
        return None
    if name in {"echo", "yes"}:
        return _echo(arguments) if name == "echo" else 9 * _echo(arguments or ["y"])
    if name == "printf" and arguments:
        return _printf(arguments)
    if name in {"dirname", "basename", "realpath", "readlink", "pwd"}:
        return _path(name, arguments, scene)
    if name == "mktemp" and not [item for item in arguments if item not in {"-d", "-t", "-q"}]:
        return "/tmp/tmp.unnamed"  # noqa: S108 - a place, not a file of ours
    if (name in _PRINTERS and "-m" not in arguments) or name in {"which", "command"}:
        return _code_output(arguments) if name in _PRINTERS else _place(name, arguments)
    if name in {"cat", "ls"}:
        return _cat(arguments, given, scene) if name == "cat" else _names(arguments)
    if name in {"cd", "set", "export", "true", ":", "unset", "shopt", "declare", "local"} or argv == ["exec"]:
        return ""
    if given is None and arguments:
        given = scene.scripts.get(posixpath.normpath(posixpath.join(scene.cwd or "/?", arguments[-1])))
        arguments = arguments[:-1]
    return _filtered(name, arguments, given) if given is not None and UNKNOWN not in given else None


_PRINTERS = {"python", "python3", "perl", "ruby", "php", "node", "awk", "gawk", "lua"}
_PRINTS = re.compile(
    r"(?:(?:-[cerE] |BEGIN ?\{ ?)(?:printf?|say|puts|echo|console\.log)|-p )"
    r"[ (]*(['\"])((?:(?!\1).)*)\1[ );}]*"
)
"""Code that prints one text, and does nothing else."""
_CARRIERS = frozenset([
    "sudo",
    "doas",
    "env",
    "nice",
    "ionice",
    "nohup",
    "command",
    "builtin",
    "exec",
    "timeout",
    "time",
    "setsid",
    "stdbuf",
    "busybox",
    "unshare",
    "nsenter",
    "strace",
])


def _carried(argv: list[str]) -> list[str]:
    """The printing command behind `nice -n 10` and the like; the words as they are where there is none."""
    if argv[:2] == ["perl", "-pe"]:
        return ["sed", *argv[2:]]
    if argv[0] not in _CARRIERS:
        return argv
    for at, word in enumerate(argv):
        if word in {"echo", "printf", "cat", "base64", "xxd", "rev", "tr"}:
            return argv[at:]
        if not (word in _CARRIERS or word.startswith(("-", "/")) or "=" in word or len(word) < 5):
            break
    return argv


def _code_output(arguments: list[str]) -> str | None:
    code = _PRINTS.fullmatch(decoded(" ".join(arguments)))
    if not code and arguments[:1] == ["-c"]:
        return printed("".join(arguments[1:2]))
    return ansi_c(code[2]) + "\n" if code else None


def _place(name: str, arguments: list[str]) -> str | None:
    """What `which` and `command -v` print, the folder aside."""
    if name == "command" and arguments[:1] != ["-v"]:
        return None
    names = arguments[name == "command" :]
    return f"/usr/bin/{names[0]}\n" if len(names) == 1 and names[0].isalnum() else None


def _path(name: str, arguments: list[str], scene: Scene) -> str | None:
    """What `dirname`, `basename`, `realpath` and `pwd` print, links aside."""
    if name == "pwd":
        return scene.cwd and scene.cwd + "\n"
    operands = [item for item in arguments if not item.startswith("-")]
    if len(operands) != 1:
        return None
    if name in {"dirname", "basename"}:
        cut = posixpath.dirname if name == "dirname" else posixpath.basename
        return (cut(operands[0].rstrip("/") or "/") or ("." if name == "dirname" else "/")) + "\n"
    if scene.cwd is None and not operands[0].startswith("/"):
        return None
    return posixpath.normpath(posixpath.join(scene.cwd or "/", operands[0])) + "\n"


def _echo(arguments: list[str]) -> str:
    end, escapes = "\n", False
    while arguments and arguments[0] in {"-n", "-e", "-E", "-ne", "-en"}:
        option, arguments = arguments[0], arguments[1:]
        end, escapes = "" if "n" in option else end, escapes or "e" in option
    text = " ".join(arguments)
    return (ansi_c(text) if escapes else text) + end


def _printf(arguments: list[str]) -> str | None:
    arguments = arguments[arguments[0] == "--" :] or [""]
    # A NUL ends a name in `xargs -0`, as a line end does elsewhere.
    form, values = ansi_c(re.sub(r"\\0(?![0-7])", r"\\n", arguments[0])), arguments[1:]
    pieces = form.replace("%%", "\5").split("%")
    if any(piece[:1] not in {"s", "b", "d", "c", "q"} for piece in pieces[1:]):
        return None
    if len(pieces) == 1:
        return form.replace("%%", "%")
    text = ""
    rounds = max(1, -(-len(values) // (len(pieces) - 1)))
    for turn in range(rounds):
        text += pieces[0]
        for at, piece in enumerate(pieces[1:]):
            index = turn * (len(pieces) - 1) + at
            value = values[index] if index < len(values) else ""
            text += (ansi_c(value) if piece[0] == "b" else value[:1] if piece[0] == "c" else value) + piece[
                1:
            ]
    return text.replace("\5", "%")


def _names(arguments: list[str]) -> str | None:
    """What `ls -d` prints: its own arguments."""
    is_plain = arguments[:1] and re.fullmatch(r"-[d1]*d[d1]*", arguments[0])
    return "".join(f"{item}\n" for item in arguments[1:]) or None if is_plain else None


def _cat(arguments: list[str], given: str | None, scene: Scene) -> str | None:
    if not [item for item in arguments if item != "-"]:
        return given
    here = {"-": given, "/dev/null": ""} | scene.scripts
    paths = [item if item in here else posixpath.join(scene.cwd or "/?", item) for item in arguments]
    texts = [here.get(posixpath.normpath(path)) for path in paths]
    if not any(text is not None for text in texts):
        return None
    # A file that nobody knows ends with a line end.
    return "".join(UNKNOWN + "\n" if text is None else text for text in texts)


def _filtered(name: str, arguments: list[str], given: str | None) -> str | None:
    text = given or ""
    try:
        if (clear := _decoded(name, arguments, text)) is not None:
            return clear
    except (ValueError, binascii.Error):
        return None
    if name == "tac" and not arguments:
        return "".join(reversed(text.splitlines(keepends=True)))
    if name == "rev" and not arguments:
        return "\n".join(line[::-1] for line in text.split("\n"))
    if name == "tr" and len(arguments) == 2:
        return _translated(text, *arguments)
    if name in {"sort", "grep"}:
        return _lines(name, arguments, text)
    if name in {"head", "tail", "cut", "sed"}:
        return _cut(name, arguments, text)
    return text if name in {"tee", "sponge"} else None


def _decoded(name: str, arguments: list[str], text: str) -> str | None:
    """What a decoder prints; None for any other command. Raises ValueError for what is no such code."""
    if name in _PRINTERS and arguments[:3] == ["-m", "base64", "-d"]:
        name, arguments = "base64", ["-d"]
    if name == "openssl" and "-d" in arguments and {"base64", "-base64", "-a"} & set(arguments):
        return base64.b64decode(text, validate=False).decode()
    if name == "base64" and arguments and arguments[0] in {"-d", "-D", "--decode", "-di"}:
        return base64.b64decode(text, validate=False).decode()
    if name == "base32" and arguments and arguments[0] in {"-d", "--decode"}:
        return base64.b32decode(text.strip()).decode()
    is_hex = name == "xxd" and "".join(arguments).replace("-", "") in {"rp", "pr"}
    return bytes.fromhex(text).decode() if is_hex else None


def _lines(name: str, arguments: list[str], text: str) -> str | None:
    """The lines that `sort` or a plain `grep` prints."""
    lines = text.splitlines(keepends=True)
    if name == "sort":
        return None if arguments else "".join(sorted(lines))
    is_plain = len(arguments) == 1 and re.fullmatch(r"[\w ./-]+", arguments[0])
    return "".join(line for line in lines if re.search(arguments[0], line)) if is_plain else None


def _cut(name: str, arguments: list[str], text: str) -> str | None:
    """A part of the lines or characters, or a plain replacement, where the options are simple."""
    joined, lines = " ".join(arguments), text.splitlines(keepends=True)
    if name == "sed":
        return _replaced(joined, lines)
    if count := re.fullmatch(r"-(?:n ?)?(\d+)|", joined):
        number = int(count[1] or 10)
        return "".join(lines[:number] if name == "head" else lines[-number:]) if name != "cut" else None
    if part := re.fullmatch(r"-c ?(\d+)", joined) if name != "cut" else None:
        return text[: int(part[1])] if name == "head" else text[-int(part[1]) :]
    if part := re.fullmatch(r"-[cb] ?(\d+)(-?)(\d*)", joined):
        end = int(part[3]) if part[3] else None if part[2] else int(part[1])
        return "".join(line.rstrip("\n")[int(part[1]) - 1 : end] + "\n" for line in lines)
    if part := re.fullmatch(r"-d ?(\S) -f ?(\d+)", joined):
        return "".join(
            "".join(line.rstrip("\n").split(part[1])[int(part[2]) - 1 :][:1]) + "\n" for line in lines
        )
    return None


_REPLACES = re.compile(
    r"(?:(?:^|-e|;) *)"
    r"s([/|#,])(\^?)((?:(?!\1)[\w /#@%:;=!~<>-])*)(\$?)\1((?:(?!\1)[\w ./#@%:;=!~<>-])*)\1(g?) *"
)
"""One `s/old/new/` of sed."""


def _replaced(script: str, lines: list[str]) -> str | None:
    """The lines after plain replacements, one after the other; or one of them, or all but one."""
    if one := re.fullmatch(r"-n ([1-9]\d*)p|([1-9]\d*)d", script):
        at = int(one[1] or one[2])
        return "".join(lines[at - 1 : at] if one[1] else lines[: at - 1] + lines[at:])
    while change := _REPLACES.match(script):
        script = script[change.end() :]
        pattern, new = change[2] + re.escape(change[3]) + change[4], change[5]
        lines = [re.sub(pattern, new, line, count=not change[6]) for line in lines]
    return None if script else "".join(lines)


def _translated(text: str, old: str, new: str) -> str | None:
    if old == "-d":
        return "".join(char for char in text if char not in new) if "-" not in new[1:] else None
    before, after = _range(old), _range(new)
    if not before or not after:
        return None
    after = after.ljust(len(before), after[-1])
    return text.translate({ord(char): after[at] for at, char in enumerate(before)})


def _range(text: str) -> str:
    """A `tr` set such as `A-Za-z`, spelt out; empty when it holds classes."""
    if re.search(r"\[[:=]|\\", text):
        return ""
    result, at = "", 0
    while at < len(text):
        if text[at + 1 : at + 2] == "-" and at + 2 < len(text):
            result += "".join(map(chr, range(ord(text[at]), ord(text[at + 2]) + 1)))
            at += 3
        else:
            result, at = result + text[at], at + 1
    return result
