"""Which sections a completion has: thinking and answer, in the tags that models are commonly taught.

As a reward it pays for the form alone and says nothing of the answer: a thinking section, then an answer section,
each tag once, something in both, nothing before, between or after. The template may have opened the thinking in the
prompt. Combine it with a reward that judges the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.types import Score
from rewards.outside import only_right

THINKING_TAGS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<start_working_out>": "<end_working_out>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|channel|>analysis<|message|>": "<|channel|>final<|message|>",
}
"""The one list; a spec adds to it with ``reward.thinking_tags``."""
ANSWER_TAGS = {
    "<answer>": "</answer>",
    "<SOLUTION>": "</SOLUTION>",
    "<|begin_of_solution|>": "<|end_of_solution|>",
}
CLOSING_TAGS = (*THINKING_TAGS.values(), "assistantfinal")
"""The last is what is left of gpt-oss' channels where special tokens are not decoded."""


def _any_of(*tags: str) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, tags)), re.IGNORECASE)


END_TOKENS = (
    "<|return|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>",
    "<|observation|>", "</s>", "<eos>", "<end_of_turn>",
)  # fmt: skip
"""What a tokenizer may leave at the end of a text."""
OPENING = _any_of(*THINKING_TAGS)
CLOSING = _any_of(*CLOSING_TAGS)
TAG = _any_of(*THINKING_TAGS, *CLOSING_TAGS, *ANSWER_TAGS, *ANSWER_TAGS.values())
MARKS = {"<" if tag[0] == "<" else tag[-6:] for tag in (*THINKING_TAGS, *CLOSING_TAGS, *ANSWER_TAGS)}
"""One of these is in every tag; most texts have none, which is found sooner than by the pattern."""
QUOTED = re.compile(
    r"""[:,{\[(=]\s*+(?:"(?:[^"\\\n]++|\\.)*+"|'(?:[^'\\\n]++|\\.)*+')(?=\s*+(?:[]:,})]|$))""", re.MULTILINE
)
"""A string in JSON or a program: a tag in it is text."""
BOXED = re.compile(r"\\boxed\{[^}]|####\s*+\S")


def hide_quoted(text: str) -> str:
    """The text with spaces in the place of quoted strings, so that a tag is found only where it is one."""
    return QUOTED.sub(lambda found: " " * len(found[0]), text)


def use_known_tags(completion: str, thinking_tags: Mapping[str, str]) -> str:
    """The completion with ``<think>`` and ``</think>`` for ``thinking_tags`` (opening to closing)."""
    for opening, closing in thinking_tags.items():
        completion = completion.replace(opening, "<think>").replace(closing, "</think>")
    return completion


def _find_thinking(completion: str) -> tuple[int, int, int] | None:
    """Where the thinking begins and ends, and where the answer begins; None when thinking is left open.

    The opening tag may be in the prompt, so whatever comes before the last closing tag is thinking.
    """
    if not any(mark in completion for mark in MARKS) or not TAG.search(completion):
        return 0, 0, 0
    text = hide_quoted(completion)
    begin = end = answer = 0
    for closing in CLOSING.finditer(text):
        end, answer = closing.span()
    if OPENING.search(text, answer):
        return None
    if opening := OPENING.search(text):
        begin = opening.end()
    return begin, end, answer


def after_thinking(completion: str) -> str:
    """What a completion says once its thinking is over; empty when a thinking section is left open."""
    found = _find_thinking(completion)
    text = completion[found[2] :] if found else ""
    while text.rstrip().endswith(END_TOKENS):
        text = text[: text.rindex("<")]
    return text


def read_answer(completion: str) -> str:
    """What a completion says after its thinking, without answer tags where they are around all of it."""
    text = after_thinking(completion).strip()
    for opening, closing in ANSWER_TAGS.items():
        if text.startswith(opening) and text.endswith(closing):
            return text[len(opening) : -len(closing)].strip()
    return text


def is_cut_in_thinking(completion: str) -> bool:
    """Whether thinking was begun and never closed: the reason code ``cut_in_thinking``, with more tokens as advice.

    The text does not show it where the prompt began the thinking.
    """
    return _find_thinking(completion) is None


def begin_with_tags(prefill: str, completion: str) -> str:
    """The completion after the part of a prefill that begins with its first tag, where there is one. A completion that
    opens that tag again stays as it is."""
    tag = TAG.search(prefill)
    if tag is None or completion.lstrip().startswith(tag[0]):
        return completion
    return prefill[tag.start() :] + completion


def close_thinking(prefill: str, answer: str) -> str:
    """The answer as a completion of a prefill that left thinking open: that is closed first, unless the answer does."""
    if not prefill or not is_cut_in_thinking(prefill) or CLOSING.search(answer) or OPENING.match(answer.lstrip()):
        return answer
    return f"So it is.{THINKING_TAGS[OPENING.findall(prefill)[-1]]}\n{answer}"


def has_thinking(completion: str) -> bool:
    """Whether there is a closed thinking section with something in it."""
    found = _find_thinking(completion)
    return found is not None and _has_text(completion, *found[:2])


def has_answer(completion: str) -> bool:
    """Whether an answer follows the thinking, with something in it: answer tags, boxed, or ####."""
    completion = after_thinking(completion)
    for opening, closing in ANSWER_TAGS.items():
        start = completion.find(opening)
        if start >= 0 and _has_text(completion, start + len(opening), completion.rfind(closing)):
            return True
    return BOXED.search(completion) is not None


def _has_text(completion: str, start: int, end: int) -> bool:
    return end > start and not completion[start:end].isspace()


def score(completion: str, ground_truth: str) -> Score:
    """Score the form of a completion, 1.0 or 0.0.

    Reason codes: right, cut_in_thinking, no_tags, wrong_tags, text_outside, empty_section. Components: ``thinking`` and
    ``answer`` (that section is closed and has something in it) and ``form``.
    """
    reason = "cut_in_thinking" if is_cut_in_thinking(completion) else _fault(completion)
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


def _fault(completion: str) -> str:
    """The reason code of what is wrong with the form, empty when nothing is."""
    tags = [(tag[0], *tag.span()) for tag in TAG.finditer(hide_quoted(completion))]
    if not tags:
        return "no_tags"
    if tags[0][0] in CLOSING_TAGS:  # the prompt ended with the opening tag
        tags.insert(0, ("", 0, 0))
    if len(tags) != 4:
        return "wrong_tags"
    (think, begin, start), (end_think, end, rest), (answer, before, inside), (end_answer, close, after) = tags
    if (think and THINKING_TAGS.get(think) != end_think) or ANSWER_TAGS.get(answer) != end_answer:
        return "wrong_tags"
    if not completion[start:end].strip() or not completion[inside:close].strip():
        return "empty_section"
    outside = completion[:begin] + completion[rest:before] + completion[after:]
    return "text_outside" if outside.strip() else ""


compute_reward = only_right(score)
