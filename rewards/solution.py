"""Exact answers inside ``<SOLUTION>`` tags, after a ``<start_working_out>`` section.

1.0 for the right answer in the right form, 0.1 for a well-formed wrong one, else 0.0. The form is
strict on purpose: each tag once, in order, nothing after the last (any looseness would be learned).
"""

from __future__ import annotations

import re

from harness.types import Score
from rewards.format import is_cut_in_thinking
from rewards.outside import only_right

FORM = re.compile(
    r"\s*<start_working_out>(?P<working>[^<>]*)<end_working_out>\s*<SOLUTION>(?P<answer>[^<>]*)</SOLUTION>\s*"
)
WELL_FORMED = 0.1


def score(completion: str, ground_truth: str) -> Score:
    """Score one completion; reason codes: right, wrong, not_extracted, cut_in_thinking, no_working, empty_answer."""
    match = FORM.fullmatch(completion)
    if match is None:
        cut = "<SOLUTION>" not in completion and is_cut_in_thinking(completion)
        reason = "cut_in_thinking" if cut else "not_extracted"
        return Score(0.0, False, reason, {"exact": 0.0, "format": 0.0})
    answer = match["answer"].strip()
    if not answer:
        return Score(0.0, False, "empty_answer", {"exact": 0.0, "format": 0.0})
    if not match["working"].strip():
        return Score(0.0, False, "no_working", {"exact": 0.0, "format": 0.0})
    if answer == final_answer(ground_truth):
        return Score(1.0, True, "right", {"exact": 1.0, "format": 1.0})
    return Score(WELL_FORMED, False, "wrong", {"exact": 0.0, "format": 1.0})


compute_reward = only_right(score)


def final_answer(ground_truth: str) -> str:
    """The answer that a ground truth gives: all of it, or that of a completion in the right form."""
    match = FORM.fullmatch(ground_truth)
    return (match["answer"] if match else ground_truth).strip()


def check_ground_truth(ground_truth: str) -> str | None:
    """Why a row cannot be trained on, None when it can."""
    answer = final_answer(ground_truth)
    if "####" in answer or "\\boxed" in answer:
        return (
            "the ground truth is a worked solution, and rewards.solution compares text: take "
            f"{'rewards.math:hashes' if '####' in answer else 'rewards.math'}, which reads its answer"
        )
    return "no answer may have < or > in it, and this ground truth has" if "<" in answer or ">" in answer else None
