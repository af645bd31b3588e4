"""Each detector on its fault, on health, and on too little; real logs and simulated ones for false alarms."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from harness.types import Finding, Knobs, Snapshot, StepRecord
from policies.detectors import DETECTORS, detect
from tests.support.builders import (
    make_change,
    make_decision_record,
    make_look,
    make_pair,
    make_run_record,
    make_snapshot,
    make_step,
    make_steps,
)
from tests.support.fault_snapshots import FAULTS, UNSOLVED, at, from_step, load_steps, series

DEV = tuple(make_look(step, 0.5 + step / 1000) for step in (0, 10, 20))


def found(snapshot: Snapshot) -> dict[str, Finding]:
    return {finding.kind: finding for finding in detect(snapshot) if finding.severity != "unknown"}


@pytest.mark.parametrize("kind", DETECTORS)
def test_each_fault_is_found_by_its_name_with_evidence(kind: str) -> None:
    snapshot, severity = FAULTS[kind]
    finding = found(snapshot)[kind]
    assert finding.severity == severity
    assert any(digit in finding.evidence for digit in "0123456789")
    assert 0.5 <= finding.confidence <= 1.0
    assert finding.first <= finding.last <= snapshot.steps_done


@pytest.mark.parametrize("kind", DETECTORS)
def test_and_under_no_other(kind: str) -> None:
    also = {"chaos": {"unsolved"}}
    assert set(found(FAULTS[kind][0])) <= {kind} | also.get(kind, set())


def test_every_detector_has_its_fault_and_a_row_in_the_docs() -> None:
    assert FAULTS.keys() == DETECTORS.keys()
    table = (Path(__file__).parents[2] / "docs" / "decisions.md").read_text()
    for kind in DETECTORS:
        assert f"`{kind}`" in table, kind


def test_the_most_severe_comes_first() -> None:
    steps = series(12, completion__errored_rate=from_step(11, 0.06, 0.0), group__unsolved_rate=0.9)
    severities = [finding.severity for finding in detect(make_snapshot(steps))]
    assert severities == sorted(severities, key=("severe", "warning", "note", "unknown").index)
    assert severities[0] == "severe"


def test_too_few_steps_are_said_to_be_too_few() -> None:
    unknown = {f.kind: f for f in detect(make_snapshot(make_steps(2, UNSOLVED))) if f.severity == "unknown"}
    assert unknown["unsolved"].evidence == "2 of 8 steps needed"
    assert (unknown["unsolved"].confidence, unknown["unsolved"].first, unknown["unsolved"].last) == (0.0, 1, 2)
    assert {f.severity for f in detect(make_snapshot())} == {"unknown"}


def test_only_steps_under_the_present_knobs_are_judged() -> None:
    steps = (*make_steps(10, UNSOLVED), *make_steps(3, first=11))
    assert not found(make_snapshot(steps, decisions=(make_change(11, "beta", 0.0, 0.05),)))
    refused = replace(make_change(11, "beta", 0.0, 0.05), refused="pinned")
    assert "unsolved" not in found(make_snapshot(steps, decisions=(make_change(11, "beta"), refused)))


# ---------------------------------------------------------------- what only looks like it


def test_a_reward_that_failed_now_and_then_from_the_start_is_no_reason_to_stop() -> None:
    assert found(make_snapshot(series(12, completion__errored_rate=0.03)))["errored"].severity == "warning"
    assert "errored" not in found(make_snapshot(series(9, completion__errored_rate=0.03))), "not told before ten steps"
    assert found(make_snapshot(series(6, completion__errored_rate=0.06)))["errored"].severity == "severe"
    assert found(make_snapshot(series(12, completion__errored_rate=from_step(12, 0.05, 0.0))))["errored"].severity == (
        "warning"
    ), "once is not yet a reward that began to fail"


def test_a_reward_that_fails_on_some_texts_only_need_not_fail_in_every_step() -> None:
    now_and_then = series(14, completion__errored_rate=lambda s: 0.06 if s in (12, 14) else 0.0)
    assert found(make_snapshot(now_and_then))["errored"].severity == "severe"


def test_learning_everything_is_not_a_verifier_that_pays_everyone() -> None:
    slowly = series(20, completion__correct_rate=lambda s: min(1.0, 0.5 + 0.03 * s), reward__adjusted=0.1)
    assert "pays_everyone" not in found(make_snapshot(slowly))
    longer = [make_step(step, {"completion/correct_rate": 0.1}) for step in (1, 2)] + [
        make_step(step, {"completion/correct_rate": 0.97, "reward/adjusted": 0.9}, knobs=Knobs(max_tokens=128))
        for step in (3, 4)
    ]
    assert "pays_everyone" not in found(make_snapshot(longer)), "a longer limit lets answers be seen"


@pytest.mark.parametrize(("surprise", "seen"), [(0.3, True), (0.1, False)])
def test_nothing_wrong_any_more_is_paid_from_higher_up_too_if_every_step_surprises(surprise: float, seen: bool) -> None:
    steps = series(12, completion__correct_rate=from_step(11, 1.0, 0.75), reward__adjusted=from_step(11, surprise, 0.1))
    assert ("pays_everyone" in found(make_snapshot(steps))) == seen


def test_dev_that_rises_without_a_gradient_was_paid_for_nothing() -> None:
    """As in the gym's pays-all.2.llm: nearly all was right when the verifier broke, so the steps alone tell nothing."""
    nearly = series(15, completion__correct_rate=from_step(11, 1.0, 0.96), group__mixed_rate=from_step(11, 0.0, 0.3))
    looks, pair = (make_look(10, 0.78), make_look(15, 1.0)), make_pair(10, 15, 200, 44, 0)
    broke = make_snapshot(nearly, evaluations=looks, paired_dev=(pair,))
    assert "no group between them had signal" in found(broke)["pays_everyone"].evidence
    learnt = series(15, completion__correct_rate=from_step(11, 1.0, 0.96), group__mixed_rate=from_step(12, 0.0, 0.3))
    momentum = replace(broke, paired_dev=(make_pair(10, 15, 200, 20, 0),))
    went_back = replace(broke, steps=(*nearly[:10], replace(nearly[10], parent=5), *nearly[11:]))
    for other in (replace(broke, steps=learnt), momentum, went_back, replace(broke, evaluations=looks[:1])):
        assert "pays_everyone" not in found(other)


