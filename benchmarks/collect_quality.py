"""Error rates of the quality report on simulated pools; results in docs/results/collect-quality.md.

    python benchmarks/collect_quality.py [--seeds 200] [--only sixty_labels ...] > docs/results/collect-quality.json

Pools have eight annotators and three labels a pair. Everything is a function of the seeds.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import scipy

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit"))

from quality_pool import Fault, pool_preferences
from test_stats_annotator_bt import jeffreys, judgements, pairs_of_prompts

from accord.collect.quality.audit import audit, with_alarms
from accord.collect.quality.conduct import GOOD_ON_GOLD, GOOD_ON_ORDINARY, GUESSING, HORIZON, conduct
from accord.collect.quality.judged import SWAP, VERDICTS, judged
from accord.collect.scheduling import lane
from accord.collect.settings import ProjectSettings
from accord.stats.annotator_bt import annotator_bradley_terry
from accord.stats.annotator_pairs import annotator_pairs
from accord.stats.combine import combine, majority_vote
from accord.stats.consensus import one_coin
from accord.stats.intervals import Interval, bootstrap_mean, wilson
from accord.stats.ranking import bradley_terry
from accord.stats.sequential import operating, sequential_evidence, sequential_gold

CLEAN = [Fault(skill=s) for s in (1.3, 1.2, 1.1, 1.0, 1.0, 0.9, 0.8, 0.7)]
SIMPLE_SWAP = {"first": "second", "second": "first"}


def share(hits: int, n: int) -> dict[str, float]:
    return asdict(wilson(hits, n))


def clean_alarms(seeds: int) -> dict[str, float]:
    """Share of pools without any bias in which anything raises an alarm."""
    raised = 0
    for seed in range(seeds):
        data = judged(pool_preferences(50_000 + seed, CLEAN, prompts=150))
        believed = one_coin(data.votes, labels=VERDICTS, swap=SWAP)
        raised += any(f.alarm for f in with_alarms([*audit(data), *conduct(data, believed)[1]]))
    return share(raised, seeds)


def injected(seeds: int) -> dict[str, dict[str, float]]:
    """Coverage of the intervals of an injected lean of 0.5 and length effect of 0.6, and how often they are alarms."""
    faults = [replace(f, position=0.5, length=0.6) for f in CLEAN]
    inside = {"position": 0, "length": 0}
    found = {"position": 0, "length": 0}
    for seed in range(seeds):
        for f in with_alarms(audit(judged(pool_preferences(60_000 + seed, faults, prompts=330)))):
            if f.scope == "all" and f.what in inside:
                inside[f.what] += f.low <= {"position": 0.5, "length": 0.6}[f.what] <= f.high
                found[f.what] += f.alarm
    return {name: {"covered": share(inside[name], seeds), "alarm": share(found[name], seeds)} for name in inside}


def gold_only() -> dict[str, dict[str, float]]:
    """Exact: blocked within so many gold answers."""
    return {
        f"right with {q}": {str(n): operating(q, n).blocked for n in (6, 20, 30, 40, 60, 2000)}
        for q in (0.1, 0.3, 0.5, 0.6, 0.75, 0.85)
    }


PEOPLE = {
    "adversary": (0.1, 0.1),
    "spammer": (0.5, 0.5),
    "good": (GOOD_ON_GOLD, GOOD_ON_ORDINARY),
    "better": (0.92, 0.82),
}
"""Share right of hidden tests, and of ordinary pairs."""


def sixty_labels(seeds: int, others: int, right_of_others: float) -> dict[str, dict[str, float]]:
    """Found within 60 labels with the site's own rates of hidden tests; the rest is judged by so many others too."""
    settings = ProjectSettings()
    odds_of_one = right_of_others / (1 - right_of_others)
    rates: dict[str, dict[str, float]] = {}
    for number, (name, (on_gold, ordinary)) in enumerate(PEOPLE.items()):
        found = 0
        for seed in range(seeds):
            random = np.random.default_rng([seed, number, others])
            beliefs: list[float] = []
            good: list[float] = []
            tests = 0
            for _ in range(HORIZON):
                hidden = lane(float(random.random()), tests, settings) == "gold"
                right = random.random() < (on_gold if hidden else ordinary)
                tests += hidden
                good.append(GOOD_ON_GOLD if hidden else GOOD_ON_ORDINARY)
                if hidden:
                    beliefs.append(float(right))
                    continue
                agree = int((random.random(others) < (right_of_others if right else 1 - right_of_others)).sum())
                odds = odds_of_one ** (2 * agree - others)
                beliefs.append(odds / (1 + odds))
            found += sequential_evidence(beliefs, GUESSING, good=good, horizon=HORIZON) == "fail"
        rates[name] = share(found, seeds)
    return rates


