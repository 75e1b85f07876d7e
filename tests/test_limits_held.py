"""No cap is passed, whatever happens in whatever order: many runs, many processes, crashes, retries."""

from __future__ import annotations

import contextlib
import os
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
from orchestrator.limits.entries import Reservation, Wish
from orchestrator.limits.shared import SCHEMA, Shared
from orchestrator.settings import Limits
from orchestrator.storage import open_state, state_path
from orchestrator.tables import BUDGETS

LIMITS = Limits.model_validate({
    "usd": "0.05",
    "run": {"usd": "0.08", "tokens": 9000},
    "day": {"usd": "0.10", "model_calls": 25},
    "user": {"usd": "0.09", "per": "total"},
    "tool_calls": 4,
})


class Killed(BaseException):
    """The process ends here."""


class Doomed(Shared):
    """The ledger of all workspaces for a process that is killed between its two commits."""

    def commit(self) -> None:
        raise Killed


class Money(RuleBasedStateMachine):
    """Runs of two users in two workspaces that reserve, extend, settle, crash and pause in any order."""

    @initialize()
    def open(self) -> None:
        self.books = [sqlite3.connect(":memory:", isolation_level=None) for _ in range(2)]
        for each in self.books:
            each.executescript(BUDGETS)
        self.all = sqlite3.connect(":memory:", isolation_level=None)
        self.all.executescript(SCHEMA)
        self.held: list[tuple[Budget, Reservation, Wish]] = []
        self.budgets: dict[tuple[int, int], Budget] = {}
        self.killed: set[int] = set()
        """Runs that nobody has opened since their process was killed between two commits."""

    def budget(self, run: int, turn: int) -> Budget:
        """Who opens a turn of a run marks what was left reserved there; a run has one turn at a time."""
        key = (run, turn)
        if key not in self.budgets:
            self.crash_and_resume(run)
            self.killed.discard(run)
            who = Who(f"r-{run}", turn, f"user {run // 2}")
            ledger = Ledger(self.books[run % 2], lambda: 1e9, shared=Shared(self.all, f"w{run % 2}"))
            self.budgets[key] = Budget(LIMITS, ledger, who, clock=lambda: 0.0)
        return self.budgets[key]

    def doomed(self, budget: Budget) -> Budget:
        """The same process, which is killed at its next commit to the ledger of all workspaces."""
        ledger = Ledger(budget.ledger.connection, lambda: 1e9)
        ledger.shared = Doomed(self.all, f"w{int(budget.who.run[2:]) % 2}")
        made = Budget.__new__(Budget)
        made.__dict__ |= {**budget.__dict__, "ledger": ledger}
        return made

    @rule(run=st.integers(0, 3), turn=st.integers(1, 2), what=st.integers(0, 50))
    def be_killed_between_two_commits(self, run: int, turn: int, what: int) -> None:
        """While it reserves, asks again or settles; everything else it holds is lost too."""
        mine = [item for item in self.held if item[0].who.run == f"r-{run}"]
        with contextlib.suppress(BudgetExceeded, Killed):
            if what % 3 and mine:
                budget, held, wish = mine[what % len(mine)]
                if what % 3 == 1:
                    self.doomed(budget).extend(held, wish.amount(held.output_tokens))
                else:
                    used = Amount(model_calls=1, tokens=held.amount.tokens // 2, nano=held.amount.nano // 2)
                    self.doomed(budget).settle(held, used, (1, 1))
            else:
                self.doomed(self.budget(run, turn)).reserve(Wish(100, 50, 1_000_000, 500_000), "m")
        self.killed.add(run)
        self.crash_and_resume(run)

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
        query = "select scope, nano, tool_calls, tokens, model_calls from totals"
        for books in (*self.books, self.all):
            for scope, used, tools, tokens, calls in books.execute(query):
                kind = scope.partition(":")[0]
                if kind in caps:
                    assert 0 <= used <= nano(Decimal(caps[kind])), scope
                assert kind != "turn" or tools <= 4, scope
                assert kind != "run" or tokens <= 9000, scope
                assert kind != "day" or calls <= 25, scope

    @invariant()
    def the_books_add_up(self) -> None:
        for books in self.books:
            assert summed(books, "spending where state<>'released'") == summed(
                books, "totals where scope like 'day:%'"
            )

    @invariant()
    def the_books_of_all_workspaces_agree_with_those_of_each(self) -> None:
        for run in list(self.killed):
            self.budget(run, 1)
        query = "totals where scope like 'user.total:%'"
        each = [summed(books, "spending where state<>'released'") for books in self.books]
        assert sum(each) == summed(self.all, query)
        assert not any(summed(books, query) for books in self.books)

    def teardown(self) -> None:
        if hasattr(self, "books"):
            for each in (*self.books, self.all):
                each.close()


def summed(books: sqlite3.Connection, what: str) -> int:
    return int(books.execute(f"select ifnull(sum(nano), 0) from {what}").fetchone()[0])


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
    ledger = Ledger.of(root, connection)
    budget = Budget(limits, ledger, Who(f"r-{number}", 1, "anna"))
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
    ledger.close()
    connection.close()
    return sent

async def main(root, first, count, dies):
    scope = "user" if dies == "shares" else "day"
    limits = Limits.model_validate({"usd": "0.02", scope: {"usd": "0.25"}, "model_calls": 10_000})
    chance = random.Random(first)
    work = [run(first + n, Path(root), limits, chance, dies == "dies") for n in range(count)]
    print(sum(await asyncio.gather(*work)))

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
"""


def together(folder: Path, processes: int, runs: int, how: str) -> tuple[int, dict[str, int]]:
    """What all processes together sent to the provider, and the totals in all files."""
    roots = [folder / (str(n) if how == "shares" else "one") for n in range(processes)]
    data = {"ORC_DATA_DIR": str(folder / "data")}
    for root in roots:
        open_state(root).close()
    several = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(root), str(number * 100), str(runs), how],
            stdout=subprocess.PIPE,
            env={**os.environ, **data},
            text=True,
        )
        for number, root in enumerate(roots)
    ]
    sent = 0
    for process in several:
        out, _ = process.communicate(timeout=50)
        assert process.returncode == 0
        sent += int(out)
    totals: dict[str, int] = {}
    for path in (*(state_path(root) for root in roots), folder / "data" / "spending.db"):
        connection = sqlite3.connect(path)
        totals |= dict(connection.execute("select scope, nano from totals").fetchall())
        connection.close()
    return sent, totals


def held(sent: int, totals: dict[str, int], capped: str = "day:") -> None:
    day = next(used for scope, used in totals.items() if scope.startswith(capped))
    turns = [used for scope, used in totals.items() if scope.startswith("turn:")]
    assert sent <= day <= nano(Decimal("0.25"))
    assert day > nano(Decimal("0.24"))
    assert all(used <= nano(Decimal("0.02")) for used in turns)


def test_32_runs_in_one_process_do_not_pass_a_cap(tmp_path: Path) -> None:
    held(*together(tmp_path, 1, 32, "lives"))


def test_4_processes_on_one_file_do_not_pass_a_cap_even_when_runs_die(tmp_path: Path) -> None:
    held(*together(tmp_path, 4, 8, "dies"))


def test_4_processes_in_4_workspaces_do_not_pass_a_cap_of_their_user(tmp_path: Path) -> None:
    held(*together(tmp_path, 4, 8, "shares"), "user.month:")
