from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.types import Prompt, Score
from pools.layouts import ArrangedRows, find_layout
from pools.layouts.cases import find_cases, make_truth
from pools.rows import Row
from pools.sources import load_prompts
from rewards import code, countdown, function_call, math
from tests.support.layouts import EXAMPLES, FILE, arrange, render, render_table

REAL = Path(__file__).parents[3] / "shared" / "data"
JUDGES = {
    "rewards.math": math.score,
    "rewards.math:hashes": math.hashes,
    "rewards.function_call": function_call.score,
    "rewards.countdown": countdown.score,
    "rewards.code": code.score,
}
WRITERS: dict[str, Any] = {
    "rewards.math": math.write_reference,
    "rewards.math:hashes": lambda truth: f"#### {truth}",
    "rewards.function_call": function_call.write_reference,
    "rewards.countdown": countdown.write_reference,
}


def load(rows: list[dict[str, Any]], folder: Path, /, **columns: str) -> list[Prompt]:
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return list(load_prompts(str(folder / "rows.jsonl"), columns=columns, template="{prompt}", system=""))


def judge(reward: str, row: dict[str, Any]) -> list[Score]:
    """Judge what a converted row says is right."""
    truth = row["ground_truth"] if isinstance(row["ground_truth"], str) else json.dumps(row["ground_truth"])
    answers = [row.get("demonstration")] if reward in ("rewards.code", "rewards.math:hashes") else []
    written = WRITERS.get(reward, lambda _: None)(truth)
    return [JUDGES[reward](answer, truth) for answer in [*answers, written] if answer is not None]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_layout_is_found_and_its_answers_are_right(name: str) -> None:
    arranged, kept = arrange(EXAMPLES[name].rows)
    if name.startswith("our own"):
        assert arranged.layout is None
        assert kept == EXAMPLES[name].rows
        return
    assert arranged.layout is not None
    assert len(kept) == 10 - (name in ("MBPP", "MBPP, sanitized", "coding messages"))
    assert all(row.get("prompt") or row.get("messages") for row in kept)
    if reward := arranged.layout.reward:
        scores = [score for row in kept for score in judge(reward, row)]
        assert scores or name in ("verl code", "LiveCodeBench", "LiveCodeBench, functional"), "they have no solutions"
        assert {score.reason for score in scores} <= {"right"}, scores
    for row in kept if arranged.layout.reward == "rewards.code" else []:
        assert code.check_ground_truth(json.dumps(row["ground_truth"])) is None


def test_the_page_has_the_table_of_what_was_recognised() -> None:
    assert FILE.read_text(encoding="utf-8") == render(), "make docs"
    assert render_table() in render()


def test_hidden_tests_are_read_and_a_pickle_that_would_run_something_is_not() -> None:
    rows = EXAMPLES["LiveCodeBench"].rows
    _, kept = arrange(rows)
    assert [case["stdin"] for case in kept[0]["ground_truth"]["cases"]] == ["1\n", "5\n"]
    import base64
    import pickle
    import zlib

    class Harmful:
        def __reduce__(self) -> Any:
            return (Path.touch, (Path("/tmp/never"),))

    rows[0]["private_test_cases"] = base64.b64encode(zlib.compress(pickle.dumps(Harmful()))).decode()
    arranged, kept = arrange(rows)
    assert (len(kept), arranged.dropped) == (9, 1), "one public test alone is passed by a constant"
    assert not Path("/tmp/never").exists()


def test_a_source_in_a_layout_becomes_prompts_and_says_so(tmp_path: Path) -> None:
    prompts = load(EXAMPLES["GSM8K"].rows, tmp_path)
    assert [prompt.ground_truth for prompt in prompts] == [str(2 * n + 5) for n in range(10)]
    assert prompts[0].demonstration == EXAMPLES["GSM8K"].rows[0]["answer"]
    assert prompts[0].columns["question"] == prompts[0].text, "a reward may ask for it by that name"
    table = load_prompts(str(tmp_path / "rows.jsonl"), columns={}, template="{prompt}", system="")
    assert table.layout == table[:5].layout == "GSM8K layout: question, answer after ####"


def test_columns_of_the_spec_win_over_a_layout_and_reach_into_objects(tmp_path: Path) -> None:
    rows = EXAMPLES["GSM8K"].rows
    assert load(rows, tmp_path, prompt="question", ground_truth="answer")[0].ground_truth == rows[0]["answer"]
    verl = [
        {"ask": row["prompt"][0]["content"], "reward_model": row["reward_model"]} for row in EXAMPLES["DAPO-math"].rows
    ]
    prompts = load(verl, tmp_path, prompt="ask", ground_truth="reward_model.ground_truth")
    assert [prompt.ground_truth for prompt in prompts] == [str(2 * n + 2) for n in range(10)]
    prompts = load(EXAMPLES["DAPO-math"].rows, tmp_path, label="extra_info.split")
    assert {(prompt.label, prompt.ground_truth) for prompt in prompts} == {("train", str(2 * n + 2)) for n in range(10)}


def test_the_request_for_a_form_that_no_verifier_reads_is_taken_off() -> None:
    _, kept = arrange(EXAMPLES["DAPO-math"].rows)
    assert [row["prompt"] for row in kept[:2]] == [
        [{"role": "user", "content": "Add 0 and 2."}],
        [{"role": "user", "content": "Add 1 and 3."}],
    ]
    _, others = arrange(EXAMPLES["verl"].rows)
    assert "####" in others[0]["prompt"][0]["content"]


