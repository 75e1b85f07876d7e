"""A request for several gets a checked plan; each step gets a brief; a failure leads to one replan."""

from __future__ import annotations

from typing import Any

import pytest
from desk import Desk, Turn
from scripted import Call, Fill, Reply, Request, Say

from orchestrator.nodes.planner import Draft, faults, literals, needs_steps, prohibitions

TWO: dict[str, list[dict[str, Any]]] = {
    "steps": [
        {"agent": "coder", "goal": "write 42 into n.txt"},
        {"agent": "sysadmin", "goal": "say how large n.txt is", "after": [1], "check": "a size is given"},
    ]
}
REQUEST = "@coder 1. write 42 into n.txt 2. say how large n.txt is"


def player(*drafts: Any) -> Any:
    """Plays the planner with these drafts, and each step with one call."""
    left = list(drafts)

    def script(request: Request) -> Reply:
        if request.wants == "Draft":
            draft = left.pop(0)
            return Fill(draft) if isinstance(draft, dict) else Say(draft)
        if request.wants == "text":
            return Say("n.txt holds 42 and has 3 bytes")
        if "exit code" in request.last:
            return Say("n.txt has 3 bytes")
        if request.last.startswith("wrote"):
            return Say("secret word: pumpernickel, n.txt written")
        if "Do only this part now: say" in request.texts[1]:
            return Call("run_command", command="wc -c n.txt")
        return Call("write_file", path="n.txt", content="42\n")

    return script


def briefs(turn: Turn) -> list[str]:
    return [r.last for r in turn.requests if r.wants == "action" and len(r["messages"]) == 2]


def test_two_steps_run_in_order_and_the_second_knows_the_first_ones_result(desk: Desk) -> None:
    turn = desk.work(REQUEST, player(TWO))
    assert turn.answer == "n.txt holds 42 and has 3 bytes"
    assert [(e.agent, e.fields["status"]) for e in desk.events("step")] == [
        ("coder", "done"),
        ("sysadmin", "done"),
    ]
    first, second = briefs(turn)
    assert "pumpernickel" not in first
    assert "Known so far: secret word: pumpernickel" in second
    assert "It is done when: a size is given" in second
    assert "wrote n.txt" not in second
    assert "Result: n.txt has 3 bytes" in turn.requests[-1].last


def test_a_bad_draft_is_repaired_once(desk: Desk) -> None:
    bad = {"steps": [{"agent": "wizard", "goal": "write 42 into n.txt", "after": [1]}]}
    turn = desk.work(REQUEST, player(bad, TWO))
    asked = [request for request in turn.requests if request.wants == "Draft"]
    assert len(asked) == 2
    assert "names 'wizard'" in asked[1].last
    assert len(turn.of("plan")[0].fields["steps"]) == 2


@pytest.mark.parametrize("draft", [{"steps": [{"agent": "coder", "goal": "do something"}]}, "no plan today"])
def test_a_draft_that_stays_bad_becomes_one_step(desk: Desk, draft: Any) -> None:
    turn = desk.work(REQUEST, player(draft, draft))
    steps = turn.of("plan")[0].fields["steps"]
    assert [step["agent"] for step in steps] == ["coder"]
    assert steps[0]["goal"].startswith("1. write 42")
    assert turn.answer == "secret word: pumpernickel, n.txt written"


def test_a_plain_request_costs_no_planning(desk: Desk) -> None:
    turn = desk.work("@coder write 42 into n.txt", player())
    assert not [request for request in turn.requests if request.wants == "Draft"]
    assert desk.text("n.txt") == "42\n"


def test_settings_can_switch_planning_off(desk: Desk) -> None:
    desk.settings({"plan": False})
    turn = desk.work(REQUEST, player())
    assert len(turn.of("plan")[0].fields["steps"]) == 1


