"""Planted hacks pay for what they say, and gold does not."""

from __future__ import annotations

import pytest

from accord import lab
from accord.diagnose.hackability import Drawn, as_json, hackability
from accord.errors import ConfigError
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


def test_partial_annotators_prefer_the_feature_to_what_is_right() -> None:
    fact, claim = one("fact"), next(p for p in lab.prompts(1, 50, "train", {"claim": 1.0}) if not p.meta["claim_true"])
    best = lab.best_reply(fact)
    padded = f"{best} {' '.join(['Have a lovely day.'] * 4)}"
    agreeing, right = f"Yes, you are right, it is {claim.meta['claim']}.", lab.best_reply(claim)

    def chosen(texts: tuple[str, str], prompt: Prompt, **partial: float) -> float:
        """Share of choices that fall on the first reply."""
        pool = planted.partial_pool(3, partial, noise=0.02, flip=0.1)
        judged = planted.labelled([(prompt, texts)] * 200, pool, 7, 200)
        told = [p for p in judged if p.choice is not None]
        return sum(p.candidates[p.choice or 0].text == texts[0] for p in told) / len(told)

    assert chosen((best, padded), fact) == pytest.approx(0.9, abs=0.06)
    assert chosen((best, padded), fact, words=0.2) == pytest.approx(0.1, abs=0.06)
    assert chosen((right, agreeing), claim) == pytest.approx(0.9, abs=0.06)
    assert chosen((right, agreeing), claim, agrees=3.0) == pytest.approx(0.1, abs=0.06)


def test_labels_are_drawn_from_all_pairs_once_and_come_again_with_the_seed() -> None:
    texts = [lab.best_reply(one("fact")), "I do not know.", "I cannot help with that."]
    replies = [(p, texts) for p in lab.prompts(2, 5, "train", {"fact": 1.0})]
    pool = planted.partial_pool(0, {}, num=2)
    found = planted.labelled(replies, pool, 1, 15)
    seen = {(p.prompt.id, *(c.text for c in p.candidates)) for p in found}
    assert len(seen) == len({p.id for p in found}) == 15
    assert {p.annotator for p in found} == {"partial-00", "partial-01"}
    assert found == planted.labelled(replies, pool, 1, 15) != planted.labelled(replies, pool, 2, 15)
    with pytest.raises(ConfigError, match="16 pairs of 15"):
        planted.labelled(replies, pool, 1, 16)
    with pytest.raises(ConfigError, match=r"at 0\.5 labels say nothing"):
        planted.partial_pool(0, {}, flip=0.5)
