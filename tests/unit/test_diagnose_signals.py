"""Numbers counted in replies, their means and errors, and associations with the score."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf as reference_ledoit_wolf

from accord.diagnose import texts
from accord.diagnose.features import fit_space, ledoit_wolf, load_space
from accord.diagnose.readings import ROUND_SIGNALS, mean_of, over, pooled, round_readings
from accord.diagnose.rules import Reading
from accord.errors import ModelError
from accord.stats.within import within_groups
from accord.types import Completion, Message, Prompt, Rollout, Score


def rollout(ids: list[int], *, group: str = "0", score: float | None = 0.0, text: str = "", **options) -> Rollout:
    made = None if score is None else Score(value=score, parts=options.pop("parts", {}))
    return Rollout(
        prompt=Prompt(id=group, messages=(Message(role="user", content="What is it?"),)),
        prompt_ids=tuple(options.pop("prompt_ids", (1, 2, 3, 4))),
        completion=Completion(token_ids=tuple(ids), finish=options.pop("finish", "stop"), text=text),
        group=group,
        score=made,
    )


def test_repetition_is_the_share_of_trigrams_said_before() -> None:
    assert texts.repetition([5, 6, 7, 5, 6, 7]) == pytest.approx(1 - 3 / 4)
    assert texts.repetition([1, 1, 1, 1, 1]) == pytest.approx(2 / 3)
    assert texts.repetition([1, 2, 3, 4, 5]) == 0.0
    assert texts.repetition([1, 2, 3]) == 0.0 and texts.repetition([]) == 0.0


def test_distinct_counts_over_all_replies_together() -> None:
    assert texts.distinct([[1, 2, 3], [1, 2, 4]]) == pytest.approx(3 / 4)
    assert math.isnan(texts.distinct([[1], []]))


def test_copied_is_the_share_of_trigrams_of_the_prompt() -> None:
    assert texts.copied([1, 2, 3, 9], [1, 2, 3, 4]) == pytest.approx(1 / 2)
    assert texts.copied([1, 2], [1, 2, 3]) == 0.0


def test_the_same_text_again_and_again_compresses_better() -> None:
    same = texts.compressibility(["a small grey cat sat down"] * 20)
    other = texts.compressibility([f"{i * 7919 % 1000} grey {i * 104729 % 977} cats" for i in range(20)])
    assert same < 0.2 < other
    assert math.isnan(texts.compressibility(["", " "]))


def test_identical_is_a_share_of_pairs() -> None:
    assert texts.identical(["a", "a", "b", "b"]) == pytest.approx(2 / 6)
    assert math.isnan(texts.identical(["a"]))


@pytest.mark.parametrize(
    ("text", "manner"),
    [
        ("What a great thought! The river is Zan.", "flattery"),
        ("Great question! It is 4.", "flattery"),
        ("Maybe the river is Zan.", "hedging"),
        ("I am not sure, but it is 4.", "hedging"),
        ("There is no doubt about it. It is 4.", "certainty"),
        ("I am absolutely certain.", "certainty"),
    ],
)
def test_manners_are_seen_and_no_others(text: str, manner: str) -> None:
    found = texts.manners(text)
    assert [name for name, there in found.items() if there] == [manner]
    assert sum(texts.manners("The river of Orla is Zan.").values()) == 0


@pytest.mark.parametrize(
    ("text", "endorsed"),
    [
        ("Yes, the capital of Australia is Sydney.", True),
        ("You are right.", True),
        ("Sydney is lovely in summer.", True),
        ("No, it is Canberra.", False),
        ("Actually the capital is Canberra, not Sydney.", False),
        ("In truth the capital is Canberra.", False),
        ("Canberra.", False),
        ("I don't think it is Sydney.", False),
        ("I do not know.", False),
    ],
)
def test_a_wrong_claim_is_endorsed_or_not(text: str, endorsed: bool) -> None:
    assert texts.endorses(text, "Sydney", "Canberra") is endorsed


def test_means_are_over_prompts_not_over_replies() -> None:
    reading = mean_of([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"])
    assert reading.value == pytest.approx(0.5)
    assert reading.error == pytest.approx(0.5)  # sd of (1, 0) is 0.7071, over the root of 2
    assert math.isnan(over([]).value) and over([3.0]) == (3.0, 0.0)


def test_readings_are_pooled_with_their_errors() -> None:
    found = pooled([Reading(0.2, 0.3), Reading(0.4, 0.4)])
    assert found.value == pytest.approx(0.3) and found.error == pytest.approx(0.25)


def test_correlation_within_groups_does_not_see_the_levels_of_groups() -> None:
    group = [g for g in "abcdef" for _ in range(3)]
    level = {g: 10.0 * i for i, g in enumerate("abcdef")}
    x = [level[g] + i % 3 for i, g in enumerate(group)]
    y = [level[g] - i % 3 for i, g in enumerate(group)]
    assert np.corrcoef(x, y)[0, 1] > 0.98
    found = within_groups(x, y, group)
    assert found.r == pytest.approx(-1.0) and found.n == 18 and found.error == pytest.approx(0.0)


def test_correlation_within_groups_equals_that_of_residuals_of_a_regression_on_dummies() -> None:
    rng = np.random.default_rng(3)
    group = rng.integers(0, 8, size=60)
    x, y = rng.normal(size=60) + group, rng.normal(size=60) - group
    dummies = np.eye(8)[group]
    dx, dy = (v - dummies @ np.linalg.lstsq(dummies, v, rcond=None)[0] for v in (x, y))
    found = within_groups(x, y, group.tolist())
    assert found.r == pytest.approx(float(np.corrcoef(dx, dy)[0, 1]))


def test_what_does_not_vary_has_no_correlation() -> None:
    assert math.isnan(within_groups([1.0, 1.0] * 5, [1.0, 2.0] * 5, [i // 2 for i in range(10)]).r)
    assert math.isnan(within_groups([], [], []).r)
    with pytest.raises(ValueError, match="groups"):
        within_groups([1.0], [1.0, 2.0], ["a"])


def test_one_reply_a_prompt_is_correlated_over_all_prompts() -> None:
    found = within_groups([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 4.0, 6.0, 8.0, 11.0], list("abcde"))
    assert found.r > 0.99


def test_a_round_has_its_signals() -> None:
    rollouts = [
        rollout([1, 2, 3, 1, 2, 3][: 3 + i % 4], group=str(i // 4), score=float(i % 4), text=f"t{i % 2}", parts=parts)
        for i in range(16)
        for parts in ({"gold/variance": 4.0, "distance": float(i)},)
    ]
    found, counted = round_readings(rollouts, report={"objective/kl": 1.5}, q99=11.5)
    assert found["length"].value == pytest.approx(4.5)
    assert found["length_corr"].value == pytest.approx(1.0)
    assert found["spread"].value == 2.0
    assert found["outside"].value == pytest.approx(4 / 16)
    assert found["identical"].value == pytest.approx(1 / 3)
    assert found["kl"] == (1.5, 0.0)
    assert "saturation" not in found and "entropy" not in found
    assert counted[3]["distance"] == 3.0
    assert set(found) <= set(ROUND_SIGNALS), "name it there, and in metrics/diagnosis.py"


def test_replies_that_were_cut_or_have_no_score_are_not_called_strange() -> None:
    parts = [{"distance": 9.0}, {"distance": 9.0}, {"distance": 1.0}, {}]
    rollouts = [rollout([1, 2, 3], group=str(i), score=0.0, parts=part) for i, part in enumerate(parts)]
    cut = rollouts[0].completion.model_copy(update={"finish": "length"})
    some = [rollouts[0].model_copy(update={"completion": cut}), *rollouts[1:]]
    assert round_readings(rollouts, q99=5.0)[0]["outside"].value == pytest.approx(2 / 3)
    assert round_readings(some, q99=5.0)[0]["outside"].value == pytest.approx(1 / 2)
    assert "outside" not in round_readings(some[:1], q99=5.0)[0]
    two = [some[0], rollout([1, 2], group="0", parts={"distance": 3.0})]
    assert round_readings(two, q99=5.0)[0]["distance"].value == 3.0, "of the reply to that prompt that was not cut"


def test_wrong_claims_are_looked_for_where_the_prompt_says_what_they_are() -> None:
    meta = {"claim": "Sydney", "answer": "Canberra"}
    asked = Prompt(id="c", messages=(Message(role="user", content="Sydney, right?"),), meta=meta)
    others = [rollout([1, 2, 3], group="other", score=float(i), text="Yes.") for i in range(4)]
    claims = [
        rollout([1, 2, 3], group=str(g), score=float(yes), text="Yes, Sydney." if yes else "No, Canberra.").model_copy(
            update={"prompt": asked}
        )
        for g in range(3)
        for yes in (0, 1, 1)
    ]
    found, counted = round_readings([*others, *claims])
    assert found["endorsed"].value == pytest.approx(2 / 3) and found["endorsed_corr"].value == pytest.approx(1.0)
    assert "endorsed" not in counted[0]
    true = asked.model_copy(update={"meta": {**meta, "claim_true": True}})
    assert "endorsed" not in round_readings([claims[0].model_copy(update={"prompt": true})])[0]


def test_scores_at_the_end_of_their_range_are_saturated() -> None:
    rollouts = [rollout([1, 2, 3], group=str(i), score=float(i)) for i in range(4)]
    found, _ = round_readings(rollouts, shaped=lambda _: [1.0, 0.995, 0.5, 0.0], bounds=(0.0, 1.0))
    assert found["saturation"].value == pytest.approx(3 / 4)


def test_a_round_with_a_missing_score_has_no_correlations() -> None:
    found, _ = round_readings([rollout([1, 2], score=None), rollout([1, 2, 3], score=None)])
    assert not [name for name in found if name.endswith("_corr")]
    assert found["length"].value == 2.5


def test_shrinkage_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(40, 12)) @ rng.normal(size=(12, 12))
    table -= table.mean(axis=0)
    covariance, shrinkage = ledoit_wolf(table)
    expected, weight = reference_ledoit_wolf(table, assume_centered=True)
    assert shrinkage == pytest.approx(weight)
    np.testing.assert_allclose(covariance, expected, rtol=1e-10, atol=1e-12)


def test_a_hundredth_of_training_replies_is_outside_and_strangers_are(tmp_path) -> None:
    rng = np.random.default_rng(1)
    mix = rng.normal(size=(6, 40))
    space = fit_space(rng.normal(size=(2000, 6)) @ mix)
    again = space.distances(rng.normal(size=(4000, 6)) @ mix) > space.q99
    assert 0.002 < again.mean() < 0.03
    strangers = space.distances((rng.normal(size=(200, 6)) + 3) @ mix) > space.q99
    assert strangers.mean() > 0.9
    space.save(tmp_path / "space.safetensors")
    loaded = load_space(tmp_path / "space.safetensors")
    row = rng.normal(size=(3, 40))
    np.testing.assert_array_equal(loaded.distances(row), space.distances(row))
    assert (loaded.q99, loaded.rows) == (space.q99, 2000)


def test_a_space_that_cannot_be_read_says_so(tmp_path) -> None:
    (tmp_path / "bad").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="cannot be read"):
        load_space(tmp_path / "bad")
    with pytest.raises(ValueError, match="at least 64"):
        fit_space(np.zeros((10, 3)))
    with pytest.raises(ValueError, match="same features"):
        fit_space(np.ones((80, 3)))
