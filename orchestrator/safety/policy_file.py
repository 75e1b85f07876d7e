"""The policy files that people write: their own beside their settings, and the workspace's.

A user's file may loosen and tighten; a workspace's may only tighten, because a folder that one walks into
must not decide what may happen there. What denies outright is loosened by nobody.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field

from orchestrator.documents import Document, read_yaml, validate
from orchestrator.documents.checking import suggestion
from orchestrator.errors import ConfigError, Problem
from orchestrator.safety.rulebook import Book, Rule, Strict, builtin, check_rules, level_of, merged
from orchestrator.safety.verdict import Level, spelt
from orchestrator.settings import config_dir

M = TypeVar("M", Book, Rule)
POLICY_FILE = "policy.yaml"
LevelName = Literal["allow", "allow_with_snapshot", "review", "ask", "deny"]


class PolicyFile(Strict):
    """The whole of `policy.yaml`."""

    rules: tuple[Rule, ...] = ()
    """Rules of one's own, with examples; the gravest of all rules that match decides."""
    levels: dict[str, LevelName] = Field(default_factory=dict)
    """By id of a built-in rule, the level that holds instead of its own."""


@dataclass(frozen=True)
class Layer:
    """One policy file and whether it may loosen."""

    document: Document
    content: PolicyFile
    tightens_only: bool


def load_book(root: Path | None) -> Book:
    """The built-in rules with the user's and the workspace's; raises ConfigError with every problem."""
    files = [(config_dir() / POLICY_FILE, False)]
    if root is not None:
        files.append((root / POLICY_FILE, True))
    book, problems = builtin(), []
    for file, tightens_only in files:
        if not os.path.lexists(file):
            continue
        try:
            document = read_yaml(file)
            layer = Layer(document, validate(document, PolicyFile), tightens_only)
            book = _laid(book, layer)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return book


def _laid(book: Book, layer: Layer) -> Book:
    """A book with one more layer; raises ConfigError."""
    problems = [*_level_problems(book, layer), *_rule_problems(book, layer)]
    if problems:
        raise ConfigError(problems)
    levels = layer.content.levels
    rules = tuple(_changed(rule, level=levels[rule.id]) if rule.id in levels else rule for rule in book.rules)
    own = layer.content.rules
    adding = frozenset(rule.id for rule in own) if layer.tightens_only else frozenset()
    laid = merged([_changed(book, rules=rules), Book(rules=own, adding=adding)])
    if wrong := _example_problems(laid, layer):
        raise ConfigError(wrong)
    return laid


def _changed(model: M, **changes: Any) -> M:
    """A copy with other values; unlike `model_copy` without what the old one has cached."""
    fields = {name: getattr(model, name) for name in type(model).model_fields}
    return type(model)(**{**fields, **changes})


def _level_problems(book: Book, layer: Layer) -> list[Problem]:
    known = {rule.id: rule for rule in book.rules}
    problems = []
    for name, level in layer.content.levels.items():
        rule, place = known.get(name), ("levels", name)
        if rule is None:
            text = f"no built-in rule has this id{suggestion(name, known)}"
            problems.append(layer.document.problem(place, text, at_key=True))
        elif level_of(level) < rule.severity and (layer.tightens_only or rule.severity is Level.DENY):
            who = "a workspace may only tighten" if layer.tightens_only else "what is denied stays denied"
            text = f"{who}: {name} is {spelt(rule.severity)}, and {level} is less"
            problems.append(layer.document.problem(place, text))
    return problems


def _rule_problems(book: Book, layer: Layer) -> list[Problem]:
    taken = {rule.id for rule in book.rules}
    problems = []
    for at, rule in enumerate(layer.content.rules):
        place = ("rules", at)
        if rule.id in taken:
            text = f"the id {rule.id!r} is taken; choose another, or set its level under `levels`"
            problems.append(layer.document.problem((*place, "id"), text))
        taken.add(rule.id)
        if both := sorted(set(rule.match) & set(rule.not_match)):
            text = f"contradicts itself: {both[0]!r} is under `match` and under `not_match`"
            problems.append(layer.document.problem((*place, "not_match"), text))
        if layer.tightens_only and rule.severity < Level.REVIEW:
            text = f"a workspace may only tighten: a rule here is review, ask or deny (got '{rule.level}')"
            problems.append(layer.document.problem((*place, "level"), text))
        for field in ("argument", "text"):
            if is_slow(getattr(rule, field)):
                text = "repeats something that repeats inside, which can take for ever; write it without"
                problems.append(layer.document.problem((*place, field), text))
    return problems


def _example_problems(book: Book, layer: Layer) -> list[Problem]:
    """Examples that come out otherwise, and rules that another rule makes pointless."""
    own = {rule.id: at for at, rule in enumerate(layer.content.rules)}
    problems = []
    for wrong in check_rules(book, only=frozenset(own)):
        place: tuple[Any, ...] = ("rules", own[wrong.rule.id], "match" if wrong.should else "not_match")
        place = (*place, (wrong.rule.match if wrong.should else wrong.rule.not_match).index(wrong.command))
        problems.append(layer.document.problem(place, f"{wrong.rule.id}: {wrong.text}"))
    return problems


def is_slow(pattern: str) -> bool:
    """Whether a pattern repeats a group that itself repeats: such a one can take exponential time."""
    depth_repeats: list[bool] = [False]
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            at += 2
            continue
        if char == "[":
            at = _end_of_class(pattern, at)
        elif char == "(":
            depth_repeats.append(False)
        elif char == ")" and len(depth_repeats) > 1:
            inner = depth_repeats.pop()
            if inner and pattern[at + 1 : at + 2] in {"*", "+", "{"}:
                return True
            depth_repeats[-1] |= inner
        elif char in "*+{":
            depth_repeats[-1] = True
        at += 1
    return False


def _end_of_class(pattern: str, at: int) -> int:
    """The position of the `]` that closes a character class."""
    at += 2 if pattern[at + 1 : at + 2] == "^" else 1
    at += pattern[at : at + 1] == "]"
    while at < len(pattern) and pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    return at
