from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import InputError
from harness.types import Prompt
from pools.sources import load_prompts
from pools.splits import load_assigned, record_assigned, split_prompts
from pools.table import PromptTable
from tests.support.builders import make_prompt, make_table

SIZES = {"probe": 5, "dev": 10, "test": 15}
PROMPTS = make_table([make_prompt(f"p{i}") for i in range(100)])
SHARES = st.fixed_dictionaries(
    {"test": st.integers(1, 15) | st.floats(0.1, 0.2), "dev": st.integers(1, 15) | st.floats(0.1, 0.2)},
    optional={
        "probe": st.integers(0, 10) | st.floats(0.1, 0.2),
        "prefer": st.integers(0, 10) | st.floats(0.1, 0.2),
        "train": st.integers(1, 15) | st.floats(0.1, 0.2),
    },
)
"""Together never more than 80 prompts and 0.8 of the pool, so 400 are always enough, and no fraction is none."""


def make_prompts(names: Sequence[object]) -> PromptTable:
    return make_table([make_prompt(f"p{name}") for name in names])


def ids(splits: Mapping[str, Sequence[Prompt]]) -> dict[str, list[str]]:
    return {name: [prompt.id for prompt in part] for name, part in splits.items()}


def homes(splits: Mapping[str, Sequence[Prompt]]) -> dict[str, str]:
    """The split of each prompt."""
    return {prompt.id: name for name, part in splits.items() for prompt in part}


@given(shares=SHARES, size=st.integers(400, 500))
@settings(deadline=None)
def test_splits_are_disjoint_and_as_large_as_asked(shares: dict[str, float], size: int) -> None:
    splits = split_prompts(make_prompts(range(size)), shares)
    found = [prompt_id for part in ids(splits).values() for prompt_id in part]
    assert len(found) == len(set(found))
    assert set(splits) == {*shares, "train"}
    if "train" not in shares:
        assert len(found) == size
    for name, share in shares.items():
        assert len(splits[name]) == share if isinstance(share, int) else 0.2 * share < len(splits[name]) / size < 0.4


@given(shares=SHARES, order=st.builds(random.Random, st.integers(0, 999)))
@settings(deadline=None, max_examples=50)
def test_neither_the_order_of_the_source_nor_of_the_shares_matters(
    shares: dict[str, float], order: random.Random
) -> None:
    prompts = make_prompts(range(400))
    shuffled = make_prompts(order.sample(range(400), 400))
    backwards = dict(reversed(shares.items()))
    assert ids(split_prompts(shuffled, backwards)) == ids(split_prompts(prompts, shares))


@given(
    shares=SHARES,
    growths=st.lists(st.integers(1, 300), min_size=1, max_size=3),
    order=st.builds(random.Random, st.integers(0, 999)),
)
@settings(deadline=None, max_examples=50)
def test_a_prompt_never_moves_when_the_source_is_reordered_and_grows(
    tmp_path_factory: pytest.TempPathFactory, shares: dict[str, float], growths: list[int], order: random.Random
) -> None:
    path = tmp_path_factory.mktemp("splits") / "splits.json"
    total, known = 400, {}
    for growth in [0, *growths]:
        total += growth
        prompts = make_prompts(order.sample(range(total), total))
        splits = split_prompts(prompts, shares, load_assigned(path))
        record_assigned(path, "source", splits, shares)
        now = homes(splits)
        assert known.items() <= now.items()
        assert not {*ids(splits)["test"], *ids(splits)["dev"]} & set(ids(splits)["train"])
        for name, share in shares.items():
            assert isinstance(share, float) or len(splits[name]) == share
        known = now


@given(shares=st.fixed_dictionaries({name: st.floats(0.05, 0.3) for name in ("test", "dev", "probe")}))
@settings(deadline=None)
def test_a_fraction_needs_no_memory_and_no_other_prompt(shares: dict[str, float]) -> None:
    few, many = make_prompts(range(200)), make_prompts(range(900))
    assert homes(split_prompts(few, shares)).items() <= homes(split_prompts(many, shares)).items()


@given(one=SHARES, other=SHARES)
@settings(deadline=None)
def test_other_shares_do_not_move_test(one: dict[str, float], other: dict[str, float]) -> None:
    prompts = make_prompts(range(400))
    other["test"] = one["test"]
    assert split_prompts(prompts, other)["test"].ids == split_prompts(prompts, one)["test"].ids


@given(first=SHARES, second=SHARES)
@settings(deadline=None, max_examples=50)
def test_a_spec_with_other_shares_leaves_alone_what_the_first_one_gave_out(
    tmp_path_factory: pytest.TempPathFactory, first: dict[str, float], second: dict[str, float]
) -> None:
    path = tmp_path_factory.mktemp("splits") / "splits.json"
    prompts = make_prompts(range(450))
    before = split_prompts(prompts, first)
    record_assigned(path, "source", before, first)
    record_assigned(path, "source", split_prompts(prompts, second, load_assigned(path)), second)
    assert ids(split_prompts(prompts, first, load_assigned(path))) == ids(before)


