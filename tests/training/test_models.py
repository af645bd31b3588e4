"""Models and adapters as they come: what a step does with them, and the few that it cannot train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer

from harness.config.load import parse_spec
from harness.config.schema import LoraSpec, ModelSpec, TrainerSpec, WarmstartSpec
from harness.errors import InputError
from harness.models.generate import generate_texts
from harness.models.load import LoadedModel, load_model, load_weights, merge_adapter, save_weights
from harness.models.runtime import quiet_training
from harness.models.tiny import build_tiny_model, build_tiny_tokenizer
from harness.training.grpo import StepTrainer
from harness.training.probe import check_model, score_alone
from harness.training.sft import warm_start
from harness.types import Prompt, no_progress
from tests.support.architectures import ARCHITECTURES, KNOBS, MODES, PROMPTS, measure, write_folder
from tests.support.runs import start_run
from tests.support.tiny import DigitScorer, reward_of, weights

NAMED = {architecture.name: architecture for architecture in ARCHITECTURES}


def build(loaded: LoadedModel, folder: Path, **spec: Any) -> StepTrainer:
    fields: dict[str, Any] = {"micro_batch": 12} | spec
    return StepTrainer(loaded, DigitScorer(), TrainerSpec(**fields), errored_limit=0.1, folder=folder, seed=0)


def open_model(name: str, folder: Path, lora: LoraSpec | None = None) -> LoadedModel:
    write_folder(NAMED[name], folder)
    return load_model(ModelSpec(name=str(folder), chat=False), lora or LoraSpec(rank=0), seed=0)


# ---------------------------------------------------------------- architectures; make models takes them all


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["GPT-2", "Gemma 2", "Mixtral router logits"])
def test_a_token_has_one_log_probability_however_it_is_computed(name: str, mode: str, tmp_path: Path) -> None:
    found = measure(NAMED[name], mode, write_folder(NAMED[name], tmp_path / "model"), tmp_path / "scratch")
    assert found.agrees, found
    assert found.shares == (mode != "checkpointing")


@pytest.mark.parametrize("name", ["RWKV", "RecurrentGemma"])
def test_an_architecture_that_samples_another_model_is_refused_before_anything_is_created(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "pool.jsonl").write_text("\n".join(f'{{"prompt": "{i}", "ground_truth": "1"}}' for i in range(40)))
    spec = {
        "name": "run",
        "model": {"name": str(write_folder(NAMED[name], tmp_path / "model")), "chat": False},
        "lora": {"rank": 0},
        "pool": {"source": str(tmp_path / "pool.jsonl"), "splits": {"probe": 5, "dev": 5, "test": 5}},
        "knobs": {"max_tokens": 8, "prompts_per_step": 2, "group_size": 4},
        "evaluate": {"max_tokens": 8},
        "output": {"dir": str(tmp_path / "runs")},
    }
    with pytest.raises(InputError, match=r"^model\.name: \w+ForCausalLM cannot be trained here: .* row alone$"):
        start_run(parse_spec(spec), "run")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["Mixtral router logits", "OLMoE"])
def test_experts_are_balanced_as_in_trls_train(name: str, tmp_path: Path) -> None:
    ours = open_model(name, tmp_path / "ours")
    theirs = open_model(name, tmp_path / "theirs")
    trainer = build(ours, tmp_path, optimizer="sgd")
    assert trainer.aux_loss_enabled
    assert trainer.router_aux_loss_coef > 0
    trainer.step(PROMPTS, KNOBS, learning_rate=0.1, seed=1)
    written = [trainer._rollout.generated.ids]

    class Stock(GRPOTrainer):  # type: ignore[misc]
        """TRL's trainer as it is, but it is told what to sample."""

        def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
            return written.pop(0), None

    stock = Stock(
        model=theirs.model,
        reward_funcs=[lambda completions, **_: [reward_of(c) for c in completions]],
        args=GRPOConfig(
            output_dir=str(tmp_path / "stock"),
            per_device_train_batch_size=12,
            num_generations=4,
            max_completion_length=KNOBS.max_tokens,
            max_steps=1,
            learning_rate=0.1,
            lr_scheduler_type="constant",
            optim="sgd",
            beta=0.0,
            weight_decay=0.0,
            shuffle_dataset=False,
            gradient_checkpointing=False,
            **quiet_training(),
        ),
        train_dataset=Dataset.from_dict({"prompt": [p.text for p in PROMPTS]}),
        processing_class=theirs.tokenizer,
    )
    before = weights(theirs.model).clone()
    stock.train()
    moved = float((weights(theirs.model) - before).abs().max())
    assert moved > 1e-4
    assert float((weights(theirs.model) - weights(ours.model)).abs().max()) < 1e-4 * moved


