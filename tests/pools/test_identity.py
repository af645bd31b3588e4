from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import InputError
from harness.types import Prompt
from pools.counts import describe_counts, parse_counts
from pools.identity import compute_id, identify, normalise
from pools.reading import RowRules
from pools.sources import load_prompts
from pools.splits import load_assigned, record_assigned, split_prompts
from pools.table import PromptTable
from tests.support.builders import make_prompt, make_table


def load(path: Path, **rules: Any) -> PromptTable:
    return load_prompts(str(path), columns={}, template="{prompt}", system="", rules=RowRules(**rules))


def write(path: Path, *rows: Mapping[str, Any] | str) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def ask(prompt: str, truth: object = "1", **columns: Any) -> dict[str, Any]:
    return {"prompt": prompt, "ground_truth": truth, **columns}


def homes(splits: Mapping[str, PromptTable]) -> dict[str, str]:
    """The split of each text."""
    return {prompt.text: name for name, part in splits.items() for prompt in part}


ALIKE = [("What is 5²?", "What is 52?"), ("Code of 'a'?", "Code of 'A'?"), ("Say  it", "Say it"), ("ﬁn", "fin")]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_prompts_that_hardly_differ_are_two_of_one_family(tmp_path: Path, one: str, other: str) -> None:
    found = load(write(tmp_path / "rows.jsonl", ask(one, 1), ask(other, 2)))
    assert [(prompt.text, prompt.ground_truth) for prompt in found] == [(one, "1"), (other, "2")]
    assert found.ids == [compute_id(one), compute_id(other)]
    assert found.places[0] == found.places[1]
    assert len(set(found.compute_families())) == 1


def test_the_family_is_what_the_id_was_before() -> None:
    """Recorded by the code of 3a615b0: runs, splits and answers of that time are known by these."""
    assert make_table([make_prompt("  What IS 5²?\n")]).compute_families() == ["582fb4b7c62a8c98"]
    prompt = Prompt(id="", text="Straße  1?", ground_truth="1", system="Be\tBRIEF.")
    assert f"{identify(prompt).family:016x}" == "ed6545b52d814ab5"


def test_a_system_message_is_told_from_the_text_after_it() -> None:
    def who(system: str, text: str) -> int:
        return identify(Prompt(id="", text=text, ground_truth="1", system=system)).id

    assert len({who("a", "b"), who("", "a\nb"), who("a\nb", "c"), who("a", "b\nc")}) == 4


@given(text=st.text())
def test_a_text_is_normalised_once_and_for_all(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text) or not text.isascii()
    if text.isascii():
        assert normalise(text) == " ".join(text.casefold().split())


# ---------------------------------------------------------------- equal prompts


def test_equal_rows_are_merged_and_counted(tmp_path: Path) -> None:
    found = load(write(tmp_path / "rows.jsonl", ask("a", 1), ask("b", 2), ask("a", 1, label="x"), ask("a", 1)))
    assert [(prompt.text, prompt.label) for prompt in found] == [("a", ""), ("b", "")]
    assert (found.counts.read, found.counts.kept, found.counts.merged) == (4, 2, 2)
    assert describe_counts(found[1:].counts) == "4 rows read, 2 prompts: 2 merged (equal)"


CONFLICT = (ask("a", "old"), ask("b"), ask("a", "new"), ask("a", "old"), "nonsense", ask(" "), ask("c"))


def test_equal_prompts_with_two_truths_are_refused_with_both(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *CONFLICT)
    with pytest.raises(
        InputError, match=r"rows.jsonl row 1 and .*rows.jsonl row 3 have .* 'a', .*'old' and 'new'"
    ) as c:
        load(path, skip_bad=True)
    assert "\n" not in str(c.value)
    assert 'pool.conflicts = "first"' in str(c.value)


@pytest.mark.parametrize(("how", "texts", "merged", "conflicts"), [("first", "abc", 1, 1), ("drop", "bc", 0, 3)])
def test_a_conflict_is_settled_as_the_spec_says(
    tmp_path: Path, how: str, texts: str, merged: int, conflicts: int
) -> None:
    found = load(write(tmp_path / "rows.jsonl", *CONFLICT), conflicts=how, skip_bad=True)
    assert [prompt.text for prompt in found] == list(texts)
    assert "new" not in {prompt.ground_truth for prompt in found}
    counts = found.counts
    assert (counts.read, counts.kept, counts.merged, counts.conflicts) == (7, len(texts), merged, conflicts)
    assert {reason: skip.rows for reason, skip in counts.skipped.items()} == {"is not JSON": 1, "has no prompt": 1}
    assert parse_counts(json.loads(json.dumps(counts.to_json()))) == counts


def test_a_bad_row_names_what_skips_it_unless_all_may_be_bad(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"row 2 has no prompt: .*; pool.skip_bad = true leaves such rows out"):
        load(write(tmp_path / "rows.jsonl", ask("a"), ask("")))
    with pytest.raises(InputError, match="row 1 has no prompt") as caught:
        load(write(tmp_path / "rows.jsonl", {"question": "a"}))
    assert "skip_bad" not in str(caught.value)
    with pytest.raises(InputError, match=r"has no prompts: all 2 rows were skipped, the first .* row 1: has no prompt"):
        load(write(tmp_path / "rows.jsonl", ask(""), ask(" ")), skip_bad=True)


