"""What sections and models are called, in which order they stand, and which colours they have.

Everything is told from the known stages, so that a new one needs no entry here.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence

from accord.pipeline import Stage, stage_of
from accord.report.svg import NUM_SLOTS
from accord.stages import STAGES

MANY = 8
"""From this many models on, figures show some of them, tables show all, and sentences count them."""

_KIND_SLOTS = {"reward_model": 4, "preferences": 5, "samples": 6, "results": 7}
_ACRONYM = re.compile("[A-Z]{2}")
_INNER = re.compile("(?<=[a-z])(?=[A-Z]{3})")


def known_stage(section: str) -> Stage | None:
    """The stage that a section configures: `ppo` for `ppo`, `ppo_2` and `ppo_small`."""
    return stage_of(section, STAGES)


def kind_of(section: str) -> str:
    """The kind of artifact that a section makes; empty for one that is no known stage."""
    stage = known_stage(section)
    return "" if stage is None else stage.kind


def place(section: str) -> int:
    """Where a section stands in a standard run; unknown ones come last."""
    stage = known_stage(section)
    return len(STAGES) if stage is None else list(STAGES).index(stage.name)


def model_name(key: str) -> str:
    """Return the name of a section or model as a reader knows it: `SFT`, `Online DPO`, `DPO hinge`, `reward`.

    Acronyms are written as in the name of the stage's config.
    """
    stage = known_stage(key)
    if stage is None:
        return key
    title = stage.config.__name__.removesuffix("Config")
    name = _INNER.sub(" ", title) if _ACRONYM.search(title) else stage.name.replace("_", " ")
    return f"{name} {key.removeprefix(stage.name).removeprefix('_')}".strip()


def told(section: str, otherwise: str) -> str:
    """Return what a section does, in the words of its config's first line."""
    stage = known_stage(section)
    text = "" if stage is None else (stage.config.__doc__ or "").strip().partition("\n")[0]
    return text.rstrip(".") or otherwise


def colours(sections: Iterable[str], kinds: Mapping[str, str] | None = None) -> dict[str, int]:
    """Return a colour slot a section: policies take the colours in turn, everything else has that of its kind.

    Args:
        sections: names in the order of the run.
        kinds: what they made where their names do not tell.
    """
    slots: dict[str, int] = {}
    policies = 0
    for name in sections:
        kind = kind_of(name) or (kinds or {}).get(name, "")
        if kind == "policy":
            slots[name] = policies % NUM_SLOTS
            policies += 1
        else:
            spare = 4 + zlib.crc32(name.encode("utf-8", "replace")) % (NUM_SLOTS - 4)
            slots[name] = _KIND_SLOTS.get(kind, spare)
    return slots


def distinct(names: Sequence[str], slots: Mapping[str, int]) -> dict[str, int]:
    """Return the colours of what stands in one figure: their own, or, where two would be alike, in turn."""
    own = {name: slots.get(name, -1) for name in names}
    taken = list(own.values())
    if len(set(taken)) == len(taken) and -1 not in taken:
        return own
    if len(names) > NUM_SLOTS:
        return {name: i % NUM_SLOTS for i, name in enumerate(names)}
    free = [i for i in range(NUM_SLOTS) if i not in taken]
    found: dict[str, int] = {}
    for name, slot in own.items():
        found[name] = free.pop(0) if slot == -1 or slot in found.values() else slot
    return found
