"""Model and tokenizer from a name: the embedded tiny model, a local folder or a hub id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from harness.errors import InputError
from harness.hub import hub_answers
from harness.spec import LoraSpec, ModelSpec
from harness.types import Prompt

TINY = "tiny"
TINY_CONTEXT = 128
DEFAULT_LORA_RANK = 16
TAGS = ("<start_working_out>", "<end_working_out>", "<SOLUTION>", "</SOLUTION>")
_TINY_ALPHABET = [chr(code) for code in range(32, 127)] + ["\n"]


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer. ``chat`` says that prompts go through the chat template."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    chat: bool
    context: int
    recommended_group_size: int | None = None

    def render(self, prompt: Prompt) -> str | list[dict[str, str]]:
        """The prompt as TRL takes it: messages for a chat model, else plain text."""
        if not self.chat:
            return f"{prompt.system}\n\n{prompt.text}" if prompt.system else prompt.text
        system = [{"role": "system", "content": prompt.system}] if prompt.system else []
        return [*system, {"role": "user", "content": prompt.text}]

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of the rendered prompt, as generation sees them."""
        rendered = self.render(prompt)
        if isinstance(rendered, str):
            ids: list[int] = self.tokenizer(rendered)["input_ids"]
            return ids
        encoded = self.tokenizer.apply_chat_template(
            rendered, add_generation_prompt=True, tokenize=True, return_dict=True
        )
        return list(encoded["input_ids"])


def build_tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token per printable ASCII character and per tag, so that arithmetic is visible digit by digit."""
    specials = ["<pad>", "<eos>", "<unk>"]
    vocabulary = {token: i for i, token in enumerate([*specials, *TAGS, *_TINY_ALPHABET])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    # The tags are ordinary text to a reward, so they must survive skip_special_tokens.
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )


def build_tiny_model(seed: int, context: int = TINY_CONTEXT) -> LlamaForCausalLM:
    """A Llama of 0.9 million parameters with weights drawn from ``seed``.

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


def load_model(spec: ModelSpec, lora: LoraSpec, *, seed: int) -> LoadedModel:
    """The model of a spec, with a fresh adapter where ``lora`` asks for one. Raises InputError."""
    if spec.name == TINY:
        context = spec.max_length or TINY_CONTEXT
        model: PreTrainedModel = build_tiny_model(seed, context)
        tokenizer: PreTrainedTokenizerBase = build_tiny_tokenizer()
    else:
        model, tokenizer = _load_pretrained(spec)
        context = spec.max_length or int(getattr(model.config, "max_position_embeddings", 2048))
    rank = lora.rank if lora.rank is not None else (0 if spec.name == TINY else DEFAULT_LORA_RANK)
    if rank and not isinstance(model, PeftModel):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = get_peft_model(
                model,
                LoraConfig(
                    r=rank,
                    lora_alpha=lora.alpha,
                    lora_dropout=lora.dropout,
                    target_modules=lora.target_modules,
                    task_type="CAUSAL_LM",
                ),
            )
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        chat=tokenizer.chat_template is not None,
        context=context,
        recommended_group_size=getattr(model.config, "recommended_group_size", None),
    )


def save_weights(model: PreTrainedModel | PeftModel, folder: Path) -> None:
    """Model or adapter into ``folder``, as transformers or peft load it."""
    if isinstance(model, PeftModel):
        # PEFT keeps the names in a set, so the file would differ from process to process.
        config = model.peft_config["default"]
        if isinstance(config.target_modules, set):
            config.target_modules = sorted(config.target_modules)
        model.save_pretrained(folder, selected_adapters=["default"])
        (folder / "README.md").unlink(missing_ok=True)  # a form to fill in, of which PEFT shuffles the tags
    else:
        model.save_pretrained(folder, max_shard_size="1TB")


def load_weights(model: PreTrainedModel | PeftModel, folder: Path) -> None:
    """Weights of ``save_weights`` into the model in memory."""
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(
            model, safetensors.torch.load_file(folder / "adapter_model.safetensors"), adapter_name="default"
        )
    else:
        safetensors.torch.load_model(model, folder / "model.safetensors")


def _load_pretrained(spec: ModelSpec) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    folder = Path(spec.name)
    is_local = folder.is_dir()
    if not is_local and (spec.name.startswith((".", "/", "~")) or spec.name.count("/") != 1):
        raise InputError(f"model.name: no folder {spec.name}; give {TINY}, a model folder or a hub id such as org/name")
    dtype = {"auto": _natural_dtype(), "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    options: dict[str, Any] = {"revision": spec.revision} if spec.revision else {}
    if not is_local and not hub_answers():
        options["local_files_only"] = True  # without this, minutes of retries come before the error
    try:
        tokenizer = AutoTokenizer.from_pretrained(spec.name, padding_side="left", **options)
        loader = AutoPeftModelForCausalLM if (folder / "adapter_config.json").is_file() else AutoModelForCausalLM
        more = {"is_trainable": True} if loader is AutoPeftModelForCausalLM else {}
        model = loader.from_pretrained(spec.name, dtype=dtype[spec.dtype], **options, **more)
    except Exception as error:  # transformers raises many kinds; all of them mean that this name gives no model
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if options.get("local_files_only"):
            first_line = "the hub is out of reach and the model is not in the local cache; give a model folder"
        raise InputError(f"model.name: cannot load {spec.name}: {first_line}") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def _natural_dtype() -> torch.dtype:
    return torch.bfloat16 if torch.cuda.is_available() else torch.float32
