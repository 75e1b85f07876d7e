"""Which hosts a command may reach: how a grant is spelt, and what it covers.

`example.org` stands for its ports 443 and 80, `example.org:8443` for that port alone, and `*.example.org` for
the hosts below it, without itself. It says nothing of addresses: `tools.address` decides on those.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

PORTS = (443, 80)
"""Of a grant that names no port."""
LONGEST = 253
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")
_REGISTRY = re.compile(
    r"(ac|co|com|edu|gob|gov?|gen|id|ltd|me|mil|net?|nhs|nom|org?|plc|sch|web)\.[a-z]{2}"
    r"|(github|gitlab|ngrok|nip|sslip)\.io|(pages|workers|fly|r2)\.dev|(vercel|netlify|web|ngrok-free)\.app"
    r"|(herokuapp|firebaseapp|appspot|(s3\.)?amazonaws|onrender|trycloudflare|blogspot)\.com"
    r"|(azurewebsites|cloudfront|blob\.core\.windows)\.net|glitch\.me|repl\.co|surge\.sh|duckdns\.org"
)
"""Domains below which anybody can have a name; a grant over all of them would grant everything."""


def normal_host(text: str) -> str:
    """A host as it is compared; raises ValueError for what is neither a name nor an IP address."""
    host = text.lower()
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    host = host.removesuffix(".")
    labels = host.split(".")
    if not host.isascii():
        raise ValueError("write the host in ASCII (xn--…): other letters can look like these")
    if len(host) > LONGEST or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("is no host; write such as example.org, *.example.org or example.org:8443")
    if _NUMBER.fullmatch(labels[-1]):
        raise ValueError("is an address in an odd form; write it as four numbers, or name the host")
    return host


def grant(text: str) -> str:
    """A grant in its normal form; raises ValueError with what is wrong."""
    if "://" in text or "/" in text:
        raise ValueError("is a URL; write the host alone, such as example.org or example.org:8443")
    if "@" in text:
        raise ValueError("holds a user name; write the host alone")
    host, port = split(text)
    is_pattern = host.startswith("*.")
    host = host.removeprefix("*.")
    if "*" in host:
        raise ValueError("has a * in the wrong place; it can only stand first, as in *.example.org")
    host = normal_host(host)
    if is_pattern:
        _check_pattern(host)
    shown = f"[{host}]" if ":" in host else host
    return ("*." if is_pattern else "") + shown + (f":{port}" if port else "")


def _check_pattern(host: str) -> None:
    labels = host.split(".")
    if re.fullmatch(r"[\d.]+|.*:.*", host):
        raise ValueError("is a pattern over addresses; write each of them")
    if len(labels) < 2 or _REGISTRY.fullmatch(host):
        raise ValueError("would cover names that anybody can have; name the domain, as in *.example.org")


def split(text: str) -> tuple[str, int]:
    """Host and port of `host`, `host:port` or `[address]:port`; port 0 when none is named.

    Raises ValueError for a port that there cannot be.
    """
    found = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(.*))?", text)
    if found is None:
        raise ValueError("is no host; an IPv6 address stands in brackets, as in [2001:db8::1]:443")
    host, port = found[1], found[2]
    if port is None:
        return host, 0
    if not re.fullmatch(r"[1-9]\d{0,4}", port, re.ASCII) or int(port) > 65_535:
        raise ValueError(f"has no port {port!r}; ports are 1 to 65535")
    return host, int(port)


def covers(grants: Iterable[str], host: str, port: int) -> bool:
    """Whether one of the grants, in normal form, lets a command reach a host in normal form at a port."""
    for each in grants:
        name, own = split(each)
        if port not in ((own,) if own else PORTS):
            continue
        name = name.strip("[]")
        if name == host or (name.startswith("*.") and host.endswith(name[1:]) and len(host) > len(name) - 1):
            return True
    return False


def within(wanted: str, grants: Iterable[str]) -> bool:
    """Whether grants cover all that another grant would."""
    name, own = split(wanted)
    bare = name.strip("[]")
    # What a pattern covers is covered by the same pattern, or by one over a domain above.
    probe = f"x{bare[1:]}" if bare.startswith("*.") else bare
    wide = [each for each in grants if not bare.startswith("*.") or each.startswith("*.")]
    return all(covers(wide, probe, port) for port in ((own,) if own else PORTS))


def named(grants: Iterable[str]) -> frozenset[str]:
    """The hosts that grants name one by one: what stands before a pattern's dot can be made up."""
    return frozenset(split(each)[0].strip("[]") for each in grants if not each.startswith("*."))


def allowed(wanted: Iterable[str], bounds: Collection[str] | None) -> tuple[str, ...]:
    """The grants that lie within bounds; without any, all of them."""
    return tuple(each for each in wanted if bounds is None or within(each, bounds))


Host = Annotated[str, AfterValidator(grant)]


def is_url(text: str) -> bool:
    """Whether a text is the address of something that speaks HTTP."""
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def url(text: str) -> str:
    """The text, empty or such an address; raises ValueError for anything else."""
    if text and not is_url(text):
        raise ValueError("is no URL; write it like http://localhost:11434/v1")
    return text


Url = Annotated[str, AfterValidator(url)]
"""Empty, or the address of something that speaks HTTP."""
