"""Random workspaces, random shell commands: an undo is exact both ways, loses nothing, survives a kill."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from files import tree_of
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import StorageError
from orchestrator.snapshots import Edge, Snapshots, redo_edges

COMMANDS = (
    'printf "%b" "$3" >"$2"',
    'mkdir -p -- "$2/inner/empty"',
    'ln -s -- "$3" "$2"',
    'rm -rf -- "$1"',
    'mv -f -- "$1" "$2"',
    'test -L "$1" || chmod -- "$4" "$1"',
    'cp -a -- "$1" "$2"',
    'test ! -f "$1" || truncate -s 1 -- "$1"',
    'test ! -f "$1" || sed -i s/a/bb/ -- "$1"',
    'git init --quiet -- "$2"',
    'ln -- "$1" "$2"',
    'rm -rf -- "$1" && mkdir -p -- "$1/made"',
    'rm -rf -- "$1" && echo made >"$1"',
    'printf "%b" "$3" >"$2" && chmod 0 -- "$2"',
    'for n in 1 2 3; do cp -- "$1" "$1.$n"; done; rm -- "$1"',
)
"""$1 is there, $2 may be; no link leads out of the workspace, so no command can."""
NAMES = (
    "a",
    "b",
    "A",
    "-rf",
    "x y",
    "new\nline",
    "\udcff",
    ".git",
    ".gitignore",
    "git~1",
    "b\\.git",
    "%41",
    "n" * 255,
)
TEXTS = ("", "a", "a\\r\\n", "\\0\\0377a", "dangling", "a/b", "x" * 300)
MODES = ("644", "755", "600", "444", "555", "4711", "1777", "2750", "000", "300")
STEP = st.tuples(
    st.sampled_from(COMMANDS),
    st.integers(0, 50),
    st.integers(0, 50),
    st.sampled_from(NAMES),
    st.integers(0, 99),
)
STEPS = st.lists(STEP, max_size=6)
Step = tuple[str, int, int, str, int]


NOBODY = 65534
USERS = (0, NOBODY) if os.geteuid() == 0 else (os.geteuid(),)
"""Root may read and write everything, which hides what an undo has to open: both are tried where possible."""


@contextmanager
def acting_as(user: int) -> Iterator[None]:
    """Be another user for a moment; what may import comes outside, the interpreter may be root's own."""
    if user in {os.geteuid(), None}:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


