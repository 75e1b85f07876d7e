"""What leaves the machine with a command, and what comes in with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.safety import queries, reaching
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
    if name not in _SENDERS:
        return False
    if any(UNKNOWN in item for item in invocation.argv[1:]):
        examiner.add("net.carries", Level.ASK, "sends something that is not known before it runs", subject)
    return reaching.stays_here(invocation.argv[1:])
