"""Rollouts to a target: the frontier sampler against uniform draws and against stock TRL, on the embedded model.

    python -m tests.benchmarks.frontier --out FOLDER [--seeds 0 1 2 3 4] [--pools 40/20/40 ...] [--arms uniform ...]
    python -m tests.benchmarks.frontier --out FOLDER --report [--plot FILE.svg]

Every run is a file in FOLDER; what is there is not run again, so it may be stopped and started. Start with ``uniform``:
the target is taken from it alone.

Ground. The embedded model, warm-started for each seed on sums of up to three digits whose demonstrator forgets most
carries (one seed of the warm start for each seed of the benchmark). Prompts of a pool, without labels:

- trivial: sums without a carry, right in 12 of 12 completions at temperature 1, and in 12 of 12 of a second probe
  with other random numbers;
- frontier: sums of three digits with at least one carry, taken as they come;
- hopeless: sums of seven digits, whose working does not fit into the token limit.

Score: pass rate at temperature 1 on FRESH prompts of the frontier's and HOPELESS of the hopeless level that are in no
pool, one completion each, every LOOK steps, averaged with the look before and the one after. The target of a seed is
what uniform has reached on it after TARGET_AT of its steps: starts differ in what can be learnt from them. Arrival is
interpolated between looks. Rollouts count every completion that was sampled to train; no arm is given a probe. Live
groups are those whose rewards differ.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from harness.checks.inputs import choose_demonstrations
from harness.config.schema import LoraSpec, ModelSpec, RunSpec, TrainerSpec, WarmstartSpec
from harness.core.seeds import derive_seed
from harness.models.evaluate import score_texts
from harness.models.generate import generate_texts
from harness.models.load import LoadedModel, load_model, load_weights, save_weights
from harness.models.runtime import prepare_process, quiet_training
from harness.training.grpo import StepTrainer
from harness.training.sft import warm_start
from harness.types import Knobs, Prompt, Sampler, Score, no_progress
from pools.arithmetic import generate
from pools.pool import PromptPool
from pools.table import PromptTable
from rewards.solution import compute_reward
from tests.support.builders import make_table

POOLS = {"40/20/40": (0.4, 0.2, 0.4), "45/10/45": (0.45, 0.1, 0.45), "all frontier": (0.0, 1.0, 0.0)}
ARMS = ("uniform", "frontier", "dynamic", "trl")
SIZE, FRESH, HOPELESS = 1000, 500, 100
LOOK, TARGET_AT = 5, 0.7
KNOBS = Knobs(temperature=1.0, max_tokens=44, learning_rate=1e-4, group_size=8, prompts_per_step=16)
STEPS = {"40/20/40": 100, "45/10/45": 150, "all frontier": 50}
"""Steps of uniform and TRL; the others stop there at the latest."""
MICRO_BATCH = 64
WARM_START = WarmstartSpec(examples=2000, steps=600, batch=32, learning_rate=3e-3)


class Solution:
    """Right or wrong and nothing between: what a group's signal is must not hang on credit for the format."""

    range = (0.0, 1.0)

    def score(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Score]:
        rewards = [compute_reward(text, p.ground_truth) for p, text in zip(prompts, completions, strict=True)]
        return [Score(reward, reward == 1, "right" if reward else "wrong") for reward in rewards]


# ---------------------------------------------------------------- ground


def carries(prompt: Prompt) -> bool:
    a, b = prompt.text.rstrip("=").split("+")
    return any(int(x) + int(y) > 9 for x, y in zip(reversed(a), reversed(b), strict=False))


def make_sums(digits: int, size: int, seed: int) -> list[Prompt]:
    rng = random.Random(f"{digits} {seed}")
    low, high = 10 ** (digits - 1), 10**digits - 1
    pairs = {(rng.randint(low, high), rng.randint(low, high)): None for _ in range(size * 2)}
    return [Prompt("", f"{a}+{b}=", str(a + b)) for a, b in list(pairs)[:size]]


def load_start(folder: Path, seed: int) -> LoadedModel:
    """The warm-started model of a seed; made at the first call."""
    loaded = load_model(ModelSpec(chat=False), LoraSpec(), seed=derive_seed(seed, "model"))
    kept = folder / f"start-{seed}"
    if not kept.exists():
        train = make_table(list(generate(size=4000, digits=3, slips=0.6)))
        shown = choose_demonstrations(RunSpec(seed=seed, warmstart=WARM_START), train)
        warm_start(loaded, shown, WARM_START, seed=seed, progress=no_progress)
        kept.mkdir()
        save_weights(loaded.model, kept)
    load_weights(loaded.model, kept)
    return loaded


