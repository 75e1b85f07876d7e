"""Random programs for a checkpointer, run on several savers with everything they keep made comparable.

Ids and times differ from one run to the next, so each UUID, hash and version is replaced by a number in the
order in which it turns up; two savers that kept the same things then give the same lines.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from acting import Action, Flaky, World, acting_graph
from hypothesis import strategies as st
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.errors import EmptyInputError, GraphRecursionError, InvalidUpdateError
from langgraph.types import Command, StateSnapshot

from orchestrator.checkpoints import Checkpointer

T = TypeVar("T")
IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")
EXPECTED = (Flaky, EmptyInputError, GraphRecursionError, InvalidUpdateError, ValueError, RuntimeError)
"""What a run may raise for a reason that lies in the program; all savers have to raise it alike."""


@dataclass(frozen=True)
class Op:
    """One thing that a user does: `do` says what; not every kind uses every field."""

    do: str
    thread: str = "a"
    durability: str = "sync"
    is_async: bool = False
    actions: tuple[Action, ...] = ()
    at: int = 0
    values: dict[str, Any] = field(default_factory=dict)


TEXTS = st.text("ab dé\n", max_size=9) | st.sampled_from(["same", "", "x" * 50])
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-5, 2**40)
    | st.sampled_from((0.5, -0.0, 1e300, float("inf")))
    | TEXTS
    | st.binary(max_size=4)
)
VALUES = PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(TEXTS, st.lists(PLAIN, max_size=2), max_size=2)
BOARDS = st.dictionaries(st.sampled_from("pqrs"), VALUES, max_size=3)


def action(do: str, **keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Action]:
    return st.fixed_dictionaries({"do": st.just(do), **keys})


SAFE = st.one_of(
    action("append", texts=st.lists(TEXTS, min_size=1, max_size=3)),
    action("edit", at=st.integers(0, 9), text=TEXTS),
    action("remove", at=st.integers(0, 9)),
    action("clear"),
    action("board", items=BOARDS),
    action("ask", question=VALUES),
)
"""What any task can do, several at once as well."""
SIMPLE = SAFE | action("fail")
LISTS = st.lists(SIMPLE, min_size=1, max_size=3)
SAFE_LISTS = st.lists(SAFE, min_size=1, max_size=3)
ACTIONS = st.one_of(
    SIMPLE,
    SIMPLE,
    action("word", word=VALUES),
    action("note", note=VALUES),
    action("fan", each=st.builds(lambda some, last: [*some, last], SAFE_LISTS, SIMPLE)),
    action("child", inner=LISTS),
    action("keeper", inner=LISTS),
    action("children", each=st.lists(SAFE_LISTS, min_size=1, max_size=2)),
)
# A failure ends the tasks beside it that are not done, sooner or later; so it has to come last.
DOINGS = (
    *("say", "say", "resume", "resume", "resume", "go on", "go on", "update", "update child", "update child"),
    *("travel", "travel", "fork", "fork", "copy", "spoil", "reopen", "delete"),
)
UPDATES = st.fixed_dictionaries(
    {}, optional={"board": BOARDS, "word": VALUES, "notes": st.lists(VALUES, max_size=2)}
)


def programs() -> st.SearchStrategy[list[Op]]:
    """A request and what may come after it."""
    rest = st.lists(ops(st.sampled_from(DOINGS)), min_size=2, max_size=6)
    return st.builds(lambda first, more: [first, *more], ops(st.just("say")), rest)


def ops(doings: st.SearchStrategy[str]) -> st.SearchStrategy[Op]:
    return st.builds(
        Op,
        do=doings,
        thread=st.sampled_from("aaaaab"),
        durability=st.sampled_from(("sync", "async", "exit")),
        is_async=st.booleans(),
        actions=st.lists(ACTIONS, min_size=1, max_size=5).map(tuple),
        at=st.integers(0, 40),
        values=UPDATES,
    )


def numbered(actions: Any, prefix: str) -> list[Action]:
    """The actions with an id each that no other action of the program has."""
    made = []
    for number, one in enumerate(actions):
        name = f"{prefix}.{number}"
        deeper = {
            key: numbered(one[key], name)
            if isinstance(one[key][0], dict)
            else [numbered(each, f"{name}.{n}") for n, each in enumerate(one[key])]
            for key in ("each", "inner")
            if key in one
        }
        made.append({**one, **deeper, "id": name})
    return made


class Rival:
    """A saver under test, and how it is opened for a sync and for an async call."""

    def __init__(self, path: Path) -> None:
        self.path = str(path / f"{type(self).__name__}.db")
        self.world = World()

    def opened(self) -> AbstractContextManager[Any]:
        """The saver for sync calls."""
        raise NotImplementedError

    def aopened(self) -> AbstractAsyncContextManager[Any]:
        """The saver for async calls."""
        raise NotImplementedError

    def reopen(self) -> None:
        """Forget what is cached, as a new process would."""


class Ours(Rival):
    """Stays open through sync and async calls and several event loops, until told otherwise."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.context = Checkpointer.from_conn_string(self.path)
        self.saver = self.context.__enter__()

    def opened(self) -> AbstractContextManager[Any]:
        return nullcontext(self.saver)

    def aopened(self) -> AbstractAsyncContextManager[Any]:
        return nullcontext(self.saver)

    def reopen(self) -> None:
        self.close()
        self.context = Checkpointer.from_conn_string(self.path)
        self.saver = self.context.__enter__()

    def close(self) -> None:
        self.context.__exit__(None, None, None)


