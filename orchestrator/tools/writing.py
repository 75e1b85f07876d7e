"""Write a file so that a crash, a full disk or a swapped link leaves the old file or the new one whole."""

from __future__ import annotations

import ast
import json
import os
import secrets
import stat
import tomllib
import warnings

from orchestrator.errors import ToolError
from orchestrator.tools.paths import Spot, explained, kind

LARGEST = 50_000_000


def replace(spot: Spot, content: bytes, path: str) -> None:
    """Write a new file beside the old one and rename it over; mode bits stay, hard links keep the old text.

    Raises ToolError, with nothing changed.
    """
    if len(content) > LARGEST:
        raise ToolError(
            f"{path!r}: {len(content):,} bytes are more than {LARGEST:,}; write it with run_python"
        )
    if spot.stat and not stat.S_ISREG(spot.stat.st_mode):
        raise ToolError(f"{path!r} is {kind(spot.stat)}, not a file; choose another name")
    fresh = f".{secrets.token_hex(6)}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    is_done = False
    with explained(path):
        fd = os.open(fresh, flags, 0o666, dir_fd=spot.folder)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                if spot.stat:
                    os.fchmod(fd, stat.S_IMODE(spot.stat.st_mode) & 0o777)
                file.flush()
                os.fsync(fd)
            os.rename(fresh, spot.name, src_dir_fd=spot.folder, dst_dir_fd=spot.folder)
            is_done = True
            os.fsync(spot.folder)
        finally:
            if not is_done:
                os.unlink(fresh, dir_fd=spot.folder)


def syntax(name: str, text: str) -> str:
    """One line on whether a file of a known kind can be parsed; empty for other kinds and for big files."""
    check = _CHECKS.get(name.rsplit(".", 1)[-1].lower())
    if check is None or "." not in name or len(text) > 1_000_000:
        return ""
    wrong = check(text)
    return f"\n{wrong}" if wrong else "\nsyntax: ok"


def _python(text: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except SyntaxError as error:
        near = f": {error.text.strip()}" if error.text and error.text.strip() else ""
        return f"syntax error line {error.lineno}: {error.msg}{near}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"syntax error: {error}"
    return ""


def _json(text: str) -> str:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f"syntax error line {error.lineno}: {error.msg}"
    except RecursionError:
        return "syntax error: nested too deeply"
    return ""


def _toml(text: str) -> str:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return f"syntax error: {error}"
    except RecursionError:
        return "syntax error: nested too deeply"
    return ""


def _yaml(text: str) -> str:
    import yaml  # noqa: PLC0415

    try:
        for _ in yaml.parse(text, Loader=yaml.SafeLoader):
            pass
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        return f"syntax error{line}: {error.problem}"
    except (yaml.YAMLError, RecursionError) as error:
        return f"syntax error: {error}"
    return ""


_CHECKS = {"py": _python, "json": _json, "toml": _toml, "yaml": _yaml, "yml": _yaml}
