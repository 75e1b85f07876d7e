"""Judge a call in view of the texts in its thread: who named the host that it reaches, the file it deletes?

A host, a recipient, a deleted file has to come from the user's words, the plan, the settings or a trusted
result; what only an untrusted text can have named is a question for a person. A finding in here makes a
verdict stricter or nothing; no scanner takes part, so a text gains nothing by looking harmless.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any

from orchestrator.effects import Trust
from orchestrator.redaction import REDACTED
from orchestrator.safety import outgoing
from orchestrator.safety.finds import SELECTED
from orchestrator.safety.naming import names, names_file, words
from orchestrator.safety.thread import Thread, strings
from orchestrator.safety.verdict import Call, Finding, Judgement, Level, printable

LEAVES = frozenset({
    "taint.secret",
    "taint.after-secret",
    "taint.host",
    "taint.data",
    "taint.recipient",
})
"""Rules on what goes out of the machine: `--yes` never covers them."""
ASKED = "taint.asked"
"""The rule on what the policy asks anyway and the user's words do not speak of."""
_REPLACES = re.compile(
    r"\s*(?::|(?:truncate|mv|true|shred|dd)\b|(?:cat|cp)\s+/dev/null\b"
    r"|sed\s+(?:-\S+\s+)+(?:(?:1,\$|/\.\*?/)?\s*d|s(\W)\^?\.\*\$?\1\1g?)\s|perl\s+(?=.*-\w*n)(?!.*print))"
)
"""Commands that leave nothing of what a file held; an editor such as `sed -i` changes a part of it."""
_PUTS_OVER = re.compile(r"\s*(?:cp|install|curl|wget)\b")
"""Commands that put another file in the place of one, should it be there."""
_ALIKE = 0.5
"""How much of a file has to be alike before and after for it not to be another file."""
_COMPARED = 64 * 1024
_NAMED_TEMPORARY = re.compile(r"/tmp/[\w.-]+")  # noqa: S108 - a place, not a file of ours
"""A path right below a command's own `/tmp`: to remove it follows no link, so nothing that lasts is lost."""
_GUIDES = re.compile(
    r"(?:^|/)(?:AGENTS?|CLAUDE|GEMINI|COPILOT|SKILL)\.md$|(?:^|/)(?:orchestrator|policy|agents?|mcp)\.(?:ya?ml|toml|json)$"
    r"|(?:^|/)\.[\w-]+/settings\.(?:ya?ml|toml|json)$"
    r"|(?:^|/)(?:agents|graphs|\.github|\.gitlab|\.circleci|\.claude|\.cursor|\.codex|\.vscode|\.husky|\.orc)/"
    r"|(?:^|/)\.(?:cursorrules|windsurfrules|envrc|gitlab-ci\.yml|pre-commit-config\.yaml|mcp\.json|gitattributes|gitmodules)$"
    r"|(?:^|/)\.(?:bash\w*|profile|zsh\w*|zprofile|inputrc|vimrc|exrc|gitconfig|npmrc|pypirc|netrc)$"
    r"|(?:^|/)(?:sitecustomize|usercustomize|conftest)\.py$|(?:^|/)copilot-instructions\.md$",
    re.IGNORECASE,
)
"""Files that tell agents, editors or build servers what to do."""


def concerns(call: Call, judged: Judgement, thread: Thread) -> tuple[Finding, ...]:
    """Why a call is to be asked or denied in this thread; usually nothing."""
    found = [*_masked(call, thread)]
    if call.effects.network or judged.reaches:
        found += outgoing.concerns(call, judged.reaches, thread)
    if thread.level >= Trust.WORKSPACE:
        found += losses(call, judged, thread)
        found += _asked(judged, thread)
        found += _guides(call, judged, thread)
    return tuple(found)


def is_own_temporary(finding: Finding) -> bool:
    """Whether a command removes what can only be its own, where its `/tmp` is private."""
    is_below = finding.scope == "private" and _NAMED_TEMPORARY.fullmatch(finding.target)
    return bool(is_below) and finding.subject.startswith("rm ")


def _masked(call: Call, thread: Thread) -> Iterator[Finding]:
    """A file is not written with the mark that stands for a secret: that would destroy the secret."""
    effects = call.effects
    written = [
        text for name, value in call.arguments.items() if name not in effects.paths for text in strings(value)
    ]
    is_shown = any(REDACTED in text for text in thread.read)
    if effects.writes and not effects.executes and is_shown and any(REDACTED in text for text in written):
        why = f"{REDACTED} stands for a secret that is not shown; change other lines only"
        yield Finding("taint.masked", Level.DENY, why)


def losses(call: Call, judged: Judgement, thread: Thread) -> Iterator[Finding]:
    """Deletions of what nobody named who may."""
    for target in [*_deleted(call, judged, thread), *_lost(judged, thread)]:
        is_own = target.removeprefix("./") in thread.own
        if is_own or names_file(thread.said, target) or _is_delegated(target, judged, thread):
            continue
        shown = printable(target)
        if thread.only_looks:
            yield Finding(
                "taint.unasked", Level.ASK, "it loses something, and the request only asks to look", shown
            )
        else:
            yield Finding("taint.loss", Level.ASK, "it deletes what neither you nor the plan named", shown)


