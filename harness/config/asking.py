"""From a spec to how models behind an address are asked, and what they may cost."""

from __future__ import annotations

from harness.config.schema import RunSpec
from harness.llm.ledger import Ledger, Price
from harness.llm.settings import Settings


def build_settings(spec: RunSpec) -> Settings:
    return Settings(**spec.answers.model_dump())


def build_ledger(spec: RunSpec, spent: float = 0.0) -> Ledger:
    """Build the ledger of [prices] and budget.usd, of which ``spent`` USD are gone."""
    prices = {name: Price(price.input, price.output) for name, price in spec.prices.items()}
    return Ledger(prices, spec.budget.usd, spent)
