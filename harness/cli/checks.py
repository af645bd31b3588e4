"""``grpo check``, ``preflight`` and ``doctor``: what is checked before a run. Nothing imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from harness import commands
from harness.cli.options import (
    DbOption,
    JsonFlag,
    OutOption,
    SetOption,
    SpecName,
    UnsafeFlag,
    print_json,
    print_result,
    show_progress,
)
from harness.cli.tables import describe_agreement, render_machine, render_preflight
from harness.core.formatting import clean, shorten
from harness.errors import InputError
from harness.views.console import say
from pools.counts import describe_counts

if TYPE_CHECKING:
    from harness.checks.services import Tried

SAID = 240
"""Characters of what is said of a row."""


AgainstOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="A hosted evaluator to compare with: its base or endpoint, or recorded:FILE."),
]
AnswersOption = Annotated[
    str | None,
    typer.Option(metavar="recorded:FILE", help="With --against: recorded answers in place of the reference answers."),
]
RecordOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="With --against: keep what the evaluator said, to replay it.")
]


def check(
    spec: SpecName = None,
    set_: SetOption = None,
    against: AgainstOption = None,
    answers: AnswersOption = None,
    record: RecordOption = None,
    unsafe_code: UnsafeFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Check that the reference answer of every row scores 1.0 under the spec's reward; exit code 1 otherwise.

    The reference is the ground truth in the form that the reward takes, or else the row's demonstration. The time that
    each reward function takes for a completion is printed too.

    With --against nothing of that is printed: the reward's source, the rows and the answers are posted to a hosted
    evaluator, whose scores are compared with ours one by one; exit code 1 on any difference. Its key and account are
    FIREWORKS_API_KEY and FIREWORKS_ACCOUNT_ID, or those of ~/.fireworks/auth.ini.

    Examples:

      grpo check coding

      grpo check my.toml --set pool.source=new.jsonl

      grpo check my.toml --against https://api.fireworks.ai --record theirs.json

      grpo check my.toml --against recorded:theirs.json
    """
    if against is not None:
        _check_against(against, spec, set_ or (), answers, record, as_json)
    if answers is not None or record is not None:
        raise InputError(f"--{'record' if answers is None else 'answers'} goes with --against URL")
    with show_progress("checking") as progress:
        found = commands.check(spec, overrides=set_ or (), progress=progress)
    if as_json:
        print_json(found)
    else:
        if found.advice:
            say(clean(found.advice))
        say(f"pool: {clean(describe_counts(found.pool))}")
        for failure in found.failures:
            reward = "" if failure.reward is None else f" reward {failure.reward:g},"
            say(f"{failure.check}:{reward} {clean(shorten(failure.said, SAID))} ({clean(failure.row)})")
        if found.reasons:
            say("reasons: " + ", ".join(f"{name} {count:,}" for name, count in found.reasons.items()))
        if found.unchecked:
            none = (
                "neither ground truth nor demonstration" if found.rows else "no reference that a verifier could judge"
            )
            say(f"{found.unchecked:,} rows have {none}: nothing to check")
        for name, time in found.times.items():
            say(
                f"{name}: {time.median_ms:.3g} ms per completion (median), p95 {time.p95_ms:.3g} ms, max "
                f"{time.max_ms:.3g} ms"
            )
        for misfit in found.misfits:
            say(f"a run would be refused: {misfit}")
        say(f"{found.passed}/{found.rows} passed")
    raise typer.Exit(0 if found.passed == found.rows else 1)


def _check_against(
    against: str, spec: str | None, overrides: Sequence[str], answers: str | None, record: Path | None, as_json: bool
) -> NoReturn:
    with show_progress("judging") as progress:
        found = commands.check_against(
            against, spec, answers=answers, record=record, overrides=overrides, progress=progress
        )
    if as_json:
        print_json(found)
    else:
        for line in describe_agreement(found):
            say(clean(line))
    raise typer.Exit(0 if found.passed else 1)


def preflight(
    spec: SpecName = None, set_: SetOption = None, unsafe_code: UnsafeFlag = False, as_json: JsonFlag = False
) -> None:
    """Check a reward before a run: right answers paid, tricks and silence not, the same every time.

    Runs before every run too, which a failed check stops (--force overrules it). Exit code 1 when a check fails.

    Examples:

      grpo preflight my.toml

      grpo preflight --set reward.function=my_reward.py:judge
    """
    report = commands.preflight(spec, overrides=set_ or ())
    print_result(report, as_json, render_preflight)
    raise typer.Exit(1 if report.verdict == "fail" else 0)


def doctor(
    spec: SpecName = None,
    try_: Annotated[
        bool, typer.Option("--try", help="Ask what SPEC names (the LLM, the alerts) one question each instead.")
    ] = False,
    set_: SetOption = None,
    as_json: JsonFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Show what this machine offers: versions, cores, memory, GPU, disk, the database; or what services answer.

    With --try it asks the LLM of SPEC one question, sends a test alert by its webhook and command, and says what came
    back: time, model, tokens, cost. Exit code 1 when something is to be fixed or does not answer.

    Examples:

      grpo doctor

      grpo doctor my.toml --try

      grpo doctor my.toml --try --set policy.kind=llm

      GRPO_WEBHOOK=https://ntfy.sh/my-topic grpo doctor --try --set alerts.webhook='${GRPO_WEBHOOK}'

      grpo doctor --try --set 'alerts.command=["notify-send", "{title}", "{text}"]'
    """
    if try_:
        tried = commands.try_services(spec, overrides=set_ or ())
        if as_json:
            print_json(tried)
        else:
            say("\n".join(map(_tell, tried)))
        raise typer.Exit(0 if all(one.ok for one in tried) else 1)
    if spec is not None or set_:
        raise InputError("doctor: SPEC and --set say what to ask, so they take --try: grpo doctor SPEC --try")
    found = commands.doctor(db=db, out=out)
    print_result(found, as_json, render_machine)
    raise typer.Exit(0 if all(check.ok for check in found) else 1)


def _tell(one: Tried) -> str:
    """Tell what came of asking one service, in a line."""
    text = f"{'ok ' if one.ok else 'fix'} {one.what} {one.name}: {clean(one.said)}"
    if not one.model:
        return f"{text} ({one.seconds:.2f} s)" if one.seconds else text
    cost = "" if one.cost_usd is None else f", {one.cost_usd:.6f} USD"
    return f"{text} ({one.seconds:.2f} s, {clean(one.model)}, {one.tokens_in:,} + {one.tokens_out:,} tokens{cost})"


def alert_test(spec: SpecName = None, set_: SetOption = None, as_json: JsonFlag = False) -> None:
    """Send a test alert, as grpo doctor SPEC --try does beside its other questions.

    Examples:

      grpo alert-test my.toml
    """
    sent = commands.alert_test(spec, overrides=set_ or ())
    if as_json:
        print_json(sent)
    else:
        say("\n".join(fault or f"{name}: sent" for name, fault in sent.faults.items()))
    raise typer.Exit(1 if any(sent.faults.values()) else 0)
