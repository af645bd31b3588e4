"""The parts, cheapest first. Each takes a folder of its own and whether it is a dry run, and returns plain JSON with
``ok``."""

from __future__ import annotations

import gc
import hashlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from trl.trainer.utils import split_tensor_dict

from harness.checks.doctor import examine
from harness.config.schema import TrainerSpec, WarmstartSpec
from harness.core.environment import PACKAGES, collect_manifest, compute_variables, installed_version
from harness.core.processes import python_words
from harness.models.load import LoadedModel
from harness.models.memory import compute_memory, shape_of
from harness.models.runtime import find_device, prepare_process
from harness.training.grpo import StepTrainer
from harness.types import Knobs
from tests.benchmarks.against_trl import ByRow, build_prompts, compare
from tests.support.tiny import DigitScorer, weights

from .qwen2 import build_qwen2

Result = dict[str, Any]
SUMS = build_prompts(24, 0.0)
ONLY_ONCE = (torch.cuda.OutOfMemoryError, "CUDA out of memory (of the dry run)")


def finds_gpu() -> bool:
    return torch.cuda.is_available()


def build_trainer(loaded: LoadedModel, folder: Path, scorer: Any = None, **fields: Any) -> StepTrainer:
    spec = TrainerSpec(**{"micro_batch": 8, **fields})
    return StepTrainer(loaded, scorer or DigitScorer(), spec, errored_limit=0.1, folder=folder, seed=0)


# ---------------------------------------------------------------- doctor


def doctor(folder: Path, dry: bool) -> Result:
    """Versions and machine. Other versions than the tested ones are said, not refused: the other parts tell."""
    prepare_process(None)
    checks = examine(None, str(folder))
    gpu = {}
    if finds_gpu():
        about = torch.cuda.get_device_properties(0)
        gpu = {
            "name": about.name, "memory_gib": round(about.total_memory / 2**30, 1), "cuda": torch.version.cuda,
            "capability": list(torch.cuda.get_device_capability(0)), "bf16": torch.cuda.is_bf16_supported(),
            "seen": torch.cuda.device_count(),
        }  # fmt: skip
    return {
        "ok": find_device().type == ("cpu" if dry else "cuda") and gpu.get("seen", 1) == 1,
        "gpu": gpu,
        "variables": compute_variables(os.environ),
        "checks": {check.what: check.found for check in checks},
        "not_ok": {check.what: check.mend for check in checks if not check.ok},
        **collect_manifest(torch.get_num_threads()),
        "tested_with": _tested_with(),
    }


def _tested_with() -> dict[str, str]:
    """Packages that are of another version here than where the tests ran."""
    lines = (Path(__file__).parents[2] / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if "==" in line)
    here = {name: (installed_version(name) or "").partition("+")[0] for name in PACKAGES}
    return {name: tested[name] for name, version in here.items() if tested.get(name, version) != version}


# ---------------------------------------------------------------- trainer, generation, log-probabilities


def steps(folder: Path, dry: bool) -> Result:
    """In float32 and bfloat16: the log-probabilities of sampling, of shared and of plain prompts; the gradient against
    the one of TRL's loss; the same step twice; several updates on a rollout; KL before anything has moved."""
    prepare_process(None)
    made = {str(dtype).removeprefix("torch."): _steps(folder, dtype, dry) for dtype in (torch.float32, torch.bfloat16)}
    exact, rough = made["float32"], made["bfloat16"]
    return {
        "ok": all(each["same_twice"] and each["applied"] == 1.0 for each in made.values())
        and max(exact["sampled_to_plain"], exact["shared_to_plain"], exact["gradient"]) < 1e-3
        and exact["kl"] < 1e-5
        and max(rough["sampled_to_plain"], rough["shared_to_plain"]) < 0.5,
        **made,
    }


