"""Confine a command in a container of docker or podman, for who wants another boundary, such as gVisor.

The image must be there already: nothing is fetched. Only the workspace is seen from inside, at its own path.
The client runs under `attend`, which ends the container when the command is stopped or orc is killed.
"""

from __future__ import annotations

import os
import resource
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from orchestrator.sandbox import Confinement, records
from orchestrator.sandbox.places import Limits, hidden_from, homes
from orchestrator.settings import Sandboxing, config_dir

PROGRAMS: tuple[Literal["docker", "podman"], ...] = ("docker", "podman")
_PROBE_SECONDS = 20
_POLITE_SECONDS = 0.4
"""Between the polite signal and the other one: less than a tool waits before it kills the client."""
_MOST_PROCESSES = 32_768
"""Of one account: podman holds itself to so many, and then cannot give a container its default of more."""
ATTEND = Path(__file__).with_name("attend.py")
_FIRST = """
trap 'kill -TERM -1' TERM INT
"$@" <&0 &
while wait $!; code=$?; kill -0 $! 2>/dev/null; do :; done
exit $code
"""
"""The container's first process: without a handler the kernel would keep polite signals from the command."""
_SEEN = (
    *("LANG", "LC_ALL", "LC_CTYPE", "TZ", "TERM", "PAGER", "GIT_PAGER", "GIT_TERMINAL_PROMPT"),
    *("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "DEBIAN_FRONTEND"),
)
"""Variables that the command sees as the client does."""
_CLIENTS = (
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"),
    *("CONTAINER_HOST", "CONTAINER_CONNECTION", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF"),
    *("XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME"),
)
"""Variables that tell the client where its containers are; a tool's clean environment lacks them."""


def programs(wanted: Sandboxing) -> list[str]:
    """The paths of the programs that may start containers: the one that is wanted, else what is there."""
    names = (wanted.program,) if wanted.program else PROGRAMS
    return [found for name in names if (found := shutil.which(name))]


def trouble(program: str, wanted: Sandboxing) -> str:
    """Why a program can start no container, in words for a person; empty when nothing is known of it."""
    name = Path(program).name
    try:
        done = subprocess.run(
            [program, "image", "inspect", wanted.image],
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{name} does not answer within {_PROBE_SECONDS} s"
    except OSError as error:
        return f"{name} cannot be run: {error.strerror}"
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return f"{name} says: {said[-1] if said else 'no reason'}" if done.returncode else ""


@dataclass
class Container:
    """One container for each command, gone when it ends."""

    wanted: Sandboxing
    program: str
    limits: Limits = field(default_factory=Limits)
    name: str = "container"
    has_gate: bool = False

    @property
    def is_confining(self) -> bool:
        """Always; `detect` has tried."""
        return True

    def wrap(self, argv: list[str], confinement: Confinement) -> list[str]:
        """The argument vector that runs `argv` confined; programs are found by name in the image."""
        name = f"orc-{os.getpid()}-{secrets.token_hex(6)}"
        options = ["run", "--rm", "--name", name, "--interactive", "--pull", "never", "--network", "none"]
        options += ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        options += ["--user", f"{os.getuid()}:{os.getgid()}", "--workdir", str(confinement.cwd.resolve())]
        options += ["--hostname", "sandbox", "--log-driver", "none"]
        options += ["--runtime", self.wanted.runtime] if self.wanted.runtime else []
        options += [*self._podmans(), *self._limits(), *_variables()]
        options += [item for mount in self._mounts(confinement) for item in ("--mount", mount)]
        client = [f"{name}={os.environ[name]}" for name in _CLIENTS if name in os.environ]
        attend = [sys.executable, "-I", "-S", str(ATTEND), str(_POLITE_SECONDS), name, self.program]
        first = ["--entrypoint", "/bin/sh", self.wanted.image, "-c", _FIRST, "orc"]
        command = [*attend, *options, *first, Path(argv[0]).name, *argv[1:]]
        return [shutil.which("env") or "env", *client, *command] if client else command

    @property
    def _is_podman(self) -> bool:
        return Path(self.program).name == "podman"

    def _podmans(self) -> list[str]:
        """What only podman knows: no writable folders of its own, and the user's own id."""
        if not self._is_podman:
            return []
        return ["--read-only-tmpfs=false", *(["--userns", "keep-id"] if os.getuid() else [])]

    def _limits(self) -> list[str]:
        limits = self.limits
        each = {
            "nofile": _held("RLIMIT_NOFILE", limits.open_files),
            "nproc": _held("RLIMIT_NPROC", _MOST_PROCESSES),
            "fsize": _held("RLIMIT_FSIZE", limits.file_bytes),
            "data": _held("RLIMIT_DATA", limits.memory_bytes),
            "cpu": _held("RLIMIT_CPU", limits.cpu_seconds),
            "core": 0,
        }
        options = ["--pids-limit", str(limits.processes), "--memory", str(limits.total_bytes)]
        for name, value in each.items():
            options += ["--ulimit", f"{name}={value}"]
        for folder in ("/tmp", "/var/tmp"):  # noqa: S108
            options += ["--tmpfs", f"{folder}:rw,exec,size={limits.temporary_bytes}"]
        return options

    def _mounts(self, confinement: Confinement) -> list[str]:
        """The workspace: credentials and our records are hidden, what makes Git run programs is read-only."""
        root = confinement.root.resolve()
        mounts = [_bind(root, read_only=confinement.view == "inspect")]
        if confinement.view == "work" and not confinement.git_records:
            mounts += self._git_records(root)
        settings = config_dir()
        if settings.is_dir() and settings != root and settings.is_relative_to(root):
            mounts.append(_bind(settings, read_only=True))
        for hidden in hidden_from(root, homes()):
            place = hidden.resolve() if hidden.is_symlink() else hidden
            if place.is_relative_to(root) and place.is_dir():
                mounts.append(self._empty(place))
            elif place.is_relative_to(root) and place.exists():
                mounts.append(f"type=bind,source=/dev/null,{_field('destination', place)},readonly")
        return mounts

    def _git_records(self, root: Path) -> list[str]:
        mounts = []
        for place in records.places(root):
            # A mount of its own cannot be renamed, so nothing else can take its place.
            mounts.append(_bind(place, read_only=False))
            fixed = [place / name for name in ("hooks", *records.NAMES)]
            mounts += [_bind(kept, read_only=True) for kept in fixed if kept.exists()]
            if place == root / ".git" and not (place / "hooks").exists():
                mounts.append(self._empty(place / "hooks"))
        return mounts + [_bind(pointer, read_only=True) for pointer in records.pointers(root)]

    def _empty(self, place: Path) -> str:
        # podman copies into a new tmpfs what it is to hide, unless it is told not to.
        return f"type=tmpfs,{_field('destination', place)},tmpfs-size=4096,ro" + (
            ",notmpcopyup" if self._is_podman else ""
        )

    @property
    def features(self) -> tuple[str, ...]:
        """What confines a command here, in words for a person."""
        runtime = f", runtime {self.wanted.runtime}" if self.wanted.runtime else ""
        return (
            f"{Path(self.program).name}, image {self.wanted.image}{runtime}",
            "no network, read-only image, private /tmp, no capabilities",
            f"limits: memory {self.limits.total_bytes / (1 << 30):.1f} GB, {self.limits.processes} processes",
        )


def _held(name: str, value: int) -> int:
    """A limit that may be set: where we are held ourselves, no container can be given more."""
    own = resource.getrlimit(getattr(resource, name))[1]
    return value if own == resource.RLIM_INFINITY else min(value, own)


def _variables() -> list[str]:
    named = {"TMPDIR": "/tmp", "HOME": "/tmp"}  # noqa: S108
    options = [item for name, value in named.items() for item in ("--env", f"{name}={value}")]
    return [*options, *(item for name in _SEEN for item in ("--env", name))]


def _bind(place: Path, *, read_only: bool) -> str:
    fields = f"type=bind,{_field('source', place)},{_field('destination', place)}"
    return fields + (",readonly" if read_only else "")


def _field(name: str, place: Path) -> str:
    """One field of a row of CSV, which is how a mount is read."""
    return '"' + f"{name}={place}".replace('"', '""') + '"'
