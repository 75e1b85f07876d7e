"""Texts that a program only hides: calls that decode a literal, and literals that are put together."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Callable

_TEXT = r"(?P<q>['\"])(?P<text>(?:(?!(?P=q))[^\\])*)(?P=q)"
_BASE64 = (
    rf"(?:atob|decode_base64|base64_decode|(?:Base64\.)?(?:strict_)?decode64)\(\s*{_TEXT}\s*\)",
    rf"Buffer\.from\(\s*{_TEXT}\s*,\s*['\"]base64['\"]\s*\)(?:\.toString\([^)]*\))?",
    rf"{_TEXT}\.unpack1?\(\s*['\"]m0?['\"]\s*\)(?:\.first|\[0\])?",
)
_HEX = (
    rf"pack\(\s*['\"]H\*['\"]\s*,\s*{_TEXT}\s*\)",
    rf"\[\s*{_TEXT}\s*\]\.pack\(\s*['\"]H\*['\"]\s*\)",
    rf"Buffer\.from\(\s*{_TEXT}\s*,\s*['\"]hex['\"]\s*\)(?:\.toString\([^)]*\))?",
    rf"hex2bin\(\s*{_TEXT}\s*\)",
)
_REVERSED = (
    rf"(?:strrev|scalar reverse|reverse)\(?\s*{_TEXT}\s*\)?",
    rf"{_TEXT}(?:\.reverse\b|:reverse\(\)|\.split\(['\"]{{2}}\)\.reverse\(\)\.join\(['\"]{{2}}\))",
)
_TURNED = (rf"str_rot13\(\s*{_TEXT}\s*\)",)
_JOINED = re.compile(r"(['\"])((?:(?!\1)[^\\])*)\1\s*(?:\+|\.\.?)\s*(['\"])((?:(?!\1|\3)[^\\])*)\3")
"""Two literals that are put together."""
_CODES = re.compile(r"\b(?:chr\(\s*(\d{1,3})\s*\)|String\.fromCharCode\(([\d,\s]+)\)|(\d{1,3})\.chr\b)")
"""Characters by their numbers."""

_WAYS: tuple[tuple[re.Pattern[str], Callable[[str], str]], ...] = tuple(
    (re.compile(pattern), way)
    for patterns, way in (
        (_BASE64, lambda text: base64.b64decode(text).decode()),
        (_HEX, lambda text: bytes.fromhex(text).decode()),
        (_REVERSED, lambda text: text[::-1]),
        (_TURNED, lambda text: codecs.decode(text, "rot13")),
    )
    for pattern in patterns
)


def decoded(code: str) -> str:
    """Code with every literal in the clear that it only hides; what cannot be decoded stays."""
    code = _CODES.sub(_characters, code)
    for _ in range(8):
        joined = _JOINED.sub(lambda match: f"{match[1]}{match[2]}{match[4]}{match[1]}", code)
        if joined == code:
            break
        code = joined
    for pattern, way in _WAYS:
        code = pattern.sub(lambda match, way=way: _literal(match, way), code)  # type: ignore[misc]
    return code


def _characters(match: re.Match[str]) -> str:
    text = "".join(chr(int(number)) for number in re.findall(r"\d+", match[0]))
    return match[0] if set(text) & set("'\"\\\n") or len(text) > 200 else f'"{text}"'


def _literal(match: re.Match[str], way: Callable[[str], str]) -> str:
    try:
        text = way(match["text"])
    except (ValueError, binascii.Error):
        return match[0]
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
