"""Small models with random weights of many architectures, as ``transformers`` builds them from a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from harness.config.schema import LoraSpec, ModelSpec, TrainerSpec
from harness.errors import InputError
from harness.models.load import load_model, load_weights, merge_adapter, save_weights
from harness.models.tiny import build_tiny_tokenizer
from harness.training.grpo import StepTrainer
from harness.training.probe import check_model, score_alone
from harness.types import Knobs, Prompt
from tests.support.tiny import DigitScorer

WINDOW = 5
"""Of sliding attention: shorter than every text here."""
SIZE = {
    "vocab_size": 103, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "initializer_range": 0.1,
    "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None,
}  # fmt: skip
MOE = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
MAMBA = {"mamba_d_state": 8, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}


@dataclass(frozen=True)
class Architecture:
    """``kind`` is transformers' model type; ``what`` says what is special about it."""

    name: str
    kind: str
    what: str
    config: dict[str, Any] = field(default_factory=dict)
    bare: bool = False
    """Whether ``config`` is all there is, where names of sizes differ."""
    targets: str | list[str] = "all-linear"
    supported: bool = True


def _gpt2_like(**more: Any) -> dict[str, Any]:
    ends = {name: SIZE[name] for name in ("vocab_size", "pad_token_id", "eos_token_id", "bos_token_id")}
    return ends | {"initializer_range": 0.1} | more


