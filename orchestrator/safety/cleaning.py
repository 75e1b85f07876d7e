"""Take out of a text what no reader sees: it can carry an order to a model past every person.

What scripts and emoji need stays: joiners between letters that join, and within one emoji.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_ANSI = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x9b[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
_HIDDEN = re.compile(
    "[\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_QUIET = re.compile("[\u00ad\ufeff]")
"""Invisible, and common in honest texts: soft hyphens and byte order marks."""
_LINE_ENDS = re.compile("\r\n|[\u0085\u2028\u2029]")
_FLAGS = re.compile(
    "\U0001f3f4(?:\U000e0067\U000e0062)(?:\U000e0065\U000e006e\U000e0067|\U000e0073\U000e0063\U000e0074"
    "|\U000e0077\U000e006c\U000e0073)\U000e007f"
)
"""England, Scotland and Wales: the only emoji that are spelt in tag characters."""
_JOINING = re.compile("[\u0600-\u08ff\ufb50-\ufdff\ufe70-\ufefc\u0900-\u0dff\u1000-\u109f\u1780-\u18af]")
_IDEOGRAPH = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_TAGS = re.compile("[\U000e0020-\U000e007e]+")
_TURNED = re.compile("[\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Cleaned:
    """A text without what was hidden in it."""

    text: str
    hidden: int = 0
    """Characters without a shape that were taken out; soft hyphens and byte order marks are not counted."""
    codes: int = 0
    """Terminal codes and control characters that were taken out."""
    spelt: str = ""
    """What was spelt in tag characters, for scanning only."""
    turned: bool = False
    """Whether the text turned its own direction."""


def clean(text: str) -> Cleaned:
    """Take out hidden characters, terminal codes and control characters; line ends become line feeds."""
    text = _LINE_ENDS.sub("\n", text.encode("utf-8", "replace").decode("utf-8"))
    text, sequences = _ANSI.subn("", text)
    text, controls = _CONTROL.subn("", text)
    spelt = ""
    hidden = 0
    is_turned = bool(_TURNED.search(text))
    if _HIDDEN.search(text):
        kept = {at for flag in _FLAGS.finditer(text) for at in range(*flag.span())}
        gone = [found for found in _HIDDEN.finditer(text) if found.start() not in kept]
        gone = [found for found in gone if not _belongs(text, found.start())]
        spelt = "".join(chr(ord(found[0]) - 0xE0000) for found in gone if _TAGS.fullmatch(found[0]))
        text, hidden = _without(text, [found.start() for found in gone]), len(gone)
    return Cleaned(_QUIET.sub("", text), hidden, sequences + controls, spelt, is_turned)


def _without(text: str, places: list[int]) -> str:
    """A text without the characters at these places."""
    pieces, last = [], 0
    for place in places:
        pieces.append(text[last:place])
        last = place + 1
    return "".join([*pieces, text[last:]])


def _belongs(text: str, at: int) -> bool:
    """Whether an invisible character is part of how the ones beside it are written."""
    sign, before, after = text[at], text[at - 1 : at], text[at + 1 : at + 2]
    if sign == "\u200d" and _is_picture(before) and _is_picture(after):
        return True
    if sign in "\u200c\u200d":
        return bool(_JOINING.match(before)) and bool(_JOINING.match(after) or not after or after.isspace())
    if "\ufe00" <= sign <= "\ufe0f":
        return _is_picture(before) or before in set("0123456789#*") or bool(_IDEOGRAPH.match(before))
    if sign >= "\U000e0100":
        return bool(_IDEOGRAPH.match(before))
    return False


def _is_picture(sign: str) -> bool:
    """Whether a character is an emoji or a part of one."""
    if not sign:
        return False
    return (
        sign == "\ufe0f" or "\U0001f3fb" <= sign <= "\U0001f3ff" or unicodedata.category(sign) in {"So", "Sm"}
    )
