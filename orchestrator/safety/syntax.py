"""Shell text in, syntax tree out, by shfmt; what shfmt refuses or is slow on is refused here too."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import Any

Node = dict[str, Any]
"""A node of shfmt's JSON tree, with its own field names."""

MAX_BYTES = 64 * 1024
MAX_SECONDS = 0.5
"""For one command, parser and walk together."""
PARSE_SECONDS = 0.6 * MAX_SECONDS
MOST_COMMANDS = 8_000
"""Separators between commands; what has more is not even parsed."""
SHORT = 4_096
"""Characters that shfmt reads in a few milliseconds."""


class Unreadable(Exception):
    """The text cannot be parsed for certain, so nobody can say what it does."""


@lru_cache(maxsize=1)
def shfmt() -> str:
    """Path of an shfmt that gives the trees we know; raises Unreadable when there is none."""
    found = next((str(place) for place in _places() if os.access(place, os.X_OK)), None)
    if not found:
        raise Unreadable("shfmt is not installed, so no command can be checked")
    try:
        tree = _tree(found, _SAMPLE, _SAMPLE_SECONDS)
    except subprocess.TimeoutExpired:
        raise Unreadable(f"{found} does not answer within {_SAMPLE_SECONDS:g} s") from None
    if " ".join(_shape(tree)).strip() != _SAMPLE_SHAPE:
        raise Unreadable(f"{found} gives other trees than shfmt-py 4, so no command can be checked")
    return found


def _places() -> list[Path]:
    """Where shfmt may be: beside our Python, then on the way that the user's own programs are found."""
    beside = [Path(sys.executable).parent, Path(sysconfig.get_path("scripts")), Path(sys.prefix) / "bin"]
    found = [folder / name for folder in beside for name in ("shfmt", "shfmt.exe")]
    system = shutil.which("shfmt")
    return [*found, Path(system)] if system else found


_SAMPLE = "a 'b' | c \"$(d >e)\" && f <<g\nh\ng\n"
_SAMPLE_SHAPE = (
    "File BinaryCmd && BinaryCmd | CallExpr Lit a SglQuoted b CallExpr Lit c DblQuoted CmdSubst "
    "CallExpr Lit d > Lit e CallExpr Lit f << Lit g Lit h"
)
_SAMPLE_SECONDS = 4 * MAX_SECONDS


def _shape(tree: Any) -> list[str]:
    """Types, operators and values of all nodes, from the outside in and from left to right."""
    if isinstance(tree, list):
        return [kind for item in tree for kind in _shape(item)]
    if not isinstance(tree, dict):
        return []
    own = [str(tree[name]) for name in ("Type", "Op", "Value") if name in tree]
    return own + [kind for item in tree.values() for kind in _shape(item)]


def parse(text: str) -> Node:
    """Return the tree of a bash script; raises Unreadable."""
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise Unreadable("it holds bytes that are not text") from None
    if len(encoded) > MAX_BYTES:
        raise Unreadable(f"it has {len(encoded):,} bytes, more than the {MAX_BYTES:,} that are checked")
    if len(text) > MOST_COMMANDS and sum(map(text.count, ";|&\n")) > MOST_COMMANDS:
        raise Unreadable(f"it has more than {MOST_COMMANDS:,} parts")
    if "\0" in text:
        raise Unreadable("it holds a NUL byte")
    return plain(text) or _cached(text)


_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,-]+(?: +[A-Za-z0-9_./:@%+,=-]+)*")
_RESERVED = frozenset(
    re.findall(
        r"\w+",
        "if then else elif fi for while until do done case esac in select function time coproc "
        "declare typeset local export readonly nameref let eval test",
    )
)


def plain(text: str) -> Node | None:
    """The tree of a command without quotes, operators and expansions, as shfmt gives it; else None.

    Every character outside the class of plain ones, and every reserved first word, is left to shfmt.
    """
    if not _PLAIN.fullmatch(text) or text.split(" ", 1)[0] in _RESERVED:
        return None
    words = [{"Parts": [{"Type": "Lit", "Value": word}]} for word in text.split()]
    return {"Type": "File", "Stmts": [{"Cmd": {"Type": "CallExpr", "Args": words}}]}


@lru_cache(maxsize=64)
def _cached(text: str) -> Node:
    # What is short is slow only because the machine is busy, so it gets a second chance.
    limits = (MAX_SECONDS, 4 * MAX_SECONDS) if len(text) < SHORT else (PARSE_SECONDS,)
    for limit in limits:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return _parsed(text, limit)
    raise Unreadable(f"the parser took longer than {limits[-1]:g} s")


def _tree(program: str, text: str, seconds: float) -> Any:
    """What shfmt gives; raises Unreadable and TimeoutExpired."""
    try:
        done = subprocess.run(
            [program, "-ln", "bash", "--to-json"],
            input=text.encode(),
            capture_output=True,
            timeout=seconds,
            check=False,
            env={"PATH": os.defpath, "HOME": os.devnull},
        )
        if done.returncode == 0:
            return json.loads(done.stdout)
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable(f"the parser failed: {error}") from None
    reason = done.stderr.decode(errors="replace").strip().partition(": ")[2]
    raise Unreadable(f"it is not valid shell: {reason or 'no reason given'}")


def _parsed(text: str, seconds: float) -> Node:
    """The tree by shfmt; raises Unreadable and TimeoutExpired."""
    tree = _tree(shfmt(), text, seconds)
    if not isinstance(tree, dict):
        raise Unreadable("the parser gave no tree")
    # shfmt gives too early an end for a script that ends with a here document or a coprocess.
    is_whole = tree.get("End", {}).get("Offset", 0) >= len(text.rstrip().encode())
    is_whole |= "<<" in text or "coproc" in text
    if tree.get("Type") != "File" or not is_whole:
        raise Unreadable("the parser did not read all of it")
    return tree


def substitutions(node: Any) -> list[Node]:
    """Every command or process substitution anywhere below a node, outermost only."""
    found: list[Node] = []
    stack = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            if item.get("Type") in {"CmdSubst", "ProcSubst"}:
                found.append(item)
            else:
                stack.extend(item.values())
    return found
