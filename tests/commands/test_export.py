"""A run's model as others take it: loaded by transformers alone, and scored as the run scored it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.program import MINI, Program
from tests.support.runs import REWARD

LOAD = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
inputs = tokenizer("12+34=", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=30, do_sample=False)[0]))
"""


@pytest.fixture(scope="module", params=["full weights", "LoRA"])
def tuned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    program = Program(tmp_path_factory.mktemp("tuned"))
    # An untrained model earns this reward half of the time, so that there are scores to compare.
    (program.folder / "odd.py").write_text(REWARD.format(value="float(sum(map(ord, completion + ground_truth)) % 2)"))
    lora = "\n[lora]\nrank = 4\n" if request.param == "LoRA" else ""
    text = MINI.replace("steps = 14", "steps = 4").replace("steps = 40", "steps = 0")
    (program.folder / "mini.toml").write_text(text + '\n[reward]\nfunction = "odd.py:reward"\n' + lora)
    program.here("run", "mini.toml", "--name", "tuned", "--force")
    return program


def test_the_best_is_exported_loads_anywhere_and_scores_the_same(tuned: Program) -> None:
    done = tuned.here("export", "tuned", "--best", "--to", "model")
    assert "grpo eval ./model" in done.stdout
    found = json.loads(tuned.here("eval", "./model", "--json").stdout)  # by the spec in the folder
    held = tuned.review("tuned")["heldout"]
    assert found["n"] == held["n"]
    assert 0 < held["best"] < 1
    assert abs(found["accuracy"] - held["best"]) <= 1 / held["n"]
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, str(tuned.folder / "model")], capture_output=True, text=True, check=True
    )
    assert "12+34=" in loaded.stdout
    assert not (tuned.folder / "model" / "adapter_config.json").exists()


def test_the_card_tells_what_the_record_holds(tuned: Program) -> None:
    tuned.here("export", "tuned", "--checkpoint", "final", "--to", "carded")
    card = (tuned.folder / "carded" / "README.md").read_text()
    held = tuned.review("tuned")["heldout"]
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "# tuned, step 4" in card
    assert f"| last | {held['final']:.4f} |" in card
    assert "arithmetic?digits=2&size=600&slips=0.65" in card
    assert "\n\n\n" not in card
    assert "{{" not in card


def test_an_adapter_alone(tuned: Program) -> None:
    if "rank = 4" not in (tuned.folder / "mini.toml").read_text():
        refused = tuned.here("export", "tuned", "--adapter", "--to", "adapter", code=2)
        assert "has none" in refused.stderr
        assert not (tuned.folder / "adapter").exists()
        return
    tuned.here("export", "tuned", "--adapter", "--to", "adapter")
    assert (tuned.folder / "adapter" / "adapter_config.json").is_file()
    assert "library_name: peft" in (tuned.folder / "adapter" / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export", "tuned", "--to", "mini.toml"], "--to: mini.toml exists already"),
        (["export", "tuned", "--checkpoint", "nightly"], "tuned: "),
        (["export", "nobody"], "no run named nobody"),
        (["export", "tuned", "--best", "--checkpoint", "final"], "give one of them"),
    ],
)
def test_what_cannot_be_exported_is_said_and_leaves_nothing(tuned: Program, words: list[str], said: str) -> None:
    before = sorted(path.name for path in tuned.folder.iterdir())
    assert said in tuned.here(*words, code=2).stderr
    assert sorted(path.name for path in tuned.folder.iterdir()) == before


def test_a_folder_that_cannot_be_written_is_said(tuned: Program) -> None:
    place = Path("mini.toml") / "model"
    refused = tuned.here("export", "tuned", "--to", str(place), code=2)
    assert "--to: " in refused.stderr