def test_completions_that_could_not_be_judged_are_no_wrong_ones_that_are_paid() -> None:
    errored = series(
        16, completion__errored_rate=from_step(9, 0.25, 0.0), completion__correct_rate=from_step(9, 0.45, 0.6),
        reward__mean=0.6,
    )  # fmt: skip
    assert "gamed" not in found(make_snapshot(errored))


@pytest.mark.parametrize("cut", [0.0, 0.4])
def test_everything_paid_from_the_first_step_on_is_found_at_the_second(cut: float) -> None:
    steps = series(2, completion__correct_rate=1.0, completion__truncated_rate=cut)
    assert found(make_snapshot(steps))["pays_everyone"].severity == "severe"
    assert "pays_everyone" not in found(make_snapshot(steps[:1]))


def test_a_format_that_is_being_learned_is_not_gamed() -> None:
    both = series(14, completion__correct_rate=lambda s: 0.3 + 0.01 * s, reward__mean=lambda s: 0.32 + 0.02 * s)
    assert "gamed" not in found(make_snapshot(both))
    sideways = series(14, completion__correct_rate=0.21, reward__mean=lambda s: 0.3 + 0.01 * s)
    assert found(make_snapshot(sideways))["gamed"].severity == "warning"


def test_wrong_answers_in_form_beside_right_ones_are_not_a_reward_that_pays_the_format_only() -> None:
    assert "flat" not in found(make_snapshot(series(4, group__flat_rate=0.6, completion__correct_rate=0.3)))


PARTIAL = {"group/unsolved_rate": 1.0, "completion/correct_rate": 0.0, "group/all_zero_rate": 0.0}


def test_groups_that_teach_by_partial_credit_are_no_prompts_that_are_too_hard() -> None:
    """Nothing is ever right, half is cut, and nearly every group is mixed: GRPO has all it needs."""
    steps = make_steps(20, PARTIAL | {"group/mixed_rate": 0.95, "completion/truncated_rate": 0.5})
    assert not found(make_snapshot(steps))


