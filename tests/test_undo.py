"""Undo and redo: files byte for byte, with the conversation, and never over somebody else's work."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from desk import PATIENCE, Desk, wait_for
from patience import until
from scripted import Call, Request, Say

from orchestrator.runs import SIGN_SECONDS, Runs
from orchestrator.storage import open_state


def contents(root: Path) -> dict[str, tuple[object, ...]]:
    """Every path of the workspace with its kind, mode and content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name.split("/")[0] == ".orc":
            continue
        mode = path.lstat().st_mode & 0o7777
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_dir():
            found[name] = ("folder", mode)
        else:
            found[name] = ("file", mode, path.read_bytes())
    return found


@pytest.mark.parametrize(
    "command",
    [
        "rm -r src && rm data.bin",
        "mv src/main.py moved.py; mv src lib",
        "sed -i s/one/two/ src/main.py && chmod 600 src/main.py",
        'printf \'import shutil, os\\nshutil.rmtree("src")\\nos.mkdir("new")\\n\' > s.py; python3 s.py',
        "ln -sf data.bin link; rmdir empty; truncate -s 3 data.bin; echo x >> ignored.log",
        "git init -q nested && echo hi > nested/file && rm -rf empty",
    ],
)
def test_a_shell_command_is_undone_byte_for_byte_with_the_conversation(desk: Desk, command: str) -> None:
    desk.write("src/main.py", "one\n").chmod(0o755)
    desk.write("ignored.log", "log\n")
    desk.write(".gitignore", "*.log\n")
    (desk.root / "data.bin").write_bytes(bytes(range(256)) * 40)
    (desk.root / "link").symlink_to("src/main.py")
    (desk.root / "empty").mkdir()
    before = contents(desk.root)
    turn = desk.work(
        "@coder tidy and delete up", [Call("run_command", command=command), Say("tidied")], approves=True
    )
    assert turn.answer == "tidied", turn.shown
    after = contents(desk.root)
    assert after != before
    preview = desk.orc("undo", "--dry-run")
    assert preview.code == 0
    assert contents(desk.root) == after
    assert desk.orc("undo").code == 0
    assert contents(desk.root) == before
    assert desk.runs()[0].turns == 0
    assert desk.orc("redo").code == 0
    assert contents(desk.root) == after
    assert desk.runs()[0].turns == 1


def test_what_the_user_changed_since_is_left_alone(desk: Desk) -> None:
    desk.write("a", "mine\n")
    desk.work(
        "@coder write",
        [
            Call("write_file", path="a", content="agent\n"),
            Call("write_file", path="b", content="agent\n"),
            Say("written"),
        ],
    )
    desk.write("a", "mine again\n")
    shown = desk.orc("undo", "--dry-run").err
    assert "! a: you changed it since\n  what is marked with ! stays as it is; --force overwrites it" in shown
    done = desk.orc("undo", "--json")
    found = json.loads(done.out)
    assert [each["path"] for each in found["conflicts"]] == ["a"]
    assert desk.text("a") == "mine again\n"
    assert not (desk.root / "b").exists()


def test_what_was_overwritten_by_force_comes_back_with_redo(desk: Desk) -> None:
    desk.write("a", "1\n")
    change = Call("run_command", command="echo 2 > a; echo 2 > b; echo 2 > c; mkdir d; echo 2 > d/e")
    desk.work("@coder write", [change, Say("written")])
    desk.write("a", "mine\n")
    desk.write("b", "mine\n").chmod(0o600)
    (desk.root / "c").unlink()
    desk.write("d/e", "mine\n")
    mine = contents(desk.root)
    assert desk.orc("undo", "--force").code == 0
    assert desk.text("a") == "1\n"
    assert not (desk.root / "b").exists()
    assert desk.orc("db", "gc").code == 0
    assert desk.orc("redo").code == 0
    assert contents(desk.root) == mine


def test_an_undo_of_a_branch_that_is_not_the_current_one_is_refused(desk: Desk) -> None:
    desk.work("@coder write", [Call("write_file", path="a", content="1\n"), Say("written")])
    run = desk.runs()[0].id
    desk.orc("fork", f"{run}@think", "--name", "other")
    for command in ("undo", "redo"):
        done = desk.orc(command, f"{run}/main")
        assert done.code == 2
        assert f"orc switch {run}/main" in done.err
    assert desk.text("a") == "1\n"
    assert desk.orc("undo", f"{run}/other").code == 0
    assert not (desk.root / "a").exists()


def test_an_undo_says_what_becomes_of_each_path(desk: Desk) -> None:
    desk.write("a", "1")
    desk.write("b", "22")
    change = "chmod 755 a; echo new > b.new; mv b.new b; chmod 600 b; mkdir c"
    desk.write("c", "3")
    desk.work("@coder change a b, remove c", [Call("run_command", command=f"rm c; {change}"), Say("changed")])
    told = desk.orc("undo", "--dry-run").err
    assert "~ a (mode 0755 → 0644)" in told
    assert "~ b (4 → 2 bytes, mode 0600 → 0644)" in told
    assert "~ c (folder → file)" in told


