"""The things one wants to know first: is it learning, is it stuck, what was changed last and did it help; and of an
LLM whether it answers.

Pure functions of a snapshot, in words; whoever wants more looks at the curves below them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.core.actions import parse_expected
from harness.core.formatting import clean, format_kind, format_knob
from harness.core.statistics import Difference, compute_difference, describe_interval
from harness.core.step_metrics import GOOD_MIXED
from harness.types import Asked, DecisionRecord, EvaluationRecord, Snapshot, StepRecord

RECENT = 8
"""Steps that say how it is now."""
AROUND = 10
"""Steps before and after a change that are compared while nobody has judged it, at most."""
POOR_MIXED = 0.2
"""Share of mixed groups below which a step has hardly anything to learn from."""
MUCH = 0.2
"""Share of groups, or of completions cut, from which on it is said what that means."""
SILENT_TURNS = 3
"""Turns without a usable answer, in a row, after which an LLM counts as silent."""
MOVED = re.compile(r"([a-z]+/[a-z_]+) (\S+) -> (\S+),")
WHY_NO_SIGNAL = {
    "group/all_zero_rate": "too hard",
    "group/flat_rate": "only the form is paid",
    "group/all_one_rate": "too easy",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One word in the style ``good``, ``warn``, ``bad`` or ``plain``, and the numbers behind it."""

    word: str
    style: str
    text: str


# ---------------------------------------------------------------- is it learning?


def is_it_learning(s: Snapshot) -> Answer:
    """Answer by dev: the newest look against the best and the first one."""
    looks = s.dev
    if not looks:
        return Answer("NOT MEASURED", "plain", "no dev evaluation yet")
    first, last = looks[0], looks[-1]
    best = max(looks, key=lambda look: look.rank)
    if len(looks) == 1:
        most = f", {last.pass_at[-1].describe()}" if last.pass_at else ""
        return Answer("TOO EARLY", "plain", f"dev {last.score:.3f}{most} at step {last.step}, too few to compare")
    course = f"dev {first.score:.3f} -> {last.score:.3f}"
    most = ""
    if first.pass_at and last.pass_at:
        most = f"; pass@{last.pass_at[-1].k} {first.pass_at[-1].value:.3f} -> {last.pass_at[-1].value:.3f}"
    if compare_looks(s, best, last).verdict == "worse":
        return Answer("FALLING", "bad", f"{course}; its best was {best.score:.3f} at step {best.step}{most}")
    change = compare_looks(s, first, last)
    if change.verdict != "better":
        style = "warn" if len(looks) > 3 else "plain"
        return Answer("NOT YET", style, f"{course}: {describe_interval(change.document)}, no gain beyond noise{most}")
    told = f"{course} ({change.value:+.3f}), best {best.score:.3f} at step {best.step}"
    test = {look.step: look.score for look in s.evaluations if look.split == "test"}
    if s.run.ended and len(test) > 1 and best.step in test:
        told += f"; test {test[min(test)]:.3f} -> {test[best.step]:.3f}"
    return Answer("LEARNING" if flat_since(looks) is None else "LEARNED", "good", told + most)


def flat_since(looks: Sequence[EvaluationRecord]) -> int | None:
    """Return the step from which on no look differs clearly from a later one, if that is the last third of the run
    and more than three looks; None while that cannot be said.
    Unpaired: most of these looks are on record as scores alone."""
    if not looks:
        return None
    level = next(
        look.step
        for i, look in enumerate(looks)
        if all(compute_difference(look, later, {}, {}).verdict == "unclear" for later in looks[i:])
    )
    last = looks[-1].step
    return level if len([look for look in looks if look.step >= level]) > 3 and last - level > last / 3 else None


def compare_looks(s: Snapshot, before: EvaluationRecord, after: EvaluationRecord) -> Difference:
    """Compare two looks at dev: prompt by prompt where the snapshot has them paired, else as samples of their own,
    which makes the interval rather too wide."""
    steps = before.step, after.step
    pair = next((pair for pair in s.paired_dev if (pair.before, pair.after) == steps), None)
    if pair is None:
        return compute_difference(before, after, {}, {})
    return Difference(pair.difference, *pair.ci95, paired=True, se=pair.se)


# ---------------------------------------------------------------- is it stuck?


