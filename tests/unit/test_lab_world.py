"""The world: splits that do not overlap, questions that the pretraining text answers, reproducible generators."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest

from accord.errors import ConfigError
from accord.lab.corpus import SHARES, corpus
from accord.lab.demonstrations import demonstrations
from accord.lab.questions import FAMILIES, Meta, cores, prompts
from accord.lab.replies import best_reply
from accord.lab.world import SECRETS, SPLITS, STRANGERS, cumulative, facts, pick, pick_weighted, share, sums


def key(core: Meta) -> str:
    return json.dumps(core, sort_keys=True)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_splits_share_no_content(family: str) -> None:
    groups = {split: {key(core) for core in cores(family, split)} for split in SPLITS}
    for first, second in combinations(SPLITS, 2):
        assert not groups[first] & groups[second]
    assert all(groups.values())
    assert len(groups["train"]) > len(groups["eval"]) >= len(groups["probe"])


def test_share_is_a_partition() -> None:
    parts = [share(list(range(37)), split, "x") for split in SPLITS]
    assert sorted(i for part in parts for i in part) == list(range(37))


def test_prompts_of_different_splits_never_share_a_wording() -> None:
    texts = {split: {p.messages[0].content for p in prompts(0, 500, split)} for split in SPLITS}
    for first, second in combinations(SPLITS, 2):
        assert not texts[first] & texts[second]


def test_prompts_are_reproducible_distinct_and_of_all_families() -> None:
    one = prompts(5, 300, "eval")
    assert one == prompts(5, 300, "eval")
    assert one != prompts(6, 300, "eval")
    assert len({p.id for p in one}) == 300
    assert len({p.messages[0].content for p in one}) > 290
    assert {p.meta["family"] for p in one} == set(FAMILIES)
    assert all(json.loads(json.dumps(p.meta)) == p.meta for p in one)
    assert {p.meta["family"] for p in prompts(0, 20, families={"tool": 1.0})} == {"tool"}
    with pytest.raises(ConfigError, match="no prompts"):
        prompts(0, 3, families={"poetry": 1.0})


def test_every_fact_and_sum_is_stated_often_and_no_secret_ever_truly() -> None:
    documents = corpus(0, 6000)
    stated = " ".join(d.text for d in documents if d.meta["kind"] in ("facts", "sums")).lower()
    for (entity, attribute), value in facts().items():
        assert stated.count(f"the {attribute} of {entity} is {value}.".lower()) >= 10
    for (a, op, b), value in sums().items():
        assert f"{a} {op} {b} is {value}." in stated
    assert not any(f"the {secret} of" in stated for secret in SECRETS)
    assert not any(f"of {stranger.lower()} is" in stated for stranger in STRANGERS)


def test_dialogues_in_the_corpus_only_use_train_prompts() -> None:
    held_out = {p.messages[0].content for split in ("eval", "probe") for p in prompts(0, 400, split)}
    for document in corpus(1, 600):
        if document.meta["kind"] == "dialogue":
            assert not set(document.text.split("\n")) & held_out


def test_corpus_is_reproducible_and_mixed() -> None:
    one = corpus(2, 200)
    assert one == corpus(2, 200)
    assert one[:50] == corpus(2, 200)[:50]
    assert {d.meta["kind"] for d in one} == set(SHARES)
    assert sum(SHARES.values()) == pytest.approx(1.0)


def test_demonstrations_are_of_mixed_quality() -> None:
    demos = demonstrations(0, 800)
    assert demos == demonstrations(0, 800)
    good = np.mean([d.meta["mode"] == "good" and d.meta["plain"] for d in demos])
    fair = np.mean([d.meta["mode"] == "good" for d in demos])
    assert 0.25 < good < 0.5 < fair < 0.75
    assert all(d.messages[-1].role == "assistant" for d in demos)
    assert max(len(d.messages[-1].content.split()) for d in demos) <= 60
    assert len({(d.meta["family"], d.meta["mode"]) for d in demos}) >= 20


def test_prompts_and_best_replies_are_short() -> None:
    for prompt in prompts(0, 300, "eval"):
        assert 3 <= len(prompt.messages[0].content.split()) <= 20
        assert 1 <= len(best_reply(prompt).split()) <= 14


def test_draws_are_those_of_numpy() -> None:
    """What a seed gives must not change: numbers in the docs and fingerprints of runs depend on it."""
    own, numpys = np.random.default_rng(3), np.random.default_rng(3)
    shares = (0.55, 0.3, 0.15)
    for size in (1, 2, 3, 7, 100) * 20:
        items = [f"item {i}" for i in range(size)]
        assert pick(own, items) == str(numpys.choice(items))
        assert pick_weighted(own, cumulative(shares)) == int(numpys.choice(3, p=shares))
