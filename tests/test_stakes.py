"""What a person is told of a call is counted on the files as they are."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Any

import pytest
from desk import Desk
from scripted import Call, Say

REQUEST = "@coder look around here"
"""It speaks of no deletion, so one that the policy lets through is asked."""


def asked(desk: Desk, call: Call, request: str = REQUEST) -> dict[str, Any]:
    """The action request for a call."""
    seen: list[Mapping[str, Any]] = []

    def person(payload: Mapping[str, Any]) -> dict[str, Any]:
        seen.append(payload)
        return {"decisions": [{"type": "reject"}]}

    desk.work(request, [call, Say("did not")], approver=person)
    return dict(seen[0]["action_requests"][0])


def changes(desk: Desk, command: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = asked(desk, Call("run_command", command=command))["stakes"]["changes"]
    return found


def test_a_target_is_counted_where_the_command_would_look_for_it(desk: Desk) -> None:
    desk.write("sub/x/one.txt", "12345")
    desk.write("x/other.txt", "1")
    (change,) = changes(desk, "cd sub && rm -rf x")
    assert (change["target"], change["exists"], change["files"], change["bytes"]) == ("x", True, 1, 5)


def test_a_pattern_is_counted_as_the_shell_would_expand_it(desk: Desk) -> None:
    for name in ("a.log", "b.log", "sub/c.log", "keep.txt"):
        desk.write(name, "12")
    (change,) = changes(desk, "rm -f *.log")
    assert (change["files"], change["bytes"]) == (2, 4)


def test_what_is_not_there_and_what_nobody_knows_is_said(desk: Desk) -> None:
    (change,) = changes(desk, "rm -f nothing.here")
    assert (change["exists"], change["files"]) == (False, 0)
    (change,) = changes(desk, 'rm -rf "$(cat names)"')
    assert (change["exists"], change["where"]) == (None, "unknown")


def test_no_link_is_followed(desk: Desk) -> None:
    desk.write("far/big.txt", "x" * 5000)
    (desk.root / "near").mkdir()
    (desk.root / "near" / "link").symlink_to(desk.root / "far")
    (change,) = changes(desk, "rm -rf near")
    assert (change["files"], change["bytes"]) == (1, 0)


def test_git_is_asked_whether_it_has_a_version(desk: Desk) -> None:
    desk.write("old.txt", "old")
    desk.write("new.txt", "new")
    for words in (["init", "-q"], ["add", "old.txt"]):
        subprocess.run(["git", *words], cwd=desk.root, check=True)
    (change,) = changes(desk, "rm old.txt")
    assert change["tracked"] is True
    (change,) = changes(desk, "rm new.txt")
    assert change["tracked"] is False


def test_asking_git_runs_none_of_the_repository_s_own_programs(desk: Desk) -> None:
    desk.write("old.txt", "old")
    mark = desk.root / "it-ran"
    for words in (["init", "-q"], ["add", "."], ["config", "core.fsmonitor", f"touch {mark}; false"]):
        subprocess.run(["git", *words], cwd=desk.root, check=True)
    changes(desk, "rm old.txt")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("command", "undo"),
    [
        ("rm data.txt", "yes"),
        ("rm -rf node_modules", "not kept, because tools can fill it again"),
        ("rm huge.bin", "files above 50 MB are not kept"),
        ("rm data.txt /srv/data.txt", "outside the workspace, which is not kept"),
    ],
)
def test_it_is_said_whether_it_can_be_undone(desk: Desk, command: str, undo: str) -> None:
    desk.write("data.txt", "x")
    desk.write("node_modules/a.js", "x")
    with (desk.root / "huge.bin").open("wb") as file:
        file.truncate(60 << 20)
    told = asked(desk, Call("run_command", command=command))["stakes"]["undo"]
    assert undo in told
