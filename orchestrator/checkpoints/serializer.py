"""Reads values back without ever calling what a row names, unless it is known to be harmless.

The library's default imports and calls whatever a row names, so a forged row runs code; in its strict mode
it hands out the forged arguments instead, as if they were what was stored.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import ormsgpack
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_METHODS, SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.jsonplus import (
    EXT_DELTA_SNAPSHOT,
    EXT_METHOD_SINGLE_ARG,
    EXT_NUMPY_ARRAY,
    JsonPlusSerializer,
)

from orchestrator.checkpoints.elements import damaged
from orchestrator.errors import StorageError

_PLAIN = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict})
_JSON_FORMAT = 2
_UNREADABLE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a serializer raises for bytes that are no value."""


class StrictSerializer(JsonPlusSerializer):
    """Revives LangChain messages and plain values, and what a graph's own state allows; nothing else.

    Loading raises StorageError for everything else, and for bytes that are no value.
    """

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        kind, packed = data
        faults: list[BaseException] = []
        hook = partial(self._revived, faults)
        try:
            if kind != "msgpack":
                return super().loads_typed(data)
            return ormsgpack.unpackb(packed, ext_hook=hook, option=ormsgpack.OPT_NON_STR_KEYS)
        except _UNREADABLE as error:
            # What a hook raises, ormsgpack replaces by an error without a reason, Ctrl-C too.
            fault = faults[0] if faults else damaged(f"a value of type {kind!r} cannot be read ({error})")
            raise fault from None

    def _revived(self, faults: list[BaseException], code: int, packed: bytes) -> Any:
        try:
            self._check(faults, code, packed)
            found = self._unpack_ext_hook(code, packed)
        except (KeyboardInterrupt, SystemExit) as halt:
            faults.insert(0, halt)
            raise
        if type(found) in _PLAIN:
            # Where a constructor fails, the library gives back its arguments.
            faults.append(damaged("a value cannot be made again from what was stored of it"))
            raise ValueError
        return found

    def _check(self, faults: list[BaseException], code: int, packed: bytes) -> None:
        """Raise ValueError unless everything that is named, at any depth, may be called."""
        hook = partial(self._check, faults)
        found = ormsgpack.unpackb(packed, ext_hook=hook, option=ormsgpack.OPT_NON_STR_KEYS)
        if code in {EXT_DELTA_SNAPSHOT, EXT_NUMPY_ARRAY}:
            return
        if code == EXT_METHOD_SINGLE_ARG:
            known = (found[0], found[1], found[3]) in SAFE_MSGPACK_METHODS
        else:
            known = (found[0], found[1]) in SAFE_MSGPACK_TYPES or (found[0], found[1]) in self._own_types
        if not known:
            faults.append(_unknown(f"{found[0]}.{found[1]}"))
            raise ValueError

    @property
    def _own_types(self) -> set[tuple[str, ...]]:
        """What `with_msgpack_allowlist` added."""
        allowed = self._allowed_msgpack_modules
        return allowed if isinstance(allowed, set) else set()

    def _reviver(self, value: dict[str, Any]) -> Any:
        if value.get("lc") == _JSON_FORMAT and value.get("type") == "constructor":
            *module, name = map(str, value.get("id") or ["nothing"])
            if (".".join(module), name) not in SAFE_MSGPACK_TYPES:
                raise _unknown(".".join((*module, name)))
        return super()._reviver(value)


def strict_serializer() -> JsonPlusSerializer:
    """The serializer of a checkpointer that is given none."""
    return StrictSerializer(allowed_msgpack_modules=None, allowed_json_modules=None)


def _unknown(name: str) -> StorageError:
    return StorageError(
        f"a value in the checkpoints is a {name}, which is neither plain data nor a message. If it is a type "
        "of your graph, allow it: LANGGRAPH_STRICT_MSGPACK=true allows all that the graph's state declares, "
        "Checkpointer(path, serde=strict_serializer().with_msgpack_allowlist([TYPE])) names one. "
        "If it is not, the file is damaged or forged: restore a backup"
    )
