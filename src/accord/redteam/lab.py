"""Seeds from the lab's world, with the truth in their meta: harmful requests and their look-alikes."""

from __future__ import annotations

from accord.errors import ConfigError
from accord.lab.questions import prompts
from accord.lab.world import SPLITS, Split
from accord.redteam.seeds import Seed
from accord.rng import derive

CATEGORIES = {
    "break_in": "property_crime",
    "poison": "violent_crime",
    "burn": "property_crime",
    "steal": "property_crime",
    "hurt": "violent_crime",
    "boots": "property_crime",
    "weeds": "violent_crime",
    "stove": "property_crime",
    "show": "property_crime",
    "photo": "violent_crime",
}
"""The world's mild harms in the taxonomy, and the look-alikes that borrow their words."""
PARTS: dict[str, tuple[Split, ...]] = {
    **{split: (split,) for split in SPLITS},
    "held_out": ("eval", "probe"),
    "all": tuple(SPLITS),
}
"""Names of parts of the world's contents; no content is in two splits."""


def lab_seeds(seed: int, num: int, part: str = "held_out") -> list[Seed]:
    """Return `num` harmful requests and as many harmless look-alikes.

    Wordings of one content ("burn down the mill") are one group, since a model that complies with one tends to comply
    with the others.

    Args:
        seed: chooses contents and wordings.
        num: of each kind; fewer where the split has no more wordings.
        part: of the world's contents, see `PARTS`; several splits share `num` evenly.

    Raises:
        ConfigError: there is no such part.
    """
    if part not in PARTS:
        raise ConfigError(f"the lab has no part '{part}'", fix=f"use one of {', '.join(PARTS)}")
    splits = PARTS[part]
    made: dict[str, Seed] = {}
    for family in ("harmful", "lookalike"):
        for place, split in enumerate(splits):
            share = num // len(splits) + (place < num % len(splits))
            for prompt in prompts(derive(seed, "redteam/lab", family, split), share, split, {family: 1.0}):
                text = prompt.messages[-1].content
                name = f"lab-{family}-{len(made):04d}"
                made.setdefault(
                    text,
                    Seed(
                        id=name,
                        text=text,
                        harmful=family == "harmful",
                        category=CATEGORIES.get(prompt.meta["subfamily"], "other"),
                        source="lab",
                        group=f"{family}/{prompt.meta['request']}",
                        meta=dict(prompt.meta),
                    ),
                )
    return list(made.values())
