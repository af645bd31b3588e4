from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import Refused
from harness.run.checkpoints import Checkpoints, is_intact, read_state, write_folder
from harness.store.writer import RunStore
from tests.support.builders import create_run, make_evaluation, make_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    opened = make_store(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def checkpoints(store: RunStore, tmp_path: Path) -> Checkpoints:
    return Checkpoints(store, create_run(store), tmp_path / "runs" / "night" / "checkpoints", keep=2)


def write_weights(folder: Path) -> None:
    (folder / "model.bin").write_bytes(b"weights")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.txt").write_text("a b c", encoding="utf-8")


def fail_halfway(folder: Path) -> None:
    (folder / "model.bin").write_bytes(b"half")
    raise OSError("disk full")


def save(checkpoints: Checkpoints, step: int, *, name: str = "", dev: float | None = None) -> Path:
    record = checkpoints.write(step, {"step": step}, write_weights, name=name)
    checkpoints.store.record_checkpoint(checkpoints.run_id, record)
    if dev is not None:
        checkpoints.store.record_evaluation(checkpoints.run_id, step, make_evaluation(dev))
    return Path(record.path)


def steps_on_disk(checkpoints: Checkpoints) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in checkpoints.folder.iterdir())


def steps_on_record(checkpoints: Checkpoints) -> list[int]:
    return [checkpoint.step for checkpoint in checkpoints.store.load_checkpoints(checkpoints.run_id)]


def test_a_written_folder_is_intact_and_holds_its_state(tmp_path: Path) -> None:
    folder = tmp_path / "step-000001"
    hashes = write_folder(folder, {"step": 1, "knobs": {"focus": None}}, write_weights)
    assert set(hashes) == {"model.bin", "session.json", "tokenizer/vocab.txt"}
    assert is_intact(folder, hashes)
    assert read_state(folder) == {"step": 1, "knobs": {"focus": None}}
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]


def test_a_write_that_fails_leaves_no_folder_of_that_name(tmp_path: Path) -> None:
    folder = tmp_path / "step-000001"
    with pytest.raises(OSError, match="disk full"):
        write_folder(folder, {}, fail_halfway)
    assert not folder.exists()


def test_a_write_that_fails_leaves_the_older_folder_intact(tmp_path: Path) -> None:
    folder = tmp_path / "step-000001"
    hashes = write_folder(folder, {}, write_weights)
    with pytest.raises(OSError, match="disk full"):
        write_folder(folder, {}, fail_halfway)
    assert is_intact(folder, hashes)


def test_writing_again_replaces_the_folder_and_clears_what_a_crash_left(tmp_path: Path) -> None:
    folder = tmp_path / "step-000001"
    write_folder(folder, {"try": 1}, write_weights)
    with pytest.raises(OSError, match="disk full"):
        write_folder(folder, {}, fail_halfway)
    hashes = write_folder(folder, {"try": 2}, write_weights)
    assert read_state(folder) == {"try": 2}
    assert is_intact(folder, hashes)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]


def test_every_kind_of_damage_is_seen(tmp_path: Path) -> None:
    folder = tmp_path / "step-000001"
    hashes = write_folder(folder, {}, write_weights)
    (folder / "model.bin").write_bytes(b"Weights")
    assert not is_intact(folder, hashes), "a changed byte"
    (folder / "model.bin").write_bytes(b"weights")
    assert is_intact(folder, hashes)
    (folder / "tokenizer" / "vocab.txt").unlink()
    assert not is_intact(folder, hashes), "a missing file"
    assert not is_intact(tmp_path / "nowhere", hashes), "a missing folder"


def test_a_checkpoint_is_found_by_step_name_or_as_the_best(checkpoints: Checkpoints) -> None:
    save(checkpoints, 0, dev=0.25)
    save(checkpoints, 10, name="lunch", dev=0.75)
    save(checkpoints, 20, dev=0.5)
    assert checkpoints.find(20).step == 20
    assert checkpoints.find("20").step == 20
    assert checkpoints.find("lunch").step == 10
    assert checkpoints.find("best").step == checkpoints.find(None).step == 10


def test_a_step_is_not_mistaken_for_a_name(checkpoints: Checkpoints) -> None:
    save(checkpoints, 10, name="20")
    save(checkpoints, 20)
    assert checkpoints.find(20).step == 20


def test_what_is_not_there_is_refused_with_what_is(checkpoints: Checkpoints) -> None:
    with pytest.raises(Refused, match="no checkpoint best; there are: none"):
        checkpoints.find("best")
    save(checkpoints, 10)
    save(checkpoints, 20)
    with pytest.raises(Refused, match="no checkpoint 15; there are: 10, 20"):
        checkpoints.find(15)


def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_the_newest(checkpoints: Checkpoints) -> None:
    save(checkpoints, 10)
    (save(checkpoints, 20) / "model.bin").write_bytes(b"rot")
    with pytest.raises(Refused, match="the checkpoint of step 20 is damaged"):
        checkpoints.find(20)
    newest, damaged = checkpoints.find_newest()
    assert newest is not None
    assert (newest.step, damaged) == (10, [20])


def test_without_an_intact_checkpoint_there_is_no_newest(checkpoints: Checkpoints) -> None:
    assert checkpoints.find_newest() == (None, [])
    (save(checkpoints, 10) / "model.bin").unlink()
    assert checkpoints.find_newest() == (None, [10])


def test_prune_keeps_start_newest_best_and_named(checkpoints: Checkpoints) -> None:
    for step in range(0, 80, 10):
        save(checkpoints, step, name="lunch" if step == 30 else "", dev=0.75 if step == 20 else 0.5)
    checkpoints.prune()
    assert steps_on_record(checkpoints) == steps_on_disk(checkpoints) == [0, 20, 30, 60, 70]


def test_prune_keeps_what_a_replay_will_go_back_to(checkpoints: Checkpoints) -> None:
    for step in range(0, 50, 10):
        save(checkpoints, step)
    checkpoints.wanted.add(10)
    checkpoints.prune()
    assert steps_on_disk(checkpoints) == [0, 10, 30, 40]


def test_prune_twice_changes_nothing_more(checkpoints: Checkpoints) -> None:
    for step in range(0, 50, 10):
        save(checkpoints, step)
    checkpoints.prune()
    before = steps_on_disk(checkpoints)
    checkpoints.prune()
    assert steps_on_disk(checkpoints) == before == [0, 30, 40]


def test_folders_without_a_row_are_dropped(checkpoints: Checkpoints) -> None:
    save(checkpoints, 10)
    checkpoints.write(20, {}, write_weights)  # killed before its row was committed
    with pytest.raises(OSError, match="disk full"):
        checkpoints.write(30, {}, fail_halfway)
    checkpoints.drop_orphans()
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step-000010"]
    assert checkpoints.find(10).step == 10


def test_no_folder_means_no_orphans(checkpoints: Checkpoints) -> None:
    checkpoints.drop_orphans()
    assert not checkpoints.folder.exists()
