"""Judge one tool call: declared effects first, then paths, commands and code, then the agent's approval mode.

`Policy.judge` never raises and never waits; what it cannot follow becomes a question.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from orchestrator.safety import granted, interpreters
from orchestrator.safety.alone import FAILURES
from orchestrator.safety.naming import urls
from orchestrator.safety.rulebook import Book, builtin
from orchestrator.safety.scope import Scope, absolute, consequence, scope
from orchestrator.safety.shell import Examined, Examiner, examine
from orchestrator.safety.verdict import Call, Finding, Judgement, Level, gravest, printable
from orchestrator.safety.words import Scene
from orchestrator.sandbox import Sandbox
from orchestrator.settings import config_dir, data_dir

_URL_VALUE = 200
"""Longest value in the query of a URL that is fetched without asking."""
_SECRET_TEXT = re.compile(
    r"\b(sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|AKIA[A-Z0-9]{16}|xox[abprs]-[\w-]{10,}"
    r"|AIza[\w-]{30,}|eyJ[\w-]{10,}\.[\w-]{10,}|glpat-[\w-]{15,}|-----BEGIN)|[A-Fa-f0-9]{40,}|[A-Za-z0-9+/_-]{80,}"
)
_SECRET_NAME = re.compile(r"(?i)(pass(word)?|secret|token|api_?key|credential|private)$")
_COMMAND_ARGUMENTS = ("command", "cmd", "script")
_CODE_ARGUMENTS = ("code", "source", "script")


@dataclass(frozen=True)
class Policy:
    """The rules for one workspace."""

    root: Path
    home: Path
    sandbox: Sandbox
    book: Book = field(default_factory=builtin)

    @cached_property
    def digest(self) -> str:
        """Differs when a rule differs, or what confines commands: an approval holds for one policy."""
        book = {**self.book.model_dump(mode="json"), "adding": sorted(self.book.adding)}
        told = [book, self.sandbox.name, self.sandbox.is_confining, str(self.home)]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]

    def judge(self, call: Call) -> Judgement:
        """What follows for a call; a failure in here is a question, never permission."""
        try:
            return _approved(call, self._judge(call))
        except FAILURES as error:
            finding = Finding(
                "policy.failed", Level.ASK, f"the policy could not judge this ({type(error).__name__})"
            )
            return Judgement("ask", finding.rule, finding.why, inside=False, findings=(finding,))

    def _judge(self, call: Call) -> Judgement:
        effects, arguments = call.effects, call.arguments
        if effects.executes:
            return self._executed(call)
        found = self._paths(call)
        if effects.network:
            found = replace(found, findings=found.findings + _outgoing(arguments))
        if not effects.is_read_only and not effects.paths and effects.targets is None:
            why = f"{call.tool} changes something, and nothing says what"
            found = replace(
                found, inside=False, findings=(*found.findings, Finding("tool.undeclared", Level.ASK, why))
            )
        return self._decided(found, confined=False)

    def _scene(self, cwd: Any = None) -> Scene:
        root = str(self.root)
        folder = (self.root / str(cwd)) if cwd else self.root
        return Scene(root=root, home=str(self.home), cwd=str(folder))

    def _paths(self, call: Call) -> Examined:
        """Findings on the path arguments of a file tool."""
        findings: list[Finding] = []
        scene, inside = self._scene(), True
        deletes = call.effects.writes and bool(re.search(r"delete|remove|rm", call.tool))
        for name in call.effects.paths:
            value = call.arguments.get(name)
            for text in value if isinstance(value, list | tuple) else [value]:
                if text is None:
                    continue
                ours = _is_ours(absolute(str(text), scene), deletes=deletes)
                where = Scope.OURS if ours else scope(str(text), scene)
                inside &= where in {Scope.INSIDE, Scope.ROOT, Scope.GIT}
                findings += self._path(str(text), where, call, deletes=deletes)
        reads_only = call.effects.is_read_only
        return Examined(tuple(findings), reads_only, reads_only, inside)

    def _path(self, text: str, where: Scope, call: Call, *, deletes: bool) -> list[Finding]:
        if where is Scope.OURS:
            return [Finding("path.protected", Level.DENY, "these are orc's own records", printable(text))]
        if where not in {Scope.INSIDE, Scope.ROOT, Scope.GIT}:
            why = "this path is outside the workspace; use a path below it"
            return [Finding("path.outside", Level.DENY, why, printable(text))]
        if not call.effects.writes:
            return []
        if where is Scope.GIT:
            why = "these are the repository's own records; use git to change them"
            return [Finding("path.git", Level.DENY, why, printable(text))]
        tree = bool(call.arguments.get("recursive"))
        effect = "delete" if deletes else "write"
        level, why, _ = consequence(effect, text, self._scene(), tree=tree)
        if deletes and where is Scope.ROOT:
            return [
                Finding("path.delete-workspace", Level.DENY, "deletes the whole workspace", printable(text))
            ]
        if deletes and tree and self._is_large(text):
            level, why = Level.ASK, "deletes a folder with many files"
        return [
            Finding(
                f"path.{effect}",
                level,
                why,
                subject=printable(text),
                target=printable(text),
                scope=where.name.lower(),
                path=absolute(text, self._scene()),
            )
        ]

    def _is_large(self, text: str, limit: int = 50) -> bool:
        """Whether a folder holds more files than one would delete without a thought."""
        place = self.root / text
        if place.is_symlink() or not place.is_dir():
            return False
        return any(count >= limit for count, _ in enumerate(place.rglob("*")))

    def _executed(self, call: Call) -> Judgement:
        """A call that runs a command or code, judged by what its text shows."""
        arguments = call.arguments
        cwd = arguments.get("cwd") or arguments.get("folder")
        command = next(
            (arguments[name] for name in _COMMAND_ARGUMENTS if isinstance(arguments.get(name), str)), None
        )
        code = next(
            (arguments[name] for name in _CODE_ARGUMENTS if isinstance(arguments.get(name), str)), None
        )
        confined = self.sandbox.is_confining
        if call.tool == "run_python" and code is not None:
            examiner = Examiner(self.book)
            interpreters.inspect(examiner, code, self._scene(cwd), "", python=True)
            found = replace(examiner.result(), reads_only=False, inspects=False)
        elif call.tool in {"run_command", "try_changes"} and command is not None:
            found = examine(command, self._scene(cwd), self.book)
        else:
            finding = Finding(
                "tool.unknown", Level.ASK, f"nothing says what {printable(call.tool, 40)} would run"
            )
            found, confined = Examined((finding,), reads_only=False, inspects=False, inside=False), False
        if cwd and scope(str(cwd), self._scene()) not in {Scope.INSIDE, Scope.ROOT, Scope.GIT}:
            outside = Finding(
                "path.outside", Level.DENY, "the working folder is outside the workspace", printable(str(cwd))
            )
            found = replace(found, findings=(*found.findings, outside), inside=False)
        if call.hosts and found.reaches:
            more = (*granted.concerns(found.reaches, call.hosts), *_sent(found.reaches))
            findings = found.findings + more
            # Nothing brings back what was sent, so `--yes` does not speak for it.
            stays = gravest(findings).level < Level.ASK
            found = replace(found, findings=findings, inside=found.inside and stays)
        return self._decided(found, confined=confined, executes=True)

    def _decided(self, found: Examined, *, confined: bool, executes: bool = False) -> Judgement:
        """Turn the gravest finding into a decision."""
        findings = found.findings
        if executes and not confined:
            why = "there is no sandbox here, so every command needs your word"
            findings = (*findings, Finding("sandbox.none", Level.ASK, why))
        # Only a sandbox makes /tmp private, and keeps a target that is not known inside the workspace.
        elsewhere = any(item.rule.endswith(("-private", "-unknown")) for item in findings)
        inside = found.inside and (confined or not elsewhere)
        worst = gravest(findings)
        decision = "allow" if found.reads_only else "ask"
        if worst.level is Level.DENY:
            decision = "deny"
        elif worst.level is Level.ASK:
            decision = "ask"
        elif worst.level is Level.REVIEW:
            decision = "allow" if confined and inside else "ask"
        elif worst.level is Level.SNAPSHOT:
            decision = "allow" if inside else "ask"
        elif not findings:
            decision = "allow"
        why = worst.why or ("only reads" if found.reads_only else "known to be harmless")
        rule = worst.rule if findings else "harmless"
        return Judgement(
            decision,  # type: ignore[arg-type]
            rule,
            _sentence(why, worst.subject),
            inside=inside,
            read_only=found.reads_only and found.inspects,
            findings=findings,
            reaches=found.reaches,
        )


def _is_ours(path: str, *, deletes: bool) -> bool:
    """Whether a path holds the user's own settings, trust or approvals: they may lie in the workspace too."""
    place = Path(path)
    own = (config_dir(), data_dir())
    return any(place.is_relative_to(folder) or (deletes and folder.is_relative_to(place)) for folder in own)


