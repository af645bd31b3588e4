"""Try to fool and to break a reward before a run. Pure: it asks a Judge and checks the answers.

Every check passes, warns or fails, with the offending row, text and reward. Where "nothing" is asked for, it is the
lowest reward of the range (or 0 where penalties go below).

    ground truth  no row is refused by the reward itself (one that a constant program solves, one that cannot be read)
    errors        no answer makes the reward fail: an exception, None, NaN, a value out of range
    constant      not everything has the same reward, guesses in the shapes that rewards look for included
    gold          the reference answer of every row has full marks (harness/checks/references.py)
    silence       nothing for empty, blank and meaningless texts and for empty tags
    echo          nothing for the prompt repeated (by chance on a few rows)
    tricks        no more than 0.6 for several answers, a denied one, or one that is taken back
    others        less than half for the right answers of other rows, or for the most common answer
    partial       a wrong answer in the right form is worth at least what silence is
    pure          the same text has the same reward again, in another order, alone, in a process with another hash seed
    network       the reward did without a network
    latency       a completion is judged well within the time limit
    spread        the reward tells answers to one prompt apart                                      (only warns)
    in prompt     the answer does not stand in the prompt                                           (only warns)

A reward that grades or shapes answers (reward.graded, or found to) may well pay for what gold, silence, echo, tricks,
others and partial are about: there these only warn. So they do for a sum of several functions, unless the text has full
marks.

A judge beside such functions, or alone, is tried as harness/checks/judge_preflight.py says.

What a model's own groups look like is for ``grpo probe`` to say, which samples some.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any, Literal

from harness.checks.references import (
    USUAL_SHAPES,
    Judge,
    Reference,
    Shapes,
    Writer,
    find_graded,
    find_writer,
    judge_references,
)
from harness.types import Prompt, Score
from rewards.contract import propose_range, read_outside

Level = Literal["pass", "warn", "fail"]

GOLD_S = 3.0
"""Seconds for the reference answers. A slow reward is shown as many rows as it judges in that time."""
TRUTHS_S = 10.0
"""Seconds for asking the reward whether it can read the ground truths."""
GUESSED = 2
"""Rows for which answers are guessed in every form, where none is right."""
WORKED = "Step 1: First, I look at it.\n\n1. It is so.\n2. Second, it follows.\n- Therefore:\n\n"
"""What a reward for reasoning in steps looks for."""
LONG = 30
"""Times that, a text as of a model that does not end."""
PROBE_S = 2.0
MOST_ROWS = 24
"""Rows on which every probe is tried, fewer for a slow reward."""
LEAST_ROWS = 3
TIMED = 50
"""Reference answers that are judged one by one, for their times."""
OTHERS = 3
BY_CHANCE = 0.1
"""Share of rows on which a text may be right without meaning to."""
PARTIAL = 0.6
"""Of the range: what honest partial credit goes up to (rewards/function_call.py)."""
COMMON, ALWAYS = 0.3, 0.9
"""Share of rows for which one constant answer is right: worth a word, and no task any more."""
SHAPED = frozenset({"gold", "silence", "echo", "tricks", "others", "partial"})
"""Checks of what a reward that grades or shapes may pay for."""
TOLD = 2
"""Failed checks of which an error message says more than the name."""
SILENT = {
    "nothing": "",
    "white space": " \n\t \n",
    "garbage": "qwv zxcv &%$# ,,, mnbv",
    "empty boxes and tags": r"\boxed{} #### <think></think><answer></answer>",
    "empty SOLUTION": "<start_working_out><end_working_out><SOLUTION></SOLUTION>",
    "an empty answer": "<answer></answer>",
    "an empty box": r"\boxed{}",
    "an empty program": "```python\n```",
    "an empty call": "<tool_call></tool_call>",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one check; ``row`` is the start of the prompt, ``text`` what was judged there."""

    check: str
    level: Level
    said: str
    row: str = ""
    text: str = ""
    reward: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """``graded`` says that no answer at hand is fully right, though they do not all earn the same: the reward grades
    answers, and does not tell right from wrong. ``cost_usd`` is what asking judges cost."""

    outcomes: tuple[Outcome, ...]
    graded: bool = False
    cost_usd: float = 0.0

    @property
    def verdict(self) -> Level:
        levels = {outcome.level for outcome in self.outcomes}
        return "fail" if "fail" in levels else "warn" if "warn" in levels else "pass"

    def to_json(self) -> dict[str, Any]:
        outcomes = [asdict(outcome) for outcome in self.outcomes]
        found = {"verdict": self.verdict, "graded": self.graded, "outcomes": outcomes}
        return found | ({"cost_usd": self.cost_usd} if self.cost_usd else {})


