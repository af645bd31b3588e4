"""Model and tokenizer from a name: embedded, fetched, a folder, a GGUF file, a hub id, or a PEFT adapter on one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

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
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import TrainableTokensWrapper
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.peft_utils import find_adapter_config_file

from harness.config.names import SMOLLM2, TINY
from harness.config.schema import LoraSpec, ModelSpec, PoolSpec, nearest
from harness.errors import InputError
from harness.models.gguf import load_gguf
from harness.models.hub import check_model_name, hub_answers
from harness.models.memory import check_weights_fit
from harness.models.render import Renderer
from harness.models.runtime import find_device
from harness.models.smollm2 import fetch_smollm2
from harness.models.tiny import TINY_CONTEXT, build_tiny_model, build_tiny_tokenizer
from harness.models.tokens import add_tokens, fix_date, grow_embeddings, settle_ends
from harness.types import Prompt

DEFAULT_LORA_RANK = 16


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer. ``chat`` says that prompts go through the chat template, as the pool wants it:
    ``template_kwargs`` and ``system_in_user`` as in PoolSpec."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    chat: bool
    context: int
    recommended_group_size: int | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    system_in_user: bool = False
    date: str | None = None
    """The one that the chat template shows, None where it shows none."""

    @cached_property
    def renderer(self) -> Renderer:
        return Renderer(self.tokenizer, self.chat, self.template_kwargs, self.system_in_user)

    def render(self, prompt: Prompt) -> str:
        """Render the prompt as the text that a completion continues. Raises InputError."""
        return self.renderer.render(prompt)

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Return the token ids of the rendered prompt, as generation sees them. Raises InputError."""
        return self.renderer.prompt_ids(prompt)


def load_model(spec: ModelSpec, lora: LoraSpec, *, seed: int, pool: PoolSpec | None = None) -> LoadedModel:
    """Load the model of a spec, with a fresh adapter where ``lora`` asks for one. An adapter that ``spec`` names is
    trained on, whatever ``lora`` says. ``pool`` says how prompts are rendered. Raises InputError."""
    pool = pool or PoolSpec()
    rank = lora.rank if lora.rank is not None else (0 if spec.name == TINY else DEFAULT_LORA_RANK)
    if spec.quantization is not None and find_spec("bitsandbytes") is None:
        raise InputError(
            f"model.quantization: {spec.quantization} needs the package bitsandbytes, which is not installed: "
            "pip install bitsandbytes, or leave it out"
        )
    model, tokenizer = _load(spec, seed, full=rank == 0)
    settle_ends(model, tokenizer, spec.name, chat=spec.wants_chat)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise InputError(
            f"model.name: {spec.name}: its tokenizer has {len(tokenizer):,} tokens and the model {rows:,}, so they do "
            "not belong together; give a folder with the model's own tokenizer"
        )
    if isinstance(model, PeftModel) and not set(spec.add_tokens) <= tokenizer.get_vocab().keys():
        raise InputError(
            f"model.add_tokens: the adapter {spec.name} has no weights for new tokens; merge it into its base, and "
            "start from that"
        )
    added = add_tokens(model, tokenizer, spec.add_tokens, seed)
    if rank and not isinstance(model, PeftModel):
        with torch.random.fork_rng(devices=[]), _in_one_line(f"lora: no adapter can be put on {spec.name}"):
            torch.manual_seed(seed)
            config = LoraConfig(
                r=rank,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                target_modules=lora.target_modules,
                trainable_token_indices=_rows_to_train(model, added) if added else None,
                task_type="CAUSAL_LM",
            )
            model = get_peft_model(model, config)
    elif spec.quantization is not None and not isinstance(model, PeftModel):
        raise InputError(
            "lora.rank: a model in 4 bits has no weights to train but those of an adapter: use lora.rank=16"
        )
    head = model.get_output_embeddings()
    if isinstance(head, TrainableTokensWrapper):  # its layer has trained rows
        if getattr(head.original_module, "bias", None) is not None:  # which PEFT leaves out then
            raise InputError(
                f"model.add_tokens: the output layer of {spec.name} has a bias, so an adapter cannot train its rows; "
                "use lora.rank=0"
            )
        head.bias = None  # the log-prob head asks for it
    if spec.wants_chat and tokenizer.chat_template is None:
        raise InputError(
            f"model.chat: {spec.name} has no chat template; take an instruction-tuned model, put a chat_template.jinja "
            "into its folder, or set model.chat=false to prompt it with plain text"
        )
    _check_template_kwargs(spec, pool, tokenizer)
    config = (model.get_base_model() if isinstance(model, PeftModel) else model).config
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        chat=spec.wants_chat,
        context=_find_context(spec, config.get_text_config()),
        recommended_group_size=getattr(config, "recommended_group_size", None),
        template_kwargs=pool.template_kwargs,
        system_in_user=pool.system_in_user,
        date=fix_date(tokenizer, spec.date) if spec.wants_chat else None,
    )


