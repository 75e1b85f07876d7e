"""The commands in files that the system runs by itself: crontabs, units of systemd, start-up scripts."""

from __future__ import annotations

import re

_WHEN = r"^\s*(?:@\w+|(?:[\d*/,\-]+|[A-Za-z]{3})(?:\s+(?:[\d*/,\-]+|[A-Za-z]{3})){4})\s+"


def timed(given: str, *, has_user: bool = False) -> str:
    """The commands of a crontab as a script."""
    user = r"[a-z_][\w-]*\s+" if has_user else ""
    return re.sub(rf"(?m){_WHEN}{user}(?=\S)", "", given)


_SCRIPTS = re.compile(
    r"/etc/(cron\.(daily|hourly|weekly|monthly|d)/|crontab|profile|rc\.local|init\.d)"
    r"|.*/\.(bashrc|bash_profile|bash_login|bash_logout|bash_aliases|profile|zshrc|zshenv|zprofile|zlogin|xinitrc|xprofile)$"
    r"|.*/\.(git/hooks|husky)/[^/]+$"
)
_UNITS = re.compile(r".*/systemd/(?:.*/)?[^/]+\.(service|timer|path)$")


def runs_later(path: str, text: str) -> str:
    """What the system or the next login runs of a file with this text; empty when nothing."""
    if _SCRIPTS.match(path):
        return text if text == timed(text) else f"{timed(text)}\n{timed(text, has_user=True)}"
    if _UNITS.match(path):
        return "\n".join(re.findall(r"(?m)^Exec\w+=[-@:+!|]*(.+)$", text))
    return ""
