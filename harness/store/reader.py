"""The record of runs as those who look read it: plain sqlite3, so a look starts in a blink and blocks nobody.

``RunStore`` (harness.store.writer) is a reader that also writes.
"""

from __future__ import annotations

import difflib
import logging
import math
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar
from urllib.parse import quote

from harness.core.paths import checkpoint_path, database_path, find_folder, is_inside
from harness.errors import HarnessError, InputError, StoreUnavailable
from harness.store.connection import PASSING, connect
from harness.store.damage import Damage, find_damage, hide_damage
from harness.store.migrations import MIGRATIONS, check_version, migrate
from harness.store.rows import (
    EVENT_COLUMNS,
    SAMPLE_COLUMNS,
    checkpoint_record,
    command_record,
    decision_from_row,
    dump_json,
    event_record,
    load_json,
    load_scores,
    run_details,
    run_record,
    sample_record,
    seen_group,
)
from harness.types import (
    CheckpointRecord,
    CommandRecord,
    Decision,
    EventRecord,
    OfferedRun,
    RunDetails,
    RunRecord,
    SampleRecord,
    SeenGroup,
)

if TYPE_CHECKING:
    from harness.store.retry import Patience

log = logging.getLogger("grpo.store")
DAMAGED = (KeyError, TypeError, ValueError, AttributeError, IndexError, sqlite3.DatabaseError)
"""What reading a row raises that is not as it was written."""
DAMAGES_NAMED = 8
RUNS_OFFERED = 200
RUNS_NAMED = 5
"""Of those that a beginning of a name may mean, at most."""
SPENT = """
SELECT coalesce(sum(cost_usd), 0.0) + (SELECT spent_usd FROM runs WHERE id = :run) FROM decisions WHERE run_id = :run
"""
COMMANDS = "SELECT id, action, changes, argument, who, note, asked_at, state, step, applied_at, result FROM commands"
GROUPS = """
SELECT step, prompt_id, label, correct, rewards FROM steps JOIN groups ON groups.step_id = steps.id WHERE run_id = :run
"""

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")
S = TypeVar("S", bound="RunReader")


