"""Answers by a service: ``anthropic:MODEL``, or ``openai:MODEL`` at any address that speaks OpenAI's form.

    answerer = open_hosted("openai:qwen3-30b", Settings(concurrency=10), Ledger(), Event())
    for place, reply in answerer.answer(questions):
        ...

Every question ends in a Reply. What passes is tried again, after as long as the service asks for. What all the others
would meet too (a refused key, no money, no such model; nobody at the address before the first answer) is their reply
within the same call of ``answer``, without being sent.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from queue import SimpleQueue
from threading import BoundedSemaphore, Event, Lock, Thread
from types import ModuleType
from typing import Any

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from harness.errors import InputError, OverBudget
from harness.llm.chat_api import CHAT
from harness.llm.connection import Connection
from harness.llm.faults import Barred, Fault, Interrupted, Passing, Unreachable, wait_s
from harness.llm.forms import Form, Said, parse
from harness.llm.keys import Key, read_key
from harness.llm.ledger import LOOK_S, Halted, Held, Ledger
from harness.llm.messages_api import MESSAGES
from harness.llm.names import is_hosted, name_hosted
from harness.llm.settings import Settings
from harness.types import Answerer, Question, Reply

__all__ = ["check_hosted", "is_hosted", "name_hosted", "open_hosted"]
log = logging.getLogger("grpo")
FORMS = {form.name: form for form in (MESSAGES, CHAT)}
TOOL_TOKENS = 600
"""At most so many a service adds to a request with tools, beyond what stands in it."""
NO_KEY = "none"
"""Sent to a server that needs none, since its client wants one; too short to be taken for a secret."""
NOT_ASKED = "interrupted before it was asked"

Note = Callable[[int, Reply], None]


def check_hosted(name: str) -> None:
    """Raise InputError where the service cannot be asked here: no model, no key, no package of its client."""
    _prepare(name)


def open_hosted(name: str, settings: Settings, ledger: Ledger, interrupted: Event) -> Answerer:
    """Open ``anthropic:MODEL`` or ``openai:MODEL``. Key and address are those of the environment now. Nothing is sent.

    Raises InputError: no key, no package of the client, no price though the ledger has a cap.
    """
    form, model, key = _prepare(name)
    ledger.price_of(name)
    hosted = Hosted(name, model, form, Key(key), settings, ledger, interrupted)
    importlib.import_module(form.package)  # a second, and a tenth of one, that no question should take
    _load_certificates()
    return hosted


def _prepare(name: str) -> tuple[Form, str, str]:
    prefix, _, model = name.partition(":")
    form = FORMS.get(prefix)
    if form is None or not model.strip():
        raise InputError(f"{name}: name a model of a service: {', '.join(f'{known}:MODEL' for known in FORMS)}")
    if importlib.util.find_spec(form.name) is None:
        raise InputError(f"{name} needs the package {form.name}: pip install 'grpo-harness[{form.extra}]'")
    key = read_key(form.key_variable)
    if not key and form is CHAT and os.environ.get(form.url_variable, "").strip():
        key = NO_KEY
    if not key:
        also = f", or {form.url_variable} for a server that needs none" if form is CHAT else ""
        raise InputError(f"{name} needs the environment variable {form.key_variable}{also}")
    return form, model, key


@lru_cache(maxsize=1)
def _load_certificates() -> Mapping[str, Any]:
    """Load what all connections check servers by, which takes longer than all else about one."""
    import httpx2  # of both clients

    return {"verify": httpx2.create_ssl_context()}


@dataclass(frozen=True)
class Halt:
    """Set once one of ``events`` is."""

    events: tuple[Event, ...]

    def is_set(self) -> bool:
        return any(event.is_set() for event in self.events)

    def sleep(self, seconds: float) -> None:
        """Sleep, or until it is set."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self.is_set():
            self.events[0].wait(min(LOOK_S, left))


@dataclass(eq=False)
class Pace:
    """Spreads what is sent evenly over each minute; ``per_minute`` None does not."""

    per_minute: int | None
    _next: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def wait(self, halt: Halt) -> None:
        if self.per_minute is None:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + 60 / self.per_minute
        halt.sleep(turn - now)


@dataclass(eq=False)
class Hosted:
    """``harness.types.Answerer`` of a service. Any number of threads may ask; ``settings`` hold for all together."""

    name: str
    model: str
    form: Form
    key: Key
    settings: Settings
    ledger: Ledger
    interrupted: Event
    _idle: deque[Connection] = field(default_factory=deque, init=False)
    _served: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._slots = BoundedSemaphore(self.settings.concurrency)
        self.pace = Pace(self.settings.requests_per_minute)

    @cached_property
    def _sdk(self) -> ModuleType:
        return importlib.import_module(self.form.name)

    def answer(self, questions: Sequence[Question], note: Note | None = None) -> Iterator[tuple[int, Reply]]:
        """As ``Answerer`` says. ``note`` is called with each reply as it arrives, by the thread it came to, since
        the reader of the iterator may be behind."""
        batch = Batch(self, questions, note)
        try:
            yield from batch.replies()
        finally:
            batch.close()

    @contextmanager
    def connection(self, halt: Halted) -> Iterator[Connection]:
        """Lend a connection, one of ``concurrency``. Raises Interrupted."""
        while not self._slots.acquire(timeout=LOOK_S):
            if halt.is_set():
                raise Interrupted(NOT_ASKED)
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = Connection(self.form, self._sdk, self.key, _load_certificates())
            try:
                yield connection
            finally:
                if connection.usable:
                    self._idle.append(connection)
        finally:
            self._slots.release()

    def notice(self, served: str) -> None:
        """Say once where the service answers by a model of another name: an alias's own name is no other."""
        asked, answers = (name.rpartition("/")[2].removesuffix(":latest").lower() for name in (self.model, served))
        if served and served not in self._served:
            self._served.add(served)
            if not answers.startswith(asked) and not asked.startswith(answers):
                log.warning("%s: the service says that %s answered", self.name, self.key.clean(served))


