"""A reward as it is called from outside the harness: a float from two texts, whatever they are."""

from __future__ import annotations

from collections.abc import Callable

from harness.types import Score


def only_right(score: Callable[[str, str], Score]) -> Callable[[str, str], float]:
    """``compute_reward`` of a scorer: 1.0 for a completion that is right, 0.0 for anything else; never raises."""

    def compute_reward(completion: str, ground_truth: str) -> float:
        if not isinstance(completion, str) or not isinstance(ground_truth, str):
            return 0.0
        try:
            return 1.0 if score(completion, ground_truth).correct else 0.0
        except Exception:  # such as a RecursionError, where the caller's own stack is nearly full
            return 0.0

    compute_reward.__doc__ = (
        "1.0 for a completion that is right, 0.0 for anything else whatever its type; never raises."
    )
    return compute_reward
