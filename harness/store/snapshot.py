"""From the store to a frozen snapshot, for everybody who looks: policy, dashboard, review.

A reader keeps the steps it has parsed, so a look costs what is new, however long the run is.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from harness.core.statistics import Comparison, compare_answers
from harness.store.reader import COMMANDS, RunReader, load_checkpoints
from harness.store.rows import (
    DECISION_COLUMNS,
    EVALUATION_COLUMNS,
    EVENT_COLUMNS,
    RUN_COLUMNS,
    SAMPLE_COLUMNS,
    command_record,
    decision_record,
    evaluation_record,
    event_record,
    load_bounds,
    load_json,
    load_knobs,
    load_scores,
    run_record,
    sample_record,
    step_record,
)
from harness.types import (
    NOT_USABLE,
    Asked,
    Bucket,
    CheckpointRecord,
    DecisionRecord,
    EvaluationRecord,
    EventRecord,
    PairedLook,
    SampleRecord,
    Snapshot,
    StepRecord,
)

STEPS_SHOWN = 200
DECISIONS_SHOWN = 50
EVALUATIONS_SHOWN = 64
LOOKS_PAIRED = 16
"""Looks at dev of which a snapshot reads the answers prompt by prompt, besides the best."""
EVENTS_SHOWN = 20
COMMANDS_SHOWN = 20
NEWEST_STEPS = 20
"""Steps of which a review sees every metric."""
NOW = 2**62
"""As ``until`` of a query: a step after every other. Playback gives an earlier one."""

SEEN_OF_A_RUN = f"""
SELECT {", ".join(RUN_COLUMNS)}, spec, knobs, bounds, pins, weights_step, lineage, version, era_start
FROM runs WHERE id = ?
"""
LIVE_STEPS = """
SELECT step, parent, knobs, metrics FROM steps
WHERE run_id = :run AND state = 'live' AND step > :after AND step <= :until ORDER BY step DESC LIMIT :n
"""
DECISIONS = f"SELECT {DECISION_COLUMNS} FROM decisions WHERE run_id = :run"
ACTED = "action != 'continue'"
# The + keeps SQLite to the index decisions_acted: with the other one it would sort every decision of the run.
NEWEST_ACTED = f"{DECISIONS} AND {ACTED} AND +step <= :until ORDER BY id DESC LIMIT {DECISIONS_SHOWN}"
TURNS = "FROM decisions WHERE run_id = :run AND tokens_in IS NOT NULL AND step <= :until"
ANSWERED = f"SELECT coalesce(max(step), 0) {TURNS} AND llm_failure = ''"
ASKED = f"""
SELECT count(*), coalesce(max(step), 0), coalesce(sum(tokens_in), 0), coalesce(sum(tokens_out), 0),
    coalesce(sum(cost_usd), 0.0), coalesce(sum(llm_failure != ''), 0),
    coalesce(sum(llm_failure LIKE '{NOT_USABLE}%'), 0), coalesce(sum(step > ({ANSWERED})), 0),
    coalesce(min(CASE WHEN step > ({ANSWERED}) THEN step END), 0),
    coalesce((SELECT llm_failure {TURNS} AND llm_failure != '' ORDER BY step DESC, id DESC LIMIT 1), '')
{TURNS}
"""
# The + as above; that a pause is no continue is said for the index.
PROPOSED = f"""
SELECT coalesce(max(step), 0) FROM decisions
WHERE run_id = :run AND {ACTED} AND action = 'pause' AND source = 'llm' AND refused IS NULL AND +step <= :until
    AND id > (
        SELECT coalesce(max(id), 0) FROM decisions
        WHERE run_id = :run AND {ACTED} AND source = 'manual' AND refused IS NULL AND +step <= :until
    )
