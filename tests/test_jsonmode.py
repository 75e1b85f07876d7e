"""Tool calls as JSON texts: schemas, rendering, parsing."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.llm import schemas
from orchestrator.llm.base import ToolSpec
from orchestrator.llm.jsonmode import find_object, read_action, render


class Step(BaseModel):
    id: str
    after: list[str] = []


class Plan(BaseModel):
    steps: list[Step]
    note: str | None = None
    must: int | None


class Search(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str = Field(description="What to look for.", max_length=5000)
    mode: Literal["plain", "regex"] = "plain"
    limit: int | None = Field(default=None, ge=1, le=500)


SEARCH = ToolSpec("search_files", "Find a text in files.", Search)


def test_an_action_is_flat_with_the_tool_first_and_arguments_as_declared() -> None:
    assert schemas.actions([SEARCH]) == {
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "tool": {"const": "search_files"},
                    "text": {"type": "string"},
                    "mode": {"type": "string", "enum": ["plain", "regex"]},
                    "limit": {"type": "integer"},
                },
                "required": ["tool", "text"],
                "additionalProperties": False,
            }
        ]
    }
    assert list(schemas.actions([SEARCH])["anyOf"][0]["properties"]) == ["tool", "text", "mode", "limit"]


def test_the_grammar_converter_takes_twelve_tools_and_the_result_is_small() -> None:
    xllamacpp = pytest.importorskip("xllamacpp")
    tools = [ToolSpec(f"tool_{number}", "Do it.", Search) for number in range(11)]
    tools.append(ToolSpec("plan", "Plan it.", Plan))
    grammar = xllamacpp.json_schema_to_grammar(json.dumps(schemas.actions(tools)))
    assert 0 < len(grammar) < 6_000
    assert [tool.name for tool in tools if tool.name not in grammar] == []


def test_a_strict_schema_requires_every_field_at_every_level_and_has_no_references() -> None:
    strict = schemas.strict(Plan)
    assert strict["required"] == ["steps", "note", "must"]
    assert strict["properties"]["steps"]["items"]["required"] == ["id", "after"]
    assert strict["properties"]["steps"]["items"]["additionalProperties"] is False
    assert "$ref" not in json.dumps(strict)
    assert "title" not in json.dumps(strict)
    assert schemas.is_strict(strict)


def test_a_free_dictionary_is_not_strict() -> None:
    class Free(BaseModel):
        values: dict[str, int]

    assert not schemas.is_strict(schemas.strict(Free))


def test_a_null_that_is_required_stays_and_an_optional_one_goes() -> None:
    properties = schemas.grammar(Plan)["properties"]
    assert properties["note"] == {"type": "string"}
    assert properties["must"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}


def test_a_field_named_like_a_keyword_survives() -> None:
    class Odd(BaseModel):
        title: str
        default: int

    assert list(schemas.grammar(Odd)["properties"]) == ["title", "default"]


def test_a_schema_inside_itself_ends() -> None:
    class Tree(BaseModel):
        children: list[Tree] = []

    assert schemas.grammar(Tree)["properties"]["children"]["type"] == "array"


def test_the_native_form_of_a_tool_keeps_descriptions_and_drops_titles() -> None:
    parameters = schemas.function(SEARCH)["function"]["parameters"]
    assert parameters["properties"]["text"]["description"] == "What to look for."
    assert "title" not in json.dumps(parameters)
    assert parameters["required"] == ["text"]


def test_the_native_form_of_a_tool_leaves_out_what_goes_without_saying() -> None:
    class Where(BaseModel):
        """Arguments of look."""

        model_config = ConfigDict(extra="forbid")

        class Line(BaseModel):
            model_config = ConfigDict(extra="forbid")

            number: int = Field(1, ge=1, le=9)

        folder: str | None = None
        lines: list[Line] = Field(default_factory=list)

    found = schemas.function(ToolSpec("look", "Look.", Where))["function"]
    line = {"type": "object", "properties": {"number": {"type": "integer", "default": 1, "maximum": 9}}}
    properties = {"folder": {"type": "string"}, "lines": {"type": "array", "items": line}}
    assert found["parameters"] == {"type": "object", "properties": properties}


def test_tools_are_listed_in_the_system_message_one_a_line() -> None:
    first = render([SystemMessage("Be careful."), HumanMessage("go")], [SEARCH])[0]
    assert isinstance(first, SystemMessage)
    assert first.text.startswith("Be careful.\n\n")
    last = first.text.splitlines()[-1]
    assert last == "search_files(text, mode?=plain|regex, limit?) - Find a text in files."


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "args": arguments, "id": "c1", "type": "tool_call"}


def test_calls_and_results_become_plain_turns_that_alternate() -> None:
    history: list[AnyMessage] = [
        HumanMessage("go"),
        HumanMessage("now"),
        AIMessage("", tool_calls=[call("search_files", text="ä")]),
        ToolMessage("a.txt:1", tool_call_id="c1"),
        SystemMessage("Do not repeat yourself."),
    ]
    assert [(turn.type, turn.text) for turn in render(history)] == [
        ("human", "go\n\nnow"),
        ("ai", '{"tool": "search_files", "text": "ä"}'),
        ("human", "Result of search_files:\na.txt:1\n\nDo not repeat yourself."),
    ]


def test_what_the_model_wrote_is_rendered_verbatim_until_a_person_edits_the_call() -> None:
    action = read_action('{"tool":"search_files",  "text":"a"}')
    assert render([action])[0].text == '{"tool":"search_files",  "text":"a"}'
    edited = action.model_copy(update={"tool_calls": [{**action.tool_calls[0], "args": {"text": "b"}}]})
    assert render([edited])[0].text == '{"tool": "search_files", "text": "b"}'


@pytest.mark.parametrize(
    "text",
    [
        '{"tool": "read", "path": "a"}',
        'Sure!\n```json\n{"tool": "read", "path": "a"}\n```\nDone.',
        '{"tool": "read", "path": "a",}',
        '{"tool": "read", "arguments": {"path": "a"}}',
        '{"name": "read", "parameters": {"path": "a"}}',
        'I use {this}: {"tool": "read", "path": "a"}',
        '{"tool": "read", "path": "a"}\n{"tool": "other"}',
    ],
)
def test_an_action_is_found_in_what_models_write(text: str) -> None:
    found = read_action(text)
    assert [(item["name"], item["args"]) for item in found.tool_calls] == [("read", {"path": "a"})]
    assert found.additional_kwargs["raw"] == text


def test_ids_of_calls_are_unique() -> None:
    assert len({read_action('{"tool": "a"}').tool_calls[0]["id"] for _ in range(50)}) == 50


def test_a_trailing_comma_inside_a_string_is_left_alone() -> None:
    assert find_object('{"text": "a,]", "more": [1,],}') == {"text": "a,]", "more": [1]}


def test_real_line_breaks_in_strings_are_taken() -> None:
    assert find_object('{"content": "a\nb"}') == {"content": "a\nb"}


@pytest.mark.parametrize("text", ["", "no object", "{", "[" * 100_000, '{"a": ' * 50_000, "{}" * 3])
def test_hostile_texts_do_no_harm(text: str) -> None:
    assert read_action(text).tool_calls == []


@pytest.mark.parametrize(
    ("code", "is_call"), [(r"re.sub('\b')", False), (r"re.sub('\\b')", True), (r"a\n", True)]
)
def test_a_pattern_that_lost_its_backslashes_is_no_call(code: str, is_call: bool) -> None:
    message = read_action(f'{{"tool": "run_python", "code": "{code}"}}')
    assert bool(message.tool_calls) is is_call
    assert is_call or "written twice" in str(message.invalid_tool_calls[0]["error"])


def test_an_answer_that_was_cut_off_is_never_taken_for_whole() -> None:
    found = read_action('{"tool": "write", "path": "a", "content": {"x": 1}', is_truncated=True)
    assert found.tool_calls == []
    assert found.invalid_tool_calls[0]["name"] == "write"
