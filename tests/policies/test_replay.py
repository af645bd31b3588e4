from __future__ import annotations

from harness.types import Action, Decision
from policies.replay import ReplayPolicy
from tests.support.builders import make_snapshot, make_steps


def test_it_repeats_what_was_decided_and_goes_on_where_nothing_was() -> None:
    several = [Decision(Action("sample"), "manual"), Decision(Action("stop"), "rules", "done")]
    log = {1: several, 2: []}
    policy = ReplayPolicy("replay:night", log.get)
    assert policy.decide(make_snapshot()) == several
    assert policy.decide(make_snapshot(make_steps(1))) == [], "a boundary at which a person only resumed the run"
    (beyond,) = policy.decide(make_snapshot(make_steps(2)))
    assert (beyond.source, beyond.action) == ("fixed", Action("continue"))
    assert beyond.evidence == "replay:night has no decision for step 3"
