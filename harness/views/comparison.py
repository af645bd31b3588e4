"""Several runs side by side: what differs in their specs, knobs, decisions and scores. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from harness.config.changes import flatten
from harness.core.statistics import compute_difference
from harness.types import DecisionRecord, EvaluationRecord, History
from harness.views.review import build_review
from harness.views.seeds import find_seeds
from harness.views.summary import format_decision

MOVES_TOLD = 50
"""Steps at which decisions differ, as many as are shown to people: the first ones, since the rest follows from them."""
OWN = ("name", "note", "output")
"""Sections of a spec that say where a run lies and not what it does."""
CELLS = ("run", "status", "stop_reason", "policy", "seed", "steps", "rollouts", "wall_s")
"""Of those, what a row of a CSV begins with."""
SHARED = (
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
    "pass_at",
)
"""Keys of a review that a comparison has of each run."""


def build_comparison(histories: Sequence[History], specs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Build the document of ``grpo compare --json``. The first run is what the others are compared with."""
    names = [history.run.name for history in histories]
    reviews = [build_review(history) for history in histories]
    flat = [flatten(spec) for spec in specs]
    runs = [_summary(review, history) for review, history in zip(reviews, histories, strict=True)]
    return {
        "reference": names[0],
        "runs": runs,
        "seeds": find_seeds(runs, specs, [history.manifest.get("stage") for history in histories]),
        "differences": [_difference(histories[0], other) for other in histories[1:]],
        "spec": _differing(names, flat, leave_out=OWN),
        "knobs": _differing(names, [review["knobs"] for review in reviews]),
        "decisions": _differing_decisions(histories),
    }


def _summary(review: Mapping[str, Any], history: History) -> dict[str, Any]:
    return {name: review[name] for name in SHARED} | {
        "signal": review["signal"]["no_signal_rate"],
        "reward": {"first": review["reward"]["first"], "last": review["reward"]["last"]},
        "decided": sum(d.action != "continue" and d.refused is None for d in history.decisions),
    }


def _difference(reference: History, other: History) -> dict[str, Any]:
    """Compare the test scores of ``other`` with those of ``reference``, at the best checkpoint and at the end."""
    found: dict[str, Any] = {"run": other.run.name, "against": reference.run.name}
    for which in ("best", "final"):
        ours, theirs = _test_look(other, which), _test_look(reference, which)
        if ours is None or theirs is None:
            found[which] = None
            continue
        answers = _find_answers(reference, theirs.step, other), _find_answers(other, ours.step, reference)
        found[which] = {
            "from": theirs.score,
            "to": ours.score,
            **compute_difference(theirs, ours, *answers).document,
        }
    return found


def _find_answers(history: History, step: int, other: History) -> Mapping[str, float]:
    """Return the scores of a test look by prompt id: by the older ids where the ``other`` run is of a time when prompts
    of one family had one, which is that of the first of them."""
    answers, families = history.answers.get(step, {}), history.manifest.get("families")
    if not families or other.manifest.get("families"):
        return answers
    older: dict[str, float] = {}
    for prompt_id, score in answers.items():
        older.setdefault(families.get(prompt_id, prompt_id), score)
    return older


def _test_look(history: History, which: str) -> EvaluationRecord | None:
    best = next((checkpoint.step for checkpoint in history.checkpoints if checkpoint.best), None)
    step = best if which == "best" else max(history.rewards, default=None)
    return next((look for look in history.evaluations if look.split == "test" and look.step == step), None)


def _differing(
    names: Sequence[str], values: Sequence[Mapping[str, Any]], leave_out: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """List ``[{field, values: {run: value}}]`` where not all runs have the same."""
    fields = dict.fromkeys(field for each in values for field in each if field.partition(".")[0] not in leave_out)
    return [
        {"field": field, "values": {name: each.get(field) for name, each in zip(names, values, strict=True)}}
        for field in fields
        if any(each.get(field) != values[0].get(field) for each in values)
    ]


def _differing_decisions(histories: Sequence[History]) -> list[dict[str, Any]]:
    """List ``[{step, runs: {run: [{source, action, evidence}]}}]`` of the steps before which not all did the same."""
    acted: dict[str, defaultdict[int, list[DecisionRecord]]] = {}
    for history in histories:
        by_step = acted[history.run.name] = defaultdict(list)
        for decision in history.decisions:
            if decision.action != "continue" and decision.refused is None:
                by_step[decision.step].append(decision)
    rows = []
    for step in sorted({step for by_step in acted.values() for step in by_step}):
        told = {
            name: [{"source": d.source, "action": format_decision(d), "evidence": d.evidence} for d in by_step[step]]
            for name, by_step in acted.items()
        }
        done = [[(d["source"], d["action"]) for d in each] for each in told.values()]
        if any(each != done[0] for each in done):
            rows.append({"step": step, "runs": told})
    return rows


def list_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List a row of a CSV for each run."""
    differences = {found["run"]: found for found in document["differences"]}
    rows = []
    for run in document["runs"]:
        held, found = run["heldout"], differences.get(run["run"], {})
        row = {name: run[name] for name in CELLS}
        row |= {name: held[name] for name in ("metric", "n", "baseline", "best", "best_step", "final")}
        row |= {"no_signal_rate": run["signal"], "against": found.get("against", "")}
        for which in ("best", "final"):
            moved = found.get(which) or {"difference": "", "ci95": ("", ""), "verdict": ""}
            low, high = moved["ci95"]
            row |= {f"{which}_difference": moved["difference"], f"{which}_difference_low": low}
            row |= {f"{which}_difference_high": high, f"{which}_verdict": moved["verdict"]}
        rows.append(row)
    return rows


# ---------------------------------------------------------------- for people


def format_value(value: Any) -> str:
    """Format a value of a spec for a cell."""
    if value in (None, ""):
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)
