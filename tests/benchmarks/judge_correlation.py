"""How far a small local model as judge agrees with a verifier: ``python -m tests.benchmarks.judge_correlation``.

SmolLM2-135M grades 200 answers to sums in words, every second of them wrong. ``--rubric reference`` shows it what is
right; with ``--rubric rank`` it ranks the right and the wrong answer to each. Printed are the rank correlation of its
verdicts with the rewards of rewards.math, and how many replies were of no use.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scipy.stats import spearmanr

from harness.config.names import SMOLLM2, find_recipe
from harness.config.schema import LoraSpec, ModelSpec
from harness.models.generate import generate_texts
from harness.models.load import LoadedModel, load_model
from harness.models.runtime import prepare_process
from harness.types import Prompt, Question, Reply
from rewards import math
from rewards.judge import Form, Judge, Rubric

RUBRICS = {
    "alone": """\
A pupil was asked: {prompt}
The pupil's answer: {answer}

Work the answer out yourself. Grade 10 if the pupil's number is right and 0 if it is wrong.""",
    "reference": """\
The right number is {reference}. A pupil was asked: {prompt}
The pupil's answer: {answer}

Grade 10 if the pupil's number is the right number and 0 if it is another number.""",
    "rank": """\
Two pupils were asked: {prompt}
Their answers:
{peers}

Work the answer out yourself. The better answer has the right number.""",
}
"""Grades without and with what is right; a right and a wrong answer against each other."""
BEGINNINGS: dict[str, str] = {"grade": '{"grade": ', "rank": '{"ranking": ['}
NUMBER = re.compile(r"\s*(\d+(\.\d+)?)")


@dataclass
class Local:
    """``harness.types.Answerer`` of a model in memory, in batches of ``batch``. It is made to begin its reply with the
    grade, since so small a model writes no JSON of its own accord."""

    name: str
    loaded: LoadedModel
    batch: int
    show: bool = False

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        prompts = []
        assert questions[0].tool is not None
        form = questions[0].tool["name"]
        begun = {"role": "assistant", "content": BEGINNINGS[form]}
        for question in questions:
            turns = [{"role": "user", "content": question.prompt.text}, begun]
            prompts.append(replace(question.prompt, messages=tuple(turns)))

        def report(phase: str, done: int, total: int) -> None:
            print(f"{phase} {done}/{total}", flush=True)

        texts = generate_texts(
            self.loaded, prompts, max_tokens=questions[0].max_tokens, temperature=questions[0].temperature,
            batch_size=self.batch, seed=0, progress=report, phase="judging",
        )  # fmt: skip
        for place, text in enumerate(texts):
            if self.show:
                print(repr(text.text))
            number = NUMBER.match(text.text)
            ends = {"grade": "}", "rank": f", {1 if number and number[1] == '2' else 2}]}}"}
            whole = f"{BEGINNINGS[form]}{number[1]}{ends[form]}" if number else text.text
            yield place, Reply(whole, truncated=text.truncated)


def make_answers(n: int) -> tuple[list[Prompt], list[str]]:
    """Make ``n`` answers to the questions of the recipe math-gsm, every second with another number than the right one;
    where there are fewer questions they come again with other numbers."""
    recipe = find_recipe("math-gsm")
    assert recipe is not None
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in (recipe.parent / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    prompts, answers = [], []
    for i in range(n):
        row = rows[i // 2 % len(rows)]
        truth = row["answer"].rpartition("#### ")[2].strip()
        prompts.append(Prompt(str(i), row["question"], truth))
        number = int(truth) + (0 if i % 2 == 0 else 1 + i % 7)
        answers.append(f"The answer is \\boxed{{{number}}}.")
    return prompts, answers


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--max-tokens", type=int, default=6)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--rubric", choices=RUBRICS, default="alone")
    parser.add_argument("--show", action="store_true", help="print what it replied")
    options = parser.parse_args()
    prompts, answers = make_answers(options.n)
    verified = [math.compute_reward(text, prompt.ground_truth) for prompt, text in zip(prompts, answers, strict=True)]
    prepare_process(1)
    loaded = load_model(ModelSpec(name=SMOLLM2), LoraSpec(rank=0), seed=0)
    form: Form = "rank" if options.rubric == "rank" else "grade"
    rubric = Rubric("sums", RUBRICS[options.rubric], form, max_tokens=options.max_tokens)
    judge = Judge(rubric, lambda: Local(SMOLLM2, loaded, options.batch, options.show))
    groups = [i // 2 if options.rubric == "rank" else i for i in range(options.n)]
    verdicts = judge.judge(prompts, answers, groups=groups)
    usable = [(v.share, reward) for v, reward in zip(verdicts, verified, strict=True) if v.share is not None]
    print(f"{sum(verified):g} of {options.n} answers are right by rewards.math")
    print(f"{options.n - len(usable)} have no verdict: {Counter(v.error for v in verdicts if v.error).most_common(3)}")
    for reward in (1.0, 0.0):
        grades = Counter(10 * share for share, one in usable if one == reward)
        print(f"grades of those with reward {reward:g}: {dict(sorted(grades.items()))}")
    if len({share for share, _ in usable}) < 2:
        print(f"no rank correlation on {len(usable)}: every grade is the same")
        return
    found = spearmanr([share for share, _ in usable], [reward for _, reward in usable])
    print(f"Spearman's rank correlation on {len(usable)}: {found.statistic:.3f} (p {found.pvalue:.2g})")


if __name__ == "__main__":
    main()
