"""From the sections [judge.NAME] of a spec to judges: their rubrics, who answers, and what is on record of them.

    spec = read_rubrics(spec)                                            # the texts are kept with the run
    judges = build_judges(spec, open_services(spec, ledger))

What is judged outside a run is recorded beside the runs, in the output folder, as judge-NAME.jsonl; a run has a record
of its own in its folder.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from harness.config.asking import build_ledger, build_settings
from harness.config.names import judge_name
from harness.config.schema import RunSpec
from harness.errors import InputError
from harness.llm.ledger import Ledger
from harness.llm.names import RECORDED, bare_name, is_hosted
from harness.llm.record import Recorder, compute_key, open_recorded, read_record
from harness.llm.settings import Settings
from harness.types import Answerer, Progress, Prompt, Question, Reply, no_progress
from rewards import code, countdown, function_call, math
from rewards.json_values import WrongTruth
from rewards.judge import Judge, Rubric, find_unknown_place

log = logging.getLogger("grpo")
Opener = Callable[[str], Answerer]
"""From ``judge.NAME.model`` to who answers; raises InputError."""
NEITHER = "is no service (anthropic:MODEL, openai:MODEL) and no record (recorded:FILE)"
VERIFIABLE = 0.9
"""Share of the ground truths that a verifier must be able to judge to be proposed instead of a judge."""
TRIED = 200


def record_path(folder: Path, name: str) -> Path:
    """Name the record of a judge in a folder."""
    return folder / f"judge-{name}.jsonl"


def judges_of(spec: RunSpec) -> list[str]:
    """List the judges that the reward of a spec asks."""
    return [judge_name(function) for function in spec.reward.judges]


def read_rubrics(spec: RunSpec) -> RunSpec:
    """Put the texts of the rubrics into a spec: of the file where it is, else as they were kept with the run.

    Raises InputError for a rubric that cannot be read, is empty, or names a place that there is not.
    """
    judges = dict(spec.judge)
    for name in judges_of(spec):
        judge, path = judges[name], Path(judges[name].rubric)
        field, text = f"judge.{name}.rubric", judge.text
        if path.is_file() or not text:
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise InputError(f"{field}: cannot read {path}: {why}; it is a text file beside the spec") from None
        if not text.strip():
            raise InputError(f"{field}: {path} is empty; write what a good answer is")
        if problem := find_unknown_place(text):
            raise InputError(f"{field}: {path}: {problem}")
        where = str(path.absolute()) if path.is_file() else judge.rubric
        judges[name] = judge.model_copy(update={"rubric": where, "text": text})
    return spec.model_copy(update={"judge": judges})


def describe_judges(spec: RunSpec) -> dict[str, Any]:
    """Describe for the manifest of a run which judges its reward asks; {} without one."""
    if not spec.reward.judges:
        return {}
    judges = {
        name: {
            "model": spec.judge[name].model,
            "form": spec.judge[name].form,
            "rubric_sha256": hashlib.sha256(spec.judge[name].text.encode()).hexdigest(),
        }
        for name in judges_of(spec)
    }
    return {"reward_is": "recorded, not deterministic", "judges": judges}


# ---------------------------------------------------------------- who answers


def has_price(spec: RunSpec, model: str) -> bool:
    """Tell whether the spec has a price for who answers by this name."""
    return model in spec.prices or bare_name(model) in spec.prices


def open_services(
    spec: RunSpec, ledger: Ledger, interrupted: Event | None = None, *, others: Opener | None = None
) -> Opener:
    """Make what opens judges: services, records, and by ``others`` (from above: models of this machine) any other."""
    return partial(_open_service, build_settings(spec), ledger, interrupted or Event(), others)


def _open_service(
    settings: Settings, ledger: Ledger, interrupted: Event, others: Opener | None, model: str
) -> Answerer:
    if model.startswith(RECORDED):
        return open_recorded(Path(model.removeprefix(RECORDED)))
    if not is_hosted(model):
        if others is None:
            raise InputError(f"{model} {NEITHER}")
        return others(model)
    from harness.llm.hosted import open_hosted

    return open_hosted(model, settings, ledger, interrupted)


def check_judges(spec: RunSpec, *, others: Callable[[str], object] | None = None) -> None:
    """Raise InputError where a judge cannot be asked: a service without key, package, or price under a cap; no such
    record; what ``others`` refuses, or anything else where they are not given."""
    for name in judges_of(spec):
        model = spec.judge[name].model
        try:
            if is_hosted(model):
                from harness.llm.hosted import check_hosted

                check_hosted(model)
                build_ledger(spec).price_of(model)
            elif model.startswith(RECORDED):
                open_recorded(Path(model.removeprefix(RECORDED)))
            elif others is None:
                raise InputError(f"{model} {NEITHER}")
            else:
                others(model)
        except InputError as error:
            raise InputError(f"judge.{name}.model: {error}") from None


def build_judges(spec: RunSpec, opener: Opener) -> dict[str, Judge]:
    """Build the judges of a spec by name, for what is judged outside a run; nobody is asked yet."""
    spec = read_rubrics(spec)
    found = {}
    for name in judges_of(spec):
        judge = spec.judge[name]
        rubric = Rubric(name, judge.text, judge.form, judge.temperature, judge.max_tokens)
        found[name] = Judge(
            rubric, partial(_open_outside, judge.model, record_path(Path(spec.output.dir), name), opener)
        )
    return found


def bind_judges(
    judges: Iterable[Judge],
    spec: RunSpec,
    opener: Opener,
    *,
    folder: Path,
    replayed: Path | None = None,
    progress: Progress = no_progress,
) -> None:
    """Let judges record in the ``folder`` of a run from here on. With ``replayed``, the folder of another run, the
    replies are those on its record and nobody is asked."""
    for judge in judges:
        name = judge.rubric.name
        model, path = spec.judge[name].model, record_path(folder, name)
        judge.close()
        judge.progress = progress
        judge.open = partial(_open_in_run, model, path, opener, replayed and record_path(replayed, name))


def _open_outside(model: str, path: Path, opener: Opener) -> Answerer:
    answerer = opener(model)
    if model.startswith(RECORDED):  # it is on record, and may be the very file
        return answerer
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return Recorder(answerer, path)
    except InputError as error:  # another process writes it
        log.warning("judged without a record: %s", error)
        return answerer


def _open_in_run(model: str, path: Path, opener: Opener, replayed: Path | None) -> Answerer:
    return Recorder(Replayed(model, replayed) if replayed else opener(model), path)


class Replayed:
    """``harness.types.Answerer`` of the name that a run's judge had, which has the replies of its record and no
    others."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        lines = read_record(path) if path.is_file() else []
        self._replies = {line.key: replace(line.reply, cost_usd=0.0) for line in lines if not line.error}
        self._path = path

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        for place, question in enumerate(questions):
            missing = Reply(error=f"{self._path} has no reply to this question")
            yield place, self._replies.get(compute_key(self.name, question), missing)


