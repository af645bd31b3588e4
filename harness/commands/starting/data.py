"""Look at the rows of a source: their layout, how many prompts they make, which verifier reads their answers.

A verifier fits where the reference answers of the first rows score 1.0 with it, as ``grpo check`` judges them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from harness.checks.gate import check_references
from harness.checks.inputs import Inputs, Splits, build_splits, read_inputs
from harness.config.load import parse_spec
from harness.errors import InputError
from harness.models.hub import hub_answers
from harness.types import PROMPT_COLUMNS, no_progress
from pools.layouts import Layout, find_layout
from pools.layouts.base import attempt
from pools.sources import read_rows

Values = Mapping[str, Any]

LEAST = 8
"""Rows: one for each split, and some to draw from."""
LOOKED_AT = 100
JUDGED = 50
FITS = 0.95
"""Share of the judged rows whose reference answers must score 1.0."""
LONGEST, MOST_WORDS, SHORT = 80, 8, 0.9
"""Of a ground truth that rewards.math compares as a word, and not as a text that a model would have to repeat; share of
such ones."""
OF_JSON = ("rewards.function_call", "rewards.code", "rewards.structured", "rewards.composite")
NOTES = "<<[^>]*>>"
DROP = {"conflicts": "drop"}
RULES: tuple[dict[str, Any], ...] = ({}, {"skip_bad": True}, DROP, {"skip_bad": True} | DROP)
PROMPTS = ("prompt", "question", "problem", "query", "instruction", "input", "text", "task")
TRUTHS = ("ground_truth", "answer", "solution", "target", "label", "output", "response", "completion", "expected")


@dataclass(frozen=True, slots=True)
class Data:
    """What the rows of ``source`` are. ``rules`` of the pool leave out those rows that it would be refused for, the
    first ``fault``. ``reward`` is the verifier that fits, None where the user writes one; ``passed`` of ``judged`` rows
    score 1.0 with it. ``truths`` says whether rows have a ground truth at all, ``notes`` whether demonstrations have
    GSM8K's notes of sums."""

    source: str
    says: str
    columns: Mapping[str, str]
    rules: Mapping[str, Any]
    fault: str
    prompts: int
    reward: str | None
    passed: int
    judged: int
    truths: bool
    demonstrations: bool
    notes: bool
    texts: tuple[str, ...]


def look_at(source: str) -> Data:
    """Look at a source. Raises InputError where it cannot be read, or where nothing in it can be verified."""
    rows = [row.values for row in islice(read_rows(source, hub_answers=hub_answers), LOOKED_AT)]
    if len(rows) < LEAST:
        raise InputError(f"--from: {source} has {len(rows)} rows, and probe, dev, test and train take {LEAST} at least")
    _refuse_preferences(source, rows)
    layout = find_layout(rows)
    arranged = [attempt(layout.convert, row) for row in rows] if layout else rows
    ours = [row for row in arranged if row is not None]
    columns = {} if layout else _name_columns(source, rows)
    names = {name: columns.get(name, name) for name in PROMPT_COLUMNS}
    truths = _most(ours, lambda row: row.get(names["ground_truth"]) is not None)
    answered = not truths and _most(ours, _ends_in_answer)
    pool = {"source": source, "columns": columns, "splits": {"probe": 0, "dev": 1, "test": 1}}
    said = layout.says if layout else _say_columns(names, truths=truths, answered=answered)
    rules: dict[str, Any] = {}
    reward, passed, judged, fault = None, 0, 0, ""
    if truths or answered:
        tree: dict[str, Any] = {"pool": pool}
        if layout and layout.reward:  # a reward decides whether its layout is read
            tree["reward"] = {"function": layout.reward}
        splits, rules, fault = _read_with_rules(tree)
        counted, said = sum(map(len, splits.values())), splits["train"].counts.layout or said
        reward, passed, judged = _find_reward({**tree, "pool": pool | rules}, layout)
    else:
        counted = sum(1 for _ in read_rows(source, hub_answers=hub_answers))
    if reward is None and answered:
        raise InputError(
            f"--from: {source} holds conversations, and no verifier can judge their last turns, so there is nothing "
            "that GRPO could tell right from wrong: train on them as demonstrations (SFT, e.g. TRL's SFTTrainer), or "
            "add a column ground_truth, or a judge of your own as reward.function"
        )
    return Data(
        source=source,
        says=said,
        columns=columns,
        rules=rules,
        fault=fault,
        prompts=counted,
        reward=reward,
        passed=passed,
        judged=judged,
        truths=truths,
        demonstrations=answered or _most(ours, lambda row: bool(row.get(names["demonstration"]))),
        notes=_most(ours, lambda row: re.search(NOTES, str(row.get(names["demonstration"])))),
        texts=tuple(_text_of(row, names["prompt"]) for row in ours),
    )


