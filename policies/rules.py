"""Rules: what a finding calls for, in the order of the table in docs/decisions.md.

``propose`` asks each rule of RULES, the most pressing first; every rule answers at most one finding with one decision.
``RulesPolicy`` takes the first answer, or goes on with evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from harness.core.trends import compute_median
from harness.types import Action, Decision, DecisionRecord, Finding, KnobValue, Snapshot
from policies.detectors import detect
from policies.detectors.groups import DRY_NIGHT
from policies.detectors.texts import find_vain_rises
from policies.detectors.updates import STILL_STEPS, measure_rate
from policies.suspects import find_suspects
from policies.view import NotLogged, View

# Every threshold of the rules, in one place.
COOL_DOWN = 6
"""Steps that a knob rests after a change."""
URGENT_REST = 2
"""The same for an answer that need not wait; after a severe finding it need not rest at all."""
MEASURED_AFTER = 6
"""Steps in which a change is measured; only an urgent answer may follow sooner."""
UNCLEAR_REST = 20
"""Steps that a knob rests in the direction that was judged unclear, unless a branch can tell."""
BRANCH_STEPS = 6
BRANCH_SHARE = 0.1
"""Of the steps that are left, what the arm of a branch that is not kept may take at most."""
COMPARED_STEPS = 3
"""Steps of an arm in which groups tell what a temperature is worth."""
SAME_VALUE = 1.25
"""Values of a knob within this factor are the same situation."""
STRIDE = {"helped": 1.5, "unclear": 0.5, "hurt": 0.5}
"""What the verdict on the last change in the same direction does to the size of the next, on the scale of factors."""

FRESH_LOOK = 3
"""Steps after which a look at dev is too old to decide on."""
MORE_TOKENS, MANY_MORE_TOKENS, NEARLY_ALL_CUT = 1.5, 2.0, 0.9
SLOWER, MUCH_SLOWER, FAR_SLOWER = 0.5, 0.25, 0.1
FASTER_AT_MOST, USEFUL_KL = 100.0, 1e-3
WARMER, MUCH_WARMER = 1.25, 1.5
WEAKER_BETA = 0.1
SAMPLED_WITHIN = 6
"""Steps in which samples for people are taken once before a stop that rests on texts."""
WHOLE_NUMBERS = ("max_tokens", "group_size")
ALL_ONE, MOSTLY = "group/all_one_rate", 0.5
FRONTIER = 0.5
"""The pass rate at which groups are most often mixed."""


class RulesPolicy:
    """``harness.types.DecisionPolicy`` by rules; a pure function of the snapshot."""

    kind = "rules"
    repeats = False

    def decide(self, snapshot: Snapshot) -> Decision:
        findings = detect(snapshot)
        proposals = propose(snapshot, findings)
        return proposals[0] if proposals else _continue(View(snapshot), findings)


def propose(snapshot: Snapshot, findings: Sequence[Finding]) -> tuple[Decision, ...]:
    """Return what the rules would do, best first; empty when there is nothing to do. Every one is allowed as it stands:
    within bounds, no pinned knob, no change that hurt before."""
    if snapshot.run.kind == "sft":
        return ()  # policies/supervised.py has rules of its own
    case = Case(View(snapshot), {f.kind: f for f in findings if f.severity in ("severe", "warning")})
    return tuple(decision for decision in (_ask(rule, case) for rule in RULES) if decision is not None)


def _ask(rule: Callable[[Case], Decision | None], case: Case) -> Decision | None:
    try:
        return rule(case)
    except NotLogged:  # what the answer depends on
        return None


def _continue(view: View, findings: Sequence[Finding]) -> Decision:
    if not view.window:
        return Decision(Action("continue"), "rules", "no step under the present hyperparameters yet")
    evidence = view.evidence("reward/mean", "group/no_signal_rate", "completion/truncated_rate", "kl/mean")
    # What a clock says would differ in a run that is otherwise the same.
    seen = sorted(f.kind for f in findings if f.severity != "unknown" and f.kind != "slow_sampling")
    return Decision(Action("continue"), "rules", evidence + (f"; seen: {', '.join(seen)}" if seen else ""))


# ---------------------------------------------------------------- what may be changed, and how far


class Case(NamedTuple):
    """The view and the findings that want an answer, by kind."""

    view: View
    findings: Mapping[str, Finding]

    def first(self, *kinds: str, severe: bool = False) -> Finding | None:
        """Return the first of these kinds that was found, if need be severe."""
        found = (self.findings[kind] for kind in kinds if kind in self.findings)
        return next((finding for finding in found if finding.severity == "severe" or not severe), None)

    def set(
        self, finding: Finding | None, knob: str, wanted: float, hypothesis: str, expected: str, *, urgent: bool = False
    ) -> Decision | None:
        """Move the knob to ``wanted``, within its bounds; None without a finding, or when it may not move (pinned,
        resting, in vain)."""
        if finding is None:
            return None
        rest = 1 if finding.severity == "severe" else URGENT_REST if urgent else COOL_DOWN
        value = self._allowed(knob, wanted, rest)
        if value is None:
            return None
        unclear = None if rest < COOL_DOWN else self._unclear(knob, wanted)
        if unclear is not None:
            return None if unclear.action == "branch" else self._branch(finding, knob, value, unclear)
        action = Action("focus" if knob == "focus" else "set", {knob: value})
        return Decision(action, "rules", tell(finding), hypothesis, expected)

    def evaluate(self, finding: Finding, why: str) -> Decision | None:
        """Evaluate dev now, unless that was done once since the last evaluation that was due anyway."""
        asked = [d.step - 1 for d in self.view.snapshot.decisions if d.action == "evaluate" and d.refused is None]
        due = max((look.step for look in self.view.snapshot.dev if look.step not in asked), default=-1)
        if any(step > due for step in asked):
            return None
        return Decision(Action("evaluate"), "rules", tell(finding), why)

    def scaled(self, knob: str, factor: float) -> float:
        """Return the knob times ``factor``, which the verdict on the last change in that direction makes larger or
        smaller."""
        now = getattr(self.view.knobs, knob)
        judged = (r.verdict for r in self._moved_alike(knob, now * factor) if r.verdict is not None)
        return float(now * factor ** STRIDE.get(next(judged, ""), 1.0))

    def _unclear(self, knob: str, wanted: float) -> DecisionRecord | None:
        """Return the change of late in the same direction of which nobody could say what it did."""
        alike = self._moved_alike(knob, wanted)
        return next((r for r in alike if r.verdict == "unclear" and self.view.next_step - r.step < UNCLEAR_REST), None)

    def _moved_alike(self, knob: str, wanted: float) -> Iterator[DecisionRecord]:
        """Yield the changes of the knob in the direction of ``wanted``, the newest first."""
        now = _or_frontier(getattr(self.view.knobs, knob))
        for record in reversed(self.view.changes):
            if knob in record.changes:
                before, after = (_or_frontier(record.changes[knob][end]) for end in ("from", "to"))
                if (after - before) * (wanted - now) > 0:
                    yield record

    def _branch(self, finding: Finding, knob: str, value: KnobValue, unclear: DecisionRecord) -> Decision | None:
        """Compare both settings from the same weights, with the same seeds and prompts, which tells what steps one
        after the other could not; None where the budget does not allow it."""
        snapshot = self.view.snapshot
        left = snapshot.run.budget_steps - snapshot.steps_done
        if BRANCH_SHARE * left < BRANCH_STEPS or not snapshot.dev:
            return None
        hypothesis = f"step {unclear.step} left it unclear what this does; side by side dev tells"
        action = Action("branch", argument=f"{BRANCH_STEPS} {knob}={value!r}")
        return Decision(action, "rules", tell(finding), hypothesis, "dev rises")

    def _allowed(self, knob: str, wanted: float, rest: int) -> KnobValue:
        """Return the value that the knob may take on the way to ``wanted``; None when it may not move."""
        view, now = self.view, getattr(self.view.knobs, knob)
        if knob in view.snapshot.pins or view.next_step - view.changed_at.get(knob, -rest) < rest:
            return None
        hurt = (r for r in self._moved_alike(knob, wanted) if r.verdict == "hurt")
        in_vain = any(_same_value(r.changes[knob]["from"], now) for r in hurt)
        if rest >= COOL_DOWN and (in_vain or self.being_measured()):
            return None
        value = _within(view.snapshot, knob, wanted)
        return None if value == now else value

    def being_measured(self) -> bool:
        """Tell whether the newest change has neither a verdict nor had the steps for one."""
        last = self.view.changes[-1] if self.view.changes else None
        return last is not None and last.verdict is None and self.view.next_step - last.step < MEASURED_AFTER


def tell(finding: Finding) -> str:
    """Write a finding as evidence of a decision."""
    return f"{finding.kind}: {finding.evidence}"


def _or_frontier(focus: KnobValue) -> float:
    """Return where an unset focus aims; other values stay."""
    return FRONTIER if focus is None else focus


def _within(snapshot: Snapshot, knob: str, wanted: float) -> float | int:
    """Return the value that a knob may have nearest to ``wanted``, rounded."""
    low, high = snapshot.bounds[knob]
    value = min(high, max(low, wanted))
    return round(value) if knob in WHOLE_NUMBERS else float(f"{value:.4g}")


def _same_value(a: KnobValue, b: KnobValue) -> bool:
    if a is None or b is None or min(a, b) <= 0:
        return a == b
    return max(a, b) / min(a, b) <= SAME_VALUE


# ---------------------------------------------------------------- the rules


def stop_for_a_person(case: Case) -> Decision | None:
    """Stop where the reward is broken or fooled: it teaches harm, and every further step makes it worse."""
    why = {
        "errored": "the reward fails; what it fails on is in the run's events",
        "pays_everyone": "the reward tells right from wrong no longer",
        "gamed": "the partial credit of the reward is being exploited",
        "proxy_only": "partial credit is all that updates rest on, and it does not lead to right answers",
    }
    finding = case.first(*why, severe=True)
    return None if finding is None else _stop(tell(finding), f"{why[finding.kind]}; reward needs review")


def _stop(evidence: str, hypothesis: str, expected: str = "no update on rewards that mean nothing") -> Decision:
    return Decision(Action("stop"), "rules", evidence, hypothesis, expected)


def roll_back(case: Case) -> Decision | None:
    """Return to the best weights when dev fell below them, slower (by an order of magnitude where nothing is left
    of what was learned), and with what was learned of the other knobs."""
    view, snapshot, finding = case.view, case.view.snapshot, case.first("dev_drop")
    if finding is None or not any(c.step == finding.first for c in snapshot.checkpoints):
        return None
    knobs = view.kept_knobs(finding.first)
    if _temperature_fault(case) and "temperature" not in snapshot.pins:
        knobs["temperature"] = 1.0
    elif "learning_rate" not in snapshot.pins:
        nothing_left = view.newest_look is not None and view.newest_look.score <= snapshot.dev[0].score
        factor = FAR_SLOWER if nothing_left else MUCH_SLOWER if case.first(*DRIFT, severe=True) else SLOWER
        knobs["learning_rate"] = _within(snapshot, "learning_rate", view.knobs.learning_rate * factor)
    return Decision(
        Action("rollback", knobs, finding.first), "rules", tell(finding),
        "the updates since the best checkpoint did harm, and were too large", "dev rises back to its best",
    )  # fmt: skip


DRIFT = ("kl_spike", "entropy_explosion", "collapse", "length_inflation", "reward_drop")
"""Findings that, when severe, mean that the weights are being spoilt."""


def look_at_dev(case: Case) -> Decision | None:
    """Evaluate before the weights are judged by rewards alone: dev says prompt by prompt whether they were spoilt."""
    finding = case.first(*DRIFT, severe=True) or case.first("gamed")
    age = case.view.look_age()
    if finding is None or age is None or age < FRESH_LOOK:
        return None
    return case.evaluate(finding, "dev tells whether the weights were spoilt")


def slow_down(case: Case) -> Decision | None:
    """Make too large updates smaller: the learning rate, and where that may not move a temperature nearer to 1."""
    severe = case.first(*DRIFT, severe=True)
    finding = severe or case.first(
        "not_finite", "kl_spike", "length_inflation", "oscillation", "gradient_spike", "instability"
    )
    if finding is None:
        return None
    wanted = case.scaled("learning_rate", MUCH_SLOWER if severe else SLOWER)
    decision = case.set(finding, "learning_rate", wanted, "updates are too large", "reward/adjusted rises")
    if decision is None and case.view.knobs.temperature > 1:
        nearer = (case.view.knobs.temperature + 1) / 2
        return case.set(finding, "temperature", nearer, "samples are too wild", "group/unsolved_rate falls")
    return decision


def raise_max_tokens(case: Case) -> Decision | None:
    """Let answers end: cut ones cannot be rewarded, and a few steps show that beyond doubt, so it need not wait."""
    finding = case.first("truncation")
    if finding is None:
        return None
    nearly_all = case.view.mean("completion/truncated_rate") >= NEARLY_ALL_CUT
    wanted = case.scaled("max_tokens", MANY_MORE_TOKENS if nearly_all else MORE_TOKENS)
    return case.set(
        finding, "max_tokens", wanted, "completions are cut before the answer, so nothing can be rewarded",
        "completion/truncated_rate falls, group/unsolved_rate falls", urgent=True,
    )  # fmt: skip


def give_back_tokens(case: Case) -> Decision | None:
    """Take rises of max_tokens back that were in vain: a model that never ends only costs more at a higher limit."""
    finding = case.first("never_ends")
    if finding is None:
        return None
    before = find_vain_rises(case.view)[0][0].changes["max_tokens"]["from"]
    if before is None or case.view.knobs.max_tokens <= before:
        return None
    why = "the model never ends, so a higher limit only costs more"
    return case.set(finding, "max_tokens", before, why, "completion/tokens_mean falls", urgent=True)


def mend_temperature(case: Case) -> Decision | None:
    """Move what is too hot or too cold to 1, where samples are the model's own; after a change that did not help,
    halfway."""
    finding = _temperature_fault(case)
    if finding is None:
        return None
    wanted = 1.0 if "temperature" not in case.view.changed_at else (case.view.knobs.temperature + 1) / 2
    why, expected = "samples are so wild that answers are chance", "group/unsolved_rate falls"
    if finding.kind == "collapse":
        why = "samples are so alike that groups have no signal"
        expected = "completion/distinct_rate rises, group/mixed_rate rises"
    return case.set(finding, "temperature", wanted, why, expected)


def _temperature_fault(case: Case) -> Finding | None:
    """Return the finding of noise above a temperature of 1, or of one text for all below it."""
    temperature = case.view.knobs.temperature
    return case.first("chaos") if temperature > 1 else case.first("collapse") if temperature < 1 else None


def compare_temperature(case: Case) -> Decision | None:
    """Compare a temperature away from 1 with 1, side by side from the same weights and on the same prompts."""
    finding, snapshot = case.first("temperature"), case.view.snapshot
    low, high = snapshot.bounds["temperature"]
    left = snapshot.run.budget_steps - snapshot.steps_done
    if finding is None or "temperature" in snapshot.pins or not low <= 1 <= high or not snapshot.dev:
        return None
    if BRANCH_SHARE * left < COMPARED_STEPS:
        return None
    action = Action("branch", argument=f"{COMPARED_STEPS} temperature=1.0")
    why = "at 1 samples are the model's own; the same prompts tell what another temperature costs"
    return Decision(action, "rules", tell(finding), why, "group/mixed_rate rises, reward/mean rises")


def choose_prompts(case: Case) -> Decision | None:
    """Draw others: the only way to more mixed groups per rollout, so they come before larger groups."""
    focus, better, hard = case.view.knobs.focus, case.first("poor_prompts"), case.first("unsolved")
    if better is not None and focus is not None:
        why = "prompts that are sometimes solved give mixed groups"
        return case.set(better, "focus", FRONTIER, why, "group/mixed_rate rises")
    if hard is not None:
        # A focus that was set too hard goes back to the frontier first.
        wanted = FRONTIER if _or_frontier(focus) < FRONTIER else case.view.snapshot.bounds["focus"][1]
        why = "the prompts are too hard for the model as it is"
        return case.set(hard, "focus", wanted, why, "group/unsolved_rate falls, group/mixed_rate rises")
    apart = case.first("no_middle", "collapse")
    if apart is None:
        return None
    why = "prompts at the frontier are the ones most likely to be mixed"
    return case.set(apart, "focus", FRONTIER, why, "group/mixed_rate rises")


def weaken_anchor(case: Case) -> Decision | None:
    """Let the model move further from where it began."""
    wanted = case.scaled("beta", WEAKER_BETA)
    return case.set(case.first("anchored"), "beta", wanted, "beta holds the model where it was", "kl/mean rises")


def find_rate(case: Case) -> Decision | None:
    """Begin anew from the weights of the start at the learning rate that the first KL asks for, once."""
    view, snapshot, finding = case.view, case.view.snapshot, case.first("learning_rate")
    if finding is None or "learning_rate" in snapshot.pins or (measured := measure_rate(view)) is None:
        return None
    factor = min(FASTER_AT_MOST, measured[0])
    wanted = _within(snapshot, "learning_rate", view.knobs.learning_rate * factor)
    start = snapshot.steps[0].parent
    if _same_value(wanted, view.knobs.learning_rate) or not any(c.step == start for c in snapshot.checkpoints):
        return None
    knobs = view.kept_knobs(start) | {"learning_rate": wanted}
    why = "the first updates were of the wrong size; from the same start the right one learns more"
    return Decision(Action("rollback", knobs, start), "rules", tell(finding), why, "dev rises")


def speed_up(case: Case) -> Decision | None:
    """Raise the learning rate to one that teaches: KL, which grows with its square, tells how far that is."""
    finding = case.first("no_op_learning_rate")
    if finding is None:
        return None
    kl = max(compute_median(case.view.values("kl/mean")[-STILL_STEPS:]), 1e-12)
    wanted = case.view.knobs.learning_rate * min(FASTER_AT_MOST, math.sqrt(USEFUL_KL / kl))
    return case.set(finding, "learning_rate", wanted, "updates are too small to change the model", "kl/mean rises")


def resize_groups(case: Case) -> Decision | None:
    """Double groups that are too small to tell, halve those that cost more than they teach."""
    size, small, large = case.view.knobs.group_size, case.first("small_groups", "no_middle"), case.first("large_groups")
    if small is not None:
        why = "groups are so small that chance makes them equal"
        return case.set(small, "group_size", 2 * size, why, "group/mixed_rate rises")
    why = "most tokens are sampled in vain"
    return case.set(large, "group_size", size / 2, why, "group/mixed_tokens_rate rises")


def warm_up(case: Case) -> Decision | None:
    """Raise the temperature once where groups are without signal and nothing else is left: more varied samples may hit
    a right answer. Identical ones at 1 and above are warmed by more, as far as the bounds allow."""
    view, finding = case.view, case.first("flat", "no_signal", "collapse")
    if finding is None:
        return None
    in_vain = _was_warmed(view) or view.mean(ALL_ONE) >= MOSTLY or case.first("never_ends") is not None
    if in_vain and finding.kind != "collapse":
        return None
    why, expected = "more varied samples may hit another reward", "group/mixed_rate rises"
    factor = MUCH_WARMER if finding.kind == "collapse" else WARMER
    return case.set(finding, "temperature", case.scaled("temperature", factor), why, expected)


def _was_warmed(view: View) -> bool:
    moves = (d.changes["temperature"] for d in view.changes if "temperature" in d.changes)
    return any((move["to"] or 0.0) > (move["from"] or 0.0) for move in moves)


def finish_or_harder(case: Case) -> Decision | None:
    """Stop when prompts are mostly solved and dev is good; else there is more to learn on harder ones."""
    view, finding = case.view, case.first("solved")
    if finding is None:
        return None
    look, age = view.newest_look, view.look_age()
    if look is None or age is None or age >= FRESH_LOOK:
        why = "the train prompts are mostly solved; dev tells how far that goes"
        if (decision := case.evaluate(finding, why)) is not None:
            return decision
    if look is not None and look.score >= view.good_score:
        return _stop(
            f"dev {look.score:.3f} (good is {view.good_score:g}), {tell(finding)}",
            "there is nothing left to learn from this pool", "the test score is near dev",
        )  # fmt: skip
    focus = _or_frontier(view.knobs.focus)
    wanted = FRONTIER if focus > FRONTIER else focus - 0.15
    return case.set(finding, "focus", wanted, "solved prompts teach nothing", "group/mixed_rate rises")


def settle(case: Case) -> Decision | None:
    """Make updates smaller when dev has stopped rising: they average more of the noise away."""
    wanted = case.scaled("learning_rate", SLOWER)
    return case.set(case.first("plateau"), "learning_rate", wanted, "updates are too noisy to go further", "dev rises")


def end_the_night(case: Case) -> Decision | None:
    """Stop for a person where thirty steps had no signal and every answer was tried: a run that only samples costs a
    night and teaches nothing. Where all is paid, samples are taken first for the person to read."""
    view, finding = case.view, case.first("no_signal")
    if finding is None or len(view.since) < COOL_DOWN or case.being_measured():
        return None
    if view.mean(ALL_ONE) < MOSTLY:
        likeliest = "; ".join(find_suspects(view))
        why = "every answer was tried or is at its bound"
        return _stop(f"no signal for {DRY_NIGHT} steps, likeliest {likeliest} ({tell(finding)})", why)
    if not any(d.action == "sample" and view.next_step - d.step < SAMPLED_WITHIN for d in view.snapshot.decisions):
        return Decision(Action("sample"), "rules", tell(finding), "a person who is asked to look needs texts")
    dev = "" if view.newest_look is None else f", dev {view.newest_look.score:.3f}"
    return _stop(f"the pool is solved: no signal for {DRY_NIGHT} steps{dev} ({tell(finding)})", "take harder prompts")


RULES: tuple[Callable[[Case], Decision | None], ...] = (
    stop_for_a_person,
    roll_back,
    mend_temperature,
    look_at_dev,
    slow_down,
    give_back_tokens,
    raise_max_tokens,
    find_rate,
    compare_temperature,
    speed_up,
    warm_up,
    choose_prompts,
    resize_groups,
    weaken_anchor,
    finish_or_harder,
    settle,
    end_the_night,
)
