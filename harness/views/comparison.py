"""Several runs side by side: what differs in their specs, knobs, decisions and scores. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.config.changes import flatten
from harness.core.statistics import compute_difference
from harness.types import DecisionRecord, EvaluationRecord, History
from harness.views.review import build_review
from harness.views.summary import format_decision

MOVES_TOLD = 50
"""Steps at which decisions differ, as many as are shown to people: the first ones, since the rest follows from them."""
OWN = ("name", "note", "output")
"""Sections of a spec that say where a run lies and not what it does."""


def build_comparison(histories: Sequence[History], specs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The document of ``grpo compare --json``. The first run is what the others are compared with."""
    names = [history.run.name for history in histories]
    reviews = [build_review(history) for history in histories]
    flat = [flatten(spec) for spec in specs]
    return {
        "reference": names[0],
        "runs": [_summary(review, history) for review, history in zip(reviews, histories, strict=True)],
        "differences": [_difference(histories[0], other) for other in histories[1:]],
        "spec": _differing(names, flat, leave_out=OWN),
        "knobs": _differing(names, [review["knobs"] for review in reviews]),
        "decisions": _differing_decisions(histories),
    }


def _summary(review: Mapping[str, Any], history: History) -> dict[str, Any]:
    names = (
        "run",
        "status",
        "stop_reason",
        "policy",
        "seed",
        "steps",
        "rollouts",
        "wall_s",
        "heldout",
        "change",
        "dev",
    )
    return {name: review[name] for name in names} | {
        "signal": review["signal"]["no_signal_rate"],
        "reward": {"first": review["reward"]["first"], "last": review["reward"]["last"]},
        "decided": sum(d.action != "continue" and d.refused is None for d in history.decisions),
    }


def _difference(reference: History, other: History) -> dict[str, Any]:
    """Test scores of ``other`` minus those of ``reference``, at the best checkpoint of each and at the end."""
    found: dict[str, Any] = {"run": other.run.name, "against": reference.run.name}
    for which in ("best", "final"):
        ours, theirs = _test_look(other, which), _test_look(reference, which)
        if ours is None or theirs is None:
            found[which] = None
            continue
        answers = reference.answers.get(theirs.step, {}), other.answers.get(ours.step, {})
        found[which] = {
            "from": theirs.accuracy,
            "to": ours.accuracy,
            **compute_difference(theirs, ours, *answers).document,
        }
    return found


def _test_look(history: History, which: str) -> EvaluationRecord | None:
    best = next((checkpoint.step for checkpoint in history.checkpoints if checkpoint.best), None)
    step = best if which == "best" else max(history.rewards, default=None)
    return next((look for look in history.evaluations if look.split == "test" and look.step == step), None)


def _differing(
    names: Sequence[str], values: Sequence[Mapping[str, Any]], leave_out: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """``[{field, values: {run: value}}]`` where not all runs have the same."""
    fields = dict.fromkeys(field for each in values for field in each if field.partition(".")[0] not in leave_out)
    return [
        {"field": field, "values": {name: each.get(field) for name, each in zip(names, values, strict=True)}}
        for field in fields
        if any(each.get(field) != values[0].get(field) for each in values)
    ]


def _differing_decisions(histories: Sequence[History]) -> list[dict[str, Any]]:
    """``[{step, runs: {run: [{source, action, evidence}]}}]`` of the steps before which not all did the same."""
    acted: list[dict[int, list[DecisionRecord]]] = []
    for history in histories:
        by_step: dict[int, list[DecisionRecord]] = {}
        for decision in history.decisions:
            if decision.action != "continue" and decision.refused is None:
                by_step.setdefault(decision.step, []).append(decision)
        acted.append(by_step)
    rows = []
    for step in sorted({step for by_step in acted for step in by_step}):
        told = [[(d.source, format_decision(d)) for d in by_step.get(step, ())] for by_step in acted]
        if any(each != told[0] for each in told):
            rows.append(
                {
                    "step": step,
                    "runs": {
                        history.run.name: [
                            {"source": d.source, "action": format_decision(d), "evidence": d.evidence}
                            for d in by_step.get(step, ())
                        ]
                        for history, by_step in zip(histories, acted, strict=True)
                    },
                }
            )
    return rows


# ---------------------------------------------------------------- for the terminal


def format_value(value: Any) -> str:
    """A value of a spec in a cell."""
    return (
        "-"
        if value in (None, "")
        else value
        if isinstance(value, str)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
