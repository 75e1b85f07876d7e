"""The sandbox for where no namespaces can be made: the same ways out, each really tried."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.sandbox import Confinement, View
from orchestrator.sandbox import detect as detection
from orchestrator.sandbox.landlock import LEAST, Landlock, granted, version
from orchestrator.sandbox.places import Limits

pytestmark = pytest.mark.skipif(version() < LEAST, reason=f"Landlock {LEAST} is not in this kernel")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root, home = tmp_path / "work", tmp_path / "home"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a").write_text("mine\n", "utf-8")
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_rsa").write_text("key\n", "utf-8")
    monkeypatch.setenv("HOME", str(home))
    return root


def shell(
    root: Path, script: str, view: View = "work", limits: Limits | None = None
) -> subprocess.CompletedProcess[str]:
    argv = Landlock(limits or Limits()).wrap(["/bin/bash", "-c", script], Confinement(root, root, view))
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_ordinary_work_is_done(work: Path) -> None:
    script = """
set -e
cat src/a; echo b > src/b; mkdir new; echo c > new/c; mv src/b new/d; rm src/a; echo t > "$TMPDIR/t"
diff <(echo same) <(echo same); ls /etc > /dev/null; git init -q . && git add . && git status --short | wc -l
"""
    done = shell(work, script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["mine", "2"]
    assert (work / "new" / "d").read_text("utf-8") == "b\n"


@pytest.mark.parametrize(
    "script",
    [
        'echo x > "$1/out"',
        'cp src/a "$HOME/a"',
        "echo x > /etc/orc-test",
        "echo x > /var/tmp/orc-test",
        'cat "$HOME/.ssh/id_rsa"',
        'ls "$HOME/.ssh"',
        "cat /etc/shadow",
        'ln src/a "$1/linked"',
        'mv src/a "$1/moved"',
        'ln -s "$HOME/.ssh/id_rsa" src/key && cat src/key',
        "echo x > /proc/sys/kernel/core_pattern",
        "echo x > /proc/sysrq-trigger",
        "mknod src/disk b 8 0",
        "head -c 1 /dev/sda || head -c 1 /dev/vda || head -c 1 /dev/mem",
        "kill -0 $PPID",
        "cat /proc/$PPID/environ",
        "unshare -r true",
        "mount -t tmpfs x src",
        "exec 3<>/dev/tcp/127.0.0.1/9",
        "chroot / true",
    ],
)
def test_no_way_out_works(work: Path, tmp_path: Path, script: str) -> None:
    done = shell(work, f"set -- {tmp_path}\n{script}")
    assert done.returncode != 0
    assert "could not be set up" not in done.stderr
    assert not (tmp_path / "out").exists()
    assert "key" not in done.stdout
    assert (work / "src" / "a").exists()


def test_sockets_of_every_kind_are_refused(work: Path) -> None:
    code = """
import socket
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            print("made", socket.socket(family, kind))
        except OSError:
            pass
socket.socketpair()
"""
    argv = Landlock().wrap([sys.executable, "-c", code], Confinement(work, work))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_our_own_records_can_be_neither_read_nor_changed(work: Path) -> None:
    (work / ".orc").mkdir()
    state = work / ".orc" / "state.db"
    state.write_text("ours\n", "utf-8")
    for script in (
        "cat .orc/state.db",
        "echo x > .orc/state.db",
        "rm .orc/state.db",
        "mv .orc x",
        "touch .orc/n",
    ):
        assert shell(work, script).returncode != 0
    assert shell(work, "echo b > src/b").returncode == 0
    assert state.read_text("utf-8") == "ours\n"
    assert os.listdir(work / ".orc") == ["state.db"]  # noqa: PTH208


def test_records_kept_elsewhere_leave_the_workspace_free(work: Path, tmp_path: Path) -> None:
    (tmp_path / "home" / "records").mkdir()
    (work / ".orc").symlink_to(tmp_path / "home" / "records")
    assert shell(work, "echo new > new").returncode == 0
    assert shell(work, "echo x > .orc/x").returncode != 0


def test_the_other_view_changes_nothing(work: Path) -> None:
    assert shell(work, "cat src/a", "inspect").stdout == "mine\n"
    for script in ("echo x > src/a", "rm src/a", "touch new", 'cat "$HOME/.ssh/id_rsa"'):
        assert shell(work, script, "inspect").returncode != 0
    assert (work / "src" / "a").read_text("utf-8") == "mine\n"


def test_a_folder_may_hold_any_number_of_files_beside_what_is_hidden(work: Path) -> None:
    (work / ".orc").mkdir()
    (work / ".orc" / "state.db").touch()
    names = random.Random(1)
    for _ in range(4_000):
        (work / f"{names.getrandbits(600):0150x}").touch()
    for view in ("work", "inspect"):
        assert shell(work, "cat src/a", view).stdout == "mine\n"
        assert shell(work, "cat .orc/state.db", view).returncode != 0


def test_memory_and_files_are_limited(work: Path) -> None:
    limits = Limits(memory_bytes=256 << 20, file_bytes=1 << 20)
    argv = Landlock(limits).wrap([sys.executable, "-c", "bytearray(1 << 30)"], Confinement(work, work))
    assert subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode != 0
    assert shell(work, "head -c 2000000 /dev/zero > src/big", limits=limits).returncode != 0
    assert (work / "src" / "big").stat().st_size <= 1 << 20


def test_what_is_hidden_is_never_among_what_is_granted(tmp_path: Path) -> None:
    for name in ("a/b/secret", "a/c", "d"):
        (tmp_path / name).mkdir(parents=True)
    found = set(granted(tmp_path, [tmp_path / "a/b/secret"]))
    assert found == {tmp_path / "a/c", tmp_path / "d"}


@pytest.fixture
def fresh() -> Iterator[None]:
    detection.detect.cache_clear()
    yield
    detection.detect.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_it_steps_in_where_bubblewrap_is_not_permitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses = tmp_path / "bwrap"
    refuses.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    refuses.chmod(0o755)
    monkeypatch.setattr(detection, "programs", lambda: [str(refuses)])
    assert detection.detect().name == "landlock"
