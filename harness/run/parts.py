"""Build the parts of a spec, everything checked and in memory, nothing created on disk; and decision policies."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow.compute as pc

from harness.checks.inputs import Inputs, Splits, build_demonstrations, build_reward, hash_contents
from harness.checks.judges import build_judges, describe_judges
from harness.config.asking import build_ledger, build_settings
from harness.config.names import TINY
from harness.config.schema import RunSpec
from harness.core.environment import collect_manifest
from harness.core.seeds import derive_seed
from harness.errors import Diverged, InputError
from harness.llm.ledger import Ledger
from harness.models.evaluate import ModelEvaluator
from harness.models.load import LoadedModel, load_model
from harness.models.memory import (
    MemoryForecast,
    check_memory,
    check_sft_memory,
    forecast_peak,
    free_memory,
    shape_of,
)
from harness.models.runtime import prepare_process
from harness.run.answerers import open_judges
from harness.training.forecast import Costs, Forecast, Unasked, compute_forecast, measure_costs
from harness.training.grpo import StepTrainer
from harness.training.probe import check_model
from harness.training.supervised import SupervisedTrainer
from harness.types import DecisionPolicy, Evaluation, Evaluator, Example, Knobs, Progress, Prompt, SampleRecord, Scorer
from policies.fixed import FixedPolicy
from policies.rules import RulesPolicy
from pools.demonstrations import Demonstrations
from pools.table import PromptTable
from rewards.judged import JudgedReward
from rewards.parallel import ParallelReward

ODD_TRIED = 500
"""Prompts of a split, at most, that are other than a user's message: so many take a chat template a second or less."""
POLICIES: Mapping[str, Callable[[], DecisionPolicy]] = {"rules": RulesPolicy, "fixed": FixedPolicy}


def build_evaluator(
    spec: RunSpec, loaded: LoadedModel, splits: Mapping[str, Sequence[Prompt]], reward: Scorer
) -> ModelEvaluator:
    return ModelEvaluator(
        loaded, reward, splits, spec.evaluate, sample_prompts=spec.sample.prompts, stop=spec.trainer.stop
    )


@dataclass(frozen=True)
class WithLoss:
    """``harness.types.Evaluator`` that measures the loss on the demonstrations of dev too, where dev has some."""

    evaluator: ModelEvaluator
    measure_loss: Callable[..., float | None]
    splits: Splits

    def evaluate(self, split: str, *, seed: int, progress: Progress) -> Evaluation:
        """Evaluate as ModelEvaluator does."""
        evaluation = self.evaluator.evaluate(split, seed=seed, progress=progress)
        loss = self.measure_loss(self.splits[split], progress=progress) if split == "dev" else None
        if loss is not None and not math.isfinite(loss):
            raise Diverged(f"the loss on {split} is {loss}")
        return replace(evaluation, loss=loss)

    def sample(self, *, seed: int, progress: Progress) -> list[Example]:
        """Sample as ModelEvaluator does."""
        return self.evaluator.sample(seed=seed, progress=progress)


@dataclass(frozen=True)
class Parts:
    """Everything checked and in memory, nothing created on disk yet."""

    inputs: Inputs
    loaded: LoadedModel
    reward: ParallelReward | JudgedReward
    knobs: Knobs
    bounds: dict[str, tuple[float, float]]
    memory: MemoryForecast
    manifest: dict[str, Any]


def build_parts(inputs: Inputs) -> Parts:
    """Load the model and check that it fits pool and reward. Raises InputError."""
    spec, splits = inputs.spec, inputs.splits
    threads = prepare_process(spec.model.threads, spec.trainer)
    loaded = load_model(spec.model, spec.lora, seed=derive_seed(spec.seed, "model"), pool=spec.pool)
    if spec.model.name != TINY:
        check_model(loaded)
    knobs, group_size_from = spec.first_knobs(loaded.recommended_group_size)
    longest = _check_prompts(loaded, splits)
    _check_room(spec, knobs, loaded.context, longest)
    bounds = spec.all_bounds
    for knob, most in (("max_tokens", loaded.context - longest), ("prompts_per_step", inputs.pool.largest_draw())):
        low, high = bounds[knob]
        bounds[knob] = (low, min(high, float(most)))
    shape = shape_of(loaded.model)
    free = free_memory() + shape.weights_bytes  # which are there already
    if spec.kind == "sft":
        memory = check_sft_memory(shape, spec.sft, spec.trainer, spec.evaluate, longest_prompt=longest, free=free)
    else:
        memory = check_memory(shape, knobs, spec.trainer, spec.warmstart, longest_prompt=longest, free=free)
    manifest = collect_manifest(threads) | {
        "group_size_from": group_size_from,
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "context": loaded.context,
        "longest_prompt": longest,
        "memory_forecast": asdict(memory) | {"peak": memory.peak},
        "split_sizes": {name: len(prompts) for name, prompts in splits.items()},
        "rows": inputs.counts.to_json(),
        "families": _find_families(splits["test"]),
        "data_sha256": hash_contents(splits),
        "reward_sha256": inputs.reward_sha256,
        **describe_judges(spec),
    }
    judges = build_judges(spec, open_judges(spec, build_ledger(spec)))  # bound to the run once there is one
    reward = build_reward(spec, chat=loaded.chat, reward=inputs.reward, judges=judges)
    return Parts(inputs, loaded, reward, knobs, bounds, memory, manifest)


