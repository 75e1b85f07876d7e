"""The rules and program descriptions of `rules/*.yaml`: their shape, loading, matching and self-check."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase, translate
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from orchestrator.errors import ConfigError, Problem
from orchestrator.safety.verdict import Level, Loss
from orchestrator.safety.words import UNKNOWN, Scene

Names = tuple[str, ...]
FOLDER = Path(__file__).parent / "rules"


class Strict(BaseModel):
    """Base of everything in a rule file: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def level_of(name: str) -> Level:
    """The level that a rule file names."""
    return Level.SNAPSHOT if name == "allow_with_snapshot" else Level[name.upper()]


class Rule(Strict):
    """A finding that follows from a command's own words."""

    id: str
    level: Literal["allow", "allow_with_snapshot", "review", "ask", "deny"]
    why: str
    program: Annotated[Names, Field(min_length=1)]
    """Names without their folder; `*` and `?` as in file names."""
    words: Names = ()
    """Sequences of operands that the command must begin with, such as `state rm` or `* delete-*`."""
    any: Names = ()
    """Options of which one must be there; letters of a cluster and `--name=value` count."""
    all: Names = ()
    argument: str = ""
    """A pattern that one argument must match; with `any`, either is enough."""
    task: bool = False
    """The argument is the first operand, with `run` and a workspace before it aside."""
    text: str = ""
    """A pattern, in any case, that the arguments or the literal input must match."""
    unless: Names = ()
    """Options, or operands, with which the rule does not hold; `^word`: only as the first operand."""
    leaves: bool = False
    """What it does is felt outside the workspace."""
    loss: Loss = "no"
    """Whether it loses something that only a snapshot would bring back."""
    match: Annotated[Names, Field(min_length=1)]
    not_match: Names = ()

    @field_validator("argument", "text")
    @classmethod
    def compiles(cls, pattern: str) -> str:
        """Refuse a pattern that is not a regular expression."""
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern

    @cached_property
    def severity(self) -> Level:
        """The level as an ordered value."""
        return level_of(self.level)


class Target(Strict):
    """Which arguments of a program are paths that it changes."""

    programs: Names
    effect: Literal["delete", "move", "write", "own"]
    words: str = ""
    """The subcommand that does it, such as `rm` of Git; it is no target itself."""
    operands: Literal["all", "last", "first", "but_last", "but_first", "none"] = "none"
    options: Names = ()
    """Options whose value is a target."""
    equals: Names = ()
    """Prefixes such as `of=`."""
    only: Names = ()
    """Options without which the program changes nothing in this way."""
    tree: Names = ()
    """Options that make it work on whole trees; `always` when it does so by itself."""
    unless: Names = ()
    loss: Loss = "yes"
    """Whether what is at the target now is lost."""


class Wrapper(Strict):
    """A program whose arguments hold another command."""

    programs: Names
    operands: int = 0
    """Operands of its own before the command."""
    words: str = ""
    """The subcommand that makes it a wrapper, such as `exec`."""
    after: Names = ()
    """Options after which the command comes, such as `--`, instead of after the operands."""
    text: Names = ()
    """Options whose value is a shell script."""
    joined: bool = False
    """The remaining arguments are joined and read by a shell."""
    script: bool = False
    """Without a text option its first operand is a script file, and without operands it reads stdin."""
    each: bool = False
    """Each operand of several words, and each value of a text option, is a shell script of its own."""
    input: bool = False
    """It appends arguments read from its input, which nobody knows yet."""
    remote: bool = False
    raised: bool = False
    """It raises rights, so it is always asked."""


class Reader(Strict):
    """A program that changes nothing, and what must not be said to it."""

    programs: Names
    words: Names = ()
    """Only with these subcommands; empty: always."""
    any: Names = ()
    """Only with one of these options."""
    never: Names = ()
    operands: int | None = None
    """At most so many operands."""
    inspect: bool = True
    """Runs no other program, whatever the workspace configures, and sends nothing."""


_WILD = frozenset("*?[")


