"""Full and failing disks, forged rows, torn logs: a clear error, nothing run, nothing torn, nothing lost."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from neighbours import said, say

from orchestrator.checkpoints import Checkpointer, strict_serializer
from orchestrator.errors import StorageError
from orchestrator.sandbox.detect import programs

CONFIG: Any = {"configurable": {"thread_id": "talk"}}
CRAMPED = [sys.executable, str(Path(__file__).with_name("cramped.py"))]


def test_a_full_disk_is_a_clear_error_and_costs_nothing_said(tmp_path: Path) -> None:
    bwrap = programs()[0]
    small = ["--dev-bind", "/", "/", "--size", "3000000", "--tmpfs", str(tmp_path), "--"]
    assert_recovered([bwrap, *small, *CRAMPED, str(tmp_path), "full"], "full")


def test_a_failing_write_is_a_clear_error_and_costs_nothing_said(tmp_path: Path) -> None:
    assert_recovered([*CRAMPED, str(tmp_path), "limit"], "disk I/O")


def assert_recovered(command: list[str], reason: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    for failure in report.pop("failures"):
        assert reason in failure
        assert "free some disk space" in failure
    nothing: list[str] = []
    assert report == {
        "lost when full": nothing,
        "lost": nothing,
        "spoke again": True,
        "same after opening": True,
        "problems": nothing,
    }


def ext(code: int, *parts: Any) -> bytes:
    """A msgpack value whose revival calls what it names."""
    return ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(parts)))


FORGERIES: dict[str, Callable[[str], tuple[str, bytes]]] = {
    "single argument": lambda command: ("msgpack", ext(0, "os", "system", command)),
    "positional": lambda command: ("msgpack", ext(1, "os", "system", [command])),
    "keywords": lambda command: ("msgpack", ext(2, "os", "system", {"command": command})),
    "method": lambda command: ("msgpack", ext(3, "os", "system", command, "__call__")),
    "pydantic 1": lambda command: (
        "msgpack",
        ext(4, "subprocess", "Popen", {"args": command, "shell": True}),
    ),
    "pydantic 2": lambda command: (
        "msgpack",
        ext(5, "subprocess", "Popen", {"args": command, "shell": True}),
    ),
    "json": lambda command: (
        "json",
        json.dumps({"lc": 2, "type": "constructor", "id": ["os", "system"], "args": [command]}).encode(),
    ),
    "pickle": lambda command: ("pickle", b"cos\nsystem\n(V" + command.encode() + b"\ntR."),
}


@dataclass
class Mine:
    """A type of a graph's own."""

    n: int


class Forger:
    """Writes a forgery instead of one text, so that it lies in the file with all hashes right."""

    def __init__(self, forged: tuple[str, bytes]) -> None:
        self.forged, self.honest = forged, strict_serializer()

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        is_target = obj == "forge" or (isinstance(obj, dict) and obj.get("forge"))
        return self.forged if is_target else self.honest.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return self.honest.loads_typed(data)


@pytest.mark.parametrize("place", ["value", "item", "long", "inside", "write", "metadata", "checkpoint"])
@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forged_row_runs_nothing_and_is_a_clear_error(tmp_path: Path, kind: str, place: str) -> None:
    ran, path = tmp_path / "ran", tmp_path / "forged.db"
    kept, forged = FORGERIES[kind](f"touch {ran}")
    if place == "inside" and kept == "msgpack":
        forged = ext(0, "collections", "deque", [ormsgpack.unpackb(forged, ext_hook=ormsgpack.Ext)])
    with Checkpointer.from_conn_string(path) as honest:
        say(honest, "talk", "hello")
        base = honest.get_tuple(CONFIG)
    assert base is not None
    with Checkpointer(path, serde=Forger((kept, forged))) as saver:
        values = {
            "value": {"plain": "forge"},
            "inside": {"plain": "forge"},
            "item": {"plain": ["forge", "x" * 500]},
            "long": {"plain": [*map(str, range(20)), "forge", "x" * 500]},
        }.get(place, {})
        marked = {"forge": True} if place == "checkpoint" else {}
        checkpoint: Any = {**base.checkpoint, "id": "1f1f", "channel_values": values, **marked}
        metadata: Any = {**base.metadata, **({"forge": True} if place == "metadata" else {})}
        at = saver.put(base.config, checkpoint, metadata, {})
        if place == "write":
            saver.put_writes(at, [("plain", "forge")], "task")
    with Checkpointer.from_conn_string(path) as saver:
        assert len(saver.verify()) == 1
        for read in (saver.get_tuple, lambda config: list(saver.list(config))):
            with pytest.raises(StorageError, match="damaged"):
                read(CONFIG)
    assert not ran.exists()


