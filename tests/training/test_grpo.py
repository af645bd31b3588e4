"""StepTrainer against TRL's own loop, and one test for each of TRL's traps that it has to avoid."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import MambaConfig, MambaForCausalLM
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import add_fused_lm_head, shuffle_sequence_dict, split_tensor_dict

from harness.config.schema import TrainerSpec, WarmstartSpec
from harness.errors import Diverged
from harness.models.load import LoadedModel
from harness.models.runtime import quiet_training
from harness.models.tiny import build_tiny_tokenizer
from harness.training.grpo import StepTrainer
from harness.training.probe import can_share_prompts
from harness.training.rollout import pack_rows
from harness.training.sft import warm_start
from harness.types import Group, Knobs, Prompt, Score
from tests.support.tiny import PROMPTS, DigitScorer, reward_of, tiny, weights

KNOBS = Knobs(temperature=1.0, max_tokens=8, learning_rate=1e-3, group_size=4, prompts_per_step=2)


class ConstantScorer(DigitScorer):
    def score(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Score]:
        return [Score(0.0, False, "wrong") for _ in completions]


class HalfDeadScorer(DigitScorer):
    """Every other group is all zero."""

    def score(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Score]:
        scores = super().score(prompts, completions)
        dead = Score(0.0, False, "wrong")
        return [dead if int(p.id[1:]) % 2 else s for p, s in zip(prompts, scores, strict=True)]


class BrokenScorer(DigitScorer):
    """Fails on every other completion."""

    def score(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Score]:
        good = super().score(prompts, completions)
        return [Score(None, False, "errored", error="boom") if i % 2 else s for i, s in enumerate(good)]


class IdScorer(DigitScorer):
    """Asks for the token ids too."""

    takes_ids = True

    def __init__(self) -> None:
        self.ids: list[Sequence[int]] = []

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], ids: Sequence[Sequence[int]] = ()
    ) -> list[Score]:
        self.ids += ids
        return super().score(prompts, completions)


Build = Callable[..., StepTrainer]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def build(
        loaded: LoadedModel | None = None, scorer: Any = None, spec: TrainerSpec | None = None, limit: float = 0.1
    ) -> StepTrainer:
        return StepTrainer(
            loaded or tiny(),
            scorer or DigitScorer(),
            spec or TrainerSpec(micro_batch=4),
            errored_limit=limit,
            folder=tmp_path,
            seed=0,
        )

    return build


def take(trainer: StepTrainer, knobs: Knobs = KNOBS, *, seed: int = 1, start: int = 0) -> Any:
    prompts = PROMPTS[start : start + knobs.prompts_per_step]
    return trainer.step(prompts, knobs, learning_rate=knobs.learning_rate, seed=seed)


def gradient(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_a_reward_that_asks_for_them_gets_the_token_ids_of_the_completions(build: Build) -> None:
    scorer = IdScorer()
    trainer = build(scorer=scorer)
    take(trainer)
    assert scorer.ids == trainer._rollout.generated.ids
    assert len(scorer.ids) == 8


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "bnpo", "dr_grpo"])
def test_gradient_is_that_of_trls_loss_over_every_row(build: Build, loss_type: Any, beta: float, lora: bool) -> None:
    """Half of the groups dead, uneven micro-batches and shared prompts, against TRL's loss over all rows in random
    micro-batches with the prompt in each row. Measured: at most 8e-8 apart at a gradient norm of 1."""
    trainer = build(tiny(lora=lora), spec=TrainerSpec(loss_type=loss_type, micro_batch=6))
    knobs = Knobs(**{**_dict(KNOBS), "beta": beta, "prompts_per_step": 4})
    take(trainer, knobs)  # away from the reference
    _, batch = trainer._roll_out(PROMPTS[:4], knobs, 1e-3, seed=5)
    batch["advantages"].view(4, 4)[1::2] = 0.0
    rows = torch.ones(16, dtype=torch.bool) if beta else batch["advantages"] != 0
    trainer._accumulate(batch, rows.nonzero().squeeze(-1))
    ours = gradient(trainer.model).clone()

    trainer.model.zero_grad()
    assert trainer._shares_prompts
    trainer._shares_prompts = False
    parts = 1 if loss_type == "bnpo" else 4  # TRL's bnpo divides by the tokens of the micro-batch, ours by the step's
    trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation = parts
    for part in split_tensor_dict(shuffle_sequence_dict(batch), parts):
        trainer.compute_loss(trainer.model, part).backward()
    theirs = gradient(trainer.model)
    assert float(theirs.norm()) > 0.1
    assert float((ours - theirs).abs().max()) < 5e-7


@pytest.mark.parametrize(
    ("loss_type", "beta", "lora", "iterations", "mask"),
    [
        ("dapo", 0.0, False, 1, False),
        ("grpo", 0.0, True, 1, False),
        ("dapo", 0.1, True, 1, False),
        ("dapo", 0.0, False, 2, True),
        ("grpo", 0.1, True, 2, True),
        ("dr_grpo", 0.0, False, 3, False),
        ("dapo", 0.0, True, 1, True),
    ],
)
def test_weights_are_those_of_train_on_the_same_completions(
    build: Build, tmp_path: Path, loss_type: Any, beta: float, lora: bool, iterations: int, mask: bool
) -> None:
    ours, theirs = tiny(lora=lora), tiny(lora=lora)
    spec = TrainerSpec(
        loss_type=loss_type, micro_batch=4, optimizer="sgd", num_iterations=iterations, mask_truncated=mask,
        epsilon=0.05, epsilon_high=0.1,
    )  # fmt: skip
    trainer = build(ours, spec=spec)
    written, clipped, cut = [], [], []
    for start in (0, 2, 4):
        knobs = Knobs(**{**_dict(KNOBS), "max_tokens": 40, "beta": beta, "learning_rate": 0.1})
        outcome = take(trainer, knobs, seed=start, start=start)
        clipped.append(outcome.metrics.get("clip_ratio/region_mean", 0.0))
        written.append(trainer._rollout.generated.ids)
        cut += trainer._rollout.generated.truncated
    assert 0 < sum(cut) < len(cut)
    assert bool(max(clipped)) == (iterations > 1)

    class Stock(GRPOTrainer):  # type: ignore[misc]
        """TRL's trainer as it is, but it is told what to sample."""

        def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
            return written.pop(0), None

    stock = Stock(
        model=theirs.model,
        reward_funcs=[lambda completions, **_: [reward_of(c) for c in completions]],
        args=GRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            num_generations=4,
            max_completion_length=40,
            max_steps=3 * iterations,
            num_iterations=iterations,
            mask_truncated_completions=mask,
            epsilon=0.05,
            epsilon_high=0.1,
            learning_rate=0.1,
            lr_scheduler_type="constant",
            optim="sgd",
            loss_type=loss_type,
            beta=beta,
            weight_decay=0.0,
            shuffle_dataset=False,
            gradient_checkpointing=False,
            **quiet_training(),
        ),
        train_dataset=Dataset.from_dict({"prompt": [p.text for p in PROMPTS]}),
        processing_class=theirs.tokenizer,
    )
    before = weights(theirs.model).clone()
    stock.train()
    moved = float((weights(theirs.model) - before).abs().max())
    assert moved > 1e-3
    assert float((weights(theirs.model) - weights(ours.model)).abs().max()) < 1e-4 * moved


