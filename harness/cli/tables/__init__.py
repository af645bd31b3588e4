"""Tables and texts of the commands, as a person reads them in a terminal."""

from harness.cli.tables.answers import describe_demonstrated, describe_measured, render_probe
from harness.cli.tables.checks import describe_agreement, render_diagnosis, render_machine, render_preflight
from harness.cli.tables.comparison import render_comparison
from harness.cli.tables.pool import render_pool
from harness.cli.tables.review import render_review, render_runs, render_stages

__all__ = [
    "describe_agreement",
    "describe_demonstrated",
    "describe_measured",
    "render_comparison",
    "render_diagnosis",
    "render_machine",
    "render_pool",
    "render_preflight",
    "render_probe",
    "render_review",
    "render_runs",
    "render_stages",
]
