"""``grpo compare`` of whoever answers: models, runs at a checkpoint, services, records, beside each other."""

from __future__ import annotations

import csv
import gc
import json
import weakref
from pathlib import Path
from typing import Any

import pytest

from harness.checks.inputs import build_splits
from harness.config.load import load_spec
from harness.llm.record import Line
from harness.models import load
from harness.types import Prompt
from tests.support.answers_server import Handler, Server, error, text
from tests.support.builders import make_store
from tests.support.groups import record_group
from tests.support.program import Program

KEY = "sk-secret-key-0123456789"
SUMS = """
[pool]
source = "arithmetic?digits=2&size=120"
splits = { probe = 10, dev = 20, test = 40 }
[reward]
function = "rewards.math"
[evaluate]
max_tokens = 12
[answers]
concurrency = 3
attempts = 1
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A folder with the run ``short`` of one step and ``base``, which is exported from it."""
    program = Program(tmp_path_factory.mktemp("models"))
    settings = ("--steps", "1", "--set", "warmstart.steps=0", "--set", "evaluate.max_tokens=6", "--plain")
    program.here("run", "mini.toml", "--name", "short", *settings)
    program.here("export", "short", "--to", "base")
    (program.folder / "sums.toml").write_text(SUMS)
    return program


def prompts_of(program: Program) -> list[Prompt]:
    return list(build_splits(load_spec(str(program.folder / "sums.toml"))[0])["test"])


def record(file: Path, prompts: list[Prompt], *, wrong: int, who: str = "openai:old") -> None:
    lines = [
        Line(p.id, who, key=f"{i}", text="none" if i < wrong else rf"\boxed{{{p.ground_truth}}}", tokens_out=5)
        for i, p in enumerate(prompts)
    ]
    file.write_bytes(b"".join(line.dump() for line in lines))


def document(program: Program, *words: str, code: int = 0, server: Server | None = None) -> dict[str, Any]:
    environment = server.environment(KEY) if server else None
    done = program.here("compare", *words, "--json", code=code, environment=environment)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


# ---------------------------------------------------------------- models in memory