def _steps(folder: Path, dtype: torch.dtype, dry: bool) -> Result:
    knobs = Knobs(temperature=0.9, max_tokens=16 if dry else 64, learning_rate=1e-3, group_size=4, prompts_per_step=4)
    build = partial(build_qwen2, "tiny" if dry else "0.1b", dtype=dtype)
    trainer = build_trainer(build(), folder)
    groups, batch = trainer._roll_out(SUMS[:4], knobs, 0.0, seed=1)
    kl = trainer._measure_kl(batch, seed=1)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    tokens = batch["completion_mask"].bool()
    found = {}
    for shares in (True, False):
        trainer._shares_prompts = shares and trainer._shares_prompts
        with torch.no_grad():
            found[shares], _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, tokens.size(1))
    sampled = trainer._rollout.generated.log_probs.to(ids.device)

    def furthest(one: torch.Tensor, other: torch.Tensor) -> float:
        return float((one - other)[tokens].abs().max())

    trainer = build_trainer(build(), folder)
    _, batch = trainer._roll_out(SUMS[:4], knobs, 0.0, seed=1)
    shared = trainer._shares_prompts
    trainer._accumulate(batch, torch.arange(16, device=ids.device))
    ours = _gradient(trainer.model)
    trainer.model.zero_grad()
    trainer._shares_prompts = False
    trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation = 2
    for part in split_tensor_dict(batch, 2):
        trainer.compute_loss(trainer.model, part).backward()
    theirs = _gradient(trainer.model)

    after = []
    for _ in range(2):
        loaded = build()
        again = build_trainer(loaded, folder, num_iterations=2, mask_truncated=False)
        outcome = again.step(SUMS[:4], knobs, learning_rate=1e-3, seed=2)
        after.append(weights(loaded.model))
    return {
        "device": str(again.accelerator.device),
        "shares_prompts": shared,
        "completions": sum(len(group.completions) for group in groups),
        "kl": kl,
        "sampled_to_plain": furthest(sampled, found[False]),
        "shared_to_plain": furthest(found[True], found[False]),
        "gradient": float((ours - theirs).norm() / theirs.norm()),
        "same_twice": torch.equal(*after),
        "applied": outcome.metrics["update/applied"],
        "clipped": outcome.metrics["clip_ratio/region_mean"],
    }


def _gradient(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten().float() for p in model.parameters() if p.grad is not None]).clone()


# ---------------------------------------------------------------- kill and resume


def resume(folder: Path, dry: bool, *, changes: Sequence[str]) -> Result:
    """The recipe arithmetic, 20 steps, against the same killed at 12 and resumed."""
    last, kill_at = (4, 2) if dry else (20, 12)
    small = ["warmstart.steps=2", "knobs.prompts_per_step=2", "knobs.group_size=2", "evaluate.max_tokens=4"]
    settings = [*changes, *(small if dry else ["warmstart.steps=100"]), f"checkpoint.every={2 if dry else 5}"]
    out = ["--out", str(folder)]
    words = [*out, "--plain", "--force", "--steps", str(last), *(w for c in settings for w in ("--set", c))]
    _grpo("run", "arithmetic", "--name", "whole", *words).wait()
    killed = _grpo("run", "arithmetic", "--name", "cut", *words)
    while killed.poll() is None and _last_step(folder, "cut") < kill_at:
        time.sleep(0.01)
    if killed.poll() is None:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    stopped_at = _last_step(folder, "cut")
    code = _grpo("resume", "cut", "--plain", *out).wait()
    hashes = {name: _hash_weights(folder / name) for name in ("whole", "cut")}
    whole = _last_step(folder, "whole")
    return {
        "ok": code == 0 and whole == last and hashes["whole"] == hashes["cut"] and kill_at <= stopped_at < last,
        "killed_at": stopped_at,
        "exit_code": code,
        **hashes,
    }


def _grpo(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*python_words("harness"), *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _last_step(folder: Path, name: str) -> int:
    file = folder / "harness.db"
    if not file.exists():
        return 0
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)) as c:
        try:
            found = c.execute("SELECT last_step FROM runs WHERE name = ?", (name,)).fetchone()
        except sqlite3.OperationalError:  # the tables are being made
            return 0
    return int(found[0]) if found else 0


def _hash_weights(run: Path) -> str:
    files = sorted(run.glob("checkpoints/*/*model.safetensors"), key=lambda path: path.stat().st_mtime)
    return hashlib.sha256(files[-1].read_bytes()).hexdigest() if files else ""


# ---------------------------------------------------------------- memory


