"""Check a spec's reward before a run: its sandbox, its reference answers, preflight. Nothing imports torch."""

from __future__ import annotations

import inspect
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from math import ceil, fsum
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.compute as pc

from harness.checks.inputs import Inputs, Splits, build_workers, describe_reward, find_limits, find_weights
from harness.checks.judge_preflight import check_verifiable, preflight_judge
from harness.checks.judges import Opener, build_judges, check_judges, find_verifier, has_price, open_services
from harness.checks.preflight import Outcome, Report, RewardProbe, describe, may_be_meant, run_preflight
from harness.checks.references import (
    FORMS,
    Judge,
    Shapes,
    Writer,
    as_continued,
    find_forms,
    find_writer,
    judge_references,
)
from harness.config.asking import build_ledger
from harness.config.schema import RunSpec
from harness.errors import InputError, RunFailed
from harness.types import Progress, Prompt, Score
from pools.counts import RowCounts
from pools.table import PromptTable
from rewards import math
from rewards.contract import Reward, RewardDescription, is_ours, propose_range, read_outside
from rewards.isolation import SANDBOXES, UNSAFE
from rewards.worker import RewardWorker

MOST_ROWS = 20_000
"""Of the pool, for preflight."""
HASH_SEEDS = ("1", "2")
RUNS_CODE = "rewards.code"
MAY_RUN_CODE = "rewards.composite"
SHOWN = 10


@dataclass(frozen=True)
class Passage:
    """What a run may be told of its reward: the preflight report, the sandbox if it needs one, and whether a person
    let it pass all the same."""

    report: Report
    sandbox: dict[str, Any] | None = None
    forced: bool = False

    @property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = {"preflight": self.report.to_json() | {"forced": self.forced}}
        return found | ({"sandbox": self.sandbox} if self.sandbox else {})

    @property
    def events(self) -> list[tuple[str, str]]:
        """Level and text of what belongs into the run's record."""
        events = [("warning", f"preflight: {f.check}: {f.said}") for f in self.report.outcomes if f.level == "warn"]
        if self.forced:
            events.append(("warning", f"preflight failed, and --force let it pass: {describe(self.report)}"))
        if self.sandbox and self.sandbox["unsafe"]:
            events.append(("warning", f"programs are run without a safe sandbox (--unsafe-code, {UNSAFE}=1)"))
        return events


def pass_preflight(inputs: Inputs, *, force: bool, opener: Opener | None = None) -> Passage:
    """Run preflight before a run. Raises RunFailed when it fails and is not forced (a broken reward, and nothing is
    created), InputError where programs cannot be confined."""
    sandbox = check_sandbox(inputs)
    report = preflight_inputs(inputs, opener)
    if report.verdict == "fail" and not force:
        fix = "fix the reward or the pool"
        if may_be_meant(report) and not inputs.spec.reward.judges:
            fix += ", set reward.graded=true if it is to grade or shape answers"
        raise RunFailed(f"preflight: {describe(report)}; {fix}, or overrule it with --force")
    return Passage(report, sandbox, forced=report.verdict == "fail")


def check_sandbox(inputs: Inputs) -> dict[str, Any] | None:
    """What confines the programs of a reward that runs some, None for another. Raises InputError where nothing does."""
    modules = {name.partition(":")[0] for name in inputs.spec.reward.functions}
    runs_code = RUNS_CODE in modules or (
        MAY_RUN_CODE in modules
        and any(
            pc.any(pc.match_substring(table.column("ground_truth"), RUNS_CODE)).as_py()
            for table in inputs.splits.values()
        )
    )
    if not runs_code:
        return None
    found = SANDBOXES.isolation
    if found.refusal:
        raise InputError(f"reward.function: {found.refusal}")
    return {"tier": found.tier, "landlock": found.landlock, "unsafe": os.environ.get(UNSAFE) == "1"}


def preflight_inputs(inputs: Inputs, opener: Opener | None = None) -> Report:
    """Run preflight on rows of all splits: of the verifiers, and then of the judges. ``opener`` opens these; without it
    they are services. Raises InputError where a judge cannot be asked."""
    spec, rows = inputs.spec, _mix(inputs.splits)
    if not spec.reward.judges:
        return _preflight_verifiers(inputs, rows)
    outcomes: list[Outcome] = []
    if spec.reward.verifiers:
        outcomes += _preflight_verifiers(inputs, rows).outcomes
    else:
        outcomes.append(check_verifiable(rows))
        outcomes.append(
            Outcome("network", "pass", "no function of this reward runs here; a judge may be asked over one")
        )
    ledger, cost = build_ledger(spec), 0.0
    if opener is None:
        check_judges(spec)
    judges = build_judges(spec, opener or open_services(spec, ledger))
    knobs, _ = spec.first_knobs(None)
    per_step = knobs.prompts_per_step * knobs.group_size
    for name, judge in judges.items():
        try:
            found, usd = preflight_judge(
                name,
                judge,
                rows,
                limit=spec.reward.errored_limit,
                per_step=per_step,
                priced=has_price(spec, spec.judge[name].model),
            )
        finally:
            judge.close()
        outcomes += found
        cost += usd
    return Report(tuple(outcomes), graded=spec.reward.graded is not False, cost_usd=cost)


