"""What a step needs is said before it is taken, with the field that mends it."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import LlamaConfig

from harness.config.schema import LoraSpec, ModelSpec, TrainerSpec, WarmstartSpec
from harness.errors import InputError
from harness.models.load import load_model
from harness.models.memory import Shape, check_memory, compute_memory, free_memory, shape_of
from harness.models.tiny import build_tiny_tokenizer
from harness.types import Knobs

GIB = 2**30
# Half a billion parameters with an adapter, as a GPU would hold it.
SHAPE = Shape(
    layers=24, hidden=896, intermediate=4864, kv_width=128, vocabulary=151_936, number_bytes=2,
    weights_bytes=GIB, trained=8_000_000, full=False,
)  # fmt: skip
NO_START = WarmstartSpec(steps=0)
KNOBS = Knobs(max_tokens=512, group_size=8, prompts_per_step=64)


def test_the_parts_add_up() -> None:
    forecast = compute_memory(SHAPE, KNOBS, TrainerSpec(micro_batch=8), NO_START, longest_prompt=200)
    assert forecast.reference == 0
    assert forecast.training == 8_000_000 * 4 * 3
    assert forecast.fixed == GIB + 96_000_000
    assert forecast.peak == forecast.fixed + max(forecast.rollout, forecast.update)
    assert "sampling" in forecast.text
    assert "reference" not in forecast.text
    full = compute_memory(
        replace(SHAPE, full=True, trained=GIB // 2), KNOBS, TrainerSpec(micro_batch=8), NO_START, longest_prompt=200
    )
    assert full.reference == GIB


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"max_tokens": 1024}, "rollout"),
        ({"prompts_per_step": 128}, "rollout"),
        ({"max_tokens": 1024}, "update"),
    ],
)
def test_more_work_needs_more(change: dict[str, int], part: str) -> None:
    trainer = TrainerSpec(micro_batch=8)
    before = getattr(compute_memory(SHAPE, KNOBS, trainer, NO_START, longest_prompt=200), part)
    assert (
        getattr(compute_memory(SHAPE, replace(KNOBS, **change), trainer, NO_START, longest_prompt=200), part)
        > 1.3 * before
    )


def test_checkpointing_and_small_micro_batches_need_less() -> None:
    plain = compute_memory(SHAPE, KNOBS, TrainerSpec(micro_batch=64), NO_START, longest_prompt=200).update
    assert compute_memory(SHAPE, KNOBS, TrainerSpec(micro_batch=8), NO_START, longest_prompt=200).update < plain / 3
    saving = TrainerSpec(micro_batch=64, gradient_checkpointing=True)
    assert compute_memory(SHAPE, KNOBS, saving, NO_START, longest_prompt=200).update < plain / 3


def test_bf16_keeps_less_of_the_layers_and_a_copy_of_float32_weights() -> None:
    def update(number_bytes: int, max_tokens: int, *, bf16: bool) -> int:
        shape, knobs = replace(SHAPE, number_bytes=number_bytes), replace(KNOBS, max_tokens=max_tokens)
        return compute_memory(
            shape, knobs, TrainerSpec(micro_batch=8, bf16=bf16), NO_START, longest_prompt=max_tokens
        ).update

    assert update(2, 512, bf16=True) == update(2, 512, bf16=False)
    assert update(4, 512, bf16=True) < 0.75 * update(4, 512, bf16=False)
    assert update(4, 1, bf16=True) - update(4, 1, bf16=False) == pytest.approx(GIB / 2, rel=0.1)


@pytest.mark.parametrize(
    ("free", "full", "micro_batch", "said"),
    [
        (GIB // 2, False, 8, r"model\.name: .*take a smaller model"),
        (2 * GIB, True, 8, r"model\.name: .*reference .*lora\.rank=16"),
        (12 * GIB, False, 128, r"trainer\.micro_batch: .*the update .*lower it to \d+"),
        (4 * GIB, False, 1, r"knobs\.prompts_per_step: .*sampling .*lower it to \d"),
    ],
)
def test_what_does_not_fit_names_the_mend(free: int, full: bool, micro_batch: int, said: str) -> None:
    shape = replace(SHAPE, full=True, trained=GIB // 2) if full else SHAPE
    trainer = TrainerSpec(micro_batch=micro_batch)
    with pytest.raises(InputError, match=said) as raised:
        check_memory(shape, KNOBS, trainer, NO_START, longest_prompt=200, free=free)
    assert "\n" not in str(raised.value)
    enough = compute_memory(shape, KNOBS, trainer, NO_START, longest_prompt=200).peak
    assert check_memory(shape, KNOBS, trainer, NO_START, longest_prompt=200, free=enough).peak == enough


def test_the_mend_is_enough() -> None:
    with pytest.raises(InputError) as raised:
        check_memory(SHAPE, KNOBS, TrainerSpec(micro_batch=128), NO_START, longest_prompt=200, free=12 * GIB)
    mended = TrainerSpec(micro_batch=int(str(raised.value).rsplit(" ", 1)[1]))
    check_memory(SHAPE, KNOBS, mended, NO_START, longest_prompt=200, free=12 * GIB)


def test_the_warm_start_counts_where_there_is_one() -> None:
    start = WarmstartSpec(steps=10, batch=256)
    trainer = TrainerSpec(micro_batch=1)
    needed = compute_memory(SHAPE, KNOBS, trainer, start, longest_prompt=200)
    assert needed.peak == needed.fixed + needed.warmstart
    with pytest.raises(InputError, match=r"warmstart\.batch: .*the warm start .*lower it to \d+"):
        check_memory(SHAPE, KNOBS, trainer, start, longest_prompt=200, free=12 * GIB)


def test_the_shape_is_read_from_a_model() -> None:
    shape = shape_of(load_model(ModelSpec(), LoraSpec(rank=4), seed=0).model)
    assert (shape.layers, shape.hidden, shape.intermediate, shape.kv_width) == (2, 128, 1024, 128)
    assert not shape.full
    assert 0 < shape.trained < 100_000
    assert shape_of(load_model(ModelSpec(), LoraSpec(rank=0), seed=0).model).full


def test_weights_too_large_for_the_machine_are_refused_unread(tmp_path: Path) -> None:
    folder = tmp_path / "huge"  # its config alone: nobody gets as far as the weights
    LlamaConfig(
        vocab_size=128, hidden_size=65_536, intermediate_size=262_144, num_hidden_layers=40, num_attention_heads=64
    ).save_pretrained(folder)
    build_tiny_tokenizer().save_pretrained(folder)
    with pytest.raises(InputError, match=r"model\.name: the [\d,]+ million weights of .* need [\d,.]+ GiB and .* free"):
        load_model(ModelSpec(name=str(folder), chat=False), LoraSpec(), seed=0)


def test_a_limit_on_the_process_counts() -> None:
    code = (
        "import json, resource\n"
        "from harness.models.memory import free_memory\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({64 * GIB}, resource.RLIM_INFINITY))\n"
        "wide = free_memory()\n"
        "import psutil\n"
        "used = psutil.Process().memory_info().vms\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (used + {GIB}, resource.RLIM_INFINITY))\n"
        "print(json.dumps([wide, free_memory()]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    wide, tight = json.loads(done.stdout)
    assert tight <= GIB
    assert wide > tight
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
    assert free_memory() > GIB
