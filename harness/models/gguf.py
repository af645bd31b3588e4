"""GGUF files as plain models: their weights unpacked to numbers that can be trained and saved."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase


def load_gguf(path: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load model and tokenizer of a GGUF file. Raises what transformers raises, e.g. for an unknown architecture."""
    # Unpacked even where kernels for packed weights are installed: such a model can be neither trained nor saved.
    unpack = GgufConfig(dequantize=True)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=dtype, quantization_config=unpack
    )
    return model, tokenizer
