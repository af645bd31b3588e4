"""Accuracy of any model on any prompts, with generation settings that no knob changes."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config.schema import EvaluateSpec
from harness.core.formatting import clean_cell, restore_cell
from harness.core.statistics import summarise
from harness.core.step_metrics import reason_of
from harness.errors import InputError
from harness.types import Completion, Evaluation, Example, Metrics, Progress, Prompt, Score, Scorer
from rewards.format import has_answer, has_thinking, use_known_tags

if TYPE_CHECKING:  # who evaluates a hosted model need not load torch
    from harness.models.generate import GeneratedText
    from harness.models.load import LoadedModel


@dataclass
class ModelEvaluator:
    """``harness.types.Evaluator`` over the splits of a pool."""

    loaded: LoadedModel
    scorer: Scorer
    splits: Mapping[str, Sequence[Prompt]]
    spec: EvaluateSpec
    _: KW_ONLY
    sample_prompts: int
    stop: Sequence[str] = ()

    def evaluate(self, split: str, *, seed: int, progress: Progress) -> Evaluation:
        """Generate and score ``spec.n`` completions for each prompt of ``split``."""
        examples = self.run(self.splits[split], seed=seed, progress=progress, phase=f"evaluating {split}")
        return summarise(split, examples)

    def sample(self, *, seed: int, progress: Progress) -> list[Example]:
        """Sample completions of the same few dev prompts at every call."""
        prompts = self.splits["dev"][: self.sample_prompts]
        return self.run(prompts, seed=seed, progress=progress, phase="sampling for people", n=1)

    def run(
        self, prompts: Sequence[Prompt], *, seed: int, progress: Progress, phase: str, n: int | None = None
    ) -> list[Example]:
        """Generate and score ``n`` completions of each prompt, unset ``spec.n``: those of a prompt side by side, and
        the prompts in order."""
        from harness.models.generate import generate_texts

        rows = [prompt for prompt in prompts for _ in range(n or self.spec.n)]
        texts = generate_texts(
            self.loaded,
            rows,
            max_tokens=self.spec.max_tokens,
            temperature=self.spec.temperature,
            stop=self.stop,
            batch_size=self.spec.batch,
            seed=seed,
            progress=progress,
            phase=phase,
        )
        completions = score_texts(self.scorer, rows, texts)
        return [Example(prompt, completion) for prompt, completion in zip(rows, completions, strict=True)]


def score_texts(scorer: Scorer, prompts: Sequence[Prompt], texts: Sequence[GeneratedText]) -> list[Completion]:
    """Score the text generated for each prompt."""
    scores = judge(scorer, prompts, [text.text for text in texts], [text.ids for text in texts])
    return [
        Completion(text.text, len(text.ids), text.truncated, score) for text, score in zip(texts, scores, strict=True)
    ]


def judge(scorer: Scorer, prompts: Sequence[Prompt], texts: Sequence[str], ids: Sequence[Sequence[int]]) -> list[Score]:
    """Score completions, with their token ids where the scorer takes them."""
    more = (ids,) if getattr(scorer, "takes_ids", False) else ()
    return scorer.score(prompts, texts, *more)


def take_metrics(scorer: Scorer) -> Metrics:
    """Take what a scorer counted since this was last called, as metrics of a step; none of most."""
    take = getattr(scorer, "take_metrics", None)
    return take() if take else {}


def compute_proportions(examples: Sequence[Example], thinking_tags: Mapping[str, str]) -> dict[str, float]:
    """Compute the share of completions with a thinking section, in the known tags or ``thinking_tags`` (opening to
    closing), and with an answer section."""
    texts = [use_known_tags(example.completion.text, thinking_tags) for example in examples]
    return {
        "thinking_proportion": sum(map(has_thinking, texts)) / len(texts),
        "answer_proportion": sum(map(has_answer, texts)) / len(texts),
    }


FIELDS = (
    "id", "label", "prompt", "ground_truth", "completion", "reward", "correct", "reason", "truncated", "tokens",
    "thinking", "answer", "error",
)  # fmt: skip
"""Columns of the CSV of an evaluation, before those of reward functions."""
LONGEST = 2**28
"""Bytes of a completion in a CSV, at most."""
TAKEN = "reward:"
"""Before the column of a function, or of a part of a reward, that is named as one of them."""


def write_csv(
    path: Path, examples: Sequence[Example], thinking_tags: Mapping[str, str], functions: Sequence[str] = ()
) -> None:
    """Write one row per example, with a column for each of several reward ``functions``, also of one that judged no
    completion, or for each part of a single one; ``thinking_tags`` as in compute_proportions.

    A text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    components = sorted({*functions, *(name for example in examples for name in example.completion.score.components)})
    columns = [TAKEN + name if name in FIELDS else clean_cell(name) for name in components]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*FIELDS, *columns])
        for example in examples:
            prompt, done = example.prompt, example.completion
            text = use_known_tags(done.text, thinking_tags)
            writer.writerow(
                [*map(clean_cell, (prompt.id, prompt.label, prompt.text, prompt.ground_truth, done.text)),
                 "" if done.score.reward is None else done.score.reward, int(done.score.correct),
                 clean_cell(reason_of(done.score.reason, done.truncated)), int(done.truncated), done.tokens,
                 int(has_thinking(text)), int(has_answer(text)), clean_cell(done.score.error),
                 *(done.score.components.get(name, "") for name in components)]
            )  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """What a CSV of an evaluation holds, with the shares of answers with a thinking and an answer section."""

    examples: tuple[Example, ...]
    thinking_proportion: float
    answer_proportion: float


def read_csv(path: Path) -> Scored | None:
    """Read what ``write_csv`` wrote, None where there is no row. Raises InputError for another file."""
    csv.field_size_limit(LONGEST)  # Python's own is 128 KiB
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        examples = tuple(map(_read_row, rows))
        sections = [(int(row["thinking"]), int(row["answer"])) for row in rows if row["completion"] or not row["error"]]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"{path}: no CSV of an evaluation: {error}") from None
    if not examples:
        return None
    thinking, answer = (sum(column) / len(sections) for column in zip(*sections, strict=True)) if sections else (0, 0)
    return Scored(examples, thinking, answer)


def _read_row(row: Mapping[str, str]) -> Example:
    text = {name: restore_cell(row[name]) for name in ("id", "label", "prompt", "ground_truth", "completion")}
    components = {name: float(row[name]) for name in row if name not in FIELDS and row[name]}
    reward = float(row["reward"]) if row["reward"] else None
    score = Score(reward, row["correct"] == "1", restore_cell(row["reason"]), components, restore_cell(row["error"]))
    prompt = Prompt(text["id"], text["prompt"], text["ground_truth"], label=text["label"])
    return Example(prompt, Completion(text["completion"], int(row["tokens"]), row["truncated"] == "1", score))
