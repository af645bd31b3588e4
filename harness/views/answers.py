"""Two evaluations of the same prompts by whoever answered, side by side: what the later one gained and forgot. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from harness.types import Answer, Example

TOLD = 5
"""Prompts forgotten, and as many gained, that are shown to people."""
TEXT = 400
"""Characters of a prompt or an answer, at most."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What ``who`` answered to each of some prompts, scored; ``name`` is how it was asked for."""

    name: str
    who: str
    examples: tuple[Example, ...]


def build_answer_comparison(all_answered: Sequence[Answered], *, graded: bool) -> dict[str, Any]:
    """Build the document of ``grpo compare recorded:OLD recorded:NEW --json``; the first is the reference.

    ``graded`` says that the mean reward and not the accuracy tells what was forgotten. ``fell`` says that an accuracy
    or a mean reward fell beyond its interval. Raises InputError when they answer other prompts, or none in common.
    """
    first, *others = all_answered
    differences = [_compare(first, other, graded=graded) for other in others]
    return {
        "reference": first.name,
        "metric": "reward" if graded else "accuracy",
        "answerers": [_tell(answered) for answered in all_answered],
        "differences": differences,
        "fell": any(found[score]["verdict"] == "worse" for found in differences for score in ("accuracy", "reward")),
    }


def _tell(answered: Answered) -> dict[str, Any]:
    found = summarise("", answered.examples)
    return {
        "answerer": answered.name,
        "who": answered.who,
        "n": found.n,
        "completions": len(answered.examples),
        "errored": len(found.errors),
        "error": found.errors[0] if found.errors else "",
        "accuracy": found.accuracy,
        "ci95": list(found.ci95),
        "reward": found.reward,
        "reward_ci95": list(found.reward_ci95),
        "pass_at": {str(rate.k): {"value": rate.value, "ci95": [rate.low, rate.high]} for rate in found.pass_at},
    }


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
        "answerer": after.name,
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
