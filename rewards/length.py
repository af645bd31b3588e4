"""Brevity: a small component beside a reward that judges the answer. Off unless a spec names it.

    [reward]
    function = ["rewards.math", "rewards.length"]
    weights = [0.9, 1.0]          # at most 0.9 + 0.1
    solved_at = 0.9

At most MOST in all, so at weight 1 the shortest wrong answer stays far below the longest right one. Nothing for a
completion without an answer section (rewards/format.py) with something in it. It cannot know whether the answer is
right: where only right answers should be paid for brevity, gate it in a composite (rewards/composite.py).
"""

from __future__ import annotations

from harness.types import Score
from rewards.format import has_answer

MOST = 0.1
FREE = 200
"""Characters up to which brevity is paid in full."""
LIMIT = 4000
"""Characters from which there is nothing; in between it falls linearly."""


def score(completion: str, ground_truth: str) -> Score:
    """Score the length of a completion, 0.0 to MOST; never correct. Reason codes: short, long, no_answer."""
    length = len(completion)
    if not has_answer(completion):
        return Score(0.0, False, "no_answer", {"brevity": 0.0})
    share = min(1.0, max(0.0, (LIMIT - length) / (LIMIT - FREE)))
    return Score(MOST * share, False, "short" if share else "long", {"brevity": share})


def compute_reward(completion: str, ground_truth: str) -> float:
    """The brevity of a completion with an answer, 0.0 for anything else whatever its type; never raises."""
    if not isinstance(completion, str) or not isinstance(ground_truth, str):
        return 0.0
    return score(completion, ground_truth).reward or 0.0
