"""Commands that no description covers, or that are told more than their description knows.

Their words can only raise suspicion; what they are given is looked at for disks.
"""

from __future__ import annotations

import posixpath
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from orchestrator.safety import interpreters, targets, unwrap
from orchestrator.safety.familiar import (
    name_asks,
    name_speaks_of_loss,
    only_asks,
    orders_loss,
    speaks_of_loss,
)
from orchestrator.safety.rulebook import without_values
from orchestrator.safety.scope import AT_HOME, Scope, scope
from orchestrator.safety.verdict import Finding, Level
from orchestrator.safety.walk import Invocation
from orchestrator.safety.words import UNKNOWN, Scene

if TYPE_CHECKING:
    from orchestrator.safety.shell import Examiner

_LENIENT = {
    "project.tools",
    "machine.editors",
    "infrastructure.prepare",
    "containers.usual",
    "host.code",
    "sql.schema",
    "git.writes-files",
}
"""Rules that call a program harmless by its name or first word."""
_TEST_RUNNERS = frozenset([
    "jest",
    "vitest",
    "mocha",
    "ava",
    "pytest",
    "rspec",
    "phpunit",
    "pest",
    "ctest",
    "bats",
    "cypress",
])
"""Programs whose words pick tests."""
_GUESSES = ("rm", "dd", "shred", "chmod", "chown", "mv", "find", "mkfs", "wipefs")
_NAMED_FOR_WRITING = re.compile(
    r"(?i)^mk|mkfs|format|wipe|erase|sanitize|unmap|discard|flash|burn|resize|shrink|clone|zero|blank|nuke|write|restore|dd$|-sys$|disk$"
)
"""Names of programs that put something on the disk that they are given."""
_AS_OUTPUT = re.compile(r"(?i)-{0,2}(.*,)?(of|wipe|dest\w*|target|to|out\w*|filename)=")
_LOOKS = re.compile(
    r"-[nlvhVs]+|--(readonly|read-only|no-write|no-action|list|info|print|show|test|verbose|status|json)"
)
"""Options of a program that only looks."""
_WRITES_DISK = re.compile(
    r"^-\w{0,2}[FEOUXZ]$|^-(w|f|F|y|d|e|E|O|L|U|x|X|-force|-yes|-write|-format|-delete|-repair)"
)


def judge(examiner: Examiner, argv: list[str], scene: Scene, subject: str) -> None:
    """A command that no description covers."""
    name, arguments = posixpath.basename(argv[0]), argv[1:]
    if not arguments and (name in unwrap.SHELLS or interpreters.takes_code(name)):
        return  # a shell or an interpreter that is given nothing to run
    reads = re.search(r"-?(doc|lint|help)$", name)
    asked = only_asks(without_values(name, arguments, examiner.book.values), name)
    grave = not (reads or asked) and speaks_of_loss(arguments)
    grave |= name_speaks_of_loss(argv[0], arguments, loosely=True)
    disks = [item for item in arguments if targets.DISK.match(_AS_OUTPUT.sub("", item))]
    before = arguments[: arguments.index(disks[0])] if disks else []
    asks_first = any(re.match(r"\w", item) for item in before) and only_asks(before)
    if disks and not asks_first and not _only_looks(arguments, disks):
        others = [item for item in arguments if not item.startswith("-") and item not in disks]
        after_one = len(disks) > 1 and arguments[-2:-1] == disks[-2:-1]
        copies = arguments[-1] in disks and (bool(others) or after_one)
        writes = (
            grave or copies or any(map(_WRITES_DISK.match, arguments)) or any("=" in item for item in disks)
        )
        writes = writes or bool(_NAMED_FOR_WRITING.search(name))
        level = Level.DENY if writes else Level.ASK
        examiner.add("disk.not-known", level, "an unfamiliar command that is given a disk", subject)
    elif examiner.book.is_outward(name) and arguments:
        looks = asked or name_asks(name, arguments) or _only_looks(arguments, disks)
        _outward_tool(examiner, subject, looks=looks)
    elif grave:
        why = "an unfamiliar command, and its words speak of deleting, stopping or sending something"
        examiner.add("shell.not-known-grave", Level.ASK, why, subject)
    else:
        if "/" not in argv[0] or all(found.rule != "project.script" for found in examiner.findings):
            why = "is not among the commands known to be harmless"
            examiner.add("shell.not-known", Level.REVIEW, why, subject)
        _leads_out(examiner, [item for item in arguments if not targets.DISK.match(item)], scene)
        if file := targets.replaced(arguments):
            examiner.change("write", file, scene, subject=subject)


def _only_looks(arguments: list[str], disks: list[str]) -> bool:
    """Whether nothing but disks and options that look is given."""
    options = [item for item in arguments if item not in disks]
    return bool(options) and all(map(_LOOKS.fullmatch, options))


def _outward_tool(examiner: Examiner, subject: str, *, looks: bool) -> None:
    if looks:
        examiner.add("remote.reads", Level.REVIEW, "seems to read something beyond this machine", subject)
        examiner.inside = False
    else:
        examiner.add("remote.not-known", Level.ASK, "may change something beyond this machine", subject)


def _leads_out(examiner: Examiner, arguments: list[str], scene: Scene) -> None:
    """Note whether an argument of a program that nobody knows leads out of the workspace."""
    for argument in arguments:
        # `//` begins an expression of XPath.
        is_path = (argument[:1] in {"/", "~"} and argument[:2] != "//") or argument.startswith("..")
        where = scope(argument, scene) if is_path else Scope.INSIDE
        examiner.inside &= where in AT_HOME | {Scope.SYSTEM}


def told_to_delete(examiner: Examiner, arguments: list[str], found: list[Finding], subject: str) -> None:
    """A tool that is known for everyday work, with words that order a deletion."""
    rules = {item.rule for item in found}
    if not rules & _LENIENT or not orders_loss(arguments, most=3 if "git.writes-files" in rules else 2):
        return
    if any(posixpath.basename(word) in _TEST_RUNNERS for word in subject.split(" ")[:2]):
        return
    if all(item.level <= Level.SNAPSHOT and item.loss != "yes" for item in found):
        examiner.add("project.grave-word", Level.ASK, "is told to delete or remove something", subject)


def guessed(examiner: Examiner, argv: list[str], scene: Scene) -> None:
    """A command whose name is computed: ruin if it is ruin as `rm`, or without what is not known of it."""
    name = argv[0].replace(UNKNOWN, "")
    if re.search(r"[*?\[]", name):
        name = next((item for item in _GUESSES if fnmatchcase(item, posixpath.basename(name))), "")
    looks_like_rm = any(re.fullmatch(r"-\w*(rf|fr|r|R)\w*", item) for item in argv[1:])
    for guess in {name, "rm" if looks_like_rm and not name else ""} - {""}:
        before = (list(examiner.findings), examiner.reads_only, examiner.inspects, examiner.inside)
        examiner.walk.nested(Invocation([guess, *argv[1:]], scene.copy()))
        ruin = [item for item in examiner.findings[len(before[0]) :] if item.level is Level.DENY]
        examiner.findings[:], examiner.reads_only, examiner.inspects, examiner.inside = before
        examiner.findings += ruin
