from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import InputError
from harness.types import Prompt
from pools.pool import WHOLE_POOL, PromptPool
from pools.splits import split_prompts
from tests.builders import make_group, make_prompt

LABELS = ("easy", "medium", "hard")


def make_pool(n: int = 60, *, draw_share: float = 0.5) -> PromptPool:
    prompts = [make_prompt(f"p{i}", label=LABELS[i % len(LABELS)]) for i in range(n)]
    return PromptPool(prompts, draw_share=draw_share)


def teach(pool: PromptPool, prompt: Prompt, *, correct: int, wrong: int, times: int = 1) -> None:
    for _ in range(times):
        pool.record([make_group(*[1.0] * correct, *[0.0] * wrong, prompt=prompt)])


def ids(prompts: list[Prompt]) -> list[str]:
    return [prompt.id for prompt in prompts]


@pytest.mark.parametrize("focus", [None, 0.5])
def test_a_draw_is_a_function_of_seed_and_history(focus: float | None) -> None:
    one, two = make_pool(), make_pool()
    teach(one, one.prompts[0], correct=3, wrong=1)
    teach(two, two.prompts[0], correct=3, wrong=1)
    first = one.draw(10, seed=5, focus=focus)
    one.draw(10, seed=99, focus=focus)
    assert one.draw(10, seed=5, focus=focus) == first == two.draw(10, seed=5, focus=focus)
    assert one.draw(10, seed=6, focus=focus) != first


def test_history_changes_a_focused_draw_and_no_uniform_one() -> None:
    fresh, taught = make_pool(), make_pool()
    for prompt in taught.prompts[::3]:
        teach(taught, prompt, correct=8, wrong=0, times=3)
    assert taught.draw(10, seed=5, focus=None) == fresh.draw(10, seed=5, focus=None)
    assert taught.draw(10, seed=5, focus=0.2) != fresh.draw(10, seed=5, focus=0.2)


@given(
    n=st.integers(1, 200),
    seed=st.integers(0, 2**32 - 1),
    focus=st.none() | st.floats(0.05, 0.95),
    share=st.floats(0.01, 1.0),
)
@settings(deadline=None)
def test_a_draw_is_distinct_and_never_more_than_its_share(n: int, seed: int, focus: float | None, share: float) -> None:
    pool = make_pool(60, draw_share=share)
    drawn = ids(pool.draw(n, seed=seed, focus=focus))
    assert len(drawn) == len(set(drawn)) == min(n, max(1, int(60 * share)))


def test_asking_for_more_than_the_share_is_wrong_input() -> None:
    pool = make_pool(60, draw_share=0.25)
    pool.check_draw(15)
    with pytest.raises(InputError, match=r"knobs.prompts_per_step: 16 is more than 25% of the 60 .* at most 15"):
        pool.check_draw(16)


@given(
    size=st.integers(20, 80),
    dev=st.integers(1, 6),
    test=st.integers(1, 6),
    seeds=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5),
    focus=st.none() | st.floats(0.05, 0.95),
)
@settings(deadline=None, max_examples=60)
def test_prompts_of_dev_and_test_are_never_drawn(
    size: int, dev: int, test: int, seeds: list[int], focus: float | None
) -> None:
    prompts = [make_prompt(f"p{i}") for i in range(size)]
    splits = split_prompts(prompts, {"probe": 1, "dev": dev, "test": test})
    kept_apart = set(ids(splits["dev"])) | set(ids(splits["test"])) | set(ids(splits["probe"]))
    pool = PromptPool(splits["train"], draw_share=1.0)
    for seed in seeds:
        drawn = pool.draw(size, seed=seed, focus=focus)
        pool.record([make_group(0.0, 1.0, prompt=prompt) for prompt in drawn])
        assert not kept_apart & set(ids(drawn))
    assert not kept_apart & set(pool.state()["seen"])


@pytest.mark.parametrize("size", [90, 2 * WHOLE_POOL], ids=["small pool", "large pool"])
def test_focus_moves_draws_towards_prompts_with_that_pass_rate(size: int) -> None:
    pool = make_pool(size)
    for i, prompt in enumerate(pool.prompts):
        correct = (0, 4, 8)[i % 3]
        teach(pool, prompt, correct=correct, wrong=8 - correct, times=4)
    rates = dict(zip(ids(pool.prompts), pool.pass_rates(), strict=True))

    def mean_rate(focus: float | None) -> float:
        draws = [pool.draw(20, seed=seed, focus=focus) for seed in range(20)]
        return float(np.mean([rates[prompt.id] for draw in draws for prompt in draw]))

    assert mean_rate(0.1) < mean_rate(None) - 0.1
    assert mean_rate(0.9) > mean_rate(None) + 0.1
    assert mean_rate(0.5) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("focus", [None, 0.5])
