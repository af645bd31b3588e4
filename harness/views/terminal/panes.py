"""Draw the panes of the dashboard: each a pure function from a snapshot to lines of text of a given width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from rich.text import Text

from harness.core.formatting import format_bytes, format_duration, format_kind, format_knob
from harness.core.knobs import describe
from harness.types import Action, CommandRecord, DecisionRecord, Snapshot
from harness.views.groups import StageRecord
from harness.views.summary import (
    compute_effect,
    did_it_help,
    does_it_answer,
    format_decision,
    is_it_learning,
    is_it_stuck,
    is_kept,
)
from harness.views.terminal.drawing import VERDICT_STYLE, Lines, draw_shares, title, wrap

STYLES = {"good": "bold green", "warn": "bold yellow", "bad": "bold red", "plain": "bold"}
STATUS_STYLE = {
    "running": "green",
    "paused": "bold yellow",
    "finished": "cyan",
    "stopped": "cyan",
    "failed": "bold red",
}
POOL_PARTS = (
    ("unseen", "·", "dim"),
    ("hopeless", "░", "red"),
    ("frontier", "█", "green"),
    ("solved", "▓", "blue"),
)
SILENT_S = 30.0


@dataclass(frozen=True, slots=True)
class Machine:
    """What the process of a run takes of this machine: seen from outside, and of this machine only."""

    cpu: float
    memory: int
    load: float
    cores: int
    free_memory: int
    free_disk: int


# ---------------------------------------------------------------- who, how far, and the answers


def headline(s: Snapshot, age: float, alive: bool, width: int, played: int | None) -> Lines:
    run = s.run
    first = Text().append(f"{run.name} ", "bold reverse")
    first.append(" ")
    gone = run.status in ("running", "paused") and not alive
    first.append("process died" if gone else run.status, "bold red" if gone else STATUS_STYLE[run.status])
    first.append(f"  step {s.steps_done} of {run.budget_steps}", "bold")
    first.append(f"  decided by {run.policy}  seed {run.seed}  {format_duration(run.wall_s)}", "dim")
    first.append(f"  {_time_left(s)}", "dim")
    lines = [first]
    for question, answer in (
        ("learning?", is_it_learning(s)),
        ("stuck?", is_it_stuck(s)),
        ("changed?", did_it_help(s)),
        ("llm?", does_it_answer(s.asked)),
    ):
        if answer is None:
            continue
        line = Text().append(f"{question:<10}", "dim").append(f"{answer.word}  ", STYLES[answer.style])
        lines.append(line.append(answer.text))
    if played is not None:
        lines.append(Text().append(f"played back: as it was after step {played}", "bold reverse"))
    elif gone:
        lines.append(Text().append(f"its process died; to continue: grpo resume {run.name}", "bold red"))
    elif run.status in ("running", "paused"):
        lines.append(phase(s, age, width))
    else:
        style = "bold red" if run.status == "failed" else "bold"
        better = any(c.best and c.step > 0 for c in s.checkpoints)
        command = f"export {run.name} --checkpoint best" if better else f"review {run.name}"
        line = Text().append(f"{'ended':<10}", "dim").append(run.stop_reason, style)
        lines.append(line.append(f"; next: grpo {command}"))
    return lines


def draw_stages(stages: Sequence[StageRecord], shown: int) -> Text:
    """Draw the stages of a group in a line, each with its best score on dev; the one ``shown`` stands out."""
    line = Text().append("stages    ", "dim")
    for i, stage in enumerate(stages):
        mark = {"finished": "✓", "failed": "✗", "stopped": "‖"}.get(stage.status or "", "▶" if stage.status else "·")
        style = "reverse" if stage.run_id == shown else "green" if stage.status == "finished" else ""
        line.append("  " if i else "").append(f"{mark} {stage.name}", style)
        line.append(f" {stage.best:.3f}" if stage.best is not None else "", "magenta")
        line.append(f" from {stage.parent}", "dim")
    return line


def phase(s: Snapshot, age: float, width: int) -> Text:
    """Show the present phase, its progress and speed, and the age of the last update."""
    run = s.run
    share = run.phase_done / run.phase_total if run.phase_total else 0.0
    if run.status == "paused":
        return Text().append("paused    ", "bold yellow").append("p continues, n takes one step", "bold")
    line = Text().append(f"{run.phase or 'starting'}  ", "bold")
    if run.phase_total:
        room = max(6, min(30, width - 70))
        line.append("━" * round(room * share), "green").append("━" * (room - round(room * share)), "dim")
        line.append(f" {run.phase_done} of {run.phase_total}")
    last = s.steps[-1].metrics if s.steps else {}
    seconds = last.get("time/rollout_s", 0.0)
    if seconds > 0 and run.phase == "sampling":
        line.append(f"  {last['completion/tokens'] / seconds:,.0f} tokens/s", "dim")
        line.append(f"  {format_duration(seconds * (1 - share))} left", "dim")
    return line.append(f"  last update {age:.0f} s ago", "bold red" if age > SILENT_S else "dim")


def _time_left(s: Snapshot) -> str:
    if s.run.status != "running" or not s.steps:
        return ""
    seconds = median(step.metrics.get("time/step_s", math.nan) for step in s.steps[-20:])
    steps = s.run.budget_steps - s.steps_done
    left = seconds * steps
    if s.run.budget_hours is not None:
        left = min(left, s.run.budget_hours * 3600 - s.run.wall_s)
    return f"about {format_duration(max(0.0, left))} left" if math.isfinite(left) else ""


# ---------------------------------------------------------------- hyperparameters, experiment, pool


def knobs(s: Snapshot, width: int) -> Lines:
    """Draw each hyperparameter: value, pin, last change and its effect."""
    changes = {name: d for d in s.decisions if d.refused is None for name in d.changes}
    lines = [title("hyperparameters", width)]
    for name, value in asdict(s.knobs).items():
        if s.run.kind == "sft" and name != "learning_rate":  # which is all that its steps go by
            continue
        line = Text().append(f"{name:<16}").append(f"{format_knob(value):>8}", "bold")
        line.append(" ⚑" if name in s.pins else "  ", "bold yellow")
        if name in changes:
            d = changes[name]
            line.append(
                f" was {format_knob(d.changes[name]['from'])} @{d.step}" if width >= 40 else f"@{d.step}", "dim"
            )
            line.append_text(_effect(s, d, width))
        lines.append(line)
    return lines


def _effect(s: Snapshot, d: DecisionRecord, width: int) -> Text:
    """Draw the verdict, else whether it goes as the change expected."""
    if d.verdict:
        mark = {"helped": "✓", "hurt": "✗"}.get(d.verdict, "~")
        return Text().append(f" {d.verdict if width >= 40 else mark}", VERDICT_STYLE.get(d.verdict, ""))
    effect = compute_effect(s, d) if width >= 40 else None
    return Text().append(f" {effect.word}" if effect and effect.wanted else "", "dim")


def experiment(s: Snapshot, width: int) -> Lines:
    """Draw the change without verdict: its expected effect, and the effect so far."""
    opened = [d for d in s.decisions if d.changes and d.refused is None and d.verdict is None and not is_kept(d)]
    lines = [title("open experiment", width)]
    if not opened:
        return [*lines, Text().append("none", "dim")]
    d = opened[-1]
    taken = sum(step.step >= d.step for step in s.steps)
    lines.append(Text().append(f"{format_decision(d)}", "bold").append(f" since step {d.step}, {taken} steps", "dim"))
    if d.hypothesis:
        lines += wrap(d.hypothesis, width, "because ", "", rows=2)[:1]
    if d.expected:
        lines.append(Text().append(f"expects {d.expected}"))
    effect = compute_effect(s, d)
    return [*lines, Text().append(f"so far  {effect.text}")] if effect else lines


def pool(s: Snapshot, width: int) -> Lines:
    """Draw the prompts by class, as shares of the train split."""
    last: Mapping[str, float] = s.steps[-1].metrics if s.steps else {}
    shares = [(name, glyph, style, last.get(f"pool/{name}_rate", math.nan)) for name, glyph, style in POOL_PARTS]
    if s.run.kind == "sft":
        epoch = f"epoch {last['epoch']:.2f}" if "epoch" in last else "not begun"
        return [title("demonstrations", width), Text(epoch)]
    lines = [title("pool", width)]
    if any(math.isnan(share) for *_, share in shares):
        return [*lines, Text().append("not known yet", "dim")]
    lines.append(draw_shares([(glyph, style, share) for _, glyph, style, share in shares], width))
    for some in (shares[:2], shares[2:]) if width < 62 else (shares,):
        legend = Text()
        for name, glyph, style, share in some:
            legend.append(f"{glyph} ", style).append(f"{format_kind(name)} {share:.0%} " + " " * (width >= 40))
        lines.append(legend)
    expected = last.get("pool/mixed_expected", math.nan)
    if math.isfinite(expected):
        lines.append(Text().append(f"expected of the prompts drawn: {expected:.0%} mixed", "dim"))
    return lines


# ---------------------------------------------------------------- checkpoints, budget, machine, user actions


def checkpoints(s: Snapshot, width: int, rows: int) -> Lines:
    best = next((c for c in s.checkpoints if c.best), None)
    lines = [title("checkpoints", width, f"b rolls back to step {best.step}" if best else "")]
    dev = {look.step: look.score for look in s.dev}
    for c in sorted(s.checkpoints, key=lambda c: (c.best, c.step), reverse=True)[: max(1, rows - 1)]:
        line = Text().append("★ " if c.best else "  ", "magenta").append(f"step {c.step:<5}", "bold" if c.best else "")
        line.append(f" dev {dev[c.step]:.3f}" if c.step in dev else " " * 10)
        line.append(f"  {c.name}" if c.name else "", "cyan")
        lines.append(line.append("  rollback point" if c.best else "", "dim"))
    return lines if s.checkpoints else [*lines, Text().append("none yet", "dim")]


def budget(s: Snapshot, width: int, machine: Machine | None) -> Lines:
    run = s.run
    steps = f"{s.steps_done} of {run.budget_steps} steps"
    hours = f", {run.wall_s / 3600:.2f} of {run.budget_hours:g} h" if run.budget_hours is not None else ""
    rolled_out = f", {run.rollouts:,} completions" if run.kind == "grpo" else ""
    lines = [title("budget and machine", width), Text().append(f"{steps}{hours}{rolled_out}")]
    if s.asked.times:
        lines[-1].append(f", LLM ${s.asked.usd:.2f}")
    times = s.steps[-1].metrics if s.steps else {}
    parts = [(part, times.get(f"time/{part}_s", math.nan)) for part in ("rollout", "reward", "update", "step")]
    if times:
        lines.append(Text(", ".join(f"{part} {seconds:.2f} s" for part, seconds in parts if math.isfinite(seconds))))
    if machine is None:
        lines.append(Text().append(f"process {run.pid} on {run.host}", "dim"))
    else:
        lines.append(Text().append(f"{machine.cpu:.0%} CPU, {format_bytes(machine.memory)} of memory"))
        free = f"free: {format_bytes(machine.free_memory)}, disk {format_bytes(machine.free_disk)}"
        lines.append(Text().append(f"load {machine.load:.1f} on {machine.cores} cores; {free}", "dim"))
    return lines


def user_actions(s: Snapshot, width: int, rows: int, now: float) -> Lines:
    """List a person's newest actions: who asked, whether each waits, and its result."""
    lines = [title("user actions", width, f"{s.commands_waiting} waiting" if s.commands_waiting else "")]
    for c in reversed(s.commands[-max(1, rows - 1) :]):
        lines.append(_command(c, now))
    return lines if s.commands else [*lines, Text().append("nothing asked yet; ? tells the keys", "dim")]


def _command(c: CommandRecord, now: float) -> Text:
    glyph, style = {
        "waiting": ("…", "bold yellow"),
        "taken": ("…", "yellow"),
        "applied": ("✓", "green"),
        "refused": ("✗", "red"),
        "expired": ("✗", "red"),
    }[c.state]
    line = Text().append(f"{glyph} ", style).append(describe_as_typed(c.action), "bold")
    if c.state == "waiting":
        line.append(f" waits for the next step, asked {format_duration(max(0.0, now - c.asked_at))} ago", "yellow")
    elif c.state == "applied":
        line.append(f" applied before step {c.step}", "green")
    else:
        line.append(f" {c.state}: {c.result}" if c.result else f" {c.state}", style)
    return line.append(f"  {c.who}" + (f": {c.note}" if c.note else ""), "dim")


def describe_as_typed(action: Action) -> str:
    """Describe an action about as a person types it."""
    return f"{action.kind} {describe(action)}" if action.changes else describe(action)
