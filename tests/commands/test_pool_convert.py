from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.checks.inputs import build_splits
from harness.commands.pool_convert import Conversion, convert_source
from harness.config.load import parse_spec
from harness.errors import InputError
from harness.types import no_progress
from tests.support.layouts import EXAMPLES
from tests.support.program import Program

WORKED = "<start_working_out>{}<end_working_out><SOLUTION>{}</SOLUTION>"
COLUMNS = {"prompt": "question", "ground_truth": "answer"}


def make_row(a: int, b: int, **values: Any) -> dict[str, Any]:
    return {"question": f"{a}+{b}=", "answer": a + b, "solution": WORKED.format("so", a + b), "extra": [a]} | values


ROWS = [
    make_row(1, 1),
    make_row(2, 2, solution=WORKED.format("so", 5)),
    make_row(3, 3, solution="6"),
    make_row(4, 4, solution=None),
    make_row(1, 1, question=" 1+1=  "),
    make_row(5, 5, answer=""),
    make_row(6, 6),
]


def convert(folder: Path, rows: list[dict[str, Any]], **options: Any) -> Conversion:
    (folder / "raw.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    pool = {"source": str(folder / "out.jsonl"), "columns": COLUMNS, "splits": {"test": 1, "dev": 1, "probe": 0}}
    spec = parse_spec({"pool": pool, "reward": options.pop("reward", {}), "output": {"dir": str(folder / "runs")}})
    settings = {"reference": "solution", "chat": False, "progress": no_progress} | options
    return convert_source(str(folder / "raw.jsonl"), folder / "out.jsonl", spec, **settings)


def test_only_rows_whose_reference_has_full_marks_are_kept(tmp_path: Path) -> None:
    found = convert(tmp_path, ROWS)
    assert (found.read, found.kept) == (7, 2)
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [ROWS[0], ROWS[6]]
    assert {reason: (d.rows, d.first.rpartition("raw.jsonl ")[2]) for reason, d in found.dropped.items()} == {
        "wrong: the reference gets 0.1 of 1": (1, "row 2"),
        "not_extracted: the reference gets 0 of 1": (1, "row 3"),
        "no text in solution": (1, "row 4"),
        "the same prompt again": (1, "row 5"),
        "not a prompt": (1, "row 6 has no answer: it is empty"),
    }
    assert found.kept + sum(drop.rows for drop in found.dropped.values()) == found.read


def test_the_same_spec_reads_what_was_written(tmp_path: Path) -> None:
    convert(tmp_path, [make_row(i, i) for i in range(10)])
    pool = {"source": str(tmp_path / "out.jsonl"), "columns": COLUMNS, "splits": {"test": 2, "dev": 2, "probe": 0}}
    splits = build_splits(parse_spec({"pool": pool, "output": {"dir": str(tmp_path / "runs")}}))
    assert {name: len(part) for name, part in splits.items()} == {"test": 2, "dev": 2, "probe": 0, "train": 6}


def test_full_marks_are_the_top_of_the_rewards_own_range(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text("def judge(completion, ground_truth):\n    return 1.0\n")
    reward = {"function": str(tmp_path / "half.py") + ":judge", "range": [0, 2], "solved_at": 1.0}
    with pytest.raises(InputError, match="the reference gets 1 of 2: 1"):
        convert(tmp_path, [make_row(1, 1)], reward=reward)


def test_a_reward_that_fails_is_a_reason_of_its_own(tmp_path: Path) -> None:
    code = "def judge(completion, ground_truth):\n    return 1.0 if ground_truth == '2' else 1 / 0\n"
    (tmp_path / "frail.py").write_text(code)
    found = convert(tmp_path, [make_row(1, 1), make_row(2, 2)], reward={"function": f"{tmp_path / 'frail.py'}:judge"})
    assert found.kept == 1
    assert list(found.dropped) == ["the reward failed: ZeroDivisionError: division by zero"]


def test_a_reference_may_be_the_assistants_message(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "1+1="}, {"role": "assistant", "content": WORKED.format("so", 2)}]
    row = {"question": turns, "answer": 2}
    assert convert(tmp_path, [row], reference="question").kept == 1


def test_trl_style_rewards_get_messages_when_asked(tmp_path: Path) -> None:
    code = (
        "def judge(prompts, completions, extra, **_):\n    return [float(c[0]['content'] != '') for c in completions]\n"
    )
    (tmp_path / "trl.py").write_text(code)
    reward = {"function": f"{tmp_path / 'trl.py'}:judge"}
    with pytest.raises(InputError, match="the reward failed: TypeError"):
        convert(tmp_path, [make_row(1, 1)], reward=reward)
    assert convert(tmp_path, [make_row(1, 1)], reward=reward, chat=True).kept == 1


def test_when_nothing_is_kept_or_a_row_cannot_be_read_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no row of .*raw.jsonl is kept, .*: no text in nosuch: 1 \(.*row 1\)"):
        convert(tmp_path, [make_row(1, 1)], reference="nosuch")
    with pytest.raises(InputError, match="row 2 is not JSON"):
        convert(tmp_path, [make_row(1, 1), float("nan")])  # type: ignore[list-item]
    assert [path.name for path in tmp_path.iterdir()] == ["raw.jsonl"]


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(phase: str, done: int, total: int) -> None:
        if phase == "judging" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path, [make_row(i, i) for i in range(100)], progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["raw.jsonl"]


def test_the_command_says_what_was_dropped_and_why(program: Program) -> None:
    (program.folder / "raw.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
    words = ["pool", "convert", "raw.jsonl", "out.jsonl", "--spec", "mini.toml", "--reference", "solution"]
    words += ["--set", 'pool.columns={prompt="question", ground_truth="answer"}', "--json"]
    done = program.run(*words)
    said = json.loads(done.stdout)
    assert (said["read"], said["kept"], said["out"]) == (7, 2, "out.jsonl")
    assert {"reason": "no text in solution", "rows": 1, "first": "raw.jsonl row 4"} in said["dropped"]
    assert done.stderr == ""
    assert "out.jsonl exists already" in program.here(*words, code=2).stderr


def test_rows_of_a_known_layout_are_kept_with_our_columns_added(tmp_path: Path) -> None:
    example = EXAMPLES["GSM8K"]
    (tmp_path / "raw.jsonl").write_text("\n".join(map(json.dumps, [*example.rows, {"question": "?", "answer": "no"}])))
    out = {"output": {"dir": str(tmp_path / "runs")}}
    spec = parse_spec({"reward": {"function": "rewards.math:hashes"}} | out)
    found = convert_source(
        str(tmp_path / "raw.jsonl"), tmp_path / "out.jsonl", spec, reference="answer", chat=False, progress=no_progress
    )
    assert (found.read, found.kept, found.layout) == (11, 10, "GSM8K layout: question, answer after ####")
    assert {why: (drop.rows, drop.first.rpartition("/")[2]) for why, drop in found.dropped.items()} == {
        "nothing to judge by": (1, "raw.jsonl row 11")
    }
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert first == example.rows[0] | {
        "prompt": example.rows[0]["question"], "ground_truth": "5", "demonstration": example.rows[0]["answer"]
    }  # fmt: skip


def test_a_message_is_short_however_many_faults_there_are_and_however_long_they_are(tmp_path: Path) -> None:
    code = (
        "def judge(completion, ground_truth):\n    raise ValueError(f'cannot read {ground_truth!r} of {completion}')\n"
    )
    (tmp_path / "frail.py").write_text(code)
    rows = [make_row(i, i, answer=f"{i} " * 3000) for i in range(40)]
    with pytest.raises(InputError) as caught:
        convert(tmp_path, rows, reward={"function": f"{tmp_path / 'frail.py'}:judge"})
    assert str(caught.value).count("the reward failed: ValueError: cannot read ...: 40 (first: ") == 1
    assert len(str(caught.value)) < 600
    mixed = "def judge(completion, ground_truth):\n    raise ValueError(f'no {chr(97 + len(completion) % 26)}')\n"
    (tmp_path / "mixed.py").write_text(mixed)
    rows = [make_row(i, i, solution="x" * i) for i in range(1, 60)]
    with pytest.raises(InputError, match=r"; 11 more reasons$"):
        convert(tmp_path, rows, reward={"function": f"{tmp_path / 'mixed.py'}:judge"})