@contextmanager
def workspace(user: int) -> Iterator[Path]:
    # In memory where there is such a place: each undo syncs its files to the disk.
    memory = Path("/dev/shm")
    base = Path(tempfile.mkdtemp(prefix="orc-snapshots-", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        base.chmod(0o755)
        root = base / "work"
        root.mkdir()
        os.chown(root, user, -1)
        yield root
    finally:
        subprocess.run(["chmod", "-R", "u+rwX", str(base)], check=True)
        shutil.rmtree(base)


def do(root: Path, steps: list[Step], user: int) -> None:
    """Run each command on what it finds; many fail, as commands do."""
    for command, one, other, name, extra in steps:
        tree = tree_of(root)
        paths = [".", *sorted(tree.keys() - {"."})]
        folders = [path for path in paths if tree[path][0] == "folder"]
        folder = folders[other % len(folders)]
        new = f"{folder}/{name}" if (folder, name) != (".", ".git") else "a"
        # Never the workspace itself: a copy of it would hold a copy of our own state.
        old = f"./{paths[1 + one % (len(paths) - 1)]}" if paths[1:] else "nothing"
        words = [
            old,
            f"./{new}",
            TEXTS[extra % len(TEXTS)],
            MODES[extra % len(MODES)],
        ]
        whole = ["bash", "-c", command, "-", *words]
        if user == os.geteuid():
            subprocess.run(whole, cwd=root, capture_output=True, check=False)
        else:
            subprocess.run(
                whole, cwd=root, capture_output=True, check=False, user=user, group=user, extra_groups=[]
            )


def call(root: Path, steps: list[Step], user: int) -> Edge:
    with acting_as(user):
        before = Snapshots(root).take().id
    do(root, steps, user)
    with acting_as(user):
        return before, Snapshots(root).take().id


def undo(root: Path, edges: list[Edge], user: int) -> list[str]:
    """Undo, and return the paths in conflict."""
    with acting_as(user):
        kept = Snapshots(root)
        return [conflict.path for conflict in kept.apply(kept.plan(edges)).conflicts]


@pytest.mark.parametrize("user", USERS)
@settings(max_examples=15, deadline=None)
@given(start=STEPS, calls=st.lists(STEPS, min_size=1, max_size=3))
def test_undo_and_redo_are_exact(user: int, start: list[Step], calls: list[list[Step]]) -> None:
    with workspace(user) as root:
        do(root, start, user)
        original = tree_of(root)
        edges = [call(root, steps, user) for steps in calls]
        changed = tree_of(root)
        assert undo(root, edges, user) == []
        assert tree_of(root) == original
        assert undo(root, redo_edges(edges), user) == []
        assert tree_of(root) == changed


@pytest.mark.parametrize("user", USERS)
@settings(max_examples=15, deadline=None)
@given(start=STEPS, agents=STEPS, users=STEPS, is_late=st.booleans())
def test_what_the_user_changed_is_never_lost(
    user: int, start: list[Step], agents: list[Step], users: list[Step], is_late: bool
) -> None:
    with workspace(user) as root:
        do(root, start, user)
        before = tree_of(root)
        edge = call(root, agents, user)
        after = tree_of(root)
        with acting_as(user):
            early = Snapshots(root).plan([edge])
        do(root, users, user)
        mine = tree_of(root)
        with acting_as(user):
            plan = early if is_late else Snapshots(root).plan([edge])
            conflicts = Snapshots(root).apply(plan, force=is_late).conflicts
        end = tree_of(root)
        for path in before.keys() | after.keys() | mine.keys() | end.keys():
            if mine.get(path) != after.get(path):
                assert end.get(path) == mine.get(path)
            elif end.get(path) != before.get(path):
                assert end.get(path) == after.get(path)
                assert any(is_near(path, conflict.path) for conflict in conflicts)


def is_near(one: str, other: str) -> bool:
    """Whether one lies in the other, or is it."""
    return "." in {one, other} or f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


SETUP = """
mkdir -p a/b/c d ro fd; echo 1 >a/1; echo 2 >a/b/2; echo 3 >a/b/c/3; ln -s a l; echo f >f; echo x >fd/x
echo r >ro/r; chmod 500 ro; chmod 711 d; echo s >secret; chmod 400 secret
"""
CALL = """
rm -rf a/b; echo new >a/new; rm l; mkdir -p l/in; echo y >l/in/y; rm f; mkdir f; touch f/g; rm -r fd
echo file >fd; chmod 700 ro; rm ro/r; mkdir ro/q; echo q >ro/q/q; chmod 500 ro/q ro .
chmod 755 d; chmod 0 secret
"""


def shell(root: Path, script: str, user: int) -> None:
    more = {} if user == os.geteuid() else {"user": user, "group": user, "extra_groups": []}
    subprocess.run(["bash", "-ec", script], cwd=root, check=True, **more)  # type: ignore[call-overload]


@pytest.mark.parametrize("user", USERS)
def test_an_undo_that_is_killed_anywhere_is_finished_by_the_next(user: int) -> None:
    with workspace(user) as root:
        shell(root, SETUP, user)
        original = tree_of(root)
        with acting_as(user):
            before = Snapshots(root).take().id
        shell(root, CALL, user)
        changed = tree_of(root)
        with acting_as(user):
            edge = before, Snapshots(root).take().id
        kills = 0
        for moment in range(3, 2_000, 13):
            is_killed = killed_at(moment, lambda: undo(root, [edge], user))
            assert undo(root, [edge], user) == []
            assert tree_of(root) == original
            assert undo(root, redo_edges([edge]), user) == []
            assert tree_of(root) == changed
            if not is_killed:
                break
            kills += 1
        assert kills > 5


def killed_at(moment: int, act: Callable[[], object]) -> bool:
    """Do it in a child that kills itself, -9, before its n-th step on the files; whether it came to that."""
    with warnings.catch_warnings():
        # A fork of a process with threads; the child touches none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    left = moment

    def count(event: str, _: object) -> None:
        nonlocal left
        if event.split(".")[0] in {"os", "open", "shutil"}:
            left -= 1
            # Only once: the kill is announced as well.
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(count)
        act()
    finally:
        os._exit(0)


WORKER = """
import sys
from pathlib import Path
from orchestrator.snapshots import Snapshots
root, name = Path(sys.argv[1]), sys.argv[2]
for number in range(8):
    (root / name).write_text(f"{name} {number}")
    print(Snapshots(root).take().id, number)
"""


def test_two_processes_that_take_snapshots_at_once_both_get_theirs(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"file{number}").write_text(str(number))
    workers = {
        name: subprocess.Popen(
            [sys.executable, "-c", WORKER, tmp_path, name], stdout=subprocess.PIPE, text=True
        )
        for name in ("one", "two")
    }
    said = {name: worker.communicate(timeout=50)[0] for name, worker in workers.items()}
    kept = Snapshots(tmp_path)
    for name, lines in said.items():
        found = [line.split() for line in lines.splitlines()]
        assert [kept.text(snapshot, name) for snapshot, _ in found] == [
            f"{name} {number}".encode() for number in range(8)
        ]
    assert kept.verify() == []


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The nearest thing to a full disk that needs no disk: the kernel refuses to write more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_and_nothing_is_changed_or_lost(tmp_path: Path) -> None:
    kept, large = Snapshots(tmp_path), tmp_path / "large"
    large.write_bytes(b"a" * 300_000)
    (tmp_path / "small").write_text("before")
    first = kept.take().id
    large.write_bytes(os.urandom(300_000))
    (tmp_path / "small").write_text("after")
    with no_file_above(100_000), pytest.raises(StorageError):
        kept.take()
    edge = (first, kept.take().id)
    changed = tree_of(tmp_path)
    plan = kept.plan([edge])
    with no_file_above(100_000), pytest.raises(StorageError, match="nothing was changed"):
        kept.apply(plan)
    assert tree_of(tmp_path) == changed
    assert kept.apply(plan).conflicts == ()
    assert (large.read_bytes(), (tmp_path / "small").read_text()) == (b"a" * 300_000, "before")
    assert kept.verify() == []
