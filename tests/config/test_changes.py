"""What may change on a resume, and what that means for comparisons."""

from __future__ import annotations

from typing import Any

import pytest

from harness.config.changes import check_changes, check_silent, compute_changes, find_measured, flatten
from harness.config.schema import RunSpec
from harness.core.formatting import format_changes
from harness.errors import InputError

SPEC = RunSpec().model_dump(mode="json")
MANIFEST = {"reward_sha256": "a" * 64, "data_sha256": "b" * 64, "split_sizes": {"train": 1000, "dev": 200}}


def changed(section: str, **fields: Any) -> dict[str, Any]:
    return SPEC | {section: SPEC[section] | fields}


def test_changes_name_fields_with_both_values() -> None:
    changes = compute_changes(SPEC, changed("reward", errored_limit=0.5) | {"seed": 3})
    assert changes == {"reward.errored_limit": {"from": 0.1, "to": 0.5}, "seed": {"from": 0, "to": 3}}
    assert format_changes(changes) == "reward.errored_limit 0.1 -> 0.5, seed 0 -> 3"
    assert compute_changes(SPEC, SPEC) == {}


@pytest.mark.parametrize(
    "after",
    [SPEC | {"seed": 3}, changed("model", name="other/model"), changed("lora", rank=8), changed("warmstart", steps=9)],
)
def test_what_makes_the_run_what_it_is_cannot_change(after: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="cannot change on a resume"):
        check_changes("night", compute_changes(SPEC, after))


def test_threads_may_change_and_knobs_have_their_own_way() -> None:
    check_changes("night", compute_changes(SPEC, changed("model", threads=1)))
    with pytest.raises(InputError, match="grpo act night set temperature="):
        check_changes("night", compute_changes(SPEC, changed("knobs", temperature=0.5)))


@pytest.mark.parametrize(
    ("after", "era"),
    [
        (changed("reward", solved_at=0.5), True),
        (changed("pool", template="Q: {prompt}"), True),
        (changed("pool", template_kwargs={"enable_thinking": False}), True),
        (changed("pool", system_in_user=True), True),
        (changed("trainer", loss_type="grpo"), True),
        (changed("evaluate", max_tokens=32), True),
        (changed("evaluate", every=3), False),
        (changed("reward", startup_limit=30.0), False),
        (changed("trainer", micro_batch=3), False),
        (changed("budget", steps=300), False),
        (changed("checkpoint", keep=9), False),
        (changed("policy", kind="fixed"), False),
    ],
)
def test_an_era_begins_where_comparisons_end(after: dict[str, Any], era: bool) -> None:
    changes = compute_changes(SPEC, after)
    assert changes
    assert bool(find_measured(changes)) is era


def test_a_silent_difference_is_refused_by_name_and_accepted_when_said() -> None:
    other = MANIFEST | {"reward_sha256": "c" * 64}
    with pytest.raises(InputError, match=r"reward: .*--accept reward"):
        check_silent("night", MANIFEST, other, {}, ())
    accepted = check_silent("night", MANIFEST, other, {}, ("reward",))
    assert accepted == {"reward": {"from": "a" * 12, "to": "c" * 12}}
    assert find_measured(accepted) == accepted
    more = MANIFEST | {"data_sha256": "d" * 64, "split_sizes": {"train": 1100, "dev": 200}}
    with pytest.raises(InputError, match=r"data: .*1,200 rows then, 1,300 now.*--accept data"):
        check_silent("night", MANIFEST, more, {}, ("reward",))


def test_a_reward_that_changed_with_this_program_is_told_with_both_versions() -> None:
    other = MANIFEST | {"reward_sha256": "c" * 64}
    then, now = {"git_commit": "1" * 40}, {"git_commit": "2" * 40}
    with pytest.raises(InputError) as refusal:
        check_silent("night", MANIFEST | then, other | now, {}, ())
    assert str(refusal.value) == (
        "reward: the code of the reward has changed (commit 1111111 of this program then, commit 2222222 now) since "
        "night was last driven; grpo resume night --accept reward continues with it in a new era, or put back what was "
        "there"
    )
    then, now = {"versions": {"grpo-harness": "0.1"}}, {"versions": {"grpo-harness": "0.2"}}
    with pytest.raises(InputError, match=r"\(version 0.1 of this program then, version 0.2 now\)"):
        check_silent("night", MANIFEST | then, other | now, {}, ())
    with pytest.raises(InputError, match=r"code of the reward has changed since"):
        check_silent("night", MANIFEST | now, other | now, {}, ())


def test_a_difference_that_the_spec_says_needs_no_second_word() -> None:
    other = MANIFEST | {"reward_sha256": "c" * 64}
    said = compute_changes(SPEC, changed("reward", function="rewards.format"))
    assert check_silent("night", MANIFEST, other, said, ()) == {}
    assert check_silent("night", MANIFEST, MANIFEST, {}, ()) == {}


def test_values_of_a_spec_are_named_by_where_they_stand() -> None:
    tree = {"seed": 3, "bounds": {}, "pool": {"source": "a", "columns": {}, "splits": {"dev": 200}}}
    assert flatten(tree) == {"seed": 3, "pool.source": "a", "pool.splits.dev": 200}
    section_and_field = {"seed": 3, "pool.source": "a", "pool.columns": {}, "pool.splits": {"dev": 200}}
    assert flatten(tree, depth=2) == section_and_field


def test_a_judge_is_compared_field_by_field_without_the_text_that_is_kept() -> None:
    judge = {"model": "anthropic:a", "rubric": "x.md", "form": "grade", "text": "Be kind."}
    before = {"judge": {"kind": judge}}
    changes = compute_changes(before, {"judge": {"kind": judge | {"text": "Be strict.", "model": "anthropic:b"}}})
    assert changes == {"judge.kind.model": {"from": "anthropic:a", "to": "anthropic:b"}}
    assert find_measured(changes) == changes, "it begins an era"
