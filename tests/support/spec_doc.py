"""docs/spec.md, from the spec itself: ``python -m tests.support.spec_doc`` (make docs) writes it anew."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.config.schema import RunSpec
from harness.core.knobs import DEFAULT_BOUNDS

FILE = Path(__file__).parents[2] / "docs" / "spec.md"
HEAD = """<!-- Written by the program: make docs -->

# The spec

One TOML (or JSON) file; every field has a default, so an empty one is a run. `--set section.field=value` overrides it
on the command line; `grpo check` and `grpo run` name a field that is wrong, with the nearest right one. A resume may
change budget, evaluate, checkpoint, alerts, and, in a new era, reward, pool and trainer (`grpo resume --help`).

    seed = 3
    [model]
    name = "./my-model"
    [knobs]
    temperature = 0.9

A spec with stages holds several runs, each from the best checkpoint of its parent. What stands above them holds for
all; a stage has a `name`, a `kind`, a parent (`from`, the stage before unless given; `base` is `[model]`) and any
section. In one of kind sft the fields of `[sft]` may stand right in it. `grpo run` makes a group, the runs GROUP/STAGE.

    [[stage]]
    name = "learned"
    kind = "sft"
    examples = 256
    [[stage]]
    name = "tuned"
    knobs.max_tokens = 512
"""
MARK = re.compile(r"``([^`]+)``")


def render() -> str:
    parts = [
        HEAD,
        _section("top level", RunSpec, [f for f, i in RunSpec.model_fields.items() if _section_of(i) is None]),
    ]
    for name, field in RunSpec.model_fields.items():
        if (section := _section_of(field)) is not None:
            parts.append(_section(f"[{name}]" if section is field.annotation else f"[{name}.NAME]", section))
    bounds = "\n".join(f"| `{name}` | {low:g} to {high:g} |" for name, (low, high) in DEFAULT_BOUNDS.items())
    parts.append(
        "## [bounds]\n\nThe lowest and highest value of a hyperparameter, for decision policies and people: "
        "`temperature = [0.5, 1.2]`.\n\n"
        f"| hyperparameter | unless given |\n|---|---|\n{bounds}\n"
    )
    return "\n".join(parts)


def _section_of(field: FieldInfo) -> Any:
    """Return the model of a section, or of each section of a table of them; None for a plain field."""
    found = next((one for one in (field.annotation, *get_args(field.annotation)[1:]) if _is_model(one)), None)
    return found if found is field.annotation or get_origin(field.annotation) is dict else None


def _is_model(one: Any) -> bool:
    return inspect.isclass(one) and issubclass(one, BaseModel)


def _section(title: str, model: Any, names: list[str] | None = None) -> str:
    told = MARK.sub(r"`\1`", inspect.cleandoc(model.__doc__))
    rows = [
        f"| `{name}` | {_describe_type(name, model)} | {_describe_default(model.model_fields[name])} |"
        for name in names or model.model_fields
        if name != "bounds"
    ]
    return "\n".join([f"## {title}", "", told, "", "| field | takes | default |", "|---|---|---|", *rows, ""])


def _describe_type(name: str, model: Any) -> str:
    """As JSON Schema has it, in a few words: ``"auto" or "float32"``, ``a number above 0``."""
    return _say(model.model_json_schema()["properties"][name]).replace("|", "\\|")


def _say(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_say(option) for option in schema["anyOf"] if option != {"type": "null"})
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "array":
        inner = schema.get("prefixItems", [schema.get("items", {})])
        return f"a list of {len(inner)} numbers" if len(inner) > 1 else f"a list: {_say(inner[0])}"
    if kind == "object":
        return f"a table: {_say(schema.get('additionalProperties', {}))}"
    word = {"integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false"}[str(kind)]
    limits = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below", "maximum": "to"}
    return " ".join([word, *(f"{said} {schema[key]}" for key, said in limits.items() if key in schema)])


def _describe_default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    return "unset" if value is None or value == "" else f"`{json.dumps(value)}`"


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