def _is_delegated(target: str, judged: Judgement, thread: Thread) -> bool:
    """Whether a file that the user named lists the target, in a request that wants something changed."""
    return judged.inside and not thread.only_looks and names(thread.delegated, target)


def _leaves_nothing(arguments: Mapping[str, Any], judged: Judgement, path: str) -> bool:
    """Whether a file tool leaves nothing of what is in a file now."""
    places = [finding.path for finding in judged.findings if finding.target == path and finding.path]
    before = _start_of(places[0]) if places else ""
    if not before.strip():
        return False
    if "content" not in arguments:
        return not before.replace(str(arguments.get("old")), str(arguments.get("new"))).strip()
    after = str(arguments["content"])[:_COMPARED]
    kept = {line.strip() for line in before.splitlines()} & {line.strip() for line in after.splitlines()}
    return not kept - {""} and SequenceMatcher(None, before[:2_000], after[:2_000]).ratio() < _ALIKE


def _start_of(path: str) -> str:
    """The start of a text file; empty for anything else."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as file:
            start = file.read(_COMPARED) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    except OSError:
        return ""
    return "" if b"\0" in start else start.decode("utf-8", "ignore")


def _deleted(call: Call, judged: Judgement, thread: Thread) -> Iterator[str]:
    """What a file tool deletes or empties; of unknown tools that destroy, every argument that says what."""
    effects, arguments = call.effects, call.arguments
    if not effects.writes or effects.executes:
        return
    is_deletion = re.search(r"delete|remove|rm\b", call.tool)
    empties = "content" in arguments and not str(arguments["content"]).strip()
    for name in effects.paths:
        for path in strings(arguments.get(name)):
            there = path in thread.exists
            is_replaced = empties or (thread.only_looks and call.tool != "move_file")
            if is_deletion or (there and (is_replaced or _leaves_nothing(arguments, judged, path))):
                yield path
    if not effects.paths and not effects.reversible and not effects.network:
        for name in effects.targets or arguments:
            yield from strings(arguments.get(name))


def _lost(judged: Judgement, thread: Thread) -> Iterator[str]:
    """What a command deletes, empties or replaces, by its findings; of one that only looks, edits too."""
    made: set[str] = set()
    links = any(re.match(r"\s*(?:ln|cp\s+-\S*[ls])\b", finding.subject) for finding in judged.findings)
    for finding in judged.findings:
        if finding.path and finding.path in made:
            continue  # What this very command made, nobody can lose.
        is_found = finding.target.endswith(SELECTED)
        is_new = not (links or is_found or os.path.lexists(finding.path))
        if finding.rule == "shell.write-inside" and is_new:
            made.add(finding.path)
        # A redirection alone has nothing but its target for a subject.
        # Behind a search comes what is done with what it finds.
        does = re.split(r" -exec(?:dir)? | \| ", finding.subject)[-1]
        is_over = bool(_PUTS_OVER.match(does))
        is_there = finding.loss == "maybe" and is_over and os.path.lexists(finding.path)
        is_replaced = (finding.loss == "yes" or is_there) and finding.level >= Level.SNAPSHOT
        is_whole = _REPLACES.match(does) or finding.subject == finding.target or is_there
        is_loss = is_replaced and (thread.only_looks or is_whole)
        is_loss = is_loss or "delete" in finding.rule
        if judged.inside and is_own_temporary(finding):
            continue
        if not is_loss or finding.level is Level.DENY or not finding.target:
            continue
        if finding.subject.startswith("find ") or is_found:
            yield from _selected(finding)
        else:
            yield finding.target


def _selected(finding: Finding) -> Iterator[str]:
    """What a `find` picks: the names that it looks for, else the folder that it starts in."""
    patterns = re.findall(r"-i?(?:name|path|wholename)\s+(\S+)", finding.subject)
    if patterns:
        yield from patterns
    elif not finding.target.endswith(SELECTED):
        yield finding.target


def _asked(judged: Judgement, thread: Thread) -> Iterator[Finding]:
    """What the policy asks anyway: `--yes` covers it only where the user's words speak of it."""
    if judged.decision != "ask":
        return
    said = {word for text in thread.said for word in words(text)}
    for finding in judged.findings:
        if finding.level is not Level.ASK or finding.target:
            continue
        own = {word for word in words(finding.subject) if len(word) > 3}
        if not own & said:
            yield Finding(ASKED, Level.ASK, finding.why, finding.subject)


def _guides(call: Call, judged: Judgement, thread: Thread) -> Iterator[Finding]:
    """Changes of files that give orders to agents, editors or build servers."""
    written = [
        finding.target for finding in judged.findings if "write" in finding.rule or "move" in finding.rule
    ]
    if call.effects.writes and not call.effects.executes:
        written += [path for name in call.effects.paths for path in strings(call.arguments.get(name))]
    for path in written:
        if (
            _GUIDES.search(path)
            and not names(thread.said, path)
            and not names(thread.said, path.rpartition("/")[2])
        ):
            why = "it changes a file that tells agents or tools what to do, and you did not name it"
            yield Finding("taint.guide", Level.ASK, why, printable(path))
