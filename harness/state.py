"""What a session knows beside the model, and what a decision does to it before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.errors import Refused
from harness.knobs import apply_changes, compute_focus
from harness.types import Decision, Knobs, KnobValue


@dataclass(frozen=True)
class Settings:
    """What a session takes from the spec. The present ``era`` (0 is the first) began with the weights of
    ``era_start``, and its steps are numbered from after ``era_last_step``."""

    seed: int
    bounds: Mapping[str, tuple[float, float]]
    reward_range: tuple[float, float]
    errored_limit: float
    evaluate_every: int
    sample_every: int
    samples_per_step: int
    checkpoint_every: int
    checkpoint_keep: int
    policy_kinds: tuple[str, ...]
    era: int = 0
    era_start: int = 0
    era_last_step: int = 0


@dataclass
class State:
    """``last_step`` never goes back, ``weights_step`` may: it is the step whose weights are in memory."""

    knobs: Knobs
    policy: str
    last_step: int = 0
    weights_step: int = 0
    pins: set[str] = field(default_factory=set)
    paused: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "knobs": asdict(self.knobs),
            "policy": self.policy,
            "last_step": self.last_step,
            "weights_step": self.weights_step,
            "pins": sorted(self.pins),
        }

    def in_force(self) -> dict[str, Any]:
        """What the run's record says of itself while it goes on."""
        status = "paused" if self.paused else "running"
        return {"knobs": self.knobs, "pins": sorted(self.pins), "policy": self.policy, "status": status}

    def load_json(self, saved: Mapping[str, Any]) -> None:
        self.knobs = Knobs(**saved["knobs"])
        self.policy = saved["policy"]
        self.last_step = saved["last_step"]
        self.weights_step = saved["weights_step"]
        self.pins = set(saved["pins"])

    def restore_knobs(self, saved: Mapping[str, Any]) -> None:
        """The knobs of a checkpoint, but a pinned one stays as the person set it."""
        pinned = {name: value for name, value in asdict(self.knobs).items() if name in self.pins}
        self.knobs = Knobs(**saved["knobs"] | pinned)


def apply_decision(state: State, decision: Decision, settings: Settings) -> dict[str, dict[str, KnobValue]]:
    """Change ``state`` as the decision says and return ``{knob: {"from": ..., "to": ...}}``.

    The verbs that touch the model (evaluate, sample, save, rollback, stop) change nothing here.
    Raises Refused, and then nothing was changed.
    """
    action = decision.action
    match action.kind:
        case "set" | "focus":
            wanted = dict(action.changes)
            if action.kind == "focus" and not wanted:
                wanted["focus"] = compute_focus(str(action.argument), state.knobs.focus, settings.bounds)
            by_person = decision.source == "manual"
            pinned = sorted(set(wanted) & state.pins)
            if pinned and not by_person:
                raise Refused(f"{', '.join(pinned)} is pinned by a person until released")
            state.knobs, changes = apply_changes(state.knobs, wanted, settings.bounds)
            if by_person:
                state.pins |= set(wanted)
            return changes
        case "release":
            if action.argument not in state.pins:
                pins = ", ".join(sorted(state.pins)) or "none"
                raise Refused(f"{action.argument} is not pinned; pinned knobs: {pins}")
            state.pins.discard(str(action.argument))
        case "policy":
            if action.argument not in settings.policy_kinds:
                raise Refused(f"no decision policy named {action.argument}: {', '.join(settings.policy_kinds)}")
            state.policy = str(action.argument)
        case "pause":
            state.paused = True
        case "resume" | "step":
            if not state.paused:
                raise Refused("the run is not paused")
            state.paused = action.kind == "step"
        case _:
            pass
    return {}
