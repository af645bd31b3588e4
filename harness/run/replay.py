"""Take a run again from its decision log, and find the first difference.

It is driven by the same Session and Controller as any other; only its decisions come from the log (policies/replay.py),
so no LLM is asked. Compared are, step by step, decisions, knobs, metrics, groups, looks, samples and weights: all but
seconds, and who was asked at what price.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.checks.trust import load_trusted
from harness.config.load import parse_spec, refuse_stage_name
from harness.config.names import REPLAY
from harness.config.schema import RunSpec
from harness.core.liveness import refuse_running
from harness.errors import InputError
from harness.run.checkpoints import STATE_FILE
from harness.store.reader import RunReader
from harness.types import Decision, RunDetails, RunRecord

NOT_REPEATED = ("pause", "resume", "step", "policy")
"""Actions about the process that drove the run: nobody is there to resume a replay."""
NOT_COMPARED = {"metrics": ("time/", "judge/"), "weights": (STATE_FILE,)}
"""Beginnings of names: seconds, what asking a judge took, which a replay does not, and the file that names the decision
policy, which is another one in a replay."""
AT_AN_END = ("evaluation of test", "fixed samples", "weights")
"""What a run also leaves where it ended once and was resumed; compared where both have it."""


@dataclass(frozen=True)
class Difference:
    """``what`` of ``step`` was ``then`` in the run and is ``now`` in its replay."""

    step: int
    what: str
    then: str
    now: str


def load_repeated(store: RunReader, run: RunRecord, step: int) -> list[Decision] | None:
    """Load what a replay decides for ``step``, None where the run decided nothing. A stop before the last step was
    overruled by whoever resumed the run. No command waits for these decisions, and no LLM is paid for them."""
    logged = store.load_decisions_at(run.id, step)
    if not logged:
        return None
    left_out = NOT_REPEATED if step > run.last_step else (*NOT_REPEATED, "stop")
    return [
        replace(decision, command_id=None, tokens_in=None, tokens_out=None, cost_usd=None, llm_failure="")
        for decision in logged
        if decision.action.kind not in left_out
    ]


def plan_replay(store: RunReader, name: str, new_name: str) -> tuple[RunRecord, RunSpec]:
    """Return the run and the spec that takes it again as ``new_name`` ("": any). Raises InputError when the run lives,
    took no step, or changed what it measures on its way."""
    refuse_stage_name(new_name)
    record = store.find_run(name)
    refuse_running(record.name, record.status, record.pid, record.host, record.process, record.heartbeat)
    load_trusted(store, record)
    row = store.load_run(record.id)
    if row.eras:
        raise InputError(
            f"{record.name} has {len(row.eras) + 1} eras: its reward, pool, trainer or evaluation changed on the "
            "way, and a replay has one spec from beginning to end"
        )
    if record.last_step == 0:
        raise InputError(f"{record.name} took no step, so there is nothing to replay")
    # What was decided after the last step counts only where it ended the run, e.g. a rollback and then a stop.
    after = load_repeated(store, record, record.last_step + 1) or []
    ended = any(decision.action.kind == "stop" and decision.refused is None for decision in after)
    tree = row.spec
    tree["name"] = new_name
    tree["policy"] = {"kind": f"{REPLAY}{record.name}"}
    tree["budget"] |= {"steps": record.last_step + ended, "hours": None}
    tree["model"]["threads"] = tree["model"]["threads"] or row.manifest.get("threads")
    tree["output"] = {"dir": str(Path(record.folder).parents[record.name.count("/")]), "db": store.url}
    return record, parse_spec(tree)


def check_same(first: RunDetails, manifest: Mapping[str, Any]) -> None:
    """Raise InputError when the data or the reward are no longer those of the run ``first``."""
    for what, key in (("prompts or ground truths of the pool", "data_sha256"), ("code of the reward", "reward_sha256")):
        if first.manifest.get(key) and first.manifest[key] != manifest[key]:  # "": not known
            raise InputError(f"the {what} changed since {first.name} ran; put back what was there then to replay it")


def find_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List what differs between two manifests and may cost bit-equality, in words."""
    old = {"threads": then.get("threads"), **then.get("versions", {})}
    new = {"threads": now.get("threads"), **now.get("versions", {})}
    for part in ("processor", "gpu"):
        old[part], new[part] = (manifest.get("machine", {}).get(part) for manifest in (then, now))
    return [f"{name} {old.get(name)} -> {new[name]}" for name in new if old.get(name) != new[name]]


def find_difference(store: RunReader, first: RunRecord, again: RunRecord) -> Difference | None:
    """Find the first difference between a run and its replay, from the evaluation before step 1 to the last
    decision."""
    for step in range(first.last_step + 2):
        then, now = _load_facts(store, first, first, step), _load_facts(store, again, first, step)
        for what in {**then, **now}:
            if what in AT_AN_END and not (what in then and what in now):
                continue
            if then.get(what) != now.get(what):
                return Difference(step, *_locate(what, then.get(what), now.get(what)))
    return None


def _load_facts(store: RunReader, run: RunRecord, first: RunRecord, step: int) -> dict[str, Any]:
    """Load everything on record of a step, in the order in which it came about."""
    decided = load_repeated(store, replace(run, last_step=first.last_step), step) or []
    facts = {"decisions": [asdict(decision) for decision in decided], **store.load_facts(run.id, step)}
    for what in NOT_COMPARED.keys() & facts.keys():
        facts[what] = {name: found for name, found in facts[what].items() if not name.startswith(NOT_COMPARED[what])}
    return facts


def _locate(what: str, then: Any, now: Any) -> tuple[str, str, str]:
    """Find the innermost part that differs, in few characters."""
    if isinstance(then, dict) and isinstance(now, dict):
        key = next(key for key in {**then, **now} if then.get(key) != now.get(key))
        return _locate(f"{what}, {key}", then.get(key), now.get(key))
    if isinstance(then, list | tuple) and isinstance(now, list | tuple) and len(then) == len(now):
        place = next(i for i, (a, b) in enumerate(zip(then, now, strict=True)) if a != b)
        return _locate(f"{what}, {place + 1}", then[place], now[place])
    return what, f"{then!r:.120}", f"{now!r:.120}"
