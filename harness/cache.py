"""A cache of keys and values that is written in place: transformers' own copies all of it for every token."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

ROOM = 64
"""Tokens that room is made for at a time."""


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, (rows, heads, tokens, size), as views into tensors with room for more tokens."""

    keys: torch.Tensor
    values: torch.Tensor
    _space: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start = self.get_seq_length()
        if start == 0:  # the prompt, which is about to be repeated for its rows
            kept: tuple[torch.Tensor, torch.Tensor] = super().update(key_states, value_states, *args, **kwargs)
            return kept
        end = start + key_states.size(-2)
        if self._space is None or end > self._space[0].size(-2):
            self._space = (_with_room(self.keys, end + ROOM), _with_room(self.values, end + ROOM))
        keys, values = self._space
        keys[:, :, start:end] = key_states
        values[:, :, start:end] = value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        super().reorder_cache(beam_idx)
        self._space = None


def build_cache(config: PreTrainedConfig) -> DynamicCache:
    """An empty cache for a model of ``config``. Layers of other kinds than plain attention keep transformers' own."""
    cache = DynamicCache(config=config.get_text_config())
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _with_room(states: torch.Tensor, tokens: int) -> torch.Tensor:
    rows, heads, used, size = states.shape
    space = states.new_empty(rows, heads, tokens, size)
    space[:, :, :used] = states
    return space