def test_sizes_are_cut_as_they_always_were() -> None:
    """Stored results refer to these."""
    splits = split_prompts(
        load_prompts("arithmetic?digits=3&size=4000&slips=0.6", columns={}, template="{prompt}", system=""),
        {"probe": 100, "dev": 200, "test": 400},
    )
    assert [len(splits[name]) for name in ("test", "dev", "probe", "train")] == [400, 200, 100, 3300]
    assert [splits[name][0].text for name in ("test", "dev", "probe", "train")] == [
        "833+414=",
        "70+11=",
        "64+24=",
        "42+62=",
    ]
    assert list(splits) == ["test", "dev", "probe", "train"]


def test_a_split_asked_for_more_is_filled_from_what_is_free(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    first = split_prompts(PROMPTS, SIZES)
    record_assigned(path, "source", first, SIZES)
    more = split_prompts(PROMPTS, {**SIZES, "dev": 20}, load_assigned(path))
    assert ids(more)["dev"][:10] == ids(first)["dev"]
    assert set(ids(more)["dev"][10:]) <= set(ids(first)["train"])
    assert (ids(more)["test"], ids(more)["probe"]) == (ids(first)["test"], ids(first)["probe"])
    fewer = split_prompts(PROMPTS, {**SIZES, "dev": 4}, load_assigned(path))
    assert ids(fewer)["dev"] == ids(first)["dev"][:4]


def test_a_split_that_lost_prompts_is_filled_up_and_gets_them_back(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    first = split_prompts(PROMPTS, SIZES)
    record_assigned(path, "source", first, SIZES)
    lost = set(ids(first)["test"][::2])
    left = make_table([p for p in PROMPTS if p.id not in lost])
    now = split_prompts(left, SIZES, load_assigned(path))
    assert len(now["test"]) == 15
    assert set(ids(first)["test"][1::2]) < set(ids(now)["test"])
    record_assigned(path, "source", now, SIZES)
    assert ids(split_prompts(PROMPTS, SIZES, load_assigned(path)))["test"] == ids(first)["test"]


def test_prompts_that_a_source_never_had_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    others = make_prompts([f"other{i}" for i in range(100)])
    record_assigned(path, "source", split_prompts(others, SIZES), SIZES)
    assert ids(split_prompts(PROMPTS, SIZES, load_assigned(path))) == ids(split_prompts(PROMPTS, SIZES))


def test_the_state_of_the_global_generator_does_not_matter() -> None:
    random.seed(1)
    first = split_prompts(PROMPTS, SIZES)
    random.seed(2)
    assert ids(split_prompts(PROMPTS, SIZES)) == ids(first)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (SIZES, r"30 prompts \(test 15, dev 10, probe 5\) leave none to train on: the source has 30; take smaller"),
        (SIZES | {"test": 3000}, "3015 prompts .* leave none to train on: the source has 30"),
        ({"train": 20, "prefer": 5, "test": 6}, r"31 prompts \(test 6, prefer 5, train 20\) are too many: .* has 30"),
        ({"test": 0.5, "dev": 0.5}, "leave none to train on: the source has 30, 30 of them taken by fractions"),
        ({"test": 0.5, "dev": 20}, r"20 prompts \(dev 20\) leave none .* has 30, 1\d of them taken by fractions"),
        ({"test": 0.001}, "the fraction for test of 30 prompts is none"),
    ],
    ids=str,
)
def test_splits_that_do_not_fit_are_wrong_input(shares: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match="pool.splits: .*" + message):
        split_prompts(PROMPTS[:30], shares)


def test_all_of_a_source_can_be_named() -> None:
    sizes = {"train": 70, "prefer": 20, "test": 10}
    assert {name: len(part) for name, part in split_prompts(PROMPTS, sizes).items()} == sizes
    assert len(split_prompts(PROMPTS[:31], SIZES)["train"]) == 1


@pytest.mark.parametrize("content", ["", "[]", '{"splits": 3}', '{"splits": {"test": 3}}', "\xff"])
def test_a_damaged_file_is_wrong_input(tmp_path: Path, content: str) -> None:
    (tmp_path / "splits.json").write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"pool.splits: .*splits.json is damaged"):
        load_assigned(tmp_path / "splits.json")


def test_the_file_says_what_it_is_about_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "splits" / "splits.json"
    shares = {"test": 2, "dev": 0.2}
    splits = split_prompts(PROMPTS, shares)
    record_assigned(path, "rows.jsonl", splits, shares)
    assert json.loads(path.read_text()) == {"source": "rows.jsonl", "splits": {"test": ids(splits)["test"]}}
    assert list(path.parent.iterdir()) == [path]
