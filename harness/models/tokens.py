"""Make a tokenizer ready for training: how a text ends, what prompts look like, added tokens; and decode with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import torch
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedModel

from harness.errors import InputError


def eos_ids_of(model: PreTrainedModel, tokenizer: Any) -> list[int]:
    """Return every token that ends a completion: the tokenizer's and those the model declares."""
    declared = model.generation_config.eos_token_id
    ids = [declared] if isinstance(declared, int) else list(declared or [])
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ids:
        ids.insert(0, tokenizer.eos_token_id)
    return ids


def decode(model: PreTrainedModel, tokenizer: Any, rows: Sequence[Sequence[int]]) -> list[str]:
    """Decode completions as rewards and people see them, without the tokens that mark end, padding, beginning and the
    unknown.

    Other special tokens stay. ``<think>`` is one in many vocabularies, and a reward of its format must see it.
    """
    marks = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id}
    hidden = {*eos_ids_of(model, tokenizer), *(marks & set(tokenizer.all_special_ids))}
    shown = [[token for token in row if token not in hidden] for row in rows]
    texts: list[str] = tokenizer.batch_decode(shown, skip_special_tokens=False, spaces_between_special_tokens=False)
    return texts


def settle_ends(model: PreTrainedModel, tokenizer: Any, name: str, *, chat: bool) -> None:
    """See to it that there is an end and a padding token, and that a plain prompt does not end with the end token.
    Raises InputError."""
    if tokenizer.eos_token is None:
        ends = eos_ids_of(model, tokenizer)
        if not ends:
            raise InputError(
                f"model.name: {name} has no end token, so no completion would ever end: name one as eos_token in its "
                "tokenizer_config.json"
            )
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if not chat and _ends_prompts(tokenizer):
        _leave_prompts_open(tokenizer)
        if _ends_prompts(tokenizer):
            raise InputError(
                f"model.name: the tokenizer of {name} puts its end token behind every prompt, so that nothing is left "
                "to complete: set add_eos_token to false in its tokenizer_config.json"
            )


def _ends_prompts(tokenizer: Any) -> bool:
    ids: list[int] = tokenizer("a")["input_ids"]
    return len(ids) > 1 and ids[-1] == tokenizer.eos_token_id


def _leave_prompts_open(tokenizer: Any) -> None:
    """Keep what is put before a text, and nothing behind it."""
    before = tokenizer("")["input_ids"]
    while before and before[-1] == tokenizer.eos_token_id:
        before.pop()
    tokens = tokenizer.convert_ids_to_tokens(before)
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=[*tokens, "$A"], special_tokens=list(zip(tokens, before, strict=True))
        )
    else:
        tokenizer.add_eos_token = False


def fix_date(tokenizer: Any, date: str | None) -> str | None:
    """Give a chat template that shows the date always the same one: ``date`` (ISO), else today. Returns it, None for a
    template without a date. The template that is saved stays as it is."""
    templates = tokenizer.chat_template or ""
    shown = templates.values() if isinstance(templates, dict) else [templates]  # one for tools beside the default
    if not any("strftime_now" in template for template in shown):
        return None
    day = datetime.fromisoformat(date or f"{datetime.now():%Y-%m-%d}")
    # Templates take no functions from outside, so one in their own language, of the same name.
    directives = [f"%{flag}{letter}" for flag in ("-", "") for letter in "aAbBcdeHIjmMpSuUwWxXyYZ"]
    filled = "".join(f"|replace({each!r}, {day.strftime(each)!r})" for each in directives)
    macro = "{%- macro strftime_now(format) -%}{{ format" + filled + " }}{%- endmacro %}{{ '' }}"
    tokenizer.apply_chat_template = partial(
        _apply_dated, tokenizer.apply_chat_template, tokenizer.get_chat_template, macro
    )
    return f"{day:%Y-%m-%d}"


def _apply_dated(
    apply: Callable[..., Any],
    find_template: Callable[..., str],
    macro: str,
    messages: Any,
    tools: Any = None,
    *args: Any,
    chat_template: str | None = None,
    **options: Any,
) -> Any:
    return apply(messages, tools, *args, chat_template=macro + find_template(chat_template, tools), **options)


def add_tokens(model: PreTrainedModel, tokenizer: Any, tokens: Sequence[str], seed: int) -> list[int]:
    """Add those of ``tokens`` that the vocabulary lacks, with embeddings drawn around the mean of the others. Returns
    their ids."""
    known = tokenizer.get_vocab()
    new = [AddedToken(token, special=False, normalized=False) for token in tokens if token not in known]
    if not new:
        return []
    tokenizer.add_tokens(new)
    grow_embeddings(model, tokenizer, seed)
    ids: list[int] = tokenizer.convert_tokens_to_ids([str(token) for token in new])
    return ids


def grow_embeddings(model: PreTrainedModel, tokenizer: Any, seed: int) -> None:
    """Give every token of ``tokenizer`` a row in the embeddings. Some models have rows to spare."""
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model.resize_token_embeddings(len(tokenizer))
