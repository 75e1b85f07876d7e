"""Ask a person at the terminal about calls that the guardian does not let through alone."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from orchestrator.cli.asked import headline, lines
from orchestrator.safety.visible import escaped

KEYS = {
    "approve": "approve once",
    "edit": "edit",
    "reject": "reject",
    "m": "approve and remember",
    "quit": "decide later",
}
"""By the answer, whose first letter is enough, what it does; an empty line does nothing."""


def person_is_there() -> bool:
    """Whether someone can be asked: both ends of the conversation are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def approver(before: Callable[[], None]) -> Callable[[Mapping[str, Any]], dict[str, Any] | None]:
    """An approver for the session; `before` clears the screen of what moves.

    It returns None when the person puts the decision off (q, Ctrl-C or Ctrl-D).
    """

    def ask(payload: Mapping[str, Any]) -> dict[str, Any] | None:
        before()
        try:
            with _plain_interrupts():
                return {"decisions": [_decision(request) for request in payload["action_requests"]]}
        except (KeyboardInterrupt, EOFError, click.Abort):
            click.echo("\nput off", err=True)
            return None

    return ask


@contextmanager
def _plain_interrupts() -> Iterator[None]:
    """Let Ctrl-C end the question: the event loop's own handler would wait for Enter."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)


def _decision(request: Mapping[str, Any]) -> dict[str, Any]:
    click.secho(f"\n{headline(request)}", fg="yellow", bold=True, err=True)
    for line in lines(request):
        click.secho(f"  {line}", fg="red" if line.startswith("!") else None, err=True)
    scope = request.get("remember")
    allowed = [name for name in KEYS if name != "m" or scope]
    while True:
        answer = _line(f"{', '.join(f'{name[0]} = {KEYS[name]}' for name in allowed)}: ").strip().lower()
        chosen = next((name for name in allowed if answer in {name, name[0]}), "")
        if chosen == "approve":
            return {"type": "approve"}
        if chosen == "m" and _is_meant(str(scope)):
            return {"type": "approve", "remember": True}
        if chosen == "reject":
            return {"type": "reject", "message": _line("what should it do instead? (may be empty) ")}
        if chosen == "edit":
            return _edited(request)
        if chosen == "quit":
            raise EOFError


def _is_meant(scope: str) -> bool:
    """Show what would be remembered, and have it confirmed by a word."""
    click.echo(
        f"  from now on {scope}\n  `orc approvals rules` lists this, `orc approvals forget` ends it", err=True
    )
    return _line("type yes to remember this: ").strip().lower() == "yes"


def _line(prompt: str) -> str:
    click.echo(prompt, nl=False, err=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


def _edited(request: Mapping[str, Any]) -> dict[str, Any]:
    """Let the person change the arguments: on the line when there is one short text, else in an editor.

    What holds characters that a terminal hides or obeys goes to the editor, written as escapes.
    """
    arguments = dict(request["args"])
    is_odd = any(isinstance(value, str) and escaped(value) != value for value in arguments.values())
    texts = [name for name, value in arguments.items() if isinstance(value, str) and "\n" not in value]
    if len(texts) == 1 and len(arguments) <= 2 and not is_odd:
        arguments[texts[0]] = _edited_line(f"{texts[0]}: ", arguments[texts[0]])
        return {"type": "edit", "edited_action": {"name": request["name"], "args": arguments}}
    while True:
        text = click.edit(json.dumps(arguments, indent=2, ensure_ascii=is_odd), extension=".json")
        if text is None:
            return _decision(request)
        try:
            changed = json.loads(text)
        except json.JSONDecodeError as error:
            click.echo(f"not valid JSON: {error}", err=True)
            continue
        if isinstance(changed, dict):
            return {"type": "edit", "edited_action": {"name": request["name"], "args": changed}}
        click.echo("the arguments must be a JSON object", err=True)


def _edited_line(prompt: str, text: str) -> str:
    """A line that the person may change; on stderr, because stdout is for the answer alone."""
    from prompt_toolkit import PromptSession  # noqa: PLC0415 - only for this
    from prompt_toolkit.output import create_output  # noqa: PLC0415

    session: PromptSession[str] = PromptSession(output=create_output(stdout=sys.stderr))
    return session.prompt(prompt, default=text, in_thread=True)
