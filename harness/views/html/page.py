"""Render reports as HTML: one file with everything inside, which opens offline and fetches nothing.

Texts that a model or a person wrote are data. Jinja2 escapes them in the page and ``_embed`` in the plots' JSON,
control characters are made visible (harness.core.formatting), and a content security policy lets no script run but the
two that belong to the page.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly import graph_objects as go
from plotly.offline import get_plotlyjs

from harness import __version__
from harness.core.formatting import clean, clean_lines, finalize, format_duration, format_kind, format_knob
from harness.core.statistics import VERDICTS, describe_interval, describe_spread
from harness.types import Bucket, Course, DecisionRecord, EvaluationRecord, History, Metrics, SampleRecord
from harness.views.capability import describe_rates, describe_training
from harness.views.comparison import MOVES_TOLD, format_value
from harness.views.html.plots import (
    compute_knob_moves,
    plot_health,
    plot_knobs,
    plot_learning,
    plot_looks,
    plot_pool,
    plot_runs,
    plot_signal,
    plot_spread,
)
from harness.views.review import build_review, compute_reasons, describe_judge
from harness.views.seeds import SCORES, describe_moves, describe_seeds
from harness.views.summary import format_decision, shorten

ROWS = 1000
"""Decisions in the table, at most: the newest."""
CHANGED = 6
"""Changes at the head of the page, at most: the newest."""
PROMPTS = 20
"""Prompts with samples before and after, at most."""
CHARACTERS = 4000
"""Of a text that a model or a person wrote, at most."""
REASON = 40
"""Characters of a reason code, at most."""
NOTES = 40
"""Warnings and errors, at most: the newest."""
CURVES = (
    ("reward/mean", "Reward (raw)"),
    ("reward/adjusted", "Reward (adjusted)"),
    ("group/mixed_rate", "Groups with signal"),
    ("kl/mean", "KL to the initial model"),
    ("entropy/mean", "Entropy"),
    ("completion/tokens_mean", "Tokens per completion"),
    ("loss", "Loss"),
)
"""What a comparison plots, beside dev."""


def render_report(
    history: History,
    course: Course,
    windows: Sequence[Mapping[str, Any]],
    rate_bins: Sequence[str],
    *,
    where: str = "",
) -> str:
    """Render the report of a run. ``windows`` and ``rate_bins`` are of ``plot_pool``; ``where`` is the flag of a
    database that is not where grpo looks first. Only what did something is read of ``history.decisions``."""
    review = build_review(history)
    acted = [decision for decision in history.decisions if decision.action != "continue"]
    test = {look.step: look for look in history.evaluations if look.split == "test"}
    best_step = review["heldout"]["best_step"]
    last = max(1, history.run.last_step)
    health = plot_health(history.buckets, last)
    knobs = plot_knobs(course.knobs, acted, last)
    plots: dict[str, go.Figure] = {}
    if history.steps_taken:
        plots["learning"] = plot_learning(
            history.buckets, history.evaluations, acted, best_step, measure=history.run.measure
        )
        if history.run.kind == "grpo":
            plots["signal"] = plot_signal(history.buckets, last)
    plots |= {f"health-{i}": figure for i, figure in enumerate(health.values())}
    plots |= {f"knob-{i}": figure for i, figure in enumerate(knobs.values())}
    if windows:
        plots["pool"] = plot_pool(windows, rate_bins)
    low, high = history.run.reward_range if history.run.graded else (0.0, 1.0)
    return render_page(
        "report.html",
        plots,
        low=low,
        high=high,
        title=f"{history.run.name}: run report",
        review=review,
        created=_day(history.run.created),
        headline=_headline(review),
        scores=_scores(test, history, best_step),
        training=describe_training(review["pass_at"])[:1],
        rates=_sentence(describe_rates(review["pass_at"])),
        where=where,
        knob_moves=compute_knob_moves(course.knobs),
        changed=[
            {**asdict(d), "what": format_decision(d), "brief": shorten(d.measured) if d.measured else ""}
            for d in [d for d in acted if d.is_change][-CHANGED:]
        ],
        decided=_decided(acted, history),
        facts=_facts(review, history),
        health=[(name, f"health-{i}") for i, name in enumerate(health)],
        knob_plots=[(name, f"knob-{i}") for i, name in enumerate(knobs)],
        still={name: value for name, value in review["knobs"].items() if name not in knobs},
        rows=[{**asdict(d), "what": format_decision(d)} for d in reversed(acted[-ROWS:])],
        earlier=max(0, len(acted) - ROWS),
        samples=_pair(history.samples),
        windows=windows,
        every=course.every,
        pool_size=history.manifest.get("split_sizes", {}).get("train", 0),
        reasons=_reasons(course.oldest[:10], history.newest[-10:]),
        costs=_costs(course.seconds, history.run.wall_s),
        cost_text=_cost_text(history),
        notes=[event for event in history.events if event.level != "info"][-NOTES:],
        reproduce=_reproduce(history),
        user_actions=sum(d.source == "manual" for d in acted),
        versions=_versions(history.manifest),
        spec=json.dumps(dict(course.spec), indent=2),
    )


def render_comparison_page(comparison: Mapping[str, Any], histories: Sequence[History]) -> str:
    """Render the page of ``grpo compare``; ``comparison`` as of ``build_comparison``."""
    buckets: dict[str, Mapping[str, Sequence[Bucket]]] = {h.run.name: h.buckets for h in histories}
    dev = {h.run.name: [look for look in h.evaluations if look.split == "dev"] for h in histories}
    plots = {"dev": plot_looks(dev)} if any(dev.values()) else {}
    runs = {run["run"]: run["heldout"] for run in comparison["runs"]}
    for i, seeds in enumerate(comparison["seeds"]):
        told = [(name, key) for name, key in SCORES if seeds[name]]
        series = {
            f"{run}, seed {seed}": [runs[run][key] for _, key in told]
            for run, seed in zip(seeds["runs"], seeds["seeds"], strict=True)
        }
        plots[f"seeds-{i}"] = plot_spread([name for name, _ in told], series, [seeds[name]["mean"] for name, _ in told])
    curves = []
    for i, (metric, title) in enumerate(CURVES):
        if any(metric in run for run in buckets.values()):
            plots[f"curve-{i}"] = plot_runs(metric, buckets)
            curves.append((title, f"curve-{i}"))
    return render_page(
        "compare.html",
        plots,
        title="Comparison: " + ", ".join(buckets),
        comparison=comparison,
        names=list(buckets),
        training=[(run["run"], line) for run in comparison["runs"] for line in describe_training(run["pass_at"])],
        curves=curves,
        moves=comparison["decisions"][:MOVES_TOLD],
    )


# ---------------------------------------------------------------- the file


def render_page(template: str, plots: Mapping[str, go.Figure], **values: Any) -> str:
    """Render a template of the folder with everything inside; ``plots`` by the names that it places them by."""
    page_js, plotly_js = _asset("page.js"), get_plotlyjs()
    return (
        _templates()
        .get_template(template)
        .render(
            css=_asset("page.css"),
            page_js=page_js,
            plotly_js=plotly_js,
            script_hashes=f"{_hash(plotly_js)} {_hash(page_js)}",
            figures=_embed({name: figure.to_plotly_json() for name, figure in plots.items()}),
            version=__version__,
            **values,
        )
    )


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("harness.views.html"),
        autoescape=True,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.filters |= {
        "duration": format_duration,
        "kind": format_kind,
        "knob": format_knob,
        "interval": describe_interval,
        "spread": describe_spread,
        "moves": describe_moves,
        "seeds": describe_seeds,
        "value": format_value,
        "line": lambda text: clean_lines(clean(text), CHARACTERS),
        "text": lambda text, limit=CHARACTERS: clean_lines(text, limit),
    }
    return templates


def _asset(name: str) -> str:
    return files("harness.views.html").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """Name a script of the page as a content security policy does."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _embed(document: Any) -> str:
    """Write JSON that cannot end the element it stands in. Raises ValueError for NaN, which no browser would parse."""
    text = json.dumps(_printable(document), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _printable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _printable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(part) for part in value]
    return clean_lines(value) if isinstance(value, str) else value