def test_a_model_whose_prompts_cannot_be_shared_is_found_out_and_trained_the_plain_way(build: Build) -> None:
    torch.manual_seed(0)
    tokenizer = build_tiny_tokenizer()
    config = MambaConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, state_size=4)
    mamba = LoadedModel(MambaForCausalLM(config), tokenizer, chat=False, context=128)
    add_fused_lm_head(mamba.model)
    assert not can_share_prompts(mamba.model, tokenizer.pad_token_id)
    llama = tiny()
    add_fused_lm_head(llama.model)
    assert can_share_prompts(llama.model, llama.tokenizer.pad_token_id)
    trainer = build(spec=TrainerSpec(micro_batch=4, gradient_checkpointing=True))
    assert not trainer._shares_prompts
    assert take(trainer).updated


def test_signal_only_can_be_switched_off_and_changes_nothing_but_the_work(build: Build) -> None:
    moved, used = [], []
    for signal_only in (True, False):
        loaded = tiny()
        trainer = build(loaded, HalfDeadScorer(), TrainerSpec(micro_batch=4, optimizer="sgd", signal_only=signal_only))
        used.append(take(trainer).metrics["update/used_rate"])
        moved.append(weights(loaded.model))
    assert used == [0.5, 1.0]
    assert torch.allclose(*moved, atol=1e-9)