def _sentence(why: str, subject: str) -> str:
    return f"{why}: {subject}" if subject and subject not in why else why


def _approved(call: Call, judgement: Judgement) -> Judgement:
    """Apply the agent's approval mode, which may only tighten."""
    reads = call.effects.is_read_only or (judgement.read_only and judgement.decision == "allow")
    reads = reads or (judgement.decision == "allow" and judgement.rule == "harmless")
    if reads or judgement.decision == "deny" or call.approval == "auto":
        return judgement
    if call.approval == "read-only":
        why = f"{call.agent} may only read"
        return replace(judgement, decision="deny", rule="approval.read-only", why=why)
    if judgement.decision == "allow":
        why = f"{call.agent} asks before it changes anything"
        return replace(judgement, decision="ask", rule="approval.ask", why=why)
    return judgement


def _outgoing(arguments: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Findings on what a network call would carry out of the machine."""
    findings = []
    for name, value in arguments.items():
        text = str(value)
        if _SECRET_TEXT.search(unquote(text)):
            why = f"`{name}` holds something that looks like a secret, and it would leave this machine"
            findings.append(Finding("network.secret", Level.ASK, why))
        if re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE) and (carried := _carried(text)):
            findings.append(Finding("network.carries", Level.ASK, carried, printable(text)))
    return tuple(findings)


def _sent(reaches: Sequence[str]) -> tuple[Finding, ...]:
    """The same findings on commands and code that reach the network."""
    texts = [*reaches, *(url for text in reaches for url in urls(text))]
    return tuple(finding for text in texts for finding in _outgoing({"command": text}))


def _carried(url: str) -> str:
    """What a URL carries beside the name of a page; empty when nothing to speak of."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    if parts.username or parts.password:
        return "the URL carries a user name or password"
    if any(len(value) > _URL_VALUE for _, value in pairs) or len(parts.query) > 3 * _URL_VALUE:
        return "the URL carries a long text to the server"
    if any(_SECRET_NAME.search(name) and value for name, value in pairs):
        return "the URL carries something named like a secret"
    return "the URL carries a long text to the server" if len(unquote(parts.path)) > 5 * _URL_VALUE else ""