def test_a_hard_run_that_learns_is_not_found_unsolved_or_flat() -> None:
    """As under 3% right: three groups in four have no signal, and the fourth teaches."""
    hard = {"group/unsolved_rate": 0.8, "group/flat_rate": 0.5, "group/all_zero_rate": 0.28, "group/mixed_rate": 0.2}
    assert not found(make_snapshot(make_steps(40, hard | {"completion/correct_rate": 0.03})))


def test_equal_partial_credit_has_no_signal_and_is_found() -> None:
    same = PARTIAL | {"group/mixed_rate": 0.0, "group/flat_rate": 1.0, "group/no_signal_rate": 1.0, "reward/std": 0.0}
    graded = make_run_record(graded=True)
    assert set(found(make_snapshot(make_steps(8, same), run=graded))) == {"flat"}
    assert set(found(make_snapshot(make_steps(30, same), run=graded))) == {"flat", "no_signal"}


def test_where_the_reward_grades_there_is_nothing_to_game() -> None:
    snapshot, _ = FAULTS["gamed"]
    assert "gamed" not in found(replace(snapshot, run=make_run_record(graded=True)))


def test_a_limit_that_cuts_answers_which_are_paid_is_not_too_short() -> None:
    snapshot, _ = FAULTS["truncation"]
    paid = [replace(s, metrics={**s.metrics, "completion/truncated_paid": 0.8}) for s in snapshot.steps]
    assert "truncation" not in found(replace(snapshot, steps=tuple(paid)))


def test_a_rise_of_the_limit_that_helped_is_no_model_that_never_ends() -> None:
    snapshot, _ = FAULTS["never_ends"]
    assert "96 (from step 5)" in found(snapshot)["never_ends"].evidence
    helped = [
        replace(s, metrics={**s.metrics, "completion/truncated_rate": 0.6 if s.step >= 9 else 0.9})
        for s in snapshot.steps
    ]
    assert set(found(replace(snapshot, steps=tuple(helped)))) == {"truncation"}


def test_while_dev_lies_below_its_best_the_prompts_are_not_called_too_hard() -> None:
    below = replace(FAULTS["dev_drop"][0], steps=make_steps(20, UNSOLVED))
    assert "unsolved" not in found(below)


def test_dev_that_is_good_enough_is_no_plateau() -> None:
    snapshot, _ = FAULTS["plateau"]
    good = tuple(make_look(look.step, 0.98) for look in snapshot.evaluations)
    assert "plateau" not in found(replace(snapshot, evaluations=good))


def test_without_updates_there_is_no_plateau() -> None:
    snapshot, _ = FAULTS["plateau"]
    still = [replace(s, metrics={**s.metrics, "update/applied": 0.0}) for s in snapshot.steps]
    assert "plateau" not in found(replace(snapshot, steps=tuple(still)))


def test_dev_that_falls_while_its_rewards_do_not_is_gamed_and_with_them_is_harm() -> None:
    looks, pair = (make_look(0, 0.7), make_look(5, 0.5)), (make_pair(0, 5, 100, 2, 22),)
    harmed = make_snapshot(make_steps(5), evaluations=looks, paired_dev=pair)
    paid = replace(harmed, evaluations=(looks[0], replace(looks[1], reward=0.72)))
    assert "gamed" not in found(harmed)
    assert found(paid)["gamed"].severity == "severe"
    assert "lost 22 and gained 2 of 100 prompts" in found(paid)["gamed"].evidence
    assert "dev_drop" in found(harmed)


def test_noise_that_is_cut_is_no_short_limit() -> None:
    hot = series(
        3, completion__distinct_rate=1.0, group__unsolved_rate=0.8, group__all_zero_rate=0.8,
        completion__truncated_rate=0.6,
    )  # fmt: skip
    assert set(found(at(Knobs(temperature=2.5), hot))) == {"chaos"}
    assert "truncation" in found(make_snapshot(hot))


def test_one_high_kl_is_a_warning_and_less_needs_two_steps_and_a_normal_to_compare_with() -> None:
    assert found(make_snapshot(series(12, kl__mean=from_step(12, 0.7, 0.01))))["kl_spike"].severity == "warning"
    assert found(make_snapshot(series(12, kl__mean=from_step(11, 0.3, 0.01))))["kl_spike"].severity == "warning"
    for high, first, steps in ((0.3, 12, 12), (0.04, 11, 12), (0.3, 5, 6)):
        assert "kl_spike" not in found(make_snapshot(series(steps, kl__mean=from_step(first, high, 0.003))))


