"""From a name to who answers: one argument, wherever a model is named.

    latest  night-1  night-1@best  night-1@40       a run, at its newest checkpoint or another
    ./my-model  model.gguf  org/name  tiny          a model folder, a file, a hub id, a model by name
    anthropic:MODEL  openai:MODEL                   behind an address (harness/llm/hosted.py)
    recorded:FILE                                   what was answered before: a record, or rows that hold answers

    found = find_answerer("night-1@best", db=None, out="runs")        # which of them; nothing is loaded
    target = open_target(found, spec="math-gsm")                      # with the spec that says what is asked
    target.build(seed=0).answer(questions)

    open_answerer("openai:qwen3-30b", spec).answer(questions)         # by name alone

Torch is loaded for a model in memory alone.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

from harness.checks.inputs import build_reward, build_splits, choose_demonstrations
from harness.checks.judges import Opener, build_judges, check_judges, open_services
from harness.checks.trust import check_trust, load_trusted
from harness.config.asking import build_ledger, build_settings
from harness.config.load import apply_overrides, load_recorded, load_spec, parse_spec
from harness.config.names import ANSWERERS, KNOWN_MODELS
from harness.config.schema import LoraSpec, ModelSpec, PoolSpec, RunSpec
from harness.core.paths import database_url
from harness.core.seeds import derive_seed
from harness.errors import InputError, Refused
from harness.llm.names import RECORDED
from harness.models.hub import check_model_folder
from harness.run.checkpoints import Checkpoints
from harness.store.opening import find_store
from harness.store.writer import RunStore
from harness.types import Answerer, CheckpointRecord, Progress, Reply, no_progress
from pools.answered import RecordedRows, find_layout_of, read_answered
from pools.files import READERS

if TYPE_CHECKING:
    from harness.llm.ledger import Ledger
    from harness.llm.record import Line
    from harness.models.load import LoadedModel
    from rewards.judged import JudgedReward
    from rewards.parallel import ParallelReward

SPEC_FILE = "run-spec.json"
"""In an exported model: the spec of the run it comes from, so that it can be scored as the run was, and beside it in
SIGNATURE_FILE that this user exported it."""
SIGNATURE_FILE = "run-spec.signature"
FINAL = "final"
PREFIXES = tuple(name.removesuffix(":") for name in ANSWERERS)
PRINT = re.compile(r"#[0-9a-f]{8}$")
"""What tells the weights of a model in memory apart in a record."""
AT_STEP = re.compile(r"(.+)@(\d+)")


@dataclass(frozen=True)
class Found:
    """Who is meant by a name, and of a run its database and the checkpoint."""

    kind: Literal["run", "model", "hosted", "recorded"]
    name: str
    checkpoint: str = FINAL
    store: RunStore | None = None


@dataclass(frozen=True)
class Target:
    """Who answers, with the spec that says what is asked and how it is judged. ``chat`` as in Reward.

    It is a ``model`` in memory, or else ``other``. ``who`` is its name in a record. What is asked goes through
    the ``record``, if there is one.
    """

    title: str
    spec: RunSpec
    chat: bool
    who: str
    model: LoadedModel | None = None
    other: Answerer | None = None
    step: int | None = None
    record: Path | None = None
    asks_all: bool = False
    """What it answers is all of a source, not a split of one."""

    @property
    def loaded(self) -> LoadedModel:
        if self.model is None:
            raise InputError(f"{self.title} is no model in memory")
        return self.model

    @property
    def recorded(self) -> bool:
        return self.who.startswith(RECORDED)

    @property
    def in_memory(self) -> bool:
        return self.model is not None

    @property
    def recommended_group_size(self) -> int | None:
        return self.model.recommended_group_size if self.model else None

    def build(
        self, *, seed: int, top_p: float = 1.0, progress: Progress = no_progress, phase: str = "answering"
    ) -> Answerer:
        """Build who answers. ``seed``, ``top_p``, ``progress`` and its ``phase`` are those of a model in memory."""
        answerer = self.other or self._build_local(seed, top_p, progress, phase)
        if self.record is None:
            return answerer
        from harness.llm.record import Recorder

        return Recorder(answerer, self.record)

    def _build_local(self, seed: int, top_p: float, progress: Progress, phase: str) -> Answerer:
        from harness.models.local import LocalModel

        return LocalModel(
            self.who,
            self.loaded,
            batch_size=self.spec.evaluate.batch,
            seed=seed,
            top_p=top_p,
            progress=progress,
            phase=phase,
        )


# ---------------------------------------------------------------- names


def find_answerer(name: str, *, checkpoint: str = FINAL, db: str | None = None, out: str = "runs") -> Found:
    """Find who is meant.

    A run's whole name comes first, then models, then the beginning of a run's name. Raises InputError, before torch is
    loaded, with the nearest right name when it is none of them.
    """
    prefix, colon, rest = name.partition(":")
    if (colon or prefix in PREFIXES) and not Path(name).exists() and not name.endswith(".gguf"):
        found = _find_prefixed(name, prefix, rest)
        if checkpoint != FINAL:
            raise InputError(f"--checkpoint: {name} is no run; leave it out")
        return found
    store = find_store(database_url(out, db))
    known = {run.name for run in store.list_runs()} if store else set()
    run, at, wanted = name.rpartition("@")
    if at and not Path(name).exists():
        if checkpoint not in (FINAL, wanted):
            raise InputError(f"--checkpoint {checkpoint}: {name} names another; leave one of them out")
        if store is None or not _is_of_run(run, known):
            raise InputError(f"no run named {run or name}{_nearest(run, known)}; RUN@CHECKPOINT is for runs")
        return Found("run", store.match_run(run).name, wanted or FINAL, store)
    if name in known:
        return Found("run", name, checkpoint, store)
    if name in KNOWN_MODELS or name.endswith(".gguf"):
        return Found("model", name)
    if Path(name).is_dir():
        check_model_folder(Path(name))
        return Found("model", name)
    if store and _is_of_run(name, known):
        return Found("run", store.match_run(name).name, checkpoint, store)
    if "/" not in name:
        near = _nearest(name, {*known, *KNOWN_MODELS})
        raise InputError(
            f"no run named {name}{near}"
            if near
            else f"no run named {name}, and no model folder of that name; models by name: {', '.join(KNOWN_MODELS)}; "
            "services by name: anthropic:MODEL, openai:MODEL"
        )
    return Found("model", name)


def _find_prefixed(name: str, prefix: str, rest: str) -> Found:
    if prefix not in PREFIXES:
        near = difflib.get_close_matches(prefix, PREFIXES, 1, 0.5)
        say = f", did you mean {near[0]}:{rest}?" if near else f"; those are {', '.join(ANSWERERS)}"
        raise InputError(f"{name}: nobody answers as {prefix}:{say}")
    if prefix == "recorded":
        path = Path(rest)
        if not rest or not path.is_file():
            folder = path.parent
            files = [file.name for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
            near = difflib.get_close_matches(path.name, files, 1, 0.6)
            hint = f", did you mean recorded:{folder / near[0]}?" if near else "; give recorded:FILE"
            raise InputError(f"{name}: there is no file {rest or 'named'}{hint}")
        return Found("recorded", name)
    if not rest.strip():
        raise InputError(f"{prefix}: names no model; give {prefix}:MODEL, as the service names it")
    return Found("hosted", name)


def _is_of_run(name: str, known: set[str]) -> bool:
    return (name == "latest" and bool(known)) or any(run.startswith(name) for run in known if name)


def _nearest(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.6)
    return f", did you mean {near[0]}?" if near else ""


# ---------------------------------------------------------------- opening


def open_target(
    found: Found,
    *,
    spec: str | RunSpec | None = None,
    overrides: Sequence[str] = (),
    record: Path | None = None,
    ledger: Ledger | None = None,
    interrupted: Event | None = None,
) -> Target:
    """Open who answers, with ``spec``: a checked one, or the name of a recipe or file, to which ``overrides`` apply.

    Without it a run and an exported model have their own, rows that hold answers say themselves what is right, and all
    others have that of ``grpo run``. A hosted model is paid from ``ledger``, unset one of its own. Raises InputError.
    """
    if record is not None and found.kind == "recorded":
        raise InputError("--record: what recorded: answers is on record already; leave it out")
    if found.store is not None:
        asked = None if spec is None else _load(spec, overrides)
        target = load_checkpoint(found.store, found.name, found.checkpoint, asked, overrides)
        return replace(target, record=record)
    if found.kind == "model":
        return _open_model(found.name, spec, overrides, record)
    if found.kind == "hosted":
        checked = _load(spec, overrides)
        ledger = ledger or build_ledger(checked, _count_spent(record))
        answerer = open_other(found.name, checked, ledger, interrupted or Event())
        return Target(found.name, checked, True, answerer.name, other=answerer, record=record)
    return _open_recorded(found.name, spec, overrides)


def check_answerer(found: Found) -> None:
    """Raise InputError where a run has not the checkpoint that is asked for, or may not be loaded here, before torch is
    loaded."""
    if found.store is not None:
        run = found.store.find_run(found.name)
        _find_checkpoint(found.store, found.name, found.checkpoint, load_trusted(found.store, run))


def find_own_spec(found: Found) -> RunSpec | None:
    """Find the spec that a run or an exported model brings along. Raises InputError where its code may not run here."""
    if found.store is not None:
        return load_trusted(found.store, found.store.find_run(found.name))
    exported = Path(found.name) / SPEC_FILE
    return _load_exported(found.name) if found.kind == "model" and exported.is_file() else None


def _load_exported(name: str) -> RunSpec:
    checked = load_recorded(Path(name) / SPEC_FILE)
    signature = Path(name) / SIGNATURE_FILE
    check_trust(name, checked, signature.read_text() if signature.is_file() else "", Path(name))
    return checked


def open_answerer(
    name: str,
    spec: RunSpec,
    *,
    ledger: Ledger | None = None,
    interrupted: Event | None = None,
    db: str | None = None,
    out: str = "runs",
) -> Answerer:
    """Open who answers by name alone, such as the model of a judge: asked as [answers] of ``spec`` says and paid from
    ``ledger``, unset one of its own. Raises InputError."""
    found = find_answerer(name, db=db, out=out)
    if found.kind == "hosted":
        return open_other(name, spec, ledger or build_ledger(spec), interrupted or Event())
    return open_target(found, spec=spec).build(seed=derive_seed(spec.seed, "answers"))


def check_all_judges(spec: RunSpec) -> None:
    """Raise InputError where a judge of ``spec`` cannot be asked, whoever it is."""
    check_judges(spec, others=partial(find_answerer, db=spec.output.db, out=spec.output.dir))


def open_judges(spec: RunSpec, ledger: Ledger) -> Opener:
    """Make what opens the judges of ``spec``, whoever they are: runs and models speak by their own chat templates, and
    are in this process's memory beside the model in training."""

    def open_in_memory(model: str) -> Answerer:
        own = {"model": ModelSpec(name=model, threads=spec.model.threads), "pool": PoolSpec()}
        return open_answerer(model, spec.model_copy(update=own), ledger=ledger, db=spec.output.db, out=spec.output.dir)

    return open_services(spec, ledger, others=open_in_memory)


