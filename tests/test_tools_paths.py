"""No path that a model writes leads out of the workspace, into orc's state, or into a wait without end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_sandbox import use

from orchestrator.errors import ToolError
from orchestrator.tools import paths

CORPUS = Path(__file__).parent / "data/path_attacks.jsonl"
ROWS = [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]


def place(root: Path, words: list[str]) -> None:
    """Make one thing that a row's set-up names."""
    path = root / words[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[], object]] = {
        "mkdir": lambda: path.mkdir(parents=True, exist_ok=True),
        "file": lambda: path.write_text("inside\n", encoding="utf-8"),
        "symlink": lambda: path.symlink_to(words[2].replace("{B}", str(root.parent))),
        "hardlink": lambda: path.hardlink_to(root / words[2]),
        "mkfifo": lambda: os.mkfifo(path),
    }
    makers[words[0]]()


@contextlib.contextmanager
def world(base: Path, setup: list[str]) -> Iterator[Path]:
    """A workspace with neighbours that must not change, made as a row of the corpus says."""
    root = base / "workspace"
    for folder in (root, base / "outside", base / "workspace-evil"):
        folder.mkdir()
    for name in ("secret.txt", "victim.txt"):
        (base / "outside" / name).write_text("SECRET outside", encoding="utf-8")
    stop, threads = threading.Event(), list[threading.Thread]()
    for line in setup:
        words = line.split()
        if words[0] == "race":
            threads.append(threading.Thread(target=swap, args=(root / words[1], words[2], stop)))
        else:
            place(root, words)
    for thread in threads:
        thread.start()
    try:
        yield root
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def swap(place: Path, target: str, stop: threading.Event) -> None:
    """Turn a file into a link that leads out and back, as fast as it goes."""
    link, file = place.with_name("swap-link"), place.with_name("swap-file")
    while not stop.is_set():
        with contextlib.suppress(OSError):
            link.symlink_to(target)
            link.replace(place)
            file.write_text("inside\n", encoding="utf-8")
            file.replace(place)


def attempt(root: Path, op: str, path: str) -> str:
    if op == "read":
        return use("read_file", root, path=path)
    if op == "write":
        return use("write_file", root, path=path, content="changed\n")
    return use("delete_file", root, path=path, recursive=op == "delete_recursive")


def outside(base: Path) -> dict[str, str]:
    """Everything beside the workspace, links not followed."""
    found = {}
    for folder, _, names in os.walk(base):
        if Path(folder).is_relative_to(base / "workspace"):
            continue
        found[folder] = ""
        found |= {f"{folder}/{name}": (Path(folder) / name).read_text(encoding="utf-8") for name in names}
    return found


