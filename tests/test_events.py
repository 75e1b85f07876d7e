"""The journal: what is written is on disk, readable, without secrets, and the same for every reader."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import StorageError
from orchestrator.events import Event, Journal, Place, kept, read_events
from orchestrator.redaction import redact, secrets_of
from orchestrator.storage import open_state


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened = open_state(tmp_path)
    yield opened
    opened.close()


def test_an_event_reads_back_as_it_was_told(tmp_path: Path, connection: sqlite3.Connection) -> None:
    told: list[Event] = []
    journal = Journal(connection, tmp_path, Place("r-1", 1), listeners=[told.append])
    journal.enter("tools", step="s1", agent="coder")
    journal.write("tool_result", call="1.s1.1.0", seconds=0.5, text="ünï ✓", tool="read_file")
    journal.enter("")
    journal.show("text", text="not stored")
    journal.close()
    assert read_events(connection, "r-1") == told[:1]
    assert (told[0].node, told[0].step, told[0].agent) == ("tools", "s1", "coder")
    assert told[1].seq == 0
    line = (tmp_path / ".orc" / "logs" / "r-1.jsonl").read_text("utf-8")
    assert json.loads(line) == told[0].model_dump(mode="json")


def test_calls_are_looked_up_within_their_run(tmp_path: Path, connection: sqlite3.Connection) -> None:
    one = Journal(connection, tmp_path, Place("r-1", 1))
    two = Journal(connection, tmp_path, Place("r-2", 1))
    one.write("tool_result", call="1.s1.1.0", text="first")
    one.write("tool_result", call="1.s1.1.0", text="second")
    found = one.of_call("1.s1.1.0", "tool_result")
    assert found is not None
    assert found.fields["text"] == "second"
    assert two.of_call("1.s1.1.0", "tool_result") is None
    assert one.of_call("1.s1.1.0", "tool_intent") is None
    one.close()
    two.close()


def test_a_half_surrogate_pair_is_stored_as_a_question_mark(
    tmp_path: Path, connection: sqlite3.Connection
) -> None:
    told: list[Event] = []
    journal = Journal(connection, tmp_path, Place("r-1", 1), listeners=[told.append])
    journal.write("answer", text="half \ud83d pair")
    journal.show("text", text="\udc00")
    journal.close()
    assert [event.fields["text"] for event in told] == ["half ? pair", "?"]


def test_secrets_are_known_by_name_and_by_shape() -> None:
    secrets = secrets_of({"MY_API_KEY": "abcdefgh-1", "HOME": "/home/someone", "A_TOKEN": "short"})
    assert secrets == ("abcdefgh-1",)
    token = "gh" + "p_" + "a1" * 15
    assert redact(f"say abcdefgh-1 and {token} now", secrets) == "say [redacted] and [redacted] now"


def test_a_refusing_disk_is_a_clear_error(tmp_path: Path, connection: sqlite3.Connection) -> None:
    journal = Journal(connection, tmp_path, Place("r-1", 1))
    connection.execute("pragma query_only=1")
    with pytest.raises(StorageError, match="orc resume r-1"):
        journal.write("note", text="x")
    journal.close()


def test_a_secret_is_not_stored_as_json_either(
    tmp_path: Path, connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = 'begin "key"\nsecond line'
    monkeypatch.setenv("PRIVATE_KEY", secret)
    monkeypatch.setenv("PIN_TOKEN", "10000000")
    journal = Journal(connection, tmp_path, Place("r-1", 1))
    event = journal.write("tool_result", text=secret, arguments={"content": [secret]}, bytes=10000000)
    assert event.fields == {"text": "[redacted]", "arguments": {"content": ["[redacted]"]}, "bytes": 10000000}
    nested = json.dumps({"arguments": json.dumps({"content": secret})})
    assert "second line" not in kept(connection, journal.keep(nested))
    journal.close()


def test_a_turn_is_read_without_the_turns_before_it(connection: sqlite3.Connection) -> None:
    query = "select fields from events where run='r' and turn=3 and branch='r' order by seq"
    plan = connection.execute(f"explain query plan {query}").fetchall()
    assert ["events_turn" in row[3] for row in plan] == [True]