@dataclass(frozen=True, slots=True)
class RewardProbe:
    """How to ask the reward: as a run would (``judge``) and in a process with another hash seed (``elsewhere``).

    ``write`` and ``shapes`` say how a right answer may look, ``refuse`` of a ground truth why it cannot be trained on,
    ``words`` why any words are right there, so that no text can fool it, ``attempts`` what the network was asked for so
    far, ``graded`` what the spec says of the reward, None where that is to be found out. ``several`` functions are
    added up.
    """

    judge: Judge
    elsewhere: Judge
    range: tuple[float, float]
    time_limit: float
    write: Writer | None = None
    shapes: Shapes = USUAL_SHAPES
    refuse: Callable[[str], str | None] | None = None
    words: Callable[[str], str | None] | None = None
    attempts: Callable[[], Sequence[str]] = list
    graded: bool | None = None
    several: bool = False

    def share(self, score: Score) -> float:
        """Return the reward as a share of the range, in [0, 1]; 0 where errored, which is an outcome of its own."""
        low, high = self.range
        return 0.0 if score.reward is None else (score.reward - low) / (high - low)

    @property
    def nothing(self) -> float:
        return max(0.0, self.range[0]) + 1e-9


@dataclass(frozen=True, slots=True)
class Probe:
    """A text put to a row and what came of it. ``kind`` is the check it belongs to, ``name`` says what it is."""

    kind: str
    name: str
    prompt: Prompt
    text: str
    score: Score


def run_preflight(rows: Sequence[Prompt], reward: RewardProbe) -> Report:
    """Run every check on ``rows``, in an order that has nothing to do with their kind. Takes seconds."""
    write = find_writer(rows, reward.judge, reward.write, reward.shapes)
    references = list(judge_references(rows, reward.judge, write, seconds=GOLD_S))
    right = [one for one in references if one.passed and not (reward.words and reward.words(one.prompt.ground_truth))]
    shapes = replace(reward.shapes, own=reward.write)
    grades = [] if right or reward.graded is False else find_graded(rows, reward.judge, shapes)
    references, graded = grades or references, bool(reward.graded or grades)
    times, alone = _time(right[:TIMED], reward.judge)
    asked = _choose_probes(rows, right, shapes, seconds=fmean(times) if times else 0.0)
    scores = reward.judge([prompt for _, _, prompt, _ in asked], [text for *_, text in asked])
    probes = [Probe(*one, score) for one, score in zip(asked, scores, strict=True)]
    judged: list[Probe | Reference] = [*probes, *references]
    outside = any(read_outside(one.score.error) is not None for one in judged)
    if outside or all(probe.score.errored for probe in probes):  # each further question may take its whole time limit
        return Report((_check_truths(rows, reward), _check_errors(judged, reward), _check_network(reward)), graded)
    outcomes = (
        _check_truths(rows, reward),
        _check_errors(judged, reward),
        _check_constant(judged),
        _check_gold(references, len(rows), found=bool(grades)),
        _check_silence(probes, reward),
        _check_echo(probes, reward),
        _check_tricks(probes, reward),
        _check_others(probes, reward),
        _check_partial(probes, reward),
        _check_pure(probes, alone, reward),
        _check_network(reward),
        _check_latency(times, reward),
        _check_spread(probes, right),
        _check_in_prompt(rows[:TIMED], reward),
    )
    return Report(tuple(_allow(outcome) if graded else outcome for outcome in outcomes), graded)


def _allow(outcome: Outcome) -> Outcome:
    """The outcome where the reward grades or shapes answers."""
    if outcome.check not in SHAPED or outcome.level != "fail":
        return outcome
    return replace(outcome, level="warn", said=f"{outcome.said} (the reward grades answers, so this may be meant)")


# ---------------------------------------------------------------- what is asked


