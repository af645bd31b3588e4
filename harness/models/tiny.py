"""Build the embedded model: small enough to be built from a seed, so a run needs no download."""

from __future__ import annotations

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TINY_CONTEXT = 128
TAGS = ("<start_working_out>", "<end_working_out>", "<SOLUTION>", "</SOLUTION>")
_ALPHABET = [chr(code) for code in range(32, 127)] + ["\n"]


def build_tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Build a tokenizer with one token per printable ASCII character and per tag, so that arithmetic is visible digit
    by digit."""
    specials = ["<pad>", "<eos>", "<unk>"]
    vocabulary = {token: i for i, token in enumerate([*specials, *TAGS, *_ALPHABET])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    # The tags are ordinary text to a reward, so they must survive skip_special_tokens.
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )


def build_tiny_model(seed: int, context: int = TINY_CONTEXT) -> LlamaForCausalLM:
    """Build a Llama of 0.9 million parameters with weights drawn from ``seed``.

    Rotary base and initial spread suit its short texts: with Llama's own (10,000 and 0.02) the warm start
    took more than twice the steps to learn which digits belong together, and on some seeds did not.
    """
    tokenizer = build_tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=1024,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=context,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        initializer_range=0.05,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return model.to(torch.float32)
