"""The gyms, small: the same code as the long measurements, on a start and runs of a few steps."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from harness.types import Prompt
from rewards.contract import load_function, to_score
from rewards.solution import compute_reward
from tests.benchmarks.grid import ARMS, STARTS, choose_rate, compute_dev, make_cell
from tests.benchmarks.grid import write_report as write_grid
from tests.benchmarks.gym_cells import Cell, run_cell
from tests.benchmarks.gym_hard import CELLS, shorten
from tests.benchmarks.gym_hard_report import write_report
from tests.benchmarks.gym_programs import CALL, CODE
from tests.benchmarks.gym_report import Done
from tests.benchmarks.gym_tasks import SORT, SUBTRACT, WRONG_DATA, Task, count_borrows, sort_digits, subtract
from tests.benchmarks.hard_rewards import is_often_wrong, pays_parts, pays_places


def test_cells_of_the_harder_gym_run_and_are_reported(tmp_path: Path) -> None:
    fault = shorten(CELLS["parts"], steps=6, warm_start=10)
    for policy in ("fixed", "rules"):
        run_cell(tmp_path, Cell("parts", 0, policy), fault)
    result = json.loads((tmp_path / "cells" / "parts.0.rules" / "result.json").read_text())
    assert result["last_step"] == 6
    assert result["dev_steps"] == [0, 6]
    before = (tmp_path / "cells" / "parts.0.rules" / "harness.db").stat().st_mtime_ns
    run_cell(tmp_path, Cell("parts", 0, "rules"), fault)
    assert (tmp_path / "cells" / "parts.0.rules" / "harness.db").stat().st_mtime_ns == before, "it was run again"
    assert "| `parts` | 0 |" in write_report(tmp_path, [0])


def _answers(task: Task) -> list[float]:
    """Rewards of what the demonstrator shows, for the prompts that it shows it for."""
    reward = load_function(task.changes.get("reward", {}).get("function", "rewards.solution"))
    shown = list(task.start.shown())[:40]
    return [to_score(reward(p.demonstration or "", p.ground_truth)).reward or 0.0 for p in shown]


@pytest.mark.parametrize("task", [SORT, CODE, CALL], ids=lambda task: task.name)
def test_a_demonstrator_earns_everything_between_little_and_all(task: Task) -> None:
    earned = _answers(task)
    assert len({round(reward, 2) for reward in earned}) > 2
    assert min(earned) < 0.6


def test_a_careful_demonstrator_is_right_and_a_careless_one_forgets_borrows() -> None:
    rng = random.Random(0)
    for _ in range(200):
        b, a = sorted(rng.randint(100, 999) for _ in "ab")
        truth = f"{a - b:03}"
        assert compute_reward(subtract(a, b, slips=0, rng=rng), truth) == 1
        assert compute_reward(subtract(a, b, slips=1, rng=rng), truth) == (count_borrows(a, b) == 0)
    assert pays_places(sort_digits("52914", slips=0, rng=rng), "12459") == 1
    assert pays_places(sort_digits("52914", slips=1, rng=rng), "12459") == pytest.approx(0.2)


def test_pools_have_what_they_say() -> None:
    prompts = list(SUBTRACT.prompts())
    assert len({p.text for p in prompts}) == 3000
    wrong = [p for p in WRONG_DATA.prompts() if not _is_right(p)]
    assert 0.17 < len(wrong) / 3000 < 0.23


def _is_right(prompt: Prompt) -> bool:
    a, b = prompt.text.rstrip("=").split("-")
    return int(prompt.ground_truth) == int(a) - int(b)


def test_rewards_of_parts_and_of_a_wrong_verifier() -> None:
    assert pays_parts("<SOLUTION>12459</SOLUTION>", "12459") == pytest.approx(0.9)
    assert pays_parts("12459", "12459") == 0
    texts = [f"text {i}" for i in range(800)]
    assert sum(is_often_wrong(text, "1") for text in texts) == pytest.approx(100, abs=30)


def _write(folder: Path, cell: Cell, dev: list[float], final: float) -> None:
    place = folder / "cells" / cell.name
    place.mkdir(parents=True)
    (place / "result.json").write_text(json.dumps({"dev": dev, "dev_steps": [0, 5, 10], "final": final}))


def test_the_grid_compares_six_starts_with_the_best_fixed_rate(tmp_path: Path) -> None:
    for rate, last in zip(ARMS["sort"].rates, (0.1, 0.9, 0.8, 0.7, 0.0), strict=True):
        _write(tmp_path, make_cell("sort", rate, 1.0, 9, "fixed"), [0, 0, last], last)
    for seed in (0, 1):
        _write(tmp_path, make_cell("sort", 3e-5, 1.0, seed, "fixed"), [0, 0.5, 0.9], 0.9)
        for start in STARTS:
            _write(tmp_path, make_cell("sort", *start, seed, "rules"), [0, 0.5, 0.8], 0.8)
            _write(tmp_path, make_cell("sort", *start, seed, "fixed"), [0, 0, 0.5], 0.5)
    told = write_grid(tmp_path, ["sort"], [0, 1])
    assert "best fixed: 3e-05 at 1" in told
    assert (
        "test score of the last weights | 0.800 | 0.500 | 0.900 | -0.100 [-0.100, -0.100] | +0.300 [+0.300, +0.300]"
        in told
    )


def test_dev_over_the_run_counts_the_steps_that_a_stopped_run_did_not_take(tmp_path: Path) -> None:
    cell = make_cell("sort", 1e-4, 0.7, 0, "rules")
    _write(tmp_path, cell, [0.2, 0.4, 0.6], 0.6)
    done = Done(cell, tmp_path / "cells" / cell.name)
    assert compute_dev(done, 20) == pytest.approx((5 * 0.2 + 5 * 0.4 + 10 * 0.6) / 20)
    assert choose_rate({1e-4: done, 1e-5: done}) == 1e-5
