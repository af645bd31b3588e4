"""Model and tokenizer from a name: embedded, fetched, a folder, a GGUF file, a hub id, or a PEFT adapter on one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from huggingface_hub import try_to_load_from_cache
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    load_peft_weights,
    set_peft_model_state_dict,
)
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.peft_utils import find_adapter_config_file

from harness.config.names import SMOLLM2, TINY
from harness.config.schema import LoraSpec, ModelSpec
from harness.errors import InputError
from harness.models.gguf import load_gguf
from harness.models.hub import check_model_name, hub_answers
from harness.models.memory import check_weights_fit
from harness.models.runtime import find_device
from harness.models.smollm2 import fetch_smollm2
from harness.models.tiny import TINY_CONTEXT, build_tiny_model, build_tiny_tokenizer
from harness.types import Prompt

DEFAULT_LORA_RANK = 16


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer. ``chat`` says that prompts go through the chat template."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    chat: bool
    context: int
    recommended_group_size: int | None = None

    def render(self, prompt: Prompt) -> str | list[dict[str, str]]:
        """Render the prompt as TRL takes it: messages for a chat model, else plain text.

        Tools of a prompt (its column ``tools``) are left to the chat template where that shows them, else they are
        told in the system message.
        """
        tools = prompt.columns.get("tools")
        told = describe_tools(tools) if tools and not self.shows_tools else ""
        system_text = "\n\n".join(filter(None, (prompt.system, told)))
        if not self.chat:
            return f"{system_text}\n\n{prompt.text}" if system_text else prompt.text
        system = [{"role": "system", "content": system_text}] if system_text else []
        return [*system, {"role": "user", "content": prompt.text}]

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Return the token ids of the rendered prompt, as generation sees them."""
        rendered = self.render(prompt)
        if isinstance(rendered, str):
            ids: list[int] = self.tokenizer(rendered)["input_ids"]
            return ids
        encoded = self.tokenizer.apply_chat_template(
            rendered,
            tools=(prompt.columns.get("tools") or None) if self.shows_tools else None,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
        )
        return list(encoded["input_ids"])

    @cached_property
    def shows_tools(self) -> bool:
        """Test whether the chat template puts tools into a prompt; many leave them out without a word."""
        if not self.chat:
            return False
        name = "look_up_the_tides"
        tool = {"type": "function", "function": {"name": name, "description": "", "parameters": {"type": "object"}}}
        asked = [{"role": "user", "content": "When?"}]
        try:
            return name in str(self.tokenizer.apply_chat_template(asked, tools=[tool], tokenize=False))
        except Exception:  # whatever a template raises at what it does not expect
            return False


def describe_tools(tools: Sequence[Any]) -> str:
    """Describe tools for a chat template that does not show them; calls are as rewards/function_call.py takes them."""
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return (
        "You can call these functions, given as JSON, one a line:\n"
        f"<tools>\n{listed}\n</tools>\n"
        "For each call write its name and arguments as JSON between tags, and nothing after it:\n"
        '<tool_call>\n{"name": "...", "arguments": {...}}\n</tool_call>'
    )


def load_model(spec: ModelSpec, lora: LoraSpec, *, seed: int) -> LoadedModel:
    """Load the model of a spec, with a fresh adapter where ``lora`` asks for one. An adapter that ``spec`` names is
    trained on, whatever ``lora`` says. Raises InputError."""
    rank = lora.rank if lora.rank is not None else (0 if spec.name == TINY else DEFAULT_LORA_RANK)
    model, tokenizer = _load(spec, seed, full=rank == 0)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise InputError(
            f"model.name: {spec.name}: its tokenizer has {len(tokenizer):,} tokens and the model {rows:,}, so they do "
            "not belong together; give a folder with the model's own tokenizer"
        )
    if rank and not isinstance(model, PeftModel):
        with torch.random.fork_rng(devices=[]), _in_one_line(f"lora: no adapter can be put on {spec.name}"):
            torch.manual_seed(seed)
            config = LoraConfig(
                r=rank,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                target_modules=lora.target_modules,
                task_type="CAUSAL_LM",
            )
            model = get_peft_model(model, config)
    elif spec.quantization is not None and not isinstance(model, PeftModel):
        raise InputError(
            "lora.rank: a model in 4 bits has no weights to train but those of an adapter: use lora.rank=16"
        )
    if spec.wants_chat and tokenizer.chat_template is None:
        raise InputError(
            f"model.chat: {spec.name} has no chat template; take an instruction-tuned model, put a chat_template.jinja "
            "into its folder, or set model.chat=false to prompt it with plain text"
        )
    config = (model.get_base_model() if isinstance(model, PeftModel) else model).config
    own = TINY_CONTEXT if spec.name == TINY else getattr(config.get_text_config(), "max_position_embeddings", 2048)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        chat=spec.wants_chat,
        context=spec.max_length or int(own),
        recommended_group_size=getattr(config, "recommended_group_size", None),
    )


def save_weights(model: PreTrainedModel | PeftModel, folder: Path) -> None:
    """Save model or adapter into ``folder``, as transformers or peft load it."""
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
    """Load weights of ``save_weights`` into the model in memory."""
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(
            model, safetensors.torch.load_file(folder / "adapter_model.safetensors"), adapter_name="default"
        )
    else:
        safetensors.torch.load_model(model, folder / "model.safetensors")


