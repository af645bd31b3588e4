"""Preflight against rewards that are broken, gameable or unsteady in one way each: the real ones, in real workers."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from harness.checks.gate import check_references, pass_preflight, preflight_inputs
from harness.checks.inputs import prepare_inputs
from harness.checks.preflight import Report, RewardProbe, describe, run_preflight
from harness.checks.references import find_writer
from harness.config.load import load_spec, parse_spec
from harness.config.schema import ModelSpec, RunSpec
from harness.errors import InputError, RunFailed
from harness.types import Prompt, Score, no_progress
from rewards import function_call, structured
from rewards.contract import to_score

ROWS = [Prompt(f"{n:016x}", f"What is {n} plus {n}?", str(2 * n)) for n in range(101, 150)]


def look(function: Any, rows: list[Prompt] = ROWS, **values: Any) -> Report:
    """Preflight of a function of (completion, ground truth) in this process."""

    def judge(prompts: Any, texts: Any) -> list[Score]:
        scores = [to_score(function(text, prompt.ground_truth)) for prompt, text in zip(prompts, texts, strict=True)]
        return [Score(s.reward, s.correct or s.reward == 1.0, s.reason, {}, s.error) for s in scores]

    options = {"judge": judge, "elsewhere": judge, "range": (0.0, 1.0), "time_limit": 10.0} | values
    return run_preflight(rows, RewardProbe(**options))


def levels(report: Report) -> dict[str, str]:
    return {outcome.check: outcome.level for outcome in report.outcomes if outcome.level != "pass"}


def exact(completion: str, truth: str) -> float:
    return float(completion.strip() == truth)


def test_a_sound_reward_passes_every_check() -> None:
    report = look(exact)
    assert (report.verdict, levels(report), len(report.outcomes)) == ("pass", {}, 14)


def digits(completion: str, truth: str) -> float:
    """Partial credit that nothing gets in full: 0.3 for any number, up to 0.9 for its digits."""
    text = completion.strip()
    return 0.3 + 0.6 * sum(a == b for a, b in zip(text, truth, strict=False)) / len(truth) if text.isdigit() else 0.0


def test_a_reward_that_nothing_gets_in_full_is_graded() -> None:
    report = look(digits)
    assert (report.graded, report.verdict) == (True, "warn")
    assert "judged by mean reward" in next(o.said for o in report.outcomes if o.check == "gold")
    assert not look(exact).graded
    assert not look(lambda c, t: 0.2 * c.strip().isdigit()).graded, "a right form alone is no grade"
    assert not look(digits, graded=False).graded


state = {"calls": 0}


def flips(completion: str, truth: str) -> float:
    state["calls"] += 1
    return float(completion.strip() == truth and state["calls"] % 100 != 0)


@pytest.mark.parametrize(
    ("function", "check", "said"),
    [
        (lambda c, t: 0.5, "constant", "every one of"),
        (lambda c, t: 0.0, "constant", "has the reward 0.0"),
        (lambda c, t: 1.0, "constant", "has the reward 1.0"),
        (lambda c, t: float(t in c), "tricks", "several answers"),
        (lambda c, t: float(c.strip().endswith(t)), "tricks", "a denied answer"),
        (lambda c, t: 1.0 if exact(c, t) or not c.strip() else 0.0, "silence", "nothing"),
        (lambda c, t: 1.0 if exact(c, t) else 0.2 * (len(c) > 20), "echo", "24 of 24 rows"),
        (lambda c, t: float(c.strip().isdigit()), "others", "are right on 100%"),
        (lambda c, t: float(len(c) == len(t)), "others", "are right on 100%"),
        (lambda c, t: str(exact(c, t)), "errors", "instead of a number"),
        (lambda c, t: None, "errors", "returned None"),
        (lambda c, t: exact(c, t) or math.nan, "errors", "returned nan"),
        (lambda c, t: 1.0 if exact(c, t) else random.random() / 10, "pure", "not a function of the texts"),
        (flips, "pure", ""),
    ],
)
def test_a_reward_with_one_fault_fails_by_its_name(function: Any, check: str, said: str) -> None:
    report = look(function)
    assert report.verdict == "fail"
    [outcome] = [f for f in report.outcomes if f.check == check]
    assert outcome.level == "fail"
    assert said in outcome.said
    assert check in describe(report)


def test_a_penalty_that_makes_silence_pay_fails() -> None:
    def punishes(completion: str, truth: str) -> float:
        return 1.0 if exact(completion, truth) else 0.0 if not completion.strip() else -1.0

    report = look(punishes, range=(-1.0, 1.0))
    assert levels(report) == {"partial": "fail"}
    assert "earns less than white space (0)" in describe(report)


def test_a_reward_that_differs_elsewhere_fails() -> None:
    other = lambda prompts, texts: [Score(0.0, False, "wrong") for _ in texts]  # noqa: E731
    report = look(exact, elsewhere=other)
    assert levels(report) == {"pure": "fail"}
    outcome = next(f for f in report.outcomes if f.check == "pure")
    assert outcome.said.startswith("1, in another process 0")
    assert outcome.row.startswith("What is")


def test_one_bad_row_among_many_is_found_and_shown() -> None:
    rows = [*ROWS, Prompt("f" * 16, "What is this?", "12 feet", demonstration="11 feet")]
    report = look(lambda c, t: float(c.strip() == t and t.isdigit()), rows)
    outcome = next(f for f in report.outcomes if f.check == "gold")
    assert (outcome.level, outcome.row, outcome.reward) == ("fail", "What is this?", 0.0)
    assert outcome.said.startswith("1 of 50 rows")


def test_answers_in_the_prompt_and_one_answer_for_many_rows_only_warn() -> None:
    rows = [Prompt(f"{n:016x}", f"Say {n} or yes", "yes" if n % 2 else str(n)) for n in range(40)]
    assert levels(look(exact, rows)) == {"in prompt": "warn", "others": "warn"}


def test_a_reward_whose_right_answers_nobody_knows_warns() -> None:
    def sees_length(completion: str, truth: str) -> float:
        return 0.0 if len(completion) < 40 else 0.5

    assert levels(look(sees_length, range=(0.0, 1.0)))["gold"] == "warn"


def test_a_ground_truth_that_the_reward_refuses_fails() -> None:
    report = look(exact, refuse=lambda truth: "a constant solves it" if truth == "202" else None)
    assert levels(report) == {"ground truth": "fail"}
    assert "1 of 49 rows cannot be trained on, the first: a constant solves it" in describe(report)


def test_a_slow_reward_is_shown_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    asked = []

    def slow(completion: str, truth: str) -> float:
        clock[0] += 0.1
        asked.append(completion)
        return exact(completion, truth)

    assert look(slow).verdict == "pass"
    assert len(asked) < 700


def test_references_of_ours_are_written_by_the_reward_itself() -> None:
    call = {"name": "f", "arguments": {"a": {"$any": [1, 2]}, "b": {"$optional": ["x"]}}}
    truth = json.dumps({"calls": [call]})
    text = function_call.write_reference(truth)
    assert text is not None
    assert function_call.score(text, truth).correct
    record = json.dumps({"equals": {"a": [1, {"$any": ["x", "y"]}]}})
    assert structured.score(structured.write_reference(record) or "", record).correct
    for module in (function_call, structured):
        assert module.write_reference("{") is None
    assert find_writer(ROWS, lambda p, t: [Score(0.0, False, "wrong")] * len(t), None) is None


def test_rows_where_any_words_are_right_are_not_tried_with_words() -> None:
    truths = [{"calls": [{"name": "f", "arguments": {"a": n}}] if n % 5 else []} for n in range(101, 125)]
    rows = [Prompt(f"{n:016x}", f"Row {n}?", json.dumps(truth)) for n, truth in enumerate(truths)]
    options = {"write": function_call.write_reference, "words": function_call.takes_any_words}
    assert levels(look(function_call.score, rows, **options)) == {}
    assert "silence" in levels(look(function_call.score, rows, write=function_call.write_reference))


@pytest.mark.parametrize("recipe", ["arithmetic", "smollm2", "coding", "function-calling"])
def test_every_recipe_passes_without_a_word(recipe: str) -> None:
    spec, _ = load_spec(recipe)
    report = preflight_inputs(prepare_inputs(spec))
    assert (report.verdict, levels(report)) == ("pass", {}), describe(report)


# ---------------------------------------------------------------- wired to a spec


@pytest.fixture
def spec_of(tmp_path: Path) -> Any:
    def spec_of(reward: str | list[str], rows: list[dict[str, Any]] | None = None, **fields: Any) -> RunSpec:
        function = reward
        if "\n" in reward:
            (tmp_path / "mine.py").write_text(reward)
            function = f"{tmp_path / 'mine.py'}:judge"
        rows = rows or [{"prompt": f"{n} + {n} =", "ground_truth": str(2 * n)} for n in range(101, 161)]
        (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
        pool = {"source": str(tmp_path / "rows.jsonl"), "splits": {"probe": 5, "dev": 5, "test": 5}}
        return parse_spec(
            {
                "pool": pool,
                "knobs": {"prompts_per_step": 2},
                "reward": {"function": function} | fields,
                "output": {"dir": str(tmp_path)},
            }
        )

    return spec_of


def gate(spec: RunSpec, *, force: bool = False) -> Any:
    return pass_preflight(prepare_inputs(spec), force=force)


def test_what_preflight_finds_stops_a_run_unless_it_is_forced(spec_of: Any) -> None:
    spec = spec_of("def judge(completion, ground_truth):\n    return float(ground_truth in completion)\n")
    with pytest.raises(RunFailed, match=r"^preflight: .*tricks.*; fix .* --force$"):
        gate(spec)
    passage = gate(spec, force=True)
    assert passage.forced
    assert passage.manifest["preflight"]["verdict"] == "fail"
    assert any("--force let it pass" in text for _, text in passage.events)


def test_a_user_reward_has_no_network_and_its_attempts_are_told(spec_of: Any) -> None:
    spec = spec_of(
        "import socket, subprocess, urllib.request\n"
        "def judge(completion, ground_truth):\n"
        "    try:\n"
        "        urllib.request.urlopen('http://192.0.2.7/judge', timeout=5)\n"
        "    except OSError:\n"
        "        pass\n"
        "    return float(completion.strip() == ground_truth)\n"
    )
    report = preflight_inputs(prepare_inputs(spec))
    assert levels(report) == {"network": "fail"}
    assert describe(report).endswith("denies it: look up 192.0.2.7")


def test_programs_that_a_reward_starts_have_no_network_either(spec_of: Any) -> None:
    spec = spec_of(
        "import subprocess, sys\n"
        "CODE = 'import socket; socket.socket()'\n"
        "def judge(completion, ground_truth):\n"
        "    if completion == '' and subprocess.run([sys.executable, '-c', CODE]).returncode == 0:\n"
        "        return 1.0\n"
        "    return float(completion.strip() == ground_truth)\n"
    )
    assert levels(preflight_inputs(prepare_inputs(spec))) == {}


def test_a_reward_that_follows_the_hash_seed_or_its_batch_fails(spec_of: Any) -> None:
    seeded = (
        "def judge(completion, ground_truth):\n"
        "    return 1.0 if completion == ground_truth else hash(completion) % 5 / 50\n"
    )
    assert levels(preflight_inputs(prepare_inputs(spec_of(seeded))))["pure"] == "fail"
    batch = (
        "def judge(completions, ground_truth, **columns):\n"
        "    right = [float(c.strip() == g) for c, g in zip(completions, ground_truth)]\n"
        "    return [r * (1.0 if len(right) < 9 else 0.5) for r in right]\n"
    )
    assert "pure" in levels(preflight_inputs(prepare_inputs(spec_of(batch, solved_at=0.5))))


def test_a_reward_that_hangs_or_crashes_is_told_within_a_few_limits(spec_of: Any) -> None:
    for body in ("while True: pass", "import os; os._exit(3)"):
        spec = spec_of(f"def judge(completion, ground_truth):\n    {body}\n", time_limit=0.3)
        report = preflight_inputs(prepare_inputs(spec))
        assert levels(report)["errors"] == "fail"


CONSTANT = json.dumps({"entry_point": "f", "cases": [{"args": [n], "expected": 7} for n in range(5)]})
DOUBLE = json.dumps({"entry_point": "f", "cases": [{"args": [n], "expected": 2 * n} for n in range(5)]})


def code_row(n: int, truth: str, value: str) -> dict[str, Any]:
    return {
        "prompt": f"Task {n}",
        "ground_truth": truth,
        "demonstration": f"```python\ndef f(x): return {value}\n```",
    }


def test_check_counts_the_references_and_refuses_a_row_that_a_constant_solves(spec_of: Any) -> None:
    rows = [code_row(n, DOUBLE, "2 * x") for n in range(28)]
    rows += [code_row(28, CONSTANT, "7"), code_row(29, DOUBLE, "3 * x"), {"prompt": "Task 30", "ground_truth": DOUBLE}]
    spec = spec_of("rewards.code", rows)
    found = check_references(prepare_inputs(spec), no_progress)
    assert (found.passed, found.rows) == (28, 31)
    assert found.reasons == {"refused": 1, "wrong": 1, "no_reference": 1}
    assert any("a constant program passes every case" in failure.said for failure in found.failures)


@pytest.mark.parametrize("reward", ["rewards.format", "rewards.math", "r1_format"])
def test_rows_that_end_in_a_prefill_have_references_and_pass(spec_of: Any, tmp_path: Path, reward: str) -> None:
    """The countdown form: system, user, the assistant's first words, and an answer. The function is as tutorials have
    it, which write the tag that was prefilled before the completion themselves."""
    (tmp_path / "reward.py").write_text(
        "import re\n"
        "def r1_format(completions, **columns):\n"
        "    texts = ['<think>' + c[0]['content'] for c in completions]\n"
        "    form = r'<think>[^<]+</think>\\s*<answer>[^<]+</answer>'\n"
        "    return [float(bool(re.fullmatch(form, text.strip()))) for text in texts]\n"
    )
    rows = [
        {
            "prompt": [
                {"role": "system", "content": "Think first."},
                {"role": "user", "content": f"{i} * 7?"},
                {"role": "assistant", "content": "Let me solve this step by step.\n<think>"},
            ],
            "answer": str(7 * i),
        }
        for i in range(13, 60)
    ]
    spec = spec_of(reward if "." in reward else f"{tmp_path / 'reward.py'}:{reward}", rows)
    inputs = prepare_inputs(spec.model_copy(update={"model": ModelSpec(chat=True)}))
    found = check_references(inputs, no_progress)
    assert (found.passed, found.rows) == (47, 47)
    if reward == "rewards.math":
        assert preflight_inputs(inputs).verdict == "pass"


def test_a_part_of_a_composite_is_refused_as_it_would_be_alone(spec_of: Any) -> None:
    parts = {"p": {"reward": "rewards.code", "ground_truth": json.loads(CONSTANT)}}
    rows = [code_row(n, json.dumps({"parts": parts}), "7") for n in range(20)]
    spec = spec_of("rewards.composite", rows)
    assert gate(spec, force=True).sandbox["tier"] in ("A", "B")
    found = check_references(prepare_inputs(spec), no_progress)
    assert found.passed == 0
    assert found.reasons == {"refused": 20}


def test_programs_are_not_run_where_nothing_confines_them(spec_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from rewards.isolation import SANDBOXES, Isolation

    monkeypatch.setattr(SANDBOXES, "_isolation", Isolation("C", attempts={"x": "no"}, refusal="no Landlock; the fix"))
    with pytest.raises(InputError, match=r"reward.function: no Landlock; the fix"):
        gate(spec_of("rewards.code", [code_row(n, DOUBLE, "2 * x") for n in range(20)]))


# ---------------------------------------------------------------- rewards that grade or shape

FIVE = """
import re

