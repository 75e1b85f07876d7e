"""Whether the user asked for a deletion: a small model may reach for `rm` when it is at a loss.

A person may still say yes to the call; `--yes` does not.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

NOT_ASKED = "request.asks-no-deletion"
"""Id of the rule."""
WHOLESALE = "request.deletes-everything"
"""Id of the rule for what `--yes` never approves, however it was asked."""
WHOLE_WORKSPACE = "shell.delete-root"
_CLEANS = "git.clean"
"""Deletes without naming what; the other rules for deletions have it in their name."""
GIT_RECORDS = frozenset({
    *("shell.write-git", "shell.delete-git", "shell.move-git", "shell.own-git"),
    "git.configures-programs",
})
"""Rules for what lies in `.git`: hooks and settings by which Git runs programs."""
_MACHINES = (
    r"(?:machine|computer|pc|laptop|server|system|disk|drive|hard ?disk|home|rechner|maschine|festplatte"
    r"|ordinateur|disque|ordenador|m[áa]quina|disco|sistema|syst[èe]me)\b(?!\.\w)"
)
"""And no names of files, such as `server.py`."""
_MACHINE = re.compile(rf"\b{_MACHINES}", re.I)
_FORMATS = re.compile(
    r"\bformat\w*\s+(?:(?:the|this|that|my|your|our|an?|whole|entire|main|\w:?|die|das|den|diesen?|meinen?|le|la|mon"
    rf"|ce|el|mi|este|il)\s+|l'){{0,3}}{_MACHINES}(?!\s+(?!and|then|now|please|with|as|to|und|et|y|\w\b)\w)",
    re.I,
)
"""A machine is to be formatted: not the code of a server, nor a report on a disk."""
_EVERYTHING = re.compile(
    r"\b(?:everything|anything|whatever|all (?:the )?(?:files|data|folders) (?:on|from|in|of)|wip\w+"
    r"|alles|tout|todo|tutto)\b",
    re.I,
)
_DELETION = re.compile(
    r"\b(?:delet|remov|eras|drop|purg|prun|wip|clean|clear|tidy|discard|destroy|uninstall|get rid"
    r"|throw away"
    r"|trash|empty|reset|undo|revert|rm\b|rmdir|unlink|dedup|free up|lösch|entfern|räum|aufräum|bereinig"
    r"|säuber|leere|supprim|efface|nettoi|enlev|retire|vide|elimin|borra|quita|limpia|cancell|rimuov|apag"
    r"|verwijder)",
    re.I,
)
_CHANGE = re.compile(
    r"\b(?:fix|repair|correct|chang|edit|writ|creat|add\b|append|insert|renam|mov|cop|delet|remov"
    r"|replac|sort"
    r"|merg|join\b|combin|concat|revers|trim\b|strip\b|extract|compress|convert|updat|sav|stor|put\b|make\b|set\b|generat|implement|leg|erstell|schreib|änder|lösch|benenn"
    r"|verschieb|sortier|beheb|reparier|korrigier|crée|écri|ajout|supprim|renomm|corrig|remplac|crea|escrib"
    r"|añad|borra|cambi|trie[rz]?\b|ordena)",
    re.I,
)
_SOME = re.compile(
    r"\b(?:all|every|any|each|files|folders|copies|duplicate\w*|empty|unused|old|older|oldest|new\w*|larg\w+|big\w+"
    r"|small\w+|stray|leftover\w*|alle|jede\w*|dateien|ordner|leere\w*|doppelt\w*|alte\w*|größer\w*|tous|toutes"
    r"|fichiers|dossiers|vides|anciens|todos|todas|archivos|carpetas|vac[ií]os|antiguos)\b",
    re.I,
)
_LOOK = re.compile(
    r"\s*(?:please |can you |could you |bitte |kannst du )?(?:summari[sz]e|sum up|read|show|list|explain"
    r"|describe|tell|count|find|search|look (?:up|into|at|for)|check|compare|print|give me|fass|lies"
    r"|zeig|erklär"
    r"|zähl|nenn|such|résume|lis\b|montre|explique|compte|cherche|lee\b|muestra|explica|cuenta|busca"
    r"|resume)",
    re.I,
)
_QUESTION = re.compile(
    r"\s*(?:what|which|how|where|who|why|when|is|are|does|did|was|wie|welche\w*|wo|wer|warum|quel\w*"
    r"|combien|où"
    r"|qui|pourquoi|cu[áa]\w+|d[óo]nde|qui[ée]n|qu[ée])\b",
    re.I,
)
_WORD = re.compile(r"[\w./-]+")


def asks_for_deletion(request: str) -> bool:
    """Whether the user's words speak of deleting anything."""
    return _DELETION.search(request) is not None


def asks_for_change(goal: str) -> bool:
    """Whether a task wants something changed; a question does not."""
    return _CHANGE.search(goal) is not None and not is_question(goal)


def is_question(goal: str) -> bool:
    """Whether a task begins as a question does."""
    return _QUESTION.match(goal) is not None


def only_looks(request: str) -> bool:
    """Whether a request plainly asks for no change: a question, or to read, show or sum up."""
    is_look = _QUESTION.match(request) or _LOOK.match(request)
    return is_look is not None and not _CHANGE.search(request) and not asks_for_deletion(request)


def leaves_choice(request: str) -> bool:
    """Whether the user asks to delete by a property, so that which files those are has to be looked up."""
    return asks_for_deletion(request) and _SOME.search(request) is not None


def beyond_yes(rules: Iterable[str], request: str, *, is_read_only: bool) -> str:
    """Why a call needs a person even with `--yes`, in one clause; empty when it does not.

    A whole workspace is too much to lose on a word that may have been meant otherwise, and a request to
    wipe a machine makes every call suspect that changes something. What Git runs by itself would run later,
    outside of everything that confines a command.
    """
    found = set(rules)
    if WHOLE_WORKSPACE in found:
        return "it deletes the whole workspace"
    if found & GIT_RECORDS:
        return "it changes what Git runs by itself: its hooks or settings"
    wipes = asks_for_deletion(request) and _MACHINE.search(request) and _EVERYTHING.search(request)
    if not is_read_only and (wipes or _FORMATS.search(request)):
        return "the request asks to delete everything on a machine"
    return ""


def is_unasked(
    rules: Iterable[str], arguments: Mapping[str, Any], request: str, own: Collection[str]
) -> bool:
    """Whether a call with these findings deletes what the user did not ask to delete.

    `own` are the files that the specialist itself wrote in this step: those it may delete.
    """
    is_deletion = any("delete" in rule or rule == _CLEANS for rule in rules)
    if not is_deletion or asks_for_deletion(request):
        return False
    text = " ".join(str(value) for value in arguments.values())
    named = [word.removeprefix("./") for word in _WORD.findall(text) if "." in word or "/" in word]
    return not (named and all(name in own for name in named))
