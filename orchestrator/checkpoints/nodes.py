"""Long lists and dictionaries as rows of their own, each a difference to the version before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from orchestrator.checkpoints.elements import PACKED, RAW, damaged, pack, read_node, unpack, write_node

LONGEST_CHAIN = 48
LONGEST_LIST_CHAIN = 12
"""Rows that are read one after the other for one; a list by itself is but a few bytes longer."""
SHORT = 8
"""Lists and dictionaries up to this length are written where they occur."""

Item: TypeAlias = "int | bytes"
AS_LIST, AS_DICT, AS_SNAPSHOT, AS_CHANGED = range(4)
"""Tags of places that branch: `[AS_LIST, [item, …]]`, `[AS_DICT, {key: place}]`, `[AS_SNAPSHOT, place]`,
`[AS_CHANGED, [list, start kept, end kept, item, …]]` for a long list much like one that has a row."""
_NEAR = 12
"""Items in which a list may differ from one that has a row, without a row of its own."""

_INSIDE: dict[Any, tuple[type, ...]] = {
    AS_LIST: (list,),
    AS_DICT: (dict,),
    AS_SNAPSHOT: (int, bytes, list),
    AS_CHANGED: (list,),
}


class ListNode(NamedTuple):
    """A long list."""

    items: list[Item]
    depth: int


class DictNode(NamedTuple):
    """A long dictionary."""

    items: dict[str, Any]
    depth: int


Node: TypeAlias = "ListNode | DictNode"


def changed_list(items: list[Item], number: int, before: ListNode) -> list[Any] | None:
    """The place of a list that is much like another one, which has a row; None when it is not."""
    keep, tail = _kept(before.items, items)
    changed = items[keep : len(items) - tail]
    return [AS_CHANGED, [number, keep, tail, *changed]] if len(changed) <= _NEAR else None


def items_at(inside: Any, list_at: Callable[[int], ListNode]) -> list[Item]:
    """The items of a list that is stored as changes to another one."""
    if type(inside) is not list or len(inside) < 3 or not all(_is_count(part) for part in inside[:3]):
        raise damaged("a list of unknown shape")
    number, keep, tail, *changed = inside
    return _joined(list_at(number).items, keep, changed, tail)


def shrink_list(items: list[Item], number: int, before: ListNode | None) -> tuple[bytes, int, list[Item]]:
    """The row of a list, its depth, and the items that it names itself; `number` is the row before."""
    if before is None or before.depth >= LONGEST_LIST_CHAIN:
        return _pack([0, 0, 0, _differences(items)]), 0, items
    old = before.items
    keep, tail = _kept(old, items)
    changed = items[keep : len(items) - tail]
    if len(changed) > max(SHORT, len(items) // 4):
        return _pack([0, 0, 0, _differences(items)]), 0, items
    return _pack([number, keep, tail, _differences(changed)]), before.depth + 1, changed


def shrink_dict(items: dict[str, Any], number: int, before: DictNode | None) -> tuple[bytes, int]:
    """The row of a dictionary, and its depth. Its order counts."""
    if before is not None and before.depth < LONGEST_CHAIN:
        old = before.items
        kept = [key for key in old if key in items]
        if [*kept, *(key for key in items if key not in old)] == list(items):
            changed = {key: place for key, place in items.items() if key not in old or old[key] != place}
            gone = [key for key in old if key not in items]
            if len(changed) + len(gone) <= max(SHORT, len(items) // 4):
                return _pack([number, changed, gone]), before.depth + 1
    return _pack([0, items, []]), 0


def grow_list(data: bytes, list_at: Callable[[int], ListNode]) -> ListNode:
    """The inverse of `shrink_list`."""
    base, keep, tail, changed = _unpack(data, 4)
    items = _sums(changed)
    if not base:
        return ListNode(items, 0)
    before = list_at(base)
    return ListNode(_joined(before.items, keep, items, tail), before.depth + 1)


def grow_dict(data: bytes, dict_at: Callable[[int], DictNode]) -> DictNode:
    """The inverse of `shrink_dict`."""
    base, changed, gone = _unpack(data, 3)
    if not base:
        return DictNode(changed, 0)
    before = dict_at(base)
    items = {**before.items, **changed}
    for key in gone:
        items.pop(key, None)
    return DictNode(items, before.depth + 1)


def base_of(data: bytes) -> int:
    """The row before this one; 0 for none."""
    return int(_row(data)[0])


def numbers_in(place: Any) -> list[int]:
    """All elements that a place names directly."""
    if type(place) is int:
        return [place]
    if type(place) is list and len(place) == 2:
        tag, inside = place
        if tag == AS_LIST:
            return [item for item in inside if type(item) is int]
        if tag == AS_DICT:
            return [number for part in inside.values() for number in numbers_in(part)]
        if tag == AS_CHANGED and type(inside) is list and len(inside) >= 3:
            base, _, _, *changed = inside
            return [base, *(item for item in changed if type(item) is int)]
        return numbers_in(inside)
    return []


def numbers_of(node: Node) -> list[int]:
    """All elements that a node names directly."""
    if isinstance(node, ListNode):
        return [item for item in node.items if type(item) is int]
    return [number for place in node.items.values() for number in numbers_in(place)]


def named_in_row(data: bytes) -> set[int]:
    """All elements that a row needs: the version before, and those that are new in this one."""
    base, *rest = _row(data)
    if len(rest) == 3:
        found = {item for item in _sums(rest[2]) if type(item) is int}
    else:
        found = {number for place in rest[0].values() for number in numbers_in(place)}
    return found | ({base} if base else set())


def values_in(place: Any) -> Iterator[bytes]:
    """All values that are written in a place itself; raises StorageError for what is no place."""
    if type(place) is bytes:
        yield place
    elif type(place) is list and len(place) == 2 and type(place[1]) in _INSIDE.get(place[0], ()):
        tag, inside = place
        parts = inside if tag in {AS_LIST, AS_CHANGED} else inside.values() if tag == AS_DICT else [inside]
        for part in parts:
            yield from values_in(part)
    elif type(place) is not int:
        raise damaged("a value of unknown shape")


def values_in_row(data: bytes) -> Iterator[bytes]:
    """All values that are written in a row itself."""
    _, *rest = _row(data)
    for place in rest[2] if len(rest) == 3 else rest[0].values():
        yield from values_in(place)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _kept(old: list[Item], items: list[Item]) -> tuple[int, int]:
    """How many items at the start and at the end are the same."""
    keep = _common(old, items)
    return keep, _common(old[keep:][::-1], items[keep:][::-1])


def _joined(old: list[Item], keep: int, changed: list[Item], tail: int) -> list[Item]:
    if keep + tail > len(old):
        raise damaged("a list that is longer than the one before")
    return old[:keep] + changed + old[len(old) - tail :]


def _common(one: Sequence[Item], two: Sequence[Item]) -> int:
    """The length of the common start."""
    shorter = min(len(one), len(two))
    if one[:shorter] == two[:shorter]:
        return shorter
    return next(index for index in range(shorter) if one[index] != two[index])


def _differences(items: Sequence[Item]) -> list[Item]:
    """Numbers that follow each other become ones, which compress."""
    out: list[Item] = []
    last = 0
    for item in items:
        if type(item) is int:
            out.append(item - last)
            last = item
        else:
            out.append(item)
    return out


def _sums(items: Sequence[Item]) -> list[Item]:
    out: list[Item] = []
    last = 0
    for item in items:
        if type(item) is int:
            last += item
            out.append(last)
        else:
            out.append(item)
    return out


def _pack(value: list[Any] | Mapping[str, Any]) -> bytes:
    kind, data = pack(write_node(value))
    return bytes((kind,)) + data


def _unpacked(data: bytes) -> bytes:
    if not data or data[0] not in {RAW, PACKED}:
        raise damaged("a list of unknown kind")
    return unpack(data[0], data[1:])


def _unpack(data: bytes, length: int) -> Any:
    found = _row(data)
    if len(found) != length:
        raise damaged("a list of unknown shape")
    return found


def _row(data: bytes) -> list[Any]:
    """The fields of a list's row, or of a dictionary's."""
    found = read_node(_unpacked(data))
    shapes = {4: (int, int, int, list), 3: (int, dict, list)}
    if type(found) is not list or tuple(map(type, found)) != shapes.get(len(found)):
        raise damaged("a list of unknown shape")
    return found