def is_it_stuck(s: Snapshot) -> Answer:
    """Answer by the groups of the newest steps, of which only mixed ones teach, and by whether dev still gains."""
    steps = s.steps[-RECENT:]
    if not steps:
        return Answer("NO STEP YET", "plain", "")
    if s.run.kind == "sft":
        return _is_loss_stuck(s)
    mixed = _mean(steps, "group/mixed_rate")
    shares = {name: _mean(steps, name) for name in WHY_NO_SIGNAL}
    rest = [
        f"{_short(name)} {share:.0%}" + (f" ({WHY_NO_SIGNAL[name]})" if mixed < GOOD_MIXED and share >= MUCH else "")
        for name, share in shares.items()
        if share >= 0.005
    ]
    told = f"{mixed:.0%} of groups have signal (mixed), last {len(steps)} steps" + (
        f"; {', '.join(rest)}" if rest else ""
    )
    errored = _mean(steps, "completion/errored_rate")
    if errored > 0.02:
        return Answer("REWARD FAILS", "bad", f"on {errored:.0%} of the completions; {told}")
    if mixed >= GOOD_MIXED:
        since = flat_since(s.dev)
        if since is None:
            return Answer("NO", "good", told)
        return Answer("PLATEAU", "warn", f"dev is level since step {since}; {told}")
    cut = _mean(steps, "completion/truncated_rate")
    told += f"; {cut:.0%} of completions are cut at max_tokens" if cut > MUCH else ""
    return Answer("PARTLY", "warn", told) if mixed >= POOR_MIXED else Answer("YES", "bad", told)


def _is_loss_stuck(s: Snapshot) -> Answer:
    """Answer for a run without groups, by dev and by the loss of its newest steps against its first ones."""
    told = f"loss {_mean(s.steps[:RECENT], 'loss'):.3f} -> {_mean(s.steps[-RECENT:], 'loss'):.3f}"
    if losses := [look.loss for look in s.dev if look.loss is not None]:
        told += f", on dev {losses[0]:.3f} -> {losses[-1]:.3f}, lowest {min(losses):.3f}"
    since = flat_since(s.dev)
    falls = losses[-1:] == [min(losses, default=0.0)]
    return Answer("NO", "good", told) if since is None or falls else Answer("PLATEAU", "warn", told)


def _mean(steps: Sequence[StepRecord], metric: str) -> float:
    values = [value for step in steps if math.isfinite(value := step.metrics.get(metric, math.nan))]
    return fmean(values) if values else 0.0


def _short(metric: str) -> str:
    """Shorten ``group/all_zero_rate`` to ``all-zero``."""
    return format_kind(metric.partition("/")[2].removesuffix("_rate"))


# ---------------------------------------------------------------- what was changed last, and did it help?


def last_change(s: Snapshot) -> DecisionRecord | None:
    """Return the newest decision that changed a knob or the weights, refused ones left out."""
    return next((d for d in reversed(s.decisions) if d.is_change), None)


def did_it_help(s: Snapshot) -> Answer:
    """Answer with the verdict on the last change, or until there is one with what was measured so far."""
    change = last_change(s)
    if change is None:
        return Answer("NO CHANGE YET", "plain", "no hyperparameter was changed")
    told = f"{format_decision(change)} at step {change.step} by {change.source}"
    if change.verdict:
        style = {"helped": "good", "hurt": "bad"}.get(change.verdict, "plain")
        return Answer(change.verdict.upper(), style, f"{told}; {shorten(change.measured or 'not measured')}")
    if is_kept(change):
        return Answer("COMPARED", "plain", f"{told}; {change.evidence}")
    effect = compute_effect(s, change)
    if effect is None:
        return Answer("NOT KNOWN YET", "plain", told)
    word = f"{effect.word.upper()} SO FAR" if effect.wanted else "NOT JUDGED YET"
    return Answer(word, effect.style, f"{told}; {effect.text}")


def is_kept(d: DecisionRecord) -> bool:
    """Tell whether it is what a branch ended with: compared already, and judged no further."""
    return d.action == "branch" and str(d.argument).startswith("keep")


