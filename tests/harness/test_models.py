"""Models from outside: a chat model in a local folder, full weights and LoRA, through a whole short run."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from peft import PeftModel

from harness.build import resume_run, start_run
from harness.errors import InputError
from harness.measure import load_target, measure
from harness.models import build_tiny_model, build_tiny_tokenizer, load_model
from harness.report import build_review
from harness.snapshot import load_history
from harness.spec import LoraSpec, ModelSpec, parse_spec
from harness.types import Prompt, no_progress

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
    run = start_run(parse_spec(spec | {"lora": {"rank": rank}}), "chat", Event())
    assert isinstance(run.parts.loaded.model, PeftModel) == (rank > 0)
    assert run.drive() == ("finished", "budget of 3 steps spent")
    review = build_review(load_history(run.store, "chat"))
    assert review["signal"]["errored_rate"] == 0.0

    target = load_target("chat", checkpoint="final", spec=None, store=run.store)
    assert measure(target, "test", no_progress)[0]["accuracy"] == review["heldout"]["final"]

    again = resume_run(run.store, "chat", Event(), overrides=["budget.steps=5"])
    assert again.drive()[0] == "finished"
    longer = build_review(load_history(run.store, "chat"))["reward"]["by_step"]
    assert longer[:3] == review["reward"]["by_step"]

    straight = start_run(
        parse_spec(spec | {"name": "straight", "lora": {"rank": rank}, "budget": {"steps": 5}}), "chat", Event()
    )
    straight.drive()
    assert build_review(load_history(run.store, "straight"))["reward"]["by_step"] == longer


def test_group_size_comes_from_the_model_when_it_recommends_one(spec: dict[str, Any], chat_model: Path) -> None:
    config = json.loads((chat_model / "config.json").read_text())
    (chat_model / "config.json").write_text(json.dumps(config | {"recommended_group_size": 6}))
    del spec["knobs"]["group_size"]
    run = start_run(parse_spec(spec), "chat", Event())
    row = run.store.load_run(run.run_id)
    assert row["knobs"]["group_size"] == 6
    assert row["manifest"]["group_size_from"] == "model"


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"model\.name: cannot load .*empty"):
        load_model(ModelSpec(name=str(tmp_path / "empty")), LoraSpec(), seed=0)


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
