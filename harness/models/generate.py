"""Sampling completions: one loop for rollouts, evaluation and samples.

Three things that ``model.generate`` does not do: a prompt shared by neighbouring rows is encoded once, rows that
have ended leave the batch, and each row has its own random numbers. So a row's text does not depend on which other
rows are sampled beside it (beyond float rounding), and a batch can be cut smaller without sampling anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, StopStringCriteria

from harness.errors import Diverged
from harness.models.forward import build_cache, describe_tokens, takes
from harness.models.load import LoadedModel
from harness.models.runtime import seed_torch
from harness.models.tokens import decode, eos_ids_of
from harness.types import Progress, Prompt

COMPACT_AT = 1 / 8
"""Share of ended rows at which they are taken out of the batch: each time costs a copy of the cache."""


@dataclass(frozen=True, slots=True)
class Generated:
    """``n`` completions. ``ids`` are without padding; ``truncated`` says which were cut by the token limit.

    When sampled (temperature above 0), ``log_probs`` (n, longest) holds each token's log-probability at the
    sampling temperature, 0 after the end, and ``entropy`` (n,) the summed entropy in nats over a row's tokens.
    """

    ids: list[list[int]]
    truncated: list[bool]
    log_probs: torch.Tensor
    entropy: torch.Tensor


def find_shared(prompts: Sequence[Sequence[int]]) -> tuple[list[Sequence[int]], list[int]]:
    """Take neighbouring equal prompts together: the distinct ones, and for each row which of them it has."""
    distinct: list[Sequence[int]] = []
    owner = []
    for prompt in prompts:
        if not distinct or list(prompt) != list(distinct[-1]):
            distinct.append(prompt)
        owner.append(len(distinct) - 1)
    return distinct, owner


def pad_left(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and attention mask, both (rows, longest)."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


@torch.no_grad()
def generate_ids(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    temperature: float,
    top_p: float = 1.0,
    eos_ids: Sequence[int],
    pad_id: int,
    stop: StopStringCriteria | None = None,
    uniforms: torch.Tensor | None = None,
    lengths: Sequence[int] | None = None,
    report: Callable[[int], None] = lambda ended: None,
) -> Generated:
    """Generate one completion for each prompt (token ids). ``temperature`` 0 is greedy.

    ``uniforms`` (n, max_tokens) in [0, 1) are the random numbers of the rows, needed when sampling. With ``lengths``
    (n) each ends after so many tokens, whatever they are: a rehearsal of what another model will answer.
    Raises Diverged when the model's outputs are not finite.
    """
    device, n = model.device, len(prompts)
    distinct, owner = find_shared(prompts)
    ids, mask = pad_left(distinct, pad_id, device)
    cache, cached = build_cache(model)
    only_last = {"logits_to_keep": 1} if takes(model, "logits_to_keep") else {}

    def forward(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        output = model(input_ids=ids, **describe_tokens(model, mask, ids.size(1)), **cached, **only_last)
        last: torch.Tensor = output.logits[:, -1]
        return last.float()

    logits = forward(ids, mask)
    rows = torch.tensor(owner, device=device)
    if len(distinct) < n:
        cache.reorder_cache(rows)
    logits, mask = logits[rows], mask[rows]

    ends = torch.tensor(list(eos_ids), device=device)
    tokens = torch.full((n, max_tokens), pad_id, device=device)
    log_probs = torch.zeros(n, max_tokens, device=device)
    entropy = torch.zeros(n, device=device)
    taken = torch.zeros(n, dtype=torch.long, device=device)
    wanted = None if lengths is None else torch.tensor(list(lengths), device=device)
    here = torch.arange(n, device=device)  # which row sits at each place of the batch
    running = torch.ones(n, dtype=torch.bool, device=device)  # by place
    numbers = None if uniforms is None else uniforms.to(device)
    ended = 0
    for t in range(max_tokens):
        if temperature > 0:
            if numbers is None:
                raise ValueError("sampling at a temperature above 0 needs uniforms")
            chosen, log_prob, spread = sample_tokens(logits, temperature, top_p, numbers[here, t])
            log_probs[here, t] = torch.where(running, log_prob, 0.0)
            entropy[here] += torch.where(running, spread, 0.0)
        else:
            chosen = logits.argmax(-1)
        tokens[here, t] = torch.where(running, chosen, pad_id)
        taken[here] += running
        done = torch.isin(chosen, ends) if wanted is None else wanted[here] <= t + 1
        if stop is not None and wanted is None:
            done |= stop(tokens[here, : t + 1], logits)
        running &= ~done
        left = int(running.sum())
        if n - left > ended:
            ended = n - left
            report(ended)
        if not left or t + 1 == max_tokens:
            break
        if left <= (1 - COMPACT_AT) * len(here):
            keep = running.nonzero().squeeze(-1)
            cache.reorder_cache(keep)
            here, running, chosen = here[keep], running[keep], chosen[keep]
            mask = mask[keep]
        mask = torch.cat([mask, mask.new_ones(len(here), 1)], dim=1)
        logits = forward(chosen.unsqueeze(1), mask)
    if not torch.isfinite(entropy).all() or not torch.isfinite(logits).any(-1).all():
        raise Diverged("the model's outputs are not finite numbers")
    cut = torch.zeros(n, dtype=torch.bool, device=device)
    cut[here[running]] = True
    longest = int(taken.max())
    return Generated(
        [row[:length] for row, length in zip(tokens.tolist(), taken.tolist(), strict=True)],
        cut.tolist(),
        log_probs[:, :longest],
        entropy,
    )


def sample_tokens(
    logits: torch.Tensor, temperature: float, top_p: float, uniforms: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sample a token for each row of ``logits`` (rows, vocabulary), by inverting its distribution at one uniform number
    a row.

    Also the token's log-probability and the entropy in nats, both of the distribution before ``top_p`` cuts it,
    since that is the one the loss sees.
    """
    log_p = torch.log_softmax(logits / temperature, dim=-1)
    p = log_p.exp()
    entropy = torch.special.entr(p).sum(-1)
    weights = p
    if top_p < 1:
        ordered, order = p.sort(dim=-1, descending=True)
        beyond = ordered.cumsum(-1) - ordered >= top_p  # the token that crosses the line still counts
        weights = p.masked_fill(beyond.gather(-1, order.argsort(-1)), 0.0)
    # Float64: over a large vocabulary a float32 sum loses the rare tokens.
    reached = weights.cumsum(-1, dtype=torch.float64)
    target = uniforms.to(torch.float64).unsqueeze(-1) * reached[:, -1:]
    chosen = torch.searchsorted(reached, target, right=True).squeeze(-1).clamp(max=logits.size(-1) - 1)
    return chosen, log_p.gather(-1, chosen.unsqueeze(-1)).squeeze(-1), entropy


