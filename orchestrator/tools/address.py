"""Decide which addresses a fetch may reach: the public internet, and what the settings allow by name."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from orchestrator.errors import ToolError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# A cloud's own service on an address that looks public:
# https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
_CLOUD = {ipaddress.ip_address("168.63.129.16")}


def is_public(address: Address) -> bool:
    """Whether an address, and every address wrapped in it, is one of the public internet."""
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64 or int(address) >> 32 == 0:
            wrapped.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        inner = [item for item in wrapped if item is not None]
        if inner:
            return all(is_public(item) for item in inner)
    return (
        address.is_global and not address.is_multicast and not address.is_reserved and address not in _CLOUD
    )


async def checked(url: str, allowed: Sequence[str]) -> str:
    """Resolve a URL's host and return one address to connect to; raises ToolError when any is refused."""
    host, port = parts(url)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError, OSError):
        raise ToolError(
            f"the host {host!r} was not found; check the spelling, or the network is off"
        ) from None
    addresses = [str(item[4][0]).split("%", 1)[0] for item in found]
    names = {item.lower() for item in allowed}
    shown = f"[{host}]" if ":" in host else host
    if names & {host, shown, f"{shown}:{port}"}:
        return addresses[0]
    for address in addresses:
        if not is_public(ipaddress.ip_address(address)):
            raise ToolError(
                f"{host!r} is at {address}, which is not a public address; the user may allow it under "
                f"tools.allowed_private_hosts in orchestrator.yaml"
            )
    return addresses[0]


def parts(url: str) -> tuple[str, int]:
    """Host and port of an http or https URL; raises ToolError for anything else."""
    try:
        split = urlsplit(url)
        port = split.port or (443 if split.scheme == "https" else 80)
    except ValueError:
        raise ToolError(f"{url[:200]!r} is no valid URL") from None
    if split.scheme not in {"http", "https"} or not split.hostname:
        raise ToolError(f"{url[:200]!r}: only http:// and https:// URLs with a host can be fetched")
    if split.username is not None or split.password is not None:
        raise ToolError("a URL with a user name or password in it is not fetched; leave them out")
    return split.hostname.rstrip(".").lower(), port
