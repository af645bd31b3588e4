"""Write a spec as a person would: sections of TOML with a word beside what needs one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """``field = value  # comment``; without a field the comment alone."""

    field: str
    value: Any = None
    comment: str = ""

    def __str__(self) -> str:
        comment = f"# {self.comment}" if self.comment else ""
        if not self.field:
            return comment
        return f"{self.field} = {to_toml(self.value)}" + (f"    {comment}" if comment else "")


def write_spec(head: Iterable[str], sections: Mapping[str, Sequence[Line]]) -> str:
    """Write a whole spec; ``head`` are its first lines, a section named "" is its top level."""
    parts = ["\n".join(f"# {line}".rstrip() for line in head)]
    for name, lines in sections.items():
        if lines:
            parts.append("\n".join(([f"[{name}]"] if name else []) + [str(line) for line in lines]))
    return "\n\n".join(parts) + "\n"


def to_toml(value: Any) -> str:
    """Write plain data as TOML on one line, but a text of several lines as such."""
    if isinstance(value, str) and "\n" in value and "'''" not in value:
        return f"'''\n{value}'''"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {to_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    return json.dumps(value)


def render_template(name: str, **values: Any) -> str:
    """Render a template of this package."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("harness.commands"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    return templates.get_template(name).render(**values)


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else to_toml(name)
