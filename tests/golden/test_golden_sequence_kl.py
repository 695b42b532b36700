"""Which estimators of the KL of a reply have the gradient of the KL of the reply.

The file gives gradients without the world they were computed in, so what is compared is the pattern: in every world of
two tokens, summed over all replies, two estimators have the same gradient here exactly if they have it in the file.
"""

from __future__ import annotations

import pytest
import torch
from golden_file import check, entry
from torch import Tensor

from accord.functional.advantages import returns_to_go
from accord.functional.kl import k1, k2

SIZE = 3
NAMES = (
    "kl/seq2_true",
    "kl/seq2_k1_reward_return_to_go",
    "kl/seq2_k1_reward_sequence_level",
    "kl/seq2_k1_reward_own_token_only",
    "kl/seq2_k2_loss_per_token",
    "kl/seq2_exact_per_token_kl_in_loss",
)


def token_logp(first: Tensor, second: Tensor) -> Tensor:
    """Log-probabilities [9, 2] of the tokens of all replies; `second` holds one row a first token."""
    a, b = torch.cartesian_prod(torch.arange(SIZE), torch.arange(SIZE)).unbind(1)
    return torch.stack([first.log_softmax(-1)[a], second.log_softmax(-1)[a, b]], dim=1)


def kl_of_states(logits: Tensor, ref: Tensor) -> Tensor:
    """KL of the next-token distribution, for each row of logits."""
    return (logits.softmax(-1) * (logits.log_softmax(-1) - ref.log_softmax(-1))).sum(-1)


def gradients(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second, ref_first, ref_second = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((SIZE,), (SIZE, SIZE)) * 2
    )
    policy = (first.requires_grad_(), second.requires_grad_())
    logp_BT, ref_BT = token_logp(*policy), token_logp(ref_first, ref_second)
    prob_B = logp_BT.sum(1).exp()
    seen_B = prob_B.detach()
    k1_BT = k1(logp_BT, ref_BT)
    reward_BT, mask_BT = k1_BT.detach(), torch.ones(SIZE**2, 2, dtype=torch.bool)
    # The second state of a reply is its first token.
    states_BT = torch.stack(
        [
            kl_of_states(first, ref_first).expand(SIZE**2),
            kl_of_states(second, ref_second).repeat_interleave(SIZE),
        ],
        dim=1,
    )
    surrogates = (
        (prob_B * k1_BT.sum(1)).sum(),
        (seen_B * (logp_BT * returns_to_go(reward_BT, mask_BT, 1.0)).sum(1)).sum(),
        (seen_B * logp_BT.sum(1) * reward_BT.sum(1)).sum(),
        (seen_B * (logp_BT * reward_BT).sum(1)).sum(),
        (seen_B * k2(logp_BT, ref_BT).sum(1)).sum(),
        (seen_B * states_BT.sum(1)).sum(),
    )
    return {
        name: torch.cat([g.flatten() for g in torch.autograd.grad(loss, policy, retain_graph=True)])
        for name, loss in zip(NAMES, surrogates, strict=True)
    }


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_same_estimators_agree_as_in_the_file(seed: int) -> None:
    ours = gradients(seed)
    filed = {name: torch.tensor(entry(name)["grad"], dtype=torch.float64) for name in NAMES}
    for a in NAMES:
        for b in NAMES:
            same = torch.allclose(filed[a], filed[b], atol=1e-9, rtol=0)
            assert torch.allclose(ours[a], ours[b], atol=1e-12, rtol=0) == same, (a, b)


def test_the_file_says_what_its_gradients_say() -> None:
    true = torch.tensor(entry(NAMES[0])["grad"], dtype=torch.float64)
    for name in NAMES[1:]:
        gradient = torch.tensor(entry(name)["grad"], dtype=torch.float64)
        assert entry(name)["grad_equals_true_sequence_kl"] == torch.allclose(gradient, true, atol=1e-9, rtol=0)
        check(torch.nn.functional.cosine_similarity(gradient, true, dim=0), entry(name)["cos_with_true"])
