"""The built-in tiny model, prompts for it, and a reward that varies while it is untrained."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.config.schema import LoraSpec, ModelSpec
from harness.models.load import LoadedModel, load_model
from harness.types import Prompt, Score

PROMPTS = [Prompt(id=f"p{i}", text=f"{i}+{i}=", ground_truth=str(2 * i)) for i in range(8)]


def reward_of(completion: str) -> float:
    """Varied on an untrained model: the share of digits."""
    return sum(c.isdigit() for c in completion) / max(1, len(completion))


class DigitScorer:
    range = (0.0, 1.0)

    def score(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Score]:
        return [Score(reward_of(c), False, "wrong") for c in completions]


def tiny(seed: int = 0, *, lora: bool = False) -> LoadedModel:
    return load_model(ModelSpec(), LoraSpec(rank=4 if lora else 0), seed=seed)


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for name, p in model.named_parameters() if ".ref." not in name])
