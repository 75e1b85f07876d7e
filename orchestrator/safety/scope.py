"""Where a target lies, seen from the workspace, and what follows from deleting or changing it there.

Lexical only: links are the business of the tools (openat2) and of the sandbox.
"""

from __future__ import annotations

import posixpath
import re
from enum import Enum

from orchestrator.safety.verdict import Level
from orchestrator.safety.words import UNKNOWN, Scene


class Scope(Enum):
    """Kinds of places, by what is lost there."""

    NOWHERE = "a stream or the null device"
    INSIDE = "a path in the workspace"
    GIT = "the repository's own records"
    ROOT = "the whole workspace"
    OURS = "orc's own records"
    PRIVATE = "a temporary path"
    OUTSIDE = "a path outside the workspace"
    SECRET = "credentials"  # noqa: S105
    SYSTEM = "a system path"
    VITAL = "the machine, a home or a system folder"
    DEVICE = "a device"
    UNKNOWN = "a target that is not known before it runs"


AT_HOME = frozenset({Scope.INSIDE, Scope.ROOT, Scope.GIT, Scope.NOWHERE, Scope.PRIVATE})
"""Where nothing beyond the workspace is touched."""

_STREAMS = re.compile(r"/dev/(null|zero|full|u?random|tty|std(in|out|err)|fd/\d+|shm/.+)|/proc/self/fd/\d+|-")
_SYSTEM: tuple[str, ...] = (
    "bin",
    "boot",
    "dev",
    "etc",
    "lib",
    "lib32",
    "lib64",
    "opt",
    "proc",
    "root",
    "run",
    "sbin",
)
_SYSTEM += ("srv", "sys", "usr", "var", "mnt", "media", "home", "nix", "snap", "gnu", "lost+found")
_SYSTEM += ("Applications", "Library", "System", "Users", "Volumes", "private")
_LOOSE = {"srv", "opt", "mnt", "media", "run"}
"""System folders whose content belongs to services and people: a part of it is not the machine."""
_TEMPORARY = re.compile(r"/(var/)?tmp(/.*)?$")
_SECRET = re.compile(
    r"/\.(ssh(?!/(?:[^/]*\.pub|known_hosts)$)|aws|gnupg|kube|docker|azure|netrc|pgpass|git-credentials|pypirc|npmrc|config/(gcloud|gh|rclone))(/|$)"
    r"|/\.cargo/credentials|/etc/(g?shadow|sudoers)|/(id_(rsa|dsa|ecdsa|ed25519)|[^/]*\.(pem|key|p12|pfx))$"
    r"|/\.local/share/(keyrings|orchestrator)(/|$)"
)
_PERSISTENT = re.compile(
    r"/\.(bashrc|bash_profile|bash_login|profile|zshrc|zprofile|zshenv|config/autostart/.*)$"
)


def absolute(text: str, scene: Scene) -> str:
    """The target as an absolute path without dots; UNKNOWN in it where it is not known."""
    if text.startswith("/"):
        path = text
    elif text == "~" or text.startswith("~/"):
        # A shell would have replaced an unquoted one; a program may do it for a quoted one.
        path = scene.home + text[1:]
    elif scene.cwd is None:
        return UNKNOWN
    else:
        path = posixpath.join(scene.cwd, text)
    path = "/" + posixpath.normpath(path).lstrip("/")
    for inside, outside in scene.mounts:
        if path == inside or path.startswith(inside.rstrip("/") + "/"):
            return "/" + posixpath.normpath(outside + "/" + path[len(inside) :]).lstrip("/")
    return path


def scope(text: str, scene: Scene) -> Scope:
    """Where a target lies."""
    if _STREAMS.fullmatch(text):
        return Scope.NOWHERE
    path = absolute(text, scene)
    if UNKNOWN in path:
        known = path.split(UNKNOWN)[0]
        guess = scope(path.replace(UNKNOWN, "x"), scene) if len(known) > 1 else Scope.UNKNOWN
        if guess in {Scope.SYSTEM, Scope.DEVICE, Scope.VITAL}:
            return guess
        return Scope.VITAL if known == "/" and path[1:] in {UNKNOWN + "/*", UNKNOWN + "*"} else Scope.UNKNOWN
    root = scene.root.rstrip("/")
    glob = re.search(r"[*?\[]", path)
    if glob:
        stem, slash, _ = path[: glob.start()].rpartition("/")
        broad = re.fullmatch(r"\.?\*+(/.*)?|\.\[!?\^?\.?\].*|\?\*", path[len(stem) + 1 :])
        path = (stem or "/") if broad else stem + slash + "x"
    if not scene.remote and (path == root or path.startswith(root + "/")):
        return _inside(path[len(root) :].strip("/"))
    return _outside(path, scene, root)


def _inside(rest: str) -> Scope:
    first = rest.split("/")[0]
    if not first:
        return Scope.ROOT
    return {".git": Scope.GIT, ".orc": Scope.OURS}.get(first, Scope.INSIDE)


