"""Convert a source to a JSONL file of the rows that the reward can be trusted with: those whose own reference solution
scores 1.0. A row that fails here would punish the model for being right."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.checks.inputs import build_reward
from harness.commands.files import check_place, write_lines
from harness.config.schema import RunSpec
from harness.errors import InputError
from harness.models.hub import hub_answers
from harness.types import Progress, Prompt, Score
from pools.identity import format_id, identify
from pools.messages import fill_prompt
from pools.rows import Row, encode, encode_columns, make_prompt, name_columns
from pools.sources import read_rows

BATCH = 64
"""Rows that the reward judges between two looks at the progress."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Rows left out for one reason, and the first of them."""

    rows: int
    first: str


@dataclass(frozen=True, slots=True)
class Conversion:
    """How many of the rows ``read`` are ``kept`` in ``out``. ``dropped`` goes by reason."""

    out: Path
    read: int
    kept: int
    dropped: Mapping[str, Dropped]

    def to_json(self) -> dict[str, Any]:
        dropped = [{"reason": reason} | asdict(drop) for reason, drop in self.dropped.items()]
        return asdict(self) | {"dropped": dropped}


Faults = dict[str, list[str]]
"""Which rows are dropped, by reason."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    where: str
    encoded: str
    prompt: Prompt
    reference: str


def convert_source(
    source: str, out: Path, spec: RunSpec, *, reference: str, chat: bool, progress: Progress
) -> Conversion:
    """Write the rows of ``source``, as they are, whose text in column ``reference`` gets the highest reward of
    ``spec``; a list of messages there means its assistant message. ``chat`` as in Reward.

    The columns, template and reward are those of ``spec``, so the same spec reads the file. Raises InputError when
    the source cannot be read, nothing is kept or ``out`` exists; then nothing is written.
    """
    check_place(out)
    faults: Faults = defaultdict(list)
    candidates = list(_find_candidates(source, spec, reference, faults, progress))
    kept: list[str] = []
    with build_reward(spec, chat=chat) as reward:
        for start in range(0, len(candidates), BATCH):
            progress("judging", start, len(candidates))
            part = candidates[start : start + BATCH]
            scores = reward.score([candidate.prompt for candidate in part], [candidate.reference for candidate in part])
            for candidate, score in zip(part, scores, strict=True):
                reason = _find_fault(score, spec.reward.range[1])
                if reason:
                    faults[reason].append(candidate.where)
                else:
                    kept.append(candidate.encoded)
    progress("judging", len(candidates), len(candidates))
    dropped = {reason: Dropped(len(where), where[0]) for reason, where in faults.items()}
    if not kept:
        reasons = "; ".join(f"{reason}: {drop.rows} ({drop.first})" for reason, drop in dropped.items())
        raise InputError(f"no row of {source} is kept, so nothing was written: {reasons or 'it has no rows'}")
    write_lines(out, kept)
    return Conversion(out, len(kept) + sum(drop.rows for drop in dropped.values()), len(kept), dropped)


def _find_candidates(
    source: str, spec: RunSpec, reference: str, faults: Faults, progress: Progress
) -> Iterator[_Candidate]:
    """Read the rows that make a prompt of their own and have a reference; the others go to ``faults``."""
    names = name_columns(spec.pool.columns)
    seen: set[str] = set()
    for count, row in enumerate(read_rows(source, hub_answers=hub_answers), 1):
        if count % 1000 == 0:
            progress("reading", count, 0)
        where = row.where.removeprefix("pool.source: ")
        unwritable: Counter[str] = Counter()
        try:
            prompt = make_prompt(row, names)
            encode_columns(row, prompt, unwritable)
        except InputError as error:
            faults["not a prompt"].append(str(error).removeprefix("pool.source: "))
            continue
        prompt = fill_prompt(prompt, spec.pool.template)
        prompt_id = format_id(identify(prompt).id)
        prompt = replace(prompt, id=prompt_id, system=prompt.system or spec.pool.system_prompt)
        solution = _read_reference(row, reference, prompt)
        if prompt.id in seen:
            faults["the same prompt again"].append(where)
        elif not solution:
            faults[f"no text in {reference}"].append(where)
        else:
            seen.add(prompt.id)
            kept = {name: value for name, value in row.values.items() if name not in unwritable}
            yield _Candidate(where, encode(kept), prompt, solution)


def _read_reference(row: Row, reference: str, prompt: Prompt) -> str:
    value = row.values.get(reference)
    if isinstance(value, list):
        value = prompt.demonstration
    return value if isinstance(value, str) and value.strip() else ""


def _find_fault(score: Score, highest: float) -> str:
    """Say why a reference does not score 1.0; empty when it does."""
    if score.reward is None:
        return f"the reward failed: {score.error}"
    if score.reward < highest - 1e-9:  # a weighted sum may miss it by rounding
        return f"{score.reason}: the reference gets {score.reward:g} of {highest:g}"
    return ""
