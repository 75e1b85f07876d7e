"""Loops are broken in stages, and an answer that cannot be right is sent back a limited number of times."""

from __future__ import annotations

from desk import Desk
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from scripted import Call, Reply, Request, Say

from orchestrator.nodes.circles import CUT_OFF
from orchestrator.nodes.objections import objection_to
from orchestrator.nodes.report import OBJECTIONS
from orchestrator.state import Brief, SpecialistState, Step

SMALL = {"size": "small", "tool_calls": "json"}


def test_a_repeated_call_gets_a_nudge_then_warmth_then_a_replan_then_an_honest_stop(desk: Desk) -> None:
    desk.write("n", "7")
    turn = desk.work("@coder what is in n", lambda _request: Call("read_file", path="n"))
    assert turn.outcome is not None
    assert turn.outcome.status == "failed"
    assert "circles" in turn.answer
    temperatures = [request["temperature"] for request in turn.requests]
    assert temperatures == [0.0, 0.0, 0.0, 0.8] * 2
    assert "same read_file call before" in turn.requests[2].last
    assert len(turn.of("plan")) == 2
    assert "circles" in turn.of("plan")[1].fields["why"]
    assert len(turn.of("tool_intent")) == 2


def test_a_run_that_code_makes_in_between_breaks_no_circle(desk: Desk) -> None:
    drafts = [Say(f"```python\nraise SystemExit({number})\n```") for number in (1, 2, 3)]
    same = Call("write_file", path="w.py", content="raise SystemExit(3)\n")
    turn = desk.work("@coder write w.py and run it", [*drafts, *[same] * 3, Say("no")], model=SMALL)
    assert "circles" in turn.of("plan")[1].fields["why"]
    assert [request["temperature"] for request in turn.requests][3:6] == [0.0, 0.0, 0.8]


def test_an_honest_stop_is_exit_1_and_its_reason_on_stdout(desk: Desk) -> None:
    desk.write("n", "7")
    with desk.model(lambda _request: Call("read_file", path="n")):
        done = desk.orc("run", "-q", "@coder what is in n")
    assert done.code == 1
    assert "I could not finish this." in done.out
    assert "circles" in done.out


def test_a_repeated_call_is_taken_from_the_choice_of_a_json_model(desk: Desk) -> None:
    desk.write("n", "7")
    script = [Call("run_command", command="cat n"), Call("run_command", command="cat n")]
    turn = desk.work("@coder what is in n", [*script, Call("finish", answer="it is 7")], model=SMALL)
    assert turn.answer == "it is 7"
    assert "run_command" in turn.requests[1].tools
    assert "run_command" not in turn.requests[2].tools


def test_the_same_read_after_a_write_is_no_repeat(desk: Desk) -> None:
    desk.write("n", "7")
    read = Call("read_file", path="n")
    turn = desk.work(
        "@coder put 8 into n", [read, Call("write_file", path="n", content="8"), read, Say("8 now")]
    )
    assert turn.answer == "8 now"
    assert not turn.of("nudge")


def test_an_answer_without_work_is_sent_back_a_limited_number_of_times(desk: Desk) -> None:
    turn = desk.work("@coder write a", lambda _request: Say("all done"))
    assert turn.answer == "all done"
    assert len(turn.requests) == 1 + OBJECTIONS


def test_an_objection_is_made_once_and_the_model_may_insist(desk: Desk) -> None:
    desk.write("n", "7")

    def script(request: Request) -> Reply:
        return Call("read_file", path="n") if len(request["messages"]) < 4 else Say("there are 1234 of them")

    turn = desk.work("@coder what number is in n", script)
    assert turn.answer == "there are 1234 of them"
    assert len([text for text in turn.texts("nudge") if "1234" in text]) == 1


def test_an_empty_answer_is_not_taken(desk: Desk) -> None:
    script = [Call("list_files"), Call("finish", answer=" "), Call("finish", answer="nothing is here")]
    turn = desk.work("@coder what is here", script, model=SMALL)
    assert turn.answer == "nothing is here"


def test_a_task_for_every_place_is_not_done_after_one(desk: Desk) -> None:
    desk.write("trip.txt", "to Bern\nBern is old\n")
    script = [
        Call("edit_file", path="trip.txt", old="to Bern", new="to Rome"),
        Call("finish", answer="all replaced"),
        Call("run_command", command="sed -i s/Bern/Rome/ trip.txt"),
        Call("finish", answer="replaced in both places"),
    ]
    turn = desk.work("@coder write Rome instead of Bern everywhere in trip.txt", script, model=SMALL)
    assert "'Bern' is still 1 times in trip.txt" in turn.requests[2].last
    assert turn.answer == "replaced in both places"


def test_a_file_that_should_be_written_is_asked_for_by_name(desk: Desk) -> None:
    desk.write("story.txt", "two words")
    script = [
        Say("I count two"),
        Call("run_command", command="wc -w story.txt"),
        Say("still two"),
        Call("finish", answer="2"),
        Call("write_file", path="words.txt", content="2\n"),
        Call("finish", answer="words.txt says 2"),
    ]
    turn = desk.work(
        "@coder count the words in story.txt and write the number to words.txt", script, model=SMALL
    )
    assert "words.txt does not exist yet" in turn.requests[4].last
    assert turn.answer == "words.txt says 2"


def test_a_count_outside_the_named_folder_is_questioned(desk: Desk) -> None:
    desk.write("src/a.py", "")
    desk.write("b.py", "")
    script = [
        Say("```bash\nfind . -name '*.py' | wc -l\n```"),
        Call("finish", answer="2"),
        Call("run_command", command="find src -name '*.py' | wc -l"),
        Call("finish", answer="1"),
    ]
    turn = desk.work("@coder how many python files are in src?", script, model=SMALL)
    assert "about the folder src" in turn.requests[2].last
    assert turn.answer == "1"


def test_it_is_not_taken_that_a_call_which_was_cut_off_did_not_run(desk: Desk) -> None:
    call = {"name": "run_command", "args": {"command": "echo x >> log"}, "id": "1.0", "type": "tool_call"}
    result = ToolMessage(CUT_OFF, tool_call_id="1.0", name="run_command")
    step = Step(id="s1", agent="coder", goal="log x", tools=[], after=[], check="")
    state = SpecialistState(
        brief=Brief(request="log x", step=step, before=[]),
        messages=[HumanMessage("log x"), AIMessage("", tool_calls=[call]), result],
    )
    found = objection_to("The command did not run.", state, desk.root)
    assert found is not None
    assert "cut off after it had started" in found.text


def test_what_cannot_be_run_need_not_be_run(desk: Desk) -> None:
    desk.write("app.conf", "level = info\n")
    script = [
        Call("edit_file", path="app.conf", old="info", new="warn"),
        Call("finish", answer="level is warn"),
    ]
    turn = desk.work("@coder set the level in app.conf to warn, for the tests", script, model=SMALL)
    assert turn.answer == "level is warn"
    assert not turn.of("nudge")


def test_a_script_that_is_to_be_executable_is_made_so(desk: Desk) -> None:
    script = [
        Say("```bash\necho hi\n```"),
        Call("finish", answer="it says hi"),
        Call("run_command", command="chmod +x hi.sh"),
        Call("finish", answer="hi.sh is executable"),
    ]
    turn = desk.work("@coder write hi.sh that says hi and make it executable", script, model=SMALL)
    assert "chmod +x hi.sh" in turn.requests[2].last
    assert turn.answer == "hi.sh is executable"
