"""Seal what was decided, so that a state file that someone else wrote approves nothing."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from orchestrator.settings import data_dir

BYTES = 32


def seal(*parts: Any) -> str:
    """A digest of some plain values that only this user can make."""
    text = json.dumps(parts, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hmac.new(_key(data_dir()), text.encode(), hashlib.sha256).hexdigest()


def is_sealed(digest: str, *parts: Any) -> bool:
    """Whether a digest is the seal of these values."""
    return hmac.compare_digest(digest.encode(), seal(*parts).encode())


@lru_cache(maxsize=4)
def _key(folder: Path) -> bytes:
    """The user's key, made when it is missing; where it cannot be kept, one for this process alone."""
    path = folder / "approvals.key"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        key = path.read_bytes()
    except OSError:
        key = b""
    return key if len(key) == BYTES else secrets.token_bytes(BYTES)


def _make(path: Path) -> None:
    """Write a new key, whole or not at all; of two processes that do it at once, one wins."""
    descriptor, name = tempfile.mkstemp(prefix=".approvals.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.link(name, path)
    except FileExistsError:
        pass
    finally:
        Path(name).unlink(missing_ok=True)
