"""From the name of a source to its prompts.

data.jsonl  data.json  data.csv  data.parquet       files (pools/files.py)
hub:openai/gsm8k?config=main&split=train[:100]      a Hugging Face data set, or a folder of one (pools/hub.py)
reasoning:chain_sum?size=1000&levels=0-3            reasoning-gym tasks (pools/reasoning.py)
arithmetic?digits=3&size=6000                       our own generators
prompts.py:make?size=100                            a Python function that yields rows (pools/functions.py)
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from harness.core.files import hash_file
from harness.core.formatting import shorten
from harness.errors import InputError
from harness.types import PROMPT_COLUMNS, Prompt
from harness.types.reasoning_tasks import describe_verifiers
from pools import arithmetic, reasoning, word_sums
from pools.cache import load_cached
from pools.counts import parse_counts
from pools.files import READERS, check_file
from pools.functions import read_function
from pools.hub import read_hub
from pools.layouts import ArrangedRows
from pools.reading import DEFAULT_RULES, Reading, RowRules
from pools.rows import Row, name_columns
from pools.table import PromptTable

GENERATORS: dict[str, Callable[..., Iterator[Prompt]]] = {
    "arithmetic": arithmetic.generate,
    "word-sums": word_sums.generate,
}
CACHED_FROM = 8 * 2**20
"""Bytes of a file from which its prompts are cached: a smaller one is parsed in less than half a second."""


def load_prompts(
    source: str,
    *,
    columns: Mapping[str, str],
    template: str,
    system: str,
    rules: RowRules = DEFAULT_RULES,
    rewards: Collection[str] | None = None,
    hub_answers: Callable[[], bool] = lambda: True,
) -> PromptTable:
    """Load all distinct prompts of a source, in its own order; the first of several equal ones is kept.

    ``columns`` as in name_columns, ``template`` has ``{prompt}``, ``system`` is for rows without a system message,
    ``rewards`` as in ArrangedRows. Raises InputError naming the source, and the row where one is wrong.
    """
    rows = ArrangedRows(partial(open_rows, source, hub_answers=hub_answers), columns, rewards)
    reading = Reading(rows, source, name_columns(columns), template, rules)
    content = _find_content(source)
    if content is None:
        batches, note = list(reading.read()), reading.finish()
    else:
        made_from = [source, json.dumps(sorted(columns.items())), template, json.dumps(rewards and sorted(rewards))]
        batches, note = load_cached([content, *made_from, rules.to_json()], reading.read, reading.finish)
    left_out, missing = np.array(note["left_out"], np.int64), np.array(note["missing"], np.int64)
    counts = parse_counts(note["counts"])
    counts = replace(counts, layout=counts.layout or _say_verifiers(source))
    kept = None
    if len(left_out):
        kept = np.delete(np.arange(sum(batch.num_rows for batch in batches)), left_out)
    return PromptTable(batches, template=template, system=system, rows=kept, counts=counts, missing=missing)


def read_rows(source: str, *, hub_answers: Callable[[], bool] = lambda: True) -> Iterator[Row]:
    """Yield the rows of a source as they are. Raises InputError naming the source, and the row where one is wrong."""
    for row in open_rows(source, hub_answers=hub_answers):
        if row.fault is not None:
            raise row.fault
        yield row


def open_rows(source: str, *, hub_answers: Callable[[], bool]) -> Iterator[Row]:
    """Open a source for its rows, those with a ``fault`` too. Raises InputError, here or on the way, for what ends the
    reading."""
    name, query = split_source(source)
    suffix = Path(name).suffix.lower()
    if name.startswith("hub:"):
        return read_hub(name.removeprefix("hub:"), _options(query), hub_answers=hub_answers)
    if name.startswith("reasoning:"):
        return reasoning.read_reasoning(name.removeprefix("reasoning:"), _typed(_options(query)))
    if name in GENERATORS:
        return _generate(name, _options(query))
    if suffix in READERS:
        if query:
            raise InputError(f"pool.source: {name} is a file and takes no options (?{query})")
        check_file(Path(name))
        return READERS[suffix](Path(name))
    if ":" in name:
        return read_function(name, _typed(_options(query)))
    if Path(name).is_dir():
        check_file(Path(name))
    raise InputError(
        f"pool.source: {shorten(repr(source), 200)} is neither a file ({', '.join(READERS)}), hub:..., reasoning:..., "
        f"file.py:function, nor one of {', '.join(GENERATORS)}"
    )


def split_source(source: str) -> tuple[str, str]:
    """Split a source into its name and its options, which come after a ``?`` unless that is part of a file's name."""
    if "?" in source and Path(source).is_file():
        return source, ""
    name, _, query = source.partition("?")
    return name, query


def identify_source(source: str, *, base: Path) -> str:
    """Name a source so that it stays when it grows, so without ``size`` and the part of a split that is taken.

    A path is written as seen from ``base``: it stays when both are moved together.
    """
    name, query = split_source(source)
    options = {key: value for key, value in _options(query).items() if key != "size"}
    if "split" in options:
        options["split"] = re.sub(r"\[[^\]]*\]", "", options["split"])
    prefix = "hub:" if name.startswith("hub:") else ""
    path = Path(name.removeprefix(prefix))
    if path.exists() or path.suffix.lower() in READERS:
        name = prefix + os.path.relpath(path.absolute(), base.absolute())
    return name + ("?" + "&".join(f"{key}={options[key]}" for key in sorted(options)) if options else "")


# ---------------------------------------------------------------- names


def _options(query: str) -> dict[str, str]:
    """Read ``a=1&b=x``; unlike in a form, ``+`` is itself (``split=train+test``)."""
    parts = [part.partition("=") for part in query.split("&") if part]
    return {unquote(key): unquote(value) for key, _, value in parts}


def _typed(options: Mapping[str, str]) -> dict[str, Any]:
    """Read values as JSON where they can be read as such, else as text."""
    typed: dict[str, Any] = dict(options)
    for key, text in options.items():
        with suppress(ValueError):
            typed[key] = json.loads(text)
    return typed


def _find_content(source: str) -> str | None:
    """Tell what the prompts of a source are made from, where that is known without making them and worth a cache."""
    name, _ = split_source(source)
    if name.startswith("reasoning:"):
        return reasoning.version()
    path = Path(name)
    if path.suffix.lower() in READERS and path.is_file() and path.stat().st_size >= CACHED_FROM:
        check_file(path)
        return hash_file(path)
    return None


def _say_verifiers(source: str) -> str:
    prefix, colon, tasks = source.partition("?")[0].partition(":")
    return describe_verifiers(tasks.split(",")) if prefix == "reasoning" and colon else ""


def _generate(name: str, texts: Mapping[str, str]) -> Iterator[Row]:
    options: dict[str, float | int] = {}
    for key, text in texts.items():
        try:
            options[key] = float(text) if "." in text else int(text)
        except ValueError:
            raise InputError(f"pool.source: {name}?{key} needs a number, not {text!r}") from None
    try:
        prompts = list(GENERATORS[name](**options))
    except (TypeError, ValueError) as error:
        raise InputError(f"pool.source: {name}: {error}") from None
    for number, prompt in enumerate(prompts, 1):
        values = (prompt.text, prompt.ground_truth, prompt.label, prompt.demonstration)
        yield Row(f"pool.source: {name} row {number}", dict(zip(PROMPT_COLUMNS, values, strict=True)))
