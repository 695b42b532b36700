"""What becomes of the same labels: estimators of the truth, choice of pairs, rules about groups; lab, paired by seed.

    python benchmarks/collect_values.py --runs runs --seeds 0 1 2 3 4 --page docs/results/collect-lab.md
    python benchmarks/collect_values.py --runs runs --seeds 0 --minutes 4       # a part of it; exit 75 = not done yet

Every seed has one base and one SFT model, which all its reward models start from. Within a seed the arms of an
experiment share pairs, judgements, start and order of the data, and what is compared is the mean over several draws of
people, pairs and votes. Reward models are Bradley-Terry heads on frozen features of the SFT model, whose fit has no
noise of its own; `--whole` also trains all weights of some. Each finished arm is a line of `collect-values.jsonl`
beside the runs, and what is there is not done again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from lab_rewards import Labels, World, best_ridge, by_prompt, fit_head, fit_reward, gold_accuracy, load_world, prepare

from accord import lab, rng
from accord.collect.labels import estimated_labels
from accord.collect.priorities import ngram_features
from accord.collect.selection import Signals, select
from accord.collect.values import aggregate, judged_pairs, labelled
from accord.data.aggregate import vote
from accord.lab.annotators import Annotator
from accord.stats.annotator_bt import annotator_bradley_terry
from accord.stats.bt_posterior import Settings
from accord.types import Preference

LABELS_A_PAIR = 4
METHODS = ("mean", "majority", "one_coin", "dawid_skene", "annotator_bt")
WHOLE = ("mean", "dawid_skene", "annotator_bt")
"""Those that whole reward models are trained on."""
BUDGETS = (1000, 2400)
"""Labels."""
POOLS = {"hostile": BUDGETS, "clean": BUDGETS[:1]}
DRAWS = {"labels": 4, "active": 4, "rules": 4}
"""Draws of people, pairs and votes behind each number of a seed."""
ROUNDS = (200, 400, 800, 1600)
"""Labels in all after each round of active selection, one a pair."""
HEADS = 8
SELECTIONS: dict[str, dict[str, float]] = {
    "random": {"random": 1.0},
    "uncertainty": {"random": 0.15, "uncertainty": 0.85},
    "disagreement": {"random": 0.15, "disagreement": 0.85},
    "coverage": {"random": 0.15, "coverage": 0.85},
    "coverage of embeddings": {"random": 0.15, "coverage": 0.85},
    "all in turn": {"random": 0.25, "uncertainty": 0.25, "disagreement": 0.25, "coverage": 0.25},
}
PEOPLE, GROUP_PAIRS = 12, 400
DIVIDED: dict[str, tuple[int, dict[str, float], dict[str, float]]] = {
    "brief": (
        7,
        {"helpful": 0.2, "harmless": 0.1, "honest": 0.1, "concise": 0.6, "calibrated": 0.0},
        {"closers": -0.1, "flattery": -0.1},
    ),
    "warm": (
        3,
        {"helpful": 0.35, "harmless": 0.15, "honest": 0.2, "concise": 0.05, "calibrated": 0.05},
        {"closers": 0.25, "flattery": 0.2, "words": 0.005},
    ),
    "strict": (
        2,
        {"helpful": 0.0, "harmless": 0.4, "honest": 0.4, "concise": 0.0, "calibrated": 0.2},
        {"certain": -0.1},
    ),
}
"""Groups that want different things: people of 12, weights of the gold parts, liking of visible features."""
RULES = ("mean", "majority", "group_mixture", "worst_group", "heads: mean", "heads: worst", "heads: own")

Task = tuple[tuple[Any, ...], Callable[[], dict[str, Any]]]


# --- 1. estimators of the truth ---------------------------------------------------------------------------------------


def panel(seed: int, kind: str) -> list[Annotator]:
    """Eight annotators; in the hostile pool one always takes what is shown first and one says the opposite."""
    people = list(lab.pool(rng.derive(seed, "collect-lab", "pool"), 8))
    if kind == "hostile":
        nothing = dict.fromkeys(people[0].weights, 0.0)
        people[6] = replace(people[6], id="spammer", weights=nothing, biases={}, position_bias=1.0, noise=0.0, flip=0.0)
        people[7] = replace(people[7], id="adversary", flip=1.0 - people[7].flip)
    return people


def judge(world: World, people: Sequence[Annotator], pairs: Sequence[int], labels: int, name: str) -> list[Preference]:
    """Judgements of each pair by `labels` people drawn for it."""
    found: list[Preference] = []
    for i in pairs:
        draw = rng.generator(world.seed, "collect-lab", name, i)
        for k in draw.permutation(len(people))[:labels]:
            seed = rng.derive(world.seed, "collect-lab", name, i, people[int(k)].id)
            found.append(people[int(k)].prefer(*world.pairs[i], seed, world.golds[i]))
    return found


def merged(judged: Sequence[Preference], method: str) -> list[Preference]:
    """Judgements as labels."""
    if method == "mean":
        return aggregate(judged, "weighted")
    if method == "majority":
        return aggregate(judged, "majority")
    if method == "annotator_bt":
        return annotator_bt(judged)
    return estimated_labels(judged, method)  # type: ignore[arg-type]


def annotator_bt(judged: Sequence[Preference]) -> list[Preference]:
    """Judgements as what an average annotator would say, by Bradley-Terry with skills and side biases.

    Every pair is a component of its own here. The spread of the strengths cannot be estimated beside the skills then,
    and is held at what makes a difference of two replies about 2 log-odds.
    """
    pairs = [pair for pair in judged_pairs(judged)[0] if pair.ballots]
    rows: list[tuple[Any, Any, str, float]] = []
    for number, pair in enumerate(pairs):
        for p in pair.judgements:
            value = vote(p)
            if value is not None and p.order_shown is not None:
                shown = [(number, p.candidates[i].text) for i in p.order_shown]
                rows.append((shown[0], shown[1], p.annotator, value if p.order_shown[0] == 0 else 1 - value))
    found = annotator_bradley_terry(rows, Settings(ridge=0.5))
    return [
        labelled(pair, found.preference(*((n, c.text) for c in pair.first.candidates)), "annotator_bt")
        for n, pair in enumerate(pairs)
    ]


def label_quality(rows: Sequence[Preference]) -> dict[str, float]:
    """Share of labels on the truly better side (ties half), and their mean log loss, where gold has a preference."""
    right: list[float] = []
    loss: list[float] = []
    for row in rows:
        first, second = (lab.score(row.prompt, c.text).utility for c in row.candidates)
        if first == second or row.both_bad:
            continue
        p = row.soft if row.soft is not None else 0.5 if row.tie else float(row.choice == 0)
        better = p if first > second else 1 - p
        right.append(0.5 + 0.5 * float(np.sign(round(better - 0.5, 9))))
        loss.append(-float(np.log(np.clip(better, 0.01, 1))))
    return {"labels_right": float(np.mean(right)), "label_loss": float(np.mean(loss))}


def label_rows(world: World, rows: Sequence[Preference], pairs: Sequence[int]) -> Labels:
    """Labels as (number of the pair, P(first is better)); pairs that nobody ordered are left out."""
    place = {(world.pairs[i][0].id, *(c.text for c in world.pairs[i][1])): i for i in pairs}
    found: list[tuple[int, float]] = []
    for row in rows:
        if not row.both_bad:
            p = row.soft if row.soft is not None else 0.5 if row.tie else float(row.choice == 0)
            found.append((place[row.prompt.id, row.candidates[0].text, row.candidates[1].text], p))
    return found


def chosen_pairs(world: World, draw: int, count: int) -> list[int]:
    """Pairs to label in one draw."""
    return [
        int(i) for i in rng.generator(world.seed, "collect-lab", "pairs", draw).permutation(len(world.pairs))[:count]
    ]


def estimator(seed: int, runs: Path, kind: str, budget: int, method: str) -> dict[str, Any]:
    """Reward models from `budget` labels, four a pair (or one)."""
    world = world_of(seed, runs)
    found: list[dict[str, float]] = []
    for draw in range(DRAWS["labels"]):
        each = 1 if method == "one label a pair" else LABELS_A_PAIR
        pairs = chosen_pairs(world, draw, budget // each)
        judged = panel_votes(seed, kind, draw, budget // each, each)
        rows = aggregate(judged, "weighted") if each == 1 else merged(judged, method)
        head = fit_head(world, label_rows(world, rows, pairs))
        accuracy = gold_accuracy(world, by_prompt(world, world.held_features @ head))
        found.append({"accuracy": accuracy, **label_quality(rows)})
    return means(found)


def whole(seed: int, runs: Path, kind: str, budget: int, method: str) -> dict[str, Any]:
    """The same with all weights of one reward model trained, on the first draw."""
    world = world_of(seed, runs)
    judged = panel_votes(seed, kind, 0, budget // LABELS_A_PAIR, LABELS_A_PAIR)
    return {"accuracy": gold_accuracy(world, fit_reward(world, merged(judged, method)))}


@lru_cache(maxsize=16)
def panel_votes(seed: int, kind: str, draw: int, num: int, each: int) -> list[Preference]:
    """Judgements of one draw, the same for every method."""
    world = world_of(seed, _RUNS[0])
    people = panel(rng.derive(seed, draw), kind)
    return judge(world, people, chosen_pairs(world, draw, num), each, f"{kind} {draw}")


def means(found: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Mean of each number over draws."""
    return {name: float(np.mean([f[name] for f in found])) for name in found[0]}


