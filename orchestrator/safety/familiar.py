"""What the words of an unfamiliar program, or of a project's own script, give away.

Names decide little: they can only raise suspicion, and a word inside a longer one is no sign.
"""

from __future__ import annotations

import posixpath
import re
from itertools import takewhile

_ORDER = (
    "delete|remove|drop|destroy|purge|wipe|erase|uninstall|unregister|nuke|terminate|truncate|undeploy|autoremove"
    "|expunge"
)
"""Words that order a loss, whatever else stands beside them."""
_UNDO = "kill|reset|rollback|clean|cleanup|prune|teardown|format|shutdown|reboot|rm"
"""Words that do so where a script is called by them."""
_LOSS = (
    f"{_ORDER}|{_UNDO}|del|rmi|rmdir|wipeout|flush|flushall|flushdb|unlink|unpublish|revert|"
    "obliterate|shred|strip|abandon|discard|expire|clear|gc|deprovision|decommission|evict|drain|"
    "detach|disable|stop|restart|poweroff|overwrite|clobber|reinstall|deregister|revoke|restore|forget|zap|"
    "mkfs|trash|empty|undo|quit|logout|cancel|decline|abort|reinit|failover|switchover|demote|unmonitor|unrecord|"
    "unset|untag|unmount|unload|(?:user|group|node|peer|host|db|key)del|del(?:br|node|user|peer|group|host|key|db)|rem|"
    "autoclean|downgrade|full-refresh"
)
_SHIP = "deploy|publish|release|migrate|provision|upload"
_OUT = f"{_SHIP}|push|send|apply|promote|submit|mail|broadcast|sync|export-secret-keys?"
_ACTION = re.compile(
    rf"([\w.]+[:.])?(?:{_LOSS}|{_OUT})(?:[:_-](?!demo)[\w:-]+)?|(?!no|pre|post|un|test)\w+[-_/:](?:{_ORDER}|kill|expunge)",
    re.IGNORECASE,
)
_OPTION = re.compile(
    rf"--?(?:{_ORDER}|prune|revoke|flush|unpublish|kill|shred|expunge|empty|shutdown|repair|overwrite|factory-reset|full-refresh|replace|in-?place|export-secret-keys?|nodeps)"
    r"(?:\d|[-=](?!n?o?-?dry|=false|on-|at-|after|others|when|if)\S*)?"
    r"|--(?:force|reset|rm|clean|restore|rollback|no-preserve-root|yes-i-really-\S*)(?:-all)?"
    r"|--(?:rm|clear|clean|stop)-(?:all|cache|data|dirs?|files?|volumes?|server|db|database|history|logs?)(?:-\S+)?",
    re.IGNORECASE,
)
_ORDERED = re.compile(rf"(?!--remove-orphans)--(?:{_ORDER})(?:-(?!n?o?-?dry)[\w-]+)?", re.IGNORECASE)
_QUESTION = re.compile(
    r"(?:[\w-]+:)?(?:list|ls|get|show|describe|status|info|view|diff|version|help|search|simulate|validate|check|lint|plan|preview"
    r"|logs?|tail|top|ping|whoami|inspect|explain|history|stats?|usage|lookup|query|count|find|verify|health|events?|print"
    r"|dump\w*|\w+info|[\w-]+-list|\w*stats?|session|active|observe|ring|proxy-config|about|[\w-]+-info|\w*-status|list\w+|getall|isready|exists?|output|fetch|manifest|repoquery|provides|whatprovides|receive"
    r"|cat|read|browse|watch|who|tree|metrics|versions|doctor|man|analy[sz]e|report|monitor|presign|df|du|audit|trace|graph|scan)(?:[-_:].*)?",
    re.IGNORECASE,
)
_LOOKS_FIRST = re.compile(r"-[lL]\w?")
_LOOKS = re.compile(
    r"--?(?:list|get|show|display)[\w-]*|--?(ls|info|status|cat|du|df|count|stat|tail|text|query|print)(-\S+)?"
)
_ACTS = re.compile(
    r"-\w*[dDrRFXxwk]\w{0,2}|--(add|set|create|modify|flush|append|insert|import|load|write|force)(=.*)?"
)
"""Options that look, and options that act."""
_NOUNS = re.compile(
    r"certificates|services|nodes|members|peers|endpoints|users|roles|policies|images|containers|pods|clusters|regions|zones"
    r"|snapshots|revisions|releases|instances|ps|size|topics|queues|streams|keys|tables|tokens|devices|networks|volumes|apps|addons|domains|certs|buckets|projects"
    r"|accounts|orgs|teams|repos|sites|functions|plugins|records|templates|stacks|servers|droplets|vms|jobs|runs|builds"
    r"|deployments|environments|envs|sessions|tasks|timers|units|mounts|interfaces|routes|rules|models|datasets|pipelines"
    r"|stack|dns|config|context|profile|account|inventory|facts|summary|fsck|groups|connections|port|ips?|urls?"
)
"""What a command shows that says no more than their name."""
_THING = re.compile(r"logs?|versions?|events?|health|metrics|stats?|history|usage", re.IGNORECASE)
_STATE = re.compile(r"migrat(e|ions?) (status|info|list|ls|history|show|plan|diff|check|validate)")
"""Where a verb is the name of a thing that is shown."""
_CHANGES = re.compile(
    rf"(?:.*[-_:.])?(?:{_LOSS}|{_OUT}|set|put|update|create|add|modify|edit|patch|scale|rename|move|mv|cp|copy|import|attach"
    r"|install|enable|start|run|exec|invoke|write|new|login|init|upgrade|rotate|assign|grant|allow|deny|block|lock"
    r"|unlock|join|leave|fail|resize|replace|merge|approve|close|transfer|tag|label|on|off|down|up|seal|suspend|resume"
    r"|archive|offline|online|compact|connect|taint|gc|clear\w+|alter|freeze|pause|hold|convert|extend|shrink|grow"
    r"|expand|mount|eject|sanitize|wipe|repair|refresh|rebuild|renew|regenerate|rebalance|offset|maintenance|cordon"
    # What is undone: `unseal`, `detach`, `disconnect`, but not `unit`, `device`, `display`.
    r"|(?:un|de|dis)(?!it|iver|ix|bug|fault|lta|mo|pend|ploy|scri|sign|sk|stin|tail|v|play|trib|cover)[a-z]{3,}"
    r")(?:[-_:.].*)?",
    re.IGNORECASE,
)
_BARE = re.compile(rf"-.*|{_LOSS}|{_OUT}", re.IGNORECASE)
"""Before a last `help` that is the name of a thing: `delete pod help`, but not `ec2 delete-tags help`."""
_BY_NAME = _UNDO.replace("|format", "|format[-_](?:disk|drive|usb|sd|partition)s?")
_NAME = re.compile(rf"(?i)(?:^|[-_.])(?:{_ORDER}|{_BY_NAME}|{_SHIP})(?:$|[-_.])")
_VERSION = re.compile(r"rm[-_](?:old|new|copy|bak|orig|v?\d+)")
"""An earlier or later form of a program of that name."""
_ASKS = {
    "--help",
    "--version",
    "--dry-run",
    "--dryrun",
    "--dry_run",
    "--preview-only",
    "--noop",
    "--why-run",
    "--check",
    "--whatif",
    "--what-if",
    "--assumeno",
}