def _preflight_verifiers(inputs: Inputs, rows: Sequence[Prompt]) -> Report:
    """Run preflight of the verifiers, with two processes that judge; a reward of the user's has no network."""
    spec = inputs.spec
    description = _describe_alone(spec)
    limits = find_limits(spec, inputs.reward)
    with ExitStack() as stack:
        notes = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "network.txt"
        ours = all(map(is_ours, spec.reward.verifiers))
        workers = [
            stack.enter_context(
                RewardWorker(
                    description,
                    **limits,
                    offline=None if ours else notes,
                    environment={"PYTHONHASHSEED": seed},
                    grace=0.2,
                )
            )
            for seed in HASH_SEEDS
        ]
        return run_preflight(
            rows,
            RewardProbe(
                judge=as_continued(workers[0].score),
                elsewhere=as_continued(workers[1].score),
                range=description.range,
                time_limit=limits["time_limit"],
                write=_first_hook(inputs.reward, "write_reference"),
                shapes=_find_shapes(inputs.reward),
                refuse=_refusal(inputs.reward),
                words=_words(inputs.reward),
                several=len(inputs.reward.functions) > 1,
                graded=spec.reward.graded,
                attempts=lambda: list(dict.fromkeys(notes.read_text("utf-8").splitlines())) if notes.exists() else [],
            ),
        )


def _describe_alone(spec: RunSpec) -> RewardDescription:
    """Describe the verifiers of a reward without the judges beside them: what is right by them has the highest reward
    then, and what is worth nothing nothing."""
    description = describe_reward(spec, chat=spec.model.wants_chat)
    if not spec.reward.judges:
        return description
    judged = round(fsum(find_weights(spec).values()) - fsum(description.weights or ()), 9)
    low, high = spec.reward.range
    if high - judged <= low:  # the weights do not fit the range, and there is nothing to take off
        return replace(description, partial=False)
    solved_at = None if spec.reward.solved_at is None else max(low + 1e-9, spec.reward.solved_at - judged)
    return replace(description, partial=False, range=(low, round(high - judged, 9)), solved_at=solved_at)


def _mix(splits: Splits) -> list[Prompt]:
    """Rows of all splits in an order that has nothing to do with theirs."""
    tables = list(splits.values())
    ends = list(accumulate(map(len, tables)))
    chosen = random.Random(0).sample(range(ends[-1]), min(MOST_ROWS, ends[-1]))
    rows = []
    for place in chosen:
        n = next(n for n, end in enumerate(ends) if place < end)
        rows.append(tables[n][place - ends[n]])
    return rows


Hook = Callable[[str], str | None]


def _hooks(reward: Reward, name: str) -> list[Hook]:
    """Return what the functions of a reward, or else their modules, have under a name, such as write_reference."""
    found = [
        getattr(function, name, None) or getattr(inspect.getmodule(function), name, None)
        for function in reward.functions.values()
    ]
    return [hook for hook in found if callable(hook)]


def _first_hook(reward: Reward, name: str) -> Hook | None:
    return next(iter(_hooks(reward, name)), None)


def _words(reward: Reward) -> Hook | None:
    """Why any words are right, where one function says so; of several each has a say."""
    return _first_hook(reward, "takes_any_words") if len(reward.functions) == 1 else None


def _refusal(reward: Reward) -> Hook | None:
    """Why a ground truth cannot be trained on, by the first function that says so."""
    hooks = _hooks(reward, "check_ground_truth")
    return (lambda truth: next(filter(None, (hook(truth) for hook in hooks)), None)) if hooks else None


def _find_shapes(reward: Reward) -> Shapes:
    """How the right answers of a reward may look: the common forms, those of the tags in its source, its own."""
    own = [form for function in reward.functions.values() for form in find_forms(_source_of(function))]
    answer = _first_hook(reward, "final_answer")

    @lru_cache(MOST_ROWS)
    def read(truth: str) -> str:
        if answer is None and truth.lstrip().startswith(("{", "[")):
            return truth  # JSON, which may hold a program
        return (answer or math.final_answer)(truth) or truth

    return Shapes(forms=tuple(dict.fromkeys((*FORMS, *own))), answer=read)


def _source_of(function: Callable[..., Any]) -> str:
    """The source text of a user's function, of its module where that names no tag; "" of ours, whose forms we know."""
    module = inspect.getmodule(function)
    if module is None or module.__name__.startswith("rewards."):
        return ""
    texts = []
    for thing in (function, module):
        with suppress(OSError, TypeError):
            texts.append(inspect.getsource(thing))
    return next((text for text in texts if find_forms(text)), "")


