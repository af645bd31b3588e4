"""What each saving of StepTrainer gives: one step with all of them, then without one at a time.

    python -m tests.benchmarks.savings [--model 135m] [--dead 0.5] [--repeats 3]

Variants take turns, so noise hits all; prints JSON with the median seconds of a step and of its parts.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import median
from typing import Any

import torch

import harness.models.generate
from harness.models.runtime import prepare_process
from harness.training.grpo import StepTrainer
from harness.types import Knobs
from tests.benchmarks.against_trl import PROMPTS, SHAPES, build_model, build_ours, build_prompts


@contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def merged(trainer: StepTrainer) -> Iterator[None]:
    """LoRA merged into the weights while sampling: not what we do, measured here again."""
    sample = trainer._sample

    def sample_merged(prompt_ids: Any) -> Any:
        trainer.model.merge_adapter()
        try:
            return sample(prompt_ids)
        finally:
            trainer.model.unmerge_adapter()

    with patched(trainer, "_sample", sample_merged):
        yield


@contextmanager
def checkpointed(trainer: StepTrainer) -> Iterator[None]:
    """Layers run again for backward instead of keeping what it needs, which leaves no cache of prompts to share."""
    trainer.model.gradient_checkpointing_enable({"use_reentrant": False})
    try:
        with patched(trainer, "_shares_prompts", False):
            yield
    finally:
        trainer.model.gradient_checkpointing_disable()


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def variants(trainer: StepTrainer, micro_batch: int, *, lora: bool) -> dict[str, Callable[[], Any]]:
    one_each = lambda prompts: (list(prompts), list(range(len(prompts))))  # noqa: E731
    found: dict[str, Callable[[], Any]] = {
        "all savings": lambda: patched(trainer, "micro_batch", micro_batch),
        "prompt encoded for each completion while sampling": lambda: patched(
            harness.models.generate, "find_shared", one_each
        ),
        "prompt encoded for each completion in the update": lambda: patched(trainer, "_shares_prompts", False),
        "ended rows stay in the batch": lambda: patched(harness.models.generate, "COMPACT_AT", 2.0),
        "groups without signal in the update": lambda: patched(
            trainer, "spec", trainer.spec.model_copy(update={"signal_only": False})
        ),
        "gradient checkpointing": lambda: checkpointed(trainer),
        "one thread": one_thread,
    }
    for size in (8, 32, 80):
        found[f"micro-batch {size} instead of {micro_batch}"] = lambda size=size: patched(trainer, "micro_batch", size)
    if lora:
        found["LoRA merged while sampling (not done)"] = lambda: merged(trainer)
    return found


def measure(model: str, dead: float, repeats: int) -> dict[str, Any]:
    characters, max_tokens, group_size, micro_batch = SHAPES[model]
    prompts = build_prompts(characters, dead)
    knobs = replace(Knobs(), max_tokens=max_tokens, group_size=group_size, prompts_per_step=PROMPTS)
    with tempfile.TemporaryDirectory() as folder:
        lora = model != "tiny"
        trainer = build_ours(build_model(model, lora=lora), micro_batch, folder)
        trainer.step(prompts, knobs, learning_rate=1e-5, seed=0)
        seconds: dict[str, list[dict[str, float]]] = {}
        for seed in range(repeats):
            for name, setting in variants(trainer, micro_batch, lora=lora).items():
                with setting():
                    metrics = trainer.step(prompts, knobs, learning_rate=1e-5, seed=seed).metrics
                seconds.setdefault(name, []).append({k: v for k, v in metrics.items() if k.startswith("time/")})
    return {
        name: {part: round(median(step[part] for step in steps), 2) for part in steps[0]}
        for name, steps in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(SHAPES), default="135m")
    parser.add_argument("--dead", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    prepare_process(arguments.threads)
    result = measure(arguments.model, arguments.dead, arguments.repeats)
    print(json.dumps({"model": arguments.model, "dead": arguments.dead, "seconds": result}, indent=2))


if __name__ == "__main__":
    main()
