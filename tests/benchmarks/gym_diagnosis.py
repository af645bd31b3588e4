"""Who names the fault of a run from its log: our detectors, and PyPI's rldoctor and rlprobe fed with the same steps.

All three are asked again after every step with what was logged by then. A diagnosis counts as right when the mapping
below says that it may name the fault, which is generous to the other two: most of theirs name a symptom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.store.opening import open_store
from harness.store.rows import evaluation_record, load_knobs, load_metrics, load_scores
from harness.store.snapshot import EVALUATIONS, SnapshotReader, compute_paired_look
from harness.types import EventRecord, PairedLook, Snapshot, StepRecord
from policies.detectors import detect

INSTALL = "the report asks rldoctor and rlprobe too: pip install --no-deps rldoctor==0.2.0 rlprobe==0.1.0"

TRL_NAMES = {
    "reward": "reward/mean",
    "reward_std": "reward/std",
    "frac_reward_zero_std": "group/no_signal_rate",
    "kl": "kl/mean",
    "entropy": "entropy/mean",
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad/norm",
    "completions/mean_length": "completion/tokens_mean",
    "completions/max_length": "completion/tokens_max",
    "completions/clipped_ratio": "completion/truncated_rate",
    "step_time": "time/step_s",
}
"""What a step logs, by the names that TRL gives it, which both others read."""

RLDOCTOR = {
    "lr-x10": {
        "kl_drift", "gradient_pathology", "entropy_collapse", "clip_saturation", "reward_hacking", "length_pathology"
    },
    "lr-by-100": {"kl_drift", "gradient_pathology", "plateau"},
    "max-tokens": {"length_pathology", "advantage_collapse"},
    "cold": {"entropy_collapse", "advantage_collapse"},
    "hot": {"entropy_collapse", "advantage_collapse"},
    "all-hard": {"advantage_collapse"},
    "all-easy": {"advantage_collapse"},
    "group-2": {"advantage_collapse"},
    "beta": {"kl_drift", "plateau"},
    "raises": set(),
    "exploited": {"reward_hacking", "reward_composition", "length_pathology"},
    "pays-all": {"advantage_collapse", "reward_hacking"},
}  # fmt: skip
"""By fault the detectors of rldoctor 0.2.0 that may name it. None looks at a reward that fails."""
RLPROBE = {
    "lr-x10": {"KL_BLOWUP", "GRAD_PATHOLOGY", "ENTROPY_COLLAPSE", "CLIP_SATURATION", "REPETITION_SPIRAL"},
    "lr-by-100": set(),
    "max-tokens": {"TRUNCATION_STARVE", "DEGENERATE_GROUPS"},
    "cold": {"ENTROPY_COLLAPSE", "DEGENERATE_GROUPS", "REWARD_STD_DEATH", "ADV_COLLAPSE"},
    "hot": {"DEGENERATE_GROUPS"},
    "all-hard": {"DEGENERATE_GROUPS", "REWARD_STD_DEATH", "ADV_COLLAPSE"},
    "all-easy": {"DEGENERATE_GROUPS", "REWARD_STD_DEATH", "ADV_COLLAPSE"},
    "group-2": {"DEGENERATE_GROUPS", "REWARD_STD_DEATH", "ADV_COLLAPSE"},
    "beta": set(),
    "raises": set(),
    "exploited": {"REWARD_HACK_LENGTH", "FORMAT_GAMING"},
    "pays-all": {"DEGENERATE_GROUPS", "REWARD_STD_DEATH", "ADV_COLLAPSE"},
}
"""By fault the signatures of rlprobe 0.1.0 that may name it. None is about too little movement or failing rewards."""


@dataclass(frozen=True)
class Seen:
    """A diagnosis after a step: a warning or worse."""

    step: int
    kind: str
    text: str


# ---------------------------------------------------------------- logs


def load_snapshots(database: Path) -> list[Snapshot]:
    """The snapshots of a run whose knobs did not change, as its decision policy saw them after each of its steps."""
    store = open_store(f"sqlite:///{database}")  # migrated, when a cell is older than the schema
    now = SnapshotReader(store, 1).read()
    with store.read() as c:
        rows = c.execute("SELECT step, parent, knobs, metrics FROM steps WHERE state = 'live' ORDER BY step").fetchall()
        steps = [StepRecord(row[0], row[1], load_knobs(row[2]), load_metrics(row[3])) for row in rows]
        looks = [evaluation_record(row) for row in c.execute(f"{EVALUATIONS} ORDER BY step, id", {"run": 1})]
        answers = dict(c.execute("SELECT step, answers FROM evaluations WHERE split = 'dev'").fetchall())
        errors = [
            EventRecord(*row) for row in c.execute("SELECT step, level, text, at FROM events WHERE level = 'error'")
        ]
    right = {step: load_scores(stored, graded=bool(now.run.graded)) for step, stored in answers.items()}

    def pair(step: int) -> tuple[PairedLook, ...]:
        *before, newest = (look for look in sorted(right) if look <= step)
        return tuple(compute_paired_look(look, right[look], newest, right[newest]) for look in before)

    return [
        Snapshot(
            run=now.run, step=step.step, steps_done=step.step, knobs=steps[0].knobs, bounds=now.bounds,
            pins=frozenset(), steps=tuple(steps[: i + 1]),
            evaluations=tuple(look for look in looks if look.step <= step.step and look.split == "dev"),
            paired_dev=pair(step.step),
            checkpoints=tuple(point for point in now.checkpoints if point.step <= step.step),
            faults=tuple(event for event in errors if event.step <= step.step),
        )
        for i, step in enumerate(steps)
    ]  # fmt: skip


PAIRED = ("before", "after", "n", "gained", "lost")


def shorten(snapshot: Snapshot, steps: int) -> dict[str, Any]:
    """The last ``steps`` steps of a snapshot with its looks, small enough to be kept among the tests' assets."""
    return {
        "knobs": asdict(snapshot.knobs),
        "steps": {
            step.step: {name: float(f"{x:.4g}") for name, x in step.metrics.items() if not name.startswith("time/")}
            for step in snapshot.steps[-steps:]
        },
        "dev": [asdict(look) for look in snapshot.dev],
        "paired": [{name: getattr(pair, name) for name in PAIRED} for pair in snapshot.paired_dev],
    }