def test_files_and_conversation_can_be_undone_apart(desk: Desk) -> None:
    desk.work("@coder write", [Call("write_file", path="a", content="1\n"), Say("written")])
    run = desk.runs()[0]
    assert desk.orc("undo", "--files").code == 0
    assert not (desk.root / "a").exists()
    assert desk.runs()[0].turns == 1
    assert desk.orc("redo").code == 0
    assert desk.text("a") == "1\n"
    assert desk.orc("undo", run.id, "--chat").code == 0
    assert desk.text("a") == "1\n"
    assert desk.runs()[0].turns == 0
    assert desk.orc("undo", "--files", "--chat").code == 2


def test_undo_goes_to_any_step_and_the_run_goes_on_from_there(desk: Desk) -> None:
    script = [
        Call("write_file", path="a", content="1\n"),
        Call("write_file", path="a", content="2\n"),
        Say("written twice"),
    ]
    desk.work("@coder write twice", script)
    run = desk.runs()[0].id
    assert desk.orc("undo", "--to", f"{run}@tools").code == 0
    assert desk.text("a") == "1\n"
    assert desk.runs()[0].status == "stopped"
    assert desk.work(None, [Say("as planned")], run=run).answer == "as planned"
    assert desk.text("a") == "2\n"


def test_nothing_to_undo_and_nothing_to_redo_are_said(desk: Desk) -> None:
    assert desk.orc("undo").code == 2
    desk.work("@coder look", [Call("list_files"), Say("nothing")])
    assert desk.orc("redo").code == 2
    assert desk.orc("undo").code == 0
    again = desk.orc("undo")
    assert again.code == 2
    assert "no turn left" in again.err


def test_redo_is_refused_after_new_work(desk: Desk) -> None:
    desk.work("@coder write", [Call("write_file", path="a", content="1\n"), Say("written")])
    run = desk.runs()[0].id
    desk.orc("undo")
    desk.work("@coder write", [Call("write_file", path="b", content="1\n"), Say("written")], run=run)
    done = desk.orc("redo")
    assert done.code == 2
    assert f"orc switch {run}/main --files" in done.err
    assert desk.orc("switch", f"{run}/main", "--files").code == 0
    assert (desk.text("a"), (desk.root / "b").exists()) == ("1\n", False)


def test_effects_outside_the_workspace_are_listed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def approve(_payload: object) -> dict[str, object]:
        return {"decisions": [{"type": "approve"}]}

    call = Call("run_command", command="cp a /opt/copied || true")
    desk.write("a", "1")
    desk.work("@coder copy", [call, Say("copied")], approver=approve)
    found = json.loads(desk.orc("undo", "--dry-run", "--json").out)
    assert found["outside"] == ["run_command cp a /opt/copied || true"]


def test_what_a_call_did_to_the_own_git_history_is_told(desk: Desk) -> None:
    git = "git -c user.name=a -c user.email=a@b.test"
    for command in ("git init -q .", f"{git} commit -q --allow-empty -m x"):
        desk.work("@coder use git", [Call("run_command", command=command), Say("done")], approves=True)
        for dry in (["--dry-run"], []):
            notes = json.loads(desk.orc("undo", "--json", *dry).out)["notes"]
            assert notes == [f".git stays as it is, with what run_command did there: {command}"]
    assert (desk.root / ".git" / "HEAD").exists()
    desk.work("@coder use git", [Call("run_command", command="git status; echo a > a"), Say("done")])
    assert json.loads(desk.orc("undo", "--json").out)["notes"] == []


def test_a_call_cut_off_by_a_crash_can_be_undone(desk: Desk) -> None:
    with desk.model([Call("run_command", command="echo half > a; touch marker; sleep 60")]):
        process = desk.start("run", "--yes", "@coder write a")
        wait_for(desk.root / "marker")
        process.kill()
        process.communicate()
    desk.work(None, [Say("it may have run")])
    assert desk.text("a") == "half\n"
    assert desk.orc("undo").code == 0
    assert not (desk.root / "a").exists()


def test_a_call_cut_off_is_undone_without_a_resume_but_for_what_changed_after(desk: Desk) -> None:
    desk.write("gone", "1\n")
    desk.write("run.sh", "echo half > a; echo half > b; rm gone; touch marker; sleep 60")
    before = contents(desk.root)
    with desk.model([Call("run_command", command="sh run.sh")]):
        process = desk.start("run", "--yes", "@coder run run.sh and delete what it deletes")
        wait_for(desk.root / "marker")
        process.kill()
        process.communicate()
    run = desk.runs()[0].id
    lock = desk.root / ".orc" / "locks" / run
    os.utime(lock, (0, lock.stat().st_mtime - 60))
    mine = desk.write("b", "mine\n")
    late = {"a", "b", "marker"}
    found = json.loads(desk.orc("undo", "--dry-run", "--json").out)
    assert {each["path"] for each in found["conflicts"]} == late
    os.utime(lock)
    mine.unlink()
    assert desk.orc("replay", run, "--check").code == 0
    after = contents(desk.root)
    assert desk.orc("undo").code == 0
    assert contents(desk.root) == before
    assert desk.orc("redo").code == 0
    assert contents(desk.root) == after


