"""The log of another trainer as snapshots: what follows from it, and what stays missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from harness.logs.read import Log, LogRow
from harness.logs.snapshots import MOST_ROWS, compute_range, make_snapshots, merge_rows
from harness.types import Finding, Snapshot
from policies.detectors import detect

BINARY = {"reward/std": 0.3, "group/no_signal_rate": 0.4, "group/mixed_rate": 0.6, "grad/norm": 0.1}


def make_log(
    rewards: Sequence[float],
    *,
    every: int = 1,
    dev: Mapping[int, float] | None = None,
    not_finite: Sequence[tuple[int, str]] = (),
    **metrics: Sequence[float],
) -> Log:
    named = {name.replace("__", "/"): values for name, values in metrics.items()}
    rows = tuple(
        LogRow(every * (i + 1), {**BINARY, "reward/mean": reward} | {name: v[i] for name, v in named.items()})
        for i, reward in enumerate(rewards)
    )
    looks = tuple((dev or {}).items())
    return Log(Path("log.jsonl"), "JSON lines", rows, looks, {}, (), tuple(not_finite), 0, ())


def last(log: Log) -> Snapshot:
    return list(make_snapshots(log))[-1]


def found(log: Log) -> dict[str, Finding]:
    """What was found at any row, the first time."""
    seen: dict[str, Finding] = {}
    for snapshot in make_snapshots(log):
        for finding in detect(snapshot):
            if finding.severity in ("severe", "warning"):
                seen.setdefault(finding.kind, finding)
    return seen


def test_a_row_of_several_steps_is_read_as_such() -> None:
    snapshots = list(make_snapshots(make_log([0.5] * 4, every=5)))
    assert [snapshot.steps_done for snapshot in snapshots] == [5, 10, 15, 20]
    assert [step.metrics["update/applied"] for step in snapshots[-1].steps] == [5.0] * 4
    assert [(step.step, step.parent) for step in snapshots[-1].steps[1:3]] == [(10, 5), (15, 10)]


def test_the_ends_of_groups_are_bounded_by_the_mean_reward() -> None:
    """Of rewards of 0 and 1: with 10% mixed, a mean of 0.95 leaves at least 85% all right."""
    metrics = last(make_log([0.95], group__no_signal_rate=[0.9], group__mixed_rate=[0.1])).steps[-1].metrics
    assert metrics["group/all_one_rate"] == pytest.approx(0.85)
    assert metrics["group/all_zero_rate"] == 0.0
    metrics = last(make_log([0.1], group__no_signal_rate=[0.7], group__mixed_rate=[0.3])).steps[-1].metrics
    assert (metrics["group/all_zero_rate"], metrics["group/all_one_rate"]) == (pytest.approx(0.6), 0.0)


def test_one_reward_for_all_is_neither_all_right_nor_all_wrong() -> None:
    silent = {"group__no_signal_rate": [1.0] * 3, "group__mixed_rate": [0.0] * 3, "reward__std": [0.0] * 3}
    metrics = last(make_log([0.3] * 3, **silent)).steps[-1].metrics
    assert (metrics["group/flat_rate"], metrics["group/all_one_rate"]) == (1.0, 0.0)


def test_what_cut_completions_earn_at_least() -> None:
    cut = {"completion__truncated_rate": [1.0, 0.5, 0.0]}
    paid = [s.metrics["completion/truncated_paid"] for s in last(make_log([0.8, 0.8, 0.8], **cut)).steps]
    assert paid == pytest.approx([0.8, 0.6, 0.0])


def test_rewards_of_any_range_are_seen_as_shares_of_the_runs_own() -> None:
    assert compute_range([LogRow(1, {"reward/mean": 0.2}), LogRow(2, {"reward/mean": 0.9})]) == (0.0, 1.0)
    shaped = [LogRow(1, {"reward/mean": 4.0, "reward/std": 6.0}), LogRow(2, {"reward/mean": 5.0, "reward/std": 9.0})]
    assert compute_range(shaped) == (-4.0, 14.0)
    falls = [0.5] * 20 + [0.1, 0.05, 0.05]
    entropy = [0.2] * 20 + [0.9, 1.2, 1.4]
    scaled = make_log([100 * reward - 50 for reward in falls], reward__std=[30.0] * 23, entropy__mean=entropy)
    assert found(scaled).keys() == found(make_log(falls, entropy__mean=entropy)).keys() >= {"entropy_explosion"}


@pytest.mark.parametrize("reward", [1e-45, -3.0, 1e17, -3.4e38])
@pytest.mark.parametrize("std", [0.0, 1e-45, 0.3, 3.4e38])
def test_numbers_of_any_size_can_be_judged(reward: float, std: float) -> None:
    """A run that always earns the same has some range too, though adding 1 to it may change nothing."""
    for rewards in ([reward] * 30, [0.0, reward] * 15, [reward, -reward] * 15):
        ends = {"entropy__mean": [1e-45] * 20 + [std] * 10, "completion__truncated_rate": [0.5] * 30}
        log = make_log(rewards, reward__std=[std] * 30, grad__norm=[1e-45] * 15 + [std] * 15, **ends)
        assert all("inf" not in f.evidence and "nan" not in f.evidence for s in make_snapshots(log) for f in detect(s))


def test_entropy_that_was_below_0_has_no_times() -> None:
    log = make_log([0.5] * 20 + [0.05] * 10, entropy__mean=[-0.1] * 20 + [1.0] * 10)
    assert "times" not in found(log)["entropy_explosion"].evidence


def test_a_metric_that_no_row_has_leaves_findings_unknown_and_one_that_few_lack_is_kept() -> None:
    log = make_log([0.5] * 20, entropy__mean=[0.2] * 20)
    rows = (LogRow(1, {"reward/mean": 0.5, **BINARY}), *log.rows[1:])  # as a first row that lacks it
    snapshot = last(Log(log.path, log.format, rows, (), {}, (), (), 0, ()))
    assert snapshot.steps[0].metrics["entropy/mean"] == 0.2
    unknown = {f.kind: f.evidence for f in detect(snapshot) if f.severity == "unknown"}
    assert unknown["kl_spike"] == "not logged: kl/mean"
    assert unknown["plateau"] == unknown["dev_drop"] == "not logged: dev"
    assert "entropy_explosion" not in unknown


def test_dev_that_falls_beyond_its_noise_is_a_drop_to_a_step_one_could_go_back_to() -> None:
    dev = {5 * i: value for i, value in enumerate([0.30, 0.42, 0.50, 0.55, 0.56, 0.58, 0.57, 0.20])}
    snapshot = last(make_log([0.5] * 36, dev=dev))
    (drop,) = [f for f in detect(snapshot) if f.kind == "dev_drop"]
    assert (drop.severity, drop.first, drop.last) == ("severe", 25, 35)
    assert "prompts" not in drop.evidence, "how many there were is not known"
    assert 25 in [checkpoint.step for checkpoint in snapshot.checkpoints]


def test_a_gradient_that_is_not_finite_is_found_at_its_step() -> None:
    log = make_log([0.5] * 6, not_finite=[(4, "grad_norm")])
    kinds = [{f.kind for f in detect(snapshot) if f.severity == "severe"} for snapshot in make_snapshots(log)]
    assert [i + 1 for i, kind in enumerate(kinds) if "not_finite" in kind] == [4]


def test_a_long_log_is_averaged_to_what_detectors_can_look_at() -> None:
    rows = [LogRow(step, {"reward/mean": float(step % 2)}) for step in range(1, 10 * MOST_ROWS + 1)]
    merged = merge_rows(rows)
    assert len(merged) == MOST_ROWS
    assert (merged[0].step, merged[0].metrics["reward/mean"]) == (10, 0.5)


# Healthy ones, and the twins of what real runs died of.


def test_a_low_entropy_alone_is_no_fault() -> None:
    rewards = [0.6 + 0.002 * (i % 7) for i in range(200)]
    assert "entropy_explosion" not in found(make_log(rewards, entropy__mean=[0.06] * 200))


def test_entropy_that_rises_while_rewards_rise_is_no_warning() -> None:
    rewards = [0.3 + 0.01 * i for i in range(30)]
    assert "entropy_explosion" not in found(make_log(rewards, entropy__mean=[0.1 + 0.02 * i for i in range(30)]))


def test_answers_that_grow_while_more_are_right_are_no_fault() -> None:
    right = [0.2 + 0.02 * i for i in range(30)]
    grows = [100.0 * 1.05**i for i in range(30)]
    assert "length_inflation" not in found(
        make_log(right, completion__correct_rate=right, completion__tokens_mean=grows)
    )


def test_answers_that_explode_under_a_shaped_reward_are_found_though_it_rises() -> None:
    lengths = [142.0] * 40 + [142.0 * 1.15**i for i in range(19)]
    rewards = [4.0 + 0.1 * (i % 3) for i in range(40)] + [4.0 + 0.3 * i for i in range(19)]
    log = make_log(rewards, reward__std=[2.0] * 59, completion__tokens_mean=lengths)
    assert found(log)["length_inflation"].last <= 50


def test_partial_credit_alone_is_found_where_right_answers_do_not_rise() -> None:
    rewards = [0.2 + 0.005 * i for i in range(40)]
    share = {"completion__correct_rate": [0.012] * 40, "group__mixed_rate": [0.9] * 40}
    finding = found(make_log(rewards, **share))["proxy_only"]
    assert finding.last <= 10
    rises = {"completion__correct_rate": [0.001 * i for i in range(40)], "group__mixed_rate": [0.9] * 40}
    assert "proxy_only" not in found(make_log(rewards, **rises))


def test_a_flat_reward_with_dead_groups_is_no_plateau_without_dev() -> None:
    dead = {"group__no_signal_rate": [0.6] * 100, "group__mixed_rate": [0.4] * 100}
    snapshot = last(make_log([0.4 + 0.05 * (i % 3) for i in range(100)], **dead))
    assert {f.kind: f.severity for f in detect(snapshot)}["plateau"] == "unknown"


def test_a_night_of_all_zero_is_told_after_thirty_steps_however_many_rows_that_is() -> None:
    silent = {"group__no_signal_rate": [1.0] * 40, "group__mixed_rate": [0.0] * 40, "reward__std": [0.0] * 40}
    zero = {**silent, "completion__truncated_rate": [0.1] * 40}
    assert found(make_log([0.0] * 40, **zero))["no_signal"].last == 30
    by_five = found(make_log([0.0] * 40, every=5, **zero))
    assert by_five["no_signal"].last == 40, "eight rows at least"
    assert by_five["unsolved"].last == 40


def test_rewards_that_collapse_without_dev_are_found_and_with_dev_left_to_it() -> None:
    rewards = [0.6 + 0.02 * (i % 3) for i in range(30)] + [0.05] * 4
    drop = found(make_log(rewards))["reward_drop"]
    assert (drop.severity, drop.last) == ("severe", 32)
    assert "reward_drop" not in found(make_log(rewards, dev={0: 0.5, 30: 0.6}))
    assert "reward_drop" not in found(make_log([0.6 + 0.1 * (-1) ** i for i in range(40)]))


def test_answers_that_grow_while_rewards_rise_are_no_inflation_however_noisy_the_last_rows() -> None:
    lengths = [300.0 + 8 * i for i in range(80)]
    rewards = [0.3 + 0.004 * i + 0.03 * (-1) ** i for i in range(80)]
    cut = {"completion__truncated_rate": [0.02] * 80}
    assert "length_inflation" not in found(make_log(rewards, completion__tokens_mean=lengths, **cut))
    flat = [0.3 + 0.03 * (-1) ** i for i in range(80)]
    assert "length_inflation" in found(make_log(flat, completion__tokens_mean=lengths, **cut))
