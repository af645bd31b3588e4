from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.types import SeenGroup
from pools.view import RATE_BINS, compute_class_counts, compute_windows, rank_prompts


def seen(step: int, prompt_id: str, correct: int, judged: int = 8) -> SeenGroup:
    return SeenGroup(step, prompt_id, "label", correct, judged, 0 < correct < judged)


groups = st.lists(
    st.builds(
        lambda step, prompt, judged, share: seen(step, f"p{prompt}", round(judged * share), judged),
        st.integers(1, 60),
        st.integers(0, 9),
        st.integers(0, 16),
        st.floats(0, 1),
    )
)


@given(groups, st.integers(1, 20))
def test_windows_cover_the_run_and_every_group_and_prompt_once(groups: list[SeenGroup], count: int) -> None:
    windows = compute_windows(groups, pool_size=10, count=count)
    judged = [group for group in groups if group.judged]
    assert len(windows) <= count
    assert sum(sum(window.rates) for window in windows) == len(judged)
    for window in windows:
        assert sum(window.rates) == sum(window.first <= group.step <= window.last for group in judged)
        assert window.unseen + window.frontier + window.solved + window.hopeless == 10
    for window, after in pairwise(windows):
        assert after.first == window.last + 1
        assert after.unseen <= window.unseen
    if judged:
        assert windows[0].first == min(group.step for group in judged)
        assert windows[-1].last == max(group.step for group in judged)
        assert windows[-1].unseen == 10 - len({group.prompt_id for group in judged})


@given(groups)
def test_the_order_in_which_steps_are_given_does_not_matter(groups: list[SeenGroup]) -> None:
    by_step = sorted(groups, key=lambda group: group.step)
    shuffled = sorted(by_step, key=lambda group: group.step % 7)  # stable: within a step the order stays
    assert compute_windows(shuffled, pool_size=10, count=5) == compute_windows(by_step, pool_size=10, count=5)
    assert rank_prompts(shuffled) == rank_prompts(by_step)


@pytest.mark.parametrize(
    ("correct", "judged", "column"),
    [(0, 8, "none"), (1, 8, "to 20%"), (1, 5, "to 20%"), (3, 8, "to 40%"), (4, 8, "to 60%"), (6, 8, "to 80%"),
     (7, 8, "below all"), (63, 64, "below all"), (8, 8, "all"), (1, 1, "all"), (1, 64, "to 20%")],
)  # fmt: skip
def test_a_group_falls_into_the_bin_of_its_pass_rate(correct: int, judged: int, column: str) -> None:
    [window] = compute_windows([seen(1, "p", correct, judged)], pool_size=1, count=1)
    assert dict(zip(RATE_BINS, window.rates, strict=True)) == {name: int(name == column) for name in RATE_BINS}


def test_classes_follow_the_newest_groups_of_each_prompt() -> None:
    run = [
        *(seen(step, "easy", 8) for step in range(1, 9)),
        *(seen(step, "learnt", 0 if step < 5 else 8) for step in range(1, 13)),
        *(seen(step, "half", 4) for step in range(1, 13)),
        seen(2, "hard", 0),
    ]
    first, second, third = compute_windows(run, pool_size=10, count=3)
    assert (first.unseen, first.frontier, first.solved, first.hopeless) == (6, 1, 1, 2)
    assert (second.unseen, second.frontier, second.solved, second.hopeless) == (6, 2, 1, 1)
    assert (third.unseen, third.frontier, third.solved, third.hopeless) == (6, 1, 2, 1)


def test_windows_without_groups_keep_the_classes() -> None:
    windows = compute_windows([seen(1, "a", 8), seen(100, "b", 0)], pool_size=5, count=10)
    assert len(windows) == 10
    assert all(sum(window.rates) == 0 and window.solved == 1 for window in windows[1:-1])


def test_a_run_without_groups_has_no_windows() -> None:
    assert compute_windows([], pool_size=5, count=10) == []
    assert compute_windows([seen(1, "a", 0, 0)], pool_size=5, count=10) == []


def test_the_hardest_come_first_and_of_equals_the_one_tried_more_often() -> None:
    ranked = rank_prompts(
        [seen(1, "easy", 8), seen(1, "once", 0), seen(1, "often", 0), seen(2, "often", 0), seen(1, "half", 4),
         seen(3, "learnt", 0), seen(4, "learnt", 8)]
    )  # fmt: skip
    assert [standing.prompt_id for standing in ranked] == ["often", "once", "half", "learnt", "easy"]
    assert [standing.groups for standing in ranked] == [2, 1, 1, 2, 1]
    assert ranked[3].rate == pytest.approx(2 / 3)
    assert ranked[3].last_step == 4


def test_class_counts_of_nothing_are_zero() -> None:
    assert compute_class_counts([], [], []) == {"frontier": 0, "solved": 0, "hopeless": 0}
