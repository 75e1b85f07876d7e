"""Replay: what is recorded drives today's code, with no network, no tool and no changed file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from desk import Desk
from scripted import Call, Calls, Fill, Reply, Request, Say

from orchestrator.runs import Runs
from orchestrator.storage import open_state

WORK: list[Reply] = [
    Call("write_file", path="a", content="1\n"),
    Call("run_command", command="echo x >> count; cat a"),
    Say("a holds 1"),
]


LIST = {"command": "ls"}
HEAD = "---\nextends: coder\ndescription: Writes code.\n"


def worked(desk: Desk, script: list[Reply] | Callable[[Request], Reply] = WORK, **options: object) -> str:
    turn = desk.work("@coder write a and look", script, approves=True, **options)  # type: ignore[arg-type]
    assert turn.outcome is not None, turn.error
    return turn.outcome.run


def files(desk: Desk) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in desk.root.iterdir() if path.is_file()}


@pytest.mark.parametrize("mode", ["native", "json"])
def test_a_recorded_run_passes_the_check_and_does_nothing(desk: Desk, mode: str) -> None:
    desk.write("notes.txt", "see a.txt")
    script: list[Reply] = [*WORK] if mode == "native" else [*WORK[:2], Call("finish", answer="a holds 1")]
    run = worked(desk, script, model={"tool_calls": mode, "size": "small" if mode == "json" else "large"})
    desk.work("@coder delete a", [Call("delete_file", path="a"), Say("deleted")], run=run, approves=True)
    desk.write("unrelated", "new since")
    before, events = files(desk), len(desk.events())
    done = desk.orc("replay", run, "--check", "--json")
    assert done.code == 0, done.out + done.err
    report = json.loads(done.out)
    assert report["diverged"] is None
    assert report["turns"] == 2
    assert report["checked"] > 10
    assert report["notes"] == []
    assert files(desk) == before
    assert len(desk.events()) == events


def test_a_changed_prompt_is_the_first_divergence(desk: Desk) -> None:
    desk.orc("init", ".")
    desk.write("agents/coder.md", f"{HEAD}---\nBe careful.\n")
    run = worked(desk)
    assert desk.orc("replay", run, "--check").code == 0
    desk.write("agents/coder.md", f"{HEAD}---\nBe bold.\n")
    done = desk.orc("replay", run, "--check")
    assert done.code == 1
    assert "the model is asked something else" in done.out
    assert "Be careful." in done.out
    assert "Be bold." in done.out
    assert "turn 1" in done.out


def test_a_stricter_policy_shows_as_another_verdict(desk: Desk) -> None:
    desk.orc("init", ".")
    desk.write("agents/coder.md", f"{HEAD}---\nBe careful.\n")
    run = worked(desk)
    desk.write("agents/coder.md", f"{HEAD}approval: ask\n---\nBe careful.\n")
    done = desk.orc("replay", run, "--check")
    assert done.code == 1
    assert "another verdict" in done.out
    assert '"decision": "ask"' in done.out


def test_in_ci_a_replay_is_checked(desk: Desk) -> None:
    run = worked(desk)
    done = desk.orc("replay", run, CI="true")
    assert done.code == 0
    assert "today's code does the same" in done.out
    viewed = desk.orc("replay", run, CI="")
    assert "write_file" in viewed.out
    assert "a holds 1" in viewed.out


def test_a_run_with_a_rejected_and_an_edited_call_passes(desk: Desk) -> None:
    outside = Call("run_command", command="cp a /opt/copied")
    answers: list[dict[str, Any]] = [
        {"decisions": [{"type": "reject", "message": "keep it here"}]},
        {"decisions": [{"type": "edit", "edited_action": {"name": "run_command", "args": LIST}}]},
    ]
    script = [outside, Call("run_command", command="cp a /opt/b"), Say("not copied")]
    turn = desk.work("@coder copy a", script, approver=lambda _: answers.pop(0))
    assert turn.outcome is not None
    done = desk.orc("replay", turn.outcome.run, "--check")
    assert done.code == 0, done.out


def test_a_run_that_was_killed_and_resumed_passes(desk: Desk) -> None:
    from desk import wait_for

    first = Calls([
        Call("run_command", command="echo one >> log"),
        Call("run_command", command="touch marker; sleep 60"),
    ])
    with desk.model([first]):
        process = desk.start("run", "--yes", "@coder log one")
        wait_for(desk.root / "marker")
        process.kill()
        process.communicate()
    turn = desk.work(None, [Say("logged one")])
    assert turn.outcome is not None
    done = desk.orc("replay", turn.outcome.run, "--check")
    assert done.code == 0, done.out


def test_a_plan_of_several_steps_passes(desk: Desk) -> None:
    def script(request: Request) -> Reply:
        if request.wants == "Draft":
            second = {"agent": "sysadmin", "goal": "read a", "after": [1]}
            return Fill({"steps": [{"agent": "coder", "goal": "write a"}, second]})
        if request.wants == "text":
            return Say("both done")
        if len(request["messages"]) > 2:
            return Say("done")
        is_first = "Do only this part now: write a" in request.texts[1]
        return Call("write_file", path="a", content="1") if is_first else Call("list_files")

    turn = desk.work("@coder 1. write a 2. read a", script)
    assert turn.outcome is not None
    done = desk.orc("replay", turn.outcome.run, "--check")
    assert done.code == 0, done.out


def test_a_run_stopped_by_an_error_is_replayed_up_to_it(desk: Desk) -> None:
    turn = desk.work("@coder write a and look", WORK[:1])
    assert turn.error is not None
    done = desk.orc("replay", desk.runs()[0].id, "--check")
    assert done.code == 0, done.out


def test_what_if_goes_another_way_from_a_step(desk: Desk) -> None:
    run = worked(desk)
    with desk.model([Say("I would rather not")], models=["other"]) as served:
        done = desk.orc("replay", "--from", f"{run}@think", "--model", "other")
    assert (done.code, done.out) == (0, "I would rather not\n")
    assert [request["model"] for request in served.requests] == ["other"]
    assert desk.runs()[0].branch_name == "what-if-1"
    assert desk.text("count") == "x\n"


def test_what_if_can_start_among_the_files_of_that_moment(desk: Desk) -> None:
    run = worked(desk)
    with desk.model(WORK):
        done = desk.orc("replay", "--from", f"{run}@turn", "--files", "--yes")
    assert done.code == 0, done.err
    assert desk.text("count") == "x\n"
    assert desk.orc("switch", f"{run}/main", "--files").code == 0
    assert desk.text("count") == "x\n"
    refused = desk.orc("replay", run, "--files")
    assert (refused.code, "need --from" in refused.err) == (2, True)


def test_what_if_from_the_start_of_a_turn_asks_the_same_again(desk: Desk) -> None:
    run = worked(desk)
    with desk.model([Call("write_file", path="a", content="2"), Say("a holds 2")]) as served:
        done = desk.orc("replay", "--from", f"{run}@turn")
    assert done.out == "a holds 2\n"
    assert "write a and look" in json.dumps(served.requests[0]["messages"])


def test_a_damaged_record_is_named(desk: Desk) -> None:
    run = worked(desk)
    connection = open_state(desk.root)
    connection.execute("update blobs set data=x'00'")
    assert Runs(connection, desk.root).get(run).status == "done"
    connection.close()
    done = desk.orc("replay", run, "--check")
    assert done.code == 1
    assert "missing or damaged" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("words", [("--from", "r-1@think", "--check"), ("--say", "x"), ("--model", "m")])
def test_options_that_exclude_each_other_are_refused(desk: Desk, words: tuple[str, ...]) -> None:
    worked(desk)
    assert desk.orc("replay", *words).code == 2


def test_a_branch_forked_after_a_model_answered_passes(desk: Desk) -> None:
    run = worked(desk, [Call("run_command", command="echo x >> count"), Say("counted")])
    assert desk.orc("fork", f"{run}@guardian").code == 0
    turn = desk.work(None, [Say("counted again")], run=run, approves=True)
    assert turn.answer == "counted again"
    done = desk.orc("replay", run, "--check")
    assert done.code == 0, done.out


def test_a_prompt_that_looks_like_a_secret_passes(desk: Desk) -> None:
    desk.orc("init", ".")
    desk.write("agents/coder.md", f"{HEAD}---\nNever print sk-abcdefghijklmnopqrstuvwx.\n")
    done = desk.orc("replay", worked(desk), "--check")
    assert done.code == 0, done.out


def test_what_no_snapshot_holds_is_still_listed(desk: Desk) -> None:
    with (desk.root / "huge.bin").open("wb") as huge:
        huge.truncate((50 << 20) + 1)
    os.mkfifo(desk.root / "pipe")
    (desk.root / "out").symlink_to("/etc")
    (desk.root / "up").symlink_to("../elsewhere")
    for number in range(1_001):
        desk.write(f"node_modules/{number}.js", "")
    desk.write("src/deep/x.py", "1")
    (desk.root / "src" / "deep" / "y.py").symlink_to("../z.py")
    run = worked(desk, model={"tool_calls": "native", "size": "small"})
    done = desk.orc("replay", run, "--check", "--json")
    assert done.code == 0, done.out + done.err
    assert json.loads(done.out)["notes"] == []


def test_a_fork_is_replayed_among_the_files_that_it_went_on_with(desk: Desk) -> None:
    run = worked(desk)
    assert desk.orc("fork", f"{run}@router").code == 0
    desk.write("new", "since")
    (desk.root / "a").unlink()
    turn = desk.work(None, WORK, run=run, approves=True)
    assert turn.answer == "a holds 1"
    done = desk.orc("replay", run, "--check", "--json")
    assert done.code == 0, done.out + done.err
    assert json.loads(done.out)["notes"] == []


def test_files_that_changed_while_a_run_waited_are_those_it_is_replayed_among(desk: Desk) -> None:
    def script(request: Request) -> Reply:
        if request.wants == "Draft":
            second = {"agent": "sysadmin", "goal": "read a", "after": [1]}
            return Fill({"steps": [{"agent": "coder", "goal": "copy a"}, second]})
        if request.wants == "text":
            return Say("both done")
        is_first = "Do only this part now: copy a" in request.texts[1]
        if len(request["messages"]) > 2:
            return Say("done")
        return Call("run_command", command="cp a /opt/copied") if is_first else Call("list_files")

    assert desk.work("@coder 1. copy a 2. read a", script).error is not None
    desk.write("new", "since")
    reject = {"decisions": [{"type": "reject", "message": "no"}]}
    turn = desk.work(None, script, approver=lambda _: reject)
    assert turn.outcome is not None
    done = desk.orc("replay", turn.outcome.run, "--check")
    assert done.code == 0, done.out
