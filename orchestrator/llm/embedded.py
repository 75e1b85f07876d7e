"""The model that needs no key and no account: llama.cpp in a process that starts with the first request.

All handles with the same settings share one server. It listens on loopback, asks for a random key, writes
nothing to the user's terminal, and ends with this process whichever way that ends.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

from orchestrator.errors import WeightsError
from orchestrator.llm import weights
from orchestrator.llm.endpoint import Endpoint, Front
from orchestrator.llm.prefixes import Prefixes
from orchestrator.settings import ModelSettings, cache_dir

Progress = Callable[[str], None]
"""Gets a line on what is being waited for."""
LOAD_SECONDS = 180
POLL_SECONDS = 0.02
TOKEN_BYTES = 32 << 10
"""Memory of one token of context; 28 KiB were measured for the built-in model."""
WORK_BYTES = 300 << 20
"""What llama.cpp needs beside weights and context."""
MIB = 1 << 20
LOGGED_ERROR = re.compile(r"[\d.]+ E (.+)")
"""A line of llama.cpp's log at its error level, behind its time."""


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    process: subprocess.Popen[bytes]
    endpoint: Endpoint
    model: Path

    @property
    def is_alive(self) -> bool:
        """Whether its process still runs."""
        return self.process.poll() is None


class Shared:
    """What all handles with the same settings have in common in this process."""

    def __init__(self) -> None:
        self.starting = threading.Lock()
        """Held by whoever starts the server; taken without waiting, so that no event loop stands still."""
        self.running: Running | None = None
        self.prefixes: dict[str, Prefixes] = {}
        """By API key, so that a server started anew begins with none."""


_SHARED: dict[tuple[str, int], Shared] = {}
_PROCESSES: set[subprocess.Popen[bytes]] = set()


class EmbeddedServer:
    """The embedded model's server for some settings; making one costs nothing, only `start` starts it."""

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        self.shared = _SHARED.setdefault((settings.model, settings.context_tokens), Shared())

    async def start(self, progress: Progress | None = None) -> Endpoint:
        """Return the endpoint, after fetching the weights and loading the model if that was not done.

        Safe from several tasks, threads and event loops; a cancelled start leaves nothing behind. Raises
        WeightsError.
        """
        say = progress or (lambda _: None)
        while True:
            running = self.shared.running
            if running and running.is_alive:
                return running.endpoint
            if self.shared.starting.acquire(blocking=False):
                try:
                    self.shared.running = await _start(self.settings, say)
                finally:
                    self.shared.starting.release()
            else:
                await asyncio.sleep(POLL_SECONDS)

    async def before(self, front: Front) -> None:
        """Make the server hold what an earlier process computed for this front; never raises."""
        await self._with_prefixes(lambda prefixes: prefixes.prepare(front))

    async def after(self, front: Front) -> None:  # noqa: ARG002 - the pair of `before`
        """Keep for later processes what was computed for the prompt; never raises."""
        await self._with_prefixes(lambda prefixes: prefixes.keep())

    def stop(self) -> None:
        """End the server now; the next `start` starts another one."""
        running, self.shared.running = self.shared.running, None
        if running:
            _end(running.process)

    async def _with_prefixes(self, use: Callable[[Prefixes], Awaitable[None]]) -> None:
        import httpx2  # noqa: PLC0415

        running = self.shared.running
        if running is None or not running.is_alive:
            return
        key = running.endpoint.api_key
        headers = {"Authorization": f"Bearer {key}"}
        address = running.endpoint.base_url.removesuffix("/v1")
        # trust_env: a proxy must neither see nor be needed for what stays on this machine.
        client = httpx2.AsyncClient(base_url=address, headers=headers, timeout=600, trust_env=False)
        try:
            async with client:
                prefixes = self.shared.prefixes.get(key)
                if prefixes is None:
                    prefixes = Prefixes(client, prefix_dir(), _identity(running.model, self.settings))
                    self.shared.prefixes = {key: prefixes}
                prefixes.client = client
                await use(prefixes)
        except (httpx2.HTTPError, OSError, ValueError):
            # The cache only saves time; a request without it is right, too.
            return


def prefix_dir() -> Path:
    """Where computed prompts are kept; they are the prompts in another form, so nobody else may read them."""
    folder = cache_dir() / "prefix"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _identity(model: Path, settings: ModelSettings) -> str:
    status = model.stat()
    return f"{model.resolve()}:{status.st_size}:{status.st_mtime_ns}:{_library()}:{settings.context_tokens}"


def _library() -> str:
    """Version of llama.cpp's wheel; raises WeightsError when it is not installed."""
    try:
        return version("xllamacpp")
    except PackageNotFoundError as error:
        raise WeightsError(
            "the embedded model needs llama.cpp, which is not installed: "
            f"pip install 'orc-orchestrator[local]'; or {weights.ELSE}"
        ) from error


# --- starting