# ---------------------------------------------------------------- from outside


def _load(spec: ModelSpec, seed: int, *, full: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load by name. ``full`` says that all weights will be trained, not an adapter. Raises InputError."""
    if spec.name == TINY:
        return build_tiny_model(seed, spec.max_length or TINY_CONTEXT), build_tiny_tokenizer()
    with _in_one_line(f"model.name: cannot load {spec.name}"):
        if spec.name == SMOLLM2:
            return _load_pretrained(spec, str(fetch_smollm2()), {}, full=full)
        if spec.name.endswith(".gguf"):
            return _load_gguf(spec, Path(spec.name).absolute(), full=full)
        options = _find(spec)
        if find_adapter_config_file(spec.name, **options) is not None:
            return _load_adapter(spec, options, seed)
        if spec.base is not None:
            raise InputError(f"model.base: {spec.name} is a whole model, not an adapter; leave model.base out")
        place = str(Path(spec.name).absolute()) if Path(spec.name).is_dir() else spec.name
        return _load_pretrained(spec, place, options, full=full)


def _find(spec: ModelSpec) -> dict[str, Any]:
    """Return the options with which the libraries find a folder or a hub id. Raises InputError when it is neither, or
    out of reach."""
    if Path(spec.name).is_dir():
        return {}
    check_model_name(spec.name)
    options: dict[str, Any] = {"revision": spec.revision} if spec.revision else {}
    if hub_answers():
        return options
    # The libraries would try again for minutes before they say so.
    files = ("config.json", "adapter_config.json")
    cached = (try_to_load_from_cache(spec.name, file, revision=spec.revision) for file in files)
    if not any(isinstance(path, str) for path in cached):
        raise InputError(
            f"model.name: the hub is out of reach and {spec.name} is not in the local cache; give a model folder, "
            f"or {SMOLLM2}, which comes from the package registry"
        )
    return options | {"local_files_only": True}


def _load_adapter(spec: ModelSpec, options: Mapping[str, Any], seed: int) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """Load an adapter on its base, ready to be trained on."""
    base = spec.base or PeftConfig.from_pretrained(spec.name, **options).base_model_name_or_path
    if not base:
        raise InputError(f"model.base: the adapter {spec.name} does not say which model it is for: give it")
    model, tokenizer = _load(spec.model_copy(update={"name": base, "base": None, "revision": None}), seed, full=False)
    misfit = f"model.name: the adapter {spec.name} does not fit its base {base}"
    with _in_one_line(misfit):
        adapted = PeftModel.from_pretrained(model, spec.name, is_trainable=True, **options)
        held = load_peft_weights(spec.name, device="cpu", **options)
    if held.keys() != get_peft_model_state_dict(adapted).keys():  # PEFT passes over layers that the base lacks
        raise InputError(f"{misfit}: it has other layers; give the right one as model.base")
    if (Path(spec.name) / "tokenizer_config.json").is_file():
        tokenizer = AutoTokenizer.from_pretrained(spec.name, padding_side="left", **options)
    return adapted, tokenizer


def _load_gguf(spec: ModelSpec, path: Path, *, full: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if not path.is_file():
        raise InputError(f"model.name: no file {spec.name}")
    if spec.quantization is not None:
        raise InputError("model.quantization: a GGUF file is unpacked when it is read; give a folder or a hub id")
    dtype = _choose_dtype(spec, full=full)
    check_weights_fit(spec, AutoConfig.from_pretrained(path.parent, gguf_file=path.name), dtype)
    model, tokenizer = load_gguf(path, dtype)
    model.name_or_path = str(path)
    return model.to(find_device()), tokenizer


def _load_pretrained(
    spec: ModelSpec, place: str, options: Mapping[str, Any], *, full: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the folder or hub id ``place``; ``options`` as the libraries take them."""
    dtype = _choose_dtype(spec, full=full)
    tokenizer = AutoTokenizer.from_pretrained(place, padding_side="left", **options)
    check_weights_fit(spec, AutoConfig.from_pretrained(place, **options), dtype)
    if spec.quantization is None:
        model = AutoModelForCausalLM.from_pretrained(place, dtype=dtype, **options).to(find_device())
    else:
        four_bit = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
        model = AutoModelForCausalLM.from_pretrained(
            place, dtype=dtype, quantization_config=four_bit, device_map={"": find_device()}, **options
        )
    model.name_or_path = place  # what a saved adapter names as its base
    return model, tokenizer


def _choose_dtype(spec: ModelSpec, *, full: bool) -> torch.dtype:
    """Choose bfloat16 on a GPU, except for weights that are trained themselves: small updates would be rounded away."""
    if spec.dtype != "auto":
        dtype: torch.dtype = getattr(torch, spec.dtype)
        return dtype
    return torch.bfloat16 if torch.cuda.is_available() and not full else torch.float32


@contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    """Turn whatever transformers or PEFT raise (many kinds, many lines) into an InputError of one line after
    ``what``."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # A state dict that does not fit says so under a heading without content.
        said = next((line for line in lines if not line.endswith(":")), type(error).__name__)
        raise InputError(f"{what}: {said}") from None
