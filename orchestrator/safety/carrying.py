"""Commands that another command carries: by a wrapper, in an argument of its own, or as hidden text."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from itertools import dropwhile, islice
from typing import TYPE_CHECKING

from orchestrator.safety import embedded, interpreters, queries, readers, unwrap
from orchestrator.safety.rulebook import begins, has, operands
from orchestrator.safety.verdict import Finding, Level
from orchestrator.safety.walk import Invocation
from orchestrator.safety.words import UNKNOWN, Scene

if TYPE_CHECKING:
    from orchestrator.safety.shell import Examiner

_FETCHERS = {"npx", "bunx", "pnpx", "uvx", "pipx"}
_FETCHING = {"dlx", "x", "tool run"}
_SAME_SHELL = {"command", "builtin"}
"""Wrappers after which the shell is where the command left it."""
_RUNS_BINARIES = {"yarn", "pnpm"}
"""Programs whose first word may be a program of the project's dependencies."""
_RUN_WORDS = frozenset([
    "run",
    "exec",
    "x",
    "dlx",
    "shell",
    "ssh",
    "sh",
    "exec-env",
    "with",
    "do",
    "env",
    "call",
])
_RUN_OPTIONS = frozenset([
    "-c",
    "-e",
    "-x",
    "--command",
    "--cmd",
    "--exec",
    "--run",
    "--shell",
    "--scripts",
    "--preview",
])
"""Words and options behind which programs take a command."""
_RUINS = frozenset(["rm", "dd", "mkfs", "shred", "wipefs", "chmod", "chown", "mv", "find", "truncate"])
_TOLD_DEPTH = 10
"""Nesting below which such commands are looked for: each may hold several more."""
_LOOKED_AT, _FOLLOWED = 400, 4
"""Words of a command that are looked at, and commands among them that are followed."""
_GUESSED = ("shell.not-known", "shell.unreadable", "shell.unknown", "remote.", "project.grave-word")
"""Findings that a text which is no command may have, too."""
_BETWEEN_TEXTS = re.compile(r"""["']\s*[,+.]?\s*["']""")
"""Where code joins or lists the texts that it prints."""
_HIDDEN = re.compile(r"(?:\brm\s+-\w*[rRf]|\bmkfs|\bdd\s+\S*of=/dev/|\bshred\s).*", re.DOTALL)


def carried(examiner: Examiner, name: str, invocation: Invocation) -> bool:
    """The commands that a wrapper carries."""
    known, before = False, len(examiner.findings)
    for inner in unwrap.unwrap(name, invocation, examiner.book):
        scene = unwrap.elsewhere(inner, invocation)
        runs = inner.script is not None or inner.argv or inner.blind or inner.file
        at = len(examiner.findings)
        _follow(examiner, inner, invocation, scene)
        if name in _SAME_SHELL:
            functions = invocation.scene.functions
            invocation.scene.takes_over(scene, ())
            invocation.scene.functions = functions
        if inner.blind or UNKNOWN in (inner.script or ""):
            _fed(examiner, " ".join(invocation.piped), scene)
        if inner.wrapper.raised and (runs or not readers.entry(name, invocation.argv[1:], examiner.book)):
            _raised(examiner, name, known=bool(runs) and not examiner.findings[at:])
        known |= bool(runs)
        if (name in _FETCHERS or inner.wrapper.words in _FETCHING) and any(
            item.rule == "shell.not-known" for item in examiner.findings[before:]
        ):
            why = "fetches and runs a package that is not among the known tools"
            examiner.add("packages.runs-unknown", Level.ASK, why, " ".join(invocation.argv))
    for text in unwrap.texts_taken(name, invocation):
        examiner.walk.script(text, invocation.scene.copy())
    if name in _RUNS_BINARIES:
        _binary(examiner, name, invocation)
    known |= embedded.run(examiner, name, invocation)
    if not known and not queries.speaks_sql(name) and examiner.walk.depth < _TOLD_DEPTH:
        _told(examiner, name, invocation)
    return known


def _binary(examiner: Examiner, name: str, invocation: Invocation) -> None:
    """`yarn prisma …`: a program with rules of its own, and no command of the one that runs it."""
    book, argv = examiner.book, invocation.argv
    first = "".join(operands(name, argv[1:], book.values)[:1])
    own = any(begins([first], rule.words) for rule in book.candidates(name))
    if first in argv and book.names(first) and not own:
        examiner.walk.nested(Invocation(argv[argv.index(first) :], invocation.scene, invocation.given))


