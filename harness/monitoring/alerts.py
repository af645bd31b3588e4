"""Find the alerts of a run. Pure: in go a snapshot and the alerts already sent, out come new alerts.

What lasts (no signal, a fall on dev) is told once, and again only after it has been well in between: a state that
flickers around its threshold is one alert, not twenty. So nothing has to be kept but what was told, and a resumed run
knows that from its own events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.config.names import AlertKind
from harness.core.formatting import clean
from harness.types import ActionKind, DecisionRecord, EventRecord, Snapshot
from harness.views.summary import RECENT, SILENT_TURNS, compare_looks, is_it_learning, is_it_stuck, is_kept

SILENT_S = 300.0
"""Without any sign of life, after which a run that should be at work counts as silent."""
SOON = 2
"""Steps after which errors that are there already are told, beside the RECENT ones that show them."""
LONGEST = 1500
"""Characters of a sentence; Discord takes 2,000."""
SAID: dict[str, str] = {
    "finished": "finished",
    "stopped": "stopped",
    "failed": "failed",
    "waiting": "waits for a person",
    "stuck": "is stuck",
    "dev_fell": "gets worse on dev",
    "silent": "is silent",
    "llm_silent": "has an LLM that does not answer",
}


@dataclass(frozen=True, slots=True)
class Alert:
    """Something to tell of a run after ``step``; ``kind`` is an AlertKind, or test."""

    kind: str
    step: int
    reason: str

    @property
    def text(self) -> str:
        """Begin the run's event of this alert: the same text for the same condition."""
        return f"alert {self.kind}: {clean(self.reason)}"


# ---------------------------------------------------------------- what is to be told


def find_alerts(s: Snapshot, told: Sequence[EventRecord], *, alive: bool, age: float) -> list[Alert]:
    """Find the alerts to send now. ``told`` are the run's events of earlier alerts, ``alive`` says whether a process
    drives it, ``age`` how many seconds ago that gave a sign of life."""
    ending = _ending(s, alive=alive)
    if ending is not None:
        found = [ending]
    else:
        found = [*_pause(s), *_silence(s, age)]
        if not _is_in_branch(s):  # whose arms are there to fail
            found += [*_lasting(s, told, "stuck"), *_lasting(s, told, "dev_fell")]
    found += _llm_silence(s, told)
    return [a for a in found if not any(e.step == a.step and e.text.startswith(a.text) for e in told)]


def _ending(s: Snapshot, *, alive: bool) -> Alert | None:
    run = s.run
    if not run.ended:
        gone = f"its process ({run.pid}) died; to continue: grpo resume {run.name}"
        return None if alive else Alert("failed", run.last_step, gone)
    asked = _find_newest(s, "stop")
    reasons = () if asked is None or asked.source == "manual" else (asked.evidence, f"stopped by {asked.source}")
    if run.status == "stopped" and asked is not None and run.stop_reason in reasons:
        return Alert("waiting", run.last_step, f"{asked.source} stopped it: {run.stop_reason}")
    return Alert(run.status, run.last_step, run.stop_reason)


def _find_newest(s: Snapshot, *actions: ActionKind) -> DecisionRecord | None:
    return next((d for d in reversed(s.decisions) if d.action in actions and d.refused is None), None)


def _pause(s: Snapshot) -> Iterator[Alert]:
    """Tell of a pause, but not of one that a person asked for: it is no news to them."""
    asked = _find_newest(s, "pause")
    if s.run.status == "paused" and asked is not None and asked.source != "manual":
        yield Alert("waiting", s.run.last_step, f"{asked.source} paused it: {asked.evidence}")


def _silence(s: Snapshot, age: float) -> Iterator[Alert]:
    if age > SILENT_S:
        phase = f"in phase {s.run.phase}" if s.run.phase else "since it began"
        yield Alert("silent", s.run.last_step, f"no sign of life for {SILENT_S / 60:.0f} min {phase}")


def _llm_silence(s: Snapshot, told: Sequence[EventRecord]) -> Iterator[Alert]:
    """Tell once of turns that failed one after the other, beside an end too: whoever reads that should know."""
    asked = s.asked
    last = next((event.step for event in reversed(told) if event.text.startswith("alert llm_silent:")), None)
    if asked.failed_in_a_row >= SILENT_TURNS and (last is None or asked.failing_since > last):
        turns = f"no usable answer in its last {asked.failed_in_a_row} turns, the rules decide"
        yield Alert("llm_silent", s.run.last_step, f"{turns}; {asked.last_failure}")


def _is_in_branch(s: Snapshot) -> bool:
    last = _find_newest(s, "branch", "rollback")
    return last is not None and last.action == "branch" and not is_kept(last)


def _lasting(s: Snapshot, told: Sequence[EventRecord], kind: AlertKind) -> Iterator[Alert]:
    """Tell of a state that has begun: it is bad now, and was good at some time since it was told last."""
    is_bad, was_good_since = STATES[kind]
    reason = is_bad(s)
    last = next((event.step for event in reversed(told) if event.text.startswith(f"alert {kind}:")), None)
    if reason and (last is None or was_good_since(s, last)):
        yield Alert(kind, s.run.last_step, reason)


