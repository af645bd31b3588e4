"""Rewards in a process of their own, which some of them bring down."""

from __future__ import annotations

import gc
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Lock, Thread, Timer
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.core.formatting import clean
from harness.types import Prompt, Score, Scorer
from rewards import worker as module
from rewards.contract import RewardDescription, load_reward
from rewards.trl import TrainerState
from rewards.worker import RewardWorker
from tests.support.builders import make_prompt
from tests.support.hostile import LIES

ROOT = Path(__file__).parent.parent.parent
LIMIT = 0.3
TIMEOUT = Score(0.0, False, "timeout")
RIGHT = Score(1.0, True, "right")
WRONG = Score(0.0, False, "wrong")

Build = Callable[..., RewardWorker]


@pytest.fixture
def build() -> Iterator[Build]:
    """A worker for functions of ``hostile`` (or any, by full name), closed at the end of the test."""
    built: list[RewardWorker] = []

    def build(*names: str, log: Path | None = None, time_limit: float = LIMIT, **values: Any) -> RewardWorker:
        functions = tuple(name if "." in name else f"tests.support.hostile:{name}" for name in names)
        built.append(RewardWorker(RewardDescription(functions, **values), time_limit=time_limit, log=log))
        return built[-1]

    yield build
    for one in built:
        one.close()


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What the rewards of ``hostile`` were asked, in order, in whichever process."""
    path = tmp_path / "asked"
    monkeypatch.setenv("ASKED", str(path))
    return lambda: path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def ask(reward: Scorer, *completions: str) -> list[Score]:
    """The scores of completions of two prompts in turn, ``a`` and ``b``, of which "1" is the right answer."""
    prompts = [make_prompt("ab"[i % 2], ground_truth="1") for i in range(len(completions))]
    return reward.score(prompts, completions)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


# ---------------------------------------------------------------- as in the harness's own process


def test_scores_are_those_of_the_reward_in_this_process(build: Build) -> None:
    reward = build("rewards.solution")
    form = "<start_working_out>1<end_working_out><SOLUTION>{}</SOLUTION>"
    texts = [form.format(1), form.format(2), "1"]
    assert ask(reward, *texts) == ask(load_reward(reward.description), *texts)
    assert [score.reason for score in ask(reward, *texts)] == ["right", "wrong", "not_extracted"]


def test_nothing_is_started_before_there_is_something_to_score(build: Build) -> None:
    reward = build("no.such:module")
    assert reward.score([], []) == []
    reward.close()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
PROMPTS = st.builds(
    Prompt,
    id=st.sampled_from("abc"),
    text=st.text(),
    ground_truth=st.text(max_size=2),
    system=st.sampled_from(["", "s"]),
    columns=st.dictionaries(st.sampled_from(["x", "y"]), VALUES),
)
COMPLETIONS = st.text(st.characters(codec=None, exclude_categories=()), max_size=10)  # lone surrogates too
ALIKE = [("moody",), ("equals", "moody"), ("batch",), ("moody", "batch"), ("batch_raises_on_a_row", "equals")]


@pytest.fixture(scope="module")
def pairs() -> Iterator[list[tuple[RewardWorker, Scorer]]]:
    descriptions = [
        RewardDescription(
            tuple(f"tests.support.hostile:{name}" for name in names),
            weights=tuple(1 / len(names) for _ in names),
            solved_at=0.5,
        )
        for names in ALIKE
    ]
    workers = [RewardWorker(description) for description in descriptions]
    yield list(zip(workers, map(load_reward, descriptions), strict=True))
    for one in workers:
        one.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(which=st.integers(0, len(ALIKE) - 1), items=st.lists(st.tuples(PROMPTS, COMPLETIONS), max_size=6))
def test_whatever_comes_back_is_the_same_here_and_there(
    pairs: list[tuple[RewardWorker, Scorer]], which: int, items: list[tuple[Prompt, str]]
) -> None:
    there, here = pairs[which]
    prompts, completions = [prompt for prompt, _ in items], [completion for _, completion in items]
    judged = here.score(prompts, completions)
    assert there.score(prompts, completions) == [
        replace(score, reason=clean(score.reason), error=clean(score.error)) for score in judged
    ]


def test_huge_completions_pass(build: Build) -> None:
    prompts = [make_prompt(str(i), ground_truth="x" * 1_000_000) for i in range(8)]
    texts = ["x" * 1_000_000, "\ud800" * 1_000_000] * 4
    assert build("equals", time_limit=10.0).score(prompts, texts) == [RIGHT, WRONG] * 4


def test_trl_hooks_chat_and_columns_are_as_ever(build: Build) -> None:
    prompts = [
        make_prompt("a", ground_truth="1", system="Be brief.", columns={"level": {"deep": [1, None]}}),
        make_prompt("b", ground_truth="2", columns={"level": 3}),
    ]
    scores = build("batch_sees_everything", chat=True).score(prompts, ["x", "y"])
    assert [(score.reward, score.error) for score in scores] == [(1.0, ""), (0.5, "")]
    assert [score.logged for score in scores] == [{"x": 1.0, "length": 1.0}, {"x": 1.0, "length": 2.0}]


def test_a_batch_that_raises_on_a_row_keeps_the_others(build: Build) -> None:
    scores = ask(build("batch_raises_on_a_row"), "1", "x", "3")
    assert [score.reward for score in scores] == [0.0, None, 1.0]
    assert scores[1].error.startswith("ValueError: invalid literal")


def test_random_numbers_of_a_reward_follow_the_harness_seed(build: Build) -> None:
    def draw(seed: int, reward: RewardWorker) -> list[float | None]:
        random.seed(seed)
        return [score.reward for score in ask(reward, "x", "y")]

    reward = build("draws")
    first = draw(1, reward)
    assert draw(2, reward) != first
    assert draw(1, reward) == first
    reward.close()
    assert draw(1, reward) == first


def test_the_worker_is_kept_and_does_not_load_torch(build: Build) -> None:
    reward = build("process_id", range=(0.0, 1e9))
    assert len({score.reward for _ in range(3) for score in ask(reward, "x", "y")}) == 1
    assert [score.reward for score in ask(build("has_torch"), "x")] == [0.0]


# ---------------------------------------------------------------- completions that loop


def test_a_completion_that_loops_has_the_lowest_reward_and_the_others_their_own(build: Build) -> None:
    scores = ask(build("loops", range=(-1.0, 1.0)), "1", "LOOP", "2", "1", "LOOP again", "1")
    timeout = Score(-1.0, False, "timeout")
    assert scores == [RIGHT, timeout, WRONG, RIGHT, timeout, RIGHT]


def test_a_regular_expression_that_never_ends_is_cut_off(build: Build) -> None:
    assert ask(build("backtracks"), "aab", "a" * 60, "ab") == [RIGHT, TIMEOUT, RIGHT]


def test_code_that_swallows_every_exception_is_cut_off(build: Build) -> None:
    swallow = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
    assert ask(build("runs_what_it_gets"), "x = 1", swallow, "y = 2") == [RIGHT, TIMEOUT, RIGHT]


def test_what_code_raises_errs_its_own_row_only(build: Build) -> None:
    texts = ["x = 1", "exit(0)", "raise KeyboardInterrupt", "raise SystemExit('bye')", "x = 2"]
    scores = ask(build("runs_what_it_gets"), *texts)
    assert [score.error for score in scores] == ["", "SystemExit: 0", "KeyboardInterrupt: ", "SystemExit: bye", ""]
    assert ask(build("raises_the_unprintable"), "x")[0].error == "UnprintableError"


def test_a_slow_first_import_is_not_held_against_a_completion(tmp_path: Path, build: Build) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(1.0)\ndef judge(completion, ground_truth): return 1.0\n")
    assert ask(build(f"{tmp_path}/slow.py:judge"), "x", "y") == [RIGHT, RIGHT]


# ---------------------------------------------------------------- verifiers that are stuck


def test_a_stuck_verifier_errs_everything_without_waiting_for_each(
    build: Build, asked: Callable[[], list[str]]
) -> None:
    reward = build("always_loops")
    scores = ask(reward, *["x"] * 50)
    message = "the verifier is stuck: no answer within 0.3 s, not even for an empty completion"
    assert {(score.reason, score.error) for score in scores} == {("errored", message)}
    assert asked() == ["x", "", ""], "one completion, then the empty one of this prompt and of another"


def test_with_a_single_prompt_there_is_no_other_to_try(build: Build, asked: Callable[[], list[str]]) -> None:
    scores = build("always_loops").score([make_prompt()] * 3, ["x"] * 3)
    assert all("the verifier is stuck: " in score.error for score in scores)
    assert asked() == ["x", ""]


def test_a_prompt_that_the_verifier_is_stuck_on_costs_only_its_own_completions(
    build: Build, asked: Callable[[], list[str]]
) -> None:
    hard, easy = make_prompt("hard", ground_truth="hard"), make_prompt("easy")
    scores = build("loops_on_a_truth").score([easy, hard, easy, hard, hard], ["x"] * 5)
    assert [score.reward for score in scores] == [1.0, None, 1.0, None, None]
    assert scores[1].error.startswith("the verifier is stuck on this prompt: no answer within 0.3 s")
    assert asked() == ["x", "x", "", "", "x"]


# ---------------------------------------------------------------- crashes


def test_an_exit_errs_its_own_row_only(build: Build) -> None:
    scores = ask(build("exits"), "1", "EXIT", "2", "EXIT", "1")
    assert scores[0::2] == [RIGHT, WRONG, RIGHT]
    assert [score.error for score in scores[1::2]] == ["the verifier crashed: exit code 3"] * 2


def test_a_segmentation_fault_is_told_by_its_signal(build: Build, tmp_path: Path) -> None:
    scores = ask(build("segfaults", log=tmp_path / "log"), "SEGV", "1")
    assert scores[0].error == "the verifier crashed: signal 11 (SIGSEGV)"
    assert scores[1] == RIGHT
    assert "in segfaults" in (tmp_path / "log").read_text(), "the log says where"


def test_three_crashes_in_a_row_end_the_call(build: Build, asked: Callable[[], list[str]]) -> None:
    reward = build("exits")
    scores = ask(reward, "1", "EXIT", "EXIT", "1", *["EXIT"] * 10, "1")
    assert [score.reward for score in scores] == [1.0, None, None, 1.0, *[None] * 11]
    assert len(asked()) == 7
    assert ask(reward, "1") == [RIGHT], "the next call tries again"


def test_a_crash_is_seen_though_a_forked_child_keeps_the_connection(build: Build) -> None:
    assert ask(build("forks_and_dies", time_limit=60.0), "x")[0].error == "the verifier crashed: exit code 4"


def test_a_crash_of_a_worker_that_has_served_before_is_tried_again(build: Build, tmp_path: Path) -> None:
    died = tmp_path / "died"
    code = f"import os, pathlib\np = pathlib.Path({str(died)!r})\nif not p.exists(): p.touch(); os._exit(1)"
    reward = build("runs_what_it_gets")
    ask(reward, "x = 1")
    assert ask(reward, "x = 2", code) == [RIGHT, RIGHT]
    assert died.exists()


def test_a_worker_that_dies_between_calls_costs_nothing(build: Build) -> None:
    reward = build("process_id", range=(0.0, 1e9))
    process = int(ask(reward, "x")[0].reward or 0)
    os.kill(process, signal.SIGKILL)
    wait_for(lambda: not is_alive(process))
    assert not ask(reward, "x")[0].errored


def test_a_thread_that_scored_and_ended_takes_nothing_with_it(build: Build) -> None:
    reward = build("equals")
    thread = Thread(target=ask, args=(reward, "1"))
    thread.start()
    thread.join()
    assert ask(reward, "1", "2") == [RIGHT, WRONG]


def test_an_import_that_fails_in_the_worker_errs_everything_with_the_reason(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    reward = build(f"{path}:judge")
    path.write_text("import nothing_of_that_name")
    assert {score.error for score in ask(reward, "x", "y")} == {
        f"reward.function: cannot import {path}:judge: ModuleNotFoundError: No module named 'nothing_of_that_name'"
    }
    path.write_text("def judge(completion, ground_truth): return 1.0\n")
    assert ask(reward, "x") == [RIGHT]


def test_a_crash_at_import_is_not_tried_for_every_item(build: Build, tmp_path: Path) -> None:
    path, starts = tmp_path / "mine.py", tmp_path / "starts"
    path.write_text(f"import os\nopen({str(starts)!r}, 'a').write('x')\nos._exit(5)\n")
    scores = ask(build(f"{path}:judge"), *["x"] * 9)
    assert {score.error for score in scores} == {"the verifier crashed: exit code 5"}
    assert starts.read_text() in ("", "xxx"), "a file closed by os._exit may have lost its text"


def test_an_import_that_hangs_ends_too(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_LIMIT_S", 0.3)
    (tmp_path / "mine.py").write_text("while True: pass\n")
    scores = ask(build(f"{tmp_path}/mine.py:judge"), "x" * 1_000_000, "y")
    assert {score.error for score in scores} == {"the reward's process took no prompts for 0.3 s"}


def test_prompts_that_cannot_be_handed_over_are_errored(build: Build) -> None:
    prompts = [make_prompt(columns={"lock": Lock()}), make_prompt()]
    reward = build("equals")
    assert all("cannot be handed to the reward's process" in score.error for score in reward.score(prompts, ["", ""]))
    assert ask(reward, "1") == [RIGHT]


# ---------------------------------------------------------------- whole batches (TRL-style)


def test_a_batch_that_loops_on_one_row_is_asked_row_by_row(build: Build, asked: Callable[[], list[str]]) -> None:
    reward = build("batch_loops")
    assert ask(reward, "1", "LOOP", "2") == [RIGHT, TIMEOUT, WRONG]
    assert asked() == ["1 LOOP 2", "", "1", "LOOP", "", "2"]
    assert ask(reward, "1", "2") == [RIGHT, WRONG]
    assert asked()[-1] == "1 2", "a batch is still asked as a batch"


def test_a_stuck_batch_errs_everything(build: Build, asked: Callable[[], list[str]]) -> None:
    scores = ask(build("batch_always_loops"), *["x"] * 20)
    assert all(score.error.startswith("the verifier is stuck: ") for score in scores)
    assert asked()[1:] == ["", ""]


def test_a_slow_batch_is_waited_for(build: Build, asked: Callable[[], list[str]]) -> None:
    reward = build("batch_is_slow", time_limit=0.25)
    assert [score.reward for score in ask(reward, "a", "b", "c", "d")] == [1.0] * 4
    assert [score.reward for score in ask(reward, "e", "f", "g", "h")] == [1.0] * 4
    assert asked() == ["a b c d", "", "e f g h"], "how slow it is was learned"


def test_after_a_batch_that_took_all_its_time_the_next_is_not_given_as_long(
    build: Build, asked: Callable[[], list[str]]
) -> None:
    reward = build("batch_is_slow", time_limit=0.25)
    ask(reward, "LOOP", "b")
    before = len(asked())
    assert [score.reward for score in ask(reward, "e", "f", "g", "h")] == [0.25] * 4
    assert asked()[before:] == ["e f g h", "", "e", "f", "g", "h"]


def test_a_batch_that_crashes_is_asked_row_by_row(build: Build) -> None:
    scores = ask(build("batch_exits"), "1", "EXIT", "2")
    assert scores[0::2] == [RIGHT, WRONG]
    assert scores[1].error == "the verifier crashed: exit code 3"


def test_one_trl_function_among_several_makes_all_a_batch(build: Build) -> None:
    scores = ask(build("loops", "batch", weights=(0.5, 0.5)), "1", "LOOP")
    assert [score.reward for score in scores] == [1.0, 0.0]
    assert scores[1] == TIMEOUT


# ---------------------------------------------------------------- manners of a reward


def test_what_a_reward_prints_goes_to_the_log_only(
    build: Build, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ask(build("prints"), "1", "\ud800") == [RIGHT, WRONG]
    assert ask(build("prints", log=tmp_path / "log"), "1") == [RIGHT]
    assert capfd.readouterr() == ("", "")
    assert set((tmp_path / "log").read_text().splitlines()) == {"to stdout 1", "to stderr", "past Python"}


def test_a_forked_child_that_nobody_ends_does_not_answer_twice(build: Build) -> None:
    assert ask(build("forks"), "1", "2", "1") == [RIGHT, WRONG, RIGHT]


def test_a_forgotten_timer_does_not_go_off_in_the_next_item(build: Build) -> None:
    assert ask(build("forgets_a_timer"), "1", "2", "3") == [RIGHT] * 3


def test_signals_to_every_process_are_the_parents_to_answer(build: Build, asked: Callable[[], list[str]]) -> None:
    def send() -> None:
        wait_for(lambda: len(asked()) > 0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(int(asked()[0]), number)

    sender = Thread(target=send)
    sender.start()
    assert ask(build("waits_for_a_signal", time_limit=5.0), "x") == [RIGHT]
    sender.join()


def test_processes_that_a_reward_started_are_still_easy_to_end(build: Build) -> None:
    code = (
        "import multiprocessing, time\n"
        "child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))\n"
        "child.start(); time.sleep(0.1); child.terminate(); child.join(3)\n"
        "assert child.exitcode == -15, child.exitcode"
    )
    assert ask(build("runs_what_it_gets", time_limit=10.0), code) == [RIGHT]


def test_what_a_killed_reward_had_started_is_killed_with_it(build: Build, tmp_path: Path) -> None:
    child = tmp_path / "child"
    code = f"import subprocess\np = subprocess.Popen(['sleep', '60'])\nopen({str(child)!r}, 'w').write(str(p.pid))\n"
    assert ask(build("runs_what_it_gets"), code + "while True: pass") == [TIMEOUT]
    wait_for(lambda: not is_alive(int(child.read_text())))


# ---------------------------------------------------------------- ends


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """As at a terminal: a suite that runs in the background of a shell was started with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_while_an_item_loops_leaves_the_worker_usable(build: Build) -> None:
    reward = build("loops", time_limit=60.0)
    ask(reward, "1")
    timer = Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ask(reward, "1", "LOOP")
    timer.join()
    assert ask(reward, "2", "1") == [WRONG, RIGHT]


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_while_a_batch_loops_leaves_the_worker_usable(build: Build) -> None:
    reward = build("batch_loops", time_limit=0.3)
    timer = Timer(1.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ask(reward, *["LOOP"] * 30)
    timer.join()
    assert ask(reward, "1") == [RIGHT]


def test_close_ends_the_worker_and_what_it_does_at_exit_is_done(tmp_path: Path) -> None:
    farewell = tmp_path / "farewell"
    (tmp_path / "mine.py").write_text(
        "import atexit, os, pathlib\n"
        f"atexit.register(lambda: pathlib.Path({str(farewell)!r}).write_text(str(os.getpid())))\n"
        "def judge(completion, ground_truth): return float(os.getpid())\n"
    )
    description = RewardDescription((f"{tmp_path}/mine.py:judge",), range=(0.0, 1e9))
    with RewardWorker(description) as reward:
        process = int(ask(reward, "x")[0].reward or 0)
        assert is_alive(process)
    assert not is_alive(process)
    assert farewell.read_text() == str(process)
    reward.close()


def test_a_worker_that_is_forgotten_ends(build: Build) -> None:
    reward = RewardWorker(RewardDescription(("tests.support.hostile:process_id",), range=(0.0, 1e9)))
    process = int(ask(reward, "x")[0].reward or 0)
    del reward
    gc.collect()
    assert not is_alive(process)


SCRIPT = """
import os, signal, sys
from harness.types import Prompt
from rewards.contract import RewardDescription
from rewards.trl import TrainerState
from rewards.worker import RewardWorker
print("started", flush=True)
reward = RewardWorker(RewardDescription(("mine.py:judge", "beside:other"), range=(0.0, 1e9), weights=(1.0, 0.0)),
                      time_limit=60.0)
print(*(score.reward or score.error for score in reward.score([Prompt("a", "", "")], ["1"])), flush=True)
if sys.argv[1] == "loop":
    reward.score([Prompt("a", "", "")], ["LOOP"])
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], subprocess.Popen[str]]:
    """An unguarded script in a folder of its own with rewards beside it, which finds the packages by PYTHONPATH."""
    (tmp_path / "mine.py").write_text(
        "import os, re\ndef judge(completion, ground_truth):\n"
        "    re.fullmatch('(a+)+b', 'a' * 60) if completion == 'LOOP' else None\n    return float(os.getpid())\n"
    )
    (tmp_path / "beside.py").write_text("def other(completion, ground_truth): return 1.0\n")
    (tmp_path / "script.py").write_text(SCRIPT)

    def start(word: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-X", "dev", "script.py", word],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def test_an_unguarded_script_in_any_folder_ends_without_a_trace(
    script: Callable[[str], subprocess.Popen[str]],
) -> None:
    output, errors = script("end").communicate(timeout=30)
    started, process = output.splitlines()
    assert (started, errors) == ("started", ""), "once, and no ResourceWarning"
    assert not is_alive(int(float(process)))


def test_a_parent_killed_while_an_item_loops_leaves_no_worker(
    script: Callable[[str], subprocess.Popen[str]],
) -> None:
    with script("loop") as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        process = int(float(parent.stdout.readline()))
        time.sleep(0.3)
        assert is_alive(process)
        parent.kill()
    wait_for(lambda: not is_alive(process))


@pytest.mark.parametrize("lie", LIES)
def test_what_is_no_score_is_a_crash_of_the_verifier(build: Build, lie: str) -> None:
    scores = ask(build("lies", time_limit=10.0), lie, "1")
    assert scores[0].error == "the reward's process sent something else than scores"
    assert scores[1] == RIGHT


def test_a_lone_surrogate_reaches_the_harness(build: Build) -> None:
    (score,) = ask(build("quotes_a_surrogate"), "1")
    assert score.reason == "��[31m red"
    (score,) = ask(build("raises_a_surrogate"), "1")
    assert score.errored
    assert score.error.endswith("�")


def test_long_reasons_of_a_batch_are_cut_before_they_are_sent(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MESSAGE_LIMIT", 1 << 17)
    scores = ask(build("says_much", time_limit=10.0), *["x" * 1_000_000] * 4)
    assert [(len(score.reason), len(score.error)) for score in scores] == [(module.REASON, module.ERROR)] * 4
    assert all("\ud800" not in name for score in scores for name in score.components)
    assert all(math.isnan(value) for score in scores for value in score.components.values())


def test_a_message_without_end_is_a_crash(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MESSAGE_LIMIT", 100)
    assert ask(build("says_much", time_limit=10.0), "x" * 200)[0].error == module.NO_ANSWER


def test_an_import_that_raises_a_surrogate_is_told(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("raise ValueError('\\ud800 \\x1b[31m')\n")
    (score,) = ask(build(f"{path}:judge"), "x")
    assert score.error.endswith("ValueError: � �[31m")


@pytest.mark.parametrize("name", ["starts_slowly", "batch_starts_slowly"])
def test_a_first_call_may_take_its_own_limit(name: str) -> None:
    description = RewardDescription((f"tests.support.hostile:{name}",))
    with RewardWorker(description, time_limit=LIMIT, startup_limit=5.0) as reward:
        assert ask(reward, "1", "2") == [RIGHT, WRONG]
        assert ask(reward, "LOOP", "1") == [TIMEOUT, RIGHT]
    with RewardWorker(description, time_limit=LIMIT) as reward:
        assert all(
            score.error.startswith("the verifier is stuck: no answer within 0.3 s") for score in ask(reward, "1")
        )


def test_the_limit_of_a_first_call_that_is_too_short_is_named() -> None:
    description = RewardDescription(("tests.support.hostile:starts_slowly",))
    with RewardWorker(description, time_limit=0.1, startup_limit=0.2) as reward:
        (score,) = ask(reward, "1")
    assert "0.2 s (reward.startup_limit: raise it for one that is slow to start)" in score.error


def test_ids_and_step_reach_a_trl_style_function(build: Build) -> None:
    reward = build("counts_ids")
    (score,) = reward.score([make_prompt("a")], ["x"], [[5, 6, 7]], TrainerState(global_step=4, max_steps=8))
    assert (score.reward, score.logged) == (0.3, {"step": 4.0, "epoch": 0.5})
