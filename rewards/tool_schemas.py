"""Tools as data sets have them, read into the one form of OpenAI's API with parameters as JSON Schema.

    {"type": "function", "function": {"name": "add", "description": "...", "parameters": {JSON Schema}}}

Accepted besides: the inner object alone, parameters that are the properties themselves (xLAM), types by Python's names
(``int``, ``List[str]``, ``str, optional``), and all of it as JSON text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

DATA = {"default", "enum", "const", "examples"}
JSON_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
TYPES = {
    **{name: name for name in JSON_TYPES},
    **dict.fromkeys(("any", "callable", "optional", "union"), ""),
    **dict.fromkeys(("list", "set", "tuple"), "array"),
    **dict.fromkeys(("double", "float"), "number"),
    **dict.fromkeys(("none", "nonetype"), "null"),
    "bool": "boolean",
    "dict": "object",
    "int": "integer",
    "str": "string",
}
"""Of JSON Schema, by the names that data sets of calls have for them."""


def read_tools(value: Any) -> list[dict[str, Any]]:
    """The tools of a row. Raises ValueError that says what is wrong."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else []
        except (ValueError, RecursionError):
            raise ValueError('"tools" must be a list, or the JSON of one') from None
    if not isinstance(value, list):
        raise ValueError('"tools" must be a list')
    return [_read_tool(tool) for tool in value]


def _read_tool(tool: Any) -> dict[str, Any]:
    inner = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        raise ValueError('a tool must be an object with "name" and "parameters"')
    schema = inner.get("parameters") or {}
    if isinstance(schema, Mapping) and all(isinstance(one, Mapping) and "type" in one for one in schema.values()):
        schema = {"type": "object", "properties": schema}  # xLAM
    kept = {name: part for name, part in inner.items() if name != "type" and part is not None}
    parameters = to_schema(schema)
    # What is in this form already stays to the letter: chat templates print it, and runs of before go on with it.
    if tool.get("type") == "function" and inner is not tool and inner.get("parameters") == parameters:
        return dict(tool)
    return {"type": "function", "function": {"description": "", **kept, "parameters": parameters}}


def to_schema(value: Any) -> Any:
    """A schema with the types of JSON Schema."""
    if isinstance(value, list):
        return [to_schema(inner) for inner in value]
    if not isinstance(value, Mapping):
        return value
    schema = {key: inner if key in DATA else to_schema(inner) for key, inner in value.items()}
    kinds = schema.get("type")
    if isinstance(kinds, str):
        schema["type"] = _to_type(kinds)
    elif isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds):
        schema["type"] = "" if "" in map(_to_type, kinds) else list(dict.fromkeys(map(_to_type, kinds)))
    if schema.get("type") == "":
        del schema["type"]
    return schema


def _to_type(text: str) -> str:
    """The type that a text names first (``List[int], optional``), "" where it may be anything."""
    if "|" in text or " or " in text:
        return ""
    return TYPES.get(re.split(r"\W", text.strip(), maxsplit=1)[0].lower(), text)
