"""Show a run on the terminal while it happens: everything on stderr, the answer alone on stdout."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from orchestrator.events import Event

WIDTH = 72
_MARKS = {"ok": "[green]●[/]", "error": "[red]●[/]", "unknown": "[yellow]●[/]"}


class JsonView:
    """Writes each event as one JSON line on stdout."""

    def __call__(self, event: Event) -> None:
        """Show one event."""
        sys.stdout.write(event.model_dump_json() + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing is left to do."""


class QuietView:
    """Shows what cannot wait, and the answer."""

    def __init__(self) -> None:
        self._streamed = ""

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if event.kind == "text":
            self._streamed += event.fields["text"]
            sys.stdout.write(shown(event.fields["text"]))
            sys.stdout.flush()
        elif event.kind == "answer":
            whole = str(event.fields["text"])
            sys.stdout.write(f"{'' if self._streamed == whole else shown(whole)}\n")
            sys.stdout.flush()
            self._streamed = ""

    def close(self) -> None:
        """Nothing is left to do."""


class TerminalView(QuietView):
    """Shows route, plan, calls, verdicts and figures as they come, and a spinner on a terminal."""

    def __init__(self, console: Console | None = None, *, is_live: bool = True) -> None:
        super().__init__()
        self.console = console or Console(stderr=True, highlight=False)
        self._is_live = is_live and self.console.is_terminal
        self._steps: list[Mapping[str, Any]] = []
        self._spinner: Progress | None = None
        self._task: TaskID | None = None
        self.step: int | None = None
        """Number of the step that is printed in the margin; None prints no margin."""
        self._last_step = 0

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if event.kind in {"text", "answer", "end", "error"}:
            self.close()
        show = getattr(self, f"_on_{event.kind}", None)
        if show is not None:
            show(event)
        super().__call__(event)
        if event.kind not in {"text", "answer", "end", "error"}:
            self._wait_for(event)

    def close(self) -> None:
        """Take the spinner away, so that a question or the answer has the terminal."""
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None

    def _wait_for(self, event: Event) -> None:
        if not self._is_live:
            return
        text = _doing(event)
        if self._spinner is None:
            columns = (SpinnerColumn(), TextColumn("[dim]{task.description}"), TimeElapsedColumn())
            self._spinner = Progress(*columns, console=self.console, transient=True)
            self._task = self._spinner.add_task(text)
            self._spinner.start()
        elif self._task is not None and text:
            self._spinner.update(self._task, description=text)

    def _print(self, text: str) -> None:
        margin = ""
        if self.step is not None:
            number = f"@{self.step}" if self.step and self.step != self._last_step else ""
            margin = f"[dim]{number:>5}[/] "
            self._last_step = self.step
        self.console.print(f"{margin}{text}".translate(_UNSEEN), soft_wrap=True)

    def _on_turn(self, event: Event) -> None:
        self._print(f"[bold]{event.run}[/] [dim]turn {event.turn} · sandbox: {event.fields['sandbox']}[/]")
        if not self._is_live:
            self._print(f"[bold]»[/] {escape(_line(event.fields['request']))}")

    def _on_route(self, event: Event) -> None:
        fields = event.fields
        agent = "no specialist needed" if fields["agent"] == "none" else fields["agent"]
        self._print(
            f"[cyan]→ {escape(agent)}[/] [dim]{escape(fields['why'])} "
            f"({fields['decided_by']}, {fields['confidence']:.0%})[/]"
        )

    def _on_plan(self, event: Event) -> None:
        self._steps = event.fields["steps"]
        if event.fields["why"]:
            self._print(f"[yellow]replanned:[/] {escape(_line(event.fields['why']))}")
        if len(self._steps) > 1:
            for number, step in enumerate(self._steps, 1):
                self._print(f"  [dim]○[/] {number}. {escape(step['agent'])}: {escape(_line(step['goal']))}")

    def _on_step(self, event: Event) -> None:
        if len(self._steps) < 2:
            return
        goal = escape(_line(event.fields["goal"]))
        marks = {
            "done": "[green]✓[/]",
            "failed": "[red]✗[/]",
            "refused": "[red]✗[/]",
            "started": "[cyan]▸[/]",
        }
        self._print(f"{marks[event.fields['status']]} {escape(event.agent)}: {goal}")

    def _on_tool_result(self, event: Event) -> None:
        fields = event.fields
        target = escape(_target(fields.get("arguments", {})))
        first = escape(_line(str(fields["text"])))
        took = f"{event.seconds:.1f} s" if event.seconds is not None else ""
        self._print(f"{_MARKS[fields['status']]} {escape(fields['tool'])} {target} [dim]{took}  {first}[/]")

    def _on_verdict(self, event: Event) -> None:
        if event.fields["decision"] == "deny":
            self._print(f"[red]✗ {escape(event.fields['tool'])} refused:[/] {escape(event.fields['why'])}")

    def _on_approval(self, event: Event) -> None:
        kind, by = event.fields["type"], event.fields.get("by", "person")
        self._print(f"[yellow]? {escape(event.fields['tool'])}: {kind} ({by})[/]")

    def _on_nudge(self, event: Event) -> None:
        self._print(f"[yellow]↺[/] [dim]{escape(_line(event.fields['text']))}[/]")

    def _on_retry(self, event: Event) -> None:
        fields = event.fields
        self._print(
            f"[yellow]the model did not answer:[/] {escape(fields['why'])}; again in {fields['wait']:.1f} s"
        )

    def _on_budget(self, event: Event) -> None:
        fields = event.fields
        if fields.get("warning"):
            self._print(
                f"[yellow]$ {fields['share']:.0%} of limits.{escape(fields['limit'])} is used:[/] "
                f"{fields['used']} of {fields['of']}"
            )
        elif fields.get("estimate"):
            self._print(f"[dim]the plan may cost {fields['low']} to {fields['high']}[/]")
        elif fields.get("ended"):
            for name in ("done", "left"):
                for text in fields[name]:
                    self._print(f"[yellow]{name}:[/] {escape(str(text))}")

    def _on_compaction(self, event: Event) -> None:
        fields = event.fields
        self._print(
            f"[dim]the conversation was shortened for the model: {fields['tokens_before']:,} to "
            f"{fields['tokens_after']:,} tokens; nothing is lost in the run[/]"
        )

    def _on_breaker(self, event: Event) -> None:
        self._print(f"[yellow]![/] {escape(event.fields['text'])}")

    def _on_note(self, event: Event) -> None:
        self._print(f"[yellow]![/] {escape(str(event.fields['text']))}")

    def _on_fork(self, event: Event) -> None:
        self._print(f"[dim]forked as {escape(event.fields['name'])} from {escape(event.fields['point'])}[/]")

    def _on_undo(self, event: Event) -> None:
        fields = event.fields
        done = f"{fields['what']}, {len(fields['files'])} paths"
        self._print(f"[dim]{event.kind}: {escape(fields['point'])} ({done})[/]")

    _on_redo = _on_undo

    def _on_end(self, event: Event) -> None:
        fields = event.fields
        if "model_calls" not in fields:
            return
        usd = "unpriced" if fields["unpriced_calls"] else f"${float(fields['usd']):.4f}"
        tokens = f"{fields['input_tokens']:,} in, {fields['output_tokens']:,} out"
        calls = f"{fields['model_calls']} model calls, {fields['tool_calls']} tool calls"
        self._print(f"[dim]{event.seconds:.1f} s · {calls} · tokens {tokens} · {usd}[/]")
        if fields["status"] in {"done", "failed", "refused"}:
            self._print(f'[dim]go on: orc run -c {event.run} "…" · look back: orc runs show {event.run}[/]')
        else:
            self._print(f"[dim]go on: orc resume {event.run} · look back: orc runs show {event.run}[/]")


