"""Walk a shell script from top to bottom and hand every simple command and redirection to a judge.

The walk keeps what is known on the way (variables, folder, functions, files written); it decides nothing.
"""

from __future__ import annotations

import posixpath
import re
import time
from dataclasses import dataclass
from typing import Protocol

from orchestrator.safety.output import output_of
from orchestrator.safety.syntax import (
    MAX_SECONDS,
    PARSE_SECONDS,
    SHORT,
    Node,
    Unreadable,
    parse,
    substitutions,
)
from orchestrator.safety.targets import fetched
from orchestrator.safety.timetables import runs_later
from orchestrator.safety.tree import (
    FORK_BOMB,
    as_word,
    assigned,
    calls_itself_beside,
    names,
    programs,
    starts_itself,
)
from orchestrator.safety.words import SPLIT, UNKNOWN, Output, Scene, document, fields, flat, single

DEEPEST = 24
"""Nesting of scripts in scripts, functions and substitutions that is followed."""
MOST_STEPS = 5_000
"""Statements of one script that are followed, calls of functions included."""


@dataclass(frozen=True)
class Invocation:
    """One simple command, as it would run."""

    argv: list[str]
    scene: Scene
    given: str | None = None
    """Its standard input, where that is certain."""
    piped: tuple[str, ...] = ()
    """The literal words of what feeds its standard input; `<` for a file."""
    settings: tuple[str, ...] = ()
    """Names of the variables set for it alone."""


_RUN_LATER = re.compile(
    r"(PAGER|EDITOR|VISUAL|BROWSER|ASKPASS|_COMMAND|GIT_SSH|_DIFF|LESSOPEN|LESSCLOSE|BASH_ENV"
    r"|_RSH|SVN_SSH|_WRAPPER|script_shell)$"
)
"""Variables that other programs run as commands."""


class Judge(Protocol):
    """What the walk reports to."""

    def command(self, invocation: Invocation) -> None:
        """One simple command."""
        ...

    def redirect(self, operator: str, target: str, scene: Scene) -> None:
        """One redirection to or from a file."""
        ...

    def emptied(self, target: str, scene: Scene) -> None:
        """A redirection that leaves nothing of what was in the file."""
        ...

    def doubt(self, rule: str, why: str) -> None:
        """Something that cannot be followed, so that a person has to look."""
        ...

    def forbid(self, rule: str, why: str) -> None:
        """Something that is never right."""
        ...


