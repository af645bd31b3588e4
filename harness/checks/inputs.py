"""Prepare what a spec needs from outside, except the model: pool, reward, policy. Nothing here imports torch, so wrong
input shows within a second.

    inputs = prepare_inputs(spec)            # reads the source and imports the reward, once
    passage = pass_preflight(inputs)         # harness/checks/gate.py
    run = start_run(inputs, "name", Event(), passage)
"""

from __future__ import annotations

import hashlib
import inspect
import json
import random
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from harness.checks.judges import read_rubrics
from harness.config.asking import build_ledger
from harness.config.names import REPLAY, is_judge, judge_name
from harness.config.schema import RunSpec, check_policy_kind, nearest
from harness.core.liveness import refuse_running
from harness.core.seeds import derive_seed
from harness.errors import InputError
from harness.models.hub import hub_answers
from harness.store.reader import RunReader
from harness.types import Prompt
from pools.counts import RowCounts
from pools.demonstrations import Demonstrations
from pools.lines import parse_lines, select_lines
from pools.pool import PromptPool
from pools.reading import RowRules
from pools.sources import identify_source, load_prompts
from pools.splits import load_assigned, record_assigned, split_prompts
from pools.table import PromptTable
from rewards.contract import Reward, RewardDescription, is_ours, load_reward, name_functions, sources_of
from rewards.judge import Judge
from rewards.judged import JudgedReward
from rewards.parallel import ParallelReward
from rewards.trl import is_trl_style
from rewards.worker import TIME_LIMIT_S, RewardWorker

STARTUP = 6
"""Times its limit for a completion that a user's reward has for its first one, unless the spec says."""
Splits = Mapping[str, PromptTable]
ALL = "all"
"""Instead of a split: every prompt of the source."""


@dataclass(frozen=True)
class Inputs:
    """A checked spec with its splits, its pool and its reward, imported once in this process.

    ``reward`` is for what it says of itself; completions are judged by the workers of ``build_reward``.
    """

    spec: RunSpec
    splits: Splits
    pool: PromptPool
    reward: Reward
    reward_sha256: str

    @property
    def counts(self) -> RowCounts:
        """What became of the rows of the source."""
        return self.splits["train"].counts


def prepare_inputs(spec: RunSpec) -> Inputs:
    """Import the reward, read the source and cut it into splits, once nothing about them would end a run.

    Raises InputError for the first thing that would.
    """
    inputs = read_inputs(spec)
    for misfit in find_misfits(inputs):
        raise InputError(misfit)
    return replace(inputs, spec=_settle_steps(inputs.spec, inputs.splits["train"]))


def read_inputs(spec: RunSpec) -> Inputs:
    """Do the same for who judges rows and starts no run: the splits may be too small for one. Raises InputError."""
    spec = read_rubrics(spec)
    reward = load_reward(describe_reward(spec, chat=spec.model.wants_chat))
    splits = build_splits(spec, reward)
    return Inputs(spec, splits, build_pool(spec, splits["train"]), reward, hash_reward(spec))


def find_misfits(inputs: Inputs) -> list[str]:
    """Find what a run would ask of the train split that it does not have, each with what to set instead."""
    spec, train, found = inputs.spec, inputs.splits["train"], []
    if spec.kind == "grpo":
        try:
            inputs.pool.check_draw(spec.knobs.prompts_per_step)
        except InputError as error:
            found.append(str(error))
    shown = count_demonstrations(train)
    if spec.kind == "sft" and not shown:
        found.append(
            "kind: sft learns from demonstrations, and none of the train prompts has one; name their column in "
            "pool.columns.demonstration"
        )
    elif spec.kind == "sft" and shown < (spec.sft.examples or 0):
        found.append(
            f"sft.examples: {spec.sft.examples} asked for, but only {shown} of {len(train)} train prompts have a "
            "demonstration; lower it, or leave it out for all of them"
        )
    if spec.warmstart.steps and shown < spec.warmstart.examples:
        found.append(
            f"warmstart.examples: {spec.warmstart.examples} asked for, but only {shown} of {len(train)} train prompts "
            "have a demonstration; lower it, or set warmstart.steps=0"
        )
    return found


