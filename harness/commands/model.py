"""Use whoever answers outside a run: scored, sampled, probed, exported. Torch is loaded once the input is checked,
and for a model in memory alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.files import check_parent
from harness.commands.lookup import open_store_of
from harness.core.paths import existing_parent
from harness.core.seeds import derive_seed
from harness.errors import InputError
from harness.types import Knobs, Progress, no_progress

if TYPE_CHECKING:
    from harness.checks.probe import Probe, Suitability
    from harness.commands.targets import Measured, Sample


@dataclass(frozen=True, slots=True)
class Probed:
    """What a model can do before a run, under the knobs of its first step, and whether that is worth a run."""

    probe: Probe
    knobs: Knobs
    verdict: Suitability
    advice: str

    def to_json(self) -> dict[str, Any]:
        found = {"group_size": self.knobs.group_size, "verdict": self.verdict, "advice": self.advice}
        return asdict(self.probe) | found


@dataclass(frozen=True, slots=True)
class Exported:
    """A model as one ``folder`` that transformers loads; ``title`` says of which run and step."""

    title: str
    folder: Path


def evaluate(
    answerer: str,
    *,
    split: str | None = None,
    rows: str | None = None,
    n: int | None = None,
    temperature: float | None = None,
    checkpoint: str = "final",
    spec: str | None = None,
    overrides: Sequence[str] = (),
    record: Path | None = None,
    output_file: Path | None = None,
    db: str | None = None,
    out: str = "runs",
    progress: Progress = no_progress,
) -> Measured:
    """Score who answers (harness/run/answerers.py): a run's checkpoint, any model, a hosted one, a record of answers.

    They are asked ``split`` (unset: test, or with ``rows`` all), of it the ``rows`` of the source, ``n`` times each.
    ``spec`` gives pool and reward, unset those of a run; ``overrides`` apply to either. What arrives goes to the file
    ``record``, and what is in it is not asked again. ``output_file`` gets a CSV with one row per example. Raises
    InputError, OverBudget, and RunFailed when nothing was answered.
    """
    for file, option in ((output_file, "--output-file"), (record, "--record")):
        if file is not None:
            check_parent(file, option)
    from harness.checks.inputs import ALL, choose_prompts
    from harness.commands.targets import measure
    from harness.models.evaluate import write_csv
    from harness.run.answerers import find_answerer, open_target

    named = find_answerer(answerer, checkpoint=checkpoint, db=db, out=out)
    target = open_target(named, spec=spec, overrides=overrides, record=record)
    chosen = choose_prompts(target.spec, split=split or (ALL if target.asks_all else None), rows=rows)
    found = measure(target, chosen, n=n, temperature=temperature, progress=progress)
    if output_file is not None:
        write_csv(output_file, found.examples, found.thinking_tags, found.functions)
    return found


def sample(
    answerer: str = "latest",
    *,
    prompts: Sequence[str] = (),
    n: int = 1,
    temperature: float = 0.0,
    seed: int = 0,
    checkpoint: str = "final",
    spec: str | None = None,
    db: str | None = None,
    out: str = "runs",
    progress: Progress = no_progress,
) -> tuple[Sample, ...]:
    """Sample ``n`` completions of each of ``prompts``, or of some of dev, which are also scored. Raises InputError."""
    from harness.commands.targets import take_samples
    from harness.run.answerers import find_answerer, open_target

    target = open_target(find_answerer(answerer, checkpoint=checkpoint, db=db, out=out), spec=spec)
    return take_samples(target, prompts, n=n, temperature=temperature, seed=seed, progress=progress)


def probe(
    spec: str | None = None,
    *,
    model: str | None = None,
    checkpoint: str = "final",
    prompts: int = 50,
    n: int = 16,
    overrides: Sequence[str] = (),
    db: str | None = None,
    out: str = "runs",
    progress: Progress = no_progress,
) -> Probed:
    """Sample ``prompts`` of the probe split as the first step of a run would, ``n`` completions each or a group's.

    ``model`` is whoever answers, unset the spec's own model after its warm start. Raises InputError.
    """
    from harness.checks.inputs import prepare_inputs
    from harness.checks.probe import compute_probe, judge
    from harness.commands.targets import take_groups
    from harness.config.load import load_spec
    from harness.run.answerers import build_scorer, find_answerer, load_start, open_target

    checked = load_spec(spec, overrides)[0]
    named = None if model is None else find_answerer(model, checkpoint=checkpoint, db=db, out=out)
    asked = list(prepare_inputs(checked).splits["probe"][:prompts])
    if not asked:
        raise InputError("pool.splits: probe is 0, and its prompts are what is sampled; give it some")
    target = load_start(checked, progress) if named is None else open_target(named, spec=checked)
    knobs, _ = checked.first_knobs(target.recommended_group_size)
    n, seed = max(n, knobs.group_size), derive_seed(checked.seed, "probe")
    with build_scorer(checked, chat=target.chat) as reward:
        groups = take_groups(target, asked, n=n, reward=reward, seed=seed, progress=progress)
    found = compute_probe(groups, group_size=knobs.group_size)
    return Probed(found, knobs, *judge(found, knobs))


def export(
    run: str,
    *,
    to: Path | None = None,
    checkpoint: str = "best",
    adapter: bool = False,
    db: str | None = None,
    out: str = "runs",
    progress: Progress = no_progress,
) -> Exported:
    """Write a checkpoint of ``run`` with its model card into the new folder ``to``, by default RUN-CHECKPOINT here.

    An adapter is merged into its base unless ``adapter``. Raises InputError, and then nothing was written.
    """
    store, record = open_store_of(db, out, run)
    folder = to or Path(f"{record.name}-{checkpoint}")
    if folder.exists():
        raise InputError(f"--to: {folder} exists already; choose another")
    if not existing_parent(folder).is_dir():
        raise InputError(f"--to: {existing_parent(folder)} is not a folder")
    from harness.commands.model_export import export_run

    progress(f"exporting {checkpoint} of {record.name}", 0, 0)
    return Exported(export_run(store, record.name, checkpoint, folder, adapter=adapter).title, folder)
