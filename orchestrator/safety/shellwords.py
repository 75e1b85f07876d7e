"""Commands of the shell itself: they change what is known, and run text that they are given."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.safety import interpreters, unwrap
from orchestrator.safety.familiar import HELPS_BY_LETTER, asks_for_help
from orchestrator.safety.output import output_of
from orchestrator.safety.scope import Scope, absolute, scope
from orchestrator.safety.verdict import Level
from orchestrator.safety.walk import Invocation
from orchestrator.safety.words import MOST, SPLIT, UNKNOWN, Scene

if TYPE_CHECKING:
    from orchestrator.safety.shell import Examiner


def special(examiner: Examiner, name: str, invocation: Invocation) -> bool:
    """Follow a command of the shell, or one that only asks for help; False for any other."""
    arguments, scene = invocation.argv[1:], invocation.scene
    by_letter = name in HELPS_BY_LETTER or examiner.book.is_outward(name)
    if asks_for_help(arguments, by_letter=by_letter) and name not in unwrap.SHELLS:
        examiner.inspects = False
        return True
    if name in {"cd", "pushd", "popd"}:
        _move(name, arguments, scene)
    elif name == "eval":
        examiner.walk.script(" ".join(arguments), scene)
    elif name in {".", "source"}:
        _source(examiner, arguments, invocation)
    elif name in {"alias", "trap"}:
        for item in arguments if name == "alias" else [word for word in arguments if word != "--"][:1]:
            short, _, script = item.partition("=") if name == "alias" else ("", "", item.strip("-"))
            if short:
                _alias(examiner, short, script, scene)
            else:
                examiner.walk.script(script, scene.copy())
    else:
        return _sets(name, arguments, invocation)
    return True


def _alias(examiner: Examiner, short: str, script: str, scene: Scene) -> None:
    """A short name: only ruin counts where it is given, everything where it is used."""
    at, before = len(examiner.findings), (examiner.reads_only, examiner.inspects, examiner.inside)
    examiner.walk.script(script, scene.copy())
    examiner.reads_only, examiner.inspects, examiner.inside = before
    examiner.findings[at:] = [item for item in examiner.findings[at:] if item.level is Level.DENY]
    scene.values[f"alias {short}"] = (script,)


def _sets(name: str, arguments: list[str], invocation: Invocation) -> bool:
    """Commands that set variables to what nobody knows yet, or the script's own arguments."""
    scene = invocation.scene
    if name == "unset":
        for variable in arguments:
            scene.assign(variable, ("",))
        return True
    if name == "set" and ("--" in arguments or (arguments[:1] and arguments[0][:1] not in "-+")):
        given = arguments[arguments.index("--") + 1 :] if "--" in arguments else arguments
        scene.positional = given if scene.certain or scene.positional is None else None
        return True
    if name == "printf" and arguments[:1] == ["-v"] and len(arguments) > 2:
        text = output_of(["printf", *arguments[2:]], None, scene)
        scene.assign(arguments[1], (UNKNOWN if text is None else text,))
        return True
    if name == "hash" and arguments[:1] == ["-p"] and len(arguments) > 2:
        scene.values[f"alias {arguments[2]}"] = (arguments[1],)
        return True
    if name in {"read", "mapfile", "readarray", "getopts"}:
        _reads(name, arguments, invocation)
        return True
    return name == "command" and bool(re.match(r"-[vV]", "".join(arguments[:1])))


def _reads(name: str, arguments: list[str], invocation: Invocation) -> None:
    """`read` and its like: known where their input is."""
    scene, given = invocation.scene, invocation.given
    variables = [item for item in arguments if not item.startswith("-")]
    lines = tuple((given or "").splitlines())
    into_array = bool(re.match(r"-r?a", "".join(arguments[:1])))
    if name == "read" and len(lines) == 1 and (len(variables) > 1 or into_array):
        _read_fields(variables, lines[0], scene, into_array=into_array)
        return
    known = name == "read" and len(variables) == 1 and 0 < len(lines) <= MOST
    if name in {"mapfile", "readarray"} and given is not None:
        lines, known = (SPLIT.join(lines),), True
    if name == "read" and given is None and (places := unwrap.found_by(invocation.piped)):
        lines, known = tuple(places), len(variables) == 1
    for variable in variables:
        scene.values[scene.name(variable)] = lines if known else (UNKNOWN,)


def _read_fields(variables: list[str], line: str, scene: Scene, *, into_array: bool) -> None:
    """`read` of a known line into several variables, or into an array."""
    separators = scene.values.get("IFS", (" \t",))[0] or "\n"
    found = [item for item in re.split(f"[{re.escape(separators)}]+", line) if item]
    if into_array:
        found, variables = [SPLIT.join(found)], variables[:1]
    for at, variable in enumerate(variables):
        rest = found[at:] if at == len(variables) - 1 else found[at : at + 1]
        scene.assign(variable, (" ".join(rest),))


def _source(examiner: Examiner, arguments: list[str], invocation: Invocation) -> None:
    """`.` and `source`: the script runs in this very shell."""
    file, scene = "".join(arguments[:1]), invocation.scene
    script = scene.script(absolute(file, scene))
    if file in {"/dev/stdin", "-"}:
        script = invocation.given
    if script is not None:
        examiner.walk.script(script, scene)
    elif (
        UNKNOWN in file
        or file.startswith("/dev/")
        or (
            scope(file, scene) is Scope.OUTSIDE and not interpreters.SHELL_SETUP.search(absolute(file, scene))
        )
    ):
        examiner.doubt("shell.unknown-script", "runs a script that is not known before it runs")
    else:
        interpreters.script_file(examiner, file, arguments[1:], scene)
        scene.values["PATH"] = (UNKNOWN,)


def _move(name: str, arguments: list[str], scene: Scene) -> None:
    """Follow `cd` and `pushd`; after `popd` and `cd -` the folder is not known."""
    goal = next((item for item in arguments if not item.startswith("-")), scene.home)
    path = absolute(goal, scene)
    is_known = UNKNOWN not in path and "-" not in arguments and name != "popd" and not goal.startswith("+")
    scene.cwd = path if is_known and (name == "cd" or "-n" not in arguments) else None
