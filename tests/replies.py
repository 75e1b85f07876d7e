"""What a scripted model may be told to reply, and what it was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Say:
    """Prose, also where an action or a schema was asked for."""

    text: str
    finish: str = "stop"


class Call:
    """One tool call: `Call("read_file", path="a.txt")`; `raw` replaces the JSON of the arguments."""

    def __init__(self, tool: str, /, *, raw: str | None = None, **arguments: Any) -> None:
        self.tool, self.arguments, self.raw = tool, arguments, raw


@dataclass(frozen=True)
class Calls:
    """Several calls in one message; in json mode they come one at a time, in answers that follow."""

    calls: Sequence[Call]
    text: str = ""


@dataclass(frozen=True)
class Fill:
    """The values of a structured answer."""

    values: Mapping[str, Any]


@dataclass(frozen=True)
class Status:
    """An HTTP error."""

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    """Text, or a value that is sent as JSON; without one, an error object as OpenAI sends it."""


@dataclass(frozen=True)
class Cut:
    """A reply that ends early: after so many characters of text or of JSON the connection is dropped."""

    after: int
    reply: Reply = Say("a text that never ends")
    is_clean: bool = False
    """End the body properly, only without saying why the model stopped."""


@dataclass(frozen=True)
class Stall:
    """Silence for some seconds, after `after` characters of the reply."""

    seconds: float
    reply: Reply = Say("late")
    after: int = 0


@dataclass(frozen=True)
class Garbage:
    """A body that is no completion at all, with status 200."""

    body: str
    content_type: str = "text/html"


@dataclass(frozen=True)
class EmptyChoices:
    """A completion without a choice."""


@dataclass(frozen=True)
class HalfJson:
    """A text that looks like JSON and stops in the middle."""

    text: str
    finish: str = "stop"


Reply = Say | Call | Calls | Fill | Status | Cut | Stall | Garbage | EmptyChoices | HalfJson


class Request(dict[str, Any]):
    """The JSON of a request, with what a script asks of it."""

    headers: Mapping[str, str]
    at: float

    @property
    def texts(self) -> list[str]:
        """The text of each message."""
        return [message.get("content") or "" for message in self.get("messages", [])]

    @property
    def system(self) -> str:
        """The first message's text, which holds the node's prompt."""
        return self.texts[0] if self.texts else ""

    @property
    def last(self) -> str:
        """The last message's text."""
        return self.texts[-1] if self.texts else ""

    @property
    def wants(self) -> str:
        """`action`, `text`, or the name of the schema to fill, such as `Route`."""
        if form := self.get("response_format"):
            return str(form.get("json_schema", {}).get("name", "json"))
        if isinstance(choice := self.get("tool_choice"), dict):
            return str(choice["function"]["name"])
        return "action" if self.get("tools") else "text"

    @property
    def tools(self) -> list[str]:
        """Names of the tools that the model may call, in either mode."""
        if self.get("tools"):
            return [tool["function"]["name"] for tool in self["tools"]]
        branches = self.get("response_format", {}).get("json_schema", {}).get("schema", {}).get("anyOf", [])
        return [
            branch["properties"]["tool"]["const"] for branch in branches if "tool" in branch["properties"]
        ]
