"""Wire the parts of a checked spec to a run that can be driven."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Event

from harness.checks.inputs import check_policy, choose_demonstrations
from harness.checks.judges import bind_judges, sum_costs
from harness.checks.services import Tried, check_llm
from harness.config.asking import build_ledger
from harness.config.names import REPLAY
from harness.core.actions import parse_action
from harness.errors import InputError, Refused, RunFailed, StoreUnavailable
from harness.models.load import load_weights
from harness.monitoring.alert_process import Lookout
from harness.run.answerers import open_judges
from harness.run.checkpoints import Checkpoints
from harness.run.controller import Controller
from harness.run.heartbeat import Pulse
from harness.run.parts import POLICIES, Parts, build_llm, build_trainer, forecast_run
from harness.run.replay import load_repeated
from harness.run.report_process import REPORT, write_report_apart
from harness.run.session import Session
from harness.run.state import Settings, State
from harness.store.retry import Patience
from harness.store.snapshot import SnapshotReader
from harness.store.writer import RunStore
from harness.training.grpo import StepTrainer
from harness.training.sft import warm_start
from harness.training.supervised import SupervisedTrainer
from harness.types import DecisionPolicy, Status
from harness.views.console import say
from policies.effects import EffectJudge
from policies.replay import ReplayPolicy
from policies.supervised import SupervisedRules
from pools.demonstrations import Demonstrations
from rewards.judged import JudgedReward
from rewards.trl import TrainerState

log = logging.getLogger("grpo")


@dataclass
class Stepper:
    """Single steps of a run that a program has opened, and actions on it."""

    run: Run
    controller: Controller

    def step(self, steps: int = 1) -> int:
        """Advance as ``Controller.advance`` does."""
        return self.controller.advance(steps)

    def act(self, words: str, *, note: str = "") -> None:
        """Ask for an action in the words of ``grpo act`` ("set temperature=0.8"), applied before the next step.

        Raises InputError for what is no action.
        """
        self.run.store.add_command(self.run.run_id, parse_action(words.split()), note=note)


class Run:
    """A run of this process: its record exists; ``drive`` takes it to its end."""

    def __init__(self, parts: Parts, store: RunStore, run_id: int, *, unfinished: bool = False) -> None:
        self.parts = parts
        self.unfinished = unfinished
        self.spec = parts.inputs.spec
        self.store = store
        self.run_id = run_id
        self.interrupted = Event()
        row = store.load_run(run_id)
        self.name = row.name
        self.folder = Path(row.folder)
        preflight = float(row.manifest.get("preflight", {}).get("cost_usd", 0.0))
        spent = store.load_spent(run_id) + sum_costs(self.folder) + preflight
        self.ledger = build_ledger(self.spec, spent)
        self._wall_before = row.wall_s
        self._started = time.monotonic()
        alerts = self.spec.alerts
        self.lookout = Lookout(
            store.url,
            run_id,
            wanted=bool(alerts.webhook or alerts.command),
            say=_say,
            note=self._note_in_passing,
        )
        self.progress = Pulse(store, run_id, wall_s=self.wall_s, note=self._note)
        waiting = partial(self.progress, "waiting for disk or database", 0, 0)
        store.patience = Patience(self.interrupted, say=_say, note=self._note, beat=waiting)

    def drive(self) -> tuple[Status, str]:
        """Take the run to its end: warm start, forecast, steps, scores, report. Return how and why it ended.

        Raises KeyboardInterrupt alone.
        """
        with self.lookout:
            try:
                with self._opened() as controller:
                    ended = controller.run()
            except KeyboardInterrupt:
                ended = self._end("stopped", "interrupted in the middle of its work, which was abandoned")
            except StoreUnavailable as fault:  # outlasted until Ctrl-C
                ended = self._end("stopped", f"interrupted while waiting: {fault}")
            except RunFailed as failure:
                log.exception("the run failed")
                ended = self._end("failed", str(failure))
            except Exception as error:
                log.exception("the run failed")
                ended = self._end("failed", f"{type(error).__name__}: {error}")
            self._write_report()
        return ended

    @contextmanager
    def stepping(self) -> Iterator[Stepper]:
        """Take single steps from a program of one's own. The run ends with the ``with`` block; it can be resumed."""
        with self.lookout:
            try:
                with self._opened() as controller:
                    yield Stepper(self, controller)
                    if controller.is_over():
                        controller.run()
                    else:
                        controller.leave("left by the program that stepped it")
            except BaseException as error:
                self._end("stopped", f"{type(error).__name__}: {error}")
                raise
            finally:
                self._write_report()

    @contextmanager
    def _opened(self) -> Iterator[Controller]:
        open_log(self.folder)
        try:
            with self.progress:
                yield self.build_controller()
        finally:
            self.parts.reward.close()

    def _open_reward(self) -> None:
        """Let the reward keep in the run's folder what it prints and what judges reply; those of a replay reply what
        the run has on record."""
        reward = self.parts.reward
        first = str(self.store.load_run(self.run_id).manifest.get("replay_of", ""))
        replayed = self.store.folder_of(self.store.find_run(first)) if first else None
        reward.keep_in(self.folder, replayed=replayed)
        if isinstance(reward, JudgedReward):
            opener = open_judges(self.spec, self.ledger)
            judges = reward.judges.values()
            bind_judges(judges, self.spec, opener, folder=self.folder, replayed=replayed, progress=self.progress)

    def _end(self, status: Status, reason: str) -> tuple[Status, str]:
        """Put it on record if that can be written; a resume goes on from the last commit either way."""
        try:
            self.store.end_run(self.run_id, status, reason, self.wall_s())
        except StoreUnavailable as fault:
            log.warning("not on record: %s (%s)", reason, fault)
        return status, reason

    def _write_report(self) -> None:
        """Write the report of a run whose end is on record: what goes wrong here is told and changes nothing."""
        self.store.patience = None
        try:
            fault = write_report_apart(self.store.url, self.name, self.folder / REPORT)
        except KeyboardInterrupt:
            fault = "interrupted"
        if fault:
            self._note_in_passing(f"no {REPORT}: {fault}; to write it: grpo review {self.name} --html FILE")

    def _note(self, text: str) -> None:
        self.store.record_event(self.run_id, self.store.load_run(self.run_id).last_step, "warning", text)

    def _note_in_passing(self, text: str) -> None:
        """Note what is beside the run: where it cannot be put on record, the log has it."""
        log.warning(text)
        with suppress(StoreUnavailable):
            self._note(text)

    def wall_s(self) -> float:
        """Return the seconds that this run was driven, over all its processes."""
        return self._wall_before + time.monotonic() - self._started

    def _warming_up(self, phase: str, done: int, total: int) -> None:
        """Report the progress of the warm start, of which nothing is kept: Ctrl-C need not wait for its end."""
        if self.interrupted.is_set():
            raise KeyboardInterrupt
        self.progress(phase, done, total)

    def build_controller(self) -> Controller:
        """Warm up or load a checkpoint, then build everything that drives the run, ready for its next step."""
        spec, parts, inputs, store = self.spec, self.parts, self.parts.inputs, self.store
        self._open_reward()
        checkpoints = Checkpoints(store, self.run_id, self.folder / "checkpoints", keep=spec.checkpoint.keep)
        checkpoints.drop_orphans()
        record = store.load_run(self.run_id)
        eras = record.eras
        start, last = (eras[-1]["weights_step"], eras[-1]["last_step"]) if eras else (0, 0)
        # None that the era before left behind when it had gone back further: its decisions are not taken again.
        newest, damaged = checkpoints.find_newest(lambda step: not start < step <= last)
        for step in damaged:
            store.record_event(self.run_id, step, "warning", f"the checkpoint of step {step} is damaged: passed over")
        if newest is None and damaged:
            raise RunFailed("every checkpoint is damaged: start a new run under another name")
        if newest is None:
            store.supersede_after(self.run_id, -1, 0, live=[])
            if spec.warmstart.steps:
                shown = choose_demonstrations(spec, inputs.splits["train"])
                warm_start(parts.loaded, shown, spec.warmstart, seed=spec.seed, progress=self._warming_up)
        else:  # the start is what KL is measured against, so it comes first
            load_weights(parts.loaded.model, Path(checkpoints.find(0).path))
        trainer, evaluator, demonstrations = build_trainer(parts, self.folder)
        reader = SnapshotReader(store, self.run_id)
        session = Session(
            store=store,
            run_id=self.run_id,
            checkpoints=checkpoints,
            trainer=trainer,
            pool=inputs.pool,
            evaluator=evaluator,
            demonstrations=demonstrations,
            settings=Settings(spec, parts.bounds, self._check_policy, len(eras), start, last),
            state=State(parts.knobs, spec.policy.kind),
            snapshot=lambda: store.patiently(reader.read),
            progress=self.progress,
            wall_s=self.wall_s,
            graded=spec.reward.graded if record.graded is None else record.graded,
        )
        parts.reward.state = lambda: TrainerState(session.state.last_step, spec.budget.steps)
        if newest is None:
            self._forecast(trainer, demonstrations)
        else:
            session.resume_at(newest)
        return Controller(
            session,
            build_policy=lambda kind: self.build_policy(kind, reader, checkpoints),
            judge=EffectJudge(),
            interrupted=self.interrupted,
            unfinished=self.unfinished,
        )

    def build_policy(self, kind: str, reader: SnapshotReader, checkpoints: Checkpoints) -> DecisionPolicy:
        if self.spec.kind == "sft" and kind == "rules":
            return SupervisedRules()
        if kind in POLICIES:
            return POLICIES[kind]()
        if kind == "llm":
            samples = partial(self.store.patiently, reader.read_samples)
            return build_llm(self.spec, self.ledger, samples, self.interrupted, self.progress)
        source = self.store.find_run(kind.removeprefix(REPLAY))
        checkpoints.wanted |= self.store.load_rollback_targets(source.id)
        return ReplayPolicy(kind, partial(load_repeated, self.store, source))

    def _check_policy(self, kind: str) -> None:
        """Raise Refused for a kind that a person cannot switch to: no such kind, or an LLM that refuses."""
        if self.spec.kind == "sft" and kind == "llm":
            raise Refused(
                "policy llm: a run of kind sft has one hyperparameter, which rules, fixed or replay decide on"
            )
        try:
            found = check_policy(kind, self.store, self.spec)
        except InputError as error:
            raise Refused(str(error)) from None
        if kind == "llm":
            try:
                self.record_tried(check_llm(self.spec, self.ledger.spent, self.interrupted))
            except InputError as error:
                raise Refused(str(error)) from None
        if found != kind:  # the log must say which run is meant, whatever other runs there will be
            raise Refused(f"{kind}: give the run's own name, {found}")

    def record_tried(self, tried: Tried) -> None:
        """Put on record what trying the LLM's key came to: its cost, and a warning where it does not answer."""
        if tried.cost_usd:
            self.ledger.spent += tried.cost_usd
            self.store.add_spent(self.run_id, tried.cost_usd)
        if not tried.ok:
            self._note_in_passing(tried.said)

    def _forecast(self, trainer: StepTrainer | SupervisedTrainer, demonstrations: Demonstrations | None) -> None:
        self.progress("forecasting", 0, 1)
        _, forecast = forecast_run(self.parts, trainer, demonstrations, folder=self.folder)
        self.store.update_run(self.run_id, forecast=asdict(forecast))
        self.store.record_event(self.run_id, 0, "warning" if forecast.over_budget else "info", forecast.text)
        log.info("step=0 %s", forecast.text)


def _say(text: str) -> None:
    """Tell the person at the terminal, if there is one; the dashboard shows it as its last line."""
    with suppress(OSError):
        say(f"grpo: {text}", to_stderr=True)


def open_log(folder: Path) -> None:
    """Open the run's text log, with levels, steps and tracebacks."""
    handler = logging.FileHandler(folder / "log.txt", encoding="utf-8", errors="backslashreplace")
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