def test_prompts_of_one_family_are_one_where_a_run_began_so(tmp_path: Path) -> None:
    rows = [ask("What is it?", "first"), ask("  what  IS it? ", "second"), ask("What is that?", "other")]
    found = load(write(tmp_path / "rows.jsonl", *rows), identity="normalised", conflicts="first")
    assert [prompt.ground_truth for prompt in found] == ["first", "other"]
    assert found.ids == found.compute_families()


# ---------------------------------------------------------------- columns


def test_a_column_that_nobody_asks_for_is_neither_kept_nor_a_fault(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ask("a", unit=float("nan"), tests=[1], id=7), ask("b", unit=1, tests=[2]))
    found = load(path, wanted=frozenset({"tests"}))
    assert [prompt.columns for prompt in found] == [{"tests": [1], "id": 7}, {"tests": [2]}]
    with pytest.raises(InputError, match="row 1: unit is nan, not a finite number"):
        load(path, wanted=frozenset({"unit"}))


def test_where_all_columns_are_asked_for_what_json_cannot_hold_is_left_out(tmp_path: Path) -> None:
    found = load(write(tmp_path / "rows.jsonl", ask("a", unit=float("nan"), tests=[1]), ask("b", unit=1)))
    assert [prompt.columns for prompt in found] == [{"tests": [1]}, {"unit": 1}]
    assert describe_counts(found.counts) == "2 rows read, 2 prompts: column unit left out of 1 (no JSON)"


def test_rows_do_without_a_ground_truth_where_none_is_needed(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", {"prompt": "a"}, {"prompt": "b", "ground_truth": None}, ask("c", "2"))
    assert [prompt.ground_truth for prompt in load(path, needs_truth=False)] == ["", "", "2"]
    with pytest.raises(InputError, match="row 1 has no ground_truth"):
        load(path)


def test_patterns_are_cut_from_demonstrations_alone(tmp_path: Path) -> None:
    rows = [ask("<<q>>", "<<1>>", demonstration="2*3 = <<2*3=6>>6!"), ask("b", demonstration="<<x>>")]
    found = load(write(tmp_path / "rows.jsonl", *rows), strip=("<<[^>]*>>", "!$"))
    assert [prompt.demonstration for prompt in found] == ["2*3 = 6", None]
    assert (found[0].text, found[0].ground_truth) == ("<<q>>", "<<1>>")


# ---------------------------------------------------------------- families in splits

MEMBERS = st.lists(st.integers(1, 3), min_size=60, max_size=120)
SIZES = st.fixed_dictionaries({name: st.integers(1, 12) for name in ("test", "dev", "rlaif")})


def make_families(members: list[int]) -> PromptTable:
    return make_table([make_prompt(f"q {i}" + " " * k) for i, many in enumerate(members) for k in range(many)])


@given(members=MEMBERS, shares=SIZES)
@settings(deadline=None, max_examples=40)
def test_sizes_are_exact_and_no_family_is_in_two_splits(
    tmp_path_factory: pytest.TempPathFactory, members: list[int], shares: dict[str, int]
) -> None:
    path = tmp_path_factory.mktemp("splits") / "splits.json"
    prompts = make_families(members)
    splits = split_prompts(prompts, shares)
    assert {name: len(splits[name]) for name in shares} == shares
    families = [set(part.compute_families()) for part in splits.values()]
    assert sum(map(len, families)) == len(set().union(*families))
    record_assigned(path, "source", splits, shares)
    again = split_prompts(prompts, shares, load_assigned(path))
    assert {name: part.ids for name, part in again.items()} == {name: part.ids for name, part in splits.items()}


@given(members=MEMBERS, fraction=st.floats(0.1, 0.5))
@settings(deadline=None, max_examples=40)
def test_a_prompt_stays_where_its_family_was_when_a_run_knew_only_the_first_of_it(
    tmp_path_factory: pytest.TempPathFactory, members: list[int], fraction: float
) -> None:
    path = tmp_path_factory.mktemp("splits") / "splits.json"
    shares = {"test": 9, "dev": fraction, "rlaif": 5}
    before = split_prompts(make_families([1] * len(members)), shares)
    record_assigned(path, "source", before, shares)
    now = split_prompts(make_families(members), shares, load_assigned(path))
    assert {name: len(now[name]) for name in ("test", "rlaif")} == {"test": 9, "rlaif": 5}
    assert homes(before).items() <= homes(now).items()


def test_near_duplicates_are_in_one_split(tmp_path: Path) -> None:
    rows = [ask(text, i) for i, pair in enumerate(ALIKE) for text in pair] + [ask(f"q {i}") for i in range(60)]
    found = homes(split_prompts(load(write(tmp_path / "rows.jsonl", *rows)), {"test": 0.3, "dev": 20, "final": 7}))
    assert len(found) == len(rows)
    for one, other in ALIKE:
        assert found[one] == found[other]
