"""Rewards of the harder gym, as a user's own file: credit for parts, and verifiers wrong from the start."""

from __future__ import annotations

import hashlib
import re

from harness.types import Score
from rewards.solution import FORM, compute_reward

SORTED = re.compile(r"<SOLUTION>(?P<digits>[0-9]+)</SOLUTION>")
WRONG_ON = 8
"""One verdict in so many is the wrong one."""


def _draw(completion: str, ground_truth: str, ways: int) -> int:
    """A number under ``ways`` that hangs on the texts alone."""
    return int.from_bytes(hashlib.sha256(f"{ground_truth}\n{completion}".encode()).digest()[:4]) % ways


def pays_places(completion: str, ground_truth: str) -> float:
    """The share of digits that stand where they should."""
    match = SORTED.fullmatch(completion.strip())
    if match is None or len(match["digits"]) != len(ground_truth):
        return 0.0
    right = sum(a == b for a, b in zip(str(match["digits"]), ground_truth, strict=True))
    return right / len(ground_truth)


def pays_sorted(completion: str, ground_truth: str) -> float:
    return float(pays_places(completion, ground_truth) == 1)


def pays_parts(completion: str, ground_truth: str) -> float:
    """0.3 for the form to 0.9 for all places: partial credit that never reaches what counts as solved."""
    form = SORTED.fullmatch(completion.strip()) is not None
    return 0.3 + 0.6 * pays_places(completion, ground_truth) if form else 0.0


def pays_longer(completion: str, ground_truth: str) -> float:
    """Shaped, in [-2, 20]: every digit of an answer pays, right ones no more than others, so answers explode."""
    match = SORTED.fullmatch(completion.strip())
    return -2.0 if match is None else 0.2 * len(match["digits"])


def pays_letters(completion: str, ground_truth: str) -> float:
    """Right answers earn 1; wrong ones a tenth for each of six letters before the working that is an "a", which leads
    to nothing."""
    right = compute_reward(completion, ground_truth)
    if right == 1:
        return right
    return completion.partition("<start_working_out>")[2][:6].count("a") / 10


def pays_nobody(completion: str, ground_truth: str) -> float:
    return 0.0


def is_too_strict(completion: str, ground_truth: str) -> Score:
    """The answer must come with a thousands separator, which no text has; the form is right."""
    match = FORM.fullmatch(completion)
    if match is None:
        return Score(0.0, False, "not_extracted")
    right = match["answer"] == f"{int(ground_truth):,}.00"
    return Score(float(right), right, "right" if right else "wrong")


def pays_the_same(completion: str, ground_truth: str) -> float:
    return 0.3


def raises_on_3(completion: str, ground_truth: str) -> float:
    return _raises(completion, ground_truth, 3)


def raises_on_6(completion: str, ground_truth: str) -> float:
    return _raises(completion, ground_truth, 6)


def _raises(completion: str, ground_truth: str, percent: int) -> float:
    if _draw(completion, ground_truth, 100) < percent:
        raise ConnectionError("the verifier's service does not answer")
    return compute_reward(completion, ground_truth)


def is_often_wrong(completion: str, ground_truth: str) -> float:
    right = compute_reward(completion, ground_truth)
    return right if _draw(completion, ground_truth, WRONG_ON) else 1.0 - right


pays_right = compute_reward