def _any_of(names: Names) -> re.Pattern[str]:
    """One expression for all patterns among the names; it matches nothing where there is none."""
    return re.compile("|".join(translate(name) for name in names if not _WILD.isdisjoint(name)) or r"(?!)")


class Book(Strict):
    """One rule file, and the sum of all of them."""

    rules: tuple[Rule, ...] = ()
    targets: tuple[Target, ...] = ()
    wrappers: tuple[Wrapper, ...] = ()
    readers: tuple[Reader, ...] = ()
    values: dict[str, Names] = {}
    """By program, the options that take their value from the next argument."""
    outward: Names = ()
    """Programs that act on other machines, services or accounts, or on the settings of this one: what is not
    known of them is asked. `*` as in file names."""
    adding: frozenset[str] = frozenset()
    """Ids of rules that add a finding and make no program a known one: a workspace's own."""

    def is_outward(self, name: str) -> bool:
        """Whether a program acts beyond the workspace."""
        return name in self._outward or bool(self._outward_patterns.fullmatch(name))

    @cached_property
    def _outward(self) -> frozenset[str]:
        return frozenset(self.outward)

    @cached_property
    def _outward_patterns(self) -> re.Pattern[str]:
        return _any_of(self.outward)

    def names(self, program: str) -> bool:
        """Whether a rule is on a program of this very name."""
        return program in self._exact

    def candidates(self, program: str) -> list[Rule]:
        """The rules that name a program."""
        by_pattern = [rule for pattern, rule in self._patterned if pattern.fullmatch(program)]
        return [*self._exact.get(program, ()), *by_pattern]

    @cached_property
    def _exact(self) -> dict[str, tuple[Rule, ...]]:
        table: dict[str, tuple[Rule, ...]] = {}
        for rule in self.rules:
            for name in rule.program:
                table[name] = (*table.get(name, ()), rule)
        return table

    @cached_property
    def _patterned(self) -> list[tuple[re.Pattern[str], Rule]]:
        return [
            (_any_of(rule.program), rule)
            for rule in self.rules
            if not _WILD.isdisjoint("".join(rule.program))
        ]


@lru_cache(maxsize=1)
def builtin() -> Book:
    """The rules that come with orc; raises ConfigError."""
    return load(tuple(sorted(FOLDER.glob("*.yaml"))))


