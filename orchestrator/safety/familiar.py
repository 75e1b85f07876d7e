"""What the words of an unfamiliar program, or of a project's own script, give away.

Names decide little: they can only raise suspicion, and a word inside a longer one is no sign.
"""

from __future__ import annotations

import posixpath
import re

_LOSS = (
    "delete|del|remove|rm|rmi|rmdir|drop|destroy|purge|wipe|wipeout|nuke|erase|truncate|flush|flushall|flushdb|kill|"
    "terminate|uninstall|unlink|unpublish|revert|rollback|reset|prune|obliterate|shred|strip|abandon|discard|expire|"
    "clean|cleanup|clear|gc|deprovision|decommission|evict|drain|detach|disable|stop|shutdown|reboot|restart|poweroff|"
    "overwrite|format|reinstall|teardown|undeploy|unregister|deregister|revoke|restore|forget|zap|mkfs|trash|"
    "empty|undo"
)
_OUT = (
    "deploy|publish|release|push|upload|send|apply|migrate|promote|submit|mail|broadcast|sync|"
    "provision|export-secret-keys?"
)
_ACTION = re.compile(rf"([\w.]+[:.])?(?:{_LOSS}|{_OUT})(?:[:_-](?!demo)[\w:-]+)?", re.IGNORECASE)
_OPTION = re.compile(
    rf"--(?:{_LOSS}|export-secret-keys?|force|no-preserve-root|yes-i-really-\S*|nodeps|purge-all)"
    r"(?:[-=](?!n?o?-?dry|=false)\S*)?",
    re.IGNORECASE,
)
_NAME = re.compile(
    r"(?i)(?:^|[-_.])(delete|remove|drop|destroy|purge|wipe|nuke|erase|truncate|kill|uninstall|reset|rollback|clean|"
    r"cleanup|prune|teardown|deploy|publish|release|format|shutdown|reboot|migrate|provision|upload|rm)(?:$|[-_.])"
)
_ASKS = {"--help", "--version", "--dry-run", "--dryrun", "--check", "--list", "--whatif", "--what-if", "help"}


def speaks_of_loss(arguments: list[str]) -> bool:
    """Whether the first words or an option of a command say that it deletes, stops or sends something."""
    if _ASKS & set(arguments):
        return False
    arguments = [item for item in arguments if item != "--rm"]
    words = [item for item in arguments if not item.startswith("-")][:3]
    return any(_ACTION.fullmatch(word) for word in words) or any(map(_OPTION.fullmatch, arguments))


def name_speaks_of_loss(path: str, arguments: list[str]) -> bool:
    """Whether a project's script is called after something that cannot be undone."""
    if _ASKS & set(arguments):
        return False
    name = re.sub(r"\.\w+$", "", posixpath.basename(path))
    if _NAME.fullmatch(name) or re.fullmatch(_LOSS + "|" + _OUT, name):
        return True
    # Of a longer name only its first word says what it does: `reset-db`, but not `terminal-format`.
    return bool(_NAME.match(re.split(r"(?<=[a-z])[-_.](?=\w)", name)[0]))


def asks_for_help(arguments: list[str]) -> bool:
    """Whether a command does no more than print its help or version."""
    if arguments in (["--version"], ["--help"], ["-V"], ["-help"], ["-version"]):
        return True
    *words, last = arguments or [""]
    return (
        last in {"--help", "--usage"}
        and len(words) < 4
        and all(re.fullmatch(r"[a-z][a-z0-9:-]*", w) for w in words)
    )
