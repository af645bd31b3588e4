"""The whole record of a run, as reviews and reports read it, and a run as it was at an earlier step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from harness.core.liveness import is_alive_run
from harness.store.reader import GROUPS, RunReader, load_checkpoints
from harness.store.rows import (
    decision_record,
    evaluation_record,
    event_record,
    load_counts,
    load_eras,
    load_json,
    load_knobs,
    load_metrics,
    load_object,
    load_scores,
    sample_record,
    seen_group,
)
from harness.store.snapshot import (
    ACTED,
    ASKED,
    DECISIONS,
    EVALUATIONS,
    EVENTS,
    NEWEST_EVALUATIONS,
    NEWEST_STEPS,
    SAMPLES,
    STEPS_SHOWN,
    SnapshotReader,
    load_acted,
    load_buckets,
    load_samples,
    load_steps,
    tuples,
)
from harness.types import Asked, Course, History, Snapshot

LIVE = """
SELECT step FROM steps
WHERE run_id = :run AND state = 'live' AND step > (SELECT era_start FROM runs WHERE id = :run) ORDER BY step
"""
PLAYED = 1_000
"""Looks at a run that is played back, at most."""
FIRST_METRICS = "SELECT metrics FROM steps WHERE run_id = :run AND state = 'live' ORDER BY step LIMIT :n"
COUNTS = f"""
(SELECT count(*) FROM steps WHERE run_id = :run AND state != 'superseded') AS taken,
(SELECT count(*) FROM decisions WHERE run_id = :run) AS decided,
(SELECT count(*) FROM decisions WHERE run_id = :run AND {ACTED}) AS acted
"""
REWARDS = "SELECT step, reward FROM steps WHERE run_id = :run AND state = 'live'"
FIRST_AND_LAST_LOOK = """
SELECT step FROM completions WHERE id IN (
    SELECT min(id) FROM completions WHERE run_id = :run AND kind = 'fixed'
    UNION SELECT max(id) FROM completions WHERE run_id = :run AND kind = 'fixed'
)
"""
TEST_ANSWERS = """
SELECT step, answers FROM evaluations
WHERE run_id = :run AND split = 'test' AND step >= (SELECT era_start FROM runs WHERE id = :run)
"""
TEST_COUNTS = f"{TEST_ANSWERS} AND pass_at != '[]'"
ATTEMPTS = """
SELECT count(*), sum(instr(correct, '1') > 0) FROM groups JOIN steps ON steps.id = step_id
WHERE run_id = :run AND state = 'live' AND step > (SELECT last_step FROM runs WHERE id = :run) - :n GROUP BY prompt_id
"""
KNOBS_IN_FORCE = """
SELECT step, knobs FROM (
    SELECT step, knobs, lag(knobs) OVER (ORDER BY step) AS before FROM steps WHERE run_id = :run AND state = 'live'
) WHERE before IS NULL OR before != knobs ORDER BY step
"""
TIMES = ("rollout", "reward", "update", "step")
SECONDS = (
    "SELECT "
    + ", ".join(f"""total(json_extract(metrics, '$."time/{name}_s"'))""" for name in TIMES)
    + " FROM steps WHERE run_id = :run"
)
STEPS_OF_GROUPS = 2_000
"""Steps of which a plotted report reads the groups, at most."""
SOME_GROUPS = f"{GROUPS} AND state = 'live' AND (:last - step) % :every = 0 ORDER BY step, groups.id"


def load_history(store: RunReader, name: str, *, whole_run: bool = True) -> History:
    """The record of a run, for reviews. Without ``whole_run`` what a terminal has room for: the first and the newest
    rewards, the decisions that did something, the first and the last samples. Raises InputError for an unknown run.
    """
    return store.look(lambda: _load_history(store, name, whole_run=whole_run))


def _load_history(store: RunReader, name: str, *, whole_run: bool) -> History:
    run = store.find_run(name)
    here = {"run": run.id}
    with store.read() as c:
        columns = "manifest, forecast, knobs, pins, era_start, eras"
        row = c.execute(f"SELECT {columns}, {COUNTS} FROM runs WHERE id = :run", here).fetchone()
        rewards = f"{REWARDS} ORDER BY step"
        decisions, samples = DECISIONS, f"{SAMPLES} AND kind = 'fixed'"
        if not whole_run:
            first, last = f"{REWARDS} ORDER BY step LIMIT 1", f"{REWARDS} ORDER BY step DESC LIMIT {STEPS_SHOWN}"
            rewards = f"SELECT * FROM ({first}) UNION SELECT * FROM ({last}) ORDER BY step"
            decisions += f" AND {ACTED}"
            samples += f" AND step IN ({FIRST_AND_LAST_LOOK})"
        return History(
            run=run,
            alive=run.status in ("running", "paused") and is_alive_run(run),
            manifest=load_object(row["manifest"]),
            forecast=load_object(row["forecast"]),
            knobs=load_knobs(row["knobs"]),
            pins=tuple(load_json(row["pins"])),
            steps_taken=row["taken"],
            era_start=row["era_start"],
            eras=load_eras(row["eras"]),
            rewards={step: math.nan if reward is None else reward for step, reward in tuples(c, rewards, here)},
            buckets=load_buckets(c, run.id),
            newest=tuple(step.metrics for step in load_steps(c, run.id, NEWEST_STEPS)),
            evaluations=tuple(map(evaluation_record, c.execute(f"{EVALUATIONS} ORDER BY step, id", here))),
            answers={
                step: load_scores(answers, graded=bool(run.graded)) for step, answers in c.execute(TEST_ANSWERS, here)
            },
            decisions=tuple(map(decision_record, c.execute(f"{decisions} ORDER BY step, id", here))),
            continued=row["decided"] - row["acted"],
            events=tuple(map(event_record, c.execute(f"{EVENTS} ORDER BY id", here))),
            samples=tuple(map(sample_record, c.execute(f"{samples} ORDER BY id", here))),
            checkpoints=tuple(load_checkpoints(c, run.id, store.path)),
            asked=Asked(*c.execute(ASKED, (run.id,)).fetchone()),
            attempts=tuple(tuples(c, ATTEMPTS, here | {"n": STEPS_SHOWN})),
            counts={step: load_counts(answers) for step, answers in c.execute(TEST_COUNTS, here)},
        )


def load_course(store: RunReader, run_id: int) -> Course:
    """What the plotted report needs beside ``load_history``."""
    return store.look(lambda: _load_course(store, run_id))


def _load_course(store: RunReader, run_id: int) -> Course:
    here = {"run": run_id}
    with store.read() as c:
        row = c.execute("SELECT spec, last_step FROM runs WHERE id = :run", here).fetchone()
        every = max(1, -(-row["last_step"] // STEPS_OF_GROUPS))
        oldest = tuples(c, FIRST_METRICS, here | {"n": NEWEST_STEPS})
        return Course(
            spec=load_object(row["spec"]),
            oldest=tuple(load_metrics(metrics) for (metrics,) in oldest),
            knobs=tuple((step, load_knobs(knobs)) for step, knobs in tuples(c, KNOBS_IN_FORCE, here)),
            seconds=dict(zip(TIMES, c.execute(SECONDS, here).fetchone(), strict=True)),
            groups=tuple(map(seen_group, tuples(c, SOME_GROUPS, here | {"last": row["last_step"], "every": every}))),
            every=every,
        )


def play_back(store: RunReader, run_id: int) -> Iterator[Snapshot]:
    """Yield what the decision policy saw after each live step, or of a long run after every n-th. Raises
    StoreUnavailable."""
    reader = SnapshotReader(store, run_id)
    now = reader.read()
    with store.read() as c:
        steps = [step for (step,) in tuples(c, LIVE, {"run": run_id})]
    for step in steps[:: -(-len(steps) // PLAYED) or 1]:
        yield replace(read_back(store, now, step), paired_dev=reader.read_pairs(step))


def read_back(store: RunReader, now: Snapshot, step: int) -> Snapshot:
    """``now`` without what came after ``step``. Of the live steps only: those a rollback left are not played. Verdicts
    on changes are those known today. Raises StoreUnavailable."""
    return store.look(lambda: _read_back(store, now, step))


def _read_back(store: RunReader, now: Snapshot, step: int) -> Snapshot:
    run = now.run.id
    with store.read() as c:
        steps = load_steps(c, run, STEPS_SHOWN, until=step)
        decisions = load_acted(c, run, until=step)
        samples = load_samples(c, run, until=step)
        measured = c.execute(NEWEST_EVALUATIONS, {"run": run, "until": step})
        looks = [evaluation_record(row) for row in measured][::-1]
    best = max((look for look in looks if look.split == "dev"), key=lambda look: look.rank, default=None)
    pins: set[str] = set()
    for d in decisions:
        if d.source == "manual" and d.refused is None:
            pins = pins - {str(d.argument)} if d.action == "release" else pins | d.changes.keys()
    return replace(
        now,
        step=step,
        steps_done=step,
        knobs=steps[-1].knobs if steps else now.knobs,
        pins=frozenset(pins),
        steps=steps,
        decisions=decisions,
        evaluations=tuple(looks),
        checkpoints=tuple(
            replace(c, best=best is not None and c.step == best.step) for c in now.checkpoints if c.step <= step
        ),
        samples=samples,
        events=tuple(event for event in now.events if event.step <= step),
        buckets={name: tuple(b for b in parts if b.first <= step) for name, parts in now.buckets.items()},
        faults=tuple(fault for fault in now.faults if fault.step <= step),
        commands=tuple(c for c in now.commands if c.step is not None and c.step <= step),
        commands_waiting=0,
    )