"""
# Without the answers prompt by prompt, of which a snapshot shows only how two looks differ.
EVALUATIONS = f"""
SELECT {", ".join(EVALUATION_COLUMNS)}, id, at FROM evaluations
WHERE run_id = :run AND step >= (SELECT era_start FROM runs WHERE id = :run)
"""
NEWEST_EVALUATIONS = f"{EVALUATIONS} AND step <= :until ORDER BY step DESC LIMIT {EVALUATIONS_SHOWN}"
FIRST_EVALUATIONS = f"{EVALUATIONS} ORDER BY step LIMIT 2"
WAITING = "SELECT count(*) FROM commands WHERE run_id = ? AND state = 'waiting'"
BEST_EVALUATION = f"{EVALUATIONS} AND split = 'dev' ORDER BY score DESC, tie DESC, step LIMIT 1"
ANSWERS = "SELECT answers FROM evaluations WHERE id = ?"
FAULTS_SHOWN = 3
SAMPLES = f"SELECT {SAMPLE_COLUMNS} FROM completions WHERE run_id = :run"
NEWEST_SAMPLES = tuple(
    f"""
{SAMPLES} AND {kind} AND step = (
    SELECT step FROM completions WHERE run_id = :run AND step <= :until AND {kind} ORDER BY step DESC LIMIT 1
) ORDER BY id
"""
    for kind in ("kind != 'fixed'", "kind = 'fixed'")
)
EVENTS = f"SELECT {EVENT_COLUMNS} FROM events WHERE run_id = :run"
NEWEST_EVENTS = f"{EVENTS} ORDER BY id DESC LIMIT {EVENTS_SHOWN}"
NEWEST_FAULTS = f"{EVENTS} AND level = 'error' ORDER BY id DESC LIMIT {FAULTS_SHOWN}"
NEWEST_COMMANDS = f"{COMMANDS} WHERE run_id = :run ORDER BY id DESC LIMIT {COMMANDS_SHOWN}"
BUCKETS = "SELECT metric, first, n, low, total / n, high FROM buckets WHERE run_id = :run ORDER BY metric, first"
FIRST_BUCKETS = """
SELECT first FROM buckets WHERE run_id = :run AND metric = (SELECT min(metric) FROM buckets WHERE run_id = :run)
ORDER BY first LIMIT 2
"""
NEXT_METRIC = "SELECT metric FROM buckets WHERE run_id = ? AND metric > ? ORDER BY metric LIMIT 1"
GROWN_BUCKETS = """
SELECT first, n, low, total / n, high FROM buckets
WHERE run_id = :run AND metric = :metric AND first >= :first ORDER BY first
"""

T = TypeVar("T")


class SnapshotReader:
    """Looks at one run again and again, and reads anew only what has changed."""

    def __init__(self, store: RunReader, run_id: int) -> None:
        self.store = store
        self.run_id = run_id
        self._steps: deque[StepRecord] = deque(maxlen=STEPS_SHOWN)
        self._lineage = -1
        self._version = -1
        self._decided: tuple[DecisionRecord, ...] = ()
        self._looks: tuple[EvaluationRecord, ...] = ()
        self._paired: tuple[PairedLook, ...] = ()
        self._answers: dict[tuple[int, float], Mapping[str, float]] = {}
        self._pairs: dict[tuple[tuple[int, float], ...], PairedLook] = {}
        self._saved: tuple[CheckpointRecord, ...] = ()
        self._faults: tuple[EventRecord, ...] = ()
        self._asked = Asked()
        self._buckets: dict[str, list[Bucket]] = {}
        self._folded: tuple[int, ...] = ()

    def read(self, *, whole_run: bool = False) -> Snapshot:
        """The run as it stands. ``whole_run`` adds the buckets, samples and events that only people look at.

        Raises StoreUnavailable.
        """
        return self.store.look(lambda: self._read(whole_run))

    def _read(self, whole_run: bool) -> Snapshot:
        with self.store.read() as c:
            run = c.execute(SEEN_OF_A_RUN, (self.run_id,)).fetchone()
            self._read_steps(c, run["lineage"], run["era_start"])
            if run["version"] != self._version:
                self._decided = load_acted(c, self.run_id)
                self._looks, self._paired = self._evaluations(c, graded=bool(run["graded"]))
                self._faults = _load_newest(c, NEWEST_FAULTS, {"run": self.run_id}, event_record)
                self._saved = tuple(load_checkpoints(c, self.run_id, self.store.path))
                self._asked = load_asked(c, self.run_id)
                self._version = run["version"]
            return Snapshot(
                run=run_record(run, self.store.path),
                step=run["weights_step"],
                steps_done=run["last_step"],
                knobs=load_knobs(run["knobs"]),
                bounds=load_bounds(run["bounds"]),
                pins=frozenset(load_json(run["pins"])),
                steps=tuple(self._steps),
                decisions=self._decided,
                evaluations=self._looks,
                paired_dev=self._paired,
                checkpoints=self._saved,
                faults=self._faults,
                asked=self._asked,
                samples=load_samples(c, self.run_id) if whole_run else (),
                events=_load_newest(c, NEWEST_EVENTS, {"run": self.run_id}, event_record) if whole_run else (),
                buckets=self._read_buckets(c) if whole_run else {},
                commands=_load_newest(c, NEWEST_COMMANDS, {"run": self.run_id}, command_record) if whole_run else (),
                commands_waiting=c.execute(WAITING, (self.run_id,)).fetchone()[0] if whole_run else 0,
            )

    def read_samples(self) -> tuple[SampleRecord, ...]:
        """The newest samples, which a look without ``whole_run`` leaves out. Raises StoreUnavailable."""

        def look() -> tuple[SampleRecord, ...]:
            with self.store.read() as c:
                return load_samples(c, self.run_id)

        return self.store.look(look)

    def read_pairs(self, step: int) -> tuple[PairedLook, ...]:
        """The newest look at dev as of ``step`` against those before, prompt by prompt. Raises StoreUnavailable."""

        def look() -> tuple[PairedLook, ...]:
            with self.store.read() as c:
                rows = c.execute(
                    f"{EVALUATIONS} AND split = 'dev' AND step <= :until ORDER BY step, id",
                    {"run": self.run_id, "until": step},
                ).fetchall()
                (graded,) = c.execute("SELECT graded FROM runs WHERE id = ?", (self.run_id,)).fetchone()
                return self._pair(c, rows, graded=bool(graded))

        return self.store.look(look)

    def _read_steps(self, c: sqlite3.Connection, lineage: int, era_start: int) -> None:
        if lineage != self._lineage:  # a resume or rollback: recorded steps stopped being live
            self._steps.clear()
            self._lineage = lineage
        last = self._steps[-1].step if self._steps else era_start
        self._steps.extend(load_steps(c, self.run_id, STEPS_SHOWN, after=last))

    def _evaluations(
        self, c: sqlite3.Connection, *, graded: bool
    ) -> tuple[tuple[EvaluationRecord, ...], tuple[PairedLook, ...]]:
        """The first and best dev look and the newest ones, in order of steps, and dev prompt by prompt."""
        queries, asked = (NEWEST_EVALUATIONS, FIRST_EVALUATIONS, BEST_EVALUATION), {"run": self.run_id, "until": NOW}
        found = {row["id"]: row for query in queries for row in c.execute(query, asked)}
        rows = sorted(found.values(), key=lambda row: (row["step"], row["id"]))
        dev = [row for row in rows if row["split"] == "dev"]
        return tuple(map(evaluation_record, rows)), self._pair(c, dev, graded=graded)

    def _pair(self, c: sqlite3.Connection, looks: Sequence[sqlite3.Row], *, graded: bool) -> tuple[PairedLook, ...]:
        """The newest look at dev against the best one and those shortly before; the answers of each are read once, and
        each two compared once."""
        best = max(looks, key=lambda row: (row["score"], row["tie"]), default=None)
        chosen = {
            (row["id"], row["at"]): row["step"]  # SQLite gives the id of a deleted row again
            for i, row in enumerate(looks)
            if row is best or i >= len(looks) - LOOKS_PAIRED
        }
        known, self._answers = self._answers, {}
        for key in chosen:
            self._answers[key] = known.get(key) or load_scores(
                c.execute(ANSWERS, key[:1]).fetchone()["answers"], graded=graded
            )
        compared, self._pairs = self._pairs, {}
        *earlier, newest = chosen or [(0, 0.0)]
        for key in earlier:
            before, after = self._answers[key], self._answers[newest]
            if before.keys() & after.keys():  # else no prompt could be judged in one of them
                self._pairs[key, newest] = compared.get((key, newest)) or compute_paired_look(
                    chosen[key], before, chosen[newest], after
                )
        return tuple(self._pairs.values())

    def _read_buckets(self, c: sqlite3.Connection) -> dict[str, tuple[Bucket, ...]]:
        """The last one known of each metric and those after it; all of them when they were folded anew."""
        folded = (self._lineage, *(first for (first,) in tuples(c, FIRST_BUCKETS, {"run": self.run_id})))
        if folded != self._folded:  # other steps are live, or neighbours were merged
            self._buckets, self._folded = {}, folded
        metric = ""
        while found := c.execute(NEXT_METRIC, (self.run_id, metric)).fetchone():
            metric = found["metric"]
            known = self._buckets.setdefault(metric, [])
            grown = {"run": self.run_id, "metric": metric, "first": known.pop().first if known else 0}
            known.extend(Bucket(*values) for values in tuples(c, GROWN_BUCKETS, grown))
        return {metric: tuple(parts) for metric, parts in self._buckets.items()}


# ---------------------------------------------------------------- within one view


def _load_newest(
    c: sqlite3.Connection, query: str, parameters: dict[str, Any], record: Callable[[sqlite3.Row], T]
) -> tuple[T, ...]:
    """Read the records of a ``query`` that has the newest first, the oldest first."""
    return tuple(map(record, reversed(c.execute(query, parameters).fetchall())))


def load_steps(
    c: sqlite3.Connection, run_id: int, n: int, *, after: int = 0, until: int = NOW
) -> tuple[StepRecord, ...]:
    """The newest ``n`` live steps of those from ``after`` (left out) to ``until``, oldest first."""
    return _load_newest(c, LIVE_STEPS, {"run": run_id, "after": after, "until": until, "n": n}, step_record)


def load_acted(c: sqlite3.Connection, run_id: int, *, until: int = NOW) -> tuple[DecisionRecord, ...]:
    """Those that did something: a rule must still see its last change after a hundred times continue."""
    return _load_newest(c, NEWEST_ACTED, {"run": run_id, "until": until}, decision_record)


def load_asked(c: sqlite3.Connection, run_id: int, *, until: int = NOW) -> Asked:
    """What asking an LLM came to."""
    here = {"run": run_id, "until": until}
    return Asked(*c.execute(ASKED, here).fetchone(), *c.execute(PROPOSED, here).fetchone())


def load_samples(c: sqlite3.Connection, run_id: int, *, until: int = NOW) -> tuple[SampleRecord, ...]:
    """The samples of the newest step, and the newest of the fixed prompts."""
    asked = {"run": run_id, "until": until}
    return tuple(sample_record(row) for query in NEWEST_SAMPLES for row in c.execute(query, asked))


def tuples(c: sqlite3.Connection, query: str, parameters: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Rows of bare values, where there may be a hundred thousand."""
    cursor = c.cursor()
    cursor.row_factory = None
    return cursor.execute(query, parameters)


def load_buckets(c: sqlite3.Connection, run_id: int) -> dict[str, tuple[Bucket, ...]]:
    buckets: dict[str, list[Bucket]] = {}
    for metric, *values in tuples(c, BUCKETS, {"run": run_id}):
        buckets.setdefault(metric, []).append(Bucket(*values))
    return {metric: tuple(parts) for metric, parts in buckets.items()}


def compute_paired_look(
    before_step: int, before: Mapping[str, float], after_step: int, after: Mapping[str, float]
) -> PairedLook:
    """How two looks differ, on the prompts that both have."""
    return to_paired_look(before_step, after_step, compare_answers(before, after))


def to_paired_look(before: int, after: int, found: Comparison) -> PairedLook:
    """Turn a comparison of the looks of two steps into the record that decisions see."""
    apart = found.difference
    return PairedLook(
        before, after, found.n, found.gained, found.lost,
        apart.value, apart.se, (apart.low, apart.high), found.p_rose, found.p_fell,
    )  # fmt: skip
