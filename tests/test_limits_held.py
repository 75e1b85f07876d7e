"""No cap is passed, whatever happens in whatever order: many runs, many processes, crashes, retries."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orchestrator.errors import BudgetExceeded
from orchestrator.limits import Budget, Ledger, Who
from orchestrator.limits.amounts import Amount, nano
from orchestrator.limits.ledger import Reservation, Wish
from orchestrator.settings import Limits
from orchestrator.tables import BUDGETS

LIMITS = Limits.model_validate({
    "usd": "0.05",
    "run": {"usd": "0.08", "tokens": 9000},
    "day": {"usd": "0.10", "model_calls": 25},
    "user": {"usd": "0.09", "per": "total"},
    "tool_calls": 4,
})


class Money(RuleBasedStateMachine):
    """Runs of two users that reserve, extend, settle, crash and pause in any order."""

    @initialize()
    def open(self) -> None:
        self.books = sqlite3.connect(":memory:", isolation_level=None)
        self.books.executescript(BUDGETS)
        self.held: list[tuple[Budget, Reservation, Wish]] = []
        self.budgets: dict[tuple[int, int], Budget] = {}
        self.spent: dict[tuple[str, int], int] = {}

    def budget(self, run: int, turn: int) -> Budget:
        """A process that opens a run marks what was left reserved there."""
        key = (run, turn)
        if key not in self.budgets:
            who = Who(f"r-{run}", turn, f"user {run % 2}")
            self.budgets[key] = Budget(LIMITS, Ledger(self.books, lambda: 1e9), who, clock=lambda: 0.0)
        return self.budgets[key]

    @rule(run=st.integers(0, 3), turn=st.integers(1, 2), into=st.integers(1, 3000), out=st.integers(0, 2000))
    def reserve(self, run: int, turn: int, into: int, out: int) -> None:
        wish = Wish(into, out, into * 1_000, out * 10_000)
        with contextlib.suppress(BudgetExceeded):
            self.held.append((self.budget(run, turn), self.budget(run, turn).reserve(wish, "m"), wish))

    @rule(share=st.floats(0, 1), index=st.integers(0, 50))
    def settle(self, share: float, index: int) -> None:
        """The server takes at most what was reserved."""
        if not self.held:
            return
        budget, held, _ = self.held.pop(index % len(self.held))
        amount = Amount(
            model_calls=held.amount.model_calls,
            tokens=int(held.amount.tokens * share),
            nano=int(held.amount.nano * share),
        )
        budget.settle(held, amount, (1, 1))

    @rule(index=st.integers(0, 50))
    def try_again(self, index: int) -> None:
        """An attempt broke off and may have cost; another one is made, if it fits."""
        if not self.held:
            return
        position = index % len(self.held)
        budget, held, wish = self.held[position]
        with contextlib.suppress(BudgetExceeded):
            self.held[position] = (budget, budget.extend(held, wish.amount(held.output_tokens)), wish)

    @rule(index=st.integers(0, 50))
    def release(self, index: int) -> None:
        if self.held:
            budget, held, _ = self.held.pop(index % len(self.held))
            budget.settle(held, Amount(), (0, 0))

    @rule(run=st.integers(0, 3))
    def crash_and_resume(self, run: int) -> None:
        """The process of a run is killed; what it had reserved stays reserved for ever."""
        self.held = [item for item in self.held if item[0].who.run != f"r-{run}"]
        self.budgets = {key: budget for key, budget in self.budgets.items() if key[0] != run}

    @rule(run=st.integers(0, 3), turn=st.integers(1, 2))
    def use_a_tool(self, run: int, turn: int) -> None:
        with contextlib.suppress(BudgetExceeded):
            self.budget(run, turn).take_tool()

    @invariant()
    def no_cap_is_passed(self) -> None:
        caps = {"turn": "0.05", "run": "0.08", "day": "0.10", "user.total": "0.09"}
        for scope, used, tools, tokens, calls in self.books.execute(
            "select scope, nano, tool_calls, tokens, model_calls from totals"
        ):
            kind = scope.partition(":")[0]
            if kind in caps:
                assert 0 <= used <= nano(Decimal(caps[kind])), scope
            assert kind != "turn" or tools <= 4, scope
            assert kind != "run" or tokens <= 9000, scope
            assert kind != "day" or calls <= 25, scope

    @invariant()
    def the_books_add_up(self) -> None:
        rows = self.books.execute(
            "select ifnull(sum(nano), 0) from spending where state<>'released'"
        ).fetchone()[0]
        total = self.books.execute(
            "select ifnull(sum(nano), 0) from totals where scope like 'day:%'"
        ).fetchone()[0]
        assert rows == total

    def teardown(self) -> None:
        if hasattr(self, "books"):
            self.books.close()


TestMoney = Money.TestCase
TestMoney.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


@given(
    room=st.integers(0, 10**9),
    into=st.integers(0, 10**6),
    out=st.integers(0, 10**5),
    rate=st.integers(0, 10**5),
)
@settings(deadline=None)
def test_an_answer_that_is_cut_costs_no_more_than_what_is_left(
    room: int, into: int, out: int, rate: int
) -> None:
    from orchestrator.limits.amounts import Cap

    wish = Wish(10, out, into, out * rate)
    fitting = min(out, wish.fitting(Cap("turn:x", "usd", room, "usd"), room))
    assert fitting < 0 or wish.amount(fitting).nano <= max(room, into)


WORKER = """
import asyncio, random, sys
from decimal import Decimal
from pathlib import Path
from orchestrator.errors import BudgetExceeded
from orchestrator.limits import Budget, Ledger, Who
from orchestrator.limits.amounts import Amount
from orchestrator.limits.ledger import Wish
from orchestrator.settings import Limits
from orchestrator.storage import open_state

