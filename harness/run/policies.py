"""Build decision policies by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Event

from harness.config.schema import RunSpec
from harness.types import DecisionPolicy, Progress, SampleRecord
from policies.fixed import FixedPolicy
from policies.rules import RulesPolicy

POLICIES: Mapping[str, Callable[[], DecisionPolicy]] = {"rules": RulesPolicy, "fixed": FixedPolicy}


def build_llm(
    spec: RunSpec, samples: Callable[[], Sequence[SampleRecord]], interrupted: Event, progress: Progress
) -> DecisionPolicy:
    """Build the LLM policy with the rules beside it. Its SDK takes two seconds to import, so nobody else does."""
    from harness.llm.client import MessagesApi, api_key
    from policies.llm import LlmPolicy, Prices

    llm = spec.llm
    prices = None
    if llm.input_price is not None and llm.output_price is not None:
        prices = Prices(llm.input_price, llm.output_price, spec.budget.usd)
    api = MessagesApi(
        api_key(),
        model=llm.model,
        max_tokens=llm.max_tokens,
        time_limit=llm.time_limit,
        attempts=llm.attempts,
        interrupted=interrupted,
    )
    return LlmPolicy(api, every=llm.every, prices=prices, samples=samples, progress=progress)
