"""Keep on disk what the embedded model computed for the fixed front of each kind of conversation.

500 tokens of prompt take 7 s to evaluate and 3 ms to restore (measured). llama.cpp aborts on a torn
file, so a file's name carries the digest of its content, and nothing else is ever restored.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.llm.endpoint import Front

if TYPE_CHECKING:
    import httpx2

SHORTEST = 400
"""Characters of a prompt below which a file costs more than it saves."""
LARGEST_FILE = 256 << 20
FOLDER_LIMIT = 1 << 30
"""Bytes; the files not used for the longest time go first."""
STALE_SECONDS = 3600
"""Age from which a draft belongs to a process that is gone."""


class Prefixes:
    """The prefixes of one server; nothing here ever fails a request."""

    def __init__(self, client: httpx2.AsyncClient, folder: Path, identity: str) -> None:
        self.client = client
        self.folder = folder
        self.identity = identity
        """Of weights, library and context size: a file from any other is of no use."""
        self.seen: set[Front] = set()
        """Fronts that the server holds itself by now; its own cache in memory serves them."""
        self.drafts: dict[str, Path] = {}

    async def prepare(self, front: Front) -> None:
        """Have the server hold the front: from disk, else by evaluating it, ahead of the request."""
        if front in self.seen or sum(len(text) for _, text in front) < SHORTEST:
            return
        self.seen.add(front)
        key = hashlib.sha256(f"{self.identity}\0{front!r}".encode()).hexdigest()[:32]
        file = await asyncio.to_thread(stored, self.folder, key)
        if file is None:
            await self._evaluate(front, key)
        elif not await self._restore(file):
            file.unlink(missing_ok=True)

    async def keep(self) -> None:
        """Give the drafts of this process their names."""
        while self.drafts:
            key, draft = self.drafts.popitem()
            await asyncio.to_thread(store, self.folder, key, draft)

    async def _restore(self, file: Path) -> bool:
        # The slot's content is lost when a file is restored over it; a prompt without anything in common
        # makes the server move it to its cache in memory first (50 ms, once per prompt and process).
        await self._post("/completion", {"prompt": "a", "n_predict": 0})
        answer = await self._post("/slots/0?action=restore", {"filename": file.name})
        return bool(answer.get("n_restored"))

    async def _evaluate(self, front: Front, key: str) -> None:
        messages = [{"role": role, "content": text} for role, text in front]
        prompt = (await self._post("/apply-template", {"messages": messages})).get("prompt")
        if not prompt:
            return
        evaluated = await self._post("/completion", {"prompt": prompt, "n_predict": 0, "cache_prompt": True})
        draft = self.folder / f"draft-{os.getpid()}-{key}.bin"
        saved = await self._post("/slots/0?action=save", {"filename": draft.name})
        # Another request may have come between the two; then the slot holds that one.
        is_ours = bool(saved.get("n_saved")) and saved.get("n_saved") == evaluated.get("tokens_evaluated")
        if is_ours and draft.stat().st_size == saved.get("n_written"):
            self.drafts[key] = draft
        else:
            draft.unlink(missing_ok=True)

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The server's answer; empty when it refused."""
        response = await self.client.post(path, json=body)
        answer = response.json() if response.status_code == 200 else {}
        return answer if isinstance(answer, dict) else {}


def stored(folder: Path, key: str) -> Path | None:
    """The file of a key; one whose content does not fit its name is removed."""
    for file in folder.glob(f"{key}-*.bin"):
        if file.name == f"{key}-{_digest(file)}.bin":
            os.utime(file)
            return file
        file.unlink(missing_ok=True)
    return None


def store(folder: Path, key: str, draft: Path) -> None:
    """Name a draft after its content in one step, and keep the folder within its limit."""
    if draft.stat().st_size > LARGEST_FILE:
        draft.unlink()
        return
    draft.replace(folder / f"{key}-{_digest(draft)}.bin")
    trim(folder, FOLDER_LIMIT)


def trim(folder: Path, limit: int) -> None:
    """Remove the files not used for the longest time, and drafts that nobody will finish."""
    used = 0
    statuses = [(file.stat(), file) for file in folder.glob("*.bin")]
    for status, file in sorted(statuses, key=lambda pair: -pair[0].st_mtime):
        used += status.st_size
        is_stale = file.name.startswith("draft-") and status.st_mtime < time.time() - STALE_SECONDS
        if used > limit or is_stale:
            file.unlink(missing_ok=True)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:32]
