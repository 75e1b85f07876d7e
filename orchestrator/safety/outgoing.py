"""What a call would carry out of the machine, and to whom, seen from the texts in its thread."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import parse_qsl, unquote, urlsplit

from orchestrator.effects import Trust
from orchestrator.safety.naming import host_of, hosts, names, names_host, plain, urls
from orchestrator.safety.secrets import carries
from orchestrator.safety.thread import Thread, strings
from orchestrator.safety.verdict import Call, Finding, Level, printable
from orchestrator.safety.views import views

_PIECE, _QUERY = 48, 120
"""Characters of one part of a URL, and of its query, that may be made up for a host that may be reached."""
_COPIED = 12
"""Characters in a row from which on a text counts as copied."""
_LONG = 24
"""Letters of a word that no language needs in a question."""
_WORDS = re.compile(r"[\s,.;:!?\"'()\[\]{}<>/|]+")
_VERBS = frozenset({
    "git",
    "gh",
    "glab",
    "npm",
    "pnpm",
    "yarn",
    "docker",
    "podman",
    "cargo",
    "gem",
    "twine",
    "poetry",
    "uv",
    "hub",
})
"""Programs whose first word says what they do, to a server that their settings name."""


def concerns(call: Call, reaches: Sequence[str], thread: Thread) -> Iterator[Finding]:
    """Why what goes out is to be asked or denied."""
    texts = [*strings(call.arguments), *reaches]
    if any(carries(text, thread.secrets) for text in texts):
        yield Finding("taint.secret", Level.DENY, "it would carry a secret out of this machine")
        return
    if thread.secret:
        yield Finding(
            "taint.after-secret", Level.ASK, "a file of secrets was read before, and this reaches the network"
        )
    if thread.level < Trust.WORKSPACE:
        yield from _listed(texts, thread)
    elif reaches:
        for command in reaches:
            yield from _command(command, thread)
    elif call.effects.targets == ():
        yield from _question(call, thread)
    else:
        yield from _recipients(call, thread)


def may_reach(host: str, thread: Thread) -> bool:
    """Whether somebody who may decide named a host or an address at one, or it was reached before unasked."""
    name, _, server = host.rpartition("@")
    if name and names(thread.said, host):
        return True
    return server in thread.hosts or names_host(thread.said, server)


def _listed(texts: list[str], thread: Thread) -> Iterator[Finding]:
    """In a thread that read nothing yet, only the names of files can have named a host."""
    for host in {host for text in texts for host in hosts(text)}:
        if not may_reach(host, thread) and names([thread.listed], host):
            yield Finding(
                "taint.host", Level.ASK, "the name of a file, and not you, names this host", printable(host)
            )


def _command(command: str, thread: Thread) -> Iterator[Finding]:
    """A command that reaches the network: its hosts, or its verb where it names none."""
    found = hosts(command)
    for host in found:
        if not may_reach(host, thread):
            yield Finding(
                "taint.host", Level.ASK, "neither you nor the plan named this host", printable(host)
            )
    argv = command.split()
    program = argv[0].rpartition("/")[2] if argv else ""
    verb = next((word for word in argv[1:] if not word.startswith("-")), "")
    if not found and not (program in _VERBS and names(thread.said, verb)):
        why = "it reaches the network, and neither you nor the plan said so"
        yield Finding("taint.host", Level.ASK, why, printable(command))
    for url in urls(command):
        yield from _carried(url, thread)


def _recipients(call: Call, thread: Thread) -> Iterator[Finding]:
    """A tool that sends: whoever gets it has to be named, and no other address may be slipped in."""
    targets = call.effects.targets
    for name, value in call.arguments.items():
        for text in strings(value):
            is_target = targets is None or name in targets
            for host in hosts(text):
                if not may_reach(host, thread) and not (text in thread.links and is_target):
                    yield Finding(
                        "taint.host", Level.ASK, "neither you nor the plan named this host", printable(host)
                    )
            for url in urls(text):
                yield from _carried(url, thread)
            if (
                is_target
                and not hosts(text)
                and not names(thread.said, text)
                and not _is_plain_number(text, call)
            ):
                yield Finding(
                    "taint.recipient",
                    Level.ASK,
                    f"neither you nor the plan named this {name}",
                    printable(text),
                )


def _is_plain_number(text: str, call: Call) -> bool:
    """Whether an argument is a size or a count, which names nobody; a tool that declares nothing has none."""
    return call.effects.targets is not None and re.fullmatch(r"-?\d{1,6}(\.\d+)?", text) is not None


def _carried(url: str, thread: Thread) -> Iterator[Finding]:
    """What a URL carries beside the name of a page, unless it stands so in a text that was read."""
    bare = url.split("#", 1)[0]
    if not host_of(url) or url in thread.links or any(bare in text for text in (*thread.said, *thread.read)):
        return
    try:
        parts = urlsplit(url)
        pieces = [unquote(piece) for piece in parts.path.split("/")]
        pieces += [part for pair in parse_qsl(parts.query, keep_blank_values=True) for part in pair]
    except ValueError:
        pieces, parts = [url], urlsplit("")
    pieces = [piece for piece in (*pieces, unquote(parts.fragment)) if not names(thread.said, piece)]
    copied = any(is_copied(piece, thread.foreign) for piece in pieces)
    too_long = any(len(piece) > _PIECE for piece in pieces) or len(parts.query) > _QUERY
    if copied or too_long:
        why = "the URL carries text of the workspace" if copied else "the URL carries a text that nobody gave"
        yield Finding("taint.data", Level.ASK, why, printable(url))


def _question(call: Call, thread: Thread) -> Iterator[Finding]:
    """A question to a service of the settings: mostly in the user's words, with nothing of the workspace."""
    said = " ".join(plain(text) for text in thread.said)
    for text in strings(list(call.arguments.values())):
        wanted = [word for word in _WORDS.split(plain(text)) if len(word) > 1]
        own = [word for word in wanted if word not in said and word.removesuffix("s") not in said]
        copied = [
            word for word in own if len(word) > 3 and any(word in plain(read) for read in thread.foreign)
        ]
        is_odd = any(len(word) > _LONG for word in own) or len(views(text)) > 1
        is_unnamed = any(not may_reach(host, thread) for host in hosts(text))
        if copied or is_odd or is_unnamed or 2 * len(own) > len(wanted):
            subject = printable(" ".join(copied or own))
            yield Finding(
                "taint.data", Level.ASK, "it asks for more than your words and the plan speak of", subject
            )


def is_copied(piece: str, texts: Sequence[str]) -> bool:
    """Whether a piece of a URL, or what it decodes to, holds a part of one of the texts."""
    for reading in views(piece):
        wanted = re.sub(r"\s+", " ", plain(reading)).strip()
        if len(wanted) < _COPIED:
            continue
        starts = range(0, max(len(wanted) - _COPIED, 0) + 1, 4)
        parts = {wanted[at : at + _COPIED] for at in starts}
        if any(part in re.sub(r"\s+", " ", plain(text)) for text in texts for part in parts):
            return True
    return False
