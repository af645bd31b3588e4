"""A whole run in a store, with everything a report shows, and texts that mean harm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from harness.store.writer import RunStore
from harness.types import Action, CheckedDecision, Decision, Evaluation, Example, Knobs
from tests.support.builders import (
    create_run,
    make_checkpoint,
    make_completion,
    make_group,
    make_in_force,
    make_prompt,
    make_sample,
    record_step,
)

STEPS = 40
HOSTILE = (
    "</script><script>window.harmed = true</script><img src=x onerror='window.harmed=true'>\x1b[31m\u202e\0 {{ 7*7 }}"
)
SPEC: Mapping[str, Any] = {
    "seed": 7,
    "name": "night",
    "budget": {"steps": STEPS},
    "knobs": {"temperature": 1.0},
    "pool": {"source": "sums.jsonl", "system_prompt": HOSTILE},
}
MANIFEST: Mapping[str, Any] = {
    "split_sizes": {"train": 100},
    "command": ["grpo", "run", "night.toml", "--name", "night; rm -rf /"],
    "versions": {"trl": "1.16.0", "bitsandbytes": None},
    "git_commit": "0" * 40,
    "python": "3.11.2",
    "machine": {"processor": "two cores"},
    "threads": 1,
}
MOVES: Mapping[int, CheckedDecision] = {
    3: CheckedDecision(
        Decision(Action("set", {"max_tokens": 96}), "rules", f"truncated 0.9 {HOSTILE}", "cut short", "less truncated"),
        {"max_tokens": {"from": 64, "to": 96}},
    ),
    12: CheckedDecision(
        Decision(Action("set", {"learning_rate": 1e-5}), "manual", "calmer", "", ""),
        {"learning_rate": {"from": 1e-4, "to": 1e-5}},
    ),
    20: CheckedDecision(
        Decision(Action("rollback", argument=99), "manual", "asked by a person"), refused="no checkpoint 99"
    ),
    30: CheckedDecision(
        Decision(Action("focus", {"focus": 0.5}), "llm", "half right teaches most", HOSTILE, "more mixed"),
        {"focus": {"from": None, "to": 0.5}},
    ),
}


def make_answers(split: str, right: int, n: int = 100) -> Evaluation:
    """``right`` of ``n`` prompts correct, the first ones; an interval around it."""
    examples = tuple(Example(make_prompt(f"{split} {i}"), make_completion(1.0 if i < right else 0.0)) for i in range(n))
    score, ci95 = right / n, (max(0.0, right / n - 0.1), min(1.0, right / n + 0.1))
    return Evaluation(split, n, score, ci95, score, ci95, examples)


def record_night(store: RunStore, name: str = "night", *, right: int = 80, steps: int = STEPS, seed: int = 7) -> int:
    """A finished run that went from 40 to ``right`` of 100 on test."""
    run_id = create_run(store, name, seed=seed, spec=SPEC | {"name": name, "seed": seed}, manifest=MANIFEST)
    for split in ("dev", "test"):
        store.record_evaluation(run_id, 0, make_answers(split, 40))
    store.record_samples(run_id, 0, [make_sample(0, kind="fixed", completion=HOSTILE, reward=0.0)])
    store.record_checkpoint(run_id, make_checkpoint(0))
    knobs: dict[str, Any] = {}
    for step in range(1, steps + 1):
        move = MOVES.get(step, CheckedDecision(Decision(Action("continue"), "rules", "all is well")))
        knobs |= {knob: change["to"] for knob, change in move.changes.items()}
        store.record_decisions(run_id, step, [move], make_in_force(Knobs(**knobs), pins=["learning_rate"]))
        metrics = {
            "reward/mean": 0.4 + 0.4 * step / steps,
            "reward/adjusted": 0.05 * math.sin(step),
            "kl/mean": 0.001 * step,
            "group/mixed_rate": 0.7,
            "completion/truncated_rate": 0.9 if step < 4 else 0.02,
            f"reason/{HOSTILE}": 0.1,
            "time/rollout_s": 0.4,
            "time/reward_s": 0.1,
            "time/update_s": 0.3,
            "time/step_s": 1.0,
        }
        groups = [make_group(*(float(step % 4 > i) for i in range(4)), prompt=make_prompt(f"p{step % 9}"))]
        record_step(store, run_id, step, metrics, groups=groups, wall_s=2.0 * step, knobs=Knobs(**knobs))
        if step % 10 == 0:
            store.record_evaluation(run_id, step, make_answers("dev", 40 + (right - 40) * step // steps))
    store.record_evaluation(run_id, steps, make_answers("test", right))
    store.record_checkpoint(run_id, make_checkpoint(steps))
    store.record_samples(run_id, steps, [make_sample(steps, kind="fixed", completion=f"2 {HOSTILE}")])
    store.record_event(run_id, 5, "warning", f"silent for 300 s {HOSTILE}")
    store.update_run(run_id, status="finished", stop_reason=f"budget of {steps} steps spent", rollouts=4 * steps)
    return run_id
