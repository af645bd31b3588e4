"""On folders of the hub's own layout and on the cache that ``datasets`` keeps: no hub is asked."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.errors import InputError
from pools.sources import load_prompts

CARD = """---
configs:
- config_name: main
  data_files:
  - split: train
    path: main/train-*
  - split: test
    path: main/test-*
- config_name: socratic
  data_files:
  - split: train
    path: socratic/train-*
---
"""


@pytest.fixture(scope="module")
def gsm8k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Laid out as openai/gsm8k is."""
    folder = tmp_path_factory.mktemp("hub") / "gsm8k"
    for config, split, size in (("main", "train", 30), ("main", "test", 10), ("socratic", "train", 20)):
        (folder / config).mkdir(parents=True, exist_ok=True)
        questions = [f"{config} {split} {i}?" for i in range(size)]
        rows = pa.table({"question": questions, "answer": [f"so\n#### {i}" for i in range(size)]})
        pq.write_table(rows, folder / config / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def fail() -> NoReturn:
    raise AssertionError("the hub must not be asked")


def load(source: str, *, hub_answers: bool | None = None) -> list[str]:
    prompts = load_prompts(
        source,
        columns={"prompt": "question", "ground_truth": "answer"},
        template="{prompt}",
        system="",
        hub_answers=fail if hub_answers is None else lambda: hub_answers,
    )
    assert all(prompt.ground_truth.startswith("so\n#### ") for prompt in prompts)
    return [prompt.text for prompt in prompts]


def test_a_folder_with_configurations_and_splits(gsm8k: Path) -> None:
    assert load(f"hub:{gsm8k}?config=main&split=train[:10]") == [f"main train {i}?" for i in range(10)]
    assert load(f"hub:{gsm8k}?config=socratic") == [f"socratic train {i}?" for i in range(20)]
    both = load(f"hub:{gsm8k}?config=main&split=train[28:]+test[:1]")
    assert both == ["main train 28?", "main train 29?", "main test 0?"]


def test_what_save_to_disk_left(gsm8k: Path, tmp_path: Path) -> None:
    saved = datasets.load_dataset(str(gsm8k), "main")
    saved.save_to_disk(tmp_path / "all")
    saved["test"].save_to_disk(tmp_path / "one")
    assert load(f"hub:{tmp_path}/all?split=train[90%:]+test[:1]")[-2:] == ["main train 29?", "main test 0?"]
    assert len(load(f"hub:{tmp_path}/one?split=test")) == 10
    with pytest.raises(InputError, match=r'Unknown split "train". Should be one of \[\'test\'\]'):
        load(f"hub:{tmp_path}/one")


def test_without_the_hub_the_cache_is_enough(gsm8k: Path, cache: Path) -> None:
    load(f"hub:{gsm8k}?config=main")
    (cache / "gsm8k").rename(cache / "openai___gsm8k")  # where a load from the hub puts it
    assert load("hub:openai/gsm8k?config=main&split=train[:3]", hub_answers=False) == [
        "main train 0?",
        "main train 1?",
        "main train 2?",
    ]
    assert not datasets.config.HF_HUB_OFFLINE
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


def test_without_hub_and_cache_there_is_one_line_at_once() -> None:
    with pytest.raises(InputError, match="the hub is out of reach and openai/gsm8k is not in the local cache; give"):
        load("hub:openai/gsm8k?config=main", hub_answers=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", r"Config name is missing. Please pick one among the available configs: \['main', 'socratic'\]"),
        ("?config=nosuch", r"BuilderConfig 'nosuch' not found. Available: \['main', 'socratic'\]"),
        ("?config=main&split=valid", 'Unknown split "valid"'),
        ("?config=main&split=train[:x]", "Unrecognized instruction format"),
        ("?conf=main", "has no option 'conf'; it takes config, split, revision"),
    ],
)
def test_what_a_data_set_has_not_is_one_line(gsm8k: Path, options: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(f"hub:{gsm8k}{options}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["./gone", "/gone", "a/b/c"])
def test_a_folder_that_is_not_there(name: str) -> None:
    with pytest.raises(InputError, match=f"no folder {name}; give a data set's folder or its hub id"):
        load(f"hub:{name}")


def test_a_file_and_a_folder_without_data(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no folder .*rows.jsonl"):
        load(f"hub:{tmp_path}/rows.jsonl")
    with pytest.raises(InputError, match=r"cannot load .*empty doesn't contain any data files"):
        load(f"hub:{tmp_path}/empty")


def test_a_wrong_row_is_named_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"question": ["a", "b"], "answer": ["so\n#### 1", None]}), tmp_path / "data/train.parquet")
    with pytest.raises(InputError, match="row 2 has no answer: it is empty"):
        load(f"hub:{tmp_path / 'data'}")
