"""Frames: what a stranger must find in them, at every size, in every state, with or without colours."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.formatting import clean
from harness.types import Action, Asked, Bucket, CommandRecord, EventRecord, Knobs, Metrics, Snapshot, StepRecord
from harness.views.console import Console
from harness.views.terminal.frame import HELP, SCREENS, Look, render
from tests.support.builders import (
    HEALTHY,
    make_change,
    make_checkpoint,
    make_decision_record,
    make_look,
    make_run_record,
    make_sample,
    make_snapshot,
    make_step,
    make_steps,
)

SIZES = [(80, 24), (120, 40), (200, 60)]
POOL = {"pool/unseen_rate": 0.2, "pool/frontier_rate": 0.5, "pool/solved_rate": 0.2, "pool/hopeless_rate": 0.1}
LIVE = {"time/rollout_s": 2.0, "completion/tokens": 10_000.0}


def make_buckets(steps: tuple[StepRecord, ...]) -> dict[str, tuple[Bucket, ...]]:
    """One bucket for each step, as a short run has them."""
    return {
        name: tuple(Bucket(s.step, 1, s.metrics[name], s.metrics[name], s.metrics[name]) for s in steps)
        for name in HEALTHY
    }


def make_command(number: int, state: str, **values: object) -> CommandRecord:
    command = CommandRecord(
        number, Action("save", argument=f"n{number}"), "bob@there", "", 990.0, state, None, None, ""
    )
    return replace(command, **values)  # type: ignore[arg-type]


def make_busy_snapshot(metrics: Metrics | None = None) -> Snapshot:
    """A run with something in every place of the frame."""
    steps = make_steps(200, POOL | LIVE | dict(metrics or {}))
    change = make_change(120, "max_tokens", 20, 30)
    return make_snapshot(
        steps,
        run=make_run_record(phase="sampling", phase_done=12, phase_total=128, last_step=200, budget_steps=400),
        knobs=Knobs(temperature=0.8, focus=0.65, max_tokens=30),
        pins=frozenset({"temperature"}),
        buckets=make_buckets(steps),
        decisions=(
            replace(change, expected="completion/truncated_rate falls", hypothesis="answers are cut"),
            make_decision_record(130, "rollback", argument=10, refused="damaged", evidence="dev fell"),
            make_decision_record(131, "continue", evidence="all is well"),
            make_decision_record(
                140, "save", source="manual", argument="lunch", evidence="before lunch", who="ann@here", at=12.5,
                asked_at=10.0, result="saved to checkpoints/step-000139",
            ),
        ),
        evaluations=(make_look(0, 0.3), make_look(100, 0.8), make_look(200, 0.75)),
        checkpoints=(make_checkpoint(0), make_checkpoint(100, best=True), make_checkpoint(139, name="lunch")),
        samples=(make_sample(200, completion="a very long answer " * 30), make_sample(200, kind="worst", reward=None)),
        events=(EventRecord(1, "info", "hello", 1.0), EventRecord(150, "warning", "a slow disk", 1.0)),
        commands=(make_command(1, "applied", step=140), make_command(2, "waiting", note="for tea")),
        commands_waiting=1,
    )  # fmt: skip


def show(snapshot: Snapshot, width: int = 120, height: int = 40, *, color: bool = True, **values: object) -> str:
    console = Console(
        record=True, file=io.StringIO(), width=width, height=height, force_terminal=True, no_color=not color
    )
    given_: dict[str, object] = {"age": 2.0, "now": 1000.0} | values
    console.print(render(snapshot, width=width, height=height, **given_))  # type: ignore[arg-type]
    return console.export_text(styles=False)


# ---------------------------------------------------------------- what a stranger must find


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_frame_fits_the_terminal_and_answers_the_three_questions(width: int, height: int) -> None:
    text = show(make_busy_snapshot(), width, height)
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= width
    assert len(lines) == height
    for words in (
        "night", "running", "step 200 of 400", "decided by rules",
        "learning? LEARNING  dev 0.300 -> 0.750 (+0.450), best 0.800 at step 100",
        "stuck?    NO  80% of groups have signal (mixed)",
        "changed?  NOT AS EXPECTED SO FAR  max_tokens 20 -> 30 at step",
        "12 of 128", "5,000 tokens/s", "last update 2 s ago",
        "─ learning", "★", "█ mixed 80%", "KL ", "entropy", "truncated", "length", "grad",
        "─ hyperparameters", "⚑", "@120", "─ open experiment", "─ decisions", "save lunch",
    ):  # fmt: skip
        assert words in text, words
    assert "all is well" not in text, "continue is not news"


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_an_llm_that_does_not_answer_is_seen_at_once(width: int, height: int) -> None:
    asked = Asked(times=6, last=180, failed=6, failed_in_a_row=6, failing_since=20, last_failure="no answer: HTTP 401")
    text = show(replace(make_busy_snapshot(), asked=asked), width, height)
    assert "llm?      SILENT  a usable answer in 0 of 6 turns; last: no answer: HTTP 401" in text
    once = Asked(times=6, last=180, failed=1, failed_in_a_row=1, failing_since=180, last_failure="not usable: no call")
    text = show(replace(make_busy_snapshot(), asked=once), width, height)
    assert "llm?      FAILED  a usable answer in 5 of 6 turns; last: not usable: no call" in text
    well = Asked(times=6, last=180, failed=1, last_failure="not usable: no call", tokens_in=4000, tokens_out=600)
    text = show(replace(make_busy_snapshot(), asked=replace(well, usd=0.007)), width, height)
    assert "llm?      ANSWERS  a usable answer in 5 of 6 turns; 4,000 + 600 tokens, 0.0070" in text
    assert "llm?" not in show(make_busy_snapshot(), width, height)


@pytest.mark.parametrize(("width", "height"), SIZES[1:])
def test_a_larger_frame_shows_more(width: int, height: int) -> None:
    text = show(make_busy_snapshot(), width, height)
    for words in ("─ pool", "unseen 20%", "frontier 50%", "─ budget and machine", "─ samples", "a very long answer",
                  "error", "a slow disk", "refused: damaged", "was 20 @120", "save n2 waits for the next step",
                  "bob@there: for tea"):  # fmt: skip
        assert words in text, words


def test_the_largest_uses_its_room() -> None:
    text = show(make_busy_snapshot(), 200, 60)
    for words in ("b rolls back to step 100", "rollback point", "lunch", "because answers are cut", "dev fell"):
        assert words in text, words


def test_the_changes_and_the_curves_stand_on_the_same_columns() -> None:
    mixed = {"group/mixed_rate": 1.0, "group/all_zero_rate": 0.0, "group/all_one_rate": 0.0}
    none = {"group/mixed_rate": 0.0, "group/all_zero_rate": 1.0, "group/all_one_rate": 0.0}
    steps = (*make_steps(99, none), *make_steps(101, mixed, first=100))
    snapshot = make_snapshot(steps, buckets=make_buckets(steps), decisions=(make_change(100, "beta"),))
    lines = show(snapshot).splitlines()
    mark = next(line for line in lines if line.startswith("changes")).index("r")
    groups = next(line for line in lines if line.lstrip().startswith("100%"))
    assert abs(groups.index("█") - mark) <= 1


def test_values_beyond_their_limits_are_marked_without_colours() -> None:
    lines = show(make_busy_snapshot({"kl/mean": 0.6, "completion/truncated_rate": 0.5}), color=False).splitlines()
    assert next(line for line in lines if line.startswith("KL")).split()[1] == "0.600!"
    assert next(line for line in lines if line.startswith("truncated")).split()[1] == "50%‼"


def test_shapes_alone_tell_the_parts_without_colours() -> None:
    plain, coloured = (show(make_busy_snapshot(), color=color) for color in (False, True))
    assert plain == coloured


def test_only_the_colours_of_the_terminals_own_theme_are_used() -> None:
    frame = render(make_busy_snapshot(), age=1.0, width=200, height=60, now=1000.0)
    used = {word for line in frame.lines for span in line.spans for word in str(span.style).split()}
    themed = {"black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"}
    assert used <= (themed - {"black", "white"}) | {"bold", "dim", "reverse", "strike"}


# ---------------------------------------------------------------- screens


def test_the_decisions_screen_tells_who_when_and_what_came_of_it() -> None:
    text = show(make_busy_snapshot(), look=Look(screen="decisions"))
    for words in ("asked by  ann@here, applied 2.5 s later", "note  before lunch", "result  saved to",
                  "because  answers are cut", "expected  completion/truncated_rate falls",
                  "warning    a slow disk"):  # fmt: skip
        assert words in text, words


def test_a_verdict_and_a_price_are_shown_where_they_are_known() -> None:
    judged = replace(make_change(5, "beta"), verdict="helped", measured="dev +0.1")
    text = show(make_snapshot(make_steps(9), decisions=(judged,)), look=Look(screen="decisions"))
    assert "helped" in text
    assert "measured  dev +0.1" in text


def test_the_filter_leaves_what_holds_the_words() -> None:
    look = Look(screen="decisions", words="LUNCH")
    text = show(make_busy_snapshot(), look=look)
    assert "save lunch" in text
    assert "a slow disk" not in text
    assert "nothing like that" in show(make_busy_snapshot(), look=replace(look, words="zebra"))


def test_scrolling_leaves_out_the_newest() -> None:
    text = show(make_busy_snapshot(), look=Look(screen="decisions", skip=2))
    assert "a slow disk" not in text
    assert "damaged" in text


def test_the_samples_screen_shows_whole_texts_with_reason_codes() -> None:
    text = show(make_busy_snapshot(), look=Look(screen="samples"))
    assert text.count("a very long answer") > 20
    for words in ("best", "worst", "right", "errored", "expected 2", "1.00", "error"):
        assert words in text, words


def test_the_run_screen_and_the_help_name_everything_else() -> None:
    text = show(make_busy_snapshot(), 80, 24, look=Look(screen="run"))
    for words in (
        "checkpoints",
        "rollback point",
        "frontier 50%",
        "1,280 completions",
        "save n1 applied before step 140",
    ):
        assert words in text, words
    shown = show(make_busy_snapshot(), look=Look(screen="help"))
    assert all(line.strip() in shown for line in HELP.splitlines())


@pytest.mark.parametrize("screen", [*SCREENS, "help"])
@pytest.mark.parametrize(("width", "height"), [*SIZES, (40, 10), (20, 5), (300, 100)])
def test_every_screen_fits_every_terminal(screen: str, width: int, height: int) -> None:
    for snapshot in (make_busy_snapshot(), make_snapshot()):
        lines = show(snapshot, width, height, look=Look(screen=screen)).splitlines()
        assert len(lines) == height
        assert max(len(line) for line in lines) <= width


# ---------------------------------------------------------------- states


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_run_that_has_not_stepped_yet_has_a_frame(width: int, height: int) -> None:
    text = show(make_snapshot(), width, height)
    for words in ("step 0 of 80", "no dev evaluation yet", "NO STEP YET", "no change yet"):
        assert words in text, words


@pytest.mark.parametrize("status", ["finished", "stopped", "failed"])
def test_an_ended_run_shows_why_and_no_sign_of_life(status: str) -> None:
    run = make_run_record(status=status, stop_reason="budget of 80 steps spent")
    text = show(make_snapshot(make_steps(3), run=run), alive=False)
    assert status in text
    assert "budget of 80 steps spent" in text
    assert "heard" not in text
    assert "gone" not in text


def test_a_run_whose_process_is_gone_says_how_to_go_on() -> None:
    assert "process died" in show(make_snapshot(), alive=False)
    assert "grpo resume night" in show(make_snapshot(), alive=False)


def test_a_paused_run_says_which_keys_move_it() -> None:
    assert "p continues, n takes one step" in show(make_snapshot(run=make_run_record(status="paused")))


def test_a_frame_played_back_says_so() -> None:
    assert "as it was after step 7" in show(make_snapshot(make_steps(7)), look=Look(at=7))


def test_metrics_that_are_no_numbers_are_shown_as_such() -> None:
    steps = (*make_steps(3), make_step(4, {"kl/mean": float("nan"), "reward/adjusted": float("inf")}))
    assert "nan" in show(make_snapshot(steps, buckets=make_buckets(steps)))


def test_texts_of_model_and_person_cannot_command_the_terminal_or_the_markup() -> None:
    evil = "\x1b[2J\x1b]0;owned\x07[bold red]x[/bold red]\r\n[/nonsense]"
    snapshot = replace(
        make_busy_snapshot(),
        run=make_run_record(status="failed", stop_reason=evil),
        samples=(replace(make_sample(1, completion=evil), prompt=evil, reason=evil, ground_truth=evil),),
        decisions=(make_decision_record(3, "save", source="manual", argument=evil, evidence=evil, who=evil,
                                        asked_at=1.0, result=evil, measured=evil, hypothesis=evil, expected=evil),),
        events=(EventRecord(3, "error", evil, 1.0),),
        commands=(make_command(1, "refused", result=evil, note=evil, who=evil, action=Action("save", argument=evil)),),
        checkpoints=(make_checkpoint(1, name=evil, best=True),),
    )  # fmt: skip
    for screen in SCREENS:
        text = show(snapshot, 200, 60, look=Look(screen=screen, words=evil[-3:], message=evil))
        assert not {c for c in text if not c.isprintable()} - {"\n"}, screen
    assert "[bold red]x[/bold red]" in text


@given(st.text())
def test_clean_text_has_nothing_a_terminal_obeys(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) == len(text)
    assert cleaned == "" or cleaned.isprintable()


@pytest.mark.parametrize(("text", "expected"), [("a\nb", "a⏎b"), ("\x1b[2J", "�[2J"), ("naïve 🙂", "naïve 🙂")])
def test_clean_keeps_what_can_be_shown(text: str, expected: str) -> None:
    assert clean(text) == expected