def test_kl_that_stays_high_after_a_change_is_not_found_again() -> None:
    steps = series(16, kl__mean=from_step(9, 0.8, 0.01))
    lowered = (make_change(12, "learning_rate", 1e-4, 5e-5),)
    assert "kl_spike" not in found(make_snapshot(steps, decisions=lowered))
    rising = series(16, kl__mean=lambda s: 0.8 + (1.0 if s >= 15 else 0.0) if s >= 9 else 0.01)
    assert "kl_spike" in found(make_snapshot(rising, decisions=lowered))


def test_rewards_that_fall_make_a_spike_severe() -> None:
    steps = series(12, kl__mean=from_step(11, 0.6, 0.01), reward__adjusted=from_step(10, -0.25, 0.0))
    assert found(make_snapshot(steps))["kl_spike"].severity == "severe"


def test_completions_that_grow_until_they_are_cut_are_not_a_short_limit() -> None:
    grown = series(
        12, completion__truncated_rate=from_step(9, 0.9, 0.0), group__unsolved_rate=0.8, group__all_zero_rate=0.8,
        reward__adjusted=-0.3,
    )  # fmt: skip
    assert found(make_snapshot(grown))["length_inflation"].severity == "severe"
    assert "truncation" not in found(make_snapshot(grown))
    earned = [replace(step, metrics={**step.metrics, "reward/adjusted": 0.1}) for step in grown]
    assert "truncation" in found(make_snapshot(earned)), "longer answers that earn more want a higher limit"


def test_a_drop_of_dev_is_told_once_and_not_after_a_rollback() -> None:
    snapshot, _ = FAULTS["dev_drop"]
    back = make_decision_record(21, "rollback", argument=10)
    assert "dev_drop" not in found(replace(snapshot, step=10, decisions=(back,)))
    later = (*snapshot.steps, *make_steps(3, first=21))
    assert "dev_drop" not in found(replace(snapshot, steps=later, steps_done=23))
    within_noise = replace(snapshot, paired_dev=(make_pair(10, 20, 200, 12, 20),))
    assert "dev_drop" not in found(within_noise)


def test_warm_up_is_no_learning_rate_without_effect() -> None:
    held_back = series(8, kl__mean=1e-7, learning_rate=1e-6)
    assert "no_op_learning_rate" not in found(make_snapshot(held_back))


@pytest.mark.parametrize(
    ("kl", "seen"),
    [
        ([0.2, 0.3], True),
        ([0.02, 0.3], False),
        ([0.15, 0.2, 0.3, 0.04], True),
        ([0.02, 0.03, 0.05, 0.04], False),
        ([0.065, 0.051, 0.156, 0.071], False),
        ([0.081, 0.005, 0.001, 0.034], False),
        ([1e-5, 2e-5, 3e-5, 4e-5], True),
        ([1e-5, 2e-5, 3e-3, 4e-5], True),
        ([1e-4, 2e-3, 3e-3, 1e-4], False),
        ([1e-3, 2e-3, 3e-3, 4e-3], False),
    ],
)
def test_a_first_rate_is_wrong_where_all_kls_but_one_say_so(kl: list[float], seen: bool) -> None:
    """Of the weights after two to five updates; far off, the first two tell. The fifth are those of SmolLM2 at 2e-4."""
    values = [0.0, 0.0, *kl]
    steps = series(len(values), kl__mean=lambda step: values[step - 1])
    assert ("learning_rate" in found(make_snapshot(steps))) == seen


@pytest.mark.parametrize("what", ["a later step", "warm-up", "no update", "temperature", "beta", "rolled back"])
def test_the_rate_is_asked_once_and_only_where_kl_can_tell(what: str) -> None:
    snapshot, _ = FAULTS["learning_rate"]
    assert "learning_rate" in found(snapshot)
    other = {
        "a later step": lambda: make_snapshot(series(8, kl__mean=1e-5)),
        "warm-up": lambda: make_snapshot(series(6, kl__mean=1e-5, learning_rate=lambda s: 1e-5 * s)),
        "no update": lambda: make_snapshot(series(6, kl__mean=1e-5, update__applied=lambda s: float(s > 3))),
        "temperature": lambda: replace(snapshot, decisions=(make_change(3, "temperature", 1.0, 1.25),)),
        "beta": lambda: at(Knobs(beta=0.1), snapshot.steps),
        "rolled back": lambda: replace(snapshot, decisions=(make_decision_record(2, "rollback", argument=0),)),
    }[what]()
    assert "learning_rate" not in found(other)


