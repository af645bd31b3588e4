"""What a run did: the document behind ``grpo review --json`` and its telling for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from statistics import fmean
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.core.formatting import clean, format_changes, format_duration
from harness.core.paths import best_link
from harness.core.statistics import VERDICTS, compute_difference, describe_interval
from harness.types import Bucket, DecisionRecord, EvaluationRecord, History, RunRecord, SampleRecord
from harness.views.summary import flat_since, format_decision
from harness.views.terminal.drawing import compute_sparkline

DECISIONS_TOLD = 50
"""Rows of the table of decisions; what does not fit is in the document."""
SIGNAL = ("no_signal", "all_zero", "all_one", "flat", "solved", "unsolved")
SHARES = {part: f"group/{part}_rate" for part in SIGNAL[1:]} | {"errored": "completion/errored_rate"}


def build_review(history: History) -> dict[str, Any]:
    """The document of ``grpo review --json``."""
    run, newest = history.run, history.newest
    test = {look.step: look for look in history.evaluations if look.split == "test"}
    dev = [look for look in history.evaluations if look.split == "dev"]
    rewards = list(history.rewards.values())
    kl = history.buckets.get("kl/mean", ())
    best_step = next((checkpoint.step for checkpoint in history.checkpoints if checkpoint.best), None)
    shares = {part: _mean(history.buckets.get(metric, ())) for part, metric in SHARES.items()}
    parts = [shares[part] for part in ("all_zero", "all_one", "flat")]
    shares["no_signal"] = None if None in parts else sum(part or 0.0 for part in parts)
    last = max(history.rewards, default=history.era_start)
    bottleneck = find_bottleneck(newest, dev, history.decisions)
    change = _change(history, test, best_step, last)
    return {
        "run": run.name,
        "status": run.status,
        "stop_reason": run.stop_reason,
        "alive": history.alive,
        "policy": run.policy,
        "seed": run.seed,
        "steps": history.steps_taken,
        "rollouts": run.rollouts,
        "wall_s": round(run.wall_s, 1),
        "folder": run.folder,
        "heldout": _heldout(test, history.era_start, best_step, last),
        "change": change,
        "dev": {"by_step": {str(look.step): look.accuracy for look in dev}},
        "reward": {
            "first": rewards[0] if rewards else None,
            "last": rewards[-1] if rewards else None,
            "by_step": rewards,
        },
        "signal": {f"{part}_rate": share for part, share in shares.items()},
        "kl": {"last": _last(newest, "kl/mean", kl), "max": max((part.high for part in kl), default=None)},
        "reasons": _reasons(newest[-10:]),
        "eras": [dict(era) for era in history.eras],
        "knobs": asdict(history.knobs),
        "pins": list(history.pins),
        "forecast": dict(history.forecast),
        "manifest": dict(history.manifest),
        "decisions": _documents(history.decisions, "at", "id"),
        "continued": history.continued,
        "checkpoints": [asdict(checkpoint) for checkpoint in history.checkpoints],
        "samples": _documents(history.samples, "kind"),
        "events": [asdict(event) for event in history.events],
        "llm": asdict(history.asked),
        "bottleneck": bottleneck.text if bottleneck else None,
        "next_steps": find_next_steps(history, change, dev, bottleneck),
    }


def _documents(records: Sequence[DecisionRecord] | Sequence[SampleRecord], *left_out: str) -> list[dict[str, Any]]:
    """As asdict makes them, which would copy every value: a long run has a hundred thousand decisions."""
    if not records:
        return []
    names = [name for name in records[0].__dataclass_fields__ if name not in left_out]
    values = attrgetter(*names)
    return [dict(zip(names, values(record), strict=True)) for record in records]


def _mean(buckets: Sequence[Bucket]) -> float | None:
    """Over all steps, none of which is lost in a bucket."""
    return math.fsum(part.mean * part.n for part in buckets) / sum(part.n for part in buckets) if buckets else None


def _last(newest: Sequence[Mapping[str, float]], metric: str, buckets: Sequence[Bucket]) -> float | None:
    """The newest value that is a number; where the newest steps have none, the mean of the last steps that had one."""
    finite = [metrics[metric] for metrics in newest if math.isfinite(metrics.get(metric, math.nan))]
    return finite[-1] if finite else buckets[-1].mean if buckets else None


def _reasons(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Share of each reason code over some steps."""
    names = sorted({name for metrics in steps for name in metrics if name.startswith("reason/")})
    return {name.removeprefix("reason/"): round(fmean(m.get(name, 0.0) for m in steps), 4) for name in names}