# ---------------------------------------------------------------- what the report says


def _headline(review: Mapping[str, Any]) -> dict[str, str]:
    """Say the answer in one line, and the sentence below it."""
    change, held, status = review["change"], review["heldout"], review["status"]
    gone = status in ("running", "paused") and not review["alive"]
    ended = f"The run failed: {review['stop_reason']}" if status == "failed" else review["stop_reason"]
    if change is None:
        baseline = held["baseline"]
        start = "" if baseline is None else f"Test {held['metric']} was {baseline:.3f} at the start."
        titles = {"failed": "Failed before there was a score", "running": "Running: no score at the end yet"}
        titles["paused"] = "Paused: no score at the end yet"
        title = "Its process died: no score at the end" if gone else titles.get(status, "No score at the end")
        return {"kind": status, "title": title, "text": " ".join(part for part in (_sentence(ended), start) if part)}
    title = f"{VERDICTS[change['verdict']]}: {change['from']:.3f} → {change['to']:.3f}"
    low, high = change["ci95"]
    where = "at the best checkpoint by dev" if change["of"] == "best" else "after the last step"
    text = (
        f"Test {held['metric']} {where} (step {change['step']}): {change['difference']:+.3f}, "
        f"95% interval {low:+.3f} to {high:+.3f}, {'compared prompt by prompt' if change['paired'] else 'unpaired'}."
    )
    if change["step"] == change["from_step"] and change["of"] == "best":
        title, text = f"No checkpoint beat the start: {change['from']:.3f}", "On dev the start is still the best."
    kind = "failed" if status == "failed" else change["verdict"]
    return {"kind": kind, "title": title, "text": f"{text} {_sentence(ended)}".strip()}


