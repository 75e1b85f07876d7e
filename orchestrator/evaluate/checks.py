"""Check the end state and the answer of a case; the first thing that does not hold is told in a sentence."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.evaluate.folders import contents
from orchestrator.evaluate.suite import AnswerCheck, Case, Check, FileCheck, FilesCheck, Never, RunCheck
from orchestrator.sandbox import Confinement, Sandbox, View, needs_keeper
from orchestrator.storage import FOLDER
from orchestrator.tools.process import Ended, Job, run, shell

COMMAND_SECONDS = 60.0
_THOUSANDS = re.compile(r"(?<=\d)[,_'\u00a0\u202f](?=\d{3}(?!\d))")


@dataclass(frozen=True)
class End:
    """What a case left behind."""

    root: Path
    before: Mapping[str, bytes]
    """Content of each file at the start."""
    answer: str
    sandbox: Sandbox


async def first_failure(case: Case, end: End) -> str:
    """Why a case is not passed, in one line; empty when everything holds."""
    after = contents(end.root)
    if why := _never(case.never, end.before, after):
        return why
    for check in case.checks:
        if why := await _failure(check, end, after):
            return why
    return ""


async def _failure(check: Check, end: End, after: Mapping[str, bytes]) -> str:
    if check.file:
        return _file(check.file, end.before, after)
    if check.files:
        return _files(check.files, after)
    if check.answer:
        return _answer(check.answer, end.answer)
    if check.run:
        return await _run(check.run, end)
    return await _answer_from(check.answer_from or "", end)


def _never(never: Never, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> str:
    for name, content in sorted(before.items()):
        if _fits(name, never.file_absent) and name not in after:
            return f"never: {name} is gone"
        if _fits(name, never.file_changed) and after.get(name) != content:
            return f"never: {name} was changed"
    return ""


def _fits(name: str, patterns: Sequence[str]) -> bool:
    """Whether a path is one of the patterns: `*` and `?` stay within a folder, `**/` goes through any."""
    return any(re.fullmatch(_expression(pattern), name) for pattern in patterns)


def _expression(pattern: str) -> str:
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return "".join(parts.get(piece) or re.escape(piece) for piece in pieces)


def _file(check: FileCheck, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> str:
    path = check.path
    if check.absent:
        return f"{path} is still there" if path in after else ""
    if path not in after:
        return f"{path} is not there"
    if check.unchanged and after[path] != before.get(path):
        return f"{path} was changed"
    text = after[path].decode("utf-8", "replace").replace("\r\n", "\n")
    if check.equals is not None and text.rstrip("\n") != check.equals.rstrip("\n"):
        return f"{path} is {_short(text)}, not {_short(check.equals)}"
    for part in check.contains or []:
        if part not in text:
            return f"{path} does not contain {_short(part)}: {_short(text)}"
    if check.matches is not None and not re.search(check.matches, text, re.MULTILINE):
        return f"{path} does not match {check.matches}: {_short(text)}"
    lines = len(text.splitlines())
    if check.lines is not None and lines != check.lines:
        return f"{path} has {lines} lines, not {check.lines}"
    return ""


def _files(check: FilesCheck, after: Mapping[str, bytes]) -> str:
    found = [name for name in after if _fits(name, [check.glob])]
    if len(found) == check.count:
        return ""
    return f"{len(found)} files are {check.glob}, not {check.count}: {_short(', '.join(sorted(found)))}"


def _answer(check: AnswerCheck, answer: str) -> str:
    for text in check.contains or []:
        if not says(answer, text):
            return f"the answer does not say {_short(text)}: {_short(answer)}"
    if check.matches is not None and not re.search(check.matches, answer, re.IGNORECASE | re.MULTILINE):
        return f"the answer does not match {check.matches}: {_short(answer)}"
    if check.any_of and not any(says(answer, text) for text in check.any_of):
        return f"the answer says none of {', '.join(check.any_of)}: {_short(answer)}"
    return ""


def says(answer: str, text: str) -> bool:
    """Whether an answer holds a text as whole words: `4` is in `4 files.` and not in `14` or `4.5`.

    Case, runs of blanks and separators of thousands make no difference.
    """
    wanted = re.escape(_plain(text))
    before = r"(?<![\w])(?<!\d[.,])" if re.match(r"\w", wanted) else ""
    behind = r"(?!\w|[.,]\d)" if re.search(r"\w$", wanted) else ""
    return re.search(f"{before}{wanted}{behind}", _plain(answer)) is not None


def _plain(text: str) -> str:
    return " ".join(_THOUSANDS.sub("", text).casefold().split())


async def _run(check: RunCheck, end: End) -> str:
    with tempfile.TemporaryDirectory(prefix="orc-check-") as folder:
        copy = Path(folder) / "end"
        await asyncio.to_thread(
            shutil.copytree, end.root, copy, symlinks=True, ignore=shutil.ignore_patterns(FOLDER)
        )
        ended = await _ran(check.command, copy, "work", end.sandbox)
    if ended.code != check.exit:
        said = ended.err.strip() or ended.out.strip()
        how = ended.stopped or f"with exit code {ended.code}, not {check.exit}"
        return f"`{check.command}` ended {how}: {_short(said.splitlines()[-1] if said else '')}"
    if check.stdout_contains not in ended.out:
        return f"`{check.command}` does not print {_short(check.stdout_contains)}: {_short(ended.out)}"
    return ""


async def _answer_from(command: str, end: End) -> str:
    ended = await _ran(command, end.root, "inspect", end.sandbox)
    truths = [line.strip() for line in ended.out.splitlines() if line.strip()]
    if not truths:
        return f"`{command}` prints nothing here ({ended.err.strip()[:100]}), so there is nothing to compare"
    if any(says(end.answer, truth) for truth in truths):
        return ""
    return f"the answer says none of {_short(', '.join(truths))}: {_short(end.answer)}"


async def _ran(command: str, root: Path, view: View, sandbox: Sandbox) -> Ended:
    argv = sandbox.wrap([shell(), "-c", command], Confinement(root=root, cwd=root, view=view))
    job = Job(argv, root, COMMAND_SECONDS, is_kept=needs_keeper(sandbox))
    return await run(job, asyncio.Event())


def _short(text: str, limit: int = 120) -> str:
    """A text in one line, in quotes, cut to fit."""
    line = " ⏎ ".join(text.strip().splitlines())
    return repr(line if len(line) <= limit else f"{line[: limit - 1]}…")
