"""What to suspect where nothing has signal, likeliest first: in words for the person who is asked to look."""

from __future__ import annotations

import math
from statistics import fmean

from policies.detectors.groups import DRY_NIGHT, NO_MIDDLE_SIDE
from policies.detectors.signs import TRUNCATED
from policies.detectors.texts import find_vain_rises
from policies.view import View

FORMLESS = ("not_extracted", "no_working", "empty_answer")
"""Reason codes of completions that ended without an answer to judge."""
MANY = 0.5
DIFFERENT = 0.3
"""Share of different texts in a group, from which on equal rewards are the reward's doing."""
EQUAL = 1e-6


def find_suspects(view: View) -> list[str]:
    """Name what may keep all groups without signal, and what to do about each; what the steps show clearest first, data
    and model last."""
    steps = view.snapshot.steps[-DRY_NIGHT:]

    def mean(metric: str, unknown: float = 0.0) -> float:
        return fmean(step.metrics.get(metric, unknown) for step in steps)

    # Of what is not logged nothing is suspected.
    cut, right = mean("completion/truncated_rate"), mean("completion/correct_rate", MANY)
    differ = mean("completion/distinct_rate", math.nan)
    formless = sum(mean(f"reason/{name}") for name in FORMLESS)
    shown: dict[str, float] = {}
    if cut >= TRUNCATED and find_vain_rises(view):
        shown[
            f"the model never ends: {cut:.0%} of the completions are cut at any max_tokens; give trainer.stop, the EOS "
            "token or a warm start"
        ] = cut
    elif cut >= TRUNCATED:
        shown[
            f"max_tokens: {cut:.0%} of the completions are cut at {view.knobs.max_tokens} tokens; raise it and its "
            "upper bound"
        ] = cut
    if formless >= MANY:
        shown[
            f"form: {formless:.0%} of the completions have no answer in the form the reward asks for; say the form in "
            "pool.system_prompt, or show it with a supervised start (warmstart.steps)"
        ] = formless
    elif differ >= DIFFERENT and right < MANY and cut < MANY and mean("reward/std") < EQUAL:
        formed = 1 - formless - mean("reason/truncated") - mean("reason/cut_in_thinking")
        # Where not one lacks an answer the reward may not look at the form at all.
        told = f" and {formed:.0%} have the right form" if formless else ""
        shown[
            f"reward too strict: {differ:.0%} of the texts of a group differ{told}, yet all earn the same; grade "
            "partly right answers"
        ] = formed
    if differ < DIFFERENT:
        shown[f"samples: only {differ:.0%} of the texts of a group differ; raise the temperature"] = 1 - differ
    zero, one = mean("group/all_zero_rate"), mean("group/all_one_rate")
    if min(zero, one) >= NO_MIDDLE_SIDE:
        shown[
            f"data: prompts are of two kinds, {zero:.0%} of the groups all wrong and {one:.0%} all right; take some in "
            "between"
        ] = zero + one
    found = sorted(shown, key=lambda text: -shown[text])
    if right == 0:
        found.append("data: no completion was right, so GRPO has nothing to amplify; take easier prompts")
    elif right < MANY and min(zero, one) < NO_MIDDLE_SIDE:
        found.append(
            f"data: {right:.1%} of the completions are right, of the same prompts each time; take some between"
        )
    return [*found, "model: take a stronger one, or supervised fine-tuning first (warmstart.steps)"]
