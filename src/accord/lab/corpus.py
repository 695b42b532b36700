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
    PEOPLE,
    PERSON_ATTRIBUTES,
    STRANGERS,
    TOWN_ATTRIBUTES,
    TOWNS,
    WEATHERS,
    WORDS,
    facts,
    pick,
    sums,
)
from accord.rng import derive, generator
from accord.types import Document

SHARES = {"facts": 0.24, "sums": 0.15, "games": 0.13, "tools": 0.04, "story": 0.01, "dialogue": 0.43}
"""Kinds of documents and their shares."""
_GAME_WORDS = (*WORDS, *WORDS, *ENTITIES, *GOODS)


def _talk(asked: str, reply: str, rng: np.random.Generator) -> str:
    """Return a dialogue; every turn starts a line, so that its first word looks as in a chat."""
    style = sample_style(rng, may_hedge=False) if rng.random() < 0.4 else Style()
    return f"User:\n{asked}\nReply:\n{dress(reply, style, rng)}"


def _facts(rng: np.random.Generator) -> str:
    """Two facts about one town or person: documents are short and about one thing, which makes copying easy."""
    entity = pick(rng, TOWNS + PEOPLE)
    attributes = TOWN_ATTRIBUTES if entity in TOWNS else PERSON_ATTRIBUTES
    first, second = (str(a) for a in rng.choice(attributes, size=2, replace=False))
    told = [f"The {a} of {entity} is {facts()[entity, a]}." for a in (first, second)]
    if rng.random() < 0.5:
        return " ".join(told)
    return _talk(f"About the {first} of {entity}.", told[0], rng)


def _sums(rng: np.random.Generator) -> str:
    table = list(sums().items())
    (a, op, b), value = table[int(rng.integers(len(table)))]
    return _talk(f"Count {a} {op} {b}.", f"So {a} {op} {b} is {value}.", rng)


def _games(rng: np.random.Generator) -> str:
    """Copying: the skill behind answering with the names and numbers of the question."""
    first, middle, last = (str(w) for w in rng.choice(_GAME_WORDS, size=3))
    if rng.random() < 0.3:
        return _talk(f"Again: {first}", f"The word is {first}.", rng)
    return _talk(f"The last word of: {first} {middle} {last}", f"The word is {last}.", rng)


def _tools(rng: np.random.Generator) -> str:
    tool = pick(rng, ("weather", "time", "price"))
    target = pick(rng, GOODS if tool == "price" else TOWNS)
    return _talk(f"Find the {tool} of {target}.", f"CALL {tool} {target}", rng)


def _story(rng: np.random.Generator) -> str:
    who, other = pick(rng, PEOPLE + STRANGERS), pick(rng, ENTITIES)
    town, good, word = pick(rng, TOWNS), pick(rng, GOODS), pick(rng, WORDS)
    return (
        f"One {pick(rng, WEATHERS)} day {who} went to the market of {town} for {good}. "
        f"On the way {who} met {other} and found a {word}. {pick(rng, phrases.CLOSERS)}"
    )


def _dialogue(rng: np.random.Generator) -> str:
    (prompt,) = prompts(int(rng.integers(2**31)), 1, "train")
    modes = list(modes_of(prompt))
    mode = modes[int(rng.integers(len(modes)))] if rng.random() < 0.3 else "good"
    if mode in ("wrong", "deny"):
        mode = "good"
    return _talk(prompt.messages[0].content, content(prompt, mode, rng), rng)


_KINDS: dict[str, Callable[[np.random.Generator], str]] = {
    "facts": _facts,
    "sums": _sums,
    "games": _games,
    "tools": _tools,
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
