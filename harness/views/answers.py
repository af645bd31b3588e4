"""Whatever answered the same prompts, side by side: models, stages of a group, services, records. Pure.

build_answer_comparison([base, tuned], graded=False)     # one document: each alone, and what each gained and forgot
list_rows(document)                                      # a row of a CSV for each
describe_verdict(document)                               # in a sentence
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from harness.core.formatting import shorten
from harness.core.statistics import (
    ALIKE,
    collect_answers,
    collect_scores,
    compute_moves,
    compute_pass_at,
    summarise,
)
from harness.core.step_metrics import reason_of
from harness.errors import InputError
from harness.types import Answer, Completion, Example

ANSWERS_TOLD = 5
"""Prompts forgotten, and as many gained, that are shown to people."""
TEXT = 400
"""Characters of a prompt or an answer, at most."""
LOOP = re.compile(r"(.{3,40}?)\1{4,}\s*\Z", re.DOTALL)
"""A text that ends in the same few characters five times or more."""
END = 400
"""Characters in which such an end shows."""
SCORES = ("accuracy", "reward")
METRICS = {"accuracy": "accuracy", "reward": "mean reward"}
WORDS = {"better": "better", "worse": "worse", "unclear": "no clear difference"}
COUNTS = ("truncated", "empty", "repeated", "identical", "errored")
PROPORTIONS = ("thinking_proportion", "answer_proportion")


@dataclass(frozen=True, slots=True)
class Answered:
    """What ``who`` answered to each of some prompts, scored; ``name`` is how it was asked for.

    ``parent`` is the name of the model that it was trained from, where that is compared too. The proportions are the
    shares of answers with a thinking and an answer section; ``more`` goes into the document as it is.
    """

    name: str
    who: str
    examples: tuple[Example, ...]
    thinking_proportion: float
    answer_proportion: float
    parent: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


def build_answer_comparison(all_answered: Sequence[Answered], *, graded: bool, split: str = "") -> dict[str, Any]:
    """Build the document of ``grpo compare --json`` of whoever answers; the first is the reference.

    Each other is compared with the first, and with its parent where that is another. ``graded`` says that the mean
    reward and not the accuracy tells what was forgotten. ``fell`` says that an accuracy or a mean reward fell beyond
    its interval against the first. Raises InputError when they answer other prompts, or none in common.
    """
    first, *others = all_answered
    by_name = {answered.name: answered for answered in all_answered}
    against_first = [_compare(first, other, graded=graded) for other in others]
    against_parent = [
        _compare(by_name[other.parent], other, graded=graded)
        for other in others
        if other.parent in by_name and other.parent not in (first.name, other.name)
    ]
    return {
        "reference": first.name,
        "metric": "reward" if graded else "accuracy",
        "split": split,
        "answerers": [_tell(answered) for answered in all_answered],
        "differences": against_first + against_parent,
        "fell": any(found[score]["verdict"] == "worse" for found in against_first for score in SCORES),
        "notes": [],
    }


def _tell(answered: Answered) -> dict[str, Any]:
    found = summarise("", answered.examples)
    done = [example for example in answered.examples if is_answer(example.completion)]
    tokens = [example.completion.tokens for example in done]
    texts = [example.completion.text for example in done]
    rewarded = len(found.errors) < len(answered.examples)
    return {
        "name": answered.name,
        "who": answered.who,
        "from": answered.parent,
        **answered.more,
        "n": found.n,
        "completions": len(answered.examples),
        "accuracy": found.accuracy,
        "ci95": list(found.ci95),
        "reward": found.reward if rewarded else None,
        "reward_ci95": list(found.reward_ci95) if rewarded else None,
        "pass_at": {str(rate.k): {"value": rate.value, "ci95": [rate.low, rate.high]} for rate in found.pass_at},
        "thinking_proportion": answered.thinking_proportion,
        "answer_proportion": answered.answer_proportion,
        "tokens": fmean(tokens) if any(tokens) else None,  # rows that hold answers do not say
        "truncated": sum(example.completion.truncated for example in done),
        "empty": sum(not text.strip() for text in texts),
        "repeated": sum(bool(LOOP.search(text[-END:])) for text in texts),
        "identical": _count_identical(done),
        "errored": len(found.errors),
        "error": found.errors[0] if found.errors else "",
    }


def is_answer(completion: Completion) -> bool:
    """Tell an answer, judged or not, from one that never came."""
    return bool(completion.text) or not completion.score.errored


def _count_identical(examples: Sequence[Example]) -> int:
    """Count the answers whose text another prompt was answered with too."""
    prompts: dict[str, set[str]] = {}
    for example in examples:
        prompts.setdefault(example.completion.text, set()).add(example.prompt.id)
    return sum(len(prompts[example.completion.text]) > 1 for example in examples)


def _compare(before: Answered, after: Answered, *, graded: bool) -> dict[str, Any]:
    old, new = collect_answers(before.examples), collect_answers(after.examples)
    common = old.keys() & new.keys()
    if len(common) < ALIKE * max(len(old), len(new)):
        raise InputError(
            f"{after.name} answers other prompts than {before.name}: {len(common):,} in common, of {len(new):,} and "
            f"{len(old):,}; ask for the same split or rows"
        )
    both = sorted(prompt for prompt in common if old[prompt].n and new[prompt].n)
    if not both:
        raise InputError(f"{after.name} and {before.name} have no prompt that both answered: all others are errors")
    score = _reward if graded else _share
    changed = {prompt: score(new[prompt]) - score(old[prompt]) for prompt in both}
    examples = {"before": _choose_examples(before), "after": _choose_examples(after)}

    def tell(prompts: list[str]) -> list[dict[str, Any]]:
        scores = {"before": old, "after": new}
        return [
            {
                "prompt_id": prompt,
                "prompt": shorten(examples["after"][prompt].prompt.text, TEXT),
                "ground_truth": shorten(examples["after"][prompt].prompt.ground_truth, TEXT),
                **{
                    when: {"score": score(scores[when][prompt]), **_tell_example(examples[when][prompt])}
                    for when in scores
                },
            }
            for prompt in prompts
        ]

    found: dict[str, Any] = {
        "name": after.name,
        "against": before.name,
        "n": len(both),
        "left_out": len(old.keys() | new.keys()) - len(both),
        "accuracy": _difference([(_share(old[p]), _share(new[p])) for p in both]),
        "reward": _difference([(_reward(old[p]), _reward(new[p])) for p in both]),
        "forgotten": tell(sorted((p for p in both if changed[p] < 0), key=changed.__getitem__)),
        "gained": tell(sorted((p for p in both if changed[p] > 0), key=changed.__getitem__, reverse=True)),
    }
    asked = [{p: len(scores) for p, scores in collect_scores(each.examples).items()} for each in (before, after)]
    if (k := min(min(sizes.values()) for sizes in asked)) > 1:
        rates = [
            (compute_pass_at(k, old[p].correct, asked[0][p]), compute_pass_at(k, new[p].correct, asked[1][p]))
            for p in both
        ]
        found["pass_at"] = {"k": k, **_difference(rates)}
    return found


def _share(answer: Answer) -> float:
    return answer.correct / answer.n


def _reward(answer: Answer) -> float:
    return answer.reward or 0.0  # those that were judged have one


def _difference(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    before, after = ([pair[i] for pair in pairs] for i in (0, 1))
    moved = compute_moves([b - a for a, b in pairs])
    return {"from": sum(before) / len(pairs), "to": sum(after) / len(pairs), **moved.document}


def _choose_examples(answered: Answered) -> dict[str, Example]:
    """Choose of each prompt the first completion that was judged."""
    judged = [example for example in answered.examples if not example.completion.score.errored]
    return {example.prompt.id: example for example in reversed(judged)}


def _tell_example(example: Example) -> dict[str, Any]:
    done = example.completion
    return {"reason": reason_of(done.score.reason, done.truncated), "answer": _tail(done.text)}


def _tail(text: str) -> str:
    """Keep the end of an answer, where what it says stands."""
    line = " ".join(text[-4 * TEXT :].split())
    return line if len(line) <= TEXT and len(text) <= 4 * TEXT else f"...{line[3 - TEXT :]}"


# ---------------------------------------------------------------- for people


def find_best(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find who has the highest score, the first of equal ones."""
    found: Mapping[str, Any] = max(document["answerers"], key=lambda one: one[document["metric"]] or 0.0)
    return found


