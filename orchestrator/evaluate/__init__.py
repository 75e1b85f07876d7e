"""Suites of tasks: read from files, run in fresh workspaces, checked at the end, counted.

Nothing here knows a session or prints: the caller brings the function that works on a request.
"""

from orchestrator.evaluate.figures import Figures, figures
from orchestrator.evaluate.running import Conditions, Result, Work, ready, run_case, run_suite
from orchestrator.evaluate.suite import Case, Suite, find_suite, load_suite, suite_files

__all__ = [
    "Case",
    "Conditions",
    "Figures",
    "Result",
    "Suite",
    "Work",
    "figures",
    "find_suite",
    "load_suite",
    "ready",
    "run_case",
    "run_suite",
    "suite_files",
]
