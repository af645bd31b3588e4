"""Models from outside: a chat model in a local folder, full weights and LoRA, through a whole short run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from harness.checks.inputs import choose_prompts
from harness.commands.targets import measure
from harness.config.load import parse_spec
from harness.config.schema import LoraSpec, ModelSpec
from harness.errors import InputError
from harness.models.load import load_model, save_weights
from harness.models.tiny import build_tiny_model, build_tiny_tokenizer
from harness.run.answerers import load_checkpoint
from harness.store.history import load_history
from harness.types import Prompt, no_progress
from harness.views.review import build_review
from tests.support.runs import resume_run, start_run

CHAT = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}[assistant]"
    "{% endif %}"
)


@pytest.fixture
def chat_model(tmp_path: Path) -> Path:
    """A model folder as one downloads it: weights, config, tokenizer with a chat template."""
    folder = tmp_path / "chat-model"
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = CHAT
    build_tiny_model(0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def spec(tmp_path: Path, chat_model: Path) -> dict[str, Any]:
    rows = [{"prompt": f"{i}?", "ground_truth": str(i % 10)} for i in range(80)]
    (tmp_path / "pool.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "reward.py").write_text(
        "def digits(prompts, completions, ground_truth, **columns):\n"
        "    assert prompts[0][0] == {'role': 'system', 'content': 'be brief'}\n"
        "    texts = [c[0]['content'] for c in completions]\n"
        "    return [min(1.0, sum(x.isdigit() for x in t) / 4) for t in texts]\n"
    )
    return {
        "name": "chat",
        "model": {"name": str(chat_model)},
        "pool": {
            "source": str(tmp_path / "pool.jsonl"),
            "system_prompt": "be brief",
            "splits": {"probe": 5, "dev": 10, "test": 10},
        },
        "reward": {"function": f"{tmp_path / 'reward.py'}:digits"},
        "knobs": {"max_tokens": 10, "prompts_per_step": 4, "group_size": 4, "learning_rate": 1e-3},
        "evaluate": {"every": 2, "max_tokens": 10},
        "checkpoint": {"every": 2},
        "policy": {"kind": "fixed"},
        "budget": {"steps": 3},
        "output": {"dir": str(tmp_path / "runs")},
    }


def test_the_chat_template_carries_system_prompt_and_question(chat_model: Path) -> None:
    loaded = load_model(ModelSpec(name=str(chat_model)), LoraSpec(rank=0), seed=0)
    ids = loaded.prompt_ids(Prompt("", "1+1?", "2", system="be brief"))
    assert loaded.tokenizer.decode(ids) == "[system]be brief[user]1+1?[assistant]"
    assert loaded.context == 128


@pytest.mark.parametrize("rank", [0, 4])
def test_a_chat_model_is_tuned_resumed_and_evaluated_alike(spec: dict[str, Any], rank: int) -> None:
    run = start_run(parse_spec(spec | {"lora": {"rank": rank}}), "chat")
    assert isinstance(run.parts.loaded.model, PeftModel) == (rank > 0)
    assert run.drive() == ("finished", "budget of 3 steps spent")
    review = build_review(load_history(run.store, "chat"))
    assert review["signal"]["errored_rate"] == 0.0

    target = load_checkpoint(run.store, "chat", "final")
    found = measure(target, choose_prompts(target.spec, split="test"), progress=no_progress)
    assert found.accuracy == review["heldout"]["final"]

    again = resume_run(run.store, "chat", overrides=["budget.steps=5"])
    assert again.drive()[0] == "finished"
    longer = build_review(load_history(run.store, "chat"))["reward"]["by_step"]
    assert longer[:3] == review["reward"]["by_step"]

    straight = start_run(
        parse_spec(spec | {"name": "straight", "lora": {"rank": rank}, "budget": {"steps": 5}}), "chat"
    )
    straight.drive()
    assert build_review(load_history(run.store, "straight"))["reward"]["by_step"] == longer


def test_group_size_comes_from_the_model_when_it_recommends_one(spec: dict[str, Any], chat_model: Path) -> None:
    config = json.loads((chat_model / "config.json").read_text())
    (chat_model / "config.json").write_text(json.dumps(config | {"recommended_group_size": 6}))
    del spec["knobs"]["group_size"]
    run = start_run(parse_spec(spec), "chat")
    row = run.store.load_run(run.run_id)
    assert row.knobs.group_size == 6
    assert row.manifest["group_size_from"] == "model"


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"model\.name: cannot load .*empty"):
        load_model(ModelSpec(name=str(tmp_path / "empty")), LoraSpec(), seed=0)


# ---------------------------------------------------------------- bad input: one line each


def one_line(spec: ModelSpec, lora: LoraSpec | None = None) -> str:
    with pytest.raises(InputError) as raised:
        load_model(spec, lora or LoraSpec(rank=0), seed=0)
    said = str(raised.value)
    assert "\n" not in said
    return said


def test_a_model_without_chat_template_is_refused_unless_plain_text_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "base-model"
    build_tiny_model(0).save_pretrained(folder)
    build_tiny_tokenizer().save_pretrained(folder)
    assert one_line(ModelSpec(name=str(folder))).startswith(f"model.chat: {folder} has no chat template; ")
    plain = load_model(ModelSpec(name=str(folder), chat=False), LoraSpec(rank=0), seed=0)
    assert plain.render(Prompt("", "1+1=", "2")) == "1+1="


def test_a_vocabulary_that_does_not_match_is_found_before_it_crashes_a_step(chat_model: Path) -> None:
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = CHAT
    tokenizer.add_tokens([f"<extra {i}>" for i in range(100)])
    tokenizer.save_pretrained(chat_model)
    assert "its tokenizer has 203 tokens and the model 103" in one_line(ModelSpec(name=str(chat_model)))


def test_a_gguf_of_an_unknown_architecture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "odd.gguf"
    writer = gguf.GGUFWriter(str(path), "nonesuch")
    writer.add_name("odd")
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), dtype=np.float32))
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    said = one_line(ModelSpec(name=str(path)))
    assert said.startswith(f"model.name: cannot load {path}: ")
    assert "nonesuch" in said


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all" * 100])
def test_a_file_that_is_no_gguf_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    assert one_line(ModelSpec(name=str(path))).startswith(f"model.name: cannot load {path}: ")
    assert "no file" in one_line(ModelSpec(name=str(tmp_path / "absent.gguf")))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./nowhere", "no folder ./nowhere"),
        ("nowhere", "no folder nowhere; give tiny, smollm2-135m, a model folder, a .gguf file or a hub id"),
        ("a/b/c", "no folder a/b/c"),
    ],
)
def test_what_is_no_model_at_all(name: str, said: str) -> None:
    assert said in one_line(ModelSpec(name=name))


# ---------------------------------------------------------------- adapters


@pytest.fixture
def adapter(tmp_path: Path, chat_model: Path) -> Path:
    """An adapter as a run saves it, trained a little so that it is not the fresh one."""
    loaded = load_model(ModelSpec(name=str(chat_model)), LoraSpec(rank=4), seed=3)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.01)
    save_weights(loaded.model, tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_is_gone_on_with(adapter: Path, chat_model: Path) -> None:
    loaded = load_model(ModelSpec(name=str(adapter)), LoraSpec(), seed=0)
    assert isinstance(loaded.model, PeftModel)
    assert loaded.chat
    trained = {name: p for name, p in loaded.model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert all(bool((p == 0.01).all()) for name, p in trained.items() if "lora_B" in name)
    moved = load_model(ModelSpec(name=str(adapter), base=str(chat_model)), LoraSpec(), seed=0)
    assert isinstance(moved.model, PeftModel)


@pytest.mark.parametrize(("change", "said"), [({"hidden_size": 64}, "size mismatch"), ({"num_hidden_layers": 1}, "")])
def test_an_adapter_for_another_base_is_refused(
    adapter: Path, chat_model: Path, tmp_path: Path, change: dict[str, int], said: str
) -> None:
    other = tmp_path / "other"
    config = LlamaConfig.from_pretrained(chat_model)
    config.update(change)
    LlamaForCausalLM(config).save_pretrained(other)
    AutoTokenizer.from_pretrained(chat_model).save_pretrained(other)
    found = one_line(ModelSpec(name=str(adapter), base=str(other)))
    assert found.startswith(f"model.name: the adapter {adapter} does not fit its base {other}: ")
    assert said in found


def test_an_adapter_trains_on_a_base_in_four_bits(spec: dict[str, Any], chat_model: Path) -> None:
    pytest.importorskip("bitsandbytes")
    spec["model"]["quantization"] = "4bit"
    run = start_run(parse_spec(spec | {"lora": {"rank": 4}}), "chat")
    assert any(type(module).__name__ == "Linear4bit" for module in run.parts.loaded.model.modules())
    assert run.drive()[0] == "finished"
    assert "no weights to train but those of an adapter" in one_line(
        ModelSpec(name=str(chat_model), quantization="4bit"), LoraSpec(rank=0)
    )


def test_a_whole_model_has_no_base(chat_model: Path) -> None:
    assert "is a whole model" in one_line(ModelSpec(name=str(chat_model), base="tiny"))


def test_a_prompt_longer_than_the_context_is_shown(spec: dict[str, Any], tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}?" + "9" * (200 if i == 7 else 0), "ground_truth": str(i % 10)} for i in range(80)]
    (tmp_path / "pool.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(InputError, match=r"pool\.source: the prompt '7\?9+'\.\.\. has \d+ tokens and the .* only 128"):
        start_run(parse_spec(spec), "chat")
    assert not (tmp_path / "runs" / "chat").exists()


def write_pool(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / "pool.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def test_a_run_on_conversations_with_prefills_and_calls(spec: dict[str, Any], tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    rows: list[dict[str, Any]] = []
    for i in range(80):
        asked = [{"role": "user", "content": f"{i}?"}]
        called = [*asked, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "1"}]
        begun = [*asked, {"role": "assistant", "content": "So <think>"}]
        rows.append({"prompt": (begun, called, [*called, *begun])[i % 3], "answer": "1", "demonstration": "1"})
    write_pool(tmp_path, rows)
    spec |= {"warmstart": {"steps": 1, "examples": 4, "batch": 4}, "budget": {"steps": 1}}
    spec["model"]["max_length"] = 512
    run = start_run(parse_spec(spec), "chat")
    assert run.drive()[0] == "finished"
    review = build_review(load_history(run.store, "chat"))
    assert review["signal"]["errored_rate"] == 0.0
    assert any("Assistant: So <think>" in sample["prompt"] for sample in review["samples"])
    assert any("<tool_call>" in sample["prompt"] for sample in review["samples"])


def test_what_the_chat_template_refuses_is_said_before_anything_is_created(
    spec: dict[str, Any], tmp_path: Path, chat_model: Path
) -> None:
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    refuses += "{% if messages | length > 1 %}{{ raise_exception('one turn only') }}{% endif %}"
    (chat_model / "chat_template.jinja").write_text(refuses + CHAT)
    with pytest.raises(
        InputError, match=r"^pool\.system_prompt: .*refuses a system message \(no system\); pool\.system_in"
    ):
        start_run(parse_spec(spec), "chat")
    spec["pool"]["system_in_user"] = True
    rows: list[dict[str, Any]] = [{"prompt": f"{i} is a long question, is it?", "ground_truth": "1"} for i in range(80)]
    turns = [{"role": role, "content": "9?"} for role in ("user", "assistant", "user")]
    write_pool(tmp_path, [*rows, {"prompt": turns, "ground_truth": "1"}])
    with pytest.raises(InputError, match=r"cannot render the turns user, assistant, user \(one turn only\)"):
        start_run(parse_spec(spec), "chat")
    assert not (tmp_path / "runs").exists()
    write_pool(tmp_path, rows)
    spec["reward"]["function"] = "rewards.format"
    run = start_run(parse_spec(spec), "chat")
    prompt = run.parts.inputs.splits["train"][0]
    assert run.parts.loaded.render(prompt) == f"[user]be brief\n\n{prompt.text}[assistant]"


def test_template_arguments_reach_every_rendering_and_begin_an_era_when_changed(
    spec: dict[str, Any], chat_model: Path
) -> None:
    (chat_model / "chat_template.jinja").write_text(CHAT + "{% if not thinking %}off{% endif %}")
    spec["pool"]["template_kwargs"] = {"thinking": False}
    spec["budget"]["steps"] = 1
    run = start_run(parse_spec(spec), "chat")
    assert run.parts.loaded.render(Prompt("", "1?", "1")) == "[user]1?[assistant]off"
    assert run.drive()[0] == "finished"
    target = load_checkpoint(run.store, "chat", "final")
    assert target.loaded.render(Prompt("", "1?", "1")) == "[user]1?[assistant]off"
    again = resume_run(run.store, "chat", overrides=["budget.steps=4", "pool.template_kwargs.thinking=true"])
    assert again.parts.loaded.render(Prompt("", "1?", "1")) == "[user]1?[assistant]"
    events = [event.text for event in load_history(run.store, "chat").events]
    assert any("pool.template_kwargs" in text for text in events), events


def test_template_arguments_that_nothing_reads_are_refused(chat_model: Path) -> None:
    (chat_model / "chat_template.jinja").write_text(CHAT + "{% if enable_thinking %}{% endif %}")
    pool = parse_spec({"pool": {"template_kwargs": {"enable_thinkng": False}}}).pool
    for model, said in (
        (ModelSpec(name=str(chat_model)), "reads no such argument, did you mean enable_thinking?"),
        (ModelSpec(name=str(chat_model), chat=False), "plain text goes through no chat template"),
    ):
        with pytest.raises(InputError, match=re.escape(said)):
            load_model(model, LoraSpec(rank=0), seed=0, pool=pool)
    with pytest.raises(InputError, match=r"^pool\.template_kwargs: a must be true, false, a number or text, not \[1\]"):
        parse_spec({"pool": {"template_kwargs": {"a": [1]}}})
    for name in ("tools", "add_generation_prompt"):
        with pytest.raises(InputError, match=rf"^pool\.template_kwargs: {name} is set by the harness"):
            parse_spec({"pool": {"template_kwargs": {name: False}}})


def test_the_embedded_model_depends_on_its_seed_alone() -> None:
    state = torch.random.get_rng_state()
    one, same, other = build_tiny_model(1), build_tiny_model(1), build_tiny_model(2)
    assert torch.equal(one.lm_head.weight, same.lm_head.weight)
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
    assert torch.equal(state, torch.random.get_rng_state())
    assert 0.8e6 < one.num_parameters() < 1.2e6


def test_the_tiny_tokenizer_keeps_every_character_and_tag() -> None:
    tokenizer = build_tiny_tokenizer()
    text = "<start_working_out>6+0+0=6,7<end_working_out><SOLUTION>14 ~</SOLUTION>\n"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.convert_ids_to_tokens(ids)[0] == "<start_working_out>"
