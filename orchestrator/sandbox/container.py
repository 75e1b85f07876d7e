"""Confine a command in a container of docker or podman, for who wants another boundary, such as gVisor.

The image must be there already: nothing is fetched. Only the workspace is seen from inside, at its own path.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.sandbox import Confinement, records
from orchestrator.sandbox.places import Limits
from orchestrator.settings import Sandboxing

PROGRAMS = ("docker", "podman")
_PROBE_SECONDS = 20


def program(wanted: Sandboxing) -> str | None:
    """The path of the program that starts containers, if it is there."""
    names = (wanted.program,) if wanted.program else PROGRAMS
    return next((found for name in names if (found := shutil.which(name))), None)


def trouble(wanted: Sandboxing) -> str:
    """Why no container can be started, in words for a person; empty when nothing is known to be wrong."""
    found = program(wanted)
    if found is None:
        return f"{wanted.program or 'neither docker nor podman'} is not installed"
    try:
        done = subprocess.run(
            [found, "image", "inspect", wanted.image],
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{found} does not answer: {error}"
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return f"{Path(found).name} says: {said[-1] if said else 'no reason'}" if done.returncode else ""


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
        root, limits = confinement.root.resolve(), self.limits
        options = ["run", "--rm", "--init", "--interactive", "--pull", "never", "--network", "none"]
        options += ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        options += ["--user", f"{os.getuid()}:{os.getgid()}", "--workdir", str(confinement.cwd.resolve())]
        options += ["--pids-limit", str(limits.processes), "--memory", str(limits.total_bytes)]
        options += ["--ulimit", f"nofile={limits.open_files}", "--ulimit", f"fsize={limits.file_bytes}"]
        options += ["--ulimit", "core=0", "--tmpfs", f"/tmp:rw,exec,size={limits.temporary_bytes}"]  # noqa: S108
        options += ["--env", "TMPDIR=/tmp", "--env", "HOME=/tmp", "--hostname", "sandbox"]
        options += ["--runtime", self.wanted.runtime] if self.wanted.runtime else []
        options += self._mounts(root, confinement)
        return [self.program, *options, "--entrypoint", Path(argv[0]).name, self.wanted.image, *argv[1:]]

    def _mounts(self, root: Path, confinement: Confinement) -> list[str]:
        """The workspace, with our own records hidden and what makes Git run programs read-only."""
        mounts = [_bind(root, read_only=confinement.view == "inspect")]
        if (root / ".orc").is_dir():
            mounts.append(f"type=tmpfs,destination={root / '.orc'},tmpfs-size=4096,readonly")
        fixed = [] if confinement.git_records else [*records.pointers(root)]
        for place in [] if confinement.git_records else records.places(root):
            fixed += [place / name for name in ("hooks", *records.NAMES) if (place / name).exists()]
        mounts += [_bind(place, read_only=True) for place in fixed]
        return [item for mount in mounts for item in ("--mount", mount)]

    @property
    def features(self) -> tuple[str, ...]:
        """What confines a command here, in words for a person."""
        runtime = f", runtime {self.wanted.runtime}" if self.wanted.runtime else ""
        return (
            f"{Path(self.program).name}, image {self.wanted.image}{runtime}",
            "no network, read-only image, private /tmp, no capabilities",
            f"limits: memory {self.limits.total_bytes / (1 << 30):.1f} GB, {self.limits.processes} processes",
        )


def _bind(place: Path, *, read_only: bool) -> str:
    return f'type=bind,"source={place}","destination={place}"' + (",readonly" if read_only else "")
