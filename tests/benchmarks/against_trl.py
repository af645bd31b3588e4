"""A step of StepTrainer against a step of TRL's own ``GRPOTrainer.train()``, and how far their gradients differ.

    python -m tests.benchmarks.against_trl [--model 135m] [--dead 0 0.5 0.8] [--pairs 5] [--full]

Both sides train a copy of one model, float32, with the same threads, micro-batch, optimizer, number and length of
completions, no gradient checkpointing, beta 0. Inside one ``train()`` call of TRL, after each of its steps (timed
from its on_step_begin to its on_step_end) ours takes one: so the two alternate, and noise hits both. ``dead`` is the
share of groups whose rewards are all equal. The first pair warms up and does not count. Prints JSON; ``ratio`` is
the median over pairs of ours / TRL's. Our step also measures KL and entropy, which TRL's does not at beta 0.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import shuffle_sequence_dict, split_tensor_dict

from harness.config.names import SMOLLM2
from harness.config.schema import LoraSpec, ModelSpec, TrainerSpec
from harness.models.load import LoadedModel, load_model
from harness.models.runtime import prepare_process, quiet_training
from harness.models.tiny import build_tiny_model, build_tiny_tokenizer
from harness.training.grpo import StepTrainer
from harness.types import Knobs, Prompt, Score
from pools import word_sums

PROMPTS = 10
SHAPES = {  # prompt characters (one token each), completion tokens, group size, micro-batch
    "tiny": (12, 32, 8, 40),
    "135m": (47, 24, 4, 8),
    "smollm2": (0, 24, 8, 16),  # the real model on the prompts of its recipe, in its chat format
}


def build_model(name: str, *, lora: bool) -> LoadedModel:
    """The embedded model, a random Llama in the shape of SmolLM2-135M, or that itself; always the same weights."""
    if name == "smollm2":
        return load_model(ModelSpec(name=SMOLLM2), LoraSpec(rank=16 if lora else 0), seed=0)
    tokenizer = build_tiny_tokenizer()
    torch.manual_seed(0)
    if name == "tiny":
        model = build_tiny_model(0)
    else:
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=2048, tie_word_embeddings=True,
                pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
            )
        )  # fmt: skip
    if lora:
        from peft import LoraConfig, get_peft_model

        spec = LoraSpec()
        model = get_peft_model(
            model, LoraConfig(r=16, lora_alpha=spec.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
        )
    return LoadedModel(model, tokenizer, chat=False, context=2048)


def build_prompts(characters: int, dead: float) -> list[Prompt]:
    """Groups without signal are spread over the step. Without ``characters`` the prompts are sums in words."""
    texts = [(f"{i} " * characters)[:characters] for i in range(PROMPTS)]
    if not characters:
        texts = [prompt.text for prompt in word_sums.generate(size=PROMPTS)]
    return [
        Prompt(f"p{i}", text, "", columns={"dead": (i * 7 % PROMPTS) < dead * PROMPTS}) for i, text in enumerate(texts)
    ]


def rewards_of(dead: Sequence[bool]) -> list[float]:
    return [0.0 if is_dead else float(row % 2) for row, is_dead in enumerate(dead)]


class ByRow:
    """Every other completion of a live group is right: the work of the update is the same in each step."""

    range = (0.0, 1.0)

    def score(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Score]:
        return [Score(r, r == 1, "right" if r else "wrong") for r in rewards_of([p.columns["dead"] for p in prompts])]


def build_ours(loaded: LoadedModel, micro_batch: int, folder: str) -> StepTrainer:
    spec = TrainerSpec(micro_batch=micro_batch)
    return StepTrainer(loaded, ByRow(), spec, errored_limit=0.1, folder=Path(folder), seed=0)


class Alternate(TrainerCallback):  # type: ignore[misc]
    """Times TRL's steps and takes one of ours after each."""

    def __init__(self, ours: StepTrainer, prompts: list[Prompt], knobs: Knobs) -> None:
        self.ours, self.prompts, self.knobs = ours, prompts, knobs
        self.pairs: list[tuple[float, float]] = []
        self.parts: list[dict[str, float]] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # the optimizer's last kernels are theirs, not ours
        theirs = time.perf_counter() - self.started
        started = time.perf_counter()
        outcome = self.ours.step(self.prompts, self.knobs, learning_rate=1e-5, seed=state.global_step)
        self.pairs.append((theirs, time.perf_counter() - started))
        self.parts.append({k: v for k, v in outcome.metrics.items() if k.startswith("time/")})


