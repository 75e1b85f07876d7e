"""How much the policy finds, and how often it cries wolf, on corpora and on mutants nobody wrote down.

The corpora have been looked at: they show what was lost again, not how new commands fare.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from mutations import ALL_WAYS, GRAVE, HARMFUL, HARMLESS, PLAIN_WAYS, mutants

from orchestrator.safety.alone import opinion
from orchestrator.safety.rulebook import builtin
from orchestrator.safety.words import Scene

DATA = Path(__file__).parent / "data"
FLAGGED = {"ask", "deny"}


def decide(command: str) -> str:
    return opinion(command, Scene("/workspace/app", "/home/dev", "/workspace/app"), builtin()).decision


def missed(commands: list[str], expected: set[str]) -> list[str]:
    return [command for command in commands if decide(command) not in expected]


@pytest.mark.parametrize(
    ("corpus", "part", "parts"),
    [("shell_commands.jsonl", 0, 1), *(("more_commands.jsonl", part, 8) for part in range(8))],
)
def test_the_floors_hold_on_the_corpora(corpus: str, part: int, parts: int) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    totals: Counter[str] = Counter()
    for line in (DATA / corpus).read_text("utf-8").splitlines()[part::parts]:
        row = json.loads(line)
        label = "lookalike" if str(row.get("category", "")).startswith("lookalike") else row["label"]
        counts[label, decide(row["cmd"])] += 1
        totals[label] += 1
    assert counts["catastrophic", "deny"] >= 0.95 * totals["catastrophic"]
    assert sum(counts["catastrophic", name] for name in FLAGGED) == totals["catastrophic"]
    assert sum(counts["destructive", name] for name in FLAGGED) >= 0.97 * totals["destructive"]
    assert sum(counts["safe", name] for name in FLAGGED) <= 0.01 * totals["safe"]
    assert sum(counts["lookalike", name] for name in FLAGGED) <= 0.02 * totals["lookalike"]


@pytest.mark.parametrize("way", ALL_WAYS)
def test_ruin_is_denied_and_harm_is_flagged_in_every_way_of_writing_it(way: str) -> None:
    rng = random.Random(way)
    grave, harmful = rng.sample(GRAVE, 4), rng.sample(HARMFUL, 6)
    assert missed([ALL_WAYS[way](command, rng) for command in grave], {"deny"}) == []
    assert missed([ALL_WAYS[way](command, rng) for command in harmful], FLAGGED) == []


@pytest.mark.parametrize("way", PLAIN_WAYS)
def test_harmless_commands_stay_harmless_in_ordinary_ways_of_writing_them(way: str) -> None:
    rng = random.Random(way)
    found = [PLAIN_WAYS[way](command, rng) for command in rng.sample(HARMLESS, 6)]
    assert missed(found, {"allow", "allow_with_snapshot", "review"}) == []


@pytest.mark.parametrize("seed", range(3))
def test_ways_inside_ways_are_flagged(seed: int) -> None:
    rng = random.Random(seed)
    grave, harmful = mutants(GRAVE, 2, 50, rng), mutants(HARMFUL, 2, 50, rng)
    assert len(missed(grave, {"deny"})) <= 0.05 * len(grave)
    assert missed(grave, FLAGGED) == []
    assert len(missed(harmful, FLAGGED)) <= 0.02 * len(harmful)
