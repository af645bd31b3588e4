"""Accuracy of any model on any prompts, with generation settings that no knob changes."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config.schema import EvaluateSpec
from harness.core.formatting import clean_cell
from harness.core.statistics import summarise
from harness.core.step_metrics import reason_of
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


def write_csv(path: Path, examples: Sequence[Example], thinking_tags: Mapping[str, str]) -> None:
    """Write one row per example, with a column for each reward function where several judge; ``thinking_tags`` as in
    compute_proportions.

    A text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    components = sorted({name for example in examples for name in example.completion.score.components})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["id", "label", "prompt", "ground_truth", "completion", "reward", "correct", "reason", "truncated",
             "tokens", "thinking", "answer", "error", *components]
        )  # fmt: skip
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
