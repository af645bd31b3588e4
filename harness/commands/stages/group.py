"""Take the stages of a spec as the runs of a group, one after the other.

group = prepare_group("stages.toml", name="night-1")     # checked, nothing created; None for a spec without stages
outcomes = group.drive()                                  # each to its end
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.launch import (
    Drive,
    Launch,
    Say,
    drive_quietly,
    prepare_resume,
    say_nothing,
    to_overrides,
    try_llm,
)
from harness.core.formatting import format_duration
from harness.core.liveness import identify_supervisor, was_restarted
from harness.core.paths import database_path, database_url
from harness.errors import HarnessError, InputError, RunFailed

if TYPE_CHECKING:
    from harness.checks.inputs import Inputs
    from harness.config.stages import Stage
    from harness.store.writer import RunStore


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
        """Say what the stages take, then take them one after the other. One that fails, or waits for a person, stops
        only what comes from it.

        Raises InputError, and then nothing was created, and KeyboardInterrupt where a run was interrupted.
        """
        forecast_s, began = self._forecast(say), time.monotonic()
        outcomes: dict[str, StageOutcome] = {}
        for stage in self.stages:
            if stage.name in self.wanted:
                try:
                    outcome = self._take(stage, drive, force=force, say=say)
                except HarnessError as error:
                    outcome = StageOutcome(stage.name, stage.parent, stage.spec.kind, "failed", why=str(error))
                say(f"{self.name}/{stage.name}: {outcome.state}" + (f" ({outcome.why})" if outcome.why else ""))
                outcomes[stage.name] = outcome
        self._score(say)
        if forecast_s is not None:
            taken = format_duration(time.monotonic() - began)
            say(f"{self.name} took {taken}, forecast {format_duration(forecast_s)}")
        return tuple(outcomes.values())

    def _forecast(self, say: Say) -> float | None:
        """Rehearse all stages that are to be taken, where these are several, and say what they take. Return how long,
        in s. A process that was started again has said it before."""
        from harness.commands.stages.forecast import describe_forecast, forecast_stages

        due = {} if was_restarted() else self._find_due()
        if len(due) < 2:
            return None
        folder = Path(self.stages[0].spec.output.dir).absolute()
        place = next(each for each in (folder, *folder.parents) if each.is_dir())
        try:
            found = forecast_stages(self.stages, due, place, say)
        except RunFailed as failure:
            say(f"no forecast: {failure}")
            return None
        for line in describe_forecast(found, place):
            say(line)
        return sum(one.seconds for one in found)

    def _find_due(self) -> dict[str, tuple[Inputs, int]]:
        """Find the stages that would be taken now, each with its inputs and the steps that are left of it."""
        from harness.checks.inputs import hash_contents, prepare_inputs
        from harness.commands.stages.standing import find_standing
        from harness.store.opening import find_store
        from harness.views.groups import find_stage_runs

        store, due = find_store(self.url), dict[str, "tuple[Inputs, int]"]()
        runs = find_stage_runs(store, self.name) if store else {}
        for stage in self.stages:
            if stage.name not in self.wanted:
                continue
            inputs = prepare_inputs(stage.spec)
            steps, run = inputs.spec.budget.steps, runs.get(stage.name)
            if store is None or run is None:
                due[stage.name] = inputs, steps
                continue
            state = find_standing(store, stage, inputs.spec, runs, hash_contents(inputs.splits)).state
            if state in ("new", "resume") or self.again:
                due[stage.name] = inputs, steps - run.last_step if state == "resume" else steps
        return due

    def _score(self, say: Say) -> None:
        """Score base and stages on the same prompts; a fault there is told and changes nothing."""
        from harness.commands.stages.scores import score_group
        from harness.store.opening import open_store
        from harness.views.groups import find_stage_runs, is_done

        store = open_store(self.url)
        if not any(is_done(store, run) for run in find_stage_runs(store, self.name).values()):
            return
        folder = Path(self.stages[0].spec.output.dir)
        say(f"scores of base and stages on test: {folder / self.name / 'scores'} ...")
        try:
            score_group(store, self.name, self.stages, folder, say)
        except HarnessError as error:
            say(f"no scores: {error}")

    def _take(self, stage: Stage, drive: Drive, *, force: bool, say: Say) -> StageOutcome:
        from harness.checks.inputs import hash_contents, prepare_inputs
        from harness.commands.stages.standing import describe_parent, find_standing, free_run, inherit
        from harness.store.opening import open_store
        from harness.views.groups import find_stage_runs, is_done

        def end(state: str, run: str = "", why: str = "") -> StageOutcome:
            return StageOutcome(stage.name, stage.parent, stage.spec.kind, state, run, why)

        store = open_store(self.url)
        runs = find_stage_runs(store, self.name)
        parent = runs.get(stage.parent)
        if stage.parent != "base" and (parent is None or not is_done(store, parent)):
            how = "has not been taken" if parent is None else parent.stop_reason or parent.status
            return end("waits", why=f"{stage.parent}: {how}")
        inputs = prepare_inputs(stage.spec)
        standing = find_standing(store, stage, inputs.spec, runs, hash_contents(inputs.splits))
        run = standing.run
        # Taken on behalf of this same command, by a process that died since: what came of it stays.
        ours = run is not None and was_restarted() and run.supervisor == identify_supervisor()
        again = self.again and not ours
        if run is not None and standing.state == "done" and not again:
            return end("done", run.name, standing.why)
        if run is not None and standing.state == "changed" and not again:
            return end("changed", run.name, f"{standing.why}; --again takes it anew")
        if run is not None and standing.state == "resume" and ours and run.ended:
            return end(run.status, run.name, run.stop_reason)
        from harness.models.runtime import release_memory  # and torch, once there is something to do

        release_memory()
        if run is not None and standing.state == "resume":
            name = run.name
            started = prepare_resume(name, db=self.url).start(force=force, say=say)
            self._put_on_record(store)
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
            new = replace(inputs, spec=spec)
            tried = try_llm(spec.policy.kind, spec, say)
            started = Launch(new, name, self.url, tried, made).start(force=force, say=say)
        status, reason = drive(started)
        if reason.startswith("interrupted"):
            raise KeyboardInterrupt
        return end(status, name, reason)

    def _put_on_record(self, store: RunStore) -> None:
        """Let the newest run, which a resume of the group asks for its stages, say what they are now."""
        from harness.views.groups import find_newest, find_stage_runs

        newest = find_newest(find_stage_runs(store, self.name))
        stage = newest.manifest["stage"] | {"stages": self._describe()}
        if stage != newest.manifest["stage"]:
            store.update_run(newest.id, manifest=newest.manifest | {"stage": stage})

    def find_runs(self) -> list[str]:
        """Return the names of the runs that count: of each stage that has begun its newest one."""
        from harness.store.opening import open_store
        from harness.views.groups import find_stage_runs

        runs = find_stage_runs(open_store(self.url), self.name)
        return [runs[stage.name].name for stage in self.stages if stage.name in runs]

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
    found = load_stages(spec, [*overrides, *to_overrides(fields)])
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
    from harness.commands.stages.standing import free_group
    from harness.config.schema import is_run_name
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
    from harness.run.answerers import check_all_judges
    from harness.store.opening import check_place, find_store

    try:
        check_model_name(stage.spec.model.name)
        check_place(url, "", Path(stage.spec.output.dir))
        check_policy(stage.spec.policy.kind, find_store(url), stage.spec)
        check_all_judges(stage.spec)
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
    from harness.store.opening import find_store
    from harness.views.groups import find_newest, find_stage_runs

    store = find_store(database_url(out, db))
    if store is None or not (runs := find_stage_runs(store, name)):
        return None
    described = find_newest(runs).manifest["stage"]["stages"]
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
