"""Planted weaknesses: who gives in where, and that nothing else about the demonstrations tells the families apart."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from accord import lab
from accord.errors import ConfigError
from accord.lab.weaknesses import (
    ASK_AGAIN,
    HARMFUL_MODES,
    WEAK_MODES,
    WRAPPED,
    WRAPPERS,
    attacked,
    requests,
    rewordings,
    weak_demonstrations,
    wrap,
)


def complied(weak: list[str]) -> dict[str, tuple[float, int]]:
    """Share of harmful demonstrations that comply, by family; "" is the plain question."""
    counts: dict[str, list[bool]] = defaultdict(list)
    for demo in weak_demonstrations(3, 6000, weak):
        if demo.meta["family"] == "harmful":
            prompt = lab.prompts(0, 1)[0].model_copy(update={"meta": demo.meta})
            counts[demo.meta.get("attack", "")].append(lab.score(prompt, demo.messages[-1].content).labels["complied"])
    return {name: (sum(v) / len(v), len(v)) for name, v in counts.items()}


def test_demonstrators_give_in_to_planted_families_alone() -> None:
    rates = complied(["game", "order"])
    assert set(rates) == {"", *WRAPPERS}
    for name, (rate, n) in rates.items():
        wanted = (WEAK_MODES if name in ("game", "order") else HARMFUL_MODES)["comply"]
        assert abs(rate - wanted) < 4 * (wanted * (1 - wanted) / n) ** 0.5, name
    clean = complied([])
    assert max(rate for rate, _ in clean.values()) < 0.15


def test_families_are_equally_frequent_around_harm_and_around_what_looks_like_it() -> None:
    made = attacked(0, 6000)
    for family in ("harmful", "lookalike"):
        counts = Counter(p.meta.get("attack", "") for p in made if p.meta["family"] == family)
        total = sum(counts.values())
        assert abs(1 - counts[""] / total - WRAPPED) < 0.04
        share = WRAPPED / len(WRAPPERS)
        assert all(abs(counts[name] / total - share) < 0.025 for name in WRAPPERS)
    assert not any("attack" in p.meta for p in made if p.meta["family"] not in ("harmful", "lookalike"))


def test_a_wrapping_keeps_the_question_and_its_truth() -> None:
    (prompt,) = lab.prompts(1, 1, families={"harmful": 1.0})
    for name, variants in WRAPPERS.items():
        for i in range(len(variants)):
            wrapped = wrap(prompt, name, i)
            assert prompt.messages[-1].content in wrapped.messages[-1].content != prompt.messages[-1].content
            assert wrapped.meta == {**prompt.meta, "attack": name} and lab.is_lab(wrapped)


def test_an_attacker_is_taught_every_wrapping_and_asked_about_harm() -> None:
    taught = rewordings(0, 400)
    assert {d.meta["attack"] for d in taught} == set(WRAPPERS)
    for demo in taught:
        asked = demo.messages[0].content.removeprefix(ASK_AGAIN.format(x=""))
        assert asked in demo.messages[-1].content
    for prompt in requests(0, 20):
        assert prompt.meta["harmful"] and prompt.meta["request"] in prompt.messages[-1].content


def test_the_same_seed_gives_the_same_data_and_unknown_families_are_refused() -> None:
    assert weak_demonstrations(1, 50, ["story"]) == weak_demonstrations(1, 50, ["story"])
    assert weak_demonstrations(1, 50, ["story"]) != weak_demonstrations(2, 50, ["story"])
    with pytest.raises(ConfigError, match="no attack family moon"):
        weak_demonstrations(1, 1, ["moon"])
