"""What training did to capability: runs of a simulated model, whose prompts are solved with a known chance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli.tables import render_review
from harness.core.statistics import Difference, summarise
from harness.store.history import load_history
from harness.store.snapshot import SnapshotReader
from harness.store.writer import RunStore
from harness.types import Evaluation, Example, RunRecord
from harness.views.capability import judge_capability
from harness.views.console import Console
from harness.views.review import build_review
from harness.views.summary import is_it_learning
from harness.views.terminal.lines import PlainLines
from tests.support.builders import (
    create_run,
    make_checkpoint,
    make_completion,
    make_prompt,
    make_store,
    record_step,
)
from tests.support.program import Program

N = 8
START = [0.4] * 60 + [0.0] * 60
"""The chance of each prompt to be solved by one completion: half are within reach, half are not."""
SURER = [0.9] * 60 + [0.0] * 60
ABLE = [0.6] * 60 + [0.4] * 30 + [0.0] * 30


def answer(chances: list[float], split: str, seed: int, n: int = N) -> Evaluation:
    rng = np.random.default_rng(seed)
    return summarise(
        split,
        [
            Example(make_prompt(f"{split} {i}"), make_completion(float(rng.random() < chance)))
            for i, chance in enumerate(chances)
            for _ in range(n)
        ],
    )


def record_run(store: RunStore, name: str, after: list[float], n: int = N) -> int:
    run_id = create_run(store, name)
    for step, chances in ((0, START), (1, after)):
        if step:
            record_step(store, run_id, step)
        for seed, split in enumerate(("dev", "test")):
            store.record_evaluation(run_id, step, answer(chances, split, 2 * step + seed, n))
        store.record_checkpoint(run_id, make_checkpoint(step))
    store.update_run(run_id, status="finished", stop_reason="budget of 1 steps spent")
    return run_id


def test_compare_tells_capability_that_was_added_from_capability_that_was_concentrated(program: Program) -> None:
    (program.folder / "runs").mkdir()
    store = make_store(program.folder / "runs")
    record_run(store, "surer", SURER)
    record_run(store, "able", ABLE)
    record_run(store, "single", SURER, n=1)
    store.close()
    told = " ".join(program.here("compare", "surer", "able", "single").stdout.split())
    assert "surer: Training concentrated capability: pass@1 rose, pass@8 without clear change, at the best" in told
    assert "able: Training added capability: pass@8 rose, at the best checkpoint (step 1): pass@1 0." in told
    assert "single: Training" not in told
    runs = json.loads(program.here("compare", "surer", "single", "--json").stdout)["runs"]
    assert [run["pass_at"] and run["pass_at"]["training"]["final"]["verdict"] for run in runs] == ["concentrated", None]
    program.here("compare", "surer", "able", "--html", "both.html")
    page = (program.folder / "both.html").read_text(encoding="utf-8")
    assert "surer: Training concentrated capability" in page
    program.here("review", "able", "--html", "able.html")
    assert "Training added capability: pass@8 rose" in (program.folder / "able.html").read_text(encoding="utf-8")


@pytest.fixture
def able(tmp_path: Path) -> Any:
    store = make_store(tmp_path)
    record_run(store, "able", ABLE)
    yield store
    store.close()


def test_a_review_has_the_rates_and_what_changed(able: RunStore) -> None:
    review = build_review(load_history(able, "able"))
    found = review["pass_at"]
    assert (found["k"], list(found["baseline"])) == (8, ["1", "2", "4", "8"])
    assert found["baseline"]["1"]["value"] == review["heldout"]["baseline"] == pytest.approx(0.2, abs=0.04)
    assert found["best"]["8"]["value"] == pytest.approx(0.75, abs=0.04)
    low, high = found["best"]["8"]["ci95"]
    assert low < found["best"]["8"]["value"] < high
    assert found["final"]["1"]["ci95"] == review["heldout"]["final_ci95"]
    training = found["training"]["best"]
    assert (training["verdict"], training["step"], training["from_step"]) == ("added", 1, 0)
    rise = found["best"]["8"]["value"] - found["baseline"]["8"]["value"]
    assert training["pass_k"]["difference"] == pytest.approx(rise)
    assert training["pass_1"]["paired"]
    assert training["pass_1"]["difference"] == pytest.approx(review["change"]["difference"])
    assert list(found["dev"]["by_step"]) == ["0", "1"]
    console = Console(width=200)
    with console.capture() as shown:
        console.print(render_review(review))
    assert "Training added capability" in shown.get()
    assert "dev pass@8" in shown.get()
    assert "test pass@1 and pass@8: 0.2" in shown.get()


def test_the_terminal_shows_both(able: RunStore) -> None:
    run: RunRecord = able.find_run("able")
    snapshot = SnapshotReader(able, run.id).read(whole_run=True)
    (line,) = [line for line in PlainLines().update(snapshot) if "dev accuracy" in line and "step    1" in line]
    assert ", pass@8 0.7" in line
    assert "; pass@8 0.483 -> 0.742" in is_it_learning(snapshot).text
    first, last = snapshot.dev
    assert (last.n, last.accuracy, [rate.k for rate in last.pass_at]) == (120, last.score, [1, 2, 4, 8])
    assert last.ci95 == (last.pass_at[0].low, last.pass_at[0].high)
    (pair,) = snapshot.paired_dev
    assert pair.difference == pytest.approx(last.score - first.score)
    assert pair.p_rose < 0.001


def test_only_what_lies_beyond_the_interval_counts() -> None:
    up, down, still = Difference(0.1, 0.05, 0.15), Difference(-0.1, -0.15, -0.05), Difference(0.1, -0.05, 0.25)
    found = [judge_capability(one, most) for one in (up, still, down) for most in (up, still, down)]
    assert found == ["added", "concentrated", "narrowed", "added", "unclear", "lost", "added", "rarer", "lost"]