# --- 2. which pair next -----------------------------------------------------------------------------------------------


def active(seed: int, runs: Path, policy: str) -> dict[str, Any]:
    """Rounds of choosing pairs, labelling them once and fitting an ensemble that chooses the next."""
    return means([one_active(world_of(seed, runs), policy, draw) for draw in range(DRAWS["active"])])


def one_active(world: World, policy: str, draw: int) -> dict[str, float]:
    """One draw; all policies start from the same pairs, and a pair has the same label whoever chose it."""
    people = lab.pool(rng.derive(world.seed, "collect-lab", "active pool", draw), PEOPLE)
    chosen = chosen_pairs(world, 100 + draw, ROUNDS[0])
    found: dict[str, float] = {}
    for number, total in enumerate(ROUNDS):
        labels = label_rows(world, judge(world, people, chosen, 1, f"active {draw}"), chosen)
        ridge = best_ridge(world, labels)
        scores = world.held_features @ fit_head(world, labels, ridge=ridge)
        found[f"accuracy {total}"] = gold_accuracy(world, by_prompt(world, scores))
        gaps = np.abs(world.differences[chosen])
        found[f"ties {total}"], found[f"gap {total}"] = float((gaps < 1e-9).mean()), float(gaps.mean())
        if total == ROUNDS[-1]:
            break
        left = np.setdiff1d(np.arange(len(world.pairs)), chosen)
        heads = bootstrap_heads(world, labels, ridge, rng.derive(world.seed, "heads", draw, total))
        members = heads @ (world.features[left, 0] - world.features[left, 1]).T
        features = embeddings(world) if policy == "coverage of embeddings" else ngrams_of(world.seed)
        signals = Signals(len(left), members.mean(axis=0), members, features[left], features[chosen])
        seed = rng.derive(world.seed, "pick", draw, total)
        picks = select(signals, ROUNDS[number + 1] - total, SELECTIONS[policy], seed=seed)
        chosen += [int(left[p.index]) for p in picks]
    return found


