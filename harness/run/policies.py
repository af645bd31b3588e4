"""Decision policies by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Event

from harness.config.names import REPLAY
from harness.config.schema import RunSpec, check_policy_kind
from harness.core.actions import check_action
from harness.core.liveness import refuse_running
from harness.errors import InputError
from harness.llm.client import api_key
from harness.store.reader import RunReader
from harness.types import DecisionPolicy, Progress, SampleRecord
from policies.detectors import detect
from policies.fixed import FixedPolicy
from policies.rules import RulesPolicy, propose

POLICIES: Mapping[str, Callable[[], DecisionPolicy]] = {"rules": RulesPolicy, "fixed": FixedPolicy}


def build_llm(
    spec: RunSpec, samples: Callable[[], Sequence[SampleRecord]], interrupted: Event, progress: Progress
) -> DecisionPolicy:
    """The LLM with the rules beside it. Its SDK takes two seconds to import, so nobody else does."""
    from harness.llm.client import MessagesApi
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

    return LlmPolicy(
        api,
        every=llm.every,
        prices=prices,
        detect=detect,
        propose=propose,
        check=check_action,
        samples=samples,
        progress=progress,
    )


def check_policy(kind: str, store: RunReader | None) -> str:
    """The kind of decision policy with its run by its own name, once this process could ask it.

    Raises InputError: no such kind, no key for the llm, no such run in ``store`` to repeat.
    """
    try:
        check_policy_kind(kind)
    except ValueError as error:
        raise InputError(f"policy.kind: {error}") from None
    if kind == "llm" and not api_key():
        raise InputError(
            "policy.kind: llm needs the environment variable ANTHROPIC_API_KEY; set it, or take --policy rules"
        )
    if not kind.startswith(REPLAY):
        return kind
    name = kind.removeprefix(REPLAY)
    if store is None:
        raise InputError(f"policy.kind: no run named {name} to replay: there is no database yet")
    run = store.match_run(name)
    refuse_running(run.name, run.status, run.pid, run.host, run.process, run.heartbeat)
    return f"{REPLAY}{run.name}"
