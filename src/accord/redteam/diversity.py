"""How different attacks are from each other: self-BLEU (Zhu et al. 2018), and the bonus a trained attacker gets.

Perez et al. (2022) report self-BLEU beside the success rate: an attacker that found one sentence that works has found
one weakness, however often it says it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from accord.rng import permutation

_WORD = re.compile(r"\w+|[^\w\s]")
Grams = Counter[tuple[str, ...]]


def words(text: str) -> list[str]:
    """Lower-case words and marks of a text."""
    return _WORD.findall(text.lower())


def grams(tokens: Sequence[str], n: int) -> Grams:
    """Counts of the runs of `n` tokens."""
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def self_bleu(texts: Sequence[str], *, max_n: int = 4, sample: int = 100, seed: int = 0) -> float | None:
    """Return the mean BLEU of every text against all the others: 1 = all alike, towards 0 = nothing in common.

    BLEU-4 with uniform weights, clipped counts, brevity penalty against the closest length, and 0.1 in place of a
    count of 0 (method 1 of Chen and Cherry 2014).

    Args:
        texts: attacks, equal ones included: saying the same twice is what is measured.
        max_n: longest n-gram.
        sample: at most this many texts are used, drawn at random (the cost is quadratic).
        seed: of the draw.

    Returns:
        None for fewer than two texts.
    """
    if len(texts) < 2:
        return None
    chosen = [texts[i] for i in permutation(len(texts), seed, "self-bleu")[:sample]]
    tokens = [words(text) for text in chosen]
    counted = [[grams(t, n) for t in tokens] for n in range(1, max_n + 1)]
    return sum(_bleu(i, tokens, counted) for i in range(len(tokens))) / len(tokens)


def _bleu(place: int, tokens: list[list[str]], counted: list[list[Grams]]) -> float:
    length = len(tokens[place])
    if length == 0:
        return 0.0
    logs = 0.0
    orders = [of_n for n, of_n in enumerate(counted, 1) if length >= n]
    for of_n in orders:
        own = of_n[place]
        others = [c for i, c in enumerate(of_n) if i != place]
        hits = sum(min(count, max(c[gram] for c in others)) for gram, count in own.items())
        logs += math.log(max(hits, 0.1) / sum(own.values()))
    closest = min((abs(len(t) - length), len(t)) for i, t in enumerate(tokens) if i != place)[1]
    brevity = 1.0 if length >= closest else math.exp(1 - closest / length)
    return brevity * math.exp(logs / len(orders))


def novelty(texts: Sequence[str], n: int = 3) -> list[float]:
    """Return for each text how rare its n-grams are among the others: 1 = nobody else has any, 0 = everybody has all.

    The mean, over the distinct n-grams of a text, of the share of the *other* texts without it; linear in the length
    of the texts. A text shorter than n words is compared by all of its words as one n-gram.

    Args:
        texts: attacks of one round.
        n: words of a run.
    """
    if len(texts) < 2:
        return [1.0] * len(texts)
    sets = [set(grams(t, n)) or {tuple(t)} for t in map(words, texts)]
    seen = Counter(gram for own in sets for gram in own)
    others = len(texts) - 1
    return [sum(1 - (seen[gram] - 1) / others for gram in own) / len(own) for own in sets]
