"""Messages that are read without their constructor are what their constructor makes."""

import ormsgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import EXT_PYDANTIC_V2

from orchestrator.checkpoints import strict_serializer
from orchestrator.checkpoints.elements import MSGPACK
from orchestrator.checkpoints.messages import bare, fresh, judged, master_from, message_from
from orchestrator.errors import StorageError

COUNTS = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
CALL = {"name": "read_file", "args": {"path": "a", "lines": [1, 2]}, "id": "call_1", "type": "tool_call"}
PLAIN = [
    HumanMessage("hello", id="1", name="ann"),
    SystemMessage("be brief", response_metadata={"at": 1.5}),
    ToolMessage("done", tool_call_id="call_1", status="error", additional_kwargs={"a": [None]}),
    AIMessage("", tool_calls=[CALL], response_metadata={"model_name": "m", "x": {"y": []}}),
    AIMessage("a", usage_metadata={**COUNTS, "input_token_details": {"cache_read": 2}}),
]
ODD: st.SearchStrategy[object] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.text(max_size=3),
    st.sampled_from([[], {}, [CALL], [{**CALL, "index": 1}], [{**CALL, "args": None}], COUNTS, 2.5]),
    st.sampled_from([{**COUNTS, "extra": 1}, {**COUNTS, "output_token_details": {"audio": 1.0}}]),
    st.sampled_from([
        {"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]},
        "tool_call",
    ]),
    st.sampled_from([[{**CALL, "type": "other"}], [{**CALL, "id": 3}], [{**CALL, "name": 1}], b"x", ["a"]]),
)


@pytest.mark.parametrize("message", PLAIN, ids=lambda message: str(message.type))
def test_a_plain_message_is_made_without_its_constructor(message: BaseMessage) -> None:
    _, packed = strict_serializer().dumps_typed(message)
    master = master_from(MSGPACK + packed)
    assert master is not None
    assert fresh(master) == message
    assert strict_serializer().dumps_typed(fresh(master))[1] == packed


@pytest.mark.parametrize("message", PLAIN, ids=lambda message: str(message.type))
def test_a_message_without_its_names_comes_back_as_it_was(message: BaseMessage) -> None:
    packed = MSGPACK + strict_serializer().dumps_typed(message)[1]
    small = bare(packed)
    assert small is not None
    assert len(small) < len(packed) - 100
    for made in (message_from(small), judged(small)):
        assert made == message
        assert strict_serializer().dumps_typed(made)[1] == packed[1:]


@pytest.mark.parametrize(
    "content", [b"\4", b"\4\0", b"\4\x09\x90", b"\4\0\x91\xa1a", b"\4\0\xc0", b"\4\0\x96"]
)
def test_a_message_without_its_names_that_makes_no_sense_is_damage(content: bytes) -> None:
    with pytest.raises(StorageError, match="damaged"):
        message_from(content)


@settings(max_examples=300, deadline=None)
@given(message=st.sampled_from(PLAIN), odd=st.data())
def test_odd_fields_are_left_to_the_constructor_or_come_out_as_from_it(
    message: BaseMessage, odd: st.DataObject
) -> None:
    fields = dict(message.__dict__)
    fields[odd.draw(st.sampled_from(sorted(fields)))] = odd.draw(ODD)
    kind = type(message)
    body = ormsgpack.packb((kind.__module__, kind.__name__, fields, "model_validate_json"))
    packed = ormsgpack.packb(ormsgpack.Ext(EXT_PYDANTIC_V2, body))
    master = master_from(MSGPACK + packed)
    if master is not None:
        made, expected = fresh(master), strict_serializer().loads_typed(("msgpack", packed))
        small = bare(MSGPACK + packed)
        again = message_from(small) if small is not None else made
        for each in (made, again):
            assert type(each) is type(expected)
            assert each.__dict__ == expected.__dict__
            assert {key: type(value) for key, value in each.__dict__.items()} == {
                key: type(value) for key, value in expected.__dict__.items()
            }
