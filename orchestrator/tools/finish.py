"""The call that ends a step: its argument is the answer."""

from __future__ import annotations

from pydantic import Field

from orchestrator.effects import Effects, Trust
from orchestrator.errors import ToolError
from orchestrator.tools.base import Arguments, Tool, ToolContext


class FinishArguments(Arguments):
    """Arguments of finish."""

    answer: str = Field(description="the answer for the user, complete, with the facts asked for")


async def finish(arguments: FinishArguments, _context: ToolContext) -> str:
    """Return the answer; an empty one is refused."""
    if not arguments.answer.strip():
        raise ToolError("the answer is empty; say what was done or found")
    return arguments.answer


FINISH = Tool(
    name="finish",
    description="End the task and give the answer to the user. The answer must hold the facts asked for.",
    arguments=FinishArguments,
    run=finish,
    effects=Effects(
        reads=False,
        writes=False,
        executes=False,
        network=False,
        reversible=True,
        repeatable=True,
        output=Trust.WORKSPACE,
    ),
    tokens=30_000,
)
