"""Places of a machine that a sandbox hides or shows, whichever way it confines."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.sandbox import groups
from orchestrator.settings import data_dir

_SECRETS = (
    *(
        ".ssh",
        ".aws",
        ".gnupg",
        ".kube",
        ".docker",
        ".azure",
        ".config/gcloud",
        ".config/gh",
        ".config/rclone",
    ),
    *(".netrc", ".git-credentials", ".pypirc", ".npmrc", ".pgpass", ".my.cnf", ".cargo/credentials"),
    *(
        ".cargo/credentials.toml",
        ".config/git/credentials",
        ".local/share/keyrings",
        ".local/share/orchestrator",
    ),
    *(".password-store", ".terraform.d", ".config/op", ".mozilla", ".config/google-chrome", ".bash_history"),
    *(".zsh_history", ".python_history", ".psql_history", ".config/containers", ".oci", ".boto", ".s3cfg"),
    *(".claude", ".codex", ".config/openai", ".config/anthropic", ".cache/huggingface/token"),
    *(".config/doctl", ".config/hub", ".m2/settings.xml", ".gradle/gradle.properties", ".gem/credentials"),
)
"""Below a home folder: hidden in every view."""
_SYSTEM_SECRETS = (
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssl/private",
    "/etc/ssh",
)
TOOLS = (
    *(".pyenv", ".local", ".nvm", ".cargo", ".rustup", ".rbenv", ".asdf", ".sdkman", "go", ".deno", ".bun"),
    *(".volta", ".fnm", ".gitconfig", ".config/git", ".nix-profile", ".juliaup", ".ghcup", ".cabal", ".opam"),
)
"""Below the home folder: visible to a `work` command, beside what PATH and the interpreter need."""
SECRET_NAME = re.compile(
    r"(^|_)(KEY|KEYS|TOKEN|SECRET|SECRETS|PASS|PASSWD|PASSWORD|CREDENTIALS?|PAT|DSN)(_|$)|_URL$|^SSH_A"
)


def most_memory() -> int:
    """Three quarters of this machine's memory in bytes: the rest keeps it usable."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4


@dataclass(frozen=True)
class Limits:
    """What one command may use; the command's own time limit is the tool's business."""

    memory_bytes: int = 8 << 30
    """Writable memory of each process (not address space, of which runtimes reserve far more)."""
    total_bytes: int = field(default_factory=most_memory)
    """Memory of all commands together, where control groups can be made."""
    processes: int = 512
    file_bytes: int = 2 << 30
    open_files: int = 4096
    cpu_seconds: int = 3600
    temporary_bytes: int = 1 << 30

    def groups(self) -> tuple[str, ...]:
        """What a process writes its id to, to be counted with all others; empty where that cannot be."""
        # Threads count as processes here, and a build has many.
        return groups.entrances(self.total_bytes, 4 * self.processes)

    @property
    def total(self) -> str:
        """The limit of all commands together, in words for a person."""
        held = self.groups()
        return (
            f"{self.total_bytes / (1 << 30):.1f} GB in all"
            if held
            else "none in all: no control group can be made"
        )


def homes() -> list[Path]:
    """The home folder by the environment and by the account, unless it is the machine or not there."""
    found = [Path(os.environ.get("HOME") or "/")]
    with contextlib.suppress(KeyError):
        found.append(Path(pwd.getpwuid(os.geteuid()).pw_dir))
    existing = dict.fromkeys(home.resolve() for home in found)
    return [home for home in existing if home != Path("/") and home.is_dir()]


def hidden_from(root: Path, at: list[Path]) -> list[Path]:
    """Credentials below the homes `at` and of the system, and our own records: never visible in a sandbox."""
    places = [home / name for home in at for name in _SECRETS] + [Path(name) for name in _SYSTEM_SECRETS]
    # The list of trusted folders and the key of approvals, unless someone works in there.
    own = [] if root.is_relative_to(data_dir()) else [data_dir()]
    return [*places, *own, root / ".orc"]


def tool_folders(home: Path) -> list[Path]:
    """Folders below home that commands need: known tool chains and what PATH leads to."""
    wanted = {home / name for name in TOOLS}
    for entry in os.environ.get("PATH", "").split(os.pathsep):
        folder = Path(entry)
        if entry and folder.is_relative_to(home) and folder != home:
            wanted.add(folder.parent if folder.name == "bin" and folder.parent != home else folder)
    return [place for place in sorted(wanted) if place.exists()]