def test_a_large_source_says_its_layout_also_when_it_comes_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("pools.sources.CACHED_FROM", 1)
    first = load(EXAMPLES["coding messages"].rows, tmp_path)
    tables = [load_prompts(str(tmp_path / "rows.jsonl"), columns={}, template="{prompt}", system="") for _ in range(2)]
    assert list(tables[1]) == first
    assert tables[1].layout == tables[0].layout
    assert "1 of 10 rows dropped, with nothing to judge by (first: " in tables[1].layout


def test_programs_in_messages_stay_the_ground_truth_of_other_rewards(tmp_path: Path) -> None:
    as_they_are = EXAMPLES["coding messages"].rows
    found = load(as_they_are, tmp_path)
    options: dict[str, Any] = {"columns": {}, "template": "{prompt}", "system": ""}
    for rewards, size in ((["rewards.code", "rewards.length"], 9), (["my.py:judge"], 10)):
        assert len(load_prompts(str(tmp_path / "rows.jsonl"), rewards=rewards, **options)) == size
    own = load_prompts(str(tmp_path / "rows.jsonl"), rewards=["my.py:judge"], **options)
    assert (own.layout, own[0].ground_truth) == ("", as_they_are[0]["messages"][1]["content"])
    assert found[0].ground_truth != own[0].ground_truth


@pytest.mark.parametrize("odd", [None, 3, "", [], {}, [None], {"ground_truth": {}}, float("nan"), "[", b"x"])
def test_no_value_of_any_column_breaks_a_layout(odd: Any) -> None:
    for example in EXAMPLES.values():
        for column in example.make(1):
            rows = example.rows
            rows[3] = rows[3] | {column: odd}
            arrange(rows)
            arrange([{column: odd}] * 3)


def test_rows_of_no_known_layout_stay_as_they_are() -> None:
    rows = [{"a": 1, "b": "x"}] * 5
    assert find_layout(rows) is None
    assert find_layout([]) is None
    assert [row.values for row in ArrangedRows(lambda: iter([Row("1", rows[0])]), {})] == rows[:1]


# ---------------------------------------------------------------- tests as cases


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("assert f(1) == 2", [([1], 2)]),
        ("e.g. assert f([1, 2]) == {3}", [([[1, 2]], {3})]),
        ("assert 2 == f(1), 'two'", [([1], 2)]),
        ("assert f('a') is None", [(["a"], None)]),
        ("assert not f(0) and f(1)", [([0], False), ([1], True)]),
        ("assert f(0) == 1 and f(1) == 2", [([0], 1), ([1], 2)]),
        ("assert f(10**3, 'ab' * 2) == -1", [([1000, "abab"], -1)]),
        ("assert f(set([1])) == (1, 2)", [([{1}], (1, 2))]),
        ("assert list(f(1)) == (1, 2)", [([1], [1, 2])]),
        ("assert abs(f(2) - 1.5) < 1e-3", [([2], 1.5)]),
        ("assert math.isclose(f(2), 1.5, rel_tol=0.1)", [([2], 1.5)]),
        ("def test():\n    x = [1]\n    want = 3\n    got = f(x)\n    assert got == want", [([[1]], 3)]),
        ("def test():\n    x = [1]\n    x.append(2)\n    assert f(x) == 3", []),
        ("for i in range(3):\n    assert f(i) == i", []),
        ("assert len(f(1)) == 2\nassert 1 == 1\nassert x in f(2)", []),
        ("class T(TestCase):\n    def test(self):\n        self.assertEqual(f(1), 2)\n        self.assertFalse(f(2))",
         [([1], 2), ([2], False)]),
        (">>> f(1)\n2\n>>> f('b')\n\n>>> f(3)\n[1,\n 2]\n", [([1], 2), (["b"], None), ([3], [1, 2])]),
        (">>> x = [1]\n>>> f(x)\n(1.0, 2)\n", [([[1]], (1.0, 2))]),
        (">>> f(1)\nTraceback (most recent call last):\nValueError\n", []),
        (">>> print(f(1))\n2\n>>> f(2) == 4\nTrue", [([2], 4)]),
        ("Solution().f(1) is right\nassert Solution().f(1) == 2", [([1], 2)]),
        ("no test here, though it says assert", []),
    ],
)  # fmt: skip
def test_what_a_test_asks_becomes_a_case(text: str, expected: list[tuple[list[Any], Any]]) -> None:
    found = [(case.args, case.expected) for case in find_cases(text) if case.function == "f"]
    assert found == expected
    assert [type(value) for _, value in found] == [type(value) for _, value in expected]


def test_cases_of_one_value_are_no_ground_truth_and_numbers_have_the_tolerance_of_their_tests() -> None:
    assert make_truth(find_cases("assert f(1) == 2\nassert f(2) == 2")) is None
    truth = make_truth(find_cases("assert f(1) == 2\nassert abs(f(2) - 3.0) < 0.01\nassert g(1) == 5"))
    assert truth == {
        "entry_point": "f",
        "cases": [{"args": [1], "expected": 2}, {"args": [2], "expected": 3.0}],
        "tolerance": 0.01,
    }


# ---------------------------------------------------------------- real rows


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data")
@pytest.mark.parametrize(
    ("file", "says", "kept"),
    [("gsm8k_train_300.jsonl", "GSM8K layout", 300), ("coding_100.jsonl", "coding messages layout", 32)],
)
def test_real_rows_are_recognised(file: str, says: str, kept: int) -> None:
    table = load_prompts(str(REAL / file), columns={}, template="{prompt}", system="")
    assert table.layout.startswith(says)
    assert len(table) == kept
    judged = math.hashes if kept == 300 else code.score
    right = [judged(prompt.demonstration or "", prompt.ground_truth).correct for prompt in list(table)[:40]]
    assert sum(right) == (40 if kept == 300 else 26), "six of the programs are wrong by the examples of their own rows"
