"""The model that KL is measured to: the trained weights as they were, kept aside and put back for a forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Reference:
    """A copy of what is trained, full weights and adapters of any kind alike.

    TRL's own would load full weights by name, so lose a warm start, and add a second adapter, which many kinds refuse.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._pairs = [(p, p.detach().clone()) for p in model.parameters() if p.requires_grad]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Make the model the reference while the context is open."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def add_noise(self, scale: float, seed: int) -> None:
        """Move the copy by normal noise of standard deviation ``scale``."""
        generator = torch.Generator().manual_seed(seed)
        for _, kept in self._pairs:
            kept.add_(torch.randn(kept.shape, generator=generator).to(kept), alpha=scale)

    def _swap(self) -> None:
        for parameter, kept in self._pairs:
            parameter.data, kept.data = kept.data, parameter.data
