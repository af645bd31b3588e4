"""What must not change a verdict: how a number is spelled, spaces, an order in a set, thinking, a sentence after."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from rewards.math import score

NUMBERS = st.integers(-(10**9), 10**9)
THOUSANDS = [",", "{,}", r"\,", r",\!", r"\ "]
WRAPPED = ["{}", " {} ", "({})", "{{{}}}", "$ {} $", r"\text{{{}}}", r"\mathbf{{{}}}", r"\boldsymbol{{{}}}", "x = {}",
           "{} = x", r"\text{{Total}} = {}", r"{}\text{{ cm}}", "{}.", "{}.0", r"\left({}\right)",
           r"\displaystyle {}", "{}\\\\"]  # fmt: skip
SENTENCES = ["", ".", ", as required.", " The answer is {}.", "\n\nCheck: $1 + 1 = 2$.", " apples after 3 days.",
             ". No other value is possible.", "\n\nI hope this helps!", "; there are no others.", " = {}",
             "\n**Final Answer:** {}", ". This does not depend on the order."]  # fmt: skip
THINKING = [
    "",
    r"<think>\boxed{{{}}}? No, wait.</think>",
    "<think>{}</think>\n",
    "x {} </think>",
    r"<reasoning>\boxed{{{}}}</reasoning>",
]
WORDS = st.sampled_from(["apples", "the", "of", "cats", "ran", "it", "seven", "we", "red", "=", "x", ":", ".", "3"])


@given(NUMBERS, st.sampled_from(WRAPPED), st.sampled_from(THOUSANDS), st.sampled_from(SENTENCES), NUMBERS)
def test_a_number_is_itself_in_every_spelling(number: int, form: str, mark: str, after: str, other: int) -> None:
    written = form.format(f"{number:,}".replace(",", mark))
    completion = rf"So $\boxed{{{written}}}$" + after.format(number)
    assert score(completion, str(number)).reason == "right"
    assert score(completion, str(other)).correct is (number == other)


@given(NUMBERS, st.sampled_from(THINKING), NUMBERS)
def test_thinking_counts_for_nothing(number: int, thinking: str, other: int) -> None:
    assert score(thinking.format(other) + rf"\boxed{{{number}}}", str(number)).reason == "right"
    assert score(thinking.format(number) + rf"\boxed{{{other}}}", str(number)).correct is (number == other)


@given(
    st.fractions(max_denominator=999),
    st.sampled_from([r"\frac{{{}}}{{{}}}", r"\dfrac{{{}}}{{{}}}", "{}/{}", r"{{{} \over {}}}"]),
)
def test_a_fraction_is_itself_in_every_spelling(value: Fraction, form: str) -> None:
    written = form.format(value.numerator, value.denominator)
    assert score(rf"\boxed{{{written}}}", f"{value.numerator}/{value.denominator}").reason == "right"


@given(st.lists(st.integers(-99, 99), min_size=2, max_size=5, unique=True), st.sampled_from([",", " ,  ", r",\ "]))
def test_a_set_has_no_order(items: list[int], comma: str) -> None:
    shuffled = sorted(items, key=lambda item: (item * 7919) % 101)
    written = comma.join(map(str, shuffled))
    truth = ", ".join(map(str, items))
    assert score(rf"\boxed{{\{{{written}\}}}}", rf"\{{{truth}\}}").reason == "right"
    assert score(rf"\boxed{{{written}}}", truth).reason == "right"
    assert score(rf"\boxed{{({written})}}", f"({truth})").correct is (shuffled == items)
    assert not score(rf"\boxed{{{written}{comma}100}}", truth).correct


@given(st.lists(WORDS, max_size=8), NUMBERS)
def test_words_before_a_box_without_a_negation_deny_nothing(words: list[str], number: int) -> None:
    assert score(" ".join(words) + rf" \boxed{{{number}}}", str(number)).reason == "right"


@given(
    NUMBERS,
    NUMBERS.filter(bool),
    st.sampled_from([" or {}", ", {}", ". The answer is {}.", " #### {}", ". Actually, {}.", " = {}"]),
)
def test_another_value_after_a_box_is_another_answer(number: int, more: int, after: str) -> None:
    assert not score(rf"\boxed{{{number}}}" + after.format(number + more), str(number)).correct
