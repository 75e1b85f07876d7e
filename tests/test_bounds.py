"""What a request takes at most is known before it is asked: never less than a tokenizer makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage

from orchestrator.llm.counted import Counted
from orchestrator.llm.question import Question
from orchestrator.llm.tokens import most

MEASURED = json.loads((Path(__file__).parent / "data" / "most_tokens.json").read_text("utf-8"))
"""Texts of many kinds, with the largest count of six tokenizers."""
FRONT: list[AnyMessage] = [SystemMessage("You work in a folder."), HumanMessage("Read the file a.txt")]


@pytest.mark.parametrize("kind", MEASURED)
def test_no_tokenizer_makes_more_of_a_text_than_the_bound(kind: str) -> None:
    text, tokens = MEASURED[kind]["text"], MEASURED[kind]["tokens"]
    # One that begins with a piece of its own is covered by what is added for each message.
    assert tokens - 1 <= most(text) <= len(text.encode())


@pytest.mark.parametrize("kind", ["system", "tools", "prose", "markdown", "german"])
def test_plain_text_is_bounded_by_little_more_than_half_its_bytes(kind: str) -> None:
    text = MEASURED[kind]["text"]
    assert most(text) <= 0.6 * len(text.encode())


@given(st.text(), st.text())
def test_a_bound_grows_with_the_text_and_is_at_most_its_bytes(one: str, two: str) -> None:
    data = len((one + two).encode("utf-8", "replace"))
    assert max(most(one), most(two)) - 1 <= most(one + two) <= data


def asked(messages: list[AnyMessage], **options: Any) -> Question:
    return Question(messages, 100, 0.0, options)


def test_what_was_counted_once_is_not_guessed_again() -> None:
    known = Counted()
    tools = [{"function": {"name": "read_file", "description": "Read a file. " * 200}}]
    first = known.bound(asked(FRONT, tools=tools))
    known.learn(first, 700)
    longer = [*FRONT, AIMessage("It is empty."), HumanMessage("And now?")]
    second = known.bound(asked(longer, tools=tools))
    assert first.tokens > 1_000
    assert 700 < second.tokens < 850
    assert known.bound(asked(longer)).tokens < first.tokens
    assert known.bound(asked(longer, tools=[{}])).counted == 0


def test_a_request_that_only_ends_like_a_known_one_is_bounded_anew() -> None:
    known = Counted()
    known.learn(known.bound(asked(FRONT)), 5)
    changed = [SystemMessage("Another front."), *FRONT[1:]]
    assert known.bound(asked(changed)).counted == 0


@pytest.mark.parametrize("reported", [0, -3, 10**9])
def test_a_report_that_cannot_be_true_teaches_nothing(reported: int) -> None:
    known = Counted()
    before = known.bound(asked(FRONT))
    known.learn(before, reported)
    assert known.bound(asked(FRONT)) == before


def test_a_server_that_counts_more_than_the_bound_raises_those_that_follow() -> None:
    known = Counted()
    first = known.bound(asked(FRONT))
    known.learn(first, 2 * first.tokens)
    assert known.bound(asked(FRONT)).tokens == 2 * first.tokens
    other: list[AnyMessage] = [HumanMessage("something else altogether")]
    assert known.bound(asked(other)).tokens == 2 * Counted().bound(asked(other)).tokens


def test_a_count_without_what_the_server_remembered_is_not_relied_on() -> None:
    known = Counted()
    known.learn(known.bound(asked(FRONT)), 60)
    longer = [*FRONT, AIMessage("It is empty.")]
    second = known.bound(asked(longer))
    known.learn(second, 9)
    assert known.bound(asked(longer)).tokens == second.tokens
