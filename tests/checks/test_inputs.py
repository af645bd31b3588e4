from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.checks.inputs import build_splits, describe_reward, find_rules, keep_splits
from harness.config.load import parse_spec
from harness.config.schema import RunSpec
from rewards.contract import load_reward
from tests.support.program import Program

SPLITS = {"test": 5, "dev": 5, "probe": 3, "prefer": 4}


def make_spec(folder: Path) -> RunSpec:
    pool = {"source": str(folder / "rows.jsonl"), "splits": SPLITS}
    return parse_spec({"pool": pool, "output": {"dir": str(folder / "runs")}})


def write_rows(folder: Path, n: int) -> None:
    rows = ({"prompt": f"{i}+1=", "ground_truth": i + 1} for i in range(n))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def ids(spec: RunSpec) -> dict[str, list[str]]:
    return {name: part.ids for name, part in build_splits(spec).items()}


def test_looking_at_splits_creates_nothing(tmp_path: Path) -> None:
    write_rows(tmp_path, 40)
    build_splits(make_spec(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_splits_that_a_run_used_stay_when_its_source_grows(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    write_rows(tmp_path, 40)
    before = ids(spec)
    keep_splits(spec, build_splits(spec))
    write_rows(tmp_path, 400)
    after = ids(spec)
    assert {name: after[name] for name in SPLITS} == {name: before[name] for name in SPLITS}
    assert set(before["train"]) < set(after["train"])


def test_splits_stay_when_source_and_runs_are_moved_together(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    write_rows(tmp_path / "here", 40)
    spec = make_spec(tmp_path / "here")
    before = ids(spec)
    keep_splits(spec, build_splits(spec))
    (tmp_path / "here").rename(tmp_path / "there")
    write_rows(tmp_path / "there", 400)
    assert ids(make_spec(tmp_path / "there"))["test"] == before["test"]


def test_another_source_has_splits_of_its_own(tmp_path: Path) -> None:
    write_rows(tmp_path, 40)
    spec = make_spec(tmp_path)
    keep_splits(spec, build_splits(spec))
    other = spec.model_copy(update={"pool": spec.pool.model_copy(update={"source": "arithmetic?size=50&digits=2"})})
    keep_splits(other, build_splits(other))
    assert len(list((tmp_path / "runs" / "splits").iterdir())) == 2


REWARDS = """
def plain(completion, ground_truth): return 1.0
def trl(completions, tests, unit=None): return [1.0] * len(completions)
def truth(completions, ground_truth, **kwargs): return [1.0] * len(completions)
def form(completions, **kwargs): return [1.0] * len(completions)
"""


@pytest.mark.parametrize(
    ("functions", "asked", "needs_truth"),
    [
        (["plain"], set(), True),
        (["trl"], {"tests", "unit"}, False),
        (["truth"], None, True),
        (["form"], None, False),
        (["trl", "plain"], {"tests", "unit"}, True),
        (["form", "trl"], None, False),
    ],
)
def test_a_pool_gives_what_the_functions_of_a_reward_name(
    tmp_path: Path, functions: list[str], asked: set[str] | None, needs_truth: bool
) -> None:
    (tmp_path / "mine.py").write_text(REWARDS)
    spec = parse_spec({"reward": {"function": [f"{tmp_path}/mine.py:{name}" for name in functions]}})
    rules = find_rules(spec, load_reward(describe_reward(spec, chat=False)))
    assert (None if rules.wanted is None else rules.wanted & {"tests", "unit", "image"}) == asked
    assert rules.needs_truth == needs_truth


def test_a_run_of_before_has_the_pool_and_splits_it_had_on_rows_that_hardly_differ(tmp_path: Path) -> None:
    """As the code of 3a615b0 cut them, a fraction and two sizes; a new run on the source keeps to them."""
    rows = [{"prompt": f"{word} {i}²+1=", "ground_truth": i} for i in range(40) for word in ("What is", "what  IS")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pool = {"source": str(tmp_path / "rows.jsonl"), "splits": {"test": 4, "dev": 0.2, "probe": 3}}
    before = parse_spec(
        {"pool": pool | {"identity": "normalised", "conflicts": "first"}, "output": {"dir": f"{tmp_path}/runs"}}
    )
    old = build_splits(before)
    assert {name: part.ids[:2] for name, part in old.items()} == OF_THEN
    assert sum(map(len, old.values())) == 40
    keep_splits(before, old)
    now = parse_spec({"pool": pool, "output": {"dir": f"{tmp_path}/runs"}})
    new = build_splits(now)
    assert (len(new["test"]), len(new["probe"]), len(new["dev"])) == (4, 3, 2 * len(old["dev"]))
    for name, part in old.items():
        assert {prompt.text for prompt in part} <= {prompt.text for prompt in new[name]}
    assert {name: part.ids for name, part in build_splits(before).items()} == {n: part.ids for n, part in old.items()}


OF_THEN = {
    "dev": ["2ffe170038dc0e53", "f946f5154a6de81e"],
    "test": ["099b413f56e75303", "85619d83813c7fcc"],
    "probe": ["1e1064a113291dfe", "e08c2dcd4cd0392a"],
    "train": ["e474111800e0f565", "157862017655129b"],
}


def test_small_data_is_judged_and_told_what_a_run_would_take(program: Program) -> None:
    rows = ({"prompt": f"{i}+1=", "ground_truth": i + 1, "demonstration": str(i + 1)} for i in range(40))
    (program.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (program.folder / "my.toml").write_text(
        '[pool]\nsource = "rows.jsonl"\nsplits = { probe = 0, dev = 4, test = 6 }\n'
        '[reward]\nfunction = "rewards.math:last_number"\n[knobs]\nprompts_per_step = 64\n'
    )
    draw = "knobs.prompts_per_step: 64 is more than 50% of the 30 train prompts: at most 15"
    first, second, last = program.here("check", "my.toml", "--set", "warmstart.steps=2").stdout.splitlines()[-3:]
    assert first.startswith(f"a run would be refused: {draw}")
    assert second.startswith("a run would be refused: warmstart.examples: 1000 asked for, but only 30")
    assert last == "40/40 passed"
    assert program.here("run", "my.toml", code=2).stderr.splitlines()[-1].startswith(f"grpo: {draw}")
    few = ("--set", "knobs.prompts_per_step=15")
    assert "pool.splits: probe is 0" in program.here("probe", "my.toml", *few, code=2).stderr
    told = program.here("check", "my.toml", "--set", "pool.splits.test=60", code=2).stderr
    assert "e.g. pool.splits = { probe = 4, dev = 4, test = 8 }" in told
