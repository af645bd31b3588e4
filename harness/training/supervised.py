"""Take one supervised step per call, on TRL's own SFTTrainer: demonstrations in, one optimizer step, and back.

``train()``, its data loader and its sampler are not used: the caller says what a step learns from. The loss is TRL's,
the mean cross-entropy of the tokens of the answers, and so the weights are those of ``train()`` on the same rows, to
the last bit (tests/training/test_supervised.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from harness.config.schema import TrainerSpec
from harness.core.seeds import derive_seed
from harness.models.load import LoadedModel
from harness.models.runtime import keep_to_one_device, quiet_training, seed_torch
from harness.training.sft import IGNORED, make_row
from harness.training.stepwise import SAME_IN_TRL, Stepwise
from harness.types import Knobs, More, Progress, Prompt, StepOutcome, no_more, no_progress

Row = dict[str, list[int]]


class SupervisedTrainer(Stepwise, SFTTrainer):  # type: ignore[misc]
    """``harness.types.Trainer`` on TRL, for prompts that have a demonstration. Its steps have no groups."""

    def __init__(self, loaded: LoadedModel, spec: TrainerSpec, *, folder: Path, seed: int) -> None:
        self.loaded = loaded
        self.spec = spec
        self.micro_batch = spec.micro_batch
        self._progress: Progress = no_progress
        self._notes: list[str] = []
        args = SFTConfig(
            output_dir=str(folder),
            seed=seed,
            # The factor over steps is ours (schedule_factor): TRL's scheduler is never stepped.
            learning_rate=1.0,
            lr_scheduler_type="constant",
            optim=spec.optimizer,
            max_length=loaded.context,
            **spec.model_dump(include=SAME_IN_TRL),
            **quiet_training(bf16=spec.bf16),
        )
        super().__init__(
            model=loaded.model,
            args=keep_to_one_device(args),
            train_dataset=Dataset.from_list([{"input_ids": [0, 0], "labels": [IGNORED, 0]}]),  # never read
            processing_class=loaded.tokenizer,
        )
        self._begin()

    # ------------------------------------------------------------ one step

    def step(
        self,
        prompts: Sequence[Prompt],
        knobs: Knobs,
        *,
        learning_rate: float,
        seed: int,
        progress: Progress = no_progress,
        more: More = no_more,
    ) -> StepOutcome:
        """Take one optimizer step on the demonstrations of ``prompts``, all of which weigh by their tokens. Of the
        ``knobs`` the learning rate alone has a part in it, by ``learning_rate``. Raises RunFailed when memory does not
        suffice."""
        started = time.perf_counter()
        self._progress, self._notes = progress, []
        rows = self._make_rows(prompts)
        self._set_learning_rate(learning_rate)
        metrics = self._accumulate(rows, seed)
        norm = self._clip()
        fault, lost = self._apply_gradient(norm)
        applied = not fault or lost
        if not applied:
            fault += ", so the update was discarded"
        seconds = time.perf_counter() - started
        metrics |= {
            "grad/norm": norm,
            "update/applied": float(applied),
            "time/update_s": seconds,
            "time/step_s": seconds,
        }
        return StepOutcome((), metrics, applied, tuple(self._notes), fault, lost)

    def rehearse(self, prompts: Sequence[Prompt]) -> float:
        """Time a step on ``prompts``, in s, up to the optimizer, which is left alone: weights stay as they are."""
        started = time.perf_counter()
        self._notes = []
        self._accumulate(self._make_rows(prompts), seed=0)
        self.model_wrapped.zero_grad()
        return time.perf_counter() - started

    def measure_loss(self, prompts: Sequence[Prompt], *, progress: Progress = no_progress) -> float | None:
        """Measure the mean cross-entropy per token of those ``prompts`` that have a demonstration, None where none has
        one. The model stays as it is."""
        rows = self._make_rows([prompt for prompt in prompts if prompt.demonstration is not None])
        if not rows:
            return None
        self._progress = progress
        with self._still(), torch.no_grad():
            return self._with_less_memory("micro_batch", len(rows), lambda: self._try_losses(rows, backward=False))[0]

    def _make_rows(self, prompts: Sequence[Prompt]) -> list[Row]:
        rows = [make_row(self.loaded, prompt) for prompt in prompts]
        longest = max((len(row["input_ids"]) for row in rows), default=0)
        if longest > self.loaded.context:
            self._notes.append(
                f"a demonstration of {longest:,} tokens with its prompt is cut at the context, {self.loaded.context:,}"
            )
            rows = [{name: ids[: self.loaded.context] for name, ids in row.items()} for row in rows]
        return rows

    def _accumulate(self, rows: Sequence[Row], seed: int) -> dict[str, float]:
        """Add up the gradient of the loss over all ``rows``, in micro-batches that fit into memory, in their order."""

        def attempt() -> tuple[float, float, int]:
            self.model_wrapped.zero_grad()
            self.model.train()
            seed_torch(derive_seed(seed, "update"))  # of dropout, the same at each attempt
            return self._try_losses(rows, backward=True)

        loss, entropy, tokens = self._with_less_memory("micro_batch", len(rows), attempt)
        return {
            "loss": loss,
            "entropy/mean": entropy,
            "completion/tokens": float(tokens),
            "completion/tokens_mean": tokens / len(rows),
        }

    def _try_losses(self, rows: Sequence[Row], *, backward: bool) -> tuple[float, float, int]:
        """Compute loss and entropy per learned token over all ``rows``, and count these tokens."""
        parts = [
            self.data_collator(list(rows[start : start + self.micro_batch]))
            for start in range(0, len(rows), self.micro_batch)
        ]
        # Of the first token of a row nothing is learned: there is none before it.
        counts = [part["labels"][:, 1:].ne(IGNORED).sum() for part in parts]
        tokens = torch.stack(counts).sum().to(self.accelerator.device)
        loss = entropy = 0.0
        seen = self._metrics["train" if backward else "eval"]
        for done, (part, count) in enumerate(zip(parts, counts, strict=True)):
            self._progress("updating" if backward else "loss on dev", done, len(parts))
            self.accelerator.gradient_state._set_sync_gradients(done == len(parts) - 1)
            with self.accelerator.autocast():
                part_loss = self.compute_loss(self.model_wrapped, self._prepare_inputs(part), num_items_in_batch=tokens)
            if backward:
                self.accelerator.backward(part_loss)
            loss += float(part_loss.detach())
            entropy += seen["entropy"][-1] * float(count / tokens.clamp(min=1).cpu())
            seen.clear()
        self._progress("updating" if backward else "loss on dev", len(parts), len(parts))
        return loss, entropy, int(tokens)

    @contextmanager
    def _still(self) -> Iterator[None]:
        was_training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(was_training)
