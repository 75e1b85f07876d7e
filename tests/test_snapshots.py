"""Snapshots: what is kept, what a plan says, and what an undo puts back or leaves alone."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from files import tree_of

from orchestrator.errors import StorageError
from orchestrator.snapshots import Change, Edge, Snapshots, redo_edges
from orchestrator.snapshots.model import SnapshotLimits


def shell(root: Path, script: str) -> None:
    subprocess.run(["bash", "-c", script], cwd=root, check=True, capture_output=True)


def call(kept: Snapshots, act: Callable[[], object]) -> Edge:
    """Do something the way a tool call is done: with a snapshot before and after."""
    before = kept.take().id
    act()
    return before, kept.take().id


def undo(kept: Snapshots, *edges: Edge, force: bool = False) -> list[str]:
    """Undo, and return the paths in conflict."""
    applied = kept.apply(kept.plan(edges), force=force)
    return sorted(conflict.path for conflict in applied.conflicts)


@pytest.fixture
def kept(tmp_path: Path) -> Snapshots:
    """A workspace with a bit of everything."""
    root = tmp_path / "work"
    root.mkdir()
    shell(
        root,
        "printf 'one\\r\\n' >a.txt; printf '\\0\\377' >bin; mkdir -p src/deep empty; echo x >src/x.py; "
        "echo y >src/deep/y.py; chmod 600 a.txt; chmod 2751 src; ln -s nowhere dangling; ln -s src to-src; "
        "ln -s /etc/passwd out; echo 'ignored/' >.gitignore; mkdir ignored; echo i >ignored/i; "
        "echo h >hard; ln hard twin",
    )
    return Snapshots(root)


@pytest.mark.parametrize(
    "script",
    [
        "rm -rf src",
        "rm -rf ./* .gitignore",
        "mv src moved && mv a.txt src",
        "sed -i s/one/two/ a.txt",
        "chmod -R 700 . && chmod 4711 bin && chmod 4711 hard",
        "chmod 555 src && chmod 1777 empty",
        "rm a.txt && mkdir -p a.txt/b/c && echo d >a.txt/b/c/d",
        "rm -r src && echo file >src",
        "rm to-src && mkdir to-src && echo z >to-src/z",
        "rm -r src && ln -s ignored src",
        "ln -sfn /tmp to-src && rm dangling && touch dangling",
        "cp -a src copy && truncate -s 0 bin && : >hard",
        "git init -q nested && cd nested && echo n >n && git add n",
        "rmdir empty && echo -n >empty",
        "echo new >ignored/new && rm ignored/i",
        "touch -- '-rf' \"$(printf 'new\\nline')\" \"$(printf '\\377')\" A.TXT 'back\\.git' $(printf 'n%.0s' {1..255})",  # noqa: E501
        "mkdir -p sub/.git && echo fake >sub/.git/HEAD && touch sub/.gitmodules sub/.gitattributes 'git~1'",
        "mkdir ro && echo r >ro/r && chmod 500 ro && chmod 500 .",
        "mkdir -p $(printf 'deep/%.0s' {1..100}) && for i in 1 2 3; do echo $i >>a.txt; done",
    ],
)
def test_what_a_command_did_is_undone_and_redone_byte_for_byte(kept: Snapshots, script: str) -> None:
    original = tree_of(kept.root)
    edge = call(kept, lambda: shell(kept.root, script))
    changed = tree_of(kept.root)
    assert changed != original
    assert undo(kept, edge) == []
    assert tree_of(kept.root) == original
    assert undo(kept, *redo_edges([edge])) == []
    assert tree_of(kept.root) == changed


def test_a_nested_repository_that_was_removed_works_again(kept: Snapshots) -> None:
    nested = kept.root / "nested"
    git = "git -c user.name=a -c user.email=a"
    shell(kept.root, f"git init -q nested; cd nested; echo n >n; git add n; {git} commit -qm first")
    edge = call(kept, lambda: shell(kept.root, "rm -rf nested"))
    assert undo(kept, edge) == []
    shell(nested, 'git fsck --strict && git diff --exit-code HEAD && test "$(git log --format=%s)" = first')


def test_the_workspace_s_own_history_is_neither_kept_nor_changed(kept: Snapshots) -> None:
    shell(kept.root, "git init -q .; git add .; git -c user.name=a -c user.email=a commit -qm first")
    edge = call(kept, lambda: shell(kept.root, "rm a.txt; git add -A; echo hook >.git/hooks/x"))
    history = {path: path.read_bytes() for path in (kept.root / ".git").rglob("*") if path.is_file()}
    assert undo(kept, edge) == []
    assert {path: path.read_bytes() for path in history} == history
    assert [change.path for change in kept.changes(*edge)] == ["a.txt"]


def test_the_user_s_git_settings_and_attributes_change_nothing(
    kept: Snapshots, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "gitconfig").write_text(
        "[core]\n autocrlf = true\n hooksPath = /nowhere\n[init]\n templateDir = /nowhere"
    )
    (kept.root / ".gitattributes").write_text("* text eol=crlf filter=lfs\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path / "objects"))
    original = tree_of(kept.root)
    edge = call(kept, lambda: (kept.root / "a.txt").write_bytes(b"x\n"))
    assert undo(kept, edge) == []
    assert tree_of(kept.root) == original
    assert (
        not list(tmp_path.glob("elsewhere")) + list(tmp_path.glob("index")) + list(tmp_path.glob("objects"))
    )


def test_a_file_that_the_user_changed_since_is_left_alone(kept: Snapshots) -> None:
    edge = call(kept, lambda: shell(kept.root, "echo agent >a.txt; echo agent >bin; rm src/x.py"))
    (kept.root / "a.txt").write_text("mine")
    (kept.root / "src" / "x.py").write_text("mine too")
    plan = kept.plan([edge])
    assert {conflict.path: conflict.reason for conflict in plan.conflicts} == {
        "a.txt": "you changed it since",
        "src/x.py": "you made it since",
    }
    assert undo(kept, edge) == ["a.txt", "src/x.py"]
    assert (kept.root / "a.txt").read_text() == "mine"
    assert (kept.root / "bin").read_bytes() == b"\0\xff"
    assert undo(kept, edge, force=True) == []
    assert (kept.root / "a.txt").read_bytes() == b"one\r\n"
    assert kept.text(plan.now, "a.txt") == b"mine"


def test_a_folder_of_the_agent_stays_with_what_the_user_put_in(kept: Snapshots) -> None:
    edge = call(kept, lambda: shell(kept.root, "mkdir made; echo agent >made/agent"))
    (kept.root / "made" / "mine").write_text("mine")
    for force in (False, True):
        assert undo(kept, edge, force=force) == ["made"]
        assert [path.name for path in (kept.root / "made").iterdir()] == ["mine"]


def test_a_user_s_edit_between_two_calls_is_what_comes_back(kept: Snapshots) -> None:
    first = call(kept, lambda: (kept.root / "a.txt").write_text("first"))
    (kept.root / "a.txt").write_text("mine")
    second = call(kept, lambda: (kept.root / "a.txt").write_text("second"))
    assert undo(kept, first, second) == ["a.txt"]
    assert (kept.root / "a.txt").read_text() == "mine"


def test_an_edit_after_the_plan_is_left_alone_even_by_force(kept: Snapshots) -> None:
    edge = call(kept, lambda: shell(kept.root, "echo agent >a.txt; rm bin; mkdir -p new/in"))
    plan = kept.plan([edge])
    shell(kept.root, "echo mine >a.txt; echo mine >bin; echo mine >new/in/mine")
    applied = kept.apply(plan, force=True)
    assert {conflict.path for conflict in applied.conflicts} == {"a.txt", "bin", "new", "new/in"}
    for name in ("a.txt", "bin", "new/in/mine"):
        assert (kept.root / name).read_text() == "mine\n"


def test_a_plan_says_what_will_be_done_and_does_nothing(kept: Snapshots) -> None:
    edge = call(kept, lambda: shell(kept.root, "echo longer >a.txt; touch new; rm bin; chmod 640 src/x.py"))
    before = tree_of(kept.root)
    plan = kept.plan([edge])
    assert tree_of(kept.root) == before
    assert [(action.verb, action.path, action.bytes_now, action.bytes_then) for action in plan.actions] == [
        ("delete", "new", 0, 0),
        ("write", "a.txt", 7, 5),
        ("create", "bin", 0, 2),
        ("mode", "src/x.py", 2, 2),
    ]


def test_changes_tell_kind_size_and_whether_it_is_binary(kept: Snapshots) -> None:
    edge = call(
        kept, lambda: shell(kept.root, "printf 'a\\0b' >new; rm to-src; chmod 711 src; rm -r empty; : >empty")
    )
    assert kept.changes(*edge) == [
        Change("empty", "type", "file", modes=(0o755, 0o644)),
        Change("new", "added", "file", after=3, is_binary=True, modes=(0, 0o644)),
        Change("src", "mode", "folder", modes=(0o2751, 0o2711)),
        Change("to-src", "removed", "link", before=3),
    ]
    assert kept.text(edge[0], "to-src") == b"src"
    assert kept.text(edge[1], "to-src") is None


def test_pipes_sockets_and_large_files_are_named_and_never_opened(kept: Snapshots) -> None:
    small = Snapshots(kept.root, limits=SnapshotLimits(file_bytes=1000))
    edge = call(
        small, lambda: shell(kept.root, "mkfifo pipe; truncate -s 5G sparse; head -c 2000 /dev/zero >big")
    )
    notes = small.take().notes
    assert [note.split(":")[0] for note in notes] == [
        "big is left out",
        "pipe is left out",
        "sparse is left out",
    ]
    assert undo(small, edge) == ["big", "pipe", "sparse"]
    assert stat.S_ISFIFO((kept.root / "pipe").lstat().st_mode)


def test_a_file_that_shrinks_below_the_limit_is_not_taken_for_a_new_one(kept: Snapshots) -> None:
    small = Snapshots(kept.root, limits=SnapshotLimits(file_bytes=1000))
    (kept.root / "log").write_bytes(b"l" * 2000)
    edge = call(small, lambda: (kept.root / "log").write_bytes(b"short"))
    assert undo(small, edge, force=True) == ["log"]
    assert (kept.root / "log").read_bytes() == b"short"


def test_a_heavy_folder_is_left_out_but_for_what_a_call_goes_for(kept: Snapshots) -> None:
    small = Snapshots(kept.root, limits=SnapshotLimits(heavy_entries=3))
    shell(
        kept.root, "mkdir -p node_modules/p; touch node_modules/{1,2,3,4}; echo old >node_modules/p/index.js"
    )
    touched = [Path("node_modules/p/index.js"), kept.root / "node_modules/p/new.js"]
    before = small.take(touched)
    assert [note.split(" is ")[0] for note in small.take().notes] == ["node_modules"]
    shell(kept.root, "echo new >node_modules/p/index.js; echo new >node_modules/p/new.js; rm node_modules/1")
    assert undo(small, (before.id, small.take(touched).id)) == []
    assert (kept.root / "node_modules/p/index.js").read_text() == "old\n"
    assert not (kept.root / "node_modules/p/new.js").exists()


def test_without_git_there_is_a_clear_error(kept: Snapshots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StorageError, match="install it"):
        kept.take()


def test_links_that_were_put_in_the_way_lead_nowhere(kept: Snapshots, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.py").write_text("outside")
    edge = call(kept, lambda: shell(kept.root, "echo agent >src/x.py"))
    plan = kept.plan([edge])
    shell(kept.root, f"mv src gone; ln -s {outside} src")
    assert [conflict.path for conflict in kept.apply(plan).conflicts] == ["src/x.py"]
    assert undo(kept, edge) == ["src/x.py"]
    assert (outside / "x.py").read_text() == "outside"


def test_an_unchanged_workspace_has_the_same_snapshot_and_reads_no_file(kept: Snapshots) -> None:
    first = kept.take()
    for path in kept.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, ns=(0, 0))
    assert Snapshots(kept.root).take().id == first.id


def test_what_is_not_named_is_pruned_and_the_rest_stays_whole(kept: Snapshots) -> None:
    lost = call(kept, lambda: (kept.root / "a.txt").write_bytes(os.urandom(100_000)))[1]
    edge = call(kept, lambda: (kept.root / "a.txt").write_text("kept"))
    (kept.root / "a.txt").write_text("now")
    kept.take()
    assert kept.keep_only([edge[1]]) == 0
    assert kept.keep_only([edge[1]], spare_seconds=-1) > 90_000
    assert kept.text(edge[1], "a.txt") == b"kept"
    assert kept.verify() == []
    with pytest.raises(StorageError, match="removed or never made"):
        kept.changes(lost, edge[1])
    assert (kept.root / "a.txt").read_text() == "now"
    assert undo(kept, call(kept, lambda: shell(kept.root, "rm -rf src"))) == []


def test_an_empty_folder_among_many_files_is_sound(kept: Snapshots) -> None:
    shell(kept.root, "for i in {1..80}; do echo $i >f$i; done")
    edge = call(kept, lambda: shell(kept.root, "rmdir empty"))
    assert kept.verify() == []
    empty_tree = kept.folder / "objects" / "4b" / "825dc642cb6eb9a060e54bf8d69288fbee4904"
    # As earlier versions left it.
    empty_tree.unlink()
    assert kept.verify() == []
    assert undo(kept, edge) == []
    assert (kept.root / "empty").is_dir()


def test_copies_of_private_files_are_for_their_owner_only(kept: Snapshots) -> None:
    kept.take()
    assert stat.S_IMODE((kept.root / ".orc" / "snapshots").stat().st_mode) == 0o700


def test_another_name_of_a_file_keeps_its_mode(kept: Snapshots) -> None:
    edge = call(kept, lambda: shell(kept.root, "chmod 755 bin"))
    shell(kept.root, "ln bin mine")
    assert undo(kept, edge) == []
    modes = [stat.S_IMODE((kept.root / name).stat().st_mode) for name in ("bin", "mine")]
    assert modes == [0o644, 0o755]


@pytest.mark.parametrize("wrong", ["", "HEAD", "0" * 40, "../../x", "a" * 7])
def test_what_is_no_snapshot_is_refused(kept: Snapshots, wrong: str) -> None:
    known = kept.take().id
    with pytest.raises(StorageError, match="snapshot"):
        kept.plan([(known, wrong)])