def test_larger_groups_are_not_asked_for_where_other_prompts_would_do() -> None:
    snapshot, _ = FAULTS["small_groups"]
    others = [replace(s, metrics={**s.metrics, "pool/mixed_expected_others": 0.7}) for s in snapshot.steps]
    others = [replace(s, metrics={**s.metrics, "group/mixed_rate": 0.4}) for s in others]
    assert set(found(replace(snapshot, steps=tuple(others)))) == {"poor_prompts"}


def test_a_fast_learner_after_a_step_of_hard_prompts_is_no_verifier_that_pays_everyone() -> None:
    """A run that is 0.3 better than expected step after step, as real ones are while they learn most."""
    right = [0.7, 0.75, 0.8, 0.91, 0.89, 0.62, 0.93, 0.96]
    better = [0.1, 0.15, 0.2, 0.3, 0.36, 0.01, 0.34, 0.31]
    learns = series(8, completion__correct_rate=lambda s: right[s - 1], reward__adjusted=lambda s: better[s - 1])
    assert "pays_everyone" not in found(make_snapshot(learns))
    broke = series(8, completion__correct_rate=from_step(7, 0.95, 0.5), reward__adjusted=from_step(7, 0.45, 0.1))
    assert "pays_everyone" in found(make_snapshot(broke))


def test_answers_that_are_right_before_they_are_cut_need_an_end_and_are_no_broken_verifier() -> None:
    cut = {"completion__truncated_rate": 0.9, "completion__truncated_paid": from_step(2, 0.9, 0.7)}
    steps = series(12, completion__correct_rate=lambda s: min(1.0, 0.6 + 0.08 * s), **cut)
    kinds = found(make_snapshot(steps)).keys()
    assert "cut_but_paid" in kinds
    assert not kinds & {"truncation", "pays_everyone"}
    at_once = series(
        12, completion__correct_rate=from_step(11, 1.0, 0.1), reward__adjusted=from_step(11, 0.9, 0), **cut
    )
    assert "pays_everyone" in found(make_snapshot(at_once))


def test_cut_answers_that_earn_more_and_more_want_no_higher_limit() -> None:
    lost = {"completion__truncated_rate": 1.0, "group__unsolved_rate": 0.5, "group__all_zero_rate": 0.5}
    assert "truncation" in found(make_snapshot(series(3, completion__truncated_paid=0.1, **lost)))
    earns = series(3, completion__truncated_paid=lambda s: 0.15 * s, **lost)
    assert "truncation" not in found(make_snapshot(earns))


def test_partial_credit_that_leads_to_right_answers_is_no_proxy() -> None:
    proxy = {"group__proxy_rate": 0.5, "group__mixed_rate": 0.55}
    early = found(make_snapshot(series(9, completion__correct_rate=0.02, **proxy)))
    assert early["proxy_only"].severity == "warning", "the form may be learned first"
    rises = series(30, completion__correct_rate=lambda s: 0.004 * s, **proxy)
    assert "proxy_only" not in found(make_snapshot(rises))
    graded = replace(make_snapshot(series(30, completion__correct_rate=0.0, **proxy)), run=make_run_record(graded=True))
    assert "proxy_only" not in found(graded)


def test_entropy_is_compared_with_the_runs_own_level() -> None:
    falls = from_step(14, -0.3, 0.0)
    low = series(16, entropy__mean=0.02, reward__adjusted=falls)
    assert "entropy_explosion" not in found(make_snapshot(low)), "a low level alone is no fault"
    sure = series(16, entropy__mean=from_step(14, 0.08, 0.02), reward__adjusted=falls)
    assert "entropy_explosion" not in found(make_snapshot(sure)), "four times next to nothing is no noise"
    rises = series(16, entropy__mean=from_step(14, 1.2, 0.2))
    assert found(make_snapshot(rises))["entropy_explosion"].severity == "note", "rewards do not fall"


