"""What policy asks waits for a person; what it denies nobody can approve."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from desk import Desk, Terminal
from scripted import Call, Calls, Say

from orchestrator.errors import WaitingForApproval

PUSH = Call("run_command", command="git push --force")


def test_without_a_terminal_the_run_waits_and_nothing_has_run(desk: Desk) -> None:
    with desk.model([PUSH]):
        done = desk.orc("run", "@coder push my work")
        assert (done.code, done.out) == (3, "")
        assert "orc resume" in done.err
        assert "waiting" in desk.orc("runs", "list").out
        assert not desk.events("tool_intent")
        again = desk.orc("resume")
        assert again.code == 3
        assert desk.orc("run", "-c", desk.runs()[0].id, "more").code == 2
    assert desk.runs()[0].status == "waiting"


def test_approving_at_the_terminal_runs_the_call_once(desk: Desk) -> None:
    many_files(desk)
    delete = Call("delete_file", path="old", recursive=True)
    assert isinstance(desk.work("@coder delete old", [delete]).error, WaitingForApproval)
    with desk.model([Say("deleted old")]), Terminal(desk, "resume") as terminal:
        terminal.wait_for("decide later")
        assert "path: old" in terminal.seen
        terminal.type("\n")
        terminal.wait_for("decide later", times=2)
        assert (desk.root / "old").is_dir()
        terminal.type("a\n")
        done = terminal.end()
    assert (done.code, done.out) == (0, "deleted old\n")
    assert not (desk.root / "old").exists()
    assert len(desk.events("tool_intent")) == 1


def test_an_edited_call_is_judged_again_and_runs_as_edited(desk: Desk) -> None:
    with desk.model([PUSH, Say("listed")]), Terminal(desk, "run", "@coder push my work") as terminal:
        terminal.wait_for("decide later")
        terminal.type("e\n")
        terminal.wait_for("command:", times=2)
        terminal.type("\x15echo safe > log\r")
        done = terminal.end()
    assert (done.code, done.out) == (0, "listed\n")
    assert desk.text("log") == "safe\n"
    assert [event.fields["decision"] for event in desk.events("verdict")] == ["ask", "allow"]
    assert [e.fields["arguments"]["command"] for e in desk.events("tool_intent")] == ["echo safe > log"]


def test_an_edit_cannot_smuggle_in_what_is_denied(desk: Desk) -> None:
    def person(payload: Mapping[str, Any]) -> dict[str, Any]:
        action = {"name": "run_command", "args": {"command": "rm -rf /"}}
        return {"decisions": [{"type": "edit", "edited_action": action}]}

    turn = desk.work("@coder push my work", [PUSH, Say("not possible")], approver=person)
    assert [event.fields["decision"] for event in turn.of("verdict")] == ["ask", "deny"]
    assert not turn.of("tool_intent")
    assert "Not allowed" in turn.requests[1].last
    assert "rm -rf /" in str(turn.requests[1]["messages"][2])
    assert "git push" not in str(turn.requests[1]["messages"][2])


def test_a_rejection_reaches_the_model_with_its_message(desk: Desk) -> None:
    with (
        desk.model([PUSH, Say("did not push")]) as served,
        Terminal(desk, "run", "@coder push my work") as terminal,
    ):
        terminal.wait_for("decide later")
        terminal.type("r\n")
        terminal.wait_for("instead?")
        terminal.type("only on Fridays\n")
        done = terminal.end()
    assert (done.code, done.out) == (0, "did not push\n")
    assert "only on Fridays" in served.requests[1].last
    assert not desk.events("tool_intent")


def test_a_decision_that_is_put_off_leaves_the_run_waiting(desk: Desk) -> None:
    with desk.model([PUSH]), Terminal(desk, "run", "@coder push my work") as terminal:
        terminal.wait_for("decide later")
        terminal.type("q\n")
        done = terminal.end()
    assert done.code == 3
    assert desk.runs()[0].status == "waiting"


def test_each_of_several_calls_gets_its_own_decision(desk: Desk) -> None:
    seen: list[Mapping[str, Any]] = []

    def person(payload: Mapping[str, Any]) -> dict[str, Any]:
        seen.append(payload)
        return {"decisions": [{"type": "reject", "message": "not that"}, {"type": "approve"}]}

    calls = Calls([
        Call("run_command", command="git push --force"),
        Call("run_command", command="git push --force origin main"),
        Call("run_command", command="echo free > log"),
    ])
    turn = desk.work("@coder push my work", [calls, Say("pushed one")], approver=person)
    assert turn.answer == "pushed one"
    assert [request["name"] for request in seen[0]["action_requests"]] == ["run_command", "run_command"]
    assert all("approve" in config["allowed_decisions"] for config in seen[0]["review_configs"])
    commands = [event.fields["arguments"]["command"] for event in turn.of("tool_intent")]
    assert commands == ["git push --force origin main", "echo free > log"]


def test_an_answer_that_is_no_decision_is_a_rejection(desk: Desk) -> None:
    wrong: list[dict[str, Any]] = [
        {},
        {"decisions": []},
        {"decisions": ["yes"]},
        {"decisions": [{"type": "sure"}]},
    ]
    for nonsense in wrong:
        turn = desk.work("@coder push", [PUSH, Say("no")], approver=lambda _payload, it=nonsense: it)  # type: ignore[misc]
        assert not turn.of("tool_intent")
        assert turn.answer == "no"


def many_files(desk: Desk) -> None:
    for number in range(60):
        desk.write(f"old/{number}.txt", "x")


def test_yes_approves_what_would_be_asked_inside(desk: Desk) -> None:
    many_files(desk)
    delete = Call("delete_file", path="old", recursive=True)
    assert isinstance(desk.work("@coder delete old", [delete]).error, WaitingForApproval)
    assert (desk.root / "old").is_dir()
    many_files(desk)
    turn = desk.work("@coder delete old", [delete, Say("deleted old")], approves=True)
    assert turn.answer == "deleted old"
    assert not (desk.root / "old").exists()
    assert turn.of("approval")[0].fields["by"] == "--yes"


def test_yes_given_at_resume_approves_what_waits(desk: Desk) -> None:
    many_files(desk)
    desk.work("@coder delete old", [Call("delete_file", path="old", recursive=True)])
    turn = desk.work(None, [Say("deleted old")], approves=True)
    assert turn.answer == "deleted old"
    assert not (desk.root / "old").exists()


def test_yes_does_not_approve_what_reaches_outside(desk: Desk) -> None:
    turn = desk.work("@coder push", [PUSH], approves=True)
    assert isinstance(turn.error, WaitingForApproval)
    assert not turn.of("tool_intent")


def test_what_is_denied_never_runs_whatever_is_approved(desk: Desk, tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("keep", "utf-8")
    before = sorted(Path("/").iterdir())
    script = [
        Call("run_command", command="rm -rf /"),
        Call("run_command", command="rm -rf ~ /etc"),
        Call("write_file", path=str(precious), content="gone"),
    ]
    turn = desk.work("@coder clean up", script, approves=True)
    assert turn.outcome is not None
    assert turn.outcome.status == "refused"
    assert "refused 3 times in a row" in turn.answer
    assert not turn.of("tool_intent")
    assert "Not allowed" in turn.requests[1].last
    assert precious.read_text("utf-8") == "keep"
    assert sorted(Path("/").iterdir()) == before


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf *",
        "rm -rf .",
        "find . -delete",
        "rm keep.txt",
        "echo > keep.txt",
        'python3 -c \'open("keep.txt", "w")\'',
    ],
)
def test_yes_deletes_nothing_when_asked_to_delete_everything(desk: Desk, command: str) -> None:
    desk.write("keep.txt", "still here\n")
    call = Call("run_command", command=command)
    request = "@sysadmin delete everything on this machine"
    desk.work(request, [call, Say("not possible"), Say("not possible"), Say("not possible")], approves=True)
    assert desk.text("keep.txt") == "still here\n"
    assert desk.events("approval")[0].fields["type"] == "reject"


def test_yes_never_approves_the_loss_of_the_whole_workspace(desk: Desk) -> None:
    desk.write("keep.txt", "still here\n")
    script = [Call("run_command", command="rm -rf ./*"), *[Say("not possible")] * 3]
    desk.work("@coder clean this folder up, delete what is not needed", script, approves=True)
    assert desk.text("keep.txt") == "still here\n"


@pytest.mark.parametrize(
    "command",
    [
        "echo 'touch ran' > .git/hooks/pre-commit",
        "printf '[core]\\n\\tfsmonitor = ./x\\n' >> .git/config",
        "git config core.hooksPath x",
        "echo ../evil > .git/commondir",
        "python3 -c \"open('.git/commondir', 'w').write('../evil')\"",
    ],
)
def test_yes_never_approves_a_change_of_what_git_runs(desk: Desk, command: str) -> None:
    subprocess.run(["git", "init", "-q", str(desk.root)], check=True)
    before = (desk.root / ".git/config").read_bytes()
    script = [Call("run_command", command=command), *[Say("not possible")] * 3]
    desk.work("@coder set up the repository", script, approves=True)
    assert (desk.root / ".git/config").read_bytes() == before
    assert not (desk.root / ".git/hooks/pre-commit").exists()
    assert not (desk.root / ".git/commondir").exists()


@pytest.mark.parametrize(
    "call",
    [
        Call("delete_file", path="old", recursive=True),
        Call("run_command", command="git clean -fdx"),
    ],
)
def test_yes_approves_no_deletion_that_the_request_does_not_speak_of(desk: Desk, call: Call) -> None:
    many_files(desk)
    subprocess.run(["git", "init", "-q", str(desk.root)], check=True)
    turn = desk.work("@coder say what old is for", [call, *[Say("not possible")] * 3], approves=True)
    assert (desk.root / "old/1.txt").is_file()
    assert turn.of("approval")[0].fields["type"] == "reject"


def test_only_a_person_opens_what_git_runs_to_a_command(desk: Desk) -> None:
    subprocess.run(["git", "init", "-q", str(desk.root)], check=True)
    desk.write("tool.sh", "mkdir -p .git/hooks; echo 'touch ran' > .git/hooks/pre-commit; echo purged")
    script = [Call("run_command", command="sh tool.sh; git clean -fdX"), Say("purged")]
    turn = desk.work("@coder clean with tool.sh", list(script), approves=True)
    assert turn.of("approval")[0].fields["by"] == "--yes"
    assert "purged" in turn.of("tool_result")[0].fields["text"]
    assert not (desk.root / ".git/hooks/pre-commit").exists()
    desk.work(
        "@coder clean with tool.sh", list(script), approver=lambda _: {"decisions": [{"type": "approve"}]}
    )
    assert (desk.root / ".git/hooks/pre-commit").exists()


def test_a_narrow_deletion_on_the_machine_is_still_approved(desk: Desk) -> None:
    desk.write("old.tmp", "x")
    script = [Call("run_command", command="rm old.tmp"), Say("old.tmp is deleted")]
    turn = desk.work("@sysadmin delete all .tmp files of this folder on this machine", script, approves=True)
    assert turn.answer == "old.tmp is deleted"
    assert not (desk.root / "old.tmp").exists()
