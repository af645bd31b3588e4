from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import InputError
from harness.types import Prompt, Score
from rewards import solution
from rewards.contract import (
    Reward,
    RewardDescription,
    is_ours,
    load_function,
    load_reward,
    name_functions,
    sources_of,
    to_score,
)
from rewards.trl import is_trl_style
from tests.support.builders import make_prompt

PROMPTS = [make_prompt("a", ground_truth="1"), make_prompt("b", ground_truth="2"), make_prompt("c", ground_truth="3")]
TEXTS = ["1", "x", "3"]


class FakeTensor:
    """What matters of a tensor here: it is no list, and gives its numbers by tolist and item."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def tolist(self) -> list[float]:
        return self.values

    def item(self) -> float:
        (value,) = self.values
        return value


def equals(completion: str, ground_truth: str) -> float:
    return float(completion == ground_truth)


def rewards_of(function: Any, **options: Any) -> list[float | None]:
    return [score.reward for score in Reward({"f": function}, **options).score(PROMPTS, TEXTS)]


# ---------------------------------------------------------------- plain functions


def test_a_plain_function_sees_completion_and_truth() -> None:
    scores = Reward({"equals": equals}).score(PROMPTS, TEXTS)
    assert [(s.reward, s.correct, s.reason) for s in scores] == [
        (1.0, True, "right"),
        (0.0, False, "wrong"),
        (1.0, True, "right"),
    ]


def test_an_exception_errs_its_own_row_only() -> None:
    def picky(completion: str, _ground_truth: str) -> float:
        return 1.0 / int(completion)

    right, errored, _ = Reward({"picky": picky}).score(PROMPTS, ["1", "0", "2"])
    assert right.reward == 1.0
    assert (errored.reward, errored.correct, errored.reason) == (None, False, "errored")
    assert errored.error == "ZeroDivisionError: float division by zero"


@pytest.mark.parametrize(
    "value",
    [1, 1.0, True, np.bool_(True), np.float32(1.0), np.int64(1), np.array([1.0]), np.array(True), FakeTensor([1.0])],
)
def test_every_kind_of_number_is_a_reward(value: Any) -> None:
    reward = rewards_of(lambda _completion, _truth: value)
    assert reward == [1.0, 1.0, 1.0]
    assert all(type(number) is float for number in reward)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "returned None"),
        ("1.0", "returned '1.0' instead of a number"),
        ([1.0], "instead of a number"),
        ({}, "instead of a number"),
        (math.nan, "returned nan"),
        (math.inf, "returned inf"),
        (np.float64("nan"), "returned nan"),
        (1.5, r"reward 1.5 is outside the declared range \[0, 1\]"),
        (-0.1, "reward -0.1 is outside"),
        (np.array([1.0, 0.0]), "ValueError"),
        (FakeTensor([]), "ValueError"),
    ],
)
def test_anything_else_is_errored_and_says_why(value: Any, message: str) -> None:
    for score in Reward({"f": lambda _completion, _truth: value}).score(PROMPTS, TEXTS):
        assert score.errored
        assert re.search(message, score.error)


def test_no_function_at_all_for_no_completions() -> None:
    assert Reward({"equals": equals}).score([], []) == []


# ---------------------------------------------------------------- TRL-style functions


def test_a_trl_function_gets_plain_texts_and_every_column() -> None:
    seen: dict[str, Any] = {}

    def trl(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        seen.update(columns, prompts=prompts, completions=completions)
        return [1.0] * len(prompts)

    prompts = [make_prompt("a", ground_truth="1", columns={"tests": [1]}), make_prompt("b", columns={"level": 3})]
    assert [s.reward for s in Reward({"trl": trl}).score(prompts, ["x", "y"])] == [1.0, 1.0]
    seen = {name: value for name, value in seen.items() if name not in ("trainer_state", "log_extra", "log_metric")}
    assert seen == {
        "completion_ids": [[120], [121]],
        "prompts": ["a=", "b="],
        "completions": ["x", "y"],
        "ground_truth": ["1", "2"],
        "tests": [[1], None],
        "level": [None, 3],
    }


def test_with_chat_it_gets_messages() -> None:
    seen: dict[str, Any] = {}

    def trl(prompts: Any, completions: Any, **_columns: Any) -> list[float]:
        seen.update(prompts=prompts, completions=completions)
        return [0.0, 0.0]

    prompts = [make_prompt("a", system="Be brief."), make_prompt("b")]
    Reward({"trl": trl}, chat=True).score(prompts, ["x", "y"])
    assert seen["prompts"] == [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a="}],
        [{"role": "user", "content": "b="}],
    ]
    assert seen["completions"] == [[{"role": "assistant", "content": "x"}], [{"role": "assistant", "content": "y"}]]


@pytest.mark.parametrize(
    "values", [[1.0, 0.0, 0.5], (1, 0, 0.5), np.array([1.0, 0.0, 0.5]), FakeTensor([1.0, 0.0, 0.5]),
               [np.float32(1.0), FakeTensor([0.0]), 0.5], [True, False, 0.5], [np.bool_(True), 0, np.float64(0.5)]],
)  # fmt: skip
def test_a_trl_function_may_answer_in_any_kind_of_sequence(values: Any) -> None:
    assert rewards_of(lambda completions, **_: values) == [1.0, 0.0, 0.5]


@pytest.mark.parametrize("bad", [None, math.nan, "1", 7.0])
def test_a_bad_value_errs_its_own_row_only(bad: Any) -> None:
    assert rewards_of(lambda completions, **_: [1.0, bad, 0.0]) == [1.0, None, 0.0]


def test_a_trl_function_that_raises_on_one_row_keeps_the_others() -> None:
    def trl(completions: list[str], **_columns: Any) -> list[float]:
        return [float(int(text) > 2) for text in completions]

    scores = Reward({"trl": trl}).score(PROMPTS, TEXTS)
    assert [s.reward for s in scores] == [0.0, None, 1.0]
    assert scores[1].error.startswith("ValueError: invalid literal")


@pytest.mark.parametrize("answer", [[1.0], [], [1.0] * 7, None, 1.0])
def test_a_batch_answer_of_the_wrong_shape_is_errored_or_asked_row_by_row(answer: Any) -> None:
    expected = [1.0] * 3 if answer == [1.0] else [None] * 3
    assert rewards_of(lambda completions, **_: answer) == expected


def test_the_truth_of_a_row_comes_from_its_own_column() -> None:
    def trl(completions: list[str], ground_truth: list[str], **_columns: Any) -> list[float]:
        return [float(text == truth) for text, truth in zip(completions, ground_truth, strict=True)]

    assert rewards_of(trl) == [1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (equals, False),
        (lambda *texts, **more: 0.0, False),
        (lambda **columns: [], True),
        (lambda prompts, **columns: [], True),
        (lambda completion_ids, trainer_state: [], True),
        (solution.score, False),
        (lambda completions, **_: [], True),
        (lambda prompts, completions: [], True),
    ],
)
def test_a_trl_function_is_known_by_its_argument_names(function: Any, expected: bool) -> None:
    assert is_trl_style(function) is expected


# ---------------------------------------------------------------- scores, weights, components


def test_a_scorer_of_ours_keeps_its_reason_and_components() -> None:
    text = "<start_working_out>1<end_working_out><SOLUTION>9</SOLUTION>"
    (score,) = Reward({"solution": solution.score}).score(PROMPTS[:1], [text])
    assert score == Score(0.1, False, "wrong", {"exact": 0.0, "format": 1.0})


def test_a_weight_scales_the_reward_and_leaves_the_scorers_own_judgement() -> None:
    text = "<start_working_out>1<end_working_out><SOLUTION>1</SOLUTION>"
    (score,) = Reward({"solution": solution.score}, weights=[0.5]).score(PROMPTS[:1], [text])
    assert (score.reward, score.correct, score.reason) == (0.5, True, "right")


def test_several_functions_are_weighted_components() -> None:
    def length(completions: list[str], **_columns: Any) -> list[float]:
        return [0.5] * len(completions)

    reward = Reward({"equals": equals, "length": length}, weights=[0.8, 0.2])
    right, wrong, _ = reward.score(PROMPTS, TEXTS)
    assert right.reward == pytest.approx(0.9)
    assert right.components == {"equals": 1.0, "length": 0.5}
    assert wrong.reward == pytest.approx(0.1)
    assert not right.correct, "the highest reward is 1"


def test_an_error_of_one_function_errs_the_row() -> None:
    reward = Reward({"equals": equals, "broken": lambda _completion, _truth: 1 / 0}, weights=[0.5, 0.5])
    assert [score.errored for score in reward.score(PROMPTS, TEXTS)] == [True] * 3


def test_the_range_holds_for_the_sum() -> None:
    functions: Mapping[str, Any] = {"one": equals, "two": equals}
    assert Reward(functions).score(PROMPTS, TEXTS)[0].errored
    assert Reward(functions, range=(0.0, 2.0)).score(PROMPTS, TEXTS)[0].reward == 2.0
    assert Reward(functions, range=(0.0, 2.0)).score(PROMPTS, TEXTS)[0].correct


def test_weights_that_should_sum_to_the_highest_reward_do() -> None:
    functions: Mapping[str, Any] = {f"f{i}": equals for i in range(10)}
    (score,) = Reward(functions, weights=[0.1] * 10).score(PROMPTS[:1], ["1"])
    assert (score.reward, score.correct) == (1.0, True)


@pytest.mark.parametrize(("solved_at", "correct"), [(None, False), (0.5, True), (0.51, False)])
def test_correct_is_a_reward_of_at_least_solved_at(solved_at: float | None, correct: bool) -> None:
    reward = Reward({"half": lambda _completion, _truth: 0.5}, solved_at=solved_at)
    assert reward.score(PROMPTS[:1], ["1"])[0].correct is correct


@pytest.mark.parametrize("value", [object(), b"1", 1j, [], float, np.array([]), Score(None, False, "errored")])
def test_whatever_comes_back_becomes_a_score(value: Any) -> None:
    (score,) = Reward({"f": lambda _completion, _truth: value}).score(PROMPTS[:1], ["1"])
    assert score.errored


def test_a_score_is_left_as_it_is() -> None:
    score = Score(0.25, False, "half")
    assert to_score(score) is score


# ---------------------------------------------------------------- by name


def test_a_module_of_ours_is_loaded_by_its_name() -> None:
    assert load_function("rewards.solution") is solution.score


def test_a_function_is_loaded_from_a_module_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def judge(completion, ground_truth):\n    return 0.25\n", encoding="utf-8")
    assert load_function(f"{path}:judge")("a", "b") == 0.25
    assert load_function("rewards.solution:compute_reward") is solution.compute_reward


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "cannot import .*mine.py:judge: FileNotFoundError"),
        ("def other(): ...", "has no function named judge"),
        ("judge = 3", "has no function named judge"),
        ("def judge(:", "cannot import .*: SyntaxError"),
        ("import nothing_of_that_name", "cannot import .*: ModuleNotFoundError"),
        ("1 / 0", "cannot import .*: ZeroDivisionError"),
    ],
)
def test_a_file_that_does_not_give_the_function_is_wrong_input(
    tmp_path: Path, source: str | None, message: str
) -> None:
    if source is not None:
        (tmp_path / "mine.py").write_text(source, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_function(f"{tmp_path / 'mine.py'}:judge")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rewards.nothing", r"cannot import rewards.nothing: .*package.module:function or file.py:function"),
        ("rewards.solution:nothing", "rewards.solution has no function named nothing"),
        ("rewards.contract", "rewards.contract has no function named score"),
        ("", "names no function"),
    ],
)
def test_a_module_that_does_not_give_the_function_is_wrong_input(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_function(name)


@pytest.mark.parametrize(
    ("functions", "names"),
    [
        (["rewards.math", "my.py:exact"], ["math", "exact"]),
        (["rewards.solution", "rewards.math:solution"], ["solution", "math.solution"]),
        (["a.py:f", "b.py:f", "g.py:g"], ["a.f", "b.f", "g"]),
        (["x/a.py:f", "y/a.py:f"], ["x/a.py:f", "y/a.py:f"]),
    ],
)
def test_functions_are_called_by_short_names_that_differ(functions: list[str], names: list[str]) -> None:
    assert name_functions(functions) == names


def test_the_same_function_twice_is_wrong_input() -> None:
    with pytest.raises(InputError, match=r"rewards.math is named twice; give it once, with the sum of the weights"):
        load_reward(RewardDescription(("rewards.math", "rewards.math")))


def test_two_functions_of_one_name_are_two_components() -> None:
    reward = load_reward(RewardDescription(("rewards.solution", "rewards.math:solution"), weights=(0.5, 0.5)))
    text = "<start_working_out>1<end_working_out><SOLUTION>{}</SOLUTION>"
    right, wrong = reward.score([PROMPTS[0]] * 2, [text.format(1), text.format(7)])
    assert (right.reward, right.components) == (1.0, {"solution": 1.0, "math.solution": 1.0})
    assert (wrong.reward, wrong.reason) == (0.05, "wrong")


def test_what_is_not_solved_has_the_reason_of_the_first_function_that_gave_one() -> None:
    reward = load_reward(RewardDescription(("rewards.math", "rewards.length"), weights=(0.9, 1.0), solved_at=0.9))
    texts = (r"\boxed{1}", r"\boxed{1} or \boxed{2}", "1")
    assert [score.reason for score in reward.score([PROMPTS[0]] * 3, texts)] == [
        "right", "several_answers", "not_extracted",
    ]  # fmt: skip


def test_the_sources_of_a_reward_are_its_file_and_what_it_imports_of_the_same_hand(tmp_path: Path) -> None:
    path = tmp_path / "mine2.py"
    path.write_text("import json, helper\nfrom rewards import math\ndef judge(completion, ground_truth): ...\n")
    (tmp_path / "helper.py").write_text("import math  # the standard library's\n")
    (tmp_path / "other.py").write_text("")
    found = sources_of(f"{path}:judge")
    assert found["mine2.py"] == path.read_text(encoding="utf-8")
    assert {"helper.py", "math.py", "answers.py", "symbolic.py"} <= found.keys()
    assert not {"other.py", "code.py"} & found.keys()
    assert not sources_of("math:fsum")


def test_the_sources_of_the_code_reward_include_what_runs_in_the_sandbox() -> None:
    assert {"sandbox.py", "isolation.py", "seccomp.py", "zygote.py", "escapes.py"} <= sources_of("rewards.code").keys()
    assert sources_of("rewards.code").keys() < sources_of("rewards.composite").keys()
    assert list(sources_of("rewards.solution")) == ["format.py", "outside.py", "solution.py"]


def test_prompts_are_unchanged_by_scoring() -> None:
    def greedy(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
        prompts.clear()
        completions.clear()
        columns["ground_truth"].clear()
        return [0.0, 0.0, 0.0]

    prompts, texts = list[Prompt](PROMPTS), list(TEXTS)
    Reward({"greedy": greedy}).score(prompts, texts)
    assert (prompts, texts) == (PROMPTS, ["1", "x", "3"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(completion, truth, more): return 0", r"f\(completion, truth, more\) cannot be called: a reward takes"),
        ("def f(): return 0", r"f\(\) cannot be called"),
        ("from operator import itemgetter as f", "does not say what arguments"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_at_once(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.py").write_text(text)
    with pytest.raises(InputError, match=message):
        load_function(f"{tmp_path / 'r.py'}:f")


def test_more_thinking_tags_are_for_rewards_of_this_package() -> None:
    completion = "<ponder>\\boxed{7}</ponder>\\boxed{42}"
    prompt = make_prompt(ground_truth="42")
    tags = {"<ponder>": "</ponder>"}
    for more, correct in (({}, False), (tags, True)):
        reward = load_reward(RewardDescription(("rewards.math",), thinking_tags=more))
        assert reward.score([prompt], [completion])[0].correct is correct
    seen: list[str] = []

    def judge(completion: str, ground_truth: str) -> float:
        seen.append(completion)
        return 1.0

    Reward({"judge": judge}, thinking_tags=tags).score([prompt], [completion])
    assert seen == [completion]


def begun(prefill: str, truth: str = "42") -> Prompt:
    turns = ({"role": "user", "content": "6*7?"}, {"role": "assistant", "content": prefill})
    return Prompt("a", "6*7?", truth, system="Be brief.", messages=turns)


@pytest.mark.parametrize(
    ("prefill", "completion", "reasons"),
    [
        ("Well.\n<think>", "6*7</think><answer>42</answer>", ["right", "right"]),
        ("Well.\n<think>", "<think>6*7</think><answer>42</answer>", ["right", "right"]),
        ("<think>\nFirst,", " 6*7</think><answer>42</answer>", ["right", "right"]),
        ("<think>6*7</think><answer>", "42</answer>", ["right", "right"]),
        ("Well.\n<think>", "6*7 <answer>42</answer>", ["cut_in_thinking", "cut_in_thinking"]),
        ("Well.", "<think>6*7</think><answer>42</answer>", ["right", "right"]),
    ],
)
def test_rewards_of_this_package_see_the_tags_that_a_prefill_opened(
    prefill: str, completion: str, reasons: list[str]
) -> None:
    for function, reason in zip(("rewards.format", "rewards.math"), reasons, strict=True):
        [found] = load_reward(RewardDescription((function,))).score([begun(prefill)], [completion])
        assert (function, found.reason) == (function, reason)
    tags = {"<ponder>": "</ponder>"}
    reward = load_reward(RewardDescription(("rewards.format",), thinking_tags=tags))
    own = [text.replace("think>", "ponder>") for text in (prefill, completion)]
    assert reward.score([begun(own[0])], [own[1]])[0].reason == reasons[0]


def test_other_rewards_get_what_was_written_after_the_prefill_and_trl_ones_the_real_messages() -> None:
    seen: list[Any] = []

    def judge(completion: str, ground_truth: str) -> float:
        seen.append(completion)
        return 1.0

    def trl(prompts: Any, completions: Any, **_columns: Any) -> list[float]:
        seen.extend([*prompts, *completions])
        return [1.0]

    prompt = begun("<think>")
    Reward({"judge": judge, "trl": trl}, chat=True).score([prompt], ["so</think>42"])
    assert seen == ["so</think>42", prompt.turns, [{"role": "assistant", "content": "so</think>42"}]]
    assert [message["role"] for message in seen[1]] == ["system", "user", "assistant"]


def test_none_of_one_trl_function_leaves_the_completion_to_the_others() -> None:
    def ours(completions: list[str], task: list[str], **_: Any) -> list[float | None]:
        return [1.0 if one == "sum" else None for one in task]

    def theirs(completions: list[str], task: list[str], **_: Any) -> list[float | None]:
        return [0.5 if one == "code" else None for one in task]

    prompts = [make_prompt(task, columns={"task": task}) for task in ("sum", "code", "none")]
    scores = Reward({"ours": ours, "theirs": theirs}).score(prompts, ["x", "x", "x"])
    assert [score.reward for score in scores] == [1.0, 0.5, None]
    assert [score.components for score in scores[:2]] == [{"ours": 1.0}, {"theirs": 0.5}]
    assert scores[2].error == "the reward returned None"


def test_none_of_a_function_of_two_texts_leaves_it_to_the_others_too() -> None:
    functions: Mapping[str, Any] = {"ours": lambda completion, truth: None, "rest": lambda completion, truth: 1.0}
    assert [(s.reward, s.components) for s in Reward(functions).score(PROMPTS, TEXTS)] == [(1.0, {"rest": 1.0})] * 3
    assert Reward({"ours": functions["ours"]}).score(PROMPTS, TEXTS)[0].error == "the reward returned None"


def test_a_reward_out_of_range_proposes_the_range_that_was_seen() -> None:
    reward = Reward({"f": lambda completions, **_: [3.5, -0.251, 0.5]})
    high, low, within = reward.score(PROMPTS, TEXTS)
    assert high.error.startswith("reward 3.5 is outside the declared range [0, 1]: set reward.range = [-0.26, 3.5]")
    assert "set reward.range = [-0.26, 3.5]" in low.error
    assert within.reward == 0.5


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def judge(completion, ground_truth): return 0.25", 0.25),
        ("def _help(): ...\ndef write_reference(t): ...\ndef judge(c, t): return 0.25", 0.25),
        ("from math import fsum\ndef judge(c, t): return 0.25", 0.25),
        ("def help(): ...\ndef reward(c, t): return 0.5", 0.5),
        ("def help(): ...\ndef reward(c, t): return 0.5\ndef compute_reward(c, t): return 0.75", 0.75),
        ("def compute_reward(c, t): return 0.5\ndef score(c, t): return 1.0", 1.0),
        ("class Judge:\n    def __call__(self, c, t): return 0.5\njudge = Judge()", 0.5),
    ],
)
def test_a_file_alone_is_its_only_function_or_the_usual_one(tmp_path: Path, source: str, expected: float) -> None:
    (tmp_path / "rew.py").write_text(source)
    assert load_function(str(tmp_path / "rew.py"))("a", "b") == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "def one(c, t): ...\ndef two(c, t): ...",
            r"has no function named .*; it has one, two: name one, as in .*rew.py:one$",
        ),
        ("X = 1", "it has no function at all"),
    ],
)
def test_a_file_alone_that_leaves_it_open_is_wrong_input(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "rew.py").write_text(source)
    with pytest.raises(InputError, match=message):
        load_function(str(tmp_path / "rew.py"))


def test_what_each_function_took_is_told() -> None:
    scores = Reward({"equals": equals, "batch": lambda completions, **_: [0.0] * len(completions)}).score(
        PROMPTS, TEXTS
    )
    assert all(score.seconds.keys() == {"equals", "batch"} for score in scores)
    assert all(second > 0 for score in scores for second in score.seconds.values())


@pytest.mark.parametrize(
    ("name", "ours"),
    [("rewards.math", True), ("rewards.math:hashes", True), ("rewards.py:judge", False), ("rewards.py", False),
     ("rewards/mine.py:judge", False), ("my.rewards:judge", False)],
)  # fmt: skip
def test_a_users_file_is_none_of_ours_whatever_it_is_called(name: str, ours: bool) -> None:
    assert is_ours(name) is ours
