from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pools.outlook import compute_mixed_rate
from pools.pool import PromptPool
from tests.support import simulated_learner as simulated
from tests.support.builders import make_group, make_prompt, make_table

parameters = st.floats(0.01, 50)
group_sizes = st.integers(2, 64)


def mixed_rate(a: float, b: float, group_size: int) -> float:
    return float(compute_mixed_rate(np.array([a]), np.array([b]), group_size)[0])


@pytest.mark.parametrize(("a", "b"), [(1, 1), (0.2, 0.3), (8.5, 0.5), (3, 40), (0.01, 0.01)])
@pytest.mark.parametrize("group_size", [2, 8, 33])
def test_the_closed_form_is_what_sampled_groups_show(a: float, b: float, group_size: int) -> None:
    rng = np.random.default_rng(0)
    n = 200_000
    correct = rng.binomial(group_size, rng.beta(a, b, size=n))
    measured = ((correct > 0) & (correct < group_size)).mean()
    assert mixed_rate(a, b, group_size) == pytest.approx(measured, abs=5 / np.sqrt(n))


@given(mean=st.floats(0.001, 0.999), group_size=group_sizes)
def test_a_pass_rate_that_is_certain_gives_the_binomial_formula(mean: float, group_size: int) -> None:
    certain = mixed_rate(mean * 1e9, (1 - mean) * 1e9, group_size)
    assert certain == pytest.approx(1 - mean**group_size - (1 - mean) ** group_size, abs=1e-6)


@given(a=parameters, b=parameters, group_size=group_sizes)
def test_a_larger_group_is_mixed_more_often_but_gives_no_more_mixed_groups_per_rollout(
    a: float, b: float, group_size: int
) -> None:
    now, larger = mixed_rate(a, b, group_size), mixed_rate(a, b, group_size + 1)
    assert now <= larger + 1e-12
    assert now / group_size >= larger / (group_size + 1) - 1e-12


@pytest.mark.parametrize("levels", [2, 4, 7])
@pytest.mark.parametrize("group_size", [2, 4, 8])
def test_grades_within_a_side_make_groups_mixed_as_often_as_sampled_ones_are(levels: int, group_size: int) -> None:
    rng = np.random.default_rng(0)
    n = 100_000
    rewards = rng.integers(0, levels, size=(n, group_size))  # none is right
    measured = (rewards != rewards[:, :1]).any(axis=1).mean()
    never = np.array([1e-9]), np.array([1e9])
    found = float(compute_mixed_rate(*never, group_size, 1 - 1 / levels)[0])
    assert found == pytest.approx(measured, abs=5 / np.sqrt(n))


def test_a_pool_expects_of_partial_credit_what_its_groups_show() -> None:
    """No completion is ever right, and the rewards of half of the prompts differ all the same."""
    prompts = make_table([make_prompt(f"{i:02}") for i in range(40)])
    pool, rng = PromptPool(prompts, draw_share=1.0, sampler="frontier"), np.random.default_rng(0)
    for _ in range(6):
        rewards = [rng.choice([0.3, 0.5, 0.7], 8).tolist() if i % 2 else [0.3] * 8 for i in range(len(prompts))]
        pool.record([make_group(*earned, prompt=prompt) for earned, prompt in zip(rewards, prompts, strict=True)])
    graded, plain = [prompts[1], prompts[3]], [prompts[0], prompts[2]]
    assert pool.outlook(graded, 8)["pool/mixed_expected"] > 0.9
    assert pool.outlook(plain, 8)["pool/mixed_expected"] < 0.35
    outlook = pool.outlook(graded, 8)
    assert (outlook["pool/frontier_rate"], outlook["pool/hopeless_rate"]) == (0.5, 0.5)
    drawn = {prompt.id for prompt in pool.draw(12, seed=1, focus=None, group_size=8)}
    assert len(drawn & {prompt.id for prompt in list(prompts)[1::2]}) >= 10