def measure(loaded: LoadedModel, prompts: Sequence[Prompt], n: int, seed: int) -> list[float]:
    """Pass rate of each prompt over ``n`` completions at temperature 1."""
    rows = [prompt for prompt in prompts for _ in range(n)]
    texts = generate_texts(
        loaded, rows, max_tokens=KNOBS.max_tokens, temperature=1.0, batch_size=256, seed=seed, progress=no_progress,
        phase="",
    )  # fmt: skip
    correct = [c.score.correct for c in score_texts(Solution(), rows, texts)]
    return [fmean(correct[i * n : (i + 1) * n]) for i in range(len(prompts))]


def build_pool(folder: Path, loaded: LoadedModel, name: str, seed: int) -> PromptTable:
    """The prompts of a pool, shuffled. The trivial ones are probed once for each seed and kept."""
    counts = [round(share * SIZE) for share in POOLS[name]]
    kept = folder / f"trivial-{seed}.json"
    if not kept.exists():
        easy = [p for digits in (1, 2, 3) for p in make_sums(digits, 5000, seed) if not carries(p)]
        for probe in (1, 2):
            rates = measure(loaded, easy, 12, derive_seed(seed, "probe", probe))
            easy = [prompt for prompt, rate in zip(easy, rates, strict=True) if rate == 1]
        kept.write_text(json.dumps([[prompt.text, prompt.ground_truth] for prompt in easy]))
    trivial = [Prompt("", text, truth) for text, truth in json.loads(kept.read_text())]
    if len(trivial) < counts[0]:
        raise SystemExit(f"only {len(trivial)} trivial prompts for seed {seed}")
    rng = random.Random(seed)
    frontier = [p for p in make_sums(3, 3 * SIZE, seed) if carries(p)]
    chosen = [*rng.sample(trivial, counts[0]), *frontier[: counts[1]], *make_sums(7, counts[2], seed)]
    rng.shuffle(chosen)
    return make_table(chosen)


def make_fresh(pool: PromptTable) -> list[Prompt]:
    """The same for every seed but for those that its pool has."""
    taken = {prompt.text for prompt in pool}
    fresh = [p for p in make_sums(3, 3 * FRESH, -1) if carries(p) and p.text not in taken][:FRESH]
    return fresh + make_sums(7, HOPELESS, -1)


# ---------------------------------------------------------------- runs


class Log:
    """Looks at a model while it is trained, and what it had cost by then. Seconds are CPU time of training alone: one
    thread does all of it, and other work on the machine must not count."""

    def __init__(self, loaded: LoadedModel, fresh: Sequence[Prompt]) -> None:
        self.loaded, self.fresh = loaded, fresh
        self.rows: list[dict[str, float]] = []
        self.rollouts = self.groups = self.live = 0
        self.seconds = 0.0

    def add(self, groups: int, live: int, seconds: float) -> None:
        self.groups += groups
        self.live += live
        self.rollouts += groups * KNOBS.group_size
        self.seconds += seconds

    def look(self, step: int) -> None:
        score = fmean(measure(self.loaded, self.fresh, 1, derive_seed(0, "look", step)))
        self.rows.append(
            {
                "step": step,
                "score": score,
                "rollouts": self.rollouts,
                "groups": self.groups,
                "live": self.live,
                "seconds": round(self.seconds, 2),
            }
        )


def run_ours(loaded: LoadedModel, table: PromptTable, sampler: Sampler, seed: int, steps: int, log: Log) -> None:
    pool = PromptPool(table, draw_share=0.5, sampler=sampler)
    aim: dict[str, Any] = {"focus": None, "group_size": KNOBS.group_size}
    with tempfile.TemporaryDirectory() as folder:
        trainer = StepTrainer(
            loaded, Solution(), TrainerSpec(micro_batch=MICRO_BATCH), errored_limit=0.1, folder=Path(folder), seed=seed
        )
        log.look(0)
        most = steps * KNOBS.prompts_per_step
        step = 0
        while log.groups < most:
            step += 1
            started = time.process_time()
            outcome = trainer.step(
                pool.draw(KNOBS.prompts_per_step, seed=derive_seed(seed, step, 0, "draw"), **aim),
                KNOBS,
                learning_rate=KNOBS.learning_rate,
                seed=derive_seed(seed, step, "step"),
                more=lambda groups, step=step: pool.top_up(
                    groups, KNOBS.prompts_per_step, seed=derive_seed(seed, step, len(groups), "draw"), **aim
                ),
            )
            pool.record(outcome.groups)
            live = sum(group.mixed for group in outcome.groups)
            log.add(len(outcome.groups), live, time.process_time() - started)
            if step % LOOK == 0:
                log.look(step)


class Look(TrainerCallback):  # type: ignore[misc]
    def __init__(self, log: Log) -> None:
        self.log = log
        self.live: list[int] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.log.add(KNOBS.prompts_per_step, self.live.pop(0), time.process_time() - self.started)
        if state.global_step % LOOK == 0:
            self.log.look(state.global_step)


