"""Check before a run: the reward and its reference answers, this machine, the alerts. Nothing loads torch."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.lookup import load_inputs
from harness.errors import InputError
from harness.types import Progress, no_progress

if TYPE_CHECKING:
    from harness.checks.against import Agreement
    from harness.checks.doctor import MachineCheck
    from harness.checks.gate import Check
    from harness.checks.preflight import Report
    from harness.checks.services import Tried
    from harness.config.schema import RunSpec


@dataclass(frozen=True, slots=True)
class AlertTest:
    """What came of a test alert by notifier; "" where it was sent."""

    faults: Mapping[str, str]

    def to_json(self) -> dict[str, str]:
        return {name: fault or "sent" for name, fault in self.faults.items()}


def check(spec: str | None = None, *, overrides: Sequence[str] = (), progress: Progress = no_progress) -> Check:
    """Judge the reference answer of every row under the spec's reward, and say what a run would not have enough of.

    ``spec`` is a recipe or a file, ``overrides`` are ``section.field=value``. Raises InputError.
    """
    from harness.checks.gate import check_references
    from harness.checks.inputs import find_misfits

    inputs = load_inputs(spec, overrides)
    return replace(check_references(inputs, progress), misfits=tuple(find_misfits(inputs)))


def check_against(
    against: str,
    spec: str | None = None,
    *,
    answers: str | None = None,
    record: Path | None = None,
    overrides: Sequence[str] = (),
    progress: Progress = no_progress,
) -> Agreement:
    """Compare the spec's reward with a hosted evaluator that is given the same source, rows and answers.

    ``against`` is its address, or ``recorded:FILE`` with what one said before, as ``record`` keeps it. ``answers`` is
    ``recorded:FILE``; without it the reference answers are judged. Raises InputError, HarnessError where the evaluator
    does not judge: there is never a score that it did not give.
    """
    from harness.checks.against import compare_with, read_answers
    from harness.checks.inputs import read_inputs
    from harness.config.load import load_spec
    from harness.llm.names import RECORDED

    if answers is not None and not answers.startswith(RECORDED):
        raise InputError(f"--answers: {answers} must be recorded:FILE, the answers of grpo eval --record FILE")
    recorded = None if answers is None else read_answers(Path(answers.removeprefix(RECORDED)))
    checked, name = load_spec(spec, overrides)
    return compare_with(read_inputs(checked), against, name=name, recorded=recorded, record=record, progress=progress)


def preflight(spec: str | None = None, *, overrides: Sequence[str] = ()) -> Report:
    """Try a spec's reward on a sample of the pool: every check passes, warns or fails. Raises InputError."""
    from harness.checks.gate import check_sandbox, preflight_inputs
    from harness.config.asking import build_ledger
    from harness.run.answerers import check_all_judges, open_judges

    inputs = load_inputs(spec, overrides)
    check_sandbox(inputs)
    check_all_judges(inputs.spec)
    return preflight_inputs(inputs, open_judges(inputs.spec, build_ledger(inputs.spec)))


def doctor(*, db: str | None = None, out: str = "runs") -> tuple[MachineCheck, ...]:
    """Look at what this machine offers: versions, cores, memory, GPU, disk, the database, the code sandbox."""
    from harness.checks.doctor import examine

    return tuple(examine(db, out))


def alert_test(spec: str | None = None, *, overrides: Sequence[str] = ()) -> AlertTest:
    """Send a test alert by the spec's webhook and command. Raises InputError when the spec names neither."""
    from harness.config.load import load_spec

    checked, short_name = load_spec(spec, overrides)
    if not (checked.alerts.webhook or checked.alerts.command):
        raise InputError("alerts: the spec names no webhook and no command")
    return AlertTest(_send_test_alerts(checked, short_name))


def try_services(spec: str | None = None, *, overrides: Sequence[str] = ()) -> tuple[Tried, ...]:
    """Ask all that a run of the spec would depend on one question each: the LLM, the judges, the alerts.

    Raises InputError when the spec names none of them.
    """
    from harness.checks.services import Tried, try_models
    from harness.config.load import load_spec

    checked, short_name = load_spec(spec, overrides)
    tried = try_models(checked)
    try:
        sent = _send_test_alerts(checked, short_name)
    except InputError as error:
        tried.append(Tried("alerts", "alerts", False, str(error)))
    else:
        for name, fault in sent.items():
            tried.append(Tried("alerts", name, not fault, fault.removeprefix(f"{name}: ") or "sent"))
    if not tried:
        raise InputError(
            "--try: there is nothing to ask: the decision policy of the spec is no llm, no service judges, and "
            "[alerts] names no webhook and no command"
        )
    return tuple(tried)


def _send_test_alerts(spec: RunSpec, name: str) -> dict[str, str]:
    """Return what went wrong by notifier, "" where it was sent. Raises InputError for what cannot work here."""
    from harness.monitoring.alerts import build_test_message
    from harness.monitoring.notifiers import build_hooks, deliver

    message = build_test_message(name, host=socket.gethostname(), now=time.time())
    return {hook.name: deliver(hook, message) for hook in build_hooks(spec.alerts.webhook, spec.alerts.command)}
