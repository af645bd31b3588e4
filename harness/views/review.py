"""Build the document behind ``grpo review --json``, and the sentence on the change of the test score."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from statistics import fmean
from typing import Any

from harness.core.statistics import VERDICTS, compute_difference, describe_interval
from harness.core.step_metrics import GOOD_MIXED
from harness.types import (
    Bucket,
    CheckpointRecord,
    DecisionRecord,
    EvaluationRecord,
    History,
    RunRecord,
    SampleRecord,
)
from harness.views.capability import build_pass_at
from harness.views.summary import does_it_answer, flat_since

EASY, HARD = 0.5, 0.1
"""Shares of groups with a right completion between which prompts of both kinds are far apart."""
DECISIONS_TOLD = 50
"""Rows of the table of decisions; what does not fit is in the document."""
SIGNAL = ("no_signal", "all_zero", "all_one", "flat", "solved", "unsolved")
SHARES = {part: f"group/{part}_rate" for part in SIGNAL[1:]} | {"errored": "completion/errored_rate"}


def build_review(history: History) -> dict[str, Any]:
    """Build the document of ``grpo review --json``: its keys are a contract. Scores and rates lie in [0, 1]."""
    run, newest = history.run, history.newest
    test = {look.step: look for look in history.evaluations if look.split == "test"}
    dev = [look for look in history.evaluations if look.split == "dev"]
    rewards = list(history.rewards.values()) if run.kind == "grpo" else []
    kl, loss = history.buckets.get("kl/mean", ()), history.buckets.get("loss", ())
    best_step = next((checkpoint.step for checkpoint in history.checkpoints if checkpoint.best), None)
    shares = {part: _mean(history.buckets.get(metric, ())) for part, metric in SHARES.items()}
    parts = [shares[part] for part in ("all_zero", "all_one", "flat")]
    shares["no_signal"] = None if None in parts else sum(part or 0.0 for part in parts)
    last = max(history.rewards, default=history.era_start)
    bottleneck = find_bottleneck(newest, dev, history.decisions, history.attempts) if run.kind == "grpo" else None
    change = _change(history, test, best_step, last)
    return {
        "run": run.name,
        "kind": run.kind,
        "status": run.status,
        "stop_reason": run.stop_reason,
        "alive": history.alive,
        "policy": run.policy,
        "seed": run.seed,
        "steps": history.steps_taken,
        "rollouts": run.rollouts,
        "wall_s": round(run.wall_s, 1),
        "folder": run.folder,
        "heldout": _heldout(test, run.measure, history.era_start, best_step, last),
        "change": change,
        "dev": {
            "metric": run.measure,
            "by_step": {str(look.step): look.score for look in dev},
            "reward_by_step": {str(look.step): look.reward for look in dev},
        },
        "loss": {
            "first": loss[0].mean if loss else None,
            "last": _last(newest, "loss", loss) if loss else None,
            "dev_by_step": {str(look.step): look.loss for look in dev if look.loss is not None},
        },
        "reward": {
            "first": rewards[0] if rewards else None,
            "last": rewards[-1] if rewards else None,
            "by_step": rewards,
        },
        "pass_at": build_pass_at(history, best_step, last),
        "signal": {f"{part}_rate": share for part, share in shares.items()},
        "kl": {"last": _last(newest, "kl/mean", kl), "max": max((part.high for part in kl), default=None)},
        "reasons": {name: round(share, 4) for name, share in compute_reasons(newest[-10:]).items()},
        "eras": [dict(era) for era in history.eras],
        "knobs": asdict(history.knobs),
        "pins": list(history.pins),
        "forecast": dict(history.forecast),
        "manifest": dict(history.manifest),
        "rows": history.manifest.get("rows"),
        "missing": history.manifest.get("missing", ""),
        "decisions": _documents(history.decisions, "at", "id", "llm_failure"),
        "continued": history.continued,
        "checkpoints": _documents(history.checkpoints, "hashes"),
        "samples": _documents(history.samples, "kind"),
        "events": [asdict(event) for event in history.events],
        "llm": asdict(history.asked),
        "judge": {name: asdict(judged) for name, judged in history.judged.items()},
        "judge_per_step": compute_judging(newest[-20:]),
        "bottleneck": bottleneck.text if bottleneck else None,
        "next_steps": find_next_steps(history, change, dev, bottleneck),
    }


def _documents(
    records: Sequence[DecisionRecord | SampleRecord | CheckpointRecord], *left_out: str
) -> list[dict[str, Any]]:
    """Make dicts as asdict does, which would copy every value: a long run has a hundred thousand decisions."""
    if not records:
        return []
    names = [name for name in records[0].__dataclass_fields__ if name not in left_out]
    values = attrgetter(*names)
    return [dict(zip(names, values(record), strict=True)) for record in records]


def _mean(buckets: Sequence[Bucket]) -> float | None:
    """Compute the mean over all steps, none of which is lost in a bucket."""
    return math.fsum(part.mean * part.n for part in buckets) / sum(part.n for part in buckets) if buckets else None


def _last(newest: Sequence[Mapping[str, float]], metric: str, buckets: Sequence[Bucket]) -> float | None:
    """Return the newest value that is a number; where the newest steps have none, the last bucket's mean."""
    finite = [metrics[metric] for metrics in newest if math.isfinite(metrics.get(metric, math.nan))]
    return finite[-1] if finite else buckets[-1].mean if buckets else None


