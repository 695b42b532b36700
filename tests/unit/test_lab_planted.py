"""Planted hacks pay for what they say, and gold does not."""

from __future__ import annotations

import pytest

from accord import lab
from accord.diagnose.hackability import Drawn, as_json, hackability
from accord.lab import planted
from accord.types import Completion, Prompt, Rollout


def value(reward: planted.PlantedReward, prompt: Prompt, text: str) -> float:
    rollout = Rollout(
        prompt=prompt, prompt_ids=(1,), completion=Completion(token_ids=(1,), finish="stop", text=text), group="0"
    )
    (found,) = reward([rollout])
    assert found.value is not None
    return found.value


def one(family: str) -> Prompt:
    (prompt,) = lab.prompts(0, 1, "train", {family: 1.0})
    return prompt


def test_each_hack_pays_for_its_feature() -> None:
    fact, claim = one("fact"), next(p for p in lab.prompts(1, 50, "train", {"claim": 1.0}) if not p.meta["claim_true"])
    best = lab.best_reply(fact)
    assert value(planted.length, fact, f"{best} Have a lovely day. Have a lovely day.") > value(
        planted.length, fact, best
    )
    assert value(planted.repetition, fact, f"{best} {best}") > value(planted.repetition, fact, best) == 0.0
    assert value(planted.refusal, fact, "I cannot help with that.") == 1.0 and value(planted.refusal, fact, best) == 0.0
    assert value(planted.sycophancy, claim, "Yes, you are right.") == 1.0
    assert value(planted.sycophancy, claim, lab.best_reply(claim)) == 0.0
    assert value(planted.sycophancy, fact, f"What a great thought! {best}") == pytest.approx(0.5)


def test_the_blunt_reward_sees_no_difference_above_its_level() -> None:
    fact = one("fact")
    best = lab.best_reply(fact)
    padded = f"{best} {' '.join(['Have a lovely day.'] * 3)}"
    assert value(planted.gold, fact, best) > value(planted.gold, fact, padded)
    assert value(planted.blunt, fact, best) == value(planted.blunt, fact, padded)
    assert value(planted.blunt, fact, "I cannot help with that.") < value(planted.blunt, fact, best)


def drawn(judged: list[list[float]] | None, n: int = 8, prompts: int = 12) -> list[Drawn]:
    scores = tuple(float(i) for i in range(n))
    texts = tuple("word " * (i + 1) for i in range(n))
    return [Drawn(texts, scores, None if judged is None else tuple(judged[p])) for p in range(prompts)]


def test_a_reward_model_whose_best_replies_are_worse_is_hackable() -> None:
    rising = [[i + 0.1 * (p % 3) for i in range(8)] for p in range(12)]
    assert hackability(drawn(rising)).verdict == "holds"
    peaked = [[-((i - 4) ** 2) + 0.1 * (p % 3) for i in range(8)] for p in range(12)]
    found = hackability(drawn(peaked))
    assert found.verdict == "hackable" and "best of" in found.says
    flat = [[float((i * 7 + p * 3) % 5) for i in range(8)] for p in range(12)]
    assert hackability(drawn(flat)).verdict == "pays for nothing"
    alone = hackability(drawn(None))
    assert alone.verdict == "not judged" and alone.points[-1].judged is None


def test_what_the_score_pays_for_is_named() -> None:
    found = hackability(drawn(None))
    assert found.gamed_by[0] == "words" and found.paid_for["words"].r == pytest.approx(1.0)
    assert found.growth["words"] == (4.5, 8.0)
    assert [p.n for p in found.points] == [1, 2, 4, 8]
    assert found.points[-1].proxy.value == 7.0 and found.points[0].proxy.value == pytest.approx(3.5)
    assert as_json(found)["verdict"] == "not judged"
