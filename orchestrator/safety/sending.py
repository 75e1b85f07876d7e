"""What leaves the machine with a command, and what comes in with one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.safety import queries, reaching
from orchestrator.safety.rulebook import has, operands
from orchestrator.safety.verdict import Level
from orchestrator.safety.walk import Invocation
from orchestrator.safety.words import UNKNOWN

if TYPE_CHECKING:
    from orchestrator.safety.shell import Examiner

_SENDERS = frozenset([
    "curl",
    "wget",
    "http",
    "https",
    "xh",
    "dig",
    "nslookup",
    "host",
    "ping",
    "nc",
    "ncat",
    "telnet",
    "whois",
    "aria2c",
    "lynx",
    "w3m",
])


_REMOTE = re.compile(r"[^/:-][^/:]*:|(rsync|ssh|scp|sftp)://")


def network(examiner: Examiner, name: str, invocation: Invocation, subject: str) -> bool:
    """What leaves with a request, and what comes in with one."""
    for line in (invocation.given or "").splitlines() if name.endswith("-cli") else ():
        examiner.walk.nested(Invocation([name, *line.split()], invocation.scene.copy()))
    if name in queries.CLIENTS and invocation.given is None and invocation.piped:
        examiner.add(
            "database.script", Level.ASK, "runs statements that are not known before they run", subject
        )
    argv = invocation.argv[1:]
    if queries.tells_more(name, argv, invocation.given) and "-readonly" not in argv:
        why = "runs a statement that is not known to be a query"
        examiner.add("database.statement", Level.ASK, why, subject)
    if reaching.reaches(name, argv, examiner.book) and not reaching.stays_here(argv):
        examiner.reaches.append(subject)
    is_sender = name == "ssh" or (name == "openssl" and "s_client" in argv)
    if is_sender and invocation.piped and invocation.given is None:
        examiner.add("net.carries", Level.ASK, "sends what it is given", subject)
    rehearses = any(has(option, argv) for option in ("-n", "--dry-run", "--list-only"))
    if name == "scp" or (name == "rsync" and not rehearses):
        return _copied(examiner, operands(name, argv, examiner.book.values), subject)
    if name not in _SENDERS:
        return False
    if any(UNKNOWN in item for item in invocation.argv[1:]):
        examiner.add("net.carries", Level.ASK, "sends something that is not known before it runs", subject)
    return reaching.stays_here(invocation.argv[1:])


def _copied(examiner: Examiner, places: list[str], subject: str) -> bool:
    """A copy from or to another machine; whether it is one."""
    remote = [bool(_REMOTE.match(place)) for place in places]
    if not any(remote):
        return False
    if not remote[-1] and all(remote[:-1]):
        examiner.add("net.copies-in", Level.REVIEW, "copies from another machine", subject)
    else:
        examiner.add("net.copies-out", Level.ASK, "copies to another machine", subject)
    return True
