"""Runs of the first format go on: `first_format.db.xz` is the state file of the first orc (8713c2d).

It holds a run of two turns, one that was stopped after it wrote `c`, and one that waits for an approval.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from desk import Desk
from scripted import Call, Say

from orchestrator.storage import state_path

FILE = Path(__file__).parent / "data" / "first_format.db.xz"
DONE, STOPPED, WAITING = "r-f7d0", "r-6f86", "r-5a5b"


@pytest.fixture
def old(desk: Desk) -> Desk:
    """A workspace as the first orc left it."""
    desk.write(".orc/state.db", "")
    state_path(desk.root).write_bytes(lzma.decompress(FILE.read_bytes()))
    for number, name in enumerate("abc", 1):
        desk.write(name, f"{number}\n")
    return desk


def test_the_next_turn_knows_what_was_said(old: Desk) -> None:
    turn = old.work("@coder and now?", [Call("list_files"), Say("as before")], run=DONE)
    assert turn.answer == "as before"
    assert "your last answer to the user was: b is written" in turn.requests[0].texts[1]
    assert old.runs()[0].turns == 3
    assert old.orc("undo", DONE).code == 0
    assert old.runs()[0].turns == 2
    assert old.orc("db", "verify").code == 0


def test_a_stopped_run_goes_on_without_doing_again_what_it_did(old: Desk) -> None:
    old.write("c", "mine by now\n")
    turn = old.work(None, [Say("c is written")], run=STOPPED, approves=True)
    assert turn.answer == "c is written"
    assert "wrote c" in json.dumps(turn.requests[0]["messages"])
    assert old.text("c") == "mine by now\n"


def test_a_waiting_run_asks(old: Desk) -> None:
    asked: list[str] = []

    def reject(payload: Any) -> dict[str, Any]:
        asked.extend(request["name"] for request in payload["action_requests"])
        return {"decisions": [{"type": "reject", "message": "no"}]}

    turn = old.work(None, [Say("not installed")], run=WAITING, approver=reject)
    assert (turn.answer, asked) == ("not installed", ["run_command"])


def test_what_the_first_orc_did_not_record_is_said(old: Desk) -> None:
    listed = old.orc("runs", "list")
    assert all(run in listed.out for run in (DONE, STOPPED, WAITING))
    assert "b is written" in old.orc("replay", DONE).out
    checked = old.orc("replay", DONE, "--check")
    assert checked.code == 2
    assert "recorded by an older orc" in checked.err
    for words in (("fork", f"{DONE}@think"), ("undo", DONE)):
        refused = old.orc(*words)
        assert (refused.code, refused.out) == (2, "")
        assert "Traceback" not in refused.err
    assert len(old.runs()) == 3