def build_scorer(spec: RunSpec, *, chat: bool) -> ParallelReward | JudgedReward:
    """Build what judges completions outside a run, as ``build_reward`` does, with the judges of the spec beside the
    workers. Raises InputError."""
    check_all_judges(spec)
    judges = build_judges(spec, open_judges(spec, build_ledger(spec)))
    return build_reward(spec, chat=chat, judges=judges)


def open_other(name: str, spec: RunSpec, ledger: Ledger, interrupted: Event) -> Answerer:
    """Open a hosted model as [answers] of ``spec`` says, paid from ``ledger``. Raises InputError."""
    from harness.llm.hosted import open_hosted  # the clients behind it take seconds to import

    return open_hosted(name, build_settings(spec), ledger, interrupted)


def _load(spec: str | RunSpec | None, overrides: Sequence[str]) -> RunSpec:
    return spec if isinstance(spec, RunSpec) else load_spec(spec, overrides)[0]


def _change(spec: RunSpec, overrides: Sequence[str]) -> RunSpec:
    """Apply overrides to a recorded spec."""
    return parse_spec(apply_overrides(spec.model_dump(mode="json"), overrides)) if overrides else spec


def _open_recorded(name: str, spec: str | RunSpec | None, overrides: Sequence[str]) -> Target:
    path = Path(name.removeprefix(RECORDED))
    if _is_record(path):
        from harness.llm.record import open_recorded

        checked = _load(spec, overrides)
        recorded = open_recorded(path)
        who = next(line.who for line in recorded.by_prompt.values())
        chat = who.startswith(ANSWERERS) or checked.model.wants_chat
        return Target(_title_of(who), checked, chat, name, other=recorded)
    if path.suffix.lower() not in READERS:
        raise InputError(f"{name}: {path} is no record of answers, nor rows that hold them: {', '.join(READERS)}")
    if spec is None:
        spec = spec_of_rows(str(path), overrides)
    checked = _load(spec, overrides)
    answered = read_answered(str(path), columns=checked.pool.columns, template=checked.pool.template)
    return Target(name, checked, True, name, other=RecordedRows(name, answered), asks_all=True)


