"""Start, resume, replay, branch and copy runs.

    launch = prepare_run("arithmetic", name="night-1", overrides=["budget.steps=40"])    # checked, nothing created
    run = launch.start()                                                                 # created, nothing driven
    status, reason = run.drive()                                                         # to its end

What is wrong shows in ``prepare_...``, before torch is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
    from harness.config.stages import Stage
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
    """A new run whose inputs are checked. ``short_name`` with a number names it where the spec does not; ``stage`` is
    what the record says of the stage that it is."""

    inputs: Inputs
    short_name: str
    url: str
    stage: Mapping[str, Any] | None = None

    def start(self, *, force: bool = False, say: Say = say_nothing) -> Run:
        """Run preflight, load the model and create the run. ``force`` lets a failed preflight pass.

        Raises InputError and RunFailed, and then nothing was created.
        """
        from harness.checks.gate import pass_preflight

        say("preflight: the reward on a sample of the pool ...")
        passage = pass_preflight(self.inputs, force=force)
        say(f"loading torch and the model {self.inputs.spec.model.name} ...")
        from harness.run.start import start_run

        return start_run(self.inputs, self.short_name, passage, stage=self.stage)


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
    if name is not None and "/" in name:
        raise InputError(f"--name: {name}: GROUP/STAGE names the run of a stage; take letters, digits, '-', '_' or '.'")
    fields = {"name": name, "seed": seed, "budget.steps": steps, "budget.hours": hours, "policy.kind": policy}
    fields |= {"output.db": db, "output.dir": None if out == "runs" else out}
    checked, short_name = load_spec(spec, [*overrides, *_to_overrides(fields)])
    say("checking pool, reward and model ...")
    from harness.checks.inputs import check_policy, prepare_inputs
    from harness.config.schema import PolicySpec
    from harness.models.hub import check_model_name
    from harness.monitoring.notifiers import build_hooks
    from harness.store.opening import check_place, find_store
    from pools.counts import describe_counts

    check_model_name(checked.model.name)
    url = database_url(checked.output.dir, checked.output.db)
    if checked.output.db and checked.output.dir == "runs":  # the default: beside the database, wherever that is
        place = checked.output.model_copy(update={"dir": str(database_path(url).parent)})
        checked = checked.model_copy(update={"output": place})
    check_place(url, checked.name, Path(checked.output.dir))
    kind = check_policy(checked.policy.kind, find_store(url))
    build_hooks(checked.alerts.webhook, checked.alerts.command)
    inputs = prepare_inputs(checked.model_copy(update={"policy": PolicySpec(kind=kind)}))
    say(f"pool: {describe_counts(inputs.counts)}")
    return Launch(inputs, short_name, url)


@dataclass(frozen=True)
class Continuation:
    """A run that can be resumed. ``accepted`` names what may have changed since: reward, data."""

    store: RunStore
    plan: Plan
    accepted: Collection[str] = ()

    def start(self, *, force: bool = False, say: Say = say_nothing) -> Run:
        """Check the inputs, load the model and take over the run; preflight runs where pool or reward have changed.

        Raises InputError and RunFailed, and then the run is as it was.
        """
        say("loading model, pool and checkpoint ...")
        from harness.checks.gate import pass_preflight
        from harness.checks.inputs import prepare_inputs

        inputs = prepare_inputs(self.plan.spec)
        changed = bool(self.accepted) or any(field.startswith(("reward.", "pool.")) for field in self.plan.changes)
        passage = pass_preflight(inputs, force=force) if changed else None
        from harness.run.start import resume_run

        return resume_run(self.store, self.plan, inputs, accepted=self.accepted, passage=passage)


def prepare_resume(
    run: str = "latest",
    *,
    steps: int | None = None,
    hours: float | None = None,
    overrides: Sequence[str] = (),
    accept: Sequence[str] = (),
    db: str | None = None,
    out: str = "runs",
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
    plan = plan_resume(store, record.name, [*overrides, *_to_overrides({"budget.steps": steps, "budget.hours": hours})])
    build_hooks(plan.spec.alerts.webhook, plan.spec.alerts.command)
    return Continuation(store, plan, tuple(accept))


def _to_overrides(fields: Mapping[str, Any]) -> list[str]:
    return [f"{field}={json.dumps(value)}" for field, value in fields.items() if value is not None]


# ---------------------------------------------------------------- stages


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What became of a stage: ``state`` is finished, stopped or failed (of its run), done (before), waits (for its
    parent) or changed (done otherwise before, and nobody asked for it again); ``why`` says more."""

    stage: str
    parent: str
    kind: str
    state: str
    run: str = ""
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Group:
    """The stages of a spec, all checked, as runs ``name``/STAGE. Those in ``wanted`` are taken, what is done already
    only where ``again`` says so."""

    name: str
    url: str
    stages: tuple[Stage, ...]
    wanted: frozenset[str]
    again: bool = False

    def drive(
        self, drive: Drive = drive_quietly, *, force: bool = False, say: Say = say_nothing
    ) -> tuple[StageOutcome, ...]:
        """Take the stages one after the other. One that fails, or waits for a person, stops only what comes from it.

        Raises KeyboardInterrupt where a run was interrupted.
        """
        outcomes: dict[str, StageOutcome] = {}
        for stage in self.stages:
            if stage.name in self.wanted:
                outcome = self._take(stage, drive, force=force, say=say)
                say(f"{self.name}/{stage.name}: {outcome.state}" + (f" ({outcome.why})" if outcome.why else ""))
                outcomes[stage.name] = outcome
        return tuple(outcomes.values())

    def _take(self, stage: Stage, drive: Drive, *, force: bool, say: Say) -> StageOutcome:
        from harness.checks.inputs import hash_contents, prepare_inputs
        from harness.run.stages import describe_parent, find_standing, free_run, inherit
        from harness.store.groups import find_stage_runs
        from harness.store.opening import open_store

        def end(state: str, run: str = "", why: str = "") -> StageOutcome:
            return StageOutcome(stage.name, stage.parent, stage.spec.kind, state, run, why)

        store = open_store(self.url)
        runs = find_stage_runs(store, self.name)
        parent = runs.get(stage.parent)
        if stage.parent != "base" and (parent is None or parent.status != "finished"):
            how = "has not been taken" if parent is None else parent.stop_reason or parent.status
            return end("waits", why=f"{stage.parent}: {how}")
        inputs = prepare_inputs(stage.spec)
        standing = find_standing(store, stage, inputs.spec, runs, hash_contents(inputs.splits))
        if standing.run is not None and standing.state == "done" and not self.again:
            return end("done", standing.run.name)
        if standing.run is not None and standing.state == "changed" and not self.again:
            return end("changed", standing.run.name, f"{standing.why}; --again takes it anew")
        if standing.run is not None and standing.state == "resume":
            name = standing.run.name
            started = self._say_fault(lambda: prepare_resume(name, db=self.url).start(force=force, say=say))
        else:
            name = free_run([run.name for run in store.list_runs()], self.name, stage.name)
            spec = inherit(store, stage, inputs.spec, runs).model_copy(update={"name": name})
            made = {
                "name": stage.name,
                "from": stage.parent,
                "parent": describe_parent(store, stage, runs),
                "spec": inputs.spec.model_dump(mode="json"),
                "stages": self._describe(),
            }
            launch = Launch(replace(inputs, spec=spec), name, self.url, made)
            started = self._say_fault(lambda: launch.start(force=force, say=say))
        if isinstance(started, str):
            return end("failed", name, started)
        status, reason = drive(started)
        if reason.startswith("interrupted"):
            raise KeyboardInterrupt
        return end(status, name, reason)

    def _say_fault(self, start: Callable[[], Run]) -> Run | str:
        """Start a run; where that fails say why, since it stops only what comes from it."""
        try:
            return start()
        except HarnessError as error:
            return str(error)

    def _describe(self) -> list[dict[str, Any]]:
        from harness.checks.trust import SIGNATURE, sign
        from harness.config.stages import describe

        place = database_path(self.url).absolute().parent
        described = describe(self.stages)
        return [one | {SIGNATURE: sign(stage.spec, place)} for one, stage in zip(described, self.stages, strict=True)]


