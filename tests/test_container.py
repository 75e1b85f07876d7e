"""Commands in containers: really run where docker or podman run, and never unconfined where they do not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Desk

from orchestrator.sandbox import Confinement, View
from orchestrator.sandbox import detect as detection
from orchestrator.sandbox.container import Container, program, trouble
from orchestrator.settings import Sandboxing

WANTED = Sandboxing(kind="container", image=os.environ.get("ORC_TEST_IMAGE", "python:3.12"))
WHY = trouble(WANTED)
real = pytest.mark.skipif(bool(WHY), reason=WHY or "-")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    detection.detect.cache_clear()
    yield
    detection.detect.cache_clear()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    (root / ".orc").mkdir(parents=True)
    (root / ".orc" / "state.db").write_text("ours", "utf-8")
    (root / "a").write_text("mine\n", "utf-8")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


def run(root: Path, script: str, view: View = "work") -> subprocess.CompletedProcess[str]:
    argv = Container(WANTED, program(WANTED) or "").wrap(
        ["/bin/sh", "-c", script], Confinement(root, root, view)
    )
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


@real
def test_a_command_works_in_the_workspace_and_nowhere_else(work: Path) -> None:
    assert detection.detect(WANTED).name == "container"
    assert run(work, "cat a; echo b > b").stdout == "mine\n"
    assert (work / "b").read_text("utf-8") == "b\n"
    assert run(work, "cat .orc/state.db").returncode != 0
    assert run(work, "echo x >> .git/config").returncode != 0
    assert run(work, "echo x > /etc/x").returncode != 0
    assert run(work, "echo x > a", "inspect").returncode != 0
    assert run(work, "python3 -c 'import socket; socket.create_connection((\"1.1.1.1\", 53), 2)'").returncode


def test_every_container_is_closed_on_all_sides(work: Path) -> None:
    wanted = Sandboxing(kind="container", runtime="runsc", image="tools:1")
    argv = Container(wanted, "docker").wrap(["/usr/bin/bash", "-c", "ls"], Confinement(work, work))
    said = " ".join(argv)
    for part in (
        "--network none",
        "--read-only",
        "--cap-drop ALL",
        "--security-opt no-new-privileges",
        "--pids-limit",
        "--memory",
        "--pull never",
        "--runtime runsc",
        f"destination={work}/.orc",
        f'"source={work}/.git/hooks","destination={work}/.git/hooks",readonly',
        f'"source={work}/.git/config","destination={work}/.git/config",readonly',
    ):
        assert part in said
    assert argv[-3:] == ["tools:1", "-c", "ls"]
    assert argv[argv.index("--entrypoint") + 1] == "bash"


def test_what_cannot_be_started_is_never_replaced_by_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses = tmp_path / "docker"
    refuses.write_text("#!/bin/sh\necho 'Cannot connect to the daemon' >&2\nexit 1\n", "utf-8")
    refuses.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = detection.detect(Sandboxing(kind="container", program="docker"))
    assert (found.name, found.is_confining) == ("none", False)
    assert "Cannot connect" in getattr(found, "why", "")


def test_a_container_that_does_not_confine_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar = tmp_path / "podman"
    liar.write_text('#!/bin/sh\n[ "$1" = run ] || exit 0\nshift $(($# - 4))\nexec /bin/sh "$@"\n', "utf-8")
    liar.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = detection.detect(Sandboxing(kind="container", program="podman"))
    assert not found.is_confining


def test_a_folder_that_is_not_trusted_cannot_choose_the_container(desk: Desk) -> None:
    desk.settings({"sandbox": {"kind": "container", "image": "evil"}})
    done = desk.orc("config", "show")
    assert done.code == 2
    assert "sandbox" in done.err


def test_a_workspace_cannot_change_how_the_user_confines(desk: Desk) -> None:
    desk.user_settings({"sandbox": "none"})
    desk.settings({"sandbox": "auto"})
    assert "the settings want none" in desk.orc("doctor").out
