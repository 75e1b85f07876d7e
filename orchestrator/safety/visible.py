"""Show a text as it is: hidden characters escaped, hosts that only look like others named.

What a person is asked to approve must be what runs. Nothing here decides anything.
"""

from __future__ import annotations

import re
import unicodedata

_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters that count as printable and show nothing: fillers, joiners, variation selectors."""
_AUTHORITY = re.compile(
    r"(?:\b[a-z][a-z0-9+.-]{0,20}://|@)(?:[^\s/@'\"<>]{0,200}@)?([^\s/:?#@'\"<>\\`|;&()]{1,253})", re.I
)
_NAME = re.compile(r"(?<![\w.-])(?:[^\W_][\w-]{0,62}\.){1,20}[^\W_][\w-]{1,62}")
"""Both with bounds: a long text must not take long."""
_STACKED = re.compile(r"[\u0300-\u036f\u0483-\u0489\u20d0-\u20f0]{3,}")
"""Marks piled on one letter, which can cover the lines around it."""


def is_hidden(char: str) -> bool:
    """Whether a terminal would show nothing for it, or obey it."""
    return not char.isprintable() or _BLANK.match(char) is not None


def escaped(text: str, keep: str = "\n") -> str:
    """The text with everything hidden written out as an escape; `keep` stays as it is."""
    if text.isascii() and text.isprintable():
        return text
    shown = "".join(
        char if char in keep or not is_hidden(char) else char.encode("unicode_escape").decode()
        for char in text
    )
    return _STACKED.sub(lambda found: found[0].encode("unicode_escape").decode(), shown)


def warnings(text: str) -> list[str]:
    """What a person could overlook in a text: hidden characters and hosts that are not what they seem."""
    found = sorted({_named(char) for char in text if is_hidden(char) and char not in "\n\t"})
    told = [f"it holds hidden characters: {', '.join(found[:5])}"] if found else []
    return told + strange_hosts(text)


def strange_hosts(text: str) -> list[str]:
    """The hosts in a text whose letters are not plain ones, each with what it really is."""
    after = [match[1].rstrip(".,") for match in _AUTHORITY.finditer(text)]
    bare = [name for name in _NAME.findall(text) if _is_mixed(name) or _is_coded(name)]
    strange = [host for host in [*after, *bare] if not host.isascii() or _is_coded(host)]
    return [_explained(host) for host in dict.fromkeys(strange)]


def _is_coded(host: str) -> bool:
    return any(label.lower().startswith("xn--") for label in host.split("."))


def _is_mixed(name: str) -> bool:
    """Whether a part between two dots has letters of several scripts; a name and its ending may differ."""
    return any(len(_scripts(label)) > 1 for label in name.split("."))


def _explained(host: str) -> str:
    plain = _decoded(host) if host.isascii() else host
    scripts = " and ".join(sorted(_scripts(plain))) or "unknown"
    written = plain.encode("ascii", "backslashreplace").decode()
    coded = f", on the wire {_coded(plain)}" if not host.isascii() else f", written {host}"
    return f"the host {written} is not plain ASCII: {scripts} letters{coded}"


def _decoded(host: str) -> str:
    """The letters that a punycode name stands for; the name itself where it stands for none."""
    try:
        labels = [
            label[4:].encode().decode("punycode") if label.lower().startswith("xn--") else label
            for label in host.split(".")
        ]
    except UnicodeError:
        return host
    return ".".join(labels)


def _coded(host: str) -> str:
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return "no valid name"


def _scripts(text: str) -> set[str]:
    """Names of the scripts whose letters are in a text."""
    names = (unicodedata.name(char, "unknown") for char in text if char.isalpha())
    return {name.split()[0].capitalize() for name in names}


def _named(char: str) -> str:
    return (
        f"{char.encode('unicode_escape').decode()} ({unicodedata.name(char, 'a control character').lower()})"
    )
