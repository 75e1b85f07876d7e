"""What may be used: booked in the shared file before a call is made, refused before the money is spent."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from desk import Desk
from scripted import Call, Calls, Cut, Fill, Reply, Request, Say, Stall

from orchestrator.errors import BudgetExceeded, ConfigError, UsageError, WaitingForApproval
from orchestrator.limits import Budget, Ledger, Who, price
from orchestrator.limits.amounts import Amount, nano
from orchestrator.limits.caps import caps, checked, said
from orchestrator.limits.entries import Place, Wish, scopes
from orchestrator.limits.ledger import Full
from orchestrator.limits.report import moment
from orchestrator.settings import Limits, ModelSettings, StepLimits
from orchestrator.tables import BUDGETS

ME = Who("r-1", 1, "anna", "acme")
NOW = 1_764_000_000.0


@pytest.fixture
def books() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(BUDGETS)
    yield connection
    connection.close()


def budget(books: sqlite3.Connection, now: list[float] | None = None, **limits: Any) -> Budget:
    held = Limits.model_validate(limits)
    return Budget(held, Ledger(books, lambda: NOW), ME, clock=lambda: now[0] if now else 0.0)


def wish(usd: str, tokens: int = 10) -> Wish:
    return Wish(tokens, 0, nano(Decimal(usd)))


def spend(held: Budget, usd: str, tokens: int = 10) -> None:
    booked = held.reserve(wish(usd, tokens), "m")
    amount = Amount(model_calls=1, tokens=tokens, nano=nano(Decimal(usd)))
    held.settle(booked, amount, (tokens, 0))


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"model_calls": 1}, "1 of 1 model calls; raise limits.model_calls"),
        ({"usd": "0.30"}, "$0.20 of $0.30, and the next call may take up to $0.20; raise limits.usd"),
        ({"tokens": 15}, "10 of 15 tokens, and the next call may take up to 10; raise limits.tokens"),
        ({"run": {"usd": "0.30"}}, "this run has used $0.20 of $0.30"),
        ({"day": {"usd": "0.30"}}, "raise limits.day.usd"),
        ({"month": {"model_calls": 1}}, "this workspace this month has used 1 of 1 model calls"),
        ({"user": {"usd": "0.30"}}, "the user anna has used $0.20 of $0.30"),
        ({"organisation": {"usd": "0.30", "per": "total"}}, "the organisation acme has used"),
    ],
)
def test_the_call_that_would_pass_a_limit_is_refused_with_both_numbers(
    books: sqlite3.Connection, limits: dict[str, Any], told: str
) -> None:
    held = budget(books, **limits)
    spend(held, "0.20")
    with pytest.raises(BudgetExceeded) as raised:
        held.reserve(wish("0.20"), "m")
    assert told in str(raised.value)
    assert "--raise" in str(raised.value)
    assert held.spent.usd == Decimal("0.2")


def test_tool_calls_and_rounds_are_counted_before_they_run(books: sqlite3.Connection) -> None:
    held = budget(books, tool_calls=2, iterations=1)
    held.begin_round()
    held.take_tool()
    held.take_tool()
    with pytest.raises(BudgetExceeded, match="2 of 2 tool calls"):
        held.take_tool()
    with pytest.raises(BudgetExceeded, match="1 of 1 iterations"):
        held.begin_round()


def test_time_is_a_limit_that_pauses_do_not_reset(books: sqlite3.Connection) -> None:
    now = [0.0]
    held = budget(books, now, seconds=5)
    now[0] = 3.0
    held.check()
    later = budget(books, now, seconds=5)
    now[0] = 5.5
    with pytest.raises(BudgetExceeded, match="seconds"):
        later.check()


def test_a_pause_and_another_process_reset_nothing(books: sqlite3.Connection) -> None:
    spend(budget(books, usd=1), "0.70")
    with pytest.raises(BudgetExceeded):
        spend(budget(books, usd=1), "0.40")
    assert budget(books).spent.model_calls == 1


def test_what_a_killed_process_reserved_keeps_counting(books: sqlite3.Connection) -> None:
    budget(books, usd=1).reserve(wish("0.70"), "m")
    again = budget(books, usd=1)
    assert again.spent.usd == Decimal("0.7")
    assert books.execute("select state from spending").fetchall() == [("lost",)]
    with pytest.raises(BudgetExceeded):
        again.reserve(wish("0.40"), "m")


def test_a_call_that_never_reached_the_model_gives_its_money_back(books: sqlite3.Connection) -> None:
    held = budget(books, usd=1)
    held.settle(held.reserve(wish("0.70"), "m"), Amount(), (0, 0))
    assert held.spent.usd == 0
    held.reserve(wish("1.00"), "m")


def test_an_answer_is_cut_to_what_the_money_is_enough_for(books: sqlite3.Connection) -> None:
    held = budget(books, usd="0.01")
    dear = Wish(100, 4000, nano(Decimal("0.001")), nano(Decimal("0.04")))
    booked = held.reserve(dear, "m")
    assert booked.output_tokens == 900
    assert booked.amount.nano <= nano(Decimal("0.01"))
    with pytest.raises(BudgetExceeded):
        held.reserve(dear, "m")


def test_most_of_a_limit_is_told_once(books: sqlite3.Connection) -> None:
    ledger, who = Ledger(books, lambda: NOW), ME
    found = scopes(who, Place(), NOW)
    held = caps(Limits(tool_calls=10), said(Limits(tool_calls=10)), found.all)
    told = [ledger.take(found, Amount(tool_calls=1), held, 0.8) for _ in range(10)]
    assert [len(crossed) for crossed in told] == [0] * 7 + [1, 0, 0]


def test_of_two_caps_the_stricter_one_holds(books: sqlite3.Connection) -> None:
    held = budget(books, usd=5)
    held.ledger.set_cap("usd", "0.10")
    with pytest.raises(BudgetExceeded, match=r"of \$0.10"):
        held.reserve(wish("0.20"), "m")
    held.ledger.set_cap("usd", "50")
    with pytest.raises(BudgetExceeded, match=r"of \$5.00"):
        held.reserve(wish("6"), "m")
    held.ledger.set_cap("usd", "7", run="r-1", turn=1)
    held.reserve(wish("6"), "m")


@pytest.mark.parametrize(
    ("first", "second", "is_new"),
    [
        ("2026-11-30T23:59:59", "2026-12-01T00:00:01", True),
        ("2026-11-25T00:00:01", "2026-11-24T23:59:00", False),
        ("2031-01-01T00:00:00", "2026-11-24T23:59:00", True),
    ],
)
def test_a_day_and_a_month_end_and_a_clock_that_jumps_back_stays(
    books: sqlite3.Connection, first: str, second: str, *, is_new: bool
) -> None:
    now = [moment(first, 0)]
    ledger = Ledger(books, lambda: now[0])
    held = Budget(Limits.model_validate({"day": {"usd": 1}, "month": {"usd": 1}}), ledger, ME)
    held.reserve(wish("0.80"), "m")
    now[0] = moment(second, 0)
    if is_new:
        held.reserve(wish("0.80"), "m")
    else:
        with pytest.raises(BudgetExceeded):
            held.reserve(wish("0.80"), "m")


def test_a_step_has_the_limits_of_its_agent(books: sqlite3.Connection) -> None:
    ledger, place = Ledger(books, lambda: NOW), Place("think", "s1", "coder", "m")
    here = scopes(ME, place, NOW)
    found = caps(Limits(), {}, here.all, StepLimits(usd=Decimal("0.10")))
    with pytest.raises(Full) as raised:
        ledger.reserve(ME, place, wish("0.20"), here, found)
    assert raised.value.cap.label == "step"
    other = Place("think", "s2", "coder", "m")
    ledger.reserve(ME, other, wish("0.10"), scopes(ME, other, NOW), ())


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "1e40", "x", "", "1.5"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        checked("model_calls", text)


@pytest.mark.parametrize(
    "limits",
    [
        "usd: -1",
        "usd: .nan",
        "usd: .inf",
        "day: {usd: 1e30}",
        "tokens: 0",
        "warn_at: 1.5",
        "user: {per: year}",
    ],
)
def test_a_limit_without_sense_is_an_error_with_file_and_line(desk: Desk, limits: str) -> None:
    desk.write("orchestrator.yaml", f"limits:\n  {limits}\n")
    done = desk.orc("run", "@coder look")
    assert done.code == 2
    assert "orchestrator.yaml:2:" in done.err


def prices(desk: Desk, text: str = "models:\n  scripted: {input: 1, output: 10}\n") -> None:
    (desk.home / "config").mkdir(exist_ok=True)
    (desk.home / "config" / "prices.yaml").write_text(text, "utf-8")


def test_an_unknown_price_is_never_zero_dollars(desk: Desk) -> None:
    assert price(ModelSettings(model="no-such-model"), "no-such-model", 10, 10) is None
    assert price(ModelSettings(provider="embedded"), "anything", 10, 10) == 0
    here = ModelSettings(model="llama3", base_url="http://127.0.0.1:9/v1")
    assert price(here, "llama3", 10, 10) is None
    passed_on = price(here, "gpt-4o-mini", 1_000_000, 0)
    assert passed_on
    prices(desk)
    assert price(here, "Scripted", 1_000_000, 100_000) == 2


def test_a_price_file_with_an_error_is_named_with_its_line(desk: Desk) -> None:
    prices(desk, "models:\n  scripted:\n    input: cheap\n    output: 1\n")
    with pytest.raises(ConfigError, match=r"prices.yaml:3:12: models.scripted.input"):
        price(ModelSettings(model="scripted"), "scripted", 1, 1)
    with desk.model([Say("never")]):
        done = desk.orc("run", "@coder look")
    assert (done.code, done.out) == (2, "")
    assert "prices.yaml:3:12" in done.err


def test_a_price_file_that_cannot_be_read_is_no_missing_one(desk: Desk) -> None:
    prices(desk, "models: {}\n")
    path = desk.home / "config" / "prices.yaml"
    path.unlink()
    path.symlink_to(desk.home / "nowhere.yaml")
    with pytest.raises(ConfigError, match=r"prices.yaml: cannot be read"):
        price(ModelSettings(model="scripted"), "scripted", 1, 1)


def test_a_model_of_unknown_price_is_refused_under_a_cap_unless_allowed(desk: Desk) -> None:
    desk.settings({"limits": {"usd": 1}})
    turn = desk.work("@coder list", [Say("never")], model={})
    assert isinstance(turn.error, BudgetExceeded)
    assert "the price of scripted is unknown" in str(turn.error)
    assert "prices.yaml" in str(turn.error)
    assert not turn.requests
    desk.settings({"limits": {"usd": 1, "allow_unpriced": True}})
    again = desk.work(None, [Call("list_files"), Say("nothing here")], model={})
    assert again.answer == "nothing here"


def reads(request: Request) -> Reply:
    return Call("read_file", path="a.txt", offset=len(request["messages"]))


@pytest.mark.parametrize("rates", ["{input: 1, output: 10}", "{input: 2, output: 8}"])
def test_a_cent_is_never_passed_and_the_run_goes_on_with_more(desk: Desk, rates: str) -> None:
    prices(desk, f"models:\n  scripted: {rates}\n")
    desk.write("a.txt", "x\n" * 300)
    desk.settings({"limits": {"usd": 0.01}})
    turn = desk.work("@coder read a.txt", reads, model={})
    assert isinstance(turn.error, BudgetExceeded)
    used = sum(Decimal(event.fields["usd"]) for event in turn.of("model_call"))
    assert 0 < used <= Decimal("0.01")
    assert len(turn.requests) >= 2
    assert desk.runs()[0].status == "budget"
    ended = [event.fields for event in turn.of("budget") if event.fields.get("ended")]
    assert ended[0]["left"] == ["read a.txt"]
    with desk.model([Say("it holds x")], model={}):
        done = desk.orc("resume", "--raise", "usd=0.5")
    assert (done.code, done.out) == (0, "it holds x\n")


def test_the_command_hands_over_and_says_how_to_go_on(desk: Desk) -> None:
    prices(desk)
    desk.settings({"limits": {"usd": 0.02, "warn_at": 0.1}})
    script = [Call("write_file", path=f"f{n}", content=f"{n}") for n in range(40)]
    with desk.model(script, model={}):
        done = desk.orc("run", "@coder write many files")
    assert (done.code, done.out) == (5, "")
    assert "of limits.usd is used" in done.err
    assert "done: write_file f" in done.err
    assert "left: write many files" in done.err
    assert "orc resume r-" in done.err


@pytest.mark.parametrize("wanted", ["usd=0.001", "usd", "dollars=1", "day.usd=3", "usd=many"])
def test_a_raise_without_sense_is_refused(desk: Desk, wanted: str) -> None:
    prices(desk)
    desk.settings({"limits": {"usd": 0.002}})
    with desk.model([], model={}):
        assert desk.orc("run", "@coder look").code == 5
        done = desk.orc("resume", "--raise", wanted)
    assert done.code == 2, done.err


def test_a_broken_off_answer_counts_in_full_and_the_next_attempt_must_fit(desk: Desk) -> None:
    prices(desk)
    desk.settings({"limits": {"usd": 0.08}})
    turn = desk.work("@coder look", [Cut(3, Say("a long answer")), Say("never")], model={})
    assert isinstance(turn.error, BudgetExceeded)
    assert len(turn.requests) == 1
    done = desk.orc("cost", "--json")
    assert json.loads(done.out)["lost"] == 0
    assert 0.04 < float(json.loads(done.out)["usd"]) < 0.08


def test_cost_is_added_up_by_anything(desk: Desk) -> None:
    prices(desk)
    desk.work("@coder list", [Call("list_files"), Say("nothing here")], model={})
    for by in ("agent", "model", "day", "run", "user", "organisation"):
        done = desk.orc("cost", "--by", by, "--since", "1d", "--json")
        row = json.loads(done.out)
        assert (row["calls"], row["unpriced"]) == (2, 0), by
        assert Decimal(row["usd"]) > 0
    assert json.loads(desk.orc("cost", "--by", "agent", "--json").out)["agent"] == "coder"
    assert desk.orc("cost", "--since", "2999-01-01").out == ""
    assert desk.orc("cost", "--since", "soon").code == 2


def test_a_cap_set_by_hand_holds_and_is_listed(desk: Desk) -> None:
    prices(desk)
    assert desk.orc("cost", "cap", "day.usd=0.001").code == 0
    rows = [line.split("\t") for line in desk.orc("cost", "cap").out.splitlines()]
    assert ["day.usd", "$0.00", "$0.0010", "orc cost cap"] in rows
    turn = desk.work("@coder list", [Say("never")], model={})
    assert "of $0.0010" in str(turn.error)
    assert "`orc cost cap day.usd=…`" in str(turn.error)
    shown = desk.orc("logs", "--kind", "budget").out
    assert ("the plan may cost $" in shown, "0 things done, left: list" in shown) == (True, True)
    assert desk.orc("cost", "cap", "day.usd=none").code == 0
    assert "day.usd" not in desk.orc("cost", "cap").out
    assert desk.orc("cost", "cap", "day.euro=1").code == 2


def test_a_warning_reaches_command_and_webhook_only_by_the_users_own_word(desk: Desk) -> None:
    told = desk.root / "told.json"
    command = ["sh", "-c", f"cat > {told}"]
    desk.settings({"limits": {"tool_calls": 2, "on_warning": {"command": command}}})
    with desk.model([]):
        done = desk.orc("run", "@coder look")
    assert done.code == 2
    assert "limits.on_warning" in done.err
    desk.settings({})
    limits = {"tool_calls": 2, "on_warning": {"command": command, "webhook": "http://127.0.0.1:9/"}}
    with desk.model([Call("list_files"), Call("list_files", depth=3), Say("nothing here")]):
        desk.user_settings({"limits": limits})
        assert desk.orc("run", "@coder look").code == 0
    assert json.loads(told.read_text("utf-8"))["limit"] == "tool_calls"
    assert any("webhook failed" in event.fields["text"] for event in desk.events("note"))


def test_a_workspace_may_not_loosen_a_users_day(desk: Desk) -> None:
    prices(desk)
    (desk.home / "config" / "orchestrator.yaml").write_text("limits: {day: {usd: 0.001}}", "utf-8")
    desk.settings({"limits": {"day": {"usd": 50, "tokens": 5000}, "allow_unpriced": True}})
    shown = json.loads(desk.orc("config", "show", "--json").out)["limits"]
    assert (shown["day"]["usd"], shown["day"]["tokens"]) == ("0.001", 5000)
    assert shown["allow_unpriced"] is False


def test_parallel_reads_of_one_message_do_not_pass_the_limit(desk: Desk) -> None:
    for name in "abcdef":
        desk.write(name, name)
    desk.settings({"limits": {"tool_calls": 4}})
    many = Calls([Call("read_file", path=name) for name in "abcdef"])
    turn = desk.work("@coder read", [many, Say("never")])
    assert isinstance(turn.error, BudgetExceeded)
    assert len(turn.of("tool_intent")) <= 4


def test_the_limit_of_tool_calls_stops_the_command_with_exit_5(desk: Desk) -> None:
    desk.settings({"limits": {"tool_calls": 1}})
    with desk.model([Call("list_files"), Call("run_command", command="touch a"), Say("never")]):
        done = desk.orc("run", "@coder look")
    assert (done.code, done.out) == (5, "")
    assert "1 of 1 tool calls" in done.err
    assert "orc resume" in done.err
    assert not (desk.root / "a").exists()


@pytest.mark.parametrize(
    ("limits", "told"),
    [("model_calls: 2", "looker used 2 of its 2 model calls"), ("usd: 0.001", "looker: this step has used")],
)
def test_an_agents_own_limit_ends_its_step_and_not_the_run(desk: Desk, limits: str, told: str) -> None:
    prices(desk)
    text = f"---\ndescription: Looks.\ntools: [list_files, read_file]\nlimits: {{{limits}}}\n---\nLook.\n"
    desk.write("agents/looker.md", text)
    for name in "abcd":
        desk.write(name, name)
    calls = [Call("read_file", path=name) for name in "abcd"]
    turn = desk.work("@looker look", calls, model={})
    assert turn.outcome is not None
    assert turn.outcome.status == "failed"
    assert told in turn.answer


def test_a_report_that_cannot_be_true_is_counted_as_reserved(desk: Desk) -> None:
    from orchestrator.events import Journal
    from orchestrator.events import Place as JournalPlace
    from orchestrator.limits.meter import BudgetMeter
    from orchestrator.llm.base import Usage
    from orchestrator.storage import open_state

    prices(desk)
    connection = open_state(desk.root)
    journal = Journal(connection, desk.root, JournalPlace("r-1", 1))
    held = Budget(Limits(usd=Decimal(1)), Ledger(connection), ME, journal=journal)
    meter = BudgetMeter(held, journal, ModelSettings(model="scripted"))
    for into, out in ((-5, 3), (10**12, 3), (0, 0), (50, -1)):
        before = held.spent.usd
        hold = meter.reserve("scripted", 1000, 100)
        hold.settle(Usage("scripted", into, out, 0, 0.1, None))
        assert held.spent.usd - before == Decimal("0.002")
    hold = meter.reserve("scripted", 1000, 100)
    hold.settle(Usage("scripted", 500, 10, 9999, 0.1, None))
    journal.close()
    connection.close()


def test_a_stalled_call_is_counted(desk: Desk) -> None:
    prices(desk)
    desk.settings({"limits": {"usd": 0.06}})
    turn = desk.work("@coder look", [Stall(5), Say("x")], model={"timeouts": {"first_token": 1.0}})
    assert isinstance(turn.error, BudgetExceeded)
    assert len(turn.requests) == 1


def two_steps(request: Request) -> Reply:
    if request.wants == "Draft":
        steps = [
            {"agent": "coder", "goal": "log one"},
            {"agent": "sysadmin", "goal": "log two", "after": [1]},
        ]
        return Fill({"steps": steps})
    if request.wants == "text":
        return Say("both are logged")
    return Call("run_command", command="echo x >> log") if len(request["messages"]) < 4 else Say("logged")


def test_a_plan_tells_its_range_and_asks_above_an_amount(desk: Desk) -> None:
    prices(desk)
    desk.settings({"limits": {"ask_above_usd": "0.01"}})
    wanted = "@coder 1. log one 2. log two"
    turn = desk.work(wanted, two_steps, model={})
    assert isinstance(turn.error, WaitingForApproval)
    told = [event.fields for event in turn.of("budget")]
    assert [(fields["estimate"], fields["low"], fields["high"]) for fields in told] == [
        (True, "$0.01", "$0.3360")
    ]
    refused = desk.work(
        None, two_steps, model={}, approver=lambda _payload: {"decisions": [{"type": "reject"}]}
    )
    assert refused.outcome is not None
    assert "because of what it may cost" in refused.answer
    approved = desk.work(
        wanted, two_steps, model={}, approver=lambda _payload: {"decisions": [{"type": "approve"}]}
    )
    assert approved.answer == "both are logged"
    assert desk.text("log") == "x\nx\n"
