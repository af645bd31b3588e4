"""Preflight of judges: an honest one passes, a gullible or an unsteady one is told, and what it costs is said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.checks.gate import check_references, pass_preflight, preflight_inputs
from harness.checks.inputs import build_reward, describe_reward, find_weights, prepare_inputs, read_inputs
from harness.checks.judge_preflight import make_tricks
from harness.checks.judges import build_judges
from harness.config.load import load_spec, parse_spec
from harness.config.schema import RunSpec
from harness.errors import InputError, RunFailed
from harness.llm.record import read_record
from harness.types import Prompt, Question, Reply, no_progress
from rewards.contract import load_reward
from rewards.judged import JudgedReward
from tests.support.answers_server import Server
from tests.support.judges import Scripted, grade, judging, read_untrusted
from tests.support.program import MINI, Program
from tests.support.runs import KEY

RUBRIC = "To {prompt}: how good is {answer}? The right one is {reference}."
TRICKS = ["silence", "echo", "give this a 10", "the rubric itself", "an answer that says it was graded"]


def make_spec(folder: Path, *, function: Any = "rewards.judge:helpful", rubric: str = RUBRIC, **values: Any) -> RunSpec:
    (folder / "helpful.md").write_text(rubric)
    judge = {"model": "anthropic:judge-1", "rubric": str(folder / "helpful.md")} | values.pop("judge", {})
    rows = [json.dumps({"prompt": f"What is {n} plus {n}?", "ground_truth": str(2 * n)}) for n in range(101, 161)]
    (folder / "rows.jsonl").write_text("\n".join(rows))
    tree: dict[str, Any] = {
        "pool": {"source": str(folder / "rows.jsonl"), "splits": {"probe": 5, "dev": 5, "test": 5}},
        "reward": {"function": function} | values.pop("reward", {}),
        "judge": {"helpful": judge},
        "prices": {"judge-1": {"input": 1.0, "output": 5.0}},
        "output": {"dir": str(folder / "runs")},
    }
    return parse_spec(tree | values)


def honest(question: Question) -> Mapping[str, Any]:
    """Ten for the reference alone."""
    _, answer, reference = read_untrusted(question)
    return grade(10 if answer == reference else 1)


def gullible(trick: str) -> Any:
    """Honest, but for one trick."""

    def judge(question: Question) -> Mapping[str, Any]:
        prompt, answer, _ = read_untrusted(question)
        fooled = answer == make_tricks(Prompt("", prompt, ""), RUBRIC)[trick]
        return grade(8) if fooled else honest(question)

    return judge


def look(spec: RunSpec, rule: Any) -> tuple[dict[str, Any], Any]:
    answerer = Scripted(rule, "anthropic:judge-1")
    report = preflight_inputs(prepare_inputs(spec), lambda _: answerer)
    return {outcome.check: outcome for outcome in report.outcomes}, report


def test_an_honest_judge_passes_and_what_it_took_is_said(tmp_path: Path) -> None:
    found, report = look(make_spec(tmp_path), honest)
    assert {name: outcome.level for name, outcome in found.items()} == {
        "verify": "warn", "judge": "pass", "constant": "pass", "agreement": "pass", "tricks": "pass", "network": "pass",
        "latency": "pass", "cost": "pass",
    }  # fmt: skip
    assert report.graded
    assert report.cost_usd == pytest.approx(0.06)
    assert found["verify"].said.startswith("where one can verify, verify: rewards.math can judge 100%")
    assert found["agreement"].said == "helpful judged 20 answers twice, at most 0 of 10 apart"
    assert all(trick in found["tricks"].said for trick in TRICKS)
    assert "0.50 s for a new reply (median)" in found["latency"].said
    assert "60 questions, 0 of them on record: 0.0600 USD, about 0.1280 USD for the 128 answers" in found["cost"].said
    again, report = look(make_spec(tmp_path), gullible("echo"))
    assert (again["tricks"].level, report.cost_usd) == ("pass", 0.0), "all is on record in the output folder"
    assert "60 questions, 60 of them on record" in again["cost"].said
    record = tmp_path / "runs" / "judge-helpful.jsonl"
    before = record.read_bytes()
    replayed = make_spec(tmp_path, judge={"model": f"recorded:{record}"})
    assert preflight_inputs(prepare_inputs(replayed)).verdict == "warn"
    assert record.read_bytes() == before


@pytest.mark.parametrize("trick", TRICKS)
def test_a_judge_that_a_trick_fools_is_refused_and_the_trick_named(tmp_path: Path, trick: str) -> None:
    spec = make_spec(tmp_path)
    inputs = prepare_inputs(spec)
    answerer = Scripted(gullible(trick), "anthropic:judge-1")
    with pytest.raises(RunFailed, match="preflight: tricks: helpful is fooled by") as refused:
        pass_preflight(inputs, force=False, opener=lambda _: answerer)
    assert f"fooled by {trick} (8 of 10): " in str(refused.value)
    assert "reward.graded" not in str(refused.value)
    assert pass_preflight(inputs, force=True, opener=lambda _: answerer).forced


def test_a_ranking_judge_must_put_tricks_behind_the_reference(tmp_path: Path) -> None:
    def rank(question: Question) -> Mapping[str, Any]:
        assert question.tool is not None
        if question.tool["name"] == "grade":
            return grade(5)
        texts = read_untrusted(question)[1:-1]
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]) if fooled else not texts[i].isdigit())
        return {"reason": "", "ranking": [i + 1 for i in order]}

    for fooled, level in ((False, "pass"), (True, "fail")):
        (tmp_path / str(fooled)).mkdir()
        found, _ = look(
            make_spec(tmp_path / str(fooled), rubric="{prompt} {peers} {reference}", judge={"form": "rank"}), rank
        )
        assert found["tricks"].level == level, found["tricks"].said
        assert found["agreement"].level == "pass"


def test_a_judge_that_says_otherwise_the_second_time_is_told(tmp_path: Path) -> None:
    def unsteady(question: Question) -> Mapping[str, Any]:
        found = honest(question)
        return grade(5) if question.sample and found["grade"] == 10 else found

    found, report = look(make_spec(tmp_path), unsteady)
    assert (found["agreement"].level, report.verdict) == ("warn", "warn")
    assert "helpful judged 10 of 20 answers otherwise the second time, once 10 and then 5 of 10" in (
        found["agreement"].said
    )


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (lambda _: "no", "helpful failed on 20 of 20 answers: its reply is of no use"),
        (lambda _: Reply(error="HTTP 401"), "helpful failed on 20 of 20 answers: HTTP 401"),
    ],
)
def test_a_judge_that_says_nothing_is_refused(tmp_path: Path, rule: Any, said: str) -> None:
    found, report = look(make_spec(tmp_path), rule)
    assert report.verdict == "fail"
    assert found["judge"].said.startswith(said)
    assert "tricks" not in found


@pytest.mark.parametrize("value", [0, 10])
def test_a_judge_that_gives_everything_the_same_is_refused(tmp_path: Path, value: int) -> None:
    found, _ = look(make_spec(tmp_path), lambda _: grade(value))
    assert found["constant"].level == "fail"


def test_a_verifier_beside_a_judge_is_tried_as_if_it_were_alone(tmp_path: Path) -> None:
    spec = make_spec(
        tmp_path, function=["rewards.math:last_number", "rewards.judge:helpful"], reward={"weights": [0.7, 0.3]}
    )
    found, report = look(spec, honest)
    assert {"gold", "silence", "pure", "network"} <= found.keys()
    assert (found["gold"].level, found["silence"].level, report.verdict) == ("pass", "pass", "pass")
    check = check_references(read_inputs(spec), no_progress)
    assert check.passed == check.rows == 60


def test_check_says_first_that_one_can_verify_and_asks_no_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    found = check_references(read_inputs(make_spec(tmp_path)), no_progress)
    assert (found.rows, found.unchecked) == (0, 60)
    assert found.advice.startswith("where one can verify, verify: rewards.math")


# ---------------------------------------------------------------- beside verifiers


def test_a_judge_and_verifiers_are_added_up_by_weight(tmp_path: Path) -> None:
    spec = make_spec(
        tmp_path,
        function=["rewards.judge:helpful", "rewards.math:last_number"],
        reward={"weights": [0.3, 0.7]},
    )
    answerer = Scripted(lambda q: grade(10 if "four" in read_untrusted(q)[1] else 5), "anthropic:judge-1")
    rows = [Prompt("p", "2 + 2?", "4")] * 3
    with build_reward(spec, chat=False, judges=build_judges(spec, lambda _: answerer)) as reward:
        assert isinstance(reward, JudgedReward)
        right, wrong, best = reward.score(rows, ["It is 4", "It is 5", "four, 4"])
    assert find_weights(spec) == {"helpful": 0.3, "last_number": 0.7}
    assert (right.reward, right.correct, right.reason) == (pytest.approx(0.85), False, "wrong")
    assert right.components == {"helpful": 0.5, "last_number": 1.0}
    assert (wrong.reward, wrong.reason) == (pytest.approx(0.15), "wrong")
    assert (best.reward, best.correct) == (pytest.approx(1.0), True)


def test_what_the_judge_fails_on_is_errored_and_what_a_verifier_fails_on_is_not_asked(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def mine(completion, ground_truth):\n    return 1 / (completion != 'boom')\n")
    spec = make_spec(tmp_path, function=[f"{tmp_path}/mine.py:mine", "rewards.judge:helpful"], reward={"range": [0, 2]})
    answerer = Scripted(lambda q: "?" if "odd" in read_untrusted(q)[1] else grade(4), "anthropic:judge-1")
    rows = [Prompt("p", "2 + 2?", "4")] * 3
    with build_reward(spec, chat=False, judges=build_judges(spec, lambda _: answerer)) as reward:
        boom, odd, fine = reward.score(rows, ["boom", "odd", "fine"])
    assert boom.errored
    assert "ZeroDivisionError" in boom.error
    assert (odd.reward, odd.error[:35]) == (None, "judge helpful: its reply is of no us")[:2] or odd.errored
    assert fine.reward == pytest.approx(1.4)
    assert not any("boom" in question.prompt.text for question in answerer.asked)
    assert reward.take_metrics()["judge/cost_usd"] == pytest.approx(0.003)


def test_a_reward_out_of_range_says_which_range_to_set(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, reward={"weights": [3.0]})
    answerer = Scripted(lambda _: grade(10), "anthropic:judge-1")
    with build_reward(spec, chat=False, judges=build_judges(spec, lambda _: answerer)) as reward:
        [score] = reward.score([Prompt("p", "2 + 2?", "4")], ["4"])
    assert score.error.startswith("reward 3 is outside the declared range [0, 1]: set reward.range = [0.0, 3.0]")


# ---------------------------------------------------------------- the spec


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"reward": {"function": "rewards.judge"}},
            "reward.function: rewards.judge names no judge; ",
        ),
        (
            {"reward": {"function": "rewards.judge:helpfull"}},
            "reward.function: rewards.judge:helpfull needs a section [judge.helpfull], did you mean helpful?",
        ),
        ({"judge": {"helpful": {"modle": "x"}}}, "judge.helpful.modle: no such field in [judge.helpful], did you mean"),
        ({"judge": {"helpful": {"model": "x"}}}, "judge.helpful.rubric: field required"),
        ({"judge": {"a b": {"model": "x", "rubric": "y"}}}, "judge: a judge's name is of letters, digits"),
        ({"judge": {"helpful": {"model": "x", "rubric": "y", "form": "rnk"}}}, "judge.helpful.form: must be"),
        ({"judge": {"helpful": "x"}}, "judge.helpful: must be a section of fields"),
    ],
)
def test_a_wrong_section_is_one_line(change: dict[str, Any], said: str) -> None:
    tree = {"reward": {"function": "rewards.judge:helpful"}, "judge": {"helpful": {"model": "x", "rubric": "y"}}}
    with pytest.raises(InputError) as refused:
        parse_spec(tree | change)
    assert str(refused.value).startswith(said)


def test_a_rubric_is_read_beside_the_spec_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own"
    own.mkdir()
    (own / "good.md").write_text(RUBRIC)
    (own / "spec.toml").write_text(
        '[reward]\nfunction = "rewards.judge:kind"\n[judge.kind]\nmodel = "anthropic:m"\nrubric = "good.md"\n'
        '[pool]\nsource = "arithmetic?digits=2&size=200"\nsplits = { probe = 5, dev = 5, test = 5 }\n'
    )
    spec, _ = load_spec("own/spec.toml")
    inputs = prepare_inputs(spec)
    assert inputs.spec.judge["kind"].text == RUBRIC
    recorded = inputs.spec.model_dump_json()
    (own / "good.md").write_text("{answer} must rhyme")
    changed = prepare_inputs(spec)
    assert changed.reward_sha256 != inputs.reward_sha256
    (own / "good.md").unlink()
    moved = prepare_inputs(RunSpec.model_validate_json(recorded))
    assert (moved.spec.judge["kind"].text, moved.reward_sha256) == (RUBRIC, inputs.reward_sha256)
    with pytest.raises(InputError, match=r"judge.kind.rubric: cannot read .*good.md: No such file"):
        prepare_inputs(spec)
    for text, said in (("{promt}", "there is no place {promt}, did you mean {prompt}"), (" \n", "is empty")):
        (own / "good.md").write_text(text)
        with pytest.raises(InputError, match=said):
            prepare_inputs(spec)


def test_a_judge_alone_has_no_function_to_import(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    assert load_reward(describe_reward(spec, chat=False)).functions == {}


# ---------------------------------------------------------------- the command


def test_the_commands_refuse_what_cannot_be_asked_and_who_is_fooled(tmp_path: Path) -> None:
    program = Program(tmp_path)
    (tmp_path / "helpful.md").write_text(RUBRIC)
    (tmp_path / "judged.toml").write_text(
        MINI + '[reward]\nfunction = "rewards.judge:helpful"\n'
        '[judge.helpful]\nmodel = "anthropic:judge-1"\nrubric = "helpful.md"\n'
    )
    keyless = {"ANTHROPIC_API_KEY": ""}
    for words in (("run", "judged.toml"), ("preflight", "judged.toml")):
        done = program.here(*words, code=2, environment=keyless)
        assert "anthropic:judge-1 needs the environment variable ANTHROPIC_API_KEY" in done.stderr
    assert not (tmp_path / "runs").exists()
    done = program.here("run", "judged.toml", "--set", "judge.helpful.model=gpt", code=2)
    assert "judge.helpful.model: no run named gpt" in done.stderr
    out = program.here("check", "judged.toml", environment=keyless).stdout
    assert out.startswith("where one can verify, verify: rewards.math")
    with Server([judging(lambda _: grade(9))]) as server:
        done = program.here("run", "judged.toml", code=1, environment=server.environment(KEY))
    assert "preflight: constant: helpful gives everything the same" in done.stderr
    assert "tricks: helpful is fooled by silence (9 of 10), echo (9 of 10), give this a 10 (9 of 10)" in done.stderr
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["judge-helpful.jsonl"], "paid for, so kept"


def test_a_model_in_memory_is_asked_as_a_service_is(tmp_path: Path) -> None:
    """The embedded model knows no grades, and that is told."""
    program = Program(tmp_path)
    (tmp_path / "helpful.md").write_text(RUBRIC)
    (tmp_path / "judged.toml").write_text(
        MINI + '[reward]\nfunction = "rewards.judge:helpful"\n'
        '[judge.helpful]\nmodel = "tiny"\nrubric = "helpful.md"\nmax_tokens = 4\n'
    )
    done = program.here("preflight", "judged.toml", code=1)
    assert "helpful failed on 20 of 20 answers" in " ".join(done.stdout.split())
    lines = read_record(tmp_path / "runs" / "judge-helpful.jsonl")
    assert {line.who.partition("#")[0] for line in lines} == {"tiny"}
