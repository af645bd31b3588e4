"""The models of a group side by side, scored on the same prompts: what each stage gained, and what it forgot. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from harness.core.statistics import compare_answers, compute_wilson

LOOP = re.compile(r"(.{3,40}?)\1{4,}\s*\Z", re.DOTALL)
"""A text that ends in the same few characters five times or more."""
Row = Mapping[str, str]


def build_group_comparison(
    group: str, models: Sequence[Mapping[str, Any]], scores: Mapping[str, Sequence[Row]]
) -> dict[str, Any]:
    """Build the document of ``grpo compare GROUP --json``. ``models`` have ``name`` and ``from``, the base first;
    ``scores`` the rows of their CSV, of those that were scored."""
    found = [{**model, **_describe(model, scores)} if model["name"] in scores else dict(model) for model in models]
    return {"group": group, "split": "test", "models": found}


def _describe(model: Mapping[str, Any], scores: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    rows = scores[model["name"]]
    n, right = len(rows), sum(row["correct"] == "1" for row in rows)
    texts = Counter(row["completion"] for row in rows)
    rewards = [float(row["reward"]) for row in rows if row["reward"]]
    base = next(iter(scores))
    return {
        "n": n,
        "accuracy": right / n,
        "ci95": list(compute_wilson(right, n)),
        "reward": fmean(rewards) if rewards else None,
        "thinking_proportion": fmean(int(row["thinking"]) for row in rows),
        "answer_proportion": fmean(int(row["answer"]) for row in rows),
        "tokens": fmean(int(row["tokens"]) for row in rows),
        "truncated": sum(row["truncated"] == "1" for row in rows),
        "empty": sum(not row["completion"].strip() for row in rows),
        "repeated": sum(bool(LOOP.search(row["completion"])) for row in rows),
        "identical": sum(count for text, count in texts.items() if count > 1),
        "against_base": _compare(scores.get(base), rows) if model["name"] != base else None,
        "against_parent": _compare(scores.get(str(model["from"])), rows) if model["from"] else None,
    }


def _compare(before: Sequence[Row] | None, after: Sequence[Row]) -> dict[str, Any] | None:
    """Compare prompt by prompt; ``forgotten`` are the ids of prompts that were right before and are wrong now."""
    if before is None:
        return None
    old, new = ({row["id"]: float(row["correct"]) for row in rows} for rows in (before, after))
    found = compare_answers(old, new)
    forgotten = [prompt for prompt, was in old.items() if was and not new.get(prompt, 0.0)]
    return {**found.difference.document, "gained": found.gained, "forgotten": forgotten}
