"""What small messages have in common, for their compression.

Part of the file format: the bytes below never change, a better dictionary gets a new kind of row.
"""

from __future__ import annotations

_WORDS = """
the of and to in a is that it for on with as are this be was by from or at an not have has you your can we
will which but all if when there their what were been one more about into other some would so could them
than then only also its out up our they he she his her do does did how who these those such no any each
because before after where while should must may might need needs want make made use used using first
second third last next new old same different between through during without within again still already
please thank you very well here is what I found: Let me look at the. I will now check whether the
I have updated the file. The tests pass. The command failed with exit code 1. No such file or directory
The following changes were made: 1. 2. 3. - **Note**: For example, However, Therefore, In summary,
```python\nimport os\nimport sys\nimport json\nfrom pathlib import Path\n\n\ndef main() -> None:\n    """
_CODE = """
    return self.value
    if not name:
        raise ValueError("")
    for item in items:
        print(item)
class Error(Exception):
    def __init__(self, name: str) -> None:
        self.name = name
    with open(path) as file:
try:
except OSError as error:
assert result == expected
```
```bash
git status
cd /home/user && ls -la | grep
function const let var => { return true; } null undefined false https://www.example.com/ http://localhost:8000/
{"name": "", "type": "function", "description": "", "parameters": {"type": "object", "properties": {"path":
"""


def _field(name: str, value: bytes) -> bytes:
    return bytes((0xA0 | len(name),)) + name.encode() + value


def _text(value: str) -> bytes:
    return bytes((0xA0 | len(value),)) + value.encode() if len(value) < 32 else _long(value)


def _long(value: str) -> bytes:
    return b"\xd9" + bytes((len(value),)) + value.encode()


_UUID = _long("01234567-89ab-4cde-8f01-23456789abcd")
_EMPTY, _NONE, _NO_ITEMS = b"\x80", b"\xc0", b"\x90"
_METHOD = _text("model_validate_json")
_OPENING = b"\0\xc8\x04\xba\x05\x94"


def _message(module: str, name: str, body: bytes, fields: int) -> bytes:
    head = _OPENING + _long(f"langchain_core.messages.{module}") + _text(name) + bytes((0x80 | fields,))
    return head + _field("content", b"\xda\x04\0") + body + _METHOD


_USAGE = b"".join(
    _field(name, b"\xcd\x01\0")
    for name in ("input_tokens", "output_tokens", "total_tokens", "cache_read", "reasoning")
)
_PLAIN = (
    _field("additional_kwargs", _EMPTY)
    + _field("response_metadata", _EMPTY)
    + _field("type", _text("human"))
    + _field("name", _NONE)
    + _field("id", _UUID)
)
_AI = (
    _field("additional_kwargs", _EMPTY)
    + _field("response_metadata", b"\x83")
    + _field("model_name", _text("gpt-"))
    + _field("finish_reason", _text("tool_calls"))
    + _field("model_provider", _text("openai"))
    + _USAGE
    + _field("additional_kwargs", _EMPTY)
    + _field("response_metadata", _EMPTY)
    + _field("type", _text("ai"))
    + _field("name", _NONE)
    + _field("id", _UUID)
    + _field("tool_calls", b"\x91\x84")
    + _field("name", b"\xa9")
    + _field("args", b"\x81")
    + _field("path", b"\xa9")
    + _field("id", _text("call_"))
    + _field("type", _text("tool_call"))
    + _field("tool_calls", _NO_ITEMS)
    + _field("invalid_tool_calls", _NO_ITEMS)
    + _field("usage_metadata", _NONE)
)
_TOOL = (
    _field("additional_kwargs", _EMPTY)
    + _field("response_metadata", _EMPTY)
    + _field("type", _text("tool"))
    + _field("name", b"\xa9")
    + _field("id", _UUID)
    + _field("tool_call_id", _text("call_"))
    + _field("artifact", _NONE)
    + _field("status", _text("success"))
)
DICTIONARY = (
    (_CODE + _WORDS).encode()
    + _message("tool", "ToolMessage", _TOOL, 9)
    + _message("ai", "AIMessage", _AI, 9)
    + _message("human", "HumanMessage", _PLAIN, 6)
)
"""The end counts most: matches near it are the cheapest."""
HEADS = (
    b"\x95\xa7msgpack\xc4\xa7source\xa6update\xa4fork\xa7run_id\xd9$\xa6parents\x80\xa7user_id\xa8thread_id"
    b"\xa4lc_agent_name\xaebranch:to:tools\xaebranch:to:agent\xa7answer\xa7request\xa7results\xa4plan\xa5route"
    b"\xad__interrupt__\xb0__pregel_tasks\xa8messages\xd9\x31" + b"0" * 31 + b"1.0.12345678901234"
    b"\xa1v\x04\xa2ts\xd9 2026-01-01T00:00:00.000000+00:00\xa2id\xd9$1f0e1234-5678-6abc-8001-"
    b"\xb0channel_versions\x83\xa9__start__\xd9\x31" + b"0" * 31 + b"2.0.\xa8messages\xadversions_seen\x82"
    b"\xa9__input__\x80\xa9__start__\x81\xa9__start__\xd9\x31" + b"0" * 31 + b"1.0."
    b"\xb0updated_channels\x91\xa8messages\x83\xa6source\xa4loop\xa6source\xa5input\xa4step\x01\xa7parents\x80"
)
"""For checkpoints without a checkpoint before them, and for pending writes of format 1."""


def _write(path: bytes, *channels: bytes) -> bytes:
    items = b"".join(
        b"\x93" + bytes((at, 0xA0 | len(name))) + name + b"\xc4\x01\x01"
        for at, name in enumerate(channels, 1)
    )
    written = b"~__pregel_pull, " + path
    return (
        b"\x94\xc0"
        + bytes((0xA0 | len(written),))
        + written
        + b"\xc2\x93\x93\0\xa8messages\x92\0\x91\xcd\x01"
        + items
    )


WRITES = (
    b"~__pregel_push, \0\xad__no_writes__\xab__interrupt__\xac__scheduled__\xaa__return__"
    + b"\xa9__error__\xaa__resume__"
    + b"".join(
        bytes((0xA0 | len(name),)) + name for name in (b"route", b"plan", b"answer", b"results", b"rounds")
    )
    + b"".join(
        _write(name, b"branch:to:" + target)
        for name, target in (
            (b"planner", b"think"),
            (b"router", b"planner"),
            (b"think", b"guardian"),
            (b"agent", b"tools"),
            (b"model", b"tools"),
            (b"tools", b"model"),
            (b"tools", b"agent"),
            (b"__start__", b"agent"),
        )
    )
)
"""For pending writes: a task's place in the graph and its channels."""