def within(
    enter: Callable[[S], AbstractContextManager[C]], method: Callable[Concatenate[S, C, P], R]
) -> Callable[Concatenate[S, P], R]:
    """Make ``method`` run in one transaction of its own, which ``enter`` begins, with the run's patience if any."""

    @wraps(method)
    def attempted(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        def attempt() -> R:
            with enter(self) as c:
                return method(self, c, *args, **kwargs)

        return self.patiently(lambda: self.look(attempt))

    return attempted


def reading(
    method: Callable[Concatenate[RunReader, sqlite3.Connection, P], R],
) -> Callable[Concatenate[RunReader, P], R]:
    """Make ``method`` read one consistent view. Raises StoreUnavailable."""
    return within(lambda reader: reader.read(), method)


class RunReader:
    """One database of runs, the reading half of harness.types.Store. Open it with ``find_reader``; a thread has a
    connection of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.path = database_path(url)
        self.patience: Patience | None = None
        """Set in the process that drives a run: it outlasts a lock or a full disk, where others fail at once."""
        self.damages: set[Damage] = set()
        """Rows that were left out."""
        self.leaves_out = False
        self._own = threading.local()
        self._file: tuple[int, int] | None = None

    def check_file(self) -> None:
        """Let go of the database when another file has taken its place, or none has. Raises StoreUnavailable in the
        process that drives a run: what it wrote would be in a file that nobody finds."""
        try:
            found = self.path.stat()
            here = (found.st_dev, found.st_ino)
        except FileNotFoundError:
            here = None
        if here == self._file:
            return
        self.close()
        if self._file is None or self.patience is None:
            self._file = here
        else:
            what = "replaced by another file" if here else "moved away or deleted"
            fault = f"the database {self.path} was {what} while the run writes to it: put it back"
            raise StoreUnavailable(fault, what="the database", cause=what)

    def close(self) -> None:
        """Let go of the file, as far as this thread holds it."""
        while self._own.__dict__:
            self._own.__dict__.popitem()[1].close()

    def connection(self) -> sqlite3.Connection:
        """This thread's connection; every statement outside ``read`` is its own transaction."""
        found: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if found is None:
            found = self._own.connection = connect(self.path)
            found.row_factory = sqlite3.Row
            if self.leaves_out:
                hide_damage(found, self.damages.add)
        return found

    def bring_up_to_date(self, tried: Literal["read", "write"]) -> None:
        """The newest schema. Where it is that already, nobody else's lock is waited for. Raises InputError."""
        try:
            (version,) = self.connection().execute("PRAGMA user_version").fetchone()
            check_version(version)
            if version < len(MIGRATIONS):
                migrate(self.connection())
        except sqlite3.DatabaseError as error:
            raise self.explain_opening(error, tried) from error

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One consistent view, whatever is written meanwhile. Raises StoreUnavailable."""
        self.check_file()
        try:
            connection = self.connection()
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()
        except sqlite3.OperationalError as error:
            raise self.explain(error, "read") from error

    def look(self, attempt: Callable[[], R]) -> R:
        """Attempt to read, and where a damaged row is in the way once more without such rows. Raises InputError when
        the database is damaged in another way; the process that drives a run leaves out nothing."""
        known = len(self.damages)
        try:
            return attempt()
        except HarnessError:
            raise
        except DAMAGED as error:
            if self.patience is not None:
                raise
            if self.leaves_out:
                raise self.explain_damage(error) from error
        finally:
            if len(self.damages) > known:
                log.warning("%s is damaged; left out: %s", self.path, self.name_damages())
        self.leave_out_damage()
        return self.look(attempt)

    def name_damages(self) -> str:
        """Name the damaged rows that were met, the first few."""
        named = [str(damage) for damage in sorted(self.damages)]
        return ", ".join(named[:DAMAGES_NAMED]) + (
            f" and {len(named) - DAMAGES_NAMED} more" * (len(named) > DAMAGES_NAMED)
        )

    def explain_damage(self, error: Exception) -> InputError:
        """Say in a line that the database cannot be read, and what helps."""
        found = self.name_damages() or " ".join(f"{error}".split())[:200]
        return InputError(
            f"db: {self.path} is damaged: {found}; put back a copy, or grpo adopt the folders of its runs"
        )

    def find_damage(self, run: RunRecord) -> str:
        """Name the damaged rows of a run, "" for none."""
        with self.read() as c:
            self.damages = {*find_damage(c, run.id)}
        return self.name_damages()

    def check_run(self, run: RunRecord) -> None:
        """Raise InputError for a run of which any row is damaged: it would not continue as itself."""
        if damaged := self.find_damage(run):
            raise InputError(
                f"the record of {run.name} is damaged: {damaged}; grpo adopt takes what is intact of it into another "
                "database (--out), where it continues"
            )

    def leave_out_damage(self) -> None:
        """Read from here on without damaged rows."""
        self.leaves_out = True
        self.close()

    def patiently(self, attempt: Callable[[], R]) -> R:
        try:
            return attempt()
        except StoreUnavailable as fault:
            if self.patience is None:
                raise
            return self.patience.outlast(fault, attempt)

    def explain(self, error: Exception, tried: Literal["read", "write"]) -> Exception:
        """The fault as people are told it. The file is let go: a lost disk must not be held on to."""
        with suppress(sqlite3.Error):
            self.close()
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code not in PASSING:
            return error
        undone = "cannot be read" if tried == "read" else "cannot be written"
        why = "is locked by another process" if code == sqlite3.SQLITE_BUSY else undone
        return StoreUnavailable(f"the database {self.path} {why}: {error}", what="the database", cause=str(error))

    def explain_opening(self, error: Exception, tried: Literal["read", "write"]) -> Exception:
        """The same before anything is known to be a database there: then the place is wrong input."""
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            return self.explain(error, tried)
        return InputError(f"db: cannot {tried} {self.path}: {error}; choose another --db or --out")

    # ------------------------------------------------------------ runs

    @reading
    def find_run(self, c: sqlite3.Connection, name: str) -> RunRecord:
        newest = name == "latest"
        # Of a group the one that was worked on last, which a resume may have begun long ago.
        found = "WHERE name = :name OR substr(name, 1, length(:name) + 1) = :name || '/' ORDER BY heartbeat DESC, id"
        found = "ORDER BY id" if newest else found
        row = c.execute(f"SELECT * FROM runs {found} DESC LIMIT 1", {"name": name}).fetchone()
        if row is None:
            damaged = f"; damaged: {self.name_damages()}" if self.damages else ""
            raise InputError(("no run yet" if newest else f"no run named {name}") + damaged)
        return run_record(row, self.path)

    @reading
    def best_score(self, c: sqlite3.Connection, run_id: int) -> float | None:
        """The highest score on dev of the present era, None before the first."""
        query = "SELECT max(score) FROM evaluations WHERE run_id = :run AND split = 'dev' AND step >= "
        row = c.execute(f"{query}(SELECT era_start FROM runs WHERE id = :run)", {"run": run_id}).fetchone()
        return None if row[0] is None else float(row[0])

    def match_run(self, name: str) -> RunRecord:
        """A run by name, by ``latest``, by the name of a group (the one worked on last), or by the beginning of its
        name when no other begins so. Raises InputError."""
        names = [run.name for run in self.list_runs()]
        if name in names or name == "latest":
            return self.find_run(name)
        if any(known.startswith(f"{name}/") for known in names):
            return self.find_run(name)
        found = [known for known in names if known.startswith(name)]
        if len(found) == 1:
            return self.find_run(found[0])
        if not found:
            near = difflib.get_close_matches(name, names, 1)
            damaged = f"; damaged: {self.name_damages()}" if self.damages else ""
            raise InputError(f"no run named {name}" + (f", did you mean {near[0]}?" if near else "") + damaged)
        shown = ", ".join(found[-RUNS_NAMED:]) + (", ..." if len(found) > RUNS_NAMED else "")
        raise InputError(f"{len(found)} runs begin with {name}: {shown}; type more of the name")

    @reading
    def list_runs(self, c: sqlite3.Connection) -> list[RunRecord]:
        return [run_record(row, self.path) for row in c.execute("SELECT * FROM runs ORDER BY id")]

    def folder_of(self, run: RunRecord) -> Path:
        """Return the folder of a run, once files in it may be written and deleted: a database that was copied, or made
        by somebody else, can name any. Raises InputError."""
        folder = Path(run.folder)
        links = [path for path in folder.glob("*") if path.is_symlink()]
        if not all(is_inside(path, self.path) for path in (folder, *links)):
            raise InputError(
                f"{run.name}: its folder {folder} is not below {self.path.absolute().parent}, where its database lies; "
                f"grpo adopt {folder} copies it there"
            )
        if not folder.is_dir():
            raise InputError(
                f"{run.name}: its folder {folder} is not there; put it back, or grpo adopt FOLDER with where it is now"
            )
        return folder

    @reading
    def load_run(self, c: sqlite3.Connection, run_id: int) -> RunDetails:
        """All of a run. The model of a stage is that of its parent where it lies now: both may have been moved."""
        run = run_details(c.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone(), self.path)
        parent = (run.manifest.get("stage") or {}).get("parent")
        if not parent:
            return run
        known = "json_extract(manifest, '$.uid') = :uid" if parent["uid"] else "name = :run"
        row = c.execute(f"SELECT folder FROM runs WHERE json_valid(manifest) AND {known}", parent).fetchone()
        folder = row and find_folder(self.path, row["folder"]) / checkpoint_path(parent["step"])
        if not (folder and folder.is_dir()):
            return run
        return replace(run, spec={**run.spec, "model": {**run.spec["model"], "name": str(folder)}})

    # ------------------------------------------------------------ decisions and commands

    @reading
    def load_decisions_at(self, c: sqlite3.Connection, run_id: int, step: int) -> list[Decision]:
        rows = c.execute("SELECT * FROM decisions WHERE run_id = ? AND step = ? ORDER BY id", (run_id, step))
        return [decision_from_row(row) for row in rows]

    @reading
    def was_taken(self, c: sqlite3.Connection, run_id: int, step: int) -> bool:
        found = "SELECT 1 FROM steps WHERE run_id = ? AND step = ?"
        return c.execute(found, (run_id, step)).fetchone() is not None

    @reading
    def has_closed_branch(self, c: sqlite3.Connection, run_id: int, began: int) -> bool:
        found = (
            "SELECT 1 FROM decisions WHERE run_id = ? AND step > ? AND action = 'branch' AND refused IS NULL "
            "AND argument LIKE '\"keep%'"
        )
        return c.execute(found, (run_id, began)).fetchone() is not None

    @reading
    def load_spent(self, c: sqlite3.Connection, run_id: int) -> float:
        """Load the USD that questions of a run have cost, all of its eras together."""
        return float(c.execute(SPENT, {"run": run_id}).fetchone()[0] or 0.0)

    @reading
    def load_rollback_targets(self, c: sqlite3.Connection, run_id: int) -> set[int]:
        left = "SELECT DISTINCT parent FROM steps WHERE run_id = ? AND state != 'superseded' AND parent != step - 1"
        asked = "SELECT argument FROM decisions WHERE run_id = ? AND action = 'rollback' AND refused IS NULL"
        found = [load_json(row[0]) for query in (left, asked) for row in c.execute(query, (run_id,))]
        return {step for step in found if isinstance(step, int)}

    @reading
    def load_waiting(self, c: sqlite3.Connection, run_id: int) -> list[CommandRecord]:
        rows = c.execute(f"{COMMANDS} WHERE run_id = ? AND state = 'waiting' ORDER BY id", (run_id,))
        return [command_record(row) for row in rows]

    @reading
    def load_command(self, c: sqlite3.Connection, command_id: int) -> CommandRecord:
        return command_record(c.execute(f"{COMMANDS} WHERE id = ?", (command_id,)).fetchone())

    @reading
    def load_events(self, c: sqlite3.Connection, run_id: int, beginning: str) -> list[EventRecord]:
        """The events whose text begins so, oldest first."""
        found = f"SELECT {EVENT_COLUMNS} FROM events WHERE run_id = ? AND substr(text, 1, ?) = ? ORDER BY id"
        return [event_record(row) for row in c.execute(found, (run_id, len(beginning), beginning))]

    # ------------------------------------------------------------ prompts

    @reading
    def load_groups(self, c: sqlite3.Connection, run_id: int) -> list[SeenGroup]:
        """Every group of the present era, those of rolled-back steps too: they were seen."""
        found = (
            f"{GROUPS} AND state != 'superseded' "
            "AND step > coalesce((SELECT json_extract(eras, '$[#-1].last_step') FROM runs WHERE id = :run), 0) "
            "ORDER BY step, groups.id"
        )
        return [seen_group(row) for row in c.execute(found, {"run": run_id})]

    @reading
    def load_samples_of(
        self, c: sqlite3.Connection, run_id: int, prompts: Sequence[str]
    ) -> dict[str, list[SampleRecord]]:
        """Completions of these prompts that were kept for people, by prompt, the newest first."""
        found = (
            f"SELECT {SAMPLE_COLUMNS} FROM completions WHERE run_id = ? "
            "AND prompt IN (SELECT value FROM json_each(?)) ORDER BY step DESC, id DESC"
        )
        samples: dict[str, list[SampleRecord]] = {}
        for record in map(sample_record, c.execute(found, (run_id, dump_json(list(prompts))))):
            samples.setdefault(record.prompt, []).append(record)
        return samples

    @reading
    def load_drawn(self, c: sqlite3.Connection, run_id: int, step: int) -> list[str]:
        found = f"{GROUPS} AND step = :step AND state != 'superseded' ORDER BY groups.id"
        return [row["prompt_id"] for row in c.execute(found, {"run": run_id, "step": step})]

    @reading
    def load_signal(
        self, c: sqlite3.Connection, run_id: int, steps: range
    ) -> tuple[dict[str, float], dict[str, float]]:
        found = f"{GROUPS} AND step BETWEEN :first AND :last AND state != 'superseded' ORDER BY step, groups.id"
        mixed, means = {}, {}
        for row in c.execute(found, {"run": run_id, "first": steps[0], "last": steps[-1]}):
            rewards = [reward for reward in load_json(row["rewards"]) if reward is not None]
            if rewards:
                key = f"{row['step'] - steps[0]} {row['prompt_id']}"
                mixed[key], means[key] = float(len(set(rewards)) > 1), math.fsum(rewards) / len(rewards)
        return mixed, means

    # ------------------------------------------------------------ looks, checkpoints, lineage

    @reading
    def has_evaluation(self, c: sqlite3.Connection, run_id: int, step: int, split: str) -> bool:
        found = "SELECT 1 FROM evaluations WHERE run_id = ? AND step = ? AND split = ?"
        return c.execute(found, (run_id, step, split)).fetchone() is not None

    @reading
    def load_answers(self, c: sqlite3.Connection, run_id: int, step: int, split: str) -> dict[str, float]:
        found = (
            "SELECT answers, graded FROM evaluations JOIN runs ON runs.id = run_id "
            "WHERE run_id = ? AND step = ? AND split = ?"
        )
        row = c.execute(found, (run_id, step, split)).fetchone()
        return load_scores(row["answers"], graded=bool(row["graded"])) if row else {}

    @reading
    def has_samples(self, c: sqlite3.Connection, run_id: int, step: int) -> bool:
        found = "SELECT 1 FROM completions WHERE run_id = ? AND step = ? AND kind = 'fixed' LIMIT 1"
        return c.execute(found, (run_id, step)).fetchone() is not None

    @reading
    def load_checkpoints(self, c: sqlite3.Connection, run_id: int) -> list[CheckpointRecord]:
        return load_checkpoints(c, run_id, self.path)

    @reading
    def best_step(self, c: sqlite3.Connection, run_id: int) -> int | None:
        return best_step(c, run_id)

    @reading
    def load_ancestors(self, c: sqlite3.Connection, run_id: int, step: int) -> list[int]:
        rows = c.execute("SELECT step, parent FROM steps WHERE run_id = ? AND state != 'superseded'", (run_id,))
        parents = {row["step"]: row["parent"] for row in rows}
        chain = []
        while step in parents:
            chain.append(step)
            step = parents[step]
        return chain

    @reading
    def load_facts(self, c: sqlite3.Connection, run_id: int, step: int) -> dict[str, Any]:
        """Read what the seeds and decisions of a run determine of a live step and its weights, in the order in which it
        came about, by what it is called before people; what is not on record is left out."""
        at = (run_id, step)
        facts: dict[str, Any] = {}
        row = c.execute(
            "SELECT id, parent, knobs, metrics FROM steps WHERE run_id = ? AND step = ? AND state != 'superseded'", at
        ).fetchone()
        if row is not None:
            groups = "SELECT prompt_id, kind, rewards, correct, tokens FROM groups WHERE step_id = ? ORDER BY id"
            facts = {"parent": row["parent"], "knobs": load_json(row["knobs"])}
            facts["groups"] = [tuple(group) for group in c.execute(groups, (row["id"],))]
            facts["metrics"] = load_json(row["metrics"])
        for found in c.execute("SELECT hashes FROM checkpoints WHERE run_id = ? AND step = ?", at):
            facts["weights"] = load_json(found["hashes"])
        evaluations = "SELECT split, n, accuracy, reward, answers FROM evaluations WHERE run_id = ? AND step = ?"
        for split, n, accuracy, reward, answers in c.execute(evaluations, at):
            correct = load_scores(answers, graded=False)
            facts[f"evaluation of {split}"] = {"n": n, "accuracy": accuracy, "reward": reward, "correct": correct}
        samples = (
            "SELECT kind, prompt, completion, reward, reason FROM completions WHERE run_id = ? AND step = ? ORDER BY id"
        )
        for found in c.execute(samples, at):
            what = "fixed samples" if found["kind"] == "fixed" else "samples"
            facts.setdefault(what, []).append(tuple(found))
        return facts


def find_reader(url: str) -> RunReader | None:
    """The database at ``url`` for those who only look, None if there is none. Raises InputError."""
    reader = RunReader(url)
    if not reader.path.exists():
        return None
    reader.bring_up_to_date("read")
    return reader


def list_runs_to_offer(url: str) -> list[OfferedRun]:
    """List the newest runs, newest first; none where there is trouble. For a shell's Tab: it neither waits for a lock
    nor brings an older database up to date."""
    try:
        connection = sqlite3.connect(f"file:{quote(str(database_path(url).absolute()))}?mode=ro", uri=True, timeout=0)
        with closing(connection):
            found = "SELECT name, status, last_step FROM runs ORDER BY id DESC LIMIT ?"
            return [OfferedRun(*row) for row in connection.execute(found, (RUNS_OFFERED,))]
    except sqlite3.Error:
        return []


# ---------------------------------------------------------------- within one view


def load_checkpoints(c: sqlite3.Connection, run_id: int, database: Path) -> list[CheckpointRecord]:
    best = best_step(c, run_id)
    found = (
        "SELECT step, checkpoints.name, hashes, folder FROM checkpoints JOIN runs ON runs.id = run_id "
        "WHERE run_id = ? ORDER BY step"
    )
    return [checkpoint_record(row, best, database) for row in c.execute(found, (run_id,))]


def best_step(c: sqlite3.Connection, run_id: int) -> int | None:
    row = c.execute(
        "SELECT step FROM evaluations WHERE run_id = :run AND split = 'dev' "
        "AND step >= (SELECT era_start FROM runs WHERE id = :run) ORDER BY score DESC, tie DESC, step LIMIT 1",
        {"run": run_id},
    ).fetchone()
    return None if row is None else row["step"]