def test_gradients_that_grow_while_rewards_stay_are_no_instability() -> None:
    grows = series(32, grad__norm=from_step(20, 0.9, 0.3), reward__mean=0.88)
    assert "instability" not in found(make_snapshot(grows))
    dips = series(32, reward__mean=from_step(24, 0.78, 0.88))
    assert "instability" not in found(make_snapshot(dips)), "which prompts were drawn"


def test_rewards_are_seen_as_shares_of_their_range() -> None:
    wide = make_run_record(reward_range=(-10.0, 10.0))
    steps = series(16, entropy__mean=from_step(14, 1.2, 0.2), reward__adjusted=from_step(14, -0.3, 0.0))
    assert found(replace(make_snapshot(steps), run=wide))["entropy_explosion"].severity == "note", "0.3 of 20 is little"
    far = series(16, entropy__mean=from_step(14, 1.2, 0.2), reward__adjusted=from_step(14, -6.0, 0.0))
    assert found(replace(make_snapshot(far), run=wide))["entropy_explosion"].severity == "severe"


# ---------------------------------------------------------------- real logs, and health


def every_boundary(steps: tuple[StepRecord, ...]) -> list[tuple[int, dict[str, Finding]]]:
    """What is found after each step, with the changes of knobs as decisions."""
    changes = tuple(
        make_change(b.step, "max_tokens", a.knobs.max_tokens, b.knobs.max_tokens)
        for a, b in pairwise(steps)
        if a.knobs != b.knobs
    )
    return [
        (
            steps[n - 1].step,
            found(
                make_snapshot(
                    steps[:n],
                    knobs=steps[min(n, len(steps) - 1)].knobs,
                    decisions=tuple(d for d in changes if d.step <= steps[n - 1].step),
                )
            ),
        )
        for n in range(1, len(steps) + 1)
    ]


def test_a_real_run_whose_answers_are_cut_and_then_healthy_raises_no_false_alarm() -> None:
    """The default recipe, seed 0: max_tokens 20, raised before step 3."""
    seen = [
        (step, kind)
        for step, findings in every_boundary(load_steps("steps-healthy.json"))
        for kind, finding in findings.items()
        if finding.severity in ("warning", "severe")
    ]
    assert seen == [(2, "truncation")]


def test_a_real_run_at_thirty_times_its_learning_rate_is_found_within_three_steps() -> None:
    findings = dict(every_boundary(load_steps("steps-learning-rate-30x.json")))
    assert findings[3]["kl_spike"].severity == "severe"


def test_false_alarms_on_simulated_healthy_runs_are_rare() -> None:
    """Twenty runs of 60 steps that learn, with the noise of 16 prompts in groups of 8."""
    rng = random.Random(0)
    alarms: list[tuple[int, str]] = []
    for _ in range(20):
        steps: list[StepRecord] = []
        for step in range(1, 61):
            level = 0.4 + 0.4 * step / 60
            right = min(1.0, max(0.0, level + rng.gauss(0, 0.09)))
            solved = min(0.7, max(0.0, right - 0.45 + rng.gauss(0, 0.1)))
            metrics = {
                "reward/mean": right,
                "reward/adjusted": right - level + 0.03,
                "completion/correct_rate": right,
                "group/solved_rate": solved,
                "group/unsolved_rate": max(0.0, 0.25 - solved / 2 + rng.gauss(0, 0.06)),
                "group/mixed_rate": 1 - solved - 0.1,
                "group/no_signal_rate": solved + 0.1,
                "completion/truncated_rate": abs(rng.gauss(0, 0.02)),
                "completion/tokens_mean": 28 + rng.gauss(0, 1.5),
                "completion/distinct_rate": 0.32 + rng.gauss(0, 0.05),
                "kl/mean": min(0.02, 5e-4 * step) * rng.lognormvariate(0, 0.5),
                "entropy/mean": 0.05 + rng.gauss(0, 0.006),
                "grad/norm": 0.33 * rng.lognormvariate(0, 0.4),
            }
            steps.append(make_step(step, metrics))
            findings = found(make_snapshot(steps, evaluations=DEV[:1]))
            alarms += [(step, kind) for kind, f in findings.items() if f.severity in ("warning", "severe")]
    assert len(alarms) / 1.2 <= 5, alarms  # per 1,000 steps
