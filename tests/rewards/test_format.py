from __future__ import annotations

import pytest

from rewards.format import has_answer, has_thinking


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("<start_working_out>1+1<end_working_out>", True),
        ("<think>well</think> 2", True),
        ("<reasoning>\nwell\n</reasoning>", True),
        ("<think>well", False),
        ("well</think>", False),
        ("<think></think>", False),
        ("<think> \n </think>", False),
        ("", False),
    ],
)
def test_thinking_is_a_closed_section_with_something_in_it(completion: str, expected: bool) -> None:
    assert has_thinking(completion) is expected


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("<SOLUTION>2</SOLUTION>", True),
        ("<answer>2</answer>", True),
        (r"so \boxed{2}", True),
        ("#### 2", True),
        ("<SOLUTION>2</answer>", False),
        ("<SOLUTION></SOLUTION>", False),
        (r"\boxed{}", False),
        ("####", False),
        ("2", False),
    ],
)
def test_an_answer_is_a_section_with_something_in_it(completion: str, expected: bool) -> None:
    assert has_answer(completion) is expected
