"""What the sections of a spec are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


def _not_empty(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty; leave it out for the default")
    return text


Given = Annotated[str, AfterValidator(_not_empty)]


class Section(BaseModel):
    """Unknown fields are errors, numbers are finite, nothing changes after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
