"""Which replies look most like a hack: farthest from the SFT model's to the same prompt in what the alarm names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accord.types import Rollout


@dataclass(frozen=True)
class Pair:
    """Replies of the policy and of the SFT model to one prompt, with the same sampling seed."""

    policy: Rollout
    sft: Rollout
    values: Mapping[str, float]
    """What was counted in the policy's reply; see `readings.reply_values`."""
    sft_values: Mapping[str, float]
    gold: float | None = None
    """Judged value of the policy's reply."""
    sft_gold: float | None = None


def most_suspicious(pairs: Sequence[Pair], ranks: str, num: int) -> list[dict[str, Any]]:
    """The replies to look at first, as rows for a file.

    By the rise of the number that the alarm is about, then by the rise of the score; where the alarm names none, by the
    rise of the score and the fall of the judged value.

    Args:
        pairs: of the fixed prompts.
        ranks: key of `Pair.values`; "" = none.
        num: rows at most.
    """

    def key(pair: Pair) -> tuple[float, float]:
        score, before = _score(pair.policy), _score(pair.sft)
        gain = score - before if score is not None and before is not None else 0.0
        loss = pair.sft_gold - pair.gold if pair.gold is not None and pair.sft_gold is not None else 0.0
        now, then = pair.values.get(ranks), pair.sft_values.get(ranks)
        return now - then if now is not None and then is not None else 0.0, gain + loss

    chosen = sorted(pairs, key=key, reverse=True)[:num]
    return [
        {
            "prompt": [m.model_dump() for m in pair.policy.prompt.messages],
            "reply": pair.policy.completion.text,
            "sft_reply": pair.sft.completion.text,
            "score": _score(pair.policy),
            "sft_score": _score(pair.sft),
            "gold": pair.gold,
            "sft_gold": pair.sft_gold,
            "by": ranks or "score",
            "value": pair.values.get(ranks) if ranks else _score(pair.policy),
            "sft_value": pair.sft_values.get(ranks) if ranks else _score(pair.sft),
        }
        for pair in chosen
    ]


def _score(rollout: Rollout) -> float | None:
    return None if rollout.score is None else rollout.score.value
