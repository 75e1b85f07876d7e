"""Who takes a request: the user's word, a trained classifier, the model, or a file that was just added."""

from __future__ import annotations

from pathlib import Path

import pytest
from desk import Desk
from scripted import Call, Fill, Reply, Request, Say

from orchestrator.nodes.classifier import Classifier, corpus, lifted, trained
from orchestrator.nodes.router import by_scores
from orchestrator.workspace.loading import load
from orchestrator.workspace.trust import trust

DBA = """\
---
description: Finds out why database queries are slow.
tools: [read_file, search_files, run_command]
routing:
  keywords: [query, index, SQL, database, slow]
  examples:
    - why is this query slow? SELECT * FROM orders WHERE total > 5
    - which index would speed this query up?
    - explain the plan of this SQL statement
    - the database takes minutes for a join, why?
---
You know databases.
"""


def works(request: Request) -> Reply:
    if request.wants == "RouteChoice":
        return Fill({"agent": "none", "why": "no idea"})
    return Call("list_files") if len(request["messages"]) < 4 else Say("looked at it")


def test_a_file_in_agents_makes_a_specialist_that_gets_its_requests(desk: Desk) -> None:
    desk.write("agents/dba.md", DBA)
    trust(desk.root)
    turn = desk.work("why is this query slow? SELECT * FROM users WHERE name LIKE '%a%'", works)
    route = turn.of("route")[0].fields
    assert (route["agent"], route["decided_by"]) == ("dba", "classifier")
    assert "You know databases." in turn.requests[0].system
    assert turn.answer == "looked at it"


def test_a_misspelt_key_is_one_line_with_place_and_suggestion(desk: Desk) -> None:
    desk.write("agents/dba.md", DBA.replace("routing:", "ruoting:"))
    done = desk.orc("run", "why is this query slow?")
    assert (done.code, done.out) == (2, "")
    assert "agents/dba.md:4:1: ruoting" in done.err
    assert "routing" in done.err.replace("ruoting", "")
    assert len(done.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("request_text", "agent"),
    [
        ("fix the failing test in tests/test_prices.py", "coder"),
        ("which process uses the most memory on this machine?", "sysadmin"),
        ("hello, how are you today?", "none"),
    ],
)
def test_clear_requests_cost_no_model_call_to_route(desk: Desk, request_text: str, agent: str) -> None:
    turn = desk.work(request_text, works)
    assert turn.of("route")[0].fields["agent"] == agent
    assert turn.of("route")[0].fields["decided_by"] == "classifier"
    assert "RouteChoice" not in [request.wants for request in turn.requests]


def test_a_useless_answer_of_the_model_leaves_the_classifiers_guess(desk: Desk) -> None:
    def script(request: Request) -> Reply:
        return Say("dunno") if request.wants == "RouteChoice" else works(request)

    turn = desk.work("flurbl the gnarf?", script)
    assert turn.of("route")[0].fields["decided_by"] == "classifier"
    assert turn.outcome is not None


def test_a_named_agent_is_taken_without_asking_and_its_name_is_not_part_of_the_task(desk: Desk) -> None:
    turn = desk.work("@Sysadmin: look around", works)
    assert turn.of("route")[0].fields["decided_by"] == "user"
    assert "Task: look around" in turn.requests[0].last


def test_a_short_follow_up_stays_with_the_last_agent(desk: Desk) -> None:
    first = desk.work("@sysadmin look around", works)
    assert first.outcome is not None
    second = desk.work("and the other one?", works, run=first.outcome.run)
    assert second.of("route")[0].fields["agent"] == "sysadmin"


def test_the_classifier_gives_probabilities() -> None:
    scores = Classifier({"a": ["red apple", "green apple"], "b": ["fast car", "slow car"]})("a yellow apple")
    assert scores["a"] > 0.6
    assert abs(sum(scores.values()) - 1) < 1e-5


def test_an_agent_with_a_description_alone_gets_the_requests_that_speak_its_words(tmp_path: Path) -> None:
    folder = tmp_path / "agents"
    folder.mkdir()
    text = (
        "---\ndescription: Database administrator who tunes SQL queries and indexes.\n---\nYou are a DBA.\n"
    )
    (folder / "dba.md").write_text(text, "utf-8")
    agents = load(tmp_path).agents
    classify = trained(corpus(agents))
    for request, agent in (
        ("why is this query slow? select * from orders", "dba"),
        ("fix the failing test in calc.py", "coder"),
        ("who are you?", "none"),
    ):
        scores = lifted(classify(request), request, agents)
        assert max(scores, key=lambda name: scores[name]) == agent
    route = by_scores({"dba": 0.75, "coder": 0.2}, "why is this query slow?", None, {"dba"})
    assert route["why"] == "it uses words that only dba uses"