def spec_of_rows(source: str, overrides: Sequence[str] = ()) -> RunSpec:
    """Make the spec that rows of a known layout say themselves: they are the source, and the reward is that of their
    layout. Raises InputError where there is none."""
    layout = find_layout_of(source)
    reward = layout.reward if layout else None
    if not reward and not any(override.startswith("reward.function=") for override in overrides):
        of = layout.says if layout else "no known layout"
        raise InputError(
            f"--spec: {source} does not say by which reward an answer is right ({of}); name a recipe or file"
        )
    tree = {"pool": {"source": source}, "reward": {"function": reward} if reward else {}}
    return parse_spec(apply_overrides(tree, overrides))


def _count_spent(record: Path | None) -> float:
    """Count what a record has cost, in USD: its cap is one for all commands that add to it."""
    if record is None or not record.is_file():
        return 0.0
    from harness.llm.record import read_record

    return sum(line.cost_usd or 0.0 for line in read_record(record))


def read_answers(target: Target) -> Mapping[str, Sequence[Reply]]:
    """Read all that recorded: holds, by prompt id, whatever it was asked with."""
    if isinstance(target.other, RecordedRows):
        return {key: [Reply(text) for text in texts] for key, texts in target.other.answered.answers.items()}
    from harness.llm.record import read_record

    latest: dict[str, Line] = {}
    for line in read_record(Path(target.who.removeprefix(RECORDED))):
        if not line.error or line.key not in latest or latest[line.key].error:
            latest[line.key] = line
    found: dict[str, list[Reply]] = {}
    for line in latest.values():
        found.setdefault(line.prompt_id, []).append(line.reply)
    return found


