"""Generated sums of two numbers, labelled by their number of digits, each with a worked demonstration.

The working adds from the right with carry: ``876+530=`` is solved as ``6+0+0=6,7+3+0=10,8+5+1=14`` and 1406.
The demonstrator may be careless and forget a carry (``slips``). A model warm-started on such demonstrations
does as its teacher does, right on some prompts and wrong on others, so GRPO has something real to amplify.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from harness.types import Prompt


def demonstrate(a: int, b: int, *, slips: float, rng: random.Random) -> str:
    """Write working and answer for ``a + b``; each carry is forgotten with probability ``slips``."""
    width = max(len(str(a)), len(str(b)))
    columns, digits, carry = [], "", 0
    for x, y in zip(reversed(str(a).zfill(width)), reversed(str(b).zfill(width)), strict=True):
        if carry and rng.random() < slips:
            carry = 0
        total = int(x) + int(y) + carry
        columns.append(f"{x}+{y}+{carry}={total}")
        carry = total // 10
        digits = str(total % 10) + digits
    answer = (str(carry) if carry else "") + digits
    return f"<start_working_out>{','.join(columns)}<end_working_out><SOLUTION>{answer}</SOLUTION>"


def generate(size: int = 6000, digits: int = 3, slips: float = 0.0) -> Iterator[Prompt]:
    """Generate ``size`` distinct sums of 1 to ``digits`` digits, in equal parts as far as there are that many.

    The content does not depend on a run's seed: splits stay the same from run to run.
    Raises ValueError when there are not so many sums.
    """
    if not 1 <= digits <= 9 or size < 1 or not 0 <= slips <= 1:
        raise ValueError("digits is 1 to 9, size at least 1, slips 0 to 1")
    rng = random.Random(f"arithmetic-{digits}")
    left = size
    for length in range(1, digits + 1):
        low, high = (1 if length == 1 else 10 ** (length - 1)), 10**length - 1
        available = (high - low + 1) ** 2
        # Short sums run out (81 of one digit); the longer ones make up for them.
        want = left if length == digits else min(available, left // (digits - length + 1))
        if want > available:
            raise ValueError(f"there are not {size} distinct sums of up to {digits} digits")
        pairs: dict[tuple[int, int], None] = {}
        while len(pairs) < want:
            pairs[rng.randint(low, high), rng.randint(low, high)] = None
        for a, b in pairs:
            yield Prompt(
                id="",
                text=f"{a}+{b}=",
                ground_truth=str(a + b),
                label=f"{length} digit" + ("s" if length > 1 else ""),
                demonstration=demonstrate(a, b, slips=slips, rng=rng),
            )
        left -= want