def _rehearses(arguments: list[str]) -> bool:
    """Whether a command only asks for help, or says what it would do."""
    if arguments[-1:] == ["help"] and not any(map(_BARE.fullmatch, arguments)):
        return True
    return arguments[:1] == ["help"] or bool(_ASKS & set(arguments))


def speaks_of_loss(arguments: list[str]) -> bool:
    """Whether the first words or an option of a command say that it deletes, stops or sends something."""
    if _rehearses(arguments):
        return False
    # Behind a word it belongs to a container that ends: `run --rm`.
    arguments = arguments[:1] + [item for item in arguments[1:] if item != "--rm"]
    words = [item for item in arguments if not item.startswith("-")][:3]
    return any(_ACTION.fullmatch(word) for word in words) or any(map(_OPTION.fullmatch, arguments))


def orders_loss(arguments: list[str], most: int = 2) -> bool:
    """Whether a tool's first words (at `most` so many) or an option order, without a doubt, a deletion."""
    if _rehearses(arguments):
        return False
    words = list(takewhile(lambda item: not item.startswith("-"), arguments))
    words = words[: 1 if words[:1] and words[0] in {"run", "test", "exec", "watch"} else most]
    if words and re.fullmatch(rf"(?:{_ORDER})[-:][\w-]+", words[0]):
        return True
    return any(re.fullmatch(_ORDER, word) for word in words) or any(map(_ORDERED.fullmatch, arguments))


_VERB_LAST = frozenset([
    "az",
    "gcloud",
    "oci",
    "ibmcloud",
    "openstack",
    "aliyun",
    "yc",
    "scw",
    "linode-cli",
    "aws",
])
_ASKING_VERB = re.compile(r"(?:list|ls|show|get|describe|read|tail|query|search|export|wait)(?:-.*)?")


