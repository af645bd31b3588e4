"""Tasks of the gym whose answers are programs and calls of functions: rewards that give credit for parts, under which
nothing is fully right for a while."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import partial

from harness.types import Prompt
from tests.benchmarks.gym_tasks import Kind, Start, Task, fill

POOL, SHOWN = 1500, 3000
LEFT_OUT = 0.9
"""Share of lines that the programmer forgets."""
BY_HABIT = 0.75
"""Share of arguments that the caller fills with what he always takes."""


def draw_programs(name: str, size: int) -> Iterator[Prompt]:
    """Draw functions that keep a number within bounds: a line for each bound, and cases below, within and above."""
    rng = random.Random(name)

    def draw() -> tuple[Kind, Prompt]:
        low = rng.randint(10, 79)
        high = low + rng.randint(10, 69)
        below, above = rng.randint(2, 4), rng.randint(2, 4)
        within = rng.sample(range(low + 1, high), 5)
        numbers = [*range(low - below, low), *within, *range(high + 1, high + 1 + above)]
        cases = [{"args": [x], "expected": min(max(x, low), high)} for x in numbers]
        lines = [line for line in (f" x=max(x,{low})\n", f" x=min(x,{high})\n") if rng.random() >= LEFT_OUT]
        program = f"```python\ndef f(x):\n{''.join(lines)} return x\n```"
        return "", Prompt(
            "", f"{low} to {high}:", json.dumps({"entry_point": "f", "cases": cases}), demonstration=program
        )

    return fill({"": size}, draw)


HABITS = {"id": 1, "color": "red", "level": 50}


def draw_calls(name: str, size: int) -> Iterator[Prompt]:
    """Draw commands to a device, each a call with three arguments."""
    rng = random.Random(name)

    def draw() -> tuple[Kind, Prompt]:
        device = rng.choice(("lamp", "door", "sign"))
        asked = {
            "id": rng.randint(1, 9),
            "color": rng.choice(("red", "blue", "green", "white")),
            "level": rng.randint(10, 99),
        }
        given = {key: HABITS[key] if rng.random() < BY_HABIT else value for key, value in asked.items()}
        text = f"{device} {asked['id']} {asked['color']} {asked['level']}:"
        truth = json.dumps({"calls": [{"name": device, "arguments": asked}]})
        call = json.dumps({"name": device, "arguments": given}, separators=(",", ":"))
        return "", Prompt("", text, truth, demonstration=call)

    return fill({"": size}, draw)


CODE = Task(
    "code",
    partial(draw_programs, "programs", POOL),
    Start("code", partial(draw_programs, "shown programs", SHOWN)),
    {"reward": {"function": "rewards.code"}, "knobs": {"max_tokens": 64}, "evaluate": {"max_tokens": 64}},
)
CALL = Task(
    "call",
    partial(draw_calls, "calls", POOL),
    Start("call", partial(draw_calls, "shown calls", SHOWN)),
    {"reward": {"function": "rewards.function_call"}, "knobs": {"max_tokens": 72}, "evaluate": {"max_tokens": 72}},
)
