"""Losses of the offline stages against TRL's own code on the same token log-probabilities, where TRL is installed."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from accord.batch import Batch, Forward
from accord.train.objectives import Pairwise, Rowwise
from train_models import random_batch

pytestmark = [pytest.mark.trl, pytest.mark.filterwarnings("ignore")]
EVERYTHING = 10**9
BATCH = random_batch(6, seed=11).replace(weight_B=None, target_B=None)
OPTIONS: dict[str, dict[str, Any]] = {
    "sigmoid": {"loss_type": ("sigmoid",)},
    "hinge": {"loss_type": ("hinge",)},
    "ipo": {"loss_type": ("ipo",)},
    "exo_pair": {"loss_type": ("exo_pair",), "label_smoothing": 1e-3},
    "nca_pair": {"loss_type": ("nca_pair",)},
    "robust": {"loss_type": ("robust",), "label_smoothing": 0.1},
    "bco_pair": {"loss_type": ("bco_pair",)},
    "sppo_hard": {"loss_type": ("sppo_hard",)},
    "aot": {"loss_type": ("aot",)},
    "aot with noise": {"loss_type": ("aot",), "label_smoothing": 0.2},
    "aot_unpaired": {"loss_type": ("aot_unpaired",)},
    "aot_unpaired with noise": {"loss_type": ("aot_unpaired",), "label_smoothing": 0.2},
    "apo_zero": {"loss_type": ("apo_zero",)},
    "apo_down": {"loss_type": ("apo_down",)},
    "discopop": {"loss_type": ("discopop",)},
    "sft": {"loss_type": ("sft",)},
    "sigmoid_norm": {"loss_type": ("sigmoid_norm",)},
    "mixture": {"loss_type": ("sigmoid", "bco_pair", "sft"), "loss_weights": (0.8, 0.2, 1.0)},
    "ld": {"loss_type": ("sigmoid",), "ld_alpha": 0.3},
    "forward_kl": {"loss_type": ("sigmoid",), "f_divergence_type": "forward_kl"},
    "js": {"loss_type": ("hinge",), "f_divergence_type": "js_divergence"},
    "alpha": {"loss_type": ("sigmoid",), "f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.3},
}


def trainer(module: str, name: str) -> Any:
    """A class of TRL; the test is skipped where TRL or what it needs is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("trl")
        return getattr(pytest.importorskip(f"trl.trainer.{module}"), name)


def stub(**settings: Any) -> Any:
    """What the loss of a trainer reads of the trainer."""
    same = SimpleNamespace(device=torch.device("cpu"), gather_for_metrics=lambda x: x, gather=lambda x: x)
    return SimpleNamespace(
        accelerator=same,
        model=SimpleNamespace(training=True),
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        use_weighting=False,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
        args=SimpleNamespace(discopop_tau=Pairwise().discopop_tau),
        **settings,
    )


def said(logp_BT: Tensor) -> Any:
    """The output of a model that scores tokens from the second on."""
    zero_BT = torch.zeros_like(logp_BT[:, 1:])
    return lambda **_: SimpleNamespace(
        log_probs=logp_BT[:, 1:], entropy=zero_BT, mean_logits=zero_BT, is_top1=zero_BT.bool(), logits=zero_BT
    )


def inputs(batch: Batch) -> dict[str, Tensor]:
    return {
        "input_ids": batch.ids_BT,
        "attention_mask": batch.token_mask_BT.long(),
        "completion_mask": batch.response_mask_BT.long(),
    }


def leaf(batch: Batch, dtype: torch.dtype) -> Tensor:
    line_BT = -torch.rand(batch.ids_BT.shape, generator=torch.manual_seed(1), dtype=torch.float64)
    return torch.where(batch.response_mask_BT, line_BT, 0.0).to(dtype).requires_grad_()


def known(batch: Batch, logp_BT: Tensor) -> Callable[[Batch], Forward]:
    """A model that knows these rows, whatever their order: by their reference log-probabilities."""

    def forward(part: Batch) -> Forward:
        width = part.ids_BT.shape[1]
        rows = [int((batch.ref_logp_BT[:, :width] == ref).all(1).nonzero()[0]) for ref in part.ref_logp_BT]
        return Forward(logp_BT[rows, :width])

    return forward


