"""What a model's forward takes beside token ids, whatever its architecture and however it is wrapped."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch
from transformers import DynamicCache


def find_base(model: Any) -> Any:
    """Return the model itself, without the adapter around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def positions_of(mask: torch.Tensor) -> torch.Tensor:
    """Return the position of every token among the real ones of its row; padding gets 0."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def takes(model: Any, name: str) -> bool:
    """Test whether the forward of ``model`` names an argument."""
    kind: Any = type(find_base(model))
    return name in _arguments(kind)


def describe_tokens(model: Any, mask: torch.Tensor, width: int) -> dict[str, Any]:
    """Describe the last ``width`` tokens of rows to ``model``, given the mask (rows, all tokens so far).

    Positions are always told where the forward takes them: left to itself a model counts the padding too, which learned
    positions do not forgive. Router logits are left out: their loss needs masks that a cached forward does not have.
    """
    # A state has read the mask of what lies behind it.
    told: dict[str, Any] = {"attention_mask": mask[:, -width:] if takes(model, "cache_params") else mask}
    if takes(model, "position_ids"):
        told["position_ids"] = positions_of(mask)[:, -width:]
    if hasattr(find_base(model).config.get_text_config(), "output_router_logits"):
        told["output_router_logits"] = False
    return told


def build_cache(model: Any) -> tuple[DynamicCache, dict[str, Any]]:
    """Build an empty cache for keys, values and states, and the arguments with which a forward fills and reads it."""
    cache = DynamicCache(config=find_base(model).config.get_text_config())
    name = "past_key_values" if takes(model, "past_key_values") else "cache_params"  # state-space models
    return cache, {name: cache, "use_cache": True}


@cache
def _arguments(kind: Any) -> frozenset[str]:
    return frozenset(inspect.signature(kind.forward).parameters)
