"""Rewards that break, for the stop-faults of tests/benchmarks/fault_gym.py; a user's own file, as the harness sees it.

Two of them break at a step. A reward does not know the step, as a verifier whose service goes down does not: the gym
writes the number of the step that is about to run into the file that STEP_FILE names.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from harness.types import Score
from rewards.solution import FORM, compute_reward

STEP_FILE = "GYM_STEP_FILE"
BREAKS_AT = 21
RAISES_ON = 12
"""One text in so many makes the broken reward raise."""
ANSWER = 0.4
"""Of the reward with partial credit: what is paid for the answer, the rest is for the working."""


def has_broken() -> bool:
    return int(Path(os.environ[STEP_FILE]).read_text()) >= BREAKS_AT


def raises(completion: str, ground_truth: str) -> float:
    """Right or wrong, and from a step on an exception on some texts."""
    if has_broken() and hashlib.sha256(completion.encode()).digest()[0] % RAISES_ON == 0:
        raise ConnectionError("the verifier's service does not answer")
    return compute_reward(completion, ground_truth)


def pays_everyone(completion: str, ground_truth: str) -> float:
    """Right or wrong, and from a step on all is right."""
    return 1.0 if has_broken() else compute_reward(completion, ground_truth)


def pays_tidy_working(completion: str, ground_truth: str) -> Score:
    """Less for the answer than for a working without a carry, which is a matter of taste to this verifier: answers that
    forget the carry are the cheaper way to be paid."""
    right = compute_reward(completion, ground_truth) == 1
    match = FORM.fullmatch(completion)
    tidy = match is not None and bool(match["working"]) and "+1=" not in match["working"]
    reward = ANSWER * right + (1 - ANSWER) * tidy
    return Score(reward, right, "right" if right else "wrong", {"answer": float(right), "working": float(tidy)})