def _told(examiner: Examiner, name: str, invocation: Invocation) -> None:
    """Commands among the arguments of a program that no description calls a carrier: what is grave counts."""
    words, scene = invocation.argv[1:], invocation.scene
    found = list(islice(_commands(words[:_LOOKED_AT]), _FOLLOWED))
    if not found or interpreters.takes_code(name) or readers.entry(name, words, examiner.book):
        return
    for argv, is_meant in found:
        inner = type(examiner)(examiner.book)
        inner.walk.depth = examiner.walk.depth + 4
        if len(argv) == 1:
            inner.walk.script(argv[0], scene.copy())
        else:
            inner.walk.nested(Invocation(argv, scene.copy()))
        examiner.findings += [
            item for item in inner.findings if item.level is Level.DENY or (is_meant and _is_grave(item))
        ]


def _is_grave(finding: Finding) -> bool:
    return (finding.level >= Level.ASK or finding.loss == "yes") and not finding.rule.startswith(_GUESSED)


def _commands(words: list[str]) -> Iterator[tuple[list[str], bool]]:
    """What may be a command in the arguments, and whether a word before it says that it is run."""
    starts = [at for at, word in enumerate(words) if word in _RUN_WORDS]
    for at, word in enumerate(words):
        rest = words[at + 1 :]
        if word == "--" and starts and starts[0] < at:
            yield from _worth(rest)
        elif word in _RUN_WORDS:
            yield from _worth(list(dropwhile(lambda item: item.startswith("-"), rest)))
        elif word in _RUN_OPTIONS:
            yield from _worth(rest[:1])
        elif posixpath.basename(word) in _RUINS:
            yield words[at:], False


def _worth(argv: list[str]) -> Iterator[tuple[list[str], bool]]:
    """A command of several words, or a text that holds one."""
    if argv and not argv[0].startswith("-") and (len(argv) > 1 or " " in argv[0]):
        yield argv, True
        if len(argv) == 2 and " " in argv[1]:
            yield argv[1:], True


def _follow(examiner: Examiner, inner: unwrap.Inner, invocation: Invocation, scene: Scene) -> None:
    """One command or script that a wrapper carries."""
    is_own = inner.wrapper.words.endswith("run") and not scene.mounts
    if inner.wrapper.remote and not is_own:
        examiner.inspects = examiner.inside = False
    if inner.wrapper.script and invocation.argv[1:2] == ["-n"]:
        return
    if inner.script is not None:
        for script in unwrap.scripts(inner, invocation):
            examiner.walk.script(script, scene)
    elif len(inner.argv) == 1 and " " in inner.argv[0]:
        examiner.walk.script(inner.argv[0], scene)
    elif inner.argv:
        examiner.walk.nested(Invocation(list(inner.argv), scene, invocation.given, invocation.piped))
    elif inner.blind:
        examiner.doubt("shell.unknown-script", "runs a script that is not known before it runs")
    elif inner.file and not has("-n", invocation.argv):
        interpreters.script_file(examiner, inner.file, list(inner.positional or ()), scene)


def _fed(examiner: Examiner, words: str, scene: Scene) -> None:
    """What feeds a shell in a way that cannot be followed: ruin in its texts is ruin."""
    for between in ("", " "):
        hidden(examiner, _BETWEEN_TEXTS.sub(between, words), scene)


def _raised(examiner: Examiner, name: str, *, known: bool) -> None:
    """Other rights than the user's own; `known` when all that was found is that it reads."""
    if known:
        examiner.add("shell.raises-rights-to-read", Level.REVIEW, "reads with other rights than yours", name)
        examiner.inside = False
    else:
        examiner.add("shell.raises-rights", Level.ASK, "runs with other rights than yours", name)


def hidden(examiner: Examiner, text: str, scene: Scene) -> None:
    """A grave command inside a text that some program may run makes the whole as grave."""
    match = _HIDDEN.search(text)
    if match:
        inner = type(examiner)(examiner.book)
        inner.walk.depth = examiner.walk.depth + 4
        inner.walk.script(match[0].split("'")[0].split('"')[0], scene.copy())
        if inner.result().level is Level.DENY:
            examiner.findings += [found for found in inner.findings if found.level is Level.DENY]
