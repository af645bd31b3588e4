"""What is wrong with a run, from its snapshot: the middle columns of the table in docs/decisions.md.

A detector looks at the steps since the last change, so it judges the present knobs; with fewer than it needs it says so
(severity ``unknown``). Severities: ``severe`` cannot wait, ``warning`` wants an answer, ``note`` is worth knowing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.types import Finding, Snapshot
from policies.detectors.groups import (
    DRY_STEPS,
    find_flat,
    find_large_groups,
    find_no_middle,
    find_no_signal,
    find_poor_prompts,
    find_small_groups,
    find_solved,
    find_unsolved,
)
from policies.detectors.reward import find_errored, find_gamed, find_pays_everyone, find_proxy_only
from policies.detectors.signs import MIN_STEPS, MIN_TREND, SEVERITIES, Sign
from policies.detectors.supervised import find_no_gain
from policies.detectors.texts import (
    find_chaos,
    find_collapse,
    find_cut_but_paid,
    find_entropy_explosion,
    find_length_inflation,
    find_never_ends,
    find_temperature,
    find_truncation,
)
from policies.detectors.updates import (
    STILL_STEPS,
    SWING_STEPS,
    UNSTABLE_STEPS,
    find_anchored,
    find_dev_drop,
    find_gradient_spike,
    find_instability,
    find_kl_spike,
    find_learning_rate,
    find_no_op_learning_rate,
    find_not_finite,
    find_oscillation,
    find_plateau,
    find_reward_drop,
    find_slow_sampling,
)
from policies.view import NotLogged, View


def detect(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Find what is wrong, the most severe first and within a severity in the order of DETECTORS; what could not be
    judged yet comes last."""
    view = View(snapshot)
    detectors = SUPERVISED if snapshot.run.kind == "sft" else DETECTORS
    signs = {kind: _ask(needs, look, view) for kind, (needs, look) in detectors.items()}
    found = [Finding(kind, *sign) for kind, sign in signs.items() if sign is not None]
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))


def _ask(needs: int, look: Callable[[View], Sign | None], view: View) -> Sign | None:
    steps = view.since
    why = f"{len(steps)} of {needs} steps needed"
    if len(steps) >= needs:
        try:
            return look(view)
        except NotLogged as missing:
            why = f"not logged: {missing}"
    first, last = (steps[0].step, steps[-1].step) if steps else (view.next_step, view.next_step)
    return Sign("unknown", why, 0.0, first, last)


DETECTORS: Mapping[str, tuple[int, Callable[[View], Sign | None]]] = {
    "errored": (1, find_errored),
    "pays_everyone": (1, find_pays_everyone),
    "gamed": (MIN_STEPS, find_gamed),
    "proxy_only": (DRY_STEPS, find_proxy_only),
    "dev_drop": (0, find_dev_drop),
    "not_finite": (0, find_not_finite),
    "truncation": (2, find_truncation),
    "never_ends": (2, find_never_ends),
    "cut_but_paid": (MIN_STEPS, find_cut_but_paid),
    "entropy_explosion": (MIN_STEPS, find_entropy_explosion),
    "chaos": (MIN_STEPS, find_chaos),
    "collapse": (MIN_STEPS, find_collapse),
    "kl_spike": (2, find_kl_spike),
    "length_inflation": (MIN_STEPS, find_length_inflation),
    "oscillation": (SWING_STEPS, find_oscillation),
    "gradient_spike": (1, find_gradient_spike),
    "reward_drop": (MIN_TREND, find_reward_drop),
    "instability": (UNSTABLE_STEPS, find_instability),
    "temperature": (MIN_STEPS, find_temperature),
    "poor_prompts": (MIN_STEPS, find_poor_prompts),
    "unsolved": (DRY_STEPS, find_unsolved),
    "flat": (DRY_STEPS, find_flat),
    "solved": (MIN_STEPS, find_solved),
    "no_middle": (MIN_STEPS, find_no_middle),
    "small_groups": (MIN_STEPS, find_small_groups),
    "large_groups": (DRY_STEPS, find_large_groups),
    "anchored": (MIN_STEPS, find_anchored),
    "learning_rate": (1, find_learning_rate),
    "no_op_learning_rate": (STILL_STEPS, find_no_op_learning_rate),
    "plateau": (0, find_plateau),
    "no_signal": (DRY_STEPS, find_no_signal),
    "slow_sampling": (1, find_slow_sampling),
}
"""By kind: how many steps under the present knobs a detector needs, and the function that is asked then."""

SUPERVISED: Mapping[str, tuple[int, Callable[[View], Sign | None]]] = {
    "dev_drop": (0, find_dev_drop),
    "not_finite": (0, find_not_finite),
    "plateau": (0, find_no_gain),
}
"""The same of a run of kind sft, which has no groups and no rewards."""