def test_balance_is_weighed_over_micro_batches_whatever_the_loss(tmp_path: Path) -> None:
    """Two halves of a step count half each; alone in its row a completion counts a twelfth."""
    for loss_type in ("dapo", "grpo", "bnpo"):
        trainer = build(open_model("Qwen3-MoE", tmp_path / loss_type), tmp_path, loss_type=loss_type)
        trainer.router_aux_loss_coef = 1.0
        _, batch = trainer._roll_out(PROMPTS, KNOBS, 0.0, seed=1)
        batch["advantages"].zero_()  # so that the loss is the balance alone
        losses = []
        for micro_batch in (12, 4):
            trainer.micro_batch = micro_batch
            losses.append(trainer._accumulate(batch, torch.arange(12))["loss"])
        assert losses[0] == pytest.approx(losses[1], rel=0.2)
        assert 0.5 < losses[0] < 4  # of 4 experts, 2 a token


# ---------------------------------------------------------------- KL and the reference


def test_kl_is_measured_without_dropout(tmp_path: Path) -> None:
    loaded = load_model(ModelSpec(), LoraSpec(rank=4, dropout=0.3), seed=0)
    trainer = build(loaded, tmp_path)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.05)
    trainer = build(loaded, tmp_path)
    for beta in (0.0, 0.1):
        kl = trainer.step(PROMPTS, replace(KNOBS, beta=beta), learning_rate=0.0, seed=1).metrics["kl/mean"]
        assert kl == pytest.approx(0.0, abs=1e-6)
    assert loaded.model.training


