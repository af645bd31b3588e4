"""Run the supervised stage before GRPO: TRL's SFTTrainer on demonstrations from the train split."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from harness.config.schema import WarmstartSpec
from harness.core.seeds import derive_seed
from harness.models.load import LoadedModel
from harness.models.runtime import keep_to_one_device, quiet_training, seed_torch
from harness.types import Progress, Prompt

IGNORED = -100
"""The label of a token that is not learned."""


@dataclass
class _Report(TrainerCallback):  # type: ignore[misc]
    progress: Progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress("warm start", state.global_step, state.max_steps)


def warm_start(
    loaded: LoadedModel, shown: Sequence[Prompt], spec: WarmstartSpec, *, seed: int, progress: Progress
) -> None:
    """Train ``loaded`` in place on the demonstrations of the prompts ``shown`` for ``spec.steps`` steps."""
    progress("warm start", 0, spec.steps)
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=loaded.model,
            args=keep_to_one_device(
                SFTConfig(
                    output_dir=folder,
                    max_steps=spec.steps,
                    per_device_train_batch_size=spec.batch,
                    learning_rate=spec.learning_rate,
                    # Warm-up and decay to zero: without them the score at the end depends on the last few batches.
                    lr_scheduler_type="linear",
                    warmup_steps=min(20, spec.steps // 10),
                    max_length=loaded.context,
                    seed=derive_seed(seed, "warmstart", "trainer"),
                    gradient_checkpointing=False,
                    dataloader_pin_memory=False,
                    **quiet_training(),
                )
            ),
            train_dataset=Dataset.from_list([make_row(loaded, prompt) for prompt in shown]),
            processing_class=loaded.tokenizer,
            callbacks=[_Report(progress)],
        )
        trainer.remove_callback(PrinterCallback)  # it prints its summary into our view
        seed_torch(derive_seed(seed, "warmstart", "steps"))
        trainer.train()


def make_row(loaded: LoadedModel, prompt: Prompt) -> dict[str, list[int]]:
    """Make a row of which only the answer is learned, from tokens: TRL's own preparation knows of no prefill, and would
    give every call of a tool the arguments of all others."""
    ids, prompt_length = loaded.renderer.demonstrate(prompt)
    return {"input_ids": ids, "labels": [IGNORED] * prompt_length + ids[prompt_length:]}
