"""From a configuration of TRL's GRPOTrainer to a spec; the fields are in harness/config/trl_fields.py."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.commands.starting.text import Line, write_spec
from harness.config.names import SPEC_FILE
from harness.core.formatting import clean

OUTSIDE = {
    "model": ("name", 'name = "org/name"    outside of TRL\'s configuration; unset: the embedded one'),
    "pool": ("source", 'source = "data.jsonl"    your data; unset: sums that are made up'),
    "reward": ("function", 'function = ["rewards.py:accuracy"]    TRL\'s reward functions as they are'),
}
"""What TRL has in a script and not in a configuration: by section of a spec its field, and a line to fill in."""
LAST = ("knobs", "bounds", "trainer", "evaluate", "checkpoint", "budget", "policy")
ORDER = ("", "model", "lora", "pool", "reward", *LAST)
"""Of the sections of a spec that comes from TRL."""


def read_trl_config(source: str) -> Mapping[str, Any] | None:
    """Read a JSON file that is a configuration of TRL; None where it is anything else."""
    from harness.config.from_trl import is_trl_config

    path = Path(source)
    if path.suffix != ".json" or not path.is_file():
        return None
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # the reader of data says what is wrong
    return tree if is_trl_config(tree) else None


def start_from_trl(
    source: str, config: Mapping[str, Any]
) -> tuple[list[str], list[tuple[str, Any, str]], dict[str, str]]:
    """Say what was found and what is left (field, value, reason), and write the spec."""
    from harness.config.from_trl import convert_trl
    from harness.config.load import parse_spec

    converted = convert_trl(config)
    sections: dict[str, list[Line]] = {}
    for section, fields in converted.tree.items():
        origins = {field: converted.origin[f"{section}.{field}".lstrip(".")] for field in fields}
        sections[section] = [
            Line(field, value, "" if origins[field] == field else origins[field]) for field, value in fields.items()
        ]
    unnamed = [section for section, (field, _) in OUTSIDE.items() if f"{section}.{field}" not in converted.origin]
    for section in OUTSIDE:
        sections.setdefault(section, [])
    for section in unnamed:
        sections[section].insert(0, Line("", comment=OUTSIDE[section][1]))
    sections["policy"] = [Line("kind", "rules", '"fixed" keeps the values above, as TRL does')]
    sections = {section: sections[section] for section in ORDER if section in sections}
    head = [f"From {clean(Path(source).name)}, a configuration of TRL (docs/from-trl.md). Written by grpo init."]
    text = write_spec(head, sections)
    parse_spec(tomllib.loads(text))
    says = [f"{Path(source).name}: a configuration of TRL; {len(converted.origin)} fields of the spec come from it"]
    if unnamed:
        says.append(f"it does not name your {', '.join(unnamed)}: write it into [{'], ['.join(unnamed)}] of the spec")
    return says, list(converted.left), {SPEC_FILE: text}
