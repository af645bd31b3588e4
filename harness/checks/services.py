"""Ask a service one small question, before a run depends on its answers: what came back, and whether the key is taken.

A refused key is wrong input, found before anything is created. A service that is only down may be up again in an hour,
and until then the rules decide: that is a warning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from threading import Event

from harness.checks.judges import judges_of
from harness.config.asking import build_ledger
from harness.config.schema import RunSpec
from harness.core.formatting import clean, shorten
from harness.core.liveness import was_restarted
from harness.errors import HarnessError, InputError, OverBudget
from harness.llm.ledger import Ledger
from harness.llm.names import is_hosted
from harness.llm.settings import Settings
from harness.types import Prompt, Question, Reply

REFUSED = re.compile(r"HTTP (401|402|403|404)\b")
"""How the error of a reply begins that no waiting helps: a key that is not taken, no money, no such model."""
TIME_LIMIT_S = 20.0
ANSWER_TOKENS = 64
SAID = 80
"""Characters of an answer that are shown."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of asking one service: ``what`` it is for (llm, judge NAME, alerts) and its ``name``.

    ``said`` is its answer, or where it is not ``ok`` why there is none, in one line without secrets. Of a model also
    the ``seconds`` that it took, the ``model`` that the service says has answered, tokens, and the cost where a price
    is known.
    """

    what: str
    name: str
    ok: bool
    said: str
    seconds: float = 0.0
    model: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = None


def try_model(what: str, name: str, spec: RunSpec) -> Tried:
    """Ask a hosted model for one word, at the prices of ``spec``. What is wrong with its name or key came back, too."""
    try:
        ledger = Ledger(build_ledger(spec).prices)
        reply = ask_once(name, "Answer with one word: ready", spec, ledger, max_tokens=ANSWER_TOKENS)
    except HarnessError as error:
        return Tried(what, name, False, str(error))
    return _as_tried(what, name, reply)


def try_models(spec: RunSpec) -> list[Tried]:
    """Ask the LLM of a spec whose decision policy it is, or that has a section for it, and the services that judge."""
    meant = {"llm": spec.llm.answerer} if spec.policy.kind == "llm" or "llm" in spec.model_fields_set else {}
    meant |= {f"judge {name}": spec.judge[name].model for name in judges_of(spec) if is_hosted(spec.judge[name].model)}
    return [try_model(what, name, spec) for what, name in meant.items()]


def check_llm(spec: RunSpec, spent: float = 0.0, interrupted: Event | None = None) -> Tried:
    """Try the key of the decision policy llm by a question with an answer of one token, within what is left of
    budget.usd after ``spent`` USD.

    Where the service does not answer now, what came of it says so. Raises InputError where it refuses; but in the
    middle of the night, when a supervisor starts the run again, that is no more than not answering.
    """
    name = spec.llm.answerer
    try:
        reply = ask_once(name, "Hi", spec, build_ledger(spec, spent), max_tokens=1, interrupted=interrupted)
    except OverBudget as over:
        return Tried("llm", name, False, f"{name} is not asked, so the rules decide: {over}")
    tried = _as_tried("llm", name, reply)
    if tried.ok:
        return tried
    if REFUSED.match(reply.error) and not was_restarted():
        raise InputError(
            f"llm.model: {name} refuses to answer: {reply.error}; check the model and the key in the environment, or "
            "take --policy rules"
        )
    return replace(tried, said=f"{name} does not answer now, so until it does the rules decide: {reply.error}")


def ask_once(
    name: str, words: str, spec: RunSpec, ledger: Ledger, *, max_tokens: int, interrupted: Event | None = None
) -> Reply:
    """Ask a hosted model once, without another attempt. Raises InputError as open_hosted does, and OverBudget."""
    from harness.llm.hosted import open_hosted  # its SDK takes a second to import

    settings = Settings(concurrency=1, attempts=1, time_limit=min(spec.answers.time_limit, TIME_LIMIT_S))
    answerer = open_hosted(name, settings, ledger, interrupted or Event())
    question = Question(Prompt(id="try", text=words, ground_truth=""), max_tokens=max_tokens, temperature=1.0)
    ((_, reply),) = answerer.answer([question])
    return reply


def _as_tried(what: str, name: str, reply: Reply) -> Tried:
    said = reply.error or f"answered {clean(shorten(reply.text, SAID))!r}"
    model = "" if reply.error else reply.model or name
    return Tried(
        what, name, not reply.error, said, round(reply.seconds, 3), model, reply.tokens_in, reply.tokens_out,
        reply.cost_usd,
    )  # fmt: skip
