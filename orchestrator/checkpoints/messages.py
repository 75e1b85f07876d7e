"""Messages as plain fields, so that an unchanged one is recognised and a fresh one is made in a microsecond.

A message is mutable, and programs do change them in place. So nothing here trusts an object's identity
alone: its fields are compared with the fields that it had when it was stored, and every reader gets
objects of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import ormsgpack
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import EXT_PYDANTIC_V2

CLASSES: dict[tuple[str, str], type[BaseMessage]] = {
    (cls.__module__, cls.__name__): cls for cls in (AIMessage, HumanMessage, SystemMessage, ToolMessage)
}
KINDS = frozenset(CLASSES.values())
_FIELDS = {cls: set(cls.model_fields) for cls in KINDS}
_TYPES = {cls: cls.model_fields["type"].default for cls in KINDS}
_CALL = frozenset({"name", "args", "id", "type"})
_COUNTS = frozenset({"input_tokens", "output_tokens", "total_tokens"})
_DETAILS = {
    "input_token_details": frozenset({"audio", "cache_creation", "cache_read"}),
    "output_token_details": frozenset({"audio", "reasoning"}),
}
_TEXT_OR_NONE = frozenset({str, type(None)})
_SCALARS = frozenset({str, int, float, bool, type(None), bytes})
_LENGTHS = {0xC7: 3, 0xC8: 4, 0xC9: 6}
"""Bytes before the body of an extension, by the first of them: its size in 1, 2 or 4 bytes, and its code."""
_set = object.__setattr__


class Master(NamedTuple):
    """What a stored message consists of; never handed out, only copied from."""

    cls: type[BaseMessage]
    fields: dict[str, Any]
    containers: tuple[str, ...]
    """Fields that have to be copied because they can be changed in place."""


class NotPlainError(Exception):
    """A value holds something else than plain data."""


def plain_copy(value: Any) -> Any:
    """A deep copy of plain data; raises NotPlainError for anything else."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is dict:
        return {key: plain_copy(item) for key, item in value.items()}
    if kind is list:
        return [plain_copy(item) for item in value]
    raise NotPlainError


def master_of(message: BaseMessage) -> Master | None:
    """The master of a message as it is now; None when it holds more than plain data."""
    if message.__pydantic_extra__ or message.__pydantic_private__:
        return None
    try:
        fields = {key: plain_copy(value) for key, value in message.__dict__.items()}
    except NotPlainError:
        return None
    return _master(type(message), fields)


def _master(cls: type[BaseMessage], fields: dict[str, Any]) -> Master:
    return Master(cls, fields, tuple(key for key, value in fields.items() if type(value) not in _SCALARS))


def fresh(master: Master) -> BaseMessage:
    """A new message equal to the stored one, sharing nothing that can be changed."""
    fields = master.fields.copy()
    for key in master.containers:
        value = fields[key]
        fields[key] = plain_copy(value) if value else type(value)()
    return made_of(master.cls, fields)


def made_of(cls: type[BaseMessage], fields: dict[str, Any]) -> BaseMessage:
    """A message that takes these fields for its own."""
    message = cls.__new__(cls)
    _set(message, "__dict__", fields)
    _set(message, "__pydantic_fields_set__", set(fields))
    _set(message, "__pydantic_extra__", {})
    _set(message, "__pydantic_private__", None)
    return message


def is_unchanged(message: BaseMessage, fields: dict[str, Any]) -> bool:
    """Whether a message still is what was stored with these fields."""
    return message.__dict__ == fields and not message.__pydantic_extra__


def master_from(content: bytes, start: int = 0) -> Master | None:
    """The master of a message from its MessagePack bytes, or None when its class has to judge it."""
    found = _parsed(content, start)
    return None if found is None else _master(*found)


def message_from(content: bytes, start: int = 0) -> BaseMessage | None:
    """A message from its MessagePack bytes, which nobody else holds; None when its class has to judge it."""
    found = _parsed(content, start)
    return None if found is None else made_of(*found)


def _parsed(content: bytes, start: int) -> tuple[type[BaseMessage], dict[str, Any]] | None:
    """The class and fields of a message.

    The serializer would call the class's constructor, which takes ten times as long. For fields that are
    already what it would make of them, it does nothing but check types.
    """
    start += _LENGTHS.get(content[start], len(content)) if len(content) > start else 1
    if start > len(content) or content[start - 1] != EXT_PYDANTIC_V2:
        return None
    try:
        # Without this option it is quicker, and equal keys become one object.
        found = ormsgpack.unpackb(content[start:], ext_hook=_refuse)
    except ValueError:
        found = None
    try:
        if found is None:
            found = ormsgpack.unpackb(content[start:], ext_hook=_refuse, option=ormsgpack.OPT_NON_STR_KEYS)
        module, name, fields, _ = found
        cls = CLASSES.get((module, name))
        if cls is None or fields.keys() != _FIELDS[cls] or not _is_final(cls, fields):
            return None
    except (AttributeError, TypeError, ValueError):
        return None
    return cls, fields


def _is_final(cls: type[BaseMessage], fields: dict[str, Any]) -> bool:
    """Whether the constructor would take these fields over as they are."""
    if not (
        fields["type"] == _TYPES[cls]
        and type(fields["content"]) is str
        and type(fields["id"]) in _TEXT_OR_NONE
        and type(fields["name"]) in _TEXT_OR_NONE
        and type(fields["additional_kwargs"]) is dict
        and "tool_calls" not in fields["additional_kwargs"]
        and type(fields["response_metadata"]) is dict
    ):
        return False
    if cls is AIMessage:
        calls, usage = fields["tool_calls"], fields["usage_metadata"]
        return (
            fields["invalid_tool_calls"] == []
            and type(calls) is list
            and (not calls or all(map(_is_call, calls)))
            and (usage is None or _is_usage(usage))
        )
    return cls is not ToolMessage or (
        type(fields["tool_call_id"]) is str
        and fields["artifact"] is None
        and fields["status"] in {"success", "error"}
    )


def _is_call(call: Any) -> bool:
    return (
        type(call) is dict
        and call.keys() == _CALL
        and call["type"] == "tool_call"
        and type(call["name"]) is str
        and type(call["id"]) in _TEXT_OR_NONE
        and type(call["args"]) is dict
        and all(type(key) is str for key in call["args"])
    )


def _is_usage(usage: Any) -> bool:
    if type(usage) is not dict or not usage.keys() >= _COUNTS:
        return False
    return all(
        type(count) is int if key in _COUNTS else _is_detail(count, _DETAILS.get(key))
        for key, count in usage.items()
    )


def _is_detail(detail: Any, known: frozenset[str] | None) -> bool:
    return (
        known is not None
        and type(detail) is dict
        and detail.keys() <= known
        and all(type(count) is int for count in detail.values())
    )


def _refuse(_code: int, _content: bytes) -> None:
    raise TypeError
