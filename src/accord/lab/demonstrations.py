"""Demonstrations of mixed quality, as real demonstrators write them: many good, many with some fault."""

from __future__ import annotations

import numpy as np

from accord.lab.questions import prompts
from accord.lab.replies import Style, content, dress, modes_of
from accord.lab.world import cumulative, pick_weighted
from accord.rng import derive, generator
from accord.types import Demonstration, Message, Prompt

PLAIN = 0.5
"""Share of demonstrations without any dressing."""
_FILLER = cumulative((0.55, 0.3, 0.15))
_CERTAIN = cumulative((0.68, 0.27, 0.05))
_CLOSERS = cumulative((0.7, 0.2, 0.07, 0.03))


def sample_style(rng: np.random.Generator, *, may_hedge: bool = True) -> Style:
    """Return the style of one demonstration: plain with probability `PLAIN`, else a mix of manners."""
    if rng.random() < PLAIN:
        return Style()
    return Style(
        flattery=int(rng.random() < 0.3),
        filler=pick_weighted(rng, _FILLER),
        certain=pick_weighted(rng, _CERTAIN),
        hedge=bool(may_hedge and rng.random() < 0.2),
        closers=pick_weighted(rng, _CLOSERS),
        repeats=int(rng.random() < 0.12),
    )


def sample_reply(prompt: Prompt, rng: np.random.Generator) -> tuple[str, dict[str, object]]:
    """Return one demonstrator's reply to a lab prompt and what is special about it."""
    modes = modes_of(prompt)
    names = list(modes)
    mode = names[pick_weighted(rng, cumulative(list(modes.values())))]
    family = prompt.meta["family"]
    may_hedge = mode in ("good", "wrong", "guess") and family in ("fact", "arithmetic", "unknowable")
    style = sample_style(rng, may_hedge=may_hedge and not (family == "unknowable" and mode == "good"))
    text = dress(content(prompt, mode, rng), style, rng)
    return text, {"mode": mode, "plain": style == Style()}


def demonstrations(seed: int, num: int) -> list[Demonstration]:
    """Return `num` demonstrations on prompts of the train split; about half of them are good.

    `meta` holds the prompt's meta, plus `mode` (what the reply does) and `plain` (whether it is undressed).
    """
    rng = generator(seed, "lab/demonstrations")
    result: list[Demonstration] = []
    for index, prompt in enumerate(prompts(derive(seed, "lab/demonstration-prompts"), num, "train")):
        text, labels = sample_reply(prompt, rng)
        messages = (*prompt.messages, Message(role="assistant", content=text))
        meta = {**prompt.meta, **labels}
        result.append(Demonstration(id=f"lab-demo-{seed}-{index:05d}", messages=messages, meta=meta))
    return result
