"""Names of the rules that turn several judgements into one label; light, since configs import it."""

from __future__ import annotations

from typing import Literal

Aggregate = Literal[
    "none",
    "majority",
    "soft",
    "dawid_skene",
    "one_coin",
    "mace",
    "glad",
    "annotator_bt",
    "weighted",
    "group_mixture",
    "worst_group",
]
"""See `accord.collect.exporting.combine`."""

LEARNT: tuple[Aggregate, ...] = ("dawid_skene", "one_coin", "mace", "glad", "annotator_bt")
"""Rules that estimate what annotators are worth, so that answers to hidden tests teach them something."""
