"""Tell others that most of a limit is used: a command gets the warning as JSON, a webhook is posted it.

Both run beside the turn. One that fails is noted and never stops a run.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.settings import OnWarning

SECONDS = 10.0


class Notices:
    """The notices of one turn that are under way."""

    def __init__(self, settings: OnWarning) -> None:
        self._settings = settings
        self._threads: list[threading.Thread] = []
        self.faults: list[str] = []
        """What went wrong, as sentences."""

    def send(self, warning: Mapping[str, Any]) -> None:
        """Start telling; returns at once."""
        body = json.dumps(dict(warning), ensure_ascii=False)
        work: list[Callable[[], None]] = []
        if self._settings.command:
            work.append(lambda: self._run(self._settings.command, body))
        if url := self._settings.webhook:
            work.append(lambda: self._post(url, body))
        for each in work:
            thread = threading.Thread(target=each, name="budget notice", daemon=True)
            thread.start()
            self._threads.append(thread)

    def finish(self, seconds: float | None = None) -> list[str]:
        """Wait for what is under way, at most so long each; returns what went wrong, each fault once."""
        for thread in self._threads:
            thread.join(SECONDS + 1 if seconds is None else seconds)
        self._threads.clear()
        return list(dict.fromkeys(self.faults))

    def _run(self, command: list[str], body: str) -> None:
        try:
            done = subprocess.run(
                command, input=body.encode(), capture_output=True, timeout=SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired, ValueError) as error:
            self.faults.append(f"limits.on_warning.command {command[0]!r} failed: {error}")
            return
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()[:200]
            text = f"limits.on_warning.command {command[0]!r} ended with {done.returncode}"
            self.faults.append(f"{text}: {said}" if said else text)

    def _post(self, url: str, body: str) -> None:
        import httpx2  # noqa: PLC0415

        try:
            headers = {"content-type": "application/json"}
            answer = httpx2.post(url, content=body.encode(), headers=headers, timeout=SECONDS)
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            self.faults.append(f"limits.on_warning.webhook failed: {error or type(error).__name__}")
            return
        if not answer.is_success:
            self.faults.append(f"limits.on_warning.webhook answered {answer.status_code}")
