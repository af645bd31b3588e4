"""Log-probabilities of completions, with each prompt encoded once where the model allows it.

A plain forward pass encodes the prompt again beside every completion of its group. Shared, neighbouring rows with the
same prompt take one pass over it: its keys and values are repeated for the rows, and gradients flow back through
them, so the gradient is the plain one up to float rounding (tests/training/test_grpo.py states by how much).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from harness.models.forward import build_cache, describe_tokens, find_base


@dataclass(frozen=True)
class TokenLogProbs:
    """Of each completion token (rows, completion length), 0 where there is none: log-probability, and entropy in nats
    if the head gives it. ``balance`` is the load-balancing loss of a mixture of experts, where it was asked for."""

    log_probs: torch.Tensor
    entropy: torch.Tensor | None
    balance: torch.Tensor | None = None


def compute_log_probs(
    model: Any,
    prompt_ids: torch.Tensor,
    prompt_mask: torch.Tensor,
    completion_ids: torch.Tensor,
    completion_mask: torch.Tensor,
    *,
    share: bool,
    balance: bool = False,
) -> TokenLogProbs:
    """Compute the log-probabilities of completions, (rows, completion length).

    Prompts are padded on the left, completions on the right. ``model`` carries TRL's fused head, or wraps a model
    that does (PEFT). ``balance`` needs every token in its row, so it is not for shared prompts.
    """
    longest, width = int(prompt_mask.sum(-1).max()), completion_ids.size(1)
    prompt_ids, prompt_mask = prompt_ids[:, -longest:], prompt_mask[:, -longest:]
    needed = int(completion_mask.sum(-1).max())
    completion_ids, completion_mask = completion_ids[:, :needed], completion_mask[:, :needed]
    read = needed if balance else needed - 1  # nothing is predicted behind the last token, but an expert reads it
    mask = torch.cat([prompt_mask, completion_mask[:, :read]], dim=1)
    ids = torch.cat([prompt_ids, completion_ids[:, :read]], dim=1)
    cached: dict[str, Any] = {}
    if share and longest > 1:
        # All but the last token of the prompt: that one predicts the first of the completion, row by row.
        cached = _encode_prompts(model, prompt_ids[:, :-1], prompt_mask[:, :-1])
        ids = ids[:, longest - 1 :]
    labels = completion_ids.masked_fill(completion_mask == 0, -100)
    told = describe_tokens(model, mask, ids.size(1))
    if balance:
        told["output_router_logits"] = True
    behind = read + 1 - needed
    before = ids.size(1) - needed - behind  # tokens before the one that predicts the first of the completion
    output = model(
        input_ids=ids,
        shift_labels=torch.nn.functional.pad(labels, (before, behind), value=-100),
        fused_lm_head=True,
        **told,
        **cached,
    )

    def place(made: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(made[:, before : before + needed], (0, width - needed))

    entropy = None if output.entropy is None else place(output.entropy)
    return TokenLogProbs(place(output.log_probs), entropy, output.aux_loss if balance else None)


def _encode_prompts(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, Any]:
    """Encode each of the neighbouring equal prompts once; return the arguments that continue all rows from there."""
    first, owner = find_first_rows(ids, mask)
    cache, cached = build_cache(model)
    find_base(model).base_model(input_ids=ids[first], **describe_tokens(model, mask[first], ids.size(1)), **cached)
    cache.reorder_cache(owner)
    return {name: value for name, value in cached.items() if value is cache}


def find_first_rows(prompt_ids: torch.Tensor, prompt_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the rows at which a new prompt begins, and for each row the number of the prompt it has."""
    same = (prompt_ids[1:] == prompt_ids[:-1]).all(-1) & (prompt_mask[1:] == prompt_mask[:-1]).all(-1)
    new = torch.cat([same.new_ones(1), ~same])
    return new.nonzero().squeeze(-1), new.cumsum(0) - 1
