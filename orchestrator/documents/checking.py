"""Check what a file says against a Pydantic model, and say in plain words where it is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from orchestrator.documents.reading import Document, Place, describe
from orchestrator.errors import ConfigError, Problem

M = TypeVar("M", bound=BaseModel)


def closest(word: str, words: Iterable[str]) -> str | None:
    """The word that was probably meant, if one is close enough."""
    close = difflib.get_close_matches(word[:100].lower(), list(words), n=1, cutoff=0.6)
    return close[0] if close else None


def suggestion(word: str, words: Iterable[str]) -> str:
    """`; did you mean 'x'?` when one of the words is close, else nothing."""
    close = closest(word, words)
    return f"; did you mean '{close}'?" if close else ""


def validate(document: Document, model: type[M]) -> M:
    """Check a document against a model; raises ConfigError with all its problems at once."""
    try:
        valid = model.model_validate(document.value)
    except ValidationError as error:
        wrong = error.errors(include_url=False)
        raise ConfigError([*document.problems, *_explain(document, model, wrong)]) from None
    if document.problems:
        raise ConfigError(document.problems)
    return valid


def _explain(document: Document, model: type[BaseModel], errors: Sequence[Any]) -> list[Problem]:
    """Problems of a validation; the several errors of one union become one problem."""
    texts: dict[tuple[Place, bool], list[str]] = {}
    meant = {_meant(model, error) for error in errors}
    for error in errors:
        if error["type"] == "missing" and error["loc"] in meant:
            continue  # its misspelling is a problem already, with this key as the suggestion
        at_key = error["type"] == "extra_forbidden" or error["loc"][-1:] == ("[key]",)
        place: Place = tuple(part for part in error["loc"] if part != "[key]")
        if error["type"] != "missing":
            place = document.known(place)
        text = _text(error, _keys_at(model, place[:-1]))
        lines = texts.setdefault((place, at_key), [])
        if text not in lines:
            lines.append(text)
    return [document.problem(place, " or ".join(lines), at_key=key) for (place, key), lines in texts.items()]


def _meant(model: type[BaseModel], error: Any) -> Place | None:
    """The place that a misspelt key probably stands for."""
    if error["type"] != "extra_forbidden":
        return None
    *around, key = error["loc"]
    close = closest(str(key), _keys_at(model, tuple(around)))
    return (*around, close) if close else None


def _keys_at(model: Any, place: Place) -> list[str]:
    """The keys that a mapping at this place may have; empty where the model does not say."""
    for part in place:
        if isinstance(model, type) and issubclass(model, BaseModel):
            field_of_part = model.model_fields.get(str(part))
            model = field_of_part.annotation if field_of_part else None
        else:
            inner = [item for item in get_args(model) if item is not type(None)]
            model = inner[-1] if inner else None
        while get_origin(model) in {Union, UnionType, Annotated}:
            candidates = [item for item in get_args(model) if item is not type(None)]
            model = candidates[0]
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


_EXPECTED = {
    "string": "text; put it in quotes",
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "model": "a mapping",
}
"""What a value must be, by the first word of Pydantic's error type."""


def _text(error: Any, keys: list[str]) -> str:
    """One validation error in our words, with the limit and the value."""
    kind, value, limits = error["type"], error["input"], error.get("ctx", {})
    got = f"(got {describe(value)})"
    if kind == "extra_forbidden":
        name = str(error["loc"][-1])
        return f"unknown key{suggestion(name, keys) or '; known keys: ' + ', '.join(keys)}"
    if kind == "missing":
        return "this key is required and missing"
    if kind in {"literal_error", "enum"}:
        allowed = re.findall(r"'([^']*)'", limits["expected"]) or [limits["expected"]]
        return f"must be one of {', '.join(allowed)} {got}{suggestion(str(value), allowed)}"
    bounds = {"greater_than_equal": "at least", "greater_than": "more than"}
    bounds |= {"less_than_equal": "at most", "less_than": "less than"}
    if kind in bounds:
        limit = next(iter(limits.values()))
        return f"must be {bounds[kind]} {limit} {got}"
    if kind == "string_pattern_mismatch":
        return f"must match {limits['pattern']} {got}"
    if kind in {"string_too_short", "string_too_long"}:
        bound = limits.get("min_length") or limits.get("max_length")
        side = "at least" if kind == "string_too_short" else "at most"
        return f"must have {side} {bound} characters (got {len(value)})"
    if kind == "value_error":
        return f"{limits['error']} {got}"
    if expected := _EXPECTED.get(kind.split("_")[0]):
        return f"must be {expected} {got}"
    return f"{error['msg'][0].lower()}{error['msg'][1:]} {got}"
