"""Commands of Windows, as they are called from WSL, Git Bash or PowerShell on Linux.

PowerShell names every command by a verb from a fixed list, so the verb decides.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.safety.verdict import Level
from orchestrator.safety.words import UNKNOWN

if TYPE_CHECKING:
    from orchestrator.safety.shell import Examiner

_POWERSHELLS = {"powershell", "pwsh"}
_VITAL = re.compile(
    r"(?i)(^|[\s'\"=])([a-z]:[\\/]*\*?|(\w:|%systemdrive%|\$env:systemdrive)?"
    r"[\\/]+(windows|users|program files)[^\\/]*[\\/]*\*?"
    r"|%(systemroot|windir|userprofile|systemdrive)%[\\/]*\*?|\$(home|env:(systemroot|windir|userprofile|systemdrive))"
    r"[\\/]*\*?|/|~)(?=$|[\s'\"])"
)
"""A drive, a home or the system's own folder."""
_RUIN = re.compile(
    r"(?i)\b(diskpart|format(\.com)?\s+[a-z]:|cipher\s+/w|bcdedit\s+/delete\w*|vssadmin\s+delete|wbadmin\s+delete"
    r"|format-volume|clear-disk|initialize-disk|remove-partition|reset-physicaldisk)"
)
_DELETES = re.compile(
    r"(?i)\b(rd|rmdir|del|erase|remove-item|ri|rm|robocopy.*/(mir|purge|move)|takeown|icacls)\b"
)
_READS = re.compile(
    r"(?i)^(dir|type|echo|ver|whoami|ipconfig|systeminfo|tasklist|where|hostname|findstr|find|more|tree|fc|set|cd|cls|help"
    r"|(reg|sc|schtasks)\s+/?(query|qc)|net\s+(user|share|view|localgroup|start)$|netsh\s+.*\bshow|wmic\s+.*\b(get|list)"
    r"|wevtutil\s+(el|gl|qe)|wslpath|icacls\s+\S+$|attrib\s+\S+$|chcp)\b"
)
_ASKING_VERBS = re.compile(
    r"(?i)^(get|test|measure|select|where|sort|group|compare|find|resolve|convertto|convertfrom|show|format|out|write|read"
    r"|join|split|foreach|gci|ls|dir|cat|gc|type|pwd|echo|ps|gps|gsv|help|man|where-object|select-object|sls)(-(?!volume"
    r"|file)\w+)?$|^[$'\"(@\d]"
)
_OWN = re.compile(
    r"(?i)^(powershell|pwsh|cmd|diskpart|format|bcdedit|vssadmin|wbadmin|wevtutil|taskkill|reg|schtasks|netsh|icacls|takeown"
    r"|cipher|wmic|robocopy|xcopy|attrib|tasklist|systeminfo|ipconfig|sc|net|rd|del|erase|dism|sfc|chkdsk|fsutil)(\.exe|\.com)?$"
)
_ON_UNIX_TOO = {"format", "sc", "net", "reg", "cipher", "dism", "del", "rd"}
"""Names that mean something else on Unix, unless an argument is written the Windows way."""


def run(examiner: Examiner, name: str, arguments: list[str]) -> bool:
    """Judge a Windows program; False when the name is none."""
    if not _OWN.match(name):
        return False
    plain = re.sub(r"(?i)\.(exe|com)$", "", name).lower()
    text = " ".join(arguments)
    if plain in _ON_UNIX_TOO and plain == name and not re.search(r"(?i)(^|\s)(/\w+(\s|$|:)|[a-z]:)|\\", text):
        return False
    script = _script(plain, arguments)
    if plain in _POWERSHELLS and script is None:
        examiner.add("windows.script", Level.REVIEW, "runs a script that was not read here", text)
        return True
    parts = re.split(r"&&?|\|\|?|;|\n", script if script is not None else f"{plain} {text}")
    for part in filter(None, map(str.strip, parts)):
        _one(examiner, part, powershell=plain in _POWERSHELLS)
    return True


def _script(plain: str, arguments: list[str]) -> str | None:
    """The text that a Windows shell is given; None when it is given none."""
    shells = {"cmd": r"(?i)//?[ck]", **dict.fromkeys(_POWERSHELLS, r"(?i)-c(ommand)?")}
    for at, argument in enumerate(arguments):
        if plain in shells and re.fullmatch(shells[plain], argument):
            return " ".join(arguments[at + 1 :])
        if plain in _POWERSHELLS and re.match(r"(?i)-e(nc|ncodedcommand)?$", argument):
            return UNKNOWN
    if plain == "cmd":
        return ""
    is_plain = (
        plain in _POWERSHELLS
        and arguments
        and not arguments[0].startswith("-")
        and ".ps1" not in arguments[0]
    )
    return " ".join(arguments) if is_plain else None


def _one(examiner: Examiner, text: str, *, powershell: bool) -> None:
    if UNKNOWN in text or re.search(r"(?i)\b(iex|invoke-expression|start-process|downloadstring)\b", text):
        examiner.doubt("shell.unknown-script", "runs a script that is not known before it runs")
    elif _RUIN.search(text):
        examiner.add(
            "windows.ruin", Level.DENY, "erases a disk, its backups or what starts the machine", text
        )
    elif _DELETES.search(text) and _VITAL.search(text):
        examiner.add("windows.ruin", Level.DENY, "deletes a drive, a home or the system", text)
    elif (_ASKING_VERBS.match(text.split()[0]) if powershell else _READS.match(text)) and ">" not in text:
        examiner.add("windows.reads", Level.ALLOW, "only reads", text)
    else:
        examiner.add("windows.change", Level.ASK, "may change files, services or settings of Windows", text)
