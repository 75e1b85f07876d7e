"""Confine a process with bubblewrap: namespaces, read-only binds, no network, no capabilities, limits.

In the `work` view only the workspace and private temporary folders can be written, the home folder shows
tool chains only, and there is no network. In the `inspect` view everything is as it is but read-only.

Run by root, the process gets the id of `nobody` inside. The kernel maps it to root outside, so it still
writes what root owns, but it holds no capability: files of other users are to it what they are to others.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.sandbox import Confinement, records, seccomp
from orchestrator.sandbox.places import SECRET_NAME, Limits, hidden_from, tool_folders
from orchestrator.sandbox.places import homes as own_homes
from orchestrator.settings import config_dir

_NOBODY = "65534"
_CONTROL = (
    "docker.sock",
    "podman",
    "containerd",
    "crio",
    "dbus",
    "systemd/private",
    "user",
    "libvirt",
    "snapd.socket",
)
"""Below /run: sockets through which a process could have others act for it."""


@dataclass
class Bubblewrap:
    """Bubblewrap with the program at a path."""

    program: str
    limits: Limits = field(default_factory=Limits)
    name: str = "bubblewrap"
    has_gate: bool = True
    filters: bool = field(default_factory=seccomp.is_known)
    """Whether system calls are filtered."""

    @property
    def is_confining(self) -> bool:
        """Always; `detect` has tried."""
        return True

    def wrap(self, argv: list[str], confinement: Confinement) -> list[str]:
        """The argument vector that runs `argv` confined."""
        view = (
            _inspect(confinement, self.limits)
            if confinement.view == "inspect"
            else _work(confinement, self.limits)
        )
        common = ["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--chdir"]
        common.append(str(confinement.cwd.resolve()))
        hidden = [
            item for name in sorted(os.environ) if SECRET_NAME.search(name) for item in ("--unsetenv", name)
        ]
        if confinement.gate is not None:
            script = Path(__file__).with_name("gate.py").read_text(encoding="utf-8")
            argv = [sys.executable, "-I", "-S", "-c", script, str(confinement.gate), *argv]
        inner = [*common, *hidden, "--", *_limited(argv, self.limits, confinement.view)]
        # What a vector cannot carry, a shell does before it is gone: join the groups, open the filter.
        joins = "".join(
            f"echo $$ 2>/dev/null > {shlex.quote(entrance)}; " for entrance in self.limits.groups()
        )
        if not self.filters:
            opened = ["/bin/sh", "-c", joins + 'exec "$@"', "orc", self.program] if joins else [self.program]
            return [*opened, *view, *inner]
        script = joins + 'exec "$@" 9< "$0"'
        return ["/bin/sh", "-c", script, seccomp.path(), self.program, "--seccomp", "9", *view, *inner]

    @property
    def features(self) -> tuple[str, ...]:
        """What confines a command here, in words for a person."""
        found = ["own namespaces, no network", "read-only system, private /tmp", "no capabilities"]
        found.append("seccomp filter" if self.filters else "no seccomp filter on this kind of machine")
        held = self.limits
        found.append(
            f"limits: memory {held.memory_bytes >> 30} GB a process, {held.total}; "
            f"{held.processes} processes, {held.open_files} open files, "
            f"{held.file_bytes >> 30} GB a file, {held.cpu_seconds} s of CPU"
        )
        return tuple(found)


def _work(confinement: Confinement, limits: Limits) -> list[str]:
    root, homes = confinement.root.resolve(), own_homes()
    options = ["--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    options += ["--ro-bind", "/proc/sys", "/proc/sys", "--hostname", "sandbox"]
    if os.geteuid() == 0:
        options += ["--uid", _NOBODY, "--gid", _NOBODY]
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108
        options += _scratch(folder, limits) if Path(folder).is_dir() else []
    options += ["--tmpfs", "/run"] if Path("/run").is_dir() else []
    for home in homes:
        options += _scratch(str(home), limits)
        for tool in tool_folders(home):
            options += ["--ro-bind", str(tool), str(tool)]
    options += _interpreters()
    options += ["--bind", str(root), str(root)]
    options += _masks(homes, root)
    if not confinement.git_records:
        options += _git_records(root)
    for name, value in _caches().items():
        options += ["--setenv", name, value]
    return options


def _git_records(root: Path) -> list[str]:
    """Keep what makes Git run programs as it is."""
    options = []
    for place in records.places(root):
        # A mount of its own cannot be renamed, so nothing else can take its place.
        options += ["--bind", str(place), str(place)]
        if (place / "hooks").is_dir():
            options += ["--ro-bind", str(place / "hooks"), str(place / "hooks")]
        elif place == root / ".git":
            options += ["--tmpfs", str(place / "hooks"), "--remount-ro", str(place / "hooks")]
        for name in ("config", "config.worktree", "commondir"):
            if (place / name).is_file():
                options += ["--ro-bind", str(place / name), str(place / name)]
    for pointer in records.pointers(root):
        options += ["--ro-bind", str(pointer), str(pointer)]
    return options


def _inspect(confinement: Confinement, limits: Limits) -> list[str]:
    root, homes = confinement.root.resolve(), own_homes()
    # The processes of the machine are seen in its /proc, and those of the command end with it.
    options = ["--unshare-user", "--unshare-ipc", "--unshare-pid", "--ro-bind", "/", "/", "--dev", "/dev"]
    options += _scratch("/tmp", limits)  # noqa: S108
    options += ["--ro-bind", str(root), str(root)]
    for name in _CONTROL:
        place = Path("/run") / name
        if place.is_dir():
            options += ["--tmpfs", str(place), "--remount-ro", str(place)]
        elif place.exists():
            options += ["--ro-bind", "/dev/null", str(place)]
    return [*options, *_masks(homes, root), "--setenv", "TMPDIR", "/tmp"]  # noqa: S108


def _scratch(folder: str, limits: Limits) -> list[str]:
    return ["--size", str(limits.temporary_bytes), "--tmpfs", folder]


def _interpreters() -> list[str]:
    """The Python that runs us, wherever it is: a private folder must not hide it."""
    options = []
    for place in dict.fromkeys((Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve())):
        if place != Path("/") and not Path("/usr").is_relative_to(place):
            options += ["--ro-bind", str(place), str(place)]
    return options


def _masks(homes: list[Path], root: Path) -> list[str]:
    """Hide credentials and our own records, wherever the binds before left them visible."""
    options = []
    for place in hidden_from(root, homes):
        if place.is_symlink():
            place = place.resolve()
        if place.is_dir():
            options += ["--tmpfs", str(place), "--remount-ro", str(place)]
        elif place.exists():
            options += ["--ro-bind", "/dev/null", str(place)]
    # Rules and settings may be read; where someone works in their home, no command may change them.
    settings = config_dir()
    if settings.is_dir() and settings != root and settings.is_relative_to(root):
        options += ["--ro-bind", str(settings), str(settings)]
    return options


def _caches() -> dict[str, str]:
    """Tools that insist on a cache get one that is gone afterwards."""
    temporary = "/tmp"  # noqa: S108
    names = {"GOCACHE": "go-build", "npm_config_cache": "npm", "PIP_CACHE_DIR": "pip", "UV_CACHE_DIR": "uv"}
    return {"TMPDIR": temporary} | {name: f"{temporary}/.cache/{folder}" for name, folder in names.items()}


_WATCH = """
( exec 9<> <(:); while [ -d /proc/$$ ]; do read -rt 0.1 -u 9; all=(/proc/[0-9]*)
  [ ${#all[@]} -gt %d ] && kill -9 -1; done ) <&- >&- 2>&- &
"""
"""The kernel does not count root's processes against a limit, whatever it is called inside; so count here."""


def _limited(argv: list[str], limits: Limits, view: str) -> list[str]:
    """Limits of the shell that starts the command; they hold for everything below it."""
    settings = {
        "-d": limits.memory_bytes >> 10,
        "-n": limits.open_files,
        "-f": limits.file_bytes >> 10,
        "-t": limits.cpu_seconds,
        "-c": 0,
    }
    lines = [f"ulimit {letter} {value} 2>/dev/null" for letter, value in settings.items()]
    if os.geteuid() != 0:
        lines.append(f"ulimit -u {limits.processes} 2>/dev/null")
    elif view == "work" and Path("/bin/bash").exists():
        lines.append(_WATCH % limits.processes)
    shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
    return [shell, "-c", "\n".join([*lines, 'exec "$@"']), "orc", *argv]
