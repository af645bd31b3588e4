"""Use a model outside a run: scored, sampled, probed, exported. Torch is loaded once the input is checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.lookup import match_model, open_store_of
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
    model: str,
    *,
    split: str = "test",
    checkpoint: str = "final",
    spec: str | None = None,
    output_file: Path | None = None,
    db: str | None = None,
    out: str = "runs",
    progress: Progress = no_progress,
) -> Measured:
    """Score a run's checkpoint (best, final, a step or a name) or any model on a split of its pool.

    ``model`` is a run, a model folder or a hub id; ``spec`` gives pool and reward of a model that is no run.
    ``output_file`` gets a CSV with one row per example. Raises InputError.
    """
    model, store = match_model(model, db, out)
    from harness.commands.targets import load_target, measure
    from harness.models.evaluate import write_csv

    found = measure(load_target(model, checkpoint=checkpoint, spec=spec, store=store), split, progress)
    if output_file is not None:
        write_csv(output_file, found.examples, found.thinking_tags)
    return found


def sample(
    model: str = "latest",
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
    model, store = match_model(model, db, out)
    from harness.commands.targets import load_target, take_samples

    target = load_target(model, checkpoint=checkpoint, spec=spec, store=store)
    return take_samples(target, prompts, n=n, temperature=temperature, seed=seed, progress=progress)


def probe(
    spec: str | None = None,
    *,
    prompts: int = 50,
    n: int = 16,
    overrides: Sequence[str] = (),
    progress: Progress = no_progress,
) -> Probed:
    """Sample ``prompts`` of the probe split as the first step of a run would, ``n`` completions each or a group's.

    Raises InputError.
    """
    from harness.checks.inputs import build_reward, prepare_inputs
    from harness.checks.probe import compute_probe, judge
    from harness.commands.targets import load_start, take_groups
    from harness.config.load import load_spec

    checked = load_spec(spec, overrides)[0]
    asked = list(prepare_inputs(checked).splits["probe"][:prompts])
    if not asked:
        raise InputError("pool.splits: probe is 0, and its prompts are what is sampled; give it some")
    target = load_start(checked, progress)
    knobs, _ = checked.first_knobs(target.loaded.recommended_group_size)
    n, seed = max(n, knobs.group_size), derive_seed(checked.seed, "probe")
    with build_reward(checked, chat=target.loaded.chat) as reward:
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
