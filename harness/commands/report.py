"""Read the record of runs: a list, reviews and diagnoses, as documents and as pages on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.files import write_text
from harness.commands.lookup import open_reader
from harness.core.formatting import format_knob
from harness.core.liveness import is_alive_run
from harness.core.paths import database_flag, database_url
from harness.errors import InputError

if TYPE_CHECKING:
    from harness.logs.read import Log
    from harness.store.reader import RunReader
    from harness.types import Decision, KnobValue, RunRecord, Snapshot, Status
    from policies.diagnosis import Diagnosed


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in a list. ``created`` is in seconds since 1970."""

    run: str
    status: Status
    alive: bool
    stop_reason: str
    policy: str
    seed: int
    steps: int
    rollouts: int
    wall_s: float
    best_step: int | None
    created: float


@dataclass(frozen=True, slots=True)
class Document:
    """``document`` as of harness.views.review.build_review, or of a comparison (harness/commands/comparing/)."""

    document: Mapping[str, Any]

    def to_json(self) -> Mapping[str, Any]:
        return self.document


def list_runs(*, db: str | None = None, out: str = "runs") -> tuple[RunSummary, ...]:
    """List all runs, the oldest first; none where there is no database. Raises InputError."""
    from harness.store.reader import find_reader

    reader = find_reader(database_url(out, db))
    if reader is None:
        return ()
    return tuple(
        RunSummary(
            run=record.name,
            status=record.status,
            alive=record.status in ("running", "paused") and is_alive_run(record),
            stop_reason=record.stop_reason,
            policy=record.policy,
            seed=record.seed,
            steps=record.last_step,
            rollouts=record.rollouts,
            wall_s=round(record.wall_s, 1),
            best_step=reader.best_step(record.id),
            created=record.created,
        )
        for record in reader.list_runs()
    )


def review(
    run: str = "latest",
    *,
    html: Path | None = None,
    whole_run: bool = True,
    db: str | None = None,
    out: str = "runs",
) -> Document:
    """Review what a run did and why, and write the page with plots to ``html`` if given. Of a group, review each stage.

    Without ``whole_run`` the document has what a terminal has room for, which comes sooner. Raises InputError.
    """
    from harness.store.history import load_history
    from harness.store.reader import find_reader
    from harness.views.groups import find_stage_runs
    from harness.views.review import build_review

    group = find_reader(database_url(out, db))
    if group is not None and (stages := find_stage_runs(group, run)):
        if html is not None:
            raise InputError(f"--html: {run} is a group; name the run of a stage, {run}/{next(iter(stages))}")
        reviews = [
            {"stage": name, "from": made.manifest["stage"]["from"], **build_review(load_history(group, made.name))}
            for name, made in stages.items()
        ]
        return Document({"group": run, "stages": reviews})
    reader, record = open_reader(db, out, run)
    if html is not None:
        write_report(reader, record.name, html)
    return Document(build_review(load_history(reader, record.name, whole_run=whole_run)))


# ---------------------------------------------------------------- diagnoses

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
class Answer:
    """What the rules would have done after a step, and by which evidence; ``continue`` where nothing."""

    step: int
    action: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a log or a run shows.

    ``findings`` are sorted by severity, within one those that stand at the end first. ``unknown`` says of each kind
    that could not be judged what is missing, ``judged`` how many detectors could. ``at_first`` is what the rules would
    have done at the first warning (None without one), ``at_end`` after the last row. ``curves`` are the metrics by
    step. Of a log, ``recognised`` maps its names to ours, and ``ignored`` are those that nobody read.
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
    judged: int

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
    return _make_diagnosis(snapshots, log, unsaid)


def _diagnose_run(reader: RunReader, record: RunRecord) -> Diagnosis:
    from harness.store.history import play_back

    snapshots = list(play_back(reader, record.id))
    if not snapshots:
        raise InputError(f"{record.name} has no step yet; grpo watch {record.name} shows what it does")
    return _make_diagnosis(snapshots, None, {})


def _make_diagnosis(snapshots: Sequence[Snapshot], log: Log | None, unsaid: Mapping[str, str]) -> Diagnosis:
    from policies.diagnosis import ADVICE, examine

    found, last = examine(snapshots, unsaid), snapshots[-1]
    return Diagnosis(
        source=last.run.name if log is None else str(log.path),
        format="a run of ours" if log is None else log.format,
        rows=len(snapshots) if log is None else len(log.rows),
        steps=last.steps_done,
        findings=found.findings,
        unknown=found.unknown,
        at_first=None if found.at_first is None else _tell_answer(*found.at_first, log),
        at_end=_tell_answer(*found.at_end, log),
        recognised={} if log is None else log.recognised,
        ignored=() if log is None else log.ignored,
        notes=() if log is None else log.notes,
        curves=_make_curves(snapshots),
        judged=len(ADVICE) - len(found.unknown),
    )


def _tell_answer(snapshot: Snapshot, decision: Decision | None, log: Log | None) -> Answer:
    if decision is None:
        return Answer(snapshot.steps_done, "continue", "nothing that the rules answer")
    return Answer(snapshot.steps_done, _tell(decision, snapshot, log), decision.evidence)


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


# ---------------------------------------------------------------- pages


def write_report(store: RunReader, name: str, file: Path) -> None:
    """Write the morning report of a run. Raises InputError."""
    from harness.commands.pool_report import WINDOWS
    from harness.store.history import load_course, load_history
    from pools.view import RATE_BINS, compute_windows

    check_file(file)
    history = load_history(store, name, whole_run=False)
    course = load_course(store, history.run.id)
    pool_size = history.manifest.get("split_sizes", {}).get("train", 0)
    windows = compute_windows(course.groups, pool_size=pool_size, count=WINDOWS)
    from harness.views.html.page import render_report

    where = database_flag(store.url)
    page = render_report(history, course, [asdict(window) for window in windows], RATE_BINS, where=where)
    write_text(file, [page], option="--html")


def check_file(file: Path) -> None:
    """Raise InputError when it cannot be written."""
    if file.is_dir():
        raise InputError(f"--html: {file} is a folder; name a file")
    if not file.absolute().parent.is_dir():
        raise InputError(f"--html: there is no folder {file.absolute().parent}")
