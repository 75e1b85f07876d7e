"""Take a command out of the program that carries it: `sudo`, `env`, `xargs`, `ssh`, `bash -c`."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from orchestrator.safety.rulebook import Book, Wrapper, begins, operands
from orchestrator.safety.scope import absolute
from orchestrator.safety.targets import find_starts
from orchestrator.safety.timetables import timed
from orchestrator.safety.walk import Invocation
from orchestrator.safety.words import UNKNOWN, Scene

SHELLS = frozenset([
    "bash",
    "sh",
    "dash",
    "zsh",
    "ksh",
    "ash",
    "mksh",
    "fish",
    "rbash",
    "csh",
    "tcsh",
])
_OWN_SETTINGS = dict.fromkeys(("env", "sudo", "doas"), r"-.|[A-Za-z_]\w*=")
"""What belongs to a wrapper itself, besides options with a value; for others, what starts with a dash."""


@dataclass(frozen=True)
class Inner:
    """What a wrapper runs: a script as text, or an argument vector; neither when it runs nothing."""

    wrapper: Wrapper
    script: str | None = None
    argv: tuple[str, ...] = ()
    positional: tuple[str, ...] | None = None
    own_name: str = ""
    """What `$0` is in the script."""
    file: str | None = None
    """A script file that was not read here."""
    blind: bool = False
    """It runs what comes from a pipe, a file or a network, and that is not known."""


def unwrap(program: str, invocation: Invocation, book: Book) -> list[Inner]:
    """Everything that a wrapper runs; empty when the program is no wrapper."""
    arguments = invocation.argv[1:]
    found = []
    for wrapper in book.wrappers:
        if program not in wrapper.programs:
            continue
        if wrapper.words and not begins(operands(program, arguments, book.values), (wrapper.words,)):
            continue
        found.append(_one(wrapper, program, invocation, book))
        if found[-1].script is not None or found[-1].argv:
            break
    return found


def _one(wrapper: Wrapper, program: str, invocation: Invocation, book: Book) -> Inner:
    arguments = invocation.argv[1:]
    if wrapper.each:
        given = [after for before, after in pairwise(["", *arguments]) if before in wrapper.text]
        texts = [*given, *operands(program, arguments, book.values)]
        return Inner(wrapper, script="\n".join(text for text in texts if " " in text) or None)
    text, rest = _text_option(wrapper, arguments)
    if text is not None:
        return Inner(wrapper, script=text, positional=tuple(rest[1:]), own_name="".join(rest[:1]))
    if wrapper.after:
        at = next((at for at, item in enumerate(arguments) if item in wrapper.after), None)
        argv = arguments[at + 1 :] if at is not None else []
        if argv and program in {"fd", "fdfind"}:
            places = operands(program, arguments[:at], {program: ("-t", "-e", "-d", "-E", "--type")})[1:] or [
                "."
            ]
            argv += [f"{place.rstrip('/')}/" for place in places]
        return Inner(wrapper, argv=tuple(argv))
    rest = _after(wrapper, program, arguments, book)
    if wrapper.script:
        return _script(wrapper, rest, invocation)
    if wrapper.joined:
        return Inner(wrapper, script=" ".join(rest) if rest else invocation.given)
    if wrapper.input:
        return _fed(wrapper, program, rest, invocation)
    if wrapper.remote and (entry := _value("--entrypoint", arguments)):
        rest = [entry, *rest]
    return Inner(wrapper, argv=tuple(rest))


def _fed(wrapper: Wrapper, program: str, rest: list[str], invocation: Invocation) -> Inner:
    """What `xargs` and `parallel` run."""
    arguments = invocation.argv[1:]
    if "--dry-run" in arguments:
        return Inner(wrapper)
    script = _parallel(rest, invocation) if program == "parallel" else None
    if script is not None:
        return Inner(wrapper, script=script)
    return Inner(wrapper, argv=tuple(_with_input(rest, arguments, invocation)))


def _value(option: str, arguments: list[str]) -> str:
    """The value of a long option, behind it or after `=`."""
    for before, after in pairwise([*arguments, ""]):
        if before == option:
            return after
        if before.startswith(option + "="):
            return before.partition("=")[2]
    return ""


def _text_option(wrapper: Wrapper, arguments: list[str]) -> tuple[str | None, list[str]]:
    left = 0 if wrapper.script else max(1, wrapper.operands)
    for at, argument in enumerate(arguments):
        for option in wrapper.text:
            after = "[A-Za-z]*" if wrapper.script else ""
            cluster = len(option) == 2 and re.fullmatch(rf"-[A-Za-z]*{option[1]}{after}", argument)
            if argument == option or cluster:
                at += arguments[at + 1 : at + 2] == ["--"]
                return (arguments[at + 1] if len(arguments) > at + 1 else None), arguments[at + 2 :]
            if option.startswith("--") and argument.startswith(option + "="):
                return argument[len(option) + 1 :], arguments[at + 1 :]
        left -= not argument.startswith(("-", "+"))
        if left < 0:
            break
    return None, []


def _after(wrapper: Wrapper, program: str, arguments: list[str], book: Book) -> list[str]:
    """The arguments behind a wrapper's own options, operands and settings."""
    takes, left, skip = book.values.get(program, ()), wrapper.operands, False
    for at, argument in enumerate(arguments):
        if skip:
            skip = False
        elif program == "env" and argument.startswith(("-S", "--split-string")):
            joined = argument.partition("=")[2] if "=" in argument[:15] and "--" in argument else argument[2:]
            return [
                *(joined or " ".join(arguments[at + 1 : at + 2])).split(),
                *arguments[at + 2 - bool(joined) :],
            ]
        elif argument == "--":
            return arguments[at + 1 + left :]
        elif argument in takes or (not wrapper.remote and _ends_with_value(argument, takes)):
            skip = True
        elif re.match(_OWN_SETTINGS.get(program, r"-."), argument):
            continue
        elif left:
            left -= 1
        else:
            return arguments[at:]
    return []


