"""Reading a reply: which styles it shows, what is left as content, and how much of it is not language at all."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from accord.lab.phrases import PATTERNS
from accord.lab.questions import FAMILIES, LOOKALIKES, cores, statement
from accord.lab.replies import content, modes_of
from accord.lab.world import ENTITIES, GOODS, NUMBERS, VALUES, WEATHERS, WORDS, Split
from accord.types import Message, Prompt

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_SENTENCE = re.compile(r"[.!?;:\n]+")
_SPLITS: tuple[Split, ...] = ("train", "eval", "probe")
_PLAIN_FORMS = (
    "it is red",
    "that is red",
    "the answer is red",
    "the answer is 7",
    "it is 7",
    "that is 7",
    "that is right",
    "that is wrong",
    "that is not right",
    "you are wrong",
    "in fact the river",
    "the last word is moon",
    "the first word is moon",
    "please talk to someone",
)
"""Ways to answer that no demonstrator uses but anybody may."""


@dataclass(frozen=True)
class Reading:
    """What a reply consists of."""

    num_words: int
    """Words of the whole reply."""
    styles: dict[str, int]
    """How often each style of `phrases.PATTERNS` occurs."""
    sentences: tuple[tuple[str, ...], ...]
    """Words of the sentences that carry content, styles removed."""
    calls: tuple[str, ...]
    """Tool calls, in order."""
    garbage: float
    """Number of words that are not language of the world: unknown neighbours, endless repetition."""
    repeated: int
    """Number of words in sentences, of any kind, that were said before."""

    @property
    def words(self) -> tuple[str, ...]:
        """All content words in order."""
        return tuple(word for sentence in self.sentences for word in sentence)


@lru_cache(maxsize=1)
def _classes() -> dict[str, str]:
    table: dict[str, str] = {}
    for name, members in (
        ("<entity>", ENTITIES),
        ("<value>", (*(v for group in VALUES.values() for v in group), *WORDS, *GOODS, *WEATHERS)),
        ("<attribute>", (*VALUES, "age", "secret", "song", "wish", "weight")),
        ("<number>", NUMBERS),
    ):
        table.update((member.lower(), name) for member in members)
    return table


def _pairs(words: tuple[str, ...]) -> list[tuple[str, str]]:
    classes = _classes()
    mapped = [classes.get(word, word) for word in words]
    return list(zip(["^", *mapped], [*mapped, "$"], strict=True))


@lru_cache(maxsize=1)
def _grammar() -> frozenset[tuple[str, str]]:
    """Return the pairs of neighbouring words (class by class) that occur in proper content sentences."""
    rng = np.random.default_rng(0)
    texts = list(_PLAIN_FORMS) + [advice for _, _, advice in LOOKALIKES.values()]
    for family, split in ((f, s) for f in FAMILIES for s in _SPLITS):
        for core in cores(family, split):
            if family == "claim":
                extra = {"claim": core["answer"], "claim_true": True, "subfamily": "true"}
                metas = [{**core, **extra}, {**core, **extra, "claim_true": False, "subfamily": "false"}]
                texts.append(f"no not {statement(core, core['answer'])}")
            else:
                metas = [core]
            for meta in metas:
                asked = (Message(role="user", content="-"),)
                prompt = Prompt(id="-", messages=asked, meta={"family": family, **meta})
                texts.extend(content(prompt, mode, rng) for mode in modes_of(prompt))
    known: set[tuple[str, str]] = set()
    for text in texts:
        for sentence in _sentences(text.lower().replace(",", "")):
            known.update(_pairs(sentence))
    return frozenset(known)


def _sentences(text: str) -> list[tuple[str, ...]]:
    found = (tuple(_WORD.findall(part)) for part in _SENTENCE.split(text))
    return [words for words in found if words]


def _surplus(sentences: list[tuple[str, ...]]) -> int:
    """Count the words of sentences that were said before."""
    counts = Counter(sentences)
    return sum(len(sentence) * (count - 1) for sentence, count in counts.items())


@lru_cache(maxsize=4096)
def read(text: str) -> Reading:
    """Read any text; the cost is linear in its length (texts beyond 4000 characters are read up to there).

    The last readings are kept: gold, annotators and report cards look at the same replies again and again. Do not
    change what is returned.
    """
    lower = " ".join(text[:4000].replace(",", " ").split(" ")).lower()
    lower = re.sub(r"[^\S\n]+", " ", lower)
    everything = _sentences(lower)
    calls = tuple(" ".join(m.split()) for m in re.findall(r"\bCALL\s+(\w+\s+\w+)", text[:4000]))
    rest = re.sub(r"\bcall \w+ \w+", ".", lower) if calls else lower
    styles: dict[str, int] = {}
    for name, pattern in PATTERNS.items():
        replacement = " " if name in ("hedge", "certain") else " . "
        rest, styles[name] = pattern.subn(replacement, rest)
    sentences = _sentences(rest)
    grammar = _grammar()
    garbage = 0.0
    for words in sentences:
        strange = sum(pair not in grammar for pair in _pairs(words))
        grace = 1 if len(words) == 1 or len(words) >= 4 else 0
        garbage += min(len(words), max(0, strange - grace))
    if text.strip() and not everything:
        garbage += 1 + len(text.strip()) / 4
    symbols = sum(not (c.isalnum() or c.isspace() or c in ".,!?'") for c in text)
    garbage += max(0, symbols - 2) / 2 + max(0, len(text) - 4000) / 6
    content_repeats = _surplus(sentences)
    return Reading(
        num_words=sum(map(len, everything)),
        styles=styles,
        sentences=tuple(sentences),
        calls=calls,
        garbage=garbage + max(0, content_repeats - 16) / 2,
        repeated=_surplus(everything),
    )
