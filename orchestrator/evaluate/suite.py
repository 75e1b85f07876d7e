"""What a suite file says: tasks, the files that they start from, and how one sees that they are done.

A check looks at the end state and at the answer only; how the work was done is free.
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from orchestrator.documents import Document, read_yaml, suggestion, validate
from orchestrator.errors import ConfigError, Problem, UsageError
from orchestrator.settings import Strict
from orchestrator.workspace.folders import builtin_folder
from orchestrator.workspace.specialists import offered_tools
from orchestrator.workspace.trust import is_trusted

ENDINGS = (".yaml", ".yml")


def _below(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or parts[0] == ".orc":
        raise ValueError("must be a path below the workspace")
    return path


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return text


def _base64(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"is not base64: {error}") from None
    return text


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Below = Annotated[str, AfterValidator(_below)]
Expression = Annotated[str, AfterValidator(_expression)]
Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,59}$")]


class StartFile(Strict):
    """A file that is there at the start, where a plain text is not enough."""

    text: str | None = None
    base64: Annotated[str, AfterValidator(_base64)] | None = None
    """For files that are not text."""
    mode: Annotated[str, Field(pattern="^[0-7]{3,4}$")] = "644"
    """Octal digits, in quotes."""
    days_old: Annotated[float, Field(ge=0)] = 0
    """Age of its last change."""

    @model_validator(mode="after")
    def _has_one_content(self) -> StartFile:
        if (self.text is None) == (self.base64 is None):
            raise ValueError("needs either `text` or `base64`")
        return self


class FileCheck(Strict):
    """One file at the end; every key that is set must hold."""

    path: Below
    equals: str | None = None
    """The whole content; line ends at its end do not count."""
    contains: list[str] | None = None
    """Texts that must all be in it; one text need not be a list."""
    matches: Expression | None = None
    """A regular expression that must be found in it; `^` and `$` are line ends."""
    absent: bool = False
    unchanged: bool = False
    """The same bytes as at the start."""
    lines: Annotated[int, Field(ge=0)] | None = None
    """How many lines it has."""

    @model_validator(mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        if isinstance(value, dict) and "contains" in value:
            return {**value, "contains": _listed(value["contains"])}
        return value

    @model_validator(mode="after")
    def _says_something(self) -> FileCheck:
        if not self.model_fields_set - {"path"}:
            raise ValueError("needs one of equals, contains, matches, absent, unchanged, lines")
        return self


class FilesCheck(Strict):
    """How many files a pattern finds at the end."""

    glob: Below
    count: Annotated[int, Field(ge=0)]


class AnswerCheck(Strict):
    """What the answer says; every key that is set must hold. Upper and lower case are the same."""

    contains: list[str] | None = None
    """Texts that must all be in it, as whole words and numbers; one text need not be a list."""
    matches: Expression | None = None
    any_of: list[str] | None = None
    """Texts of which one is enough."""

    @model_validator(mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        if isinstance(value, dict) and "contains" in value:
            return {**value, "contains": _listed(value["contains"])}
        return value

    @model_validator(mode="after")
    def _says_something(self) -> AnswerCheck:
        if not self.model_fields_set:
            raise ValueError("needs one of contains, matches, any_of")
        return self


class RunCheck(Strict):
    """A command that is run in a copy of the end state, in the sandbox."""

    command: Annotated[str, Field(min_length=1)]
    exit: Annotated[int, Field(ge=0, le=255)] = 0
    stdout_contains: str = ""


class Check(Strict):
    """One thing that must hold at the end: exactly one key."""

    file: FileCheck | None = None
    files: FilesCheck | None = None
    answer: AnswerCheck | None = None
    answer_from: Annotated[str, Field(min_length=1)] | None = None
    """A command that is run on this machine; one of the lines that it prints must be in the answer."""
    run: RunCheck | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Check:
        if len(self.model_fields_set) != 1:
            raise ValueError("needs exactly one of file, files, answer, answer_from, run")
        return self


class Never(Strict):
    """What must not have happened by the end, whatever else was done."""

    file_changed: tuple[Below, ...] = ()
    """Patterns of files that must have their first content."""
    file_absent: tuple[Below, ...] = ()
    """Patterns of files of the start that must still be there."""


class SolutionCall(Strict):
    """One tool call of a solution."""

    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class Solution(Strict):
    """One way to do the task; a test plays it, so a task that nobody can pass is found at once."""

    calls: Annotated[list[SolutionCall], Field(min_length=1)]
    answer: str
    """`{last}` stands for the result of the last call."""


class Case(Strict):
    """One task."""

    id: Id
    kind: Id
    request: Annotated[str, Field(min_length=1)]
    """As a user types it."""
    files: dict[Below, str | StartFile] = Field(default_factory=dict)
    checks: Annotated[list[Check], Field(min_length=1)]
    never: Never = Never()
    solution: Solution
    seconds: Annotated[float, Field(gt=0, le=3600)] | None = None
    """Time limit, where the suite's does not fit."""


class Suite(Strict):
    """The whole of a suite file."""

    description: Annotated[str, Field(min_length=1)]
    seconds: Annotated[float, Field(gt=0, le=3600)] = 120
    """Time limit of a case."""
    cases: Annotated[list[Case], Field(min_length=1)]


def load_suite(file: Path) -> Suite:
    """Read a suite; raises ConfigError with all its problems."""
    document = read_yaml(file)
    suite = validate(document, Suite)
    if problems := [*_twice(suite, document), *_unknown_tools(suite, document)]:
        raise ConfigError(problems)
    return suite


def _twice(suite: Suite, document: Document) -> list[Problem]:
    first: dict[str, int] = {}
    problems = []
    for number, case in enumerate(suite.cases):
        if case.id in first:
            text = f"'{case.id}' is case {first[case.id] + 1} already; ids are unique"
            problems.append(document.problem(("cases", number, "id"), text))
        first.setdefault(case.id, number)
    return problems


def _unknown_tools(suite: Suite, document: Document) -> list[Problem]:
    known = offered_tools()[0]
    return [
        document.problem(
            ("cases", number, "solution", "calls", position, "tool"),
            f"there is no tool '{call.tool}'{suggestion(call.tool, known)}",
        )
        for number, case in enumerate(suite.cases)
        for position, call in enumerate(case.solution.calls)
        if call.tool not in known
    ]


def suite_files(root: Path) -> dict[str, Path]:
    """Suites by name: the workspace's own, then the built-in ones that it does not replace."""
    found: dict[str, Path] = {}
    for folder in (root / "evals", builtin_folder("evals")):
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        for path in paths:
            if path.suffix in ENDINGS and not path.name.startswith("."):
                found.setdefault(path.stem, path)
    return found


def find_suite(name: str, root: Path) -> Path:
    """The file of a suite, given by name or by path; raises UsageError.

    Suites hold commands, so a folder must be trusted before one of its own is taken by name.
    """
    if name.endswith(ENDINGS) or "/" in name:
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"there is no suite file {name}")
        return path
    files = suite_files(root)
    if name not in files:
        near = suggestion(name, files) or f"; there are: {', '.join(files)}"
        raise UsageError(f"there is no suite '{name}'{near}")
    found = files[name]
    is_own = found.resolve().parent != builtin_folder("evals").resolve()
    if is_own and not is_trusted(root):
        raise UsageError(
            f"{found} holds commands and this folder is not trusted; look at it, then `orc trust`, "
            "or name the file itself"
        )
    return found
