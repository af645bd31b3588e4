from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import InputError
from harness.types import Group, Prompt, Sampler
from pools.history import FIRST_ROW, ROW
from pools.pool import PromptPool
from pools.sampler import CANDIDATES, MOST_DRAWN, REST
from pools.splits import split_prompts
from tests.support.builders import make_group, make_prompt, make_table

LABELS = ("easy", "medium", "hard")
AIM: dict[str, Any] = {"focus": None, "group_size": 8}

samplers = st.sampled_from(get_args(Sampler))
seeds = st.integers(0, 2**32 - 1)
focuses = st.none() | st.floats(0.05, 0.95)


def make_pool(n: int = 60, *, draw_share: float = 0.5, sampler: Sampler = "frontier") -> PromptPool:
    """Prompts of three labels in turn, all of one length."""
    prompts = make_table([make_prompt(f"{i:05}", label=LABELS[i % len(LABELS)]) for i in range(n)])
    return PromptPool(prompts, draw_share=draw_share, sampler=sampler)


def teach(pool: PromptPool, prompt: Prompt, *, correct: int, wrong: int, times: int = 1) -> None:
    for _ in range(times):
        pool.record([make_group(*[1.0] * correct, *[0.0] * wrong, prompt=prompt)])


def teach_all(pool: PromptPool, correct_of_8: tuple[int, ...], *, times: int = 2) -> None:
    """Every prompt gets groups of 8 in turn with so many correct, in the order of the pool."""
    for _ in range(times):
        outcomes = [correct_of_8[i % len(correct_of_8)] for i in range(len(pool.prompts))]
        groups = zip(pool.prompts, outcomes, strict=True)
        pool.record([make_group(*[1.0] * k, *[0.0] * (8 - k), prompt=prompt) for prompt, k in groups])
    pool.record([])  # a step without these prompts: all have rested


def ids(prompts: Sequence[Prompt]) -> list[str]:
    return [prompt.id for prompt in prompts]


def rates(pool: PromptPool) -> list[float]:
    a, b = pool.history.posterior(np.arange(len(pool.prompts)))
    found: list[float] = (a / (a + b)).tolist()
    return found


# ---------------------------------------------------------------- draws of every sampler


@given(sampler=samplers, size=st.integers(3, 90), steps=st.lists(seeds, min_size=1, max_size=6), focus=focuses)
@settings(deadline=None, max_examples=60)
def test_a_draw_is_a_function_of_seed_and_history(
    sampler: Sampler, size: int, steps: list[int], focus: float | None
) -> None:
    one, two = make_pool(size, sampler=sampler), make_pool(size, sampler=sampler)
    for seed in steps:
        drawn = one.draw(8, seed=seed, focus=focus, group_size=4)
        one.draw(5, seed=seed + 1, focus=0.3, group_size=8)  # a draw changes nothing
        assert two.draw(8, seed=seed, focus=focus, group_size=4) == drawn
        for pool in (one, two):
            pool.record([make_group(*[1.0] * (i % 5), *[0.0] * (4 - i % 5), prompt=p) for i, p in enumerate(drawn)])


@given(
    sampler=samplers,
    n=st.integers(1, 200),
    share=st.floats(0.01, 1.0),
    group_size=st.integers(2, 64),
    steps=st.lists(seeds, min_size=1, max_size=4),
    focus=focuses,
)
@settings(deadline=None, max_examples=80)
def test_a_draw_is_distinct_and_never_more_than_its_share(
    sampler: Sampler, n: int, share: float, group_size: int, steps: list[int], focus: float | None
) -> None:
    pool = make_pool(60, draw_share=share, sampler=sampler)
    for seed in steps:
        drawn = pool.draw(n, seed=seed, focus=focus, group_size=group_size)
        assert len(drawn) == len(set(ids(drawn))) == min(n, max(1, int(60 * share)))
        pool.record([make_group(0.0, 1.0, prompt=prompt) for prompt in drawn])


