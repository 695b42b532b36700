"""How annotators work: haste, streaks, swapped repeats, guessing, agreement late in a sitting, probes."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist, median

import numpy as np
from scipy.stats import binomtest

from accord.collect.quality.audit import Finding
from accord.collect.quality.guessing import belief, guessing, others_say
from accord.collect.quality.judged import SWAP, Judged, Judgement
from accord.stats.intervals import wilson
from accord.stats.mixed_logit import one_effect
from accord.stats.sequential import Decision

WORDS_A_SECOND = 10.0
"""Nobody reads faster than 600 words a minute; both replies have to be read."""
ALLOWED_HASTE = 0.1
"""Share of judgements that may be faster: replies that are the same at a glance."""
MIN_JUDGEMENTS = 20
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Conduct:
    """One annotator."""

    judgements: int
    seconds: float | None
    """Median; None where time was not recorded."""
    hasty: float | None
    """Share of judgements made faster than both replies can be read."""
    longest_streak: int
    """Most judgements in a row for the same side."""
    entropy: float
    """Bits of the verdicts with their strength; 0 = always the same key."""
    repeats: int
    """Pairs judged a second time."""
    consistent: float | None
    """Share of them with the same verdict; None without repeats."""
    same_side: int
    """Of the changed verdicts on swapped repeats, those for the same side twice: left and left, or right and right."""
    guessing: Decision
    """What hidden tests and the votes of others say together; see `guessing.guessing`."""


def conduct(data: Judged) -> tuple[dict[str, Conduct], list[Finding]]:
    """Return how each annotator works, and what could raise an alarm.

    Args:
        data: the judgements, in the order they were given.
    """
    by_person: defaultdict[str, list[Judgement]] = defaultdict(list)
    for j in data.judgements:
        by_person[j.annotator].append(j)
    right = others_say(data)
    people: dict[str, Conduct] = {}
    findings: list[Finding] = []
    for who, given in by_person.items():
        once = [j for j in given if not j.repeat]
        timed = [j for j in once if j.seconds is not None]
        hasty = [_too_fast(j) for j in timed]
        same, changed, sides = _repeats(given)
        people[who] = Conduct(
            judgements=len(once),
            seconds=median(j.seconds or 0.0 for j in timed) if timed else None,
            hasty=sum(hasty) / len(hasty) if hasty else None,
            longest_streak=_streak([j.upper for j in once if j.ordered and j.upper is not None]),
            entropy=_entropy([(j.verdict, j.score) if not j.turned else (SWAP.get(j.verdict), -j.score) for j in once]),
            repeats=same + changed,
            consistent=same / (same + changed) if same + changed else None,
            same_side=sum(sides.values()),
            guessing=guessing(given, right),
        )
        findings += _findings(who, once, hasty, sides)
    return people, [*findings, *_late(data, right), *_probes(data)]


def _too_fast(j: Judgement) -> bool:
    words = sum(len(text.split()) for text in j.texts)
    return j.seconds is not None and j.seconds < words / WORDS_A_SECOND


def _streak(sides: Sequence[bool]) -> int:
    longest = run = 0
    for k, side in enumerate(sides):
        run = run + 1 if k and side == sides[k - 1] else 1
        longest = max(longest, run)
    return longest


def _entropy(keys: Sequence[object]) -> float:
    counts = Counter(keys).values()
    total = sum(counts)
    return -sum(n / total * math.log2(n / total) for n in counts) + 0.0 if total else 0.0


def _repeats(given: Sequence[Judgement]) -> tuple[int, int, Counter[bool]]:
    """(same verdict, another verdict, of those on swapped sides the side taken twice: True = the first shown)."""
    first: dict[int, Judgement] = {}
    same = changed = 0
    sides: Counter[bool] = Counter()
    for j in given:
        before = first.setdefault(j.pair, j)
        if before is j:
            continue
        if before.verdict == j.verdict:
            same += 1
            continue
        changed += 1
        upper = j.upper
        if upper is not None and upper == before.upper and j.turned != before.turned and j.ordered and before.ordered:
            sides[upper] += 1
    return same, changed, sides


def _findings(who: str, once: Sequence[Judgement], hasty: Sequence[bool], sides: Counter[bool]) -> list[Finding]:
    found: list[Finding] = []
    if len(hasty) >= MIN_JUDGEMENTS:
        share = wilson(sum(hasty), len(hasty))
        p = float(binomtest(sum(hasty), len(hasty), ALLOWED_HASTE, alternative="greater").pvalue)
        found.append(_share(who, "faster than one can read", share.value, (share.low, share.high), len(hasty), p))
    runs = _runs([j.upper for j in once if j.ordered and j.upper is not None])
    if runs is not None:
        found.append(
            Finding("annotator", who, "pattern of sides", runs[0], None, None, runs[2], runs[1], unit="runs, z")
        )
    if sum(sides.values()) >= 6:
        n = sum(sides.values())
        share = wilson(sides[True], n)
        p = float(binomtest(sides[True], n, 0.5).pvalue)
        what = "first shown, twice, when a swapped repeat changes the verdict"
        found.append(_share(who, what, share.value, (share.low, share.high), n, p))
    return found


def _share(who: str, what: str, value: float, ends: tuple[float, float], n: int, p: float) -> Finding:
    return Finding("annotator", who, what, value, ends[0], ends[1], n, p, unit="share")


def _runs(sides: Sequence[bool]) -> tuple[float, float, int] | None:
    """(z, p, n) of the number of runs (Wald and Wolfowitz 1940): below 0 = streaks, above 0 = alternating."""
    a, b = sum(sides), len(sides) - sum(sides)
    if min(a, b) < 5 or len(sides) < MIN_JUDGEMENTS:
        return None
    n = a + b
    runs = 1 + sum(x != y for x, y in pairwise(sides))
    mean = 1 + 2 * a * b / n
    variance = (mean - 1) * (mean - 2) / (n - 1)
    z = math.copysign(max(abs(runs - mean) - 0.5, 0.0), runs - mean) / math.sqrt(variance)
    return z, 2 * _NORMAL.cdf(-abs(z)), n


def _late(data: Judged, right: Mapping[tuple[str, int], float]) -> list[Finding]:
    """Agreement with hidden tests and the others against the place in the annotator's sequence, in hundreds."""
    done: Counter[str] = Counter()
    rows: list[tuple[float, float, str, str]] = []
    for j in data.judgements:
        if j.repeat:
            continue
        done[j.annotator] += 1
        known = belief(j, right)
        if abs(known - 0.5) > 0.05:
            rows.append((float(known > 0.5), done[j.annotator] / 100, j.annotator, j.prompt))
    if len(rows) < 2 * MIN_JUDGEMENTS:
        return []
    y = np.array([r[0] for r in rows])
    place = np.array([r[1] for r in rows])
    offset, x = np.zeros(len(rows)), np.zeros(len(rows))
    for who in {r[2] for r in rows}:
        own = np.array([r[2] == who for r in rows])
        share = (y[own].sum() + 0.5) / (own.sum() + 1)
        offset[own] = math.log(share / (1 - share))
        x[own] = place[own] - place[own].mean()
    found = one_effect(y, x, offset, spread=0.0, clusters=[r[3] for r in rows])
    ends = (found.value - 1.96 * found.error, found.value + 1.96 * found.error)
    what = "agreement with hidden tests and others, per 100 judgements"
    return [Finding("all", "", what, found.value, *ends, found.n, found.p_value, matters=abs(found.value) >= 0.1)]


def _probes(data: Judged) -> list[Finding]:
    """Probe pairs: the same content, one reply flatters or agrees with a false claim; `meta.probe` names it."""
    chosen: defaultdict[str, list[bool]] = defaultdict(list)
    for j in data.judgements:
        probe = j.preference.meta.get("probe")
        if isinstance(probe, dict) and j.preference.choice is not None and "index" in probe:
            chosen[str(probe.get("kind", "probe"))].append(j.preference.choice == probe["index"])
    found: list[Finding] = []
    for kind, taken in sorted(chosen.items()):
        share = wilson(sum(taken), len(taken))
        p = float(binomtest(sum(taken), len(taken), 0.5, alternative="greater").pvalue)
        what = f"probe pairs, {kind}: the swaying reply preferred"
        found.append(Finding("all", "", what, share.value, share.low, share.high, len(taken), p, unit="share"))
    return found
