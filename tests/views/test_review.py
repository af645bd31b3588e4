from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli.tables import render_review
from harness.errors import InputError
from harness.store.history import load_history
from harness.store.writer import RunStore
from harness.types import Action, CheckedDecision, Decision, Knobs
from harness.views.console import Console
from harness.views.review import build_review, find_bottleneck
from tests.support.builders import (
    HEALTHY,
    create_run,
    make_change,
    make_checkpoint,
    make_evaluation,
    make_in_force,
    make_look,
    make_sample,
    make_store,
    record_decision,
    record_step,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    opened = make_store(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def night(store: RunStore) -> RunStore:
    """A whole run of three steps: looks, one change, one refusal, a rollback's event, samples and checkpoints."""
    run_id = create_run(store)
    for split in ("dev", "test"):
        store.record_evaluation(run_id, 0, make_evaluation(0.25, split=split))
    store.record_samples(run_id, 0, [make_sample(0, kind="fixed", completion="before", reward=0.0)])
    store.record_checkpoint(run_id, make_checkpoint(0))
    moves = [
        CheckedDecision(Decision(Action("continue"), "rules", "all is well")),
        CheckedDecision(
            Decision(Action("set", {"temperature": 0.8}), "rules", "seen", "guess", "hope"),
            {"temperature": {"from": 1.0, "to": 0.8}},
        ),
        CheckedDecision(
            Decision(Action("rollback", argument=9), "manual", "asked by a person"), refused="no checkpoint 9"
        ),
    ]
    for step, move in enumerate(moves, 1):
        store.record_decisions(run_id, step, [move], make_in_force(Knobs(temperature=0.8), pins=["beta"]))
        record_step(store, run_id, step, {"reward/mean": 0.2 * step, "kl/mean": (0.0, 0.3, 0.1)[step - 1]})
    for split, accuracy in (("dev", 0.75), ("test", 0.7)):
        store.record_evaluation(run_id, 2, make_evaluation(accuracy, split=split))
    store.record_evaluation(run_id, 3, make_evaluation(0.65, split="test"))
    store.record_samples(run_id, 3, [make_sample(3, kind="fixed", completion="after")])
    store.record_checkpoint(run_id, make_checkpoint(2, name="lunch"))
    store.record_event(run_id, 3, "info", "finished: budget of 3 steps spent")
    store.update_run(run_id, status="finished", stop_reason="budget of 3 steps spent")
    return store


def review_of(store: RunStore, name: str) -> dict[str, Any]:
    return build_review(load_history(store, name))


# ---------------------------------------------------------------- the document


def test_a_review_keeps_its_contract(night: RunStore) -> None:
    review = review_of(night, "night")
    assert review["run"] == "night"
    assert review["status"] == "finished"
    assert review["stop_reason"] == "budget of 3 steps spent"
    assert (review["seed"], review["steps"], review["rollouts"], review["wall_s"]) == (7, 3, 12, 3.0)
    assert review["heldout"] == {
        "metric": "accuracy",
        "split": "test",
        "n": 200,
        "baseline": 0.25,
        "best": 0.7,
        "best_step": 2,
        "final": 0.65,
        "final_ci95": pytest.approx([0.6, 0.7]),
    }
    by_step = {"0": 0.25, "2": 0.75}
    assert review["dev"] == {"metric": "accuracy", "by_step": by_step, "reward_by_step": by_step}
    assert review["reward"]["by_step"] == pytest.approx([0.2, 0.4, 0.6])
    assert (review["reward"]["first"], review["reward"]["last"]) == (
        review["reward"]["by_step"][0],
        review["reward"]["by_step"][-1],
    )
    assert review["signal"] == pytest.approx(
        {
            "no_signal_rate": 0.2,
            "all_zero_rate": 0.1,
            "all_one_rate": 0.1,
            "flat_rate": 0.0,
            "errored_rate": 0.0,
            "solved_rate": 0.1,
            "unsolved_rate": 0.1,
        }
    )
    assert review["kl"] == {"last": 0.1, "max": 0.3}
    assert review["bottleneck"] is None


def test_every_decision_is_told_continue_among_them(night: RunStore) -> None:
    first, second, third = review_of(night, "night")["decisions"]
    assert (first["step"], first["action"], first["evidence"]) == (1, "continue", "all is well")
    assert second == {
        "step": 2,
        "source": "rules",
        "action": "set",
        "argument": None,
        "changes": {"temperature": {"from": 1.0, "to": 0.8}},
        "evidence": "seen",
        "hypothesis": "guess",
        "expected": "hope",
        "measured": None,
        "verdict": None,
        "refused": None,
        "rejected": "",
        "tokens_in": None,
        "tokens_out": None,
        "cost_usd": None,
        "who": None,
        "asked_at": None,
        "result": None,
    }
    assert (third["source"], third["argument"], third["refused"]) == ("manual", 9, "no checkpoint 9")


def test_checkpoints_samples_events_and_knobs_are_in_the_review(night: RunStore) -> None:
    review = review_of(night, "night")
    assert [(c["step"], c["name"], c["best"]) for c in review["checkpoints"]] == [(0, "", False), (2, "lunch", True)]
    assert [(s["step"], s["completion"], s["correct"]) for s in review["samples"]] == [
        (0, "before", False),
        (3, "after", True),
    ]
    (event,) = review["events"]
    assert (event["step"], event["level"], event["text"]) == (3, "info", "finished: budget of 3 steps spent")
    assert (review["knobs"]["temperature"], review["pins"]) == (0.8, ["beta"])
    assert review["reasons"] == {"right": 0.5, "wrong": 0.5}


def test_a_review_survives_json(night: RunStore) -> None:
    review = review_of(night, "night")
    assert json.loads(json.dumps(review, allow_nan=False)) == review


def test_a_run_that_has_just_begun_has_a_review(store: RunStore) -> None:
    create_run(store)
    review = review_of(store, "latest")
    assert (review["status"], review["steps"], review["alive"]) == ("running", 0, True)
    assert review["reward"] == {"first": None, "last": None, "by_step": []}
    assert review["kl"] == {"last": None, "max": None}
    assert review["heldout"]["n"] == 0
    assert review["heldout"]["baseline"] is None
    assert set(review["signal"].values()) == {None}
    assert review["bottleneck"] is None


def test_a_running_run_without_its_process_is_not_alive(store: RunStore) -> None:
    run_id = create_run(store)
    store.update_run(run_id, pid=2**22 + 1)  # above the highest process id
    assert review_of(store, "night")["alive"] is False


def test_an_unknown_run_is_wrong_input(store: RunStore) -> None:
    with pytest.raises(InputError, match="no run named nobody"):
        review_of(store, "nobody")


def test_steps_that_a_rollback_left_count_but_are_not_in_the_curve(store: RunStore) -> None:
    run_id = create_run(store)
    for step in range(1, 5):
        record_step(store, run_id, step, {"reward/mean": step / 10})
    store.roll_back(run_id, 2, live=[2, 1])
    record_step(store, run_id, 5, {"reward/mean": 0.5}, parent=2)
    review = review_of(store, "night")
    assert review["steps"] == 5
    assert review["reward"]["by_step"] == [0.1, 0.2, 0.5]


def test_steps_taken_again_after_a_resume_count_once(store: RunStore) -> None:
    run_id = create_run(store)
    for step in range(1, 4):
        record_step(store, run_id, step)
    store.supersede_after(run_id, 1, 1, live=[1])
    record_step(store, run_id, 2)
    assert review_of(store, "night")["steps"] == 2


# ---------------------------------------------------------------- the telling


@pytest.mark.parametrize("width", [80, 200])
def test_a_review_is_told_in_words(night: RunStore, width: int) -> None:
    console = Console(record=True, file=io.StringIO(), width=width)
    console.print(render_review(review_of(night, "night")))
    text = " ".join(console.export_text().split())
    for words in ("night: finished", "3 steps, 12 completions", "0.250 at the start", "dev accuracy", "KL to the",
                  "decisions (1 times continue)", "samples before and after", "best checkpoint"):  # fmt: skip
        assert words in text, words


def test_a_run_whose_kl_was_never_a_number_has_a_review_and_its_telling(store: RunStore) -> None:
    run_id = create_run(store)
    record_step(store, run_id, 1, {"kl/mean": math.nan})
    review = review_of(store, "night")
    assert review["kl"] == {"last": None, "max": None}
    json.dumps(review, allow_nan=False)
    console = Console(record=True, file=io.StringIO(), width=100)
    console.print(render_review(review))
    assert "1 steps" in console.export_text()


def test_a_terminal_is_told_the_same_from_less(store: RunStore, night: RunStore) -> None:
    long = create_run(store, "long")
    for step in range(1, 301):
        kind: Any = "set" if step % 5 == 0 else "continue"
        decision = Decision(Action(kind), "rules", f"evidence {step}")
        record_decision(store, long, step, decision)
        record_step(store, long, step, {"reward/mean": step / 300})
        if step % 100 == 0:
            store.record_samples(long, step, [make_sample(step, kind="fixed", completion=f"look {step}")])
    for name in ("night", "long"):
        told = []
        for whole_run in (True, False):
            console = Console(record=True, file=io.StringIO(), width=120)
            console.print(render_review(build_review(load_history(store, name, whole_run=whole_run))))
            told.append(" ".join(console.export_text().split()))
        assert told[0] == told[1]
    assert "decisions (240 times continue; the newest 50 of 60, all with --json)" in told[0]
    assert "evidence 300" in told[0]
    assert "evidence 50 " not in told[0]
    assert len(load_history(store, "long", whole_run=False).rewards) < 300


def test_an_empty_review_is_told_too(store: RunStore) -> None:
    create_run(store)
    console = Console(record=True, file=io.StringIO(), width=100)
    console.print(render_review(review_of(store, "night")))
    text = console.export_text()
    assert "night: running" in text
    assert "no decision but continue" in text


# ---------------------------------------------------------------- what held it back

LEVEL = (make_look(0, 0.30), make_look(10, 0.31))
POOR = {"group/mixed_rate": 0.1}


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"completion/errored_rate": 0.1}, "Reward: the verifier failed on 10% of the completions"),
        ({"completion/truncated_rate": 0.5, "group/unsolved_rate": 0.9}, "max_tokens: 50% of the completions were cut"),
        ({"reason/cut_in_thinking": 0.5, "group/unsolved_rate": 0.9}, "max_tokens: 50% of the completions were cut"),
        (POOR | {"group/flat_rate": 0.6, "group/unsolved_rate": 0.9}, "Reward: 60% of the groups were zero-variance"),
        (POOR | {"group/solved_rate": 0.8}, "Data too easy: 80% of the groups were solved"),
        (POOR | {"group/unsolved_rate": 0.8}, "Model or reward: 80% of the groups had no right completion"),
        ({"group/unsolved_rate": 1.0}, "Capacity or steps: 80% of the groups had signal"),
        ({"kl/mean": 1e-5}, "Learning rate: at 1.0e-04 KL reached only 1.0e-05"),
        ({}, "Capacity or steps: 80% of the groups had signal, 1 changes of hyperparameters did not help"),
    ],
)
def test_the_bottleneck_is_named_with_its_numbers(metrics: dict[str, float], words: str) -> None:
    found = find_bottleneck([HEALTHY | metrics] * 5, LEVEL, [make_change(3, "beta")])
    assert found is not None
    assert found.text.startswith("dev 0.300 at the start, at best 0.310 (within its noise). ")
    assert words in found.text
    assert found.fix


