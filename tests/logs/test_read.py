"""Logs of other trainers: small ones of every format, wrong ones, and real ones where they lie beside the project."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.logs.names import NAMES, derive, shorten
from harness.logs.read import Log, read_log

REAL = Path(__file__).parents[2].parent / "shared" / "logs"


def read(folder: Path, text: str, renamed: dict[str, str] | None = None, name: str = "log") -> Log:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_log(path, renamed)


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def rewards(log: Log) -> list[tuple[int, float]]:
    return [(row.step, row.metrics["reward/mean"]) for row in log.rows]


def refusal(folder: Path, text: str, renamed: dict[str, str] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read(folder, text, renamed)
    message = str(caught.value)
    assert message.isprintable()
    return message


# Formats.


def test_trainer_state_of_trl(tmp_path: Path) -> None:
    train = {"reward": 0.5, "reward_std": 0.2, "frac_reward_zero_std": 0.25, "completions/clipped_ratio": 0.1,
             "completions/mean_length": 80.5, "completions/max_length": 128.0, "kl": 0.01, "entropy": 0.4,
             "learning_rate": 1e-6, "grad_norm": 0.3, "loss": -0.01, "num_tokens": 9.0, "step": 5}  # fmt: skip
    history = [
        train,
        {"eval_reward": 0.6, "eval_rewards/right/mean": 0.7, "eval_loss": 0.0, "step": 5},
        {**train, "reward": 0.7, "step": 10},
        {"eval_reward": 0.8, "step": 10},
        {"train_runtime": 9.5, "train_loss": 0.1, "step": 10},
    ]
    log = read(tmp_path, json.dumps({"best_metric": None, "global_step": 10, "log_history": history}, indent=2))
    assert log.format == "TRL trainer_state.json"
    assert rewards(log) == [(5, 0.5), (10, 0.7)]
    assert log.dev == ((5, 0.6), (10, 0.8))
    assert log.rows[0].metrics == {
        "reward/mean": 0.5,
        "reward/std": 0.2,
        "group/no_signal_rate": 0.25,
        "group/mixed_rate": 0.75,
        "completion/truncated_rate": 0.1,
        "completion/tokens_mean": 80.5,
        "completion/tokens_max": 128.0,
        "kl/mean": 0.01,
        "entropy/mean": 0.4,
        "learning_rate": 1e-6,
        "grad/norm": 0.3,
        "loss": -0.01,
    }
    assert log.recognised["frac_reward_zero_std"] == "group/no_signal_rate"
    assert log.recognised["eval_reward"] == "dev"
    assert log.ignored == ("eval_loss", "eval_rewards/right/mean", "num_tokens", "train_loss", "train_runtime")
    assert (log.skipped, log.notes, log.not_finite) == (0, (), ())


def test_a_json_list_of_rows(tmp_path: Path) -> None:
    log = read(tmp_path, json.dumps([{"step": 1, "reward": 0.1}, {"step": 2, "reward": 1}]))
    assert (log.format, rewards(log)) == ("JSON list", [(1, 0.1), (2, 1.0)])


def test_json_lines_of_tinker(tmp_path: Path) -> None:
    row = {
        "step": 0,
        "progress/batch": 0,
        "env/all/reward/total": 0.67,
        "env/all/correct": 0.7,
        "env/all/by_group/frac_mixed": 0.75,
        "env/all/by_group/frac_all_good": 0.2,
        "env/all/by_group/frac_all_bad": 0.05,
        "env/all/ac_tokens_per_turn": 5.0,
        "optim/entropy": 0.8,
        "optim/kl_sample_train_v1": 0.001,
        "test/env/all/correct": 0.9,
        "test/env/all/reward/total": 0.8,
    }
    log = read(tmp_path, lines(row, {**row, "step": 1, "env/all/reward/total": 0.7}))
    assert (log.format, log.dev) == ("JSON lines", ((0, 0.9), (1, 0.9)))
    assert log.rows[0].step == 0
    assert log.rows[0].metrics == {
        "reward/mean": 0.67,
        "completion/correct_rate": 0.7,
        "group/mixed_rate": 0.75,
        "group/no_signal_rate": 0.25,
        "group/all_one_rate": 0.2,
        "group/all_zero_rate": 0.05,
        "completion/tokens_mean": 5.0,
        "entropy/mean": 0.8,
    }
    assert "optim/kl_sample_train_v1" in log.ignored


def test_json_lines_of_verl(tmp_path: Path) -> None:
    train = {
        "critic/rewards/mean": 0.2,
        "critic/score/mean": 0.3,
        "response_length/mean": 99.0,
        "response_length/clip_ratio": 0.5,
        "actor/entropy": 0.6,
        "actor/kl_loss": 0.02,
        "actor/ppo_kl": 9.0,
        "actor/grad_norm": 1.5,
        "training/global_step": 7,
    }
    log = read(
        tmp_path,
        lines(
            {"step": 0, "data": {"val-core/gsm8k/acc/mean@1": 0.4}},
            {"step": 1, "data": train},
            {"step": 2, "data": {**train, "critic/rewards/mean": 0.25, "val-core/gsm8k/acc/mean@1": 0.5}},
        ),
    )
    assert rewards(log) == [(1, 0.3), (2, 0.3)]
    assert log.dev == ((0, 0.4), (2, 0.5))
    assert log.rows[0].metrics["kl/mean"] == 0.02
    assert log.rows[0].metrics["grad/norm"] == 1.5
    assert log.recognised["data/critic/score/mean"] == "reward/mean"
    assert {"data/critic/rewards/mean", "data/actor/ppo_kl", "data/training/global_step"} <= set(log.ignored)


def test_history_of_wandb_merges_the_rows_of_a_step_of_the_trainer(tmp_path: Path) -> None:
    log = read(
        tmp_path,
        lines(
            {"_step": 0, "_timestamp": 1.0, "train/global_step": 10, "train/reward": 0.1},
            {"_step": 1, "_timestamp": 2.0, "train/global_step": 10, "train/kl": 0.5, "train/loss": 3.0},
            {"_step": 2, "_timestamp": 3.0, "train/global_step": 10, "eval/reward": 0.9, "train/loss": 4.0},
            {"_step": 3, "_timestamp": 4.0, "train/global_step": 20, "train/reward": 0.2},
        ),
    )
    assert rewards(log) == [(10, 0.1), (20, 0.2)]
    assert log.rows[0].metrics == {"reward/mean": 0.1, "kl/mean": 0.5, "loss": 4.0}
    assert log.dev == ((10, 0.9),)
    assert log.recognised["train/global_step"] == "step"
    assert "_step" in log.ignored


def test_the_step_is_that_of_the_rows_with_a_reward(tmp_path: Path) -> None:
    log = read(tmp_path, lines({"_step": 7, "reward": 0.1}, {"global_step": 1, "lr": 0.5}, {"_step": 8, "reward": 0.2}))
    assert rewards(log) == [(7, 0.1), (8, 0.2)]
    assert log.recognised["_step"] == "step"


def test_json_columns(tmp_path: Path) -> None:
    columns = {"step": [1, 2, 3], "reward": [0.1, None, 0.3], "eval_reward": [0.9], "note": ["a", "b", "c"], "seed": 4}
    log = read(tmp_path, json.dumps(columns))
    assert (log.format, rewards(log)) == ("JSON columns", [(1, 0.1), (3, 0.3)])
    assert log.dev == ()
    assert log.notes == ("columns of another length were left out: eval_reward",)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv(tmp_path: Path, delimiter: str) -> None:
    text = "\ufeff,step,reward,kl,model\r\n0,1,0.5,,a\r\n1,2.0,1e-1,0.25,b\r\n".replace(",", delimiter)
    log = read(tmp_path, text)
    assert (log.format, rewards(log)) == ("CSV", [(1, 0.5), (2, 0.1)])
    assert [row.metrics.get("kl/mean") for row in log.rows] == [None, 0.25]


def test_csv_of_wandb_reads_one_run(tmp_path: Path) -> None:
    head = '"Step","a - train/reward","a - train/reward__MIN","a - train/reward__MAX","b - train/reward","b - train/kl"'
    text = f"{head}\n1,0.1,0.1,0.1,0.8,0.5\n2,0.2,0.2,0.2,,0.6\n3,,,,0.9,0.7\n"
    log = read(tmp_path, text)
    assert rewards(log) == [(1, 0.1), (2, 0.2)]
    assert "kl/mean" not in log.rows[0].metrics
    assert log.ignored == ("b - train/kl", "b - train/reward")
    assert log.notes == ("columns of other runs were left out: b",)
    other = read(tmp_path, text, {"reward/mean": "b - train/reward"})
    assert [(row.step, row.metrics["reward/mean"], row.metrics["kl/mean"]) for row in other.rows] == [
        (1, 0.8, 0.5),
        (3, 0.9, 0.7),
    ]


def test_the_content_decides_and_not_the_ending(tmp_path: Path) -> None:
    assert read(tmp_path, lines({"step": 3, "reward": 1}), name="log.csv").format == "JSON lines"
    assert read(tmp_path, "step,reward\n1,2\n", name="log.json").format == "CSV"


def test_the_step_of_ms_swift_and_a_banner_above_the_lines(tmp_path: Path) -> None:
    rows = lines({"reward": 0.5, "global_step/max_steps": "5/100"}, {"reward": 0.6, "global_step/max_steps": "10/100"})
    log = read(tmp_path, "INFO: training begins\n" + rows)
    assert rewards(log) == [(5, 0.5), (10, 0.6)]
    assert (log.skipped, log.notes) == (1, ("line 1 is not JSON",))


# Names.


def test_no_name_stands_for_two_metrics() -> None:
    twice = [name for name, n in Counter(name for names in NAMES.values() for name in names).items() if n > 1]
    assert twice == []
    assert all(name == shorten(name) for names in NAMES.values() for name in names)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("my - run - train/Reward", "reward"),
        ("data/train/kl", "kl"),
        ("rewards / right / mean", "rewards/right/mean"),
        ("Training Loss", "loss"),
        ("training/global_step", "training/global_step"),
    ],
)
def test_prefixes_are_taken_off(name: str, short: str) -> None:
    assert shorten(name) == short


def test_the_name_itself_comes_before_one_with_a_prefix(tmp_path: Path) -> None:
    assert rewards(read(tmp_path, lines({"step": 1, "train/reward": 0.1, "reward": 0.2}))) == [(1, 0.2)]


def test_one_reward_function_is_the_reward_and_two_are_not(tmp_path: Path) -> None:
    log = read(tmp_path, lines({"step": 1, "rewards/right/mean": 0.5, "rewards/right/std": 0.1}))
    assert rewards(log) == [(1, 0.5)]
    message = refusal(tmp_path, lines({"step": 1, "rewards/right/mean": 0.5, "rewards/form/mean": 0.1}))
    assert "rewards/form/mean, rewards/right/mean" in message
    assert "--map reward/mean=NAME" in message


def test_of_several_evaluations_the_first_is_read_and_said(tmp_path: Path) -> None:
    text = lines({"step": 1, "reward": 0.5, "val-core/b/acc/mean@1": 0.1, "val-core/a/acc/mean@1": 0.2})
    log = read(tmp_path, text)
    assert log.dev == ((1, 0.1),)
    assert "val-core/b/acc/mean@1 was read" in log.notes[0]
    assert read(tmp_path, text, {"dev": "val-core/a/acc/mean@1"}).dev == ((1, 0.2),)


@pytest.mark.parametrize(
    ("given", "mixed", "no_signal"),
    [
        ({"group/no_signal_rate": 0.25}, 0.75, 0.25),
        ({"group/mixed_rate": 0.25}, 0.25, 0.75),
        ({"group/all_one_rate": 0.5, "group/all_zero_rate": 0.25}, 0.25, 0.75),
        ({"group/mixed_rate": 0.5, "group/no_signal_rate": 0.25}, 0.5, 0.25),
        ({"group/all_one_rate": 0.75, "group/all_zero_rate": 0.75}, 0.0, 1.0),
        ({"group/all_one_rate": 0.5}, None, None),
    ],
)
def test_what_follows_from_shares_of_groups(given: dict[str, float], mixed: float, no_signal: float) -> None:
    derive(given)
    assert (given.get("group/mixed_rate"), given.get("group/no_signal_rate")) == (mixed, no_signal)


def test_map_comes_before_the_table(tmp_path: Path) -> None:
    text = lines({"step": 1, "when": 30, "reward": 0.5, "train/mine": 0.7, "kl": 2.0})
    renamed = {"reward/mean": "mine", "entropy/mean": "kl", "step": "when"}
    log = read(tmp_path, text, renamed)
    assert rewards(log) == [(30, 0.7)]
    assert log.rows[0].metrics == {"reward/mean": 0.7, "entropy/mean": 2.0}
    assert log.recognised == {"train/mine": "reward/mean", "kl": "entropy/mean", "when": "step"}
    assert log.ignored == ("reward", "step")


@pytest.mark.parametrize(
    ("renamed", "said"),
    [
        ({"reward": "reward"}, ("--map reward=reward", "no metric is called reward", "reward/mean, reward/std")),
        ({"kl/mean": "nowhere"}, ("--map kl/mean=nowhere", "no numeric column nowhere", "it has reward, step")),
        ({"kl/mean": "word"}, ("no numeric column word",)),
        ({"kl/mean": "reward", "loss": "reward"}, ("reward is named for kl/mean and for loss",)),
        ({"a\nb": "reward"}, ("no metric is called a⏎b",)),
        ({"kl/mean": "a\nb"}, ("no numeric column a⏎b",)),
        ({"kl/mean": "a\nb", "loss": "a\nb"}, ("a⏎b is named for kl/mean",)),
    ],
)
def test_a_wrong_map_is_refused(tmp_path: Path, renamed: dict[str, str], said: tuple[str, ...]) -> None:
    message = refusal(tmp_path, lines({"step": 1, "reward": 0.5, "word": "a"}), renamed)
    assert all(part in message for part in said), message


# Steps.


def test_rows_without_a_step_are_counted(tmp_path: Path) -> None:
    log = read(tmp_path, "loss,reward\n0,0.5\n0,0.6\n")
    assert rewards(log) == [(1, 0.5), (2, 0.6)]
    assert log.notes == ("no column has the step, so rows are counted from 1; --map step=NAME names one",)


def test_a_resume_replaces_what_it_takes_again(tmp_path: Path) -> None:
    first = [{"step": step, "reward": 0.1, "kl": math.nan} for step in (10, 20, 30, 40)]
    evaluations = [{"step": step, "eval_reward": step / 100} for step in (10, 40)]
    again = [{"step": step, "reward": 0.2} for step in (30, 40, 50)]
    log = read(tmp_path, lines(*first, *evaluations, *again))
    assert rewards(log) == [(10, 0.1), (20, 0.1), (30, 0.2), (40, 0.2), (50, 0.2)]
    assert log.dev == ((10, 0.1),)
    assert log.not_finite == ((10, "kl"), (20, "kl"))
    assert log.notes == ("steps went back from 40 to 30 at row 7: read from there as a resume",)


def test_a_late_evaluation_is_no_resume(tmp_path: Path) -> None:
    log = read(tmp_path, lines(*({"step": s, "reward": 0.5} for s in (1, 2, 3)), {"step": 2, "eval_reward": 0.9}))
    assert rewards(log) == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert (log.dev, log.notes) == (((2, 0.9),), ())


def test_many_resumes_are_told_in_few_notes(tmp_path: Path) -> None:
    log = read(tmp_path, lines(*({"step": s, "reward": 0.5} for _ in range(9) for s in (1, 2, 3))))
    assert len(log.rows) == 3
    assert log.notes[2:] == ("and 6 more resumes",)


@pytest.mark.parametrize("step", ["1e308", "NaN", "null", "true", "9" * 4000])
def test_a_row_that_says_no_step_belongs_to_the_one_before(tmp_path: Path, step: str) -> None:
    log = read(tmp_path, f'{{"step": 4, "reward": 0.5}}\n{{"step": {step}, "kl": 0.1}}\n')
    assert [(row.step, row.metrics) for row in log.rows] == [(4, {"reward/mean": 0.5, "kl/mean": 0.1})]


def test_a_number_below_0_is_no_step(tmp_path: Path) -> None:
    assert rewards(read(tmp_path, lines({"step": -3, "reward": 0.1}, {"step": 2, "reward": 0.2}))) == [
        (0, 0.1),
        (2, 0.2),
    ]


def test_rewards_that_take_the_place_of_others_are_told(tmp_path: Path) -> None:
    """As by a column that is not the step, or where each process writes its own row."""
    log = read(tmp_path, lines(*({"reward": i / 10, "epoch": i / 100} for i in range(9))), {"step": "epoch"})
    assert rewards(log) == [(0, 0.8)]
    assert log.notes == (
        "8 times epoch is that of the reward before, and the later row counts; --map step=NAME reads another number",
    )


def test_rows_from_last_to_first_are_sorted(tmp_path: Path) -> None:
    log = read(tmp_path, "step,reward\n3,0.3\n2,0.2\n1,0.1\n")
    assert rewards(log) == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert log.notes == ("rows did not stand in the order of steps: sorted",)


# Values.


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", '"NaN"', '"Infinity"', "1e999", "1" + "0" * 400])
def test_what_is_not_finite_is_told_and_left_out(tmp_path: Path, value: str) -> None:
    log = read(tmp_path, f'{{"step": 1, "reward": 0.5, "grad_norm": {value}}}\n{{"step": 2, "reward": {value}}}\n')
    assert rewards(log) == [(1, 0.5)]
    assert log.rows[0].metrics == {"reward/mean": 0.5}
    assert log.not_finite == ((1, "grad_norm"), (2, "reward"))


def test_not_finite_in_csv(tmp_path: Path) -> None:
    log = read(tmp_path, "step,reward,kl\n1,0.5,nan\n2,inf,0.1\n")
    assert (rewards(log), log.not_finite) == ([(1, 0.5)], ((1, "kl"), (2, "reward")))


def test_booleans_strings_lists_and_null_are_no_numbers(tmp_path: Path) -> None:
    row = {"step": 1, "reward": 0.5, "kl": True, "entropy": "0.5", "loss": [1.0], "grad_norm": None, "epoch": 0.1}
    log = read(tmp_path, lines(row))
    assert (log.rows[0].metrics, log.ignored) == ({"reward/mean": 0.5}, ("epoch",))


def test_what_is_nested_too_deeply_is_no_metric(tmp_path: Path) -> None:
    deep = '{"a":' * 500 + "1" + "}" * 500
    log = read(tmp_path, f'{{"step": 1, "reward": 0.5, "x": {deep}, "y": {{"z": 1}}}}\n')
    assert (rewards(log), log.ignored) == ([(1, 0.5)], ("y/z",))


def test_a_better_name_without_numbers_leaves_the_place_to_the_next(tmp_path: Path) -> None:
    assert rewards(read(tmp_path, lines({"step": 1, "reward": [0.1, 0.2], "reward_mean": 0.15}))) == [(1, 0.15)]


def test_what_single_precision_does_not_hold_is_infinite_or_0(tmp_path: Path) -> None:
    log = read(
        tmp_path, '{"step": 1, "reward": 1e-300, "kl": 1e300, "loss": -1e39}\n{"step": 2, "reward": 3e38, "kl": 1}\n'
    )
    assert rewards(log) == [(1, 0.0), (2, 3e38)]
    assert log.not_finite == ((1, "kl"), (1, "loss"))


@pytest.mark.parametrize("share", [-1.0, 1.5, 40.0])
def test_a_share_outside_0_and_1_is_told_and_not_read(tmp_path: Path, share: float) -> None:
    log = read(
        tmp_path, lines({"step": 1, "reward": 0.5, "accuracy": 0.5}, {"step": 2, "reward": 0.5, "accuracy": share})
    )
    assert [row.metrics for row in log.rows] == [{"reward/mean": 0.5}] * 2
    assert (log.ignored, "accuracy" in log.recognised) == (("accuracy",), False)
    assert "accuracy was not read as completion/correct_rate" in log.notes[0]
    silent = read(tmp_path, lines({"step": 1, "reward": 0.5, "frac_reward_zero_std": share}))
    assert silent.rows[0].metrics == {"reward/mean": 0.5}


# Bad files.


def test_a_torn_last_line_is_skipped(tmp_path: Path) -> None:
    whole = lines({"step": 1, "reward": 0.5, "text": "naïve"}, {"step": 2, "reward": 0.6, "text": "naïve"})
    log = read(tmp_path, whole + '{"step": 3, "rew')
    assert (rewards(log), log.skipped, log.notes) == ([(1, 0.5), (2, 0.6)], 1, ("line 3 is not JSON",))
    log = read(tmp_path, "step,reward\n1,0.5\n2\n3,0.7\n4")
    assert (rewards(log), log.skipped) == ([(1, 0.5), (3, 0.7)], 2)
    assert log.notes == ("line 3 has 1 cells and not 2", "line 5 has 1 cells and not 2")
    path = tmp_path / "letter"
    path.write_bytes((whole + '{"text": "naï').encode()[:-1])
    assert read_log(path).skipped == 1


def test_entries_of_a_list_that_are_no_rows_are_skipped(tmp_path: Path) -> None:
    log = read(tmp_path, json.dumps([{"step": 1, "reward": 0.5}, None, {"step": 2, "reward": 0.6}]))
    assert (len(log.rows), log.skipped, log.notes) == (2, 1, ("entry 2 is not a row",))


def test_a_log_of_mostly_bad_lines_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, '{"step": 1, "reward": 0.5}\n{"a\n{"b\n')
    assert "line 2 is not JSON (2 of 3 are not rows)" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ("the file is empty",)),
        (" \n\n", ("the file is empty",)),
        ("[]", ("the list of rows is empty",)),
        ('{"log_history": []}', ("the list of rows is empty",)),
        ("hello world\nfoo\n", ("neither JSON nor CSV", "trainer_state.json, JSON lines")),
        ("Hello, world\nthis\nis\nprose\n", ("line 2 has 1 cells and not 2", "CSV with one step per row")),
        ("1,0.5\n2,0.6\n", ("numbers and no names",)),
        ('{"log_history": [\n  {"step": 1,\n   "rew', ("not complete JSON", "line 3")),
        ('[{"step": 1}, {"st', ("not complete JSON",)),
        ("[" * 100_000, ("not complete JSON",)),
        ('{"model": "a",\n "results": [{"x": 1}]}', ("without log_history", "its keys are model, results")),
        ('{"model": "a"}', ("without log_history",)),
        ("[1, 2, 3]", ("entry 1 is not a row",)),
        ('[{"step": "a"}]', ("no row with a number",)),
        (lines({"a\nb\x1b[31m\ud800": 1.0}), ("no row has a reward",)),
        (lines({"step": 1, "score_x": 1.0, "reward_x": 2.0}),
         ("no row has a reward", "--map reward/mean=NAME: reward_x, score_x, step")),
        (lines({"step": 1, **{f"x{n:02}": 1.0 for n in range(20)}}), ("NAME: step, x00, x01,", "x06 and 13 more")),
        ("run_id,lr,late_reward_mean\na,1e-5,0.5\nb,1e-4,0.6\n",
         ("neither a step nor a reward", "one run per row", "late_reward_mean, lr")),
        (lines({"step": 1, "reward": math.nan}, {"step": 2, "reward": math.nan}),
         ("reward is NaN or infinite in every row",)),
    ],
)  # fmt: skip
def test_a_file_that_is_no_log_is_refused_in_one_line(tmp_path: Path, text: str, said: tuple[str, ...]) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith(f"{tmp_path / 'log'}: ")
    assert all(part in message for part in said), message


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(b"{}", mtime=0), "gunzip"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "binary, or not UTF-8"),
        (b"step,reward\n1,\x00\n", "binary"),
        ("step,reward\n1,2\n".encode("utf-16"), "binary, or not UTF-8"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(data)
    with pytest.raises(InputError, match=said):
        read_log(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_log(tmp_path / "nowhere.jsonl")
    with pytest.raises(InputError, match="a folder; give the log in it, such as trainer_state"):
        read_log(tmp_path)


# Real logs.


def real(name: str) -> Path:
    path = REAL / name
    if not path.is_file():
        pytest.skip("real logs lie beside the project on some machines only")
    return path


def test_a_real_trainer_state() -> None:
    log = read_log(real("verilog8b_v3_LR6e-6_step600_trainer_state.json"))
    assert (len(log.rows), log.rows[0].step, log.rows[-1].step) == (300, 2, 600)
    assert log.rows[0].metrics["reward/mean"] == 3.6068944931030273
    assert log.rows[0].metrics["kl/mean"] == 0.4794843061827123
    assert (log.skipped, log.not_finite, log.notes) == (0, (), ())


def test_a_real_list_of_steps() -> None:
    log = read_log(real("qwen35-9b_dapo_rho3.0_seed42_step_logs.json"))
    assert (len(log.rows), log.rows[0].step, log.rows[-1].step) == (40, 5, 200)
    assert log.rows[0].metrics["completion/truncated_rate"] == 1.0
    assert log.rows[0].metrics["group/no_signal_rate"] == 0.7


def test_real_lines_of_tinker() -> None:
    log = read_log(real("tinkerlab_arithmetic_metrics.jsonl"))
    assert (len(log.rows), log.rows[0].step, log.rows[-1].step) == (100, 0, 99)
    assert log.rows[0].metrics["completion/correct_rate"] == 0.695
    assert "kl/mean" not in log.rows[0].metrics


def test_a_real_table_of_runs_is_refused() -> None:
    with pytest.raises(InputError, match="one run per row"):
        read_log(real("tinkerlab_zvf_predictive_validation_runs.csv"))