ARCHITECTURES = (
    Architecture("Llama", "llama", "rotary, grouped queries, untied"),
    Architecture("Llama tied", "llama", "rotary, tied", {"tie_word_embeddings": True}),
    Architecture("Mistral", "mistral", "sliding window", {"sliding_window": WINDOW}),
    Architecture("Qwen2", "qwen2", "biases in attention"),
    Architecture("Qwen3", "qwen3", "normed queries and keys"),
    Architecture("Gemma", "gemma", "scaled embeddings, tied"),
    Architecture("Gemma 2", "gemma2", "softcapping, sliding window", {"sliding_window": WINDOW}),
    Architecture("Gemma 3", "gemma3_text", "local and global rotary", {"sliding_window": WINDOW}),
    Architecture("OLMo", "olmo", "norms without weights"),
    Architecture("OLMo 2", "olmo2", "norms behind layers"),
    Architecture("SmolLM3", "smollm3", "layers without positions", {"no_rope_layers": [1, 0]}),
    Architecture("StableLM", "stablelm", "partial rotary"),
    Architecture("Phi", "phi", "partial rotary, parallel layers"),
    Architecture(
        "Phi-3 longrope",
        "phi3",
        "longrope",
        {
            "original_max_position_embeddings": 64,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0] * 4,
                "long_factor": [4.0] * 4,
                "original_max_position_embeddings": 64,
            },
        },
    ),
    Architecture(
        "Llama dynamic NTK",
        "llama",
        "dynamic NTK",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}},
    ),
    Architecture("GLM-4", "glm4", "partial rotary, interleaved"),
    Architecture("Cohere 2", "cohere2", "logit scale, sliding window", {"sliding_window": WINDOW}),
    Architecture("Granite", "granite", "multipliers", {"logits_scaling": 4.0, "residual_multiplier": 0.5}),
    Architecture("Starcoder2", "starcoder2", "sliding window, biases", {"sliding_window": WINDOW}),
    Architecture("Nemotron", "nemotron", "squared ReLU, partial rotary"),
    Architecture(
        "GPT-2", "gpt2", "learned positions, tied", _gpt2_like(n_embd=32, n_layer=2, n_head=4, n_positions=128), True
    ),
    Architecture(
        "GPT-BigCode",
        "gpt_bigcode",
        "learned positions, one key head",
        _gpt2_like(n_embd=32, n_layer=2, n_head=4, n_positions=128),
        True,
    ),
    Architecture(
        "GPT-Neo",
        "gpt_neo",
        "learned positions, local layers",
        _gpt2_like(
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            window_size=WINDOW,
            max_position_embeddings=128,
        ),
        True,
    ),
    Architecture("GPT-NeoX", "gpt_neox", "partial rotary, parallel layers"),
    Architecture(
        "GPT-J",
        "gptj",
        "partial rotary",
        _gpt2_like(n_embd=32, n_layer=2, n_head=4, n_positions=128, rotary_dim=4),
        True,
    ),
    Architecture(
        "OPT",
        "opt",
        "learned positions with an offset",
        _gpt2_like(
            hidden_size=32,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=128,
            word_embed_proj_dim=32,
            init_std=0.1,
        ),
        True,
    ),
    Architecture("BLOOM", "bloom", "ALiBi", _gpt2_like(hidden_size=32, n_layer=2, n_head=4), True),
    Architecture("MPT", "mpt", "ALiBi", _gpt2_like(d_model=32, n_layers=2, n_heads=4, max_seq_len=128), True),
    Architecture(
        "Falcon",
        "falcon",
        "rotary, one key head",
        _gpt2_like(hidden_size=32, num_hidden_layers=2, num_attention_heads=4),
        True,
    ),
    Architecture(
        "Falcon ALiBi",
        "falcon",
        "ALiBi",
        _gpt2_like(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True, multi_query=False),
        True,
    ),
    Architecture("Mixtral", "mixtral", "experts", MOE),
    Architecture("Mixtral router logits", "mixtral", "experts, router logits", MOE | {"output_router_logits": True}),
    Architecture("Qwen2-MoE", "qwen2_moe", "shared expert", MOE | {"shared_expert_intermediate_size": 32}),
    Architecture("Qwen3-MoE", "qwen3_moe", "experts", MOE),
    Architecture(
        "Qwen3-MoE router logits", "qwen3_moe", "experts, router logits", MOE | {"output_router_logits": True}
    ),
    Architecture("gpt-oss", "gpt_oss", "experts, attention sinks", MOE | {"sliding_window": WINDOW}),
    Architecture("OLMoE", "olmoe", "experts", MOE),
    Architecture("Granite-MoE", "granitemoe", "experts, multipliers", MOE),
    Architecture(
        "DeepSeek-V3",
        "deepseek_v3",
        "latent attention, experts",
        MOE
        | {
            "num_key_value_heads": 4,
            "n_routed_experts": 4,
            "n_group": 1,
            "topk_group": 1,
            "kv_lora_rank": 16,
            "q_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "first_k_dense_replace": 1,
        },
    ),
    Architecture(
        "Mamba",
        "mamba",
        "state space",
        _gpt2_like(hidden_size=32, num_hidden_layers=2, state_size=8),
        True,
        ["in_proj", "x_proj"],
    ),
    Architecture(
        "Mamba 2",
        "mamba2",
        "state space",
        _gpt2_like(
            hidden_size=32, num_hidden_layers=2, state_size=8, num_heads=8, head_dim=8, n_groups=1, chunk_size=8
        ),
        True,
        ["in_proj"],
    ),
    Architecture(
        "Falcon-H1", "falcon_h1", "hybrid", MAMBA | {"mamba_d_ssm": 64}, targets=["q_proj", "v_proj", "in_proj"]
    ),
    Architecture("Bamba", "bamba", "hybrid", MAMBA | {"attn_layer_indices": [1]}),
    Architecture(
        "Jamba",
        "jamba",
        "hybrid, experts",
        MOE
        | {
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "use_mamba_kernels": False,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
        },
    ),
    Architecture(
        "Qwen3-Next",
        "qwen3_next",
        "linear attention, experts",
        MOE
        | {
            "layer_types": ["linear_attention", "full_attention"],
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "shared_expert_intermediate_size": 32,
        },
    ),
    Architecture(
        "LFM2", "lfm2", "convolutions, attention", {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8}
    ),
    Architecture(
        "Llama 4 text",
        "llama4_text",
        "experts, chunked attention",
        {
            "num_local_experts": 4,
            "intermediate_size_mlp": 64,
            "attention_chunk_size": 16,
            "interleave_moe_layer_step": 1,
        },
        supported=False,
    ),
    Architecture(
        "Qwen3.5 text",
        "qwen3_5_text",
        "text part of a VLM, linear attention",
        {
            "layer_types": ["linear_attention", "full_attention"],
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
        },
    ),
    Architecture(
        "Gemma 3 VLM",
        "gemma3",
        "text part of a VLM",
        {
            "text_config": SIZE | {"sliding_window": WINDOW},
            "mm_tokens_per_image": 4,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
            },
        },
        True,
    ),
    Architecture(
        "RecurrentGemma",
        "recurrent_gemma",
        "recurrent, local attention",
        {"lru_width": 32, "attention_window_size": WINDOW, "block_types": ["recurrent", "attention"]},
        supported=False,
    ),
    Architecture(
        "RWKV",
        "rwkv",
        "recurrent",
        _gpt2_like(hidden_size=32, attention_hidden_size=32, num_hidden_layers=2, context_length=128),
        True,
        supported=False,
    ),
)


def build_model(architecture: Architecture) -> Any:
    """Build the model from seed 0."""
    values = architecture.config if architecture.bare else SIZE | architecture.config
    config = AutoConfig.for_model(architecture.kind, **values)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).to(torch.float32)