def _sentence(text: str) -> str:
    text = clean(text[:CHARACTERS])
    return text and text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _scores(
    test: Mapping[int, EvaluationRecord], history: History, best_step: int | None
) -> list[tuple[str, str, EvaluationRecord]]:
    start, last = history.era_start, max(history.rewards, default=history.era_start)
    wanted = [("Start", "", start)]
    if best_step is not None and best_step != start:
        wanted.append(("Best by dev", f"step {best_step}", best_step))
    if last not in (start, best_step):
        wanted.append(("Last", f"step {last}", last))
    return [(name, note, test[step]) for name, note, step in wanted if step in test]


def _decided(acted: Sequence[DecisionRecord], history: History) -> str:
    by = Counter(decision.source for decision in acted)
    rollbacks = sum(d.action == "rollback" and d.refused is None for d in acted)
    parts = [f"{count:,} by {source}" for source, count in by.most_common()]
    said = f"Decisions that did something: {', '.join(parts)}" if parts else "No decision did anything"
    refused = sum(d.refused is not None for d in acted)
    more = [f"{rollbacks} rollbacks"] * (rollbacks > 0) + [f"{refused} refused"] * (refused > 0)
    aside = f" ({', '.join(more)})" if more else ""
    return f"{said}{aside}; {history.continued:,} times continue."


def _facts(review: Mapping[str, Any], history: History) -> list[tuple[str, str]]:
    run, budget = history.run, f" of {history.run.budget_steps:,}" if history.run.budget_steps else ""
    facts = [
        ("steps", f"{review['steps']:,}{budget}"),
        ("completions", f"{run.rollouts:,}" if run.kind == "grpo" else "-"),
        ("wall time", format_duration(run.wall_s)),
        ("decided by", run.policy),
        ("seed", str(run.seed)),
    ]
    signal, kl = review["signal"]["no_signal_rate"], review["kl"]
    if signal is not None:
        facts.insert(2, ("groups without signal", f"{signal:.0%}"))
    if asked := history.asked.times:
        facts.append(("LLM turns with a usable answer", f"{asked - history.asked.failed:,} of {asked:,}"))
    if kl["last"] is not None:
        facts.insert(3, ("KL, last (most)", f"{kl['last']:.3g} ({kl['max']:.3g})"))
    return facts


