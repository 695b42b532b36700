"""Reward models: rankings as examples, options that contradict, and what calibration stores and subtracts."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from accord.errors import DataError, ModelError
from accord.models.build import set_score_stats
from accord.models.calibration import Calibration, calibration, set_calibration
from accord.models.tokenizer import train_tokenizer
from accord.rewards.learned import LearnedReward, LengthSlope
from accord.stages.configs import RewardConfig
from accord.stages.datasets import check_usable
from accord.stages.reward_measure import fit_length
from accord.train.examples import Encoded, Example, Row, from_rankings
from accord.train.sources import batch_of
from accord.types import Candidate, Message, Preference, Prompt
from train_models import PAD, STOP, scorer

PROMPT = Prompt(id="p", messages=(Message(role="user", content="why"),))
TOKENIZER: Any = train_tokenizer(["user why assistant one two three four five"], vocab_size=300)


def preference(replies: int, name: str = "r", texts: str = "one two three four five", **verdict: Any) -> Preference:
    candidates = tuple(Candidate(text=t) for t in texts.split()[:replies])
    return Preference(id=name, prompt=PROMPT, candidates=candidates, **verdict)


def encoded(*records: Preference, max_length: int = 64, **options: Any) -> Encoded:
    return from_rankings(records, TOKENIZER, max_length=max_length, overlong="drop", **options)


def texts(example: Example) -> list[str]:
    return [TOKENIZER.decode([i for i, m in zip(r.ids, r.mask, strict=True) if m][:-1]) for r in example.rows]


def test_a_ranking_is_one_example_with_a_row_a_reply_best_first() -> None:
    (example,) = encoded(preference(4, ranking=((2,), (0, 3), (1,)))).examples
    assert texts(example) == ["three", "one", "four", "two"]
    assert example.rank == (0, 1, 1, 2)
    batch = batch_of([example, *encoded(preference(2, choice=1)).examples], 0)
    assert batch.num_rows == 6
    assert batch.rank_B.tolist() == [0, 1, 1, 2, 0, 1]
    assert batch.group_B.tolist() == [0, 0, 0, 0, 1, 1]
    assert batch.target_B is None
    (chosen,) = encoded(preference(3, choice=1)).examples
    assert (texts(chosen), chosen.rank) == (["two", "one", "three"], (0, 1, 1))


def test_ties_of_two_become_what_the_loss_needs() -> None:
    tie = preference(2, tie=True)
    assert [(e.target, e.rank) for e in encoded(tie).examples] == [(0.5, None)]
    assert [(e.target, e.rank) for e in encoded(tie, ties="tie").examples] == [(0.5, (0, 0))]
    assert encoded(tie, ties="drop").dropped == (("r", "a tie of two: no order"),)
    even = preference(2, soft=0.5)  # a probability of one half is no tie
    assert [e.rank for e in encoded(even, ties="tie").examples] == [None]
    with pytest.raises(DataError, match="soft label"):
        encoded(even, ties="drop")


def test_what_a_ranking_cannot_say_is_left_out_and_listed() -> None:
    assert encoded(preference(3, tie=True)).dropped[0][1] == "both bad or a tie of more than two: no order"
    assert "does not say which of the others tie" in encoded(preference(3, choice=0), ties="tie").dropped[0][1]
    assert encoded(preference(3, ranking=((0,), (1,), (2,))), max_length=4).examples == ()
    twice = encoded(preference(3, texts="one two one", ranking=((0,), (1,), (2,)))).examples[0]
    assert (texts(twice), twice.rank) == (["one", "two"], (0, 1))


def test_data_without_a_preference_is_refused_and_one_is_enough() -> None:
    ties = [encoded(preference(2, name=str(i), tie=True), ties="tie").examples[0] for i in range(2)]
    ranked = encoded(preference(3, ranking=((0,), (1, 2)))).examples[0]
    with pytest.raises(DataError, match="all 2 examples are ties"):
        check_usable(Encoded((ties[0], replace(ranked, rank=(1, 1, 1)))), 99)
    check_usable(Encoded((*ties, ranked)), 99)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"loss_type": "plackett_luce", "label_smoothing": 0.1}, "label_smoothing is for"),
        ({"loss_type": "davidson", "use_margin": True}, "use_margin is for"),
        ({"all_pairs_mean": "pair"}, "needs loss_type: all_pairs"),
        ({"tie_parameter": 1.5}, "tie_parameter is for"),
        ({"loss_type": "rao_kupper", "tie_parameter": 1.0}, "makes ties impossible"),
        ({"tie_learning_rate": 0.1}, "needs a learnt tie parameter"),
        ({"loss_type": "davidson", "tie_parameter": 0.5, "tie_learning_rate": 0.1}, "needs a learnt tie parameter"),
        ({"length_calibration": True, "eval_fraction": 0}, "fitted on held-out replies"),
        ({"label_smoothing": 0.5}, "less than 0.5"),
    ],
)
def test_options_that_contradict_are_errors(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        RewardConfig(**options)


def test_calibration_is_stored_in_the_config(tmp_path) -> None:
    model = scorer()
    assert calibration(model.inner.config) == Calibration()
    found = Calibration(temperature=1.5, length_slope=-0.02, length_mean=11.0, tie_model="davidson", tie_parameter=0.4)
    set_calibration(model, found)
    assert calibration(model.inner.config) == found
    set_calibration(model, Calibration(temperature=2.0))
    assert calibration(model.inner.config) == Calibration(temperature=2.0)
    with pytest.raises(ModelError, match="belong together"):
        set_calibration(model, Calibration(length_slope=1.0))
    with pytest.raises(ModelError, match="cannot be stored"):
        set_calibration(model, Calibration(temperature=float("inf")))


def test_a_stored_slope_is_subtracted_and_a_temperature_is_not() -> None:
    model, ids, lengths = scorer(), [[1, 5, 9, STOP], [1, 7, 8, 9, 10, STOP]], [2, 5]
    raw = LearnedReward(model, pad_id=PAD).score_ids(ids)
    set_calibration(model, Calibration(temperature=7.0, length_slope=0.5, length_mean=3.0))
    set_score_stats(model, 0.25, 2.0)
    got = LearnedReward(model, pad_id=PAD, mean=0.25, std=2.0).score_ids(ids, lengths)
    assert got == pytest.approx([(raw[0] + 0.5 - 0.25) / 2, (raw[1] - 1.0 - 0.25) / 2])
    assert LearnedReward(model, pad_id=PAD, length=None).score_ids(ids) == raw
    with pytest.raises(ValueError, match="length of each reply"):
        LearnedReward(model, pad_id=PAD).score_ids(ids)


def test_the_length_slope_is_fitted_within_prompts() -> None:
    """Prompts with long replies score higher, but within a prompt a token costs 0.5."""
    examples = []
    for number, (base, sizes) in enumerate([(0.0, (1, 3)), (50.0, (11, 15))]):
        prompt = Prompt(id=str(number), messages=(Message(role="user", content=f"q{number}"),))
        record = Preference(
            id=str(number), prompt=prompt, candidates=(Candidate(text="a"), Candidate(text="b")), choice=0
        )
        rows = tuple(Row((int(base), *range(1, n + 1)), (False, *[True] * n)) for n in sizes)
        examples.append(Example(str(number), rows, origin=(record, 0, 1)))
    raw: Any = SimpleNamespace(
        score_ids=lambda ids, lengths: [s[0] - 0.5 * n for s, n in zip(ids, lengths, strict=True)]
    )
    assert fit_length(raw, examples) == LengthSlope(pytest.approx(-0.5), pytest.approx(7.5))
    assert fit_length(raw, []) is None
