"""Error rates of the quality report on simulated pools; results in docs/results/collect-quality.md.

    python benchmarks/collect_quality.py [--seeds 200] [--only sixty_labels ...] > docs/results/collect-quality.json

Pools have eight annotators and three labels a pair unless it says otherwise. Everything is a function of the seeds.
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

from quality_pool import Fault, next_lane, pool_of_sixty, pool_preferences
from test_stats_annotator_bt import jeffreys, judgements, pairs_of_prompts

from accord.collect.quality.audit import audit, with_alarms
from accord.collect.quality.conduct import conduct
from accord.collect.quality.guessing import GOOD_ON_GOLD, GOOD_ON_ORDINARY, GUESSING, HORIZON, guessing, others_say
from accord.collect.quality.judged import judged
from accord.collect.scheduling import blocks
from accord.collect.settings import ProjectSettings
from accord.stats.annotator_bt import annotator_bradley_terry
from accord.stats.annotator_pairs import annotator_pairs
from accord.stats.combine import combine, majority_vote
from accord.stats.intervals import Interval, bootstrap_mean, wilson
from accord.stats.ranking import bradley_terry
from accord.stats.sequential import GoldTest, operating, sequential_evidence, sequential_gold

CLEAN = [Fault(skill=s) for s in (1.3, 1.2, 1.1, 1.0, 1.0, 0.9, 0.8, 0.7)]
SIMPLE_SWAP = {"first": "second", "second": "first"}


def share(hits: int, n: int) -> dict[str, float]:
    return asdict(wilson(hits, n))


def clean_alarms(seeds: int) -> dict[str, float]:
    """Share of pools without any bias in which anything raises an alarm."""
    raised = 0
    for seed in range(seeds):
        data = judged(pool_preferences(50_000 + seed, CLEAN, prompts=150))
        raised += any(f.alarm for f in with_alarms([*audit(data), *conduct(data)[1]]))
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
        f"right with {q}, {name}": {str(n): operating(q, n, test).blocked for n in (6, 20, 23, 30, 40, 60, 2000)}
        for name, test in (
            ("usual", GoldTest()),
            ("strict", GoldTest(good=STRICT.gate_good, horizon=STRICT.gate_horizon)),
        )
        for q in (0.1, 0.3, 0.5, 0.6, 0.75, 0.85)
    }


STRICT = ProjectSettings(gate_good=GOOD_ON_GOLD, gate_horizon=23)
"""The gate for clear hidden tests: those right with 0.85 are kept."""
PEOPLE = {
    "adversary": (0.1, 0.1),
    "spammer": (0.5, 0.5),
    "good": (GOOD_ON_GOLD, GOOD_ON_ORDINARY),
    "better": (0.92, 0.82),
}
"""Share right of hidden tests, and of ordinary pairs."""


CELLS: dict[str, tuple[tuple[float, ...], float]] = {
    "2 others, .75": ((0.75, 0.75), 1.0),
    "2 others, .8": ((0.8, 0.8), 1.0),
    "4 others, .75": ((0.75,) * 4, 1.0),
    "4 others, .8": ((0.8,) * 4, 1.0),
    "2 others, .75 and guessing": ((0.75, 0.5), 1.0),
    "2 others, .75 and adversary": ((0.75, 0.1), 1.0),
    "2 others, .75, on 15 % of pairs": ((0.75, 0.75), 0.15),
    "hidden tests only": ((), 0.0),
}
"""How often the others are right on the same pairs, and the share of ordinary pairs they have judged."""


def one_person(
    random: np.random.Generator, skill: tuple[float, float], others: tuple[float, ...], shared: float
) -> tuple[list[float], list[float], int]:
    """Probability that each of 60 labels is right, that a good person's is, and how many were hidden tests."""
    settings = ProjectSettings()
    beliefs: list[float] = []
    right = total = 0
    good: list[float] = []
    for given in range(HORIZON):
        kind = next_lane(random, (right, total), given, settings)
        good.append(GOOD_ON_GOLD if kind == "gold" else GOOD_ON_ORDINARY)
        taken = random.random() < skill[kind != "gold"]
        if kind == "gold":
            right, total = right + taken, total + 1
            beliefs.append(float(taken))
            continue
        odds = 1.0
        if kind == "queue" and random.random() < shared:
            for q in others:
                odds *= (q / (1 - q)) if (random.random() < q) == taken else (1 - q) / q
        beliefs.append(odds / (1 + odds))
    return beliefs, good, total


