"""``grpo check``, ``preflight``, ``doctor`` and ``alert-test``: what is checked before a run. Nothing imports torch."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import asdict

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.cli.options import DbOption, JsonFlag, OutOption, SetOption, SpecName, UnsafeFlag
from harness.core.formatting import clean
from harness.errors import InputError


def check(
    spec: SpecName = None, set_: SetOption = None, unsafe_code: UnsafeFlag = False, as_json: JsonFlag = False
) -> None:
    """Whether the reference answer of every row has full marks under the spec's reward; exit code 1 otherwise.

    The reference is the ground truth in the form that the reward takes, or else the row's demonstration.

    Examples:

      grpo check coding

      grpo check my.toml --set pool.source=new.jsonl
    """
    from harness.checks.gate import check_references
    from harness.checks.inputs import prepare_inputs
    from harness.config.load import load_spec

    checked, _ = load_spec(spec, set_ or [])
    inputs = prepare_inputs(checked)
    with Console(stderr=True).status("checking") as status:
        found = check_references(inputs, lambda phase, done, total: status.update(f"{phase} {done}/{total}"))
    if as_json:
        failures = [asdict(failure) for failure in found.failures]
        document = {"rows": found.rows, "passed": found.passed, "reasons": dict(found.reasons), "failures": failures}
        print(json.dumps(document))
    else:
        for failure in found.failures:
            reward = "" if failure.reward is None else f" reward {failure.reward:g},"
            print(f"{failure.check}:{reward} {clean(failure.said)} ({clean(failure.row)})")
        if found.reasons:
            print("reasons: " + ", ".join(f"{name} {count:,}" for name, count in found.reasons.most_common()))
        print(f"{found.passed}/{found.rows} passed")
    raise typer.Exit(0 if found.passed == found.rows else 1)


def preflight(
    spec: SpecName = None, set_: SetOption = None, unsafe_code: UnsafeFlag = False, as_json: JsonFlag = False
) -> None:
    """Whether a reward is worth a night: right answers paid, tricks and silence not, the same every time.

    Runs before every run too, which a failed check stops (--force goes on). Exit code 1 when a check fails.

    Examples:

      grpo preflight my.toml

      grpo preflight --set reward.function=my_reward.py:judge
    """
    from harness.checks.gate import check_sandbox, preflight_inputs
    from harness.checks.inputs import prepare_inputs
    from harness.checks.preflight import to_rows
    from harness.config.load import load_spec

    checked, _ = load_spec(spec, set_ or [])
    inputs = prepare_inputs(checked)
    check_sandbox(inputs)
    report = preflight_inputs(inputs)
    if as_json:
        print(json.dumps(report.to_json()))
    else:
        table = Table(box=None, show_header=False)
        styles = {"pass": "green", "warn": "yellow", "fail": "red"}
        for row in to_rows(report):
            table.add_row(Text(row["level"], style=styles[row["level"]]), row["check"], Text(clean(row["said"])))
        Console().print(table)
        print(f"preflight: {report.verdict}")
    raise typer.Exit(1 if report.verdict == "fail" else 0)


def doctor(as_json: JsonFlag = False, db: DbOption = None, out: OutOption = "runs") -> None:
    """What this machine offers: versions, cores, memory, GPU, disk, the database.

    Examples:

      grpo doctor

      grpo doctor --json
    """
    from harness.checks.doctor import examine

    findings = examine(db, out)
    if as_json:
        print(json.dumps([{"what": f.what, "found": f.found, "ok": f.ok, "mend": f.mend} for f in findings]))
    else:
        table = Table(box=None, show_header=False)
        for finding in findings:
            mark = Text("ok", style="green") if finding.ok else Text("mend", style="red")
            table.add_row(mark, finding.what, Text(finding.found), Text(finding.mend, style="yellow"))
        Console().print(table)
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


def alert_test(spec: SpecName = None, set_: SetOption = None, as_json: JsonFlag = False) -> None:
    """Send a test alert by the spec's webhook and command, as a run would; exit code 1 when one does not arrive.

    Examples:

      grpo alert-test my.toml

      GRPO_WEBHOOK=https://ntfy.sh/my-topic grpo alert-test --set alerts.webhook='${GRPO_WEBHOOK}'

      grpo alert-test --set 'alerts.command=["notify-send", "{title}", "{text}"]'
    """
    from harness.config.load import load_spec
    from harness.monitoring.alerts import build_test_message
    from harness.monitoring.notifiers import build_hooks, deliver

    checked, short_name = load_spec(spec, set_ or [])
    hooks = build_hooks(checked.alerts.webhook, checked.alerts.command)
    if not hooks:
        raise InputError("alerts: the spec names no webhook and no command")
    message = build_test_message(short_name, host=socket.gethostname(), now=time.time())
    faults = {hook.name: deliver(hook, message) for hook in hooks}
    if as_json:
        print(json.dumps({name: fault or "sent" for name, fault in faults.items()}))
    else:
        print("\n".join(fault or f"{name}: sent" for name, fault in faults.items()))
    raise typer.Exit(1 if any(faults.values()) else 0)
