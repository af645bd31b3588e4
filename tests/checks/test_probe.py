"""Is there anything to amplify: the arithmetic of groups without signal, the verdict, and the real command."""

from __future__ import annotations

import json
import re
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.checks.probe import BINS, Probe, compute_histogram, compute_no_signal, compute_probe, judge
from harness.cli.tables import render_probe
from harness.commands.model import Probed
from harness.types import Completion, Group, Knobs, Prompt, Score
from harness.views.console import Console
from tests.support.program import Program


def group_of(rewards: list[float | None], *, reason: str = "wrong", truncated: bool = False) -> Group:
    scores = [
        Score(None, False, "errored", error="ValueError: no") if r is None
        else Score(r, r == 1.0, "right" if r == 1.0 else reason)
        for r in rewards
    ]  # fmt: skip
    return Group(Prompt("p", "p", "1"), tuple(Completion("text", 5, truncated, score) for score in scores))


@given(st.lists(st.sampled_from([0.0, 0.1, 1.0]), min_size=2, max_size=8), st.integers(2, 8))
def test_no_signal_is_the_share_of_all_choices_with_equal_rewards(rewards: list[float], size: int) -> None:
    if size > len(rewards):
        return
    choices = list(combinations(rewards, size))
    expected = sum(len(set(choice)) == 1 for choice in choices) / len(choices)
    assert compute_no_signal(group_of(list(rewards)), size) == pytest.approx(expected)


def test_it_is_unbiased_for_p_to_the_g() -> None:
    n, size, p = 6, 3, 0.3
    # Over all outcomes of n trials, weighed by their chances.
    mean = sum(
        p ** sum(bits) * (1 - p) ** (n - sum(bits)) * compute_no_signal(group_of([float(b) for b in bits]), size)
        for bits in [[(i >> k) & 1 for k in range(n)] for i in range(2**n)]
    )
    assert mean == pytest.approx(p**size + (1 - p) ** size)


def test_the_histogram_keeps_never_and_always_apart() -> None:
    counts = compute_histogram([0.0, 0.0, 1.0, 0.01, 0.99, 0.5])
    assert sum(counts) == 6
    assert (counts[0], counts[1], counts[-2], counts[-1]) == (2, 1, 1, 1)
    assert len(counts) == BINS + 2


@pytest.mark.parametrize(
    ("groups", "verdict", "advice"),
    [
        ([group_of([0.0, 1.0] * 4)] * 5, "good", "100% of the groups of 8"),
        ([group_of([1.0] * 8)] * 9 + [group_of([0.0, 1.0] * 4)], "too easy", "harder prompts"),
        ([group_of([0.0] * 8)] * 5, "too hard", "nothing to amplify.*supervised"),
        ([group_of([0.0] * 8, reason="not_extracted")] * 5, "too hard", "system_prompt"),
        ([group_of([0.0] * 8, truncated=True)] * 5, "too hard", "raise knobs.max_tokens"),
        ([group_of([0.0] * 8, reason="cut_in_thinking")] * 5, "too hard", "raise knobs.max_tokens"),
        ([group_of([0.0] * 8)] * 9 + [group_of([0.0] * 7 + [1.0])], "too hard", "larger knobs.group_size"),
        ([group_of([None] * 8)] * 5, "not verifiable", "the reward failed on 100%"),
    ],
)
def test_the_verdict_comes_with_a_mend(groups: list[Group], verdict: str, advice: str) -> None:
    probe = compute_probe(groups, group_size=8)
    found, said = judge(probe, Knobs(group_size=8))
    assert found == verdict
    assert re.search(advice, said)


def test_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    probe: Probe = compute_probe([group_of([0.0, 1.0] * 8)], group_size=4)
    knobs = Knobs(group_size=4)
    Console(width=100).print(render_probe(Probed(probe, knobs, *judge(probe, knobs))))
    shown = capsys.readouterr().out
    assert "16 completions each" in shown
    assert "50% to 62%" in shown
    assert "good: " in shown


def test_the_command_probes_the_model_that_a_run_would_begin_with(program: Program) -> None:
    found = json.loads(program.here("probe", "mini.toml", "--prompts", "6", "-n", "8", "--json").stdout)
    assert (found["prompts"], found["completions"], found["group_size"]) == (6, 48, 4)
    assert set(found["no_signal"]) == {"2", "4", "8"}
    assert found["no_signal"]["2"] >= found["no_signal"]["4"] >= found["no_signal"]["8"]
    assert found["verdict"] in ("good", "too hard", "too easy")
    assert sum(found["reasons"].values()) == pytest.approx(1.0)
    assert program.here("probe", "nothing.toml", code=2).stderr.startswith("grpo: no spec file")
    assert not (program.folder / "runs").exists()