def _heldout(test: Mapping[int, EvaluationRecord], start: int, best_step: int | None, last: int) -> dict[str, Any]:
    baseline, final = test.get(start), test.get(last)
    best = test.get(best_step) if best_step is not None else None
    any_look = final or best or baseline
    return {
        "metric": "accuracy",
        "split": "test",
        "n": any_look.n if any_look else 0,
        "baseline": baseline.accuracy if baseline else None,
        "best": best.accuracy if best else None,
        "best_step": best_step,
        "final": final.accuracy if final else None,
        "final_ci95": list(final.ci95) if final else None,
    }


def _change(
    history: History, test: Mapping[int, EvaluationRecord], best_step: int | None, last: int
) -> dict[str, Any] | None:
    """What the run made of the test score: at the best checkpoint, which is what an export takes, else at the end."""
    start = history.era_start
    step = best_step if best_step in test else last
    if step is None or start not in test or step not in test:
        return None
    found = compute_difference(test[start], test[step], history.answers.get(start, {}), history.answers.get(step, {}))
    return {
        "of": "best" if step == best_step else "final",
        "step": step,
        "from_step": start,
        "from": test[start].accuracy,
        "to": test[step].accuracy,
        "difference": found.value,
        "ci95": list(found.ci95),
        "paired": found.paired,
        "verdict": found.verdict,
    }


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """What held dev back, and what a person may try next about it."""

    text: str
    mend: str


def find_bottleneck(
    steps: Sequence[Mapping[str, float]], dev: Sequence[EvaluationRecord], decisions: Sequence[DecisionRecord]
) -> Bottleneck | None:
    """When dev did not rise beyond its noise: what most likely held it back, with the numbers. None when it rose."""
    if not steps or len(dev) < 2:
        return None
    first, best = dev[0], max(dev, key=lambda look: look.accuracy)
    if best.accuracy > first.ci95[1]:
        return None
    means = {name: fmean(step.get(name, 0.0) for step in steps[-20:]) for name in _BOTTLENECK_METRICS}
    flat = f"dev {first.accuracy:.3f} at the start, at best {best.accuracy:.3f} (within its noise). "
    truncated, unsolved = means["completion/truncated_rate"], means["group/unsolved_rate"]
    if means["completion/errored_rate"] > 0.02:
        errored = f"Reward: the verifier failed on {means['completion/errored_rate']:.0%} of the completions."
        return Bottleneck(flat + errored, "Mend the reward; its errors are in log.txt and reward.txt of the run.")
    if truncated > 0.3:
        cut = f"max_tokens: {truncated:.0%} of the completions were cut, {unsolved:.0%} of the groups unsolved."
        return Bottleneck(flat + cut, "Raise max_tokens and its upper bound, or ask for shorter answers.")
    if means["group/flat_rate"] > 0.4:
        paid = f"Reward: {means['group/flat_rate']:.0%} of the groups were flat, so only the format was paid."
        return Bottleneck(flat + paid, "Give the format less weight, or grade partly right answers.")
    if means["group/solved_rate"] > 0.7:
        easy = f"Data too easy: {means['group/solved_rate']:.0%} of the groups were solved outright."
        return Bottleneck(flat + easy, "Take a harder pool; grpo probe says beforehand how hard it is.")
    if unsolved > 0.7:
        hard = f"Data too hard or capacity: {unsolved:.0%} of the groups had no right completion."
        return Bottleneck(flat + hard, "Try easier prompts, a warm start or a larger model; grpo probe tells.")
    if means["kl/mean"] < 1e-3:
        rate = steps[-1].get("learning_rate", 0.0)
        small = f"Learning rate: at {rate:.1e} KL reached only {means['kl/mean']:.1e}."
        return Bottleneck(flat + small, "Raise the learning rate.")
    changed = sum(bool(decision.changes) for decision in decisions)
    mixed = means["group/mixed_rate"]
    rest = f"Capacity or steps: {mixed:.0%} of the groups had signal, {changed} changes of knobs did not help."
    return Bottleneck(flat + rest, "Give it more steps first; then a larger model or another pool.")


