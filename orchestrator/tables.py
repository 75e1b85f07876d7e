"""The tables of budgets, circuit breakers and approvals in the state file.

They live below `storage`, which runs the migrations; what the columns mean is said in `limits`,
`breaker` and `approvals`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

TOTALS = """
create table if not exists totals (
    scope text primary key, model_calls integer not null default 0, tool_calls integer not null default 0,
    iterations integer not null default 0, tokens integer not null default 0, nano integer not null default 0,
    ms integer not null default 0, unpriced integer not null default 0, warned text not null default ''
) without rowid;
"""
BUDGETS = f"""
{TOTALS.strip()}
create table if not exists spending (
    id integer primary key, at real not null, day text not null, run text not null,
    branch text not null, turn integer not null, step text not null, agent text not null,
    node text not null, user text not null, organisation text not null, model text not null,
    state text not null,
    input_tokens integer not null, output_tokens integer not null, nano integer not null,
    unpriced integer not null, calls integer not null default 1, tokens integer not null default 0
);
create index if not exists spending_of_run on spending (run);
create table if not exists caps (
    run text not null, turn integer not null, name text not null, value text not null,
    primary key (run, turn, name)
) without rowid;
create table if not exists breakers (
    name text primary key, failures integer not null, opened real not null, rest real not null,
    probe_until real not null, why text not null
) without rowid;
"""


APPROVALS = """
create table if not exists approvals (
    id text primary key, run text not null, branch text not null, turn integer not null, step text not null,
    call text not null, agent text not null, tool text not null, digest text not null, request text not null,
    asked real not null, decision text not null default '{}', by text not null default '', decided real,
    used real, void text not null default '', sealed text not null default ''
);
create index if not exists approvals_call on approvals (branch, call);
"""


def migrate_approvals(db: Database) -> None:
    """What a person was asked, and what they said."""
    for statement in APPROVALS.strip().split(";"):
        if statement.strip():
            db.conn.execute(statement)


def migrate_budgets(db: Database) -> None:
    """Spending, its totals by scope, caps set by hand, and circuit breakers."""
    for statement in BUDGETS.strip().split(";"):
        if statement.strip():
            db.conn.execute(statement)


def migrate_spending(db: Database) -> None:
    """The whole amount of each entry, by which the ledger of all workspaces is brought up to it."""
    known = {row[1] for row in db.conn.execute("pragma table_info(spending)")}
    for name, default in (("calls", 1), ("tokens", 0)):
        if name not in known:
            db.conn.execute(f"alter table spending add column {name} integer not null default {default}")


def migrate_indexes(db: Database) -> None:
    """Of spending, only by run: each index is one more page that a call writes twice."""
    for name in ("spending_run", "spending_day"):
        db.conn.execute(f"drop index if exists {name}")
    db.conn.execute("create index if not exists spending_of_run on spending (run)")