def check_policy(kind: str, store: RunReader | None, spec: RunSpec) -> str:
    """Return the kind of decision policy with its run by its own name, once this process could ask it.

    Raises InputError: no such kind, no key or price for the llm of ``spec``, no such run in ``store`` to repeat.
    """
    try:
        check_policy_kind(kind)
    except ValueError as error:
        raise InputError(f"policy.kind: {error}") from None
    if kind == "llm":
        from harness.llm.hosted import check_hosted

        try:
            check_hosted(spec.llm.answerer)
        except InputError as error:
            said = str(error).replace(spec.llm.answerer, "llm", 1)
            raise InputError(f"policy.kind: {said}; set it, or take --policy rules") from None
        build_ledger(spec).price_of(spec.llm.answerer)
    if not kind.startswith(REPLAY):
        return kind
    name = kind.removeprefix(REPLAY)
    if store is None:
        raise InputError(f"policy.kind: no run named {name} to replay: there is no database yet")
    run = store.match_run(name)
    refuse_running(run.name, run.status, run.pid, run.host, run.process, run.heartbeat)
    return f"{REPLAY}{run.name}"


def describe_reward(spec: RunSpec, *, chat: bool) -> RewardDescription:
    """Describe the verifiers of a spec's reward by name, so that any process can make the same one."""
    weights = find_weights(spec)
    verifiers = name_functions(spec.reward.verifiers)
    return RewardDescription(
        tuple(spec.reward.verifiers),
        weights=tuple(weights[name] for name in verifiers),
        range=spec.reward.range,
        solved_at=spec.reward.solved_at,
        chat=chat,
        thinking_tags=spec.reward.thinking_tags,
        partial=bool(spec.reward.judges),
    )


def find_weights(spec: RunSpec) -> dict[str, float]:
    """Find the weight of each function of a reward by the name of its component. Raises InputError for one that is
    named twice."""
    reward = spec.reward
    name_functions(reward.functions)
    verifiers = iter(name_functions(reward.verifiers))
    taken = set(name_functions(reward.verifiers))
    names = [call_judge(function, taken) if is_judge(function) else next(verifiers) for function in reward.functions]
    return dict(zip(names, reward.weights or [1.0] * len(names), strict=True))


def call_judge(function: str, taken: Collection[str]) -> str:
    """Return the name of a judge's component, which no verifier has."""
    name = judge_name(function)
    return f"judge.{name}" if name in taken else name


def build_reward(
    spec: RunSpec, *, chat: bool, reward: Reward | None = None, judges: Mapping[str, Judge] | None = None
) -> ParallelReward | JudgedReward:
    """Make what judges completions: the workers of the verifiers, with the judges of the spec beside them if it has
    some; ``chat`` as in Reward.

    ``reward`` is that of the spec's Inputs, imported here where it is not given. ``judges`` are by name, of a
    spec that has some (harness.run.answerers.build_scorer). Raises InputError.
    """
    description = describe_reward(spec, chat=chat)
    reward = reward or load_reward(description)
    if not spec.reward.judges:
        return build_workers(spec, description, reward)
    workers = build_workers(spec, description, reward) if description.functions else None
    taken = name_functions(description.functions)
    known = judges or {}
    named = {call_judge(function, taken): known[judge_name(function)] for function in spec.reward.judges}
    return JudgedReward(find_weights(spec), named, workers, range=spec.reward.range, solved_at=spec.reward.solved_at)


def build_workers(spec: RunSpec, description: RewardDescription, reward: Reward) -> ParallelReward:
    """Make the workers of a reward of this description; ``reward`` is what it describes."""
    limits = find_limits(spec, reward)
    each = [RewardWorker(description, **limits) for _ in range(spec.reward.workers)]
    return ParallelReward(each, whole=reward.takes_batches)


