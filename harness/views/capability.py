"""What training did to what the model can do at all: added to it, or made likelier what it could do before.

Pass@1 says how often an answer is right, pass@k whether one of k is. Where pass@1 rises and pass@k does not, the model
answers more surely what it could solve already (Yue et al. 2025, arXiv 2504.13837).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from harness.core.statistics import Difference, compare_answers, describe_interval
from harness.types import EvaluationRecord, History

Verdict = Literal["added", "concentrated", "narrowed", "lost", "rarer", "unclear"]
Counts = Mapping[str, tuple[int, int]]
"""How many completions of each prompt were correct, and how many judged."""
SAID: Mapping[Verdict, str] = {
    "added": "Training added capability: pass@{k} rose",
    "concentrated": "Training concentrated capability: pass@1 rose, pass@{k} without clear change",
    "narrowed": "Training narrowed capability: pass@1 rose, pass@{k} fell",
    "lost": "Training lost capability: pass@{k} fell",
    "rarer": "Training made right answers rarer: pass@1 fell, pass@{k} without clear change",
    "unclear": "Training made no clear change of capability",
}
PLACES = {"best": "the best checkpoint", "final": "the end"}


def build_pass_at(history: History, best_step: int | None, last: int) -> dict[str, Any] | None:
    """Build what a review says of pass@k, None where each prompt of an evaluation had one completion.

    ``k`` is the number of completions of each prompt; ``baseline``, ``best`` and ``final`` have the rates of the test
    split by k, ``dev`` pass@k by step, and ``training`` what changed since the baseline, at the best checkpoint and at
    the end.
    """
    looks = [look for look in history.evaluations if look.pass_at]
    if not looks:
        return None
    test = {look.step: look for look in looks if look.split == "test"}
    steps = {"baseline": history.era_start, "best": best_step, "final": last}
    places = {which: step for which, step in steps.items() if step in test}
    return {
        "k": looks[-1].pass_at[-1].k,
        "split": "test",
        **{which: _tell_rates(test[places[which]]) if which in places else None for which in steps},
        "dev": {"by_step": {str(look.step): look.pass_at[-1].value for look in looks if look.split == "dev"}},
        "training": {
            which: _compare(history, test, places["baseline"], places[which])
            if {"baseline", which} <= places.keys() and places[which] != places["baseline"]
            else None
            for which in PLACES
        },
    }


def _tell_rates(look: EvaluationRecord) -> dict[str, dict[str, Any]]:
    return {str(rate.k): {"value": rate.value, "ci95": [rate.low, rate.high]} for rate in look.pass_at}


def _compare(history: History, test: Mapping[int, EvaluationRecord], start: int, step: int) -> dict[str, Any] | None:
    """Compare two evaluations prompt by prompt; None where no prompt could be judged in both."""
    before, after = history.counts.get(start, {}), history.counts.get(step, {})
    if not before.keys() & after.keys():
        return None
    one = compare_answers(_compute_shares(before), _compute_shares(after)).difference
    most = compare_answers(_find_solved(before), _find_solved(after)).difference
    rates = zip(("pass_1", "pass_k"), (one, most), (0, -1), strict=True)
    return {
        "step": step,
        "from_step": start,
        "verdict": judge_capability(one, most),
        **{
            name: {"from": test[start].pass_at[i].value, "to": test[step].pass_at[i].value, **found.document}
            for name, found, i in rates
        },
    }


def _compute_shares(counts: Counts) -> dict[str, float]:
    return {prompt: correct / n for prompt, (correct, n) in counts.items()}


def _find_solved(counts: Counts) -> dict[str, float]:
    return {prompt: float(correct > 0) for prompt, (correct, _) in counts.items()}


def judge_capability(pass_1: Difference, pass_k: Difference) -> Verdict:
    """Judge what training did by the changes of pass@1 and pass@k: only what lies beyond the interval counts."""
    match pass_1.verdict, pass_k.verdict:
        case _, "better":
            return "added"
        case "better", "worse":
            return "narrowed"
        case _, "worse":
            return "lost"
        case "better", _:
            return "concentrated"
        case "worse", _:
            return "rarer"
    return "unclear"


def describe_rates(pass_at: Mapping[str, Any] | None) -> str:
    """Say the rates of the test split: ``test pass@1 and pass@8: 0.210 and 0.483 at the start, 0.409 and 0.742 at the
    end``; "" where there are none."""
    if pass_at is None:
        return ""
    k = pass_at["k"]
    told = [
        f"{rates['1']['value']:.3f} and {rates[str(k)]['value']:.3f} at {place}"
        for which, place in {"baseline": "the start", **PLACES}.items()
        if (rates := pass_at[which])
    ]
    return f"test pass@1 and pass@{k}: {', '.join(told)}" if told else ""


def describe_training(pass_at: Mapping[str, Any] | None) -> list[str]:
    """Say it in a sentence for the best checkpoint and one for the end, those that there are."""
    lines = []
    told = set()
    for which, place in PLACES.items():
        found = pass_at["training"][which] if pass_at else None
        if pass_at and found and found["step"] not in told:
            told.add(found["step"])
            rates = "; ".join(
                f"pass@{k} {found[name]['from']:.3f} -> {found[name]['to']:.3f}, {describe_interval(found[name])}"
                for name, k in (("pass_1", 1), ("pass_k", pass_at["k"]))
            )
            said = SAID[found["verdict"]].format(k=pass_at["k"])
            lines.append(f"{said}, at {place} (step {found['step']}): {rates}")
    return lines
