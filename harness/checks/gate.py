"""Check a spec's reward before a run: its sandbox, its reference answers, preflight. Nothing imports torch."""

from __future__ import annotations

import inspect
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from harness.checks.inputs import Inputs, Splits, build_reward, describe_reward, time_limit
from harness.checks.preflight import Outcome, Report, RewardProbe, describe, run_preflight
from harness.checks.references import find_writer, judge_references
from harness.errors import InputError, RunFailed
from harness.types import Progress, Prompt
from rewards.contract import Reward
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


def pass_preflight(inputs: Inputs, *, force: bool) -> Passage:
    """Run preflight before a run. Raises RunFailed when it fails and is not forced (a broken reward, and nothing is
    created), InputError where programs cannot be confined."""
    sandbox = check_sandbox(inputs)
    report = preflight_inputs(inputs)
    if report.verdict == "fail" and not force:
        raise RunFailed(f"preflight: {describe(report)}; fix the reward or the pool, or overrule it with --force")
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


def preflight_inputs(inputs: Inputs) -> Report:
    """Run preflight on rows of all splits, with two processes that judge; a reward of the user's has no network."""
    spec = inputs.spec
    description = describe_reward(spec, chat=spec.model.wants_chat)
    limit = time_limit(spec, inputs.reward)
    with ExitStack() as stack:
        notes = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "network.txt"
        ours = all(name.startswith("rewards.") for name in spec.reward.functions)
        workers = [
            stack.enter_context(
                RewardWorker(
                    description,
                    time_limit=limit,
                    offline=None if ours else notes,
                    environment={"PYTHONHASHSEED": seed},
                    grace=0.2,
                )
            )
            for seed in HASH_SEEDS
        ]
        report = run_preflight(
            _mix(inputs.splits),
            RewardProbe(
                judge=workers[0].score,
                elsewhere=workers[1].score,
                range=spec.reward.range,
                time_limit=limit,
                write=_hook(inputs.reward, "write_reference"),
                refuse=_hook(inputs.reward, "check_ground_truth"),
                words=_hook(inputs.reward, "takes_any_words"),
                graded=spec.reward.graded,
                attempts=lambda: list(dict.fromkeys(notes.read_text("utf-8").splitlines())) if notes.exists() else [],
            ),
        )
    layout = inputs.splits["train"].layout
    told = (Outcome("layout", "pass", layout),) if layout else ()
    return replace(report, outcomes=told + report.outcomes)


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


def _hook(reward: Reward, name: str) -> Callable[[str], str | None] | None:
    """Return a function of the reward's own module, where it is one function, such as write_reference."""
    found = [getattr(inspect.getmodule(function), name, None) for function in reward.functions.values()]
    return found[0] if len(found) == 1 and callable(found[0]) else None


# ---------------------------------------------------------------- grpo check


@dataclass(frozen=True, slots=True)
class Check:
    """Count the reference answers that score 1.0. ``reasons`` counts the others by reason code, the most common first;
    ``failures`` are the first of them. ``layout`` as in PromptTable. ``misfits`` say what else would end a run, and
    what to set instead."""

    rows: int
    passed: int
    reasons: Mapping[str, int]
    failures: tuple[Outcome, ...]
    layout: str = ""
    misfits: tuple[str, ...] = ()


def check_references(inputs: Inputs, progress: Progress) -> Check:
    """Judge the reference answer of every row of every split. Raises InputError."""
    check_sandbox(inputs)
    spec, splits = inputs.spec, inputs.splits
    refuse = _hook(inputs.reward, "check_ground_truth")
    rows = sum(map(len, splits.values()))
    reasons: Counter[str] = Counter()
    failures: list[Outcome] = []
    with build_reward(spec, chat=spec.model.wants_chat, reward=inputs.reward) as reward:
        write = find_writer(_mix(splits)[:100], reward.score, _hook(inputs.reward, "write_reference"))
        for name, table in splits.items():
            for fault in _find_faults(name, table, judge_references(table, reward.score, write), refuse, progress):
                reasons[fault.check] += 1
                if len(failures) < SHOWN:
                    failures.append(fault)
    return Check(rows, rows - reasons.total(), dict(reasons.most_common()), tuple(failures), splits["train"].layout)


def _find_faults(
    name: str, table: Sequence[Prompt], references: Any, refuse: Any, progress: Progress
) -> Iterator[Outcome]:
    waiting = next(references, None)
    for done, prompt in enumerate(table):
        progress(f"checking {name}", done, len(table))
        reference, where = None, f"{name}: {prompt.text[:80]}"
        if waiting is not None and waiting.prompt.id == prompt.id:
            reference, waiting = waiting, next(references, None)
        if refuse is not None and (problem := refuse(prompt.ground_truth)):
            yield Outcome("refused", "fail", problem, where)
        elif reference is None:
            said = "no reference answer: the ground truth is right in no form, and there is no demonstration"
            yield Outcome("no_reference", "fail", said, where)
        elif not reference.passed:
            score = reference.score
            reason = "errored" if score.errored else score.reason
            yield Outcome(reason, "fail", score.error or reason, where, reference.text[:80], score.reward)