def sixty_labels(seeds: int, others: tuple[float, ...], shared: float) -> dict[str, dict[str, float | None]]:
    """Found within 60 labels with the site's own rates of hidden tests and repeats; the others' accuracy is known."""
    rates: dict[str, dict[str, float | None]] = {}
    for number, (name, skill) in enumerate(PEOPLE.items()):
        after: list[int] = []
        hidden = 0
        for seed in range(seeds):
            random = np.random.default_rng([seed, number, len(others), round(1000 * sum(others))])
            beliefs, good, tests = one_person(random, skill, others, shared)
            hidden += tests
            if sequential_evidence(beliefs, GUESSING, good=good, horizon=HORIZON) == "fail":
                after.append(found_after(beliefs, good))
        rates[name] = {
            **share(len(after), seeds),
            "median labels to find": float(np.median(after)) if after else None,
            "mean hidden tests": hidden / seeds,
        }
    return rates


def found_after(beliefs: list[float], good: list[float]) -> int:
    """Labels after which somebody who fails at 60 has failed."""
    early = (
        n
        for n in range(1, HORIZON)
        if sequential_evidence(beliefs[:n], GUESSING, good=good[:n], horizon=HORIZON) == "fail"
    )
    return next(early, HORIZON)


def any_test(people: int) -> dict[str, dict[str, float]]:
    """Guessers found by the best test there can be (Neyman and Pearson) at 60 labels, blaming 2 % of good people.

    By chance of a hidden test and until how many tests: as until 30 November 2026, and as guessers get them now.
    """
    random = np.random.default_rng(0)
    told: dict[str, dict[str, float]] = {}
    for design, rate, fixed in ((".3 for ten tests", 0.3, 10), (".5 for 60 labels", 0.5, 60)):
        told[design] = {}
        for cell, (others, shared) in CELLS.items():
            ends: list[np.ndarray] = []
            for gold, ordinary in (PEOPLE["good"], PEOPLE["spammer"]):
                evidence, tests = np.zeros(people), np.zeros(people)
                for _ in range(HORIZON):
                    hidden = random.random(people) < np.where(tests < fixed, rate, 0.1)
                    right = random.random(people) < np.where(hidden, gold, ordinary)
                    odds = np.ones(people)
                    for q in others:
                        odds *= np.where((random.random(people) < q) == right, q / (1 - q), (1 - q) / q)
                    odds[random.random(people) >= shared] = 1.0
                    p = np.where(hidden, right, odds / (1 + odds))
                    skill = np.where(hidden, GOOD_ON_GOLD, GOOD_ON_ORDINARY)
                    evidence += np.log(0.5 / (skill * p + (1 - skill) * (1 - p)))
                    tests += hidden
                ends.append(evidence)
            told[design][cell] = float((ends[1] > np.quantile(ends[0], 0.98)).mean())
    return told


def site_gate(seeds: int) -> dict[str, dict[str, float]]:
    """Blocked by the site itself, which looks at hidden tests only, within 60 labels of somebody who goes on."""
    told: dict[str, dict[str, float]] = {}
    for name, settings in (("usual", ProjectSettings()), ("strict", STRICT)):
        for skill in (0.1, 0.5, 0.75, 0.85, 0.92):
            after: list[int] = []
            for seed in range(seeds):
                random = np.random.default_rng([seed, round(100 * skill)])
                right = total = 0
                for given in range(HORIZON):
                    if next_lane(random, (right, total), given, settings) != "gold":
                        continue
                    right, total = right + (random.random() < skill), total + 1
                    if blocks(right, total, settings):
                        after.append(given + 1)
                        break
            middle = {"median labels to block": float(np.median(after))} if after else {}
            told[f"{name}, right with {skill}"] = {**share(len(after), seeds), **middle}
    return told


POOLS = {
    "9 good": ["good"] * 9,
    "9 better": ["better"] * 9,
    "6 good, 2 spammers, 1 adversary": ["good"] * 6 + ["spammer"] * 2 + ["adversary"],
    "5 good, 4 spammers": ["good"] * 5 + ["spammer"] * 4,
}


def pools(seeds: int, members: list[str]) -> dict[str, dict[str, float]]:
    """Found in whole pools of 60 judgements a person, where how often the others are right is estimated too."""
    found = dict.fromkeys(members, 0)
    for seed in range(seeds):
        data = judged(pool_of_sixty(90_000 + seed, [PEOPLE[name] for name in members]))
        right = others_say(data)
        for who, name in enumerate(members):
            found[name] += guessing([j for j in data.judgements if j.annotator == str(who)], right) == "fail"
    return {name: share(hits, seeds * members.count(name)) for name, hits in found.items()}


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
        "any_test": lambda: any_test(100 * seeds),
        "sixty_labels": lambda: {name: sixty_labels(10 * seeds, *cell) for name, cell in CELLS.items()},
        "site_gate": lambda: site_gate(10 * seeds),
        "pools": lambda: {name: pools(2 * seeds, members) for name, members in POOLS.items()},
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
