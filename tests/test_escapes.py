"""Ways out of the sandbox, each really tried: none may work, and as root no more than as anybody else."""

from __future__ import annotations

import os
import platform
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.sandbox import Confinement, Sandbox, View, seccomp
from orchestrator.sandbox.bubblewrap import Bubblewrap
from orchestrator.sandbox.detect import detect, programs
from orchestrator.sandbox.landlock import Landlock
from orchestrator.sandbox.places import Limits
from orchestrator.sandbox.records import Kept

Kind = Callable[[Limits], Sandbox]
pytestmark = pytest.mark.skipif(not programs(), reason="bubblewrap is for Linux")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root, home = tmp_path / "work", tmp_path / "home"
    root.mkdir()
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return root


def python(
    root: Path, code: str, view: View = "work", sandbox: Bubblewrap | None = None
) -> subprocess.CompletedProcess[str]:
    argv = (sandbox or detect()).wrap([sys.executable, "-c", CALL + code], Confinement(root, root, view))
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


CALL = """
import ctypes, errno, os, platform
libc = ctypes.CDLL(None, use_errno=True)
column = 0 if platform.machine() == "x86_64" else 1
def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *[ctypes.c_long(item) for item in arguments])
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]
"""


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("view", ["work", "inspect"])
def test_every_denied_system_call_is_refused(work: Path, view: View) -> None:
    numbers = [pair[platform.machine() != "x86_64"] for pair in seccomp._DENIED.values()]
    found = errors(python(work, f"for number in {numbers}: print(call(number, 0, 0, 0, 0, 0))", view))
    assert found == ["EPERM"] * len(numbers)


@pytest.mark.parametrize("view", ["work", "inspect"])
def test_no_new_namespace_can_be_made(work: Path, view: View) -> None:
    clone, flags = "(56, 220)[column]", "(0x10000000, 0x20000, 0x40000000, 0x20000000)"
    assert (
        errors(python(work, f"for flag in {flags}: print(call({clone}, flag | 17, 0))", view))
        == ["EPERM"] * 4
    )
    assert errors(python(work, "print(call(435, 0, 0))", view)) == ["ENOSYS"]


def test_words_cannot_be_put_into_a_terminal(work: Path) -> None:
    assert errors(python(work, "print(call((16, 29)[column], 0, 0x5412, 0))")) == ["EPERM"]
    assert errors(python(work, "print(call((16, 29)[column], 0, 0xdead00005412, 0))")) == ["EPERM"]


def test_odd_socket_families_and_personalities_are_refused(work: Path) -> None:
    assert (
        errors(python(work, "for family in (17, 38, 40): print(call((41, 198)[column], family, 2, 0))"))
        == ["EPERM"] * 3
    )
    code = "print(call((135, 92)[column], 0xffffffff)); print(call((135, 92)[column], 0x0040000))"
    assert errors(python(work, code)) == ["done", "EPERM"]


def test_ordinary_programs_notice_nothing(work: Path) -> None:
    code = """
import concurrent.futures, multiprocessing, socket, subprocess, tempfile, threading
socket.socket(socket.AF_UNIX); socket.socket(socket.AF_INET)
threading.Thread(target=print, args=("thread",)).start()
print(subprocess.run(["echo", "child"], capture_output=True, text=True).stdout.strip())
print(*concurrent.futures.ThreadPoolExecutor(2).map(str, [1, 2]))
tempfile.TemporaryFile()
"""
    assert set(errors(python(work, code))) == {"thread", "child", "1", "2"}


@pytest.mark.parametrize("view", ["work", "inspect"])
def test_devices_and_kernel_files_are_out_of_reach(work: Path, view: View) -> None:
    code = """
for path in ("/dev/sda", "/dev/vda", "/dev/mem", "/dev/kmsg", "/dev/kvm", "/dev/fuse", "/dev/net/tun",
             "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/kcore", "/sys/power/state"):
    try:
        open(path, "r+b" if path.startswith("/dev") else "wb")
        print("opened", path)
    except OSError:
        pass
import stat
try:
    os.mknod("/tmp/device", 0o600 | stat.S_IFBLK, os.makedev(8, 0))
    open("/tmp/device", "rb")
    print("made a device")
except OSError:
    pass
"""
    assert errors(python(work, code, view)) == []


