"""KL of an evaluated model to the baseline: from the log-probabilities that came with its answers, or from its own."""

from __future__ import annotations

from typing import Any

import pytest

from accord.engines.base import Sampling
from accord.engines.native import NativeEngine
from accord.stages.configs import EvaluateConfig
from accord.stages.evaluate import _kl, _sampled_as_it_is  # pyright: ignore[reportPrivateUsage]
from train_models import PAD, STOP, causal

IDS = [(1, 4 + k % 20, 5, 6 + k % 7) for k in range(30)]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_log_probs_of_plain_sampling_are_the_model_s_own(temperature: float) -> None:
    policy, base = causal(seed=1), causal(seed=2)
    engine = NativeEngine(policy.hf, stop_ids=(STOP,), pad_id=PAD, decode=str, max_batch=8)
    made = engine.generate(IDS, Sampling(12, temperature=temperature), seeds=list(range(30)))
    own, given = (_kl(model, base, IDS, made, PAD) for model in (policy, None))
    assert (given == pytest.approx(own, rel=1e-5)) == (temperature == 1.0)
    assert own > 0.1


@pytest.mark.parametrize(
    ("changed", "plain"),
    [
        ({}, True),
        ({"temperature": 0.7}, False),
        ({"top_p": 0.9}, False),
        ({"top_k": 5}, False),
        ({"temperature": 0}, False),
    ],
)
def test_only_answers_that_were_drawn_as_the_model_says_tell_its_log_probs(
    changed: dict[str, Any], plain: bool
) -> None:
    assert _sampled_as_it_is(EvaluateConfig.model_validate({"prompts": "lab:prompts", **changed})) == plain