_BOTTLENECK_METRICS = (
    "completion/errored_rate",
    "completion/truncated_rate",
    "group/unsolved_rate",
    "group/solved_rate",
    "group/flat_rate",
    "group/mixed_rate",
    "kl/mean",
)


def find_next_steps(
    history: History, change: Mapping[str, Any] | None, dev: Sequence[EvaluationRecord], bottleneck: Bottleneck | None
) -> list[dict[str, str]]:
    """What a person may do now, the most useful first: ``{text, command}``, the command empty where there is none."""
    run, steps = history.run, []

    def say(text: str, command: str = "") -> None:
        steps.append({"text": text, "command": command})

    if not run.ended and history.alive:
        say("It is still running.", f"grpo watch {run.name}")
        return steps
    if not run.ended:
        say("Its process is gone; go on from the newest checkpoint.", f"grpo resume {run.name}")
    elif run.status == "failed" and history.checkpoints:
        say("Mend what ended it, then go on from the newest checkpoint.", f"grpo resume {run.name}")
    elif run.status == "failed":
        say(f"Mend what ended it, then start anew; {run.folder}/log.txt has the details.")
    elif run.stop_reason.startswith("interrupted"):
        say("It was interrupted; go on where it stopped.", f"grpo resume {run.name}")
    verdict = change["verdict"] if change else None
    if change and verdict == "better":
        which = "best" if change["of"] == "best" else "final"
        say(
            f"The {which} checkpoint is better than the start: take it.", f"grpo export {run.name} --checkpoint {which}"
        )
    elif verdict == "worse":
        say("Keep the model as it was: this run made it worse. The decisions below say what was tried.")
    if bottleneck and verdict != "better":
        say(bottleneck.mend)
    best = max(dev, key=lambda look: look.accuracy, default=None)
    flat = flat_since(dev)
    if flat is not None and run.stop_reason.startswith("budget of"):
        say(f"Dev has been level since step {flat}: more steps of the same would add little; harder prompts might.")
    elif best is not None and best is dev[-1] and len(dev) > 1 and run.stop_reason.startswith("budget of"):
        say("Dev was at its best at the last look: more steps may help.", f"grpo resume {run.name}{_more(run)}")
    elif change and verdict == "unclear" and not bottleneck:
        say("The difference is within noise: more test prompts or another seed would tell.")
    return steps


def _more(run: RunRecord) -> str:
    """Twice the budget that is spent."""
    return (
        f" --hours {2 * run.budget_hours:g}"
        if "hours" in run.stop_reason and run.budget_hours
        else (f" --steps {2 * max(run.budget_steps, run.last_step)}")
    )


# ---------------------------------------------------------------- for the terminal


def render_review(review: Mapping[str, Any]) -> RenderableType:
    """A review as a person reads it."""
    parts: list[RenderableType] = [_headline(review), Text("")]
    if review["reward"]["by_step"]:
        parts += [_trends(review), Text("")]
    parts += [_decision_table(review), Text("")]
    if review["samples"]:
        parts += [_before_and_after(review), Text("")]
    best = next((c for c in review["checkpoints"] if c["best"]), None)
    if best:
        accuracy = review["dev"]["by_step"][str(best["step"])]
        parts.append(Text(f"best checkpoint: {review['folder']}/{best_link(best['step'], accuracy)}"))
    if review["bottleneck"]:
        parts.append(Text(f"bottleneck: {review['bottleneck']}", style="yellow"))
    for number, step in enumerate(review["next_steps"]):
        lead = "next: " if number == 0 else "      "
        parts.append(Text(clean(lead + step["text"])).append(f"  {step['command']}", style="bold"))
    return Group(*parts)