@given(
    group_size=st.integers(2, 9),
    micro_batch=st.integers(1, 20),
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60),
    data=st.data(),
)
def test_micro_batches_hold_every_row_once_and_keep_groups_together_where_they_fit(
    group_size: int, micro_batch: int, lengths: list[int], data: st.DataObject
) -> None:
    rows = sorted(data.draw(st.sets(st.integers(0, len(lengths) - 1))))
    parts = list(pack_rows(rows, lengths, group_size, micro_batch))
    assert sorted(row for part in parts for row in part) == rows
    assert all(0 < len(part) <= micro_batch for part in parts)
    if group_size <= micro_batch:
        homes = [{n for n, part in enumerate(parts) if row in part} for row in rows]
        by_group: dict[int, set[int]] = {}
        for row, home in zip(rows, homes, strict=True):
            by_group.setdefault(row // group_size, set()).update(home)
        assert all(len(home) == 1 for home in by_group.values())


def test_weights_that_are_not_finite_after_the_update_are_said_to_be_lost(build: Build) -> None:
    trainer = build()
    outcome = trainer.step(PROMPTS[:2], KNOBS, learning_rate=1e38, seed=1)
    assert outcome.lost
    assert "weights were not finite" in outcome.fault
    with pytest.raises(Diverged):
        take(trainer, seed=2)


def test_a_gradient_that_is_not_finite_changes_neither_weights_nor_momentum(build: Build) -> None:
    loaded = tiny()
    trainer = build(loaded)
    take(trainer)
    before, momentum = weights(loaded.model).clone(), copy.deepcopy(trainer.optimizer.state_dict())
    hook = loaded.model.lm_head.weight.register_hook(lambda gradient: gradient * float("nan"))
    outcome = take(trainer, seed=2)
    hook.remove()
    assert not outcome.updated
    assert not outcome.lost
    assert "gradient was not finite" in outcome.fault
    assert torch.equal(before, weights(loaded.model))
    state = trainer.optimizer.state_dict()["state"]
    assert all(torch.equal(state[k][n], v) for k, s in momentum["state"].items() for n, v in s.items())
    assert take(trainer, seed=3).updated


OUT_OF_MEMORY = """
import json, resource, sys
import torch
sys.path.insert(0, {root!r})
from pathlib import Path
from harness.models.runtime import prepare_process
from harness.config.schema import TrainerSpec
from harness.training.grpo import StepTrainer
from harness.types import Knobs
from tests.support.tiny import DigitScorer, PROMPTS, tiny, weights

prepare_process(1)
loaded = tiny()
trainer = StepTrainer(loaded, DigitScorer(), TrainerSpec(micro_batch=512, optimizer="sgd"), errored_limit=0.1,
                      folder=Path({folder!r}), seed=0)
room = int(sys.argv[1])
if room:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room * 2**20,) * 2)
knobs = Knobs(max_tokens=100, group_size=64, prompts_per_step=8)
outcome = trainer.step(PROMPTS[:8], knobs, learning_rate=0.1, seed=1)
torch.save(weights(loaded.model), {folder!r} + "/weights-" + sys.argv[1])
print(json.dumps([outcome.updated, outcome.notes, trainer.micro_batch, trainer.rollout_batch]))
"""


def test_out_of_memory_halves_the_micro_batch_and_gives_the_same_step(tmp_path: Path) -> None:
    """For real: the address space of a process is limited, so that allocations fail."""
    code = OUT_OF_MEMORY.format(root=str(Path(__file__).parents[2]), folder=str(tmp_path))
    found = {}
    for room in ("0", "700"):
        done = subprocess.run([sys.executable, "-c", code, room], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found[room] = json.loads(done.stdout.splitlines()[-1])
    assert found["0"][:3] == [True, [], 512]
    updated, notes, micro_batch, _ = found["700"]
    assert updated
    assert 1 <= micro_batch < 512
    assert any("out of memory with micro-batch" in note for note in notes)
    whole, cut = (torch.load(tmp_path / f"weights-{room}") for room in found)
    assert torch.allclose(whole, cut, atol=1e-7)


def test_the_same_seed_gives_the_same_step_whatever_was_drawn_before(build: Build) -> None:
    outcomes = []
    for noise in (0, 13):
        loaded = tiny()
        trainer = build(loaded)
        torch.rand(noise)
        outcome = take(trainer)
        outcomes.append((weights(loaded.model), [c.text for g in outcome.groups for c in g.completions]))
    assert torch.equal(outcomes[0][0], outcomes[1][0])
    assert outcomes[0][1] == outcomes[1][1]


def test_temperature_reaches_generation_and_both_log_prob_heads(build: Build) -> None:
    trainer = build()
    cold = take(trainer, Knobs(**{**_dict(KNOBS), "temperature": 0.001}))
    assert all(len({c.text for c in group.completions}) == 1 for group in cold.groups)

    ids = torch.tensor([[30, 31, 32, 33, 34, 35]])
    mask = torch.ones_like(ids)
    for model in (trainer.model, trainer._reference):
        with torch.no_grad():
            logps, _, _ = trainer._get_per_token_logps_and_entropies(model, ids, mask, 3)
            with nullcontext() if model is trainer.model else trainer._reference.in_place():
                logits = trainer.model(input_ids=ids, attention_mask=mask).logits[:, 2:5] / 0.001
        expected = logits.log_softmax(-1).gather(-1, ids[:, 3:].unsqueeze(-1)).squeeze(-1)
        assert torch.allclose(logps, expected, atol=1e-2, rtol=1e-4)


def _dict(knobs: Knobs) -> dict[str, Any]:
    return {name: getattr(knobs, name) for name in Knobs.__dataclass_fields__}


def test_max_tokens_and_group_size_take_effect_at_the_next_call(build: Build) -> None:
    trainer = build()
    take(trainer)
    outcome = take(trainer, Knobs(**{**_dict(KNOBS), "max_tokens": 3, "group_size": 6}))
    assert all(len(group.completions) == 6 for group in outcome.groups)
    assert max(c.tokens for g in outcome.groups for c in g.completions) == 3
    assert trainer.max_completion_length == 3  # dr_grpo divides by it


def test_learning_rate_is_the_one_that_was_asked_for(build: Build) -> None:
    moved = []
    for rate in (1e-3, 1e-5, 0.0):
        loaded = tiny()
        trainer = build(loaded)
        before = weights(loaded.model).clone()
        trainer.step(PROMPTS[:2], KNOBS, learning_rate=rate, seed=1)
        moved.append(float((weights(loaded.model) - before).abs().max()))
    assert moved[0] > 50 * moved[1] > 0
    assert moved[2] == 0.0


def test_beta_can_be_raised_live_on_full_weights_against_the_model_as_given(build: Build) -> None:
    loaded = tiny()
    start = weights(loaded.model).clone()
    trainer = build(loaded)
    first = take(trainer)
    assert first.metrics["kl/mean"] == pytest.approx(0.0, abs=1e-6)
    for seed in range(2, 5):
        take(trainer, seed=seed)
    later = take(trainer, Knobs(**{**_dict(KNOBS), "beta": 0.1}), seed=9)
    assert later.metrics["kl/mean"] > 1e-4
    with trainer._reference.in_place():
        assert torch.equal(weights(loaded.model), start)
    assert not torch.equal(weights(loaded.model), start)


def test_lora_measures_kl_to_the_adapter_it_began_with(build: Build, tmp_path: Path) -> None:
    trainer = build(tiny(lora=True))
    assert take(trainer).metrics["kl/mean"] == pytest.approx(0.0, abs=1e-6)
    for seed in range(2, 6):
        take(trainer, Knobs(**{**_dict(KNOBS), "learning_rate": 1e-2}), seed=seed)
    assert take(trainer, seed=9).metrics["kl/mean"] > 1e-4
    assert take(trainer, Knobs(**{**_dict(KNOBS), "beta": 0.1}), seed=10).metrics["kl/mean"] > 1e-4


def test_a_step_without_signal_moves_no_weight_although_adam_has_momentum(build: Build) -> None:
    loaded = tiny()
    trainer = build(loaded)
    take(trainer)
    before = weights(loaded.model).clone()
    trainer.scorer = ConstantScorer()
    outcome = take(trainer, seed=2)
    assert not outcome.updated
    assert torch.equal(before, weights(loaded.model))


def test_more_errors_than_the_limit_discard_the_update(build: Build) -> None:
    loaded = tiny()
    trainer = build(loaded, BrokenScorer(), limit=0.4)
    before = weights(loaded.model).clone()
    outcome = take(trainer)
    assert not outcome.updated
    assert torch.equal(before, weights(loaded.model))
    errors = [c.score.error for g in outcome.groups for c in g.completions if c.score.errored]
    assert errors == ["boom"] * 4


def test_a_few_errors_are_left_out_of_the_baseline(build: Build) -> None:
    trainer = build(scorer=BrokenScorer(), limit=0.6)
    advantages: list[torch.Tensor] = []
    original = trainer.compute_loss

    def spy(model: Any, inputs: dict[str, Any], **kwargs: Any) -> Any:
        advantages.append(inputs["advantages"])
        return original(model, inputs, **kwargs)

    trainer.compute_loss = spy
    outcome = take(trainer, Knobs(**{**_dict(KNOBS), "group_size": 16}))
    assert outcome.updated
    found = torch.cat(advantages)
    judged = [c.score.reward for c in outcome.groups[0].completions if not c.score.errored]
    assert 0 < len(found) <= 16  # the errored ones have no advantage and are left out
    expected = (judged[0] - sum(judged) / 8) / (torch.tensor(judged).std() + 1e-4)
    assert any(torch.isclose(value, expected, atol=1e-4) for value in found)


def test_rehearsal_leaves_weights_and_optimizer_alone(build: Build) -> None:
    plain, rehearsed = tiny(), tiny()
    one, other = build(plain), build(rehearsed)
    assert other.rehearse(PROMPTS[:2], KNOBS) > 0
    for seed in (1, 2):
        take(one, seed=seed)
        take(other, seed=seed)
    assert torch.equal(weights(plain.model), weights(rehearsed.model))


@pytest.mark.parametrize(
    ("lora", "spec"),
    [
        (False, TrainerSpec(micro_batch=4)),
        (True, TrainerSpec(micro_batch=4)),
        (True, TrainerSpec(micro_batch=4, num_iterations=2, mask_truncated=True, bf16=True)),
    ],
)
def test_save_and_load_continue_bit_for_bit_while_knobs_change(
    build: Build, tmp_path: Path, lora: bool, spec: TrainerSpec
) -> None:
    schedule = [
        KNOBS,
        Knobs(**{**_dict(KNOBS), "temperature": 0.7, "learning_rate": 3e-4}),
        Knobs(**{**_dict(KNOBS), "group_size": 2, "beta": 0.05}),
        Knobs(**{**_dict(KNOBS), "temperature": 1.2, "prompts_per_step": 4}),
    ]
    whole = tiny(lora=lora)
    trainer = build(whole, spec=spec)
    for seed, knobs in enumerate(schedule):
        if seed == 2:
            (tmp_path / "saved").mkdir()
            trainer.save(tmp_path / "saved")
        take(trainer, knobs, seed=seed)

    resumed = tiny(lora=lora)
    second = build(resumed, spec=spec)
    second.load(tmp_path / "saved")
    for seed, knobs in list(enumerate(schedule))[2:]:
        take(second, knobs, seed=seed)
    assert torch.equal(weights(whole.model), weights(resumed.model))


def test_trl_encodes_a_prompt_as_the_rollout_did(build: Build) -> None:
    trainer = build()
    _, batch = trainer._roll_out(PROMPTS[:2], KNOBS, 1e-3, seed=1)
    for row, prompt in enumerate([prompt for prompt in PROMPTS[:2] for _ in range(KNOBS.group_size)]):
        ids = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        assert ids.tolist() == trainer.loaded.prompt_ids(prompt)


# ---------------------------------------------------------------- several updates on a rollout, truncated completions


def test_epsilon_holds_back_what_has_moved_far_and_does_nothing_in_the_first_update(build: Build) -> None:
    moved = {}
    for iterations in (1, 3):
        for epsilon, high in ((0.2, None), (0.01, None), (0.01, 0.2)):
            loaded = tiny()
            spec = TrainerSpec(micro_batch=8, num_iterations=iterations, epsilon=epsilon, epsilon_high=high)
            metrics = take(build(loaded, spec=spec), Knobs(**{**_dict(KNOBS), "learning_rate": 2e-4})).metrics
            moved[iterations, epsilon, high] = weights(loaded.model)
            if iterations == 1:
                assert not any(name.startswith("clip_ratio") for name in metrics)
                continue
            low, above, both = (metrics[f"clip_ratio/{part}_mean"] for part in ("low", "high", "region"))
            assert 0 < both < 1
            assert low + above == pytest.approx(both)
    assert torch.equal(moved[1, 0.2, None], moved[1, 0.01, None])
    assert len({float(moved[3, *each].double().sum()) for each in ((0.2, None), (0.01, None), (0.01, 0.2))}) == 3


def test_groups_without_signal_are_left_out_of_every_update_and_change_nothing(build: Build) -> None:
    moved, used = [], []
    for signal_only in (True, False):
        loaded = tiny()
        spec = TrainerSpec(micro_batch=4, optimizer="sgd", signal_only=signal_only, num_iterations=3)
        outcome = take(build(loaded, HalfDeadScorer(), spec), Knobs(**{**_dict(KNOBS), "learning_rate": 0.1}))
        used.append(outcome.metrics["update/used_rate"])
        moved.append(weights(loaded.model))
    assert used == [0.5, 1.0]
    assert torch.allclose(*moved, atol=1e-7)


def test_an_update_that_is_not_finite_keeps_those_before_it(build: Build) -> None:
    one, three = tiny(), tiny()
    take(build(one, spec=TrainerSpec(micro_batch=8)))
    trainer = build(three, spec=TrainerSpec(micro_batch=8, num_iterations=3))
    seen = []
    three.model.lm_head.weight.register_hook(
        lambda gradient: gradient * float("nan" if seen.append(1) or len(seen) == 2 else 1)
    )
    outcome = take(trainer)
    assert outcome.updated
    assert not outcome.lost
    assert "updates from number 2 on were discarded" in outcome.fault
    assert torch.equal(weights(one.model), weights(three.model))


def test_truncated_completions_give_no_gradient_but_count_in_the_baseline(build: Build) -> None:
    trainer = build(spec=TrainerSpec(micro_batch=64, mask_truncated=True))
    knobs = Knobs(**{**_dict(KNOBS), "max_tokens": 40, "group_size": 16})
    trained: list[torch.Tensor] = []
    original = trainer.compute_loss

    def spy(model: Any, inputs: dict[str, Any], **kwargs: Any) -> Any:
        trained.append(inputs["completion_ids"][inputs["completion_mask"].bool()])
        return original(model, inputs, **kwargs)

    trainer.compute_loss = spy
    outcome = take(trainer, knobs)
    completions = [c for group in outcome.groups for c in group.completions]
    whole = sum(c.tokens for c in completions if not c.truncated)
    assert 0 < whole < sum(c.tokens for c in completions)
    assert sum(map(len, trained)) == whole
    rewards = torch.tensor([c.score.reward for c in outcome.groups[0].completions])
    _, batch = trainer._roll_out(PROMPTS[:2], knobs, 0.0, seed=1)
    again = torch.tensor([c.score.reward for c in trainer._rollout.groups[0].completions])
    assert len(rewards) == len(again)
    assert torch.allclose(batch["advantages"][:16], (again - again.mean()) / (again.std() + 1e-4), atol=1e-4)


def test_a_completion_that_a_stop_text_ended_is_not_truncated(build: Build) -> None:
    digits = list("0123456789")
    trainer = build(spec=TrainerSpec(micro_batch=8, mask_truncated=True, stop=digits))
    outcome = take(trainer, Knobs(**{**_dict(KNOBS), "max_tokens": 40, "group_size": 8}))
    kept = [not c.truncated for group in outcome.groups for c in group.completions]
    assert any(kept)
    assert outcome.metrics["update/used_rate"] > 0


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_a_step_of_truncated_completions_alone_moves_nothing(build: Build, beta: float) -> None:
    loaded = tiny()
    trainer = build(loaded, spec=TrainerSpec(micro_batch=4, mask_truncated=True))
    before = weights(loaded.model).clone()
    outcome = take(trainer, Knobs(**{**_dict(KNOBS), "max_tokens": 1, "beta": beta}))
    assert not outcome.updated
    assert torch.equal(before, weights(loaded.model))
    assert outcome.metrics["kl/mean"] == pytest.approx(0.0, abs=1e-6)


# ---------------------------------------------------------------- one device


def test_a_process_that_sees_several_gpus_trains_on_one(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch says that there are two, as it would in a notebook that loaded it before the harness."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("harness.models.runtime.find_device", lambda: torch.device("cuda:0"))
    loaded = tiny()
    shown = [Prompt("p", "1+1=", "2", demonstration="2")]
    warm_start(loaded, shown, WarmstartSpec(steps=1, batch=1), seed=0, progress=lambda *said: None)
    trainer = build(loaded)
    assert trainer.args.n_gpu == 1
    assert take(trainer).updated


def test_bf16_computes_the_update_in_bfloat16_and_keeps_the_weights(build: Build) -> None:
    norms, kl = [], []
    for bf16 in (False, True):
        loaded = tiny()
        metrics = take(build(loaded, spec=TrainerSpec(micro_batch=8, bf16=bf16))).metrics
        assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
        norms.append(metrics["grad/norm"])
        kl.append(metrics["kl/mean"])
    assert norms[0] != norms[1]
    assert norms[1] == pytest.approx(norms[0], rel=0.05)
    assert kl == [0.0, 0.0]


# ---------------------------------------------------------------- dynamic sampling


class OddScorer(DigitScorer):
    """Groups of prompts with an odd number are mixed, the others all wrong."""

    def score(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Score]:
        odd = [int(prompt.id[1:]) % 2 for prompt in prompts]
        return [Score(float(is_odd and i % 2), False, "") for i, is_odd in enumerate(odd)]


def test_a_step_that_gets_more_prompts_updates_on_as_many_mixed_groups_as_were_wanted(build: Build) -> None:
    asked: list[int] = []

    def more(groups: Sequence[Group]) -> Sequence[Prompt]:
        asked.append(len(groups))
        return PROMPTS[len(groups) : len(groups) + 2] if sum(group.mixed for group in groups) < 2 else ()

    topped_up = build(tiny(), OddScorer())
    outcome = topped_up.step(PROMPTS[:2], KNOBS, learning_rate=1e-2, seed=3, more=more)
    assert asked == [2, 4]
    assert [group.prompt.id for group in outcome.groups] == ["p0", "p1", "p2", "p3"]
    assert [group.prompt.id for group in topped_up._rollout.groups] == ["p1", "p3"]
    assert outcome.metrics["update/used_rate"] == 1.0
    assert outcome.updated
    assert not outcome.notes


@pytest.mark.parametrize("start", [0, 1], ids=["no mixed group", "one mixed group"])
def test_too_few_mixed_groups_are_told_and_end_nothing(build: Build, start: int) -> None:
    trainer = build(tiny(), OddScorer())
    even = [PROMPTS[start], *PROMPTS[2::2]]
    outcome = trainer.step(
        even[:2], KNOBS, learning_rate=1e-2, seed=3, more=lambda groups: even[len(groups) : len(groups) + 2]
    )
    assert outcome.updated == bool(start)
    assert outcome.notes == (f"{start} of 4 prompts gave mixed groups, 2 were asked for",)


def test_stop_strings_end_a_completion_without_padding_or_truncation(build: Build) -> None:
    trainer = build(spec=TrainerSpec(micro_batch=4, stop=["1", "2", "3", "4", "5", "6", "7", "8", "9", "0"]))
    completions = [c for g in take(trainer, Knobs(**{**_dict(KNOBS), "max_tokens": 40})).groups for c in g.completions]
    stopped = [c for c in completions if any(d.isdigit() for d in c.text)]
    assert stopped
    for completion in stopped:
        assert completion.text[-1].isdigit()
        assert sum(d.isdigit() for d in completion.text) == 1
        assert completion.tokens < 40
        assert not completion.truncated


def test_progress_counts_samples_rewards_and_updates(build: Build) -> None:
    trainer = build()
    seen: list[tuple[str, int, int]] = []
    trainer.step(PROMPTS[:2], KNOBS, learning_rate=1e-3, seed=1, progress=lambda *said: seen.append(said))
    assert {phase for phase, _, _ in seen} == {"sampling", "rewarding", "updating"}
    assert ("sampling", 8, 8) in seen
    assert ("updating", 2, 2) in seen


@pytest.mark.parametrize(
    ("scheduler", "total", "warmup", "factors"),
    [
        ("constant", None, 0, {1: 1.0, 500: 1.0}),
        ("linear", 10, 0, {1: 10 / 11, 10: 1 / 11, 11: 0.0, 50: 0.0}),
        ("cosine", 10, 2, {1: 0.5, 2: 1.0, 11: 0.0, 15: 0.0, 20: 0.0}),
        ("constant_with_warmup", None, 4, {1: 0.25, 4: 1.0, 90: 1.0}),
        ("constant", None, 4, {1: 0.25, 4: 1.0, 90: 1.0}),
    ],
)
def test_schedule_is_a_function_of_the_step_alone(
    build: Build, scheduler: Any, total: int | None, warmup: int, factors: dict[int, float]
) -> None:
    spec = TrainerSpec(lr_scheduler=scheduler, scheduler_total_steps=total, warmup_steps=warmup)
    trainer = build(spec=spec)
    for step, factor in factors.items():
        assert trainer.schedule_factor(step) == pytest.approx(factor, abs=1e-9)