class Limits(TypedDict):
    """How long a reward may take, in s: for one completion, and in the first call of a process."""

    time_limit: float
    startup_limit: float


def find_limits(spec: RunSpec, reward: Reward) -> Limits:
    """Find the limits of a spec, else the most that one of its functions asks for, and time to start for a user's."""
    modules = [inspect.getmodule(function) for function in reward.functions.values()]
    own = max([TIME_LIMIT_S, *(getattr(module, "TIME_LIMIT_S", 0.0) for module in modules)])
    limit = spec.reward.time_limit or own
    ours = all(map(is_ours, spec.reward.functions))
    return Limits(time_limit=limit, startup_limit=spec.reward.startup_limit or (limit if ours else STARTUP * limit))


def hash_reward(spec: RunSpec) -> str:
    """Return the SHA-256 of the source behind the reward, or of its name where there is none; of a judge it is that of
    what it is asked, by whom and how."""
    digest = hashlib.sha256()
    for name in spec.reward.functions:
        for file, text in (sources_of(name) or {"": name}).items():
            digest.update(f"{file}\n{text}\n".encode())
        if is_judge(name):
            asked = spec.judge[judge_name(name)].model_dump(mode="json", exclude={"rubric"})
            digest.update(json.dumps(asked, sort_keys=True).encode())
    return digest.hexdigest()


def hash_contents(splits: Splits) -> str:
    """Return the SHA-256 of the prompts and ground truths of all splits."""
    digest = hashlib.sha256()
    for name in sorted(splits):
        truths = splits[name].column("ground_truth").to_pylist()
        for prompt_id, truth in zip(splits[name].ids, truths, strict=True):
            digest.update(f"{prompt_id} {truth}\n".encode())
    return digest.hexdigest()


def build_splits(spec: RunSpec, reward: Reward | None = None) -> Splits:
    """Build the pool's splits, as they were cut when a run first used the source. ``reward`` is the spec's, imported
    here where it is not given: it tells which columns are kept. Raises InputError."""
    return split_prompts(read_prompts(spec, reward), spec.pool.splits, load_assigned(_assigned_path(spec)))


def read_prompts(spec: RunSpec, reward: Reward | None = None) -> PromptTable:
    """Read all prompts of the source, in its own order; ``reward`` as in build_splits. Raises InputError."""
    pool = spec.pool
    return load_prompts(
        pool.source,
        columns=pool.columns,
        template=pool.template,
        system=pool.system_prompt,
        rules=find_rules(spec, reward or load_reward(describe_reward(spec, chat=False))),
        rewards=spec.reward.functions,
        hub_answers=hub_answers,
    )


@dataclass(frozen=True)
class Chosen:
    """The prompts of a source to be answered: those of ``split``, all of them or those of some ``rows``. ``left_out``
    counts the rows asked for that are not among them."""

    split: str
    rows: str
    prompts: PromptTable
    left_out: int = 0

    @property
    def said(self) -> str:
        """Say it in a few words: ``test``, ``train rows 0-99``."""
        return f"{self.split} rows {self.rows}" if self.rows else self.split


def choose_prompts(spec: RunSpec, *, split: str | None = None, rows: str | None = None) -> Chosen:
    """Choose by ``split`` (unset: test, or with ``rows`` all) and by ``rows`` of the source (pools/lines.py).

    All prompts of a source are not cut into splits, so it may be too small for them. Raises InputError.
    """
    ranges = None if rows is None else parse_lines(rows)
    split = split or ("test" if ranges is None else ALL)
    prompts: PromptTable
    if split == ALL:
        prompts = read_prompts(spec)
    else:
        splits = build_splits(spec)
        if split not in splits:
            raise InputError(f"no split named {split}{nearest(split, [*splits, ALL])}")
        prompts = splits[split]
    chosen, left_out = (prompts, 0) if ranges is None else select_lines(prompts, ranges)
    if not len(chosen):
        why = "none of its rows is in" if rows else "there are no prompts in"
        hint = f"; --split {ALL} takes those of any" if rows and split != ALL else ""
        raise InputError(f"--{'rows' if rows else 'split'}: {why} {split}{hint}")
    return Chosen(split, rows or "", chosen, left_out)


