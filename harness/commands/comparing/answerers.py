"""Have everybody answer the same prompts, and compare what they answered.

A model in memory is loaded when its turn comes, and is gone before the next one's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.checks.inputs import Chosen, choose_prompts, read_prompts
from harness.commands.targets import measure, score_replies
from harness.config.asking import build_ledger
from harness.config.load import load_spec
from harness.config.names import SPEC_FILE
from harness.config.schema import RunSpec
from harness.core.step_metrics import is_graded
from harness.errors import InputError
from harness.llm.record import Recorded
from harness.models.evaluate import compute_proportions
from harness.run.answerers import (
    Found,
    Target,
    build_scorer,
    check_all_judges,
    check_answerer,
    find_own_spec,
    open_target,
    read_answers,
)
from harness.types import Completion, Example, Progress, Prompt, Reply
from harness.views.answers import Answered, build_answer_comparison, is_answer

SCORED_AT_ONCE = 64
"""Answers on record, so that progress is seen."""
ON_RECORD = "the prompts on record"
"""Said of the prompts that are those of a record."""


def compare_answerers(named: Sequence[tuple[str, Found]], *, spec: str | None, progress: Progress) -> Mapping[str, Any]:
    """Compare two or more, each with the name it was given. They answer the test split of ``spec``, or where records
    are among them the prompts that these have. Raises InputError, before anybody is loaded or asked where it can."""
    checked, where = _choose_spec([found for _, found in named], spec)
    for _, found in named:
        check_answerer(found)
    check_all_judges(checked)
    ledger = build_ledger(checked)  # one for all: budget.usd is what the comparison may cost
    opened = {
        name: open_target(found, spec=checked, ledger=ledger)
        for name, found in named
        if found.kind in ("hosted", "recorded")
    }
    replies = {name: _read_replies(target) for name, target in opened.items() if target.recorded}
    chosen = _choose_recorded(checked, where, replies) if replies else choose_prompts(checked, split="test")
    by_id = {prompt.id: prompt for prompt in chosen.prompts}
    answered = []
    for name, found in named:
        if name in replies:
            one = _score_record(name, opened[name], checked, by_id, replies[name], progress)
        else:
            one = _ask(name, found, opened.pop(name, None), checked, chosen, progress)
        answered.append(one)
    answered = _name_parents(named, answered)
    graded = checked.reward.graded
    if graded is None:
        graded = is_graded([example.completion.score for each in answered for example in each.examples])
    return build_answer_comparison(answered, graded=graded, split=chosen.said)


def _choose_spec(found: Sequence[Found], spec: str | None) -> tuple[RunSpec, str]:
    """Choose the spec that says what is asked and how it is judged, and what to call it. Raises InputError."""
    if spec is not None:
        return load_spec(spec)
    for one in found:
        if own := find_own_spec(one):
            return own, one.name
    if Path(SPEC_FILE).is_file() or all(one.kind == "recorded" for one in found):
        return load_spec(None)
    raise InputError(
        "--spec: none of these is a run or an exported model, which have a spec of their own; name the recipe or file "
        "that has the prompts and the reward"
    )


def _read_replies(target: Target) -> Mapping[str, Sequence[Reply]]:
    """Read what a record has of each prompt, one answer for each sample, whatever it was asked with."""
    if not isinstance(target.other, Recorded):
        return read_answers(target)
    found: dict[str, list[Reply]] = {}
    for (prompt, _), line in sorted(target.other.by_prompt.items()):
        found.setdefault(prompt, []).append(line.reply)
    return found


def _choose_recorded(spec: RunSpec, where: str, replies: Mapping[str, Mapping[str, Sequence[Reply]]]) -> Chosen:
    """Choose the prompts of records from the pool of ``spec``. Raises InputError where one is not there."""
    pool = read_prompts(spec)
    known = set(pool.ids)
    for name, found in replies.items():
        if foreign := found.keys() - known:
            raise InputError(
                f"{name}: {len(foreign):,} of its {len(found):,} prompts are not in the pool of {where}; give the spec "
                "that they were asked with: --spec"
            )
    wanted = set().union(*replies.values())
    places = np.flatnonzero([prompt in wanted for prompt in pool.ids])
    return Chosen(ON_RECORD, "", pool.select(places))


def _score_record(
    name: str,
    target: Target,
    spec: RunSpec,
    prompts: Mapping[str, Prompt],
    replies: Mapping[str, Sequence[Reply]],
    progress: Progress,
) -> Answered:
    """Score all answers of a record, whatever they were asked with."""
    asked = [(prompts[prompt], reply) for prompt, each in sorted(replies.items()) for reply in each]
    completions: list[Completion] = []
    with build_scorer(spec, chat=target.chat) as reward:
        for start in range(0, len(asked), SCORED_AT_ONCE):
            part = asked[start : start + SCORED_AT_ONCE]
            completions += score_replies(reward, [prompt for prompt, _ in part], [reply for _, reply in part])
            progress(f"scoring {name}", len(completions), len(asked))
    examples = [Example(prompt, done) for (prompt, _), done in zip(asked, completions, strict=True)]
    return _tell(name, target.title, examples, spec)


def _ask(name: str, found: Found, target: Target | None, spec: RunSpec, chosen: Chosen, progress: Progress) -> Answered:
    """Ask who answers; a model is loaded for that, and freed."""
    progress(f"loading {name}", 0, 0)
    asked = target or open_target(found, spec=spec)
    title, in_memory = asked.title, asked.in_memory
    done = measure(asked, chosen, progress=lambda phase, part, of: progress(f"{name}: {phase}", part, of))
    del asked
    if in_memory:
        from harness.models.runtime import release_memory

        release_memory()
    return _tell(name, title, done.examples, spec)


def _tell(name: str, who: str, examples: Sequence[Example], spec: RunSpec) -> Answered:
    came = [example for example in examples if is_answer(example.completion)]
    found = compute_proportions(came, spec.reward.thinking_tags) if came else {}
    thinking, answer = (found.get(key, 0.0) for key in ("thinking_proportion", "answer_proportion"))
    return Answered(name, who, tuple(examples), thinking, answer)


def _name_parents(named: Sequence[tuple[str, Found]], answered: Sequence[Answered]) -> list[Answered]:
    """Name the parent of a stage's run where that is compared too."""
    names = {found.name: name for name, found in reversed(named) if found.kind == "run"}
    parents: dict[str, str | None] = {}
    for name, found in named:
        if found.store is not None:
            stage = found.store.load_run(found.store.find_run(found.name).id).manifest.get("stage") or {}
            parents[name] = names.get((stage.get("parent") or {}).get("run", ""))
    return [replace(one, parent=parents.get(one.name)) for one in answered]
