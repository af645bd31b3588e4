"""The schema through time: a plain list of functions, applied in order and never changed once released.

``PRAGMA user_version`` says how many of them a database has seen. ``harness.store.schema`` declares what they lead to.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

from harness.config.moved import move_answers
from harness.errors import InputError

FIRST_SCHEMA = """
CREATE TABLE runs (
    id INTEGER NOT NULL PRIMARY KEY, name VARCHAR NOT NULL UNIQUE, created FLOAT NOT NULL, status VARCHAR NOT NULL,
    stop_reason VARCHAR NOT NULL, seed INTEGER NOT NULL, policy VARCHAR NOT NULL, spec JSON NOT NULL,
    manifest JSON NOT NULL, folder VARCHAR NOT NULL, pid INTEGER NOT NULL, host VARCHAR NOT NULL,
    wall_s FLOAT NOT NULL, heartbeat FLOAT NOT NULL, phase VARCHAR NOT NULL, phase_done INTEGER NOT NULL,
    phase_total INTEGER NOT NULL, rollouts INTEGER NOT NULL, last_step INTEGER NOT NULL,
    weights_step INTEGER NOT NULL, lineage INTEGER NOT NULL, version INTEGER NOT NULL, knobs JSON NOT NULL,
    pins JSON NOT NULL, bounds JSON NOT NULL, forecast JSON NOT NULL
);
CREATE TABLE steps (
    id INTEGER NOT NULL PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES runs (id), step INTEGER NOT NULL,
    parent INTEGER NOT NULL, state VARCHAR NOT NULL, at FLOAT NOT NULL, knobs JSON NOT NULL, metrics JSON NOT NULL
);
CREATE TABLE groups (
    id INTEGER NOT NULL PRIMARY KEY, step_id INTEGER NOT NULL REFERENCES steps (id), prompt_id VARCHAR NOT NULL,
    label VARCHAR NOT NULL, kind VARCHAR NOT NULL, rewards JSON NOT NULL, correct JSON NOT NULL, tokens JSON NOT NULL
);
CREATE TABLE completions (
    id INTEGER NOT NULL PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES runs (id), step INTEGER NOT NULL,
    kind VARCHAR NOT NULL, prompt VARCHAR NOT NULL, ground_truth VARCHAR NOT NULL, completion VARCHAR NOT NULL,
    reward FLOAT, correct BOOLEAN NOT NULL, reason VARCHAR NOT NULL
);
CREATE TABLE commands (
    id INTEGER NOT NULL PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES runs (id), asked_at FLOAT NOT NULL,
    who VARCHAR NOT NULL, note VARCHAR NOT NULL, action VARCHAR NOT NULL, argument JSON, changes JSON NOT NULL,
    state VARCHAR NOT NULL, step INTEGER, applied_at FLOAT, result VARCHAR NOT NULL
);
CREATE TABLE decisions (
    id INTEGER NOT NULL PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES runs (id), step INTEGER NOT NULL,
    at FLOAT NOT NULL, source VARCHAR NOT NULL, action VARCHAR NOT NULL, argument JSON, changes JSON NOT NULL,
    evidence VARCHAR NOT NULL, hypothesis VARCHAR NOT NULL, expected VARCHAR NOT NULL, measured VARCHAR,
    verdict VARCHAR, refused VARCHAR, command_id INTEGER REFERENCES commands (id)
);
CREATE TABLE evaluations (
    id INTEGER NOT NULL PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES runs (id), step INTEGER NOT NULL,
    split VARCHAR NOT NULL, at FLOAT NOT NULL, n INTEGER NOT NULL, accuracy FLOAT NOT NULL, low FLOAT NOT NULL,
    high FLOAT NOT NULL, reward FLOAT NOT NULL, correct JSON NOT NULL, UNIQUE (run_id, split, step)
);
CREATE TABLE checkpoints (
    id INTEGER NOT NULL PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES runs (id), step INTEGER NOT NULL,
    at FLOAT NOT NULL, name VARCHAR NOT NULL, path VARCHAR NOT NULL, hashes JSON NOT NULL, UNIQUE (run_id, step)
);
CREATE TABLE events (
    id INTEGER NOT NULL PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES runs (id), step INTEGER NOT NULL,
    at FLOAT NOT NULL, level VARCHAR NOT NULL, text VARCHAR NOT NULL
);
CREATE TABLE buckets (
    run_id INTEGER NOT NULL REFERENCES runs (id), metric VARCHAR NOT NULL, first INTEGER NOT NULL,
    n INTEGER NOT NULL, low FLOAT NOT NULL, total FLOAT NOT NULL, high FLOAT NOT NULL,
    PRIMARY KEY (run_id, metric, first)
);
CREATE INDEX steps_by_run ON steps (run_id, step);
CREATE INDEX groups_by_step ON groups (step_id);
CREATE INDEX completions_by_run ON completions (run_id, step);
CREATE INDEX commands_by_run ON commands (run_id, state);
CREATE INDEX decisions_by_run ON decisions (run_id, step);
CREATE INDEX events_by_run ON events (run_id);
"""

LONG_RUNS = """
ALTER TABLE runs ADD COLUMN process VARCHAR NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN heartbeat_boot FLOAT NOT NULL DEFAULT 0.0;
ALTER TABLE runs ADD COLUMN era_start INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN eras JSON NOT NULL DEFAULT '[]';
ALTER TABLE steps ADD COLUMN reward FLOAT;
UPDATE steps SET reward = json_extract(metrics, '$."reward/mean"');
DROP INDEX steps_by_run;
CREATE INDEX steps_by_run ON steps (run_id, step, state, reward);
CREATE INDEX completions_fixed ON completions (run_id, step) WHERE kind = 'fixed';
CREATE INDEX decisions_acted ON decisions (run_id, id) WHERE action != 'continue';
CREATE INDEX evaluations_by_step ON evaluations (run_id, step);
CREATE INDEX evaluations_by_accuracy ON evaluations (run_id, split, accuracy DESC, step);
"""

LLM_DECISIONS = """
ALTER TABLE decisions ADD COLUMN rejected VARCHAR NOT NULL DEFAULT '';
ALTER TABLE decisions ADD COLUMN tokens_in INTEGER;
ALTER TABLE decisions ADD COLUMN tokens_out INTEGER;
ALTER TABLE decisions ADD COLUMN cost_usd FLOAT;
CREATE INDEX decisions_asked ON decisions (run_id, step) WHERE tokens_in IS NOT NULL;
"""

GRADED_REWARDS = """
ALTER TABLE runs ADD COLUMN graded BOOLEAN;
UPDATE runs SET graded = 0 WHERE id IN (SELECT run_id FROM evaluations);
ALTER TABLE evaluations RENAME COLUMN correct TO answers;
ALTER TABLE evaluations ADD COLUMN score FLOAT NOT NULL DEFAULT 0.0;
ALTER TABLE evaluations ADD COLUMN tie FLOAT NOT NULL DEFAULT 0.0;
UPDATE evaluations SET score = accuracy;
UPDATE evaluations SET answers = (
    SELECT json_group_object(key, json_array(NULL, value, 1)) FROM json_each(evaluations.answers)
) WHERE json_valid(answers);
DROP INDEX evaluations_by_accuracy;
CREATE INDEX evaluations_by_score ON evaluations (run_id, split, score DESC, tie DESC, step);
"""

LLM_FAILURES = """
UPDATE decisions SET llm_failure = :begin || substr(evidence, instr(evidence, :words) + length(:words))
WHERE tokens_in IS NOT NULL AND source != 'llm' AND instr(evidence, ' | the llm abstained: ') = 0
    AND llm_failure = '' AND instr(evidence, :words) > 0
