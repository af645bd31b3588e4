"""A learner that is simulated, for a pool, history and samplers that are real.

- A prompt is answered correctly with probability sigmoid(ability + own - difficulty): an item response model. Prompts
  of a level share an ability; ``own`` is what was learnt of this prompt alone. Completions are independent.
- A step adds to the ability of each level the mean over all groups of the step of sqrt(k/G (1 - k/G)), for k correct
  of G, times RATE: the gradient by the logit of GRPO's loss with advantages divided by the group's spread. Dead groups
  add nothing. The same times OWN_RATE goes to the prompt itself. Plain gradient steps: under Adam, which makes a small
  gradient as large as a big one, less signal costs less than here.
- Trivial prompts begin at logit N(4.5, 1), which is 0.01 wrong on the median and 0.1 in the worst of a hundred;
  frontier ones at N(-1, 1.2); hopeless ones stay at -9, whatever is learnt. In the pool ``ladder`` one ability moves
  along difficulties spread evenly from logit 5 to -12, so the frontier moves.
- The score is the mean pass rate of 2,000 fresh prompts of the frontier (ladder: of all) that were never trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.types import Completion, Group, Prompt, Sampler, Score
from pools.pool import PromptPool
from pools.table import PromptTable
from tests.support.builders import make_prompt, make_table

PROMPTS, STEPS, PER_STEP, GROUP_SIZE = 800, 240, 16, 8
OWN_RATE = 0.1
RIGHT, WRONG = (Completion("", 1, False, Score(float(ok), ok, "")) for ok in (True, False))
TRIVIAL, FRONTIER, HOPELESS = range(3)


@dataclass(frozen=True)
class Scenario:
    """``shares`` of trivial, frontier and hopeless prompts, None for the ladder."""

    name: str
    shares: tuple[float, float, float] | None
    known_by: str
    rate: float


SCENARIOS = [
    *(Scenario(f"40/20/40 by {by}", (0.4, 0.2, 0.4), by, 0.06) for by in ("label", "length", "nothing")),
    *(Scenario(f"45/10/45 by {by}", (0.45, 0.1, 0.45), by, 0.1) for by in ("label", "length", "nothing")),
    Scenario("all frontier", (0.0, 1.0, 0.0), "nothing", 0.02),
    Scenario("ladder by nothing", None, "nothing", 0.3),
    Scenario("ladder by length", None, "length", 0.3),
]


class Learner:
    def __init__(self, scenario: Scenario, rng: np.random.Generator) -> None:
        fresh = np.random.default_rng(0).normal(-1, 1.2, size=2000)
        if scenario.shares is None:
            self.level = np.full(PROMPTS, FRONTIER)
            self.logit = rng.uniform(-12, 5, size=PROMPTS)
            fresh = np.random.default_rng(0).uniform(-12, 5, size=2000)
        else:
            self.level = np.repeat(range(3), [round(share * PROMPTS) for share in scenario.shares])
            noise = rng.normal(size=PROMPTS)
            self.logit = np.choose(self.level, [4.5 + noise, -1 + 1.2 * noise, np.full(PROMPTS, -9.0)])
        self.fresh = fresh
        self.ability = np.zeros(3)
        self.own = np.zeros(PROMPTS)
        self.rate = scenario.rate

    def answer(self, places: list[int], rng: np.random.Generator) -> list[int]:
        logits = self.logit[places] + self.ability[self.level[places]] + self.own[places]
        return [int(k) for k in rng.binomial(GROUP_SIZE, 1 / (1 + np.exp(-logits)))]

    def train(self, places: list[int], correct: list[int]) -> None:
        share = np.array(correct) / GROUP_SIZE
        gradient = np.sqrt(share * (1 - share))
        for level in (TRIVIAL, FRONTIER):
            self.ability[level] += self.rate * gradient[self.level[places] == level].sum() / PER_STEP
        self.own[places] += OWN_RATE * gradient

    def score(self) -> float:
        return float(np.mean(1 / (1 + np.exp(-self.fresh - self.ability[FRONTIER]))))


def build_prompts(scenario: Scenario, learner: Learner, rng: np.random.Generator) -> PromptTable:
    told = (learner.logit - learner.logit.mean()) / learner.logit.std() if scenario.known_by == "length" else 0.0
    lengths = 50 + 10 * (0.7 * told + np.sqrt(1 - 0.7**2) * rng.normal(size=PROMPTS))
    labels = [f"level {level}" if scenario.known_by == "label" else "" for level in learner.level]
    return make_table(
        [
            make_prompt(f"{place:{max(4, round(length))}}", label=label)
            for place, (length, label) in enumerate(zip(lengths, labels, strict=True))
        ]
    )


def find_place(prompt: Prompt) -> int:
    return int(prompt.text.strip(" ="))


@dataclass(frozen=True)
class Run:
    """Per step: rollouts and mixed groups so far, and the score after it."""

    rollouts: list[int]
    mixed: list[int]
    scores: list[float]

    def arrival(self, target: float) -> int:
        return next((i for i, score in enumerate(self.scores) if score >= target), len(self.scores) - 1)

    def mixed_rate(self, step: int) -> float:
        return self.mixed[step] * GROUP_SIZE / self.rollouts[step]


def simulate(scenario: Scenario, sampler: Sampler, seed: int, *, steps: int = STEPS) -> Run:
    """A run of as many rollouts as ``steps`` steps without a top-up have."""
    rng = np.random.default_rng(seed)
    learner = Learner(scenario, rng)
    pool = PromptPool(build_prompts(scenario, learner, rng), draw_share=0.5, sampler=sampler)
    run = Run([], [], [])
    rollouts = mixed = 0
    while rollouts < steps * PER_STEP * GROUP_SIZE:
        groups = roll_out(pool, learner, seed * 10_000 + len(run.scores), rng)
        # What a top-up rolled out beyond the mixed groups that were wanted is not trained on.
        live = [group for group in groups if group.mixed][:PER_STEP]
        learner.train([find_place(g.prompt) for g in live], [sum(c.score.correct for c in g.completions) for g in live])
        pool.record(groups)
        rollouts += len(groups) * GROUP_SIZE
        mixed += len(live)
        run.rollouts.append(rollouts)
        run.mixed.append(mixed)
        run.scores.append(learner.score())
    return run


def roll_out(pool: PromptPool, learner: Learner, seed: int, rng: np.random.Generator) -> list[Group]:
    """Prompts of one step, topped up as the sampler asks, with their groups."""
    aim: dict[str, Any] = {"focus": None, "group_size": GROUP_SIZE}
    groups: list[Group] = []
    more = pool.draw(PER_STEP, seed=seed, **aim)
    while more:
        correct = learner.answer([find_place(prompt) for prompt in more], rng)
        groups += [make_group(prompt, k) for prompt, k in zip(more, correct, strict=True)]
        more = pool.top_up(groups, PER_STEP, seed=seed + len(groups), **aim)
    return groups


def make_group(prompt: Prompt, correct: int) -> Group:
    return Group(prompt, (RIGHT,) * correct + (WRONG,) * (GROUP_SIZE - correct))