@given(
    sampler=samplers,
    size=st.integers(20, 80),
    dev=st.integers(1, 6),
    test=st.integers(1, 6),
    steps=st.lists(st.tuples(seeds, focuses, st.integers(2, 16)), min_size=1, max_size=5),
)
@settings(deadline=None, max_examples=60)
def test_prompts_of_dev_and_test_are_never_drawn_whatever_is_changed_between_steps(
    sampler: Sampler, size: int, dev: int, test: int, steps: list[tuple[int, float | None, int]]
) -> None:
    prompts = make_table([make_prompt(f"p{i}", label=LABELS[i % 3]) for i in range(size)])
    splits = split_prompts(prompts, {"probe": 1, "dev": dev, "test": test})
    kept_apart = set(ids(splits["dev"])) | set(ids(splits["test"])) | set(ids(splits["probe"]))
    pool = PromptPool(splits["train"], draw_share=1.0, sampler=sampler)
    for seed, focus, group_size in steps:
        drawn = pool.draw(size // 2, seed=seed, focus=focus, group_size=group_size)
        unsolved = [make_group(0.0, 0.0, prompt=prompt) for prompt in drawn]
        drawn += pool.top_up(unsolved, size // 2, seed=seed + 1, focus=focus, group_size=group_size)
        pool.record([make_group(0.0, 1.0, prompt=prompt) for prompt in drawn])
        assert not kept_apart & set(ids(drawn))
    assert not kept_apart & set(pool.state()["seen"])


@pytest.mark.parametrize("sampler", get_args(Sampler))
def test_every_prompt_has_its_turn_even_the_most_hopeless(sampler: Sampler) -> None:
    pool = make_pool(45, sampler=sampler)
    missing = set(ids(pool.prompts))
    for seed in range(600):
        drawn = pool.draw(6, seed=seed, **AIM)
        missing -= set(ids(drawn))
        # Two in three prompts are never right, so nothing but the floor brings them in once they are known.
        pool.record([make_group(*[float(p.label == "easy"), 0.0] * 4, prompt=p) for p in drawn])
    assert not missing


@pytest.mark.parametrize("sampler", ["frontier", "dynamic", "curriculum"])
def test_a_prompt_rests_between_its_groups(sampler: Sampler) -> None:
    pool = make_pool(60, sampler=sampler)
    last: dict[str, int] = {}
    for step in range(60):
        drawn = pool.draw(8, seed=step, **AIM)
        assert all(step - last[name] >= REST for name in ids(drawn) if name in last)
        last |= dict.fromkeys(ids(drawn), step)
        # One label is worth repeating: without a rest it would be drawn each time.
        pool.record([make_group(*[float(p.label == "easy"), 0.0] * 4, prompt=p) for p in drawn])


def test_a_pool_too_small_for_rests_is_drawn_all_the_same() -> None:
    pool = make_pool(6, draw_share=1.0)
    for step in range(3):
        drawn = pool.draw(6, seed=step, **AIM)
        assert len(set(ids(drawn))) == 6
        pool.record([make_group(1.0, 0.0, prompt=prompt) for prompt in drawn])


def test_asking_for_more_than_the_share_is_wrong_input() -> None:
    pool = make_pool(60, draw_share=0.25)
    pool.check_draw(15)
    with pytest.raises(InputError, match=r"knobs.prompts_per_step: 16 is more than 25% of the 60 .* at most 15"):
        pool.check_draw(16)


# ---------------------------------------------------------------- uniform and focus


def test_history_changes_no_uniform_draw() -> None:
    fresh, taught = make_pool(sampler="uniform"), make_pool(sampler="uniform")
    teach_all(taught, (0, 4, 8))
    assert taught.draw(10, seed=5, **AIM) == fresh.draw(10, seed=5, **AIM)
    assert taught.draw(10, seed=5, focus=0.2, group_size=8) != fresh.draw(10, seed=5, focus=0.2, group_size=8)


@pytest.mark.parametrize("sampler", ["uniform", "frontier"])
@pytest.mark.parametrize("size", [90, CANDIDATES + 500], ids=["small pool", "large pool"])
def test_focus_moves_draws_towards_prompts_with_that_pass_rate(size: int, sampler: Sampler) -> None:
    pool = make_pool(size, sampler=sampler)
    teach_all(pool, (0, 2, 4, 6, 8))
    known = dict(zip(pool.prompts.ids, rates(pool), strict=True))

    def mean_rate(focus: float) -> float:
        draws = [pool.draw(10, seed=seed, focus=focus, group_size=8) for seed in range(30)]
        return float(np.mean([known[prompt.id] for draw in draws for prompt in draw]))

    means = [mean_rate(focus) for focus in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert means == sorted(means)
    assert means == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9], abs=0.15)


# ---------------------------------------------------------------- frontier


@pytest.mark.parametrize("size", [90, CANDIDATES + 500], ids=["small pool", "large pool"])
def test_frontier_draws_prompts_whose_groups_are_mixed(size: int) -> None:
    pool = make_pool(size)
    teach_all(pool, (0, 4, 8))
    drawn = Counter(LABELS.index(p.label) for seed in range(30) for p in pool.draw(10, seed=seed, **AIM))
    assert drawn[1] > 0.9 * drawn.total()
    assert drawn[0] + drawn[2] > 0, "the floor draws others now and then"


def test_an_unseen_prompt_is_worth_what_prompts_like_it_were() -> None:
    pool = make_pool(90)
    for prompt in pool.prompts[:30]:
        correct = {"easy": 8, "medium": 4, "hard": 0}[prompt.label]
        teach(pool, prompt, correct=correct, wrong=8 - correct)
    unseen = {prompt.id for prompt in pool.prompts[30:]}
    drawn = [p for seed in range(30) for p in pool.draw(8, seed=seed, **AIM) if p.id in unseen]
    assert np.mean([p.label == "medium" for p in drawn]) > 0.7


def test_prompts_of_one_label_are_told_apart_by_their_length() -> None:
    prompts = make_table([make_prompt(f"{i:{(10, 50, 90)[i % 3]}}") for i in range(90)])
    pool = PromptPool(prompts, draw_share=0.5, sampler="frontier")
    for i, prompt in enumerate(prompts[:45]):
        correct = (8, 4, 0)[i % 3]
        teach(pool, prompt, correct=correct, wrong=8 - correct)
    short, medium, long = rates(pool)[87:]
    assert short > 0.8
    assert medium == pytest.approx(0.5, abs=0.1)
    assert long < 0.2


def test_a_label_of_extremes_is_no_frontier_though_its_mean_is_one_half() -> None:
    prompts = make_table([make_prompt(f"{i:03}", label=("even", "split")[i % 2]) for i in range(80)])
    pool = PromptPool(prompts, draw_share=0.5, sampler="frontier")
    for i in range(40):  # every prompt of "even" is right half the time, one half of "split" always, one half never
        correct = 4 if i % 2 == 0 else 8 * (i // 2 % 2)
        teach(pool, prompts[i], correct=correct, wrong=8 - correct)
    unseen = rates(pool)
    assert unseen[40] == pytest.approx(unseen[41], abs=0.1)
    assert pool.outlook([prompts[40]], 8)["pool/mixed_expected"] > 0.8
    assert pool.outlook([prompts[41]], 8)["pool/mixed_expected"] < 0.4


# ---------------------------------------------------------------- curriculum and dynamic


def test_a_curriculum_goes_from_the_easiest_label_to_the_next() -> None:
    pool = make_pool(90, sampler="curriculum")

    def most_drawn() -> str:
        drawn = Counter(p.label for seed in range(20) for p in pool.draw(10, seed=seed, **AIM))
        label, count = drawn.most_common(1)[0]
        assert count > 0.6 * drawn.total()
        assert len(drawn) == 3, "the other labels are measured too"
        return label

    teach_all(pool, (4, 2, 0))
    assert most_drawn() == "easy"
    teach_all(pool, (8, 3, 0), times=8)
    assert most_drawn() == "medium"
    teach_all(pool, (8, 8, 0), times=12)
    assert most_drawn() == "hard"
    teach_all(pool, (8, 8, 7), times=20)
    assert most_drawn() == "hard", "the hardest stays when all are mastered"


def test_a_focus_on_harder_prompts_moves_a_curriculum_on_earlier() -> None:
    pool = make_pool(90, sampler="curriculum")
    teach_all(pool, (5, 2, 0), times=8)

    def share(focus: float, label: str) -> float:
        draws = [pool.draw(10, seed=seed, focus=focus, group_size=8) for seed in range(20)]
        return float(np.mean([p.label == label for draw in draws for p in draw]))

    assert share(0.8, "easy") > 0.6
    assert share(0.1, "medium") > 0.6


def test_a_curriculum_needs_labels() -> None:
    with pytest.raises(InputError, match=r"^pool.sampler: curriculum goes from label to label"):
        PromptPool(make_table([make_prompt("a"), make_prompt("b")]), draw_share=1.0, sampler="curriculum")


@given(live=st.floats(0, 1), wanted=st.integers(1, 20), size=st.integers(4, 120), seed=seeds)
@settings(deadline=None, max_examples=60)
def test_a_dynamic_step_ends_with_enough_mixed_groups_or_at_its_limit(
    live: float, wanted: int, size: int, seed: int
) -> None:
    pool = make_pool(size, draw_share=1.0, sampler="dynamic")
    rng = np.random.default_rng(seed)
    groups: list[Group] = []
    more = pool.draw(wanted, seed=seed, **AIM)
    while more:
        assert len(more) <= wanted
        groups += [make_group(float(rng.random() < live), 0.0, prompt=prompt) for prompt in more]
        more = pool.top_up(groups, wanted, seed=seed + len(groups), **AIM)
    assert len({group.prompt.id for group in groups}) == len(groups) <= MOST_DRAWN * wanted
    assert sum(group.mixed for group in groups) >= wanted or len(groups) == min(MOST_DRAWN * wanted, size)


@pytest.mark.parametrize("sampler", ["uniform", "frontier", "curriculum"])
def test_other_samplers_never_top_up(sampler: Sampler) -> None:
    pool = make_pool(sampler=sampler)
    drawn = pool.draw(8, seed=1, **AIM)
    assert pool.top_up([make_group(0.0, 0.0, prompt=prompt) for prompt in drawn], 8, seed=2, **AIM) == []


# ---------------------------------------------------------------- what is known


def test_pass_rates_start_even_and_follow_what_was_seen() -> None:
    pool = make_pool(6)
    assert set(rates(pool)) == {0.5}
    teach(pool, pool.prompts[0], correct=8, wrong=0, times=3)
    seen, same_label, another = (rates(pool)[place] for place in (0, 3, 1))
    assert seen > same_label > another > 0.5


def test_old_evidence_is_forgotten() -> None:
    pool = make_pool(3)
    teach(pool, pool.prompts[0], correct=0, wrong=8, times=20)
    low = rates(pool)[0]
    teach(pool, pool.prompts[0], correct=8, wrong=0, times=6)
    assert low < 0.1
    assert rates(pool)[0] > 0.8


def test_what_is_not_seen_again_fades_towards_prompts_like_it() -> None:
    pool = make_pool(30)
    teach(pool, pool.prompts[0], correct=0, wrong=8)
    before = rates(pool)[0]
    for i in range(200):
        prompt = pool.prompts[3 + 3 * (i % 9)]  # the same label, which the model has learnt meanwhile
        teach(pool, prompt, correct=6, wrong=2)
    assert before < 0.1
    assert rates(pool)[0] > 0.6


def test_a_prompt_drawn_often_does_not_speak_for_its_label() -> None:
    pool = make_pool(90)
    for i in range(3, 30, 3):
        teach(pool, pool.prompts[i], correct=0, wrong=8)
    teach(pool, pool.prompts[0], correct=8, wrong=0, times=60)
    assert rates(pool)[60] < 0.4


def test_expected_rewards_borrow_until_the_prompt_was_seen() -> None:
    pool = make_pool(6)

    def expected(place: int) -> float:
        prompt = pool.prompts[place]
        return pool.expected_rewards([prompt])[prompt.id]

    assert expected(0) == 0.0
    teach(pool, pool.prompts[0], correct=2, wrong=2)
    assert expected(3) == pytest.approx(0.5)
    teach(pool, pool.prompts[3], correct=8, wrong=0, times=5)
    assert 0.9 < expected(3) <= 1.0


def test_errored_completions_are_left_out() -> None:
    one, two = make_pool(6), make_pool(6)
    one.record([make_group(1.0, None, 0.0, prompt=one.prompts[0]), make_group(None, None, prompt=one.prompts[1])])
    two.record([make_group(1.0, 0.0, prompt=two.prompts[0])])
    assert one.state() == two.state()


def test_a_prompt_of_another_pool_is_refused() -> None:
    stranger = make_pool(7).prompts[6]
    with pytest.raises(KeyError, match=stranger.id):
        make_pool(6).record([make_group(1.0, prompt=stranger)])


# ---------------------------------------------------------------- into a checkpoint and back


@given(
    sampler=samplers,
    size=st.integers(4, 70),
    steps=st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=6), min_size=1, max_size=8),
    seed=seeds,
)
@settings(deadline=None, max_examples=60)
def test_a_pool_goes_on_from_its_state_as_if_never_stopped(
    sampler: Sampler, size: int, steps: list[list[float]], seed: int
) -> None:
    pool, again = make_pool(size, sampler=sampler), make_pool(size, sampler=sampler)
    teach(again, again.prompts[0], correct=3, wrong=1, times=5)  # what came after the checkpoint is gone

    def step(pool: PromptPool, seed: int, rewards: list[float]) -> list[Prompt]:
        drawn = pool.draw(5, seed=seed, **AIM)
        pool.record([make_group(*rewards[i % 3 :], 1.0, prompt=prompt) for i, prompt in enumerate(drawn)])
        return drawn

    for i, rewards in enumerate(steps):
        step(pool, seed + i, rewards)
    again.load_state(json.loads(json.dumps(pool.state())))
    assert again.state() == pool.state()
    assert rates(again) == rates(pool)
    assert again.expected_rewards(again.prompts) == pool.expected_rewards(pool.prompts)
    for i, rewards in enumerate(steps):
        assert step(again, seed + 99 - i, rewards) == step(pool, seed + 99 - i, rewards)
    assert again.state() == pool.state()