"""

MORE_BUCKETS = """
WITH RECURSIVE
    powers (width) AS (SELECT 1 UNION ALL SELECT width * 2 FROM powers WHERE width < 1 << 30),
    widths (run_id, width) AS (
        SELECT id, min(width) FROM runs JOIN powers ON (last_step + width - 1) / width <= 512 GROUP BY id
    ),
    numbers (run_id, first, value) AS (
        SELECT run_id, (step - 1) / width * width + 1, json_extract(metrics, :path)
        FROM steps JOIN widths USING (run_id) WHERE state = 'live'
    )
INSERT INTO buckets (run_id, metric, first, n, low, total, high)
SELECT run_id, :metric, first, count(*), min(value), sum(value), max(value)
FROM numbers WHERE value IS NOT NULL GROUP BY run_id, first
"""


def first_schema(c: sqlite3.Connection) -> None:
    """Version 1."""
    _run(c, FIRST_SCHEMA)


def second_schema(c: sqlite3.Connection) -> None:
    """Version 2: which process drives a run and when it was heard last, and what a look at a long run reads."""
    _run(c, LONG_RUNS)
    for metric in ("group/solved_rate", "group/unsolved_rate"):
        c.execute(MORE_BUCKETS, {"metric": metric, "path": f'$."{metric}"'})


def third_schema(c: sqlite3.Connection) -> None:
    """Version 3: runs from before pool.sampler drew uniformly, and go on like that. Their hash of the reward was one of
    its own module alone: it cannot be compared with what is hashed now."""
    missing = "json_extract(spec, '$.pool.sampler') IS NULL"
    c.execute(
        "UPDATE runs SET spec = json_set(spec, '$.pool.sampler', 'uniform'), "
        f"manifest = json_replace(manifest, '$.reward_sha256', '') WHERE {missing}"
    )


def fourth_schema(c: sqlite3.Connection) -> None:
    """Version 4: what asking an LLM cost, and what it rejected."""
    _run(c, LLM_DECISIONS)


def fifth_schema(c: sqlite3.Connection) -> None:
    """Version 5: who starts a dead process again. The folder of a run is named as seen from the database: one beside it
    of the run's name, where there is one, since the path may be that of the folder that this one is a copy of."""
    _run(c, "ALTER TABLE runs ADD COLUMN supervisor VARCHAR NOT NULL DEFAULT ''")
    place = Path(c.execute("PRAGMA database_list").fetchone()[2]).parent
    for run, folder in c.execute("SELECT id, folder FROM runs").fetchall():
        path = Path(folder)
        beside = (place / path.name).is_dir()
        named = path.name if beside else path.relative_to(place) if path.is_relative_to(place) else path
        c.execute("UPDATE runs SET folder = ? WHERE id = ?", (str(named), run))


