"""What is known of where a text comes from: the mark that each tool result carries through the state.

Levels are those of `Trust`: the user and the settings 0, the workspace 1, everything else 2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NotRequired, TypedDict

from orchestrator.effects import Trust
from orchestrator.redaction import REDACTED, redact
from orchestrator.safety.cleaning import clean
from orchestrator.safety.naming import words
from orchestrator.safety.scanner import MANY_HIDDEN, suspicions
from orchestrator.safety.secrets import shows_secret


class Mark(TypedDict):
    """The provenance of one tool result; plain values, so that it can be stored."""

    trust: int
    """0, 1 or 2."""
    secret: NotRequired[bool]
    """A file of secrets was read, or a secret was taken out of the text."""
    asked: NotRequired[bool]
    """A person let this very call run, which says nothing of the next one."""
    odd: NotRequired[list[str]]
    """What in the text looks like an order."""
    hidden: NotRequired[int]
    """Hidden characters that were taken out."""


LONGEST_NAME, MOST_WORDS = 40, 4
"""Characters and words of a name that holds no sentence."""
OURS = Mark(trust=0)
"""The mark of a text that the orchestrator itself wrote."""


def received(text: str, trust: int, secrets: Collection[str], *, secret: bool = False) -> tuple[str, Mark]:
    """A tool result as it may enter the state, and its mark: cleaned, without secrets, looked at."""
    cleaned = clean(text)
    shown = redact(cleaned.text, secrets)
    odd = suspicions(cleaned)
    mark = Mark(trust=int(Trust.WEB if odd and trust else trust))
    # The mark itself counts: at a replay the secret is gone from the recorded text already.
    if secret or REDACTED in shown or shows_secret(shown):
        mark["secret"] = True
    if odd:
        mark["odd"] = odd
    if cleaned.hidden:
        mark["hidden"] = cleaned.hidden
    if cleaned.hidden >= MANY_HIDDEN or cleaned.spelt or cleaned.turned:
        shown += f"\n[{cleaned.hidden:,} hidden characters were taken out of this text]"
    return shown, mark


def mark_of(artifact: Any) -> Mark:
    """The mark that a stored result carries; a result without one may come from anywhere."""
    if not isinstance(artifact, dict) or artifact.get("trust") not in {0, 1, 2}:
        return Mark(trust=int(Trust.WEB))
    mark: Mark = {"trust": int(artifact["trust"]), "secret": bool(artifact.get("secret"))}
    mark["asked"] = bool(artifact.get("asked"))
    mark["odd"] = [str(each) for each in artifact.get("odd") or ()]
    return mark


def level_of_names(names: Iterable[str]) -> int:
    """Level of a list of names: they are facts, until one is long enough to say something."""
    telling = [name for name in names if len(name) > LONGEST_NAME or len(words(name)) > MOST_WORDS]
    if not telling:
        return 0
    told = clean("\n".join(telling).replace("_", " ").replace("-", " "))
    return int(Trust.WEB if suspicions(told) else Trust.WORKSPACE)
