"""Ask a person at the terminal about calls that the guardian does not let through alone."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import termios
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.asked import headline, lines
from orchestrator.quiet import SIGNALS
from orchestrator.safety.visible import escaped

KEYS = {
    "approve": "approve once",
    "edit": "edit",
    "reject": "reject",
    "m": "approve and remember",
    "quit": "decide later",
}
"""By the answer, whose first letter is enough, what it does; an empty line does nothing."""


EDITORS = ("sensible-editor", "nano", "vim", "vi")
"""Tried in this order when neither VISUAL nor EDITOR is set."""


def person_is_there() -> bool:
    """Whether someone can be asked: both ends of the conversation are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def approver(
    before: Callable[[], None],
) -> Callable[[Mapping[str, Any]], Coroutine[Any, Any, dict[str, Any] | None]]:
    """An approver for the session; `before` clears the screen of what moves.

    It returns None when the person puts the decision off (q, Ctrl-C or Ctrl-D). When it is cancelled, the
    terminal is left as it was.
    """

    async def ask(payload: Mapping[str, Any]) -> dict[str, Any] | None:
        before()
        asking = asyncio.ensure_future(_decisions(payload))
        with _terminal_kept(), _ended_by_signals(asking) as signalled:
            try:
                decisions = await asking
            except asyncio.CancelledError:
                if not signalled:
                    click.echo(err=True)
                    raise
                decisions = None
        if decisions is None:
            click.echo("\nput off", err=True)
            return None
        return {"decisions": decisions}

    return ask


@contextmanager
def _terminal_kept() -> Iterator[None]:
    """Leave the terminal in the mode that it was in."""
    mode = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        with suppress(termios.error):
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, mode)


@contextmanager
def _ended_by_signals(asking: asyncio.Future[Any]) -> Iterator[list[int]]:
    """Let Ctrl-C and its like put the question off; what came in is in the list."""
    loop = asyncio.get_running_loop()
    signalled: list[int] = []

    def end(number: int) -> None:
        signalled.append(number)
        asking.cancel()

    earlier = {number: signal.getsignal(number) for number in SIGNALS}
    for number in earlier:
        loop.add_signal_handler(number, end, number)
    try:
        yield signalled
    finally:
        for number, handler in earlier.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


async def _decisions(payload: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """A decision for each call; None when the person puts them off."""
    try:
        return [await _decision(request) for request in payload["action_requests"]]
    except (KeyboardInterrupt, EOFError):
        return None


async def _decision(request: Mapping[str, Any]) -> dict[str, Any]:
    click.secho(f"\n{headline(request)}", fg="yellow", bold=True, err=True)
    for line in lines(request):
        click.secho(f"  {line}", fg="red" if line.startswith("!") else None, err=True)
    scope = request.get("remember")
    allowed = [name for name in KEYS if name != "m" or scope]
    while True:
        answer = (
            (await _line(f"{', '.join(f'{name[0]} = {KEYS[name]}' for name in allowed)}: ")).strip().lower()
        )
        chosen = next((name for name in allowed if answer in {name, name[0]}), "")
        if chosen == "approve":
            return {"type": "approve"}
        if chosen == "m" and await _is_meant(str(scope)):
            return {"type": "approve", "remember": True}
        if chosen == "reject":
            return {"type": "reject", "message": await _line("what should it do instead? (may be empty) ")}
        if chosen == "edit":
            return await _edited(request)
        if chosen == "quit":
            raise EOFError


async def _is_meant(scope: str) -> bool:
    """Show what would be remembered, and have it confirmed by a word."""
    click.echo(
        f"  from now on {scope}\n  `orc approvals rules` lists this, `orc approvals forget` ends it", err=True
    )
    return (await _line("type yes to remember this: ")).strip().lower() == "yes"


async def _line(prompt: str) -> str:
    """What the person types up to Enter; the event loop goes on meanwhile."""
    click.echo(prompt, nl=False, err=True)
    loop, typed = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), typed.set)
    try:
        await typed.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    try:
        # A terminal gives a line at a time.
        line = os.read(sys.stdin.fileno(), 65536).decode("utf-8", "replace")
    except OSError:
        line = ""
    if not line:
        raise EOFError
    return line.rstrip("\n")


async def _edited(request: Mapping[str, Any]) -> dict[str, Any]:
    """Let the person change the arguments: on the line when there is one short text, else in an editor.

    What holds characters that a terminal hides or obeys goes to the editor, written as escapes.
    """
    arguments = dict(request["args"])
    is_odd = any(isinstance(value, str) and escaped(value) != value for value in arguments.values())
    texts = [name for name, value in arguments.items() if isinstance(value, str) and "\n" not in value]
    if len(texts) == 1 and len(arguments) <= 2 and not is_odd:
        arguments[texts[0]] = await _edited_line(f"{texts[0]}: ", arguments[texts[0]])
        return {"type": "edit", "edited_action": {"name": request["name"], "args": arguments}}
    before = text = json.dumps(arguments, indent=2, ensure_ascii=is_odd)
    while True:
        text = await _in_editor(text)
        if text == before:
            return await _decision(request)
        try:
            changed = json.loads(text)
        except json.JSONDecodeError as error:
            click.echo(f"not valid JSON: {error}", err=True)
            before = text
            continue
        if isinstance(changed, dict):
            return {"type": "edit", "edited_action": {"name": request["name"], "args": changed}}
        click.echo("the arguments must be a JSON object", err=True)
        before = text


async def _edited_line(prompt: str, text: str) -> str:
    """A line that the person may change; on stderr, because stdout is for the answer alone."""
    from prompt_toolkit import PromptSession  # noqa: PLC0415 - only for this
    from prompt_toolkit.output import create_output  # noqa: PLC0415

    session: PromptSession[str] = PromptSession(output=create_output(stdout=sys.stderr))
    return await session.prompt_async(prompt, default=text, handle_sigint=False)


async def _in_editor(text: str) -> str:
    """The text as the person leaves it in their editor, which ends when we are cancelled."""
    wanted = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    found = wanted or next((name for name in EDITORS if shutil.which(name)), EDITORS[-1])
    with tempfile.NamedTemporaryFile("w+", suffix=".json", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        command = f"exec {found} {shlex.quote(file.name)}"
        editor = await asyncio.create_subprocess_shell(command, stdout=sys.stderr)
        try:
            if await editor.wait():
                click.echo(f"{found} failed; set EDITOR to the editor that you use", err=True)
                return text
        finally:
            if editor.returncode is None:
                editor.kill()
                await editor.wait()
        return _written(file.name)


def _written(path: str) -> str:
    """What an editor left, which may be another file of that name."""
    return Path(path).read_text("utf-8", "replace")