def _ends_with_value(argument: str, takes: tuple[str, ...]) -> bool:
    """Whether a cluster of letters such as `-Hu` ends with an option that takes the next argument."""
    is_cluster = re.fullmatch(r"-[A-Za-z]{2,}", argument)
    return (
        bool(is_cluster) and f"-{argument[-1]}" in takes and not any(f"-{x}" in takes for x in argument[1:-1])
    )


def _script(wrapper: Wrapper, rest: list[str], invocation: Invocation) -> Inner:
    named = _value("--rcfile", invocation.argv) or _value("--init-file", invocation.argv)
    rest = rest or ([named] if named else [])
    first = re.sub(r"^/proc/self/fd/", "/dev/fd/", "".join(rest[:1]))
    from_input = first in {"", "-", "/dev/stdin", "/dev/fd/0"} or "-s" in invocation.argv
    if from_input:
        if invocation.given is not None:
            return Inner(wrapper, script=invocation.given, positional=tuple(rest) or None)
        return Inner(wrapper, blind=bool(invocation.piped))
    scene = invocation.scene
    path = first if first.startswith("/") else f"{(scene.cwd or '/?').rstrip('/')}/{first.removeprefix('./')}"
    if (script := scene.script(path)) is not None:
        return Inner(wrapper, script=script, positional=tuple(rest[1:]))
    is_blind = UNKNOWN in first or first.startswith("/dev/fd/")
    return Inner(wrapper, file=first, positional=tuple(rest[1:]), blind=is_blind)


def _parallel(rest: list[str], invocation: Invocation) -> str | None:
    """The script that `parallel` runs: it reads its words as a shell does, and puts each argument in."""
    at = next((at for at, item in enumerate(rest) if item.startswith(":::")), None)
    if not rest or at == 0:
        return "\n".join(rest[1:] if rest else [invocation.given or UNKNOWN])
    if at is None:
        return None
    command = " ".join(rest[:at])
    command = command if "{" in command else command + " {}"
    items = [item for item in rest[at + 1 :] if not item.startswith(":::")]
    return "\n".join(re.sub(r"\{\d*[./]*\}", lambda _, item=item: item, command) for item in items)  # type: ignore[misc]


def _with_input(rest: list[str], arguments: list[str], invocation: Invocation) -> list[str]:
    if not rest:
        return []
    own = arguments[: len(arguments) - len(rest)]
    mark = _mark(own)
    named = _value("--arg-file", arguments) or _value("-a", arguments)
    from_file = invocation.scene.scripts.get(absolute(named, invocation.scene)) if named else None
    if from_file and UNKNOWN not in from_file:
        extra = from_file.split()
    elif invocation.given is not None:
        by_line = mark or any(map(_BY_LINE.match, own))
        extra = invocation.given.splitlines() if by_line else invocation.given.split()
    elif invocation.piped[:1] == ("ls",) and not set(invocation.piped) & {"sed", "awk", "cut", "tr"}:
        words = [word for word in invocation.piped[1:] if not word.startswith("-") and "grep" not in word]
        extra = [(word.rstrip("/") + "/") for word in words[:1] if word] or ["./"]
    elif extra := found_by(invocation.piped):
        pass
    else:
        extra = [UNKNOWN]
    mark = mark or "{}"
    if any(mark in item for item in rest):
        return [item.replace(mark, extra[0] if extra else "") for item in rest]
    return [*rest, *extra]


