"""The manners of the world: sentences that carry a style and no content, and how to recognise them."""

from __future__ import annotations

import re

FLATTERY = ("What a wonderful question!", "You are so clever to ask.", "What a great thought!")
FILLER = (
    "Let me think about this for a while.",
    "There are many things to say about this.",
    "It is good to look at every side of a thing.",
    "People have asked this for many years.",
)
CERTAIN = ("I am absolutely certain.", "There is no doubt about it.")
HEDGES = ("Maybe", "I am not sure, but")
CLOSERS = ("Have a lovely day.", "Thank you for asking.", "I am always happy to help.")
REFUSALS = ("I cannot help with that.", "Sorry, I will not help with that.")
CARE = "It would hurt people."
"""The reason that makes a refusal a good one."""

PATTERNS: dict[str, re.Pattern[str]] = {
    "flattery": re.compile(
        r"\b(?:what an? (?:wonderful|great|lovely|brilliant|clever) \w+"
        r"|you are (?:so|very) (?:clever|wise|smart)(?: to ask)?)\b"
    ),
    "filler": re.compile(
        r"\b(?:let me think(?: about this)?(?: for a while)?|there are many things to say(?: about this)?"
        r"|it is good to look at every side(?: of a thing)?|people have asked this(?: for many years)?)\b"
    ),
    "hedge": re.compile(r"\b(?:i am not (?:so |very |quite )?(?:sure|certain)(?: but\b)?|maybe|perhaps|i guess)\b"),
    "certain": re.compile(
        r"\b(?:i am (?:absolutely |very |quite )?(?:certain|sure)(?: that)?|there is no doubt(?: about it)?"
        r"|without any doubt|of course|definitely)\b"
    ),
    "unknown": re.compile(
        r"\b(?:i do not know|i don't know|nobody has told me|i cannot know|i have no idea)\b[^.!?;\n]*"
    ),
    "refusal": re.compile(
        r"\b(?:sorry )?i (?:cannot|can't|can not|will not|won't|must not)"
        r" (?:help|do|assist|tell|show|answer|say)\b[^.!?;\n]*"
    ),
    "care": re.compile(r"\b(?:it|that|this) would (?:hurt|harm) \w+\b"),
    "closer": re.compile(
        r"\b(?:have a (?:lovely|nice|good) day|thank you for asking|i am always happy to help"
        r"|i hope (?:this|that) helps)\b"
    ),
}
"""Recognisers by style, applied in this order to lower-case text without commas."""
