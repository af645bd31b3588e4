"""Start, resume, replay, branch and copy runs.

    launch = prepare_run("arithmetic", name="night-1", overrides=["budget.steps=40"])    # checked, nothing created
    run = launch.start()                                                                 # created, nothing driven
    status, reason = run.drive()                                                         # to its end

What is wrong shows in ``prepare_...``, before torch is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.lookup import open_store_of
from harness.core.actions import parse_action
from harness.core.liveness import is_alive_run
from harness.core.paths import database_path, database_url
from harness.errors import HarnessError, InputError
from harness.types import Progress, no_progress

if TYPE_CHECKING:
    from harness.checks.inputs import Inputs
    from harness.checks.services import Tried
    from harness.config.schema import RunSpec
    from harness.run.copies import Adopted, Copied
    from harness.run.replay import Difference
    from harness.run.runner import Run
    from harness.run.start import Plan
    from harness.store.writer import RunStore
    from harness.types import Status

Say = Callable[[str], None]
"""Told in words what a start is at ("loading torch and the model ..."), a few times."""
Drive = Callable[["Run"], "tuple[Status, str]"]
"""Takes a run to its end, with a view beside it or none. Returns how and why it ended."""


def say_nothing(text: str) -> None:
    """Do nothing: the Say of a caller who does not look."""


def drive_quietly(run: Run) -> tuple[Status, str]:
    """Take a run to its end without a view."""
    return run.drive()


# ---------------------------------------------------------------- run and resume


@dataclass(frozen=True)
class Launch:
    """A new run whose inputs are checked. ``short_name`` with a number names it where the spec does not; ``tried`` is
    what came of trying the LLM's key, None where none is asked, and ``stage`` what the record says of the stage that
    it is."""

    inputs: Inputs
    short_name: str
    url: str
    tried: Tried | None = None
    stage: Mapping[str, Any] | None = None

    def start(self, *, force: bool = False, say: Say = say_nothing) -> Run:
        """Run preflight, load the model and create the run. ``force`` lets a failed preflight pass.

        Raises InputError and RunFailed, and then nothing was created.
        """
        from harness.checks.gate import pass_preflight
        from harness.config.asking import build_ledger
        from harness.run.answerers import open_judges

        spec = self.inputs.spec
        say("preflight: the reward on a sample of the pool ...")
        passage = pass_preflight(self.inputs, force=force, opener=open_judges(spec, build_ledger(spec)))
        say(f"loading torch and the model {spec.model.name} ...")
        from harness.run.start import start_run

        run = start_run(self.inputs, self.short_name, passage, stage=self.stage)
        if self.tried is not None:
            run.record_tried(self.tried)
        return run


def prepare_run(
    spec: str | None = None,
    *,
    name: str | None = None,
    seed: int | None = None,
    steps: int | None = None,
    hours: float | None = None,
    policy: str | None = None,
    overrides: Sequence[str] = (),
    db: str | None = None,
    out: str = "runs",
    say: Say = say_nothing,
) -> Launch:
    """Check all of a new run but its model. ``spec`` is a recipe or a file, None the default recipe.

    An argument beats ``overrides`` (``section.field=value``), which beat the file; ``out`` only counts when it is not
    the default. Raises InputError.
    """
    from harness.config.load import load_spec

    if name == "":
        raise InputError("--name: it is empty; leave it out for the recipe's name with a number")
    fields = {"name": name, "seed": seed, "budget.steps": steps, "budget.hours": hours, "policy.kind": policy}
    fields |= {"output.db": db, "output.dir": None if out == "runs" else out}
    checked, short_name = load_spec(spec, [*overrides, *to_overrides(fields)])
    say("checking pool, reward and model ...")
    from harness.checks.inputs import check_policy, prepare_inputs
    from harness.config.schema import PolicySpec
    from harness.models.hub import check_model_name
    from harness.monitoring.notifiers import build_hooks
    from harness.run.answerers import check_all_judges
    from harness.store.opening import check_place, find_store
    from pools.counts import describe_counts

    check_model_name(checked.model.name)
    check_all_judges(checked)
    url = database_url(checked.output.dir, checked.output.db)
    if checked.output.db and checked.output.dir == "runs":  # the default: beside the database, wherever that is
        place = checked.output.model_copy(update={"dir": str(database_path(url).parent)})
        checked = checked.model_copy(update={"output": place})
    check_place(url, checked.name, Path(checked.output.dir))
    kind = check_policy(checked.policy.kind, find_store(url), checked)
    build_hooks(checked.alerts.webhook, checked.alerts.command)
    inputs = prepare_inputs(checked.model_copy(update={"policy": PolicySpec(kind=kind)}))
    say(f"pool: {describe_counts(inputs.counts)}")
    return Launch(inputs, short_name, url, try_llm(kind, inputs.spec, say))


def try_llm(kind: str, spec: RunSpec, say: Say, *, spent: float = 0.0) -> Tried | None:
    """Try the key where the decision policy is llm, and only there. Raises InputError where it is refused."""
    if kind != "llm":
        return None
    from harness.checks.services import check_llm

    say("asking the llm a first question, to see that it takes the key ...")
    tried = check_llm(spec, spent)
    if not tried.ok:
        say(f"warning: {tried.said}")
    return tried


@dataclass(frozen=True)
class Continuation:
    """A run that can be resumed. ``accepted`` names what may have changed since: reward, data; ``tried`` as in
    Launch."""

    store: RunStore
    plan: Plan
    accepted: Collection[str] = ()
    tried: Tried | None = None

    def start(self, *, force: bool = False, say: Say = say_nothing) -> Run:
        """Check the inputs, load the model and take over the run; preflight runs where pool or reward have changed.

        Raises InputError and RunFailed, and then the run is as it was.
        """
        say("loading model, pool and checkpoint ...")
        from harness.checks.gate import pass_preflight
        from harness.checks.inputs import prepare_inputs
        from harness.config.asking import build_ledger
        from harness.run.answerers import open_judges

        spec = self.plan.spec
        inputs = prepare_inputs(spec)
        changed = bool(self.accepted) or any(
            field.startswith(("reward.", "judge.", "pool.")) for field in self.plan.changes
        )
        passage = pass_preflight(inputs, force=force, opener=open_judges(spec, build_ledger(spec))) if changed else None
        from harness.run.start import resume_run

        run = resume_run(self.store, self.plan, inputs, accepted=self.accepted, passage=passage)
        if self.tried is not None:
            run.record_tried(self.tried)
        return run


def prepare_resume(
    run: str = "latest",
    *,
    steps: int | None = None,
    hours: float | None = None,
    overrides: Sequence[str] = (),
    accept: Sequence[str] = (),
    db: str | None = None,
    out: str = "runs",
    say: Say = say_nothing,
) -> Continuation:
    """Check that a stopped or killed run can continue. ``steps`` and ``hours`` are new budgets, in all.

    Raises InputError.
    """
    from harness.config.changes import ACCEPTABLE
    from harness.monitoring.notifiers import build_hooks
    from harness.run.start import plan_resume

    for what in accept:
        if what not in ACCEPTABLE:
            raise InputError(f"--accept takes {' or '.join(ACCEPTABLE)}, not {what}")
    store, record = open_store_of(db, out, run)
    plan = plan_resume(store, record.name, [*overrides, *to_overrides({"budget.steps": steps, "budget.hours": hours})])
    build_hooks(plan.spec.alerts.webhook, plan.spec.alerts.command)
    return Continuation(
        store, plan, tuple(accept), try_llm(record.policy, plan.spec, say, spent=store.load_spent(record.id))
    )


def to_overrides(fields: Mapping[str, Any]) -> list[str]:
    """Write the fields that are given as ``section.field=value``."""
    return [f"{field}={json.dumps(value)}" for field, value in fields.items() if value is not None]


# ---------------------------------------------------------------- replay


@dataclass(frozen=True, slots=True)
class Replayed:
    """How a replay came out: the first ``difference`` if there is one, and what of the ``environment`` has changed."""

    run: str
    replay_of: str
    steps: int
    difference: Difference | None
    environment: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"identical": self.difference is None}


def replay(
    run: str = "latest",
    *,
    name: str | None = None,
    drive: Drive = drive_quietly,
    db: str | None = None,
    out: str = "runs",
) -> Replayed:
    """Take a run again from its decision log and compare every step with it, to the last bit.

    Raises InputError, and KeyboardInterrupt where the replay was interrupted.
    """
    from harness.checks.inputs import prepare_inputs
    from harness.config.schema import AlertsSpec
    from harness.run.replay import find_changes, find_difference, plan_replay

    store, record = open_store_of(db, out, run)
    record, spec = plan_replay(store, record.name, name or "")
    # Whoever is asked to look at it was told of the run itself.
    inputs = prepare_inputs(spec.model_copy(update={"alerts": AlertsSpec()}))
    first = store.load_run(record.id)
    from harness.run.start import start_run

    started = start_run(inputs, f"{record.name}-replay", replay_of=first)
    _finish(started, drive)
    again = store.find_run(started.name)
    return Replayed(
        again.name,
        record.name,
        record.last_step,
        find_difference(store, record, again),
        tuple(find_changes(first.manifest, store.load_run(again.id).manifest)),
    )


def _finish(run: Run, drive: Drive) -> str:
    """Drive a run to its end and return why it ended. Raises KeyboardInterrupt where it was interrupted."""
    _, reason = drive(run)
    if reason.startswith("interrupted"):
        raise KeyboardInterrupt
    return reason


# ---------------------------------------------------------------- branch


@dataclass(frozen=True, slots=True)
class Branched:
    """What a comparison of settings came to; ``asked`` of a live run, which makes it at its next boundary."""

    run: str
    asked: bool = False
    kept: str = ""
    verdict: str = ""
    evidence: str = ""

    def to_json(self) -> dict[str, Any]:
        names = ("run", "asked") if self.asked else ("run", "kept", "verdict", "evidence")
        return {name: getattr(self, name) for name in names}


def branch(
    run: str,
    settings: Sequence[str],
    *,
    steps: int = 6,
    at: str | None = None,
    note: str = "",
    drive: Drive = drive_quietly,
    db: str | None = None,
    out: str = "runs",
) -> Branched:
    """Compare settings (``knob=value,knob=value``) in arms of ``steps`` steps from the checkpoint ``at``.

    A run that has ended is resumed for it. Raises InputError for what the run refuses, HarnessError when the branch
    did not come to its end, KeyboardInterrupt where it was interrupted.
    """
    asked = [parse_action(["rollback", at])] if at is not None else []
    asked.append(parse_action(["branch", str(steps), *settings]))
    store, record = open_store_of(db, out, run)
    if not record.ended and is_alive_run(record):
        for action in asked:
            store.add_command(record.id, action, note=note)
        return Branched(record.name, asked=True)
    logged = bool(store.load_decisions_at(record.id, record.last_step + 1))  # what the run ended with takes its step
    total = record.last_step + logged + steps * (len(settings) + 1)
    resumed = prepare_resume(record.name, steps=total, db=store.url, out=out).start()
    for action in asked:
        resumed.store.add_command(record.id, action, note=note)
    reason = _finish(resumed, drive)
    from harness.store.snapshot import SnapshotReader
    from harness.views.summary import format_decision

    made = [d for d in SnapshotReader(resumed.store, record.id).read().decisions if d.step > record.last_step]
    refused = next((d for d in made if d.action in ("rollback", "branch") and d.refused), None)
    if refused is not None:
        raise InputError(f"{format_decision(refused)}: {refused.refused}")
    arms = [d for d in made if d.action == "branch"]
    if not arms or arms[0].verdict is None:
        raise HarnessError(f"the branch did not come to its end ({reason}); grpo review {record.name} tells more")
    return Branched(record.name, kept=arms[0].measured or "", verdict=arms[0].verdict, evidence=arms[-1].evidence)


# ---------------------------------------------------------------- copies


def copy_runs(
    run: str, to: Path, *, db: str | None = None, out: str = "runs", progress: Progress = no_progress
) -> Copied:
    """Copy a run, those of a group, or ``all`` of them, with checkpoints and record into the new folder ``to``. They
    may be running.

    ``to`` is a runs folder of its own, and appears whole or not at all. Raises InputError.
    """
    from harness.commands.lookup import open_reader
    from harness.run import copies

    reader, record = open_reader(db, out, "latest" if run == "all" else run)
    of_group = record.name.startswith(f"{run}/")
    records = [one for one in reader.list_runs() if run == "all" or (of_group and one.name.startswith(f"{run}/"))]
    return copies.copy_runs(reader, records or [record], to, progress)


def adopt(
    folder: Path, *, name: str | None = None, db: str | None = None, out: str = "runs", progress: Progress = no_progress
) -> Adopted:
    """Bring a run's folder (moved, copied, or without its database) into the database, as ``name`` or by its own; that
    of a stage with its group's.

    A folder from elsewhere is copied. Raises InputError, and then nothing was written.
    """
    from harness.run.copies import adopt_folder

    return adopt_folder(folder, database_url(out, db), name, progress)