@pytest.mark.parametrize("view", ["work", "inspect"])
def test_the_key_that_seals_approvals_is_out_of_reach(
    work: Path, monkeypatch: pytest.MonkeyPatch, view: View
) -> None:
    folder = work.parent / "home" / "data"
    folder.mkdir()
    (folder / "approvals.key").write_bytes(b"k" * 32)
    monkeypatch.setenv("ORC_DATA_DIR", str(folder))
    done = python(work, f"print(os.path.exists({str(folder / 'approvals.key')!r}))", view)
    assert done.stdout.split() == ["False"], done.stderr


def test_in_a_home_folder_one_s_own_rules_stay_as_they_are(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = work / ".config" / "orc"
    folder.mkdir(parents=True)
    (folder / "policy.yaml").write_text("rules: []\n", "utf-8")
    monkeypatch.setenv("ORC_CONFIG_DIR", str(folder))
    file = str(folder / "policy.yaml")
    done = python(work, f"print(len(open({file!r}).read()), flush=True)\nopen({file!r}, 'w')")
    assert done.stdout.split() == ["10"]
    assert "Read-only file system" in done.stderr


def test_processes_outside_can_neither_be_seen_nor_traced(work: Path) -> None:
    space = Path("/proc/self/ns/pid").readlink()
    code = f"""
print(os.readlink("/proc/self/ns/pid") == {str(space)!r})
try:
    os.kill({os.getpid()}, 0)
    print("seen")
except OSError:
    pass
"""
    assert errors(python(work, code)) == ["False"]


def test_a_process_cannot_take_more_memory_than_it_may(work: Path) -> None:
    sandbox = Bubblewrap(programs()[0], Limits(memory_bytes=256 << 20))
    done = python(work, "x = bytearray(1 << 30); print('taken')", sandbox=sandbox)
    assert "taken" not in done.stdout


@pytest.mark.skipif(not Limits().groups(), reason="no control group can be made here")
@pytest.mark.parametrize("kind", [Landlock, lambda limits: Bubblewrap(programs()[0], limits)])
def test_processes_together_cannot_take_more_memory_than_they_may(work: Path, kind: Kind) -> None:
    sandbox = kind(Limits(total_bytes=192 << 20))
    code = """
import os, select, signal
ready, tell = os.pipe()
for number in range(4):
    if os.fork() == 0:
        taken = bytearray(b"x") * (96 << 20)
        os.write(tell, b"t")
        signal.pause()
taken = 0
while taken < 4 and os.waitpid(-1, os.WNOHANG)[0] == 0:
    if select.select([ready], [], [], 0.05)[0]:
        taken += len(os.read(ready, 4))
print("all" if taken == 4 else "some", flush=True)
os.killpg(0, 9)
"""
    argv = sandbox.wrap([sys.executable, "-c", code], Confinement(work, work))
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=False, start_new_session=True
    )
    assert "all" not in done.stdout


@pytest.mark.skipif(not Limits().groups(), reason="no control group can be made here")
def test_a_fork_bomb_under_landlock_ends_as_root_too(work: Path) -> None:
    sandbox = Landlock(Limits(processes=20, total_bytes=512 << 20))
    script = "for i in {1..200}; do sleep 5 & done 2> errors; wait; echo survived"
    argv = sandbox.wrap(["/bin/bash", "-c", script], Confinement(work, work))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert "survived" not in done.stdout
    assert "Resource temporarily unavailable" in done.stderr + (work / "errors").read_text("utf-8")