@pytest.mark.parametrize(
    "content",
    [
        ("msgpack", ext(0, "uuid", "UUID", "no number")),
        ("msgpack", ext(99, "uuid")),
        ("msgpack", b"\xc1"),
        ("json", b"{"),
        ("json", b"[" * 100_000),
        ("json", b'{"lc": 2, "type": "constructor", "id": 7}'),
    ],
)
def test_bytes_that_are_no_value_are_a_clear_error(content: tuple[str, bytes]) -> None:
    with pytest.raises(StorageError, match="damaged"):
        strict_serializer().loads_typed(content)


def test_what_a_graph_allows_is_revived() -> None:
    kept = strict_serializer().dumps_typed({"at": Path("x"), "mine": Mine(1)})
    with pytest.raises(StorageError, match=r"Mine.*If it is a type of your graph, allow it.*damaged"):
        strict_serializer().loads_typed(kept)
    allowing = strict_serializer().with_msgpack_allowlist([Mine])
    assert allowing.loads_typed(kept) == {"at": Path("x"), "mine": Mine(1)}


def test_the_forgeries_do_run_where_everything_is_allowed(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    trusting = JsonPlusSerializer(allowed_msgpack_modules=True)
    trusting.loads_typed(FORGERIES["single argument"](f"touch {ran}"))
    assert ran.exists()


@pytest.fixture
def logged(tmp_path: Path) -> tuple[Path, list[int]]:
    """A file with its log as a crash would leave them, and the size of the log after each turn."""
    path = tmp_path / "talk.db"
    sizes = []
    with Checkpointer.from_conn_string(path) as saver:
        say(saver, "talk", "0")
        sqlite3.connect(path).execute("pragma wal_checkpoint(truncate)").connection.close()
        for turn in range(1, 8):
            say(saver, "talk", str(turn))
            sizes.append((tmp_path / "talk.db-wal").stat().st_size)
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        for name in ("talk.db", "talk.db-wal"):
            shutil.copyfile(tmp_path / name, crashed / name)
    return crashed, sizes


def test_a_torn_log_gives_the_last_state_that_was_committed(
    tmp_path: Path, logged: tuple[Path, list[int]]
) -> None:
    crashed, sizes = logged
    content = (crashed / "talk.db-wal").read_bytes()
    offsets = random.Random(3)
    for number in range(40):
        at = offsets.randrange(len(content))
        tail = b"" if number % 2 else offsets.randbytes(min(600, len(content) - at))
        torn = content[:at] + tail + (content[at + len(tail) :] if number % 4 == 0 else b"")
        folder = tmp_path / f"torn-{number}"
        shutil.copytree(crashed, folder)
        (folder / "talk.db-wal").write_bytes(torn)
        whole = 1 + sum(size <= at for size in sizes)
        with Checkpointer.from_conn_string(folder / "talk.db") as saver:
            assert saver.verify() == []
            kept = said(saver, "talk")
            # The turn in which the log breaks may have got as far as its first checkpoint.
            assert kept in [[str(turn) for turn in range(count)] for count in (whole, whole + 1)]
            say(saver, "talk", "on")
            assert said(saver, "talk") == [*kept, "on"]
        shutil.rmtree(folder)


def test_an_interrupt_while_a_value_is_made_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = strict_serializer().dumps_typed([HumanMessage("hello", name="n")])

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(HumanMessage, "__init__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        strict_serializer().loads_typed(kept)