def _is_record(path: Path) -> bool:
    """Tell a record from rows that hold answers, by its first line."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            line = next((line for line in file if line.strip()), "{}")
        first = json.loads(line)
    except OSError as error:
        raise InputError(f"{RECORDED}{path}: it cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and (not first or {"prompt_id", "key"} <= first.keys())


def _title_of(who: str) -> str:
    """Return the title of who is called ``who`` in a record."""
    name = PRINT.sub("", who)
    at = AT_STEP.fullmatch(name)
    return f"{at[1]} at step {at[2]}" if at else name


def _open_model(name: str, spec: str | RunSpec | None, overrides: Sequence[str], record: Path | None) -> Target:
    """Load a model by folder or hub id. Raises InputError."""
    if spec is None and (Path(name) / SPEC_FILE).is_file():
        checked = _change(_load_exported(name), overrides)
    else:
        checked = _load(spec, overrides)
    from harness.models.load import load_model
    from harness.models.runtime import prepare_process

    prepare_process(checked.model.threads, checked.trainer)
    # How the model is spoken to comes from the spec, which model it is from the caller.
    own = {"name": name, "base": None, "revision": None, "quantization": None, "chat": checked.model.wants_chat}
    model = checked.model.model_copy(update=own)
    loaded = load_model(model, LoraSpec(rank=0), seed=derive_seed(checked.seed, "model"), pool=checked.pool)
    who = f"{name}#{_fingerprint(_stats(Path(name)))}"
    return Target(name, checked, loaded.chat, who, loaded, record=record)


def load_checkpoint(
    store: RunStore, name: str, checkpoint: str, spec: RunSpec | None = None, overrides: Sequence[str] = ()
) -> Target:
    """Load the weights of a run: best, final, a step or a name. ``spec`` says what is asked of them, unset the run's
    own with ``overrides``. Raises InputError."""
    run = store.find_run(name)
    recorded = load_trusted(store, run)
    asked = spec or _change(recorded, overrides)
    found = _find_checkpoint(store, name, checkpoint, recorded)
    from harness.models.load import load_model, load_weights
    from harness.models.runtime import prepare_process

    prepare_process(asked.model.threads or recorded.model.threads, recorded.trainer)
    loaded = load_model(recorded.model, recorded.lora, seed=derive_seed(recorded.seed, "model"), pool=asked.pool)
    load_weights(loaded.model, Path(found.path))
    who = f"{run.name}@{found.step}#{_fingerprint(found.hashes)}"
    return Target(f"{run.name} at step {found.step}", asked, loaded.chat, who, loaded, step=found.step)


def _find_checkpoint(store: RunStore, name: str, checkpoint: str, spec: RunSpec) -> CheckpointRecord:
    run = store.find_run(name)
    checkpoints = Checkpoints(store, run.id, store.folder_of(run) / "checkpoints", keep=spec.checkpoint.keep)
    try:
        if checkpoint != FINAL:
            return checkpoints.find(checkpoint)
        found = checkpoints.find_newest_behind(store.load_run(run.id).weights_step)
    except Refused as refusal:
        raise InputError(f"{run.name}: {refusal}") from None
    if found is None:
        raise InputError(f"{run.name} has no checkpoint yet")
    return found


def load_start(spec: RunSpec, progress: Progress) -> Target:
    """Load the model that the first step of a run would have, after its warm start. Raises InputError."""
    from harness.models.load import load_model
    from harness.models.runtime import prepare_process
    from harness.training.sft import warm_start

    prepare_process(spec.model.threads, spec.trainer)
    loaded = load_model(spec.model, spec.lora, seed=derive_seed(spec.seed, "model"), pool=spec.pool)
    if spec.warmstart.steps:
        shown = choose_demonstrations(spec, build_splits(spec)["train"])
        warm_start(loaded, shown, spec.warmstart, seed=spec.seed, progress=progress)
    return Target(spec.model.name, spec, loaded.chat, spec.model.name, loaded)


def _stats(model: Path) -> Mapping[str, Any]:
    """Tell the files of a model apart by size and time, which takes no reading of gigabytes."""
    files = sorted(model.glob("*")) if model.is_dir() else [model] if model.is_file() else []
    return {file.name: [(stat := file.stat()).st_size, stat.st_mtime_ns] for file in files if file.is_file()}


def _fingerprint(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