def test_files_and_open_files_are_limited_and_no_core_is_left(work: Path) -> None:
    sandbox = Bubblewrap(programs()[0], Limits(open_files=64))
    code = "import resource as r; print(r.getrlimit(r.RLIMIT_NOFILE)[1], r.getrlimit(r.RLIMIT_CORE)[1])"
    assert errors(python(work, code, sandbox=sandbox)) == ["64", "0"]


def git(root: Path, script: str, *, records: bool = False) -> subprocess.CompletedProcess[str]:
    argv = detect().wrap(["/bin/bash", "-c", script], Confinement(root, root, git_records=records))
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def test_hooks_and_settings_of_git_stay_as_they_are(work: Path) -> None:
    git(work, "git init -q . && rm -rf .git/hooks")
    assert git(work, "git config user.name a && git remote add o x", records=True).returncode == 0
    for script in (
        "mkdir -p .git/hooks; echo x > .git/hooks/pre-commit",
        "mv .git/hooks .git/h; mkdir .git/hooks; echo x > .git/hooks/pre-commit",
        "git config core.fsmonitor ./evil",
        "rm -rf .git",
        "mv .git g; mkdir .git; echo x > .git/config",
    ):
        assert git(work, script).returncode != 0
        assert not list((work / ".git" / "hooks").glob("*"))
        assert "evil" not in (work / ".git" / "config").read_text("utf-8")


def test_a_repository_below_the_workspace_keeps_its_hooks_and_settings(work: Path) -> None:
    git(work, "mkdir -p vendor/lib && git init -q vendor/lib && git init -q . && git submodule status")
    before = (work / "vendor/lib/.git/config").read_bytes()
    for script in (
        "echo '[core]' >> vendor/lib/.git/config",
        "echo x > vendor/lib/.git/hooks/pre-commit",
        "mv vendor/lib/.git vendor/lib/g",
    ):
        assert git(work, script).returncode != 0
    assert (work / "vendor/lib/.git/config").read_bytes() == before
    assert not (work / "vendor/lib/.git/hooks/pre-commit").exists()


def test_what_is_new_among_the_records_is_taken_away_and_what_changed_is_put_back(work: Path) -> None:
    git(work, "git init -q .", records=True)
    (work / "tree").mkdir()
    (work / "tree" / ".git").write_text("gitdir: ../.git/worktrees/tree\n", "utf-8")
    before = (work / ".git/config").read_bytes()
    kept = Kept(work)
    (work / ".git/commondir").write_text("../evil\n", "utf-8")
    (work / ".git/config").write_text("[core]\n\tfsmonitor = evil\n", "utf-8")
    (work / ".git/hooks/pre-commit").symlink_to("/bin/true")
    (work / "tree" / ".git").write_text("gitdir: /elsewhere\n", "utf-8")
    names = {str(path.relative_to(work)) for path in kept.restore()}
    assert names == {".git/commondir", ".git/config", ".git/hooks/pre-commit", "tree/.git"}
    assert not (work / ".git/commondir").exists()
    assert not (work / ".git/hooks/pre-commit").is_symlink()
    assert (work / ".git/config").read_bytes() == before
    assert (work / "tree" / ".git").read_text("utf-8").endswith("worktrees/tree\n")
    assert kept.restore() == []


def test_everyday_git_works_beside_them(work: Path) -> None:
    git(work, "git init -q . && git config user.name a && git config user.email a@b")
    script = "echo a > a && git add a && git commit -qm 1 && git checkout -qb x && git stash list && git log"
    done = git(work, script)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_is_well_formed_on_every_machine(machine: str) -> None:
    steps = list(struct.iter_unpack("<HBBI", seccomp.program(machine)))
    assert 0 < len(steps) < 4096
    for at, (code, yes, no, _) in enumerate(steps):
        assert code in {0x20, 0x15, 0x35, 0x45, 0x06}
        assert code == 0x06 or at + 1 + max(yes, no) < len(steps)
    assert steps[-1] == (0x06, 0, 0, 0x7FFF0000)