@dataclass(eq=False)
class Batch:
    """The questions of one call of ``answer``, taken by as many threads as may be in flight."""

    hosted: Hosted
    questions: Sequence[Question]
    note: Note | None
    _closing: Event = field(default_factory=Event, init=False)
    _out: SimpleQueue[tuple[int, Reply] | None] = field(default_factory=SimpleQueue, init=False)
    _workers: list[Thread] = field(default_factory=list, init=False)
    _failure: Exception | None = field(default=None, init=False)
    _barred: str = field(default="", init=False)
    _answered: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._halt = Halt((self._closing, self.hosted.interrupted))
        self._places = iter(range(len(self.questions)))  # whose next is atomic

    def replies(self) -> Iterator[tuple[int, Reply]]:
        for _ in range(min(self.hosted.settings.concurrency, len(self.questions))):
            worker = Thread(target=self._work, name="answers", daemon=True)
            self._workers.append(worker)
            worker.start()
        at_work = len(self._workers)
        while at_work:
            arrived = self._out.get()
            if arrived is None:
                at_work -= 1
            else:
                yield arrived
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End what is under way, and wait for that."""
        self._closing.set()
        for worker in self._workers:
            worker.join(timeout=2.0)

    def _work(self) -> None:
        try:
            for place in self._places:
                if self._failure is not None or self._closing.is_set():
                    break
                reply = self._ask(self.questions[place])
                if self.note is not None:
                    self.note(place, reply)
                self._out.put((place, reply))
        except Exception as error:
            self._failure = self._failure or error
        finally:
            self._out.put(None)

    def _ask(self, question: Question) -> Reply:
        if self._halt.is_set():
            return Reply(error=NOT_ASKED)
        if self._barred:
            return Reply(error=self._barred)
        asking = Asking(self.hosted, question, self._halt)
        reply = asking.reply()
        if asking.fault is None:
            self._answered = True
        elif isinstance(asking.fault, Barred) or (isinstance(asking.fault, Unreachable) and not self._answered):
            self._barred = reply.error
        return reply


@dataclass(eq=False)
class Asking:
    """One question under way. ``cost`` is that of its attempts so far, None where nothing is known to have cost, and
    ``fault`` how the last one failed."""

    hosted: Hosted
    question: Question
    halt: Halt
    cost: float | None = None
    fault: Fault | None = None

    def reply(self) -> Reply:
        """Ask until there is an answer or no sense in asking. Raises OverBudget where nothing was sent."""
        hosted, began = self.hosted, time.monotonic()
        retrying = Retrying(
            retry=retry_if_exception_type(Passing),
            stop=stop_after_attempt(hosted.settings.attempts),
            wait=wait_s,
            sleep=self.halt.sleep,
            reraise=True,
        )
        try:
            said = retrying(self._attempt, hosted.form.build(hosted.model, self.question))
        except Fault as fault:
            self.fault = fault
            return Reply(error=str(fault), cost_usd=self.cost, seconds=time.monotonic() - began)
        self.fault = None
        tokens_in, tokens_out = said.tokens or (0, 0)
        hosted.notice(said.model)
        return Reply(
            said.text,
            tokens_in,
            tokens_out,
            said.truncated,
            said.calls,
            cost_usd=self.cost,
            seconds=time.monotonic() - began,
            model=said.model,
        )

    def _attempt(self, request: Mapping[str, Any]) -> Said:
        hosted = self.hosted
        with hosted.connection(self.halt) as connection:
            hosted.pace.wait(self.halt)
            with self._reserve(request) as held:
                if self.halt.is_set():
                    raise Interrupted(NOT_ASKED)
                try:
                    content = connection.ask(request, hosted.settings.time_limit, self.halt)
                    said = self._read(content)
                except Fault as fault:
                    self.fault = fault
                    if fault.billed:
                        self._count(held.keep())
                    raise
                self._count(held.spend(*said.tokens) if said.tokens else held.keep())
        return said

    def _reserve(self, request: Mapping[str, Any]) -> Held:
        """Reserve the worst case: a token has a byte at least."""
        most_in = len(json.dumps(request, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        most_in += TOOL_TOKENS if "tools" in request else 0
        hosted = self.hosted
        try:
            return hosted.ledger.reserve(hosted.name, most_in, self.question.max_tokens, patience=self.halt)
        except OverBudget as over:
            if self.halt.is_set():
                raise Interrupted(NOT_ASKED) from None
            if self.fault is None:
                raise
            raise Fault(f"{self.fault}; not tried again: {over}") from None

    def _read(self, content: bytes) -> Said:
        key = self.hosted.key
        if key.is_in(content):
            raise Fault("the answer repeats the key", billed=True)
        said = self.hosted.form.read(parse(content), self.question)
        if key.is_in_any((said.text, repr(said.calls), said.model)):  # JSON can write it in other bytes
            raise Fault("the answer repeats the key", billed=True)
        return said

    def _count(self, cost: float | None) -> None:
        if cost is not None:
            self.cost = (self.cost or 0.0) + cost
