"""Traffic lights: green, yellow, red, with patience going up and hysteresis going down.

A light changes for the worse when the last `patience` readings all asked for it (one is enough at twice the limit), and
for the better when as many readings in a row are below four fifths of the limit. So one odd round is no alarm, and a
signal that plays about its limit gives one alarm and not twenty. The state is plain numbers: it lies in checkpoints,
and a resumed run goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from accord.diagnose.rules import Reading, Rule

Light = Literal["green", "yellow", "red"]
LIGHTS: tuple[Light, ...] = ("green", "yellow", "red")
WARNING = 0.5
"""Share of the way to the limit at which a light is yellow."""
URGENT = 2.0
"""From here on one reading is enough."""
RELEASE = 0.8
"""A light goes back below this share of what turned it on."""


@dataclass(frozen=True)
class Change:
    """A light that changed."""

    rule: str
    before: Light
    after: Light
    progress: float
    """Of the reading that changed it; 1 = at the limit."""


def wanted(progress: float, *, share: float = 1.0) -> int:
    """Index in LIGHTS that a reading asks for.

    Args:
        progress: 1 = at the limit.
        share: of the limits; below 1 for going back.
    """
    return 2 if progress >= share else 1 if progress >= WARNING * share else 0


def read_lights(
    rules: Sequence[Rule],
    now: Mapping[str, Reading],
    first: Mapping[str, Reading],
    lowest: Mapping[str, Reading],
    state: dict[str, Any],
    patience: int,
) -> list[Change]:
    """Update the lights by one reading of their signals.

    Args:
        rules: those whose signals were read now; a rule whose signals are missing keeps its light.
        now: readings of the policy.
        first: readings of the SFT model.
        lowest: lowest readings so far.
        state: changed in place: rule -> {light, progress, worse, better}; start with an empty dict.
        patience: readings in a row that change a light, of rules that have none of their own.

    Returns:
        The lights that changed, in the order of the rules.
    """
    changes: list[Change] = []
    for rule in rules:
        progress = rule.progress(now, first, lowest)
        if progress is None:
            continue
        own: dict[str, Any] = state.setdefault(rule.name, {"light": "green", "progress": 0.0, "worse": [], "better": 0})
        at = LIGHTS.index(own["light"])
        most = LIGHTS.index(rule.most)
        own["progress"] = progress
        needed = rule.patience or patience
        own["worse"] = [*own["worse"], min(wanted(progress), most)][-needed:]
        new = at
        if len(own["worse"]) == needed and min(own["worse"]) > at:
            new = min(own["worse"])
        if progress >= URGENT:
            new = most
        below = min(wanted(progress, share=RELEASE), most)
        own["better"] = own["better"] + 1 if below < at else 0
        if new == at and own["better"] >= patience:
            new = below
        if new != at:
            own["light"], own["better"] = LIGHTS[new], 0
            changes.append(Change(rule.name, LIGHTS[at], LIGHTS[new], progress))
    return changes


def worst(state: Mapping[str, Mapping[str, Any]]) -> Light:
    """The worst of all lights; green when there are none."""
    return LIGHTS[max((LIGHTS.index(own["light"]) for own in state.values()), default=0)]