ADAPTERS = {
    "LoRA on embeddings": LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"], task_type="CAUSAL_LM"),
    "trained tokens": LoraConfig(
        r=4, target_modules=["q_proj"], trainable_token_indices=[20, 21], task_type="CAUSAL_LM"
    ),
    "biases": LoraConfig(r=4, target_modules=["q_proj"], bias="lora_only", task_type="CAUSAL_LM"),
    "whole layers": LoraConfig(
        r=4, target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"], task_type="CAUSAL_LM"
    ),
    "IA3": IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"),
}


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        ("LoRA on embeddings", "Llama tied"),
        ("trained tokens", "Llama tied"),
        ("biases", "Qwen2"),
        ("whole layers", "Qwen2"),
        ("IA3", "Llama tied"),
    ],
)
def test_an_adapter_of_any_kind_is_continued_from_where_it_is(kind: str, base: str, tmp_path: Path) -> None:
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(write_folder(NAMED[base], tmp_path / "base")), ADAPTERS[kind]
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    save_weights(model, tmp_path / "adapter")
    spec = ModelSpec(name=str(tmp_path / "adapter"), chat=False)
    loaded = load_model(spec, LoraSpec(), seed=0)
    check_model(loaded)
    ids = loaded.prompt_ids(PROMPTS[1])
    assert torch.equal(score_alone(loaded.model.eval(), ids, ids), score_alone(model.eval(), ids, ids))
    shown = [Prompt("", prompt.text, "", demonstration="12") for prompt in PROMPTS]
    warm_start(loaded, shown, WarmstartSpec(steps=1, batch=3), seed=0, progress=no_progress)

    trainer = build(loaded, tmp_path)
    assert trainer.step(PROMPTS, KNOBS, learning_rate=0.03, seed=1).metrics["kl/mean"] == pytest.approx(0, abs=1e-6)
    assert trainer.step(PROMPTS, KNOBS, learning_rate=0.0, seed=2).metrics["kl/mean"] > 1e-5
    expected = score_alone(loaded.model.eval(), ids, ids)
    (tmp_path / "saved").mkdir()
    trainer.save(tmp_path / "saved")
    again = load_model(spec, LoraSpec(), seed=1)
    load_weights(again.model, tmp_path / "saved")
    assert torch.equal(score_alone(again.model.eval(), ids, ids), expected)
    save_weights(merge_adapter(again.model), tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert torch.allclose(score_alone(merged.eval(), ids, ids), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"), r"^model\.name: .* learns a prompt"),
        (
            LoraConfig(r=4, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM"),
            r"^lora\.target_modules: .*output",
        ),
    ],
)
def test_an_adapter_that_cannot_be_trained_is_refused(config: Any, said: str, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(write_folder(NAMED["Llama"], tmp_path / "base"))
    get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(InputError, match=said):
        check_model(load_model(ModelSpec(name=str(tmp_path / "adapter"), chat=False), LoraSpec(), seed=0))


# ---------------------------------------------------------------- special tokens


def test_rewards_and_evaluations_see_special_tokens(tmp_path: Path) -> None:
    """Digits as special tokens: a reward that counts them finds them all the same."""
    tokenizer = build_tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list("0123456789")})
    build_tiny_model(0).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    loaded = load_model(ModelSpec(name=str(tmp_path / "model"), chat=False), LoraSpec(rank=0), seed=0)
    assert set("0123456789") <= set(loaded.tokenizer.all_special_tokens)
    outcome = build(loaded, tmp_path).step(PROMPTS, KNOBS, learning_rate=0.0, seed=1)
    assert max(completion.score.reward for group in outcome.groups for completion in group.completions) > 0
    texts = generate_texts(
        loaded, PROMPTS * 4, max_tokens=12, temperature=1.0, batch_size=12, seed=0, progress=no_progress, phase=""
    )
    assert any(reward_of(text.text) > 0 for text in texts)
    assert not any("<eos>" in text.text or "<pad>" in text.text for text in texts)


# ---------------------------------------------------------------- weights in 16 bits


@pytest.mark.parametrize(
    ("dtype", "rate", "told"), [("bfloat16", 1e-6, 1), ("bfloat16", 1e-1, 0), ("float32", 1e-6, 0)]
)
def test_updates_that_16_bits_cannot_hold_are_told_once(dtype: Any, rate: float, told: int, tmp_path: Path) -> None:
    write_folder(NAMED["Llama"], tmp_path / "model")
    spec = ModelSpec(name=str(tmp_path / "model"), chat=False, dtype=dtype)
    trainer = build(load_model(spec, LoraSpec(rank=0), seed=0), tmp_path)
    notes = [trainer.step(PROMPTS, KNOBS, learning_rate=rate, seed=seed).notes for seed in (1, 2)]
    assert [len(each) for each in notes] == [told, 0]
    if told:
        assert (
            "% of the weights: in bfloat16 the steps of the others are rounded away; use model.dtype=float32"
            in notes[0][0]
        )


def test_an_optimizer_that_was_saved_on_a_gpu_is_loaded_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = build(load_model(ModelSpec(), LoraSpec(rank=0), seed=0), tmp_path)
    trainer.step(PROMPTS, KNOBS, learning_rate=1e-3, seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")  # what a GPU's storage says
        trainer.save(tmp_path)
    saved = trainer.optimizer.state_dict()["state"]
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / "optimizer.pt", weights_only=True)
    trainer.load(tmp_path)
    again = trainer.optimizer.state_dict()["state"]
    assert saved.keys() == again.keys()
    assert all(torch.equal(saved[key]["exp_avg"], again[key]["exp_avg"]) for key in saved)
