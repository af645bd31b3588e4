"""Runs from Python: the example of docs/api.md, and how often a start reads what it is given."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness import commands
from harness.commands.launch import prepare_resume, prepare_run
from harness.errors import InputError
from tests.support.program import MINI

COUNTED = """
from pathlib import Path

with Path({counter!r}).open("a") as file:
    file.write("{what} " + __name__.partition("_")[0] + " " + str(__import__("os").getpid()) + "\\n")
"""
REWARD = """
def judge(completion: str, ground_truth: str) -> float:
    return float(completion.strip() == ground_truth)
"""
SOURCE = """
def rows(size: str = "200"):
    with Path({counter!r}).open("a") as file:
        file.write("read source " + str(__import__("os").getpid()) + "\\n")
    for n in range(int(size)):
        yield {{"prompt": f"{{n}}+1=", "ground_truth": str(n + 1), "demonstration": str(n + 1)}}
"""


def test_the_notebook_example_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    assert len(found[1].strip().splitlines()) <= 12
    Path("mini.toml").write_text(MINI.replace("steps = 40", "steps = 0"), encoding="utf-8")
    made: dict[str, object] = {}
    exec(found[1].replace('"arithmetic"', '"mini.toml"'), made)
    document = commands.review("notebook").to_json()
    assert document["status"] == "stopped"
    assert document["steps"] == 8
    (change,) = [d for d in document["decisions"] if d["source"] == "manual"]
    assert (change["step"], change["changes"]["temperature"]["to"]) == (5, 0.8)
    assert change["evidence"] == "colder?"
    run = prepare_resume("notebook", steps=10).start()
    assert run.drive() == ("finished", "budget of 10 steps spent")


def test_one_run_imports_the_reward_once_and_reads_the_source_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    counter = str(tmp_path / "counter")
    Path("mine.py").write_text(COUNTED.format(counter=counter, what="reward") + REWARD, encoding="utf-8")
    head = COUNTED.format(counter=counter, what="import")
    Path("numbers_of.py").write_text(head + SOURCE.format(counter=counter), encoding="utf-8")
    given = {
        "reward.function": "mine.py:judge",
        "pool.source": "numbers_of.py:rows",
        "warmstart.steps": 2,
        "warmstart.examples": 100,
        "budget.steps": 1,
    }
    overrides = [f"{field}={json.dumps(value)}" for field, value in given.items()]
    Path("mini.toml").write_text(MINI, encoding="utf-8")
    run = prepare_run("mini.toml", name="counted", overrides=overrides).start(force=True)
    assert run.drive()[0] == "finished"
    import os

    here = [line.split()[:2] for line in Path(counter).read_text().splitlines() if line.endswith(f" {os.getpid()}")]
    assert [what for what, _ in here].count("reward") == 1
    assert here.count(["read", "source"]) == 1


def test_what_is_wrong_shows_before_anything_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for wrong, said in (
        ({"overrides": ["knobs.group_size=1"]}, "knobs.group_size"),
        ({"policy": "replay:nobody"}, "no run named nobody"),
        ({"name": ""}, "--name: it is empty"),
    ):
        with pytest.raises(InputError, match=said):
            prepare_run("arithmetic", **wrong)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