def read(text):
    return text.split("<answer>")[-1].split("</answer>")[0].strip()

def right(prompts, completions, answer, **kwargs):
    return [2.0 if read(text) == one else 0.0 for text, one in zip(completions, answer)]

def whole(completions, **kwargs):
    return [0.5 if read(text).isdigit() else 0.0 for text in completions]

def form(completions, **kwargs):
    shape = r"^<reasoning>\\n.*?\\n</reasoning>\\n<answer>\\n.*?\\n</answer>\\n$"
    return [0.5 if re.match(shape, text, re.DOTALL) else 0.0 for text in completions]

def soft(completions, **kwargs):
    return [bool(re.search(r"<answer>.*?</answer>", text, re.DOTALL)) / 2 for text in completions]

def tags(completions, **kwargs):
    marks = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")
    return [sum(0.125 * (text.count(mark) == 1) for mark in marks) for text in completions]
"""


@pytest.fixture
def five(tmp_path: Path, spec_of: Any) -> Any:
    """A spec with some of five functions as TRL's tutorials have them."""
    (tmp_path / "five.py").write_text(FIVE)

    def five(*names: str, **fields: Any) -> RunSpec:
        rows = [{"prompt": f"{n} + {n} =", "answer": str(2 * n)} for n in range(101, 161)]
        spec = spec_of([f"{tmp_path / 'five.py'}:{name}" for name in names], rows, **fields)
        return spec.model_copy(update={"pool": spec.pool.model_copy(update={"columns": {"ground_truth": "answer"}})})

    return five


