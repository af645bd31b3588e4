"""What both trainers share that take one step per call on TRL: the schedule, less memory, weights on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import get_scheduler

from harness.config.schema import TrainerSpec
from harness.errors import RunFailed
from harness.models.load import LoadedModel, load_weights, save_weights
from harness.models.runtime import is_out_of_memory, release_memory
from harness.training.rounding import RoundingWatch

MEMORY_FILE = "memory.json"
SAME_IN_TRL = {"weight_decay", "max_grad_norm", "gradient_checkpointing"}
"""Fields of TrainerSpec that every trainer of TRL has by the same name."""
T = TypeVar("T")


class Stepwise:
    """Comes before a trainer of TRL among the bases; whoever inherits both calls ``_begin`` once that is built.

    ``micro_batch`` and other ``sizes`` are how many rows go through the model at once: they are halved when memory is
    short, and checkpoints carry them, so that a resume takes the same steps.
    """

    loaded: LoadedModel
    spec: TrainerSpec
    micro_batch: int
    sizes: tuple[str, ...] = ("micro_batch",)
    shorter = "lower model.max_length"
    """What helps where not even one row at a time fits into memory."""
    model: Any
    model_wrapped: Any
    optimizer: Any
    accelerator: Any
    args: Any
    _notes: list[str]

    def _begin(self) -> None:
        self._prepare_for_training(10**9, None, None)  # type: ignore[attr-defined]
        # Where bf16 is asked for, accelerate has every forward pass under autocast. Ours is around the update alone:
        # sampling and measuring are of the weights as they are.
        self.model.forward = self.model.__dict__.pop("_original_forward", self.model.forward)
        self.current_gradient_accumulation_steps = 1  # micro-batches are weighed here and not by transformers
        self._watched_rounding = False
        self._lr_factor = get_scheduler(
            self.spec.scheduler,
            torch.optim.SGD([torch.zeros(1)]),
            num_warmup_steps=self.spec.warmup_steps,
            # One more than asked for, so that the last step is not taken at rate 0.
            num_training_steps=(self.spec.scheduler_total_steps or 0) + 1,
        ).lr_lambdas[0]

    def schedule_factor(self, step: int) -> float:
        """Return the factor of the learning rate at ``step`` (1 is the first step)."""
        if self.spec.scheduler_total_steps is not None:  # a cosine would rise again after its end
            step = min(step, self.spec.scheduler_total_steps + 1)
        return float(self._lr_factor(step))

    def weights_bytes(self) -> int:
        """Return the size of what is trained."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters() if p.requires_grad)

    # ------------------------------------------------------------ the optimizer

    def _set_learning_rate(self, learning_rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

    def _clip(self) -> float:
        """Clip the gradient and return its norm before that."""
        clipped = self._clip_grad_norm(self.model_wrapped)  # type: ignore[attr-defined]
        return float(self._get_grad_norm(self.model_wrapped, grad_norm=clipped))  # type: ignore[attr-defined]

    def _apply_gradient(self, norm: float) -> tuple[str, bool]:
        """Let the optimizer take a step where the gradient is finite: one NaN in its state would stay there for good.
        Return what went wrong ("" if nothing), and whether the weights are lost."""
        finite = math.isfinite(norm)
        if finite:
            # Once: what is rounded away is so at every step.
            watch = RoundingWatch([] if self._watched_rounding else list(self.model.parameters()))
            self.optimizer.step()
            self._notes += filter(None, [watch.describe()])
            self._watched_rounding = True
        self.model_wrapped.zero_grad()
        if not finite:
            return f"the gradient was not finite (norm {norm})", False
        if not self._weights_are_finite():
            return "the weights were not finite after the update", True
        return "", False

    def _weights_are_finite(self) -> bool:
        trained = [p.detach() for p in self.model.parameters() if p.requires_grad]
        return bool(torch.isfinite(torch.nn.utils.get_total_norm(trained)))

    # ------------------------------------------------------------ memory

    def _with_less_memory(self, size: str, rows: int, work: Callable[[], T]) -> T:
        """Do ``work``, again with half of ``size`` (one of ``sizes``) each time memory does not suffice."""
        while True:
            try:
                return work()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the handler: the traceback would keep the tensors of the failed try alive.
            before = min(getattr(self, size), rows)
            if before <= 1:
                raise RunFailed(f"out of memory even with one completion at a time: {self.shorter}")
            setattr(self, size, before // 2)
            self.args.per_device_train_batch_size = self.micro_batch
            self._notes.append(f"out of memory with {size.replace('_', '-')} {before}: {before // 2} from here on")
            release_memory()

    # ------------------------------------------------------------ weights on disk

    def save(self, folder: Path) -> None:
        """Write model (or adapter), tokenizer and optimizer into ``folder``; loads in transformers or peft as it is."""
        save_weights(self.accelerator.unwrap_model(self.model), folder)
        self.loaded.tokenizer.save_pretrained(folder)
        torch.save(self.optimizer.state_dict(), folder / "optimizer.pt")
        sizes = {size: getattr(self, size) for size in self.sizes}
        (folder / MEMORY_FILE).write_text(json.dumps(sizes), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Load weights and optimizer of ``save`` into the model in memory."""
        load_weights(self.accelerator.unwrap_model(self.model), folder)
        self.optimizer.load_state_dict(torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True))
        self.optimizer.zero_grad()
        kept = json.loads((folder / MEMORY_FILE).read_text(encoding="utf-8"))
        for size in self.sizes:
            setattr(self, size, kept[size])
        self.micro_batch = min(self.spec.micro_batch, self.micro_batch)
