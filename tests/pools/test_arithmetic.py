from __future__ import annotations

import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.types import Prompt
from pools.arithmetic import demonstrate, generate

FORM = re.compile(r"<start_working_out>(.*)<end_working_out><SOLUTION>(\d+)</SOLUTION>")
COLUMN = re.compile(r"(\d)\+(\d)\+(\d)=(\d+)")
NUMBERS = st.integers(1, 10**9 - 1)


def parse(demonstration: str | None) -> tuple[list[tuple[int, int, int, int]], str]:
    """Columns ``(x, y, carry, total)`` from the right, and the answer."""
    match = FORM.fullmatch(demonstration or "")
    assert match is not None
    columns = [COLUMN.fullmatch(column) for column in match[1].split(",")]
    return [(int(m[1]), int(m[2]), int(m[3]), int(m[4])) for m in columns if m], match[2]


def numbers_of(prompt: Prompt) -> tuple[int, int]:
    a, b = prompt.text.removesuffix("=").split("+")
    return int(a), int(b)


def test_the_example_of_the_docstring() -> None:
    columns, answer = parse(demonstrate(876, 530, slips=0.0, rng=random.Random(0)))
    assert columns == [(6, 0, 0, 6), (7, 3, 0, 10), (8, 5, 1, 14)]
    assert answer == "1406"


@given(a=NUMBERS, b=NUMBERS)
def test_a_careful_demonstrator_is_always_right(a: int, b: int) -> None:
    columns, answer = parse(demonstrate(a, b, slips=0.0, rng=random.Random(0)))
    assert answer == str(a + b)
    carry = 0
    for x, y, carried, total in columns:
        assert carried == carry
        assert total == x + y + carried
        carry = total // 10


@given(a=NUMBERS, b=NUMBERS, slips=st.floats(0.0, 1.0), seed=st.integers(0, 1000))
def test_a_careless_one_forgets_carries_and_is_otherwise_consistent(a: int, b: int, slips: float, seed: int) -> None:
    columns, answer = parse(demonstrate(a, b, slips=slips, rng=random.Random(seed)))
    carry, forgot = 0, False
    for x, y, carried, total in columns:
        assert carried in (0, carry)
        assert total == x + y + carried
        forgot |= carried != carry
        carry = total // 10
    digits = "".join(str(total % 10) for *_, total in reversed(columns))
    assert answer == (str(carry) if carry else "") + digits
    assert (answer == str(a + b)) is not forgot


def test_without_any_carry_nothing_can_slip() -> None:
    assert parse(demonstrate(123, 456, slips=1.0, rng=random.Random(0)))[1] == "579"


def test_one_slip_in_two_loses_about_half_of_the_sums_with_one_carry() -> None:
    rng = random.Random(0)
    right = sum(parse(demonstrate(18, 23, slips=0.5, rng=rng))[1] == "41" for _ in range(1000))
    assert 430 < right < 570


@pytest.mark.parametrize("slips", [0.0, 0.65])
def test_every_prompt_is_true_and_asked_once(slips: float) -> None:
    prompts = list(generate(size=500, digits=3, slips=slips))
    assert len({prompt.text for prompt in prompts}) == len(prompts) == 500
    for prompt in prompts:
        a, b = numbers_of(prompt)
        assert prompt.ground_truth == str(a + b), "the truth does not slip"
        digits = int(prompt.label.split()[0])
        assert len(str(a)) == len(str(b)) == digits


def test_the_prompts_do_not_depend_on_slips() -> None:
    careful, careless = generate(size=100, slips=0.0), generate(size=100, slips=1.0)
    assert sorted(p.text for p in careful if len(p.text) < 5) == sorted(p.text for p in careless if len(p.text) < 5)


def test_the_same_source_is_the_same_prompts() -> None:
    assert list(generate(size=200, slips=0.5)) == list(generate(size=200, slips=0.5))


def test_digits_come_in_equal_parts_as_far_as_there_are_that_many() -> None:
    assert Counter(p.label for p in generate(size=150, digits=3)) == {"1 digit": 50, "2 digits": 50, "3 digits": 50}
    assert Counter(p.label for p in generate(size=1000, digits=2)) == {"1 digit": 81, "2 digits": 919}


def test_all_there_are_can_be_asked_for_and_no_more() -> None:
    assert len(list(generate(size=81, digits=1))) == 81
    with pytest.raises(ValueError, match="there are not 82 distinct sums"):
        list(generate(size=82, digits=1))


@pytest.mark.parametrize("options", [{"digits": 0}, {"digits": 10}, {"size": 0}, {"slips": 1.5}, {"slips": -0.1}])
def test_options_out_of_range(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="digits is 1 to 9"):
        list(generate(**options))
