"""Hold the rollout of a step: completions in rows, those of a prompt together, with their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from harness.models.generate import Generated
from harness.types import Completion, Group, Prompt, Score


@dataclass(frozen=True)
class Rollout:
    """``group_size`` rows for each of ``prompts``; row r belongs to prompt r // group_size."""

    prompts: Sequence[Prompt]
    group_size: int
    generated: Generated
    texts: Sequence[str]
    scores: Sequence[Score]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def groups(self) -> tuple[Group, ...]:
        made = self.generated
        completions = [
            Completion(text, len(ids), truncated, score)
            for text, ids, truncated, score in zip(self.texts, made.ids, made.truncated, self.scores, strict=True)
        ]
        size = self.group_size
        return tuple(
            Group(prompt, tuple(completions[i * size : (i + 1) * size])) for i, prompt in enumerate(self.prompts)
        )

    def take(self, places: Sequence[int]) -> Rollout:
        """Take only the groups at these places."""
        rows = [place * self.group_size + i for place in places for i in range(self.group_size)]
        made = self.generated
        return Rollout(
            [self.prompts[place] for place in places],
            self.group_size,
            Generated(
                [made.ids[row] for row in rows],
                [made.truncated[row] for row in rows],
                made.log_probs[rows, : max(len(made.ids[row]) for row in rows)],
                made.entropy[rows],
            ),
            [self.texts[row] for row in rows],
            [self.scores[row] for row in rows],
        )


def join_rollouts(parts: Sequence[Rollout]) -> Rollout:
    """Rollouts of one group size, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return Rollout(
        [prompt for part in parts for prompt in part.prompts],
        parts[0].group_size,
        join_generated([part.generated for part in parts]),
        [text for part in parts for text in part.texts],
        [score for part in parts for score in part.scores],
    )


def join_generated(parts: Sequence[Generated]) -> Generated:
    """Completions that were sampled in several parts, as one."""
    if len(parts) == 1:
        return parts[0]
    longest = max(part.log_probs.size(1) for part in parts)
    padded = [torch.nn.functional.pad(part.log_probs, (0, longest - part.log_probs.size(1))) for part in parts]
    return Generated(
        [row for part in parts for row in part.ids],
        [cut for part in parts for cut in part.truncated],
        torch.cat(padded),
        torch.cat([part.entropy for part in parts]),
    )