def test_a_failed_step_leads_to_one_replan_that_keeps_what_is_done(desk: Desk) -> None:
    drafts: list[Any] = [TWO, {"steps": [{"agent": "coder", "goal": "say the size of n.txt with Python"}]}]
    plays = player()

    def script(request: Request) -> Reply:
        if request.wants == "Draft":
            return Fill(drafts.pop(0))
        told = request.texts[1]
        if "Do only this part now: say how large" in told:
            return Call("run_command", command="wc -c n.txt")
        if "with Python" in told and "exit code" not in request.last:
            return Call("run_python", code="import os; print(os.path.getsize('n.txt'))")
        reply: Reply = plays(request)
        return reply

    turn = desk.work(REQUEST, script)
    assert turn.outcome is not None
    assert turn.outcome.status == "done"
    asked = [request for request in turn.requests if request.wants == "Draft"]
    assert len(asked) == 2
    assert "Already done: secret word: pumpernickel" in asked[1].last
    assert "circles" in asked[1].last
    assert [event.fields["status"] for event in desk.events("step")] == ["done", "failed", "done"]
    assert len([e for e in desk.events("tool_intent") if e.fields["tool"] == "write_file"]) == 1


def test_a_step_has_the_tools_that_its_plan_names_and_those_that_only_read(desk: Desk) -> None:
    draft = {
        "steps": [
            {"agent": "coder", "goal": "write 42 into n.txt", "tools": ["write_file"]},
            {"agent": "sysadmin", "goal": "say how large n.txt is", "tools": ["run_command"], "after": [1]},
        ]
    }
    turn = desk.work(REQUEST, player(draft))
    assert turn.answer == "n.txt holds 42 and has 3 bytes"
    first, second = (step["tools"] for step in turn.of("plan")[0].fields["steps"])
    assert first == ["read_file", "write_file", "list_files", "search_files", "search_docs", "finish"]
    assert second == ["run_command", "read_file", "list_files", "search_files", "search_docs", "finish"]
    shown = [r["tools"] for r in turn.requests if r.wants == "action"]
    assert "run_command" not in {tool["function"]["name"] for tool in shown[0]}


def test_a_tool_that_the_plan_does_not_give_is_not_run(desk: Desk) -> None:
    first, second = TWO["steps"]
    plays = player({"steps": [{**first, "tools": ["run_command"]}, second]})

    def script(request: Request) -> Reply:
        if "this step of the plan has no tool 'write_file'" in request.last:
            return Say("it cannot be written")
        reply: Reply = plays(request)
        return reply

    turn = desk.work(REQUEST, script)
    verdict = turn.of("verdict")[0].fields
    assert (verdict["decision"], verdict["rule"]) == ("deny", "tool.not-available")
    assert not (desk.root / "n.txt").exists()


def test_a_small_model_is_not_asked_for_tools(desk: Desk) -> None:
    def script(request: Request) -> Reply:
        return Fill(TWO) if request.wants == "SmallDraft" else Say("done")

    turn = desk.work(REQUEST, script, model={"size": "small", "tool_calls": "native"})
    asked = next(request for request in turn.requests if request.wants == "SmallDraft")
    assert "`tools`" not in asked.texts[0]
    assert [step["tools"] for step in turn.of("plan")[0].fields["steps"]] == [[], []]


def test_faults_name_every_kind_of_wrong_step() -> None:
    draft = Draft.model_validate({
        "steps": [
            {"agent": "x", "goal": "look"},
            {"agent": "coder", "goal": "do it", "after": [2], "tools": ["web_search"]},
        ]
    })
    told = " | ".join(
        faults(draft, 'put "green tea" into `a b` and list.txt', {"coder": ["read_file", "run_command"]})
    )
    assert "step 2: coder has no tool 'web_search'; it has read_file, run_command" in told
    assert "step 1 names 'x'" in told
    assert "step 2 may only come after" in told
    assert "a b" in told
    assert "green tea" in told
    assert "list.txt" in told


def test_literals_and_prohibitions_are_the_users_own_words() -> None:
    assert literals('rename a.txt to "b c" with `mv`') == ["a.txt", "b c", "mv"]
    assert prohibitions("Clean up. Do not touch main.py; then test.") == ["Do not touch main.py"]


@pytest.mark.parametrize(
    ("request_text", "agents", "expected"),
    [
        ("fix the bug", ["coder"], False),
        ("fix it and then run it", ["coder"], False),
        ("1. fix it 2. run it", ["coder"], True),
        ("fix it, then run it, after that tell me", ["coder"], True),
        ("fix it and look on the web", ["coder", "researcher"], True),
    ],
)
def test_steps_are_drafted_where_they_help(request_text: str, agents: list[str], expected: bool) -> None:
    assert needs_steps(request_text, agents) is expected