def gold_simulated(seeds: int) -> dict[str, dict[str, float]]:
    """The sequential gold test on 60 gold answers, simulated as a check of the exact numbers."""
    rates: dict[str, dict[str, float]] = {}
    for skill in (0.1, 0.5, 0.75, 0.85):
        blocked = 0
        for seed in range(seeds):
            right = np.cumsum(np.random.default_rng([seed, round(100 * skill)]).random(60) < skill)
            blocked += any(sequential_gold(int(r), n) == "fail" for n, r in enumerate(right, 1))
        rates[f"right with {skill}"] = share(blocked, seeds)
    return rates


def strengths(seeds: int) -> dict[str, dict[str, float]]:
    """Correlation with true strengths, 12 things and 1,500 votes, an always-left spammer and an adversary among 6."""
    plain, own = [], []
    for seed in range(seeds):
        judged_pairs, truth = judgements(70_000 + seed)
        wins = np.full((12, 12), 0.01)
        for a, b, _, result in judged_pairs:
            wins[a, b] += result
            wins[b, a] += 1 - result
        found = annotator_bradley_terry(judged_pairs)
        place = [found.items.index(k) for k in range(12)]
        plain.append(np.corrcoef(bradley_terry(wins), truth)[0, 1])
        own.append(np.corrcoef(found.strength[place], truth)[0, 1])
    gain: Interval = bootstrap_mean(np.subtract(own, plain))
    return {"plain": asdict(bootstrap_mean(plain)), "annotators": asdict(bootstrap_mean(own)), "gain": asdict(gain)}


def labels(seeds: int) -> dict[str, dict[str, float]]:
    """Accuracy of labels of 500 pairs with 3 votes each from the same six people."""
    right: dict[str, list[float]] = {}
    for seed in range(seeds):
        votes, gap = pairs_of_prompts(80_000 + seed, prompts=500)
        truth = gap > 0
        plain = [(i, w, "first" if first == (r == 1.0) else "second") for i, first, w, r in votes]
        majority = majority_vote(plain, "random", seed=seed).label
        right.setdefault("majority", []).append(np.mean([(majority[i] == "first") == truth[i] for i in range(500)]))
        for method in ("one_coin", "dawid_skene", "mace", "glad"):
            best = combine(plain, method, swap=SIMPLE_SWAP).best
            right.setdefault(method, []).append(np.mean([(best[i] == "first") == truth[i] for i in range(500)]))
        pairs = annotator_pairs(votes)
        right.setdefault("annotator_bt", []).append(np.mean((pairs.preference > 0.5) == truth))
        right.setdefault("shares", []).append(np.mean((jeffreys(votes, 500) > 0.5) == truth))
    return {name: asdict(bootstrap_mean(values)) for name, values in right.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--only", nargs="*", help="names of the measurements; all by default")
    options = parser.parse_args()
    seeds: int = options.seeds
    measurements: dict[str, Callable[[], object]] = {
        "gold_exact": gold_only,
        "gold_simulated": lambda: gold_simulated(10 * seeds),
        "sixty_labels": lambda: {
            f"{others} others right with {q}": sixty_labels(5 * seeds, others, q)
            for others in (2, 4)
            for q in (0.75, 0.8)
        },
        "strengths": lambda: strengths(seeds // 4),
        "labels": lambda: labels(seeds // 10),
        "clean_alarms": lambda: clean_alarms(seeds),
        "injected": lambda: injected(seeds // 4),
    }
    unknown = set(options.only or ()) - measurements.keys()
    if unknown:
        parser.error(f"there is no measurement {', '.join(sorted(unknown))}; there are {', '.join(measurements)}")
    start = time.time()
    told: dict[str, object] = {
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__},
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seeds": seeds,
    }
    for name, measure in measurements.items():
        if not options.only or name in options.only:
            told[name] = measure()
    print(json.dumps({**told, "seconds": round(time.time() - start)}, indent=2))


if __name__ == "__main__":
    main()