def test_a_large_pool_draws_the_same_after_a_resume() -> None:
    pool, again = make_pool(3 * CANDIDATES), make_pool(3 * CANDIDATES)
    rng = np.random.default_rng(0)
    for place in rng.permutation(3 * CANDIDATES)[:1500]:
        teach(pool, pool.prompts[place], correct=int(rng.integers(9)), wrong=4)
    again.load_state(json.loads(json.dumps(pool.state())))
    assert again.draw(50, seed=3, **AIM) == pool.draw(50, seed=3, **AIM)


def test_a_state_leaves_out_prompts_that_the_pool_no_longer_has() -> None:
    pool, smaller = make_pool(30), make_pool(20)
    teach_all(pool, (0, 4, 8), times=1)
    smaller.load_state(pool.state())
    assert smaller.state()["seen"] == smaller.prompts.ids
    assert rates(smaller)[4] == rates(pool)[4]


def test_a_state_from_before_the_samplers_is_read_and_draws_as_it_did() -> None:
    """As commit 265f5d1 wrote it: correct, wrong, summed reward and completions by prompt, four numbers by label."""
    pool, fresh = make_pool(30, sampler="uniform"), make_pool(30, sampler="uniform")
    old = {"seen": {pool.prompts[4].id: [8.0, 0.0, 8.0, 8.0], "00000000000000ff": [0.0, 8.0, 0.8, 8.0]}}
    pool.load_state({**old, "labels": [[1.0, 1.0, 0.0, 0.0]] * 3})
    assert rates(pool)[4] > 0.7
    assert pool.expected_rewards([pool.prompts[4]])[pool.prompts[4].id] > 0.7
    assert pool.draw(8, seed=1, **AIM) == fresh.draw(8, seed=1, **AIM)
    assert pool.state()["seen"] == [pool.prompts[4].id]