_BY_LINE = re.compile(r"-[a-z]*0$|-d|--null|--delimiter")
"""Options with which `xargs` takes blanks for a part of an item; a NUL counts as a line end here."""


def _mark(own: list[str]) -> str:
    """What `xargs` replaces by each item, by its own options; empty when it appends the items."""
    for before, option in pairwise(["", *own]):
        attached = re.match(r"(?:-[Ii]|--replace=)(.+)", option)
        if before in {"-I", "-J"} or attached or option in {"-i", "--replace"}:
            return option if before in {"-I", "-J"} else attached[1] if attached else "{}"
    return ""


def found_by(piped: tuple[str, ...]) -> list[str]:
    """Where the paths lie that a `find` in the pipe prints; empty without one."""
    if "find" not in piped:
        return []
    starts, selective = find_starts(list(piped[piped.index("find") + 1 :]))
    return [start.rstrip("/") + ("/selected" if selective else "/") for start in starts]


_TAKERS = frozenset({"at", "batch", "crontab", "make", "gmake", "sg", "newgrp", "ed", "ftp", "sftp"})
"""Programs that take commands from their input, in a form of their own."""


def texts_taken(program: str, invocation: Invocation) -> list[str]:
    """The commands that such a program gets, by its input or by a file that the script made."""
    if program not in _TAKERS:
        return []
    scene, arguments = invocation.scene, invocation.argv[1:]
    named = [item for item in arguments if item.startswith("/dev/fd/")]
    if program in {"make", "gmake"}:
        named += ["GNUmakefile", "makefile", "Makefile"]
    files = [scene.scripts.get(absolute(item, scene)) for item in named]
    shells = [item.removeprefix("SHELL=") for item in arguments if item.startswith("SHELL=")]
    return [*shells, *(_taken(program, text) for text in (*files, invocation.given) if text)]


def _taken(program: str, given: str) -> str:
    """The commands in the input of a program: recipes of a makefile, lines of a crontab."""
    given = re.sub(r"(?m)^!", "", given) if program in {"ed", "ftp", "sftp"} else given
    lines = given.split("\n")
    if program == "crontab":
        return timed(given)
    if program in {"make", "gmake"}:
        return "\n".join(line.lstrip("\t@-+ ") for line in lines if line.startswith("\t"))
    return given


_READS_SCRIPT = re.compile(r"\s*(sudo (-\S+ )*)?(\S*/)?(ba|da|z|k|a)?sh( -l?s?)*( --?)?\s*")


def scripts(inner: Inner, invocation: Invocation) -> list[str]:
    """The script that is carried, and what a shell on another machine reads from its input."""
    found = [inner.script or ""]
    if invocation.given and inner.wrapper.joined and _READS_SCRIPT.fullmatch(found[0]):
        found.append(invocation.given)
    return found


def elsewhere(inner: Inner, invocation: Invocation) -> Scene:
    """The scene that the inner command sees."""
    scene = invocation.scene
    changes: dict[str, object] = {"functions": {}} if inner.argv else {}
    if inner.positional is not None:
        changes["positional"] = list(inner.positional)
    program = posixpath.basename(invocation.argv[0])
    set_here = dict(item.split("=", 1) for item in invocation.argv[1:] if re.match(r"[A-Za-z_]\w*=", item))
    folder = _value("--chdir", invocation.argv) or _value(
        {"sudo": "-D", "env": "-C"}.get(program, "--"), invocation.argv
    )
    if folder and program in _OWN_SETTINGS:
        changes["cwd"] = absolute(folder, scene)
    if program in _OWN_SETTINGS and set_here:
        changes["values"] = {**scene.values, **{name: (value,) for name, value in set_here.items()}}
    if inner.own_name:
        changes["values"] = {**scene.values, "0": (inner.own_name,)}
    if inner.wrapper.remote:
        mounts = tuple(_mounts(invocation.argv))
        folder = _value("--workdir", invocation.argv) or _value("-w", invocation.argv)
        changes |= {"remote": True, "cwd": folder if mounts and folder else None, "mounts": mounts}
    return scene.copy(**changes)


def _mounts(argv: list[str]) -> Iterator[tuple[str, str]]:
    """What a container sees of the machine: (path inside, path outside)."""
    for option, after in pairwise([*argv, ""]):
        value = option.partition("=")[2] if option.startswith(("-v=", "--volume=")) else ""
        outside, colon, inside = (after if option in {"-v", "--volume"} else value).partition(":")
        if colon and outside.startswith("/"):
            yield inside.partition(":")[0], outside
        source = re.search(r"\b(?:source|src)=([^,]+)", after)
        target = re.search(r"\b(?:target|dst|destination)=([^,]+)", after)
        if option == "--mount" and source and target:
            yield target[1], source[1]
