"""Which sections a completion has: thinking and answer, in the tags that models are commonly taught.

As a reward it pays for the form alone and says nothing of the answer: a thinking section, then an answer section,
each tag once, something in both, nothing before, between or after. Combine it with a reward that judges the answer.
"""

from __future__ import annotations

import re

from harness.types import Score
from rewards.outside import only_right

THINKING_TAGS = {
    "<think>": "</think>",
    "<reasoning>": "</reasoning>",
    "<start_working_out>": "<end_working_out>",
}
ANSWER_TAGS = {"<answer>": "</answer>", "<SOLUTION>": "</SOLUTION>"}
TAG = re.compile("|".join(re.escape(tag) for pair in (THINKING_TAGS | ANSWER_TAGS).items() for tag in pair))
CLOSING_TAGS = (*THINKING_TAGS.values(), "</end_working_out>")
OPENING = re.compile("|".join(re.escape(tag) for tag in THINKING_TAGS))
BOXED = re.compile(r"\\boxed\{[^}]|####\s*+\S")


def has_thinking(completion: str) -> bool:
    """Whether there is a closed thinking section with something in it."""
    opened = OPENING.search(completion)
    return opened is not None and _has_text(completion, opened.end(), max(map(completion.rfind, CLOSING_TAGS)))


def has_answer(completion: str) -> bool:
    """Whether there is an answer section with something in it: SOLUTION or answer tags, boxed, or ####."""
    for opening, closing in ANSWER_TAGS.items():
        start = completion.find(opening)
        if start >= 0 and _has_text(completion, start + len(opening), completion.rfind(closing)):
            return True
    return BOXED.search(completion) is not None


def _has_text(completion: str, start: int, end: int) -> bool:
    return end > start and not completion[start:end].isspace()


def after_thinking(completion: str) -> str:
    """What a completion says once its thinking is over; empty when a thinking section is left open.

    The opening tag may be in the prompt, so whatever comes before the last closing tag is thinking.
    """
    if "<" not in completion:
        return completion
    end = max(completion.rfind(tag) + len(tag) if tag in completion else 0 for tag in THINKING_TAGS.values())
    return "" if OPENING.search(completion, end) else completion[end:]


def score(completion: str, ground_truth: str) -> Score:
    """Score the form of a completion, 1.0 or 0.0.

    Reason codes: right, no_tags, wrong_tags, text_outside, empty_section. Components: ``thinking`` and ``answer`` (that
    section is closed and has something in it) and ``form``.
    """
    tags = list(TAG.finditer(completion))
    reason = _fault(completion, tags)
    return Score(
        0.0 if reason else 1.0,
        not reason,
        reason or "right",
        {
            "thinking": float(has_thinking(completion)),
            "answer": float(has_answer(completion)),
            "form": 0.0 if reason else 1.0,
        },
    )


def _fault(completion: str, tags: list[re.Match[str]]) -> str:
    """The reason code of what is wrong with the form, empty when nothing is."""
    if not tags:
        return "no_tags"
    names = [tag[0] for tag in tags]
    if len(names) != 4 or THINKING_TAGS.get(names[0]) != names[1] or ANSWER_TAGS.get(names[2]) != names[3]:
        return "wrong_tags"
    begin, end, answer, close = tags
    if not completion[begin.end() : end.start()].strip() or not completion[answer.end() : close.start()].strip():
        return "empty_section"
    outside = completion[: begin.start()] + completion[end.end() : answer.start()] + completion[close.end() :]
    return "text_outside" if outside.strip() else ""


compute_reward = only_right(score)