def test_a_draw_of_a_large_pool_is_distinct_repeatable_and_of_all_its_parts(focus: float | None) -> None:
    pool = make_pool(2 * WHOLE_POOL)
    draws = [ids(pool.draw(200, seed=seed, focus=focus)) for seed in range(40)]
    assert all(len(set(draw)) == 200 for draw in draws)
    assert ids(pool.draw(200, seed=7, focus=focus)) == draws[7]
    assert len({prompt for draw in draws for prompt in draw}) > 0.5 * len(pool.prompts)


def test_a_uniform_draw_reaches_every_prompt() -> None:
    pool = make_pool(30)
    drawn = {prompt.id for seed in range(50) for prompt in pool.draw(10, seed=seed, focus=None)}
    assert drawn == set(ids(pool.prompts))


def test_a_focus_still_draws_prompts_far_from_it_now_and_then() -> None:
    pool = make_pool(30)
    for prompt in pool.prompts[:10]:
        teach(pool, prompt, correct=0, wrong=8, times=4)
    far = set(ids(pool.prompts[:10]))
    assert any(far & set(ids(pool.draw(5, seed=seed, focus=0.9))) for seed in range(50))


def test_pass_rates_start_even_and_follow_what_was_seen() -> None:
    pool = make_pool(6)
    assert pool.pass_rates().tolist() == [0.5] * 6
    teach(pool, pool.prompts[0], correct=8, wrong=0, times=3)
    rates = pool.pass_rates()
    assert rates[0] > rates[3] > rates[1] == 0.5, "itself, then its label (0 and 3 are easy), then the others"


def test_old_evidence_is_forgotten() -> None:
    pool = make_pool(3)
    teach(pool, pool.prompts[0], correct=0, wrong=8, times=20)
    low = pool.pass_rates()[0]
    teach(pool, pool.prompts[0], correct=8, wrong=0, times=6)
    assert low < 0.1
    assert pool.pass_rates()[0] > 0.6


def test_expected_reward_borrows_from_the_label_until_the_prompt_was_seen() -> None:
    pool = make_pool(6)
    assert pool.expected_reward("p0") == 0.0
    teach(pool, pool.prompts[0], correct=2, wrong=2, times=1)
    assert pool.expected_reward("p3") == pytest.approx(0.5)
    assert pool.expected_reward("p1") == 0.0
    teach(pool, pool.prompts[3], correct=8, wrong=0, times=5)
    assert 0.9 < pool.expected_reward("p3") <= 1.0


def test_errored_completions_are_left_out() -> None:
    one, two = make_pool(6), make_pool(6)
    one.record([make_group(1.0, None, 0.0, prompt=one.prompts[0]), make_group(None, None, prompt=one.prompts[1])])
    two.record([make_group(1.0, 0.0, prompt=two.prompts[0])])
    assert one.state() == two.state()


def test_state_survives_json_to_the_last_bit() -> None:
    pool, again = make_pool(), make_pool()
    for i, prompt in enumerate(pool.prompts[:25]):
        pool.record([make_group(1 / 3, 0.1, 1.0, prompt=prompt), make_group(i / 7 % 1, prompt=prompt)])
    again.load_state(json.loads(json.dumps(pool.state())))
    assert again.state() == pool.state()
    assert again.pass_rates().tobytes() == pool.pass_rates().tobytes()
    assert [again.expected_reward(p.id) for p in again.prompts] == [pool.expected_reward(p.id) for p in pool.prompts]
    assert again.draw(20, seed=1, focus=0.4) == pool.draw(20, seed=1, focus=0.4)


def test_loading_a_state_forgets_what_came_after_it() -> None:
    pool = make_pool()
    teach(pool, pool.prompts[0], correct=1, wrong=1)
    saved = pool.state()
    teach(pool, pool.prompts[5], correct=4, wrong=0)
    teach(pool, pool.prompts[0], correct=4, wrong=0)
    pool.load_state(saved)
    assert pool.state() == saved


def test_a_state_does_not_change_while_the_pool_goes_on() -> None:
    pool = make_pool()
    saved = pool.state()
    before = json.dumps(saved)
    teach(pool, pool.prompts[0], correct=1, wrong=1)
    assert json.dumps(saved) == before