def _time(references: Sequence[Reference], judge: Judge) -> tuple[list[float], list[tuple[Reference, Score]]]:
    """Seconds of each reference judged alone, and what it scored so; as many as PROBE_S allows."""
    times, alone = [], []
    for reference in references:
        started = time.perf_counter()
        [score] = judge([reference.prompt], [reference.text])
        times.append(time.perf_counter() - started)
        alone.append((reference, score))
        if math.fsum(times) > PROBE_S / 4:
            break
    return times, alone


def _choose_probes(
    rows: Sequence[Prompt], right: Sequence[Reference], shapes: Shapes, *, seconds: float
) -> list[tuple[str, str, Prompt, str]]:
    """Check, name, row and text of everything that is asked, when one answer takes ``seconds``."""
    chosen: list[Reference | Prompt] = list(right[:MOST_ROWS]) or [rows[i] for i in range(min(len(rows), MOST_ROWS))]
    per_row = [list(_probe(row, right, shapes)) for row in chosen]
    size = fmean(map(len, per_row))
    n = MOST_ROWS if seconds * size * MOST_ROWS <= PROBE_S else max(LEAST_ROWS, int(PROBE_S / (seconds * size)))
    long = ("guess", "a long text", rows[0], WORKED * LONG)
    return [long, *(probe for row in per_row[:n] for probe in row), *([] if right else _guess(rows[:GUESSED], shapes))]


def _guess(rows: Sequence[Prompt], shapes: Shapes) -> Iterator[tuple[str, str, Prompt, str]]:
    """The ground truth, and words of no meaning, in every form."""
    for prompt in rows:
        for write in shapes.writers(rows):
            if (text := write(prompt.ground_truth)) is not None:
                yield "guess", "a guess", prompt, text
        for form in shapes.forms:
            yield "guess", "a wrong guess", prompt, form.replace("{}", "So it goes", 1)
        yield "guess", "a worked guess", prompt, f"{WORKED}{shapes.answer(prompt.ground_truth)}"


def _probe(
    row: Reference | Prompt, right: Sequence[Reference], shapes: Shapes
) -> Iterator[tuple[str, str, Prompt, str]]:
    prompt = row if isinstance(row, Prompt) else row.prompt
    for name, text in SILENT.items():
        yield "silence", name, prompt, text
    yield "echo", "the prompt", prompt, prompt.text
    if isinstance(row, Prompt):
        return
    yield "gold", "the reference answer", prompt, row.text
    answer = shapes.answer
    truth = answer(prompt.ground_truth)
    others = [other for other in right if answer(other.prompt.ground_truth) != truth]
    others = random.Random(prompt.id).sample(others, min(OTHERS, len(others)))
    for other in others:
        yield "others", "the right answer of another row", prompt, other.text
    [(common, times)] = Counter(answer(other.prompt.ground_truth) for other in right).most_common(1)
    if times > 1:
        most = next(o.text for o in right if answer(o.prompt.ground_truth) == common)
        yield "common", "the most common answer", prompt, most
    for name, text in _tricks(row, others, answer).items():
        yield "tricks", name, prompt, text


def _tricks(row: Reference, others: Sequence[Reference], answer: Callable[[str], str]) -> dict[str, str]:
    """Texts with the right answer in them that do not give it."""
    if not others:
        return {}
    gold, wrong = row.text, others[0].text
    found = {"the right answer, then a wrong one": f"{gold}\n\n{wrong}"}
    truth, false = answer(row.prompt.ground_truth), answer(others[0].prompt.ground_truth)
    worked = "\\boxed" in truth or "####" in truth
    if row.write is None or worked or truth.lstrip().startswith("{"):  # calls, programs: words around them say nothing
        return found
    listed = ", ".join(sorted({truth, *(answer(other.prompt.ground_truth) for other in others)}))
    for name, text in {
        "several answers": f"{wrong}\n{gold}\n{others[-1].text}",
        "a denied answer": f"The answer is not {gold}",
        "an answer taken back": f"{gold}\nNo, that is wrong.",
        "right while thinking, wrong at the end": f"<think>{gold}</think>{wrong}",
        "one answer or another": row.write(f"{truth} or {false}"),
        "a list of answers": row.write(listed),
        "a denied answer in the right form": row.write(f"not {truth}"),
    }.items():
        if text:
            found[name] = text
    return found


