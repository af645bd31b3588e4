"""Robust statistics of short series: trends and changes of level.

Distributions are scipy's. The estimators of scipy.stats take half a millisecond a call, most of it checks of their
arguments, and a decision asks for dozens: here they are in NumPy, held to scipy's by tests/core/test_trends.py.
Where the spread is 0 there is no evidence of noise, and callers give a floor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import special

from harness.core.statistics import Difference

MAD_TO_STD = 1.4826
"""The standard deviation of a normal distribution over its median absolute deviation."""
TYPICAL_SLOPE = 0.15
"""Of a metric per step, in units of the noise of one step."""
ROUNDING = 1e-24
"""Share of the sum of squares under which what a line leaves is no noise."""
ALIKE_AT_MOST = 0.9
"""The highest autocorrelation that is believed: above it no number of steps would say anything."""


def compute_median(values: Sequence[float]) -> float:
    """Middle value; NaN of none. statistics.median without its checks, numpy.median at a tenth of the price."""
    if not values:
        return math.nan
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def compute_mad(values: Sequence[float]) -> float:
    """Median absolute deviation from the median, scaled to a standard deviation."""
    middle = compute_median(values)
    return MAD_TO_STD * compute_median([abs(value - middle) for value in values])


def compute_noise(values: Sequence[float]) -> float:
    """Standard deviation of one step about its level, from the differences between neighbours: neither trends nor
    the jumps that changes make count (two independent steps differ with twice the variance of one)."""
    differences = [abs(b - a) for a, b in pairwise(values)]
    return MAD_TO_STD * compute_median(differences) / math.sqrt(2) if differences else 0.0


@lru_cache(maxsize=64)
def _pairs(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(n, 1)


def compute_slope(values: Sequence[float]) -> float:
    """Theil-Sen: the median of the slopes between all pairs, per step. 0 of fewer than two values."""
    if len(values) < 2:
        return 0.0
    y, (i, j) = np.asarray(values, float), _pairs(len(values))
    return compute_median(((y[j] - y[i]) / (j - i)).tolist())


def compute_autocorrelation(values: Sequence[float], slope: float = 0.0) -> float:
    """Lag-1 correlation of what a line of ``slope`` leaves, within [0, 0.9] since a sample does not grow by it."""
    n = len(values)
    if n < 4:
        return 0.0
    rest = np.asarray(values, float) - slope * np.arange(n)
    rest -= rest.mean()
    total = float(rest @ rest)
    if total <= ROUNDING * float(np.square(values).sum()):  # a constant or a line: what is left is rounding
        return 0.0
    r = float(rest[1:] @ rest[:-1]) / total
    return min(ALIKE_AT_MOST, max(0.0, r))


def effective_n(n: int, r: float) -> float:
    """How many independent values tell as much as ``n`` with lag-1 autocorrelation ``r``."""
    return n * (1 - r) / (1 + r)


@dataclass(frozen=True, slots=True)
class Trend:
    """``slope`` per step, ``rise`` over the whole series, and how likely such a rank order is by chance, one-sided."""

    slope: float
    rise: float
    p_rises: float
    p_falls: float


def compute_trend(values: Sequence[float]) -> Trend:
    """Theil-Sen slope and Mann-Kendall test (normal approximation, ties and autocorrelation corrected)."""
    n = len(values)
    if n < 4:
        return Trend(0.0, 0.0, 1.0, 1.0)
    y, (i, j) = np.asarray(values, float), _pairs(n)
    differences = y[j] - y[i]
    slope = compute_median((differences / (j - i)).tolist())
    score = float(np.sign(differences).sum())
    ties = np.unique(y, return_counts=True)[1]
    variance = (n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    # Yue and Wang (2004): the variance grows by n over the effective n; r is too low by (1 + 4r) / n (Kendall 1954).
    r = compute_autocorrelation(values, slope)
    variance *= n / effective_n(n, min(ALIKE_AT_MOST, r + (1 + 4 * r) / n if r > 0 else 0.0))
    if variance <= 0:
        return Trend(0.0, 0.0, 1.0, 1.0)
    z_up, z_down = ((side * score - 1) / math.sqrt(variance) for side in (1, -1))  # with correction for continuity
    return Trend(slope, slope * (n - 1), float(special.ndtr(-z_up)), float(special.ndtr(-z_down)))


def confidence_above(values: Sequence[float], threshold: float, floor: float) -> float:
    """Probability that the level of ``values`` is over ``threshold``; ``floor`` is the least noise of one value."""
    noise = max(compute_noise(values), floor)
    spread = noise / math.sqrt(effective_n(len(values), compute_autocorrelation(values)))
    return float(special.ndtr((sum(values) / len(values) - threshold) / spread))


def compute_change(before: Sequence[float], after: Sequence[float], *, noise: float, level: float = 0.95) -> Difference:
    """How far the mean of ``after`` lies from what ``before`` forecasts for it, in steps that follow one another.

    The forecast is the mean before and its trend, believed as far as it is told from noise: slopes are taken to be of
    the size of TYPICAL_SLOPE times the noise, so the Theil-Sen slope counts by w = typical^2 / (typical^2 + v), v being
    its variance. (To test for a trend first and then believe it whole or not at all made intervals too short: they held
    70% for slopes that are found half of the time.) The variance is that of a mean of future observations in a linear
    regression, noise^2 (1/m + 1/n) + d^2 w v, with d the distance of the two middles; n and m are corrected for
    autocorrelation.
    """
    n, m = len(before), len(after)
    slope_variance = noise**2 * 12 / (n**3 - n) if n > 1 else math.inf
    typical = (TYPICAL_SLOPE * noise) ** 2
    believed = typical / (typical + slope_variance)
    slope, distance = believed * compute_slope(before), (n + m) / 2
    forecast = sum(before) / n + slope * distance
    n_eff = effective_n(n, compute_autocorrelation(before, slope))
    m_eff = effective_n(m, compute_autocorrelation(after))
    slope_term = typical * (1 - believed) * distance**2  # which is w v d^2
    spread = math.sqrt(noise**2 * (1 / n_eff + 1 / m_eff) + slope_term)
    reach = float(special.stdtrit(max(1.0, n_eff + m_eff - 2), (1 + level) / 2)) * spread
    difference = sum(after) / m - forecast
    return Difference(difference, difference - reach, difference + reach)


def compute_level(values: Sequence[float], *, noise: float, level: float) -> Difference:
    """The mean of ``values`` against 0."""
    m_eff = effective_n(len(values), compute_autocorrelation(values))
    reach = float(special.stdtrit(max(1.0, m_eff - 1), (1 + level) / 2)) * noise / math.sqrt(m_eff)
    mean = sum(values) / len(values)
    return Difference(mean, mean - reach, mean + reach)