def prepare_group(
    spec: str | None = None,
    *,
    name: str | None = None,
    stage: str | None = None,
    again: bool = False,
    seed: int | None = None,
    steps: int | None = None,
    hours: float | None = None,
    policy: str | None = None,
    overrides: Sequence[str] = (),
    db: str | None = None,
    out: str = "runs",
    say: Say = say_nothing,
) -> Group | None:
    """Check all stages of a spec but their models; None where it has none. ``stage`` is the one to take, None all.

    A group of that ``name`` is continued: what is done under the same spec, data and parent is not done ``again``. The
    rest as prepare_run.
    """
    from harness.config.stages import load_stages

    fields = {"seed": seed, "budget.steps": steps, "budget.hours": hours, "policy.kind": policy}
    fields |= {"output.db": db, "output.dir": None if out == "runs" else out}
    found = load_stages(spec, [*overrides, *_to_overrides(fields)])
    if found is None:
        if stage is not None or again:
            raise InputError("--stage and --again are for a spec with stages ([[stage]]), and this one has none")
        return None
    wanted = frozenset([found.find(stage).name] if stage else [each.name for each in found.stages])
    say(f"checking the {len(wanted)} stages ...")
    output = found.stages[0].spec.output
    url = database_url(output.dir, output.db)
    if output.db and output.dir == "runs":  # the default: beside the database, wherever that is
        output = output.model_copy(update={"dir": str(database_path(url).parent)})
    stages = tuple(replace(each, spec=each.spec.model_copy(update={"output": output})) for each in found.stages)
    for each in stages:
        if each.name in wanted:
            _check_stage(each, url)
    from harness.config.schema import is_run_name
    from harness.run.stages import free_group
    from harness.store.opening import find_store

    store = find_store(url)
    names = [run.name for run in store.list_runs()] if store else []
    group = name or found.name or free_group(names, found.short_name)
    if not is_run_name(group) or group in ("base", "best", "latest") or group.startswith("-"):
        raise InputError(f"--name: {group!r} cannot name a group; take letters, digits, '-', '_' or '.'")
    if group in names:
        raise InputError(f"--name: {group} is a run, not a group; take another name")
    return Group(group, url, stages, wanted, again)


