"""Which of several equal places in a file a task means: the one whose neighbouring lines it names."""

from __future__ import annotations

import json
import re
from typing import Any

from langchain_core.messages import AIMessage

_OCCURS = re.compile(r"^Error: .+: the text occurs \d+ times, at lines ")
_WORD = re.compile(r"[^\W\d_]{3,}")


def meant(message: AIMessage, result: str, goal: str) -> dict[str, Any] | None:
    """The edit that failed because its text is there more than once, for the one place that is meant.

    The result of edit_file holds the places with the lines around them, as JSON strings. None where the words
    of the task fit none of them, or more than one.
    """
    call = message.tool_calls[-1] if message.tool_calls else None
    if call is None or call["name"] != "edit_file" or not _OCCURS.match(result):
        return None
    old, new = str(call["args"].get("old", "")), str(call["args"].get("new", ""))
    places = [place for line in result.splitlines()[1:] if (place := _text(line)) and place.count(old) == 1]
    asked = _words(goal)
    around = [_words(place.replace(old, " ", 1)) for place in places]
    common = set.intersection(*around) if around else set()
    fitting = [place for place, words in zip(places, around, strict=True) if (words - common) & asked]
    if len(fitting) != 1:
        return None
    return {**call["args"], "old": fitting[0], "new": fitting[0].replace(old, new, 1)}


def _text(line: str) -> str:
    """The text of a place as it stands in the result; empty where the line is none."""
    try:
        value = json.loads(line)
    except ValueError:
        return ""
    return value if isinstance(value, str) else ""


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}
