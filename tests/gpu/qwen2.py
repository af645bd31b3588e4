"""Models in the shapes of Qwen2, with random weights: nothing is fetched."""

from __future__ import annotations

import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from harness.config.schema import LoraSpec
from harness.models.load import LoadedModel
from harness.models.runtime import find_device
from harness.models.tiny import build_tiny_tokenizer

SHAPES = {  # hidden, intermediate, layers, heads, heads of keys, vocabulary
    "tiny": (64, 128, 2, 4, 2, 512),
    "0.1b": (768, 2048, 12, 12, 4, 32_000),
    "0.5b": (896, 4864, 24, 14, 2, 151_936),
    "1.5b": (1536, 8960, 28, 12, 2, 151_936),
    "7b": (3584, 18_944, 28, 28, 4, 152_064),
}


def build_qwen2(size: str, *, dtype: torch.dtype, lora: bool = False) -> LoadedModel:
    """Build one on the device of this process, with the tokenizer of the embedded model; always the same weights."""
    hidden, intermediate, layers, heads, kv_heads, vocabulary = SHAPES[size]
    tokenizer = build_tiny_tokenizer()
    config = Qwen2Config(
        hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, vocab_size=vocabulary, tie_word_embeddings=size != "7b",
        max_position_embeddings=4096, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with find_device():
            model = Qwen2ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    if lora:
        spec = LoraSpec()
        model = get_peft_model(
            model, LoraConfig(r=16, lora_alpha=spec.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
        )
    return LoadedModel(model, tokenizer, chat=False, context=4096)