def _check_stage(stage: Stage, url: str) -> None:
    """Check what of a stage can be checked before its parent is there. Raises InputError that names it."""
    from harness.checks.inputs import check_policy, prepare_inputs
    from harness.models.hub import check_model_name
    from harness.monitoring.notifiers import build_hooks
    from harness.store.opening import check_place, find_store

    try:
        check_model_name(stage.spec.model.name)
        check_place(url, "", Path(stage.spec.output.dir))
        check_policy(stage.spec.policy.kind, find_store(url))
        build_hooks(stage.spec.alerts.webhook, stage.spec.alerts.command)
        prepare_inputs(stage.spec)
    except InputError as error:
        raise InputError(f"stage {stage.name}: {error}") from None


def prepare_group_resume(
    name: str, *, stage: str | None = None, again: bool = False, db: str | None = None, out: str = "runs"
) -> Group | None:
    """Check that a group can continue with the stages on record; None where ``name`` is no group. Raises InputError."""
    from harness.checks.trust import SIGNATURE, check_trust
    from harness.config.stages import load_described
    from harness.store.groups import find_stage_runs
    from harness.store.opening import find_store

    store = find_store(database_url(out, db))
    if store is None or not (runs := find_stage_runs(store, name)):
        return None
    newest = max(runs.values(), key=lambda run: run.id)
    described = newest.manifest["stage"]["stages"]
    stages = load_described(described)
    place = {"dir": str(store.path.absolute().parent), "db": store.url}
    for one, each in zip(described, stages, strict=True):
        check_trust(f"{name}/{each.name}", each.spec, one.get(SIGNATURE, ""), store.path.absolute().parent)
    from harness.config.schema import OutputSpec

    stages = tuple(replace(s, spec=s.spec.model_copy(update={"output": OutputSpec(**place)})) for s in stages)
    names = [each.name for each in stages]
    if stage is not None and stage not in names:
        raise InputError(f"--stage: {name} has no stage {stage}; it has {', '.join(names)}")
    return Group(name, store.url, stages, frozenset([stage] if stage else names), again)


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
    """Copy a run, or ``all`` of them, with checkpoints and record into the new folder ``to``. A run may be running.

    ``to`` is a runs folder of its own, and appears whole or not at all. Raises InputError.
    """
    from harness.commands.lookup import open_reader
    from harness.run import copies

    reader, record = open_reader(db, out, "latest" if run == "all" else run)
    return copies.copy_runs(reader, reader.list_runs() if run == "all" else [record], to, progress)


def adopt(
    folder: Path, *, name: str | None = None, db: str | None = None, out: str = "runs", progress: Progress = no_progress
) -> Adopted:
    """Bring a run's folder (moved, copied, or without its database) into the database, as ``name`` or by its own.

    A folder from elsewhere is copied. Raises InputError, and then nothing was written.
    """
    from harness.run.copies import adopt_folder

    return adopt_folder(folder, database_url(out, db), name or folder.name, progress)