def only_asks(arguments: list[str], program: str = "") -> bool:
    """Whether the first words are a question, and none of them a change."""
    if program == "aws" and arguments[-1:] == ["help"]:
        return True
    if program in _VERB_LAST:
        # Their first words are things: `monitor workspace delete`.
        words = list(takewhile(lambda item: not item.startswith("-"), arguments))
        asking = next((at for at, word in enumerate(words) if _ASKING_VERB.fullmatch(word)), len(words))
        if any(map(_CHANGES.fullmatch, words[:asking])):
            return _rehearses(arguments)
    words = [item for item in arguments if re.match(r"[A-Za-z]", item)][:4]
    if _rehearses(arguments) or {"--test", "--describe", "--status", "--show"} & set(arguments):
        return True
    asked = next((at for at, word in enumerate(words) if _QUESTION.fullmatch(word)), None)
    if any(map(_OPTION.fullmatch, arguments)):
        return False
    looks = any(map(_LOOKS.fullmatch, arguments)) or any(map(_LOOKS_FIRST.fullmatch, arguments[:1]))
    if asked is None and looks and "/dev/" not in " ".join(arguments):
        return not any(map(_CHANGES.fullmatch, words)) and not any(map(_ACTS.fullmatch, arguments))
    if asked is None:
        is_noun = bool(words) and words[-1] == arguments[-1] and bool(_NOUNS.fullmatch(words[-1]))
        return is_noun and not any(map(_CHANGES.fullmatch, words))
    if asked == 1 and _STATE.fullmatch(" ".join(words[:2])):
        return True
    # `logs`, `versions` and the like may also be the thing that the next word does something to.
    before = words[: asked + 2 if _THING.fullmatch(words[asked]) else asked]
    return not any(_CHANGES.fullmatch(word) for word in before if word != words[asked])


_ASKING_NAME = re.compile(
    r"(?:ls|list|show|get)[a-z-]*|[\w.-]*(?:search|stats?|status|info|list|top|view|lookup|query|whoami)"
)


def name_asks(name: str, arguments: list[str]) -> bool:
    """Whether a program is called after a question, and its arguments say nothing else."""
    return bool(_ASKING_NAME.fullmatch(name)) and not speaks_of_loss(arguments)


_ASIDE = frozenset(["is", "test", "check", "has", "non", "no", "on", "pre", "post"])


def name_speaks_of_loss(path: str, arguments: list[str], *, loosely: bool = False) -> bool:
    """Whether a script is called after something that cannot be undone; `loosely`: anywhere in its name."""
    if _rehearses(arguments) or "--list" in arguments:
        return False
    if loosely:
        name = re.sub(r"\.\w+$", "", posixpath.basename(path))
        words = re.split(r"[-_]", name.lower())
        nouns = {"report", "log", "list", "check", "test", "plan"}
        verbs = words[-1:] if words[-1] in nouns else words
        if words[0] in {"test", "tests", "check", "spec", "is", "has"} or name.endswith((
            "doc",
            "lint",
            "-help",
        )):
            return False
        ends = "|stop|kill|empty" if len(words) == 2 and words[0] not in _ASIDE else ""
        return any(re.fullmatch(_ORDER + "|prune|reset|cleanup", word) for word in verbs) or bool(
            ends and re.fullmatch(ends[1:], words[-1])
        )
    name = re.sub(r"\.\w+$", "", posixpath.basename(path))
    if _VERSION.fullmatch(name) or re.search(r"(?:^|[-_./])(?:tests?|specs?)(?:$|[-_./])", path):
        return False
    if _NAME.fullmatch(name) or re.fullmatch(_LOSS + "|" + _OUT, name):
        return True
    # Of a longer name only its first word says what it does: `reset-db`, but not `terminal-format`.
    return bool(_NAME.match(re.split(r"(?<=[a-z])[-_.](?=\w)", name)[0]))


_UNPLAIN = re.compile(r"[^\w-]")


HELPS_BY_LETTER = frozenset([
    "git",
    "pip",
    "pip3",
    "uv",
    "poetry",
    "cargo",
    "gem",
    "brew",
    "dnf",
    "conda",
    "npm",
    "pnpm",
    "yarn",
])


def asks_for_help(arguments: list[str], *, by_letter: bool = False) -> bool:
    """Whether a command does no more than print its help or version; `by_letter`: `-h` asks for it, too."""
    if arguments in (["--version"], ["--help"], ["-V"], ["-help"], ["-version"]):
        return True
    if arguments[:1] in (["-help"], ["--help"]) and not any(map(_UNPLAIN.search, arguments)):
        return True
    *words, last = arguments or [""]
    return (
        (last in {"--help", "--usage", "-help"} or (by_letter and last == "-h" and bool(words)))
        and len(words) < 4
        and all(
            re.fullmatch(r"-[A-Za-z]{1,3}|[a-z][a-z0-9:-]*|[\w./-]+\.(py|rb|sh|js|php)", w) for w in words
        )
    )
