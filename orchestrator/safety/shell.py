"""Judge a shell command: every simple command in it gets findings, and the gravest decides.

What cannot be followed is a reason to ask, never to allow.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from orchestrator.safety import code, readers, targets, unwrap
from orchestrator.safety.rulebook import Book, has, rules_for
from orchestrator.safety.scope import Scope, absolute, consequence, scope, starts_sessions
from orchestrator.safety.verdict import Finding, Level, printable
from orchestrator.safety.walk import Invocation, Walk
from orchestrator.safety.words import UNKNOWN, Scene

_AT_HOME = {Scope.INSIDE, Scope.ROOT, Scope.GIT, Scope.NOWHERE, Scope.PRIVATE}
_HARMLESS_SETTINGS = re.compile(r"LANG|LC_\w+|TZ|TERM|COLUMNS|LINES|NO_COLOR|[a-z_][a-z0-9_]*")
_PROGRAM_FOLDERS = ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin")
_PYTHON = re.compile(r"(python|pypy|ipython)[\d.]*$")
_CODE = {
    "perl": "eE",
    "ruby": "e",
    "node": "ep",
    "nodejs": "ep",
    "deno": "e",
    "bun": "e",
    "php": "rBR",
    "lua": "e",
}
_CODE |= {
    "Rscript": "e",
    "R": "e",
    "julia": "eE",
    "tclsh": "",
    "osascript": "e",
    "elixir": "e",
    "groovy": "e",
}
_EMBEDDED = {
    "vim vi nvim ex view less more man": r":?(?:silent\s+)?!(.+)",
    "git": r"=!(.+)",
    "tar bsdtar": r"exec=(.+)",
    "gdb lldb": r"^(?:shell|!)\s*(.+)",
    "socat": r"(?:EXEC|SYSTEM):([^,]+)",
    "ssh scp sftp": r"(?:ProxyCommand|LocalCommand)[= ](.+)",
    "rsync": r"^--rsync-path=(.+)",
    "sed gsed": r"(?:^|[;{/\d$ ])e\s+(.+)",
    "awk gawk mawk nawk": r"(?:system\(\s*|\|\s*|print\s*)\"([^\"]+)\"",
}
_HIDDEN = re.compile(r"(?:\brm\s+-\w*[rRf]|\bmkfs|\bdd\s+\S*of=/dev/|\bshred\s).*", re.DOTALL)


@dataclass(frozen=True)
class Examined:
    """What a command was found to do."""

    findings: tuple[Finding, ...]
    reads_only: bool
    """It changes nothing."""
    inspects: bool
    """It changes nothing, runs nothing that the workspace configures, and sends nothing."""
    inside: bool

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

    def result(self) -> Examined:
        """What was collected."""
        inspects = self.inspects and self.reads_only
        return Examined(tuple(dict.fromkeys(self.findings)), self.reads_only, inspects, self.inside)

    def add(self, rule: str, level: Level, why: str, subject: str = "") -> None:
        """Record a finding."""
        self.findings.append(Finding(rule, level, why, printable(subject.replace(UNKNOWN, "?"))))
        if level > Level.ALLOW:
            self.reads_only = False

    def doubt(self, rule: str, why: str) -> None:
        """Something that cannot be followed."""
        self.add(rule, Level.ASK, why)

    def forbid(self, rule: str, why: str) -> None:
        """Something that is never right."""
        self.add(rule, Level.DENY, why)

    def change(
        self, effect: str, target: str, scene: Scene, *, tree: bool = False, subject: str = ""
    ) -> None:
        """Record an effect on a path."""
        level, why, where = consequence(effect, target, scene, tree=tree)
        # An unknown target that leaves a finding is judged by the policy, which knows of the sandbox.
        is_judged_later = where is Scope.UNKNOWN and level > Level.ALLOW
        if where not in _AT_HOME and not is_judged_later:
            self.inside = False
        if effect == "write" and starts_sessions(absolute(target, scene)):
            self.add("shell.persistence", Level.ASK, "changes what runs at the next login", subject or target)
        if level > Level.ALLOW:
            self.add(f"shell.{effect}-{where.name.lower()}", level, why, subject or target)

    def redirect(self, operator: str, target: str, scene: Scene) -> None:
        """A redirection: to a file it writes, from a file it reads."""
        if operator in {">&", "<&"} and re.fullmatch(r"\d*-?", target):
            return
        if re.match(r"/dev/(tcp|udp)/", target):
            self.add("net.raw", Level.ASK, "opens a raw connection", target)
        elif operator in {"<", "<&"}:
            self.change("read", target, scene)
        else:
            self.change("write", target, scene)

    def command(self, invocation: Invocation) -> None:
        """One simple command."""
        argv, scene = invocation.argv, invocation.scene
        subject = " ".join(argv)
        if UNKNOWN in argv[0]:
            self.doubt("shell.unknown-command", "runs a command whose name is not known before it runs")
            self.hidden(" ".join(argv[1:]), scene)
            return
        name, plain = self.program(argv[0], scene, subject)
        for argument in argv[1:]:
            self.secret(argument, scene, subject)
        if self.special(name, invocation):
            return
        before = len(self.findings)
        carries = known = self.carried(name, invocation)
        known |= self.inline(name, invocation, subject)
        known |= self.effects(name, invocation, subject)
        for rule in rules_for(name, argv[1:], invocation.given or "", self.book):
            self.add(rule.id, rule.severity, rule.why, subject)
            self.inside &= not rule.leaves
            known = True
        if not known and not (plain and self.reads(name, invocation)):
            self.unknown(argv, scene, subject)
        if (
            not carries
            and self.findings[before:]
            and max(found.level for found in self.findings[before:]) >= Level.REVIEW
        ):
            self.hidden(" ".join([*argv[1:], invocation.given or ""]), scene)

    def program(self, text: str, scene: Scene, subject: str) -> tuple[str, bool]:
        """The program's name, and whether it is the system's program of that name."""
        folder, name = posixpath.split(text)
        if not folder or folder in _PROGRAM_FOLDERS:
            return name.lower() if name.isupper() else name, True
        where = scope(text, scene)
        if where not in {Scope.INSIDE, Scope.SYSTEM} and not scene.remote:
            self.add("shell.foreign-program", Level.ASK, f"runs a program at {where.value}", subject)
        elif where is Scope.INSIDE:
            self.add("shell.project-program", Level.REVIEW, "runs a program of the workspace", subject)
        if absolute(text, scene) in scene.scripts:
            self.walk.script(scene.scripts[absolute(text, scene)], scene.copy())
        return name, False

    def secret(self, argument: str, scene: Scene, subject: str) -> None:
        """A path of credentials among the arguments is a reason to ask."""
        for part in {argument, argument.rpartition("@")[2], argument.rpartition("=")[2]}:
            if part[:1] in {"/", ".", "~"} and scope(part, scene) in {Scope.SECRET, Scope.OURS}:
                self.change("read", part, scene, subject=subject)
                return

    def hidden(self, text: str, scene: Scene) -> None:
        """A grave command inside a text that some program may run makes the whole as grave."""
        match = _HIDDEN.search(text)
        if match:
            inner = Examiner(self.book)
            inner.walk.depth = self.walk.depth + 4
            inner.walk.script(match[0].split("'")[0].split('"')[0], scene.copy())
            if inner.result().level is Level.DENY:
                self.findings += [found for found in inner.findings if found.level is Level.DENY]

    def special(self, name: str, invocation: Invocation) -> bool:
        """Commands of the shell itself that change what is known."""
        arguments, scene = invocation.argv[1:], invocation.scene
        if arguments in (["--version"], ["--help"]):
            self.inspects = False
            return True
        if name in {"cd", "pushd", "popd"}:
            _move(name, arguments, scene)
        elif name == "set" and "--" in arguments:
            scene.positional = arguments[arguments.index("--") + 1 :]
        elif name in {"read", "mapfile", "readarray", "getopts", "unset"}:
            for variable in arguments:
                scene.values[scene.name(variable)] = (UNKNOWN,)
        elif name == "eval":
            self.walk.script(" ".join(arguments), scene)
        elif name in {".", "source"}:
            self.source(arguments, invocation)
        elif name in {"alias", "trap"}:
            for item in arguments if name == "alias" else arguments[:1]:
                self.walk.script(item.partition("=")[2] if name == "alias" else item.strip("-"), scene.copy())
        else:
            return name == "command" and bool(re.match(r"-[vV]", "".join(arguments[:1])))
        return True

    def source(self, arguments: list[str], invocation: Invocation) -> None:
        """`.` and `source`: the script runs in this very shell."""
        file = "".join(arguments[:1])
        script = invocation.scene.scripts.get(absolute(file, invocation.scene))
        if file in {"/dev/stdin", "-"}:
            script = invocation.given
        if script is not None:
            self.walk.script(script, invocation.scene)
        elif UNKNOWN in file or file.startswith("/dev/") or scope(file, invocation.scene) is Scope.OUTSIDE:
            self.doubt("shell.unknown-script", "runs a script that is not known before it runs")
        else:
            self.add("shell.script-file", Level.REVIEW, "runs a script file that was not read here", file)
            invocation.scene.values["PATH"] = (UNKNOWN,)

    def carried(self, name: str, invocation: Invocation) -> bool:
        """The commands that a wrapper carries."""
        known = False
        for inner in unwrap.unwrap(name, invocation, self.book):
            scene = unwrap.elsewhere(inner, invocation)
            if inner.wrapper.raised:
                self.add("shell.raises-rights", Level.ASK, "runs with other rights than yours", name)
            if inner.wrapper.remote:
                self.inspects = self.inside = False
            if inner.script is not None:
                self.walk.script(inner.script, scene)
            elif inner.argv:
                self.walk.nested(Invocation(list(inner.argv), scene, invocation.given, invocation.piped))
            elif inner.blind:
                self.doubt("shell.unknown-script", "runs a script that is not known before it runs")
            elif inner.file and not has("-n", invocation.argv):
                self.add(
                    "shell.script-file", Level.REVIEW, "runs a script file that was not read here", inner.file
                )
            known |= bool(inner.script is not None or inner.argv or inner.blind or inner.file)
        known |= self.embedded(name, invocation)
        return known

    def embedded(self, name: str, invocation: Invocation) -> bool:
        """Commands inside an argument, as editors and Git aliases have them."""
        found = False
        for programs, pattern in _EMBEDDED.items():
            if name not in programs.split():
                continue
            for argument in invocation.argv[1:]:
                for script in re.findall(pattern, argument):
                    self.add(
                        "shell.embedded", Level.REVIEW, f"runs a shell command from within {name}", script
                    )
                    self.walk.script(script, invocation.scene.copy())
                    found = True
        return found

    def inline(self, name: str, invocation: Invocation, subject: str) -> bool:
        """Code in the arguments or the input of an interpreter."""
        is_python = bool(_PYTHON.match(name))
        letters = "c" if is_python else _CODE.get(name)
        if letters is None:
            return False
        arguments, scene = invocation.argv[1:], invocation.scene
        text = None
        for at, argument in enumerate(arguments):
            if argument in {"--eval", "--print"} or (letters and re.fullmatch(rf"-\w*[{letters}]", argument)):
                text = "".join(arguments[at + 1 : at + 2])
                break
        if text is None and not [item for item in arguments if not item.startswith("-") or item == "-m"]:
            text = invocation.given
            if text is None and (invocation.piped or "-" in arguments):
                self.doubt("shell.unknown-script", "runs code that is not known before it runs")
                return True
        if text is None:
            return False
        self.code(text, scene, subject, python=is_python)
        return True

    def code(self, text: str, scene: Scene, subject: str, *, python: bool) -> None:
        """The signs of a piece of code."""
        self.add("code.runs", Level.REVIEW, "runs code", subject)
        signs = (code.python(text) if python else None) or code.other(text)
        if UNKNOWN in text or signs.runs_text:
            self.doubt("code.unknown", "runs code that is not known before it runs")
        if signs.network:
            self.add("code.network", Level.ASK, "the code reaches the network", subject)
        for effect, target, tree in signs.changes:
            if target.startswith("~"):
                target = scene.home + target[1:]
            if UNKNOWN in target and not tree:
                self.add(
                    f"code.{effect}-unknown",
                    Level.REVIEW,
                    f"the code {effect}s a path that it computes",
                    subject,
                )
            else:
                self.change(effect, target, scene, tree=tree, subject=subject)
        for script in signs.scripts:
            self.walk.script(script, scene.copy())

    def effects(self, name: str, invocation: Invocation, subject: str) -> bool:
        """Changes of paths."""
        arguments, scene = invocation.argv[1:], invocation.scene
        found = targets.changes(name, arguments, self.book)
        for effect, target, tree in found:
            self.change(effect, target, scene, tree=tree, subject=subject)
        if name == "find":
            return self.find(invocation, subject) or bool(found)
        return bool(found)

    def find(self, invocation: Invocation, subject: str) -> bool:
        """`find` with actions: they meet what lies below its starting points."""
        arguments, scene = invocation.argv[1:], invocation.scene
        starts, selective = targets.find_starts(arguments)
        places = [
            start.rstrip("/") + "/selected" if selective and scope(start, scene) is Scope.ROOT else start
            for start in starts
        ]
        if "-delete" in arguments:
            for place in places:
                self.change("delete", place or "/", scene, tree=True, subject=subject)
        for at, argument in enumerate(arguments):
            if argument in {"-fprint", "-fprint0", "-fls", "-fprintf"}:
                self.change("write", "".join(arguments[at + 1 : at + 2]), scene)
        for argv in targets.find_commands(arguments):
            for place in places:
                filled = [item.replace(UNKNOWN, place) for item in argv]
                self.walk.nested(Invocation(filled, scene.copy()))
        return any(
            item in arguments for item in ("-delete", "-exec", "-execdir", "-ok", "-okdir", "-fprint", "-fls")
        )

    def reads(self, name: str, invocation: Invocation) -> bool:
        """Whether a command is known to change nothing."""
        settings = {*invocation.settings, *invocation.scene.values}
        if any(not _HARMLESS_SETTINGS.fullmatch(setting) for setting in settings):
            return False
        entry = readers.entry(name, invocation.argv[1:], self.book)
        self.inspects &= entry is not None and entry.inspect
        return entry is not None

    def unknown(self, argv: list[str], scene: Scene, subject: str) -> None:
        """A command that no description covers."""
        self.add("shell.not-known", Level.REVIEW, "is not among the commands known to be harmless", subject)
        for argument in argv[1:]:
            where = (
                scope(argument, scene)
                if argument[:1] in {"/", "~"} or argument.startswith("..")
                else Scope.INSIDE
            )
            self.inside &= where in _AT_HOME | {Scope.SYSTEM}


def _move(name: str, arguments: list[str], scene: Scene) -> None:
    """Follow `cd`; after `pushd`, `popd` and `cd -` the folder is not known."""
    goal = next((item for item in arguments if not item.startswith("-")), scene.home)
    path = absolute(goal, scene)
    scene.cwd = None if UNKNOWN in path or "-" in arguments or name != "cd" else path
