"""Other readings of a text, for scanning only: what an encoding or a look-alike letter would hide.

No view is ever shown to a model or run; all of it is bounded, whatever the text holds.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote

LONGEST = 48_000
"""Characters of a text that are looked at: half of them from its beginning, half from its end."""
MOST_RUNS = 24
"""Encoded runs of one text that are decoded."""
DEEPEST = 2
"""How often what was decoded is decoded again."""
_BASE64 = re.compile(r"(?<![\w+/-])[A-Za-z0-9+/_-]{16,8192}={0,2}(?![\w+/-])")
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:(?:0x|\\x)?[0-9a-fA-F]{2}[\s:,]?){10,4096}")
_ESCAPES = re.compile(r"\\u\{?([0-9a-fA-F]{4,6})\}?|\\x([0-9a-fA-F]{2})")
_SPACED = re.compile(r"(?<!\w)(?:\w[ ._*-]){6,400}\w(?!\w)")
_LOOKALIKES = str.maketrans("авеікмнорстухѕјԁɡӏԛԝαβεικνορτυχοΙ", "abeikmhopctyxsjdglqwabeikvoptuxoi")
"""Cyrillic and Greek letters that look like Latin ones."""


def views(text: str) -> list[str]:
    """The text itself, unfolded to plain letters, and everything that it decodes to, each once."""
    found: dict[str, None] = {}
    waiting = [(bounded(text), 0)]
    while waiting:
        view, depth = waiting.pop(0)
        plain = unicodedata.normalize("NFKC", view)
        if plain in found or len(found) >= MOST_RUNS:
            continue
        found[plain] = None
        if depth < DEEPEST:
            waiting += [(other, depth + 1) for other in _decoded(plain)]
    return list(found)


def folded(view: str) -> str:
    """A view in lower case with look-alike letters replaced by Latin ones."""
    return view.casefold().translate(_LOOKALIKES)


def bounded(text: str) -> str:
    """Head and tail of a text, as much as is looked at."""
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]}\n{text[-half:]}"


def _decoded(view: str) -> Iterator[str]:
    """What parts of a text say in another encoding."""
    if "&" in view and (plain := html.unescape(view)) != view:
        yield plain
    if "%" in view and (plain := unquote(view)) != view:
        yield plain
    if "\\" in view and (plain := _ESCAPES.sub(_unescaped, view)) != view:
        yield plain
    for run in list(_BASE64.finditer(view))[:MOST_RUNS]:
        yield from _readable(_unbase64(run[0]))
    for run in list(_HEX.finditer(view))[:MOST_RUNS]:
        digits = re.sub(r"0x|\\x|[\s:,]", "", run[0])
        yield from _readable(bytes.fromhex(digits[: len(digits) // 2 * 2]))
    for run in list(_SPACED.finditer(view))[:MOST_RUNS]:
        yield re.sub(r"(\w)[ ._*-](?=\w)", r"\1", run[0])


def turned(view: str) -> list[str]:
    """A text read backwards, line by line, and by rot13."""
    return ["\n".join(line[::-1] for line in view.split("\n")), codecs.encode(view, "rot13")]


def _unescaped(found: re.Match[str]) -> str:
    code = int(found[1] or found[2], 16)
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else ""


def _unbase64(run: str) -> bytes:
    plain = run.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4))
    except (ValueError, binascii.Error):
        return b""


def _readable(data: bytes) -> list[str]:
    """Bytes as text; none when they are no text."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return []
    odd = sum(not (sign.isprintable() or sign.isspace()) for sign in text)
    letters = sum(sign.isalpha() or sign.isspace() for sign in text)
    return [text] if len(data) >= 8 and not odd and letters * 10 >= len(text) * 6 else []
