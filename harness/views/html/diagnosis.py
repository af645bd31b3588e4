"""Render a diagnosis as a page: the findings, and the curves with the findings marked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plotly import graph_objects as go

from harness.types import Bucket
from harness.views.html.page import render_page
from harness.views.html.plots import plot_marked

SHOWN = ("severe", "warning")


def render_diagnosis(document: Mapping[str, Any]) -> str:
    """Render ``document``, which is what ``grpo diagnose --json`` prints."""
    marked = [found for found in document["findings"] if found["severity"] in SHOWN]
    marks = [(found["kind"], found["first"], found["last"], found["severity"]) for found in marked]
    plots: dict[str, go.Figure] = {}
    for number, curve in enumerate(document["curves"].values()):
        parts = [Bucket(int(step), 1, value, value, value) for step, value in curve.items()]
        plots[f"curve-{number}"] = plot_marked(parts, marks)
    worst = document["findings"][0] if document["findings"] else None
    names = {ours: theirs for theirs, ours in document["recognised"].items()}
    curves = [(metric, names.get(metric, ""), f"curve-{n}") for n, metric in enumerate(document["curves"])]
    return render_page(
        "diagnosis.html", plots, title=f"Diagnosis of {document['source']}", found=document, worst=worst, curves=curves
    )
