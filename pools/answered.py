"""Rows that hold answers of a model beside their prompts, read as a record of these.

    {"prompt": "2+2?", "ground_truth": "4", "completion": "It is 4."}
    {"user_prompt": "2+2?", "original_assistant_content": "\\\\boxed{4}", "regenerated_content": "\\\\boxed{4}"}

Any file that is a source of prompts will do, in any known layout (pools/layouts), with the answer in one of COLUMNS, a
text or a list of texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from harness.errors import InputError
from harness.types import Question, Reply
from pools.identity import format_id, identify
from pools.layouts import LOOKED_AT, ArrangedRows, Layout, find_layout
from pools.messages import fill_prompt
from pools.rows import make_prompt, name_columns
from pools.sources import read_rows

COLUMNS = (
    "completion", "completions", "regenerated_content", "response", "responses", "generation", "generations", "output",
)  # fmt: skip
"""The first of them that a row has is its answer."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The answers of each prompt by its id, several where it has several rows or a list."""

    answers: Mapping[str, Sequence[str]]


def find_layout_of(source: str) -> Layout | None:
    """Find the layout of the rows of a source (pools/layouts), also of those that pool convert added our columns to.
    Raises InputError."""
    first = [row.values for row in islice(read_rows(source), LOOKED_AT)]
    return find_layout([{name: value for name, value in row.items() if name != "ground_truth"} for row in first])


def read_answered(source: str, *, columns: Mapping[str, str], template: str) -> Answered:
    """Read the answers in the rows of a file; ``columns`` and ``template`` are those of the pool that asks. Raises
    InputError."""
    rows = ArrangedRows(partial(read_rows, source), columns)
    names = name_columns(columns)
    answers: dict[str, list[str]] = {}
    for row in rows:
        texts = next((row.values[name] for name in COLUMNS if row.values.get(name) is not None), None)
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            where = row.where.removeprefix("pool.source: ")
            raise InputError(f"recorded: {where} has no answer: a text, or a list of them, in {', '.join(COLUMNS)}")
        prompt = fill_prompt(make_prompt(row, names, wanted=("tools",), needs_truth=False), template)
        answers.setdefault(format_id(identify(prompt).id), []).extend(texts)
    if not answers:
        raise InputError(f"recorded: {source} holds no answers")
    return Answered(answers)


@dataclass
class RecordedRows:
    """``harness.types.Answerer`` that looks up what the rows of a file say."""

    name: str
    answered: Answered

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """As in Answerer. A prompt that no row answers, or not so often, is a Reply with an error."""
        for place, asked in enumerate(questions):
            texts = self.answered.answers.get(asked.prompt.id, ())
            if asked.sample < len(texts):
                yield place, Reply(texts[asked.sample], cached=True)
            else:
                yield place, Reply(error="not on record")
