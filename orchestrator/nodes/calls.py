"""Run the calls that were let through: reads side by side, everything else alone and in order.

Each call is journalled before and after. On the way back from a crash a call with a recorded result
is served from the journal, and a write whose outcome nobody knows is not repeated.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

from langchain_core.messages.tool import ToolCall

from orchestrator.cancel import ended
from orchestrator.context import Context
from orchestrator.errors import StorageError, ToolError
from orchestrator.events import scope
from orchestrator.nodes.budget import over_step
from orchestrator.nodes.changes import files, told
from orchestrator.nodes.circles import CUT_OFF
from orchestrator.nodes.keeping import Keeping
from orchestrator.state import Verdict
from orchestrator.tools.base import Tool, parse
from orchestrator.tools.base import call as call_tool
from orchestrator.tools.claims import claims_of
from orchestrator.tools.proxy import Gate


async def run_all(
    calls: Sequence[ToolCall],
    verdicts: Mapping[str, Verdict],
    context: Context,
    *,
    watched: bool,
    attended: Collection[str],
) -> dict[str, str]:
    """Run calls in order, neighbouring reads side by side; returns the texts by call id.

    `attended` are the calls that a person approved. `watched` adds to a result what a command did to files.
    When one of several reads raises, the others are cancelled, and none is left running.
    """
    texts: dict[str, str] = {}
    ready = [
        _Running(
            call, context.tools[call["name"]], verdicts[str(call["id"])], context, str(call["id"]) in attended
        )
        for call in calls
    ]
    for reads, group in groupby(ready, key=lambda running: running.is_read_only):
        several = list(group)
        if not reads:
            for running in several:
                texts[running.identifier] = await running.run(watched)
            continue
        free = asyncio.Semaphore(context.settings.tools.parallel)
        tasks = [asyncio.ensure_future(_in_turn(running, free, watched)) for running in several]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            await ended(*tasks)
        # The first that failed, not one that was cancelled because of it.
        failed = [task for task in tasks if not task.cancelled() and task.exception()]
        for running, task in zip(several, failed[:1] * len(tasks) or tasks, strict=True):
            texts[running.identifier] = task.result()
    return texts


async def _in_turn(running: _Running, free: asyncio.Semaphore, watched: bool) -> str:
    async with free:
        return await running.run(watched)


KEPT_IN = (
    "(it ran without a network, because nothing shows what it would send; a command that names the host "
    "itself, such as curl or git, may reach it)"
)


@dataclass
class _Running:
    """One call that is to be run."""

    call: ToolCall
    tool: Tool
    verdict: Verdict
    context: Context
    is_attended: bool

    @property
    def identifier(self) -> str:
        return str(self.call["id"])

    @property
    def is_read_only(self) -> bool:
        """Whether it may run beside others; a command that only looks is held to that by the sandbox."""
        is_held = self.verdict["read_only"] and self.context.tool_context.sandbox.is_confining
        return self.tool.effects.is_read_only or is_held

    async def run(self, watched: bool) -> str:
        """Run it, or serve what the journal knows of it."""
        identifier, tool, journal = self.identifier, self.tool, self.context.journal
        recorded = journal.of_call(identifier, "tool_result")
        if recorded is not None and journal.is_same(recorded.fields.get("arguments", {}), self.call["args"]):
            journal.write("served", call=identifier, tool=tool.name)
            return str(recorded.fields["text"])
        kept = Keeping(tool, self.call, self.verdict, self.context)
        about: dict[str, Any] = {"tool": tool.name, "arguments": self.call["args"]}
        intent = journal.of_call(identifier, "tool_intent")
        if intent is not None and not (self.is_read_only or tool.effects.repeatable):
            about |= await kept.cut_off(intent)
            journal.write("tool_result", call=identifier, **about, status="unknown", text=CUT_OFF)
            return CUT_OFF
        claims = claims_of(tool.effects, self.call["args"], self.context.root, reads=self.is_read_only)
        async with self.context.claims.held(claims):
            if over := over_step(self.context):
                return over
            about |= await kept.before()
            journal.write("tool_intent", call=identifier, **about)
            # From here to the result nothing may come between, or nobody would know what a write has done.
            work = self._carried_out(kept, about, watched)
            return await (work if tool.effects.is_read_only else self.context.cancel.whole(work))

    async def _carried_out(self, kept: Keeping, about: dict[str, Any], watched: bool) -> str:
        root = self.context.root
        started = time.monotonic()
        seen = await asyncio.to_thread(files, root) if watched and self.tool.effects.executes else None
        status, text = await self._outcome()
        text += await asyncio.to_thread(told, seen, root)
        seconds = time.monotonic() - started
        about |= await kept.after()
        self.context.journal.write(
            "tool_result", call=self.identifier, seconds=seconds, **about, status=status, text=text
        )
        return text

    def _gate(self) -> Gate | None:
        """The way to the hosts that the verdict names, unless the agent may not reach them any more."""
        context, wanted = self.context, self.verdict.get("hosts", [])
        hosts = tuple(each for each in context.hosts_of(scope()["agent"]) if each in wanted) if wanted else ()
        if not hosts:
            return None
        write = partial(context.journal.write, "network", call=self.identifier, tool=self.tool.name)
        private = context.settings.tools.allowed_private_hosts
        return Gate(hosts, private, lambda reached: write(**asdict(reached)))

    async def _outcome(self) -> tuple[str, str]:
        """Status `ok` or `error`, and the text for the model."""
        tool, verdict = self.tool, self.verdict
        using = replace(
            self.context.tool_context,
            read_only_command=verdict["read_only"],
            approved=self.is_attended,
            gate=self._gate(),
        )
        try:
            text = await call_tool(tool, parse(tool, self.call["args"]), using)
            is_kept_in = verdict.get("hosts") == [] and not text.startswith("exit code 0")
            return "ok", f"{text}\n{KEPT_IN}" if is_kept_in else text
        except ToolError as error:
            return "error", f"Error: {error}"
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - the border: a fault in a tool must not end the run
            return "error", f"Error: {tool.name} failed: {type(error).__name__}: {error}. Try another way."
