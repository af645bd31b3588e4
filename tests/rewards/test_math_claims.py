"""What stands around a right box: what denies it, or claims another answer, and what does not."""

from __future__ import annotations

import pytest

from rewards.math import check_ground_truth, final_answer, hashes, last_number, score, solution, write_reference

ORDINARY = [
    r"- \boxed{42}",
    r"*Answer* \boxed{42}",
    r"6 \cdot 7 = \boxed{42}",
    r"\boxed{42}. It is 3 more than 39.",
    r"\boxed{42} m, since it should be 2 m above 40 m.",
    r"\begin{align*} x &= \boxed{42} \end{align*}",
    r"$x=\boxed{42}$, as required.",
    r"\boxed{42} The answer is 42.",
    r"Books not sold: \boxed{42}",
    r"P(not red) = \boxed{42}",
    r"\boxed{42}. No other solution exists.",
    r"\boxed{42}; this completes the proof.",
    r"\boxed{42} and this is the minimum.",
    r"\boxed{42}. Check: 40 + 2 = 42.",
    r"\boxed{42} dollars per 3 days.",
    r"The number of non-zero digits is \boxed{42}",
    r"It cannot be negative, so x = \boxed{42}",
    r"We do not know y but x is \boxed{42}",
    "\\boxed{42}\n\nThis is not a prime number.",
    r"\boxed{42}. It is impossible to do better.",
    r"\boxed{42}. This means no one else wins.",
    r"He did not sell \boxed{42} books.",
    r"\boxed{42}. Thus, the final answer is 42.",
    r"\boxed{42}, which is 6 times 7.",
    r"\boxed{42}. Note: 41 would be wrong because 41 is odd.",
    "\\boxed{42}\n\nExplanation: actually we use 6*7.",
    r"\boxed{42} \quad \text{(answer)}",
    r"\boxed{42}\,\text{cm}^2",
    "\\boxed{42}\n\n**Answer:** 42",
    r"\boxed{42} feet. So she needs 3 more feet to reach 45.",
    r"\boxed{42}. Since 42 < 50, the condition holds.",
    r"\boxed{42} (the answer is not affected by order).",
    r"\boxed{42}. I am not sure whether units are needed.",
    r"Not all are red, so \boxed{42}.",
    r"There is no other way, hence \boxed{42}.",
    r"We never used b. \boxed{42}",
    "\\[\\boxed{42}\\]\nThe answer is $42$.",
    r"\boxed{42}. Wait times are excluded.",
    r"without loss, not counting zero, there are \boxed{42}",
    r"the probability that neither wins is \boxed{42}",
    r"\boxed{42} or equivalently $42.0$",
    r"\boxed{42}, i.e. forty-two.",
    r"\boxed{42}. The answer is an integer.",
    r"\boxed{42} is the answer.",
    r"\boxed{42}. The result is reasonable.",
    r"\boxed{42}. Hence the answer is: **42**.",
    r"\boxed{42} = 42",
    r"\boxed{42} (= 6 \cdot 7)",
    r"$$\boxed{42}$$ $\blacksquare$",
    "\\boxed{42}\n<|im_end|>",
    r"\boxed{42}</answer>",
    r"<answer>\boxed{42}</answer>",
    "<answer>42</answer>",
    r"<think>hm \boxed{3}</think><answer> 42 </answer>",
    r"\boxed{42}. Let me know if you need help!",
    "\\boxed{42}\nTherefore, 42 is the answer, not 43.",
    r"The ones who didn't pay: \boxed{42}",
    r"\boxed{42} tickets were not sold",
    r"$\boxed{42}$ is the number of people who did not vote",
]
TAKEN_BACK = [
    r"-\boxed{42}",
    r"x = -\boxed{42}",
    r"3 + \boxed{42}",
    r"\frac{\boxed{42}}{2}",
    r"\sqrt{\boxed{42}}",
    r"2\boxed{42}",
    r"\boxed{42}. So we get 43 as the answer.",
    r"\boxed{42} is wrong",
    r"\boxed{42}? No, 43.",
    r"not \boxed{42}",
    r"it is not 42: \boxed{43}",
    r"The answer isn't \boxed{42}.",
    r"It's not \boxed{42}",
    r"\boxed{42} or 43",
    r"\boxed{42}, 43",
    r"\boxed{42} / 43",
    r"\boxed{42}. The answer is 43.",
    r"\boxed{42}. Actually, it is 43.",
    r"\boxed{42}. Wait, I made a mistake.",
    r"\boxed{42}. Hmm, that is incorrect.",
    r"\boxed{42}. Sorry, 43.",
    r"\boxed{42}. Correction: 43",
    r"\boxed{42}. It should be 43.",
    r"\boxed{42} and \boxed{43}",
    r"\boxed{42} \text{ or } 43",
    r"\boxed{42}^2",
    r"2 \boxed{43}",
    r"\boxed{42}\times 2",
    r"\boxed{42}+1",
    r"\boxed{42} - 1",
    r"\boxed{42} #### 43",
    r"\boxed{42}<answer>43</answer>",
    r"\boxed{42}. Therefore, the final answer is $\frac{42}{2}$.",
    r"\boxed{42} to 45",
    r"\boxed{42}-45",
    r"anything but not \boxed{42}",
    r"It can't be \boxed{42}",
    r"\boxed{42}. I was wrong.",
    r"\boxed{42}. No, that's not right.",
    r"\boxed{42} maybe",
    r"\boxed{42}. Final answer: forty-three",
    r"x \ne \boxed{42}",
    r"\boxed{42} = 43",
    r"\boxed{42}, or perhaps 43",
    r"\boxed{42} isn't correct",
    r"\boxed{42}. The correct answer is 43.",
    r"\boxed{42}. My answer is wrong.",
    r"the answer is anything other than \boxed{42}",
    r"\boxed{42}.  The answer: 41",
    r"\boxed{42} — no, 43",
    r"\boxed{42}. But the answer is 43",
    r"\boxed{42}0",
    r"\boxed{42}.5",
    r"\boxed{42}\frac{1}{2}",
    r"\boxed{42}x",
    r"It is false that the answer is \boxed{42}",
    "<answer>42</answer><answer>43</answer>",
    "<answer>42",
    "<answer>42</answer> or 43",
]