# ---------------------------------------------------------------- grpo check


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds for a completion."""

    median_ms: float
    p95_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Check:
    """Count the reference answers that score 1.0. ``reasons`` counts the others by reason code, the most common first;
    ``failures`` are the first of them, ``times`` go by reward function, ``pool`` says what became of the rows of the
    source, ``misfits`` what else would end a run, and what to set instead. ``unchecked`` rows, which have neither
    ground truth nor demonstration, or no verifier, are not among ``rows``. ``advice`` says which verifier could judge
    what a judge is to judge."""

    rows: int
    unchecked: int
    passed: int
    reasons: Mapping[str, int]
    failures: tuple[Outcome, ...]
    pool: RowCounts
    times: Mapping[str, Timing]
    misfits: tuple[str, ...] = ()
    advice: str = ""


def check_references(inputs: Inputs, progress: Progress) -> Check:
    """Judge the reference answer of every row of every split by the verifiers of the reward: a judge is asked nothing.

    Raises InputError.
    """
    check_sandbox(inputs)
    spec, splits = inputs.spec, inputs.splits
    if not spec.reward.verifiers:
        every = sum(map(len, splits.values()))
        found = find_verifier(_mix(splits))
        return Check(0, every, 0, {}, (), inputs.counts, {}, advice=str(found) if found else "")
    refuse = _refusal(inputs.reward)
    unchecked = sum(map(_count_unchecked, splits.values()))
    rows = sum(map(len, splits.values())) - unchecked
    reasons: Counter[str] = Counter()
    failures: list[Outcome] = []
    seconds: dict[str, list[float]] = {}
    outside: list[float] = []
    with build_workers(spec, _describe_alone(spec), inputs.reward) as reward:
        ask = as_continued(reward.score)

        def judge(prompts: Sequence[Prompt], texts: Sequence[str]) -> list[Score]:
            scores = ask(prompts, texts)
            for score in scores:
                if (value := read_outside(score.error)) is not None:
                    outside.append(value)
                for name, each in score.seconds.items():
                    seconds.setdefault(name, []).append(each)
            return scores

        write = choose_writer(inputs, judge)
        if write is None and outside:
            raise InputError(
                f"reward.range: {list(spec.reward.range)} does not hold the rewards seen, {min(outside):g} to "
                f"{max(outside):g}: set reward.range = {propose_range([*spec.reward.range, *outside])}"
            )
        for name, table in splits.items():
            for fault in _find_faults(name, table, judge_references(table, judge, write), refuse, progress):
                reasons[fault.check] += 1
                if len(failures) < SHOWN:
                    failures.append(fault)
    times = {name: _summarise(each) for name, each in seconds.items()}
    return Check(
        rows, unchecked, rows - reasons.total(), dict(reasons.most_common()), tuple(failures), inputs.counts, times
    )


def choose_writer(inputs: Inputs, judge: Judge) -> Writer | None:
    """Choose how right answers are written, by rows of all splits; None where the ground truth is right in no form."""
    own = _first_hook(inputs.reward, "write_reference")
    return find_writer(_mix(inputs.splits)[:100], judge, own, _find_shapes(inputs.reward))


def _summarise(seconds: Sequence[float]) -> Timing:
    ordered = [1e3 * each for each in sorted(seconds)]
    return Timing(median(ordered), ordered[ceil(0.95 * len(ordered)) - 1], ordered[-1])


def _count_unchecked(table: PromptTable) -> int:
    """Count the rows with neither ground truth nor demonstration, which a reward may do without."""
    no_truth = pc.equal(table.column("ground_truth"), "")
    return int(pc.sum(pc.and_(no_truth, pc.is_null(table.column("demonstration")))).as_py() or 0)


def _find_faults(
    name: str, table: Sequence[Prompt], references: Any, refuse: Any, progress: Progress
) -> Iterator[Outcome]:
    waiting = next(references, None)
    for done, prompt in enumerate(table):
        progress(f"checking {name}", done, len(table))
        reference, where = None, f"{name}: {prompt.text[:80]}"
        if waiting is not None and waiting.prompt.id == prompt.id:
            reference, waiting = waiting, next(references, None)
        if prompt.ground_truth and refuse is not None and (problem := refuse(prompt.ground_truth)):
            yield Outcome("refused", "fail", problem, where)
        elif reference is None and prompt.ground_truth:
            said = "no reference answer: the ground truth is right in no form, and there is no demonstration"
            yield Outcome("no_reference", "fail", said, where)
        elif reference is not None and not reference.passed:
            score = reference.score
            reason = "errored" if score.errored else score.reason
            yield Outcome(reason, "fail", score.error or reason, where, reference.text[:80], score.reward)
