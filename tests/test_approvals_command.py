"""Calls that wait are decided from the command line, once, and only as they were asked."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from desk import Desk, Terminal, Turn
from scripted import Call, Calls, Say

from orchestrator.approvals import Grants
from orchestrator.errors import Interrupted, WaitingForApproval
from orchestrator.events import Event
from orchestrator.session import Options, Session
from orchestrator.storage import open_state

MADE = Call("run_command", command="git reset --hard || true")
OTHER = Call("run_command", command="git clean -fd || true")
FAR = Call("run_command", command="git push --force")


def waiting(desk: Desk, *calls: Call, request: str = "@coder reset and delete") -> list[dict[str, Any]]:
    """Work until the run waits; returns what `orc approvals list --json` says."""
    script = [Calls(list(calls))] if len(calls) > 1 else [calls[0]]
    assert isinstance(desk.work(request, script).error, WaitingForApproval)
    return listed(desk)


def listed(desk: Desk) -> list[dict[str, Any]]:
    done = desk.orc("approvals", "list", "--json")
    assert done.code == 0
    return [json.loads(line) for line in done.out.splitlines()]


def decide(desk: Desk, identifier: str, decision: dict[str, Any]) -> None:
    """As `orc approvals` does with --later, without a process."""
    connection = open_state(desk.root)
    Grants(connection).decide(identifier, decision, "person")
    connection.close()


def commands(turn: Turn) -> list[str]:
    return [event.fields["arguments"]["command"] for event in turn.of("tool_intent")]


def test_a_waiting_call_is_listed_with_what_it_would_change_and_who_asks(desk: Desk) -> None:
    for number in range(60):
        desk.write(f"old/{number}.txt", "x" * 10)
    desk.work("@coder delete old", [Call("delete_file", path="old", recursive=True)])
    (row,) = listed(desk)
    assert row["rule"] == "path.delete"
    assert row["origin"] == "built in"
    assert row["stakes"]["undo"] == "yes"
    (change,) = row["stakes"]["changes"]
    assert (change["target"], change["effect"], change["where"]) == ("old", "delete", "inside")
    assert (change["exists"], change["files"], change["bytes"]) == (True, 60, 600)
    done = desk.orc("approvals", "list")
    assert "would delete old: inside, 60 files, 600 bytes" in done.out
    assert "can be undone: yes" in done.out
    assert row["id"] in done.out


def test_the_rule_that_asks_is_named_with_file_and_line(desk: Desk) -> None:
    (desk.home / "config").mkdir()
    rule = (
        "rules:\n- id: ours.release\n  level: ask\n  why: puts a version into production\n"
        "  program: [shipit]\n  match: [shipit x]\n"
    )
    (desk.home / "config" / "policy.yaml").write_text(rule, "utf-8")
    (row,) = waiting(desk, Call("run_command", command="shipit now"))
    assert row["rule"] == "ours.release"
    assert row["origin"].endswith("config/policy.yaml:2")


def test_approving_goes_on_with_the_run_and_runs_the_call_once(desk: Desk) -> None:
    (row,) = waiting(desk, MADE)
    with desk.model([Say("reset")]):
        done = desk.orc("approvals", "approve", row["id"])
    assert (done.code, done.out) == (0, "reset\n")
    assert [event.fields["arguments"]["command"] for event in desk.events("tool_intent")] == [
        "git reset --hard || true"
    ]
    (said,) = desk.events("approval")
    assert (said.fields["type"], said.fields["by"]) == ("approve", f"person ({row['id']})")
    again = desk.orc("approvals", "approve", row["id"])
    assert again.code == 2
    assert "decided already" in again.err


def test_a_rejection_reaches_the_specialist_with_its_message(desk: Desk) -> None:
    (row,) = waiting(desk, MADE)
    with desk.model([Say("left it")]) as served:
        done = desk.orc("approvals", "reject", row["id"], "-m", "not on a Friday")
    assert (done.code, done.out) == (0, "left it\n")
    assert "not on a Friday" in served.requests[0].last
    assert not desk.events("tool_intent")


def test_an_unknown_id_names_near_ones_and_nothing_is_decided(desk: Desk) -> None:
    (row,) = waiting(desk, MADE)
    wrong = row["id"][:-1] + ("0" if row["id"][-1] != "0" else "1")
    done = desk.orc("approvals", "approve", wrong)
    assert done.code == 2
    assert f"did you mean {row['id']}?" in done.err
    assert listed(desk)[0]["decision"] == {}


def test_the_run_goes_on_when_all_its_calls_are_decided(desk: Desk) -> None:
    first, second = waiting(desk, MADE, OTHER)
    done = desk.orc("approvals", "approve", first["id"])
    assert done.code == 0
    assert f"waits for {second['id']} too" in done.err
    assert not desk.events("approval")
    decide(desk, second["id"], {"type": "reject", "message": "keep them"})
    turn = desk.work(None, [Say("half done")])
    assert turn.answer == "half done"
    assert commands(turn) == ["git reset --hard || true"]


def test_a_question_that_the_run_went_on_without_does_not_wait_any_more(desk: Desk) -> None:
    inside = Call("run_command", command="git clean -fd || true")
    (row,) = waiting(desk, inside)
    turn = desk.work(None, [FAR], approves=True)
    assert isinstance(turn.error, WaitingForApproval)
    assert [each["rule"] for each in listed(desk)] != [row["rule"]]
    assert desk.orc("approvals", "approve", row["id"]).code == 2


def test_without_runs_there_is_nothing_to_decide(desk: Desk) -> None:
    done = desk.orc("approvals", "list")
    assert (done.code, done.out) == (0, "")
    assert "nothing waits" in done.err


def test_a_damaged_row_is_told_and_the_call_is_asked_again(desk: Desk) -> None:
    (row,) = waiting(desk, MADE)
    with sqlite3.connect(desk.root / ".orc" / "state.db") as connection:
        connection.execute("update approvals set request='{'")
    connection.close()
    done = desk.orc("approvals", "list")
    assert (done.code, "Traceback" in done.err) == (0, False)
    assert f"{row['id']}  {row['run']}  cannot be shown: it is damaged in the state file" in done.err
    done = desk.orc("approvals", "approve", row["id"])
    assert done.code == 2
    assert "damaged" in done.err
    assert isinstance(desk.work(None, [Say("never")]).error, WaitingForApproval)
    (fresh,) = listed(desk)
    assert fresh["id"] != row["id"]


def test_an_approval_is_void_when_the_policy_denies_the_call_by_then(desk: Desk) -> None:
    (row,) = waiting(desk, MADE)
    decide(desk, row["id"], {"type": "approve"})
    (desk.home / "config").mkdir()
    rule = (
        "rules:\n- id: ours.never\n  level: deny\n  why: never here\n  program: [git]\n  words: [reset]\n"
        "  match: [git reset --hard]\n"
    )
    (desk.home / "config" / "policy.yaml").write_text(rule, "utf-8")
    turn = desk.work(None, [Say("not possible")])
    assert turn.of("verdict")[0].fields["rule"] == "ours.never"
    assert commands(turn) == []


def test_an_approval_is_void_when_the_policy_has_changed_otherwise(desk: Desk) -> None:
    (row,) = waiting(desk, MADE)
    decide(desk, row["id"], {"type": "approve"})
    (desk.home / "config").mkdir()
    (desk.home / "config" / "policy.yaml").write_text("levels:\n  git.push: deny\n", "utf-8")
    assert isinstance(desk.work(None, [Say("never")]).error, WaitingForApproval)
    (fresh,) = listed(desk)
    assert fresh["id"] != row["id"]
    assert not desk.events("tool_intent")


def test_what_stands_beside_a_question_is_judged_again_when_it_is_answered(desk: Desk) -> None:
    beside = Call("run_command", command="git status --short")
    assert isinstance(desk.work("@coder reset", [Calls([beside, MADE])]).error, WaitingForApproval)
    (row,) = listed(desk)
    decide(desk, row["id"], {"type": "approve"})
    (desk.home / "config").mkdir()
    rule = (
        "rules:\n- id: ours.status\n  level: deny\n  why: never here\n  program: [git]\n"
        "  words: [status]\n  match: [git status]\n"
    )
    (desk.home / "config" / "policy.yaml").write_text(rule, "utf-8")
    turn = desk.work(None, [Say("never")])
    assert [event.fields["decision"] for event in turn.of("verdict")] == ["deny", "ask"]
    assert isinstance(turn.error, WaitingForApproval)
    assert commands(turn) == []
    (fresh,) = listed(desk)
    decide(desk, fresh["id"], {"type": "approve"})
    assert commands(desk.work(None, [Say("reset")])) == ["git reset --hard || true"]


def test_a_tool_that_was_taken_away_during_a_question_is_not_used(desk: Desk) -> None:
    agent = desk.write(
        "agents/mover.md", "---\ndescription: Moves.\ntools: [list_files, run_command]\n---\nMove."
    )
    desk.orc("trust")
    beside = Call("list_files", path=".")
    assert isinstance(desk.work("@mover reset", [Calls([beside, MADE])]).error, WaitingForApproval)
    (row,) = listed(desk)
    decide(desk, row["id"], {"type": "approve"})
    agent.write_text("---\ndescription: Moves.\ntools: [run_command]\n---\nMove.", "utf-8")
    turn = desk.work(None, [Say("reset")])
    assert commands(turn) == ["git reset --hard || true"]
    assert [e.fields["decision"] for e in turn.of("verdict")] == ["deny", "ask"]


def test_an_approval_holds_on_its_own_branch_only(desk: Desk) -> None:
    (row,) = waiting(desk, MADE)
    decide(desk, row["id"], {"type": "approve"})
    run = desk.runs()[0].id
    assert desk.orc("fork", f"{run}@approval").code == 0
    assert isinstance(desk.work(None, [Say("never")], run=run).error, WaitingForApproval)
    assert not desk.events("tool_intent")
    turn = desk.work(None, [Say("reset")], run=f"{run}/main")
    assert commands(turn) == ["git reset --hard || true"]


def test_an_answer_that_was_used_up_is_not_applied_a_second_time(desk: Desk) -> None:
    def person(_payload: Mapping[str, Any]) -> dict[str, Any]:
        return {"decisions": [{"type": "approve"}]}

    def dies(event: Event) -> None:
        if event.kind == "approval":
            raise Interrupted("cut off between the approval and the call")

    with desk.model([MADE]), pytest.raises(Interrupted):
        asyncio.run(Session(desk.root, Options(approver=person, listeners=[dies])).run("@coder reset"))
    turn = desk.work(None, [Say("never")])
    assert isinstance(turn.error, WaitingForApproval)
    assert commands(turn) == []
    assert commands(desk.work(None, [Say("reset")], approver=person)) == ["git reset --hard || true"]


def test_a_run_that_was_decided_from_the_command_line_can_be_replayed(desk: Desk) -> None:
    first, second = waiting(desk, MADE, OTHER)
    decide(desk, first["id"], {"type": "reject", "message": "keep it"})
    decide(desk, second["id"], {"type": "approve"})
    assert desk.work(None, [Say("half done")]).answer == "half done"
    done = desk.orc("replay", desk.runs()[0].id, "--check")
    assert done.code == 0, done.out + done.err


def test_an_approved_call_is_not_asked_again_while_another_one_is_edited(desk: Desk) -> None:
    asked: list[list[str]] = []

    def person(payload: Mapping[str, Any]) -> dict[str, Any]:
        asked.append([request["args"]["command"] for request in payload["action_requests"]])
        edit = {
            "type": "edit",
            "edited_action": {"name": "run_command", "args": {"command": "echo hi > log"}},
        }
        return {"decisions": [edit, {"type": "approve"}][: len(asked[-1])]}

    turn = desk.work("@coder reset", [Calls([OTHER, MADE]), Say("done")], approver=person)
    assert turn.answer == "done"
    assert asked == [["git clean -fd || true", "git reset --hard || true"]]
    assert commands(turn) == ["echo hi > log", "git reset --hard || true"]


def test_what_is_remembered_is_not_asked_again_until_it_is_forgotten(desk: Desk) -> None:
    def person(_payload: Mapping[str, Any]) -> dict[str, Any]:
        return {"decisions": [{"type": "approve", "remember": True}]}

    script = [MADE, Say("reset")]
    first = desk.work("@coder reset", script, approver=person)
    assert "remembered as 1" in first.of("approval")[0].fields["by"]
    second = desk.work("@coder reset again", script)
    assert second.of("approval")[0].fields["by"] == "remembered 1"
    assert commands(second) == ["git reset --hard || true"]
    assert desk.orc("approvals", "rules").out.startswith("  1  since")
    assert not list(desk.root.rglob("approvals.db"))
    assert desk.orc("approvals", "forget", "1").code == 0
    assert isinstance(desk.work("@coder reset a third time", script).error, WaitingForApproval)


@pytest.mark.parametrize(
    ("call", "request_"),
    [(FAR, "@coder push"), (Call("run_command", command="rm -rf ./*"), "@coder delete all")],
)
def test_what_reaches_outside_or_is_wholesale_is_never_remembered(
    desk: Desk, call: Call, request_: str
) -> None:
    def person(payload: Mapping[str, Any]) -> dict[str, Any]:
        assert payload["action_requests"][0]["remember"] == ""
        return {"decisions": [{"type": "approve", "remember": True}]}

    (row,) = waiting(desk, call, request=request_)
    done = desk.orc("approvals", "approve", "--remember", "--later", row["id"])
    assert done.code == 2
    assert "cannot be remembered" in done.err
    desk.work(None, [Say("done")], approver=person)
    assert desk.orc("approvals", "rules").out == ""


def test_hidden_characters_and_strange_hosts_are_shown_for_what_they_are(desk: Desk) -> None:
    command = "git push --force git@g\u0456thub.com:me/x.git ma\u200bin"
    (row,) = waiting(desk, Call("run_command", command=command), request="@coder push")
    assert row["args"]["command"] == command
    told = " ".join(row["warnings"])
    assert "\\u200b (zero width space)" in told
    assert "the host g\\u0456thub.com is not plain ASCII: Cyrillic and Latin letters" in told
    assert "\u200b" not in row["description"]
    shown = desk.orc("approvals", "list").out
    assert "\u200b" not in shown
    assert "ma\\u200bin" in shown


def test_the_terminal_offers_to_remember_and_wants_it_confirmed(desk: Desk) -> None:
    with desk.model([MADE, Say("reset")]), Terminal(desk, "run", "@coder reset") as terminal:
        terminal.wait_for("decide later")
        assert "m = approve and remember" in terminal.seen
        terminal.type("m\n")
        terminal.wait_for("type yes")
        assert 'coder may use run_command with {"command":"git reset --hard || true"}' in terminal.seen
        terminal.type("\n")
        terminal.wait_for("decide later", times=2)
        terminal.type("a\n")
        done = terminal.end()
    assert (done.code, done.out) == (0, "reset\n")
    assert desk.orc("approvals", "rules").out == ""


def test_hidden_characters_are_edited_as_escapes(desk: Desk, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text(
        f'#!/bin/sh\ncp "$1" {tmp_path}/shown\nsleep 1.1\necho \'{{"command": "ls -a"}}\' > "$1"\n',
        "utf-8",
    )
    editor.chmod(0o755)
    odd = Call("run_command", command="git clean -fd # \u202ename\u200b")
    with (
        desk.model([odd, Say("looked")]),
        Terminal(desk, "run", "@coder clean", EDITOR=str(editor)) as terminal,
    ):
        terminal.wait_for("decide later")
        terminal.type("e\n")
        done = terminal.end()
    assert (done.code, done.out) == (0, "looked\n")
    assert r"git clean -fd # \u202ename\u200b" in (tmp_path / "shown").read_text("utf-8")
    assert [event.fields["arguments"] for event in desk.events("tool_intent")] == [{"command": "ls -a"}]
