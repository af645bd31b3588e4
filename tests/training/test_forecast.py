"""What a forecast is made of: times of growing work, and what lies between steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.config.load import parse_spec
from harness.training import forecast
from harness.training.forecast import Costs, compute_forecast, time_growing

COSTS = Costs(
    step_s=10.0,
    first_dev_s=4.0,
    first_test_s=8.0,
    dev_s=2.0,
    test_s=5.0,
    sample_s=1.0,
    save_s=0.5,
    start_bytes=100,
    state_bytes=200,
)
GRPO = {
    "budget": {"steps": 10},
    "evaluate": {"every": 5},
    "sample": {"every": 10},
    "checkpoint": {"every": 4, "keep": 2},
}


class Clock:
    """Time that passes by working alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fixed: float, each: float) -> None:
        self.now, self.fixed, self.each = 0.0, fixed, each
        self.sizes: list[int] = []
        monkeypatch.setattr(forecast.time, "perf_counter", lambda: self.now)

    def work(self, size: int) -> None:
        self.sizes.append(size)
        self.now += self.fixed + self.each * size


def test_work_that_is_quick_is_timed_whole_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 0.1, 0.001)
    assert time_growing(clock.work, 64)(64) == pytest.approx(0.164)
    assert clock.sizes == [1, 29, *[64] * 4]
    clock.sizes.clear()
    assert time_growing(clock.work, 64, thorough=False)(64) == pytest.approx(0.164)
    assert clock.sizes == [1, 4]


@pytest.mark.parametrize(("least", "sizes"), [(4, [1, 4]), (16, [1, 16])])
def test_work_that_takes_long_is_told_by_a_line(monkeypatch: pytest.MonkeyPatch, least: int, sizes: list[int]) -> None:
    clock = Clock(monkeypatch, 2.0, 3.0)
    seconds = time_growing(clock.work, 100, least=least)
    assert clock.sizes == sizes
    assert (seconds(100), seconds(2)) == (pytest.approx(302.0), pytest.approx(8.0))


def test_no_size_is_timed_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 0.0, 1.0)
    assert time_growing(clock.work, 1)(1) == pytest.approx(1.0)
    assert time_growing(clock.work, 2)(2) == pytest.approx(2.0)
    assert clock.sizes == [1, 1, 2]


def of(tree: dict[str, Any], steps: int | None = None, costs: Costs = COSTS) -> forecast.Forecast:
    spec = parse_spec(tree)
    steps = spec.budget.steps if steps is None else steps
    return compute_forecast(spec, costs, steps=steps, completions=80, free_bytes=10**9, memory_bytes=10**6)


def test_it_covers_all_that_lies_between_the_steps() -> None:
    found = of(GRPO)
    start, steps, end = 4 + 8 + 1, 10 * 10, 2 * 5 + 1
    dev, samples, checkpoints = 2 * 2, 1, 0.5 * 4  # after steps 4, 5, 8, 10
    assert found.seconds == start + steps + dev + samples + checkpoints + end
    assert found.step_s == 10.0
    # The start, the newest two, the best, and the report.
    assert found.disk_bytes == 100 + 3 * 300 + forecast.REPORT_BYTES
    assert "10 steps in 2 min 11 s" in found.text
    assert not found.over_budget


def test_of_a_run_that_goes_on_only_the_rest_counts() -> None:
    # Steps 8 to 10: one evaluation of dev, checkpoints after 8 and 10, test of the last and samples twice.
    assert of(GRPO, steps=3).seconds == 3 * 10 + 2 + 2 * 0.5 + 5 + 2 * 1


def test_supervised_steps_end_with_an_evaluation_of_dev() -> None:
    sft = {**GRPO, "kind": "sft", "sft": {"steps": 10}, "evaluate": {"every": 4}}
    assert of(sft).seconds == of({**sft, "evaluate": {"every": 5}}).seconds + 2 - 0.5  # after 4, 8 and 10


def test_hours_and_price_of_the_machine_count() -> None:
    found = of({**GRPO, "budget": {"steps": 10, "hours": 0.02, "price_per_hour": 3.6}})
    assert found.over_budget
    assert "; the budget of 0.02 h allows about 5 steps" in found.text
    assert found.usd == pytest.approx(72 / 3600 * 3.6)
    assert "$0.07 at $3.6 an hour" in found.text
    assert of(GRPO).usd is None


def test_a_full_disk_is_told() -> None:
    assert "lower checkpoint.keep" in of(GRPO, costs=replace(COSTS, state_bytes=10**9)).text
