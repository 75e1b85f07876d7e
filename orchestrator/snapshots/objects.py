"""Keep blobs and trees in a bare Git repository that nothing of the user's settings reaches.

A few new objects are written loose and many as one pack, because a file per object takes seconds for a
first snapshot. Git itself is asked only for what is rare: to read packs, to pack, to prune, to check.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import struct
import subprocess
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from orchestrator.errors import StorageError

Kind = Literal["blob", "tree"]
_LOOSE_AT_MOST, _LOOSE_BYTES = 64, 1 << 20
"""What is in a pack is copied when git packs again; what is loose is compressed again."""
_PENDING_BYTES = 32 << 20
_PACK_TYPES: dict[Kind, int] = {"tree": 2, "blob": 3}
_SAMPLE = 1 << 16
_FAST = ("-c", "core.bigFileThreshold=1m", "-c", "pack.compression=1")
"""No deltas between large files: they take a minute for little."""
_ID = re.compile("[0-9a-f]{40}")
_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""Of an empty folder. Git says of this one that it is there when it is not, except in `git fsck`."""


class Objects:
    """The repository of one workspace; not for two threads at once, the caller holds a lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.refs = folder / "refs" / "snapshots"
        self._pending: dict[str, tuple[Kind, bytes]] = {}
        self._pending_bytes = 0
        self._reader: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """Make the repository if it is not there. Raises StorageError without git."""
        if self.refs.is_dir():
            return
        self.git("init", "--quiet", "--bare", "--template=", "--object-format=sha1")
        self.refs.mkdir(parents=True, exist_ok=True)

    def git(self, *words: str, give: bytes = b"") -> bytes:
        """Run git on the repository and return what it says. Raises StorageError."""
        done = subprocess.run(self._command(*words), input=give, env=self._environment(), capture_output=True)
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise StorageError(f"git {words[0]} failed on {self.folder}: {said}")
        return done.stdout

    def _command(self, *words: str) -> list[str]:
        git = shutil.which("git")
        if git is None:
            raise StorageError("undo keeps its snapshots with git, and there is no git; install it")
        # The default branch is named only so that git does not advise about it.
        return [git, "-c", "init.defaultBranch=none", "-c", "pack.threads=1", *words]

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C",
            "HOME": str(self.folder),
            "GIT_DIR": str(self.folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_OPTIONAL_LOCKS": "0",
        }

    def put(self, kind: Kind, content: bytes) -> str:
        """The id of an object; it is on disk after `flush`."""
        found = hashlib.sha1(b"%s %d\0" % (kind.encode(), len(content)), usedforsecurity=False)
        found.update(content)
        name = found.hexdigest()
        if name not in self._pending:
            self._pending[name] = (kind, content)
            self._pending_bytes += len(content)
            if self._pending_bytes > _PENDING_BYTES:
                self.flush()
        return name

    def flush(self) -> None:
        """Write what was put. Raises OSError or StorageError; then nothing counts as written."""
        pending, size = self._pending, self._pending_bytes
        self._pending, self._pending_bytes = {}, 0
        if len(pending) <= _LOOSE_AT_MOST and size <= _LOOSE_BYTES:
            for name, (kind, content) in pending.items():
                self._write_loose(name, kind, content)
            return
        if pending.pop(_EMPTY_TREE, None):
            self._write_loose(_EMPTY_TREE, "tree", b"")
        missing = self.missing(pending)
        if missing:
            self.git("index-pack", "--stdin", give=_pack([pending[name] for name in missing]))

    def forget(self) -> None:
        """Drop what was put and not written, and stop reading."""
        self._pending, self._pending_bytes = {}, 0
        if self._reader is not None:
            reader, self._reader = self._reader, None
            with reader:
                pass

    def _write_loose(self, name: str, kind: Kind, content: bytes) -> None:
        path = self._loose(name)
        # An empty one is what a power cut can leave.
        if path.exists() and path.stat().st_size:
            return
        path.parent.mkdir(exist_ok=True)
        temporary = path.parent / f"tmp_obj_{secrets.token_hex(6)}"
        try:
            temporary.write_bytes(_deflate(b"%s %d\0" % (kind.encode(), len(content)) + content))
            temporary.chmod(0o444)
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def _loose(self, name: str) -> Path:
        return self.folder / "objects" / name[:2] / name[2:]

    def read(self, name: str) -> bytes:
        """The content of an object. Raises StorageError when it is missing or damaged."""
        if name in self._pending:
            return self._pending[name][1]
        if not _ID.fullmatch(name):
            raise StorageError(f"{name!r} is not the id of a snapshot")
        try:
            whole = zlib.decompress(self._loose(name).read_bytes())
        except FileNotFoundError:
            return self._read_packed(name)
        except (OSError, zlib.error) as error:
            raise StorageError(f"the snapshot object {name} cannot be read: {error}") from None
        if hashlib.sha1(whole, usedforsecurity=False).hexdigest() != name:
            raise StorageError(f"the snapshot object {name} is damaged; what it holds cannot be restored")
        return whole[whole.index(b"\0") + 1 :]

    def _read_packed(self, name: str) -> bytes:
        if self._reader is None:
            self._reader = subprocess.Popen(
                self._command("cat-file", "--batch"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environment(),
            )
        asked, said = self._reader.stdin, self._reader.stdout
        if asked is None or said is None:
            raise StorageError("git cat-file has no pipes")
        asked.write(name.encode() + b"\n")
        asked.flush()
        head = said.readline().split()
        if len(head) != 3:
            raise StorageError(f"there is no snapshot object {name}; it was removed or never made")
        content = said.read(int(head[2]) + 1)
        return content[:-1]

    def size(self, name: str) -> int:
        """Bytes of an object's content."""
        with contextlib.suppress(OSError, zlib.error, ValueError), self._loose(name).open("rb") as file:
            head = zlib.decompressobj().decompress(file.read(256), 64)
            return int(head[head.index(b" ") : head.index(b"\0")])
        return len(self.read(name))

    def name(self, tree: str) -> None:
        """Give a tree a ref, or make its ref young again: what has one is not pruned."""
        path = self.refs / tree
        try:
            os.utime(path)
        except FileNotFoundError:
            temporary = self.folder / f"ref-{secrets.token_hex(6)}"
            temporary.write_text(f"{tree}\n", "utf-8")
            temporary.replace(path)

    def keep(self, names: Iterable[str], *, older_than: float) -> int:
        """Remove refs not named and older than a time (seconds since 1970), prune; bytes freed."""
        kept, before = set(names), self._bytes()
        for path in self.refs.iterdir():
            if path.name not in kept and path.stat().st_mtime <= older_than:
                path.unlink()
        self.git(*_FAST, "repack", "-a", "-d", "-q")
        self.git("prune", "--expire=now")
        return max(0, before - self._bytes())

    def _bytes(self) -> int:
        total = 0
        for place, _, files in os.walk(self.folder / "objects"):
            total += sum((Path(place) / file).stat().st_size for file in files)
        return total

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of some objects that are not on disk."""
        said = self.git("cat-file", "--batch-check", give="".join(f"{name}\n" for name in names).encode())
        return [line.split()[0].decode() for line in said.splitlines() if line.endswith(b" missing")]

    def check(self) -> list[str]:
        """What git finds wrong with the repository."""
        # Earlier versions of orc believed git.
        self._write_loose(_EMPTY_TREE, "tree", b"")
        done = subprocess.run(
            self._command("fsck", "--full", "--strict", "--no-dangling", "--no-progress"),
            env=self._environment(),
            capture_output=True,
        )
        said = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
        # A fresh repository has no branch, and ours never gets one.
        found = [line for line in said if line.strip() and not line.startswith("notice:")]
        return found or ([f"git fsck ended with {done.returncode}"] if done.returncode else [])


def _deflate(content: bytes) -> bytes:
    """Compress, fast; what does not shrink in a sample is stored as it is."""
    sample = content[:_SAMPLE]
    is_worth_it = len(zlib.compress(sample, 1)) < 0.95 * len(sample)
    return zlib.compress(content, 1 if is_worth_it or len(content) <= _SAMPLE else 0)


def _pack(objects: list[tuple[Kind, bytes]]) -> bytes:
    """A pack without deltas; see gitformat-pack(5)."""
    parts = [b"PACK" + struct.pack(">II", 2, len(objects))]
    for kind, content in objects:
        size, first = len(content) >> 4, _PACK_TYPES[kind] << 4 | len(content) & 15
        head = bytearray()
        while size:
            head.append(first | 128)
            first, size = size & 127, size >> 7
        head.append(first)
        parts += [bytes(head), _deflate(content)]
    whole = b"".join(parts)
    return whole + hashlib.sha1(whole, usedforsecurity=False).digest()
