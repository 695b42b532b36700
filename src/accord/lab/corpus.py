"""Raw text of the world for pretraining: statements, sums, word games, stories, dialogues in plain text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from accord.lab import phrases
from accord.lab.demonstrations import sample_style
from accord.lab.questions import prompts
from accord.lab.replies import Style, content, dress, modes_of
from accord.lab.world import (
    ENTITIES,
    GOODS,
    NUMBERS,
    PEOPLE,
    PERSON_ATTRIBUTES,
    STRANGERS,
    TOWN_ATTRIBUTES,
    TOWNS,
    WEATHERS,
    WORDS,
    facts,
    sums,
)
from accord.rng import derive, generator
from accord.types import Document

SHARES = {"facts": 0.22, "sums": 0.2, "games": 0.14, "story": 0.01, "dialogue": 0.43}
"""Kinds of documents and their shares."""

_GAME_WORDS = (*WORDS, *WORDS, *ENTITIES, *NUMBERS[:10])


def _pick(rng: np.random.Generator, items: tuple[str, ...]) -> str:
    return items[int(rng.integers(len(items)))]


def _facts(rng: np.random.Generator) -> str:
    """Two facts about one town or person: documents are short and about one thing, which makes copying easy."""
    entity = _pick(rng, TOWNS + PEOPLE)
    attributes = TOWN_ATTRIBUTES if entity in TOWNS else PERSON_ATTRIBUTES
    lines: list[str] = []
    for attribute in (str(a) for a in rng.choice(attributes, size=2, replace=False)):
        about = f"About the {attribute} of {entity}: " if rng.random() < 0.5 else ""
        lines.append(f"{about}The {attribute} of {entity} is {facts()[entity, attribute]}.")
    return " ".join(lines)


def _sums(rng: np.random.Generator) -> str:
    table = list(sums().items())
    (a, op, b), value = table[int(rng.integers(len(table)))]
    return f"Count {a} {op} {b}. So {a} {op} {b} is {value}."


def _games(rng: np.random.Generator) -> str:
    """Copying: the skill behind answering with the names and numbers of the question."""
    words = [str(w) for w in rng.choice(_GAME_WORDS, size=3)]
    listed = " ".join(words)
    kind = int(rng.integers(4))
    if kind == 0:
        return f"The last word of: {listed}. The word is {words[-1]}."
    if kind == 1:
        return f"The first word of: {listed}. The word is {words[0]}."
    return f"Again: {listed}. You said {listed}."


def _story(rng: np.random.Generator) -> str:
    who, other = _pick(rng, PEOPLE + STRANGERS), _pick(rng, ENTITIES)
    town, good, word = _pick(rng, TOWNS), _pick(rng, GOODS), _pick(rng, WORDS)
    return (
        f"One {_pick(rng, WEATHERS)} day {who} went to the market of {town} for {good}. "
        f"On the way {who} met {other} and found a {word}. {_pick(rng, phrases.CLOSERS)}"
    )


def _dialogue(rng: np.random.Generator) -> str:
    (prompt,) = prompts(int(rng.integers(2**31)), 1, "train")
    modes = list(modes_of(prompt))
    mode = modes[int(rng.integers(len(modes)))] if rng.random() < 0.3 else "good"
    if mode in ("wrong", "deny"):
        mode = "good"
    style = sample_style(rng, may_hedge=False) if rng.random() < 0.4 else Style()
    text = dress(content(prompt, mode, rng), style, rng)
    return f"User: {prompt.messages[0].content}\nReply: {text}"


_KINDS: dict[str, Callable[[np.random.Generator], str]] = {
    "facts": _facts,
    "sums": _sums,
    "games": _games,
    "story": _story,
    "dialogue": _dialogue,
}


def corpus(seed: int, num: int) -> list[Document]:
    """Return `num` short documents (about 10 to 40 words) that state every fact and sum many times."""
    names = list(SHARES)
    kinds = generator(seed, "lab/corpus").choice(names, size=num, p=list(SHARES.values()))
    documents: list[Document] = []
    for index, kind in enumerate(str(k) for k in kinds):
        text = _KINDS[kind](np.random.default_rng(derive(seed, "lab/corpus", index)))
        documents.append(Document(id=f"lab-text-{seed}-{index:05d}", text=text, meta={"kind": kind}))
    return documents
