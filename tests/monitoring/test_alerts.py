"""What is worth an alert, and that the same thing is told once."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.monitoring.alerts import LONGEST, SILENT_S, Alert, build_message, build_test_message, find_alerts
from harness.types import Asked, EventRecord, Snapshot
from harness.views.summary import GOOD_MIXED, POOR_MIXED, RECENT, is_it_stuck
from tests.support.builders import (
    make_decision_record,
    make_look,
    make_pair,
    make_run_record,
    make_snapshot,
    make_step,
    make_steps,
)


def alerts(s: Snapshot, told: tuple[Alert, ...] = (), *, alive: bool = True, age: float = 0.0) -> list[Alert]:
    return find_alerts(s, [as_event(alert) for alert in told], alive=alive, age=age)


def as_event(alert: Alert) -> EventRecord:
    return EventRecord(alert.step, "info", f"{alert.text} (sent)", 0.0)


def kinds(s: Snapshot, **values: Any) -> list[str]:
    return [alert.kind for alert in alerts(s, **values)]


def ended(status: str, reason: str, *decisions: Any) -> Snapshot:
    run = make_run_record(status=status, stop_reason=reason, last_step=14)
    return make_snapshot(make_steps(14), run=run, decisions=decisions)


def test_a_healthy_run_is_left_alone() -> None:
    assert alerts(make_snapshot(make_steps(40), evaluations=(make_look(0, 0.4), make_look(10, 0.8)))) == []


@pytest.mark.parametrize(
    ("snapshot", "kind", "reason"),
    [
        (ended("finished", "budget of 14 steps spent"), "finished", "budget of 14 steps spent"),
        (ended("failed", "the reward raised KeyError"), "failed", "the reward raised KeyError"),
        (ended("stopped", "interrupted"), "stopped", "interrupted"),
        (
            ended("stopped", "bed time", make_decision_record(14, "stop", source="manual", evidence="bed time")),
            "stopped",
            "bed time",
        ),
        (
            ended("stopped", "no signal left", make_decision_record(14, "stop", evidence="no signal left")),
            "waiting",
            "rules stopped it: no signal left",
        ),
        (
            ended("stopped", "interrupted", make_decision_record(9, "stop", evidence="an end before a resume")),
            "stopped",
            "interrupted",
        ),
    ],
)
def test_an_end_is_told_once_with_its_reason(snapshot: Snapshot, kind: str, reason: str) -> None:
    (alert,) = alerts(snapshot)
    assert (alert.kind, alert.step, alert.reason) == (kind, 14, reason)
    assert alerts(snapshot, (alert,)) == []


def test_an_end_after_a_resume_is_another_one() -> None:
    (first,) = alerts(ended("finished", "budget of 14 steps spent"))
    longer = make_run_record(status="finished", stop_reason="budget of 20 steps spent", last_step=20)
    assert kinds(make_snapshot(make_steps(20), run=longer), told=(first,)) == ["finished"]


def test_a_process_that_is_gone_is_a_failure_and_says_how_to_go_on() -> None:
    (alert,) = alerts(make_snapshot(make_steps(3)), alive=False)
    assert alert.kind == "failed"
    assert "grpo resume night" in alert.reason


@pytest.mark.parametrize(("source", "told"), [("manual", []), ("rules", ["waiting"]), ("llm", ["waiting"])])
def test_a_pause_is_told_unless_a_person_asked_for_it(source: str, told: list[str]) -> None:
    pause = make_decision_record(4, "pause", source=source, evidence="look at this")
    assert kinds(make_snapshot(make_steps(3), run=make_run_record(status="paused"), decisions=(pause,))) == told


def test_silence_is_told_once_for_a_step() -> None:
    snapshot = make_snapshot(make_steps(3))
    assert alerts(snapshot, age=SILENT_S - 1) == []
    (alert,) = alerts(snapshot, age=SILENT_S + 1)
    assert (alert.kind, "rollout" in alert.reason) == ("silent", True)
    assert alerts(snapshot, (alert,), age=SILENT_S + 900) == []


def silent(turns: int, since: int, step: int, **run: Any) -> Snapshot:
    asked = Asked(times=9, failed=9, failed_in_a_row=turns, failing_since=since, last_failure="no answer: HTTP 401")
    return make_snapshot(make_steps(step), asked=asked, run=make_run_record(last_step=step, **run))


def test_an_llm_that_failed_three_times_in_a_row_is_told_once_until_it_answers() -> None:
    assert alerts(silent(2, 5, 6)) == []
    (alert,) = alerts(silent(3, 5, 7))
    assert (alert.kind, alert.step) == ("llm_silent", 7)
    assert alert.reason == "no usable answer in its last 3 turns, the rules decide; no answer: HTTP 401"
    assert alerts(silent(4, 5, 8), (alert,)) == []
    assert alerts(silent(30, 5, 90), (alert,)) == []
    assert alerts(silent(2, 10, 11), (alert,)) == []
    assert [a.step for a in alerts(silent(3, 10, 12), (alert,))] == [12]
    assert build_message(alert, silent(3, 5, 7), now=0.0)["title"] == "night has an LLM that does not answer"


def test_a_silent_llm_is_told_beside_the_end_of_a_short_run() -> None:
    over = silent(3, 5, 7, status="finished", stop_reason="budget of 7 steps spent")
    assert kinds(over) == ["finished", "llm_silent"]


@pytest.mark.parametrize(("steps", "told"), [(9, []), (10, ["stuck"])])
def test_a_reward_that_fails_on_a_few_texts_is_told_after_ten_steps(steps: int, told: list[str]) -> None:
    assert kinds(make_snapshot(make_steps(steps, {"completion/errored_rate": 0.03}))) == told


def test_what_ends_is_not_also_stuck() -> None:
    bad = make_steps(30, {"group/mixed_rate": 0.0})
    assert kinds(make_snapshot(bad)) == ["stuck"]
    assert kinds(make_snapshot(bad, run=make_run_record(status="finished"))) == ["finished"]


def live(mixed: list[float]) -> tuple[list[Alert], Snapshot]:
    """What is told while a run takes these steps, one look after each."""
    told: list[Alert] = []
    for last in range(1, len(mixed) + 1):
        steps = tuple(make_step(i + 1, {"group/mixed_rate": rate}) for i, rate in enumerate(mixed[:last]))
        snapshot = make_snapshot(steps[-200:], run=make_run_record(last_step=last))
        told += alerts(snapshot, tuple(told))
    return told, snapshot


def test_the_first_steps_are_given_time() -> None:
    assert live([0.0] * (2 * RECENT - 1))[0] == []
    assert [alert.step for alert in live([0.0] * (2 * RECENT))[0]] == [2 * RECENT]


def test_what_flickers_around_its_threshold_is_told_once_and_again_after_it_was_well() -> None:
    flicker = [POOR_MIXED - 0.1] * 20 + [POOR_MIXED + 0.05, POOR_MIXED - 0.05] * 40
    assert len(live(flicker)[0]) == 1
    assert len(live(flicker + [0.8] * RECENT + flicker)[0]) == 2


@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.35, 0.6, 0.9]), min_size=1, max_size=80))
def test_between_two_alerts_there_was_signal(mixed: list[float]) -> None:
    told, snapshot = live(mixed)
    for one, next_ in pairwise(told):
        between = [step for step in snapshot.steps if one.step < step.step <= next_.step]
        windows = [between[i : i + RECENT] for i in range(len(between) - RECENT + 1)]
        assert any(is_it_stuck(make_snapshot(tuple(w))).text for w in windows)
        assert any(sum(s.metrics["group/mixed_rate"] for s in w) / RECENT >= GOOD_MIXED - 1e-9 for w in windows)


def falls(*accuracies: float, told: tuple[Alert, ...] = ()) -> list[Alert]:
    looks = tuple(make_look(10 * i, accuracy) for i, accuracy in enumerate(accuracies))
    last = 10 * len(accuracies) - 10
    return alerts(make_snapshot(make_steps(last), evaluations=looks, run=make_run_record(last_step=last)), told)


def test_a_fall_on_dev_is_told_again_only_after_it_was_near_its_best() -> None:
    (alert,) = falls(0.4, 0.9, 0.7)
    assert (alert.kind, alert.step) == ("dev_fell", 20)
    assert "its best was 0.900 at step 10" in alert.reason
    assert falls(0.4, 0.9, 0.7, 0.69, told=(alert,)) == []
    assert falls(0.4, 0.9, 0.7, 0.85, 0.7, told=(alert,)) == []  # better, within the noise, but not well
    (again,) = falls(0.4, 0.9, 0.7, 0.89, 0.7, told=(alert,))
    assert again.step == 40


def test_a_fall_is_told_once_where_the_looks_are_compared_prompt_by_prompt() -> None:
    looks = (make_look(0, 0.4), make_look(10, 0.9), make_look(20, 0.86))
    fell = make_snapshot(make_steps(20), evaluations=looks, paired_dev=(make_pair(10, 20, 200, 0, 8),))
    (alert,) = alerts(fell)
    assert alert.kind == "dev_fell"
    later = make_snapshot(
        make_steps(30), evaluations=(*looks, make_look(30, 0.86)), paired_dev=(make_pair(10, 30, 200, 0, 8),)
    )
    assert alerts(later, (alert,)) == [], "a fall as deep as that is not near its best"
    perfect = (make_look(0, 1.0), make_look(10, 0.98))
    pair = make_pair(0, 10, 200, 0, 4)
    assert alerts(make_snapshot(make_steps(10), evaluations=perfect, paired_dev=(pair,))) == []


def test_what_a_rollback_has_left_is_no_fall() -> None:
    steps = (*make_steps(10), *make_steps(5, first=21))  # 11 to 20 were left
    looks = (make_look(0, 0.4), make_look(10, 0.9), make_look(20, 0.6))
    assert alerts(make_snapshot(steps, evaluations=looks, run=make_run_record(last_step=25))) == []
    (alert,) = alerts(make_snapshot(make_steps(20), evaluations=looks, run=make_run_record(last_step=20)))
    assert alert.kind == "dev_fell"


def test_the_arms_of_a_branch_may_fail() -> None:
    bad = make_steps(40, {"group/mixed_rate": 0.0})
    opened, kept = (make_decision_record(20, "branch", argument=text) for text in ("6 temperature=0.9", "keep 0"))
    assert kinds(make_snapshot(bad, decisions=(opened,))) == []
    assert kinds(make_snapshot(bad, decisions=(opened, kept))) == ["stuck"]
    gave_up = make_decision_record(25, "rollback", argument=20)
    assert kinds(make_snapshot(bad, decisions=(opened, gave_up))) == ["stuck"]


# ---------------------------------------------------------------- the message


def message(alert: Alert, **values: Any) -> dict[str, Any]:
    return build_message(alert, make_snapshot(**values), now=time.time())


def test_one_body_has_what_chats_read_and_what_programs_read() -> None:
    looks = (make_look(0, 0.46), make_look(0, 0.45, split="test"), make_look(70, 0.96), make_look(80, 0.95))
    steps = make_steps(80)
    body = message(Alert("finished", 80, "budget of 80 steps spent"), steps=steps, evaluations=looks,
                   run=make_run_record(status="finished", last_step=80))  # fmt: skip
    assert (
        body["text"]
        == body["content"]
        == (
            "night finished at step 80: budget of 80 steps spent. "
            "dev 0.460 -> 0.950, best 0.960 at step 70. test 0.450 -> 0.450"
        )
    )
    assert body["title"] == "night finished"
    assert (body["run"], body["event"], body["step"], body["status"]) == ("night", "finished", 80, "finished")
    assert body["figures"]["dev"] == {"first": 0.46, "last": 0.95, "best": 0.96, "best_step": 70}
    assert body["figures"]["mixed_rate"] == 0.8
    json.dumps(body, allow_nan=False)
    assert build_test_message("night", host="here", now=0.0).keys() == body.keys()


def test_numbers_that_json_cannot_hold_are_left_out() -> None:
    body = message(Alert("failed", 1, "no"), steps=(make_step(1, {"reward/mean": math.nan}),))
    assert "reward" not in body["figures"]
    json.dumps(body, allow_nan=False)


def test_what_a_model_wrote_cannot_call_people_or_grow_without_bound() -> None:
    reason = "@everyone <!channel> <https://evil|click>\x1b[31m\n" + "x" * 5000
    body = message(Alert("failed", 1, reason))
    assert len(body["text"]) <= LONGEST
    for forbidden in ("@everyone", "<", "\x1b", "\n"):
        assert forbidden not in body["text"]


def test_the_reason_of_the_same_end_may_hold_lines() -> None:
    snapshot = ended("failed", "first line\nsecond line")
    (alert,) = alerts(snapshot)
    assert "\n" not in alert.text
    assert alerts(replace(snapshot), (alert,)) == []
