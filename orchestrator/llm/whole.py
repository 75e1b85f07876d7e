"""A whole answer from the chunks of a stream.

LangChain closes half-written JSON of a call and passes it on as if the model had meant it; here an
argument text either is JSON or the call is invalid.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, InvalidToolCall, ToolCall
from langchain_core.messages.ai import add_ai_message_chunks

from orchestrator.llm.faults import NoAnswer
from orchestrator.llm.jsonmode import new_call_id


def finish_of(chunks: Sequence[AIMessageChunk]) -> str:
    """Why the model stopped; empty when the stream did not say."""
    reasons = [chunk.response_metadata.get("finish_reason") for chunk in chunks]
    return next((reason for reason in reversed(reasons) if reason), "")


def whole(chunks: Sequence[AIMessageChunk], host: str) -> AIMessage:
    """Put an answer together; raises NoAnswer when there is none or it was broken off."""
    finish = finish_of(chunks)
    # A server may send running totals; the last one counts.
    usage = next((chunk.usage_metadata for chunk in reversed(chunks) if chunk.usage_metadata), None)
    if not chunks or not (finish or usage):
        raise NoAnswer("broke the stream off before the answer was whole")
    text = paired("".join(str(chunk.text) for chunk in chunks))
    merged = add_ai_message_chunks(chunks[0], *chunks[1:]) if len(chunks) > 1 else chunks[0]
    calls, invalid = _calls(merged.tool_call_chunks, is_truncated=finish == "length")
    if not (text.strip() or calls or invalid):
        why = (
            "used up its output tokens before it wrote anything" if finish == "length" else "answered nothing"
        )
        raise NoAnswer(f"{why}; finish reason {finish or 'unknown'}")
    cached = [chunk.response_metadata["cached"] for chunk in chunks if "cached" in chunk.response_metadata]
    return AIMessage(
        text,
        tool_calls=calls,
        invalid_tool_calls=invalid,
        usage_metadata=usage,
        response_metadata={
            "finish_reason": finish,
            "host": host,
            **({"cached": cached[-1]} if cached else {}),
        },
    )


def paired(text: str) -> str:
    """A text whose halves of characters, which may come in two pieces, are whole; U+FFFD for one alone."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _calls(pieces: Sequence[Any], *, is_truncated: bool) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    """Calls with unique ids; a text that is no JSON object makes an invalid call that says so."""
    calls: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    ids: set[str] = set()
    for piece in pieces:
        name, text = piece.get("name") or "", paired(piece.get("args") or "")
        call_id = piece.get("id")
        if not call_id or call_id in ids:
            call_id = new_call_id()
        ids.add(call_id)
        try:
            arguments = json.loads(text or "{}", strict=False)
            problem = "" if isinstance(arguments, dict) else "the arguments are no JSON object"
        except (ValueError, RecursionError) as error:
            cut = (
                "cut off at the output limit; write less at a time"
                if is_truncated
                else f"no valid JSON: {error}"
            )
            arguments, problem = None, f"the arguments are {cut}"
        if problem or not name:
            wrong = problem or "the call names no tool"
            invalid.append(
                InvalidToolCall(
                    name=name or None, args=text, id=call_id, error=wrong, type="invalid_tool_call"
                )
            )
        else:
            calls.append(ToolCall(name=name, args=arguments, id=call_id, type="tool_call"))
    return calls, invalid