def _check_prompts(loaded: LoadedModel, splits: Splits) -> int:
    """Count the tokens of the longest prompt. Raises InputError when the context has no room for it and an answer, or
    the chat template refuses prompts."""
    for part in splits.values():
        # What a template may refuse: a system message, turns of several kinds.
        odd = part.column("messages").is_valid().to_numpy() | (pc.binary_length(part.column("system")).to_numpy() > 0)
        for i in odd.nonzero()[0][:ODD_TRIED]:
            loaded.render(part[int(i)])
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


def _find_families(test: PromptTable) -> dict[str, str]:
    """Find the family of each test prompt whose id is another: by these it is known to runs from before ids were
    exact, with which this one may be compared."""
    pairs = zip(test.ids, test.compute_families(), strict=True)
    return {prompt_id: family for prompt_id, family in pairs if prompt_id != family}


def _check_room(spec: RunSpec, knobs: Knobs, context: int, longest: int) -> None:
    """Raise InputError when an answer may be longer than the context has room for."""
    room = context - longest
    limits = {"evaluate.max_tokens": spec.evaluate.max_tokens}
    if spec.kind == "grpo":
        limits = {"knobs.max_tokens": knobs.max_tokens, **limits}
    for name, tokens in limits.items():
        if tokens > room:
            raise InputError(
                f"{name}: {tokens} does not fit: the longest prompt has {longest} tokens and the context {context}, "
                f"so at most {max(room, 0)}"
            )


def build_trainer(
    parts: Parts, folder: Path
) -> tuple[StepTrainer | SupervisedTrainer, Evaluator, Demonstrations | None]:
    """Build what takes the steps of this kind of run, what measures it, and what it learns from beside the pool."""
    inputs, loaded = parts.inputs, parts.loaded
    spec = inputs.spec
    evaluator = build_evaluator(spec, loaded, inputs.splits, parts.reward)
    if spec.kind == "sft":
        trainer = SupervisedTrainer(loaded, spec.trainer, folder=folder, seed=spec.seed)
        measured = WithLoss(evaluator, trainer.measure_loss, inputs.splits)
        return trainer, measured, build_demonstrations(spec, inputs.splits["train"])
    limit = spec.reward.errored_limit
    made = StepTrainer(loaded, parts.reward, spec.trainer, errored_limit=limit, folder=folder, seed=spec.seed)
    return made, evaluator, None


def forecast_run(
    parts: Parts,
    trainer: StepTrainer | SupervisedTrainer,
    demonstrations: Demonstrations | None,
    *,
    folder: Path,
    steps: int | None = None,
    as_shown: bool = False,
    thorough: bool = False,
) -> tuple[Costs, Forecast]:
    """Rehearse a run, and forecast it: all of its steps, or the last ``steps``. The rest as measure_costs."""
    spec, knobs = parts.inputs.spec, parts.knobs
    scorer: Scorer = Unasked() if isinstance(parts.reward, JudgedReward) else parts.reward
    if isinstance(trainer, StepTrainer):
        trainer.scorer = scorer
    try:
        costs = measure_costs(
            spec,
            trainer,
            build_evaluator(spec, parts.loaded, parts.inputs.splits, scorer),
            knobs=knobs,
            pool=parts.inputs.pool,
            demonstrations=demonstrations,
            folder=folder,
            as_shown=as_shown,
            thorough=thorough,
        )
    finally:
        if isinstance(trainer, StepTrainer):
            trainer.scorer = parts.reward
    learned = spec.sft.batch if spec.kind == "sft" else knobs.prompts_per_step * knobs.group_size
    steps = spec.budget.steps if steps is None else steps
    return costs, compute_forecast(
        spec,
        costs,
        steps=steps,
        completions=learned * steps,
        free_bytes=shutil.disk_usage(folder).free,
        memory_bytes=forecast_peak(costs.state_bytes),
    )


def build_llm(
    spec: RunSpec, ledger: Ledger, samples: Callable[[], Sequence[SampleRecord]], interrupted: Event, progress: Progress
) -> DecisionPolicy:
    """Build the LLM policy with the rules beside it. Its SDK takes two seconds to import, so nobody else does."""
    from harness.llm.hosted import open_hosted
    from policies.llm import LlmPolicy

    llm = spec.llm
    answerer = open_hosted(llm.answerer, build_settings(spec), ledger, interrupted)
    return LlmPolicy(answerer, ledger, every=llm.every, max_tokens=llm.max_tokens, samples=samples, progress=progress)
