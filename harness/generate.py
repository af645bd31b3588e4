"""Generation with progress: the one place that calls ``model.generate``."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
    StopStringCriteria,
)

from harness.models import LoadedModel
from harness.types import Progress, Prompt


def seed_torch(seed: int) -> None:
    """Seed every generator that a step may touch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """A completion before it is scored; ``truncated`` when it ended by the token limit."""

    text: str
    ids: list[int]
    truncated: bool


class _Watch(StoppingCriteria):  # type: ignore[misc]
    """Notes at which length each row ended, stops rows at stop strings, and reports finished rows."""

    def __init__(
        self,
        rows: int,
        prompt_length: int,
        eos_ids: Sequence[int],
        stop: StopStringCriteria | None,
        report: Callable[[int], None],
        device: torch.device,
    ) -> None:
        self.lengths = torch.full((rows,), -1, dtype=torch.long, device=device)
        self.prompt_length = prompt_length
        self.eos_ids = torch.tensor(list(eos_ids), device=device)
        self.stop = stop
        self.report = report
        self.reported = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        done = torch.isin(input_ids[:, -1], self.eos_ids)
        if self.stop is not None:
            done = done | self.stop(input_ids, scores)
        fresh = done & (self.lengths < 0)
        self.lengths[fresh] = input_ids.size(1) - self.prompt_length
        finished = int((self.lengths >= 0).sum())
        if finished > self.reported:
            self.reported = finished
            self.report(finished)
        return done


def generate_ids(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    inputs: dict[str, torch.Tensor],
    config: GenerationConfig,
    *,
    eos_ids: Sequence[int],
    stop: Sequence[str] = (),
    report: Callable[[int], None] = lambda finished: None,
) -> tuple[list[list[int]], list[bool]]:
    """Completion ids without padding, and which rows were cut by the token limit.

    ``inputs`` are left-padded ``input_ids`` and ``attention_mask`` of shape (rows, prompt tokens).
    """
    prompt_length = inputs["input_ids"].size(1)
    stop_criteria = StopStringCriteria(tokenizer, list(stop)) if stop else None
    watch = _Watch(inputs["input_ids"].size(0), prompt_length, eos_ids, stop_criteria, report, model.device)
    with torch.no_grad():
        output = model.generate(**inputs, generation_config=config, stopping_criteria=StoppingCriteriaList([watch]))
    ids, truncated = [], []
    for row, length in zip(output[:, prompt_length:].tolist(), watch.lengths.tolist(), strict=True):
        ids.append(row if length < 0 else row[:length])
        truncated.append(length < 0)
    return ids, truncated


def eos_ids_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Every token that ends a completion: the tokenizer's and those the model declares."""
    declared = model.generation_config.eos_token_id
    ids = [declared] if isinstance(declared, int) else list(declared or [])
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ids:
        ids.insert(0, tokenizer.eos_token_id)
    return ids


def generate_texts(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    *,
    max_tokens: int,
    temperature: float,
    top_p: float = 1.0,
    stop: Sequence[str] = (),
    batch_size: int,
    seed: int,
    progress: Progress,
    phase: str,
) -> list[GeneratedText]:
    """One completion for each prompt, in order. ``temperature`` 0 is greedy."""
    model, tokenizer = loaded.model, loaded.tokenizer
    eos_ids = eos_ids_of(model, tokenizer)
    config = GenerationConfig(
        max_new_tokens=max_tokens,
        do_sample=temperature > 0,
        temperature=temperature or None,
        top_p=top_p if temperature > 0 else None,
        top_k=0 if temperature > 0 else None,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=eos_ids,
        disable_compile=True,
    )
    was_training = model.training
    model.eval()
    seed_torch(seed)
    texts: list[GeneratedText] = []
    try:
        for start in range(0, len(prompts), batch_size):
            encoded = [loaded.prompt_ids(prompt) for prompt in prompts[start : start + batch_size]]
            inputs = tokenizer.pad({"input_ids": encoded}, padding=True, padding_side="left", return_tensors="pt")
            inputs = {name: inputs[name].to(model.device) for name in ("input_ids", "attention_mask")}

            def report(finished: int, start: int = start) -> None:
                progress(phase, start + finished, len(prompts))

            ids, truncated = generate_ids(model, tokenizer, inputs, config, eos_ids=eos_ids, stop=stop, report=report)
            decoded = tokenizer.batch_decode(ids, skip_special_tokens=True)
            texts += [GeneratedText(*row) for row in zip(decoded, ids, truncated, strict=True)]
            progress(phase, len(texts), len(prompts))
    finally:
        model.train(was_training)
    return texts