def test_models_and_a_run_answer_the_test_prompts_of_the_run_one_in_memory_at_a_time(
    models: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[weakref.ref[Any]] = []
    alive: list[int] = []
    load_model = load.load_model

    def note(*args: Any, **options: Any) -> Any:
        gc.collect()
        alive.append(sum(one() is not None for one in loaded))
        found = load_model(*args, **options)
        loaded.append(weakref.ref(found.model))
        return found

    monkeypatch.setattr(load, "load_model", note)
    found = document(models, "./base", "short", "short@0")
    assert alive == [0, 0, 0]
    assert [one["name"] for one in found["answerers"]] == ["./base", "short", "short@0"]
    assert [one["who"] for one in found["answerers"]] == ["./base", "short at step 1", "short at step 0"]
    assert {one["n"] for one in found["answerers"]} == {30}
    assert found["split"] == "test"
    base, run, *_ = found["answerers"]
    assert {**base, "name": "", "who": ""} == {**run, "name": "", "who": ""}  # the same weights
    assert not found["differences"][0]["forgotten"]
    assert found["differences"][0]["accuracy"]["difference"] == 0
    scored = models.here("eval", "short", "--json").stdout
    assert run["accuracy"] == json.loads(scored)["accuracy"]
    assert run["reward"] == json.loads(scored)["reward"]


def test_a_wrong_name_is_refused_before_a_model_is_loaded(models: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(load, "load_model", refuse)
    for words, said in (
        (["tiny", "shrt"], "no run named shrt, did you mean short?"),
        (["tiny", "short@99"], "short: "),
        (["./base", "gone/folder@best"], "RUN@CHECKPOINT is for runs"),
        (["tiny", "openai:", "short"], "names no model"),
        (["tiny", "antropic:x"], "did you mean anthropic:x?"),
        (["tiny", "recorded:gone.jsonl"], "there is no file gone.jsonl"),
        (["tiny", "tiny"], "two or more that differ"),
        (["tiny"], "two or more that differ"),
        (["tiny", "smollm2-135m"], "--spec: none of these is a run or an exported model"),
        (["tiny", "short", "--spec", "mathgsm"], "no recipe named mathgsm"),
        (["short", "short"], "two or more different runs"),
    ):
        done = models.here("compare", *words, code=2)
        assert said in done.stderr, (words, done.stderr)
        assert done.stderr.count("\n") == 1
        assert not done.stdout


def test_a_stage_of_a_group_stands_beside_a_model_but_the_group_does_not(models: Program) -> None:
    store = make_store(models.folder / "runs")
    record_group(store, "g")
    store.close()
    assert "name the run of a stage, such as g/learned" in models.here("compare", "./base", "g", code=2).stderr


# ---------------------------------------------------------------- services


def answer_as(handler: Handler) -> None:
    """``good`` is right, ``bad`` wrong where the first number is even, ``dead`` never answers."""
    who = handler.body["model"]
    if who == "dead":
        error(400, "invalid_request_error", "no such model")(handler)
        return
    a, b = (int(part) for part in handler.question.rstrip("=").split("+"))
    text(rf"\boxed{{{a + b + (who == 'bad' and a % 2 == 0)}}}")(handler)


def test_two_services_are_asked_the_same_and_a_fall_is_exit_1(models: Program) -> None:
    with Server([answer_as]) as server:
        found = document(models, "openai:good", "openai:bad", "--spec", "sums.toml", code=1, server=server)
        assert server.most <= 3  # [answers] of the spec
        assert len(server.requests) == 80
    good, bad = found["answerers"]
    (difference,) = found["differences"]
    assert (good["accuracy"], good["tokens"]) == (1.0, 300.0)
    assert found["fell"]
    even = [p for p in prompts_of(models) if int(p.text.partition("+")[0]) % 2 == 0]
    assert {one["prompt_id"] for one in difference["forgotten"]} == {p.id for p in even}
    assert bad["accuracy"] == 1 - len(even) / 40
    with Server([answer_as]) as server:
        environment = server.environment(KEY)
        words = ("openai:bad", "openai:good", "--spec", "sums.toml", "--csv", "s.csv")
        assert models.here("compare", *words, environment=environment).stdout == "s.csv\n"
        rows = list(csv.DictReader((models.folder / "s.csv").read_text().splitlines()))
        assert [(row["name"], row["gained_against_first"]) for row in rows] == [
            ("openai:bad", ""), ("openai:good", str(len(even))),
        ]  # fmt: skip
        words = ("openai:good", "openai:dead", "--spec", "sums.toml")
        done = models.here("compare", *words, code=1, environment=environment)
    assert "openai:dead answered none of 40 questions" in done.stderr
    assert done.stderr.count("\n") == 1


def test_services_share_one_budget(models: Program) -> None:
    (models.folder / "priced.toml").write_text(
        SUMS + '[prices]\n"openai:good" = { input = 1, output = 1 }\n"openai:bad" = { input = 1, output = 1 }\n'
        "[budget]\nusd = 0.12\n"  # 40 answers of 2,300 tokens are 0.092
    )
    with Server([answer_as]) as server:
        words = ("openai:good", "openai:bad", "--spec", "priced.toml")
        done = models.here("compare", *words, code=1, environment=server.environment(KEY))
        assert 40 < len(server.requests) < 80
    assert "grpo eval --record FILE keeps them" in done.stderr


# ---------------------------------------------------------------- records


def test_three_records_are_compared_with_the_first(models: Program) -> None:
    prompts = prompts_of(models)
    for name, wrong in (("a", 4), ("b", 2), ("c", 30)):
        record(models.folder / f"{name}.jsonl", prompts, wrong=wrong)
    names = [f"recorded:{name}.jsonl" for name in "abc"]
    found = document(models, *names, "--spec", "sums.toml", code=1)
    assert [one["accuracy"] for one in found["answerers"]] == [0.9, 0.95, 0.25]
    assert [(one["name"], len(one["gained"]), len(one["forgotten"])) for one in found["differences"]] == [
        ("recorded:b.jsonl", 2, 0), ("recorded:c.jsonl", 0, 26),
    ]  # fmt: skip
    assert found["answerers"][0]["who"] == "openai:old"


def test_beside_a_record_a_model_answers_the_prompts_that_it_has(models: Program) -> None:
    record(models.folder / "half.jsonl", prompts_of(models)[:20], wrong=0)
    found = document(models, "recorded:half.jsonl", "tiny", "--spec", "sums.toml", code=1)
    assert [one["n"] for one in found["answerers"]] == [20, 20]
    assert found["differences"][0]["left_out"] == 0
    assert len(found["differences"][0]["forgotten"]) == 20


def test_rows_that_hold_answers_are_a_record_too(models: Program) -> None:
    for name, wrong in (("old", 0), ("new", 25)):
        rows = [
            {"prompt": p.text, "ground_truth": p.ground_truth, "completion": rf"\boxed{{{said}}}"}
            for i, p in enumerate(prompts_of(models))
            for said in [int(p.ground_truth) + (i < wrong)]
        ]
        (models.folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = document(models, "recorded:old.jsonl", "recorded:new.jsonl", "--spec", "sums.toml", code=1)
    assert [one["accuracy"] for one in found["answerers"]] == [1.0, 15 / 40]
    assert found["answerers"][0]["tokens"] is None


def test_each_of_several_reward_functions_has_a_column_of_its_own(models: Program) -> None:
    """Also one that leaves every answer to the others, and one named as a column is."""
    (models.folder / "own.py").write_text(
        "def silent(prompts, completions, **kwargs):\n    return [None] * len(completions)\n\n"
        "def answer(completion, ground_truth):\n    return 0.5\n"
    )
    functions = '["rewards.math", "own.py:silent", "own.py:answer"]\nrange = [0.0, 1.5]'
    (models.folder / "three.toml").write_text(SUMS.replace('"rewards.math"', functions))
    record(models.folder / "three.jsonl", prompts_of(models), wrong=10)
    models.here("eval", "recorded:three.jsonl", "--spec", "three.toml", "--output-file", "three.csv")
    rows = list(csv.DictReader((models.folder / "three.csv").read_text().splitlines()))
    assert list(rows[0])[-3:] == ["reward:answer", "math", "silent"]
    assert {(row["reward:answer"], row["silent"]) for row in rows} == {("0.5", "")}
    assert {row["answer"] for row in rows} == {"0", "1"}  # whether there is an answer section
    assert sorted(row["math"] for row in rows) == ["0.0"] * 10 + ["1.0"] * 30
    assert {row["reward"] for row in rows} == {"0.5", "1.5"}
