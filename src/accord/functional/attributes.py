"""Losses of reward models with one output an attribute (helpfulness, correctness, ...), some ratings unknown."""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

from torch import Tensor

from accord.functional.masks import keep
from accord.functional.reward_losses import bradley_terry


def attribute_mse(score_BK: Tensor, target_BK: Tensor) -> Tensor:
    """Return the squared error of each known rating (Wang et al. 2023, HelpSteer 2311.09528 and 2406.08673).

    Args:
        score_BK: predicted ratings.
        target_BK: ratings; NaN = not rated, which is not a rating of zero.

    Returns:
        loss_BK; 0, with no gradient, where the rating is unknown.
    """
    known_BK = ~target_BK.isnan()
    # Both sides before the difference: the gradient of NaN under `where` would be NaN.
    return (keep(score_BK, known_BK) - keep(target_BK, known_BK)).square()


def attribute_bradley_terry(chosen_PK: Tensor, rejected_PK: Tensor, target_PK: Tensor) -> Tensor:
    """Return the Bradley-Terry loss of each attribute on which both replies are rated.

    Args:
        chosen_PK: scores of the first replies.
        rejected_PK: scores of the second replies.
        target_PK: P(the first reply is better in this attribute), 0.5 = equal; NaN = not known.

    Returns:
        loss_PK; 0, with no gradient, where the order is unknown.
    """
    known_PK = ~target_PK.isnan()
    loss_PK = bradley_terry(keep(chosen_PK, known_PK), keep(rejected_PK, known_PK), target=keep(target_PK, known_PK))
    return keep(loss_PK, known_PK)


def weighted_attributes(score_BK: Tensor, weight_K: Tensor) -> Tensor:
    """Return the scalar reward, the weighted sum of the attributes.

    Args:
        score_BK: scores of the attributes.
        weight_K: weight of each.

    Returns:
        score_B.
    """
    return score_BK @ weight_K.to(score_BK.dtype)