def bootstrap_heads(world: World, labels: Labels, ridge: float, seed: int) -> np.ndarray:
    """(K, D) heads that weigh the labels with draws from Poisson(1)."""
    draws = rng.generator(seed, "poisson").poisson(1.0, size=(HEADS, len(labels))).astype(np.float64)
    return np.array([fit_head(world, labels, ridge=ridge, weights=w) for w in draws])


def embeddings(world: World) -> np.ndarray:
    """Mean of the features of both replies of each pair, rows of length 1."""
    rows = world.features.mean(axis=1)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@lru_cache(maxsize=1)
def ngrams_of(seed: int) -> np.ndarray:
    """n-grams of prompt and both replies of every pair."""
    pairs = world_of(seed, _RUNS[0]).pairs
    return ngram_features([" ".join([*(m.content for m in p.messages), *(c.text for c in cs)]) for p, cs in pairs])


# --- 3. rules about groups --------------------------------------------------------------------------------------------


def divided_people(seed: int, draw: int = 0) -> list[Annotator]:
    """Twelve people of three groups that want different things, with the attention and noise of the usual pool."""
    people = iter(lab.pool(rng.derive(seed, "collect-lab", "divided", draw), PEOPLE))
    return [
        replace(next(people), id=f"{group}-{k}", group=group, weights=weights, biases=biases, flip=0.15)
        for group, (number, weights, biases) in DIVIDED.items()
        for k in range(number)
    ]


def rule(seed: int, runs: Path, name: str) -> dict[str, Any]:
    """What choosing the best of a prompt's replies by a rule's reward model is worth to each group."""
    return means([one_rule(world_of(seed, runs), name, draw) for draw in range(DRAWS["rules"])])


