"""Compare a reward with what a hosted evaluator makes of the same source, rows and answers, score by score.

The answers are the reference answers of all rows that ``grpo check`` judges, or recorded ones. Both sides are asked the
same text; neither sees what the other says. What came back can be recorded, and replayed without a network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harness.checks.evaluator import (
    Result,
    check_document,
    open_service,
    read_results,
    read_runtime_ms,
    write_request,
)
from harness.checks.gate import check_sandbox, choose_writer
from harness.checks.hosting import HostedSource, collect_source
from harness.checks.inputs import Inputs, build_workers, describe_reward
from harness.checks.references import as_continued, judge_references
from harness.core.files import write_whole
from harness.errors import HarnessError, InputError
from harness.llm.names import RECORDED
from harness.llm.record import read_record
from harness.types import Progress, Prompt, Score
from rewards.format import close_thinking
from rewards.hosted import write_sample
from rewards.parallel import ParallelReward

BATCH = 200
"""Samples of one request."""
TOLERANCE = 1e-6
"""Two scores that differ by no more are one: a service may keep 32 bits."""
SHOWN = 10


class Judged(NamedTuple):
    """``text`` is the completion, ``score`` what this reward says of it."""

    split: str
    prompt: Prompt
    text: str
    score: Score


@dataclass(frozen=True, slots=True)
class Difference:
    """A row on which the two do not agree; None for a side that could not judge it."""

    row: str
    prompt_id: str
    ours: float | None
    theirs: float | None
    reason: str
    answer: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """``rows`` were judged on both sides; on ``agree`` of them the scores are equal, or both sides failed
    (``failed``). ``differences`` are the first, ``max_difference`` is over the rows that both scored, None without one.
    ``unchecked`` rows had no answer to judge, ``strangers`` are recorded answers to no row of this pool.
    ``changed``: what is replayed was judged by another text of the reward.
    ``files`` and ``requirements`` are what the evaluator was given, ``runtime_ms`` is its own count."""

    against: str
    rows: int
    agree: int
    failed: int
    max_difference: float | None
    differences: tuple[Difference, ...]
    unchecked: int
    strangers: int
    changed: bool
    files: tuple[str, ...]
    requirements: tuple[str, ...]
    runtime_ms: int | None

    @property
    def passed(self) -> bool:
        """Whether every row agrees, and any was scored: two that fail on everything say nothing."""
        return self.agree == self.rows and self.failed < self.rows

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"passed": self.passed}


Recorded = Sequence[tuple[str, str]]
"""Prompt ids with their answers."""
Preview = Callable[[Mapping[str, Any]], dict[str, Any]]


def compare_with(
    inputs: Inputs,
    against: str,
    *,
    name: str,
    recorded: Recorded | None,
    record: Path | None,
    progress: Progress,
) -> Agreement:
    """Compare the reward of a spec called ``name`` with an evaluator at an address, or with a record of what one said.

    Raises InputError, HarnessError for an evaluator that does not judge.
    """
    spec = inputs.spec
    if spec.reward.judges:
        raise InputError(f"--against: {spec.reward.judges[0]} has no source to post; leave the judges out of the spec")
    replayed = _read_record(Path(against.removeprefix(RECORDED))) if against.startswith(RECORDED) else None
    service = open_service(against) if replayed is None else None
    if record is not None:
        _check_record(record, replay=service is None)
    check_sandbox(inputs)
    source = collect_source(spec.reward, inputs.reward, chat=spec.model.wants_chat)
    description = describe_reward(spec, chat=spec.model.wants_chat)
    with build_workers(spec, description, inputs.reward) as reward:
        judged = list(
            _judge(inputs, reward, progress) if recorded is None else _judge_recorded(inputs, reward, recorded)
        )
    if not judged:
        raise InputError(
            "--against: there is nothing to compare: no row has a reference answer; give recorded ones with --answers"
            if recorded is None
            else "--answers: there is nothing to compare: no recorded answer is to a row of this pool"
        )
    asked = list(_write_requests(source, judged, f"the reward of {name}"))
    samples = "\n".join(sample for request in asked for sample in request["sampleData"])
    asked_about = {
        "samples_sha256": hashlib.sha256(samples.encode()).hexdigest(),
        "reward_sha256": inputs.reward_sha256,
    }
    if replayed is not None:
        document = asked_about | replayed  # the body of an answer alone does not say what it was asked
        if document["samples_sha256"] != asked_about["samples_sha256"]:
            raise InputError(
                f"--against: {against} is of other samples: the rows or the answers have changed since; record it anew "
                "with --record"
            )
    elif service is not None:
        document = asked_about | _ask(service.preview, asked, len(judged), progress)
        if record is not None:
            _write_record(record, document)
    known = len({one.prompt.id for one in judged})
    return _compare(
        judged,
        read_results(document, len(judged)),
        against=service.host if service else against,
        unchecked=sum(map(len, inputs.splits.values())) - known,
        strangers=0 if recorded is None else len(recorded) - len(judged),
        changed=document["reward_sha256"] != inputs.reward_sha256,
        files=tuple(source.files),
        requirements=tuple(source.requirements.splitlines()),
        runtime_ms=read_runtime_ms(document),
    )


def read_answers(path: Path) -> Recorded:
    """Read the answers of a record (``grpo eval --record``), of a question asked again the last. Raises InputError."""
    found: dict[Any, tuple[str, str]] = {}
    for line in read_record(path):
        if not line.error:
            found[line.key or (line.who, line.prompt_id, line.sample)] = line.prompt_id, line.text
    if not found:
        raise InputError(f"--answers: {path} holds no answer")
    return list(found.values())


# ---------------------------------------------------------------- this side


def _judge(inputs: Inputs, reward: ParallelReward, progress: Progress) -> Iterator[Judged]:
    """The reference answer of every row that has one."""
    judge = as_continued(reward.score)
    write = choose_writer(inputs, judge)
    for name, table in inputs.splits.items():
        for done, one in enumerate(judge_references(table, judge, write)):
            progress(f"judging {name}", done, len(table))
            yield Judged(name, one.prompt, close_thinking(one.prompt.prefill, one.text), one.score)


def _judge_recorded(inputs: Inputs, reward: ParallelReward, recorded: Recorded) -> Iterator[Judged]:
    rows = {prompt.id: (name, prompt) for name, table in inputs.splits.items() for prompt in table}
    found = [(*rows[prompt_id], text) for prompt_id, text in recorded if prompt_id in rows]
    scores = reward.score([prompt for _, prompt, _ in found], [text for *_, text in found]) if found else []
    for one, score in zip(found, scores, strict=True):
        yield Judged(*one, score)


# ---------------------------------------------------------------- the other side


def _write_requests(source: HostedSource, judged: Sequence[Judged], description: str) -> Iterator[dict[str, Any]]:
    for start in range(0, len(judged), BATCH):
        samples = [write_sample(one.prompt, one.text) for one in judged[start : start + BATCH]]
        yield write_request(source, samples, description=description)


def _ask(preview: Preview, asked: Sequence[Mapping[str, Any]], n: int, progress: Progress) -> dict[str, Any]:
    """Ask for all samples, and join what comes back into one document of the same form."""
    results: list[Any] = []
    runtimes: list[int | None] = []
    for request in asked:
        progress("asking the evaluator", len(results), n)
        document = preview(request)
        read_results(document, len(request["sampleData"]))  # what is wrong is not asked further
        results += document["results"]
        runtimes.append(read_runtime_ms(document))
    known = [each for each in runtimes if each is not None]
    return {"results": results, "totalSamples": len(results)} | ({"totalRuntimeMs": str(sum(known))} if known else {})


def _compare(judged: Sequence[Judged], results: Sequence[Result], **more: Any) -> Agreement:
    failed, differing, most = 0, [], None
    for one, result in zip(judged, results, strict=True):
        ours, theirs = one.score.reward, result.score if result.success else None
        if ours is None or theirs is None:
            failed += ours is theirs
            agree = ours is theirs
        else:
            apart = abs(ours - theirs)
            most = apart if most is None else max(most, apart)
            agree = apart <= TOLERANCE
        if not agree:
            differing.append(_tell(one, ours, theirs, result.said))
    n = len(judged)
    return Agreement(
        rows=n,
        agree=n - len(differing),
        failed=failed,
        max_difference=most,
        differences=tuple(differing[:SHOWN]),
        **more,
    )


def _tell(one: Judged, ours: float | None, theirs: float | None, said: str) -> Difference:
    here = f"ours: {one.score.error or one.score.reason}" if one.score.error or one.score.reason else ""
    there = f"theirs: {said}" if said else ""
    where = f"{one.split}: {one.prompt.text[:80]}"
    return Difference(where, one.prompt.id, ours, theirs, "; ".join(filter(None, [here, there])), one.text[:80])


# ---------------------------------------------------------------- the record


def _read_record(path: Path) -> dict[str, Any]:
    """Read what an evaluator said: a file of ``--record``, or the body of its answer as it is. Raises InputError."""
    try:
        return check_document(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"--against: cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError, HarnessError) as error:
        said = error if isinstance(error, HarnessError) else "it is no JSON"
        raise InputError(f"--against: {path} holds no answer of an evaluator: {said}") from None


def _check_record(path: Path, *, replay: bool) -> None:
    """Raise InputError where nothing can or may be recorded."""
    if replay:
        raise InputError("--record: there is nothing to record of a recorded answer; give --against an address")
    if not path.parent.is_dir():
        raise InputError(f"--record: there is no folder {path.parent}")
    if path.exists():
        try:
            _read_record(path)
        except InputError:
            raise InputError(f"--record: {path} is another file; it is not overwritten: choose a new name") from None


def _write_record(path: Path, document: Mapping[str, Any]) -> None:
    try:
        with write_whole(path) as part:
            part.write_text(json.dumps(document) + "\n", encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"--record: cannot write {path}: {error.strerror or error}") from None