def test_what_changed_between_a_crash_and_the_resume_is_the_user_s(desk: Desk) -> None:
    desk.write("run.sh", "echo half > a; echo half > b; touch marker; sleep 60")
    with desk.model([Call("run_command", command="sh run.sh")]):
        process = desk.start("run", "--yes", "@coder run run.sh")
        wait_for(desk.root / "marker")
        process.kill()
        process.communicate()
    lock = desk.root / ".orc" / "locks" / desk.runs()[0].id
    died = lock.stat().st_mtime
    assert until(lambda: time.time() > died + SIGN_SECONDS + 0.5)
    desk.write("b", "mine\n")
    desk.write("c", "mine\n")
    desk.work(None, [Say("it may have run")])
    found = json.loads(desk.orc("undo", "--json").out)
    assert {each["path"]: each["reason"] for each in found["conflicts"]} == dict.fromkeys(
        "bc", "it changed after the run was cut off"
    )
    assert (desk.text("b"), desk.text("c")) == ("mine\n", "mine\n")
    assert not (desk.root / "a").exists()


@pytest.mark.parametrize("names", [True, False])
def test_an_undo_leaves_what_another_run_did_at_the_same_time(desk: Desk, names: bool) -> None:
    def script(request: Request) -> Call | Say:
        own = "one" if "one's" in request.texts[1] else "two"
        if len(request["messages"]) > 2:
            return Say(f"{own} done")
        wait = "until [ -e go ]; do sleep 0.05; done"
        write = f"echo {own} > {own}.txt" if names else f"sh {own}.sh"
        return Call("run_command", command=f"touch begun-{own}; {wait}; {write}; sleep 0.3")

    for own in ("one", "two"):
        desk.write(f"{own}.sh", f"echo {own} > $(echo {own} | tr a-z a-z).txt")
    with desk.model(script):
        both = [desk.start("run", "--yes", f"@coder do {own}'s part") for own in ("one", "two")]
        for own in ("one", "two"):
            wait_for(desk.root / f"begun-{own}")
        desk.write("go", "")
        assert [process.wait(PATIENCE) for process in both] == [0, 0]
    after = contents(desk.root)
    run = next(run.id for run in desk.runs() if "one" in run.title)
    other = next(run.id for run in desk.runs() if "two" in run.title)
    found = json.loads(desk.orc("undo", run, "--json").out)
    assert desk.text("two.txt") == "two\n"
    assert (desk.root / "begun-two").exists()
    assert (desk.root / "one.txt").exists() != names
    told = {each["path"]: each["reason"] for each in found["conflicts"]}
    assert (f"{other} worked at the same time" in told.get("one.txt", "")) != names
    assert desk.orc("redo", run).code == 0
    assert contents(desk.root) == after


def test_an_undo_keeps_every_branch(desk: Desk) -> None:
    desk.work("@coder write", [Call("write_file", path="a", content="1\n"), Say("written")])
    run = desk.runs()[0].id
    desk.orc("undo")
    connection = open_state(desk.root)
    names = [branch.name for branch in Runs(connection, desk.root).branches.of(run)]
    connection.close()
    assert names == ["main", "undo-1"]


def test_undo_and_redo_stand_in_the_journal(desk: Desk) -> None:
    desk.work("@coder write", [Call("write_file", path="a", content="1\n"), Say("written")])
    run = desk.runs()[0].id
    assert desk.orc("undo").code == 0
    assert desk.orc("redo").code == 0
    assert desk.orc("undo", "--files").code == 0
    told = [(event.kind, event.branch, event.fields) for event in desk.events() if "do" in event.kind]
    assert [(kind, branch) for kind, branch, _ in told] == [
        ("undo", f"{run}.1"),
        ("redo", run),
        ("undo", run),
    ]
    assert [(fields["what"], fields["files"]) for _, _, fields in told] == [
        ("both", ["delete a"]),
        ("both", ["create a"]),
        ("files", ["delete a"]),
    ]
    assert "undo: " in desk.orc("runs", "show", run).out
    assert desk.orc("db", "verify").code == 0


def test_names_that_are_no_text_are_shown_and_given_in_json(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")
    odd = "touch $'new\\nline' $'\\xff' $'\\e[2J' \u00fc"
    before = contents(desk.root)
    desk.work("@coder touch", [Call("run_command", command=odd), Say("touched")], approves=True)
    found = desk.orc("undo", "--dry-run", "--json")
    names = {os.fsencode(action["path"]) for action in json.loads(found.out)["actions"]}
    assert names == {b"new\nline", b"\xff", b"\x1b[2J", "\u00fc".encode()}
    run = desk.runs()[0].id
    shown = [
        desk.orc(*command)
        for command in (["undo"], ["redo"], ["diff", run, f"{run}@turn"], ["runs", "show", run])
    ]
    assert [(done.code, "\x1b" in done.out + done.err) for done in shown] == [(0, False)] * 4, shown
    assert "  - new\\nline\n" in shown[0].err
    assert desk.orc("undo").code == 0
    assert contents(desk.root) == before
    assert desk.orc("db", "verify").code == 0
