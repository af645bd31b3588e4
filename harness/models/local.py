"""A model in memory as one who answers (harness.types.answers)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

from harness.models.generate import stream_texts
from harness.models.load import LoadedModel
from harness.types import Progress, Prompt, no_progress
from harness.types.answers import Question, Reply


@dataclass
class LocalModel:
    """``harness.types.answers.Answerer`` over a loaded model, at most ``batch_size`` questions at a time.

    Those with the same settings are sampled together, in their order, with the random numbers of ``seed``: all of one
    evaluation is one call, as a run's own evaluations are.
    """

    name: str
    loaded: LoadedModel
    _: KW_ONLY
    batch_size: int
    seed: int
    top_p: float = 1.0
    progress: Progress = no_progress
    phase: str = "answering"

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """As in Answerer."""
        alike: dict[tuple[int, float, tuple[str, ...]], list[int]] = {}
        for place, asked in enumerate(questions):
            alike.setdefault((asked.max_tokens, asked.temperature, asked.stop), []).append(place)
        before = 0

        def report(phase: str, done: int, total: int) -> None:
            self.progress(phase, before + done, len(questions))

        for (max_tokens, temperature, stop), places in alike.items():
            texts = stream_texts(
                self.loaded,
                [_tell_tool(questions[place]) for place in places],
                max_tokens=max_tokens,
                temperature=temperature,
                top_p=self.top_p,
                stop=stop,
                batch_size=self.batch_size,
                seed=self.seed,
                progress=report,
                phase=self.phase,
            )
            for place, text in zip(places, texts, strict=True):
                yield (
                    place,
                    Reply(
                        text.text,
                        tokens_in=len(self.loaded.prompt_ids(questions[place].prompt)),
                        tokens_out=len(text.ids),
                        truncated=text.truncated,
                        ids=tuple(text.ids),
                    ),
                )
            before += len(places)


def _tell_tool(question: Question) -> Prompt:
    """Ask in words for what a tool is to be called with: no model in memory is made to call one."""
    prompt, tool = question.prompt, question.tool
    if tool is None:
        return prompt
    wanted = f"\n\nAnswer with one JSON object of this schema and nothing else: {json.dumps(_schema(tool))}"
    if not prompt.messages:
        return replace(prompt, text=prompt.text + wanted)
    turns = [dict(turn) for turn in prompt.messages]
    last = max(i for i, turn in enumerate(turns) if turn["role"] == "user")
    turns[last]["content"] += wanted
    return replace(prompt, text=prompt.text + wanted, messages=tuple(turns))


def _schema(tool: Mapping[str, Any]) -> Any:
    return tool["input_schema"]
