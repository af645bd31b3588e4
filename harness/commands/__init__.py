"""The commands of ``grpo`` as functions: the same names and settings, a frozen result instead of printed text.

    from harness import commands

    commands.act("latest", ["set", "temperature=0.9"]).result
    commands.review("latest").document["heldout"]
    commands.pool.show("night-1").to_json()

``db`` and ``out`` say where the record of runs lies, as ``--db`` and ``--out`` do. What is wrong with the input raises
InputError (exit code 2 of ``grpo``), what goes wrong later another HarnessError (1). Nothing prints. Every result is
what ``--json`` prints: by its ``to_json()``, or field by field. Importing this package loads neither torch nor a
database; each function loads what it needs.
"""

from harness.commands import pool
from harness.commands.checks import alert_test, check, check_against, doctor, preflight, try_services
from harness.commands.comparing.everything import compare
from harness.commands.launch import adopt, branch, copy_runs, prepare_resume, prepare_run, replay
from harness.commands.live import act
from harness.commands.model import evaluate, export, probe, sample
from harness.commands.report import diagnose, list_runs, review
from harness.commands.starting.init import init, recipes

__all__ = [
    "act",
    "adopt",
    "alert_test",
    "branch",
    "check",
    "check_against",
    "compare",
    "copy_runs",
    "diagnose",
    "doctor",
    "evaluate",
    "export",
    "init",
    "list_runs",
    "pool",
    "preflight",
    "prepare_resume",
    "prepare_run",
    "probe",
    "recipes",
    "replay",
    "review",
    "sample",
    "try_services",
]
