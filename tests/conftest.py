"""Fixtures that more than one file uses."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A workspace with a home of its own; nothing of the machine's settings reaches it."""
    from desk import Desk

    root, home = tmp_path / "work", tmp_path / "home"
    root.mkdir()
    home.mkdir()
    for kind in ("config", "data", "cache"):
        monkeypatch.setenv(f"ORC_{kind.upper()}_DIR", str(home / kind))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "NO_COLOR", "FORCE_COLOR", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANGGRAPH_STRICT_MSGPACK", "true")
    made = Desk(root, home, monkeypatch)
    yield made
    made.close()


def pytest_configure() -> None:
    """Have Ctrl-C reach the processes that tests start, also where a background shell had it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
