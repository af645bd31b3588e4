from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InputError
from pools.sources import load_prompts

SOURCE = """
def make(size=3, hard=False, unit="cm"):
    for i in range(size):
        yield {"prompt": f"{i} {unit}", "ground_truth": i * i, "label": "hard" if hard else "easy"}

def rows():
    return [{"prompt": "a", "ground_truth": [1, 2]}]

def wrong():
    yield {"prompt": "a", "ground_truth": 1}
    yield "b"

def broken():
    yield {"prompt": "a", "ground_truth": 1}
    raise RuntimeError("no\\nmore")

def leaves():
    raise SystemExit(3)

def nothing():
    return 3

constant = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "prompts.py").write_text(SOURCE)
    (tmp_path / "bad.py").write_text("raise KeyError('x')")
    return tmp_path / "prompts.py"


def load(source: str) -> list[tuple[str, str, str]]:
    prompts = load_prompts(source, columns={}, template="{prompt}", system="")
    return [(prompt.text, prompt.ground_truth, prompt.label) for prompt in prompts]


def test_a_function_yields_rows_and_takes_options(file: Path) -> None:
    assert load(f"{file}:make") == [("0 cm", "0", "easy"), ("1 cm", "1", "easy"), ("2 cm", "4", "easy")]
    assert load(f"{file}:make?size=1&hard=true&unit=k%26m") == [("0 k&m", "0", "hard")]
    assert load(f"{file}:rows") == [("a", "[1,2]", "")]


def test_a_function_of_a_module(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(file.parent)
    assert len(load("prompts:make?size=5")) == 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("prompts.py:gone", "prompts.py has no function named gone"),
        ("prompts.py:constant", "has no function named constant"),
        ("nowhere.py:make", "cannot import .*FileNotFoundError: no file"),
        ("bad.py:make", "cannot import .*KeyError"),
        ("prompts.py:wrong", "prompts.py:wrong row 2 must be a dict, not str"),
        ("prompts.py:broken", "prompts.py:broken raised RuntimeError after row 1: no more"),
        ("prompts.py:leaves", "prompts.py:leaves raised SystemExit: 3"),
        ("prompts.py:nothing", "prompts.py:nothing raised TypeError: 'int' object is not iterable"),
        ("prompts.py:make?sise=3", "prompts.py:make raised TypeError: .*unexpected keyword argument 'sise'"),
    ],
)
def test_what_a_function_does_wrong_is_one_line(file: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(f"{file.parent}/{name}")
    assert "\n" not in str(caught.value)


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"cannot import no\.such:make: ModuleNotFoundError"):
        load("no.such:make")
