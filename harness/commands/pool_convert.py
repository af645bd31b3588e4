"""Convert a source to a JSONL file of the rows that the reward can be trusted with: those whose own reference solution
scores 1.0. A row that fails here would punish the model for being right. Or of the rows that a record answers right:
the answers become their demonstrations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.commands.files import check_place, write_lines
from harness.commands.targets import score_replies, write_demonstration
from harness.config.schema import RunSpec
from harness.core.formatting import shorten
from harness.core.step_metrics import reason_of
from harness.errors import InputError
from harness.models.hub import hub_answers
from harness.run.answerers import Target, build_scorer, read_answers
from harness.types import Completion, Progress, Prompt, Score
from pools.counts import SkipCounter, Skipped
from pools.identity import format_id, identify
from pools.layouts import ArrangedRows
from pools.messages import fill_prompt
from pools.reading import UNJUDGED
from pools.rows import Row, encode, encode_columns, make_prompt, name_columns
from pools.sources import read_rows

BATCH = 64
"""Rows that the reward judges between two looks at the progress."""
EXAMPLES = 3
SHOWN = 120
"""Characters of a reason, or of what is said of a row."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """How many of the rows ``read`` are ``kept`` in ``out``. ``dropped`` goes by reason, the commonest first;
    ``layout`` says how the source writes its rows, empty for our own columns."""

    out: Path
    read: int
    kept: int
    dropped: Mapping[str, Skipped]
    layout: str = ""

    def to_json(self) -> dict[str, Any]:
        dropped = [{"reason": reason} | asdict(drop) for reason, drop in self.dropped.items()]
        return asdict(self) | {"dropped": dropped}


@dataclass(frozen=True, slots=True)
class Failed:
    """How many ``answers`` were not right for one reason, and ``examples`` of them in a line each."""

    answers: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Demonstrated:
    """How many rows of the ``answered`` ones got a right answer as demonstration and are in ``out``. ``failed`` goes by
    reason, the commonest first, over all ``answers``; ``elsewhere`` are of prompts that are not in the source."""

    out: Path
    answered: int
    kept: int
    answers: int
    failed: Mapping[str, Failed]
    elsewhere: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Candidate:
    where: str
    encoded: str
    prompt: Prompt
    reference: str


def convert_source(
    source: str, out: Path, spec: RunSpec, *, reference: str, chat: bool, progress: Progress
) -> Conversion:
    """Write the rows of ``source`` whose text in column ``reference`` gets the highest reward of ``spec``; a list of
    messages there means its assistant message. ``chat`` as in Reward.

    Rows are written as they are, those of a known layout (pools/layouts) with our columns added, of which
    ``demonstration`` is a reference too. The columns, template and reward are those of ``spec``, so the same spec reads
    the file. Raises InputError when
    the source cannot be read, nothing is kept or ``out`` exists; then nothing is written.
    """
    check_place(out)
    faults = SkipCounter()
    rows = ArrangedRows(lambda: read_rows(source, hub_answers=hub_answers), spec.pool.columns, spec.reward.functions)
    candidates = list(_find_candidates(rows, spec, reference, faults, progress))
    if rows.dropped:
        faults.add(UNJUDGED, rows.first_dropped, rows.dropped)
    kept: list[str] = []
    with build_scorer(spec, chat=chat) as reward:
        for start in range(0, len(candidates), BATCH):
            progress("judging", start, len(candidates))
            part = candidates[start : start + BATCH]
            scores = reward.score([candidate.prompt for candidate in part], [candidate.reference for candidate in part])
            for candidate, score in zip(part, scores, strict=True):
                reason = _find_fault(score, spec.reward.range[1])
                if reason:
                    faults.add(reason, candidate.where)
                else:
                    kept.append(candidate.encoded)
    progress("judging", len(candidates), len(candidates))
    dropped = faults.by_reason
    if not kept:
        most = [f"{reason}: {drop.rows:,} (first: {drop.first})" for reason, drop in list(dropped.items())[:2]]
        more = f"; {len(dropped) - 2} more reasons" if len(dropped) > 2 else ""
        raise InputError(
            f"no row of {source} is kept, so nothing was written: {'; '.join(most) or 'it has no rows'}{more}"
        )
    write_lines(out, kept)
    layout = rows.layout.says if rows.layout else ""
    return Conversion(out, len(kept) + sum(drop.rows for drop in dropped.values()), len(kept), dropped, layout)


def convert_answers(target: Target, out: Path, *, progress: Progress) -> Demonstrated:
    """Write the rows of the source of ``target``'s spec that it answers right, the shortest right answer of each as its
    demonstration. ``target`` is recorded. Raises InputError when nothing is kept or ``out`` exists; then nothing is
    written."""
    check_place(out)
    spec = target.spec
    answers = read_answers(target)
    rows = ArrangedRows(
        lambda: read_rows(spec.pool.source, hub_answers=hub_answers), spec.pool.columns, spec.reward.functions
    )
    column = name_columns(spec.pool.columns)["demonstration"]
    first: dict[str, tuple[str, dict[str, Any], Prompt]] = {}
    for where, values, prompt in _read_prompts(rows, spec, SkipCounter(), progress):
        first.setdefault(prompt.id, (where, values, prompt))
    asked = [(*row, reply) for row in first.values() for reply in answers.get(row[2].id, ())]
    completions: list[Completion] = []
    with build_scorer(spec, chat=target.chat) as reward:
        for start in range(0, len(asked), BATCH):
            progress("judging", start, len(asked))
            part = asked[start : start + BATCH]
            completions += score_replies(reward, [p for _, _, p, _ in part], [reply for *_, reply in part])
    best: dict[str, tuple[int, dict[str, Any]]] = {}
    failed: dict[str, list[str]] = {}
    for (where, values, prompt, reply), completion in zip(asked, completions, strict=True):
        if not completion.score.correct:
            said = completion.score.error or f"...{completion.text[-SHOWN:]}"
            example = f"{where}: {shorten(prompt.text, SHOWN // 2)} {shorten(said, SHOWN)}"
            failed.setdefault(reason_of(completion.score.reason, completion.truncated), []).append(example)
        elif prompt.id not in best or len(completion.text) < best[prompt.id][0]:
            best[prompt.id] = len(completion.text), {**values, column: write_demonstration(reply)}
    counted = {
        reason: Failed(len(lines), tuple(lines[:EXAMPLES]))
        for reason, lines in sorted(failed.items(), key=lambda item: -len(item[1]))
    }
    if not best:
        told = ", ".join(f"{reason} {found.answers}" for reason, found in counted.items())
        why = told or "no prompt of the source is in it"
        raise InputError(f"no answer of {target.who} is right, so nothing was written: {why}")
    write_lines(out, (encode(values) for _, values in best.values()))
    prompts = {prompt.id for _, _, prompt, _ in asked}
    elsewhere = sum(len(replies) for key, replies in answers.items() if key not in prompts)
    return Demonstrated(out, len(prompts), len(best), len(asked), counted, elsewhere)


def _find_candidates(
    rows: Iterable[Row], spec: RunSpec, reference: str, faults: SkipCounter, progress: Progress
) -> Iterator[_Candidate]:
    """Read the rows that make a prompt of their own and have a reference; the others go to ``faults``."""
    seen: set[str] = set()
    for where, values, prompt in _read_prompts(rows, spec, faults, progress):
        solution = _read_reference(values, reference, prompt)
        if prompt.id in seen:
            faults.add("the same prompt again", where)
        elif not solution:
            faults.add(f"no text in {reference}", where)
        else:
            seen.add(prompt.id)
            yield _Candidate(where, encode(values), prompt, solution)


def _read_prompts(
    rows: Iterable[Row], spec: RunSpec, faults: SkipCounter, progress: Progress
) -> Iterator[tuple[str, dict[str, Any], Prompt]]:
    """Read the rows that make a prompt: the name of each, what JSON can hold of it, the prompt."""
    names = name_columns(spec.pool.columns)
    for count, row in enumerate(rows, 1):
        if count % 1000 == 0:
            progress("reading", count, 0)
        where = row.where.removeprefix("pool.source: ")
        unwritable: Counter[str] = Counter()
        try:
            prompt = make_prompt(row, names)
            encode_columns(row, prompt, unwritable)
        except InputError as error:
            faults.add("not a prompt", str(error).removeprefix("pool.source: "))
            continue
        prompt = fill_prompt(prompt, spec.pool.template)
        prompt_id = format_id(identify(prompt).id)
        prompt = replace(prompt, id=prompt_id, system=prompt.system or spec.pool.system_prompt)
        yield where, {name: value for name, value in row.values.items() if name not in unwritable}, prompt


def _read_reference(values: Mapping[str, Any], reference: str, prompt: Prompt) -> str:
    value = values.get(reference)
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