def test_a_state_does_not_change_while_the_pool_goes_on() -> None:
    pool = make_pool()
    saved = pool.state()
    before = json.dumps(saved)
    teach(pool, pool.prompts[0], correct=1, wrong=1)
    assert json.dumps(saved) == before


def test_a_state_takes_little_room_for_each_prompt_seen() -> None:
    prompts = make_table([make_prompt(f"{i:04}") for i in range(2000)])
    pool = PromptPool(prompts, draw_share=1.0, sampler="frontier")
    pool.record([make_group(1.0, 1 / 3, prompt=prompt) for prompt in prompts])
    assert len(json.dumps(pool.state())) < 60 * len(prompts)


def test_a_state_from_before_grades_is_read() -> None:
    """As commit 1c9916b wrote it: three numbers of evidence by prompt, four of shared evidence."""
    pool, old = make_pool(30), make_pool(30)
    teach_all(pool, (0, 4, 8), times=1)
    state = pool.state()
    rows = np.frombuffer(base64.b64decode(state["rows"]), ROW)
    first = np.zeros(len(rows), FIRST_ROW)
    first["evidence"], first["seen_at"] = rows["evidence"][:, :3], rows["seen_at"]
    shared = {name: {key: row[:4] for key, row in state[name].items()} for name in ("labels", "kin")}
    old.load_state({**state, "rows": base64.b64encode(first.tobytes()).decode(), "pool": state["pool"][:4], **shared})
    assert rates(old) == rates(pool)
    assert old.draw(8, seed=1, **AIM) == pool.draw(8, seed=1, **AIM)