class Walk:
    """One script with its judge."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.depth = 0
        self.steps = 0
        self.active: list[str] = []
        self.ends = 0.0
        """When to give up, on the monotonic clock; 0 until a long script begins."""

    def script(self, text: str, scene: Scene) -> None:
        """Walk a script given as text; what cannot be parsed is a doubt."""
        if UNKNOWN in text:
            self.judge.doubt("shell.unknown-script", "runs a script that is not known before it runs")
            text = text.replace(UNKNOWN, "__unknown__")
        try:
            tree = parse(text)
        except Unreadable as error:
            if len(text) < SHORT and FORK_BOMB.search(text):
                self.judge.forbid("shell.fork-bomb", "starts itself again and again until the machine stops")
            self.judge.doubt("shell.unreadable", f"the command cannot be checked: {error}")
            return
        if len(text) >= SHORT and not self.ends:
            self.ends = time.monotonic() + MAX_SECONDS - PARSE_SECONDS
        if self.depth >= DEEPEST:
            self.judge.doubt("shell.too-deep", "nests scripts deeper than can be followed")
            return
        self.depth += 1
        self.statements(tree.get("Stmts") or [], scene)
        self.depth -= 1

    def uncalled(self, scene: Scene) -> None:
        """Walk the functions that nothing called: a trap or a later command may."""
        for name, body in list(scene.functions.items()):
            if name not in scene.called:
                self.statement(body, scene.copy(positional=None))

    def statements(self, nodes: list[Node], scene: Scene) -> str | None:
        """Walk statements in order; returns what they print, where that is certain."""
        texts = [self.statement(node, scene) for node in nodes]
        return joined(texts)

    def statement(
        self, node: Node, scene: Scene, given: str | None = None, piped: tuple[str, ...] = ()
    ) -> str | None:
        """Walk one statement; returns what it prints, where that is certain."""
        command = node.get("Cmd") or {}
        if node.get("Background"):
            scene = scene.copy()
        targets, inputs = [], []
        for redirect in node.get("Redirs") or []:
            operator = redirect["Op"]
            if operator in {"<<", "<<-", "<<<"}:
                number = (redirect.get("N") or {}).get("Value", "0")
                scene.scripts[f"/dev/fd/{number}"] = here = self._text(redirect, scene)
                given = here if number == "0" else given
            else:
                for target in flat([redirect["Word"]], scene, self.inner(scene)):
                    self.judge.redirect(operator, target, scene)
                    targets.append((operator, target))
                    if operator == "<&" and target.isdigit() and target != "0":
                        given, piped = scene.scripts.get(f"/dev/fd/{target}"), (*piped, "<")
                    if operator == "<":
                        given = "" if target == "/dev/null" else scene.scripts.get(self.path(target, scene))
                        piped = (*piped, "<")
                        inputs.append(target)
        self.steps += 1
        late = self.ends and time.monotonic() > self.ends
        if late or self.depth >= DEEPEST or self.steps > MOST_STEPS:
            self.judge.doubt("shell.too-deep", "nests or repeats more than can be followed")
            return None
        self.depth += 1
        text = self.command(command, scene, given, piped)
        self.depth -= 1
        return self.written(text, targets, (*programs(node), *piped, *inputs), scene)

    def _text(self, redirect: Node, scene: Scene) -> str:
        """A text in the script that a command reads."""
        if redirect["Op"] == "<<<":
            return self.one(redirect.get("Word"), scene) + "\n"
        return document(redirect, scene, self.inner(scene))

    def written(
        self, text: str | None, targets: list[tuple[str, str]], own: tuple[str, ...], scene: Scene
    ) -> str | None:
        """Note what files hold after a statement with these redirections; returns what is still printed."""
        for operator, target in targets:
            is_empty = text is not None and not text.strip()
            if operator in {">", "&>"} and (is_empty or target in own or fetched(own, target)):
                self.judge.emptied(target, scene)
            if operator in {">", ">|", "&>", ">>"}:
                path = self.path(target, scene)
                before = scene.scripts.get(path, "") if operator == ">>" else ""
                scene.scripts[path] = before + (text if text is not None else UNKNOWN)
                if text and UNKNOWN not in text and (later := runs_later(path, text)):
                    self.script(later, scene.copy())
                text = ""
        return text

    def path(self, target: str, scene: Scene) -> str:
        """The key of a file in `scene.scripts`."""
        return posixpath.normpath(posixpath.join(scene.cwd or "/?", target))

    def one(self, word: Node | None, scene: Scene) -> str:
        """A word as one text; UNKNOWN when it may be several."""
        texts = single(word, scene, self.inner(scene))
        return texts[0] if len(texts) == 1 else UNKNOWN

    def inner(self, scene: Scene) -> Output:
        """The callback for substitutions: walked in a subshell."""
        return lambda nodes: self.statements(nodes, scene.copy())

    def command(self, node: Node, scene: Scene, given: str | None, piped: tuple[str, ...]) -> str | None:
        """Walk one command of any kind."""
        kind = node.get("Type", "")
        step = getattr(self, f"_{kind.lower()}", None)
        if step:
            return step(node, scene, given, piped)  # type: ignore[no-any-return]
        if kind:
            self._below(node, scene)
        return ""

    def _below(self, node: Node, scene: Scene) -> None:
        for below in substitutions(node):
            self.statements(below.get("Stmts") or [], scene.copy())

    def _callexpr(self, node: Node, scene: Scene, given: str | None, piped: tuple[str, ...]) -> str | None:
        words = node.get("Args") or []
        inner = self.inner(scene)
        own = scene.copy() if words else scene
        for assignment in node.get("Assigns") or []:
            self._assign(assignment, own)
        if not words:
            return ""
        rest = flat(words[1:], scene, inner)
        text: str | None = ""
        for way in fields(words[0], scene, inner):
            argv = way + rest
            if argv:
                text = self._run(Invocation(argv, own if names(node) else scene, given, piped, names(node)))
        if words and names(node):
            scene.takes_over(own, names(node))
        return text

    def nested(self, invocation: Invocation) -> None:
        """Walk a command that another one carries."""
        if self.depth >= DEEPEST:
            self.judge.doubt("shell.too-deep", "nests deeper than can be followed")
            return
        self.depth += 1
        self._run(invocation)
        self.depth -= 1

    def _run(self, invocation: Invocation) -> str | None:
        name, scene = invocation.argv[0], invocation.scene
        body = scene.functions.get(name)
        if body is None:
            self.judge.command(invocation)
            return output_of(invocation.argv, invocation.given, scene)
        scene.called.add(name)
        if name in self.active:
            self.judge.doubt("shell.recursion", "a function that calls itself cannot be followed")
            return None
        self.active.append(name)
        before, scene.positional = scene.positional, invocation.argv[1:]
        text = self.statement(body, scene, invocation.given, invocation.piped)
        scene.positional = before
        self.active.pop()
        return text

    def _assign(self, node: Node, scene: Scene) -> None:
        name = node.get("Name", {}).get("Value", "")
        self._below(node.get("Index") or {}, scene)
        if node.get("Array"):
            elements = [item.get("Value") for item in node["Array"].get("Elems") or [] if item.get("Value")]
            values: tuple[str, ...] = (SPLIT.join(flat(elements, scene, self.inner(scene))),)
        else:
            values = single(node.get("Value"), scene, self.inner(scene)) if node.get("Value") else ("",)
        if (node.get("Append") or node.get("Index")) and scene.name(name) in scene.values:
            between = SPLIT if node.get("Array") or node.get("Index") else ""
            values = tuple(old + between + new for old in scene.value(name) for new in values)
        scene.assign(name, values)
        if _RUN_LATER.search(name):
            for value in values:
                if UNKNOWN not in value:
                    self.script(scene.scripts.get(value, value.lstrip("|- ")), scene.copy())
        for value in values if re.fullmatch(r"PS[0-4]", name) else ():
            if "$(" in value or "`" in value:
                self.script(": " + value, scene.copy())

    def _declclause(self, node: Node, scene: Scene, *_: object) -> str:
        options = flat(
            [item["Value"] for item in node.get("Args") or [] if item.get("Naked") and item.get("Value")],
            scene,
            self.inner(scene),
        )
        for item in node.get("Args") or []:
            if (
                item.get("Name")
                and item.get("Value")
                and any(word.startswith("-") and "n" in word for word in options)
            ):
                scene.references[item["Name"]["Value"]] = self.one(item["Value"], scene)
            elif item.get("Name") and not item.get("Naked"):
                self._assign(item, scene)
        return ""

    def _binarycmd(self, node: Node, scene: Scene, given: str | None, piped: tuple[str, ...]) -> str | None:
        if node["Op"] in {"|", "|&"}:
            text = self.statement(node["X"], scene.copy(), given, piped)
            return self.statement(node["Y"], scene.copy(), text, (*piped, *programs(node["X"])))
        first = self.statement(node["X"], scene, given, piped)
        if node["Op"] == "||":
            self._branch([node["Y"]], scene, given, piped)
            return None
        second = self.statement(node["Y"], scene, given, piped)
        return None if first is None or second is None else first + second

    def _block(self, node: Node, scene: Scene, given: str | None, piped: tuple[str, ...]) -> str | None:
        texts = [self.statement(item, scene, given, piped) for item in node.get("Stmts") or []]
        return joined(texts)

    def _subshell(self, node: Node, scene: Scene, given: str | None, piped: tuple[str, ...]) -> str | None:
        return self._block(node, scene.copy(), given, piped)

    def _timeclause(self, node: Node, scene: Scene, given: str | None, piped: tuple[str, ...]) -> str | None:
        return self.statement(node["Stmt"], scene, given, piped) if node.get("Stmt") else ""

    def _coprocclause(self, node: Node, scene: Scene, *_: object) -> str | None:
        inner = (node.get("Stmt") or {}).get("Cmd") or {}
        if inner.get("Type") == "CallExpr" and inner.get("Args") and inner.get("Assigns"):
            # shfmt takes `if=x` in `coproc dd if=x` for a setting of the command.
            name, *rest = inner["Args"]
            words = [name, *map(as_word, inner["Assigns"]), *rest]
            node = {"Stmt": {"Cmd": {"Type": "CallExpr", "Args": words}}}
        return self._timeclause(node, scene.copy(), None, ())

    def _funcdecl(self, node: Node, scene: Scene, *_: object) -> str:
        name, body = node["Name"]["Value"], node["Body"]
        if calls_itself_beside(name, body):
            self.judge.forbid("shell.fork-bomb", "starts itself again and again until the machine stops")
            return ""
        scene.functions[name] = body
        return ""

    def _branch(self, nodes: list[Node], scene: Scene, given: str | None, piped: tuple[str, ...]) -> None:
        """Walk statements that may not run, or run many times."""
        before, was = scene.cwd, scene.certain
        scene.certain = False
        for node in nodes:
            self.statement(node, scene, given, piped)
        scene.certain = was
        if scene.cwd != before:
            scene.cwd = None

    def _ifclause(self, node: Node, scene: Scene, given: str | None, piped: tuple[str, ...]) -> str | None:
        self._block({"Stmts": node.get("Cond")}, scene, given, piped)
        self._branch(node.get("Then") or [], scene, given, piped)
        if node.get("Else"):
            self._ifclause(node["Else"], scene, given, piped)
        return None

    def _whileclause(self, node: Node, scene: Scene, given: str | None, piped: tuple[str, ...]) -> str | None:
        if starts_itself(node.get("Do")):
            self.judge.forbid("shell.fork-bomb", "starts itself again and again until the machine stops")
        for name in assigned(node):
            scene.values[name] = (UNKNOWN,)
        self._branch([*(node.get("Cond") or []), *(node.get("Do") or [])], scene, given, piped)
        return None

    def _forclause(self, node: Node, scene: Scene, given: str | None, piped: tuple[str, ...]) -> str | None:
        loop = node.get("Loop") or {}
        for name in assigned(node.get("Do")):
            scene.values[name] = (*scene.value(name), UNKNOWN)
        if loop.get("Type") == "WordIter":
            items = flat(loop.get("Items") or [], scene, self.inner(scene))
            if not loop.get("InPos") or "Items" not in loop:
                items = scene.positional or [UNKNOWN]
            scene.values[loop["Name"]["Value"]] = tuple(dict.fromkeys(items))[:65] or ("",)
            if len(items) > 64:
                scene.values[loop["Name"]["Value"]] = (UNKNOWN,)
        else:
            self._below(loop, scene)
        self._branch(node.get("Do") or [], scene, given, piped)
        return None

    def _caseclause(self, node: Node, scene: Scene, given: str | None, piped: tuple[str, ...]) -> str | None:
        self._below({"Word": node.get("Word")}, scene)
        for item in node.get("Items") or []:
            self._branch(item.get("Stmts") or [], scene, given, piped)
        return None


def joined(texts: list[str | None]) -> str | None:
    """What several commands print together: what is known of it, if anything is."""
    if not any(texts):
        return None if None in texts else ""
    return "".join(UNKNOWN if text is None else text for text in texts)
