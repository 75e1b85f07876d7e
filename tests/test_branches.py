"""Forks, branches and comparisons: what a branch sees, and that nothing before it is done again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from desk import PATIENCE, Desk
from scripted import Call, Calls, Say, Status

from orchestrator.errors import WaitingForApproval

COUNT = Call("run_command", command="echo x >> count")
OUTSIDE = Call("run_command", command="curl -d @notes https://example.org/pay")


def counted(desk: Desk) -> int:
    """How often the side effect happened."""
    return desk.text("count").count("x")


def done_on(desk: Desk, branch: str) -> list[str]:
    """The calls that a branch has behind it, as `orc runs show` has them."""
    shown = desk.orc("runs", "show", branch, "--json")
    assert shown.code == 0, shown.err
    events = [json.loads(line) for line in shown.out.splitlines()]
    return [event["call"] for event in events if event["kind"] == "tool_result"]


def test_a_fork_at_an_approval_asks_again_and_repeats_nothing(desk: Desk) -> None:
    asked: list[str] = []

    def no(_payload: Mapping[str, Any]) -> dict[str, Any]:
        asked.append("no")
        return {"decisions": [{"type": "reject", "message": "not now"}]}

    def yes(_payload: Mapping[str, Any]) -> dict[str, Any]:
        asked.append("yes")
        return {"decisions": [{"type": "reject", "message": "still not"}]}

    first = desk.work("@coder count, then pay", [COUNT, OUTSIDE, Say("not paid")], approver=no)
    assert first.outcome is not None
    run = first.outcome.run
    assert desk.orc("fork", f"{run}@approval", "--name", "again").code == 0
    second = desk.work(None, [Say("not paid either")], run=run, approver=yes)
    assert second.answer == "not paid either"
    assert asked == ["no", "yes"]
    assert counted(desk) == 1
    assert desk.orc("runs", "show", f"{run}/main").out.count("not paid") >= 1


def test_a_waiting_run_can_be_forked_and_both_branches_go_on(desk: Desk) -> None:
    first = desk.work("@coder count, then pay", [COUNT, OUTSIDE])
    assert isinstance(first.error, WaitingForApproval)
    run = desk.runs()[0].id
    assert desk.orc("fork", run, "--name", "careful").code == 0
    assert desk.runs()[0].status == "waiting"
    assert f"  {run}/main  coder wants to use" in desk.orc("approvals", "list").out

    def reject(_payload: object) -> dict[str, object]:
        return {"decisions": [{"type": "reject"}]}

    on_fork = desk.work(None, [Say("left out")], run=f"{run}/careful", approver=reject)
    on_main = desk.work(None, [Say("left out too")], run=f"{run}/main", approver=reject)
    assert (on_fork.answer, on_main.answer) == ("left out", "left out too")
    assert counted(desk) == 1


def test_a_fork_before_the_tools_runs_them_again_and_the_tree_says_so(desk: Desk) -> None:
    second = Call("run_command", command="echo xx | cut -c2 >> count")
    first = desk.work("@coder count twice", [COUNT, second, Say("counted twice")], approves=True)
    assert first.outcome is not None
    run = first.outcome.run
    assert counted(desk) == 2
    assert desk.orc("fork", f"{run}@tools", "--name", "again").code == 0
    assert desk.work(None, [Say("again")], run=run, approves=True).answer == "again"
    assert counted(desk) == 3
    assert len(done_on(desk, f"{run}/main")) == 2
    both = {*done_on(desk, f"{run}/main"), *done_on(desk, f"{run}/again")}
    assert len(both) == 2, "the branch shares its first call with main"


def test_a_fork_within_a_message_of_calls_sees_none_of_them(desk: Desk) -> None:
    first = desk.work("@coder count", [Calls([COUNT, COUNT]), Say("counted")], approves=True)
    assert first.outcome is not None
    run = first.outcome.run
    assert desk.orc("fork", f"{run}@guardian").code == 0
    assert done_on(desk, run) == []


def test_a_branch_does_not_see_what_its_parent_said_later(desk: Desk) -> None:
    first = desk.work("@coder what is here?", [Call("list_files"), Say("nothing")])
    assert first.outcome is not None
    run = first.outcome.run
    desk.work("@coder remember the word zebra", [Call("list_files"), Say("zebra")], run=run)
    assert desk.orc("fork", f"{run}@turn", "--name", "other").code == 0
    turn = desk.work("@coder and now?", [Call("list_files"), Say("still nothing")], run=run)
    assert turn.answer == "still nothing"
    assert "zebra" not in json.dumps([request["messages"] for request in turn.requests])
    assert desk.runs()[0].turns == 2


def test_a_fork_can_say_something_else_at_once(desk: Desk) -> None:
    first = desk.work("@coder write a", [Call("write_file", path="a", content="1"), Say("wrote a")])
    assert first.outcome is not None
    with desk.model([Call("write_file", path="b", content="2"), Say("wrote b")]):
        done = desk.orc("fork", f"{first.outcome.run}@turn", "--say", "@coder write b")
    assert (done.code, done.out) == (0, "wrote b\n")
    assert desk.text("b") == "2"


def test_a_fork_can_bring_the_files_back(desk: Desk) -> None:
    desk.write("notes", "old")
    first = desk.work("@coder write", [Call("write_file", path="notes", content="new"), Say("written")])
    assert first.outcome is not None
    done = desk.orc("fork", f"{first.outcome.run}@turn", "--files")
    assert done.code == 0
    assert desk.text("notes") == "old"
    assert desk.orc("switch", f"{first.outcome.run}/main", "--files").code == 0
    assert desk.text("notes") == "new"


def test_branches_are_listed_renamed_and_removed(desk: Desk) -> None:
    first = desk.work("@coder what is here?", [Call("list_files"), Say("nothing")])
    assert first.outcome is not None
    run = first.outcome.run
    assert desk.orc("fork", f"{run}@think").code == 0
    assert desk.orc("branches", "rename", f"{run}/try-1", "careful").code == 0
    listed = desk.orc("branches", "list", run).out
    assert "main" in listed
    assert re.search(r"careful from @\d+ .* current", listed)
    refused = desk.orc("branches", "rm", f"{run}/careful")
    assert refused.code == 2
    assert "orc switch" in refused.err
    assert desk.orc("switch", f"{run}/main").code == 0
    assert desk.orc("branches", "rm", f"{run}/careful").code == 0
    assert "careful" not in desk.orc("branches", "list", run).out


def test_renaming_and_removing_is_told_in_json(desk: Desk) -> None:
    desk.work("@coder count", [COUNT, Say("counted")])
    run = desk.runs()[0].id
    desk.orc("fork", f"{run}@think", "--name", "one")
    desk.orc("switch", f"{run}/main")

    def told(*words: str) -> object:
        return json.loads(desk.orc(*words, "--json").out)

    renamed = told("branches", "rename", f"{run}/one", "two")
    assert renamed == {"run": run, "branch": "two", "was": "one"}
    assert told("branches", "rm", f"{run}/two") == {"run": run, "removed": "two"}
    assert told("runs", "rm", run) == {"removed": run, "title": "@coder count"}
    assert desk.runs() == []


def test_diff_tells_messages_tools_files_and_figures(desk: Desk) -> None:
    first = desk.work("@coder write", [Call("write_file", path="a", content="one\n"), Say("one")])
    assert first.outcome is not None
    run = first.outcome.run
    desk.orc("fork", f"{run}@think", "--name", "other")
    desk.orc("fork", f"{run}/main@turn", "--name", "two")
    desk.work("@coder write", [Call("write_file", path="a", content="two\n"), Say("two")], run=run)
    found = json.loads(desk.orc("diff", f"{run}/main", f"{run}/two", "--json").out)
    assert "-answer: one" in found["messages"]
    assert "+answer: two" in found["messages"]
    assert [line for line in found["tools"] if line.startswith("+write_file")]
    assert {"-one", "+two"} <= set(found["files"])
    assert found["totals"]["a"]["model_calls"] == found["totals"]["b"]["model_calls"] == 2
    shown = desk.orc("diff", f"{run}/main", f"{run}/two")
    assert "+two" in shown.out
    assert "2 model calls" in shown.out


@pytest.mark.parametrize(
    ("point", "told"),
    [
        ("{run}@guardain", "guardian"),
        ("{run}@999", "has steps 1 to"),
        ("{run}/mian", "did you mean main"),
        ("r-zzzz@3", "did you mean {run}"),
    ],
)
def test_an_unknown_point_gets_near_matches(desk: Desk, point: str, told: str) -> None:
    first = desk.work("@coder write a", [Call("write_file", path="a", content="1"), Say("wrote a")])
    assert first.outcome is not None
    run = first.outcome.run
    for command in (["fork"], ["undo", "--to"]):
        done = desk.orc(*command, point.format(run=run))
        assert done.code == 2
        assert told.format(run=run) in done.err
    assert len(desk.orc("branches", "list", run).out.splitlines()) == 1
    assert desk.text("a") == "1"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("undo {run}@3", "orc undo --to {run}@3"),
        ("redo {run}@3", "names a step"),
        ("runs show {run}@turn", "names a step"),
        ("fork {run}/", "has no branch ''"),
        ("switch {run}@3 --files", "orc fork {run}@3"),
        ("db prune --days nan", "at most 36500"),
        ("db prune --keep 9999999999999999999999", "is not in the range"),
        ("runs list -n 99999999999999999999", "is not in the range"),
        ("runs list -n 0", "is not in the range"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_does_nothing(desk: Desk, words: str, told: str) -> None:
    turn = desk.work("@coder write a", [Call("write_file", path="a", content="1"), Say("wrote a")])
    assert turn.outcome is not None
    run = turn.outcome.run
    done = desk.orc(*words.format(run=run).split())
    assert (done.code, told.format(run=run) in done.err) == (2, True), done
    assert len(desk.orc("branches", "list", run).out.splitlines()) == 1
    assert desk.text("a") == "1"


@pytest.mark.parametrize(
    "command",
    [
        ("fork", ""),
        ("fork", "@turn"),
        ("undo", "--to", ""),
        ("undo", ""),
        ("redo", ""),
        ("replay", "--from", ""),
        ("replay", ""),
        ("resume", ""),
        ("resume", "", "--raise", "usd=1"),
        ("run", "-c", "", "more"),
        ("logs", ""),
        ("diff", "", ""),
        ("audit", "export", "--run", ""),
    ],
)
def test_an_empty_name_is_refused_and_does_not_mean_the_newest_run(desk: Desk, command: list[str]) -> None:
    stopped = desk.work("@coder write a", [Call("write_file", path="a", content="1"), Status(400)])
    assert stopped.error is not None
    before = len(desk.events())
    done = desk.orc(*command)
    assert (done.code, "no run ''" in done.err) == (2, True), done.err
    assert (len(desk.events()), len(desk.runs())) == (before, 1)
    assert desk.text("a") == "1"


@pytest.mark.parametrize("said", ["", "@nobody do it"])
@pytest.mark.parametrize("command", [("fork", "{run}"), ("replay", "--from", "{run}@turn")])
def test_a_request_that_cannot_be_taken_leaves_no_branch(
    desk: Desk, command: tuple[str, ...], said: str
) -> None:
    first = desk.work("@coder write a", [Call("write_file", path="a", content="1"), Say("wrote a")])
    assert first.outcome is not None
    run = first.outcome.run
    done = desk.orc(*(word.format(run=run) for word in command), "--say", said)
    assert done.code == 2, done.err
    assert len(desk.orc("branches", "list", run).out.splitlines()) == 1


def test_a_running_run_is_neither_forked_nor_undone(desk: Desk) -> None:
    from desk import wait_for

    with desk.model([Call("run_command", command="touch marker; sleep 50"), Say("slept")]):
        process = desk.start("run", "--yes", "@coder sleep")
        wait_for(desk.root / "marker")
        run = desk.runs()[0].id
        for words in (("fork", run), ("undo", run), ("redo", run), ("branches", "rm", f"{run}/main")):
            done = desk.orc(*words)
            assert done.code == 2
            assert "another process" in done.err
        process.kill()
        process.communicate(timeout=PATIENCE)
    assert len(desk.orc("branches", "list", run).out.splitlines()) == 1


@pytest.mark.parametrize("name", ["main", "two words", "-x", "a/b", "x" * 50])
def test_a_bad_branch_name_changes_nothing(desk: Desk, name: str) -> None:
    first = desk.work("@coder what is here?", [Call("list_files"), Say("nothing")])
    assert first.outcome is not None
    done = desk.orc("fork", first.outcome.run, f"--name={name}")
    assert done.code == 2
    assert len(desk.orc("branches", "list", first.outcome.run).out.splitlines()) == 1


def test_a_fork_that_is_refused_leaves_the_files_alone(desk: Desk) -> None:
    first = desk.work("@coder write a", [Call("write_file", path="a", content="new"), Say("wrote a")])
    assert first.outcome is not None
    done = desk.orc("fork", f"{first.outcome.run}@turn", "--files", "--name", "main")
    assert done.code == 2
    assert desk.text("a") == "new"


def test_a_run_of_another_folder_can_be_forked_and_replayed(desk: Desk, tmp_path: Path) -> None:
    first = desk.work("@coder what is here?", [Call("list_files"), Say("nothing")])
    assert first.outcome is not None
    root, desk.root = desk.root, tmp_path
    assert desk.orc("fork", "-C", str(root), f"{first.outcome.run}@turn").code == 0
    assert desk.orc("replay", "-C", str(root), f"{first.outcome.run}/main", "--check").code == 0


def test_what_a_person_approved_is_asked_again_on_a_fork(desk: Desk) -> None:
    def approve(_payload: Mapping[str, Any]) -> dict[str, Any]:
        return {"decisions": [{"type": "approve"}]}

    call = Call("run_command", command="cp count /opt/copied || true")
    first = desk.work("@coder count and copy", [COUNT, call, Say("copied")], approver=approve)
    assert first.outcome is not None
    assert desk.orc("fork", f"{first.outcome.run}@tools").code == 0
    assert isinstance(desk.work(None, [Say("again")], run=first.outcome.run).error, WaitingForApproval)


def test_a_fork_without_a_request_is_one_json_object(desk: Desk) -> None:
    turn = desk.work("@coder count", [COUNT, Say("counted")], approves=True)
    assert turn.outcome is not None
    run = turn.outcome.run
    done = desk.orc("fork", f"{run}@think", "--json")
    assert json.loads(done.out) == {"run": run, "branch": "try-1", "point": f"{run}/main@9"}


def test_what_a_switch_did_is_one_json_object(desk: Desk) -> None:
    turn = desk.work("@coder write a", [Call("write_file", path="a", content="1"), Say("wrote a")])
    assert turn.outcome is not None
    run = turn.outcome.run
    forked = json.loads(desk.orc("fork", f"{run}@turn", "--files", "--json").out)
    assert (forked["branch"], forked["actions"]) == ("try-1", [{"path": "a", "verb": "delete"}])
    switched = json.loads(desk.orc("switch", f"{run}/main", "--files", "--json").out)
    assert switched == {
        "run": run,
        "branch": "main",
        "actions": [{"path": "a", "verb": "create"}],
        "conflicts": [],
        "notes": [],
        "outside": [],
    }


def test_diff_tells_files_of_a_point_before_the_first_write(desk: Desk) -> None:
    desk.write("tool", "echo")
    change = Call("run_command", command="chmod 711 tool && echo one > a")
    desk.work("@coder write", [change, Say("one")])
    run = desk.runs()[0].id
    desk.orc("fork", f"{run}@turn", "--name", "early")
    for point in (f"{run}/main@turn", f"{run}/main@guardian", f"{run}/early"):
        found = json.loads(desk.orc("diff", point, f"{run}/main", "--json").out)
        assert found["files"] == ["--- a", "+++ a", "@@ -0,0 +1 @@", "+one", "  mode tool (0644 → 0711)"], (
            point
        )
    last = json.loads(desk.orc("diff", f"{run}/main@think", f"{run}/main", "--json").out)
    assert last["files"] == []


def test_diff_is_not_about_how_long_a_command_took(desk: Desk) -> None:
    slow = Call("run_command", command="sleep 0.$(cat pause); echo slept")
    for pause in ("0", "3"):
        desk.write("pause", pause)
        desk.work("@coder sleep", [slow, Say("slept")])
    one, other = (run.id for run in desk.runs())
    found = json.loads(desk.orc("diff", one, other, "--json").out)
    assert found["tools"] == []


def test_diff_shows_a_difference_deep_in_a_long_line(desk: Desk) -> None:
    for end in ("apple", "pear"):
        desk.work("@coder write", [Call("write_file", path="a", content="x" * 900 + end), Say("written")])
    one, other = (run.id for run in desk.runs())
    gone, added = json.loads(desk.orc("diff", one, other, "--json").out)["tools"][-2:]
    assert gone.startswith("-write_file")
    assert "pear" in gone
    assert added.startswith("+write_file")
    assert "apple" in added
    assert max(len(gone), len(added)) <= 210
