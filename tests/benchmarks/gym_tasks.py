"""What the runs of the gyms train on: the prompts of a pool, and a start, which is the embedded model after a warm
start on the answers of a demonstrator that errs. A model does as its teacher does, right on some prompts and wrong on
others, so GRPO has something to amplify.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.checks.inputs import choose_demonstrations
from harness.config.schema import LoraSpec, ModelSpec, RunSpec, WarmstartSpec
from harness.core.seeds import derive_seed
from harness.models.load import load_model, save_weights
from harness.training.sft import warm_start
from harness.types import Prompt, no_progress
from pools.arithmetic import generate
from tests.benchmarks import hard_rewards
from tests.benchmarks.frontier import carries
from tests.support.builders import make_table

CONTEXT = 128
"""Tokens of the embedded model, which are characters and tags."""


@dataclass(frozen=True)
class Start:
    """The model that a run begins with, warm-started on what is ``shown``, whatever the seed of the run."""

    name: str
    shown: Callable[[], Iterator[Prompt]]
    steps: int = 400

    def make(self, folder: Path, seed: int) -> Path:
        """Train and save it, as a folder that a user would name in a spec."""
        kept = folder / f"start-{self.name}-{seed}"
        if not kept.exists():
            spec = WarmstartSpec(examples=2000, steps=self.steps, batch=32, learning_rate=3e-3)
            loaded = load_model(ModelSpec(chat=False), LoraSpec(), seed=derive_seed(seed, "model"))
            shown = choose_demonstrations(RunSpec(seed=seed, warmstart=spec), make_table(list(self.shown())))
            warm_start(loaded, shown, spec, seed=seed, progress=no_progress)
            half = folder / f"{kept.name}.{os.getpid()}"  # another process may make the same one
            save_weights(loaded.model, half)
            loaded.tokenizer.save_pretrained(half)
            if kept.exists():
                shutil.rmtree(half)
            else:
                half.rename(kept)
        return kept


@dataclass(frozen=True)
class Task:
    """The prompts of a pool, which do not depend on the seed of a run, the start, and what the spec says of them."""

    name: str
    prompts: Callable[[], Iterator[Prompt]]
    start: Start
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def make_pool(self, folder: Path) -> Path:
        """Write the pool as a file."""
        kept = folder / f"pool-{self.name}.jsonl"
        if not kept.exists():
            half = folder / f"{kept.name}.{os.getpid()}"  # as above
            rows = ({"prompt": p.text, "ground_truth": p.ground_truth} for p in self.prompts())
            half.write_text("".join(json.dumps(row) + "\n" for row in rows))
            half.rename(kept)
        return kept


def _reward(name: str) -> Mapping[str, Mapping[str, Any]]:
    return {"reward": {"function": f"{hard_rewards.__file__}:{name}"}}


Kind = int | str


def fill(counts: Mapping[Kind, int], draw: Callable[[], tuple[Kind, Prompt]]) -> Iterator[Prompt]:
    """Draw until there are so many prompts of each kind, all of different text. Raises ValueError when there are not
    so many."""
    missing, texts = dict(counts), set[str]()
    for _ in range(1000 * sum(counts.values())):
        kind, prompt = draw()
        if missing.get(kind) and prompt.text not in texts:
            missing[kind] -= 1
            texts.add(prompt.text)
            yield prompt
        if not any(missing.values()):
            return
    raise ValueError(f"no more prompts of {missing}")


# ---------------------------------------------------------------- sums

SUMS_BY_KIND: Mapping[Kind, int] = {"easy": 600, "frontier": 1800, "hard": 600}
"""Prompts of the pool: sums of two digits without a carry, sums of up to three with one, and sums of four digits, of
which the demonstrator showed none."""


def draw_sums() -> Iterator[Prompt]:
    rng = random.Random("fault gym")

    def draw() -> tuple[Kind, Prompt]:
        digits = rng.choice((2, 3, 4))
        a, b = (rng.randint(10 ** (digits - 1), 10**digits - 1) for _ in "ab")
        prompt = Prompt("", f"{a}+{b}=", str(a + b))
        kind = "hard" if digits == 4 else "frontier" if carries(prompt) else "easy" if digits == 2 else "other"
        return kind, prompt

    return fill(SUMS_BY_KIND, draw)


def _sums(slips: float) -> Start:
    return Start(f"sums-{slips:g}", partial(generate, size=4000, digits=3, slips=slips))


SUMS, CAREFUL_SUMS = Task("sums", draw_sums, _sums(0.6)), Task("sums", draw_sums, _sums(0.3))
"""Share of carries that the demonstrator forgets: a model of 0.6 answers without carries when it is greedy, one of 0.3
with them, and has something to lose."""

# ---------------------------------------------------------------- subtraction


def subtract(a: int, b: int, *, slips: float, rng: random.Random) -> str:
    """Write working and answer of ``a - b``, from the right; each borrow is forgotten with probability ``slips``."""
    columns, digits, borrow = [], "", 0
    for x, y in zip(reversed(str(a)), reversed(str(b).zfill(len(str(a)))), strict=True):
        if borrow and rng.random() < slips:
            borrow = 0
        left = int(x) - int(y) - borrow
        columns.append(f"{x}-{y}-{borrow}={left % 10}")
        borrow = int(left < 0)
        digits = str(left % 10) + digits
    return f"<start_working_out>{','.join(columns)}<end_working_out><SOLUTION>{digits}</SOLUTION>"


def count_borrows(a: int, b: int) -> int:
    return sum(a % 10**place < b % 10**place for place in range(1, len(str(a))))


def draw_differences(counts: Mapping[Kind, int], *, wrong: float = 0.0) -> Iterator[Prompt]:
    """Draw differences of three digits, so many for each number of borrows; a share of ground truths is ``wrong``."""
    rng = random.Random("differences")

    def draw() -> tuple[Kind, Prompt]:
        b, a = sorted(rng.randint(100, 999) for _ in "ab")
        answer = a - b if rng.random() >= wrong else (a - b + rng.randint(1, 99)) % 1000
        return count_borrows(a, b), Prompt("", f"{a}-{b}=", f"{answer:03}")

    return fill(counts, draw)


def show_differences(slips: float, tail: str = "", chatter: int = 0) -> Iterator[Prompt]:
    """Show differences of two and three digits, as many of each; ``tail`` stands after the answer, and so many letters
    of ``chatter``, drawn at random, before the working."""
    rng = random.Random("shown differences")

    def draw() -> tuple[Kind, Prompt]:
        digits = rng.choice((2, 3))
        b, a = sorted(rng.randint(10 ** (digits - 1), 10**digits - 1) for _ in "ab")
        shown = subtract(a, b, slips=slips, rng=rng) + tail
        letters = "".join(rng.choices("abcd", k=chatter))
        shown = shown.replace("<start_working_out>", f"<start_working_out>{letters}")
        return digits, Prompt("", f"{a}-{b}=", "", demonstration=shown)

    return fill({2: 2000, 3: 2000}, draw)


def _differences(slips: float) -> Start:
    return Start(f"differences-{slips:g}", partial(show_differences, slips), steps=700)


ANY = partial(draw_differences, {0: 900, 1: 1500, 2: 600})
FEW = _differences(0.6)

SUBTRACT = Task("subtract", ANY, FEW)
SUBTRACT_HARD = Task("subtract-hard", partial(draw_differences, {0: 120, 1: 450, 2: 2430}), _differences(0.8))
MASTERED = Task("subtract-mastered", partial(draw_differences, {0: 1500}, wrong=0.06), _differences(0.0))
"""All that can be learned is known: what is wrong is the ground truth of 6% of the prompts."""
COLLAPSED = Task("subtract-collapsed", ANY, _differences(1.0))
"""Every borrow is forgotten, so nothing is left to chance: all texts of a prompt are alike."""
CHATTER = Start("chatter", partial(show_differences, 1.0, chatter=1), steps=900)
HALVES = Task("subtract-halves", partial(draw_differences, {0: 1500, 1: 900, 2: 600}), CHATTER)
"""The same but for letters that say nothing: texts differ, yet what needs no borrow is always right, the rest wrong."""
LETTERS = Start("letters", partial(show_differences, 1.0, chatter=6), steps=900)
PROXY = Task("subtract-proxy", partial(draw_differences, {0: 300, 1: 1500, 2: 1200}), LETTERS, _reward("pays_letters"))
"""The same with more letters, which earn: one prompt in ten is always right, and only letters tell others apart."""
WRONG_DATA = Task("subtract-wrong-data", partial(ANY, wrong=0.2), FEW)
ENDLESS = Task("subtract", ANY, Start("endless", partial(show_differences, 0.6, "." * CONTEXT), steps=200))
"""No demonstration ends within the context, so the model never learns to."""

# ---------------------------------------------------------------- sorting


def sort_digits(text: str, *, slips: float, rng: random.Random) -> str:
    """Write the digits in order; of two that follow each other in counting the larger comes first with probability
    ``slips``."""
    left, written = sorted(text), ""
    while left:
        confused = len(left) > 1 and int(left[1]) == int(left[0]) + 1 and rng.random() < slips
        written += left.pop(int(confused))
    return f"<SOLUTION>{written}</SOLUTION>"


def draw_digits(name: str, size: int, lengths: tuple[int, ...], *, slips: float = 0.0) -> Iterator[Prompt]:
    rng = random.Random(name)

    def draw() -> tuple[Kind, Prompt]:
        text = "".join(rng.sample("0123456789", rng.choice(lengths)))
        shown = sort_digits(text, slips=slips, rng=rng)
        return "", Prompt("", f"{text}=", "".join(sorted(text)), demonstration=shown)

    return fill({"": size}, draw)


def _sorting(name: str, slips: float, lengths: tuple[int, ...]) -> Task:
    start = Start(name, partial(draw_digits, "shown digits", 4000, lengths, slips=slips))
    return Task(name, partial(draw_digits, "digits", 3000, lengths), start, _reward("pays_places"))


SORT = _sorting("sort", 0.6, (4, 5))
SORT_HARD = _sorting("sort-hard", 0.65, (6, 7))
SORT_PARTS = replace(SORT, changes=_reward("pays_parts"))


def show_longer(most: int) -> Iterator[Prompt]:
    """Show sorted digits with up to so many more of the last one, so that lengths differ."""
    rng = random.Random("shown longer")
    for prompt in draw_digits("shown digits", 4000, (4, 5)):
        more = prompt.ground_truth[-1] * rng.randint(0, most)
        yield replace(prompt, demonstration=f"<SOLUTION>{prompt.ground_truth}{more}</SOLUTION>")


_LONG = {"max_tokens": 100}
LONGER = Task(
    "sort-longer",
    SORT.prompts,
    Start("sort-longer", partial(show_longer, 4)),
    {
        "reward": {"function": f"{hard_rewards.__file__}:pays_longer", "range": [-2.0, 20.0]},
        "knobs": _LONG,
        "evaluate": _LONG,
    },
)
