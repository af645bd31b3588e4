"""From a checked spec to a run that can be driven: the only wiring, and the only place that knows every room."""

from __future__ import annotations

import hashlib
import logging
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from harness.checks.gate import Passage
from harness.checks.inputs import (
    Splits,
    build_reward,
    check_inputs,
    check_policy,
    choose_demonstrations,
    hash_reward,
    keep_splits,
)
from harness.commands.report import FILE as REPORT
from harness.commands.report import write_report_apart
from harness.config.changes import check_silent, find_measured
from harness.config.names import REPLAY
from harness.config.schema import PolicySpec, RunSpec
from harness.core.actions import check_action
from harness.core.environment import collect_manifest
from harness.core.formatting import format_changes
from harness.core.liveness import was_restarted
from harness.core.paths import database_url
from harness.core.seeds import derive_seed
from harness.errors import InputError, Refused, RunFailed, StoreUnavailable
from harness.llm.client import api_key
from harness.models.evaluate import ModelEvaluator
from harness.models.load import LoadedModel, load_model, load_weights
from harness.models.memory import MemoryForecast, check_memory, free_memory, shape_of
from harness.models.runtime import prepare_process
from harness.monitoring.alert_process import Lookout
from harness.monitoring.notifiers import build_hooks
from harness.run.checkpoints import Checkpoints
from harness.run.controller import Controller
from harness.run.heartbeat import Pulse
from harness.run.replay import check_same, load_repeated
from harness.run.resume import plan_resume
from harness.run.session import Session
from harness.run.state import Settings, State
from harness.store.opening import check_place, find_store, free_name, open_store, refuse_taken
from harness.store.retry import Patience
from harness.store.snapshot import SnapshotReader
from harness.store.writer import RunStore
from harness.training.forecast import Forecast, compute_forecast
from harness.training.grpo import StepTrainer
from harness.training.sft import warm_start
from harness.types import (
    DecisionPolicy,
    Knobs,
    Progress,
    Prompt,
    SampleRecord,
    Scorer,
    Status,
)
from policies.detectors import detect
from policies.effects import EffectJudge
from policies.fixed import FixedPolicy
from policies.replay import ReplayPolicy
from policies.rules import RulesPolicy, propose
from pools.pool import PromptPool
from rewards.parallel import ParallelReward

log = logging.getLogger("grpo")
POLICIES: Mapping[str, Callable[[], DecisionPolicy]] = {"rules": RulesPolicy, "fixed": FixedPolicy}


def build_evaluator(
    spec: RunSpec, loaded: LoadedModel, splits: Mapping[str, Sequence[Prompt]], reward: Scorer
) -> ModelEvaluator:
    return ModelEvaluator(
        loaded, reward, splits, spec.evaluate, sample_prompts=spec.sample.prompts, stop=spec.trainer.stop
    )


# ---------------------------------------------------------------- the parts that a spec makes


@dataclass(frozen=True)
class Parts:
    """Everything checked and in memory, nothing created on disk yet."""

    spec: RunSpec
    loaded: LoadedModel
    splits: Splits
    pool: PromptPool
    reward: ParallelReward
    knobs: Knobs
    bounds: dict[str, tuple[float, float]]
    memory: MemoryForecast
    manifest: dict[str, Any]


def build_parts(spec: RunSpec) -> Parts:
    """Load pool, reward and model and check that they fit each other. Raises InputError."""
    threads = prepare_process(spec.model.threads)
    splits, pool = check_inputs(spec)
    loaded = load_model(spec.model, spec.lora, seed=derive_seed(spec.seed, "model"))
    knobs, group_size_from = spec.first_knobs(loaded.recommended_group_size)
    longest = _check_prompts(loaded, splits)
    bounds = _fit_context(spec, knobs, loaded.context, longest)
    shape = shape_of(loaded.model)
    free = free_memory() + shape.weights_bytes  # which are there already
    memory = check_memory(shape, knobs, spec.trainer, spec.warmstart, longest_prompt=longest, free=free)
    low, high = bounds["prompts_per_step"]
    bounds["prompts_per_step"] = (low, min(high, float(pool.largest_draw())))
    manifest = collect_manifest(threads) | {
        "group_size_from": group_size_from,
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "context": loaded.context,
        "longest_prompt": longest,
        "memory_forecast": asdict(memory) | {"peak": memory.peak},
        "split_sizes": {name: len(prompts) for name, prompts in splits.items()},
        "data_sha256": _hash(_contents(splits)),
        "reward_sha256": hash_reward(spec),
    }
    return Parts(
        spec,
        loaded,
        splits,
        pool,
        build_reward(spec, chat=loaded.chat),
        knobs,
        bounds,
        memory,
        manifest,
    )