# ---------------------------------------------------------------- what came of it


def _check_truths(rows: Sequence[Prompt], reward: RewardProbe) -> Outcome:
    if reward.refuse is None:
        return Outcome("ground truth", "pass", "not asked: the reward has no check_ground_truth")
    refused, asked, until = [], 0, time.monotonic() + TRUTHS_S
    while asked < len(rows) and time.monotonic() < until:
        prompt = rows[asked]
        asked += 1
        if problem := reward.refuse(prompt.ground_truth):
            refused.append((prompt, problem))
    seen = f"{asked:,}" + (f" of {len(rows):,}" if asked < len(rows) else "")
    if refused:
        said = f"{len(refused):,} of {asked:,} rows cannot be trained on, the first: {refused[0][1]}"
        return Outcome("ground truth", "fail", said, shorten_text(refused[0][0].text))
    return Outcome("ground truth", "pass", f"{seen} rows can be judged")


def _check_gold(references: Sequence[Reference], rows: int, *, found: bool) -> Outcome:
    """``found``: the references are what the reward was found to grade."""
    if found:
        said = "no answer at hand is fully right: dev is judged by mean reward, where gaming it looks like success"
        return Outcome("gold", "warn", said)
    if not references:
        said = "no right answer is known in a form that the reward accepts: give rows a demonstration"
        return Outcome("gold", "warn", said)
    failed = [reference for reference in references if not reference.passed]
    seen = f"{len(references):,} rows" + (f" of {rows:,} (grpo check scores all)" if len(references) < rows else "")
    if failed:
        first = failed[0]
        why = first.score.error or first.score.reason or "wrong"
        said = f"{len(failed):,} of {seen}: the reference answer does not score 1.0, the first: {why}"
        return Outcome("gold", "fail", said, *_where(first))
    return Outcome("gold", "pass", f"the reference answers of {seen} score 1.0")


def _check_errors(judged: Sequence[Probe | Reference], reward: RewardProbe) -> Outcome:
    errored = [one for one in judged if one.score.errored]
    found = [(one, value) for one in judged if (value := read_outside(one.score.error)) is not None]
    if found:
        values = [value for _, value in found]
        low, high = reward.range
        said = (
            f"{len(found)} of {len(judged):,} texts have a reward outside the range [{low:g}, {high:g}]: set "
            f"reward.range = {propose_range([low, high, *values])}, the lowest and the highest seen"
        )
        return Outcome("errors", "fail", said, *_where(max(found, key=lambda pair: abs(pair[1]))[0]))
    if errored:
        said = f"the reward failed on {len(errored)} of {len(judged):,} texts: {errored[0].score.error}"
        return Outcome("errors", "fail", said, *_where(errored[0]))
    return Outcome("errors", "pass", f"a finite number within the range for {len(judged):,} texts")


def _check_constant(judged: Sequence[Probe | Reference]) -> Outcome:
    rewards = Counter(one.score.reward for one in judged)
    if len(rewards) == 1:
        [only] = rewards
        said = f"every one of {rewards.total():,} texts has the reward {only}, right, wrong and empty ones alike"
        if not any(one.score.correct for one in judged):
            said += "; if none of them has the form that it looks for, give rows a demonstration"
        return Outcome("constant", "fail", said, *_where(judged[0]))
    return Outcome("constant", "pass", f"{len(rewards)} different rewards")


def _check_silence(probes: Sequence[Probe], reward: RewardProbe) -> Outcome:
    if paid := [probe for probe in _of(probes, "silence") if _reward_of(probe) > reward.nothing]:
        return _paid_for("silence", paid, reward)
    return Outcome("silence", "pass", f"nothing for {', '.join(list(SILENT)[:3])} and empty tags")


def _check_echo(probes: Sequence[Probe], reward: RewardProbe) -> Outcome:
    echoes = _of(probes, "echo")
    paid = [probe for probe in echoes if _reward_of(probe) > reward.nothing]
    if not paid:
        return Outcome("echo", "pass", "nothing for repeating the prompt")
    level: Level = _level(paid, reward) if len(paid) > BY_CHANCE * len(echoes) else "warn"
    said = f"paid for repeating the prompt on {len(paid)} of {len(echoes)} rows"
    return Outcome("echo", level, said, *_where(max(paid, key=_reward_of)))