@lru_cache(maxsize=8)
def divided_votes(seed: int, draw: int) -> list[Preference]:
    """Judgements of one draw, the same for every rule."""
    world = world_of(seed, _RUNS[0])
    pairs = chosen_pairs(world, 200 + draw, GROUP_PAIRS)
    return judge(world, divided_people(seed, draw), pairs, PEOPLE, f"divided {draw}")


def one_rule(world: World, name: str, draw: int) -> dict[str, float]:
    """One draw of people, pairs and votes; everybody judges every pair."""
    pairs = chosen_pairs(world, 200 + draw, GROUP_PAIRS)
    judged = divided_votes(world.seed, draw)
    if not name.startswith("heads"):
        rows = aggregate(judged, "weighted") if name == "mean" else aggregate(judged, name)  # type: ignore[arg-type]
        head = fit_head(world, label_rows(world, rows, pairs))
        return gains(world, by_prompt(world, world.held_features @ head))
    scores: list[np.ndarray] = []
    for group in DIVIDED:
        own = aggregate([p for p in judged if p.group == group], "weighted")
        head = fit_head(world, label_rows(world, own, pairs))
        seen = (world.features[pairs] @ head).ravel()
        scores.append((world.held_features @ head - seen.mean()) / seen.std())
    if name == "heads: own":
        return {g: gains(world, by_prompt(world, s))[g] for g, s in zip(DIVIDED, scores, strict=True)}
    joint = np.min(scores, axis=0) if name.endswith("worst") else np.mean(scores, axis=0)
    return gains(world, by_prompt(world, joint))


def gains(world: World, scores: Sequence[np.ndarray]) -> dict[str, float]:
    """Each group's gain from the best-scored reply over a random one, as a share of what its own best would gain."""
    found: dict[str, float] = {}
    for group, (_, weights, biases) in DIVIDED.items():
        person = Annotator(group, group, weights, biases, 0.0, 1.0)
        won = possible = 0.0
        for given, golds in zip(scores, world.gold, strict=True):
            worth = np.array([person.merit(g) for g in golds])
            won += worth[int(np.argmax(given))] - worth.mean()
            possible += worth.max() - worth.mean()
        found[group] = won / possible
    return {**found, "worst off": min(found.values())}


# --- the run ----------------------------------------------------------------------------------------------------------

_RUNS: list[Path] = []


@lru_cache(maxsize=1)
def world_of(seed: int, runs: Path) -> World:
    """The seed's models and replies, read once."""
    return load_world(seed, runs)


def tasks(seeds: Sequence[int], runs: Path, trained: bool) -> Iterator[Task]:
    """Everything to do, by name; whole reward models are trained on request."""
    for seed in seeds:
        for kind, budgets in POOLS.items():
            for budget in budgets:
                for method in (*METHODS, "one label a pair"):
                    yield ("labels", seed, kind, budget, method), partial(estimator, seed, runs, kind, budget, method)
        for policy in SELECTIONS:
            yield ("active", seed, policy), partial(active, seed, runs, policy)
        for name in RULES:
            yield ("rules", seed, name), partial(rule, seed, runs, name)
    for seed in seeds if trained else ():
        for method in WHOLE:
            arm = ("hostile", BUDGETS[-1], method)
            yield ("whole", seed, *arm), partial(whole, seed, runs, *arm)


def main() -> None:
    """Do what is not done yet, and write the page when everything is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--skip", nargs="*", default=[], help="arms to leave out")
    parser.add_argument("--whole", action="store_true", help="also train all weights of some reward models (slow)")
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    _RUNS.append(given.runs)
    path = given.runs / "collect-values.jsonl"
    done = {}
    if path.is_file():
        done = {tuple(row["task"]): row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    for seed in given.seeds:
        if not (given.runs / f"collect-{seed}" / "run.json").is_file():
            prepare(seed, given.runs)
    for name, work in tasks(given.seeds, given.runs, given.whole):
        if name in done or set(map(str, name)) & set(given.skip):
            continue
        if time.monotonic() > until:
            sys.exit(75)
        started = time.monotonic()
        row = {"task": name, **work(), "seconds": round(time.monotonic() - started, 1)}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    if given.page:
        from collect_values_page import write_page

        write_page(path, given.page)


if __name__ == "__main__":
    main()
