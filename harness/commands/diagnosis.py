"""Tell what is wrong with a run, from the log of any trainer or from a run of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.files import write_text
from harness.commands.lookup import open_reader
from harness.core.formatting import format_knob
from harness.errors import InputError
from harness.types import Decision, Finding, KnobValue, Snapshot

if TYPE_CHECKING:
    from harness.logs.read import Log
    from harness.store.reader import RunReader
    from harness.types import RunRecord

TOLD = ("severe", "warning", "note")
"""Severities of what was found, the worst first."""
CURVES = (
    "reward/mean",
    "completion/correct_rate",
    "group/mixed_rate",
    "entropy/mean",
    "kl/mean",
    "completion/tokens_mean",
    "completion/truncated_rate",
    "grad/norm",
    "learning_rate",
)
"""Metrics that are drawn, beside dev."""
SAID = {"learning_rate": "learning_rate", "max_tokens": "completion/tokens_max"}
"""Hyperparameters that a log says, and by which metric: completions are cut at the longest."""


@dataclass(frozen=True, slots=True)
class Diagnosed:
    """A finding over a run: its worst ``severity``, the step where it was ``first`` seen and the ``last`` one, at how
    many ``looks``, and the evidence, confidence and advice."""

    kind: str
    severity: str
    first: int
    last: int
    looks: int
    evidence: str
    confidence: float
    advice: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the rules would have done after a step, and by which evidence; ``continue`` where nothing."""

    step: int
    action: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a log or a run shows.

    ``findings`` are sorted by severity, within one those that stand at the end first. ``unknown`` says of each kind
    that could not be judged what is missing. ``at_first`` is what the rules would have done at the first warning (None
    without one), ``at_end`` after the last row. ``curves`` are the metrics by step. Of a log, ``recognised`` maps its
    names to ours, and ``ignored`` are those that nobody read.
    """

    source: str
    format: str
    rows: int
    steps: int
    findings: tuple[Diagnosed, ...]
    unknown: Mapping[str, str]
    at_first: Answer | None
    at_end: Answer
    recognised: Mapping[str, str]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]
    curves: Mapping[str, Mapping[int, float]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def diagnose(
    log: str,
    *,
    renamed: Mapping[str, str] | None = None,
    html: Path | None = None,
    db: str | None = None,
    out: str = "runs",
) -> Diagnosis:
    """Diagnose the log file ``log``, or the run of that name, and write the page to ``html`` if given. ``renamed`` maps
    names of ours to those of the log. Raises InputError."""
    run = _find_run(log, db, out)
    if run is None:
        found = _diagnose_log(Path(log), renamed)
    elif renamed:
        raise InputError(f"--map: {run[1].name} is a run of ours, whose metrics have our names; leave it out")
    else:
        found = _diagnose_run(*run)
    if html is not None:
        from harness.views.html.diagnosis import render_diagnosis

        write_text(html, [render_diagnosis(found.to_json())], option="--html")
    return found


def _find_run(log: str, db: str | None, out: str) -> tuple[RunReader, RunRecord] | None:
    """Find the run that is meant; None of a log: a file comes before a run of its name, which comes before a folder,
    since that may be its own."""
    path = Path(log)
    if "/" in log or path.suffix or (path.exists() and not path.is_dir()):
        return None
    try:
        return open_reader(db, out, log)
    except InputError:
        if path.is_dir():
            return None
        raise


def _diagnose_log(path: Path, renamed: Mapping[str, str] | None) -> Diagnosis:
    from harness.logs.read import read_log
    from harness.logs.snapshots import UNSAID, make_snapshots

    log = read_log(path, renamed)
    snapshots = list(make_snapshots(log))
    unsaid = {kind: f"not logged: {knob}" for kind, knob in UNSAID.items()}
    return _examine(snapshots, log, unsaid)


def _diagnose_run(reader: RunReader, record: RunRecord) -> Diagnosis:
    from harness.store.history import play_back

    snapshots = list(play_back(reader, record.id))
    if not snapshots:
        raise InputError(f"{record.name} has no step yet; grpo watch {record.name} shows what it does")
    return _examine(snapshots, None, {})


# ---------------------------------------------------------------- look after look


def _examine(snapshots: list[Snapshot], log: Log | None, unsaid: Mapping[str, str]) -> Diagnosis:
    from policies.detectors import DETECTORS, detect

    seen: dict[str, list[tuple[int, Finding]]] = {}
    at_first: Answer | None = None
    judged: set[str] = set()
    findings: tuple[Finding, ...] = ()
    for snapshot in snapshots:
        findings = tuple(f for f in detect(snapshot) if f.kind not in unsaid)
        unknown = {f.kind for f in findings if f.severity == "unknown"}
        judged |= DETECTORS.keys() - unknown - unsaid.keys()
        for finding in findings:
            if finding.severity in TOLD:
                seen.setdefault(finding.kind, []).append((snapshot.steps_done, finding))
        if at_first is None and any(f.severity in ("severe", "warning") for f in findings):
            at_first = _answer(snapshot, findings, log)
    last = snapshots[-1]
    missing = {f.kind: f.evidence for f in findings if f.severity == "unknown" and f.kind not in judged}
    return Diagnosis(
        source=last.run.name if log is None else str(log.path),
        format="a run of ours" if log is None else log.format,
        rows=len(snapshots) if log is None else len(log.rows),
        steps=last.steps_done,
        findings=_sort(map(_sum_up, seen.values()), last.steps_done),
        unknown=missing | dict(unsaid),
        at_first=at_first,
        at_end=_answer(last, findings, log),
        recognised={} if log is None else log.recognised,
        ignored=() if log is None else log.ignored,
        notes=() if log is None else log.notes,
        curves=_make_curves(snapshots),
    )


def _sort(found: Iterable[Diagnosed], end: int) -> tuple[Diagnosed, ...]:
    """Sort by severity, within one what still stands at the end first, then by step."""
    return tuple(sorted(found, key=lambda one: (TOLD.index(one.severity), one.last < end, one.first)))


def _sum_up(looks: list[tuple[int, Finding]]) -> Diagnosed:
    from policies.advice import ADVICE

    worst = min((finding for _, finding in looks), key=lambda finding: TOLD.index(finding.severity))
    if worst.severity != "note":  # what was only worth a note before is no sign yet
        looks = [(step, finding) for step, finding in looks if finding.severity != "note"]
    return Diagnosed(
        kind=worst.kind,
        severity=worst.severity,
        first=looks[0][0],
        last=looks[-1][0],
        looks=len(looks),
        evidence=worst.evidence,
        confidence=worst.confidence,
        advice=ADVICE[worst.kind],
    )


def _answer(snapshot: Snapshot, findings: tuple[Finding, ...], log: Log | None) -> Answer:
    from policies.rules import propose

    answers = propose(snapshot, findings)
    if not answers:
        return Answer(snapshot.steps_done, "continue", "nothing that the rules answer")
    return Answer(snapshot.steps_done, _tell(answers[0], snapshot, log), answers[0].evidence)


def _tell(decision: Decision, snapshot: Snapshot, log: Log | None) -> str:
    """Write a decision that was not taken as ``learning_rate 4e-05 -> 2e-05``, and as ``temperature times 1.25`` where
    the log does not say what it was."""
    action = decision.action
    moves = ", ".join(_tell_move(knob, value, snapshot, log) for knob, value in action.changes.items())
    if action.kind in ("set", "focus"):
        return moves
    return ", ".join(part for part in (f"{action.kind} {action.argument or ''}".strip(), moves) if part)


def _tell_move(knob: str, value: KnobValue, snapshot: Snapshot, log: Log | None) -> str:
    now = getattr(snapshot.knobs, knob)
    if log is None or snapshot.steps[-1].metrics.get(SAID.get(knob, ""), 0.0) > 0:
        return f"{knob} {format_knob(_round(now))} -> {format_knob(_round(value))}"
    return f"{knob} times {value / now:.3g}" if now and value else f"{knob} {format_knob(_round(value))}"


def _round(value: KnobValue) -> KnobValue:
    return value if value is None else float(f"{value:.4g}")


def _make_curves(snapshots: Sequence[Snapshot]) -> dict[str, dict[int, float]]:
    curves: dict[str, dict[int, float]] = {}
    for snapshot in snapshots:
        step = snapshot.steps[-1]
        for metric in CURVES:
            if metric in step.metrics:
                curves.setdefault(metric, {})[step.step] = step.metrics[metric]
    curves["dev"] = {look.step: look.score for snapshot in snapshots for look in snapshot.dev[-1:]}
    return {metric: curve for metric, curve in curves.items() if curve}