def out_of_memory(folder: Path, dry: bool) -> Result:
    """A step whose micro-batch does not fit: halved until it does, with the same update as one that did."""
    prepare_process(None)
    knobs = Knobs(max_tokens=16 if dry else 256, group_size=8, prompts_per_step=8)
    moved = []
    for scarce in (False, True):
        loaded = build_qwen2("tiny" if dry else "0.1b", dtype=torch.float32)
        trainer = build_trainer(loaded, folder, ByRow(), micro_batch=64 if scarce else 2, optimizer="sgd")
        if dry and scarce:
            _run_out_once(trainer)
        elif scarce:
            torch.cuda.empty_cache()
            there_is = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 3 * 2**30) / there_is)
        outcome = trainer.step(SUMS[:8], knobs, learning_rate=0.1, seed=1)
        moved.append(weights(loaded.model).cpu())
        if not scarce:
            del trainer, loaded
            gc.collect()
    difference = float((moved[0] - moved[1]).abs().max())
    return {
        "ok": outcome.updated and bool(outcome.notes) and difference < 1e-4,
        "notes": list(outcome.notes),
        "micro_batch": trainer.micro_batch,
        "rollout_batch": trainer.rollout_batch,
        "largest_difference": difference,
    }


def _run_out_once(trainer: StepTrainer) -> None:
    kind, text = ONLY_ONCE
    original, left = trainer.compute_loss, [1]

    def compute_loss(*args: Any, **kwargs: Any) -> Any:
        if left:
            left.pop()
            raise kind(text)
        return original(*args, **kwargs)

    trainer.compute_loss = compute_loss


def memory(folder: Path, dry: bool, *, size: str) -> Result:
    """The forecast against what the allocator gave at most, in one step of LoRA."""
    prepare_process(None)
    loaded = build_qwen2("tiny" if dry else size, dtype=torch.bfloat16, lora=True)
    knobs = Knobs(max_tokens=16 if dry else 256, group_size=8, prompts_per_step=4)
    spec = TrainerSpec(micro_batch=4)
    trainer = StepTrainer(loaded, ByRow(), spec, errored_limit=0.1, folder=folder, seed=0)
    prompts = build_prompts(16 if dry else 128, 0.0)[:4]
    longest = max(len(loaded.prompt_ids(prompt)) for prompt in prompts)
    forecast = compute_memory(shape_of(loaded.model), knobs, spec, WarmstartSpec(), longest_prompt=longest)
    if finds_gpu():
        torch.cuda.reset_peak_memory_stats()
    outcome = trainer.step(prompts, knobs, learning_rate=1e-5, seed=1)
    most = torch.cuda.max_memory_allocated() if finds_gpu() else None
    return {
        "ok": outcome.updated and not outcome.notes,
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "forecast": asdict(forecast) | {"peak": forecast.peak},
        "allocated": most,
        "forecast_to_allocated": most and round(forecast.peak / most, 3),
        "step_s": round(outcome.metrics["time/step_s"], 3),
    }


# ---------------------------------------------------------------- against TRL


def against_trl(folder: Path, dry: bool, *, tokens: int) -> Result:
    """Steps of ours and of TRL's train() with its generation by transformers, by turns: one dtype, no checkpointing,
    one micro-batch, Qwen2 of 0.5B with LoRA, no group without signal."""
    prepare_process(None)
    build = partial(build_qwen2, "tiny" if dry else "0.5b", dtype=torch.bfloat16, lora=True)
    shape = (24, 8, 4, 8) if dry else (128, tokens, 8, 8)
    return {"ok": True, "tokens": shape[1], **compare(build, shape, 0.0, 2 if tokens < 512 and not dry else 1)}


PARTS: dict[str, Callable[[Path, bool], Result]] = {
    "doctor": doctor,
    "steps": steps,
    "out-of-memory": out_of_memory,
    "memory-0.5b": partial(memory, size="0.5b"),
    "memory-1.5b": partial(memory, size="1.5b"),
    "memory-7b": partial(memory, size="7b"),
    "resume-float32": partial(resume, changes=[]),
    "resume-bf16-lora": partial(resume, changes=["lora.rank=8", "trainer.bf16=true"]),
    "trl-256": partial(against_trl, tokens=256),
    "trl-1024": partial(against_trl, tokens=1024),
}