def describe_best(document: Mapping[str, Any]) -> str:
    """Name who has the highest score in a few words."""
    metric, best = document["metric"], find_best(document)
    return f"Highest {METRICS[metric]}: {best['name']}, {best[metric] or 0.0:.3f}"


def describe_verdict(document: Mapping[str, Any]) -> str:
    """Say in a sentence how each other stands against the first, and against its parent, and how much it forgot."""
    first, parents = [], []
    for found in document["differences"]:
        moved = found[document["metric"]]
        forgot = f", {len(found['forgotten']):,} forgotten" if found["forgotten"] else ""
        said = f"{WORDS[moved['verdict']]} ({moved['difference']:+.3f}{forgot})"
        if found["against"] == document["reference"]:
            first.append(f"{found['name']} {said}")
        else:
            parents.append(f"{found['name']} against its parent {found['against']} {said}")
    n = document["answerers"][0]["n"]
    head = f"By {METRICS[document['metric']]} on {n:,} prompts, against {document['reference']}: {', '.join(first)}"
    return "; ".join([head, *parents])


def list_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List a row of a CSV for each that is compared, with the same columns whatever they are."""
    rows = []
    for one in document["answerers"]:
        differences = [found for found in document["differences"] if found["name"] == one["name"]]
        rows.append(
            {
                "name": one["name"],
                "group": document.get("group", ""),
                "seed": document.get("seed", ""),
                "from": one["from"] or "",
                "who": one["who"],
                "n": one["n"],
                "completions": one["completions"],
                **_with_interval("accuracy", one["accuracy"], one["ci95"]),
                **_with_interval("reward", one["reward"], one["reward_ci95"]),
                **{name: one[name] for name in (*PROPORTIONS, "tokens", *COUNTS)},
                **_difference_cells("first", [found for found in differences if found["against"] != one["from"]]),
                **_difference_cells("parent", [found for found in differences if found["against"] == one["from"]]),
            }
        )
        if one["from"] == document["reference"]:  # which is both
            rows[-1] |= _difference_cells("first", differences)
    return rows


def _with_interval(name: str, value: float | None, interval: Sequence[float] | None) -> dict[str, Any]:
    low, high = interval or ("", "")
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _difference_cells(which: str, differences: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = differences[0] if differences else None
    cells: dict[str, Any] = {f"against_{which}": found["against"] if found else ""}
    for score in SCORES:
        moved: Mapping[str, Any] = found[score] if found else {"difference": None, "ci95": None, "verdict": ""}
        cells |= _with_interval(f"{score}_against_{which}", moved["difference"], moved["ci95"])
        cells[f"{score}_verdict_against_{which}"] = moved["verdict"]
    for word in ("gained", "forgotten", "left_out"):
        count = "" if found is None else found[word] if word == "left_out" else len(found[word])
        cells[f"{word}_against_{which}"] = count
    return cells