def _is_stuck(s: Snapshot) -> str:
    """Say why, empty when it is not. It must have been so for long enough that the decision policy had its turn."""
    answer = is_it_stuck(s)
    earlier = SOON if answer.word == "REWARD FAILS" else RECENT  # which the rules only answer where it is worse
    before = is_it_stuck(replace(s, steps=s.steps[:-earlier]))
    lasts = answer.style == before.style == "bad" and len(s.steps) >= RECENT + earlier
    told = answer.text if answer.word == "YES" else f"{answer.word.lower()} {answer.text}"
    return told if lasts else ""


def _had_signal_since(s: Snapshot, step: int) -> bool:
    steps = [taken for taken in s.steps if taken.step > step]
    windows = (tuple(steps[i : i + RECENT]) for i in range(len(steps) - RECENT + 1))
    return any(is_it_stuck(replace(s, steps=window)).style == "good" for window in windows)


def _live_looks(s: Snapshot) -> Snapshot:
    """Leave out looks at weights that a rollback or a branch has left: those are not what the run has now."""
    live = {step.step for step in s.steps}
    first = min(live, default=0)
    return replace(s, evaluations=tuple(e for e in s.evaluations if e.step in live or e.step < first))


def _has_fallen(s: Snapshot) -> str:
    answer = is_it_learning(_live_looks(s))
    return answer.text if answer.word == "FALLING" else ""


def _was_near_its_best_since(s: Snapshot, step: int) -> bool:
    """Test for within half the noise that makes a fall: of the interval between the best and the newest look."""
    looks = _live_looks(s).dev
    best = max(looks, key=lambda look: look.rank)
    change = compare_looks(s, best, looks[-1])
    near = best.score - (change.high - change.low) / 4
    return any(look.score >= near for look in looks if look.step > step)


STATES: dict[str, tuple[Callable[[Snapshot], str], Callable[[Snapshot, int], bool]]] = {
    "stuck": (_is_stuck, _had_signal_since),
    "dev_fell": (_has_fallen, _was_near_its_best_since),
}


# ---------------------------------------------------------------- the message


def build_message(alert: Alert, s: Snapshot, *, now: float) -> dict[str, Any]:
    """Build one JSON body that many receivers take: Slack, Mattermost and Google Chat read ``text``, Discord
    ``content``, ntfy what its template names (README.md), a program of one's own all of it. ``now`` in seconds since
    1970."""
    figures = compute_figures(s)
    dev, test = figures.get("dev"), figures.get("test")
    title = f"{s.run.name} {SAID[alert.kind]}"
    parts = [f"{title} at step {alert.step}: {alert.reason}"]
    if dev is not None:
        parts.append(f"dev {dev['first']:.3f} -> {dev['last']:.3f}, best {dev['best']:.3f} at step {dev['best_step']}")
    if test is not None:
        parts.append(f"test {test['first']:.3f} -> {test['last']:.3f}")
    told = {"run": s.run.name, "status": s.run.status, "host": s.run.host, "figures": figures}
    return _compose(alert, ". ".join(parts), title=title, at=now) | told


def build_test_message(name: str, *, host: str, now: float) -> dict[str, Any]:
    """Build a test message with the same fields."""
    alert = Alert("test", 0, "sent by grpo doctor --try")
    text = f"{name} would alert you like this: {alert.reason}"
    told = {"run": name, "status": "running", "host": host, "figures": {}}
    return _compose(alert, text, title=f"{name}: a test", at=now) | told


def _compose(alert: Alert, text: str, *, title: str, at: float) -> dict[str, Any]:
    shown = make_inert(text)
    told = {"event": alert.kind, "step": alert.step, "reason": clean(alert.reason), "at": at}
    return {"text": shown, "content": shown, "title": make_inert(title)} | told


def compute_figures(s: Snapshot) -> dict[str, Any]:
    """Compute the figures of a message: scores on dev and test, reward and mixed groups of the newest step."""
    figures: dict[str, Any] = {"steps": s.run.last_step, "budget_steps": s.run.budget_steps}
    for split in ("dev", "test"):
        if looks := [look for look in s.evaluations if look.split == split]:
            best = max(looks, key=lambda look: look.rank)
            course = {"first": looks[0].score, "last": looks[-1].score}
            figures[split] = course | {"best": best.score, "best_step": best.step}
    for name, metric in (("reward", "reward/mean"), ("mixed_rate", "group/mixed_rate")):
        value = s.steps[-1].metrics.get(metric) if s.steps else None
        if value is not None and math.isfinite(value):
            figures[name] = value
    return figures


def make_inert(text: str) -> str:
    """Put text on one line in which nothing is a mention or a link of a chat: reasons may hold what a model or a reward
    wrote."""
    shown = clean(text).replace("@", "@\u200b").replace("<", "‹")
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"
