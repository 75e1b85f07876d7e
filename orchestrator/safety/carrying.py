"""Commands that another command carries: by a wrapper, in an argument of its own, or as hidden text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.safety import embedded, interpreters, readers, unwrap
from orchestrator.safety.rulebook import has
from orchestrator.safety.verdict import Level
from orchestrator.safety.walk import Invocation
from orchestrator.safety.words import Scene

if TYPE_CHECKING:
    from orchestrator.safety.shell import Examiner

_FETCHERS = {"npx", "bunx", "pnpx", "uvx", "pipx"}
_FETCHING = {"dlx", "x", "tool run"}
_HIDDEN = re.compile(r"(?:\brm\s+-\w*[rRf]|\bmkfs|\bdd\s+\S*of=/dev/|\bshred\s).*", re.DOTALL)


def carried(examiner: Examiner, name: str, invocation: Invocation) -> bool:
    """The commands that a wrapper carries."""
    known, before = False, len(examiner.findings)
    for inner in unwrap.unwrap(name, invocation, examiner.book):
        scene = unwrap.elsewhere(inner, invocation)
        runs = inner.script is not None or inner.argv or inner.blind or inner.file
        at = len(examiner.findings)
        _follow(examiner, inner, invocation, scene)
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
    known |= embedded.run(examiner, name, invocation)
    return known


def _follow(examiner: Examiner, inner: unwrap.Inner, invocation: Invocation, scene: Scene) -> None:
    """One command or script that a wrapper carries."""
    if inner.wrapper.remote:
        examiner.inspects = examiner.inside = False
    if inner.script is not None:
        for script in unwrap.scripts(inner, invocation):
            examiner.walk.script(script, scene)
    elif inner.argv:
        examiner.walk.nested(Invocation(list(inner.argv), scene, invocation.given, invocation.piped))
    elif inner.blind:
        examiner.doubt("shell.unknown-script", "runs a script that is not known before it runs")
    elif inner.file and not has("-n", invocation.argv):
        interpreters.script_file(examiner, inner.file, list(inner.positional or ()), scene)


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
