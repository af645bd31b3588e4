from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.store.buckets import LIMIT, compute_width, fold, rebuild
from harness.store.snapshot import SnapshotReader
from harness.store.writer import RunStore
from harness.types import Bucket
from tests.support.builders import create_run, make_store, record_step

METRIC = "reward/mean"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    opened = make_store(tmp_path)
    yield opened
    opened.close()


def fold_all(store: RunStore, run_id: int, values: dict[int, float | None]) -> None:
    with store.write() as connection:
        for step, value in values.items():
            fold(connection, run_id, step, {METRIC: value})


def load(store: RunStore, run_id: int) -> tuple[Bucket, ...]:
    return SnapshotReader(store, run_id).read(whole_run=True).buckets.get(METRIC, ())


@pytest.mark.parametrize(("step", "width"), [(1, 1), (512, 1), (513, 2), (1024, 2), (1025, 4), (100_000, 256)])
def test_width_is_the_smallest_power_of_two_within_the_limit(step: int, width: int) -> None:
    assert compute_width(step) == width
    assert -(-step // width) <= LIMIT


def test_a_short_run_has_one_bucket_a_step(store: RunStore) -> None:
    run_id = create_run(store)
    fold_all(store, run_id, {1: 0.25, 2: 0.5})
    assert load(store, run_id) == (Bucket(1, 1, 0.25, 0.25, 0.25), Bucket(2, 1, 0.5, 0.5, 0.5))


def test_neighbours_are_merged_when_the_run_outgrows_its_buckets(store: RunStore) -> None:
    run_id = create_run(store)
    fold_all(store, run_id, {step: float(step) for step in range(1, 514)})
    buckets = load(store, run_id)
    assert len(buckets) == 257
    assert buckets[0] == Bucket(1, 2, 1.0, 1.5, 2.0)
    assert buckets[-1] == Bucket(513, 1, 513.0, 513.0, 513.0)


def test_a_long_run_stays_within_the_limit_and_loses_no_step(store: RunStore) -> None:
    run_id = create_run(store)
    values: dict[int, float | None] = {step: float(step * 7919 % 1000) for step in range(1, 2101)}
    fold_all(store, run_id, values)
    buckets = load(store, run_id)
    numbers = [value for value in values.values() if value is not None]
    assert len(buckets) <= LIMIT
    assert sum(bucket.n for bucket in buckets) == 2100
    assert min(bucket.low for bucket in buckets) == min(numbers)
    assert max(bucket.high for bucket in buckets) == max(numbers)
    assert sum(bucket.mean * bucket.n for bucket in buckets) == pytest.approx(sum(numbers))


def test_rebuilding_gives_what_folding_gave(store: RunStore) -> None:
    run_id = create_run(store)
    values: dict[int, float | None] = {step: float(step % 10) for step in range(1, 1031)}
    fold_all(store, run_id, values)
    folded = load(store, run_id)
    with store.write() as connection:
        rebuild(connection, run_id, [(step, {METRIC: value}) for step, value in values.items()], last_step=1030)
    assert load(store, run_id) == folded


def test_a_missing_value_leaves_its_bucket_out(store: RunStore) -> None:
    run_id = create_run(store)
    fold_all(store, run_id, {1: 0.5, 2: None, 3: 0.75})
    assert [bucket.first for bucket in load(store, run_id)] == [1, 3]


def test_rebuilding_from_steps_without_a_number_leaves_nothing(store: RunStore) -> None:
    run_id = create_run(store)
    fold_all(store, run_id, {1: 0.5})
    with store.write() as connection:
        rebuild(connection, run_id, [(1, {METRIC: None})], last_step=1)
    assert load(store, run_id) == ()


def test_runs_do_not_share_buckets(store: RunStore) -> None:
    first, second = create_run(store, "first"), create_run(store, "second")
    fold_all(store, first, {1: 0.5})
    assert load(store, second) == ()


def test_a_step_that_was_rolled_back_leaves_the_buckets(store: RunStore) -> None:
    run_id = create_run(store)
    for step in range(1, 5):
        record_step(store, run_id, step, {METRIC: float(step)})
    store.roll_back(run_id, 2, live=[1, 2])
    record_step(store, run_id, 5, {METRIC: 5.0}, parent=2)
    assert [bucket.first for bucket in load(store, run_id)] == [1, 2, 5]


def test_a_number_without_a_step_where_the_buckets_widen_leaves_them_of_one_width(store: RunStore) -> None:
    run_id = create_run(store)
    for step in range(1, 513):
        record_step(store, run_id, step, samples=[])
    store.update_run(run_id, last_step=513)  # a step that diverged has a number and no row
    store.roll_back(run_id, 510, live=list(range(1, 511)))
    record_step(store, run_id, 514, parent=510, samples=[])
    buckets = load(store, run_id)
    assert [bucket.first for bucket in buckets] == [*range(1, 511, 2), 513]
    assert [bucket.n for bucket in buckets] == [2] * 255 + [1]


def test_buckets_stay_within_the_limit_after_a_rollback(store: RunStore) -> None:
    run_id = create_run(store)
    for step in range(1, 561):
        record_step(store, run_id, step, samples=[])
    store.roll_back(run_id, 510, live=list(range(1, 511)))
    for step in range(561, 570):
        record_step(store, run_id, step, parent=510 if step == 561 else step - 1, samples=[])
    buckets = load(store, run_id)
    assert len(buckets) <= LIMIT
    assert sum(bucket.n for bucket in buckets) == 519
