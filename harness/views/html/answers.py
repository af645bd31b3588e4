"""Render whatever answered the same prompts as a page: models, stages of a group, and groups of several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plotly import graph_objects as go

from harness.views.answers import describe_best, describe_verdict, find_best
from harness.views.html.page import render_page
from harness.views.html.plots import plot_dots, plot_spread
from harness.views.seeds import describe_groups

PROMPTS = 20
"""Prompts forgotten, and as many gained, of each difference, at most."""


def render_answers_page(document: Mapping[str, Any]) -> str:
    """Render ``document``, which is what ``grpo compare --json`` prints of answerers or of one group."""
    answerers = document["answerers"]
    names = [one["name"] for one in answerers]
    title = f"{document['group']}: base and stages" if "group" in document else "Comparison: " + ", ".join(names)
    return render_page(
        "answers.html",
        _plot_answerers(names, answerers),
        title=title,
        found=document,
        heading=describe_best(document),
        verdict=describe_verdict(document),
        kind=_kind(document),
        most=PROMPTS,
    )


def _plot_answerers(names: Sequence[str], answerers: Sequence[Mapping[str, Any]]) -> dict[str, go.Figure]:
    plots = {
        "accuracy": plot_dots(names, {"accuracy": [(one["accuracy"], tuple(one["ci95"])) for one in answerers]}),
        "proportions": plot_dots(
            names,
            {word: [(one[f"{word}_proportion"], None) for one in answerers] for word in ("thinking", "answer")},
            form=".0%",
        ),
        "reward": plot_dots(
            names,
            {"reward": [(one["reward"], one["reward_ci95"] and tuple(one["reward_ci95"])) for one in answerers]},
        ),
    }
    if any(one["tokens"] is not None for one in answerers):
        plots["tokens"] = plot_dots(names, {"tokens": [(one["tokens"], None) for one in answerers]}, form=".1f")
    return plots


def _kind(document: Mapping[str, Any]) -> str:
    """Colour the head: by how the best stands against the first, or where that is itself the first, by the others."""
    best, metric = find_best(document)["name"], document["metric"]
    verdicts = {
        found["name"]: str(found[metric]["verdict"])
        for found in document["differences"]
        if found["against"] == document["reference"]
    }
    return verdicts[best] if best in verdicts else "worse" if "worse" in verdicts.values() else ""


def render_groups_page(document: Mapping[str, Any]) -> str:
    """Render ``document``, which is what ``grpo compare --json`` prints of several groups."""
    stages, groups = document["stages"], document["groups"]
    names = [one["name"] for one in stages]
    plots = {}
    for score, plot in (("accuracy", "accuracy"), ("answer_proportion", "proportions"), ("reward", "reward")):
        told = [one for one in stages if one[score]]
        series = {
            f"{group}, seed {document['seeds'][group]}": [
                one["by_group"][group][score] if group in one["by_group"] else None for one in told
            ]
            for group in groups
        }
        plots[plot] = plot_spread([one["name"] for one in told], series, [one[score]["mean"] for one in told])
    return render_page(
        "groups.html",
        plots,
        title="Comparison: " + ", ".join(groups),
        found=document,
        names=names,
        verdict=describe_groups(document),
        most=PROMPTS,
    )
