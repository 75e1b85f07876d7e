"""The only door to a model: act, fill, write, whatever the model and its server can do.

What an endpoint does not support (structured answers, forced calls) is found out by asking, and remembered.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from pydantic import BaseModel, ValidationError

from orchestrator.errors import ModelNonsense, ModelRejected
from orchestrator.llm import jsonmode, schemas
from orchestrator.llm.base import EXAMPLE, M, OnText, ToolSpec
from orchestrator.llm.caller import Caller, Listeners, LocalServer
from orchestrator.llm.endpoint import endpoint_of
from orchestrator.llm.faults import Failed, Patience, is_too_long
from orchestrator.llm.question import Question
from orchestrator.settings import ModelSettings

if TYPE_CHECKING:
    from orchestrator.llm.wire import Wire

Form = Literal["schema", "call", "plain"]
"""How a structured answer is asked for: constrained by a schema, as a forced call, or just in words."""

SMALL_ACTION_TOKENS = 800
"""Output tokens of one action of a small model: what is longer has nearly always begun to repeat itself."""
FILL_TOKENS = 700


async def open_model(
    settings: ModelSettings,
    *,
    listeners: Listeners | None = None,
    patience: Patience | None = None,
    wire: Wire | None = None,
) -> Chat:
    """A model that is ready to be asked; nothing is sent or started before the first question.

    Raises ModelRejected when a key is missing or the base URL is none.
    """
    local: LocalServer | None = None
    is_served = wire is not None and wire.served is not None
    if settings.provider == "embedded" and not is_served:
        from orchestrator.llm.embedded import EmbeddedServer  # noqa: PLC0415

        local = EmbeddedServer(settings)
    elif not is_served:
        endpoint_of(settings)
    return Chat(
        settings,
        Caller(settings, listeners or Listeners(), patience or Patience(), local=local, wire=wire),
    )


class Chat:
    """A ChatModel over one Caller."""

    def __init__(self, settings: ModelSettings, caller: Caller) -> None:
        self.settings = settings
        self._caller = caller
        self._form: dict[str, Form] = {}
        """By purpose, what the endpoint was found to support."""

    @property
    def is_resting(self) -> bool:
        """Whether the circuit breaker holds calls off now."""
        return self._caller.is_resting

    @property
    def _is_json(self) -> bool:
        return self.settings.tool_calls == "json"

    async def aclose(self) -> None:
        """Close the connections that are kept for further calls."""
        await self._caller.close()

    async def act(
        self,
        messages: Sequence[AnyMessage],
        tools: Sequence[ToolSpec],
        *,
        temperature: float | None = None,
        without: Collection[str] = (),
    ) -> AIMessage:
        """Pick the next action; in json mode exactly one call, or text after a repair that failed."""
        warmth = self.settings.temperature if temperature is None else temperature
        if self._is_json and tools:
            return await self._act_in_json(messages, tools, warmth, without)
        options = (
            {"tools": [schemas.function(tool) for tool in tools], "tool_choice": "auto"} if tools else {}
        )
        question = Question(list(messages), self.settings.max_output_tokens, warmth, options)
        try:
            answer = await self._caller.ask(question)
        except ModelRejected as error:
            raise _with_hint(error) from error
        if answer.tool_calls or answer.invalid_tool_calls:
            return answer
        calls = jsonmode.calls_in_text(str(answer.text), {tool.name for tool in tools})
        return answer.model_copy(update={"content": "", "tool_calls": calls}) if calls else answer

    async def _act_in_json(
        self,
        messages: Sequence[AnyMessage],
        tools: Sequence[ToolSpec],
        temperature: float,
        without: Collection[str],
    ) -> AIMessage:
        thinks = self.settings.size == "small"
        rendered = jsonmode.render(messages, tools, thinks=thinks)
        fixed = 1 + sum(bool(message.additional_kwargs.get(EXAMPLE)) for message in messages)
        allowed = [tool for tool in tools if tool.name not in without] or tools
        wanted = _json_schema("action", schemas.actions(allowed, [jsonmode.THOUGHT] if thinks else []))
        limit = self.settings.max_output_tokens
        limit = min(limit, SMALL_ACTION_TOKENS) if thinks else limit
        for attempt in (1, 2):
            question = Question(rendered, limit, temperature, fixed=fixed)
            answer = await self._ask_in_form("act", question, {"schema": {"response_format": wanted}})
            text, finish = str(answer.text), answer.response_metadata.get("finish_reason")
            action = jsonmode.read_action(text, is_truncated=finish == "length")
            if action.tool_calls or finish == "length" or attempt == 2:
                break
            wrong = [str(call["error"]) for call in action.invalid_tool_calls]
            repair = " ".join([jsonmode.REPAIR.format(name=tools[0].name), *wrong])
            rendered = jsonmode.render([*rendered, AIMessage(text), HumanMessage(repair)])
        update = {"usage_metadata": answer.usage_metadata, "response_metadata": answer.response_metadata}
        return action.model_copy(update=update)

    async def fill(self, messages: Sequence[AnyMessage], schema: type[M]) -> M:
        """Answer with a value of a schema; one repair attempt, then ModelNonsense."""
        conversation = jsonmode.render(messages) if self._is_json else list(messages)
        answer = await self._ask_to_fill(conversation, schema)
        value, problem = _value_of(answer, schema)
        if value is not None:
            return value
        said = _written(answer)
        repair = f"That cannot be used: {problem}. Answer again, with one JSON object only."
        conversation = [*conversation, AIMessage(said), HumanMessage(repair)]
        value, problem = _value_of(await self._ask_to_fill(conversation, schema), schema)
        if value is not None:
            return value
        raise ModelNonsense(
            f"{self.settings.model or 'the model'} gave no usable {schema.__name__}, "
            f"even after it was told what was wrong: {problem}"
        )

    async def _ask_to_fill(self, messages: list[AnyMessage], schema: type[BaseModel]) -> AIMessage:
        forms: dict[Form, dict[str, Any]] = {}
        if self._is_json:
            forms["schema"] = {"response_format": _json_schema(schema.__name__, schemas.grammar(schema))}
        else:
            whole = schemas.strict(schema)
            forms["schema"] = {
                "response_format": _json_schema(schema.__name__, whole, strict=schemas.is_strict(whole))
            }
            function = {"name": schema.__name__, "parameters": whole}
            forms["call"] = {
                "options": {
                    "tools": [{"type": "function", "function": function}],
                    "tool_choice": {"type": "function", "function": {"name": schema.__name__}},
                }
            }
        limit = min(FILL_TOKENS, self.settings.max_output_tokens)
        question = Question(messages, limit, self.settings.temperature)
        shape = json.dumps(schemas.grammar(schema))
        words = f"Answer with one JSON object of this schema, and nothing else:\n{shape}"
        return await self._ask_in_form("fill", question, forms, words)

    async def _ask_in_form(
        self, purpose: str, question: Question, forms: dict[Form, dict[str, Any]], words: str = ""
    ) -> AIMessage:
        """Ask in the best form that the endpoint takes; a refusal leads to the next one."""
        order: list[Form] = [*forms, "plain"]
        for form in order[order.index(self._form.get(purpose, order[0])) :]:
            if form == "plain":
                told = [*question.messages, HumanMessage(words)] if words else question.messages
                asked = Question(jsonmode.merged(told), question.max_tokens, question.temperature)
            else:
                asked = replace(question, **forms[form])
            try:
                answer = await self._caller.ask(asked)
            except ModelRejected as error:
                if form == "plain" or not _is_about_form(error):
                    raise
                continue
            self._form[purpose] = form
            return answer
        raise ModelRejected("the endpoint takes no form of structured answer")

    async def write(
        self,
        messages: Sequence[AnyMessage],
        *,
        on_text: OnText | None = None,
        temperature: float | None = None,
        most: int | None = None,
    ) -> str:
        """Answer in prose, streamed to `on_text`; text that was shown is not shown again after a retry."""
        conversation = jsonmode.render(messages) if self._is_json else list(messages)
        warmth = self.settings.temperature if temperature is None else temperature
        limit = self.settings.max_output_tokens
        question = Question(conversation, min(limit, most or limit), warmth)
        return str((await self._caller.ask(question, on_text)).text)


def _json_schema(name: str, schema: schemas.Schema, *, strict: bool = True) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": strict}}


def _written(answer: AIMessage) -> str:
    """What the model wrote, also when it came as a call."""
    for call in answer.tool_calls:
        return json.dumps(call["args"], ensure_ascii=False)
    for wrong in answer.invalid_tool_calls:
        return wrong["args"] or "{}"
    return str(answer.text)


def _value_of(answer: AIMessage, schema: type[M]) -> tuple[M | None, str]:
    """The value, or what is wrong with the answer."""
    found = answer.tool_calls[0]["args"] if answer.tool_calls else jsonmode.find_object(_written(answer))
    if found is None:
        is_cut = answer.response_metadata.get("finish_reason") == "length"
        return None, "it was cut off, write less" if is_cut else "it holds no JSON object"
    try:
        return schema.model_validate(found), ""
    except ValidationError as error:
        wrong = [
            f"{'.'.join(str(part) for part in item['loc']) or 'object'}: {item['msg']}"
            for item in error.errors(include_url=False)[:5]
        ]
        return None, "; ".join(wrong)


def _is_about_form(error: ModelRejected) -> bool:
    """Whether a refusal may be due to the form of the answer that was asked for."""
    cause = error.__cause__
    if not isinstance(cause, Failed) or cause.fault.status not in {400, 422, 501}:
        return False
    return not is_too_long(cause.fault.body.lower())


def _with_hint(error: ModelRejected) -> ModelRejected:
    said = str(error).lower()
    if "tool" in said and "support" in said:
        return ModelRejected(f"{error}; set `tool_calls: json` for this model")
    return error