def run_trl(loaded: LoadedModel, table: PromptTable, seed: int, steps: int, log: Log) -> None:
    """GRPOTrainer.train() as it comes: uniform draws without replacement, epoch after epoch."""
    look = Look(log)

    def reward(completions: list[str], ground_truth: list[str], **_: Any) -> list[float]:
        found = [compute_reward(c, t) for c, t in zip(completions, ground_truth, strict=True)]
        size = KNOBS.group_size
        look.live.append(sum(len(set(found[i : i + size])) > 1 for i in range(0, len(found), size)))
        return found

    log.look(0)
    with tempfile.TemporaryDirectory() as folder:
        stock = GRPOTrainer(
            model=loaded.model,
            reward_funcs=[reward],
            args=GRPOConfig(
                output_dir=folder,
                seed=derive_seed(seed, "trl") % 2**31,
                per_device_train_batch_size=MICRO_BATCH,
                gradient_accumulation_steps=KNOBS.prompts_per_step * KNOBS.group_size // MICRO_BATCH,
                num_generations=KNOBS.group_size,
                max_completion_length=KNOBS.max_tokens,
                max_steps=steps,
                learning_rate=KNOBS.learning_rate,
                lr_scheduler_type="constant",
                gradient_checkpointing=False,
                **quiet_training(),
            ),
            train_dataset=Dataset.from_list([{"prompt": p.text, "ground_truth": p.ground_truth} for p in table]),
            processing_class=loaded.tokenizer,
            callbacks=[look],
        )
        stock.remove_callback(PrinterCallback)
        stock.train()


def run(folder: Path, pool: str, arm: str, seed: int) -> None:
    path = folder / f"{pool.replace('/', '-').replace(' ', '-')}.{arm}.{seed}.json"
    if path.exists():
        return
    started = time.process_time()
    loaded = load_start(folder, seed)
    table = build_pool(folder, loaded, pool, seed)
    log = Log(loaded, make_fresh(table))
    if arm == "trl":
        run_trl(loaded, table, seed, STEPS[pool], log)
    else:
        run_ours(loaded, table, arm, seed, STEPS[pool], log)  # type: ignore[arg-type]
    path.write_text(json.dumps({"pool": pool, "arm": arm, "seed": seed, "rows": log.rows}))
    print(f"{path.name}: {log.rows[0]['score']:.3f} -> {log.rows[-1]['score']:.3f}, "
          f"{log.live / log.groups:.2f} live, {time.process_time() - started:.0f} s", flush=True)  # fmt: skip


# ---------------------------------------------------------------- report


@dataclass(frozen=True)
class Curve:
    """A run's looks; ``smooth`` are their scores, each averaged with its neighbours."""

    rows: list[dict[str, float]]

    @property
    def smooth(self) -> list[float]:
        scores = [row["score"] for row in self.rows]
        return [fmean(scores[max(0, i - 1) : i + 2]) for i in range(len(scores))]

    def at_arrival(self, target: float, what: str) -> tuple[float, bool]:
        """``what`` by the time of arrival, and whether it arrived; all of it where it did not."""
        smooth = self.smooth
        for i, (row, score) in enumerate(zip(self.rows, smooth, strict=True)):
            if score >= target:
                if i == 0:
                    return row[what], True
                share = (target - smooth[i - 1]) / (score - smooth[i - 1])
                before = self.rows[i - 1][what]
                return before + share * (row[what] - before), True
        return self.rows[-1][what], False


def load_curves(folder: Path, pool: str, arm: str) -> dict[int, Curve]:
    found = {}
    for path in sorted(folder.glob(f"{pool.replace('/', '-').replace(' ', '-')}.{arm}.*.json")):
        kept = json.loads(path.read_text())
        found[kept["seed"]] = Curve(kept["rows"])
    return found


def compute_targets(uniform: dict[int, Curve]) -> dict[int, float]:
    """Uniform's smoothed score of each seed at TARGET_AT of its looks."""
    return {seed: curve.smooth[round(TARGET_AT * (len(curve.rows) - 1))] for seed, curve in uniform.items()}


def report(folder: Path) -> Iterator[dict[str, Any]]:
    for pool in POOLS:
        uniform = load_curves(folder, pool, "uniform")
        if not uniform:
            continue
        targets = compute_targets(uniform)
        result: dict[str, Any] = {"pool": pool, "targets": {s: round(t, 3) for s, t in targets.items()}, "arms": {}}
        for arm in ARMS:
            curves = {s: c for s, c in load_curves(folder, pool, arm).items() if s in uniform}
            if curves:
                result["arms"][arm] = describe_arm(curves, uniform, targets)
        yield result


