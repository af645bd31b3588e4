"""Make reference answers: completions that must score 1.0, from what a pool says of each row.

A row passes with its ground truth, written in the form that the reward takes, or with its demonstration. The form is
found by trying: the reward's own ``write_reference`` and the usual ones are put to the first rows.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.types import Prompt, Score
from rewards.contract import read_outside
from rewards.format import close_thinking

Judge = Callable[[Sequence[Prompt], Sequence[str]], list[Score]]
Writer = Callable[[str], str | None]
"""From a ground truth to a completion; None where it cannot say."""

FORMS = (
    "{}",
    r"\boxed{{}}",
    "#### {}",
    "<SOLUTION>{}</SOLUTION>",
    "<answer>{}</answer>",
    "<think>So it is.</think><answer>{}</answer>",
    "<think>So it is.</think>{}",
    "<start_working_out>So it is.<end_working_out><SOLUTION>{}</SOLUTION>",
    "<reasoning>\nSo it is.\n</reasoning>\n<answer>\n{}\n</answer>\n",
    "<reasoning>So it is.</reasoning><answer>{}</answer>",
    "<think>\nSo it is.\n</think>\n<answer>\n{}\n</answer>",
    "<think>\nSo it is.\n</think>\n\n\\boxed{{}}",
    "The answer is {}",
    "Answer: {}",
    "```json\n{}\n```",
)
"""The shapes that rewards commonly look for."""
TRIED = 8
"""Rows to which a form is put that is right on one of the first FIRST."""
FIRST = 4
BATCH = 64
MOST_TAGS = 4
TAG = re.compile(r"</?([A-Za-z][A-Za-z0-9_-]*)>")
LAST = {"answer", "solution", "final_answer", "final", "output", "result", "response"}
"""Tags around an answer rather than what comes before it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A row's best reference answer and its score. ``write`` is how it was made, None for a demonstration."""

    prompt: Prompt
    text: str
    score: Score
    write: Writer | None

    @property
    def passed(self) -> bool:
        return self.score.correct and not self.score.errored


def as_continued(judge: Judge) -> Judge:
    """Judge each text as what may follow the prompt's prefill: thinking that it left open is closed first."""

    def ask(prompts: Sequence[Prompt], texts: Sequence[str]) -> list[Score]:
        return judge(prompts, [close_thinking(p.prefill, text) for p, text in zip(prompts, texts, strict=True)])

    return ask


def find_forms(source: str) -> tuple[str, ...]:
    """Find the forms that the tags in a reward's source text ask for: a section for each, the answer in the last."""
    found = list(dict.fromkeys(TAG.findall(source)))
    tags = [tag for tag in found if f"<{tag}>" in source and f"</{tag}>" in source.replace("\\/", "/")]
    tags.sort(key=lambda tag: tag.lower() in LAST)
    if not 0 < len(tags) <= MOST_TAGS:
        return ()
    texts = [*["So it is."] * (len(tags) - 1), "{}"]
    lines = "\n".join(f"<{tag}>\n{text}\n</{tag}>" for tag, text in zip(tags, texts, strict=True))
    line = "".join(f"<{tag}>{text}</{tag}>" for tag, text in zip(tags, texts, strict=True))
    return line, lines, f"{lines}\n"


@dataclass(frozen=True)
class Shapes:
    """How right answers may be written: the reward's ``own`` way, then every form around the ``answer`` of a ground
    truth, or around all of it where that is more."""

    own: Writer | None = None
    forms: Sequence[str] = FORMS
    answer: Callable[[str], str] = str

    def writers(self, rows: Sequence[Prompt]) -> list[Writer]:
        """Return those that write different texts for the ground truths of ``rows``."""
        bare = [fill(form, self.answer) for form in self.forms]
        more = any(self.answer(prompt.ground_truth) != prompt.ground_truth for prompt in rows)
        return [*([self.own] if self.own else []), *bare, *([fill(form) for form in self.forms] if more else [])]


USUAL_SHAPES = Shapes()


def find_writer(
    rows: Sequence[Prompt], judge: Judge, own: Writer | None, shapes: Shapes = USUAL_SHAPES
) -> Writer | None:
    """Find how this reward's right answers are written; None when the ground truth is right in no form."""
    tried = rows[:TRIED]
    best, most = None, 0
    for write in replace(shapes, own=own).writers(tried):
        scores: list[Score] = []
        for part in (tried[:FIRST], tried[FIRST:]):
            written = [(prompt, text) for prompt in part if (text := write(prompt.ground_truth)) is not None]
            scores += judge([prompt for prompt, _ in written], [text for _, text in written]) if written else []
            if not any(score.correct for score in scores):
                break
        if scores and all(score.errored and read_outside(score.error) is None for score in scores):
            return None
        right = sum(score.correct for score in scores)
        if right > most:
            best, most = write, right
        if most == len(tried):
            break
    return best


def find_graded(rows: Sequence[Prompt], judge: Judge, shapes: Shapes) -> list[Reference]:
    """Find answers that a reward grades: in some form, or as demonstrations, a row's own answer earns more than those
    of other rows, though nothing has full marks. Empty where there are none."""
    tried = rows[:TRIED]
    graded: list[Reference] = []
    most = 0.0
    for write in (*shapes.writers(tried), None):
        written = [prompt.demonstration if write is None else write(prompt.ground_truth) for prompt in tried]
        texts = [text for text in written if text is not None]
        if len(texts) < len(tried):
            continue
        scores, others = judge(tried, texts), judge(tried, texts[1:] + texts[:1])
        if any(score.correct or score.errored for score in [*scores, *others]):
            return []
        more = sum((a.reward or 0.0) - (b.reward or 0.0) for a, b in zip(scores, others, strict=True))
        if more > most:
            most = more
            graded = [Reference(*made, write) for made in zip(tried, texts, scores, strict=True)]
    return graded


def fill(form: str, answer: Callable[[str], str] = str) -> Writer:
    return lambda truth: form.replace("{}", answer(truth), 1)


def judge_references(
    rows: Sequence[Prompt], judge: Judge, write: Writer | None, *, seconds: float | None = None
) -> Iterator[Reference]:
    """Judge the reference of each row that has one, in order; no further ones once ``seconds`` are over."""
    started = time.monotonic()
    for start in range(0, len(rows), BATCH):
        if seconds is not None and start and time.monotonic() - started > seconds:
            return
        part = rows[start : start + BATCH]
        yield from _judge_part([part[i] for i in range(len(part))], judge, write)


def _judge_part(rows: Sequence[Prompt], judge: Judge, write: Writer | None) -> Iterator[Reference]:
    found: dict[int, Reference] = {}
    for writer in (write, None):
        asked = []
        for i, prompt in enumerate(rows):
            text = prompt.demonstration if writer is None else writer(prompt.ground_truth)
            if text is not None and not (i in found and found[i].passed):
                asked.append((i, text))
        scores = judge([rows[i] for i, _ in asked], [text for _, text in asked]) if asked else []
        for (i, text), score in zip(asked, scores, strict=True):
            made = Reference(rows[i], text, score, writer)
            if i not in found or made.passed:
                found[i] = made
    yield from (found[i] for i in sorted(found))