def shorten(measured: str) -> str:
    """Shorten what was measured of a change to ``truncated 84% -> 13%, dev +0.12``, no intervals and windows."""
    parts = []
    for part in measured.split("; "):
        moved = MOVED.match(part)
        try:
            text = Effect(moved[1], float(moved[2]), float(moved[3])).text if moved else part
        except ValueError:
            text = part
        parts.append(text.partition(" [")[0] if part.startswith("dev ") else text)
    return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Effect:
    """Means of a metric before and after a change, and which way it should go if the change said so. This compares
    and does not judge: nothing here knows how much of it is noise."""

    metric: str
    before: float
    after: float
    wanted: str = ""

    @property
    def word(self) -> str:
        if not self.wanted:
            return "not judged"
        still = math.isclose(self.before, self.after, abs_tol=1e-6)
        moved = "stays" if still else "rises" if self.after > self.before else "falls"
        return "as expected" if moved == self.wanted else "not as expected"

    @property
    def style(self) -> str:
        return {"not judged": "plain", "as expected": "good"}.get(self.word, "warn")

    @property
    def text(self) -> str:
        """Format it as ``truncated 47% -> 2%``, ``adjusted -0.012 -> +0.041``."""
        if self.metric.endswith("_rate"):
            return f"{_short(self.metric)} {self.before:.0%} -> {self.after:.0%}"
        if self.metric == "reward/adjusted":
            return f"adjusted {self.before:+.3f} -> {self.after:+.3f}"
        return f"{self.metric} {self.before:.3g} -> {self.after:.3g}"


def compute_effect(s: Snapshot, change: DecisionRecord) -> Effect | None:
    """Compare what the change itself expects to move, else the adjusted reward. None while one side has no step."""
    of_steps = ((e.metric, e.direction) for e in parse_expected(change.expected) if e.metric != "dev")
    usual = "loss" if s.run.kind == "sft" else "reward/adjusted"
    metric, wanted = next(of_steps, (usual, ""))
    if not any(metric in step.metrics for step in s.steps[-1:]):
        metric, wanted = usual, ""
    others = [d.step for d in s.decisions if d.refused is None and d.changes and d.step != change.step]
    start = max((step for step in others if step < change.step), default=0)
    end = min((step for step in others if step > change.step), default=math.inf)
    before = [step for step in s.steps if start <= step.step < change.step][-AROUND:]
    after = [step for step in s.steps if change.step <= step.step < end][:AROUND]
    if not before or not after:
        return None
    return Effect(metric, _mean(before, metric), _mean(after, metric), wanted)


# ---------------------------------------------------------------- does the LLM answer?


def does_it_answer(asked: Asked) -> Answer | None:
    """Answer by the turns of the LLM; None where it never had one."""
    if not asked.times:
        return None
    told = f"{describe_turns(asked)}; {describe_usage(asked)}"
    if not asked.failed_in_a_row:
        return Answer("ANSWERS", "good", told)
    silent = asked.failed_in_a_row >= SILENT_TURNS or asked.failed == asked.times
    return Answer("SILENT", "bad", told) if silent else Answer("FAILED", "warn", told)


def describe_turns(asked: Asked) -> str:
    """Describe them as ``a usable answer in 0 of 6 turns; last: no answer: HTTP 401``."""
    told = f"a usable answer in {asked.times - asked.failed:,} of {asked.times:,} turns"
    return f"{told}; last: {clean(asked.last_failure)}" if asked.failed_in_a_row else told


def describe_usage(asked: Asked) -> str:
    """Describe what the turns took as ``4,000 + 600 tokens, 0.0070 USD``; of what has no price the tokens alone."""
    return f"{asked.tokens_in:,} + {asked.tokens_out:,} tokens" + (f", {asked.usd:.4f} USD" if asked.usd else "")


# ---------------------------------------------------------------- decisions in words


def format_decision(decision: DecisionRecord) -> str:
    """Format it as ``max_tokens 20 -> 30``, the verb, or for a rollback both."""
    moves = ", ".join(
        f"{knob} {format_knob(change['from'])} -> {format_knob(change['to'])}"
        for knob, change in decision.changes.items()
        if decision.action != "rollback" or change["from"] != change["to"]
    )
    if decision.changes and decision.action in ("set", "focus"):
        return moves
    verb = decision.action if decision.argument is None else f"{decision.action} {decision.argument}"
    return f"{verb}, {moves}" if moves and decision.action == "rollback" else verb