def load(files: tuple[Path, ...]) -> Book:
    """Read rule files into one book; raises ConfigError with the file, the line and every problem."""
    problems: list[Problem] = []
    books = []
    for file in files:
        try:
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            books.append(Book.model_validate(yaml.load(file.read_text("utf-8"), loader) or {}))  # noqa: S506
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            problems.append(Problem(file, line, column, "", error.problem or "not valid YAML"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            problems.append(Problem(file, 0, 0, "", str(error)))
        except ValidationError as error:
            problems += [
                Problem(file, 0, 0, ".".join(map(str, item["loc"])), item["msg"]) for item in error.errors()
            ]
    if problems:
        raise ConfigError(problems)
    return merged(books)


def merged(books: list[Book]) -> Book:
    """Several books as one."""
    return Book(
        rules=tuple(rule for book in books for rule in book.rules),
        targets=tuple(target for book in books for target in book.targets),
        wrappers=tuple(wrapper for book in books for wrapper in book.wrappers),
        readers=tuple(reader for book in books for reader in book.readers),
        values={name: options for book in books for name, options in book.values.items()},
        outward=tuple(name for book in books for name in book.outward),
        adding=frozenset().union(*(book.adding for book in books)),
    )


_SIGNAL = re.compile(r"-(SIG)?(HUP|INT|QUIT|KILL|TERM|STOP|CONT|USR[12]|ALRM|ABRT|TSTP|SEGV|PIPE|WINCH)")
"""Names of signals, which look like letters in a row."""


def has(option: str, arguments: list[str]) -> bool:
    """Whether an option was given: as it is, in a cluster of letters, or with `=value`."""
    for argument in arguments:
        if argument == option or (option.startswith("-") and argument.startswith(option + "=")):
            return True
        cluster = re.fullmatch("-[A-Za-z]", option) and re.match(r"-[A-Za-z0-9]{1,7}$", argument)
        if cluster and not _SIGNAL.fullmatch(argument) and option[1] in argument[1:]:
            return True
    return False


def shortened(option: str, arguments: list[str]) -> bool:
    """Whether the beginning of a long option was given, as Git and GNU programs take it."""
    return option.startswith("--") and any(
        len(argument) > 4 and argument.startswith("--") and option.startswith(argument)
        for argument in arguments
    )


def operands(program: str, arguments: list[str], values: dict[str, Names]) -> list[str]:
    """Arguments that are neither options nor values of options."""
    takes, skip = values.get(program, ()), False
    found: list[str] = []
    for at, argument in enumerate(arguments):
        if skip:
            skip = False
        elif argument == "--":
            return found + arguments[at + 1 :]
        elif argument in takes:
            skip = True
        elif not argument.startswith("-") or argument == "-":
            found.append(argument)
    return found


def without_values(program: str, arguments: list[str], values: dict[str, Names]) -> list[str]:
    """Arguments without the values of options that take one."""
    takes = values.get(program, ())
    return [item for before, item in pairwise(["", *arguments]) if before not in takes or not before]


def begins(found: list[str], sequences: Names) -> bool:
    """Whether the operands begin with one of the sequences; an unknown operand may be anything."""
    for sequence in sequences:
        wanted = sequence.split()
        if len(found) >= len(wanted) and all(map(_fits, found, wanted)):
            return True
    return False


def _fits(word: str, wanted: str) -> bool:
    return word == wanted or (not _WILD.isdisjoint(wanted) and fnmatchcase(word, wanted))


def applies(rule: Rule, program: str, arguments: list[str], given: str, book: Book) -> bool:
    """Whether a rule holds for a command of its program; `given` is its literal input, if any."""
    found = operands(program, arguments, book.values)
    if rule.words and not begins(found, rule.words):
        return False
    if any(found[:1] == [item[1:]] if item.startswith("^") else has(item, arguments) for item in rule.unless):
        return False
    if not all(has(option, arguments) for option in rule.all):
        return False
    if rule.any or rule.argument:
        by_option = any(has(option, arguments) or shortened(option, arguments) for option in rule.any)
        items = _task(found) if rule.task else arguments
        pattern = rule.argument
        if not by_option and not (pattern and any(re.search(pattern, item) for item in items)):
            return False
    return not rule.text or bool(re.search(rule.text, " ".join([*arguments, given]).strip(), re.IGNORECASE))


def _task(found: list[str]) -> list[str]:
    """The task that is run, by the operands of `npm` and the like."""
    at = 2 if found[:1] == ["workspace"] else 0
    at += found[at : at + 1] in (["run"], ["run-script"])
    return found[at : at + 1]


def rules_for(program: str, arguments: list[str], given: str, book: Book) -> list[Rule]:
    """All rules that hold for a command."""
    return [rule for rule in book.candidates(program) if applies(rule, program, arguments, given, book)]


def is_unknown(text: str) -> bool:
    """Whether a part of the text is not known before it runs."""
    return UNKNOWN in text


@dataclass(frozen=True)
class Wrong:
    """An example of a rule that comes out otherwise than its rule says."""

    rule: Rule
    command: str
    should: bool
    """Whether the rule should match it."""

    @property
    def text(self) -> str:
        """What is wrong, in words."""
        return f"`{self.command}` should {'' if self.should else 'not '}match, and does{' not' * self.should}"


def check_rules(book: Book | None = None, only: frozenset[str] | None = None) -> list[Wrong]:
    """Try every rule, or only some, on their own examples; returns those that come out wrong."""
    from orchestrator.safety.shell import examine  # noqa: PLC0415 - it builds on this module

    book = book or builtin()
    wrong = []
    for rule in book.rules:
        if only is not None and rule.id not in only:
            continue
        for should, commands in ((True, rule.match), (False, rule.not_match)):
            for command in commands:
                scene = Scene(root="/workspace/app", home="/home/dev", cwd="/workspace/app")
                found = any(finding.rule == rule.id for finding in examine(command, scene, book).findings)
                if found is not should:
                    wrong.append(Wrong(rule, command, should))
    return wrong
