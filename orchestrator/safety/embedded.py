"""Commands inside an argument of another program, as editors, debuggers and Git aliases have them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.safety.verdict import Level
from orchestrator.safety.walk import Invocation
from orchestrator.safety.words import UNKNOWN, Scene, ansi_c

if TYPE_CHECKING:
    from orchestrator.safety.shell import Examiner

_PATTERNS = {
    "vim vi nvim ex view less more man": r":?(?:silent\s+)?!(.+)",
    "tmux screen zellij": r"^(\S+ .*)",
    "git": r"=!(.+)|^(?:-O|--open-files-in-pager=)(.+)",
    "tar bsdtar": r"(?:exec|^--to-command|^--use-compress-program|^--rsh-command)=(.+)",
    "mysql mariadb": r"^\s*(?:system|\\!)\s+(.+)",
    "sqlite3 sqlite": r"^\s*\.(?:shell|system)\s+(.+)",
    "psql": r"^\s*\\!\s*(.+)",
    "gdb lldb": r"^(?:shell|!)\s*(.+)",
    "socat": r"(?:EXEC|SYSTEM):([^,]+)",
    "ssh scp sftp": r"(?:ProxyCommand|LocalCommand)[= ](.+)",
    "rsync": r"^--rsync-path=(.+)",
    "sed gsed": r"(?:^|[;{/\d$ ])e\s+(.+)",
    "awk gawk mawk nawk": r"(?:system\(\s*|\|\s*)\"((?:[^\"\\]|\\.)+)\""
    r"|\"((?:[^\"\\]|\\.)+)\"\s*\|&?\s*getline",
}


def _put_together(script: str, given: str | None) -> str:
    """The script of an `awk`, with texts side by side as one, and fields as far as they are known."""
    line = (given or "").strip()
    fields = dict(enumerate([line, *line.split()]))

    def field(match: re.Match[str]) -> str:
        known = fields.get(int(match[1]), "") if match[1].isdigit() else ""
        return (known or UNKNOWN) + '"'

    for variable, text in re.findall(r'(\w+)\s*=\s*("(?:[^"\\]|\\.)*")', script):
        script = re.sub(rf"(system\(\s*|\|\s*){variable}\b", lambda match, text=text: match[1] + text, script)  # type: ignore[misc]
    return re.sub(r'"\s*\$(\d+|NF)(?=\s*[)|"])', field, re.sub(r'(?<!\\)"\s+"', "", script))


_WRITES = {
    "awk gawk mawk nawk": r"\bprintf?\b[^;}|]*?>{1,2}\s*\"([^\"]+)\"",
    "sed gsed": r"(?:^|[;{/\d$ gpI])w\s+(/?[\w.][\w./-]*)$",
}
"""Files that the script of a filter writes."""


def writes(examiner: Examiner, name: str, arguments: list[str], scene: Scene, subject: str) -> None:
    """Note the files that the script of a filter writes."""
    for programs, pattern in _WRITES.items():
        if name in programs.split():
            if "awk" in name and any("/inet" in item for item in arguments):
                examiner.add("net.raw", Level.ASK, "opens a raw connection", subject)
            for argument in arguments:
                for file in re.findall(pattern, argument):
                    examiner.change("write", file, scene, subject=subject)


def run(examiner: Examiner, name: str, invocation: Invocation) -> bool:
    """Walk the commands that are written inside arguments; whether there were any."""
    found = False
    writes(examiner, name, invocation.argv[1:], invocation.scene, " ".join(invocation.argv))
    for programs, pattern in _PATTERNS.items():
        if name not in programs.split():
            continue
        arguments = invocation.argv[1:]
        if "awk" in name and any("system" in item for item in arguments):
            pattern += r"|^\w+=(\S+\s.+)"
        if "awk" in name:
            arguments = [_put_together(argument, invocation.given) for argument in arguments]
        for argument in arguments:
            for script in filter(None, re.findall(pattern, argument)):
                script = "".join(script) if isinstance(script, tuple) else script
                why = f"runs a shell command from within {name}"
                examiner.add("shell.embedded", Level.SNAPSHOT, why, script)
                script = ansi_c(script).replace("\\$", "$") if "awk" in name else script
                examiner.walk.script(script, invocation.scene.copy())
                found = True
    return found
