"""Hold what a session knows beside the model, and apply decisions to it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.config.schema import RunSpec
from harness.core.actions import check_kind
from harness.core.branch import Branch, check_branch
from harness.core.knobs import apply_action
from harness.errors import Refused
from harness.types import Decision, InForce, Knobs, KnobValue


@dataclass(frozen=True)
class Settings:
    """What does not change while a session lives. ``bounds`` are the spec's, as the model allows them. ``check_policy``
    raises Refused for a kind of decision policy that this process cannot ask. The present ``era`` (0 is the first)
    began with the weights of ``era_start``, and its steps are numbered from after ``era_last_step``."""

    spec: RunSpec
    bounds: Mapping[str, tuple[float, float]]
    check_policy: Callable[[str], None]
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
    branch: Branch | None = None
    paused: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: all but the pause, which is about the process at work."""
        tree = asdict(self) | {"pins": sorted(self.pins)}
        del tree["paused"]
        return tree

    def in_force(self) -> InForce:
        """Return what the run's record says of itself while it continues."""
        return InForce(self.knobs, frozenset(self.pins), self.policy, "paused" if self.paused else "running")

    def held(self) -> set[int]:
        """Return the steps whose checkpoints must stay."""
        return self.branch.targets() if self.branch else set()

    def load_json(self, saved: Mapping[str, Any]) -> None:
        self.knobs = Knobs(**saved["knobs"])
        self.policy = saved["policy"]
        self.last_step = saved["last_step"]
        self.weights_step = saved["weights_step"]
        self.pins = set(saved["pins"])
        self.branch = Branch.load(saved.get("branch"))

    def restore_knobs(self, saved: Mapping[str, Any], changes: Mapping[str, KnobValue]) -> None:
        """Restore the knobs of a checkpoint with the ``changes`` of the rollback; a pinned one stays as the person set
        it."""
        pinned = {name: value for name, value in asdict(self.knobs).items() if name in self.pins}
        self.knobs = Knobs(**saved["knobs"] | changes | pinned)


def apply_decision(state: State, decision: Decision, settings: Settings) -> dict[str, dict[str, KnobValue]]:
    """Change ``state`` as the decision says and return ``{knob: {"from": ..., "to": ...}}``.

    The verbs that touch the model (evaluate, sample, save, rollback, branch, stop) change nothing here.
    Raises Refused, and then nothing was changed.
    """
    if decision.refused is not None:  # so says the record that is replayed
        raise Refused(decision.refused)
    action = decision.action
    check_kind(action, settings.spec.kind)
    match action.kind:
        case "set" | "focus" if state.branch is not None:
            raise Refused(f"a branch compares settings; rollback {state.branch.start} gives it up")
        case "set" | "focus":
            by_person = decision.source == "manual"
            pinned = frozenset() if by_person else state.pins
            state.knobs, changes = apply_action(state.knobs, action, settings.bounds, pinned)
            if by_person:
                state.pins |= set(changes)
            return changes
        case "rollback":
            # In force once it has gone back.
            return apply_action(state.knobs, action, settings.bounds, state.pins)[1]
        case "branch" if state.branch is not None:
            _, arm = state.branch.finish(state.weights_step, state.last_step).target(action)
            now, then = asdict(state.knobs), state.branch.knobs_of(arm)
            return {name: {"from": now[name], "to": then[name]} for name in now if now[name] != then[name]}
        case "branch":
            left = settings.spec.budget.steps - state.last_step
            check_branch(action, state.knobs, settings.bounds, state.pins, steps_left=left)
        case "release":
            if action.argument not in state.pins:
                pins = ", ".join(sorted(state.pins)) or "none"
                raise Refused(f"{action.argument} is not pinned; pinned hyperparameters: {pins}")
            state.pins.discard(str(action.argument))
        case "policy":
            settings.check_policy(str(action.argument))
            state.policy = str(action.argument)
        case "pause":
            state.paused = True
        case "resume" | "step":
            if not state.paused:
                raise Refused("the run is not paused")
            state.paused = action.kind == "step"
    return {}
