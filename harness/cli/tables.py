"""Tables and texts of the commands, as a person reads them in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.checks.probe import BINS
from harness.core.formatting import clean, format_ago, format_changes, format_duration, format_kind, shorten
from harness.core.paths import best_link
from harness.core.statistics import VERDICTS, describe_interval
from harness.types import Asked, DecisionRecord
from harness.views.answers import ANSWERS_TOLD
from harness.views.capability import describe_rates, describe_training
from harness.views.comparison import MOVES_TOLD, format_value
from harness.views.review import DECISIONS_TOLD, SIGNAL, describe_change, describe_judge
from harness.views.summary import does_it_answer, format_decision
from harness.views.terminal.drawing import compute_sparkline
from pools.counts import describe_counts, parse_counts

ERRORS_TOLD = 5

if TYPE_CHECKING:
    from harness.checks.against import Agreement
    from harness.checks.doctor import MachineCheck
    from harness.checks.preflight import Report
    from harness.commands.model import Probed
    from harness.commands.pool_convert import Demonstrated
    from harness.commands.pool_report import PoolView, Shown
    from harness.commands.report import Answer, Diagnosis, RunSummary
    from harness.commands.stages.group import StageOutcome
    from harness.commands.targets import Measured
    from pools.view import Window

TOLD = 240
"""Characters of a reason."""
ANSWER_STYLES = {"good": "", "warn": "yellow", "bad": "bold red"}


def describe_measured(found: Measured) -> list[str]:
    """An evaluation in a few lines, the same whenever the same answers are read again."""
    (low, high), (least, most) = found.ci95, found.reward_ci95
    of_each = f", {found.per_prompt} completions each" if found.per_prompt > 1 else ""
    lines = [
        f"{clean(found.model)} on {found.split}: accuracy {found.accuracy:.4f} [{low:.4f}, {high:.4f}], reward "
        f"{found.reward:.4f} [{least:.4f}, {most:.4f}] on {found.n} prompts{of_each}"
    ]
    if found.pass_at:
        rates = ((k, at["value"], *at["ci95"]) for k, at in found.pass_at.items())
        lines.append(", ".join(f"pass@{k} {rate:.4f} [{low:.4f}, {high:.4f}]" for k, rate, low, high in rates))
    lines += [
        f"thinking proportion {found.thinking_proportion:.4f}, answer proportion {found.answer_proportion:.4f}",
        "reasons: " + ", ".join(f"{clean(name)} {count}" for name, count in found.reasons.items()),
    ]
    if found.tokens_in or found.tokens_out:
        cost = "" if found.usd is None else f", ${found.usd:.4f}"
        lines.append(f"tokens {found.tokens_in:,} in, {found.tokens_out:,} out{cost}")
    if found.errors:
        told = "; ".join(f"{clean(error)} ({count})" for error, count in list(found.errors.items())[:ERRORS_TOLD])
        more = f"; {len(found.errors) - ERRORS_TOLD} more" if len(found.errors) > ERRORS_TOLD else ""
        lines.append(f"errored {sum(found.errors.values())}: {told}{more}")
    return lines


def describe_demonstrated(found: Demonstrated) -> list[str]:
    """The rows that got a right answer, and why the others did not."""
    wrong = sum(failed.answers for failed in found.failed.values())
    lines = [
        f"kept {found.kept:,} of {found.answered:,} answered rows in {found.out}, each with its shortest right answer",
        f"not right {wrong:,} of {found.answers:,} answers",
    ]
    for reason, failed in found.failed.items():
        lines += [f"  {clean(reason)} {failed.answers:,}", *(f"    {clean(line)}" for line in failed.examples)]
    if found.elsewhere:
        lines.append(f"left out {found.elsewhere:,} answers to prompts that are not in the source")
    return lines


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


def render_group_comparison(found: Mapping[str, Any]) -> Table:
    """Base and stages of a group, a model a column: intervals stand below what they are of."""
    table = Table(title=f"{found['group']}: base and stages on {found['split']}", title_justify="left", box=None)
    table.add_column("")
    told = [_tell_model(one) for one in found["models"]]
    for one in found["models"]:
        table.add_column(Text(one["name"]), overflow="fold")
    for line in dict.fromkeys(line for one in told for line in one):
        table.add_row("" if line.startswith("of ") else line, *(Text(one.get(line, "-")) for one in told))
    return table


def _tell_model(one: Mapping[str, Any]) -> dict[str, str]:
    """What is told of a model by line; a line that begins with ``of`` holds the interval of the one before."""
    told = {"from": one["from"] or "-"}
    if "n" not in one:
        return told
    low, high = one["ci95"]
    told |= {"accuracy": f"{one['accuracy']:.3f}", "of accuracy": f"[{low:.2f}, {high:.2f}]"}
    for name in ("base", "parent"):
        if difference := one[f"against_{name}"]:
            low, high = difference["ci95"]
            told[f"against {name}"] = f"{difference['difference']:+.3f}"
            told[f"of against {name}"] = f"[{low:+.2f}, {high:+.2f}]"
    parent = one["against_parent"]
    told |= {"forgotten": str(len(parent["forgotten"]))} if parent else {}
    told["reward"] = "-" if one["reward"] is None else f"{one['reward']:.3f}"
    told |= {"thinking": f"{one['thinking_proportion']:.0%}", "answer": f"{one['answer_proportion']:.0%}"}
    told["tokens"] = f"{one['tokens']:.1f}"
    return told | {name: str(one[name]) for name in ("truncated", "empty", "repeated", "identical")}


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


def render_comparison(comparison: Mapping[str, Any]) -> RenderableType:
    """A comparison as a person reads it."""
    if "group" in comparison:
        return render_group_comparison(comparison)
    parts: list[RenderableType] = [_scores(comparison), Text("")]
    for difference in comparison["differences"]:
        for which, found in (("best checkpoint", difference["best"]), ("end", difference["final"])):
            if found is not None:
                line = f"{difference['run']} against {difference['against']} at the {which}: "
                parts.append(Text(line).append(describe_interval(found), style="bold"))
    for run in comparison["runs"]:
        parts += [Text(f"{run['run']}: {line}") for line in describe_training(run["pass_at"])]
    parts.append(Text(""))
    names = [run["run"] for run in comparison["runs"]]
    for title, rows in (("spec", comparison["spec"]), ("final hyperparameters", comparison["knobs"])):
        if rows:
            parts += [_table(title, names, [(row["field"], row["values"]) for row in rows]), Text("")]
        else:
            parts.append(Text(f"{title}: no difference"))
    moves = comparison["decisions"]
    shown = [
        (
            str(row["step"]),
            {run: "; ".join(f"{d['source']}: {d['action']}" for d in told) for run, told in row["runs"].items()},
        )
        for row in moves[:MOVES_TOLD]
    ]
    more = f" (the first {MOVES_TOLD} of {len(moves)}, all with --json)" if len(moves) > MOVES_TOLD else ""
    parts.append(_table(f"decisions before step{more}", names, shown) if shown else Text("decisions: no difference"))
    return Group(*parts)


def _scores(comparison: Mapping[str, Any]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0))
    names = [
        run["run"] if run["status"] == "finished" else f"{run['run']} ({run['status']})" for run in comparison["runs"]
    ]
    table.add_column("run", min_width=max(map(len, names)))
    for column in ("policy", "seed", "steps", "start", "best", "last", "no signal", "dev"):
        table.add_column(column, overflow="fold")
    for name, run in zip(names, comparison["runs"], strict=True):
        held = run["heldout"]
        scores = ["-" if held[which] is None else f"{held[which]:.3f}" for which in ("baseline", "best", "final")]
        signal = "-" if run["signal"] is None else f"{run['signal']:.0%}"
        spark = compute_sparkline(list(run["dev"]["by_step"].values()), 16, 0.0, 1.0)
        cells = (name, run["policy"], run["seed"], run["steps"], *scores, signal, spark)
        table.add_row(*(Text(clean(str(cell))) for cell in cells))
    return table


def _table(title: str, names: Sequence[str], rows: Sequence[tuple[str, Mapping[str, Any]]]) -> RenderableType:
    table = Table(title=title, title_justify="left")
    for column in ("", *names):
        table.add_column(Text(column), overflow="fold")
    for first, values in rows:
        table.add_row(Text(clean(first)), *(Text(clean(format_value(values[name]))) for name in names))
    return table


def render_answers(comparison: Mapping[str, Any]) -> RenderableType:
    """A comparison of answers to the same prompts as a person reads it."""
    parts: list[RenderableType] = []
    for found in comparison["answerers"]:
        (low, high), (least, most) = found["ci95"], found["reward_ci95"]
        line = (
            f"{found['answerer']} ({found['who']}): accuracy {found['accuracy']:.3f} [{low:.3f}, {high:.3f}], "
            f"reward {found['reward']:.3f} [{least:.3f}, {most:.3f}]"
        )
        rates = list(found["pass_at"].items())[1:]
        line += "".join(f", pass@{k} {rate['value']:.3f}" for k, rate in rates[-1:])
        parts.append(Text(clean(f"{line}, on {found['n']:,} prompts")))
        if found["errored"]:
            said = f"    {found['errored']:,} of {found['completions']:,} errored, the first: {found['error']}"
            parts.append(Text(clean(said), style="yellow"))
    for found in comparison["differences"]:
        left = f"; {found['left_out']:,} left out" if found["left_out"] else ""
        parts += [Text(), Text(f"on the {found['n']:,} prompts that both answered{left}:")]
        scores = [("accuracy", found["accuracy"]), ("mean reward", found["reward"])]
        if "pass_at" in found:
            scores.append((f"pass@{found['pass_at']['k']}", found["pass_at"]))
        for name, moved in scores:
            line = f"{VERDICTS[moved['verdict']]}: {name} {moved['from']:.3f} -> {moved['to']:.3f}, "
            parts.append(Text(line + describe_interval(moved), style="bold"))
        for word in ("forgotten", "gained"):
            told = found[word]
            more = f", of which {ANSWERS_TOLD}" if len(told) > ANSWERS_TOLD else ""
            parts.append(Text(f"\n{word}: {len(told):,} prompts{more}"))
            parts += [_tell_changed(one) for one in told[:ANSWERS_TOLD]]
    return Group(*parts)


def _tell_changed(one: Mapping[str, Any]) -> Text:
    line = Text(f"  {_short(one['prompt'], 90)}").append(f"  expected {_short(one['ground_truth'], 40)}", "dim")
    for when in ("before", "after"):
        told = one[when]
        line.append(f"\n    {when} {told['score']:.2f} {clean(told['reason'])}: ", "dim").append(
            _short_end(told["answer"], 90)
        )
    return line


def _short_end(text: str, most: int) -> str:
    plain = " ".join(clean(text).split())
    return plain if len(plain) <= most else f"...{plain[3 - most :]}"


SHADES = " ░▒▓█"
STYLES = {"unseen": "dim", "frontier": "green", "solved": "cyan", "hopeless": "red"}


def render_pool(view: PoolView) -> RenderableType:
    if not view.windows:
        return Text(f"{view.run}: {view.prompts:,} train prompts, none seen yet")
    last = view.windows[-1]
    head = Text(f"{view.run}: {view.prompts:,} train prompts after step {last.last}   ")
    for name, style in STYLES.items():
        count = getattr(last, name)
        head.append(f"{format_kind(name)} {count:,} ({count / view.prompts:.0%})   ", style=style)
    parts: list[RenderableType] = [head, Text("\nshare of the groups by pass rate, over time", style="bold")]
    parts.append(_render_heat_map(view.windows))
    for title, shown in (("hardest", view.hardest), ("easiest", view.easiest)):
        if shown:
            parts += [Text(f"\n{title} prompts seen", style="bold"), *(_render_prompt(one) for one in shown)]
    return Group(*parts)


def _render_heat_map(windows: Sequence[Window]) -> RenderableType:
    from pools.view import RATE_BINS

    table = Table.grid(padding=(0, 0))
    table.add_column(justify="right", style="dim")
    for i in reversed(range(len(RATE_BINS))):
        cells = Text(" ")
        for window in windows:
            share = window.rates[i] / max(1, sum(window.rates))
            cells.append(SHADES[min(len(SHADES) - 1, round(share * 6 + 0.3))] * 2)
        table.add_row(RATE_BINS[i], cells)
    table.add_row("step", Text(f" {windows[0].first}".ljust(2 * len(windows) - 3) + f"{windows[-1].last}", style="dim"))
    return table


def _render_prompt(shown: Shown) -> Text:
    standing = shown.standing
    times = "once" if standing.groups == 1 else f"{standing.groups} times"
    line = Text(f"  {standing.rate:4.0%}  ").append(_short(shown.prompt, 60))
    line.append(
        f"  {standing.label + ', ' if standing.label else ''}drawn {times}, last at step {standing.last_step}", "dim"
    )
    for sample in shown.samples[:2]:
        style = "green" if sample.correct else "red"
        line.append(f"\n        step {sample.step} {sample.reason}: ", "dim").append(
            _short(sample.completion, 90), style
        )
    return line


def _short(text: str, most: int) -> str:
    plain = " ".join(clean(text).split())
    return plain if len(plain) <= most else plain[: most - 3] + "..."


def render_probe(found: Probed) -> RenderableType:
    probe, knobs = found.probe, found.knobs
    table = Table.grid(padding=(0, 1))
    edges = ["never", *(f"{i / BINS:.0%} to {(i + 1) / BINS:.0%}" for i in range(BINS)), "always"]
    longest = max(probe.histogram)
    for edge, count in zip(edges, probe.histogram, strict=True):
        table.add_row(Text(edge, style="dim"), Text(str(count), justify="right"), "█" * round(40 * count / longest))
    sizes = Table.grid(padding=(0, 2))
    sizes.add_row(Text("group size", style="dim"), *(str(size) for size in probe.no_signal))
    sizes.add_row(Text("no signal", style="dim"), *(f"{rate:.0%}" for rate in probe.no_signal.values()))
    reasons = ", ".join(f"{name} {share:.0%}" for name, share in probe.reasons.items())
    return Group(
        Text(
            f"{probe.prompts} prompts, {probe.completions // probe.prompts} completions each at temperature "
            f"{knobs.temperature:g} and at most {knobs.max_tokens} tokens: {probe.pass_rate:.1%} right, "
            f"{probe.ever_solved:.0%} of the prompts at least once"
        ),
        Text("\nprompts by pass rate"),
        table,
        Text(),
        sizes,
        Text(f"\nreasons: {reasons}\ntruncated {probe.truncated:.0%}, {probe.tokens_mean:.1f} tokens on average\n"),
        Text(f"{found.verdict}: ", style="bold green" if found.verdict == "good" else "bold yellow").append(
            found.advice, style="not bold"
        ),
    )


def render_preflight(report: Report) -> RenderableType:
    from harness.checks.preflight import to_rows

    table = Table(box=None, show_header=False)
    styles = {"pass": "green", "warn": "yellow", "fail": "red"}
    for row in to_rows(report):
        table.add_row(Text(row["level"], style=styles[row["level"]]), row["check"], Text(clean(row["said"])))
    return Group(table, Text(f"preflight: {report.verdict}"))


def render_machine(found: Sequence[MachineCheck]) -> RenderableType:
    table = Table(box=None, show_header=False)
    for check in found:
        mark = Text("ok", style="green") if check.ok else Text("fix", style="red")
        table.add_row(mark, check.what, Text(check.found), Text(check.mend, style="yellow"))
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


# ---------------------------------------------------------------- diagnose

SEVERE = {"severe": "bold red", "warning": "yellow", "note": "dim"}
CELLS = 24
"""Width of a curve in a table."""


def render_diagnosis(found: Diagnosis) -> RenderableType:
    """A diagnosis as a person reads it."""
    head = Text(clean(found.source), style="bold")
    rows = "" if found.rows == found.steps else f" in {found.rows:,} row{'s' * (found.rows != 1)}"
    head.append(f": {found.format}, {found.steps:,} step{'s' * (found.steps != 1)}{rows}", style="not bold")
    parts: list[RenderableType] = [head, *(Text(f"note: {clean(note)}", style="dim") for note in found.notes), Text("")]
    parts += [_curve_table(found), Text("")]
    for one in found.findings:
        where = f"step {one.first}" if one.first == one.last else f"steps {one.first}-{one.last}"
        parts.append(Text(one.severity, style=SEVERE[one.severity]).append(f"  {one.kind}  {where}", style="bold"))
        parts.append(Text(f"    {clean(one.evidence)}"))
        parts.append(Text(f"    {one.advice}", style="italic"))
    if not found.findings:
        parts.append(
            Text(f"nothing found by the {found.judged} detectors that this has the metrics for", style="green")
        )
    parts.append(Text(""))
    if found.at_first is not None:
        parts.append(_answer_line("the rules at the first sign", found.at_first))
    parts.append(_answer_line("the rules at the end", found.at_end))
    if found.unknown:
        unknown = ", ".join(f"{kind} ({why})" for kind, why in found.unknown.items())
        parts.append(Text(f"unknown: {unknown.replace('not logged: ', 'no ')}", style="dim"))
    if found.ignored:
        more = f" and {len(found.ignored) - 12} more" if len(found.ignored) > 12 else ""
        parts.append(Text(f"not read: {clean(', '.join(found.ignored[:12]))}{more}", style="dim"))
    return Group(*parts)


def _curve_table(found: Diagnosis) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("metric", "in the log as", "first", "last", ""):
        table.add_column(name, justify="right" if name in ("first", "last") else "left")
    names = {ours: theirs for theirs, ours in found.recognised.items()}
    for metric, curve in found.curves.items():
        values = list(curve.values())
        per_cell = -(-len(values) // CELLS)
        means = [fmean(values[i : i + per_cell]) for i in range(0, len(values), per_cell)]
        spark = compute_sparkline(means, CELLS, None, None)
        table.add_row(metric, clean(names.get(metric, "")), f"{values[0]:.4g}", f"{values[-1]:.4g}", spark)
    return table


def _answer_line(when: str, answer: Answer) -> Text:
    return (
        Text(f"{when} (step {answer.step}): ").append(answer.action, style="bold").append(f"  {clean(answer.evidence)}")
    )


def describe_agreement(found: Agreement) -> Iterator[str]:
    """What came of a comparison with a hosted evaluator, line by line; the last says how many agree."""
    needs = f", requirements {', '.join(found.requirements)}" if found.requirements else ""
    took = "" if found.runtime_ms is None else f"; it took {found.runtime_ms:,} ms"
    yield f"{found.against}: {found.files[0]} and {len(found.files) - 1} files{needs}{took}"
    if found.changed:
        yield "the reward has changed since this was recorded"
    for one in found.differences:
        ours, theirs = ("failed" if value is None else f"{value:g}" for value in (one.ours, one.theirs))
        reason = f" ({shorten(one.reason, TOLD)})" if one.reason else ""
        yield f"{one.row}: ours {ours}, theirs {theirs}{reason}"
    if (more := found.rows - found.agree - len(found.differences)) > 0:
        yield f"and {more:,} more that differ"
    if found.unchecked:
        yield f"{found.unchecked:,} rows have no answer to judge"
    if found.strangers:
        yield f"{found.strangers:,} recorded answers are to no row of this pool"
    failed = f", of which {found.failed:,} failed on both sides" if found.failed else ""
    most = "no row was scored by both" if found.max_difference is None else f"max difference {found.max_difference:.3f}"
    yield f"{found.agree:,}/{found.rows:,} agree{failed}, {most}"
