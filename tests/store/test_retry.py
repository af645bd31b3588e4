"""A run outlasts what keeps it from writing. Locks are held by another process, disks are really full or read-only."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from sqlite3 import IntegrityError
from threading import Event
from typing import Any

import pytest

import harness.store.connection
import harness.store.writer
from harness.cli.app import main
from harness.errors import StoreUnavailable
from harness.run.checkpoints import is_intact, write_folder
from harness.store.history import load_history
from harness.store.retry import Patience
from harness.store.snapshot import SnapshotReader
from harness.views.console import Console
from harness.views.review import build_review
from harness.views.terminal.lines import follow
from tests.support.bench import Bench, build
from tests.support.builders import create_run, make_store
from tests.support.program import Program

HOLD = """
import sqlite3, sys, time
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


@contextmanager
def locked(database: Path, *, seconds: float) -> Iterator[None]:
    """Another process has the database for itself, at most so long and at most until the end of the block."""
    command = [sys.executable, "-c", HOLD, str(database), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.kill()


@pytest.fixture(autouse=True)
def impatient_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own wait for a lock, which is seconds, cut short."""
    for module in (harness.store.connection, harness.store.writer):
        monkeypatch.setattr(module, "LOCK_WAIT_S", 0.2)


def with_patience(bench: Bench, said: list[str], *, interrupted: Event | None = None) -> Bench:
    store, run_id = bench.store, bench.run_id

    def note(text: str) -> None:
        store.record_event(run_id, store.load_run(run_id).last_step, "warning", text)

    store.patience = Patience(interrupted or Event(), say=said.append, note=note)
    return bench


def recorded(bench: Bench) -> dict[str, Any]:
    """What a run must not lose."""
    review = build_review(load_history(bench.store, "bench"))
    with bench.store.read() as c:
        (groups,) = c.execute("SELECT count(*) FROM groups").fetchone()
        (sound,) = c.execute("PRAGMA integrity_check").fetchone()
    return {
        "steps": [step.step for step in SnapshotReader(bench.store, bench.run_id).read().steps],
        "decided": [decision["step"] for decision in review["decisions"]],
        "groups": groups,
        "sound": sound,
        "events": [f"{event['level']}: {event['text']}" for event in review["events"]],
    }


# ---------------------------------------------------------------- another process has the lock


def test_a_run_waits_for_a_lock_and_loses_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    bench = with_patience(build(tmp_path, steps=2, prompts=100), said)
    with locked(bench.store.path, seconds=1.5):
        for _ in range(3):
            bench.step()
    found = recorded(bench)
    bench.store.close()
    assert found["steps"] == found["decided"] == [1, 2, 3, 4, 5]
    assert found["groups"] == 5 * 16
    first, last = said
    assert first.startswith(f"the database {bench.store.path} is locked by another process: database is locked; trying")
    assert last.startswith("the database could be written again after ")
    (event,) = found["events"]
    assert event.startswith("warning: waited ")
    assert event.endswith(" s: database is locked")


def test_who_has_no_patience_is_told_at_once_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tmp_path)
    create_run(store)
    words = ["act", "night", "pause", "--db", str(store.path)]
    monkeypatch.setattr("sys.argv", ["grpo", *words])
    with locked(store.path, seconds=60), pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert error == f"grpo: the database {store.path} is locked by another process: database is locked\n"
    assert store.load_waiting(1) == []
    store.close()


def test_looking_needs_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tmp_path)
    create_run(store)
    with locked(store.path, seconds=60):
        for words in (["runs"], ["review", "night"]):
            monkeypatch.setattr("sys.argv", ["grpo", *words, "--db", str(store.path)])
            with pytest.raises(SystemExit) as end:
                main()
            assert not end.value.code
    assert "night" in capsys.readouterr().out
    store.close()


def test_a_heartbeat_waits_for_nobody(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    run_id = create_run(store)
    with locked(store.path, seconds=60):
        started = time.monotonic()
        store.beat(run_id, "rollout", 3, 16, 1.0)
        assert time.monotonic() - started < 1.0
    assert store.find_run("night").phase == ""
    store.beat(run_id, "rollout", 4, 16, 1.0)
    assert store.find_run("night").phase_done == 4
    store.close()


def test_a_view_outlives_a_database_that_is_not_there_for_a_while(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    run_id = create_run(store)
    reader = SnapshotReader(store, run_id)
    store.update_run(run_id, status="finished")
    store.close()
    elsewhere = tmp_path / "elsewhere.db"
    store.path.rename(elsewhere)
    with pytest.raises(StoreUnavailable, match="cannot be read: unable to open database file"):
        reader.read()
    threading.Timer(0.3, elsewhere.rename, (store.path,)).start()
    follow(reader, Console(quiet=True))  # ends, since the run has
    store.close()


# ---------------------------------------------------------------- interrupted


def test_an_interrupted_wait_ends_with_the_fault(tmp_path: Path) -> None:
    said: list[str] = []
    interrupted = Event()
    bench = with_patience(build(tmp_path, steps=2, prompts=100), said, interrupted=interrupted)
    with locked(bench.store.path, seconds=60):
        threading.Timer(1.0, interrupted.set).start()
        with pytest.raises(StoreUnavailable, match="is locked by another process"):
            bench.step()
    assert recorded(bench)["steps"] == [1, 2]
    bench.store.close()


def test_ctrl_c_while_a_run_waits_ends_it_cleanly_and_a_resume_goes_on(program: Program) -> None:
    small = ("--set", "warmstart.steps=0", "--set", "model.threads=1")
    process = program.start("run", "mini.toml", "--name", "cut", "--steps", "5000", *small)
    program.wait_for(lambda: program.last_step("cut") >= 4)
    lines: list[str] = []
    assert process.stdout is not None
    listener = threading.Thread(target=lines.extend, args=(process.stdout,))
    listener.start()
    with locked(program.folder / "runs" / "harness.db", seconds=120):
        program.wait_for(lambda: any("is locked by another process" in line for line in lines))
        taken = program.last_step("cut")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    listener.join()
    output = "".join(lines)
    assert "interrupted; to continue: grpo resume cut" in output
    assert "Traceback" not in output
    program.here("resume", "cut", "--steps", str(taken + 2))
    review = program.review("cut")
    assert (review["status"], review["steps"], len(review["reward"]["by_step"])) == ("finished", taken + 2, taken + 2)


# ---------------------------------------------------------------- a disk that is full or read-only


def in_small_disk(folder: Path, function: str) -> Any:
    """What ``function`` of this module returns for ``folder``, on a small disk of its own that only it sees."""
    code = f"import json; from {__name__} import *; print(json.dumps({function}(Path({str(folder)!r}))))"
    mount = f"mount -t tmpfs -o size=4m tmpfs {folder}"
    for unshare in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
        probe = subprocess.run([*unshare, "sh", "-c", mount], capture_output=True, text=True, check=False)
        if probe.returncode == 0:
            break
    else:
        pytest.skip(f"this machine lets nobody mount a small disk: {probe.stderr.strip()}")
    command = [*unshare, "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def relieved(bench: Bench, said: list[str], relieve: Callable[[], None]) -> Bench:
    """With patience, and with somebody who mends the disk a second after hearing of it."""

    def say(text: str) -> None:
        said.append(text)
        if "trying again" in text:
            threading.Timer(1.0, relieve).start()

    with_patience(bench, said)
    assert bench.store.patience is not None
    bench.store.patience.say = say
    return bench


def run_on_a_full_disk(folder: Path) -> dict[str, Any]:
    said: list[str] = []
    bench = build(folder, steps=2, prompts=50)
    relieved(bench, said, (folder / "filler").unlink)
    fill(folder)
    for _ in range(3):
        bench.step()
    fill(folder)
    checkpoint = bench.controller.session.save("full")
    (found,) = [c for c in bench.store.load_checkpoints(bench.run_id) if c.step == checkpoint.step]
    intact = is_intact(Path(checkpoint.path), found.hashes)
    return recorded(bench) | {"said": said, "intact": intact, "folders": sorted(p.name for p in folder.rglob("*step*"))}


def test_a_run_waits_for_a_full_disk_and_loses_nothing(tmp_path: Path) -> None:
    found = in_small_disk(tmp_path, "run_on_a_full_disk")
    assert found["steps"] == found["decided"] == [1, 2, 3, 4, 5]
    assert found["groups"] == 5 * 16
    assert found["sound"] == "ok"
    assert found["intact"]
    assert "step-000005" in found["folders"]
    assert not any("partial" in name for name in found["folders"])
    assert any(event.endswith("s: database or disk is full") for event in found["events"])
    assert any(event.endswith("s: No space left on device") for event in found["events"])
    assert sum("could be written again after" in text for text in found["said"]) == 2


def run_on_a_read_only_disk(folder: Path) -> dict[str, Any]:
    said: list[str] = []
    faults: list[str] = []
    bench = build(folder, steps=2, prompts=50)
    explain = bench.store.explain

    def listen(error: Exception, tried: Any) -> Exception:
        faults.append(str(error))
        return explain(error, tried)

    bench.store.explain = listen  # type: ignore[method-assign]

    def remount(how: str) -> None:
        command = ["mount", "-o", f"remount,{how}", str(folder)]
        while subprocess.run(command, capture_output=True, check=False).returncode:
            time.sleep(0.01)  # busy while a file is open for writing

    def relieve() -> None:
        remount("ro")
        time.sleep(3)
        remount("rw")
        (folder / "filler").unlink()

    relieved(bench, said, relieve)
    fill(folder)
    for _ in range(3):
        bench.step()
    return recorded(bench) | {"faults": faults}


def test_a_run_waits_for_a_disk_that_became_read_only(tmp_path: Path) -> None:
    found = in_small_disk(tmp_path, "run_on_a_read_only_disk")
    assert found["steps"] == found["decided"] == [1, 2, 3, 4, 5]
    assert found["sound"] == "ok"
    assert {"attempt to write a readonly database", "unable to open database file"} & set(found["faults"])


def write_with_every_library(folder: Path) -> dict[str, str]:
    """The fault that a checkpoint on a full disk gives, by who writes it."""
    import torch
    from safetensors.torch import save_file

    tensors = {"weights": torch.zeros(2**20)}
    writers: dict[str, Callable[[Path], object]] = {
        "safetensors": lambda partial: save_file(tensors, partial / "model.safetensors"),
        "torch": lambda partial: torch.save(tensors, partial / "optimizer.pt"),
        "python": lambda partial: (partial / "log.json").write_text("x" * 2**22),
    }
    faults = {}
    for name, write in writers.items():
        try:
            write_folder(folder / "checkpoints" / "step-000001", {}, write)  # type: ignore[arg-type]
        except StoreUnavailable as fault:
            faults[name] = fault.cause
        left = [path.name for path in (folder / "checkpoints").iterdir()]
        assert left == [], left
    return faults


def test_whoever_writes_a_checkpoint_a_full_disk_is_known_and_nothing_is_left_of_it(tmp_path: Path) -> None:
    faults = in_small_disk(tmp_path, "write_with_every_library")
    assert faults["safetensors"] == faults["python"] == "No space left on device"
    assert "torch" in faults


def test_other_faults_are_nobodys_to_wait_for(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.patience = Patience(Event(), say=pytest.fail, note=pytest.fail)
    with pytest.raises(IntegrityError):
        store.record_event(999, 1, "info", "of a run that is not there")
    store.close()


def test_who_waits_is_heard() -> None:
    """Else a supervisor would take a full disk for a hang, and kill the run that waits for it."""
    fault, beats, tries = StoreUnavailable("the disk is full", what="the disk", cause="full"), [], []

    def attempt() -> str:
        tries.append(len(beats))
        if len(tries) < 3:
            raise fault
        return "written"

    patience = Patience(Event(), say=lambda _: None, note=lambda _: None, beat=lambda: beats.append(1))
    assert patience.outlast(fault, attempt) == "written"
    assert tries == [1, 2, 3]
