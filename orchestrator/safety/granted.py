"""What a command would send to the hosts that its agent may reach, and whether it reaches beyond them.

The proxy of the sandbox refuses every other host anyway; here the model is told before, and what would carry
something along is asked, as it is for a fetch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from orchestrator.reach import covers, normal_host
from orchestrator.safety.naming import urls
from orchestrator.safety.verdict import Finding, Level, printable

_PORTS = {"http": 80, "https": 443}
_HERE = re.compile(r"localhost|127(\.\d+){3}|::1|0\.0\.0\.0")
"""The sandbox's own loopback."""
_NUMBER = r"=?[\d.]*"
_PLAIN = {
    "curl": re.compile(
        r"-(?:[sSfLkIivgOJNR46#]*(?:[omrwX]\S*)?)|--(?:silent|show-error|fail(?:-with-body)?|location|insecure|head"
        r"|include|verbose|globoff|remote-name(?:-all)?|remote-header-name|output|create-dirs|output-dir|compressed"
        r"|progress-bar|no-progress-meter|ipv[46]|http[\d.]+|tlsv[\d.]+|write-out|range|request|parallel"
        rf"|(?:retry|retry-delay|retry-max-time|max-time|connect-timeout|max-redirs){_NUMBER})"
    ),
    "wget": re.compile(
        r"-(?:n[cvdpH]+|[qvcSNxrkmpLH]*(?:[OPTtlAR]\S*)?)|--(?:quiet|no-verbose|continue|show-progress|recursive"
        r"|no-parent|no-check-certificate|timestamping|spider|server-response|content-disposition|https-only"
        r"|no-clobber|(?:output-document|directory-prefix|accept|reject)(?:=\S*)?"
        rf"|(?:timeout|tries|wait|level|max-redirect|retry-\w+){_NUMBER})"
    ),
}
"""The options of programs that fetch a page and send nothing with it but its address."""
_ACCEPTS = re.compile(
    r"(?<= )(?:-H|--header[ =]) ?Accept: ?(?:\*|application|text|image)/[\w.+*-]{1,40}(?= |$)"
)
_GIT = re.compile(
    r"git (?:clone|fetch|pull|ls-remote|remote|submodule)(?! .*-(?:c|u|-config|-upload-pack)\b)\b"
)


def concerns(reaches: Sequence[str], hosts: Sequence[str]) -> Iterator[Finding]:
    """Findings on commands and code that reach the network, for an agent that may reach some hosts."""
    for text in reaches:
        for url in urls(text):
            if (place := _place(url)) and not _is_granted(url, hosts):
                why = f"this agent's commands may reach {', '.join(hosts)} only"
                yield Finding("network.host", Level.DENY, why, printable(place))
        if not _only_fetches(text):
            why = "it may send more than the address of a page, and nothing shows what"
            yield Finding("network.carries", Level.ASK, why, printable(text))


def _only_fetches(text: str) -> bool:
    """Whether a command is one that fetches, with nothing in it that is known only when it runs."""
    if "\0" in text:
        return False
    program, *words = _ACCEPTS.sub("", text).split() or [""]
    program = program.rpartition("/")[2]
    if program == "git":
        return _GIT.match(" ".join([program, *words])) is not None
    options = _PLAIN.get(program)
    return options is not None and all(options.fullmatch(word) for word in words if word.startswith("-"))


def _place(url: str) -> str:
    """Host and port that a URL leads to, as written; empty for this machine and for what leads nowhere."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return url
    return "" if not host or _HERE.fullmatch(host) or parts.scheme == "file" else parts.netloc


def _is_granted(url: str, hosts: Sequence[str]) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme.removeprefix("git+"), 0)
        return covers(hosts, normal_host(parts.hostname or ""), port)
    except ValueError:
        return False
