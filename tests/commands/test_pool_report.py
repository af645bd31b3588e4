"""`grpo pool show` and `grpo pool export` on the record of a real run."""

from __future__ import annotations

import json

import pytest

from tests.support.program import Program


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Program:
    program = Program(tmp_path_factory.mktemp("drawn"))
    (program.folder / "sometimes.py").write_text(
        "def score(completion, ground_truth):\n    return float(len(completion) % 2 and ground_truth != '4')\n"
    )
    text = (program.folder / "mini.toml").read_text().replace("steps = 40", "steps = 0")
    (program.folder / "mini.toml").write_text(text + '\n[reward]\nfunction = "sometimes.py"\n')
    program.run("run", "mini.toml", "--name", "drawn", "--plain", "--steps", "12", "--force")  # which pays by length
    return program


def test_the_classes_are_the_whole_pool_and_the_windows_all_groups(drawn: Program) -> None:
    view = json.loads(drawn.here("pool", "show", "drawn", "--json", "-n", "3").stdout)
    assert view["unseen"] + view["frontier"] + view["solved"] + view["hopeless"] == view["prompts"]
    assert sum(sum(window["groups"]) for window in view["windows"]) == 12 * 4
    assert [window["first"] for window in view["windows"]] == list(range(1, 13))
    assert len(view["hardest"]) == len(view["easiest"]) == 3
    assert view["hardest"][0]["pass_rate"] <= view["easiest"][-1]["pass_rate"]
    assert any(one["samples"] for one in (*view["hardest"], *view["easiest"]))


def test_the_picture_names_every_class_and_shows_completions(drawn: Program) -> None:
    text = drawn.here("pool", "show", "drawn").stdout
    for word in (
        "unseen",
        "frontier",
        "solved",
        "never solved",
        "hardest prompts seen",
        "easiest prompts seen",
        "step 1",
    ):
        assert word in text
    assert "\x1b" not in text


def test_what_fails_is_a_source_again(drawn: Program) -> None:
    everything = drawn.here("pool", "export", "drawn", "seen.jsonl").stdout
    failing = drawn.here("pool", "export", "drawn", "failing.jsonl", "--failed").stdout
    seen, failed = (
        [json.loads(line) for line in (drawn.folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("seen", "failing")
    )
    assert everything.startswith(f"{len(seen)} of {len(seen)} prompts seen are in seen.jsonl")
    assert failing.startswith(f"{len(failed)} of {len(seen)} prompts seen")
    assert [row for row in seen if row["pass_rate"] < 0.5] == failed
    assert {"prompt", "ground_truth", "label", "demonstration", "pass_rate"} == set(failed[0])
    splits = [word for name in ("test", "dev", "probe") for word in ("--set", f"pool.splits.{name}=1")]
    source = ["--set", "pool.source=failing.jsonl", "--set", "pool.draw_share=1", "--set", "knobs.prompts_per_step=1"]
    drawn.run("run", "mini.toml", "--name", "again", "--plain", "--steps", "1", "--force", *source, *splits)
    assert drawn.here("pool", "export", "drawn", "seen.jsonl", code=2).stderr.startswith("grpo: OUT: seen.jsonl exists")


def test_before_the_first_step_there_is_nothing_to_show(drawn: Program) -> None:
    assert drawn.here("pool", "show", "nobody", code=2).stderr.startswith("grpo: no run named nobody")