@pytest.mark.parametrize(
    ("steps", "dev"),
    [
        ([], LEVEL),
        ([HEALTHY], LEVEL[:1]),
        ([HEALTHY | {"completion/truncated_rate": 0.9}], (make_look(0, 0.3), make_look(10, 0.5), make_look(20, 0.3))),
    ],
    ids=["no step", "one look", "dev rose"],
)
def test_without_a_fall_behind_there_is_no_bottleneck(steps: list[dict[str, float]], dev: Any) -> None:
    assert find_bottleneck(steps, dev, []) is None


@pytest.mark.parametrize(
    ("attempts", "words"),
    [
        ([(4, 4)] * 5 + [(4, 0)] * 45, "Data too hard: 80% of the groups had no right completion; of the easiest tenth "
         "of the prompts 100% have one, of the rest 0%"),
        ([(4, 0)] * 50, "of the easiest tenth of the prompts 0% have one, of the rest 0%"),
        ([(4, 1)] * 50, "Model or reward: 80% of the groups had no right completion; of the easiest tenth of the "
         "prompts 25% have one"),
    ],
    ids=["two kinds of prompts", "none", "all alike"],
)  # fmt: skip
def test_the_bottleneck_tells_data_from_model(attempts: list[tuple[int, int]], words: str) -> None:
    found = find_bottleneck([HEALTHY | POOR | {"group/unsolved_rate": 0.8}] * 5, LEVEL, [], attempts)
    assert found is not None
    assert words in found.text


def test_a_dead_run_is_not_told_to_take_more_test_prompts(store: RunStore) -> None:
    run_id = create_run(store)
    for step in (0, 2):
        for split in ("dev", "test"):
            store.record_evaluation(run_id, step, replace(make_evaluation(0.0, split=split), reward=0.0))
    record_step(store, run_id, 1, parent=0)
    record_step(store, run_id, 2)
    store.end_run(run_id, "finished", "budget of 2 steps spent", 1.0)
    told = " ".join(step["text"] for step in review_of(store, "night")["next_steps"])
    assert "more test prompts" not in told


def test_only_the_last_twenty_steps_are_judged() -> None:
    steps = [HEALTHY | POOR | {"group/solved_rate": 1.0}] * 30 + [HEALTHY] * 20
    found = find_bottleneck(steps, LEVEL, [])
    assert found is not None
    assert "Capacity or steps" in found.text