def _check_template_kwargs(spec: ModelSpec, pool: PoolSpec, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse arguments that no chat template reads: it would pass over them without a word."""
    if not pool.template_kwargs:
        return
    if not spec.wants_chat:
        raise InputError("pool.template_kwargs: plain text goes through no chat template; leave them out")
    template = tokenizer.chat_template
    text = template if isinstance(template, str) else json.dumps(template)
    for name in pool.template_kwargs:
        if not re.search(rf"\b{re.escape(name)}\b", text):
            raise InputError(
                f"pool.template_kwargs.{name}: the chat template of {spec.name} reads no such argument"
                f"{nearest(name, set(re.findall(r'[a-z][a-z_]+', text)))}; leave it out"
            )


def _rows_to_train(model: PreTrainedModel, ids: list[int]) -> dict[str, list[int]]:
    """Name the rows of new tokens beside an adapter: in the embeddings, and in an output layer that is not tied."""
    first, last = model.get_input_embeddings(), model.get_output_embeddings()
    layers = (first,) if last.weight is first.weight else (first, last)
    return {name: ids for name, module in model.named_modules() if any(module is layer for layer in layers)}


def _find_context(spec: ModelSpec, config: PreTrainedConfig) -> int:
    """Find how many tokens a prompt and its completion may have together. Raises InputError for ``max_length`` beyond
    the places where positions are what they are in a shorter text."""
    if spec.name == TINY:
        return spec.max_length or TINY_CONTEXT
    own = getattr(config, "max_position_embeddings", None)
    rotary = getattr(config, "rope_parameters", None) or {}
    most = None if rotary or own is None else own  # positions out of a table
    why = "it has no positions beyond"
    kinds = [rotary] if "rope_type" in rotary else rotary.values()  # one, or one for each kind of layer
    for each in (kind for kind in kinds if isinstance(kind, Mapping)):
        changes_at = {"dynamic": own, "longrope": _longrope_switch(config, each)}.get(str(each.get("rope_type")))
        if changes_at:
            most = min(changes_at, most or changes_at)
            why = f"beyond, its rotary positions ({each['rope_type']}) change with the longest text of a batch"
    if spec.max_length and most and spec.max_length > most:
        raise InputError(f"model.max_length: {spec.max_length:,} is too long for {spec.name}: at most {most:,}; {why}")
    return spec.max_length or min(int(own or 2048), int(most or own or 2048))


def _longrope_switch(config: PreTrainedConfig, rotary: Mapping[str, Any]) -> int | None:
    found = rotary.get("original_max_position_embeddings")
    return found or getattr(config, "original_max_position_embeddings", None)


def save_weights(model: PreTrainedModel | PeftModel, folder: Path) -> None:
    """Save model or adapter into ``folder``, as transformers or peft load it."""
    if isinstance(model, PeftModel):
        # PEFT keeps the names in a set, so the file would differ from process to process.
        config = model.peft_config["default"]
        if isinstance(config.target_modules, set):
            config.target_modules = sorted(config.target_modules)
        model.save_pretrained(folder, selected_adapters=["default"], save_embedding_layers=_saves_embeddings(config))
        (folder / "README.md").unlink(missing_ok=True)  # a form to fill in, of which PEFT shuffles the tags
    else:
        model.save_pretrained(folder, max_shard_size="1TB")


def merge_adapter(model: PeftModel) -> PreTrainedModel:
    """Merge an adapter into its base, in memory. Embeddings with an adapter part from an output layer tied to them."""
    first, last = model.get_input_embeddings(), model.get_output_embeddings()
    if isinstance(first, BaseTunerLayer) and last.weight is first.weight:
        last.weight = torch.nn.Parameter(last.weight.detach().clone())
        config = model.get_base_model().config
        config.tie_word_embeddings = config.get_text_config().tie_word_embeddings = False
    merged: PreTrainedModel = model.merge_and_unload()
    return merged


def _saves_embeddings(config: PeftConfig) -> bool | Literal["auto"]:
    """Tell PEFT whether to save the embeddings with an adapter: not where it has the rows that were trained."""
    return False if getattr(config, "trainable_token_indices", None) else "auto"


def load_weights(model: PreTrainedModel | PeftModel, folder: Path) -> None:
    """Load weights of ``save_weights`` into the model in memory."""
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(
            model, safetensors.torch.load_file(folder / "adapter_model.safetensors"), adapter_name="default"
        )
    else:
        # As transformers loads it: what it writes is not always what it holds (experts are stacked in memory).
        kept, info = type(model).from_pretrained(folder, dtype=model.dtype, output_loading_info=True)
        if info["missing_keys"]:
            raise OSError(f"{folder} lacks the weights {', '.join(sorted(info['missing_keys']))}")
        model.load_state_dict(kept.state_dict())


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
    config = PeftConfig.from_pretrained(spec.name, **options)
    base = spec.base or config.base_model_name_or_path
    if config.is_prompt_learning:
        raise InputError(f"model.name: {spec.name} learns a prompt ({config.peft_type.value}), which is not supported")
    if not base:
        raise InputError(f"model.base: the adapter {spec.name} does not say which model it is for: give it")
    model, tokenizer = _load(spec.model_copy(update={"name": base, "base": None, "revision": None}), seed, full=False)
    if (Path(spec.name) / "tokenizer_config.json").is_file():
        tokenizer = AutoTokenizer.from_pretrained(spec.name, padding_side="left", **options)
        grow_embeddings(model, tokenizer, seed)  # the tokens that were added with it
    misfit = f"model.name: the adapter {spec.name} does not fit its base {base}"
    with _in_one_line(misfit):
        adapted = PeftModel.from_pretrained(model, spec.name, is_trainable=True, **options)
        held = load_peft_weights(spec.name, device="cpu", **options)
    kept = get_peft_model_state_dict(adapted, save_embedding_layers=_saves_embeddings(config))
    if held.keys() != kept.keys():  # PEFT passes over layers that the base lacks
        raise InputError(f"{misfit}: it has other layers; give the right one as model.base")
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
