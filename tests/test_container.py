"""Commands in containers: really run where docker or podman run, and never unconfined where they do not."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Desk, wait_for
from patience import until
from scripted import Call, Say

from orchestrator.sandbox import Confinement, View
from orchestrator.sandbox import detect as detection
from orchestrator.sandbox.container import ATTEND, Container
from orchestrator.settings import Sandboxing
from orchestrator.tools.process import Ended, Job
from orchestrator.tools.process import run as run_job

SETTINGS = {"kind": "container", "image": os.environ.get("ORC_TEST_IMAGE", "python:3.12")}
SETTINGS |= {"runtime": runtime} if (runtime := os.environ.get("ORC_TEST_RUNTIME", "")) else {}
SETTINGS |= {"program": program} if (program := os.environ.get("ORC_TEST_PROGRAM", "")) else {}
WANTED = Sandboxing.model_validate(SETTINGS)
WHY = str(getattr(detection.detect(WANTED), "why", ""))
real = pytest.mark.skipif(bool(WHY), reason=WHY or "-")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    detection.detect.cache_clear()
    yield
    detection.detect.cache_clear()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    root = tmp_path / 'a "work", shared'
    (root / ".orc").mkdir(parents=True)
    (root / ".orc" / "state.db").write_text("ours", "utf-8")
    (root / "a").write_text("mine\n", "utf-8")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


def container() -> Container:
    found = detection.detect(WANTED)
    assert isinstance(found, Container)
    return found


def run(root: Path, script: str, view: View = "work") -> subprocess.CompletedProcess[str]:
    argv = container().wrap(["/bin/sh", "-c", script], Confinement(root, root, view))
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def job(root: Path, script: str, seconds: float = 120, marker: str = "", wait: float = 0) -> Ended:
    """Run a script as a tool does; cancel it when its marker is there, or after a wait."""

    async def cancelling(cancel: asyncio.Event) -> None:
        if marker:
            await asyncio.to_thread(wait_for, root / marker)
        await asyncio.sleep(wait)
        cancel.set()

    async def main() -> Ended:
        argv = container().wrap(["/bin/bash", "-c", script], Confinement(root, root))
        cancel = asyncio.Event()
        task = asyncio.ensure_future(cancelling(cancel)) if marker or wait else None
        ended = await run_job(Job(argv, root, seconds), cancel)
        if task:
            task.cancel()
        return ended

    return asyncio.run(main())


def left(owner: int) -> str:
    """The names of all containers that a process started."""
    listed = [container().program, "ps", "--all", "--filter", f"name=orc-{owner}-", "--format", "{{.Names}}"]
    return subprocess.run(listed, capture_output=True, text=True, timeout=60, check=True).stdout


@real
def test_a_command_works_in_the_workspace_and_nowhere_else(work: Path) -> None:
    assert run(work, "cat a; echo b > b; pwd").stdout == f"mine\n{work}\n"
    assert (work / "b").read_text("utf-8") == "b\n"
    for script in (
        "cat .orc/state.db",
        "echo x > .orc/x",
        "echo x >> .git/config",
        "echo x > .git/hooks/x",
        "mv .git .moved",
        "echo x > /etc/x",
        "echo x > /run/x",
        "echo x > /proc/sys/kernel/core_pattern",
        "python3 -c 'import socket; socket.create_connection((\"1.1.1.1\", 53), 2)'",
        "mknod /tmp/disk b 8 0",
        "mount -t tmpfs none /mnt",
    ):
        assert run(work, script).returncode != 0, script
    assert run(work, "echo x > a", "inspect").returncode != 0
    assert run(work, "grep CapBnd /proc/self/status").stdout.split()[1] == "0" * 16


@real
def test_exit_codes_input_and_environment_pass_through(work: Path) -> None:
    done = run(work, "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert run(work, "kill -TERM $$").returncode == 128 + 15
    assert run(work, "no-such-program").returncode == 127
    argv = container().wrap(["python3", "-"], Confinement(work, work))
    code = "import os; print(os.environ['HOME'], os.environ.get('PAGER'), os.environ.get('SHELL_KEY'))"
    done = subprocess.run(
        argv,
        input=code,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PAGER": "cat", "SHELL_KEY": "secret"},
    )
    assert done.stdout == "/tmp cat None\n"


@real
def test_credentials_in_the_workspace_are_hidden(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(work))
    (work / ".ssh").mkdir()
    (work / ".ssh" / "id_rsa").write_text("private", "utf-8")
    (work / ".netrc").write_text("private", "utf-8")
    assert "private" not in run(work, "cat .ssh/* .netrc; ls -A .ssh").stdout
    assert (work / ".netrc").read_text("utf-8") == "private"


@real
@pytest.mark.parametrize(
    "script",
    [
        "touch begun; sleep 60 & sleep 60",
        "trap 'echo polite; exit 3' TERM; touch begun; while :; do sleep 0.05; done",
        "trap '' TERM; touch begun; while :; do sleep 0.1; done",
    ],
)
def test_a_cancelled_command_is_asked_then_made_to_end(work: Path, script: str) -> None:
    ended = job(work, script, marker="begun")
    assert ended.stopped == "by the user"
    assert ("polite" in ended.out) == ("polite" in script)
    assert until(lambda: not left(os.getpid()))


@real
def test_a_command_whose_time_is_up_leaves_no_container(work: Path) -> None:
    assert job(work, "sleep 60", 1.5).stopped == "after 1.5 s"
    assert until(lambda: not left(os.getpid()))


@real
@pytest.mark.parametrize("seconds", [0.02, 0.05, 0.1, 0.2, 0.4, 0.8])
def test_a_cancelled_command_leaves_no_container_whenever_it_comes(work: Path, seconds: float) -> None:
    assert job(work, "sleep 60", wait=seconds).stopped == "by the user"
    assert until(lambda: not left(os.getpid()))


@real
def test_children_that_are_left_behind_end_with_the_command(work: Path) -> None:
    assert job(work, "sleep 61 & echo done").out == "done\n"
    assert not left(os.getpid())


@real
def test_no_container_is_left_when_orc_is_killed(desk: Desk) -> None:
    script = [Call("run_command", command="touch marker; sleep 62", seconds=600), Say("done")]
    with desk.model(script):
        desk.user_settings({"sandbox": SETTINGS})
        process = desk.start("run", "--yes", "@coder wait a while")
        wait_for(desk.root / "marker")
        assert left(process.pid)
        process.kill()
        process.communicate()
        assert until(lambda: not left(process.pid))


@real
def test_no_container_is_left_when_its_client_and_what_watches_it_are_killed(work: Path) -> None:
    argv = container().wrap(["/bin/sh", "-c", "touch marker; sleep 63"], Confinement(work, work))
    process = subprocess.Popen(argv, start_new_session=True)
    wait_for(work / "marker")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert until(lambda: not left(os.getpid()))


@real
def test_the_whole_command_works_in_containers(desk: Desk) -> None:
    script = [
        Call("run_command", command="printf 3 > n"),
        Call("run_python", code="int(open('n').read()) * 14"),
        Say("42"),
    ]
    desk.user_settings({"sandbox": SETTINGS})
    turn = desk.work("@coder compute with n", script)
    assert "42" in turn.requests[-1].last
    said = desk.orc("doctor").out
    assert f"container confines commands: {Path(container().program).name}, image {WANTED.image}" in said


def test_every_container_is_closed_on_all_sides(work: Path) -> None:
    wanted = Sandboxing(kind="container", runtime="runsc", image="tools:1")
    argv = Container(wanted, "docker").wrap(["/usr/bin/bash", "-c", "ls"], Confinement(work, work))
    said, quoted = " ".join(argv), str(work).replace('"', '""')
    for part in (
        "--network none",
        "--read-only",
        "--cap-drop ALL",
        "--security-opt no-new-privileges",
        "--pids-limit",
        "--memory",
        "--pull never",
        "--runtime runsc",
        f'type=tmpfs,"destination={quoted}/.orc",tmpfs-size=4096,ro',
        f'"source={quoted}/.git/hooks","destination={quoted}/.git/hooks",readonly',
        f'"source={quoted}/.git/config","destination={quoted}/.git/config",readonly',
    ):
        assert part in said
    assert argv[:4] == [sys.executable, "-I", "-S", str(ATTEND)]
    assert argv[-4:] == ["orc", "bash", "-c", "ls"]
    assert argv[argv.index("--entrypoint") + 2] == "tools:1"


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


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        ('exec "$@"', "could write outside the workspace"),
        ('cd "${5%/*}/work"; exec "$1" "$2" "$3" "$4" /nowhere', "could see orc's own records"),
        ("true", "could not write its workspace"),
    ],
)
def test_a_container_that_does_not_confine_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str, why: str
) -> None:
    liar = tmp_path / "podman"
    liar.write_text(f'#!/bin/sh\n[ "$1" = run ] || exit 0\nshift $(($# - 5))\n{lie}\n', "utf-8")
    liar.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = detection.detect(Sandboxing(kind="container", program="podman"))
    assert (found.name, found.is_confining) == ("none", False)
    assert getattr(found, "why", "") == f"podman: what was tried in it {why}"


def test_of_docker_and_podman_the_one_that_works_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = '#!/bin/sh\n[ "$1" = run ] || exit 0\nfor last; do :; done\necho in > "${last%/*}/work/src/in"\n'
    for name, text in (("docker", "#!/bin/sh\nexit 1\n"), ("podman", works)):
        (tmp_path / name).write_text(text, "utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert detection.detect(Sandboxing(kind="container")).name == "container"
    found = detection.detect(Sandboxing(kind="container", program="docker"))
    assert getattr(found, "why", "") == "docker says: no reason"


def test_a_folder_that_is_not_trusted_cannot_choose_the_container(desk: Desk) -> None:
    desk.settings({"sandbox": {"kind": "container", "image": "evil"}})
    done = desk.orc("config", "show")
    assert done.code == 2
    assert "sandbox" in done.err


def test_a_workspace_cannot_change_how_the_user_confines(desk: Desk) -> None:
    desk.user_settings({"sandbox": "none"})
    desk.settings({"sandbox": "auto"})
    assert "the settings want none" in desk.orc("doctor").out
