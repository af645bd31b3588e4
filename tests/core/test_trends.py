"""The statistics against scipy's, and what they promise on noise that is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.core.trends import (
    compute_autocorrelation,
    compute_change,
    compute_level,
    compute_mad,
    compute_median,
    compute_noise,
    compute_slope,
    compute_trend,
    confidence_above,
    effective_n,
)

SERIES = st.lists(st.floats(-100, 100).map(lambda x: round(x, 6)), min_size=4, max_size=24)


@given(SERIES)
def test_medians_spreads_and_slopes_are_scipys(values: list[float]) -> None:
    assert compute_median(values) == pytest.approx(float(np.median(values)))
    assert compute_mad(values) == pytest.approx(float(stats.median_abs_deviation(values)) * 1.4826)
    assert compute_slope(values) == pytest.approx(float(stats.theilslopes(values).slope), abs=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(8, 24))
def test_the_trend_test_is_kendalls_where_steps_are_independent(seed: int, n: int) -> None:
    values = np.random.default_rng(seed).normal(size=n).tolist()
    trend = compute_trend(values)
    if compute_autocorrelation(values, trend.slope) > 0:
        return
    ours = min(1.0, 2 * min(trend.p_rises, trend.p_falls))
    kendall = float(stats.kendalltau(range(n), values, method="asymptotic").pvalue)
    assert ours >= kendall - 1e-9, "the correction for continuity only makes it more careful"
    assert ours == pytest.approx(kendall, abs=0.12)


def correlated(rng: np.random.Generator, n: int, r: float) -> list[float]:
    values = [float(rng.normal())]
    for _ in range(n - 1):
        values.append(r * values[-1] + float(rng.normal()) * (1 - r * r) ** 0.5)
    return values


def test_noise_alone_seldom_looks_like_a_trend_even_when_steps_are_alike() -> None:
    rng = np.random.default_rng(0)
    runs = [correlated(rng, 16, 0.5) for _ in range(500)]
    found = sum(compute_trend(run).p_rises < 0.01 for run in runs)
    uncorrected = sum(float(stats.kendalltau(range(16), run, alternative="greater").pvalue) < 0.01 for run in runs)
    assert found <= 500 * 0.04, "0.03 where the test for independent steps finds 0.08; the nominal rate is 0.01"
    assert found < uncorrected / 2


def test_a_trend_in_noise_is_found_with_its_slope() -> None:
    rng = np.random.default_rng(1)
    trends = [compute_trend([0.1 * i + 0.2 * float(rng.normal()) for i in range(16)]) for _ in range(100)]
    assert sum(trend.p_rises < 0.01 for trend in trends) >= 95
    assert np.median([trend.slope for trend in trends]) == pytest.approx(0.1, abs=0.01)
    assert compute_trend([1.0, 2.0, 3.0]).p_rises == 1.0, "three values have no trend"
    assert compute_trend([1.0] * 10).p_rises == 1.0


@pytest.mark.parametrize("slope", [0.0, 0.1, 0.2, 0.3])
def test_an_interval_holds_the_true_change_about_as_often_as_it_says(slope: float) -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(400):
        run = [slope * i + float(rng.normal()) + (2.0 if i >= 12 else 0.0) for i in range(18)]
        interval = compute_change(run[:12], run[12:], noise=1.0)
        held += interval.low <= 2.0 <= interval.high
    assert held >= 0.9 * 400


def test_what_only_goes_on_with_its_trend_is_no_change() -> None:
    rng = np.random.default_rng(3)
    run = [0.05 * i + 0.2 * float(rng.normal()) for i in range(18)]
    interval = compute_change(run[:12], run[12:], noise=0.2)
    assert interval.low < 0 < interval.high
    assert interval.value < sum(run[12:]) / 6 - sum(run[:12]) / 12


def test_levels_noise_and_confidence() -> None:
    assert compute_noise([1.0, 2.0, 1.0, 2.0, 1.0]) == pytest.approx(1.4826 / 2**0.5)
    assert compute_noise([0.0] * 5 + [1.0] * 5) == 0.0, "a jump is no noise"
    assert compute_level([-0.2] * 6, noise=0.02, level=0.99).high < -0.1
    assert confidence_above([0.9] * 4, 0.6, 0.05) > 0.99
    assert confidence_above([0.6] * 4, 0.6, 0.05) == pytest.approx(0.5)
    assert effective_n(10, 0.0) == 10
    assert effective_n(10, 0.5) == pytest.approx(10 / 3)