def test_five_functions_of_a_tutorial_run_together_without_force(five: Any) -> None:
    spec = five("right", "whole", "form", "soft", "tags", range=[0.0, 4.0])
    passage = gate(spec)
    assert (passage.forced, passage.report.graded) == (False, False)
    assert levels(passage.report).keys() <= {"silence", "tricks", "others"}
    found = check_references(prepare_inputs(spec), no_progress)
    assert (found.passed, found.rows) == (60, 60)
    assert found.times.keys() == {"right", "whole", "form", "soft", "tags"}
    assert all(0 < time.median_ms <= time.p95_ms <= time.max_ms for time in found.times.values())


def test_preflight_and_check_propose_the_range_they_saw(five: Any) -> None:
    spec = five("right", "form")
    with pytest.raises(RunFailed, match=r"errors: .* outside the range \[0, 1\]: set reward.range = \[0.0, 2.5\]"):
        gate(spec)
    with pytest.raises(InputError, match=r"^reward.range: .* set reward.range = \[0.0, 2.5\]$"):
        check_references(prepare_inputs(spec), no_progress)


@pytest.mark.parametrize("name", ["whole", "form", "soft", "tags"])
def test_a_reward_for_form_alone_is_not_constant_and_passes_as_graded(five: Any, name: str) -> None:
    report = preflight_inputs(prepare_inputs(five(name)))
    assert "constant" not in levels(report)
    assert gate(five(name, graded=True)).report.graded