def _check_tricks(probes: Sequence[Probe], reward: RewardProbe) -> Outcome:
    tricks = _of(probes, "tricks")
    if not tricks:
        return Outcome("tricks", "pass", f"none can be made: {_why_alone(probes)}")
    paid = [probe for probe in tricks if probe.score.correct or reward.share(probe.score) > PARTIAL]
    if paid:
        return _paid_for("tricks", paid, reward)
    return Outcome("tricks", "pass", f"{len({probe.name for probe in tricks})} kinds, none paid as if it were right")


def _check_others(probes: Sequence[Probe], reward: RewardProbe) -> Outcome:
    others, common = _of(probes, "others"), _of(probes, "common")
    if common and (right := fmean(probe.score.correct for probe in common)) > COMMON:
        level: Level = "fail" if right > ALWAYS else "warn"
        said = f"one constant answer is right on {right:.0%} of the rows"
        return Outcome("others", level, said, *_where(next(p for p in common if p.score.correct)))
    if not others:
        return Outcome("others", "pass", _why_alone(probes))
    right, mean = fmean(p.score.correct for p in others), fmean(reward.share(p.score) for p in others)
    said = f"right answers of other rows are right on {right:.0%} and earn {mean:.2f} of the range"
    if right > BY_CHANCE or mean > 0.5:
        level = "warn" if reward.several and right <= BY_CHANCE else "fail"
        return Outcome("others", level, said, *_where(max(others, key=_reward_of)))
    return Outcome("others", "pass", said)


def _check_partial(probes: Sequence[Probe], reward: RewardProbe) -> Outcome:
    silent: dict[str, Probe] = {}
    for probe in _of(probes, "silence"):
        silent[probe.prompt.id] = max(probe, silent.get(probe.prompt.id, probe), key=_reward_of)
    for probe in _of(probes, "others"):
        best = silent[probe.prompt.id]
        if not probe.score.errored and _reward_of(probe) < _reward_of(best) - 1e-9:
            said = f"a wrong answer in the right form earns less than {best.name} ({_reward_of(best):g})"
            return Outcome("partial", "warn" if reward.several else "fail", said, *_where(probe))
    return Outcome("partial", "pass", "a wrong answer in the right form earns at least what silence does")


def _check_pure(probes: Sequence[Probe], alone: Sequence[tuple[Reference, Score]], reward: RewardProbe) -> Outcome:
    for how, judge, seed in (("again in another order", reward.judge, 1), ("in another process", reward.elsewhere, 2)):
        order = random.Random(seed).sample(range(len(probes)), len(probes))
        again = judge([probes[i].prompt for i in order], [probes[i].text for i in order])
        for i, score in zip(order, again, strict=True):
            if not _same(probes[i].score, score):
                said = f"{_say(probes[i].score)}, {how} {_say(score)}: the reward is not a function of the texts"
                return Outcome("pure", "fail", said, *_where(probes[i]))
    for reference, score in alone:
        if not _same(reference.score, score):
            said = f"{_say(reference.score)} in a batch, alone {_say(score)}: the reward depends on its neighbours"
            return Outcome("pure", "fail", said, *_where(reference))
    return Outcome("pure", "pass", f"{len(probes)} texts: the same again, alone, elsewhere, with another hash seed")


def _check_network(reward: RewardProbe) -> Outcome:
    if attempts := reward.attempts():
        said = f"the reward wants a network, which preflight denies it: {'; '.join(attempts[:3])}"
        return Outcome("network", "fail", said)
    return Outcome("network", "pass", "none was asked for")


def _check_latency(times: Sequence[float], reward: RewardProbe) -> Outcome:
    if not times:
        return Outcome("latency", "pass", "not measured: no right answer is known")
    slowest = sorted(times)[math.ceil(0.99 * len(times)) - 1]
    said = f"median {sorted(times)[len(times) // 2] * 1e3:.1f} ms, p99 {slowest * 1e3:.1f} ms"
    if slowest > reward.time_limit / 2:
        return Outcome("latency", "warn", f"{said}, and reward.time_limit is {reward.time_limit:g} s")
    return Outcome("latency", "pass", said)