def sum_costs(folder: Path) -> float:
    """Sum what the judges of a run have cost so far, in USD, by their records."""
    cost = 0.0
    for path in sorted(folder.glob("judge-*.jsonl")):
        with suppress(InputError):  # what is no record
            cost += sum(line.cost_usd or 0.0 for line in read_record(path))
    return cost


# ---------------------------------------------------------------- where one can verify


def _reads_calls(truth: str) -> str | None:
    try:
        function_call.read_truth(truth)
    except WrongTruth as error:
        return str(error)
    return None


READERS: Mapping[str, Callable[[str], str | None]] = {
    "rewards.code": code.check_ground_truth,
    "rewards.function_call": _reads_calls,
    "rewards.countdown": countdown.check_ground_truth,
    "rewards.math": math.last_number.check_ground_truth,  # type: ignore[attr-defined]
}
"""Verifiers by name, and what says why they cannot judge a ground truth."""


@dataclass(frozen=True, slots=True)
class Verifiable:
    """A verifier that can judge this ``share`` of the ground truths of a pool."""

    verifier: str
    share: float

    def __str__(self) -> str:
        return (
            f"where one can verify, verify: {self.verifier} can judge {self.share:.0%} of the ground truths; take it "
            f'instead of the judge, or beside it: reward.function = "{self.verifier}"'
        )


def find_verifier(rows: Sequence[Prompt]) -> Verifiable | None:
    """Find one of our verifiers that can judge nearly all ground truths of a pool, so that no judge is needed."""
    truths = [row.ground_truth for row in rows[:TRIED] if row.ground_truth.strip()]
    for name, problem_of in READERS.items():
        read = sum(problem_of(truth) is None for truth in truths)
        if truths and read >= VERIFIABLE * len(truths):
            return Verifiable(name, read / len(truths))
    return None