def to_trl(snapshot: Snapshot) -> list[dict[str, float]]:
    """The log so far, a row for each step; dev accuracy in the rows of the steps after which it was measured."""
    dev = {look.step: look.accuracy for look in snapshot.dev}
    rows = []
    for step in snapshot.steps:
        row = {"step": float(step.step)} | {
            name: step.metrics[metric] for name, metric in TRL_NAMES.items() if metric in step.metrics
        }
        row |= {f"rewards/{name[10:]}/mean": x for name, x in step.metrics.items() if name.startswith("component/")}
        rows.append(row | ({"eval/accuracy": dev[step.step]} if step.step in dev else {}))
    return rows


# ---------------------------------------------------------------- who is asked


def ask_ours(snapshots: Sequence[Snapshot]) -> Iterator[Seen]:
    for snapshot in snapshots:
        for finding in detect(snapshot):
            if finding.severity in ("warning", "severe"):
                yield Seen(snapshot.steps_done, finding.kind, finding.evidence)


def ask_rldoctor(snapshots: Sequence[Snapshot]) -> Iterator[Seen]:
    """From the eighth step on, the fewest its live monitor may be asked after (by default it waits for sixty)."""
    try:
        from rl_doctor import Severity, diagnose, run_from_records
    except ImportError:
        raise SystemExit(INSTALL) from None
    for snapshot in snapshots[7:]:
        knobs = snapshot.knobs
        config: Mapping[str, Any] = {
            "algorithm": "grpo", "group_size": knobs.group_size, "kl_coef": knobs.beta,
            "learning_rate": knobs.learning_rate, "max_response_length": knobs.max_tokens,
        }  # fmt: skip
        for finding in diagnose(run_from_records(to_trl(snapshot), config=config)).problems:
            if finding.severity >= Severity.WARNING:
                yield Seen(snapshot.steps_done, finding.detector, finding.summary)


def ask_rlprobe(snapshots: Sequence[Snapshot]) -> Iterator[Seen]:
    """Its detectors say nothing of fewer than thirty steps."""
    try:
        from rlprobe.doctor.engine import diagnose_view
        from rlprobe.doctor.runview import RunView
        from rlprobe.integrations.trl import _map_logs
        from rlprobe.schemas import RunManifest
        from rlprobe.schemas import StepRecord as Record
    except ImportError:
        raise SystemExit(INSTALL) from None
    manifest = RunManifest(run_id="cell", created_at="", algorithm="grpo")
    for snapshot in snapshots:
        records = [Record(step=int(row["step"]), **_map_logs(row)) for row in to_trl(snapshot)]
        for finding in diagnose_view(RunView(manifest, records)):
            if finding.severity in ("warn", "critical"):
                yield Seen(snapshot.steps_done, finding.signature_id, finding.explanation)


@dataclass(frozen=True)
class Judge:
    """Who is asked, and by fault the kinds that name it."""

    ask: Callable[[Sequence[Snapshot]], Iterator[Seen]]
    right: Mapping[str, set[str]]


OTHERS = {"rldoctor 0.2.0": Judge(ask_rldoctor, RLDOCTOR), "rlprobe 0.1.0": Judge(ask_rlprobe, RLPROBE)}
