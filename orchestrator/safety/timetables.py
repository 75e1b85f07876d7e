"""The commands in a crontab: each line without its time, and without its user where it has one."""

from __future__ import annotations

import re

_WHEN = r"^\s*(?:@\w+|(?:[\d*/,\-]+|[A-Za-z]{3})(?:\s+(?:[\d*/,\-]+|[A-Za-z]{3})){4})\s+"


def timed(given: str, *, has_user: bool = False) -> str:
    """The commands of a crontab as a script."""
    user = r"[a-z_][\w-]*\s+" if has_user else ""
    return re.sub(rf"(?m){_WHEN}{user}(?=\S)", "", given)
