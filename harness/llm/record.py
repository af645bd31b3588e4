"""The record of answers: one JSONL, which is cache, replay and evidence at once.

    {"prompt_id": "3f2a...", "who": "openai:qwen3-30b", "key": "9c1e...", "temperature": 0.7, "max_tokens": 512,
     "sample": 0, "system": "...", "text": "...", "calls": [], "tokens_in": 61, "tokens_out": 140, "truncated": false,
     "cost_usd": 0.00013, "seconds": 1.9, "error": "", "at": "2026-11-28T18:10:02+00:00", ...}

A line is written by one call as its answer arrives, so a process that is killed loses no answer. (A machine that loses
its power may: a line is given to the system, not waited for on the disk.) A line with an ``error`` is evidence: it is
asked again. A later answer of the same key wins. A last line without its end is that of a killed process and left out.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

from harness.errors import InputError, StoreUnavailable
from harness.llm.hosted import NOT_ASKED, Hosted, Note
from harness.llm.names import RECORDED
from harness.types import Answerer, Question, Reply

FIRST = b'{"prompt_id": '
"""How each line begins; what begins otherwise is no record, whatever its end."""


@dataclass(frozen=True, slots=True)
class Line:
    """One answer, or why there is none (``error``). ``key`` is a hash of all that the answer depends on, ``content`` of
    what was asked alone: turns, tools, stops. ``system`` is the system message as sent; ``model`` what the service says
    answered; ``at`` the time in UTC."""

    prompt_id: str
    who: str
    key: str = ""
    temperature: float = 0.0
    max_tokens: int = 0
    sample: int = 0
    system: str = ""
    text: str = ""
    calls: tuple[tuple[Any, Any], ...] = ()
    tokens_in: int = 0
    tokens_out: int = 0
    truncated: bool = False
    cost_usd: float | None = None
    seconds: float = 0.0
    error: str = ""
    at: str = ""
    model: str = ""
    content: str = ""

    @classmethod
    def of(cls, who: str, question: Question, reply: Reply) -> Line:
        """Make the line of a reply that has just arrived."""
        return cls(
            question.prompt.id,
            who,
            compute_key(who, question),
            question.temperature,
            question.max_tokens,
            question.sample,
            question.prompt.system,
            reply.text,
            reply.calls,
            reply.tokens_in,
            reply.tokens_out,
            reply.truncated,
            reply.cost_usd,
            round(reply.seconds, 3),
            reply.error,
            datetime.now(UTC).isoformat(timespec="seconds"),
            reply.model,
            compute_content(question),
        )

    @property
    def reply(self) -> Reply:
        """The reply as it was, from the record."""
        return Reply(
            self.text,
            self.tokens_in,
            self.tokens_out,
            self.truncated,
            self.calls,
            cost_usd=self.cost_usd,
            seconds=self.seconds,
            error=self.error,
            cached=True,
            model=self.model,
        )

    def dump(self) -> bytes:
        """Write it as JSON in ASCII, which holds every text, with the end of the line."""
        return json.dumps(asdict(self)).encode("ascii") + b"\n"


def compute_content(question: Question) -> str:
    """Compute the SHA-256 of what is asked, whoever is asked and however: turns, tools, what ends it."""
    return _hash([question.prompt.turns, question.prompt.columns.get("tools"), question.tool, question.stop])


def compute_key(who: str, question: Question) -> str:
    """Compute the SHA-256 of all that an answer depends on."""
    settings = [question.temperature, question.max_tokens, question.sample]
    return _hash([who, compute_content(question), *settings])


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=lambda one: dict(one) if isinstance(one, Mapping) else repr(one))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


# ---------------------------------------------------------------- reading


def read_record(path: Path) -> list[Line]:
    """Read the lines of a record in order, a torn last one left out. Raises InputError for what is no record."""
    return _parse(path, _read(path))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _parse(path: Path, content: bytes) -> list[Line]:
    lines = []
    *whole, last = content.split(b"\n")
    for number, one in enumerate(whole, 1):
        if one.strip():
            lines.append(_read_line(path, number, one))
    if last.strip() and not _is_torn(last):
        lines.append(_read_line(path, len(whole) + 1, last))
    return lines


def _is_torn(last: bytes) -> bool:
    """Test whether a line without its end is the beginning of one of ours."""
    begins = last.startswith(FIRST) or FIRST.startswith(last)
    try:
        json.loads(last)
    except (ValueError, RecursionError):
        return begins
    return False


def _read_line(path: Path, number: int, content: bytes) -> Line:
    where = f"{path}, line {number}"
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(
            f"{where}: no line of a record of answers, which is a JSON object with prompt_id, who and text"
        )
    for name, (kind, words) in FIELDS.items():
        given = found.get(name)
        required = name in ("prompt_id", "who", "text")
        if (given is None and not required) or _fits(given, kind):
            continue
        raise InputError(
            f"{where}: {name} must be {words}; is it a record of answers, as grpo eval --record writes it?"
        )
    kept = {name: found[name] for name in FIELDS if found.get(name) is not None}
    calls = kept.get("calls", [])
    if not all(isinstance(call, list) and len(call) == 2 for call in calls):
        raise InputError(f"{where}: calls must be a list of [name, arguments]")
    return Line(**kept | {"calls": tuple((name, arguments) for name, arguments in calls)})


def _fits(given: object, kind: tuple[type, ...]) -> bool:
    return isinstance(given, kind) and (not isinstance(given, bool) or kind == (bool,))


TEXT, WHOLE, NUMBER = ((str,), "a text"), ((int,), "a whole number"), ((int, float), "a number")
FIELDS: dict[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(("prompt_id", "who", "key", "system", "text", "error", "at", "model", "content"), TEXT),
    **dict.fromkeys(("max_tokens", "sample", "tokens_in", "tokens_out"), WHOLE),
    **dict.fromkeys(("temperature", "cost_usd", "seconds"), NUMBER),
    "truncated": ((bool,), "true or false"),
    "calls": ((list,), "a list"),
}


# ---------------------------------------------------------------- replay


@dataclass(frozen=True)
class Recorded:
    """``harness.types.Answerer`` that only looks up. Temperature and max_tokens are those of the record."""

    name: str
    by_key: Mapping[str, Line]
    by_content: Mapping[tuple[str, int], Line]
    by_prompt: Mapping[tuple[str, int], Line]

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        for place, question in enumerate(questions):
            line = self.find(question)
            if line is None:
                which = f"sample {question.sample} of " if question.sample else ""
                yield (
                    place,
                    Reply(error=f"{self.name} has no {which}answer to prompt {question.prompt.id}", cached=True),
                )
            else:
                yield place, line.reply

    def find(self, question: Question) -> Line | None:
        """Find the line of a question: asked just so, else of the same content, else of the same prompt."""
        who = next((line.who for line in self.by_prompt.values()), "")
        return (
            self.by_key.get(compute_key(who, question))
            or self.by_content.get((compute_content(question), question.sample))
            or self.by_prompt.get((question.prompt.id, question.sample))
        )


def open_recorded(path: Path) -> Recorded:
    """Open a record to answer from, named ``recorded:FILE``. Raises InputError: no record, none of one answerer."""
    lines = read_record(path)
    who = list(dict.fromkeys(line.who for line in lines))
    if not who:
        raise InputError(f"{path} holds no answer; grpo eval MODEL --record {path} writes some")
    if len(who) > 1:
        raise InputError(f"{path} holds answers of {', '.join(who[:4])}; give each answerer a file of its own")
    return Recorded(
        f"{RECORDED}{path}",
        _index((line.key, line) for line in lines if line.key),
        _index(((line.content, line.sample), line) for line in lines if line.content),
        _index(((line.prompt_id, line.sample), line) for line in lines),
    )


def _index(lines: Iterable[tuple[Any, Line]]) -> dict[Any, Line]:
    """Keep the last line of each key; no error takes the place of an answer."""
    kept: dict[Any, Line] = {}
    for key, line in lines:
        if not line.error or key not in kept or kept[key].error:
            kept[key] = line
    return kept


# ---------------------------------------------------------------- writing


class Recorder:
    """``harness.types.Answerer`` that answers from the record at ``path``, asks ``answerer`` what is missing there, and
    appends each reply as it arrives. One process at a time; ``close`` or a ``with`` block ends that."""

    def __init__(self, answerer: Answerer, path: Path) -> None:
        """Open the record, or begin one. Raises InputError: no record, one in use, a folder that cannot be written."""
        self.name = answerer.name
        self._answerer, self._path, self._lock = answerer, path, Lock()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise InputError(f"cannot write the record {path}: {error.strerror}") from None
        try:
            self._answers = self._take()
        except BaseException:
            os.close(self._file)
            raise

    def _take(self) -> dict[str, Reply]:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"{self._path}: another process writes this record; wait for its end, or name another file"
            ) from None
        content = _read(self._path)
        lines = _parse(self._path, content)
        last = content.rpartition(b"\n")[2]
        if last and _is_torn(last):
            os.ftruncate(self._file, len(content) - len(last))
        elif last:
            os.write(self._file, b"\n")
        return {line.key: line.reply for line in lines if line.key and not line.error}

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """As ``Answerer`` says; questions that are the same are asked once. Raises StoreUnavailable when the record
        cannot be written."""
        places: dict[str, list[int]] = {}
        for place, question in enumerate(questions):
            places.setdefault(compute_key(self.name, question), []).append(place)
        missing = [key for key in places if key not in self._answers]
        for key, same in places.items():
            if (reply := self._answers.get(key)) is not None:
                yield from ((place, reply) for place in same)
        asked = [questions[places[key][0]] for key in missing]

        def note(place: int, reply: Reply) -> None:
            self._write(missing[place], asked[place], reply)

        with closing(self._ask(asked, note)) as replies:
            for place, reply in replies:
                first, *others = places[missing[place]]
                yield first, reply
                yield from ((other, reply if reply.error else replace(reply, cached=True)) for other in others)

    def _ask(self, asked: Sequence[Question], note: Note) -> Generator[tuple[int, Reply], None, None]:
        if not asked:
            return
        if isinstance(self._answerer, Hosted):
            yield from self._answerer.answer(asked, note)
            return
        for place, reply in self._answerer.answer(asked):
            note(place, reply)
            yield place, reply

    def _write(self, key: str, question: Question, reply: Reply) -> None:
        if reply.error == NOT_ASKED:
            return
        line = Line.of(self.name, question, reply)
        content = line.dump()
        with self._lock:
            before = os.fstat(self._file).st_size
            try:
                written = os.write(self._file, content)
                if written < len(content):
                    raise OSError(28, "no space left on device")
            except OSError as error:
                with suppress(OSError):
                    os.ftruncate(self._file, before)
                cause = str(error.strerror)
                raise StoreUnavailable(f"cannot write {self._path}: {cause}", what="the record", cause=cause) from None
            if not reply.error:
                self._answers[key] = replace(line.reply, ids=reply.ids)

    def close(self) -> None:
        """Wait until the lines are on the disk, and give the record free."""
        if self._file >= 0:
            with suppress(OSError):
                os.fsync(self._file)
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
