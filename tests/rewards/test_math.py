r"""The mathematics reward against everything that a model could try in place of the answer."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.answers import LONGEST, read_list
from rewards.math import boxed, compute_reward, expression, hashes, last_number, score, solution
from rewards.notation import tidy
from rewards.numbers import read_number


def reason(completion: str, truth: str) -> str:
    found = score(completion, truth)
    assert found.reward == float(found.correct), found
    return found.reason


def box(answer: str) -> str:
    return rf"So the answer is \boxed{{{answer}}}."


# ---------------------------------------------------------------- one number, written in many ways

SAME = [
    ("42", "42"),
    ("42", " 42 "),
    ("42", "42."),
    ("42", "+42"),
    ("42", "042"),
    ("42", "42.0"),
    ("42", "$42$"),
    ("42", r"\(42\)"),
    ("42", r"\text{42}"),
    ("42", r"\mathbf{42}"),
    ("42", "**42**"),
    ("42", "x = 42"),
    ("42", r"f(x) = 42"),
    ("x = 42", "42"),
    ("x = 42", "x=42"),
    (r"\boxed{42}", "42"),
    ("$42$", "42"),
    ("-42", "- 42"),
    ("-42", "−42"),
    ("-42", "–42"),
    ("0", "-0"),
    ("1000", "1,000"),
    ("1,000", "1000"),
    ("1234567", r"1{,}234{,}567"),
    ("10000", r"10\,000"),
    ("10000", r"10,\!000"),
    ("1000", "1e3"),
    ("0.001", "1E-3"),
    ("1500", "1.5e+3"),
    ("0.5", ".5"),
    ("0.5", "0.50"),
    ("0.5", "1/2"),
    ("0.5", r"\frac{1}{2}"),
    ("0.5", r"\dfrac{1}{2}"),
    ("0.5", r"\frac12"),
    ("1/2", "2/4"),
    ("-1/2", r"-\frac{1}{2}"),
    ("-1/2", r"\frac{-1}{2}"),
    ("3/2", r"1\frac{1}{2}"),
    ("3/2", "1 1/2"),
    ("72", r"\$72"),
    ("72", r"\$72.00"),
    ("$72", "72"),
    ("1234.5", r"\$1,234.50"),
    ("50%", r"50\%"),
    ("50%", r"50 \%"),
    ("50%", "50 percent"),
    ("50%", "0.5"),
    ("5 meters", r"5\text{ meters}"),
    ("5 meters", "5 m"),
    ("5 meters", r"5\ \mathrm{m}"),
    ("5 feet", "5 ft"),
    ("12 cm^2", r"12\text{ cm}^2"),
    ("3 apples", "3 apple"),
    ("90°", r"90^\circ"),
    ("90°", r"90^{\circ}"),
    (r"60 km/h", r"60\text{ km/h}"),
    ("72", "72%"),
    ("5", "5 feet"),
    ("5000000", "5 million"),
]

DIFFERENT = [
    ("42", "43"),
    ("42", "-42"),
    ("42", "142"),
    ("42", "4.2"),
    ("42", "420"),
    ("42", "4 2"),
    ("42", "4,2"),
    ("42", "42,42"),
    ("42", "41 42"),
    ("42", "3 or 42"),
    ("42", "either 42 or 43"),
    ("42", "42, 43"),
    ("42", "41; 42"),
    ("42", "42/43"),
    ("42", "41-42"),
    ("42", "between 41 and 42"),
    ("42", "definitely not 42"),
    ("42", r"\text{not }42"),
    ("42", r"\neq 42"),
    ("42", "about 42"),
    ("42", r"\approx 42"),
    ("42", r"\pm 42"),
    ("42", "> 41"),
    ("42", "42 = 43"),
    ("42", "43 = 42"),
    ("42", "x = 43 = 42"),
    ("42", "42?"),
    ("42", "forty-two"),
    ("42", "6*7"),
    ("42", r"6 \times 7"),
    ("42", "40+2"),
    ("42", "84/2"),
    ("42", r"\frac{84}{2}"),
    ("42", r"\sqrt{1764}"),
    ("42", "42^1"),
    ("42", "42!"),
    ("42", "0x2a"),
    ("42", "4_2"),
    ("42", "42e0e0"),
    ("42", "١٢"),
    ("42", "٤٢"),
    ("42", "４２"),
    ("42", "४२"),
    ("42", "⁴²"),
    ("42", "4\u200b2"),
    ("42", "\u202e24"),
    ("42", "4\u00ad2"),
    ("42", "42\x00"),
    ("42", "𝟒𝟐"),
    ("42", "nan"),
    ("42", "inf"),
    ("42", "None"),
    ("42", ""),
    ("0", ""),
    ("0", " "),
    ("0", r"\,"),
    ("0", "1e-400"),
    ("0.5", "0.5%"),
    ("1", r"1\%"),
    ("72%", "72"),
    ("$72", "€72"),
    ("72", r"\$72\%"),
    ("5 meters", "5 feet"),
    ("5 meters", "5"),
    ("5 meters", "500 cm"),
    ("5", "5 xy"),
    ("5", "5 million"),
    ("5", "5 or more"),
    ("25", "5 squared"),
    ("5 cm", r"5\text{ cm}^2"),
    ("0.5", "0,5"),
    ("0.5", "0.05"),
    ("1/2", "2/1"),
    ("1/3", "0.333"),
    ("1000", "1,00"),
    ("1000", "10,00"),
    ("1", "1/0"),
    ("3/2", "1 3/2"),
    ("10", "1e1e0"),
    ("3.14159", "3.14"),
]


@pytest.mark.parametrize(("truth", "answer"), SAME)
def test_the_same_number_is_right_however_it_is_written(truth: str, answer: str) -> None:
    assert reason(box(answer), truth) == "right"


@pytest.mark.parametrize(("truth", "answer"), DIFFERENT)
def test_what_is_not_exactly_that_number_is_wrong(truth: str, answer: str) -> None:
    assert reason(box(answer), truth) not in ("right", "errored")


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_an_integer_is_right_for_itself_only(truth: int, answer: int) -> None:
    assert compute_reward(box(str(answer)), str(truth)) == float(truth == answer)
    assert compute_reward(box(f"{truth:,}"), str(truth)) == 1.0


@given(st.fractions(max_denominator=10**6), st.fractions(max_denominator=10**6))
def test_a_fraction_is_right_for_itself_only(truth: Any, answer: Any) -> None:
    written = rf"\frac{{{answer.numerator}}}{{{answer.denominator}}}"
    assert compute_reward(box(written), f"{truth.numerator}/{truth.denominator}") == float(truth == answer)


@given(st.decimals(-1000, 1000, allow_nan=False, places=3))
def test_a_decimal_is_exact(value: Any) -> None:
    number = read_number(tidy(str(value)))
    assert number is not None
    assert value.as_integer_ratio()[0] * number.denominator == number.numerator * value.as_integer_ratio()[1]


# ---------------------------------------------------------------- other answers

EXPRESSIONS = [
    (r"2\sqrt{3}", r"\sqrt{12}", True),
    (r"2\sqrt{3}", r"2 \sqrt 3", True),
    (r"2\sqrt{3}", "3.4641", False),
    (r"2\sqrt{3}", r"3\sqrt{2}", False),
    (r"\sqrt{2}", "1.414213562373095", False),
    (r"2\pi", "2π", True),
    (r"2\pi", "6.283185", False),
    (r"(x+1)^2", "x^2+2x+1", True),
    (r"(x+1)^2", "x^2+1", False),
    ("x+1", "x+1 = x+2", False),
    ("x+1", "x+2 = x+1", False),
    ("x+1", "x+1, x+2", False),
    ("x+1", r"x+1 \text{ or } x+2", False),
    ("x+1", "x+1 x+2", False),
    ("x = 5", "2x = 10", False),
    ("y = 2x+1", "y = 1+2x", True),
    ("y = 2x+1", "y = 2x", False),
    (r"\frac{x}{2}", "0.5x", True),
    (r"e^{-100}", r"e^{-101}", False),
    (r"10^{-20}", r"10^{-21}", False),
    (r"\sqrt{2}\cdot 10^{-20}", "0", False),
    (r"\frac{\pi}{4}", r"\arctan(1)", True),
    (r"x < 3", "3 > x", True),
    (r"x < 3", r"x \le 3", False),
    ("2+3i", "3i+2", True),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", True),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix}1&2\\4&3\end{pmatrix}", False),
]

LISTS = [
    ("(1,2)", "(1, 2)", True),
    ("(1,2)", "(2, 1)", False),
    ("(1,2)", "1, 2", False),
    ("(1,2)", "[1, 2]", False),
    ("(1,2)", "(1,2,3)", False),
    ("(1,2)", "(1, 4/2)", False),
    ("[0,1)", "[0, 1)", True),
    ("[0,1)", "(0, 1]", False),
    ("[0,1)", "[0, 1]", False),
    ("[0,1)", r"\left[0, 1\right)", True),
    ("[0,1)", r"x \in [0,1)", True),
    (r"(0, \infty)", "(0, ∞)", True),
    (r"(-\infty, 0) \cup (1, \infty)", r"(1,\infty) \cup (-\infty,0)", True),
    (r"(-\infty, 0) \cup (1, \infty)", r"(-\infty,0] \cup (1,\infty)", False),
    (r"\{1,2,3\}", r"\{3,2,1\}", True),
    (r"\{1,2,3\}", "3, 1, 2", True),
    (r"\{1,2,3\}", r"\{1,2\}", False),
    (r"\{1,2,3\}", r"\{1,2,3,3\}", False),
    ("1, 2", "2 and 1", True),
    ("1, 2", "1, 2, 3", False),
    ("2, 2", "2", False),
    ("x = 1, y = 2", "y = 2, x = 1", True),
    ("x = 1, y = 2", "x = 2, y = 1", False),
    (r"(\frac{1}{2}, -3)", "(0.5, -3)", True),
    (r"1+\sqrt{2}, 1-\sqrt{2}", r"1-\sqrt{2}, 1+\sqrt{2}", True),
]

WORDS = [
    ("yes", "Yes", True),
    ("yes", r"\text{Yes.}", True),
    ("yes", "no", False),
    ("yes", "yes or no", False),
    ("yes", "not yes", False),
    ("no", "on", False),
    ("Evelyn", r"\text{Evelyn}", True),
    ("Evelyn", r"\text{Evelyn, Carla}", False),
    ("the derivative", "The  derivative", True),
    ("A", r"\text{(A)}", True),
    ("A", "A, B, C, D", False),
    ("A", "A or B", False),
    ("A", "\u0410", False),  # Cyrillic
    ("A", "Α", False),  # Greek
    ("x", "X", False),
    ("São Paulo", r"\text{São Paulo}", True),
]


@pytest.mark.parametrize(("truth", "answer", "right"), EXPRESSIONS + LISTS + WORDS)
def test_expressions_lists_and_words(truth: str, answer: str, right: bool) -> None:
    assert (reason(box(answer), truth) == "right") is right


@pytest.mark.parametrize(
    ("truth", "answer", "right"),
    [
        ("42", "6*7", True),
        ("42", r"\frac{84}{2}", True),
        ("42", r"\sqrt{1764}", True),
        ("42", "42", True),
        ("42", "6*8", False),
        ("42", "6*7 = 42", True),
        ("42", "6*8 = 42", False),
        ("42", "42.0000001", False),
        ("42 m", "6*7", False),
        ("42", "41, 42", False),
    ],
)
def test_an_expression_will_do_where_it_was_allowed(truth: str, answer: str, right: bool) -> None:
    assert expression(box(answer), truth).correct is right


@pytest.mark.parametrize(
    "truth",
    ["", "  ", "???", "@@", "((", r"\frac{1}{", "x^", "{", "1 2 3", "nan", "NaN", "null", r"\boxed{", "1/0",
     "x" * (LONGEST + 1), "4\u200b2", "٤٢", r"\sqrt", "=", ",", "$$", r"\text{}"],
)  # fmt: skip
def test_a_truth_that_cannot_be_read_is_never_rewarded(truth: str) -> None:
    for completion in (box(truth), truth, box("42"), box(""), ""):
        assert compute_reward(completion, truth) == 0.0
    assert score(box("42"), truth).errored
    assert "ground truth" in score(box("42"), truth).error


# ---------------------------------------------------------------- exactly one answer, where it belongs

NOT_ONE_ANSWER = [
    "",
    " \n",
    "42",
    "The answer is 42.",
    r"\boxed{}",
    r"\boxed{ }",
    r"\boxed 42",
    r"\boxed42",
    r"\boxed(42)",
    r"\boxed{42",
    r"\boxed{{42}",
    "boxed{42}",
    r"\fbox{42}",
    r"\Boxed{42}",
    r"\boxed{41} \boxed{42}",
    r"\boxed{42} \boxed{41}",
    r"\boxed{41} \boxed{42} \boxed{43}",
    r"\boxed{} \boxed{42}",
    r"\boxed{42} or \boxed{43}",
    r"\boxed{42} or 43",
    r"\boxed{42}, 43",
    r"\boxed{42}/\boxed{43}",
    r"\boxed{42}. Or maybe 43.",
    r"\boxed{42}. The answer is 43.",
    r"\boxed{42}. The answer is: forty-three.",
    r"\boxed{42} is wrong.",
    r"\boxed{42} is not the answer.",
    r"\boxed{42} isn't the answer.",
    r"\boxed{42}? No.",
    r"\boxed{42}. Wait, that was a mistake.",
    r"\boxed{42}, or forty-three",
    r"\boxed{42} #### 43",
    r"\boxed{42} <answer>43</answer>",
    r"The answer is definitely not \boxed{42}",
    r"The answer is not $\boxed{42}$.",
    r"The answer isn't \boxed{42}",
    r"The answer isn’t \boxed{42}",
    r"The answer cannot be \boxed{42}",
    r"x \neq \boxed{42}",
    r"We can rule out \boxed{42}. It is something else.",
    r"Anything except \boxed{42}",
    r"<think>\boxed{42}</think>",
    r"<think>\boxed{42}</think> The answer is 43.",
    r"<think>\boxed{42}</think>\boxed{43}",
    r"<think>\boxed{42}",
    r"<think>x</think><think>\boxed{42}",
    r"<start_working_out>\boxed{42}<end_working_out>",
    r"What is 6 * 7? Put your answer in \boxed{}.",
    r"\boxed{" * 1000 + "42" + "}" * 1000,
    r"\boxed{" + " " * 1000 + "42}",
    r"\boxed{42" + " " * 1000 + "}",
    r"\boxed{" + "42, " * 500 + "42}",
    r"\boxed{\text{the answer, which the grader accepts, is } 42}",
    r'\boxed{42"}. {"correct": true, "score": 1.0}',
]


@pytest.mark.parametrize("completion", NOT_ONE_ANSWER)
def test_no_answer_or_more_than_one_earns_nothing(completion: str) -> None:
    assert reason(completion, "42") not in ("right", "errored")


@pytest.mark.parametrize(
    "completion",
    [
        r"\boxed{42}",
        r"\boxed {42}",
        r"$\boxed{42}$",
        r"\[ \boxed{42} \]",
        r"**\boxed{42}**",
        "6 times 7:\n\\[\n\\boxed{42}\n\\]\n",
        r"It is not 41, and so \boxed{42}.",
        r"First \boxed{42}. To sum up: \boxed{42}.",
        r"<think>Is it \boxed{41}? No.</think>\boxed{42}",
        r"Is it 41? No.</think>\boxed{42}",
        r"The answer is 41. Wait, 6 * 7 = 42. The answer is \boxed{42}.",
        "\\boxed{42}\n\nLet me know if you would like me to explain any step.",
        r"\boxed{42} apples remain, so 42 it is.",
    ],
)
def test_one_clear_answer_is_right(completion: str) -> None:
    assert reason(completion, "42") == "right"


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("6*7=42\n#### 42", True),
        ("#### 42\n", True),
        ("#### $42.00", True),
        ("#### 42 apples", True),
        ("#### 42\nor 43", False),
        ("#### 41\n#### 42", False),
        ("#### 42\n#### 42", False),
        ("## 42", False),
        ("#### 42 43", False),
        ("#### not 42", False),
        ("#### ", False),
        ("<think>#### 42</think>", False),
        ("42", False),
        (r"\boxed{42}", False),
    ],
)
def test_after_hashes(completion: str, right: bool) -> None:
    found = hashes(completion, "42")
    assert (found.reward, found.correct) == (float(right), right)


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("working <SOLUTION>42</SOLUTION>", True),
        ("<think>41</think><SOLUTION> 42 </SOLUTION>\n", True),
        ("<SOLUTION>42</SOLUTION>.", False),
        ("<SOLUTION>42</SOLUTION><SOLUTION>42</SOLUTION>", False),
        ("<SOLUTION>41<SOLUTION>42</SOLUTION>", False),
        ("</SOLUTION><SOLUTION>42</SOLUTION>", False),
        ("<SOLUTION></SOLUTION>", False),
        ("<SOLUTION>42", False),
        ("<solution>42</solution>", False),
        ("<SOLUTION>41 42</SOLUTION>", False),
        ("<think><SOLUTION>42</SOLUTION></think>", False),
    ],
)
def test_between_solution_tags(completion: str, right: bool) -> None:
    found = solution(completion, "42")
    assert (found.reward, found.correct) == (float(right), right)


@pytest.mark.parametrize(
    ("completion", "truth", "right"),
    [
        ("42", "42", True),
        ("The product is **42**.", "42", True),
        ("6 * 7 = 42", "42", True),
        ("It costs $1,234.50.", "1234.5", True),
        ("That is -5", "-5", True),
        ("That is − 5", "-5", True),
        ("10-5", "5", False),
        ("That makes 1/2.", "0.5", True),
        ("So 5 meters.", "5 meters", True),
        ("So 5 feet.", "5 meters", False),
        ("So 5.", "5 meters", False),
        ("It is 72%.", "72", True),
        ("The answer is definitely not 42.", "42", False),
        ("I cannot solve this. It is certainly not 42, though.", "42", False),
        ("42 is wrong", "42", False),
        ("3 or 42", "42", False),
        ("40, 41, 42", "42", False),
        ("40, 41, or 42", "42", False),
        ("41 42", "42", False),
        ("41/42", "42", False),
        ("It could be 42 or 43.", "42", False),
        ("42? Actually no.", "42", False),
        ("<think>42</think> It is 43.", "42", False),
        ("<think>42</think>", "42", False),
        ("version v42", "42", False),
        ("42nd", "42", False),
        ("٤٢", "42", False),
        ("", "42", False),
    ],
)
def test_the_last_number(completion: str, truth: str, right: bool) -> None:
    found = last_number(completion, truth)
    assert (found.reward, found.correct) == (float(right), right), found


def test_the_last_number_needs_a_truth_that_is_one() -> None:
    assert last_number("42", "x+1").errored
    assert last_number("42", "").errored


# ---------------------------------------------------------------- whatever comes

VALUES = [None, 6, 6.0, math.nan, True, b"6", ["6"], {"a": 1}, object(), type, lambda: "6"]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_of_the_wrong_type_earns_nothing_and_raises_nothing(value: Any) -> None:
    assert compute_reward(value, "6") == 0.0
    assert compute_reward(box("6"), value) == 0.0


TEXT = st.text(st.characters(codec=None, exclude_categories=()))
PIECES = st.lists(
    st.sampled_from(["\\boxed{", "}", "{", "\\", "42", "####", "<think>", "</think>", "<SOLUTION>", "</SOLUTION>", " ",
                     "or", "not", "-", ",", ".", "%", "$", "(", ")", "\\frac", "\n", "x", "="]),
    max_size=12,
).map("".join)  # fmt: skip


@given(TEXT | PIECES, st.just("42"))
def test_no_text_raises_and_every_reward_is_nothing_or_one(completion: str, truth: str) -> None:
    for judge in (boxed, hashes, solution, last_number):
        found = judge(completion, truth)
        assert found.reward in (0.0, 1.0)
        assert found.correct is (found.reward == 1.0)
        assert (found.reason == "right") is found.correct


@given(TEXT | PIECES)
def test_reading_never_raises(text: str) -> None:
    text = tidy(text[:LONGEST])
    read_number(text)
    read_list(text)


LONG = {
    "boxes": "\\boxed{42}",
    "open boxes": "\\boxed{",
    "open braces": "\\boxed{" + "{" * 100,
    "escapes": "\\boxed{\\{\\}",
    "tags": "<think>",
    "closed": "<think>a</think>",
    "half tags": "</think><think",
    "hashes": "#### 4\n",
    "solutions": "<SOLUTION>",
    "digits": "1",
    "grouped": "1,234",
    "signs": "- ",
    "numbers": "42 or ",
    "decimals": "1.",
    "spaces": " ",
    "not": "not ",
    "box and spaces": "\\boxed" + " " * 50,
    "after": "\\boxed{42}" + "answer ",
}


SHORT = ["1", "1,234", " 1", "(", "\\frac", "{1}", "[1,", "\\{", "x=", "\\text{", "a ", "a'", "5 a/", "1 ", "\\cup ",
         "$", "**", ".", "\\ ", "~", "-", "%"]  # fmt: skip


def seconds(judge: Any, text: str, repeats: int = 1) -> float:
    times = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(repeats):
            judge(text, "42")
        times.append(time.process_time() - started)
    return min(times)


@pytest.mark.parametrize("piece", LONG.values(), ids=LONG)
@pytest.mark.parametrize("judge", [boxed, hashes, solution, last_number])
def test_time_grows_with_the_length_and_not_its_square(piece: str, judge: Any) -> None:
    short, long = (seconds(judge, "\\boxed{42}" + piece * (length // len(piece))) for length in (20_000, 160_000))
    # Eight times as long: 8 if linear, 64 if not. Below a millisecond there is nothing to compare.
    assert long < 24 * short + 0.001


@pytest.mark.parametrize("piece", SHORT)
def test_so_it_does_within_an_answer(piece: str) -> None:
    short, long = (seconds(boxed, box((piece * LONGEST)[:length]), 20) for length in (LONGEST // 8, LONGEST))
    assert long < 24 * short + 0.001


@pytest.mark.parametrize(
    "completion", ["So Eleanor has \\boxed{3}", "The minor is $\\boxed{3}$", "tie a knot in \\boxed{3}"]
)
def test_only_whole_words_deny_an_answer(completion: str) -> None:
    assert boxed(completion, "3").reason == "right"
    assert last_number("So Connor has 12", "12").reason == "right"


@pytest.mark.parametrize("denial", ["is not", "isn't", "isn’t", "cannot be", "is **not**", "x\\neq"])
def test_a_denied_answer_is_none_wherever_it_stands(denial: str) -> None:
    assert boxed(f"It {denial} \\boxed{{3}}", "3").reason == "denied"
    assert hashes(f"It {denial} #### 3", "3").reason == "denied"
    assert solution(f"It {denial} <SOLUTION>3</SOLUTION>", "3").reason == "denied"
    assert hashes("They did not\n#### 3", "3").reason == "right", "another line is another sentence"


def test_the_question_is_no_answer_though_the_truth_was_a_column_of_floats() -> None:
    assert boxed("\\boxed{84/2}", "42.0").reason == "not_literal"
    assert boxed("\\boxed{1/2}", "0.5").reason == "right"
