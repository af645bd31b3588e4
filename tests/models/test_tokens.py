"""Tokenizers as they come: special tokens, ends, dates, added tokens, and contexts that are shorter than they look."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from harness.config.load import parse_spec
from harness.config.schema import LoraSpec, ModelSpec, WarmstartSpec
from harness.errors import InputError
from harness.models import load
from harness.models.load import LoadedModel, load_model, load_weights, merge_adapter, save_weights
from harness.models.tiny import build_tiny_model, build_tiny_tokenizer
from harness.models.tokens import decode
from harness.training.probe import score_alone
from harness.training.sft import warm_start
from harness.types import Prompt, no_progress
from tests.support.runs import resume_run, start_run

SIZE = {"vocab_size": 103, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
DATED = "{{ strftime_now('%d %b %Y') }}{% for m in messages %}[{{ m['content'] }}]{% endfor %}"


def write(folder: Path, tokenizer: Any = None, model: Any = None) -> Path:
    (model or build_tiny_model(0)).save_pretrained(folder)
    (tokenizer or build_tiny_tokenizer()).save_pretrained(folder)
    return folder


def open_folder(folder: Path, lora: LoraSpec | None = None, **options: Any) -> LoadedModel:
    return load_model(ModelSpec(name=str(folder), **{"chat": False} | options), lora or LoraSpec(rank=0), seed=0)


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(InputError) as raised:
        open_folder(folder, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# ---------------------------------------------------------------- what a reward sees


def test_special_tokens_reach_the_reward_and_end_and_padding_do_not(tmp_path: Path) -> None:
    tokenizer = build_tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    model = build_tiny_model(0)
    model.resize_token_embeddings(len(tokenizer))
    model.generation_config.eos_token_id = [1, tokenizer.convert_tokens_to_ids("~")]  # one that is an ordinary token
    loaded = open_folder(write(tmp_path / "model", tokenizer, model))
    ids = loaded.tokenizer("<think>a</think>b<pad>")["input_ids"]
    assert decode(loaded.model, loaded.tokenizer, [[*ids, 1], loaded.tokenizer("5~")["input_ids"]]) == [
        "<think>a</think>b",
        "5",
    ]


# ---------------------------------------------------------------- ends of texts


def test_a_tokenizer_without_end_or_padding_takes_the_models_end_or_is_refused(tmp_path: Path) -> None:
    tokenizer = build_tiny_tokenizer()
    tokenizer.eos_token = tokenizer.pad_token = None
    model = build_tiny_model(0)
    loaded = open_folder(write(tmp_path / "declared", tokenizer, model))
    assert (loaded.tokenizer.eos_token_id, loaded.tokenizer.pad_token_id) == (1, 1)
    model.generation_config.eos_token_id = model.config.eos_token_id = None
    assert "has no end token" in refusal(write(tmp_path / "endless", tokenizer, model))


def test_an_end_token_is_not_put_behind_a_plain_prompt(tmp_path: Path) -> None:
    tokenizer = build_tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<SOLUTION> $A <eos>", special_tokens=[("<SOLUTION>", 5), ("<eos>", 1)]
    )
    folder = write(tmp_path / "model", tokenizer)
    loaded = open_folder(folder)
    ids = loaded.prompt_ids(Prompt("", "1+1=", "2"))
    assert ids == [5, *build_tiny_tokenizer()("1+1=")["input_ids"]]
    # As TRL's supervised stage takes it: prompt and whole text begin alike.
    assert loaded.tokenizer("1+1=2")["input_ids"][: len(ids)] == ids


# ---------------------------------------------------------------- dates


def make_spec(tmp_path: Path, folder: Path, **sections: Any) -> dict[str, Any]:
    rows = [{"prompt": f"{i}?", "ground_truth": str(i % 10)} for i in range(60)]
    (tmp_path / "pool.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "reward.py").write_text(
        "def digits(prompts, completions, ground_truth, **columns):\n"
        "    return [min(1.0, sum(x.isdigit() for x in c[0]['content']) / 4) for c in completions]\n"
    )
    return {
        "name": "run",
        "model": {"name": str(folder)} | sections.pop("model", {}),
        "pool": {"source": str(tmp_path / "pool.jsonl"), "splits": {"probe": 5, "dev": 5, "test": 5}},
        "reward": {"function": f"{tmp_path / 'reward.py'}:digits"},
        "knobs": {"max_tokens": 8, "prompts_per_step": 2, "group_size": 4, "learning_rate": 1e-3},
        "evaluate": {"every": 2, "max_tokens": 8},
        "lora": {"rank": 0},
        "policy": {"kind": "fixed"},
        "budget": {"steps": 1},
        "output": {"dir": str(tmp_path / "runs")},
    } | sections


def test_a_template_shows_the_date_on_which_the_run_began(tmp_path: Path) -> None:
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = DATED + "{% if add_generation_prompt %}:{% endif %}"
    folder = write(tmp_path / "model", tokenizer)
    spec = make_spec(tmp_path, folder, model={"date": "2001-02-03"})
    run = start_run(parse_spec(spec), "run")
    prompt = Prompt("", "1?", "1")

    def shown(loaded: LoadedModel) -> str:
        return str(loaded.tokenizer.decode(loaded.prompt_ids(prompt)))

    assert shown(run.parts.loaded) == "03 Feb 2001[1?]:"
    assert run.parts.loaded.tokenizer.chat_template == tokenizer.chat_template  # as it is saved
    asked = [{"role": "user", "content": "?"}]
    for template in (None, DATED):  # as TRL's supervised stage asks
        rendered = run.parts.loaded.tokenizer.apply_chat_template(asked, chat_template=template, tokenize=False)
        assert rendered.startswith("03 Feb 2001[?]")
    assert run.drive()[0] == "finished"
    resumed = resume_run(run.store, "run", overrides=["budget.steps=2"])
    assert shown(resumed.parts.loaded) == "03 Feb 2001[1?]:"
    demonstrated = [Prompt("", f"{i}?", "1", demonstration="1") for i in range(4)]
    warm_start(run.parts.loaded, demonstrated, WarmstartSpec(steps=1, batch=2), seed=0, progress=no_progress)

    spec["model"] = {"name": str(folder)}
    today = start_run(parse_spec(spec | {"name": "today"}), "today")
    stored = today.store.load_run(today.run_id).spec
    assert stored["model"]["date"] == f"{datetime.now():%Y-%m-%d}"
    assert shown(today.parts.loaded).startswith(f"{datetime.now():%d %b %Y}")
    undated = start_run(parse_spec(spec | {"name": "undated", "model": {"name": "tiny"}}), "undated")
    assert undated.store.load_run(undated.run_id).spec["model"]["date"] is None


def test_each_of_several_templates_shows_the_date(tmp_path: Path) -> None:
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = {"default": "{{ strftime_now('%Y') }}", "tool_use": "{{ strftime_now('%d %b') }}+"}
    loaded = open_folder(write(tmp_path / "model", tokenizer), chat=True, date="2001-02-03")
    assert loaded.date == "2001-02-03"
    asked, tools = [{"role": "user", "content": "?"}], [{"type": "function", "function": {"name": "f"}}]
    for options, shown in (({}, "2001"), ({"tools": tools}, "03 Feb+"), ({"chat_template": "default"}, "2001")):
        assert loaded.tokenizer.apply_chat_template(asked, tokenize=False, **options) == shown


def test_a_date_is_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.date: .*2026-07-31"):
        parse_spec(make_spec(tmp_path, tmp_path, model={"date": "yesterday"}))


# ---------------------------------------------------------------- contexts


@pytest.mark.parametrize(
    ("rotary", "context", "too_long"),
    [
        ({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}, 64, 65),
        (
            {
                "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
                "original_max_position_embeddings": 32,
            },
            32,
            48,
        ),
        ({"rope_type": "default", "rope_theta": 1e4}, 64, None),
    ],
    ids=["dynamic", "longrope", "plain"],
)  # fmt: skip
def test_a_context_ends_where_rotary_positions_begin_to_depend_on_the_batch(
    tmp_path: Path, rotary: dict[str, Any], context: int, too_long: int | None
) -> None:
    config = LlamaConfig(**SIZE, max_position_embeddings=64, rope_parameters=rotary, eos_token_id=1)
    folder = write(tmp_path / "model", model=LlamaForCausalLM(config))
    assert open_folder(folder).context == context
    if too_long:
        said = refusal(folder, max_length=too_long)
        assert said.startswith(f"model.max_length: {too_long} is too long for {folder}: at most {context}; ")
    else:
        assert open_folder(folder, max_length=200).context == 200


def test_a_context_ends_where_a_table_of_positions_does(tmp_path: Path) -> None:
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=103, n_embd=16, n_layer=1, n_head=2, n_positions=32, eos_token_id=1))
    folder = write(tmp_path / "model", model=gpt2)
    assert open_folder(folder).context == 32
    assert "at most 32; it has no positions beyond" in refusal(folder, max_length=33)


def test_a_missing_bitsandbytes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "model")
    monkeypatch.setattr(load, "find_spec", lambda name: None)
    said = refusal(folder, quantization="4bit")
    assert said.startswith("model.quantization: 4bit needs the package bitsandbytes")


# ---------------------------------------------------------------- added tokens


@pytest.mark.parametrize(("rank", "tied"), [(0, True), (4, True), (4, False)])
def test_added_tokens_are_trained_saved_continued_and_exported(tmp_path: Path, rank: int, tied: bool) -> None:
    folder = tmp_path / "model"
    if tied:
        write(folder)
    else:
        write(folder, model=LlamaForCausalLM(LlamaConfig(**SIZE, eos_token_id=1, tie_word_embeddings=False)))
    options: dict[str, Any] = {"add_tokens": ["<think>", "</think>", "1"]}
    loaded = open_folder(folder, LoraSpec(rank=rank), **options)
    ids = loaded.tokenizer("<think>1</think>")["input_ids"]
    assert ids == [103, build_tiny_tokenizer()("1")["input_ids"][0], 104]  # "1" was there
    assert decode(loaded.model, loaded.tokenizer, [ids]) == ["<think>1</think>"]
    shown = [Prompt("", f"<think>{i}", "1", demonstration=f"{i}</think>") for i in range(4)]
    rows = [103, 104]

    def embedded(model: Any) -> torch.Tensor:
        return torch.cat([layer.weight for layer in (model.get_input_embeddings(), model.get_output_embeddings())])

    before = embedded(loaded.model).detach().clone()
    warm_start(loaded, shown, WarmstartSpec(steps=2, batch=4), seed=0, progress=no_progress)
    moved = (embedded(loaded.model) - before).abs().sum(-1)
    size = len(loaded.tokenizer)
    assert all(moved[row] > 0 and moved[size + row] > 0 for row in rows)
    if rank:
        assert int((moved > 0).sum()) == 4  # the new rows, and no others

    expected = score_alone(loaded.model.eval(), ids, ids)
    saved = tmp_path / "saved"
    save_weights(loaded.model, saved)
    loaded.tokenizer.save_pretrained(saved)
    again = open_folder(folder, LoraSpec(rank=rank), **options)
    load_weights(again.model, saved)
    assert torch.equal(score_alone(again.model.eval(), ids, ids), expected)
    if rank:
        for model in (open_folder(saved).model, AutoPeftModelForCausalLM.from_pretrained(saved)):
            assert torch.allclose(score_alone(model.eval(), ids, ids), expected, atol=1e-5)
        assert "has no weights for new tokens" in refusal(saved, add_tokens=["<more>"])
    save_weights(merge_adapter(again.model) if rank else again.model, tmp_path / "exported")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "exported", dtype=torch.float32)
    assert torch.allclose(score_alone(exported.eval(), ids, ids), expected, atol=1e-5)
