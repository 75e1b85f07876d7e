"""Judge a shell command: every simple command in it gets findings, and the gravest decides.

What cannot be followed is a reason to ask, never to allow.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from dataclasses import dataclass, replace

from orchestrator.safety import (
    carrying,
    finds,
    interpreters,
    queries,
    reaching,
    readers,
    sending,
    shellwords,
    targets,
    unfamiliar,
    windows,
)
from orchestrator.safety.familiar import only_asks
from orchestrator.safety.rulebook import Book, has, operands, rules_for, without_values
from orchestrator.safety.scope import AT_HOME, Scope, absolute, consequence, scope, starts_sessions
from orchestrator.safety.verdict import Finding, Level, Loss, printable
from orchestrator.safety.walk import Invocation, Walk
from orchestrator.safety.words import UNKNOWN, Scene

_HARMLESS_SETTINGS = re.compile(r"LANG|LC_\w+|TZ|TERM|COLUMNS|LINES|NO_COLOR|[a-z_][a-z0-9_]*")
_GRAVE_SETTINGS = re.compile(
    r"^(PATH|IFS|ENV|BASH_\w*|LD_\w+|DYLD_\w+|PYTHON\w+|PERL\w+|RUBY\w+|NODE_\w+|JAVA_\w+|_JAVA_\w+|GIT_\w+|GCONV_\w+"
    r"|SHELL|SHELLOPTS|PS[0-4]|LESS\w*|HOME|TMPDIR|\w*(PAGER|EDITOR|VISUAL|BROWSER|ASKPASS|COMMAND|PRELOAD|HOOK)\w*)$"
)
"""Variables by which a harmless program can be made to run or load another one."""
_GNU = frozenset([
    "rm",
    "rmdir",
    "mv",
    "cp",
    "dd",
    "ln",
    "chmod",
    "chown",
    "find",
    "xargs",
    "shred",
    "truncate",
    "tee",
])
"""Programs that other systems have with a `g` before their names."""
_PROGRAM_FOLDERS = ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin")
_EXISTS = re.compile(
    r"(\./)?(README|LICENSE|CHANGELOG|CONTRIBUTING|Makefile|Dockerfile|Cargo|pyproject|setup|package|tsconfig|go|"
    r"requirements|composer|Gemfile|Pipfile|poetry|\.env|\.gitignore|docker-compose|compose)(-lock)?(\.\w+)?"
)
"""Files that a project is sure to have: what is written there replaces something."""
_NAMES_ONLY = frozenset([
    "ls",
    "stat",
    "test",
    "[",
    "du",
    "realpath",
    "readlink",
    "dirname",
    "basename",
    "echo",
    "printf",
    "which",
    "cd",
    "mkdir",
])
"""Programs that say nothing of what is in a file."""
_SERVICES = (
    "database.",
    "containers.",
    "kubernetes.",
    "helm.",
    "infrastructure.",
    "backup.",
    "repository.",
    "cloud.",
    "queues.",
    "fleet.",
    "firewall",
)
"""Rules that look for a word among all arguments: a subcommand that only reads is the better sign."""
_ASKABLE = (
    "build.",
    "project.cleans",
    "packages.",
    "queues",
    "disk.format",
    "fleet.",
    "accounts",
    "keys.",
    "database.",
)
"""Rules that do not hold where an option makes the command a question."""
_LOOKING = frozenset(["help", "view", "show", "status", "info", "list", "ls", "cat", "search"])
"""First words that ask, whatever the next is called."""
_CARRIERS = {"machine.editors"}
"""Rules of programs that pass their arguments on to a shell."""


@dataclass(frozen=True)
class Examined:
    """What a command was found to do."""

    findings: tuple[Finding, ...]
    reads_only: bool
    """It changes nothing."""
    inspects: bool
    """It changes nothing, runs nothing that the workspace configures, and sends nothing."""
    inside: bool
    reaches: tuple[str, ...] = ()
    """Commands and code in it that would reach another machine, whole."""

    @property
    def level(self) -> Level:
        """The gravest level found."""
        return max((finding.level for finding in self.findings), default=Level.ALLOW)


def examine(text: str, scene: Scene, book: Book) -> Examined:
    """Everything that a command would do, as far as its text tells."""
    examiner = Examiner(book)
    examiner.walk.script(text, scene)
    examiner.walk.uncalled(scene)
    return examiner.result()


class Examiner:
    """Collects findings while a script is walked."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.walk = Walk(self)
        self.findings: list[Finding] = []
        self.reads_only = self.inspects = self.inside = True
        self.reaches: list[str] = []

    def result(self) -> Examined:
        """What was collected."""
        inspects = self.inspects and self.reads_only
        findings, reaches = tuple(dict.fromkeys(self.findings)), tuple(dict.fromkeys(self.reaches))
        return Examined(findings, self.reads_only, inspects, self.inside, reaches)

    def add(self, rule: str, level: Level, why: str, subject: str = "") -> None:
        """Record a finding that is on no path."""
        self.found(Finding(rule, level, why, _shown(subject)))

    def found(self, finding: Finding) -> None:
        """Record a finding."""
        self.findings.append(finding)
        if finding.level > Level.ALLOW:
            self.reads_only = False

    def doubt(self, rule: str, why: str) -> None:
        """Something that cannot be followed."""
        self.add(rule, Level.ASK, why)

    def forbid(self, rule: str, why: str) -> None:
        """Something that is never right."""
        self.add(rule, Level.DENY, why)

    def change(
        self,
        effect: str,
        target: str,
        scene: Scene,
        *,
        tree: bool = False,
        subject: str = "",
        loss: Loss = "yes",
    ) -> None:
        """Record an effect on a path."""
        loss = "no" if effect in {"own", "read"} else loss
        if loss == "maybe" and _EXISTS.fullmatch(target):
            loss = "yes"
        level, why, where = consequence(effect, target, scene, tree=tree)
        # An unknown target that leaves a finding is judged by the policy, which knows of the sandbox.
        is_judged_later = where is Scope.UNKNOWN and level > Level.ALLOW
        if where not in AT_HOME and not is_judged_later:
            self.inside = False
        if effect == "write" and starts_sessions(absolute(target, scene)):
            self.add("shell.persistence", Level.ASK, "changes what runs at the next login", subject or target)
        if level > Level.ALLOW:
            place = where.name.lower()
            finding = Finding(f"shell.{effect}-{place}", level, why, _shown(subject or target))
            path = absolute(target, scene)
            known = "" if scene.remote or UNKNOWN in path else path
            self.found(replace(finding, target=_shown(target), scope=place, loss=loss, path=known))

    def redirect(self, operator: str, target: str, scene: Scene) -> None:
        """A redirection: to a file it writes, from a file it reads."""
        if operator in {">&", "<&"} and re.fullmatch(r"\d*-?", target):
            return
        if re.match(r"/dev/(tcp|udp)/", target):
            self.add("net.raw", Level.ASK, "opens a raw connection", target)
            self.reaches.append(target.replace("/", " ").strip())
        elif operator in {"<", "<&"}:
            self.change("read", target, scene)
        else:
            losses: dict[str, Loss] = {">>": "no", "&>>": "no", ">|": "yes", "<>": "no"}
            # No file is the machine or a system folder: such a target stands for what lies in it.
            whole = scope(target, scene) is Scope.VITAL
            self.change("write", target, scene, tree=whole, loss=losses.get(operator, "maybe"))

    def emptied(self, target: str, scene: Scene) -> None:
        """A redirection that leaves nothing of what was in the file."""
        self.change("write", target, scene)

    def command(self, invocation: Invocation) -> None:
        """One simple command."""
        argv, scene = invocation.argv, invocation.scene
        subject = " ".join(argv)
        if UNKNOWN in argv[0] or re.search(r"[*?\[].", argv[0] + " "[len(argv[0]) < 2 :]):
            self.doubt("shell.unknown-command", "runs a command whose name is not known before it runs")
            carrying.hidden(self, " ".join(argv[1:]), scene)
            unfamiliar.guessed(self, argv, scene)
            return
        name, plain = self.program(argv[0], argv[1:], scene, subject)
        for argument in argv[1:] if name not in _NAMES_ONLY else ():
            self.secret(argument, scene, subject)
        if f"alias {name}" in scene.values:
            script = " ".join([*scene.values.pop(f"alias {name}"), *map(shlex.quote, argv[1:])])
            self.walk.script(script, scene)
            return
        if shellwords.special(self, name, invocation):
            return
        before = len(self.findings)
        carries = known = carrying.carried(self, name, invocation)
        known |= interpreters.inline(self, name, invocation, subject)
        known |= windows.run(self, name, argv[1:])
        known |= self.effects(name, invocation, subject)
        asks = queries.only_queries(name, argv[1:], invocation.given)
        known |= sending.network(self, name, invocation, subject)
        known |= self.ruled(name, invocation, subject, asks=asks)
        unfamiliar.told_to_delete(self, argv[1:], self.findings[before:], subject)
        if not known and asks:
            self.inspects = False
        elif not known and not (plain and self.reads(name, invocation)):
            unfamiliar.judge(self, argv, scene, subject)
        fresh = self.findings[before:]
        if not carries and any(item.level >= Level.REVIEW or item.rule in _CARRIERS for item in fresh):
            carrying.hidden(self, " ".join([*argv[1:], invocation.given or ""]), scene)

    def ruled(self, name: str, invocation: Invocation, subject: str, *, asks: bool) -> bool:
        """What the rules say; `asks` where the command's statements are all queries."""
        argv, known = invocation.argv, False
        asked = self.book.is_outward(name) and only_asks(
            without_values(name, argv[1:], self.book.values), name
        )
        is_certain = asks or readers.is_certain(name, argv[1:], self.book)
        for rule in rules_for(name, argv[1:], invocation.given or "", self.book):
            is_question = is_certain and rule.id.startswith(_SERVICES)
            is_question |= (
                is_certain and "".join(argv[1:2]) in _LOOKING and rule.id.startswith((*_ASKABLE, "service."))
            )
            is_question |= (
                asked
                and not any(has(option, argv[1:]) for option in rule.any)
                and not (rule.text and queries.speaks_sql(name))
                and rule.severity >= Level.ASK
                and rule.id.startswith(_SERVICES)
            )
            is_question |= rule.id.startswith(_ASKABLE) and readers.asks_only(name, argv[1:], self.book)
            is_local = rule.id == "http.fetch" or name == "openssl"
            if is_question or (is_local and reaching.stays_here(argv[1:])):
                continue
            self.found(Finding(rule.id, rule.severity, rule.why, _shown(subject), loss=rule.loss))
            self.inside &= not rule.leaves
            known |= rule.id not in self.book.adding
        return known

    def program(self, text: str, arguments: list[str], scene: Scene, subject: str) -> tuple[str, bool]:
        """The program's name, and whether it is the system's program of that name."""
        folder, name = posixpath.split(text)
        if folder in {"/etc/init.d", "/etc/rc.d"}:
            self.walk.nested(Invocation(["service", name, *arguments], scene))
            return name, True
        is_script = name.endswith((".py", ".sh", ".rb", ".js")) and not self.book.is_outward(name)
        if not folder and is_script:
            folder, text = ".", "./" + text
        if not folder or folder in _PROGRAM_FOLDERS:
            name = name[1:] if name[:1] == "g" and name[1:] in _GNU else name
            return name.lower() if name.isupper() and len(name) > 1 else name, True
        where = scope(text, scene)
        if where not in {Scope.INSIDE, Scope.SYSTEM} and not scene.remote:
            self.add("shell.foreign-program", Level.ASK, f"runs a program at {where.value}", subject)
        elif where is Scope.INSIDE:
            interpreters.script_file(self, text, arguments, scene)
        if script := scene.script(absolute(text, scene)):
            self.walk.script(script, scene.copy(positional=arguments))
        return name, False

    def secret(self, argument: str, scene: Scene, subject: str) -> None:
        """A path of credentials among the arguments is a reason to ask."""
        for part in {argument, argument.rpartition("@")[2], argument.rpartition("=")[2]}:
            if part[:1] in {"/", ".", "~"} and scope(part, scene) in {Scope.SECRET, Scope.OURS}:
                self.change("read", part, scene, subject=subject)
                return

    def effects(self, name: str, invocation: Invocation, subject: str) -> bool:
        """Changes of paths."""
        arguments, scene = invocation.argv[1:], invocation.scene
        found = targets.changes(name, arguments, self.book)
        for file in arguments if name == "tee" else ():
            scene.scripts[absolute(file, scene)] = UNKNOWN if invocation.given is None else invocation.given
        if copied := targets.copies(name, operands(name, arguments, self.book.values)):
            source, copy = copied
            text = f'{source} "$@"' if posixpath.dirname(source) in _PROGRAM_FOLDERS else None
            text = text or (
                invocation.given if source == "/dev/stdin" else scene.scripts.get(absolute(source, scene))
            )
            scene.scripts |= {absolute(copy, scene): text} if text else {}
        for file in targets.downloads(name, arguments):
            scene.scripts[absolute(file, scene) + "/" * file.endswith("/")] = UNKNOWN
        is_emptied = invocation.given is not None and not invocation.given.strip()
        if name == "tee" and (is_emptied or set(arguments) & set(invocation.piped)):
            found = [change._replace(loss="yes") for change in found]
        for effect, target, tree, loss in found:
            whole = (
                f"{' '.join(invocation.piped)} | {subject}" if target.endswith(finds.SELECTED) else subject
            )
            self.change(effect, target, scene, tree=tree, subject=whole, loss=loss)
        if name == "find":
            return finds.actions(self, invocation, _shown(subject)) or bool(found)
        return bool(found)

    def reads(self, name: str, invocation: Invocation) -> bool:
        """Whether a command is known to change nothing."""
        settings = {*invocation.settings, *invocation.scene.values}
        if any(_GRAVE_SETTINGS.search(setting) for setting in settings):
            if settings & {"LD_PRELOAD", "LD_AUDIT", "DYLD_INSERT_LIBRARIES"}:
                self.add("shell.preload", Level.ASK, "loads other code into every program that follows")
            return False
        self.inspects &= all(_HARMLESS_SETTINGS.fullmatch(setting) for setting in settings)
        entry = readers.entry(name, invocation.argv[1:], self.book)
        self.inspects &= entry is not None and entry.inspect
        return entry is not None


def _shown(text: str) -> str:
    return printable(text.replace(UNKNOWN, "?"))
