"""Which paths a command would change, by its arguments and the descriptions in `rules/programs.yaml`."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from orchestrator.safety.rulebook import Book, Target, has, operands, shortened
from orchestrator.safety.verdict import Loss
from orchestrator.safety.words import UNKNOWN


class Change(NamedTuple):
    """One effect of a command on a path."""

    effect: str
    target: str
    tree: bool
    """Whether it works on the whole tree below."""
    loss: Loss


_CONTENTS = re.compile(r"/\.?$|/\*$")
"""How a folder is named when its contents are copied, one over the other."""
_HELD = re.compile(
    r"(\./)?(src|lib|app|docs?|tests?|conf(ig)?|public|static|assets|templates|scripts)/?|\./?"
)
"""Folders that a project is sure to have."""
_DOWNLOADERS = {"curl", "wget", "aria2c"}
_FILTERS = {"-name", "-iname", "-path", "-regex", "-size", "-mtime", "-mmin", "-newer", "-empty", "-type"}


def changes(program: str, arguments: list[str], book: Book) -> list[Change]:
    """Every change that a command would make to a path."""
    if program in {"tar", "bsdtar"} and arguments and re.match(r"[a-zA-Z]+$", arguments[0]):
        arguments = ["-" + arguments[0], *arguments[1:]]
    found: list[Change] = []
    for entry in book.targets:
        if program in entry.programs and _holds(entry, program, arguments, book):
            tree = "always" in entry.tree or any(_given(option, arguments) for option in entry.tree)
            found += [
                Change(entry.effect, path, tree, entry.loss)
                for path in _paths(entry, program, arguments, book)
            ]
    if program in {"cp", "rsync"} and any(map(_CONTENTS.search, arguments[:-1])):
        found = [item._replace(loss="yes") if _HELD.fullmatch(item.target) else item for item in found]
    found = [change for change in map(_elsewhere, found) if change]
    found += [Change("write", disk, False, "yes") for disk in _written_over(arguments)]
    if program == "curl" and any(_given(option, arguments) for option in ("-O", "--remote-name")):
        found += [Change("write", name, False, "maybe") for name in downloads(program, arguments) if name]
    if program in _DOWNLOADERS:
        found = [item._replace(loss="maybe") if _FRESH.search(item.target) else item for item in found]
    return found


def replaced(arguments: list[str]) -> str:
    """A file that is named twice, the second time as the output: `convert a.png a.png`; empty for none."""
    files = [item for item in arguments if re.fullmatch(r"[\w./-]+\.\w+", item) and item[0] != "-"]
    return files[-1] if arguments[-1:] == files[-1:] and files[-1:] and files[-1] in files[:-1] else ""


def _holds(entry: Target, program: str, arguments: list[str], book: Book) -> bool:
    if entry.words and operands(program, arguments, book.values)[:1] != [entry.words]:
        return False
    if any(has(option, arguments) for option in entry.unless):
        return False
    return not entry.only or any(_given(option, arguments) for option in entry.only)


def _given(option: str, arguments: list[str]) -> bool:
    """As `has`, but a letter counts with whatever follows it, such as `-i.bak`."""
    if len(option) == 2:
        return any(re.match(rf"-[A-Za-z0-9]*{re.escape(option[1])}", argument) for argument in arguments)
    return has(option, arguments) or shortened(option, arguments)


def _paths(entry: Target, program: str, arguments: list[str], book: Book) -> Iterator[str]:
    found = operands(program, arguments, book.values)[bool(entry.words) :]
    if "--remove-files" in arguments and entry.effect == "delete":
        base = next((after for option, after in pairwise(arguments) if option in {"-C", "--directory"}), "")
        found = [posixpath.join(base, item) for item in found]
    is_scripted = program in {"perl", "ruby"} or (program in {"sed", "gsed"} and has("-e", arguments))
    if is_scripted or (program in _RIGHTS and any(map(_TAKES_RIGHTS.match, arguments))):
        yield from found
    else:
        parts = {"all": found, "last": found[1:][-1:], "first": found[:1], "but_last": found[:-1]}
        yield from (parts | {"but_first": found[1:], "none": []})[entry.operands]
    for at, argument in enumerate(arguments):
        for option in entry.options:
            if argument == option or (len(option) == 2 and re.match(rf"-[A-Za-z]+{option[1]}$", argument)):
                yield from arguments[at + 1 : at + 2]
            elif option.startswith("--") and argument.startswith(option + "="):
                yield argument[len(option) + 1 :]
            elif len(option) == 2 and argument.startswith(option) and not argument.startswith("--"):
                yield argument[2:]
        for prefix in entry.equals:
            if argument.startswith(prefix):
                yield argument[len(prefix) :]


_RIGHTS = frozenset(["chmod", "chown", "chgrp"])
_TAKES_RIGHTS = re.compile(r"-[rwxXst]+$|--reference=")
"""A mode that looks like an option, or that of another file."""
_OUTPUT = re.compile(r"--?(o|O|out|output|outfile|output-document|dest|target|write|w)")
DISK = re.compile(
    r"/dev/(sd|nvme|vd|hd|xvd|mapper/|md\d|dm-|disk|mmcblk|sg\d|pmem|zd|nbd|mtd|ubi\d|ada\d|da\d|nvd\d|rdisk)"
)


def _elsewhere(change: Change) -> Change | None:
    """A change on another machine counts where it is ruin there too: its root, its homes; None otherwise."""
    host = re.fullmatch(r"[\w.@-]+:{1,2}(/.*|)", change.target)
    if not host:
        return change
    is_root = re.fullmatch(r"/+((home|root|etc|usr|var|boot|bin|lib)/*)?(\*)?", host[1])
    return change._replace(target=host[1]) if is_root else None


def _written_over(arguments: list[str]) -> Iterator[str]:
    """Disks, and inputs, that an option names as the output, whatever the program is."""
    for before, after in pairwise(["", *arguments]):
        option, equals, value = after.partition("=")
        if equals and _OUTPUT.fullmatch(option) and DISK.match(value):
            yield value
        elif _OUTPUT.fullmatch(before) and (
            DISK.match(after) or (arguments.count(after) > 1 and after[:1] != "-")
        ):
            yield after


_FRESH = re.compile(
    r"(?i)(^|[/_.-])(new|copy|tmp|temp)(?![a-z])|\.(zip|t?gz|tar|bz2|xz|deb|rpm|iso|whl|jar|pdf)$"
)
"""Names under which a download hardly meets what is there already: archives, and what calls itself new."""


def fetched(words: tuple[str, ...], target: str) -> bool:
    """Whether a command prints what it fetches, and `target` is hardly a new file."""
    return bool(_DOWNLOADERS & set(words[:1])) and not _FRESH.search(target)


def downloads(program: str, arguments: list[str]) -> list[str]:
    """Files and folders that a program fetches: nobody knows what will be in them."""
    if program == "git" and "clone" in arguments:
        return _cloned([item for item in arguments if not item.startswith("-")])
    if program not in _DOWNLOADERS:
        return []
    named = [
        after
        for option, after in pairwise(arguments)
        if re.fullmatch(r"-\w*[oO]|--output(-document)?", option)
    ]
    urls = [item for item in arguments if "/" in item and not item.startswith("-")]
    return [item for item in named if item not in urls] + [url.rpartition("/")[2] for url in urls]


def _cloned(words: list[str]) -> list[str]:
    """The folder that `git clone` makes."""
    origin = next((at for at, item in enumerate(words) if re.search(r"[/:]", item)), -1)
    named = re.match(r"(?:.*[/:])?(.+?)/*(?:\.git)?/*$", words[origin])
    folder = "".join(words[origin + 1 : origin + 2]) or (named[1] if named else "")
    return [folder.rstrip("/") + "/"] if origin >= 0 and folder else []


def copies(program: str, files: list[str]) -> tuple[str, str] | None:
    """The file that a command copies or links, and the new name; None for several, or another command."""
    return (files[0], files[1]) if program in {"cp", "ln", "mv", "install"} and len(files) == 2 else None


def find_starts(words: list[str]) -> tuple[list[str], bool]:
    """Where a `find` begins, and whether it selects only some of what is there."""
    starts = []
    options = 0
    while words[options : options + 1] and re.fullmatch(r"-[LHP]+|-O\d|-D", words[options]):
        options += 2 if words[options] == "-D" else 1
    for word in words[options:]:
        if word.startswith(("-", "(", "!")):
            break
        starts.append(word)
    filters = {word for word in words if word in _FILTERS}
    everything = any(
        words[at + 1 : at + 2] in (["*"], [".*"]) for at, word in enumerate(words) if word in _FILTERS
    )
    return starts or ["."], bool(filters - {"-type"}) and not everything


def find_commands(arguments: list[str]) -> list[list[str]]:
    """The commands that a `find` runs, with `{}` as an unknown path."""
    commands: list[list[str]] = []
    current: list[str] | None = None
    for argument in arguments:
        if argument in {"-exec", "-execdir", "-ok", "-okdir"}:
            current = []
        elif current is not None and argument in {";", "+"}:
            commands.append(current)
            current = None
        elif current is not None:
            current.append(argument.replace("{}", UNKNOWN))
    return commands + ([current] if current else [])