def make_pool() -> PromptPool:
    prompts = make_table([make_prompt(f"{i:02}") for i in range(40)])
    pool = PromptPool(prompts, draw_share=1.0, sampler="uniform")
    for i, prompt in enumerate(prompts[:30]):
        correct = (8, 4, 0)[i % 3]
        pool.record([make_group(*[1.0] * correct, *[0.0] * (8 - correct), prompt=prompt)] * 3)
    for _ in range(20):
        pool.record([])  # steps without these prompts: all may well be drawn again
    return pool


def test_an_outlook_counts_the_pool_by_class() -> None:
    outlook = make_pool().outlook(make_pool().prompts[:3], 8)
    shares = {name: outlook[f"pool/{name}_rate"] for name in ("unseen", "frontier", "solved", "hopeless")}
    assert shares == pytest.approx({"unseen": 0.25, "frontier": 0.25, "solved": 0.25, "hopeless": 0.25})
    fresh = PromptPool(make_pool().prompts, draw_share=1.0, sampler="uniform")
    assert fresh.outlook(fresh.prompts[:2], 8)["pool/unseen_rate"] == 1.0


def test_an_outlook_tells_other_prompts_from_a_larger_group() -> None:
    pool = make_pool()
    hopeless, frontier = pool.prompts[2:30:3], pool.prompts[1:30:3]
    dead, live = pool.outlook(hopeless, 8), pool.outlook(frontier, 8)
    assert dead["pool/mixed_expected"] < dead["pool/mixed_expected_larger"] < 0.3
    assert dead["pool/mixed_expected_others"] / 8 > 2 * dead["pool/mixed_expected_larger"] / 16, "other prompts"
    assert live["pool/mixed_expected"] > 0.9
    assert live["pool/mixed_expected_others"] == pytest.approx(live["pool/mixed_expected"], abs=0.1)


@pytest.mark.parametrize("known_by", ["label", "nothing"])
def test_while_the_model_stands_still_expectations_come_true_whatever_is_drawn(
    known_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frontier seeks out prompts whose estimate is high by luck; the prior must make up for it."""
    monkeypatch.setattr(simulated, "OWN_RATE", 0.0)
    scenario = replace(simulated.SCENARIOS[0], known_by=known_by, rate=0.0)
    rng = np.random.default_rng(3)
    learner = simulated.Learner(scenario, rng)
    pool = PromptPool(simulated.build_prompts(scenario, learner, rng), draw_share=0.5, sampler="frontier")
    adjusted, expected, mixed = [], [], []
    for seed in range(120):
        groups = simulated.roll_out(pool, learner, seed, rng)
        drawn = [group.prompt for group in groups]
        rewards = pool.expected_rewards(drawn)
        expected.append(pool.outlook(drawn, 8)["pool/mixed_expected"])
        adjusted.append(np.mean([c.score.reward - rewards[g.prompt.id] for g in groups for c in g.completions]))
        mixed.append(np.mean([group.mixed for group in groups]))
        pool.record(groups)
    assert np.mean(adjusted) == pytest.approx(0, abs=0.05)
    assert np.mean(expected) == pytest.approx(np.mean(mixed), abs=0.08)
    assert np.mean(mixed) > 0.55, "frontier found the fifth of the pool that is one"


@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 1000))
def test_a_simulated_learner_reaches_the_target_in_fewer_rollouts(seed: int) -> None:
    scenario = simulated.SCENARIOS[2]  # 40/20/40, nothing but the outcomes tells
    uniform, frontier = (simulated.simulate(scenario, name, seed, steps=80) for name in ("uniform", "frontier"))
    target = uniform.scores[-1]
    assert frontier.rollouts[frontier.arrival(target)] < 0.67 * uniform.rollouts[-1]
    assert frontier.mixed_rate(-1) > 1.6 * uniform.mixed_rate(-1)
