"""The conversations that the checkpointers are measured with: seeded, word-like, never the same text twice.

Words follow Zipf's law over a made-up vocabulary, so text packs about as well as English does; tool results
are pieces of the standard library's own source, as read_file would return them. Sizes repeat every hundred
turns, so that any hundred turns hold the same amount of new content and growth can be compared.
"""

from __future__ import annotations

import operator
import random
import re
import sysconfig
import time
import uuid
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

TOOL_RESULTS = (5_000, 6_500, 8_000, 10_000, 12_000, 14_000, 16_000, 20_000, 25_000, 50_000)
"""Characters of the tool result in every tenth light turn."""
AGENT_RESULTS = (400, 900, 1_500, 2_500, 4_000)
"""Characters of the tool result in each agent turn."""
_SYLLABLES = re.findall(r"\w+", "ka to ri men sol ver di an pra lo qui tes mo bur ce nal ith ou gra fe")


class Talk(TypedDict):
    """The state of a conversation; `left` counts the rounds that a loop has still to go."""

    messages: Annotated[list[AnyMessage], add_messages]
    rounds: Annotated[int, operator.add]
    left: int


@cache
def _vocabulary() -> tuple[list[str], list[float]]:
    rng = random.Random(7)  # noqa: S311
    words = ["".join(rng.choices(_SYLLABLES, k=rng.randint(1, 4))) for _ in range(6_000)]
    return words, list(accumulate(1 / (rank + 12) for rank in range(len(words))))


@cache
def _source() -> str:
    folder = Path(sysconfig.get_path("stdlib"))
    return "".join(path.read_text("utf-8", "replace") for path in sorted(folder.glob("[a-d]*.py")))


class Talker:
    """Writes the messages of one conversation; the same seed writes the same ones."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311
        self.content = 0
        """Bytes of text written so far: what a saver has to keep at the least, unpacked."""

    def id(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def text(self, length: int) -> str:
        """Word-like text of so many characters."""
        words, weights = _vocabulary()
        drawn = self.rng.choices(words, cum_weights=weights, k=length // 5 + 8)
        sentence = " ".join(word.title() if self.rng.random() < 0.1 else word for word in drawn)[:length]
        return self._counted(sentence)

    def source(self, length: int) -> str:
        """A piece of Python source of so many characters."""
        start = self.rng.randrange(len(_source()) - length)
        return self._counted(_source()[start : start + length])

    def _counted(self, text: str) -> str:
        self.content += len(text.encode())
        return text

    def human(self, length: int) -> HumanMessage:
        return HumanMessage(self.text(length), id=self.id())

    def answer(self, length: int, call: str | None = None) -> AIMessage:
        """What a model says, with the marks that a provider adds, and a tool call if an id is given."""
        call_args = {"path": self.text(24), "limit": self.rng.randint(10, 500)} if call else {}
        tokens = self.rng.randint(300, 9_000)
        return AIMessage(
            self.text(length),
            id=f"lc_run--{self.id()}",
            tool_calls=[{"name": "read_file", "args": call_args, "id": call}] if call else [],
            response_metadata={"finish_reason": "tool_calls" if call else "stop", "model_name": "scripted"},
            usage_metadata={"input_tokens": tokens, "output_tokens": 250, "total_tokens": tokens + 250},
        )

    def light(self, turn: int) -> tuple[list[AnyMessage], list[AnyMessage]]:
        """What the person says in a light turn, and what comes back: in one turn of ten a tool result too."""
        asked: list[AnyMessage] = [self.human(900 + turn * 37 % 250)]
        answered: list[AnyMessage] = [self.answer(900 + turn * 53 % 250)]
        if turn % 10 == 0:
            size = TOOL_RESULTS[turn // 10 % len(TOOL_RESULTS)]
            answered.insert(0, ToolMessage(self.source(size), tool_call_id=f"call_{self.id()}", id=self.id()))
        return asked, answered

    def agent(self, turn: int) -> list[AnyMessage]:
        """One tool round: the person, a call, its result, the answer."""
        call = f"call_{self.id()}"
        size = AGENT_RESULTS[turn % len(AGENT_RESULTS)]
        return [
            self.human(300 + turn * 37 % 400),
            self.answer(60 + turn * 53 % 120, call),
            ToolMessage(self.source(size), tool_call_id=call, id=self.id()),
            self.answer(500 + turn * 29 % 600),
        ]


def light_graph(answers: list[AnyMessage], saver: Any) -> Any:
    """A graph whose only node says what the list holds at that moment."""
    graph = StateGraph(Talk)

    def reply(_: Talk) -> dict[str, Any]:
        return {"messages": list(answers), "rounds": 1}

    graph.add_node("reply", reply)
    graph.add_edge(START, "reply")
    return graph.compile(checkpointer=saver)


def agent_graph(said: dict[str, AnyMessage], saver: Any) -> Any:
    """A model node and a tool node, which say the `call`, `result` and `answer` of that moment."""
    graph = StateGraph(Talk)

    def think(state: Talk) -> dict[str, Any]:
        is_back = isinstance(state["messages"][-1], ToolMessage)
        return {"messages": [said["answer" if is_back else "call"]], "rounds": 1}

    def tools(_: Talk) -> dict[str, Any]:
        return {"messages": [said["result"]]}

    def after(state: Talk) -> str:
        last = state["messages"][-1]
        return "tools" if isinstance(last, AIMessage) and last.tool_calls else "__end__"

    graph.add_node("think", think)
    graph.add_node("tools", tools)
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", after, ["tools", "__end__"])
    graph.add_edge("tools", "think")
    return graph.compile(checkpointer=saver)


def loop_graph(talker: Talker, marks: list[float], saver: Any) -> Any:
    """A node that marks the time and says one message of about 1 KB, again until `left` is used up."""
    graph = StateGraph(Talk)

    def step(state: Talk) -> dict[str, Any]:
        marks.append(time.perf_counter())
        return {"messages": [talker.answer(1_000)], "left": state["left"] - 1}

    graph.add_node("step", step)
    graph.add_edge(START, "step")
    graph.add_conditional_edges(
        "step", lambda state: "step" if state["left"] else "__end__", ["step", "__end__"]
    )
    return graph.compile(checkpointer=saver)


def messages(talker: Talker, count: int) -> Iterator[AnyMessage]:
    """So many messages of about 1 KB, the person and the model in turn."""
    for number in range(count):
        yield talker.answer(1_000) if number % 2 else talker.human(1_000)