def compare(
    build: Callable[[], LoadedModel], shape: tuple[int, int, int, int], dead: float, pairs: int
) -> dict[str, Any]:
    """Paired step times of two models of ``build`` at one share of dead groups; ``shape`` as in SHAPES."""
    characters, max_tokens, group_size, micro_batch = shape
    prompts = build_prompts(characters, dead)
    knobs = Knobs(max_tokens=max_tokens, group_size=group_size, prompts_per_step=PROMPTS)
    with tempfile.TemporaryDirectory() as folder:
        ours = build_ours(build(), micro_batch, folder)
        alternate = Alternate(ours, prompts, knobs)
        loaded = build()
        stock = GRPOTrainer(
            model=loaded.model,
            reward_funcs=[lambda completions, dead, **_: rewards_of(dead)],
            args=GRPOConfig(
                output_dir=folder,
                per_device_train_batch_size=micro_batch,
                gradient_accumulation_steps=PROMPTS * group_size // micro_batch,
                num_generations=group_size,
                max_completion_length=max_tokens,
                max_steps=pairs + 1,
                learning_rate=1e-5,
                lr_scheduler_type="constant",
                shuffle_dataset=False,
                gradient_checkpointing=False,
                **quiet_training(),
            ),
            train_dataset=Dataset.from_list([{"prompt": loaded.render(p), "dead": p.columns["dead"]} for p in prompts]),
            processing_class=loaded.tokenizer,
            callbacks=[alternate],
        )
        stock.remove_callback(PrinterCallback)
        stock.train()
    counted = alternate.pairs[1:]
    return {
        "dead": dead,
        "ratio": round(median(ours / theirs for theirs, ours in counted), 3),
        "ratios": [round(ours / theirs, 3) for theirs, ours in counted],
        "trl_s": round(median(theirs for theirs, _ in counted), 3),
        "ours_s": round(median(ours for _, ours in counted), 3),
        "ours_parts_s": {k: round(median(p[k] for p in alternate.parts[1:]), 3) for k in alternate.parts[0]},
    }


def compare_gradients(model: str, *, lora: bool, dead: float = 0.5) -> dict[str, float]:
    """Our gradient of one rolled-out batch against the one of TRL's loss over all its rows, prompts repeated."""
    characters, _, group_size, micro_batch = SHAPES[model]
    prompts = build_prompts(characters, dead)
    with tempfile.TemporaryDirectory() as folder:
        ours = build_ours(build_model(model, lora=lora), micro_batch, folder)
        knobs = Knobs(max_tokens=8, group_size=group_size, prompts_per_step=PROMPTS)
        _, batch = ours._roll_out(prompts, knobs, 0.0, seed=1)
        live = ours._find_live(batch)
        ours._accumulate(batch, live.nonzero().squeeze(-1))
        mine = _gradient(ours.model)
        ours.model.zero_grad()
        ours._shares_prompts = False
        parts = PROMPTS * group_size // micro_batch
        ours.current_gradient_accumulation_steps = ours.args.steps_per_generation = parts
        for part in split_tensor_dict(shuffle_sequence_dict(copy.copy(batch)), parts):
            ours.compute_loss(ours.model, part).backward()
        plain = _gradient(ours.model)
    return {
        "norm": float(plain.norm()),
        "max_difference": float((mine - plain).abs().max()),
        "relative_difference": float((mine - plain).norm() / plain.norm()),
    }


def _gradient(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(SHAPES), nargs="+", default=["tiny", "135m"])
    parser.add_argument("--dead", type=float, nargs="+", default=[0.0, 0.5, 0.8])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--full", action="store_true", help="full weights for 135m too, instead of LoRA of rank 16")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    prepare_process(arguments.threads)
    for model in arguments.model:
        lora = model != "tiny" and not arguments.full
        result: dict[str, Any] = {
            "model": model,
            "trained": "lora" if lora else "full weights",
            "threads": arguments.threads,
            "gradient": compare_gradients(model, lora=lora),
            "steps": [],
        }
        for dead in arguments.dead:
            result["steps"].append(
                compare(partial(build_model, model, lora=lora), SHAPES[model], dead, arguments.pairs)
            )
            print(json.dumps(result["steps"][-1]), file=sys.stderr, flush=True)  # long work: say what is known
        print(json.dumps(result, indent=2), flush=True)


if __name__ == "__main__":
    main()