def _headline(review: Mapping[str, Any]) -> RenderableType:
    text = Text()
    text.append(f"{review['run']}: {review['status']}", style="bold")
    text.append(f" ({clean(review['stop_reason'])})" if review["stop_reason"] else "")
    text.append(
        f"\n{review['steps']} steps, {review['rollouts']:,} completions, {format_duration(review['wall_s'])}, "
        f"seed {review['seed']}, policy {review['policy']}\n"
    )
    for number, era in enumerate(review["eras"], 2):
        text.append(clean(f"era {number} began at step {era['weights_step']}: {format_changes(era['changes'])}\n"))
    held = review["heldout"]
    if held["baseline"] is not None:
        text.append(f"test accuracy on {held['n']} prompts: {held['baseline']:.3f} at the start")
        if held["final"] is not None:
            low, high = held["final_ci95"]
            text.append(f", {held['final']:.3f} [{low:.3f}, {high:.3f}] at the end", style="bold")
        if held["best"] is not None:
            text.append(f", {held['best']:.3f} at the best checkpoint (step {held['best_step']})")
        if held["final"] is None:
            text.append(f"; the end was not scored: grpo eval {review['run']} --split test")
    if review["change"]:
        text.append(f"\n{describe_change(review['change'])}", style="bold")
    return text


def describe_change(change: Mapping[str, Any]) -> str:
    """``Better at the best checkpoint (step 70): +0.462 [+0.410, +0.510] prompt by prompt``."""
    where = "the best checkpoint" if change["of"] == "best" else "the end"
    return f"{VERDICTS[change['verdict']]} at {where} (step {change['step']}): {describe_interval(change)}"


def _trends(review: Mapping[str, Any]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    rewards = review["reward"]["by_step"]
    table.add_row("reward", f"{rewards[0]:.3f} -> {rewards[-1]:.3f}", compute_sparkline(rewards, 80, 0.0, None))
    dev = list(review["dev"]["by_step"].values())
    if dev:
        table.add_row("dev accuracy", f"{dev[0]:.3f} -> {dev[-1]:.3f}", compute_sparkline(dev, 80, 0.0, 1.0))
    kl = review["kl"]
    if kl["last"] is not None:
        table.add_row("KL to the start", f"{kl['last']:.4f}", f"at most {kl['max']:.4f}")
    signal = review["signal"]
    shares = ", ".join(f"{part.replace('_', '-')} {signal[f'{part}_rate']:.0%}" for part in SIGNAL[1:])
    table.add_row("no signal", f"{signal['no_signal_rate']:.0%}", shares)
    if review["reasons"]:
        ranked = sorted(review["reasons"].items(), key=lambda item: -item[1])
        table.add_row("reasons", "", ", ".join(f"{name} {share:.0%}" for name, share in ranked))
    return table


def _decision_table(review: Mapping[str, Any]) -> RenderableType:
    acted = [d for d in review["decisions"] if d["action"] != "continue"]
    shown = acted[-DECISIONS_TOLD:]
    earlier = f"; the newest {len(shown)} of {len(acted)}, all with --json" if len(shown) < len(acted) else ""
    table = Table(title=f"decisions ({review['continued']} times continue{earlier})", title_justify="left")
    measured = any(d["measured"] or d["verdict"] for d in shown)
    columns = ("step", "by", "action", "evidence", "hypothesis", "expected", *(["effect"] if measured else []))
    for name in columns:
        table.add_column(name, overflow="fold")
    for d in shown:
        record = DecisionRecord(**d)
        evidence = f"refused: {d['refused']}" if d["refused"] else d["evidence"]
        effect = ": ".join(part for part in (d["verdict"], d["measured"]) if part)
        cells = (str(d["step"]), d["source"], format_decision(record), evidence, d["hypothesis"], d["expected"], effect)
        table.add_row(*(Text(clean(cell)) for cell in cells[: len(columns)]))
    return table if acted else Text("no decision but continue")


def _before_and_after(review: Mapping[str, Any]) -> RenderableType:
    samples = review["samples"]
    first, last = samples[0]["step"], samples[-1]["step"]
    after = {s["prompt"]: s for s in samples if s["step"] == last}
    table = Table(title="samples before and after", title_justify="left")
    shown = (first, last) if last != first else (first,)
    for name in ("prompt", "wanted", *(f"step {step}" for step in shown)):
        table.add_column(name, overflow="fold")
    for before in (s for s in samples if s["step"] == first):
        cells = [Text(clean(before["prompt"])), Text(clean(before["ground_truth"]))]
        for sample in (before, after.get(before["prompt"], before))[: len(shown)]:
            style = "green" if sample["correct"] else "red"
            cells.append(Text(f"{sample['reason']}: {clean(sample['completion'])}", style=style))
        table.add_row(*cells)
    return table
