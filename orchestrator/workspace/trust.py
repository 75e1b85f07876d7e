"""Which folders the user trusts: asked once per folder, kept outside of it.

The list lies in the user's data folder, so that nothing inside a folder can make it trusted. A folder
is known by its resolved path; trust does not reach the folders below it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from orchestrator.errors import StorageError
from orchestrator.settings import data_dir

if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[str]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)

else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)


def is_trusted(root: Path) -> bool:
    """Whether the user trusts this very folder. Raises StorageError when the list cannot be read."""
    return str(root.resolve()) in trusted_folders()


def trusted_folders() -> dict[str, str]:
    """All trusted folders, each with the time since when. Raises StorageError."""
    path = _list()
    try:
        folders = json.loads(path.read_text("utf-8"))["folders"]
        return {str(folder): str(since) for folder, since in folders.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageError(f"the list of trusted folders {path} cannot be read: {error.strerror}") from None
    except (ValueError, LookupError, TypeError, AttributeError):
        text = f"the list of trusted folders {path} is damaged; delete it and trust your folders again"
        raise StorageError(text) from None


def trust(root: Path) -> None:
    """Trust a folder. Raises StorageError."""
    with _changing() as folders:
        folders.setdefault(str(root.resolve()), datetime.now(UTC).isoformat(timespec="seconds"))


def distrust(root: Path) -> None:
    """Stop trusting a folder; nothing happens when it was not trusted. Raises StorageError."""
    with _changing() as folders:
        folders.pop(str(root.resolve()), None)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old or the new content and never a part; raises OSError."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _list() -> Path:
    return data_dir() / "trust.json"


@contextmanager
def _changing() -> Iterator[dict[str, str]]:
    """The list, locked against other processes; what the caller leaves in it is written."""
    path = _list()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w", encoding="utf-8") as lock:
            _lock(lock)
            folders = trusted_folders()
            yield folders
            text = json.dumps({"version": 1, "folders": folders}, indent=2, sort_keys=True) + "\n"
            write_whole(path, text.encode())
    except OSError as error:
        text = f"the list of trusted folders {path} cannot be written: {error.strerror}"
        raise StorageError(text) from None
