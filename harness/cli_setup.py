"""``grpo doctor`` and ``grpo alert-test``: whether what a night needs is there."""

from __future__ import annotations

import json

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.options import DbOption, JsonFlag, OutOption


def doctor(as_json: JsonFlag = False, db: DbOption = None, out: OutOption = "runs") -> None:
    """What this machine offers: versions, cores, memory, GPU, disk, the database.

    Examples:

      grpo doctor

      grpo doctor --json
    """
    from harness.doctor import examine

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
