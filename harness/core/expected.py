"""What a decision says it expects, as everyone reads it: ``group/mixed_rate rises, dev falls``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

Direction = Literal["rises", "falls"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
_EXPECTED = re.compile(rf"\b(dev|[a-z]+/[a-z_]+) ({'|'.join(DIRECTIONS)})\b")


@dataclass(frozen=True, slots=True)
class Expectation:
    """A metric (or dev, compared prompt by prompt) and where it should go."""

    metric: str
    direction: Direction


def parse_expected(text: str) -> tuple[Expectation, ...]:
    """Read what a decision's own words expect, in their order; empty where they name no metric and direction."""
    return tuple(Expectation(metric, direction) for metric, direction in _EXPECTED.findall(text))
