"""Hold the rollout of a step: completions in rows, those of a prompt together, with their scores, and cut the rows into
micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

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
        rows = zip(self.texts, map(len, made.ids), made.truncated, self.scores, strict=True)
        completions = iter([Completion(*row) for row in rows])
        return tuple(Group(prompt, tuple(islice(completions, self.group_size))) for prompt in self.prompts)

    def join(self, other: Rollout) -> Rollout:
        """Return this rollout with another one of the same group size behind it."""
        return replace(
            self,
            prompts=[*self.prompts, *other.prompts],
            generated=join_generated([self.generated, other.generated]),
            texts=[*self.texts, *other.texts],
            scores=[*self.scores, *other.scores],
        )

    def take(self, places: Sequence[int]) -> Rollout:
        """Take only the groups at these places."""
        rows = [place * self.group_size + i for place in places for i in range(self.group_size)]
        made = self.generated
        return replace(
            self,
            prompts=[self.prompts[place] for place in places],
            generated=Generated(
                [made.ids[row] for row in rows],
                [made.truncated[row] for row in rows],
                made.log_probs[rows, : max(len(made.ids[row]) for row in rows)],
                made.entropy[rows],
            ),
            texts=[self.texts[row] for row in rows],
            scores=[self.scores[row] for row in rows],
        )


def join_generated(parts: Sequence[Generated]) -> Generated:
    """Join completions that were sampled in several parts."""
    longest = max(part.log_probs.size(1) for part in parts)
    padded = [torch.nn.functional.pad(part.log_probs, (0, longest - part.log_probs.size(1))) for part in parts]
    return Generated(
        [row for part in parts for row in part.ids],
        [cut for part in parts for cut in part.truncated],
        torch.cat(padded),
        torch.cat([part.entropy for part in parts]),
    )


def pack_rows(rows: Sequence[int], lengths: Sequence[int], group_size: int, micro_batch: int) -> Iterator[list[int]]:
    """Cut ``rows`` into micro-batches of at most ``micro_batch``, those of a group together where they fit.

    Groups of similar length meet, so that little is padded; the longest come first, so that memory runs out at once
    or not at all.
    """
    groups: dict[int, list[int]] = {}
    for row in rows:
        groups.setdefault(row // group_size, []).append(row)
    filled: list[int] = []
    for group in sorted(groups.values(), key=lambda group: -max(lengths[row] for row in group)):
        if filled and len(filled) + len(group) > micro_batch:
            yield filled
            filled = []
        filled = filled + group
        while len(filled) > micro_batch:
            yield filled[:micro_batch]
            filled = filled[micro_batch:]
    if filled:
        yield filled
