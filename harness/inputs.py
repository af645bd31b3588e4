"""What a spec needs from outside, except the model: pool and reward. Nothing here imports torch, so wrong
input shows within a second."""

from __future__ import annotations

from harness.errors import InputError
from harness.spec import RunSpec
from harness.types import Prompt
from pools.pool import PromptPool
from pools.sources import load_prompts
from pools.splits import split_prompts
from rewards.contract import RewardDescription, load_reward
from rewards.worker import RewardWorker


def build_reward(spec: RunSpec, *, chat: bool) -> RewardWorker:
    """The reward of a spec; ``chat`` as in Reward. Raises InputError when a function cannot be imported."""
    description = RewardDescription(
        tuple(spec.reward.functions),
        weights=None if spec.reward.weights is None else tuple(spec.reward.weights),
        range=spec.reward.range,
        solved_at=spec.reward.solved_at,
        chat=chat,
    )
    load_reward(description)  # here too: what is wrong with it shows before anything starts
    return RewardWorker(description, time_limit=spec.reward.time_limit)


def build_splits(spec: RunSpec) -> dict[str, list[Prompt]]:
    """The pool's splits. Raises InputError."""
    prompts = load_prompts(spec.pool.source, template=spec.pool.template, system=spec.pool.system_prompt)
    return split_prompts(prompts, spec.pool.splits)


def build_pool(spec: RunSpec, train: list[Prompt]) -> PromptPool:
    """The train split to draw from. Raises InputError when a step would draw more than its share."""
    pool = PromptPool(train, draw_share=spec.pool.draw_share, sampler=spec.pool.sampler)
    pool.check_draw(spec.knobs.prompts_per_step)
    return pool


def check_inputs(spec: RunSpec) -> tuple[dict[str, list[Prompt]], PromptPool]:
    """The splits and the pool of a spec, once nothing about them, the reward and the warm start would end a run.

    Raises InputError for the first thing that would.
    """
    build_reward(spec, chat=False)
    splits = build_splits(spec)
    train = splits["train"]
    pool = build_pool(spec, train)
    shown = sum(prompt.demonstration is not None for prompt in train)
    if spec.warmstart.steps and shown < spec.warmstart.examples:
        raise InputError(
            f"warmstart.examples: {spec.warmstart.examples} asked for, but only {shown} of {len(train)} train prompts "
            "have a demonstration; lower it, or set warmstart.steps=0"
        )
    return splits, pool
