"""Try a model before it is trained: does a token get the same log-probability in every way that a step takes?

Tried, not looked up: sampled from a cache, in a padded batch and with shared prompts, against each row on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from trl.trainer.utils import add_fused_lm_head

from harness.errors import InputError
from harness.models.forward import describe_tokens, find_base
from harness.models.generate import draw_uniforms, generate_ids, pad_left
from harness.models.load import LoadedModel
from harness.training.log_probs import compute_log_probs
from harness.training.reference import Reference

PROMPTS = (range(5, 17), range(5, 17), range(20, 40))
"""Token ids: two rows to share, and a longer one that leaves them padding. A dozen, for states that fade in slowly."""
TOKENS = 4
"""Sampled behind each."""
REQUIRED, SHARED = 1e-3, 2e-5
"""Relative differences in float32: rounding stays far below, and what is left of a wrong mask or state above them."""
NOISE = 0.05
"""Standard deviation of what an adapter is moved by: a fresh one is zero, which hides what it does not reach."""
T = TypeVar("T")


def check_model(loaded: LoadedModel) -> None:
    """Check that a model can be trained here. Raises InputError."""
    model = loaded.model
    base = find_base(model)
    if isinstance(model, PeftModel) and isinstance(model.get_output_embeddings(), BaseTunerLayer):
        raise InputError(
            "lora.target_modules: an adapter on the output layer is not supported; leave that layer out, or merge the "
            "adapter into its base and start from there"
        )
    add_fused_lm_head(base, temperature=1.0)
    try:
        with _still(model):
            _compare(model, loaded.tokenizer.pad_token_id, share=False)
    except InputError as error:
        raise InputError(f"model.name: {type(base).__name__} cannot be trained here: {error}") from None
    finally:
        del base.forward


def can_share_prompts(model: Any, pad_id: int) -> bool:
    """Test whether shared prompts give this model the log-probabilities and gradients of a plain forward pass.

    Models that carry a state instead of a cache, or cut gradients at it, fail here. Raises InputError where sampling or
    a padded batch do not give the log-probabilities of each row alone: no training is right then.
    """
    with _still(model):
        return _compare(model, pad_id, share=True)


@contextmanager
def _still(model: Any) -> Iterator[None]:
    """Switch off dropout, which would tell the ways apart, and move an adapter by noise, while the context is open."""
    was_training = model.training
    model.eval()
    moved = Reference(model) if isinstance(model, PeftModel) else None
    if moved is not None:
        moved.add_noise(NOISE, seed=0)
    try:
        with nullcontext() if moved is None else moved.in_place():
            yield
    finally:
        model.train(was_training)


def _compare(model: Any, pad_id: int, *, share: bool) -> bool:
    """Raise InputError as said above; then, with ``share``, test whether prompts can be shared."""
    device = next(model.parameters()).device
    vocabulary = int(find_base(model).config.get_text_config().vocab_size)
    prompts = [[token % vocabulary for token in prompt] for prompt in PROMPTS]
    uniforms = draw_uniforms(0, len(prompts), TOKENS)
    sampled = _try(
        "sampling",
        lambda: generate_ids(
            model, prompts, max_tokens=TOKENS, temperature=1.0, eos_ids=[], pad_id=pad_id, uniforms=uniforms
        ),
    )
    alone = torch.cat([score_alone(model, *row) for row in zip(prompts, sampled.ids, strict=True)])
    _require("sampling from a cache", model, sampled.log_probs, alone)

    completion_ids = torch.tensor(sampled.ids, device=device)
    completion_mask = torch.ones_like(completion_ids)
    completion_ids[1, -1], completion_mask[1, -1] = pad_id, 0  # one that ends before the others
    tensors = (*pad_left(prompts, pad_id, device), completion_ids, completion_mask)
    with torch.no_grad():
        plain = _try("a padded batch", lambda: compute_log_probs(model, *tensors, share=False).log_probs)
    _require("a padded batch", model, plain, alone * completion_mask)
    if not share:
        return False
    # Those of the embeddings come through everything; all gradients would double the memory of a large model.
    embeddings = model.get_input_embeddings().weight
    is_trained = embeddings.is_leaf and embeddings.requires_grad
    watched = [embeddings] if is_trained else [p for p in model.parameters() if p.requires_grad]

    def measure(*, share: bool) -> tuple[torch.Tensor, torch.Tensor]:
        log_probs = compute_log_probs(model, *tensors, share=share).log_probs
        gradients = torch.autograd.grad(log_probs.sum(), watched, allow_unused=True)
        return log_probs.detach(), torch.stack([g.float().norm() for g in gradients if g is not None])

    plain, gradients = measure(share=False)
    try:
        shared, shared_gradients = measure(share=True)
    except Exception:  # whatever a model without a usable cache raises
        return False
    return _is_close(model, shared, plain, SHARED) and _is_close(model, shared_gradients, gradients, 10 * SHARED)


@torch.no_grad()
def score_alone(model: Any, prompt: Sequence[int], completion: Sequence[int]) -> torch.Tensor:
    """Score one completion in a row of its own, without padding, cache and fused head: (1, its length)."""
    ids = torch.tensor([[*prompt, *completion]], device=next(model.parameters()).device)
    logits = model(input_ids=ids, use_cache=False, **describe_tokens(model, torch.ones_like(ids), ids.size(1))).logits
    behind = ids[:, len(prompt) :].unsqueeze(-1)
    scores: torch.Tensor = logits[:, len(prompt) - 1 : -1].float().log_softmax(-1).gather(-1, behind).squeeze(-1)
    return scores


def _try(what: str, work: Callable[[], T]) -> T:
    try:
        return work()
    except Exception as error:  # whatever an architecture raises at what it does not know
        said = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise InputError(f"{what} fails: {said}") from None


def _require(what: str, model: Any, found: torch.Tensor, alone: torch.Tensor) -> None:
    if not _is_close(model, found, alone, REQUIRED):
        apart = float((found - alone).abs().max())
        raise InputError(f"{what} gives log-probabilities {apart:.2g} nats from those of each row alone")


def _is_close(model: Any, mine: torch.Tensor, other: torch.Tensor, tolerance: float) -> bool:
    weight = next(model.parameters())
    if weight.dtype != torch.float32:
        tolerance = 0.1
    elif weight.device.type != "cpu":
        tolerance = max(tolerance, 1e-2)  # it may multiply in TF32
    return mine.shape == other.shape and torch.allclose(
        mine.float(), other.float(), rtol=tolerance, atol=tolerance * float(other.abs().max())
    )
