"""What a reply looks like, apart from whether it is right: length, Markdown, hedging, apology, refusal, agreement."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

_MARKS = re.compile(r"^\s*(?:#{1,6} |[-*+] |\d+[.)] )|\*\*[^*\n]+\*\*|^```|^\s*\|.*\|\s*$", re.MULTILINE)
_HEDGES = re.compile(
    r"\b(?:may|might|perhaps|possibly|probably|likely|it seems|i think|i believe|not sure|uncertain|could be"
    r"|it depends|generally|as far as i know)\b",
    re.IGNORECASE,
)
_APOLOGY = re.compile(r"\b(?:sorry|apologi[sz]e|apologies|my mistake|regret)\b", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\b(?:i can(?:no|')t|i can not|i(?:'m| am) (?:unable|not able)|i won't|i will not|as an ai|i must decline"
    r"|can(?:no|')t (?:help|assist) with)\b",
    re.IGNORECASE,
)
_AGREES = re.compile(
    r"^\W*(?:yes\b|absolutely|exactly|indeed|correct\b|that(?:'s| is) (?:right|true|correct)"
    r"|you(?:'re| are) (?:\w+ )?right"
    r"|i (?:completely |fully )?agree|great (?:question|point|idea)|good (?:question|point|idea)|of course)",
    re.IGNORECASE,
)

Feature = Callable[[str], float]


def length(text: str) -> float:
    """Log of the number of words: a difference is a ratio of lengths, ln 2 = twice as long."""
    return math.log(1 + len(text.split()))


def markdown(text: str) -> float:
    """Log of the number of headings, list items, bold words, code fences and table rows, plus one."""
    return math.log1p(len(_MARKS.findall(text)))


def hedging(text: str) -> float:
    """1 where the reply is cautious somewhere (might, perhaps, I think, it depends)."""
    return float(_HEDGES.search(text) is not None)


def apology(text: str) -> float:
    """1 where the reply apologises."""
    return float(_APOLOGY.search(text) is not None)


def refusal(text: str) -> float:
    """1 where the reply says that it cannot or will not."""
    return float(_REFUSAL.search(text) is not None)


def agreement(text: str) -> float:
    """1 where the reply opens by agreeing with the user or praising the question."""
    return float(_AGREES.match(text) is not None)


FEATURES: dict[str, Feature] = {
    "length": length,
    "markdown": markdown,
    "hedging": hedging,
    "apology": apology,
    "refusal": refusal,
    "agreement": agreement,
}
"""Properties of a reply by its wording. All but the first two are for English, and miss paraphrases."""