def write_folder(architecture: Architecture, folder: Path) -> Path:
    """Write the model with a tokenizer into ``folder``, as one downloads it."""
    build_model(architecture).save_pretrained(folder)
    build_tiny_tokenizer().save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Measured:
    """How one architecture fares in one mode. ``refused`` is the line with which it is turned away; else differences in
    nats to a forward pass of each row alone, KL at learning rate 0, and nats after reload and merged export."""

    refused: str = ""
    shares: bool = False
    sampled: float = 0.0
    plain: float = 0.0
    shared: float = 0.0
    gradient: float = 0.0
    kl: float = 0.0
    reloaded: float = 0.0
    exported: float = 0.0

    @property
    def agrees(self) -> bool:
        """Within float32 rounding. Sampled tokens and updates of a model that fails this would be of two models."""
        worst = max(self.sampled, self.plain, self.shared, self.reloaded, self.exported)
        return not self.refused and worst < NATS and self.gradient < NATS and abs(self.kl) < 1e-6


NATS = 2e-4
MODES = ("full", "LoRA", "checkpointing")
PROMPTS = [Prompt(f"p{i}", text, "") for i, text in enumerate(("1+2=", "123+4567=", "what is 99-98?"))]
KNOBS = Knobs(temperature=1.0, max_tokens=12, learning_rate=0.0, group_size=4, prompts_per_step=len(PROMPTS))


def measure(architecture: Architecture, mode: str, model: Path, scratch: Path) -> Measured:
    """Train the model in folder ``model`` a little, and compare all ways in which log-probabilities are computed."""
    lora = LoraSpec(rank=4 if mode == "LoRA" else 0, target_modules=architecture.targets)
    try:
        loaded = load_model(ModelSpec(name=str(model), chat=False), lora, seed=0)
        check_model(loaded)
    except InputError as error:
        return Measured(refused=str(error).replace(str(model), "MODEL"))
    spec = TrainerSpec(micro_batch=6, gradient_checkpointing=mode == "checkpointing")
    trainer = StepTrainer(loaded, DigitScorer(), spec, errored_limit=0.1, folder=scratch, seed=0)
    kl = trainer.step(PROMPTS, KNOBS, learning_rate=0.0, seed=1).metrics["kl/mean"]
    moved = trainer.step(PROMPTS, KNOBS, learning_rate=1e-2, seed=2)  # so that an adapter is not zero
    if not moved.updated:
        return Measured(refused=f"no update: {moved.fault}")
    _, batch = trainer._roll_out(PROMPTS, KNOBS, 0.0, seed=3)
    generated = trainer._rollout.generated
    prompts = [loaded.prompt_ids(prompt) for prompt in PROMPTS for _ in range(KNOBS.group_size)]
    rows = list(zip(prompts, generated.ids, strict=True))
    alone = _score_rows(loaded.model, rows)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    shares, found, gradients = trainer._shares_prompts, {}, {}
    for share in (False, True) if shares else (False,):
        trainer._shares_prompts = share
        trainer.model.zero_grad()
        with trainer._without_dropout():
            log_probs, _, _ = trainer._get_per_token_logps_and_entropies(
                trainer.model, ids, mask, batch["completion_ids"].size(1)
            )
        (log_probs * batch["advantages"].unsqueeze(-1)).sum().backward()
        found[share] = _apart(log_probs.detach(), alone)
        gradients[share] = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
    apart = (gradients[True] - gradients[False]).norm() / gradients[False].norm() if shares else 0.0

    saved, exported = scratch / "saved", scratch / "exported"
    saved.mkdir(parents=True)
    trainer.save(saved)
    again = load_model(ModelSpec(name=str(model), chat=False), lora, seed=1)
    load_weights(again.model, saved)
    reloaded = _apart(_score_rows(again.model, rows), alone)
    whole = merge_adapter(again.model) if mode == "LoRA" else again.model
    save_weights(whole, exported)
    from_export = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32)
    return Measured(
        shares=shares,
        sampled=_apart(generated.log_probs, alone),
        plain=found[False],
        shared=found.get(True, 0.0),
        gradient=float(apart),
        kl=kl,
        reloaded=reloaded,
        exported=_apart(_score_rows(from_export, rows), alone),
    )


def _score_rows(model: Any, rows: Sequence[tuple[list[int], list[int]]]) -> torch.Tensor:
    was_training = model.training
    model.eval()
    scores = [score_alone(model, *row).squeeze(0) for row in rows]
    model.train(was_training)
    return torch.nn.utils.rnn.pad_sequence(scores, batch_first=True)


def _apart(found: torch.Tensor, alone: torch.Tensor) -> float:
    return float((found[:, : alone.size(1)] - alone).abs().max())