async def run(number, root, limits, chance, dies):
    connection = open_state(root)
    budget = Budget(limits, Ledger(connection), Who(f"r-{number}", 1, "anna"))
    sent = 0
    try:
        while True:
            held = budget.reserve(Wish(100, 300, 100_000, 3_000_000), "m")
            await asyncio.sleep(0)
            sent += held.amount.nano
            if dies and chance.random() < 0.05:
                break
            used = chance.randint(50_000, held.amount.nano)
            budget.settle(held, Amount(model_calls=1, tokens=50, nano=used), (40, 10))
            sent += used - held.amount.nano
    except BudgetExceeded:
        pass
    connection.close()
    return sent

async def main(root, first, count, dies):
    limits = Limits.model_validate({"usd": "0.02", "day": {"usd": "0.25"}, "model_calls": 10_000})
    chance = random.Random(first)
    work = [run(first + n, Path(root), limits, chance, dies) for n in range(count)]
    print(sum(await asyncio.gather(*work)))

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "dies"))
"""


def together(root: Path, processes: int, runs: int, how: str) -> tuple[int, dict[str, int]]:
    """What all processes together sent to the provider, and the totals in the file."""
    from orchestrator.storage import open_state

    open_state(root).close()
    several = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(root), str(number * 100), str(runs), how],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    sent = 0
    for process in several:
        out, _ = process.communicate(timeout=50)
        assert process.returncode == 0
        sent += int(out)
    connection = open_state(root)
    totals = dict(connection.execute("select scope, nano from totals").fetchall())
    connection.close()
    return sent, totals


def held(sent: int, totals: dict[str, int]) -> None:
    day = next(used for scope, used in totals.items() if scope.startswith("day:"))
    turns = [used for scope, used in totals.items() if scope.startswith("turn:")]
    assert sent <= day <= nano(Decimal("0.25"))
    assert day > nano(Decimal("0.24"))
    assert all(used <= nano(Decimal("0.02")) for used in turns)


def test_32_runs_in_one_process_do_not_pass_a_cap(tmp_path: Path) -> None:
    held(*together(tmp_path, 1, 32, "lives"))


def test_4_processes_on_one_file_do_not_pass_a_cap_even_when_runs_die(tmp_path: Path) -> None:
    held(*together(tmp_path, 4, 8, "dies"))
