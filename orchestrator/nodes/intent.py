"""Whether the user asked for a deletion: a small model may reach for `rm` when it is at a loss.

A person may still say yes to the call; `--yes` does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage

NOT_ASKED = "request.asks-no-deletion"
"""Id of the rule."""
_DELETION = re.compile(
    r"\b(?:delet|remov|eras|drop|purg|prun|wip|clean|clear|tidy|discard|destroy|uninstall|get rid|throw away"
    r"|trash|empty|reset|undo|revert|rm\b|rmdir|unlink|dedup|free up|lösch|entfern|räum|aufräum|bereinig"
    r"|säuber|leere|supprim|efface|nettoi|enlev|retire|vide|elimin|borra|quita|limpia|cancell|rimuov|apag"
    r"|verwijder)",
    re.I,
)
_WORD = re.compile(r"[\w./-]+")


def asks_for_deletion(request: str) -> bool:
    """Whether the user's words speak of deleting anything."""
    return _DELETION.search(request) is not None


def is_unasked(
    rules: Iterable[str], arguments: Mapping[str, Any], request: str, done: Sequence[AnyMessage]
) -> bool:
    """Whether a call with these findings deletes what the user did not ask to delete.

    What the specialist itself wrote in this step is its own to delete.
    """
    if not any("delete" in rule for rule in rules) or asks_for_deletion(request):
        return False
    own = {
        str(call["args"].get("path", "")).removeprefix("./")
        for message in done
        if isinstance(message, AIMessage)
        for call in message.tool_calls
        if call["name"] == "write_file"
    }
    text = " ".join(str(value) for value in arguments.values())
    named = [word.removeprefix("./") for word in _WORD.findall(text) if "." in word or "/" in word]
    return not (named and all(name in own for name in named))
