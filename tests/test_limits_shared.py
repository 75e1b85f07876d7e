"""Limits of a user and an organisation hold over all workspaces of the machine."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from desk import Desk
from scripted import Call, Say

from orchestrator.errors import BudgetExceeded, StorageError
from orchestrator.events import Journal, Place
from orchestrator.limits import Budget, Ledger, Who
from orchestrator.limits.amounts import Amount, nano
from orchestrator.limits.entries import Wish
from orchestrator.limits.shared import open_shared, shared_path
from orchestrator.session import Session
from orchestrator.settings import Limits
from orchestrator.storage import open_state

NOW = 1_795_000_000.0
"""2026-11-18, at 11:06 UTC."""
PRICED = "models:\n  scripted: {input: 1, output: 10}\n"


@pytest.fixture
def other(desk: Desk) -> Desk:
    """A second workspace of the same user."""
    (desk.home / "config").mkdir()
    (desk.home / "config" / "prices.yaml").write_text(PRICED, "utf-8")
    root = desk.root.parent / "other"
    root.mkdir()
    return replace(desk, root=root)


def spend(desk: Desk, usd: str, **limits: Any) -> None:
    connection = open_state(desk.root)
    ledger = Ledger.of(desk.root, connection)
    try:
        budget = Budget(Limits.model_validate(limits), ledger, Who("r-1", 1, "anna", "acme"))
        wish = Wish(10, 0, nano(Decimal(usd)))
        held = budget.reserve(wish, "m")
        budget.settle(held, Amount(model_calls=1, tokens=10, nano=nano(Decimal(usd))), (10, 0))
    finally:
        ledger.close()
        connection.close()


@pytest.mark.parametrize("whose", ["user", "organisation"])
@pytest.mark.parametrize("per", ["day", "month", "total"])
def test_what_one_workspace_spends_counts_in_the_other(desk: Desk, other: Desk, whose: str, per: str) -> None:
    cap = {whose: {"usd": "0.30", "per": per}}
    spend(desk, "0.20")
    spend(other, "0.05", **cap)
    with pytest.raises(BudgetExceeded, match=r"has used \$0.25 of \$0.30"):
        spend(other, "0.10", **cap)
    spend(desk, "0.05", **cap)
    with pytest.raises(BudgetExceeded, match=r"has used \$0.30 of \$0.30"):
        spend(desk, "0.01", **cap)


def test_a_run_is_refused_for_what_another_folder_used_and_told_where_it_stands(
    desk: Desk, other: Desk
) -> None:
    limits = {"user": {"model_calls": 2, "per": "day"}}
    with desk.model([Call("list_files"), Say("nothing here"), Say("never")], model={}) as served:
        settings = json.loads((desk.home / "config" / "orchestrator.yaml").read_text("utf-8"))
        desk.user_settings({**settings, "limits": limits})
        assert desk.orc("run", "@coder look", ORC_USER="anna").code == 0
        refused = other.orc("run", "@coder look", ORC_USER="anna")
        lines = other.orc("cost", "cap", "--json", ORC_USER="anna").out.splitlines()
    assert refused.code == 5
    assert "the user anna has used 2 of 2 model calls" in refused.err
    assert len(served.requests) == 2
    shown = [json.loads(line) for line in lines]
    assert [(row["used"], row["limit"]) for row in shown if row["name"] == "user.model_calls"] == [("2", "2")]


@pytest.mark.parametrize("how", ["a folder", "another file"])
def test_a_shared_ledger_that_cannot_be_had_ends_a_run_under_a_cap_of_the_user_only(
    desk: Desk, other: Desk, how: str
) -> None:
    if how == "a folder":
        shared_path().mkdir(parents=True)
    else:
        shared_path().parent.mkdir(parents=True)
        shared_path().write_text("no database at all, " * 50, "utf-8")
    other.settings({"limits": {"user": {"usd": 1}}})
    refused = other.work("@coder list", [Say("never")], model={})
    assert isinstance(refused.error, StorageError)
    assert "limits.user.usd counts all workspaces" in str(refused.error)
    assert str(shared_path()) in str(refused.error)
    assert not refused.requests
    spend(desk, "0.20", model_calls=5)
    assert "not counted over all workspaces" in desk.orc("cost", "cap").err
    told = [line for line in desk.orc("doctor").out.splitlines() if line.startswith("warn  ledger")]
    assert len(told) == 1


def test_what_was_counted_without_the_shared_ledger_is_handed_over_once(desk: Desk) -> None:
    connection = open_state(desk.root)
    budget = Budget(Limits(), Ledger(connection), Who("r-1", 1, "anna"))
    budget.settle(budget.reserve(Wish(10, 0, 500), "m"), Amount(model_calls=1, tokens=10, nano=500), (10, 0))
    for _ in range(2):
        ledger = Ledger.of(desk.root, connection)
        assert ledger.total("user.total:anna").nano == 500
        ledger.close()
    connection.close()


def test_a_call_that_was_settled_here_alone_is_settled_there_when_the_run_goes_on(desk: Desk) -> None:
    connection = open_state(desk.root)
    ledger = Ledger.of(desk.root, connection)
    budget = Budget(Limits(), ledger, Who("r-1", 1, "anna"))
    budget.reserve(Wish(10, 0, 500), "m")
    connection.execute("update spending set state='spent', nano=200")
    assert ledger.total("user.total:anna").nano == 500
    Budget(Limits(), ledger, Who("r-2", 1, "anna"))
    assert ledger.total("user.total:anna").nano == 200
    ledger.close()
    connection.close()


def spend_at(desk: Desk, now: float, who: str = "anna", **limits: Any) -> None:
    """A cent on the day of a time."""
    connection = open_state(desk.root)
    shared = open_shared(desk.root)
    try:
        ledger = Ledger(connection, lambda: now, shared=shared)
        budget = Budget(Limits.model_validate(limits), ledger, Who("r-1", 1, who))
        cent = nano(Decimal("0.01"))
        held = budget.reserve(Wish(10, 0, cent), "m")
        budget.settle(held, Amount(model_calls=1, tokens=10, nano=cent), (10, 0))
    finally:
        shared.close()
        connection.close()


def days_kept() -> list[str]:
    with closing(sqlite3.connect(shared_path())) as file:
        rows = file.execute(
            "select scope from totals where scope like 'user.day:anna:%' order by 1"
        ).fetchall()
    return [scope[-10:] for (scope,) in rows]


def test_old_days_and_months_are_let_go_and_the_sum_of_all_stays(desk: Desk) -> None:
    for day in range(0, 800, 8):
        spend_at(desk, NOW + day * 86_400)
    days = days_kept()
    assert (len(days), days[-1]) == (62, "2029-01-18")
    shared = open_shared(desk.root)
    assert len(shared.beginning("user.month:")) == 24
    assert shared.of(["user.total:anna"])["user.total:anna"].model_calls == 100
    shared.close()


def test_a_clock_that_was_wrong_for_a_while_takes_no_day_away_that_counts(desk: Desk) -> None:
    cap: dict[str, Any] = {"user": {"usd": "0.02", "per": "day"}}
    for day in range(70):
        spend_at(desk, NOW + day * 86_400)
    today = NOW + 70 * 86_400
    spend_at(desk, today, **cap)
    for year in (1, 2, 3):
        spend_at(desk, today + year * 31_536_000, **cap)
    spend_at(desk, today, **cap)
    with pytest.raises(BudgetExceeded, match=r"has used \$0.02 of \$0.02"):
        spend_at(desk, today, **cap)
    with pytest.raises(BudgetExceeded):
        spend_at(desk, today - 86_400, user={"usd": "0.01", "per": "day"})


def test_what_waits_for_a_workspace_that_is_gone_is_let_go_with_its_days(desk: Desk, other: Desk) -> None:
    for each in (desk, other):
        connection = open_state(each.root)
        shared = open_shared(each.root)
        ledger = Ledger(connection, lambda: NOW, shared=shared)
        Budget(Limits(), ledger, Who("r-1", 1, "anna")).reserve(Wish(10, 0, 500), "m")
        shared.close()
        connection.close()
    shutil.rmtree(other.root / ".orc")
    for day in range(1, 70):
        spend_at(desk, NOW + day * 86_400)
    with closing(sqlite3.connect(shared_path())) as file:
        left = [workspace for (workspace,) in file.execute("select workspace from held")]
    assert left == []  # that of the first workspace was settled as lost when its run went on


def test_cost_is_added_up_over_all_workspaces(desk: Desk, other: Desk) -> None:
    spend(desk, "0.20")
    spend(other, "0.05")
    spend_at(other, NOW, "bert")

    def rows(*options: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in desk.orc("cost", "--all", "--json", *options).out.splitlines()]

    assert [(row["user"], row["calls"], row["usd"]) for row in rows()] == [
        ("anna", 2, "0.25"),
        ("bert", 1, "0.01"),
    ]
    assert [row["organisation"] for row in rows("--by", "organisation")] == ["acme", "-"]
    days = rows("--by", "day")
    assert [row["day"] for row in days] == sorted((row["day"] for row in days), reverse=True)
    assert {row["day"]: row["usd"] for row in days}["2026-11-18"] == "0.01"
    assert sorted(row["usd"] for row in days) == ["0.01", "0.25"]
    assert [row["name"] for row in rows("--since", "2000-01-01")] == ["anna", "bert"]
    assert rows("--by", "month", "--since", "2200-01-01") == []
    assert rows("--since", "999999w") == rows()
    assert rows("--since", "9999-12-31T23:59:59-14:00") == []
    assert desk.orc("cost", "--all", "--since", "").code == 2
    table = desk.orc("cost", "--all")
    assert "$0.26 in all workspaces" in table.err
    refused = desk.orc("cost", "--all", "--by", "model")
    assert (refused.code, "there are: user, organisation, day, month" in refused.err) == (2, True)
    assert desk.orc("cost", "--by", "month").code == 2


@pytest.mark.parametrize(
    ("limits", "names"),
    [
        ({"usd": 1}, ["state.db-wal"]),
        ({"user": {"usd": 1}}, ["spending.db-wal"]),
        ({"tokens": 1000}, []),
    ],
)
def test_what_is_set_aside_under_a_cap_of_dollars_is_put_on_the_disk(
    desk: Desk, limits: dict[str, Any], names: list[str]
) -> None:
    synced: list[int] = []
    desk.patch.setattr(os, "fdatasync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    connection = open_state(desk.root)
    journal = Journal(connection, desk.root, Place("r-1", 1))
    shared = open_shared(desk.root)
    budget = Budget(Limits.model_validate(limits), Ledger(connection, shared=shared), Who("r-1", 1, "anna"))
    journal.write("note", text="this one need not be")
    held = budget.reserve(Wish(10, 0, 500), "m")
    folders = {"state.db-wal": desk.root / ".orc", "spending.db-wal": shared_path().parent}
    assert synced == [(folders[name] / name).stat().st_ino for name in names]
    budget.settle(held, Amount(model_calls=1, tokens=10, nano=500), (10, 0))
    shared.close()
    journal.close()
    connection.close()


CAPPED = {"limits": {"usd": 1, "user": {"usd": 1}}}


def test_an_answer_is_used_when_the_disk_has_what_was_set_aside(desk: Desk, other: Desk) -> None:
    """The request does not wait for the disk, what follows from the answer does."""
    ended: list[float] = []
    sync = os.fdatasync

    def slow(descriptor: int) -> None:
        time.sleep(0.1)
        sync(descriptor)
        ended.append(time.monotonic())

    desk.patch.setattr(os, "fdatasync", slow)
    desk.settings(CAPPED)
    turn = desk.work("@coder list", [Call("list_files"), Say("nothing")], model={})
    assert turn.answer == "nothing"
    first, second = turn.requests
    assert len(ended) == 4  # two calls, two files
    assert first.at < ended[0] < ended[1] < second.at < ended[2]


def test_a_disk_that_refuses_what_was_set_aside_ends_the_run_at_that_call(desk: Desk, other: Desk) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    desk.patch.setattr(os, "fdatasync", full)
    desk.settings(CAPPED)
    turn = desk.work("@coder list", [Call("list_files"), Say("never")], model={})
    assert isinstance(turn.error, StorageError)
    assert "cannot write the budget" in str(turn.error)
    assert len(turn.requests) == 1
    with closing(open_state(desk.root)) as connection:
        assert not connection.execute("select 1 from events where kind='tool_call'").fetchall()
        # The provider may have charged for it.
        [(state, nano)] = connection.execute("select state, nano from spending").fetchall()
    assert state == "spent"
    assert nano > 0


def test_a_call_that_is_cancelled_while_the_disk_is_slow_counts_in_full(desk: Desk, other: Desk) -> None:
    desk.settings(CAPPED)

    async def work() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(Session(desk.root).run("@coder look"))

        def slow(_descriptor: int) -> None:
            time.sleep(0.3)
            loop.call_soon_threadsafe(task.cancel)
            time.sleep(0.1)

        desk.patch.setattr(os, "fdatasync", slow)
        with pytest.raises(asyncio.CancelledError):
            await task

    with desk.model([Say("never")]) as served:
        asyncio.run(work())
    assert len(served.requests) == 1
    with closing(open_state(desk.root)) as connection:
        [(state, nano)] = connection.execute("select state, nano from spending").fetchall()
    assert state == "spent"
    assert nano > 0


def test_two_threads_have_the_shared_ledger_each_for_itself(desk: Desk) -> None:
    with ThreadPoolExecutor() as threads:
        first, second = open_shared(desk.root), threads.submit(open_shared, desk.root).result()
    assert first.connection is not second.connection
    with first.transaction(synced=True):
        first.book(("user.total:anna",), Amount(nano=5), ())
        first.commit()
    assert second.of(("user.total:anna",)) == {"user.total:anna": Amount(nano=5)}
    for each in (first, second):
        each.close()


def test_the_new_columns_reach_an_older_state_file(desk: Desk) -> None:
    open_state(desk.root).close()
    path: Path = desk.root / ".orc" / "state.db"
    with sqlite3.connect(path) as old:
        for name in ("calls", "tokens"):
            old.execute(f"alter table spending drop column {name}")
        old.execute("pragma user_version=5")
    old.close()
    spend(desk, "0.20", model_calls=5)