def _check_prompts(loaded: LoadedModel, splits: Splits) -> int:
    """Tokens of the longest prompt. Raises InputError when the context has no room for it and an answer."""
    # By characters first: tokenizing a large pool only to find its longest prompt would take minutes.
    longest: list[tuple[int, Prompt]] = []
    for part in splits.values():
        lengths = part.text_lengths
        longest += [(int(lengths[i]), part[int(i)]) for i in np.argsort(lengths, kind="stable")[-50:]]
    longest.sort(key=lambda pair: pair[0])
    tokens, text = max((len(loaded.prompt_ids(prompt)), prompt.text) for _, prompt in longest[-50:])
    if tokens >= loaded.context:
        raise InputError(
            f"pool.source: the prompt {text[:40]!r}... has {tokens:,} tokens and the model's context only "
            f"{loaded.context:,}: leave it out of the source, or take a model with a longer context"
        )
    return tokens


def _contents(splits: Splits) -> Iterator[str]:
    for name in sorted(splits):
        truths = splits[name].column("ground_truth").to_pylist()
        yield from (f"{prompt_id} {truth}" for prompt_id, truth in zip(splits[name].ids, truths, strict=True))


def _fit_context(spec: RunSpec, knobs: Knobs, context: int, longest: int) -> dict[str, tuple[float, float]]:
    """The bounds, with max_tokens kept within the context."""
    room = context - longest
    for name, tokens in (("knobs.max_tokens", knobs.max_tokens), ("evaluate.max_tokens", spec.evaluate.max_tokens)):
        if tokens > room:
            raise InputError(
                f"{name}: {tokens} does not fit: the longest prompt has {longest} tokens and the context {context}, "
                f"so at most {max(room, 0)}"
            )
    low, high = spec.all_bounds["max_tokens"]
    return spec.all_bounds | {"max_tokens": (low, min(high, float(room)))}


