"""Every error that orc raises on purpose, each with the exit code that the command ends with.

OrcError                    1    the run failed
├── UsageError              2    the command or its arguments are wrong
│   └── ConfigError         2    a file is wrong; carries every problem found in it
├── WaitingForApproval      3    a person has to decide first; the run waits
├── BudgetExceeded          5    a limit is reached; the run can be resumed with more
├── Interrupted           130    Ctrl-C, SIGTERM or `orc stop`; everything is saved
├── TimedOut              124    the time limit is over; everything is saved
├── ModelError              1    the model could not be used
│   ├── ModelUnreachable    1    no answer from the endpoint
│   ├── ModelRejected       1    the endpoint refused the request (key, model name)
│   │   └── ModelOverfull   1    the request is longer than the model takes
│   └── ModelNonsense       1    the model's answers could not be used
├── WeightsError            1    the embedded model's file is missing, torn or wrong
└── StorageError            1    the state file cannot be read or written

ToolError is apart: a failure of a tool is data for the model, not an end of the run.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class OrcError(Exception):
    """Something that a user can understand and act on; its text is shown as it is."""

    exit_code = 1


class UsageError(OrcError):
    """The command line is wrong, or what it names does not exist."""

    exit_code = 2


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong in a file that a person wrote."""

    file: Path
    line: int
    """Counted from 1; 0 when the whole file is meant."""
    column: int
    """Counted from 1; 0 when the whole file is meant."""
    field: str
    """Dotted path such as `limits.usd`; empty when no field is meant."""
    text: str
    """What is wrong, with the value and the limit, and a suggestion where there is one."""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else str(self.file)
        return f"{where}: {self.field}: {self.text}" if self.field else f"{where}: {self.text}"


class ConfigError(UsageError):
    """One or more files are wrong; the text has one line for each problem."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class WaitingForApproval(OrcError):
    """A call needs a person and there is none at the terminal."""

    exit_code = 3


class BudgetExceeded(OrcError):
    """A limit of the run is reached."""

    exit_code = 5


class Interrupted(OrcError):
    """Someone ended the run; it is saved."""

    exit_code = 130


class TimedOut(OrcError):
    """The time that the run was given is over; it is saved."""

    exit_code = 124


class ModelError(OrcError):
    """The model could not be used."""


class ModelUnreachable(ModelError):
    """The endpoint did not answer, or not in time."""


class ModelRejected(ModelError):
    """The endpoint refused the request: key, model name or size; asking again will not help."""


class ModelOverfull(ModelRejected):
    """The request is longer than the model takes; a shorter one may be asked again."""


class ModelNonsense(ModelError):
    """The model's answers could not be used, even after it was told what was wrong."""


class WeightsError(OrcError):
    """The embedded model's weights are missing, torn or not the right file."""


class StorageError(OrcError):
    """The state file cannot be read or written, or is not ours."""


class ToolError(Exception):
    """A tool could not do what the model asked; the text tells the model what to do next."""


def near(wanted: str, names: Sequence[str]) -> str:
    """What may have been meant, as the end of a message; empty when there are no names."""
    close = difflib.get_close_matches(wanted, names, 3, 0.5) or names[:3]
    return f"; did you mean {', '.join(close)}?" if close else ""