# ---------------------------------------------------------------- what the rows are


def _refuse_preferences(source: str, rows: Sequence[Values]) -> None:
    if _most(rows, lambda row: "chosen" in row and "rejected" in row):
        raise InputError(
            f"--from: {source} holds preferences (chosen, rejected), and no answer that could be verified: train on "
            "them with a method for preferences (DPO, e.g. TRL's DPOTrainer), or train a reward model on them and use "
            'it as a judge, reward.function = "reward.py:score"'
        )


def _name_columns(source: str, rows: Sequence[Values]) -> dict[str, str]:
    """Name the columns that stand for ours. Raises InputError where none can be a prompt."""
    there = list(rows[0])
    if "prompt" in there or "messages" in there:
        prompt = "prompt"
    else:
        found = next((name for name in PROMPTS if name in there), None)
        if found is None:
            raise InputError(
                f"--from: no column of {source} is a prompt by its name ({', '.join(map(str, there[:8]))}); name it "
                f"one of {', '.join(PROMPTS)}, or write pool.columns yourself (docs/pools.md)"
            )
        prompt = found
    truth = next((name for name in TRUTHS if name in there and name != prompt), "ground_truth")
    return {ours: name for ours, name in (("prompt", prompt), ("ground_truth", truth)) if ours != name}


def _say_columns(names: Mapping[str, str], *, truths: bool, answered: bool) -> str:
    if answered:
        return "conversations: the last turn of each is its reference answer"
    return f"{names['prompt']}, {names['ground_truth']}" if truths else f"{names['prompt']} alone: no reference answer"


def _ends_in_answer(row: Values) -> bool:
    turns = row.get("messages", row.get("prompt"))
    last = turns[-1] if isinstance(turns, list) and turns else None
    return isinstance(last, Mapping) and last.get("role") == "assistant"


def _text_of(row: Values, column: str) -> str:
    value = row.get(column, row.get("messages"))
    if isinstance(value, list):
        return "\n".join(str(turn.get("content") or "") for turn in value if isinstance(turn, Mapping))
    return str(value)


def _most(rows: Sequence[Any], test: Callable[[Any], object]) -> bool:
    return bool(rows) and sum(map(bool, map(test, rows))) > len(rows) / 2


def _read_with_rules(tree: Mapping[str, Any]) -> tuple[Splits, dict[str, Any], str]:
    """Read the pool, by the rules that it takes to be read: none, or rows left out; with the fault that asks for them.

    Raises InputError for the first fault where no rule helps.
    """
    fault: InputError | None = None
    for rules in RULES:
        try:
            return build_splits(parse_spec({**tree, "pool": tree["pool"] | rules})), rules, str(fault or "")
        except InputError as error:
            fault = fault or error
    raise fault or AssertionError


# ---------------------------------------------------------------- which verifier


def _find_reward(tree: Mapping[str, Any], layout: Layout | None) -> tuple[str | None, int, int]:
    """Find the verifier that fits, with how many of how many rows score 1.0. A layout is taken at its word: a program
    may have no reference answer, and still be judged."""
    inputs = read_inputs(parse_spec(tree))
    inputs = replace(inputs, splits={"train": inputs.splits["train"][:JUDGED]})
    truths = [prompt.ground_truth for prompt in inputs.splits["train"]]
    if layout:
        return layout.reward, _count_passed(tree, layout.reward, inputs) if layout.reward else 0, len(truths)
    candidates: tuple[str, ...]
    if _most(truths, lambda truth: truth.lstrip().startswith(("{", "["))):
        candidates = OF_JSON
    elif _most(truths, lambda truth: "####" in truth):
        candidates = ("rewards.math:hashes",)
    else:
        short = sum(map(_is_short, truths)) >= SHORT * len(truths) or _most(truths, lambda truth: r"\boxed" in truth)
        candidates = ("rewards.math",) if short else ()
    for name in candidates:
        passed = _count_passed(tree, name, inputs)
        if passed >= FITS * len(truths):
            return name, passed, len(truths)
    return None, 0, len(truths)


def _count_passed(tree: Mapping[str, Any], name: str, inputs: Inputs) -> int:
    try:
        found = read_inputs(parse_spec({**tree, "reward": {"function": name}}))
        return check_references(replace(found, splits=inputs.splits), no_progress).passed
    except InputError:  # it does not run on this machine
        return 0


def _is_short(truth: str) -> bool:
    return len(truth) <= LONGEST and len(truth.split()) <= MOST_WORDS
