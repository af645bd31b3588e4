"""Log-probabilities of completions with each prompt encoded once, though many completions share it.

A plain forward pass encodes the prompt again beside every completion of its group. Here neighbouring rows with the
same prompt share one pass over it: its keys and values are repeated for the rows, and gradients flow back through
them, so the gradient is the plain one up to float rounding (tests/training/test_grpo.py states by how much).
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache

from harness.models.generate import positions_of


def compute_log_probs(
    model: Any,
    prompt_ids: torch.Tensor,
    prompt_mask: torch.Tensor,
    completion_ids: torch.Tensor,
    completion_mask: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Compute each completion token's log-probability, (rows, completion length), and entropy if the head gives it.

    Prompts are padded on the left, completions on the right. ``model`` carries TRL's fused head, or wraps a model
    that does (PEFT).
    """
    longest, width = int(prompt_mask.sum(-1).max()), completion_ids.size(1)
    prompt_ids, prompt_mask = prompt_ids[:, -longest:], prompt_mask[:, -longest:]
    needed = int(completion_mask.sum(-1).max())
    completion_ids, completion_mask = completion_ids[:, :needed], completion_mask[:, :needed]
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    first, owner = find_first_rows(prompt_ids, prompt_mask)
    cache = None
    if longest > 1:
        # All but the last token of the prompt: that one predicts the first of the completion, row by row.
        mask = prompt_mask[first, :-1]
        cache = DynamicCache(config=base.config.get_text_config())
        base.base_model(
            input_ids=prompt_ids[first, :-1], attention_mask=mask, position_ids=positions_of(mask),
            past_key_values=cache, use_cache=True,
        )  # fmt: skip
        cache.reorder_cache(owner)
    ids = torch.cat([prompt_ids[:, -1:], completion_ids[:, :-1]], dim=1)
    mask = torch.cat([prompt_mask, completion_mask[:, :-1]], dim=1)
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions_of(mask)[:, longest - 1 :],
        past_key_values=cache,
        shift_labels=completion_ids.masked_fill(completion_mask == 0, -100),
        fused_lm_head=True,
    )
    beyond = (0, width - needed)
    entropy = None if output.entropy is None else torch.nn.functional.pad(output.entropy, beyond)
    return torch.nn.functional.pad(output.log_probs, beyond), entropy


def find_first_rows(prompt_ids: torch.Tensor, prompt_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the rows at which a new prompt begins, and for each row the number of the prompt it has."""
    same = (prompt_ids[1:] == prompt_ids[:-1]).all(-1) & (prompt_mask[1:] == prompt_mask[:-1]).all(-1)
    new = torch.cat([same.new_ones(1), ~same])
    return new.nonzero().squeeze(-1), new.cumsum(0) - 1


def can_share_prompts(model: Any, pad_id: int) -> bool:
    """Test whether shared prompts give this model the log-probabilities and gradients of a plain forward pass.

    Tried, not looked up: models that carry a state instead of a cache, or cut gradients at it, fail here.
    """
    device = next(model.parameters()).device
    prompt_ids = torch.tensor([[pad_id, 5, 6, 7]] * 2 + [[8, 9, 10, 11]], device=device)
    prompt_mask = torch.tensor([[0, 1, 1, 1]] * 2 + [[1, 1, 1, 1]], device=device)
    completion_ids = torch.tensor([[12, 13, 14], [15, 16, pad_id], [17, 18, 19]], device=device)
    completion_mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1]], device=device)
    # Gradients of the earliest weights pass through everything; all of them would double the memory of a large model.
    watched = [p for p in model.parameters() if p.requires_grad][:4]
    was_training = model.training
    model.eval()  # dropout would tell the two apart
    ids = torch.cat([prompt_ids, completion_ids], dim=1)
    mask = torch.cat([prompt_mask, completion_mask], dim=1)
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :4] = -100
    try:
        shared, _ = compute_log_probs(model, prompt_ids, prompt_mask, completion_ids, completion_mask)
        plain = model(
            input_ids=ids, attention_mask=mask, position_ids=positions_of(mask), labels=labels, fused_lm_head=True
        ).log_probs[:, -3:]
        results = []
        for log_probs in (shared, plain):
            gradients = torch.autograd.grad((log_probs * completion_mask).sum(), watched, allow_unused=True)
            norms = torch.stack([g.float().norm() for g in gradients if g is not None])
            results.append((log_probs.detach().float() * completion_mask, norms))
    except Exception:  # whatever a model without a usable cache raises
        return False
    finally:
        model.train(was_training)
        model.zero_grad()
    tolerance = 1e-3 if next(model.parameters()).dtype == torch.float32 else 0.1
    return all(
        mine.shape == other.shape and torch.allclose(mine, other, rtol=tolerance, atol=tolerance * other.abs().max())
        for mine, other in zip(*results, strict=True)
    )
