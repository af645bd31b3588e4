"""What is said of completions besides their scores."""

from __future__ import annotations

import csv
from pathlib import Path

from harness.models.evaluate import compute_proportions, write_csv
from harness.types import Completion, Example, Prompt, Score


def example(text: str) -> Example:
    return Example(Prompt("p", "?", "42"), Completion(text, len(text), False, Score(0.0, False, "wrong")))


EXAMPLES = [example(text) for text in ("<ponder>x</ponder>42", "<think>x</think><answer>42</answer>", "42", "")]
TAGS = {"<ponder>": "</ponder>"}


def test_thinking_in_the_tags_of_a_spec_counts_as_thinking(tmp_path: Path) -> None:
    assert compute_proportions(EXAMPLES, {}) == {"thinking_proportion": 0.25, "answer_proportion": 0.25}
    assert compute_proportions(EXAMPLES, TAGS) == {"thinking_proportion": 0.5, "answer_proportion": 0.25}
    write_csv(tmp_path / "found.csv", EXAMPLES, TAGS)
    with (tmp_path / "found.csv").open(encoding="utf-8") as file:
        assert [row["thinking"] for row in csv.DictReader(file)] == ["1", "1", "0", "0"]