def _check_spread(probes: Sequence[Probe], right: Sequence[Reference]) -> Outcome:
    rewards: dict[str, set[float | None]] = {}
    for probe in probes:
        rewards.setdefault(probe.prompt.id, set()).add(probe.score.reward)
    flat = [probe for probe in probes if len(rewards[probe.prompt.id]) == 1]
    if flat:
        said = f"on {len({p.prompt.id for p in flat})} of {len(rewards)} rows every answer has the same reward"
        return Outcome("spread", "warn", said, *_where(flat[0]))
    if not right:
        return Outcome("spread", "warn", "no right answer is known, so what tells good from bad was not seen")
    return Outcome("spread", "pass", f"at least {min(map(len, rewards.values()))} rewards on every row")


def _check_in_prompt(rows: Sequence[Prompt], reward: RewardProbe) -> Outcome:
    answer = reward.shapes.answer
    seen = [
        p for p in rows
        if re.search(rf"(?<!\w){re.escape(answer(p.ground_truth).strip())}(?!\w)", p.text, re.IGNORECASE)
    ]  # fmt: skip
    if len(seen) > BY_CHANCE * len(rows):
        said = f"the ground truth stands in the prompt of {len(seen)} of {len(rows)} rows"
        return Outcome("in prompt", "warn", said, shorten_text(seen[0].text), shorten_text(seen[0].ground_truth))
    return Outcome("in prompt", "pass", f"the ground truth stands in the prompt of {len(seen)} of {len(rows)} rows")


# ---------------------------------------------------------------- small things


def _paid_for(check: str, paid: Sequence[Probe], reward: RewardProbe) -> Outcome:
    names = ", ".join(sorted({probe.name for probe in paid}))
    return Outcome(check, _level(paid, reward), f"paid for {names}", *_where(max(paid, key=_reward_of)))


def _level(paid: Sequence[Probe], reward: RewardProbe) -> Level:
    """How bad it is that these are paid: of several functions some pay for the form alone, and all together do not."""
    return "warn" if reward.several and not any(probe.score.correct for probe in paid) else "fail"


def _why_alone(probes: Sequence[Probe]) -> str:
    known = _of(probes, "gold")
    return "no two rows have different reference answers" if known else "no right answer is known"


def _of(probes: Sequence[Probe], kind: str) -> list[Probe]:
    return [probe for probe in probes if probe.kind == kind]


def _reward_of(probe: Probe) -> float:
    return -math.inf if probe.score.reward is None else probe.score.reward


def _same(one: Score, other: Score) -> bool:
    if one.reward is None or other.reward is None:
        return one.reward is other.reward
    return one.correct == other.correct and math.isclose(one.reward, other.reward, abs_tol=1e-9)


def _say(score: Score) -> str:
    return "errored" if score.reward is None else f"{score.reward:g}"


def _where(one: Probe | Reference) -> tuple[str, str, float | None]:
    return shorten_text(one.prompt.text), shorten_text(one.text), one.score.reward


def shorten_text(text: str) -> str:
    """Return the beginning of a prompt or an answer."""
    return text if len(text) <= 80 else f"{text[:77]}..."


def may_be_meant(report: Report) -> bool:
    """Whether all that failed is what a reward that grades or shapes answers may pay for."""
    failed = {outcome.check for outcome in report.outcomes if outcome.level == "fail"}
    return bool(failed) and failed <= SHAPED


def describe(report: Report) -> str:
    """Describe the failed checks in one line."""
    failed = [outcome for outcome in report.outcomes if outcome.level == "fail"]
    more = [f"and {', '.join(f.check for f in failed[TOLD:])} (grpo preflight tells)"] if failed[TOLD:] else []
    return "; ".join([f"{f.check}: {f.said}{_place(f)}" for f in failed[:TOLD]] + more)


def _place(outcome: Outcome) -> str:
    if not outcome.row:
        return ""
    reward = "" if outcome.reward is None else f", reward {outcome.reward:g}"
    text = f", {outcome.text!r}" if outcome.text or outcome.reward is not None else ""
    return f" (row {outcome.row!r}{text}{reward})"


def to_rows(report: Report) -> list[Mapping[str, str]]:
    """Return level, check and message of each outcome, for a table."""
    return [{"level": f.level, "check": f.check, "said": f.said + _place(f)} for f in report.outcomes]