class Sqlite(Rival):
    """The published saver, a connection for each call, because sync and async are two classes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with self.opened() as saver:
            saver.setup()  # its adelete_thread does not

    def opened(self) -> AbstractContextManager[Any]:
        return SqliteSaver.from_conn_string(self.path)

    def aopened(self) -> AbstractAsyncContextManager[Any]:
        return AsyncSqliteSaver.from_conn_string(self.path)


class Memory(Rival):
    """The published saver without a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.saver = InMemorySaver()

    def opened(self) -> AbstractContextManager[Any]:
        return nullcontext(self.saver)

    def aopened(self) -> AbstractAsyncContextManager[Any]:
        return nullcontext(self.saver)


def config(thread: str, **more: Any) -> dict[str, Any]:
    # One at a time: else parallel children take their ids in a random order.
    limits = {"recursion_limit": 30, "max_concurrency": 1}
    return {"configurable": {"thread_id": thread, **more}, "metadata": {"user": f"of {thread}"}, **limits}


def run(rival: Rival, op: Op, number: int) -> Any:
    """What the operation gave back or raised, in comparable lines."""
    if op.do == "reopen":
        return rival.reopen()
    if op.is_async:
        return asyncio.run(run_async(rival, op, number))
    with rival.opened() as saver:
        return unlooped(outcome(Door(saver, rival.world, is_async=False), op, number))


async def run_async(rival: Rival, op: Op, number: int) -> Any:
    async with rival.aopened() as saver:
        return await outcome(Door(saver, rival.world, is_async=True), op, number)