def _pair(samples: Sequence[SampleRecord]) -> list[dict[str, Any]]:
    """Pair the fixed prompts' first and last looks."""
    if not samples:
        return []
    first, last = samples[0].step, samples[-1].step
    after = {sample.prompt: sample for sample in samples if sample.step == last}
    pairs = []
    for before in [sample for sample in samples if sample.step == first][:PROMPTS]:
        looks = [before, *([after[before.prompt]] if last != first and before.prompt in after else [])]
        pairs.append({"prompt": before.prompt, "ground_truth": before.ground_truth, "looks": looks})
    return pairs


def _reasons(oldest: Sequence[Metrics], newest: Sequence[Metrics]) -> list[tuple[str, float, float]]:
    """List each reason code with its share in the first and in the last steps, the most frequent first."""
    before, now = compute_reasons(oldest), compute_reasons(newest)
    found = [(name[:REASON], before.get(name, 0.0), now.get(name, 0.0)) for name in before | now]
    return sorted(found, key=lambda row: (-row[2], -row[1], row[0]))


def _costs(seconds: Mapping[str, float], wall_s: float) -> list[tuple[str, float, float]]:
    """Sum wall time by phase, with its share; outside of steps lie warm start, evaluations, checkpoints and waiting."""
    phases = {name: seconds.get(name, 0.0) for name in ("rollout", "reward", "update")}
    rest = max(0.0, seconds.get("step", 0.0) - sum(phases.values()))
    phases |= {
        "rest of the steps": rest,
        "warm start, evaluations, checkpoints": max(0.0, wall_s - seconds.get("step", 0.0)),
    }
    whole = sum(phases.values())
    return [(name, part, part / whole if whole else 0.0) for name, part in phases.items()]


def _cost_text(history: History) -> str:
    run = history.run
    per_step = f", {run.rollouts / history.steps_taken:,.0f} a step" if history.steps_taken else ""
    rate = f" at {run.rollouts / run.wall_s:.1f} a second of the whole run" if run.wall_s else ""
    asked = history.asked
    if run.kind == "sft":
        return f"{history.steps_taken:,} steps of supervised fine-tuning, without completions."
    llm = f" The LLM was asked {asked.times:,} times: {asked.tokens_in:,} tokens in, {asked.tokens_out:,} out, "
    spent = f"${asked.usd:.2f}." if asked.usd else "without a price in the spec."
    judges = "".join(f" {clean(describe_judge(name, asdict(judged)))}." for name, judged in history.judged.items())
    if asked.failed:
        unanswered = asked.failed - asked.unusable
        spent += f" It gave no decision {asked.failed:,} times ({unanswered:,} without an answer, {asked.unusable:,} "
        spent += f"not usable), the last time: {_sentence(asked.last_failure)}"
    return f"{run.rollouts:,} completions rolled out{per_step}{rate}." + (llm + spent if asked.times else "") + judges


def _reproduce(history: History) -> list[str]:
    run, commit = history.run, history.manifest.get("git_commit")
    lines = [f"git checkout {commit}"] if commit else []
    lines.append(f"grpo run spec.json --name {run.name}-again")
    command = history.manifest.get("command")
    if command:
        lines.append(f"# it was started with: grpo {clean(shlex.join(command[1:]))}")
    return lines


def _versions(manifest: Mapping[str, Any]) -> str:
    found = [f"{name} {version}" for name, version in manifest.get("versions", {}).items() if version]
    machine = manifest.get("machine", {})
    parts = [*found, f"Python {manifest['python']}" if "python" in manifest else "", machine.get("processor") or ""]
    threads = f"{manifest['threads']} threads" if "threads" in manifest else ""
    return ", ".join(part for part in (*parts, threads) if part) or "not recorded"


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%d %b %Y, %H:%M UTC")
