"""Keep the initial model that KL is measured against."""

from __future__ import annotations

from peft import PeftModel

KL_SAMPLES = 8
"""Completions on which KL is measured when beta is 0 and the loss does not need it."""


def add_reference_adapter(model: PeftModel) -> None:
    """Add a frozen copy of the adapter as it is now, under the name that TRL looks for. TRL makes one itself only
    when beta is set at construction, and without it KL would be measured against the base model."""
    model.add_adapter("ref", model.peft_config["default"])
    for name, parameter in model.named_parameters():
        if ".default." in name:
            model.get_parameter(name.replace(".default.", ".ref.")).data.copy_(parameter.data)
    model.set_adapter("default")