def test_what_a_graded_reward_may_pay_for_only_warns_and_the_rest_still_fails() -> None:
    def shorter(completion: str, truth: str) -> float:
        return 1.0 / (1 + len(completion))

    assert look(shorter).verdict == "fail"
    report = look(shorter, graded=True)
    assert (report.verdict, levels(report)["silence"]) == ("warn", "warn")
    assert "may be meant" in next(o.said for o in report.outcomes if o.check == "silence")
    assert levels(look(lambda c, t: 0.5, graded=True))["constant"] == "fail"
    assert levels(look(lambda c, t: random.random(), graded=True))["pure"] == "fail"
    assert levels(look(lambda c, t: math.nan, graded=True))["errors"] == "fail"


def test_a_sum_of_functions_may_pay_for_form_but_not_in_full() -> None:
    def pays_tags(completion: str, truth: str) -> float:
        return 0.5 * ("<answer>" in completion) + 0.5 * exact(completion.removeprefix("<answer>")[:-9], truth)

    assert levels(look(pays_tags))["silence"] == "fail"
    assert levels(look(pays_tags, several=True))["silence"] == "warn"
    assert levels(look(lambda c, t: float(t in c), several=True))["tricks"] == "fail"


def test_a_reward_for_steps_and_one_for_length_see_texts_of_their_kind() -> None:
    def steps(completion: str, truth: str) -> float:
        return min(1.0, completion.count("Step ") / 3)

    assert "constant" not in levels(look(steps, graded=True))
    seen: list[int] = []
    look(lambda c, t: float(seen.append(len(c)) is None), graded=True)
    assert max(seen) > 2000, "a range is proposed with texts in mind that do not end"


