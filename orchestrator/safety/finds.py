"""`find` with actions: they meet what lies below its starting points."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.safety import targets
from orchestrator.safety.scope import Scope, scope
from orchestrator.safety.walk import Invocation
from orchestrator.safety.words import UNKNOWN

if TYPE_CHECKING:
    from orchestrator.safety.shell import Examiner

_WRITES = ("-fprint", "-fprint0", "-fls", "-fprintf")
_ACTIONS = frozenset({"-delete", "-exec", "-execdir", "-ok", "-okdir", *_WRITES})
SELECTED = "/selected"
"""How a target ends that stands for what a `find` picks."""


def actions(examiner: Examiner, invocation: Invocation, subject: str) -> bool:
    """What a `find` does with what it finds; whether it does anything."""
    arguments, scene = invocation.argv[1:], invocation.scene
    starts, selective = targets.find_starts(arguments)
    places = [
        start.rstrip("/") + SELECTED if selective and scope(start, scene) is Scope.ROOT else start
        for start in starts
    ]
    for place in places if "-delete" in arguments else ():
        examiner.change("delete", place or "/", scene, tree=True, subject=subject)
    for at, argument in enumerate(arguments):
        if argument in _WRITES:
            examiner.change("write", "".join(arguments[at + 1 : at + 2]), scene)
    for argv in targets.find_commands(arguments):
        for place in places:
            if selective and (scope(place, scene) is not Scope.VITAL or place.startswith(scene.home)):
                continue
            if any(change.effect == "write" for change in targets.changes(argv[0], argv[1:], examiner.book)):
                examiner.change("own", place, scene, tree=True, subject=subject)
        for place in places:
            at = len(examiner.findings)
            filled = [item.replace(UNKNOWN, place) for item in argv]
            examiner.walk.nested(Invocation(filled, scene.copy()))
            # Who named the target is seen in what the search looks for, so the finding is on the search.
            examiner.findings[at:] = [
                replace(found, subject=subject) if found.target == place else found
                for found in examiner.findings[at:]
            ]
    return bool(_ACTIONS.intersection(arguments))
