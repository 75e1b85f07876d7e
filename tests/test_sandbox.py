import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from patience import until

from orchestrator.sandbox import Confinement, Sandbox, View
from orchestrator.sandbox.bubblewrap import Bubblewrap
from orchestrator.sandbox.detect import detect, programs, trial
from orchestrator.sandbox.none import NoSandbox
from orchestrator.sandbox.places import Limits

pytestmark = pytest.mark.skipif(not programs(), reason="bubblewrap is for Linux")


def run(
    root: Path, script: str, view: View = "work", sandbox: Sandbox | None = None
) -> subprocess.CompletedProcess[str]:
    argv = (sandbox or detect()).wrap(["/bin/bash", "-c", script], Confinement(root, root, view))
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root, home = tmp_path / "work", tmp_path / "home"
    root.mkdir()
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_rsa").write_text("a private key")
    (home / ".netrc").write_text("a password")
    (home / "letter.txt").write_text("a private letter")
    monkeypatch.setenv("HOME", str(home))
    return root


def test_the_probe_finds_a_sandbox_that_confines(work: Path) -> None:
    assert detect().is_confining
    assert detect() is detect()


def test_a_sandbox_that_does_not_confine_is_not_believed(work: Path) -> None:
    assert trial(NoSandbox()) == "what was tried in it could write outside the workspace"
    assert "not found" in trial(Bubblewrap("/does/not/exist"))


def test_the_workspace_is_written_even_below_tmp(work: Path) -> None:
    assert run(work, "echo hello > a.txt && mkdir -p b && pwd").stdout.strip() == str(work)
    assert (work / "a.txt").read_text() == "hello\n"


def test_a_write_outside_is_refused_or_lost(work: Path) -> None:
    beside = work.parent / "beside"
    beside.mkdir()
    targets = [
        beside / "x",
        Path("/usr/orc-x"),
        Path("/etc/orc-x"),
        Path.home() / "orc-x",
        Path("/var/tmp/orc-x"),
    ]
    run(work, "; ".join(f"echo x > {target}" for target in targets))
    assert not [target for target in targets if target.exists()]


def test_kernel_settings_cannot_be_changed(work: Path) -> None:
    for view in ("work", "inspect"):
        done = run(work, "echo x > /proc/sys/kernel/core_pattern", view)
        assert done.returncode != 0


def test_the_network_is_refused_in_the_work_view(work: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert run(work, f"echo > /dev/tcp/127.0.0.1/{port}").returncode != 0
        assert run(work, f"echo > /dev/tcp/127.0.0.1/{port}", "inspect").returncode == 0


@pytest.mark.parametrize("view", ["work", "inspect"])
def test_credentials_and_our_own_records_are_invisible(work: Path, view: View) -> None:
    (work / ".orc").mkdir()
    (work / ".orc" / "state.db").write_text("our records")
    seen = run(
        work, "cat ~/.ssh/* ~/.netrc .orc/* /etc/shadow; ls -A .orc ~/.ssh; echo > .orc/state.db", view
    )
    assert "private" not in seen.stdout
    assert "records" not in seen.stdout
    assert "state.db" not in seen.stdout
    assert (work / ".orc" / "state.db").read_text() == "our records"


def test_a_secret_in_the_environment_does_not_reach_the_command(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("KEYBOARD", "dvorak")
    assert run(work, 'echo "$OPENAI_API_KEY/$KEYBOARD"').stdout == "/dvorak\n"


def test_the_rest_of_home_is_hidden_from_work(work: Path) -> None:
    assert "letter" not in run(work, "ls -A ~").stdout


def test_python_and_git_work_inside(work: Path) -> None:
    done = run(
        work,
        f"{sys.executable} -c 'print(6 * 7)' && git init -q . && echo a > a && git add a"
        " && git -c user.name=a -c user.email=a@b commit -qm first && git log --format=%s",
    )
    assert done.stdout.split() == ["42", "first"]


def test_a_process_outside_cannot_be_killed_from_work(work: Path) -> None:
    outside = subprocess.Popen(["sleep", "20"])
    try:
        assert run(work, f"kill -9 {outside.pid}").returncode != 0
        run(work, "kill -9 -1")
        assert outside.poll() is None
    finally:
        outside.kill()
        outside.wait()


def test_inspect_sees_the_machine_and_writes_nothing(work: Path) -> None:
    done = run(work, f"ls -d /proc/{os.getpid()}; whoami; touch {work}/x; touch ~/x; mkdir /etc/x", "inspect")
    assert f"/proc/{os.getpid()}" in done.stdout
    assert subprocess.run(["whoami"], capture_output=True, text=True, check=True).stdout in done.stdout
    assert not (work / "x").exists()
    assert not (Path.home() / "x").exists()
    assert run(work, f"ls /proc/{os.getpid()}/root/", "inspect").returncode != 0


@pytest.mark.parametrize("view", ["work", "inspect"])
def test_nothing_of_a_command_outlives_it(work: Path, view: View) -> None:
    command = "trap '' TERM; (trap '' TERM; setsid sleep 302) & (trap '' TERM; sleep 302) & sleep 302"
    argv = detect().wrap(["/bin/bash", "-c", command], Confinement(work, work, view))

    def sleeping() -> int:
        found = 0
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                found += place.read_bytes() == b"sleep\x00302\x00"
        return found

    with subprocess.Popen(argv, start_new_session=True) as process:
        until(lambda: sleeping() == 3)
        os.killpg(process.pid, signal.SIGKILL)
    until(lambda: sleeping() == 0)
    assert sleeping() == 0


def test_exit_codes_and_streams_pass_through(work: Path) -> None:
    done = run(work, "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert run(work, "kill -TERM $$").returncode == 128 + 15


def test_a_fork_bomb_ends_by_itself(work: Path) -> None:
    sandbox = Bubblewrap(programs()[0], Limits(processes=40))
    started = time.monotonic()
    done = run(work, "for i in {1..200}; do sleep 15 & done; wait; echo survived", sandbox=sandbox)
    assert "survived" not in done.stdout
    assert time.monotonic() - started < 10


def test_a_disk_filler_hits_a_limit(work: Path) -> None:
    sandbox = Bubblewrap(programs()[0], Limits(file_bytes=1 << 20, temporary_bytes=1 << 20))
    done = run(work, "head -c 3M /dev/zero > big; head -c 3M /dev/zero > /tmp/big", sandbox=sandbox)
    assert done.returncode != 0
    assert (work / "big").stat().st_size <= 1 << 20


def test_capabilities_are_gone(work: Path) -> None:
    assert run(work, "grep CapEff /proc/self/status").stdout.split()[1] == "0" * 16


def test_without_a_sandbox_the_command_is_as_it_was(work: Path) -> None:
    assert NoSandbox().wrap(["ls"], Confinement(work, work)) == ["ls"]
    assert not NoSandbox().is_confining