def test_where_grading_may_be_meant_the_fix_is_named_before_force(five: Any) -> None:
    with pytest.raises(RunFailed, match=r"fix the reward or the pool, set reward.graded=true if .* --force$"):
        gate(five("whole", solved_at=0.5))


def test_a_form_is_found_from_the_tags_in_the_source_of_a_reward(spec_of: Any) -> None:
    reward = (
        "import re\n"
        "def judge(completion, ground_truth):\n"
        "    found = re.fullmatch(r'<plan>\\n.+\\n</plan>\\n<final>\\n(.+)\\n</final>', completion)\n"
        "    return float(found is not None and found[1] == ground_truth)\n"
    )
    found = check_references(prepare_inputs(spec_of(reward)), no_progress)
    assert (found.passed, found.rows) == (60, 60)


@pytest.mark.parametrize("reward", ["rewards.math", "rewards.math:hashes"])
def test_worked_solutions_are_judged_by_their_answer(spec_of: Any, reward: str) -> None:
    rows = [
        {"prompt": f"What is {n} and {n}?", "ground_truth": f"It is {n}+{n}=<<{n}+{n}={2 * n}>>{2 * n}.\n#### {2 * n}"}
        for n in range(101, 161)
    ]
    spec = spec_of(reward, rows)
    assert levels(gate(spec).report) == {}
    assert check_references(prepare_inputs(spec), no_progress).passed == 60
    rows[7]["ground_truth"] += "\n\\boxed{7}"
    with pytest.raises(
        RunFailed, match=r"ground truth: 1 of 60 rows .*two different answers, \\boxed\{7\} and #### 216"
    ):
        gate(spec_of(reward, rows))


def test_a_reward_that_says_nothing_of_truths_is_not_said_to_read_any() -> None:
    said = {outcome.check: outcome.said for outcome in look(exact).outcomes}
    assert said["ground truth"] == "not asked: the reward has no check_ground_truth"
    said = {outcome.check: outcome.said for outcome in look(lambda c, t: 0.1 * len(c.split()) % 1).outcomes}
    assert said["tricks"] == "none can be made: no right answer is known"
