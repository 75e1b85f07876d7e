"""JSON Schemas as models need them: small, without references, in the order in which fields were declared.

Pydantic writes schemas for people and tools; a grammar converter and a provider's strict mode each
take only a part of that language, and a model pays for every word of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from orchestrator.llm.base import ToolSpec

Schema = dict[str, Any]

GRAMMAR_KEYS = {
    "type",
    "properties",
    "required",
    "items",
    "anyOf",
    "enum",
    "const",
    "additionalProperties",
} | {"minLength"}
"""What every grammar converter knows. Some unroll upper bounds of numbers and lengths into long rules
or refuse them, and the values are checked afterwards anyway."""

STRICT_KEYS = GRAMMAR_KEYS | {"description", "pattern", "minimum", "maximum", "minItems", "maxItems"}
"""What strict structured output of the OpenAI API accepts."""


TOOL_KEYS = STRICT_KEYS | {"default", "format", "minLength", "maxLength", "uniqueItems"}
"""What servers put before a model of a tool."""
IMPLIED = [("additionalProperties", False), ("minimum", 0), ("minimum", 1)]


@lru_cache(maxsize=256)
def function(tool: ToolSpec) -> Schema:
    """A tool in the form that OpenAI's `tools` takes; it goes with every request, so no word is wasted.

    That nothing else is taken, that what may be left out may be null, and that a count is no less than 0 or 1
    goes without saying.
    """
    parameters = _plain(_reduce(_without_null(_schema_of(tool.arguments)), TOOL_KEYS))
    parameters.pop("description", None)
    parameters.setdefault("properties", {})
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


def grammar(model: type[BaseModel]) -> Schema:
    """A model's schema for constrained decoding; fields with a default may be left out."""
    return _reduce(_without_null(_schema_of(model)), GRAMMAR_KEYS)


def strict(model: type[BaseModel]) -> Schema:
    """A model's schema for strict structured output: every field is required, none may be added."""
    return _all_required(_reduce(_schema_of(model), STRICT_KEYS))


def is_strict(schema: Schema) -> bool:
    """Whether a schema has only objects with named fields, which strict mode demands."""
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return False
    parts = [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]
    if isinstance(schema.get("items"), dict):
        parts.append(schema["items"])
    return all(is_strict(part) for part in parts)


def actions(tools: Sequence[ToolSpec], before: Sequence[str] = ()) -> Schema:
    """The schema of one flat action object: texts named in `before`, `tool`, the arguments as declared."""
    return {"anyOf": [_action(tool, before) for tool in tools]}


def _action(tool: ToolSpec, before: Sequence[str]) -> Schema:
    arguments = grammar(tool.arguments)
    texts = {name: {"type": "string"} for name in before}
    return {
        "type": "object",
        "properties": {**texts, "tool": {"const": tool.name}, **arguments.get("properties", {})},
        "required": [*before, "tool", *arguments.get("required", [])],
        "additionalProperties": False,
    }


@lru_cache(maxsize=256)
def _schema_of(model: type[BaseModel]) -> Schema:
    """The whole schema, which takes a millisecond to make; it is read only."""
    schema = model.model_json_schema()
    inlined = _inline(schema, schema.get("$defs", {}), ())
    return inlined if isinstance(inlined, dict) else {}


def _inline(node: Any, definitions: Schema, above: tuple[str, ...]) -> Any:
    """Replace each reference by what it means; a type inside itself becomes a free value."""
    if isinstance(node, list):
        return [_inline(item, definitions, above) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        if name in above:
            return {}
        beside = {key: value for key, value in node.items() if key != "$ref"}
        meant = _inline(definitions.get(name, {}), definitions, (*above, name))
        return {**meant, **_inline(beside, definitions, above)}
    return {key: _inline(value, definitions, above) for key, value in node.items() if key != "$defs"}


def _reduce(schema: Schema, keys: set[str]) -> Schema:
    """Keep only `keys`, at every level; objects accept no other fields than their own."""
    kept: Schema = {key: value for key, value in schema.items() if key in keys}
    if len(schema.get("allOf", [])) == 1:
        kept = {**_reduce(schema["allOf"][0], keys), **kept}
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        kept["anyOf"] = [_reduce(option, keys) for option in options]
    if "properties" in kept:
        kept["properties"] = {name: _reduce(part, keys) for name, part in kept["properties"].items()}
    if isinstance(kept.get("items"), dict):
        kept["items"] = _reduce(kept["items"], keys)
    free = schema.get("additionalProperties")
    if isinstance(free, dict):
        kept["additionalProperties"] = _reduce(free, keys)
    elif "properties" in kept:
        kept["additionalProperties"] = False
    return kept


def _plain(schema: Schema) -> Schema:
    """A schema without what goes without saying, at every level."""
    kept = {key: value for key, value in schema.items() if (key, value) not in IMPLIED}
    if "properties" in kept:
        kept["properties"] = {name: _plain(part) for name, part in kept["properties"].items()}
    if isinstance(kept.get("items"), dict):
        kept["items"] = _plain(kept["items"])
    if "anyOf" in kept:
        kept["anyOf"] = [_plain(option) for option in kept["anyOf"]]
    return kept


def _without_null(schema: Schema) -> Schema:
    """Drop `null` where the field may be left out instead: one way to say nothing is enough."""
    required = schema.get("required", [])
    properties = {
        name: part if name in required else _not_null(part)
        for name, part in schema.get("properties", {}).items()
    }
    return {**schema, **({"properties": properties} if properties else {})}


def _not_null(schema: Schema) -> Schema:
    options = [option for option in schema.get("anyOf", []) if option.get("type") != "null"]
    if not options or len(options) == len(schema["anyOf"]):
        return schema
    left_out = {"anyOf"} | ({"default"} if schema.get("default") is None else set())
    rest = {key: value for key, value in schema.items() if key not in left_out}
    return {**rest, **options[0]} if len(options) == 1 else {**rest, "anyOf": options}


def _all_required(schema: Schema) -> Schema:
    """Require every field, at every level."""
    whole = dict(schema)
    if "properties" in schema:
        whole["properties"] = {name: _all_required(part) for name, part in schema["properties"].items()}
        whole["required"] = list(schema["properties"])
    elif schema.get("type") == "object" and "additionalProperties" not in schema:
        whole["additionalProperties"] = True
    if isinstance(schema.get("items"), dict):
        whole["items"] = _all_required(schema["items"])
    if "anyOf" in schema:
        whole["anyOf"] = [_all_required(option) for option in schema["anyOf"]]
    return whole
