"""Fields of a spec that stand elsewhere now; what migrates a database needs no more than this."""

from __future__ import annotations

from typing import Any

from harness.config.names import LLM_MODEL

MOVED = {
    "attempts": "it is answers.attempts now",
    "time_limit": "it is answers.time_limit now",
    "input_price": 'it stands in [prices] now: "MODEL" = { input = ..., output = ... }',
    "output_price": 'it stands in [prices] now: "MODEL" = { input = ..., output = ... }',
}
"""Fields that [llm] had, and where they are now."""


def move_answers(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a spec with the fields of [llm] in their place of now."""
    llm = tree.get("llm")
    if not isinstance(llm, dict) or not llm.keys() & MOVED.keys():
        return tree
    kept = {name: value for name, value in llm.items() if name not in MOVED}
    asked = {name: llm[name] for name in ("attempts", "time_limit") if name in llm}
    moved = tree | {"llm": kept, "answers": asked | tree.get("answers", {})}
    if llm.get("input_price") is not None and llm.get("output_price") is not None:
        price = {"input": llm["input_price"], "output": llm["output_price"]}
        model = llm.get("model", LLM_MODEL)
        moved["prices"] = {model: price} | tree.get("prices", {})
    return moved
