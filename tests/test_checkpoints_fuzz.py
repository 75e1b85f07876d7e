"""Random programs run on our saver and on the published ones, which are the oracle: all keep the same."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from programs import Memory, Op, Ours, Sqlite, everything, programs, run

EXAMPLES = int(os.environ.get("ORC_FUZZ_EXAMPLES", "12"))
"""A long run: ORC_FUZZ_EXAMPLES=5000 with --timeout 0; each number of examples is a series of its own."""

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where files cost no fsync: what survives a crash is tested elsewhere."""

fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if EXAMPLES > 12 else [])],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@pytest.mark.timeout(0 if EXAMPLES > 12 else 60)
@fuzzed
@given(program=programs())
def test_any_program_leaves_what_the_published_savers_leave(program: list[Op]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        ours, theirs, memory = Ours(Path(folder)), Sqlite(Path(folder)), Memory(Path(folder))
        for number, op in enumerate(program):
            outcomes = [run(rival, op, number) for rival in (ours, theirs, memory)]
            assert outcomes[:1] * 2 == outcomes[1:], f"operation {number}: {op}"
        for is_async in (False, True):
            kept = everything(ours, is_async=is_async)
            assert kept == everything(theirs, is_async=is_async)
        assert states(kept) == states(everything(memory, is_async=False))
        ours.reopen()
        assert kept == everything(ours, is_async=False)
        assert ours.saver.verify() == []
        ours.close()


def states(kept: list[str]) -> list[str]:
    """What the graph says: InMemorySaver's tuples show snapshots of delta channels that were made later."""
    return [line for line in kept if line.startswith(("state", "head"))]
