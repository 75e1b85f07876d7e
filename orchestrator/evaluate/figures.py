"""Add results up."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.evaluate.running import Result


@dataclass(frozen=True)
class Figures:
    """What a suite measured; cases whose model could not be asked count as not passed."""

    cases: int
    passed: int
    share: float
    """Passed of all, from 0 to 1."""
    median_seconds: float
    input_tokens: int
    output_tokens: int
    measured: int
    """Cases in which the model was asked."""


def figures(results: Sequence[Result]) -> Figures:
    """The figures of some results; all zero for none."""
    measured = [result for result in results if result.is_measured]
    passed = sum(result.passed for result in results)
    return Figures(
        cases=len(results),
        passed=passed,
        share=passed / len(results) if results else 0.0,
        median_seconds=statistics.median(result.seconds for result in measured) if measured else 0.0,
        input_tokens=sum(result.input_tokens for result in results),
        output_tokens=sum(result.output_tokens for result in results),
        measured=len(measured),
    )
