"""Where secrets lie, and whether a text carries one out: as it is, encoded, turned round or in pieces."""

from __future__ import annotations

import base64
import codecs
import re
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from urllib.parse import quote

from orchestrator.redaction import redact
from orchestrator.safety.views import bounded, views

SHORTEST = 8
"""Characters of a value that is taken for a secret."""
_FILE = re.compile(
    r"(?:^|/)(?:\.env(?:rc|\.(?!example|sample|template|dist|defaults?)[\w.-]+)?|\.netrc|\.npmrc|\.pypirc|\.pgpass"
    r"|\.git-credentials|\.htpasswd|id_(?:rsa|dsa|ecdsa|ed25519)|[\w.-]+\.(?:pem|key|p12|pfx|jks|keystore|kdbx|ppk)"
    r"|credentials(?:\.\w+)?|secrets?\.(?:ya?ml|json|toml|txt|env|ini)|(?:api)?[_-]?keys?\.(?:json|txt|ya?ml)"
    r"|service[_-]account[\w-]*\.json|passwords?\.\w+|\.(?:ssh|aws|gnupg|kube|docker|azure)(?:/.*)?|g?shadow)$",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\s\"'`=;|&<>(){},:]+")
_HIT = re.compile(r"(?m)^([^\s:]{1,300}):\d+[:-]")
_ASSIGNED = re.compile(
    r"(?im)^\W{0,8}(?:export\s+)?[\w.-]*(?:key|token|secret|passw(?:or)?d|credential)s?[\"']?\s*[:=]\s*[\"']?"
    r"(?=[\w+/.-]*\d)(?=[\w+/.-]*[a-z])[\w+/-]{12,}={0,2}[\"',;]*\s*$"
)
"""A line that gives something called a secret a value of its own, as `.env` files do."""


def is_secret_file(path: str) -> bool:
    """Whether a path is that of a file or folder where keys and passwords are kept."""
    return _FILE.search(path.strip().rstrip("/*")) is not None


def names_secret_file(texts: Iterable[str]) -> bool:
    """Whether arguments of a call name such a file."""
    return any(is_secret_file(word) for text in texts for word in _WORD.findall(text))


def shows_secret(text: str) -> bool:
    """Whether a result holds a secret, or lines of a file of secrets."""
    return bool(_ASSIGNED.search(text)) or any(is_secret_file(hit) for hit in _HIT.findall(text[:20_000]))


def carries(text: str, secrets: Collection[str]) -> bool:
    """Whether a text holds one of these secrets, or what is shaped like a secret, in any of its readings."""
    readings = views(text)
    if any(redact(reading, ()) != reading for reading in readings):
        return True
    plain = "\n".join(bounded(reading) for reading in readings)
    squeezed = _squeezed(plain)
    return any(
        form in plain or (len(tight := _squeezed(form)) >= SHORTEST and tight in squeezed)
        for secret in secrets
        for form in _forms(secret)
    )


def _squeezed(text: str) -> str:
    """Letters and digits only, so that pieces with signs between them come together."""
    return "".join(sign for sign in text.casefold() if sign.isalnum())


@lru_cache(maxsize=256)
def _forms(secret: str) -> tuple[str, ...]:
    return tuple({form for form in _spelt(secret) if len(form) >= SHORTEST})


def _spelt(secret: str) -> Iterator[str]:
    """A secret as one would smuggle it out; of a long one half is as bad as the whole."""
    parts = [secret]
    if len(secret) >= 2 * SHORTEST + 8:
        parts += [secret[: len(secret) // 2], secret[len(secret) // 2 :]]
    for part in parts:
        raw = part.encode("utf-8", "replace")
        yield from (part, part[::-1], codecs.encode(part, "rot13"), quote(part, safe=""))
        yield from (raw.hex(), raw[::-1].hex(), base64.b32encode(raw).decode().rstrip("="))
        for shift in range(3):
            # What stands before the secret moves the borders of base64's groups of three.
            whole = base64.b64encode(b"\0" * shift + raw).decode()
            inner = whole[-(-shift * 4 // 3) if shift else 0 : len(whole) - 4].rstrip("=")
            yield from (inner, inner.replace("+", "-").replace("/", "_"))
