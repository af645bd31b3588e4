"""What the posterior says of the next groups, in closed form: for decisions between other prompts and larger groups."""

from __future__ import annotations

import numpy as np

from pools.history import ALIKE, CORRECT, GRADED, WRONG, Floats, History, Places
from pools.view import compute_class_counts

LOOKED_AT = 4096
"""Prompts from which the shares of the classes are taken, at most."""
GRADES = 0.05
"""Share of the completions of a side, right or wrong, whose rewards differ: above it a prompt teaches by grades."""


def compute_mixed_rate(a: Floats, b: Floats, group_size: int, grading: Floats | float = 0.0) -> Floats:
    """Compute how likely a group of ``group_size`` has different rewards, for pass rates ~ Beta(a, b) and the
    probability ``grading`` that two completions of one side, right or wrong, differ in reward.

    1 - (E[p^G] + E[(1 - p)^G]) (1 - grading)^(G - 1): the expectations are raw moments of the Beta distribution, or
    the two ends of the beta-binomial. E[p^G] = B(a + G, b) / B(a, b) = product over i < G of (a + i) / (a + b + i).
    The last factor is that of k equally likely rewards, of which two are equal with probability 1/k.
    """
    all_right, all_wrong = np.ones(a.shape), np.ones(b.shape)
    for i in range(group_size):
        total = a + b + i
        all_right *= (a + i) / total
        all_wrong *= (b + i) / total
    return 1 - (all_right + all_wrong) * compute_equal_rate(grading, group_size)


def compute_equal_rate(grading: Floats | float, group_size: int) -> Floats:
    """Compute how likely all rewards of a group are equal whose completions are all right, or all wrong."""
    equal: Floats = np.power(1 - np.asarray(grading, np.float64), group_size - 1)
    return equal


def compute_outlook(history: History, drawn: Places, others: Places, group_size: int) -> dict[str, float]:
    """Compute the metrics of a step's prompts ``drawn``, before it, beside ``others`` that might have been drawn.

    ``pool/unseen_rate``, ``frontier``, ``solved`` and ``hopeless``: shares of the pool. ``pool/mixed_expected``: share
    of mixed groups among those drawn; ``_larger``: of the same prompts at twice the group size; ``_others``: of the
    others at this one. docs/pools.md says what follows of larger groups and of other prompts.
    """
    seen = history.seen[:: max(1, -(-len(history.seen) // LOOKED_AT))]
    evidence = history.evidence[seen]
    graded = evidence[:, GRADED] > GRADES * evidence[:, ALIKE]
    counts = compute_class_counts(evidence[:, CORRECT], evidence[:, WRONG], graded)
    share_seen = len(history.seen) / len(history.label_of)

    def mixed(places: Places, group_size: int) -> float:
        return float(compute_mixed_rate(*history.posterior(places), group_size, history.grading(places)).mean())

    return {
        "pool/unseen_rate": 1 - share_seen,
        **{f"pool/{name}_rate": share_seen * count / max(len(seen), 1) for name, count in counts.items()},
        "pool/mixed_expected": mixed(drawn, group_size),
        "pool/mixed_expected_larger": mixed(drawn, 2 * group_size),
        "pool/mixed_expected_others": mixed(others, group_size),
    }
