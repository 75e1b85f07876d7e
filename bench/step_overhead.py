"""Our own time per step against a plain LangGraph loop with the same tools and the same scripted model.

A step is one call of read_file: the model is asked, the tool runs, the checkpoint is written. The scripted
model answers at once over loopback, and notes when each request arrives; a step is the time from one request
to the next, so what happens before the first and after the last one is not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from scripted import Call, Fill, Reply, Request, Say, ScriptedModel

FILES = 5
LINES = 40
QUIET_LOAD = 0.5
"""Load per CPU above which figures are marked as measured on a busy machine."""


class Reader:
    """Asks for one file after the other, then says that it is done."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.asked: list[float] = []

    def __call__(self, request: Request) -> Reply:
        """The next reply; requests that are no step of the loop are not counted."""
        if request.wants in {"RouteChoice", "Draft"}:
            return Fill({"agent": "coder", "why": "scripted"})
        self.asked.append(request.at)
        number = len(self.asked) - 1
        if number >= self.steps:
            return Say("All files are read.")
        # Another part of a file each time: the same call again would be held back.
        return Call("read_file", path=f"part{number % FILES}.txt", offset=1 + number // FILES, limit=20)

    def step_seconds(self) -> list[float]:
        """The time of each step."""
        return [later - earlier for earlier, later in pairwise(self.asked)]


def fill_folder(root: Path) -> None:
    """The files that are read."""
    for number in range(FILES):
        text = "".join(f"line {line} of part {number}\n" for line in range(LINES))
        (root / f"part{number}.txt").write_text(text, encoding="utf-8")


async def ours(root: Path, model: ScriptedModel) -> None:
    """One run through the product: session, guardian, journal, checkpoints."""
    from orchestrator.session import Options, Session  # noqa: PLC0415

    os.environ["OPENAI_BASE_URL"] = model.base_url
    await Session(root, Options(approves=True, model="scripted")).run("@coder read all the parts")


async def plain(root: Path, model: ScriptedModel) -> None:
    """One run of what one would write by hand: a model node, a tool node, a saver."""
    from langchain_openai import ChatOpenAI  # noqa: PLC0415
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver  # noqa: PLC0415
    from langgraph.graph import START, MessagesState, StateGraph  # noqa: PLC0415
    from langgraph.prebuilt import ToolNode, tools_condition  # noqa: PLC0415
    from pydantic import SecretStr  # noqa: PLC0415

    tools = plain_tools(root)
    chat = ChatOpenAI(model="scripted", base_url=model.base_url, api_key=SecretStr("none")).bind_tools(tools)

    async def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await chat.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    start: Any = {"messages": [("system", "You are careful."), ("user", "read all the parts")]}
    async with AsyncSqliteSaver.from_conn_string(str(root / "plain.db")) as saver:
        await graph.compile(checkpointer=saver).ainvoke(
            start,
            {"configurable": {"thread_id": "1"}, "recursion_limit": 10_000},
        )


def plain_tools(root: Path) -> list[Any]:
    """The tools that a large model is shown of the coder's, as LangChain tools."""
    from langchain_core.tools import StructuredTool  # noqa: PLC0415

    from orchestrator.nodes.prompts import FOR_SMALL  # noqa: PLC0415
    from orchestrator.sandbox.detect import detect  # noqa: PLC0415
    from orchestrator.settings import ToolSettings  # noqa: PLC0415
    from orchestrator.tools.base import Tool, ToolContext, call, parse  # noqa: PLC0415
    from orchestrator.tools.registry import TOOLS  # noqa: PLC0415
    from orchestrator.workspace.loading import load  # noqa: PLC0415

    context = ToolContext(root=root, sandbox=detect(), settings=ToolSettings())

    def made(tool: Tool) -> StructuredTool:
        async def run(**arguments: Any) -> str:
            return await call(tool, parse(tool, arguments), context)

        return StructuredTool(
            name=tool.name, description=tool.description, args_schema=tool.arguments, coroutine=run
        )

    names = [name for name in load(root).agents["coder"].tools if name not in {"finish", *FOR_SMALL}]
    return [made(TOOLS[name]) for name in names]


Loop = Callable[[Path, ScriptedModel], Coroutine[Any, Any, None]]


def measured(loop: Loop, steps: int) -> tuple[float, dict[str, float]]:
    """Median seconds per step of one run, and what its journal says of them; raises RuntimeError."""
    reader = Reader(steps)
    with tempfile.TemporaryDirectory(prefix="orc-bench-") as folder, ScriptedModel(reader) as model:
        root = Path(folder).resolve()
        fill_folder(root)
        asyncio.run(loop(root, model))
        taken = reader.step_seconds()
        if len(taken) != steps:
            raise RuntimeError(f"the loop made {len(taken)} steps instead of {steps}")
        return statistics.median(taken), parts(root)


def parts(root: Path) -> dict[str, float]:
    """Median seconds of model calls and of tool calls, from the journal; empty for the plain loop."""
    path = root / ".orc" / "state.db"
    if not path.is_file():
        return {}
    from orchestrator.events import read_events  # noqa: PLC0415

    connection = sqlite3.connect(path)
    try:
        (run,) = connection.execute("select id from runs").fetchone()
        seconds = defaultdict(list)
        for event in read_events(connection, run):
            took = event.seconds if event.seconds is not None else event.fields.get("seconds")
            if event.kind in {"model_call", "tool_result"} and took is not None:
                seconds[event.kind].append(float(took))
    finally:
        connection.close()
    return {kind: statistics.median(values) for kind, values in seconds.items()}


def conditions(rounds: int, steps: int) -> str:
    """Versions and machine, without which the figures mean little."""
    names = ("langgraph", "langgraph-checkpoint-sqlite", "langchain-openai", "openai")
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    busy = " (BUSY: repeat on an idle machine)" if load > QUIET_LOAD else ""
    return "\n".join([
        f"conditions: {rounds} rounds of {steps} steps, interleaved; Python {platform.python_version()}, "
        f"{os.cpu_count()} CPUs, load per CPU {load:.2f}{busy}",
        "versions: " + ", ".join(f"{name} {version(name)}" for name in names),
        "plain: model node, ToolNode, AsyncSqliteSaver, their defaults (no streaming, durability async); "
        "ours: streaming, guardian, journal, durability sync",
    ])


def report(our: Iterable[float], other: Iterable[float], shares: dict[str, float]) -> str:
    """Both figures, their ratio, and where our time goes."""
    mine, theirs = statistics.median(our) * 1000, statistics.median(other) * 1000
    model, tool = (shares.get(kind, 0.0) * 1000 for kind in ("model_call", "tool_result"))
    return "\n".join([
        f"ours   {mine:7.1f} ms per step",
        f"plain  {theirs:7.1f} ms per step",
        f"ratio  {mine / theirs:7.2f}",
        f"ours is model call {model:.1f} ms, tool {tool:.1f} ms, "
        f"graph with checkpoints, guardian and journal {mine - model - tool:.1f} ms",
    ])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each loop (at least 5 for a figure)")
    parser.add_argument("--steps", type=int, default=20, help="calls of read_file in a run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="orc-bench-home-") as home:
        for name in ("CONFIG", "DATA", "CACHE"):
            os.environ[f"ORC_{name}_DIR"] = str(Path(home) / name.lower())
        os.environ["OPENAI_API_KEY"] = "none"
        measured(ours, 2)  # imports and caches
        measured(plain, 2)
        our, other, shares = [], [], []
        for _ in range(arguments.rounds):
            seconds, share = measured(ours, arguments.steps)
            our.append(seconds)
            shares.append(share)
            other.append(measured(plain, arguments.steps)[0])
    medians = {kind: statistics.median(share[kind] for share in shares) for kind in shares[0]}
    sys.stdout.write(f"{report(our, other, medians)}\n{conditions(arguments.rounds, arguments.steps)}\n")


if __name__ == "__main__":
    main()