async def _start(settings: ModelSettings, say: Progress) -> Running:
    _library()
    model = await _model_file(settings, say)
    cache_mib = spare_memory(model.stat().st_size, settings.context_tokens)
    say("loading the embedded model")
    key = secrets.token_urlsafe(24)
    order = {
        "model": str(model),
        "context_tokens": settings.context_tokens,
        "api_key": key,
        "cache_mib": cache_mib,
        "prefixes": f"{prefix_dir()}{os.sep}",
    }
    with tempfile.TemporaryFile() as log:
        process = _spawn(log)
        try:
            address = await _address(process, json.dumps(order).encode(), log)
        except BaseException:
            _end(process)
            raise
    return Running(process, Endpoint(f"{address}/v1", key), model)


async def _model_file(settings: ModelSettings, say: Progress) -> Path:
    """The file to load: the one that the settings name, else the built-in one, fetched when it is missing."""
    if settings.model.endswith(".gguf"):
        return weights.own_file(settings.model)
    found = weights.find()
    if found:
        return found
    stop, outcome = threading.Event(), _Outcome()
    # Not the event loop's pool: a pool's threads are waited for at exit, and a silent server would hold it.
    threading.Thread(target=_pull, args=(outcome, say, stop), daemon=True).start()
    try:
        while not outcome.done.is_set():  # noqa: ASYNC110 - set by a thread, which cannot wake a loop's event
            await asyncio.sleep(0.1)
    finally:
        stop.set()
    if outcome.path is None:
        raise outcome.error or WeightsError("fetching the weights ended without a result")
    return outcome.path


class _Outcome:
    """What a thread brought."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.path: Path | None = None
        self.error: BaseException | None = None


def _pull(outcome: _Outcome, say: Progress, stop: threading.Event) -> None:
    try:
        outcome.path = weights.pull(weights.narrated(say), stop=stop)
    except BaseException as error:  # noqa: BLE001 - carried over to the task that waits, which raises it
        outcome.error = error
    finally:
        outcome.done.set()


def _spawn(log: IO[bytes]) -> subprocess.Popen[bytes]:
    # -P: no module of the current folder may take the place of ours. A session of its own: Ctrl-C is for us.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "orchestrator.llm.llama_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        start_new_session=True,
    )
    _PROCESSES.add(process)
    return process


async def _address(process: subprocess.Popen[bytes], order: bytes, log: IO[bytes]) -> str:
    """Wait for the process to say where it listens."""
    if process.stdin is None or process.stdout is None:
        raise WeightsError("the embedded model's process has no pipes")
    process.stdin.write(order + b"\n")
    process.stdin.flush()
    answer: list[bytes] = []
    reader = threading.Thread(target=_read_line, args=(process.stdout, answer), daemon=True)
    reader.start()
    deadline = time.monotonic() + LOAD_SECONDS
    while reader.is_alive():
        if time.monotonic() > deadline:
            raise WeightsError(
                f"the embedded model was not loaded within {LOAD_SECONDS} s; is the machine busy?"
            )
        await asyncio.sleep(POLL_SECONDS)
    if answer and answer[0]:
        return str(json.loads(answer[0])["address"])
    raise WeightsError(f"the embedded model could not be loaded: {_last_words(process, log)}")


def _read_line(pipe: IO[bytes], answer: list[bytes]) -> None:
    answer.append(pipe.readline())


def _last_words(process: subprocess.Popen[bytes], log: IO[bytes]) -> str:
    """The end of the log, or the way the process ended."""
    code = process.wait()
    log.seek(0)
    lines = log.read()[-8000:].decode(errors="replace").split("\n")
    # The first error is the cause, what follows is who gave up on it.
    errors = [match[1] for line in lines if (match := LOGGED_ERROR.match(line))]
    last = [line.strip() for line in lines if line.strip()][-2:]
    return " | ".join(errors[:2] or last) or f"its process ended with {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
    _PROCESSES.discard(process)


@atexit.register
def _end_all() -> None:
    for process in list(_PROCESSES):
        _end(process)


# --- memory


def spare_memory(model_bytes: int, context_tokens: int) -> int:
    """MiB that may cache prompts in memory; raises WeightsError when not even the model fits."""
    available = available_memory()
    needed = model_bytes + context_tokens * TOKEN_BYTES + WORK_BYTES
    if available is None:
        return 512
    if available < needed:
        raise WeightsError(
            f"the embedded model needs {needed / MIB:.0f} MiB of memory and {available / MIB:.0f} MiB are "
            f"free; close something, lower `context_tokens`, or {weights.ELSE}"
        )
    return min(2048, (available - needed) // 2 // MIB)


def available_memory() -> int | None:
    """Bytes that this process may still take, by the kernel and by the control group; None where unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    available = sizes.get("MemAvailable")
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
        counts = dict(
            line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines()
        )
    except (OSError, ValueError):
        return available
    # File pages count as used, but are given back at once when they are needed.
    own = limit - used + int(counts.get("file", 0))
    return own if available is None else min(available, own)
