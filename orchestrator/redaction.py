"""Take secrets out of what is written down: those of the environment, and what is shaped like one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

_SECRET_NAME = re.compile(r"(?i)(key|token|secret|passw|credential)")
_SECRET_SHAPE = re.compile(
    r"\b(?:sk-[\w-]{16,}|[rsp]k_(?:live|test)_\w{16,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{15,}"
    r"|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}|xox[abeprs]-[\w-]{10,}|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{30,}"
    r"|eyJ[\w-]{10,}\.eyJ[\w-]{10,}(?:\.[\w-]*)?)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
REDACTED = "[redacted]"


def secrets_of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Values of the environment that must never be written down, also as JSON and as JSON within JSON."""
    found = {v for k, v in environment.items() if _SECRET_NAME.search(k) and len(v) >= 8}
    for _ in range(2):
        found |= {json.dumps(v, ensure_ascii=ascii_only)[1:-1] for v in found for ascii_only in (True, False)}
    return tuple(sorted(found, key=len, reverse=True))


def redact(text: str, secrets: Iterable[str]) -> str:
    """Replace known secrets, and what is shaped like one, by a mark."""
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    return _SECRET_SHAPE.sub(REDACTED, text)


def unsecret(value: Any, secrets: Iterable[str]) -> Any:
    """A JSON value as it may be written down; names at its top are ours and stay."""
    return {key: _clean(each, secrets) for key, each in value.items()} if isinstance(value, dict) else value


def _clean(value: Any, secrets: Iterable[str]) -> Any:
    if isinstance(value, str):
        return writable(redact(value, secrets))
    if isinstance(value, list):
        return [_clean(each, secrets) for each in value]
    if isinstance(value, dict):
        return {_clean(key, secrets): _clean(each, secrets) for key, each in value.items()}
    return value


def writable(text: str) -> str:
    """Replace halves of a surrogate pair, which models do write, by `?`: no file takes them."""
    return text.encode("utf-8", "replace").decode("utf-8")
