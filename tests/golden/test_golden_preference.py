"""Every loss on pairs against golden values: means, pairs, and gradients by summed log-probs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from golden_file import both_dtypes, check, entry, number_after, padded
from torch import Tensor

from accord.functional import likelihood_losses, preference_losses
from accord.functional.divergences import DIVERGENCES
from accord.functional.losses import nll
from accord.functional.masks import lengths_to_mask, masked_sum
from accord.functional.pair_logps import PairLogps, expected, ld_weights
from accord.functional.preference_losses import PAIR_LOSSES
from accord.functional.transport_losses import aot, aot_unpaired

NAMES = ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "pref/dpo_beta0.1": ("sigmoid", {}),
    "pref/dpo_beta0.5": ("sigmoid", {}),
    "pref/dpo_norm_beta5": ("sigmoid_norm", {}),
    "pref/robust_eps0.1": ("robust", {}),
    "pref/ipo_sum_tau0.1": ("ipo_sum", {}),
    "pref/ipo_avg_tau0.1": ("ipo_avg", {}),
    "pref/hinge_beta0.1": ("hinge", {}),
    "pref/slic_hf_delta1_lambda0.5": ("slic", {"slic_delta": "delta", "slic_lambda": "lambda"}),
    "pref/exo_pair_eps1e-3": ("exo_pair", {}),
    "pref/nca_pair": ("nca_pair", {}),
    "pref/bco_pair": ("bco_pair", {}),
    "pref/sppo_hard": ("sppo_hard", {}),
    "pref/apo_zero": ("apo_zero", {}),
    "pref/apo_down": ("apo_down", {}),
    "pref/discopop_tau0.05": ("discopop", {"discopop_tau": "tau"}),
    "pref/simpo_beta2.5_gamma1.375": ("simpo", {"simpo_gamma": "gamma"}),
    "pref/simpo_beta2.0_gamma0.5": ("simpo", {"simpo_gamma": "gamma"}),
    "pref/cpo_prefer_beta0.1": ("cpo", {}),
    "pref/dpop_lambda50": ("dpop", {"dpop_lambda": "lambda"}),
    "pref/rdpo_alpha0.02": ("rdpo", {"rdpo_alpha": "alpha"}),
}
"""Entry -> loss and, for options that the entry does not hold, what they follow in its name."""


def sums(dtype: torch.dtype) -> PairLogps:
    f = entry("pref/fixture")
    logps = [torch.tensor([sum(row) for row in f[f"{name}_tokens"]], dtype=dtype) for name in NAMES]
    for summed, name in zip(logps, NAMES, strict=True):
        check(summed, f[name], dtype)
    lengths = [torch.tensor(f[f"len_{side}"], dtype=dtype) for side in ("chosen", "rejected")]
    return PairLogps(logps[0].requires_grad_(), logps[1].requires_grad_(), *logps[2:], *lengths)


def run(name: str, dtype: torch.dtype, loss_of: Callable[[PairLogps], Tensor]) -> None:
    pairs = sums(dtype)
    loss_P = loss_of(pairs)
    want = entry(name)
    check(loss_P, want["per_seq"], dtype)
    check(loss_P.mean(), want["value"], dtype)
    chosen_P, rejected_P = torch.autograd.grad(loss_P.mean(), [pairs.chosen_P, pairs.rejected_P], allow_unused=True)
    check(chosen_P, want["grad_chosen"], dtype)
    check(rejected_P, want["grad_rejected"], dtype)


@both_dtypes
@pytest.mark.parametrize("name", CASES)
def test_pair_loss(name, dtype):
    loss, marks = CASES[name]
    want, how = entry(name), PAIR_LOSSES[loss]
    found = {option: number_after(name, mark) for option, mark in marks.items()}
    options = found | {option: want[option] for option in how.options if option in want}
    assert set(options) == set(how.options)
    run(name, dtype, lambda pairs: how.function(pairs.per_token() if how.per_token else pairs, **options))


@both_dtypes
def test_reference_free(dtype):
    name = "pref/dpo_reference_free_beta0.1"
    run(name, dtype, lambda pairs: preference_losses.dpo(pairs.without_reference(), beta=entry(name)["beta"]))


@both_dtypes
def test_a_soft_target_is_conservative_dpo(dtype):
    want = entry("pref/cdpo_eps0.1")
    loss = partial(preference_losses.dpo, beta=want["beta"])
    certain_P = torch.ones_like(sums(dtype).ref_chosen_P)
    for target in (1 - want["label_smoothing"], certain_P * (1 - want["label_smoothing"])):
        run("pref/cdpo_eps0.1", dtype, lambda pairs, target=target: expected(loss, pairs, target))


@both_dtypes
@pytest.mark.parametrize("name", ["pref/forward_kl_fdpo", "pref/js_fdpo", "pref/alpha0.5_fdpo"])
def test_f_divergences(name, dtype):
    divergence = {
        "pref/forward_kl_fdpo": DIVERGENCES["forward_kl"],
        "pref/js_fdpo": DIVERGENCES["js_divergence"],
        "pref/alpha0.5_fdpo": partial(
            DIVERGENCES["alpha_divergence"], coefficient=number_after("pref/alpha0.5_fdpo", "alpha")
        ),
    }[name]
    run(name, dtype, lambda pairs: preference_losses.dpo(pairs.under(divergence), beta=entry(name)["beta"]))


@both_dtypes
@pytest.mark.parametrize(("name", "loss"), [("pref/aot", aot), ("pref/aot_unpaired", aot_unpaired)])
def test_optimal_transport(name, loss, dtype):
    """The file lists losses by rank, and gradients by pair."""

    def by_rank(pairs: PairLogps) -> Tensor:
        loss_P = loss(pairs, beta=entry(name)["beta"])
        own_P = pairs.u_P if loss is aot_unpaired else pairs.chosen_P - pairs.rejected_P
        return loss_P[own_P.argsort()]

    run(name, dtype, by_rank)


@both_dtypes
def test_ld_dpo(dtype):
    name = "pref/ld_dpo_alpha0.5"
    f, want = entry("pref/fixture"), entry(name)
    shared_P = torch.tensor([min(pair) for pair in zip(f["len_chosen"], f["len_rejected"], strict=True)])
    logps = []
    for side in NAMES:
        rows = f[f"{side}_tokens"]
        mask_BT = lengths_to_mask(torch.tensor([len(row) for row in rows]), max(map(len, rows)))
        weight_BT = ld_weights(mask_BT, shared_P, number_after(name, "alpha"), dtype)
        logps.append(masked_sum(padded(rows, mask_BT.shape[1], dtype) * weight_BT, mask_BT, dim=1))
    ones_P = torch.ones_like(logps[0])
    loss_P = preference_losses.dpo(PairLogps(*logps, ones_P, ones_P), beta=entry("pref/dpo_beta0.1")["beta"])
    check(loss_P, want["per_seq"], dtype)
    check(loss_P.mean(), want["value"], dtype)


@both_dtypes
def test_log_odds_and_orpo(dtype):
    pairs = sums(dtype).per_token()
    odds_P = likelihood_losses.log_odds(pairs.chosen_P) - likelihood_losses.log_odds(pairs.rejected_P)
    check(odds_P, entry("pref/orpo_log_odds")["value"], dtype)
    name = "pref/orpo_or_term_lambda0.1"
    check(likelihood_losses.orpo(pairs, beta=number_after(name, "lambda")).mean(), entry(name)["value"], dtype)


@both_dtypes
def test_nll_of_the_chosen_replies(dtype):
    rows = [nll(torch.tensor(row, dtype=dtype)) for row in entry("pref/fixture")["policy_chosen_tokens"]]
    check(torch.cat(rows).mean(), entry("pref/chosen_nll_token_mean")["value"], dtype)
    check(torch.stack([row.mean() for row in rows]).mean(), entry("pref/chosen_nll_seq_mean")["value"], dtype)
