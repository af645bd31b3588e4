"""Prompts from a source: the arithmetic generator or a JSONL file."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from harness.errors import InputError
from harness.types import Prompt
from pools import arithmetic, word_sums

GENERATORS: dict[str, Callable[..., Iterator[Prompt]]] = {
    "arithmetic": arithmetic.generate,
    "word-sums": word_sums.generate,
}


def load_prompts(source: str, *, template: str, system: str) -> list[Prompt]:
    """All distinct prompts of a source, in its own order; the first of several equal ones is kept.

    Raises InputError naming the source, and the row where one is wrong.
    """
    name, _, query = source.partition("?")
    if name in GENERATORS:
        rows = _generate(name, query)
    elif name.endswith(".jsonl"):
        rows = _read_jsonl(Path(name))
    else:
        raise InputError(f"pool.source: {source!r} is neither a .jsonl file nor one of {', '.join(GENERATORS)}")
    distinct: dict[str, Prompt] = {}
    for row in rows:
        text = template.replace("{prompt}", row.text)
        prompt = replace(row, id=compute_id(text), text=text, system=system)
        distinct.setdefault(prompt.id, prompt)
    if not distinct:
        raise InputError(f"pool.source: {source} has no prompts")
    return list(distinct.values())


def compute_id(text: str) -> str:
    """A name for a prompt that survives reordering; equal up to Unicode form, case and white space."""
    normalised = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.sha256(normalised.encode()).hexdigest()[:16]


def _generate(name: str, query: str) -> Iterator[Prompt]:
    options: dict[str, float | int] = {}
    for key, text in parse_qsl(query, keep_blank_values=True):
        try:
            options[key] = float(text) if "." in text else int(text)
        except ValueError:
            raise InputError(f"pool.source: {name}?{key} needs a number, not {text!r}") from None
    try:
        return iter(list(GENERATORS[name](**options)))
    except (TypeError, ValueError) as error:
        raise InputError(f"pool.source: {name}?{query}: {error}") from None


def _read_jsonl(path: Path) -> Iterator[Prompt]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _row(path, number, line)
    except OSError as error:
        raise InputError(f"pool.source: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"pool.source: {path} is not UTF-8: {error.reason} at byte {error.start}") from None


def _row(path: Path, number: int, line: str) -> Prompt:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise InputError(f"pool.source: {path} row {number} is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise InputError(f"pool.source: {path} row {number} must be an object with prompt and ground_truth")
    for name in ("prompt", "ground_truth"):
        value = row.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = row[name] = str(value)
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"pool.source: {path} row {number} has no {name}: it must be a non-empty string")
    known = {"prompt", "ground_truth", "label", "demonstration"}
    return Prompt(
        id="",
        text=row["prompt"],
        ground_truth=row["ground_truth"],
        label=str(row.get("label") or ""),
        demonstration=row.get("demonstration"),
        columns={name: value for name, value in row.items() if name not in known},
    )