def _hash(parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\n")
    return digest.hexdigest()


# ---------------------------------------------------------------- runs


class Run:
    """A run of this process: its record exists; ``drive`` takes it to its end."""

    def __init__(self, parts: Parts, store: RunStore, run_id: int, interrupted: Event, *, resumed: bool) -> None:
        self.parts = parts
        self.store = store
        self.run_id = run_id
        self.interrupted = interrupted
        self.resumed = resumed
        row = store.load_run(run_id)
        self.name: str = row["name"]
        self.folder = Path(row["folder"])
        self._wall_before = float(row["wall_s"])
        self._started = time.monotonic()
        alerts = parts.spec.alerts
        self.lookout = Lookout(
            store.url,
            run_id,
            wanted=bool(alerts.webhook or alerts.command),
            say=_say,
            note=self._note_in_passing,
        )
        self.progress = Pulse(store, run_id, wall_s=lambda: self.wall_s, note=self._note)
        store.patience = Patience(interrupted, say=_say, note=self._note, beat=self._beat_waiting)

    def drive(self) -> tuple[Status, str]:
        """Warm start, forecast, steps, end, report. Returns how and why it ended; raises nothing but
        KeyboardInterrupt."""
        with self.lookout:
            ended = self._drive()
            self._write_report()
        return ended

    def _drive(self) -> tuple[Status, str]:
        open_log(self.folder)
        self.parts.reward.log = self.folder / "reward.txt"
        try:
            with self.progress:
                return self.build_controller().run()
        except KeyboardInterrupt:
            return self._end("stopped", "interrupted in the middle of its work, which was abandoned")
        except StoreUnavailable as fault:  # outlasted until Ctrl-C
            return self._end("stopped", f"interrupted while waiting: {fault}")
        except Exception as error:
            log.exception("the run failed")
            return self._end(
                "failed", str(error) if isinstance(error, RunFailed) else f"{type(error).__name__}: {error}"
            )
        finally:
            self.parts.reward.close()

    def _end(self, status: Status, reason: str) -> tuple[Status, str]:
        """Put it on record if that can be written; a resume goes on from the last commit either way."""
        try:
            self.store.end_run(self.run_id, status, reason, self.wall_s)
        except StoreUnavailable as fault:
            log.warning("not on record: %s (%s)", reason, fault)
        return status, reason

    def _write_report(self) -> None:
        """The run has ended and its end is on record: what goes wrong here is told and changes nothing."""
        self.store.patience = None
        try:
            fault = write_report_apart(self.store.url, self.name, self.folder / REPORT)
        except KeyboardInterrupt:
            fault = "interrupted"
        if fault:
            self._note_in_passing(f"no {REPORT}: {fault}; to write it: grpo review {self.name} --html FILE")

    def _note(self, text: str) -> None:
        self.store.record_event(self.run_id, self.store.load_run(self.run_id)["last_step"], "warning", text)

    def _note_in_passing(self, text: str) -> None:
        """Of what is beside the run: where it cannot be put on record, the log has it."""
        log.warning(text)
        with suppress(StoreUnavailable):
            self._note(text)

    @property
    def wall_s(self) -> float:
        return self._wall_before + time.monotonic() - self._started

    def _is_of_era(self, step: int) -> bool:
        """Not what the era before left behind when it had gone back further: its decisions are not taken again."""
        eras = self.store.load_run(self.run_id)["eras"]
        return not eras or not eras[-1]["weights_step"] < step <= eras[-1]["last_step"]

    def _beat_waiting(self) -> None:
        self.progress("waiting for disk or database", 0, 0)

    def _warming_up(self, phase: str, done: int, total: int) -> None:
        """Progress of the warm start, of which nothing is kept: Ctrl-C need not wait for its end."""
        if self.interrupted.is_set():
            raise KeyboardInterrupt
        self.progress(phase, done, total)

    def build_controller(self) -> Controller:
        """Warm start or checkpoint, then everything that drives the run, ready for its next step."""
        spec, parts, store = self.parts.spec, self.parts, self.store
        checkpoints = Checkpoints(store, self.run_id, self.folder / "checkpoints", keep=spec.checkpoint.keep)
        checkpoints.drop_orphans()
        newest, damaged = checkpoints.find_newest(self._is_of_era) if self.resumed else (None, [])
        for step in damaged:
            store.record_event(self.run_id, step, "warning", f"the checkpoint of step {step} is damaged: passed over")
        if newest is None and damaged:
            raise RunFailed("every checkpoint is damaged: start anew under another name")
        if newest is None:
            store.supersede_after(self.run_id, -1, 0, live=[])
            if spec.warmstart.steps:
                shown = choose_demonstrations(spec, parts.splits["train"])
                warm_start(parts.loaded, shown, spec.warmstart, seed=spec.seed, progress=self._warming_up)
        else:  # the start is what KL is measured against, so it comes first
            load_weights(parts.loaded.model, Path(checkpoints.find(0).path))
        trainer = StepTrainer(
            parts.loaded,
            parts.reward,
            spec.trainer,
            errored_limit=spec.reward.errored_limit,
            folder=self.folder,
            seed=spec.seed,
        )
        reader = SnapshotReader(store, self.run_id)
        session = Session(
            store=store,
            run_id=self.run_id,
            checkpoints=checkpoints,
            trainer=trainer,
            pool=parts.pool,
            evaluator=build_evaluator(spec, parts.loaded, parts.splits, parts.reward),
            settings=_settings(spec, parts.bounds, store.load_run(self.run_id)["eras"], self._check_policy),
            state=State(parts.knobs, spec.policy.kind),
            snapshot=lambda: store.patiently(reader.read),
            progress=self.progress,
            wall_before_s=self.wall_s,
        )
        if newest is None:
            self._forecast(trainer)
        else:
            session.resume_at(newest)
        return Controller(
            session,
            store,
            self.run_id,
            build_policy=lambda kind: self.build_policy(kind, reader, checkpoints),
            judge=EffectJudge(),
            budget_steps=spec.budget.steps,
            budget_hours=spec.budget.hours,
            interrupted=self.interrupted,
            restarted=was_restarted(),
        )

    def build_policy(self, kind: str, reader: SnapshotReader, checkpoints: Checkpoints) -> DecisionPolicy:
        if kind in POLICIES:
            return POLICIES[kind]()
        if kind == "llm":
            samples = partial(self.store.patiently, reader.read_samples)
            return build_llm(self.parts.spec, samples, self.interrupted, self.progress)
        source = self.store.find_run(kind.removeprefix(REPLAY))
        checkpoints.wanted |= self.store.load_rollback_targets(source.id)
        return ReplayPolicy(kind, partial(load_repeated, self.store, source))

    def _check_policy(self, kind: str) -> None:
        """Raises Refused for a kind that a person cannot switch to."""
        try:
            found = check_policy(kind, self.store)
        except InputError as error:
            raise Refused(str(error)) from None
        if found != kind:  # the log must say which run is meant, whatever other runs there will be
            raise Refused(f"{kind}: give the run's own name, {found}")

    def _forecast(self, trainer: StepTrainer) -> None:
        self.progress("forecasting", 0, 1)
        forecast: Forecast = compute_forecast(
            trainer,
            self.parts.pool,
            self.parts.knobs,
            self.parts.spec,
            free_bytes=shutil.disk_usage(self.folder).free,
            memory_bytes=self.parts.memory.peak,
        )
        self.store.update_run(self.run_id, forecast=asdict(forecast))
        self.store.record_event(self.run_id, 0, "warning" if forecast.over_budget else "info", forecast.text)
        log.info("step=0 %s", forecast.text)


def build_llm(
    spec: RunSpec, samples: Callable[[], Sequence[SampleRecord]], interrupted: Event, progress: Progress
) -> DecisionPolicy:
    """The LLM with the rules beside it. Its SDK takes two seconds to import, so nobody else does."""
    from harness.llm.client import MessagesApi
    from policies.llm import LlmPolicy, Prices

    llm = spec.llm
    prices = None
    if llm.input_price is not None and llm.output_price is not None:
        prices = Prices(llm.input_price, llm.output_price, spec.budget.usd)
    api = MessagesApi(
        api_key(),
        model=llm.model,
        max_tokens=llm.max_tokens,
        time_limit=llm.time_limit,
        attempts=llm.attempts,
        interrupted=interrupted,
    )

    return LlmPolicy(
        api,
        every=llm.every,
        prices=prices,
        detect=detect,
        propose=propose,
        check=check_action,
        samples=samples,
        progress=progress,
    )


def _settings(
    spec: RunSpec,
    bounds: Mapping[str, tuple[float, float]],
    eras: Sequence[Mapping[str, Any]],
    check_policy: Callable[[str], None],
) -> Settings:
    era = eras[-1] if eras else {"weights_step": 0, "last_step": 0}
    return Settings(
        seed=spec.seed,
        bounds=bounds,
        reward_range=spec.reward.range,
        errored_limit=spec.reward.errored_limit,
        evaluate_every=spec.evaluate.every,
        sample_every=spec.sample.every,
        samples_per_step=spec.sample.per_step,
        checkpoint_every=spec.checkpoint.every,
        checkpoint_keep=spec.checkpoint.keep,
        check_policy=check_policy,
        budget_steps=spec.budget.steps,
        era=len(eras),
        era_start=era["weights_step"],
        era_last_step=era["last_step"],
    )


def start_run(
    spec: RunSpec,
    short_name: str,
    interrupted: Event,
    passage: Passage | None = None,
    *,
    replay_of: Mapping[str, Any] | None = None,
) -> Run:
    """Check everything, then create the run's record and folder. Raises InputError, and then nothing was created.

    ``passage`` is what preflight found (harness/checks/gate.py), for the record; ``replay_of`` is the row of the run that this
    one is to repeat exactly.
    """
    url = database_url(spec.output.dir, spec.output.db)
    check_place(url, spec.name)
    kind = check_policy(spec.policy.kind, find_store(url))
    build_hooks(spec.alerts.webhook, spec.alerts.command)
    spec = spec.model_copy(update={"policy": PolicySpec(kind=kind)})
    parts = build_parts(spec)
    if replay_of is not None:
        check_same(replay_of, parts.manifest)
        parts = replace(parts, manifest=parts.manifest | {"replay_of": replay_of["name"]})
    store = open_store(url)
    name = spec.name or free_name(url, short_name)
    refuse_taken(store, name)
    folder = Path(spec.output.dir).absolute() / name
    if folder.exists():
        raise InputError(f"name: {folder} exists already, though no run in {url} has that name; choose another --name")
    spec = spec.model_copy(update={"name": name})
    run_id = store.create_run(
        name=name,
        seed=spec.seed,
        policy=spec.policy.kind,
        spec=spec.model_dump(mode="json"),
        manifest=parts.manifest | (passage.manifest if passage else {}),
        folder=str(folder),
        knobs=parts.knobs,
        bounds=parts.bounds,
    )
    folder.mkdir(parents=True)
    keep_splits(spec, parts.splits)
    if spec.note:
        store.record_event(run_id, 0, "info", spec.note)
    for level, text in passage.events if passage else ():
        store.record_event(run_id, 0, level, text)
    return Run(replace(parts, spec=spec), store, run_id, interrupted, resumed=False)


def resume_run(
    store: RunStore,
    name: str,
    interrupted: Event,
    *,
    overrides: Sequence[str] = (),
    accepted: Collection[str] = (),
    passage: Passage | None = None,
) -> Run:
    """A stopped or killed run, from its newest intact checkpoint.

    ``overrides`` change its spec (``section.field=value``), ``accepted`` names what may differ though the spec does
    not say so: reward, data. ``passage`` as in start_run. Raises InputError, and then the run is as it was.
    """
    record, spec, changes = plan_resume(store, name, overrides)
    check_policy(record.policy, store)
    build_hooks(spec.alerts.webhook, spec.alerts.command)
    row = store.load_run(record.id)
    parts = build_parts(spec)
    changes |= check_silent(record.name, row["manifest"], parts.manifest, changes, accepted)
    measured = find_measured(changes)
    checkpoints = Checkpoints(store, record.id, Path(row["folder"]) / "checkpoints", keep=1)
    newest = checkpoints.find_newest_behind(row["weights_step"])
    era = {"weights_step": newest.step, "changes": measured} if newest and measured else None
    # One transaction with becoming the driver: another resume may have been faster, and an era is begun once.
    store.adopt_run(
        record.id,
        era=era,
        restarted=was_restarted(),
        spec=spec.model_dump(mode="json"),
        manifest=(parts.manifest if changes else row["manifest"]) | (passage.manifest if passage else {}),
        bounds={knob: list(pair) for knob, pair in parts.bounds.items()},
    )
    keep_splits(spec, parts.splits)
    if changes:
        text = f"resumed with {format_changes(changes)}" + (": a new era, nothing before is compared" if era else "")
        store.record_event(record.id, row["last_step"], "warning" if era else "info", text)
    for level, text in passage.events if passage else ():
        store.record_event(record.id, row["last_step"], level, text)
    for what in ("threads", "versions"):
        if row["manifest"].get(what) != parts.manifest[what]:
            text = f"{what} differ from when the run began, so it does not go on bit for bit"
            store.record_event(record.id, row["last_step"], "warning", text)
    return Run(parts, store, record.id, interrupted, resumed=True)


def _say(text: str) -> None:
    """To the person at the terminal, if there is one; the dashboard shows it as its last line."""
    with suppress(OSError):
        print(f"grpo: {text}", file=sys.stderr, flush=True)


def open_log(folder: Path) -> None:
    """The run's text log, with levels, steps and tracebacks."""
    handler = logging.FileHandler(folder / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.raiseExceptions = False  # a log that cannot be written (a full disk) must not be what people see
    log.setLevel(logging.INFO)
    log.propagate = False
    for logger in (log, logging.getLogger("py.warnings"), logging.getLogger("trl")):
        for old in list(logger.handlers):
            if isinstance(old, logging.FileHandler):
                logger.removeHandler(old)
                old.close()
        logger.addHandler(handler)
