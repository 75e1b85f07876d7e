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
from pydantic import BaseModel

from orchestrator.checkpoints.elements import MSGPACK, damaged

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
BARE = b"\4"
"""Marks the bytes of a message that are its form's number and the values of its fields, without names."""
_COMMON = ("content", "additional_kwargs", "response_metadata", "type", "name", "id")
_FORMS: tuple[tuple[type[BaseMessage], tuple[str, ...]], ...] = (
    (HumanMessage, _COMMON),
    (SystemMessage, _COMMON),
    (ToolMessage, (*_COMMON, "tool_call_id", "artifact", "status")),
    (AIMessage, (*_COMMON, "tool_calls", "invalid_tool_calls", "usage_metadata")),
)
"""Part of the file format: these never change, a class with other fields gets another form."""
_FORM_OF = {cls: number for number, (cls, _) in enumerate(_FORMS)}
_CURRENT = frozenset(cls for cls, names in _FORMS if names == tuple(cls.model_fields))
"""Classes that still have the fields of their form; for others the class has to judge what was stored."""
_READ = {at: (cls, names, set(names)) for at, (cls, names) in enumerate(_FORMS) if cls in _CURRENT}
"""The forms that need no judge, by their numbers, with the names that all their messages were given."""
EMPTY: dict[type, Any] = {dict: {}, list: []}
"""Stand for all empty fields that are only compared with: most fields are empty."""
_LENGTHS = {0xC7: 3, 0xC8: 4, 0xC9: 6}
"""Bytes before the body of an extension, by the first of them: its size in 1, 2 or 4 bytes, and its code."""
_new = object.__new__
_set_fields, _set_names, _set_extra, _set_private = (
    BaseModel.__dict__[f"__{name}__"].__set__
    for name in ("dict", "pydantic_fields_set", "pydantic_extra", "pydantic_private")
)


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


def _kept(value: Any) -> Any:
    """A copy to compare with, which is never handed out."""
    return EMPTY[type(value)] if not value and type(value) in EMPTY else plain_copy(value)


def master_of(message: BaseMessage) -> Master | None:
    """The master of a message as it is now; None when it holds more than plain data."""
    if message.__pydantic_extra__ or message.__pydantic_private__:
        return None
    try:
        fields = {key: _kept(value) for key, value in message.__dict__.items()}
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
    return made_of(master.cls, fields, set(fields))


def made_of(cls: type[BaseMessage], fields: dict[str, Any], names: set[str]) -> BaseMessage:
    """A message that takes these fields, and the names of them all, for its own."""
    message = _new(cls)
    _set_fields(message, fields)
    _set_names(message, names)
    _set_extra(message, {})
    _set_private(message, None)
    return message


def is_unchanged(message: BaseMessage, fields: dict[str, Any]) -> bool:
    """Whether a message still is what was stored with these fields."""
    return message.__dict__ == fields and not message.__pydantic_extra__


def bare(content: bytes) -> bytes | None:
    """A message's bytes as a serializer made them, without names; None when its class has to judge it."""
    found = _parsed(content) if content[:1] == MSGPACK else None
    if found is None:
        return None
    cls, fields = found
    form = _FORM_OF[cls]
    if tuple(fields) != _FORMS[form][1]:
        return None
    packed: bytes = ormsgpack.packb(list(fields.values()), option=ormsgpack.OPT_NON_STR_KEYS)
    return BARE + bytes((form,)) + packed


def judged(content: bytes) -> BaseMessage:
    """The message of `bare` bytes, made by its class; raises StorageError when there is none."""
    cls, fields = _clothed(content)
    try:
        return cls(**fields)
    except ValueError as error:
        raise damaged(f"a message cannot be made ({error})") from None


def master_from(content: bytes) -> Master | None:
    """The master of a message from its stored bytes, or None when its class has to judge it."""
    found = _found(content)
    return None if found is None else _master(*found)


def message_from(content: bytes) -> BaseMessage | None:
    """A message from its stored bytes, which nobody else holds; None when its class has to judge it."""
    if content[:1] == BARE:
        # As below, without its calls: this runs for every message of a first read.
        try:
            cls, names, given = _READ[content[1]]
            values = ormsgpack.unpackb(content[2:])
            if type(values) is list:
                return made_of(cls, dict(zip(names, values, strict=True)), given.copy())
        except (LookupError, TypeError, ValueError):
            pass
    found = _found(content)
    return None if found is None else made_of(*found, set(found[1]))


def _found(content: bytes) -> tuple[type[BaseMessage], dict[str, Any]] | None:
    kind = content[:1]
    if kind == BARE:
        found = _clothed(content)
        return found if found[0] in _CURRENT else None
    return _parsed(content) if kind == MSGPACK else None


def _clothed(content: bytes) -> tuple[type[BaseMessage], dict[str, Any]]:
    """The class and fields of `bare` bytes; those of what had been judged when it was stored."""
    try:
        cls, names = _FORMS[content[1]]
        values = _unpacked(content[2:])
        if type(values) is not list:
            raise TypeError(type(values))
        return cls, dict(zip(names, values, strict=True))
    except (LookupError, TypeError, ValueError) as error:
        raise damaged(f"a message makes no sense ({error})") from None


def _unpacked(body: bytes) -> Any:
    """Plain values; raises ValueError or TypeError for anything else."""
    try:
        # Without this option it is quicker, and equal keys become one object.
        return ormsgpack.unpackb(body, ext_hook=_refuse)
    except ValueError:
        return ormsgpack.unpackb(body, ext_hook=_refuse, option=ormsgpack.OPT_NON_STR_KEYS)


def _parsed(content: bytes) -> tuple[type[BaseMessage], dict[str, Any]] | None:
    """The class and fields of a message from MessagePack.

    The serializer would call the class's constructor, which takes ten times as long. For fields that are
    already what it would make of them, it does nothing but check types.
    """
    start = 1 + _LENGTHS.get(content[1], len(content)) if len(content) > 1 else 1
    if start > len(content) or content[start - 1] != EXT_PYDANTIC_V2:
        return None
    try:
        module, name, fields, _ = _unpacked(content[start:])
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
