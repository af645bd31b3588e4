from __future__ import annotations

import pytest

from policies.fixed import FixedPolicy
from tests.support.builders import make_snapshot, make_steps


@pytest.mark.parametrize("metrics", [{}, {"group/unsolved_rate": 1.0}, {"group/solved_rate": 1.0}, {"kl/mean": 9.0}])
def test_whatever_happens_it_continues_and_says_so(metrics: dict[str, float]) -> None:
    decision = FixedPolicy().decide(make_snapshot(make_steps(20, metrics)))
    assert (decision.action.kind, decision.action.changes, decision.source) == ("continue", {}, "fixed")
    assert "no hyperparameter is ever changed" in decision.evidence
