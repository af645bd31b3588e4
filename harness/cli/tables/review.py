"""Runs, groups and reviews, as a person reads them in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.core.formatting import clean, format_ago, format_changes, format_duration, format_kind
from harness.core.paths import best_link
from harness.types import Asked, DecisionRecord
from harness.views.capability import describe_rates, describe_training
from harness.views.review import DECISIONS_TOLD, SIGNAL, describe_change, describe_judge
from harness.views.summary import does_it_answer, format_decision
from harness.views.terminal.drawing import compute_sparkline
from pools.counts import describe_counts, parse_counts

if TYPE_CHECKING:
    from harness.commands.report import RunSummary
    from harness.commands.stages.group import StageOutcome

ANSWER_STYLES = {"good": "", "warn": "yellow", "bad": "bold red"}


def render_review(review: Mapping[str, Any]) -> RenderableType:
    """A review as a person reads it."""
    if "group" in review:
        return render_reviews(review)
    parts: list[RenderableType] = [_headline(review), Text("")]
    if review["reward"]["by_step"] or review["loss"]["last"] is not None:
        parts += [_trends(review), Text("")]
    parts += [_decision_table(review), Text("")]
    if review["samples"]:
        parts += [_before_and_after(review), Text("")]
    best = next((c for c in review["checkpoints"] if c["best"]), None)
    if best:
        score = review["dev"]["by_step"][str(best["step"])]
        parts.append(Text(f"best checkpoint: {review['folder']}/{best_link(best['step'], score)}"))
    if review["bottleneck"]:
        parts.append(Text(f"bottleneck: {review['bottleneck']}", style="yellow"))
    for number, step in enumerate(review["next_steps"]):
        lead = "next: " if number == 0 else "      "
        parts.append(Text(clean(lead + step["text"])).append(f"  {step['command']}", style="bold"))
    return Group(*parts)


def render_reviews(group: Mapping[str, Any]) -> Table:
    """The reviews of a group, a stage a line."""
    table = Table(title=f"{group['group']}: its stages, scored on test", title_justify="left", box=None)
    for column in ("stage", "from", "kind", "steps", "start", "best", "at step", "status"):
        table.add_column(column, overflow="fold", no_wrap=column != "status")
    for one in group["stages"]:
        held = one["heldout"]
        scores = ("-" if held[name] is None else f"{held[name]:.3f}" for name in ("baseline", "best"))
        best = "-" if held["best_step"] is None else held["best_step"]
        told = one["stop_reason"] and one["status"] != "finished"
        status = f"{one['status']}: {clean(one['stop_reason'])}" if told else one["status"]
        cells = (one["stage"], one["from"], one["kind"], one["steps"], *scores, best, status)
        table.add_row(*(Text(str(cell)) for cell in cells))
    return table


def _headline(review: Mapping[str, Any]) -> RenderableType:
    text = Text()
    text.append(f"{review['run']}: {review['status']}", style="bold")
    rolled_out = f", {review['rollouts']:,} completions" if review["kind"] == "grpo" else " of supervised fine-tuning"
    text.append(f" ({clean(review['stop_reason'])})" if review["stop_reason"] else "")
    text.append(
        f"\n{review['steps']} steps{rolled_out}, {format_duration(review['wall_s'])}, "
        f"seed {review['seed']}, policy {review['policy']}\n"
    )
    asked = Asked(**review["llm"])
    answer = does_it_answer(asked)
    if answer is not None:
        unanswered = f" ({asked.failed - asked.unusable:,} without an answer, {asked.unusable:,} not usable)"
        text.append(f"llm: {answer.text}{unanswered if asked.failed else ''}\n", style=ANSWER_STYLES[answer.style])
    if review["rows"]:
        text.append(f"pool: {clean(describe_counts(parse_counts(review['rows'])))}\n")
    for name, judge in review["judge"].items():
        text.append(f"{clean(describe_judge(name, judge))}\n")
    if per_step := review["judge_per_step"]:
        text.append(
            f"judges per step: {per_step['cost_usd']:.4f} USD, {per_step['cached_rate']:.0%} on record, "
            f"{per_step['latency']:.2f} s for a new reply\n"
        )
    text.append(f"{clean(review['missing'])}\n" if review["missing"] else "", style="yellow")
    for number, era in enumerate(review["eras"], 2):
        text.append(clean(f"era {number} began at step {era['weights_step']}: {format_changes(era['changes'])}\n"))
    held = review["heldout"]
    if held["baseline"] is not None:
        text.append(f"test {held['metric']} on {held['n']} prompts: {held['baseline']:.3f} at the start")
        if held["final"] is not None:
            low, high = held["final_ci95"]
            text.append(f", {held['final']:.3f} [{low:.3f}, {high:.3f}] at the end", style="bold")
        if held["best"] is not None:
            text.append(f", {held['best']:.3f} at the best checkpoint (step {held['best_step']})")
        if held["final"] is None:
            text.append(f"; the end was not scored: grpo eval {review['run']} --split test")
    if review["change"]:
        text.append(f"\n{describe_change(review['change'])}", style="bold")
    for line in (describe_rates(review["pass_at"]), *describe_training(review["pass_at"])[:1]):
        text.append(f"\n{line}" if line else "")
    return text


def _trends(review: Mapping[str, Any]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    if rewards := review["reward"]["by_step"]:
        table.add_row("reward", f"{rewards[0]:.3f} -> {rewards[-1]:.3f}", compute_sparkline(rewards, 80, 0.0, None))
    if review["loss"]["last"] is not None:
        table.add_row("loss", f"{review['loss']['first']:.3f} -> {review['loss']['last']:.3f}")
    if losses := list(review["loss"]["dev_by_step"].values()):
        spark = compute_sparkline(losses, 80, 0.0, None)
        table.add_row("dev loss", f"{losses[0]:.3f} -> {losses[-1]:.3f}, lowest {min(losses):.3f}", spark)
    dev = list(review["dev"]["by_step"].values())
    if dev:
        table.add_row(f"dev {review['dev']['metric']}", f"{dev[0]:.3f} -> {dev[-1]:.3f}", _sparkline(dev))
        if review["dev"]["metric"] != "reward":
            earned = list(review["dev"]["reward_by_step"].values())
            table.add_row("dev reward", f"{earned[0]:.3f} -> {earned[-1]:.3f}", _sparkline(earned))
    if review["pass_at"] and (rates := list(review["pass_at"]["dev"]["by_step"].values())):
        table.add_row(f"dev pass@{review['pass_at']['k']}", f"{rates[0]:.3f} -> {rates[-1]:.3f}", _sparkline(rates))
    kl = review["kl"]
    if None not in kl.values():
        table.add_row("KL to the initial model", f"{kl['last']:.4f}", f"at most {kl['max']:.4f}")
    signal = review["signal"]
    if None not in signal.values():
        shares = ", ".join(f"{format_kind(part)} {signal[f'{part}_rate']:.0%}" for part in SIGNAL[1:])
        table.add_row("no signal", f"{signal['no_signal_rate']:.0%}", shares)
    if review["reasons"]:
        ranked = sorted(review["reasons"].items(), key=lambda item: -item[1])
        table.add_row("reasons", "", ", ".join(f"{name} {share:.0%}" for name, share in ranked))
    return table


def _sparkline(scores: Sequence[float]) -> str:
    """Draw scores on a scale from 0 to 1, or to where they lie beyond it."""
    return compute_sparkline(scores, 80, min(0.0, *scores), max(1.0, *scores))


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
    for name in ("prompt", "expected", *(f"step {step}" for step in shown)):
        table.add_column(name, overflow="fold")
    for before in (s for s in samples if s["step"] == first):
        cells = [Text(clean(before["prompt"])), Text(clean(before["ground_truth"]))]
        for sample in (before, after.get(before["prompt"], before))[: len(shown)]:
            style = "green" if sample["correct"] else "red"
            cells.append(Text(f"{sample['reason']}: {clean(sample['completion'])}", style=style))
        table.add_row(*cells)
    return table


def render_runs(runs: Sequence[RunSummary], *, now: float) -> Table:
    table = Table(box=None)
    for column in ("run", "policy", "seed", "steps", "best", "time", "began", "status"):
        justify: Literal["left", "right"] = "right" if column in ("seed", "steps", "best", "time") else "left"
        table.add_column(column, overflow="fold", justify=justify, no_wrap=column != "status")
    for run in _fold(runs):
        gone = run.status in ("running", "paused") and not run.alive
        status = f"{run.status}: {clean(run.stop_reason)}" if run.stop_reason else run.status
        best = "-" if run.best_step is None else run.best_step
        cells = (run.run, run.policy, run.seed, run.steps, best, format_duration(run.wall_s),
                 format_ago(now - run.created), "process died: grpo resume" if gone else status)  # fmt: skip
        table.add_row(*(Text(str(cell)) for cell in cells))
    return table


def _fold(runs: Sequence[RunSummary]) -> list[RunSummary]:
    """Fold the runs of a group into one, in the place of its first: sums of all, and the status of the newest."""
    folded: dict[str, RunSummary] = {}
    for run in runs:
        group, slash, stage = run.run.partition("/")
        name, first = (f"{group}/" if slash else group), folded.get(f"{group}/" if slash else group)
        newest = (
            replace(run, run=name, stop_reason=f"{stage} {run.stop_reason}".strip(), best_step=None) if slash else run
        )
        if first is not None:
            newest = replace(
                newest, steps=first.steps + run.steps, wall_s=first.wall_s + run.wall_s, created=first.created
            )
        folded[name] = newest
    return list(folded.values())


def render_stages(group: str, outcomes: Sequence[StageOutcome]) -> Table:
    """What became of the stages of a group."""
    table = Table(box=None)
    for column in ("stage", "from", "kind", "run", "state"):
        table.add_column(column, overflow="fold", no_wrap=column != "state")
    for one in outcomes:
        state = f"{one.state}: {clean(one.why)}" if one.why else one.state
        table.add_row(*map(Text, (one.stage, one.parent, one.kind, one.run or "-", state)))
    return table