@pytest.mark.parametrize("by_hand", [False, True], ids=["openat2", "walk"])
@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_every_attack_of_the_corpus_is_answered_as_expected(
    row: dict[str, Any], by_hand: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_hand:
        monkeypatch.setattr(paths, "_OPENAT2", 100_000)  # no such system call: ENOSYS
    with world(tmp_path, row["setup"]) as root:
        before = outside(tmp_path)
        path = row["path"].replace("{B}", str(tmp_path))
        for _ in range(60 if row["technique"] == "toctou" else 1):
            if row["expect"] == "allow":
                assert attempt(root, row["op"], path)
            elif row["technique"] == "toctou":
                with contextlib.suppress(ToolError):
                    assert "SECRET" not in attempt(root, row["op"], path)
            else:
                with pytest.raises(ToolError):
                    attempt(root, row["op"], path)
        assert outside(tmp_path) == before


def trade_places(first: Path, second: Path, stop: threading.Event) -> None:
    """Let two entries take each other's name, as fast as it goes."""
    spare = first.with_name("spare")
    while not stop.is_set():
        with contextlib.suppress(OSError):
            first.rename(spare)
            second.rename(first)
            spare.rename(second)


RACING_WRITES = int(os.environ.get("ORC_RACING_WRITES", "300"))


@pytest.mark.parametrize("by_hand", [False, True], ids=["openat2", "walk"])
def test_no_racing_write_leads_out(by_hand: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_hand:
        monkeypatch.setattr(paths, "_OPENAT2", 100_000)
    with world(tmp_path, ["file a/x", "race a/x ../../outside/victim.txt", "mkdir d"]) as root:
        (root / "out").symlink_to("../outside")
        stop = threading.Event()
        trader = threading.Thread(target=trade_places, args=(root / "d", root / "out", stop))
        trader.start()
        before = outside(tmp_path)
        try:
            for number in range(RACING_WRITES // 2):
                for path in ("a/x", f"d/{number % 7}.txt"):
                    # The folder may be away for a moment between two of our looks at it.
                    with contextlib.suppress(ToolError, FileNotFoundError):
                        attempt(root, "write", path)
        finally:
            stop.set()
            trader.join()
        assert outside(tmp_path) == before


MORE = [
    ("read", "a\0b"),
    ("write", "a\nb"),
    ("write", "~"),
    ("write", "$HOME/x"),
    ("write", ".orc/state.db"),
    ("read", ".ORC/state.db"),
    ("write", "a/../.git/hooks/x"),
    ("write", ".g\u200bit/config"),
    ("write", ".git./x"),
    ("write", ".\uff47\uff49\uff54/config"),
    ("write", "a\uff0f..\uff0f..\uff0fx"),
    ("write", "%2e%2e/x"),
    ("write", "C:\\x"),
    ("write", "..\\x"),
    ("write", "nul.txt"),
    ("write", "x.txt:stream"),
    ("write", "git~1/config"),
    ("write", "x" * 300),
    ("write", "a/" * 2100 + "x"),
    ("delete", "."),
    ("delete_recursive", "a/.."),
    ("delete_recursive", ""),
    ("write", "new/../../x"),
    ("read", "/"),
    ("read", "/etc/passwd"),
    ("write", "\ud800"),
    ("delete_recursive", "sub"),
    ("write", "PROGRA~1/x"),
    ("write", ".ssh/config"),
]


@pytest.mark.parametrize(("op", "path"), MORE, ids=[str(number) for number in range(len(MORE))])
def test_more_ways_out_are_refused(op: str, path: str, tmp_path: Path) -> None:
    with world(tmp_path, ["mkdir a", "mkdir .git/hooks", "mkdir .orc", "mkdir sub/.git"]) as root:
        (root / ".orc/state.db").write_text("SECRET", encoding="utf-8")
        before = outside(tmp_path)
        with pytest.raises(ToolError):
            attempt(root, op, path)
        assert outside(tmp_path) == before
        assert not [item for item in (root / ".git").rglob("*") if item.is_file()]


@pytest.mark.parametrize("by_hand", [False, True], ids=["openat2", "walk"])
@pytest.mark.parametrize("target", ["real", "{root}/real", "../workspace/real"])
def test_links_that_stay_inside_are_followed_or_refused_never_out(
    target: str, by_hand: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_hand:
        monkeypatch.setattr(paths, "_OPENAT2", 100_000)
    with world(tmp_path, ["file real/a.txt"]) as root:
        (root / "link").symlink_to(target.replace("{root}", str(root)))
        if target.startswith(".."):
            with pytest.raises(ToolError, match="out of the workspace"):
                use("read_file", root, path="link/a.txt")
        else:
            assert "1| inside" in use("read_file", root, path="link/a.txt")
            assert "real/b.txt" in use("write_file", root, path="link/b.txt", content="b")


def test_a_link_to_a_protected_folder_protects_as_well(tmp_path: Path) -> None:
    with world(tmp_path, ["mkdir .git", "symlink g .git", "mkdir .orc", "symlink o .orc"]) as root:
        with pytest.raises(ToolError, match="protected"):
            use("write_file", root, path="g/config", content="x")
        with pytest.raises(ToolError, match="orc's own state"):
            use("list_files", root, path="o")


def test_git_may_be_read(tmp_path: Path) -> None:
    with world(tmp_path, ["file .git/HEAD"]) as root:
        assert "inside" in use("read_file", root, path=".git/HEAD")


def test_special_files_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "sock"))
        for name, what in (("pipe", "a named pipe"), ("sock", "a socket")):
            for op in ("read", "write"):
                with pytest.raises(ToolError, match=what):
                    attempt(tmp_path, op, name)
    assert "(a named pipe)" in use("list_files", tmp_path)
    assert use("search_files", tmp_path, pattern="x") == "no match in 2 files"


def test_a_write_leaves_the_outside_twin_of_a_hard_link_unchanged(tmp_path: Path) -> None:
    with world(tmp_path, []) as root:
        (root / "twin").hardlink_to(tmp_path / "outside/victim.txt")
        use("write_file", root, path="twin", content="changed")
        assert (tmp_path / "outside/victim.txt").read_text(encoding="utf-8") == "SECRET outside"


def test_deleting_a_link_leaves_what_it_points_at(tmp_path: Path) -> None:
    with world(tmp_path, ["symlink out ../outside", "mkdir deep", "symlink deep/out ../../outside"]) as root:
        assert use("delete_file", root, path="out") == "deleted out"
        assert use("delete_file", root, path="deep", recursive=True) == "deleted deep/ (1 file)"
        assert (tmp_path / "outside/secret.txt").exists()
        assert not (root / "deep").exists()


def test_a_workspace_reached_through_a_link_works(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    use("write_file", tmp_path / "link", path=str(tmp_path / "link/a.txt"), content="x\n")
    assert "1| x" in use("read_file", tmp_path / "link", path=str(tmp_path / "real/a.txt"))
    shutil.rmtree(tmp_path / "real")


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x\n", encoding="utf-8")
    use("read_file", tmp_path, path="a.txt")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in ("a.txt", "none/x", "../x", "a.txt/x", ".orc"):
        with contextlib.suppress(ToolError):
            use("read_file", tmp_path, path=path)
        with contextlib.suppress(ToolError):
            use("write_file", tmp_path, path=path, content="y")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