def find_rules(spec: RunSpec, reward: Reward) -> RowRules:
    """Find what is asked of the rows of a pool: by its spec, and by the signatures of the reward's functions."""
    wanted: set[str] | None = set()
    needs_truth = False
    for function in reward.functions.values():
        parameters = inspect.signature(function).parameters
        truth = parameters.get("ground_truth")
        if not is_trl_style(function):  # which are given the ground truth alone
            needs_truth = True
            continue
        needs_truth |= truth is not None and truth.default is truth.empty
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            wanted = None
        if wanted is not None:
            wanted |= parameters.keys()
    pool = spec.pool
    return RowRules(
        wanted=None if wanted is None else frozenset(wanted),
        needs_truth=needs_truth,
        conflicts=pool.conflicts,
        skip_bad=pool.skip_bad,
        strip=pool.stripped,
        identity=pool.identity,
    )


def keep_splits(spec: RunSpec, splits: Splits) -> None:
    """Keep the split of every prompt for later runs on the same source, which may have grown by then."""
    source = identify_source(spec.pool.source, base=Path(spec.output.dir))
    record_assigned(_assigned_path(spec), source, splits, spec.pool.splits)


def _assigned_path(spec: RunSpec) -> Path:
    folder = Path(spec.output.dir)
    source = identify_source(spec.pool.source, base=folder)
    readable = re.sub(r"[^A-Za-z0-9]+", "-", source.partition("?")[0]).strip("-")[:40]
    return folder / "splits" / f"{readable}-{hashlib.sha256(source.encode()).hexdigest()[:8]}.json"


def choose_demonstrations(spec: RunSpec, train: PromptTable) -> list[Prompt]:
    """Choose the train prompts of the warm start. Their number was checked with the other inputs."""
    return _choose(train, spec.warmstart.examples, derive_seed(spec.seed, "warmstart"))


def build_demonstrations(spec: RunSpec, train: PromptTable) -> Demonstrations:
    """Choose the train prompts that a run of kind sft learns from. Their number was checked with the other inputs."""
    examples = spec.sft.examples or count_demonstrations(train)
    chosen = _choose(train, examples, derive_seed(spec.seed, "sft", "examples"))
    return Demonstrations(chosen, spec.sft.batch, spec.seed)


def count_demonstrations(train: PromptTable) -> int:
    """Count the prompts that have a demonstration."""
    column = train.column("demonstration")
    return int(len(column) - column.null_count)


def _choose(train: PromptTable, n: int, seed: int) -> list[Prompt]:
    places = train.column("demonstration").is_valid().to_numpy().nonzero()[0]
    return [train[int(places[i])] for i in random.Random(seed).sample(range(len(places)), n)]


def _settle_steps(spec: RunSpec, train: PromptTable) -> RunSpec:
    """Write the steps of a run of kind sft into its budget, where the spec says them in [sft]."""
    if spec.kind == "grpo" or "steps" in spec.budget.model_fields_set:
        return spec
    steps = spec.sft.count_steps(spec.sft.examples or count_demonstrations(train))
    return spec.model_copy(update={"budget": spec.budget.model_copy(update={"steps": steps})})


def build_pool(spec: RunSpec, train: PromptTable) -> PromptPool:
    """Build the train split to draw from. Raises InputError for a sampler that it is not for."""
    return PromptPool(train, draw_share=spec.pool.draw_share, sampler=spec.pool.sampler)