class Attended:
    """A view that somebody looks at: when they are gone, the run is told to end as by a hang-up."""

    def __init__(self, view: JsonView | QuietView) -> None:
        self._view: JsonView | QuietView | None = view

    def __call__(self, event: Event) -> None:
        """Show one event, while somebody looks."""
        if self._view is not None:
            try:
                self._view(event)
            except OSError:
                self._leave()

    def close(self) -> None:
        """Take away what moves."""
        if self._view is not None:
            try:
                self._view.close()
            except OSError:
                self._leave()

    def _leave(self) -> None:
        self._view = None
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                # What is still in the buffer would be tried again when Python ends.
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
        signal.raise_signal(signal.SIGHUP)


_UNSEEN = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"} | {13: None}
"""What would steer a terminal: a model may write it, or repeat it from a page that it read."""


def shown(text: str) -> str:
    """An answer as it goes out: as it is, to a terminal without what would steer it."""
    return text.translate(_UNSEEN) if sys.stdout.isatty() else text


def _doing(event: Event) -> str:
    """What happens now, told from the last event."""
    if event.kind == "tool_intent":
        return f"{event.fields['tool']} {_target(event.fields['arguments'])}"
    names = {"turn": "routing", "route": "planning"}
    return names.get(event.kind, f"{event.agent or 'the model'} is thinking")


def _target(arguments: Mapping[str, Any]) -> str:
    """The argument that says most, in one line."""
    for name in ("path", "command", "source", "url", "query", "pattern", "code"):
        if arguments.get(name):
            text = str(arguments[name])
            if name == "source" and arguments.get("target"):
                text += f" → {arguments['target']}"
            return _line(text)
    return _line(json.dumps(dict(arguments), ensure_ascii=False)) if arguments else ""


def _line(text: str) -> str:
    """The first line of a text, cut to fit."""
    first = next((line for line in text.strip().splitlines() if line.strip()), "").strip()
    return first if len(first) <= WIDTH else f"{first[: WIDTH - 1]}…"


def when(seconds: float) -> str:
    """A moment as people write it, in local time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
