"""Forecast the memory of a run and compare it with what is free, before the first step."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from harness.config.schema import EvaluateSpec, ModelSpec, SftSpec, TrainerSpec, WarmstartSpec
from harness.core.formatting import format_bytes
from harness.errors import InputError
from harness.types import Knobs

FOUR_BIT_BYTES = 0.6
"""Of a parameter in 4 bits, with its scales and the embeddings that stay as they are."""
SAMPLED_BYTES = 24
"""Of one place in the vocabulary while a token is drawn: logits, log-probabilities, their exponentials, running sum."""
HEAD_BYTES = 12
"""The same in the update, where the head works through chunks of so many tokens:"""
HEAD_CHUNK = 256
SAVED_PER_HIDDEN = 36
SAVED_PER_INTERMEDIATE = 8
"""Numbers that a layer keeps for backward per token: for each of its hidden and of its intermediate size (measured,
docs/scale.md)."""
AUTOCAST_SHARE = 0.67
"""Of these bytes under ``trainer.bf16``, which keeps norms and the sum over layers in float32; beside them stands a
copy of the weights in 16 bits (saved tensors of a Qwen2 shape, counted)."""
GAPS = 1.1
"""What an allocator comes to hold, to what is held at once: steps differ in their lengths (three groups of stages,
docs/scale.md)."""
PLAIN_HEAD_BYTES = 20
"""Of one place in the vocabulary and token in the warm start, whose loss makes all logits at once."""


@dataclass(frozen=True)
class Shape:
    """What of a model decides memory. ``trained`` parameters have gradients and optimizer state."""

    layers: int
    hidden: int
    intermediate: int
    kv_width: int
    vocabulary: int
    number_bytes: int
    weights_bytes: int
    trained: int
    full: bool


@dataclass(frozen=True)
class MemoryForecast:
    """Bytes. ``fixed`` stays all the time; of the others only the largest is held at once."""

    weights: int
    training: int
    reference: int
    rollout: int
    update: int
    warmstart: int

    @property
    def fixed(self) -> int:
        return self.weights + self.training + self.reference

    @property
    def peak(self) -> int:
        return self.fixed + max(self.rollout, self.update, self.warmstart)

    @property
    def text(self) -> str:
        parts = {
            "weights": self.weights,
            "gradients and optimizer": self.training,
            "reference": self.reference,
            "sampling": self.rollout,
            "the update": self.update,
            "the warm start": self.warmstart,
        }
        told = ", ".join(f"{name} {format_bytes(size)}" for name, size in parts.items() if size)
        return f"the run needs about {format_bytes(self.peak)} of memory ({told})"


def compute_memory(
    shape: Shape, knobs: Knobs, trainer: TrainerSpec, warmstart: WarmstartSpec, *, longest_prompt: int
) -> MemoryForecast:
    """Compute what the warm start and a step of these knobs take. Prompts are taken to be as long as the longest,
    completions to use their whole limit."""
    rows = knobs.prompts_per_step * knobs.group_size
    tokens = longest_prompt + knobs.max_tokens
    cache = 2 * shape.layers * shape.kv_width * shape.number_bytes * tokens * rows
    # Prompts are encoded once per group (harness/training/log_probs.py).
    micro = min(trainer.micro_batch, rows)
    held = micro * knobs.max_tokens + -(-micro // knobs.group_size) * longest_prompt
    per_layer = (SAVED_PER_HIDDEN * shape.hidden + SAVED_PER_INTERMEDIATE * shape.intermediate) * shape.number_bytes
    copies = 0
    if trainer.bf16 and shape.number_bytes > 2:
        per_layer = int(per_layer * AUTOCAST_SHARE)
        copies = 2 * shape.weights_bytes // shape.number_bytes
    if trainer.gradient_checkpointing:
        saved = held * (per_layer + shape.layers * shape.hidden * shape.number_bytes)
    else:
        saved = held * shape.layers * per_layer
    shown = warmstart.batch * tokens if warmstart.steps else 0
    return MemoryForecast(
        weights=shape.weights_bytes,
        training=shape.trained * 4 * (1 + count_states(trainer.optimizer)),
        reference=shape.weights_bytes if shape.full else 0,
        rollout=cache + rows * shape.vocabulary * SAMPLED_BYTES,
        update=saved + copies + min(held, HEAD_CHUNK) * shape.vocabulary * HEAD_BYTES,
        warmstart=shown * (shape.layers * per_layer + shape.vocabulary * PLAIN_HEAD_BYTES),
    )


def shape_of(model: Any) -> Shape:
    """Read the shape of a model in memory, adapter included."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = base.config.get_text_config()
    heads = int(getattr(config, "num_attention_heads", 1) or 1)
    hidden = int(config.hidden_size)
    head_size = int(getattr(config, "head_dim", None) or hidden // heads)
    return Shape(
        layers=int(getattr(config, "num_hidden_layers", 1)),
        hidden=hidden,
        intermediate=int(getattr(config, "intermediate_size", None) or 4 * hidden),
        kv_width=head_size * int(getattr(config, "num_key_value_heads", None) or heads),
        vocabulary=int(config.vocab_size),
        number_bytes=next(p.element_size() for p in model.parameters() if p.is_floating_point()),
        weights_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        trained=sum(p.numel() for p in model.parameters() if p.requires_grad),
        full=base is model,
    )


def check_weights_fit(spec: ModelSpec, config: PreTrainedConfig, dtype: torch.dtype) -> None:
    """Raise InputError when not even the weights of a model fit, before they are read."""
    parameters = _count_parameters(config)
    each = FOUR_BIT_BYTES if spec.quantization else dtype.itemsize
    needed, free = parameters * each, free_memory()
    if needed > free:
        fixes = ["a smaller model"]
        if each > 2:
            fixes.append("model.dtype=bfloat16")
        if not spec.quantization:
            fixes.append("model.quantization=4bit")
        raise InputError(
            f"model.name: the {parameters / 1e6:,.0f} million weights of {spec.name} need {format_bytes(needed)} and "
            f"{format_bytes(free)} are free: {' or '.join(fixes)} would help"
        )


def check_memory(
    shape: Shape, knobs: Knobs, trainer: TrainerSpec, warmstart: WarmstartSpec, *, longest_prompt: int, free: int
) -> MemoryForecast:
    """Check the forecast. Raises InputError when it exceeds ``free`` bytes, with the field that fixes it."""

    def forecast_with(**smaller: int) -> MemoryForecast:
        return compute_memory(
            shape,
            replace(knobs, prompts_per_step=smaller.get("prompts_per_step", knobs.prompts_per_step)),
            trainer.model_copy(update={"micro_batch": smaller.get("micro_batch", trainer.micro_batch)}),
            warmstart.model_copy(update={"batch": smaller.get("batch", warmstart.batch)}),
            longest_prompt=longest_prompt,
        )

    forecast = forecast_with()
    if forecast.peak <= free:
        return forecast
    parts = f"{forecast.text}, and {format_bytes(free)} are free"
    room = free - forecast.fixed
    if room <= 0:
        fix = "train an adapter (lora.rank=16)" if shape.full else "take a smaller model"
        raise InputError(f"model.name: {parts}; {fix}")
    micro_batch = min(trainer.micro_batch, knobs.prompts_per_step * knobs.group_size)
    less_to_keep = "lower knobs.max_tokens, or set trainer.gradient_checkpointing=true"
    sizes = {  # by the part that they decide, with what else helps
        "warmstart": ("warmstart", "batch", warmstart.batch, "set warmstart.steps=0"),
        "update": ("trainer", "micro_batch", micro_batch, less_to_keep),
        "rollout": ("knobs", "prompts_per_step", knobs.prompts_per_step, "lower knobs.group_size or knobs.max_tokens"),
    }
    part = next(part for part in sizes if getattr(forecast, part) > room)
    section, name, now, otherwise = sizes[part]
    fits = next((size for size in range(now, 0, -1) if getattr(forecast_with(**{name: size}), part) <= room), None)
    raise InputError(f"{section}.{name}: {parts}; {f'lower it to {fits}' if fits else otherwise}")


def check_sft_memory(
    shape: Shape, sft: SftSpec, trainer: TrainerSpec, evaluate: EvaluateSpec, *, longest_prompt: int, free: int
) -> MemoryForecast:
    """Check what a run of kind sft needs: a micro-batch of demonstrations, taken to be as long as what evaluations may
    sample, and these. Raises InputError as check_memory."""
    tokens = longest_prompt + evaluate.max_tokens

    def forecast_with(rows: int) -> MemoryForecast:
        shown = WarmstartSpec(steps=1, batch=rows)
        one = Knobs(max_tokens=evaluate.max_tokens, group_size=2, prompts_per_step=1)
        of_grpo = compute_memory(shape, one, trainer, shown, longest_prompt=longest_prompt)
        cache = 2 * shape.layers * shape.kv_width * shape.number_bytes * tokens + shape.vocabulary * SAMPLED_BYTES
        return replace(of_grpo, reference=0, rollout=cache * evaluate.batch, update=of_grpo.warmstart, warmstart=0)

    rows = min(sft.batch, trainer.micro_batch)
    forecast = forecast_with(rows)
    if forecast.peak <= free:
        return forecast
    parts, room = f"{forecast.text}, and {format_bytes(free)} are free", free - forecast.fixed
    if room <= 0:
        fix = "train an adapter (lora.rank=16)" if shape.full else "take a smaller model"
        raise InputError(f"model.name: {parts}; {fix}")
    if forecast.rollout > room:
        raise InputError(f"evaluate.batch: {parts}; lower it to {max(1, evaluate.batch * room // forecast.rollout)}")
    fits = next((size for size in range(rows, 0, -1) if forecast_with(size).update <= room), None)
    fix = f"lower it to {fits}" if fits else "take a smaller model, or train an adapter (lora.rank=16)"
    raise InputError(f"trainer.micro_batch: {parts}; {fix}")


def count_states(optimizer: str) -> int:
    """Return how many numbers an optimizer keeps of each weight."""
    return {"adafactor": 0, "sgd": 0}.get(optimizer, 2)


def forecast_peak(state_bytes: int) -> int:
    """Return the bytes that this process will hold at most once there are ``state_bytes`` of an optimizer: what it has
    held until now, in a rehearsal, and the gaps between blocks. Of the GPU if there is one, else of the machine."""
    if torch.cuda.is_available():
        held = int(torch.cuda.max_memory_allocated())
    else:
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return int((held + state_bytes) * GAPS)


def free_memory() -> int:
    """Return the bytes still to be had: of the GPU if there is one, else of the machine, within every limit set."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    found = [psutil.virtual_memory().available, _container_free(), _process_free()]
    return min(int(value) for value in found if value is not None)


def _container_free() -> int | None:
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):  # no container, or no limit ("max")
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(stat["inactive_file"]))  # files kept in memory go when room is needed
    return None


def _process_free() -> int | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else max(0, limit - psutil.Process().memory_info().vms)


def _count_parameters(config: PreTrainedConfig) -> int:
    """Count without making them; 0 for an architecture that cannot be built so, which is left to the loader."""
    try:
        with torch.device("meta"):
            return int(AutoModelForCausalLM.from_config(config).num_parameters())
    except Exception:  # whatever an odd config makes transformers raise
        return 0
