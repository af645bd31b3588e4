"""``grpo compare GROUP...``: base and stages by their scores, and groups of several seeds."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from harness.models.evaluate import read_csv, write_csv
from harness.types import Completion, Example, Prompt, Score
from tests.support.builders import make_store
from tests.support.groups import MEANT, record_group, write_scores
from tests.support.nights import record_night
from tests.support.program import Program


@pytest.fixture
def groups(program: Program) -> Program:
    """Three groups of the same stages with seeds 0, 1, 2, and one of other stages."""
    (program.folder / "runs").mkdir()
    store = make_store(program.folder / "runs")
    for seed in range(3):
        more = {**MEANT, "tuned": lambda i, seed=seed: 4 <= i < 50 + seed}
        record_group(store, f"g-{seed}", seed=seed, right=more)
    record_group(store, "other", seed=0, steps=9)
    record_group(store, "bare", stages={"alone": "base"}, right={"base": MEANT["base"], "alone": MEANT["tuned"]})
    record_group(store, "new", right={})
    store.close()
    return program


def document(program: Program, *names: str) -> dict[str, Any]:
    return json.loads(program.here("compare", *names, "--json").stdout)  # type: ignore[no-any-return]


def test_a_group_is_base_and_stages_each_against_the_base_and_its_parent(groups: Program) -> None:
    found = document(groups, "g-0")
    assert [(one["name"], one["who"], one["from"], one["n"]) for one in found["answerers"]] == [
        ("base", "tiny", None, 60), ("learned", "g-0/learned@3", "base", 60), ("tuned", "g-0/tuned@3", "learned", 60),
    ]  # fmt: skip
    assert [one["accuracy"] for one in found["answerers"]] == [6 / 60, 28 / 60, 46 / 60]
    assert found["answerers"][1]["thinking_proportion"] == found["answerers"][1]["answer_proportion"] == 1.0
    pairs = {(one["name"], one["against"]): one for one in found["differences"]}
    assert list(pairs) == [("learned", "base"), ("tuned", "base"), ("tuned", "learned")]
    forgotten = {pair: [one["prompt"] for one in told["forgotten"]] for pair, told in pairs.items()}
    assert forgotten["learned", "base"] == ["0+0=", "1+1="]
    assert forgotten["tuned", "learned"] == ["2+2=", "3+3="]
    first = pairs["learned", "base"]["forgotten"][0]
    assert (first["ground_truth"], first["before"]["reason"]) == ("0", "right")
    assert first["before"]["answer"].endswith("<SOLUTION>0</SOLUTION>")
    assert first["after"] == {"score": 0.0, "reason": "wrong", "answer": "<think>so</think><SOLUTION>7777</SOLUTION>"}
    assert len(pairs["tuned", "learned"]["gained"]) == 20
    assert pairs["tuned", "learned"]["accuracy"]["verdict"] == "better"


def test_a_group_fits_80_columns_and_says_what_was_forgotten(groups: Program) -> None:
    told = groups.here("compare", "g-0", environment={"COLUMNS": "80"}).stdout
    assert max(map(len, told.splitlines())) <= 80
    lines = [line.split() for line in told.splitlines()]
    assert ["forgotten", "-", "2", "4"] in lines  # of the base
    assert ["forgotten", "-", "-", "2"] in lines  # of the parent
    assert "forgotten: 2 prompts" in told
    wide = {f"s{i}": "base" for i in range(7)}
    store = make_store(groups.folder / "runs")
    record_group(store, "wide", stages=wide, right={"base": MEANT["base"], **dict.fromkeys(wide, MEANT["tuned"])})
    store.close()
    told = groups.here("compare", "wide", environment={"COLUMNS": "80"}).stdout
    assert max(map(len, told.splitlines())) <= 80
    assert told.count("accuracy   ") == 2  # two tables of four


def test_groups_of_seeds_are_told_by_stage_with_their_spread(groups: Program) -> None:
    found = document(groups, "g-0", "g-1", "g-2")
    assert found["seeds"] == {"g-0": 0, "g-1": 1, "g-2": 2}
    assert found["notes"] == []
    tuned = {one["name"]: one for one in found["stages"]}["tuned"]
    assert tuned["accuracy"]["n"] == 3
    assert tuned["accuracy"]["mean"] == pytest.approx(47 / 60)
    assert tuned["accuracy"]["sd"] == pytest.approx(1 / 60)
    assert (tuned["accuracy"]["low"], tuned["accuracy"]["high"]) == (46 / 60, 48 / 60)
    pairs = {(one["name"], one["against"]): one for one in found["differences"]}
    against = pairs["tuned", "learned"]["accuracy"]
    assert {key: against[key] for key in ("better", "worse", "unclear")} == {"better": 3, "worse": 0, "unclear": 0}
    assert against["mean"] == pytest.approx(19 / 60)
    assert pairs["tuned", "learned"]["by_group"]["g-2"]["forgotten"] == 2
    told = groups.here("compare", "g-0", "g-1", "g-2").stdout
    assert "0.783 ± 0.017" in told
    assert "tuned against learned: accuracy +0.317 ± 0.017, better in 3 of 3" in told


def test_groups_that_differ_in_more_than_the_seed_are_compared_with_a_note(groups: Program) -> None:
    found = document(groups, "g-1", "other")
    assert found["notes"] == [
        "these are not seeds of one pipeline, they differ in learned.sft.steps: 3, 9; tuned.sft.steps: 3, 9"
    ]
    assert [one["name"] for one in found["stages"]] == ["base", "learned", "tuned"]
    assert "g-0, other have the same seed, 0" in document(groups, "g-0", "other")["notes"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["g-0", "bare"], "no stage of the same name"),
        (["g-0", "g-0"], "different groups"),
        (["g-0", "tiny"], "name the run of a stage, such as g-0/learned"),
        (["g-0", "g-1/tuned"], "g-0 is a group"),
        (["new"], "new has no scores yet"),
        (["g-0", "--spec", "math-gsm"], "--spec"),
        (["g-0", "--html", "gone/x.html"], "--html: there is no folder gone"),
        (["g-0", "--csv", "gone/x.csv"], "--csv: there is no folder gone"),
        (["g-0", "--csv", "."], "--csv: cannot write"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_exit_2(words: list[str], said: str, groups: Program) -> None:
    done = groups.here("compare", *words, code=2)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout


def test_a_stage_without_scores_or_with_those_of_an_older_run_is_told(groups: Program) -> None:
    scores = groups.folder / "runs" / "g-0" / "scores"
    (scores / "tuned.csv").unlink()
    index = json.loads((scores / "scores.json").read_text())
    index["learned"]["run"] = "g-0/learned-0"
    (scores / "scores.json").write_text(json.dumps(index))
    notes = document(groups, "g-0")["notes"]
    assert notes == [
        "the scores of learned are those of g-0/learned-0; g-0/learned has none yet",
        "tuned has no scores yet: grpo resume g-0",
    ]
    (scores / "learned.csv").write_text("id,completion\n1,2\n")
    assert "learned.csv: no CSV of an evaluation" in groups.here("compare", "g-0", code=2).stderr


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_a_csv_has_a_row_for_each_whatever_is_compared(groups: Program) -> None:
    done = groups.here("compare", "g-0", "--csv", "one.csv", "--html", "one.html")
    assert done.stdout == "one.html\none.csv\n"
    assert (groups.folder / "one.html").stat().st_size > 2**20
    one = rows_of(groups.folder / "one.csv")
    assert [(row["name"], row["group"], row["from"], row["against_parent"]) for row in one] == [
        ("base", "g-0", "", ""), ("learned", "g-0", "base", "base"), ("tuned", "g-0", "learned", "learned"),
    ]  # fmt: skip
    assert [(row["forgotten_against_first"], row["forgotten_against_parent"]) for row in one[1:]] == [
        ("2", "2"), ("4", "2"),
    ]  # fmt: skip
    groups.here("compare", "g-0", "g-1", "g-2", "--csv", "all.csv")
    rows = rows_of(groups.folder / "all.csv")
    assert list(rows[0]) == list(one[0])
    assert [(row["group"], row["seed"]) for row in rows[::3]] == [("g-0", "0"), ("g-1", "1"), ("g-2", "2")]
    assert len(rows) == 9


def test_runs_of_several_seeds_are_a_set_with_its_spread(program: Program) -> None:
    (program.folder / "runs").mkdir()
    store = make_store(program.folder / "runs")
    for seed, right in enumerate((60, 70, 80)):
        record_night(store, f"n-{seed}", right=right, seed=seed)
    record_night(store, "again", right=99, seed=0)
    store.close()
    found = document(program, "n-0", "n-1", "n-2", "again")
    (seeds,) = found["seeds"]
    assert (seeds["runs"], seeds["seeds"]) == (["n-0", "n-1", "n-2"], [0, 1, 2])
    assert seeds["best"] == {"n": 3, "mean": pytest.approx(0.7), "sd": pytest.approx(0.1), "low": 0.6, "high": 0.8}
    assert seeds["start"]["sd"] == pytest.approx(0)
    told = program.here("compare", "n-0", "n-1", "n-2", "--csv", "runs.csv").stdout
    assert told == "runs.csv\n"
    told = " ".join(program.here("compare", "n-0", "n-1", "n-2").stdout.split())
    assert "3 seeds: start 0.400 ± 0.000 (0.40 to 0.40), best 0.700 ± 0.100 (0.60 to 0.80)" in told
    rows = rows_of(program.folder / "runs.csv")
    assert [(row["run"], row["seed"], row["final"]) for row in rows] == [
        ("n-0", "0", "0.6"), ("n-1", "1", "0.7"), ("n-2", "2", "0.8"),
    ]  # fmt: skip
    assert float(rows[1]["final_difference"]) == pytest.approx(0.1)
    assert document(program, "n-0", "again")["seeds"] == []


def test_what_a_csv_says_comes_back_and_each_function_has_a_column(tmp_path: Path) -> None:
    done = [
        Completion("=1+1 'x", 3, True, Score(0.5, False, "wrong", {"one": 0.25, "answer": 0.25})),
        Completion("'quoted", 2, False, Score(1.0, True, "right", {"one": 0.5, "answer": 0.5})),
        Completion("", 0, False, Score(None, False, "errored", error="-503: no answer")),
    ]
    examples = [Example(Prompt(f"p{i}", "+1=", "2", label="@x"), one) for i, one in enumerate(done)]
    write_csv(tmp_path / "x.csv", examples, {}, ["silent", "one", "answer"])
    found = read_csv(tmp_path / "x.csv")
    assert found is not None
    assert [replaced(one) for one in found.examples] == [replaced(one) for one in examples]
    header = (tmp_path / "x.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header.endswith("thinking,answer,error,reward:answer,one,silent")
    assert (found.thinking_proportion, found.answer_proportion) == (0, 0)
    write_scores(tmp_path / "none.csv", bool, n=0)
    assert read_csv(tmp_path / "none.csv") is None


def replaced(example: Example) -> tuple[Any, ...]:
    """What of an example is in a CSV as it was."""
    done = example.completion
    return example.prompt, done.text, done.tokens, done.score.reward, done.score.correct, done.score.error


def test_a_stage_of_which_nothing_could_be_judged_is_told(groups: Program) -> None:
    scores = groups.folder / "runs" / "g-0" / "scores"
    rows = rows_of(scores / "tuned.csv")
    with (scores / "tuned.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, "reward": "", "correct": "0", "error": "the verifier died"} for row in rows)
    assert "no prompt that both answered" in groups.here("compare", "g-0", code=2).stderr
