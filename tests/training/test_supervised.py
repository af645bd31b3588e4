"""SupervisedTrainer against TRL's own loop, and what it does when memory or numbers fail."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from harness.config.schema import TrainerSpec
from harness.errors import RunFailed
from harness.models.load import LoadedModel
from harness.models.runtime import quiet_training
from harness.training.sft import make_row
from harness.training.supervised import SupervisedTrainer
from harness.types import Knobs, Prompt
from pools.demonstrations import Demonstrations
from tests.support.tiny import tiny, weights

SHOWN = [
    Prompt(id=f"p{i}", text=f"{i}+{i}=", ground_truth=str(2 * i), demonstration=f"{i}+{i}" * (i % 3) + str(2 * i))
    for i in range(1, 15)
]
RATE = 1e-3


def build(loaded: LoadedModel, folder: Path, **spec: Any) -> SupervisedTrainer:
    return SupervisedTrainer(loaded, TrainerSpec(**spec), folder=folder, seed=0)


def take(trainer: SupervisedTrainer, prompts: Sequence[Prompt], *, seed: int = 1, rate: float = RATE) -> Any:
    return trainer.step(prompts, Knobs(), learning_rate=rate, seed=seed)


@pytest.mark.parametrize(("lora", "micro_batch"), [(False, 2), (True, 8)])
def test_weights_are_those_of_train_on_the_same_order_to_the_last_bit(
    tmp_path: Path, lora: bool, micro_batch: int
) -> None:
    """Over more than an epoch, with the warm-up of TRL's own scheduler, in one micro-batch and in several."""
    ours, theirs = tiny(lora=lora), tiny(lora=lora)
    before = weights(theirs.model).clone()
    shown = Demonstrations(SHOWN, batch=8, seed=3)
    order = [prompt for step in range(1, 6) for prompt in shown.draw(step)]
    trainer = build(ours, tmp_path, micro_batch=micro_batch, lr_scheduler="constant", warmup_steps=2)
    losses = []
    for step in range(1, 6):
        rate = RATE * trainer.schedule_factor(step - 1)  # TRL takes its first step at that of step 0
        losses.append(take(trainer, shown.draw(step), rate=rate).metrics["loss"])

    class Stock(SFTTrainer):  # type: ignore[misc]
        """TRL's trainer as it is, but it takes its rows in their order."""

        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    stock = Stock(
        model=theirs.model,
        args=SFTConfig(
            output_dir=str(tmp_path),
            max_steps=5,
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=8 // micro_batch,
            learning_rate=RATE,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=2,
            weight_decay=0.0,
            gradient_checkpointing=False,
            dataloader_pin_memory=False,
            **quiet_training() | {"logging_strategy": "steps", "logging_steps": 1},
        ),
        train_dataset=Dataset.from_list([make_row(theirs, prompt) for prompt in order]),
        processing_class=theirs.tokenizer,
    )
    stock.train()
    assert float((weights(theirs.model) - before).abs().max()) > 1e-4
    assert torch.equal(weights(ours.model), weights(theirs.model))
    logged = [entry["loss"] for entry in stock.state.log_history if "loss" in entry]
    assert losses == pytest.approx(logged, rel=1e-5)


def test_an_epoch_has_every_demonstration_once_and_each_its_own_order() -> None:
    shown = Demonstrations(SHOWN, batch=4, seed=3)
    drawn = [prompt.id for step in range(1, 8) for prompt in shown.draw(step)]
    ids = sorted(prompt.id for prompt in SHOWN)
    assert sorted(drawn[:14]) == sorted(drawn[14:28]) == ids
    assert drawn[:14] != drawn[14:28]
    assert shown.epoch(7) == 2.0
    assert drawn != [prompt.id for step in range(1, 8) for prompt in Demonstrations(SHOWN, 4, 4).draw(step)]


def test_only_answers_are_learned_and_a_step_says_how_many_tokens(tmp_path: Path) -> None:
    loaded = tiny()
    metrics = take(build(loaded, tmp_path), SHOWN[:3]).metrics
    answers = [make_row(loaded, prompt)["labels"] for prompt in SHOWN[:3]]
    assert metrics["completion/tokens"] == sum(label != -100 for labels in answers for label in labels)
    assert 0 < metrics["completion/tokens"] < sum(map(len, answers))
    assert metrics["grad/norm"] > 0


def test_the_loss_on_dev_leaves_the_model_as_it_is_and_falls_as_it_learns(tmp_path: Path) -> None:
    loaded = tiny()
    trainer = build(loaded, tmp_path, micro_batch=4)
    before = weights(loaded.model).clone()
    first = trainer.measure_loss(SHOWN)
    assert torch.equal(weights(loaded.model), before)
    assert first == pytest.approx(take(trainer, SHOWN).metrics["loss"], rel=1e-5)
    for seed in range(5):
        take(trainer, SHOWN, seed=seed)
    last = trainer.measure_loss(SHOWN)
    assert first is not None
    assert last is not None
    assert last < first
    assert trainer.measure_loss([Prompt(id="x", text="1+1=", ground_truth="2")]) is None


def test_out_of_memory_halves_the_micro_batch_and_the_step_is_the_same(tmp_path: Path, monkeypatch: Any) -> None:
    loaded, other = tiny(), tiny()
    trainer, plain = build(loaded, tmp_path, micro_batch=8), build(other, tmp_path, micro_batch=2)
    compute = trainer.compute_loss

    def scarce(model: Any, inputs: Any, **more: Any) -> Any:
        if len(inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("none left")
        return compute(model, inputs, **more)

    monkeypatch.setattr(trainer, "compute_loss", scarce)
    outcome = take(trainer, SHOWN[:8])
    take(plain, SHOWN[:8])
    assert trainer.micro_batch == 2
    assert [note.partition(":")[0] for note in outcome.notes] == [
        "out of memory with micro-batch 8", "out of memory with micro-batch 4",
    ]  # fmt: skip
    assert torch.equal(weights(loaded.model), weights(other.model))
    trainer.save(tmp_path)
    again = build(tiny(), tmp_path, micro_batch=8)
    again.load(tmp_path)
    assert again.micro_batch == 2
    monkeypatch.setattr(trainer, "compute_loss", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(RunFailed, match="even with one completion"):
        take(trainer, SHOWN[:8])


def test_a_gradient_that_is_not_finite_is_discarded_and_lost_weights_are_said_to_be(tmp_path: Path) -> None:
    loaded = tiny()
    trainer = build(loaded, tmp_path)
    before = weights(loaded.model).clone()
    handle = next(loaded.model.parameters()).register_hook(lambda gradient: gradient * float("nan"))
    outcome = take(trainer, SHOWN[:4])
    handle.remove()
    assert "discarded" in outcome.fault
    assert not outcome.updated
    assert torch.equal(weights(loaded.model), before)
    assert take(trainer, SHOWN[:4], rate=1e38).lost