def draw_uniforms(seed: int, rows: int, max_tokens: int) -> torch.Tensor:
    """Draw the random numbers of ``rows`` completions, (rows, max_tokens) in [0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, max_tokens, dtype=torch.float64, generator=generator)


def build_stop(tokenizer: Any, stop: Sequence[str]) -> StopStringCriteria | None:
    """Build what ends a completion at one of the strings ``stop``."""
    return StopStringCriteria(tokenizer, list(stop)) if stop else None


def generate_batches(
    model: PreTrainedModel,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    batch_size: int,
    max_tokens: int,
    temperature: float,
    top_p: float,
    stop: Sequence[str],
    seed: int,
    lengths: Sequence[int] | None = None,
    report: Callable[[int], None],
) -> Iterator[Generated]:
    """Generate one completion for each prompt (token ids), at most ``batch_size`` at a time. The random numbers of a
    row do not depend on that size. ``lengths`` as in generate_ids; ``report`` is told how many of all have ended."""
    uniforms = draw_uniforms(seed, len(prompts), max_tokens) if temperature > 0 else None
    for start in range(0, len(prompts), batch_size):
        part = slice(start, start + batch_size)

        def report_ended(ended: int, start: int = start) -> None:
            report(start + ended)

        yield generate_ids(
            model,
            prompts[part],
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            eos_ids=eos_ids_of(model, tokenizer),
            pad_id=tokenizer.pad_token_id,
            stop=build_stop(tokenizer, stop),
            uniforms=None if uniforms is None else uniforms[part],
            lengths=None if lengths is None else lengths[part],
            report=report_ended,
        )


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """A completion before it is scored; ``truncated`` when it ended by the token limit."""

    text: str
    ids: list[int]
    truncated: bool


def generate_texts(loaded: LoadedModel, prompts: Sequence[Prompt], **settings: Any) -> list[GeneratedText]:
    """Generate all of stream_texts, whose ``settings`` it takes."""
    return list(stream_texts(loaded, prompts, **settings))


def stream_texts(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    *,
    max_tokens: int,
    temperature: float,
    top_p: float = 1.0,
    stop: Sequence[str] = (),
    batch_size: int,
    seed: int,
    lengths: Sequence[int] | None = None,
    progress: Progress,
    phase: str,
) -> Iterator[GeneratedText]:
    """Generate one completion for each prompt, in order, a batch at a time. ``temperature`` 0 is greedy. ``lengths`` as
    in generate_ids."""
    model, tokenizer = loaded.model, loaded.tokenizer
    was_training = model.training
    model.eval()
    seed_torch(seed)  # a reward that draws random numbers takes its seed from here
    done = 0
    try:
        for generated in generate_batches(
            model,
            tokenizer,
            [loaded.prompt_ids(prompt) for prompt in prompts],
            batch_size=batch_size,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            stop=stop,
            seed=seed,
            lengths=lengths,
            report=lambda ended: progress(phase, ended, len(prompts)),
        ):
            decoded = decode(model, tokenizer, generated.ids)
            done += len(decoded)
            progress(phase, done, len(prompts))
            for row in zip(decoded, generated.ids, generated.truncated, strict=True):
                yield GeneratedText(*row)
    finally:
        model.train(was_training)