def unlooped(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits, without any event loop around it."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    raise RuntimeError("a sync call waited")


class Door:
    """One way to call graph and saver, sync or async, so that what is done is written once."""

    def __init__(self, saver: Any, world: World, *, is_async: bool) -> None:
        self.saver, self.is_async = saver, is_async
        self.graph = acting_graph(saver, world)

    async def call(self, target: Any, name: str, *arguments: Any, **keys: Any) -> Any:
        if not self.is_async:
            found = getattr(target, name)(*arguments, **keys)
            return list(found) if name in {"list", "get_state_history"} else found
        found = getattr(target, f"a{name}")(*arguments, **keys)
        return [item async for item in found] if hasattr(found, "__aiter__") else await found

    async def ask(self, name: str, *arguments: Any, **keys: Any) -> Any:
        return await self.call(self.graph, name, *arguments, **keys)


async def outcome(door: Door, op: Op, number: int) -> Any:
    """Do it; an error that the program deserves is an outcome like any other."""
    try:
        return renumbered([shown(await DO[op.do](door, op, number))])
    except EXPECTED as error:
        return f"{type(error).__name__}: {error}"


async def say(door: Door, op: Op, number: int) -> Any:
    actions = {"todo": numbered(op.actions, f"m{number}")}
    return await door.ask("invoke", actions, config(op.thread), durability=op.durability)


async def resume(door: Door, op: Op, number: int) -> Any:
    state = await door.ask("get_state", config(op.thread))
    asked = state.interrupts if op.at % 2 else state.interrupts[:1]
    answers = {question.id: f"answer {number}" for question in asked}
    if not answers:
        return await say(door, op, number)
    return await door.ask("invoke", Command(resume=answers), config(op.thread), durability=op.durability)


async def go_on(door: Door, op: Op, _: int) -> Any:
    return await door.ask("invoke", None, config(op.thread), durability=op.durability)


async def update(door: Door, op: Op, _: int) -> Any:
    await door.ask("update_state", config(op.thread), op.values, as_node="act")


async def past(door: Door, op: Op) -> dict[str, Any] | None:
    """The configuration of some earlier checkpoint."""
    history = await door.ask("get_state_history", config(op.thread))
    if not history:
        return None
    return {**config(op.thread), **history[op.at % len(history)].config}


async def travel(door: Door, op: Op, _: int) -> Any:
    point = await past(door, op)
    return point and await door.ask("invoke", None, point, durability=op.durability)


async def fork(door: Door, op: Op, number: int) -> Any:
    point = await past(door, op)
    if not point:
        return await say(door, op, number)
    await door.ask("update_state", point, op.values, as_node="act")
    return await say(door, op, number) if op.at % 2 else await go_on(door, op, number)


async def copy(door: Door, op: Op, _: int) -> Any:
    point = await past(door, op)
    return point and bool(await door.ask("update_state", point, None, as_node="__copy__"))


async def update_child(door: Door, op: Op, number: int) -> Any:
    state = await door.ask("get_state", config(op.thread), subgraphs=True)
    for task in state.tasks:
        if isinstance(task.state, StateSnapshot):
            inside = {**config(op.thread), **task.state.config}
            await door.ask("update_state", inside, {"board": {"child": number}})
            return await go_on(door, op, number)
    return await resume(door, op, number)


async def spoil(door: Door, op: Op, _: int) -> Any:
    """Change in place what the saver handed out; nothing of it may come back."""
    for state in await door.ask("get_state_history", config(op.thread)):
        for message in state.values.get("messages", []):
            message.content = "spoilt"
        for value in state.values.values():
            if isinstance(value, dict | list):
                value.clear()


async def delete(door: Door, op: Op, _: int) -> Any:
    await door.call(door.saver, "delete_thread", op.thread)


DO: dict[str, Callable[[Door, Op, int], Awaitable[Any]]] = {
    "say": say,
    "resume": resume,
    "go on": go_on,
    "update": update,
    "travel": travel,
    "fork": fork,
    "copy": copy,
    "update child": update_child,
    "spoil": spoil,
    "delete": delete,
}


async def kept(door: Door) -> list[str]:
    """All that a saver keeps of both threads, newest first: tuples, pending writes, histories, states."""
    lines: list[str] = []
    for thread in "ab":
        tuples = await door.call(door.saver, "list", {"configurable": {"thread_id": thread}})
        tuples.sort(key=lambda found: found.config["configurable"]["checkpoint_id"], reverse=True)
        for found in tuples:
            same = await door.call(door.saver, "get_tuple", found.config)
            lines += [f"tuple {shown(found)}", f"again {shown(same)}"]
        for state in await door.ask("get_state_history", config(thread)):
            lines.append(f"state {shown(state)}")
        lines.append(f"head {shown(await door.ask('get_state', config(thread), subgraphs=True))}")
        for step in (0, 1, 2):
            some = await door.call(door.saver, "list", config(thread), filter={"step": step})
            lines.append(
                f"step {step} {sorted(each.config['configurable']['checkpoint_id'] for each in some)}"
            )
    return renumbered(lines)


def everything(rival: Rival, *, is_async: bool) -> list[str]:
    """What the saver keeps, read through its sync or its async side."""

    async def read() -> list[str]:
        async with rival.aopened() as saver:
            return await kept(Door(saver, rival.world, is_async=True))

    if is_async:
        return asyncio.run(read())
    with rival.opened() as saver:
        return unlooped(kept(Door(saver, rival.world, is_async=False)))


def renumbered(lines: list[str]) -> list[str]:
    """The lines with every id replaced by the number of its first appearance."""
    seen: dict[str, str] = {}
    return [IDS.sub(lambda match: seen.setdefault(match[0], f"#{len(seen)}"), line) for line in lines]


def shown(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False, default=repr)


def plain(value: Any) -> Any:
    """The value without times and versions, as lists and dicts."""
    if isinstance(value, BaseMessage):
        return [value.type, value.id, value.content]
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, dict):
        return {str(key): versionless(key, each) for key, each in value.items() if key not in NOT_KEPT}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, str | int | float | bool | None):
        return value
    return plain(vars(value)) if hasattr(value, "__dict__") else repr(value)


NOT_KEPT = {"ts", "created_at", "__pregel_checkpointer"}
"""Times, and the saver itself."""
UNORDERED = {
    *("checkpoint", "channel_values", "channel_versions", "versions_seen"),
    *("metadata", "parents", "config", "parent_config", "configurable", "checkpoint_map"),
}


def versionless(key: Any, value: Any) -> Any:
    """Versions as counts: savers may number them as they like, as long as they count up.

    The order of keys is part of a user's values, and of nothing else.
    """
    if key == "channel_versions":
        value = {name: count(version) for name, version in value.items()}
    if key == "versions_seen":
        value = {node: in_order({n: count(each) for n, each in seen.items()}) for node, seen in value.items()}
    return in_order(plain(value)) if key in UNORDERED and isinstance(value, dict) else plain(value)


def in_order(found: dict[str, Any]) -> dict[str, Any]:
    """Sorted by name, whatever ids are in it."""
    return dict(sorted(found.items(), key=lambda item: IDS.sub("#", item[0])))


def count(version: Any) -> int:
    return int(str(version).split(".", maxsplit=1)[0])
