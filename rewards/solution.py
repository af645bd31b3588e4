"""Exact answers inside ``<SOLUTION>`` tags, after a ``<start_working_out>`` section.

1.0 for the right answer in the right form, 0.1 for a well-formed wrong one, else 0.0. The form is
strict on purpose: each tag once, in order, nothing after the last (any looseness would be learned).
"""

from __future__ import annotations

import re

from harness.types import Score

FORM = re.compile(
    r"\s*<start_working_out>(?P<working>[^<>]*)<end_working_out>\s*<SOLUTION>(?P<answer>[^<>]*)</SOLUTION>\s*"
)
WELL_FORMED = 0.1


def score(completion: str, ground_truth: str) -> Score:
    """Score one completion; reason codes: right, wrong, not_extracted, no_working, empty_answer."""
    match = FORM.fullmatch(completion)
    if match is None:
        return Score(0.0, False, "not_extracted", {"exact": 0.0, "format": 0.0})
    answer = match["answer"].strip()
    if not answer:
        return Score(0.0, False, "empty_answer", {"exact": 0.0, "format": 0.0})
    if not match["working"].strip():
        return Score(0.0, False, "no_working", {"exact": 0.0, "format": 0.0})
    if answer == ground_truth.strip():
        return Score(1.0, True, "right", {"exact": 1.0, "format": 1.0})
    return Score(WELL_FORMED, False, "wrong", {"exact": 0.0, "format": 1.0})


def compute_reward(completion: str, ground_truth: str) -> float:
    """1.0 for the right answer in the right form, 0.0 for anything else whatever its type; never raises."""
    if not isinstance(completion, str) or not isinstance(ground_truth, str):
        return 0.0
    return 1.0 if score(completion, ground_truth).correct else 0.0
