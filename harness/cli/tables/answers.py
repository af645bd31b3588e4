"""What answered, as a person reads it in a terminal: an evaluation, demonstrations, a probe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.checks.probe import BINS
from harness.core.formatting import clean

if TYPE_CHECKING:
    from harness.commands.model import Probed
    from harness.commands.pool_convert import Demonstrated
    from harness.commands.targets import Measured

ERRORS_TOLD = 5


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
