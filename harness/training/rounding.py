"""Weights in 16 bits lose small updates: an update below half of a weight's last digit leaves it as it was."""

from __future__ import annotations

from collections.abc import Sequence

import torch

SAMPLED = 10_000
"""Weights of each tensor that are watched."""
FEW = 0.5
"""Share of moved weights below which a run is told."""


class RoundingWatch:
    """Weights of 16 bits with a gradient, before an update."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        self._watched = []
        for parameter in parameters:
            if parameter.dtype in (torch.bfloat16, torch.float16) and parameter.grad is not None:
                places = slice(None, None, max(1, parameter.numel() // SAMPLED))
                has_gradient = parameter.grad.flatten()[places] != 0
                before = parameter.detach().flatten()[places].clone()
                self._watched.append((parameter, places, has_gradient, before))

    def describe(self) -> str:
        """Say what share of them the update has moved, "" if that is most or there are none."""
        moved = of = 0
        for parameter, places, has_gradient, before in self._watched:
            of += int(has_gradient.sum())
            moved += int(((parameter.detach().flatten()[places] != before) & has_gradient).sum())
        if not of or moved >= FEW * of:
            return ""
        kind = str(self._watched[0][0].dtype).removeprefix("torch.")
        return (
            f"the update moved {moved / of:.2%} of the weights: in {kind} the steps of the others are rounded away; "
            "use model.dtype=float32, an adapter (lora.rank=16) or a higher knobs.learning_rate"
        )
