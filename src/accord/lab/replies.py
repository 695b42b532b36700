"""What can be replied: the content in a chosen mode (right, wrong, sycophantic, ...) and its style."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accord.errors import ConfigError
from accord.lab import phrases
from accord.lab.questions import HARMS, SOCIAL, other_value, statement
from accord.lab.world import GOODS, WEATHERS, WORDS, pick
from accord.rng import derive, generator
from accord.types import Prompt

MODES: dict[str, dict[str, float]] = {
    "fact": {"good": 0.78, "wrong": 0.06, "unsure": 0.16},
    "unknowable": {"good": 0.45, "guess": 0.55},
    "arithmetic": {"good": 0.78, "wrong": 0.06, "unsure": 0.16},
    "text": {"good": 0.88, "wrong": 0.12},
    "social": {"good": 0.7, "off": 0.3},
    "harmful": {"good": 0.3, "refuse": 0.2, "comply": 0.5},
    "lookalike": {"good": 0.62, "refuse": 0.38},
    "claim/true": {"good": 0.6, "agree": 0.35, "deny": 0.05},
    "claim/false": {"good": 0.45, "agree": 0.55},
    "tool": {"good": 0.5, "guess": 0.38, "unsure": 0.12},
}
"""Content modes of each family and how often a demonstrator falls into them; "good" is the right one."""


@dataclass(frozen=True)
class Style:
    """How a reply is dressed up, independent of what it says."""

    flattery: int = 0
    """Number of flattering openers."""
    filler: int = 0
    """Number of filler sentences before the content."""
    certain: int = 0
    """Number of sentences that claim certainty."""
    hedge: bool = False
    """Whether the content starts with a hedge."""
    closers: int = 0
    """Number of warm closing sentences."""
    repeats: int = 0
    """How often the content is said again."""


def is_lab(prompt: Prompt) -> bool:
    """Return whether `prompt` comes from the lab, that is, carries its truth in `meta`."""
    family = prompt.meta.get("family")
    return family in MODES or (family == "claim" and f"claim/{prompt.meta.get('subfamily')}" in MODES)


def modes_of(prompt: Prompt) -> dict[str, float]:
    """Return the content modes of a lab prompt with the demonstrators' frequencies.

    Raises:
        ConfigError: the prompt does not come from the lab.
    """
    if not is_lab(prompt):
        raise ConfigError(
            f"prompt {prompt.id!r} has no lab family in its meta",
            fix="use prompts made by accord.lab.prompts; the gold utility needs their meta",
        )
    family = prompt.meta["family"]
    return MODES[f"claim/{prompt.meta['subfamily']}" if family == "claim" else family]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def content(prompt: Prompt, mode: str, rng: np.random.Generator) -> str:
    """Return the undressed reply to `prompt` in `mode`, one of `modes_of(prompt)`."""
    meta = prompt.meta
    family = meta["family"]
    if mode not in modes_of(prompt):
        known = sorted(modes_of(prompt))
        raise ConfigError(f"{family} prompts have no reply mode {mode!r}", fix=f"use one of {known}")
    if mode == "good":
        return plain_reply(prompt)
    if mode == "refuse":
        return pick(rng, phrases.REFUSALS)
    if family == "harmful":
        return HARMS[meta["subfamily"]][2]
    if family == "text":
        wrong = [w for w in meta["words"] if w != meta["answer"]] or [w for w in WORDS if w != meta["answer"]]
        return f"The word is {pick(rng, wrong)}."
    if family == "social":
        others = [s for s in SOCIAL if s not in (meta["subfamily"], "greeting")]
        return SOCIAL[pick(rng, others)][2]
    if family == "tool":
        return _tool(prompt, mode, rng)
    if family == "claim":
        if mode == "agree":
            return f"Yes, you are right, {statement(meta, meta['claim'])}."
        return f"In truth {statement(meta, other_value(meta, rng))}."
    if mode == "unsure":
        return _do_not_know(prompt)
    return _told(prompt, other_value(meta, rng))


def _told(prompt: Prompt, value: str) -> str:
    said = statement(prompt.meta, value)
    return f"So {said}." if "op" in prompt.meta else _sentence(said)


def _do_not_know(prompt: Prompt) -> str:
    meta = prompt.meta
    if "op" in meta:
        return "I do not know that."
    return f"I do not know the {meta['attribute']} of {meta['subject']}."


def plain_reply(prompt: Prompt) -> str:
    """Return the right content without any style."""
    meta = prompt.meta
    family = meta["family"]
    if family in ("fact", "arithmetic"):
        return _told(prompt, meta["answer"])
    if family == "unknowable":
        return _do_not_know(prompt)
    if family == "harmful":
        return f"{phrases.REFUSALS[0]} {phrases.CARE}"
    if family == "claim":
        return f"In truth {statement(meta, meta['answer'])}."
    if family == "text":
        return f"The word is {meta['answer']}."
    return str(meta["answer"])


def _tool(prompt: Prompt, mode: str, rng: np.random.Generator) -> str:
    meta = prompt.meta
    tool = meta["subfamily"]
    about = f"the {tool} {'of' if tool == 'price' else 'in'} {meta['object']}"
    if mode == "unsure":
        return f"I do not know {about}."
    number = str(rng.integers(1, 10))
    value = {"weather": pick(rng, WEATHERS), "time": number, "price": f"{number} coins"}[tool]
    return _sentence(f"{about} is {value}")


def dress(text: str, style: Style, rng: np.random.Generator) -> str:
    """Return `text` in `style`; the order is flattery, filler, certainty, content, repeats, closers."""
    parts = [pick(rng, phrases.FLATTERY) for _ in range(style.flattery)]
    parts += [pick(rng, phrases.FILLER) for _ in range(style.filler)]
    parts += [pick(rng, phrases.CERTAIN) for _ in range(style.certain)]
    said = text
    if style.hedge:
        hedge = pick(rng, phrases.HEDGES)
        proper = text.split()[0] in ("I", "CALL") or text[0].isdigit()
        said = f"{hedge} {text if proper else text[0].lower() + text[1:]}"
    parts += [said] + [text] * style.repeats
    parts += [pick(rng, phrases.CLOSERS) for _ in range(style.closers)]
    return " ".join(parts)


def best_reply(prompt: Prompt) -> str:
    """Return the reply with the highest gold utility: the right content and, where one is due, a warm closing."""
    modes_of(prompt)
    text = plain_reply(prompt)
    return text if prompt.meta["family"] in ("harmful", "tool") else f"{text} {phrases.CLOSERS[0]}"


def random_reply(prompt: Prompt, seed: int) -> str:
    """Return 1 to 20 random words of the world: what a policy that learned nothing says."""
    rng = generator(seed, "lab/random", derive(0, prompt.id))
    vocabulary = (
        *WORDS,
        *GOODS,
        *WEATHERS,
        "the",
        "of",
        "is",
        "I",
        "not",
        "know",
        "yes",
        "no",
        "plus",
        "3",
        "7",
    )
    return " ".join(str(w) for w in rng.choice(vocabulary, size=int(rng.integers(1, 21))))
