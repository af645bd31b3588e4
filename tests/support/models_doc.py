"""docs/models.md, from a matrix of architectures: ``python -m tests.support.models_doc`` (make models) writes it anew.

Exits with 1 when a supported architecture does not agree with itself, or one that is not is trained all the same.
"""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path

import torch
import transformers

from harness.models.runtime import prepare_process
from tests.support.architectures import ARCHITECTURES, MODES, Architecture, Measured, measure, write_folder

FILE = Path(__file__).parents[2] / "docs" / "models.md"
HEAD = """<!-- Written by the program: make models -->

# Models

Before a run is created, its model is tried: tokens are sampled from a cache, and their log-probabilities computed in a
padded batch and with shared prompts. What differs from a forward pass of each row alone is refused in one line, or, for
shared prompts, left out (`harness/training/probe.py`). So an architecture need not stand here to be trained.

This table tries {count} of them, small ones with random weights: full weights, LoRA and gradient checkpointing, each
with a step at learning rate 0 (KL must be 0) and one at 0.01, then log-probabilities of sampled tokens in every way,
gradients with and without shared prompts, the checkpoint read back, and the export with the adapter merged. Differences
are the largest of all, in nats; float32 on a CPU.

| architecture | | shared prompts | sampled, batched, shared | reloaded, exported | KL at rate 0 |
|---|---|---|---|---|---|
"""
TAIL = """
Made with transformers {transformers}, torch {torch}.

- Gradient checkpointing keeps no cache, so there every completion carries its prompt, in every architecture.
- A mixture of experts is trained with its load-balancing loss, as in TRL's own loop (`router_aux_loss_coef` of its
  config). That loss counts all tokens of a row, so there too every completion carries its prompt in the update, and
  groups without signal take part.
- PEFT puts no adapter on `out_proj` of state-space models: name other layers in `lora.target_modules`.
- Rotary positions of kind `dynamic` and `longrope` change with the longest text of a batch beyond some length; the
  context ends there.
- Adapters are continued whatever their kind (LoRA with embeddings, biases, trained tokens or whole layers, DoRA, IA3);
  refused are learned prompts, and adapters on the output layer.
"""


def main() -> int:
    prepare_process(1)
    lines, failed = [], []
    for architecture in ARCHITECTURES:
        found = measure_all(architecture)
        good = all(each.agrees if architecture.supported else bool(each.refused) for each in found.values())
        if not good:
            failed.append(architecture.name)
        lines.append(describe(architecture, list(found.values())))
        print(("" if good else "FAILED ") + lines[-1], flush=True)
        for mode, each in found.items() if not good else ():
            print(f"  {mode}: {each}", flush=True)
    tail = TAIL.format(transformers=transformers.__version__, torch=torch.__version__.partition("+")[0])
    FILE.write_text(HEAD.format(count=len(ARCHITECTURES)) + "\n".join(lines) + "\n" + tail, encoding="utf-8")
    print(f"{FILE}: {len(ARCHITECTURES) - len(failed)} of {len(ARCHITECTURES)} as they should be", *failed, sep="\n")
    return 1 if failed else 0


def measure_all(architecture: Architecture) -> dict[str, Measured]:
    with tempfile.TemporaryDirectory() as temporary:
        model = write_folder(architecture, Path(temporary) / "model")
        return {mode: measure(architecture, mode, model, Path(temporary) / mode) for mode in MODES}


def describe(architecture: Architecture, found: list[Measured]) -> str:
    start = f"| {architecture.name} | {architecture.what} "
    if any(each.refused for each in found):
        return f"{start}| refused: {next(each.refused for each in found if each.refused).partition(': ')[2]} | | | |"
    agreement = max(max(each.sampled, each.plain, each.shared) for each in found)
    kept = max(max(each.reloaded, each.exported) for each in found)
    shared = "yes" if any(each.shares for each in found) else "no"
    kl = max(abs(each.kl) for each in found)
    return f"{start}| {shared} | {_below(agreement)} | {_below(kept)} | {_below(kl)} |"


def _below(value: float) -> str:
    """Name the power of ten above, since the last digits are another machine's."""
    return "0" if value == 0 else f"< 1e{math.floor(math.log10(value)) + 1}"


if __name__ == "__main__":
    sys.exit(main())