def describe_arm(curves: dict[int, Curve], uniform: dict[int, Curve], targets: dict[int, float]) -> dict[str, Any]:
    """Until the arrival of each seed: what it took, against uniform's, and which groups were live."""
    found: dict[str, Any] = {
        "seeds": list(curves),
        "start": [round(c.rows[0]["score"], 3) for c in curves.values()],
        "end": [round(c.smooth[-1], 3) for c in curves.values()],
    }
    for what in ("rollouts", "seconds"):
        took = {s: c.at_arrival(targets[s], what) for s, c in curves.items()}
        ratios = [uniform[s].at_arrival(targets[s], what)[0] / n for s, (n, _) in took.items()]
        found[what] = [("" if arrived else ">=") + f"{n:.0f}" for n, arrived in took.values()]
        found[f"{what}_fewer"] = [round(ratio, 2) for ratio in ratios]
        found[f"{what}_fewer_median"] = round(median(ratios), 2)
    live = [c.at_arrival(targets[s], "live")[0] / c.at_arrival(targets[s], "groups")[0] for s, c in curves.items()]
    others = [
        c.at_arrival(targets[s], "live")[0] / c.at_arrival(targets[s], "groups")[0]
        for s, c in uniform.items()
        if s in curves
    ]
    return found | {
        "live_rate": [round(rate, 3) for rate in live],
        "live_times": round(median(a / b for a, b in zip(live, others, strict=True)), 2),
        "no_signal_times": round(median((1 - a) / (1 - b) for a, b in zip(live, others, strict=True)), 2),
    }


# ---------------------------------------------------------------- picture

WIDTH, HEIGHT, LEFT, TOP = 260, 170, 44, 34
COLOURS = {"uniform": "#8a8a8a", "frontier": "#2266cc", "dynamic": "#7a3fb0", "trl": "#d2711c"}


def draw_curves(folder: Path) -> str:
    """SVG: the mean score over the seeds by rollouts, a panel for each pool, the seeds as thin lines."""
    parts = []
    panels = [pool for pool in POOLS if load_curves(folder, pool, "uniform")]
    for column, pool in enumerate(panels):
        arms = {arm: curves for arm in ARMS if (curves := load_curves(folder, pool, arm))}
        right = max(row["rollouts"] for row in next(iter(arms["uniform"].values())).rows)
        x0 = LEFT + column * (WIDTH + LEFT)

        def place(rollouts: float, score: float, x0: int = x0, right: float = right) -> str:
            return f"{x0 + WIDTH * rollouts / right:.1f},{TOP + HEIGHT * (0.9 - score) / 0.7:.1f}"

        parts.append(f'<text x="{x0}" y="{TOP - 14}" font-weight="bold">{pool}</text>')
        for tick in (0.2, 0.4, 0.6, 0.8):
            y = place(0, tick).split(",")[1]
            parts.append(f'<path d="M{x0},{y}h{WIDTH}" stroke="#8884" /><text x="{x0 - 30}" y="{y}">{tick}</text>')
        parts.append(f'<text x="{x0 + WIDTH}" y="{TOP + HEIGHT + 16}" text-anchor="end">{right:,.0f} rollouts</text>')
        for row, (arm, curves) in enumerate(arms.items()):
            style = f'fill="none" stroke="{COLOURS[arm]}"'
            for curve in curves.values():
                points = (place(r["rollouts"], s) for r, s in zip(curve.rows, curve.smooth, strict=True))
                parts.append(f'<polyline points="{" ".join(points)}" {style} stroke-width="1" opacity="0.3" />')
            looks = list(zip(*(c.smooth for c in curves.values()), strict=True))
            spent = [r["rollouts"] for r in next(iter(curves.values())).rows]
            points = (place(n, fmean(scores)) for n, scores in zip(spent, looks, strict=True))
            parts.append(f'<polyline points="{" ".join(points)}" {style} stroke-width="2.5" />')
            y = TOP + HEIGHT - 12 - 14 * row
            parts.append(f'<text x="{x0 + WIDTH - 6}" y="{y}" text-anchor="end" fill="{COLOURS[arm]}">{arm}</text>')
    size = f'width="{LEFT + len(panels) * (WIDTH + LEFT)}" height="{TOP + HEIGHT + 28}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white" />', *parts, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--pools", nargs="+", default=list(POOLS), choices=list(POOLS))
    parser.add_argument("--arms", nargs="+", default=["uniform", "frontier", "trl"], choices=ARMS)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    if asked.report:
        print(json.dumps(list(report(asked.out)), indent=1))
        if asked.plot is not None:
            asked.plot.write_text(draw_curves(asked.out))
        return
    asked.out.mkdir(parents=True, exist_ok=True)
    prepare_process(1)
    for seed in asked.seeds:
        for pool in asked.pools:
            for arm in asked.arms:
                run(asked.out, pool, arm, seed)


if __name__ == "__main__":
    main()