@pytest.mark.parametrize("name", OPTIONS)
def test_losses_on_pairs_are_those_of_trl(name: str) -> None:
    compute = trainer("dpo_trainer", "DPOTrainer")._compute_loss
    options = {"beta": 0.3, **OPTIONS[name]}
    dtype = torch.float32 if name == "alpha" else torch.float64  # TRL's alpha-divergence knows no float64
    # Accord: chosen and rejected take turns; TRL: all chosen, then all rejected.
    order = [*range(0, BATCH.num_rows, 2), *range(1, BATCH.num_rows, 2)]
    logp_BT, ref_BT = leaf(BATCH, dtype), (BATCH.ref_logp_BT / 3).to(dtype)
    objective = Pairwise(**options)

    batch = BATCH.replace(ref_logp_BT=ref_BT)
    ready = objective.prepare(batch, known(batch, logp_BT.detach()), EVERYTHING)
    assert ready.num_rows == batch.num_rows
    ours = objective(Forward(logp_BT), ready).loss / objective.denominator(ready)

    weights = options.get("loss_weights", (1.0,) * len(options["loss_type"]))
    ref_B = ref_BT.sum(1)
    theirs = compute(
        stub(
            beta=objective.beta,
            label_smoothing=objective.label_smoothing,
            loss_types=list(objective.loss_type),
            loss_weights=list(weights),
            ld_alpha=objective.ld_alpha,
            f_divergence_type=objective.f_divergence_type,
            f_alpha_divergence_coef=objective.f_alpha_divergence_coef,
        ),
        said(logp_BT[order]),
        {
            **{key: value[order] for key, value in inputs(batch).items()},
            "ref_chosen_logps": _ref(ref_B, objective, batch)[0::2],
            "ref_rejected_logps": _ref(ref_B, objective, batch)[1::2],
        },
        False,
    )
    atol = 1e-5 if dtype == torch.float32 else 1e-7  # exo_pair: TRL keeps its epsilon in float32
    assert ours.item() == pytest.approx(theirs.item(), abs=atol)
    grads = [torch.autograd.grad(loss, logp_BT)[0][batch.response_mask_BT] for loss in (ours, theirs)]
    assert (grads[0] - grads[1]).abs().max() < atol
    assert grads[0].abs().max() > 1e-3


def _ref(ref_B: Tensor, objective: Pairwise, batch: Batch) -> Tensor:
    """LD-DPO weighs the tokens of the reference too; TRL does that before it stores sums."""
    if objective.ld_alpha is None:
        return ref_B
    length_B = batch.response_mask_BT.sum(1)
    shared_B = torch.minimum(length_B[0::2], length_B[1::2]).repeat_interleave(2)
    tail_BT = batch.response_mask_BT.cumsum(1) > shared_B[:, None]
    return (batch.ref_logp_BT * torch.where(tail_BT, objective.ld_alpha, 1.0)).sum(1)


@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
def test_losses_on_single_replies_are_those_of_trl(loss: str) -> None:
    compute = trainer("kto_trainer", "KTOTrainer")._compute_loss
    label_B = torch.tensor([1.0, 0, 0, 1, 1, 0], dtype=torch.float64).repeat_interleave(2)
    batch = BATCH.replace(target_B=label_B, ref_logp_BT=BATCH.ref_logp_BT / 3)
    logp_BT = leaf(batch, torch.float64)
    objective = Rowwise(beta=0.3, loss_type=loss, desirable_weight=1.3, undesirable_weight=0.8)
    evens, odds = list(range(0, 12, 2)), list(range(1, 12, 2))

    forward = known(batch, logp_BT)
    start = batch if objective.needs_mismatches else batch.select(evens)
    ready = objective.prepare(start, known(batch, logp_BT.detach()), EVERYTHING)
    ours = objective(forward(ready), ready).loss / objective.denominator(ready)

    ref_B = batch.ref_logp_BT.sum(1)
    trl = stub(
        beta=0.3,
        loss_type=loss,
        desirable_weight=1.3,
        undesirable_weight=0.8,
        calculate_KL=loss == "kto",
        _compute_kl_logps=lambda model, found: logp_BT[odds].sum(1).detach(),
    )
    found = {key: value[evens] for key, value in inputs(batch).items()}
    found |= {"label": label_B[evens].bool(), "ref_logps": ref_B[evens], "ref_KL_logps": ref_B[odds]}
    theirs = compute(trl, said(logp_BT[evens]), found, False)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-9)
    grads = [torch.autograd.grad(total, logp_BT)[0][batch.response_mask_BT] for total in (ours, theirs)]
    assert (grads[0] - grads[1]).abs().max() < 1e-9
    assert grads[0].abs().max() > 1e-3
