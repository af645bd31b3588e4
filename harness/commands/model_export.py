"""Export a run's model as one folder that transformers loads, with a card written from the run's record."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from peft import PeftModel

from harness.checks.trust import sign
from harness.core.formatting import finalize, format_changes, format_duration, format_knob
from harness.errors import InputError
from harness.models.load import merge_adapter, save_weights
from harness.run.answerers import SIGNATURE_FILE, SPEC_FILE, Target, load_checkpoint
from harness.store.history import load_history
from harness.store.writer import RunStore
from harness.views.review import build_review

DECISIONS_TOLD = 40


def export_run(store: RunStore, name: str, checkpoint: str, folder: Path, *, adapter: bool) -> Target:
    """Write a checkpoint (best, final, a step or a name) of a run into the new ``folder``, an adapter merged into its
    base unless ``adapter``. Raises InputError, and then nothing was written."""
    target = load_checkpoint(store, name, checkpoint)
    model = target.loaded.model
    if isinstance(model, PeftModel):
        if not adapter and target.spec.model.quantization is not None:
            raise InputError("--adapter: the base is in 4 bits, into which an adapter cannot be merged; export that")
        if not adapter:
            model = merge_adapter(model)
    elif adapter:
        raise InputError(f"--adapter: {name} trained full weights and has none; leave it out")
    review = build_review(load_history(store, name))
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that the folder appears there whole or not at all.
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        whole = Path(temporary) / folder.name
        save_weights(model, whole)
        target.loaded.tokenizer.save_pretrained(whole)
        (whole / SPEC_FILE).write_text(target.spec.model_dump_json(indent=2), encoding="utf-8")
        (whole / SIGNATURE_FILE).write_text(sign(target.spec, folder), encoding="utf-8")
        (whole / "README.md").write_text(render_card(review, target, adapter=adapter), encoding="utf-8")
        whole.rename(folder)
    return target


def render_card(review: Mapping[str, Any], target: Target, *, adapter: bool) -> str:
    """Render the model card, in Markdown with the header that model hubs read; ``review`` as of ``build_review``."""
    spec, held = target.spec, review["heldout"]
    full = not isinstance(target.loaded.model, PeftModel)
    scores = {
        "before": held["baseline"],
        f"best on dev, step {held['best_step']}": held["best"],
        "last": held["final"],
    }
    templates = Environment(
        loader=PackageLoader("harness.commands"),
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    templates.filters |= {"duration": format_duration, "knob": format_knob, "changes": format_changes, "cell": _cell}
    return templates.get_template("card.md").render(
        review=review,
        manifest=review["manifest"],
        held=held,
        spec=spec,
        step=target.step,
        chat=target.loaded.chat,
        kwargs="".join(f", {name}={value!r}" for name, value in spec.pool.template_kwargs.items()),
        adapter=adapter,
        kind="full weights" if full else "adapter" if adapter else "adapter merged into it",
        hub_id=spec.model.name.count("/") == 1 and not Path(spec.model.name).exists(),
        scores=[(weights, score) for weights, score in scores.items() if score is not None],
        decisions=[d for d in review["decisions"] if d["action"] != "continue" and not d["refused"]][-DECISIONS_TOLD:],
    )


def _cell(text: str) -> str:
    """Write a text as one line that cannot end a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