def compute_reasons(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Compute the share of each reason code over some steps."""
    names = sorted({name for metrics in steps for name in metrics if name.startswith("reason/")})
    return {name.removeprefix("reason/"): fmean(metrics.get(name, 0.0) for metrics in steps) for name in names}


def compute_judging(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Compute what judges took per step, as a mean over some steps: ``cost_usd``, ``cached_rate``, ``latency`` in s;
    {} where none was asked."""
    asked = [metrics for metrics in steps if "judge/cost_usd" in metrics]
    names = ("cost_usd", "cached_rate", "latency")
    return {name: fmean(metrics[f"judge/{name}"] for metrics in asked) for name in names} if asked else {}


def _heldout(
    test: Mapping[int, EvaluationRecord], measure: str, start: int, best_step: int | None, last: int
) -> dict[str, Any]:
    baseline, final = test.get(start), test.get(last)
    best = test.get(best_step) if best_step is not None else None
    any_look = final or best or baseline
    return {
        "metric": measure,
        "split": "test",
        "n": any_look.n if any_look else 0,
        "baseline": baseline.score if baseline else None,
        "best": best.score if best else None,
        "best_step": best_step,
        "final": final.score if final else None,
        "final_ci95": list(final.ci95) if final else None,
    }


def _change(
    history: History, test: Mapping[int, EvaluationRecord], best_step: int | None, last: int
) -> dict[str, Any] | None:
    """Compare the test score with the start: at the best checkpoint, which an export takes, else at the end."""
    start = history.era_start
    step = best_step if best_step in test else last
    if step is None or start not in test or step not in test:
        return None
    found = compute_difference(test[start], test[step], history.answers.get(start, {}), history.answers.get(step, {}))
    return {
        "of": "best" if step == best_step else "final",
        "step": step,
        "from_step": start,
        "from": test[start].score,
        "to": test[step].score,
        **found.document,
    }


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """Name what held dev back, and what to try next."""

    text: str
    fix: str


def find_bottleneck(
    steps: Sequence[Mapping[str, float]],
    dev: Sequence[EvaluationRecord],
    decisions: Sequence[DecisionRecord],
    attempts: Sequence[tuple[int, int]] = (),
) -> Bottleneck | None:
    """Name what most likely held dev back, with the numbers: whether groups had signal first, and why not. None when
    dev rose beyond its noise. ``attempts`` as in History."""
    if not steps or len(dev) < 2:
        return None
    first, best = dev[0], max(dev, key=lambda look: look.rank)
    if best.score > first.ci95[1]:
        return None

    def mean(metric: str) -> float:
        return fmean(step.get(metric, 0.0) for step in steps[-20:])

    errored = mean("completion/errored_rate")
    truncated = max(mean("completion/truncated_rate"), mean("reason/cut_in_thinking"))
    flat, solved, unsolved = mean("group/flat_rate"), mean("group/solved_rate"), mean("group/unsolved_rate")
    kl, mixed = mean("kl/mean"), mean("group/mixed_rate")
    poor = mixed < GOOD_MIXED
    if errored > 0.02:
        cause = f"Reward: the verifier failed on {errored:.0%} of the completions."
        fix = "Fix the reward; its errors are in log.txt and reward.txt of the run."
    elif truncated > 0.3:
        cause = f"max_tokens: {truncated:.0%} of the completions were cut, {unsolved:.0%} of the groups unsolved."
        fix = "Raise max_tokens and its upper bound, or ask for shorter answers."
    elif poor and flat > 0.4:
        cause = f"Reward: {flat:.0%} of the groups were zero-variance, so only the format was paid."
        fix = "Give the format less weight, or grade partly right answers."
    elif poor and solved > 0.7:
        cause = f"Data too easy: {solved:.0%} of the groups were solved outright."
        fix = "Take a harder pool; grpo probe says beforehand how hard it is."
    elif poor and unsolved > 0.7:
        cause, fix = _tell_data_from_model(unsolved, attempts)
    elif kl < 1e-3:
        cause = f"Learning rate: at {steps[-1].get('learning_rate', 0.0):.1e} KL reached only {kl:.1e}."
        fix = "Raise the learning rate."
    else:
        changed = sum(bool(decision.changes) for decision in decisions)
        cause = f"Capacity or steps: {mixed:.0%} of the groups had signal, "
        cause += f"{changed} changes of hyperparameters did not help."
        fix = "Give it more steps first; then a larger model or another pool."
    dev_so_far = f"dev {first.score:.3f} at the start, at best {best.score:.3f} (within its noise)."
    return Bottleneck(f"{dev_so_far} {cause}", fix)


def _tell_data_from_model(unsolved: float, attempts: Sequence[tuple[int, int]]) -> tuple[str, str]:
    """Tell prompts that jump from easy to hard from a model that can do none, where hardly anything is right: by the
    share of groups with a right completion (pass@k, k being the group size) of the easiest tenth and of the rest."""
    rates = sorted((solved / groups for groups, solved in attempts), reverse=True)
    tenth = -(-len(rates) // 10)
    easiest, rest = fmean(rates[:tenth] or [0.0]), fmean(rates[tenth:] or [0.0])
    lead = f"{unsolved:.0%} of the groups had no right completion"
    shown = f"of the easiest tenth of the prompts {easiest:.0%} have one, of the rest {rest:.0%}"
    if easiest >= EASY and rest < HARD:
        return f"Data too hard: {lead}; {shown}.", "Add prompts between the two; grpo pool report lists the hardest."
    return (
        f"Model or reward: {lead}; {shown}.",
        "Try a warm start or a larger model (grpo probe tells), and grpo check for the reward.",
    )


def find_next_steps(
    history: History, change: Mapping[str, Any] | None, dev: Sequence[EvaluationRecord], bottleneck: Bottleneck | None
) -> list[dict[str, str]]:
    """List what a person may do now, the most useful first: ``{text, command}``; command is empty where none helps."""
    run, steps = history.run, []

    def say(text: str, command: str = "") -> None:
        steps.append({"text": text, "command": command})

    if not run.ended and history.alive:
        say("It is still running.", f"grpo watch {run.name}")
        _tell_silence(history, say)
        return steps
    if not run.ended:
        say("Its process died; continue from the newest checkpoint.", f"grpo resume {run.name}")
    elif run.status == "failed" and history.checkpoints:
        say("Fix the cause, then continue from the newest checkpoint.", f"grpo resume {run.name}")
    elif run.status == "failed":
        say(f"Fix the cause, then start a new run; {run.folder}/log.txt has the details.")
    elif run.stop_reason.startswith("interrupted"):
        say("It was interrupted; continue where it stopped.", f"grpo resume {run.name}")
    verdict = change["verdict"] if change else None
    if change and verdict == "better":
        which = "best" if change["of"] == "best" else "final"
        say(
            f"The {which} checkpoint is better than the start: take it.", f"grpo export {run.name} --checkpoint {which}"
        )
    elif verdict == "worse":
        say("Keep the model as it was: this run made it worse. The decisions below say what was tried.")
    if bottleneck and verdict != "better":
        say(bottleneck.fix)
    best = max(dev, key=lambda look: look.rank, default=None)
    flat, losses = flat_since(dev), [look.loss for look in dev if look.loss is not None]
    if len(losses) > 1 and run.stop_reason.startswith("budget of"):
        if losses[-1] == min(losses):
            say("The loss on dev was still falling: more steps may help.", f"grpo resume {run.name}{_more(run)}")
    elif flat is not None and run.stop_reason.startswith("budget of"):
        say(f"Dev has been level since step {flat}: more steps of the same would add little; harder prompts might.")
    elif best is not None and best is dev[-1] and len(dev) > 1 and run.stop_reason.startswith("budget of"):
        say("Dev was at its best at the last evaluation: more steps may help.", f"grpo resume {run.name}{_more(run)}")
    elif change and verdict == "unclear" and not bottleneck:
        if change["from"] == change["to"] == 0:
            say("Nothing was right at the start nor at the end: grpo probe says what the model can do.")
        else:
            say("The difference is within noise: more test prompts or another seed would tell.")
    _tell_silence(history, say)
    return steps


def _tell_silence(history: History, say: Callable[[str], None]) -> None:
    answer = does_it_answer(history.asked)
    if answer is not None and answer.word == "SILENT":
        say(
            f"The LLM gave no usable answer in its last {history.asked.failed_in_a_row:,} turns, so the rules decided "
            f"({history.asked.last_failure}); to ask it once: grpo doctor SPEC --try"
        )


def _more(run: RunRecord) -> str:
    """Ask for twice the budget that is spent."""
    if "hours" in run.stop_reason and run.budget_hours:
        return f" --hours {2 * run.budget_hours:g}"
    return f" --steps {2 * max(run.budget_steps, run.last_step)}"


# ---------------------------------------------------------------- for the terminal


def describe_judge(name: str, judge: Mapping[str, Any]) -> str:
    """Describe what a judge of a run took: ``judge helpful: 1,200 replies, 3 failed, 0.8421 USD, 1.20 s each``."""
    failed = f", {judge['failed']:,} failed" if judge["failed"] else ""
    cost = f"{judge['cost_usd']:.4f} USD" if judge["cost_usd"] else "without a price"
    return f"judge {name}: {judge['replies']:,} replies{failed}, {cost}, {judge['median_s']:.2f} s each (median)"


def describe_change(change: Mapping[str, Any]) -> str:
    """Describe the change of the test score: ``Better at the best checkpoint (step 70): +0.462 [+0.410, +0.510] prompt
    by prompt``."""
    where = "the best checkpoint" if change["of"] == "best" else "the end"
    return f"{VERDICTS[change['verdict']]} at {where} (step {change['step']}): {describe_interval(change)}"