def sixth_schema(c: sqlite3.Connection) -> None:
    """Version 6: what evaluations are judged by. Those on record stay judged by accuracy, and of equal ones the
    earliest stays the best, whose checkpoint was kept."""
    _run(c, GRADED_REWARDS)


def seventh_schema(c: sqlite3.Connection) -> None:
    """Version 7: runs from before the ids of prompts were exact go on with theirs, by which their pool, their groups
    and their answers are known, and with the first of equal prompts."""
    c.execute(
        "UPDATE runs SET spec = json_set(spec, '$.pool.identity', 'normalised', '$.pool.conflicts', 'first') "
        "WHERE json_valid(spec) AND json_extract(spec, '$.pool.identity') IS NULL"
    )


def eighth_schema(c: sqlite3.Connection) -> None:
    """Version 8: how models behind an address are asked, and their prices, are no longer said for the llm alone."""
    for run, text in c.execute("SELECT id, spec FROM runs WHERE json_valid(spec)").fetchall():
        spec = json.loads(text)
        if isinstance(spec, dict) and (moved := move_answers(spec)) is not spec:
            c.execute("UPDATE runs SET spec = ? WHERE id = ?", (json.dumps(moved), run))


def ninth_schema(c: sqlite3.Connection) -> None:
    """Version 9: what several completions of each prompt show in an evaluation; those on record had one."""
    _run(c, "ALTER TABLE evaluations ADD COLUMN pass_at JSON NOT NULL DEFAULT '[]'")


def tenth_schema(c: sqlite3.Connection) -> None:
    """Version 10: the turns in which an LLM gave no decision, which only the words of the decision told. Whoever was
    alerted of all seven kinds there were is alerted of these too."""
    c.execute("ALTER TABLE runs ADD COLUMN spent_usd FLOAT NOT NULL DEFAULT 0.0")
    c.execute("ALTER TABLE decisions ADD COLUMN llm_failure VARCHAR NOT NULL DEFAULT ''")
    for begin, words in (("no answer: ", ": "), ("not usable: ", ", its answer was not usable: ")):
        c.execute(LLM_FAILURES, {"begin": begin, "words": f" | no decision by the llm{words}"})
    c.execute(
        "UPDATE runs SET spec = json_insert(spec, '$.alerts.on[#]', 'llm_silent') "
        "WHERE json_valid(spec) AND json_array_length(spec, '$.alerts.on') = 7"
    )


def eleventh_schema(c: sqlite3.Connection) -> None:
    """Version 11: the loss on the demonstrations of a split, of runs that learn from some."""
    _run(c, "ALTER TABLE evaluations ADD COLUMN loss FLOAT")


MIGRATIONS: list[Callable[[sqlite3.Connection], None]] = [
    first_schema,
    second_schema,
    third_schema,
    fourth_schema,
    fifth_schema,
    sixth_schema,
    seventh_schema,
    eighth_schema,
    ninth_schema,
    tenth_schema,
    eleventh_schema,
]


def check_version(version: int) -> None:
    """Raises InputError for a database that a newer grpo wrote."""
    if version > len(MIGRATIONS):
        raise InputError(
            f"the database has schema {version}, this version knows {len(MIGRATIONS)}: use the newer grpo that wrote it"
        )


def migrate(c: sqlite3.Connection) -> None:
    """Bring a database to the newest schema, in a transaction of its own."""
    c.execute("PRAGMA journal_mode = WAL")  # which the file keeps: readers do not block the writer, nor it them
    c.execute("BEGIN IMMEDIATE")
    try:
        (version,) = c.execute("PRAGMA user_version").fetchone()
        for number, migration in enumerate(MIGRATIONS[version:], version + 1):
            migration(c)
            c.execute(f"PRAGMA user_version = {number}")
        c.execute("COMMIT")
    finally:
        c.rollback()


def _run(c: sqlite3.Connection, script: str) -> None:
    for statement in script.split(";"):  # executescript would commit first
        c.execute(statement)
