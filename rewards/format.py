"""Which sections a completion has: thinking and answer, in the tags that models are commonly taught."""

from __future__ import annotations

import re

THINKING = re.compile(
    r"<(start_working_out|think|reasoning)>\s*\S.*?<(/?end_working_out|/think|/reasoning)>", re.DOTALL
)
ANSWER = re.compile(r"<(SOLUTION|answer)>\s*\S.*?</\1>|\\boxed\{[^}]|####\s*\S", re.DOTALL)


def has_thinking(completion: str) -> bool:
    """Whether there is a closed thinking section with something in it."""
    return THINKING.search(completion) is not None


def has_answer(completion: str) -> bool:
    """Whether there is an answer section with something in it: SOLUTION or answer tags, boxed, or ####."""
    return ANSWER.search(completion) is not None