def _outside(path: str, scene: Scene, root: str) -> Scope:
    home = scene.home.rstrip("/")
    if (
        path == "/"
        or path == home
        or (root + "/").startswith(path + "/")
        or (home + "/").startswith(path + "/")
    ):
        return Scope.VITAL
    if _SECRET.search(path):
        return Scope.SECRET
    if _TEMPORARY.match(path):
        return Scope.PRIVATE if path.count("/") > 1 + path.startswith("/var") else Scope.OUTSIDE
    if path.startswith(home + "/"):
        return Scope.OUTSIDE
    parts = path.strip("/").split("/")
    if len(parts) < 3 and parts[-1] in {"home", "homes", "Users"}:
        return Scope.VITAL
    if parts[0] not in _SYSTEM:
        return Scope.VITAL if len(parts) == 1 and not scene.remote else Scope.OUTSIDE
    if parts[0] == "dev":
        return Scope.DEVICE if len(parts) > 1 else Scope.VITAL
    if len(parts) == 1 or (parts[0] in {"home", "Users"} and len(parts) == 2) or _WINDOWS.fullmatch(path):
        return Scope.VITAL
    return Scope.OUTSIDE if parts[0] in {"home", "Users"} else Scope.SYSTEM


_WINDOWS = re.compile(
    r"/mnt/[a-z](/(Windows(/System32)?|Users(/[^/]+)?|Program Files[^/]*|ProgramData|\*))?/?", re.I
)
"""What WSL shows of Windows: a drive, its system, its homes."""
_GRAVE = re.compile(
    r"/proc/(sys/|sysrq-trigger)|/sys/|/boot/|/etc/(passwd|g?shadow|fstab|sudoers|group|ld\.so\.\w+|pam\.d|inittab)(/|$)"
    r"|/(usr/)?lib(32|64)?/([^/]+/)?(libc|libm|libpthread|ld-linux[^/]*|ld-musl[^/]*|ld)[.-][^/]*$|/(usr/)?lib/systemd(/|$)"
    r"|/(usr/)?s?bin/(bash|sh|dash|sudo|su|init|systemd|mount|login|ls|rm|cp|mv|cat|env|python3?|perl|apt|dpkg)/?$"
)
"""Without one of these the machine does not start, or nobody gets in."""


_WAY_IN = re.compile(r"/etc/ssh(/(sshd_config|ssh_host_[^/]*|[^/]*\*))?$")
"""Without these nobody gets in from elsewhere."""


def consequence(effect: str, text: str, scene: Scene, *, tree: bool = False) -> tuple[Level, str, Scope]:
    """Level, reason and scope of an effect (`delete`, `move`, `write`, `own`, `read`) on a target."""
    where = scope(text, scene)
    if effect == "delete" and tree and _may_be_root(text, scene):
        where = Scope.VITAL
    tree = tree or (where is Scope.SYSTEM and _ALL.search(text) is not None)
    level = _level(effect, where, absolute(text, scene), tree=tree)
    verb = {
        "delete": "deletes",
        "move": "moves",
        "write": "changes",
        "own": "changes who may use",
        "read": "reads",
    }[effect]
    return level, f"{verb} {where.value}", where


_ROOT_IF_EMPTY = re.compile(rf"/*{UNKNOWN}/+\*?")
_AT_TOP = re.compile(rf"/+{UNKNOWN}/*\*?")
_ALL = re.compile(r"(^|/)\*$")
"""How a target ends that is everything in a folder."""


def _may_be_root(text: str, scene: Scene) -> bool:
    """Whether a target is a folder of the root, or the root should a variable be empty that is never set."""
    is_set = any(UNKNOWN in value for values in scene.values.values() for value in values)
    return bool(_AT_TOP.fullmatch(text) or (_ROOT_IF_EMPTY.fullmatch(text) and not is_set))


_OTHERS = {
    Scope.NOWHERE: Level.ALLOW,
    Scope.INSIDE: Level.SNAPSHOT,
    Scope.PRIVATE: Level.REVIEW,
    Scope.OURS: Level.DENY,
    Scope.DEVICE: Level.DENY,
}


def _level(effect: str, where: Scope, path: str, *, tree: bool) -> Level:
    if effect == "read":
        return Level.ASK if where in {Scope.SECRET, Scope.OURS} else Level.ALLOW
    if where in _OTHERS:
        return _OTHERS[where]
    if where is Scope.SECRET and _GRAVE.match(path):
        return Level.DENY
    if where in {Scope.ROOT, Scope.GIT}:
        return Level.ASK if tree or effect in {"delete", "move"} or where is Scope.GIT else Level.SNAPSHOT
    if where is Scope.VITAL:
        return Level.DENY if tree or effect != "write" else Level.ASK
    if where is Scope.UNKNOWN:
        return Level.ASK if effect == "delete" or (tree and effect != "move") else Level.REVIEW
    if where is Scope.SYSTEM:
        top = path.split("/")[1]
        grave = bool(_GRAVE.match(path)) or (tree and effect != "write" and top not in _LOOSE)
        grave |= effect in {"delete", "move"} and bool(_WAY_IN.match(path))
        return Level.DENY if grave else Level.ASK
    return Level.ASK


def starts_sessions(path: str) -> bool:
    """Whether a shell or desktop runs this file at the next login."""
    return bool(_PERSISTENT.search(path))
