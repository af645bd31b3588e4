"""``grpo doctor`` and ``grpo alert-test``: whether what a night needs is there."""

from __future__ import annotations

import json
import socket
import time

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.cli.options import DbOption, JsonFlag, OutOption, SetOption, SpecName
from harness.errors import InputError


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
