"""Time and tokens of a task: ours against LangChain's `create_agent` with the middleware that matches.

Both get the same system prompt, tools and scripted model, and do the same task in turn: read files one after
the other, then several at once, then answer. Theirs has limits of model and tool calls, retries of both,
context editing, approval for tools that write, and a SQLite checkpointer. One counter counts the tokens
of all that is sent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from scripted import Call, Calls, Reply, Request, Say, ScriptedModel
from step_overhead import FILES, Loop, fill_folder, ours, plain_tools

STEPS = 12
READS = ["read_file", "list_files", "search_files", "search_docs", "fetch_url", "web_search"]


def script(request: Request) -> Reply:
    """Reads one by one, then four at once, then the answer; what comes next follows from what was said."""
    said = sum(message["role"] == "assistant" for message in request["messages"])
    if said < STEPS:
        return _read(said)
    return Calls([_read(STEPS + number) for number in range(4)]) if said == STEPS else Say("All is read.")


def _read(number: int) -> Call:
    return Call("read_file", path=f"part{number % FILES}.txt", offset=1 + number // FILES, limit=20)


async def theirs(root: Path, model: ScriptedModel) -> None:
    """One run of LangChain's agent."""
    from langchain.agents import create_agent  # noqa: PLC0415
    from langchain.agents.middleware import (  # noqa: PLC0415
        ContextEditingMiddleware,
        HumanInTheLoopMiddleware,
        ModelCallLimitMiddleware,
        ModelRetryMiddleware,
        ToolCallLimitMiddleware,
        ToolRetryMiddleware,
    )
    from langchain_openai import ChatOpenAI  # noqa: PLC0415
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver  # noqa: PLC0415
    from pydantic import SecretStr  # noqa: PLC0415

    from orchestrator.nodes.prompts import system_prompt  # noqa: PLC0415
    from orchestrator.workspace.loading import load  # noqa: PLC0415

    prompt = system_prompt(load(root).agents["coder"], model.settings()).text
    tools = plain_tools(root)
    chat = ChatOpenAI(
        model="scripted", base_url=model.base_url, api_key=SecretStr("none"), streaming=True, max_retries=0
    )
    asked: Any = {tool.name: True for tool in tools if tool.name not in READS}
    middleware: list[Any] = [
        ModelCallLimitMiddleware(thread_limit=1000, run_limit=100),
        ToolCallLimitMiddleware(thread_limit=1000, run_limit=100),
        ModelRetryMiddleware(),
        ToolRetryMiddleware(),
        ContextEditingMiddleware(),
        HumanInTheLoopMiddleware(asked),
    ]
    start: Any = {"messages": [("user", "read all the parts")]}
    async with AsyncSqliteSaver.from_conn_string(str(root / "theirs.db")) as saver:
        agent = create_agent(chat, tools, system_prompt=prompt, middleware=middleware, checkpointer=saver)
        await agent.ainvoke(
            start,
            {"configurable": {"thread_id": "1"}, "recursion_limit": 10_000},
            durability="sync",
        )


@dataclass(frozen=True)
class Taken:
    """What one task took."""

    seconds: float
    cpu: float
    """Seconds of this process, the scripted model's threads included, which do the same for both."""
    tokens: int
    requests: int


def measured(loop: Loop) -> Taken:
    """Do the task once, in a folder of its own."""
    from orchestrator.llm.tokens import tokens  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="orc-bench-") as folder, ScriptedModel(script) as model:
        root = Path(folder).resolve()
        fill_folder(root)
        began, cpu = time.perf_counter(), time.process_time()
        asyncio.run(loop(root, model))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        sent = sum(
            tokens(json.dumps([request["messages"], request.get("tools")])) for request in model.requests
        )
        return Taken(seconds, cpu, sent, len(model.requests))


def main() -> None:
    """Measure in turn and print the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="tasks of each")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="orc-bench-home-") as home:
        for name in ("CONFIG", "DATA", "CACHE"):
            os.environ[f"ORC_{name}_DIR"] = str(Path(home) / name.lower())
        os.environ["OPENAI_API_KEY"] = "none"
        for loop in (ours, theirs):
            measured(loop)  # imports and caches
        pairs = [(measured(ours), measured(theirs)) for _ in range(rounds)]
    for name, unit in (("seconds", "s"), ("cpu", "s CPU"), ("tokens", "tokens"), ("requests", "requests")):
        mine, other = (statistics.median(getattr(pair[side], name) for pair in pairs) for side in (0, 1))
        sys.stdout.write(f"ours {mine:.4g} {unit}, theirs {other:.4g}, ratio {mine / other:.2f}\n")
    names = ("langchain", "langchain-core", "langgraph", "langgraph-checkpoint-sqlite")
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    sys.stdout.write(
        f"conditions: medians of {rounds} tasks each, in turn; Python {platform.python_version()}, "
        f"{os.cpu_count()} CPUs, load per CPU {load:.2f}; {', '.join(f'{n} {version(n)}' for n in names)}\n"
    )


if __name__ == "__main__":
    main()