@pytest.mark.parametrize("completion", ORDINARY)
def test_ordinary_text_around_a_right_answer_takes_nothing_back(completion: str) -> None:
    assert score(completion, "42").reason == "right"


@pytest.mark.parametrize("completion", TAKEN_BACK)
def test_what_is_denied_or_contradicted_is_no_answer(completion: str) -> None:
    found = score(completion, "42")
    assert (found.reward, found.correct) == (0.0, False), found


@pytest.mark.parametrize(
    ("completion", "truth", "right"),
    [
        (r"\boxed{yes}. The answer is yes.", "yes", True),
        (r"\boxed{yes}. The answer is no.", "yes", False),
        (r"\boxed{yes} or no", "yes", False),
        (r"\boxed{B}. So the answer is (B).", "B", True),
        (r"\boxed{B} or C", "B", False),
        (r"\boxed{C = B}", "B", False),
        (r"\boxed{x+1}. The answer is x+2.", "x+1", False),
        (r"\boxed{x+1}. The answer is 1+x.", "x+1", True),
        (r"\boxed{(1,2)}. So the answer is (2,1).", "(1,2)", False),
        (r"\boxed{\frac12}, so $\boxed{0.5}$", "1/2", True),
        (r"\boxed{1,000} and so \boxed{1000}", "1000", True),
        (r"\boxed{(1,2)} or \boxed{(2,1)}", "(1,2)", False),
        (r"fill \boxed{\phantom{00}}: it is \boxed{42}", "42", True),
        (r"\boxed{\phantom{00}}", "42", False),
        ("".join(rf"\boxed{{42.{'0' * n}}}" for n in range(9)), "42", False),
    ],
)
def test_several_boxes_and_claims_in_words(completion: str, truth: str, right: bool) -> None:
    assert score(completion, truth).correct is right


@pytest.mark.parametrize(
    ("truth", "answer"),
    [
        ("6 * 7 = <<6*7=42>>42\n#### 42", "42"),
        (r"Six times seven is $\boxed{42}$.", "42"),
        (r"That makes \boxed{108}0", "1080"),
        ("It is <SOLUTION>42</SOLUTION>", "42"),
        ("<think>Or 7: #### 7</think><answer>42</answer>", "42"),
        ("\\boxed{42}, so\n#### 42.0", "42"),
        ("#### Step 1\nMultiply.\n#### Step 2\n\\boxed{42}", "42"),
        ("\\boxed{42}\n\n#### Check\nIt fits.\nWell.", "42"),
        (r"First $\boxed{1}$, then $\boxed{\frac{1}{2}}$. " + "x" * 300, "0.5"),
    ],
)
def test_a_worked_solution_may_be_the_truth(truth: str, answer: str) -> None:
    assert score(rf"\boxed{{{answer}}}", truth).reason == "right"
    assert score(r"\boxed{7}", truth).reason == "wrong"
    assert score(write_reference(truth), truth).reason == "right"
    assert hashes(f"#### {answer}", truth).reason == "right"
    assert solution(f"<SOLUTION>{answer}</SOLUTION>", truth).reason == "right"
    assert last_number(f"So it is {answer}", truth).reason == "right"
    assert (check_ground_truth(truth), compare(final_answer(truth), answer)) == (None, True)


def compare(one: str, other: str) -> bool:
    return score(rf"\boxed{{{one}}}", other).correct


@pytest.mark.parametrize(
    ("truth", "marks"),
    [
        ("\\boxed{41}\n#### 42", r"\boxed{41} and #### 42"),
        ("#### 41\n#### 42", "#### 41 and #### 42"),
        ("<answer>41</answer> <SOLUTION>42</SOLUTION>", "<answer>41</answer> and <SOLUTION>42</SOLUTION>"),
    ],
)
def test_a_truth_that_gives_two_answers_is_refused_by_name(truth: str, marks: str) -> None:
    problem = check_ground_truth(truth)
    assert problem is not None
    assert f"two different answers, {marks}" in problem
    assert score(r"\boxed{42}", truth).error == problem


def test_a_truth_without_a_mark_is_all_of_it_and_a_long_one_is_refused_by_what_it_lacks() -> None:
    assert (final_answer("42"), check_ground_truth("42"), check_ground_truth("five feet")) == ("42", None, None)
    assert "no \\boxed{...}, #### or <answer>" in (check_ground_truth("and so on " * 30) or "")


def test_a_denied_box_is_denied_for_its_number_too() -> None:
    assert last_number(r"The answer is not \boxed{36}", "36").reason == "denied"


def test_what_is_cut_in_its_thinking_has_a_code_of_its_own() -> None:
    assert score(r"<think>\boxed{42}", "42").reason == "cut_in_thinking"
    assert hashes("<think>#### 42", "42").reason == "cut_in_thinking"
    assert solution("<think><SOLUTION>42</SOLUTION>", "42").reason == "cut_in_thinking"
    assert score("<think>x</think>y", "42").reason == "not_extracted"
