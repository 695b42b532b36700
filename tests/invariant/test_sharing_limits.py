"""Where the rows of a group stay apart, and how that is found out."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from sharing_cases import PAIRS, PROMPTS, apart, batch, group, joins, lora, make
from transformers import BertConfig, BertModel

from accord.batch import Batch
from accord.models import trunk
from accord.models.build import copy_frozen
from accord.models.policy import CausalModel
from accord.models.sharing import Joined, join
from accord.models.trunk import share_prompts, write_out

__all__ = ["joins"]


def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Joining rows is a failure from here on."""

    def fail(rows: Batch, shared_B: torch.Tensor, *, flat: bool = False) -> Joined:
        assert not shared_B.any(), "rows were joined"
        return join(rows, shared_B, flat=flat)

    monkeypatch.setattr(trunk, "join", fail)


def test_a_window_shorter_than_the_rows_keeps_them_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    never(monkeypatch)
    model, rows = CausalModel(make("mistral, narrow")), batch(*PAIRS)
    with torch.no_grad():
        together = model(rows).logp_BT
        for row in range(rows.num_rows):
            alone = model(rows.select([row])).logp_BT[0]
            assert (together[row, : alone.numel()] - alone).abs().max() < 1e-9


@pytest.mark.parametrize(("replies", "joined"), [((9, 10), True), ((9, 11), False)])
def test_a_window_as_long_as_the_longest_row_is_enough(
    replies: tuple[int, int], joined: bool, joins: list[Joined]
) -> None:
    model, rows = CausalModel(make("mistral")), batch(group(PROMPTS[0], *replies))
    assert rows.ids_BT.shape[1] == 24 + (not joined)
    with torch.no_grad():
        assert (model(rows).logp_BT - apart(model)(rows).logp_BT).abs().max() < 1e-9
    assert len(joins) == joined


def test_a_model_without_position_ids_encodes_rows_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    never(monkeypatch)
    model, rows = CausalModel(make("bloom", kernel="eager")), batch(*PAIRS)
    with warnings.catch_warnings(record=True) as said, torch.no_grad():
        warnings.simplefilter("always")
        together = model(rows).logp_BT
        assert torch.equal(together, model(rows).logp_BT)
    assert len(said) <= 1
    with torch.no_grad():
        alone = model(rows.select([1])).logp_BT[0]
    assert (together[1, : alone.numel()] - alone).abs().max() < 1e-6


def everything_before(rows: Batch, shared_B: torch.Tensor) -> Joined:
    """A mask that lets the rows of a group see those before them."""
    joined = join(rows, shared_B)
    units = tuple(replace(unit, own=(sum(unit.own),)) for unit in joined.units)
    return replace(joined, row_UL=torch.zeros_like(joined.row_UL), units=units)


def not_restarted(rows: Batch, shared_B: torch.Tensor) -> Joined:
    """Positions that count on."""
    joined = join(rows, shared_B)
    count = torch.arange(joined.ids_UL.shape[1]).expand_as(joined.ids_UL)
    return replace(joined, position_UL=count)


def refused(*_: object) -> None:
    raise ValueError("Invalid mask of shape [1, 1, 10, 10]\nand more")


@pytest.mark.parametrize(
    ("what", "instead", "reason"),
    [
        ("join", everything_before, "its hidden states differ"),
        ("join", not_restarted, "its hidden states differ"),
        ("_run", refused, r"it refuses the mask \(Invalid mask of shape \[1, 1, 10, 10\]\)"),
    ],
)
def test_a_model_that_cannot_is_noticed_once_and_encodes_rows_apart(
    monkeypatch: pytest.MonkeyPatch, what: str, instead: Any, reason: str
) -> None:
    monkeypatch.setattr(trunk, what, instead)
    model, rows = CausalModel(make()), batch(*PAIRS)
    write_out(model, on=False)
    with torch.no_grad():
        wanted = apart(model)(rows).logp_BT
        with pytest.warns(UserWarning, match=f"LlamaModel cannot share prompts: {reason}"):
            assert torch.equal(model(rows).logp_BT, wanted)
        never(monkeypatch)
        assert torch.equal(model(rows).logp_BT, wanted)  # without another warning, which would be an error
        assert torch.equal(copy_frozen(model)(rows).logp_BT, wanted)


def test_the_switch_keeps_rows_apart_and_copies_keep_the_switch(
    monkeypatch: pytest.MonkeyPatch, joins: list[Joined]
) -> None:
    model, rows = CausalModel(make()), batch(*PAIRS)
    with torch.no_grad():
        model(rows)
        copy_frozen(model)(rows)
        assert len(joins) == 2
        share_prompts(model, on=False)
        model(rows)
        copy_frozen(model)(rows)
        copy.deepcopy(lora(make()))(rows)
        assert len(joins) == 3
        share_prompts(model, on=True)
        model(rows)
        assert len(joins) == 4
        never(monkeypatch)
        share_prompts(model, on=False)
        model(rows)


@pytest.mark.parametrize("in_parts", [False, True])
def test_groups_are_left_apart_where_joining_saves_nothing(in_parts: bool, joins: list[Joined]) -> None:
    model = CausalModel(make())
    write_out(model, on=in_parts)  # long rows of a trunk that is written out have no mask, which is what costs
    for prompt, replies in (([5], (20, 21, 19)), ([5, 6], (29, 30))):
        rows = batch(group(prompt, *replies))
        assert rows.shared_prefix_B().any()
        with torch.no_grad():
            model(rows)
    assert len(joins) == 2 * in_parts


def test_packed_rows_are_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    never(monkeypatch)
    model, rows = CausalModel(make()), batch(*PAIRS)
    packed = rows.replace(segment_BT=1 + (torch.arange(rows.ids_BT.shape[1]) >= 3).long().expand_as(rows.ids_BT))
    with torch.no_grad():
        assert torch.equal(model(packed).logp_BT, model(packed.replace(group_B=None)).logp_BT)


def test_weights_that_are_not_numbers_say_nothing_about_sharing(joins: list[Joined]) -> None:
    model, rows = CausalModel(make()), batch(*PAIRS)
    weight = model.inner.base_model.norm.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(float("nan"))
        assert model(rows).logp_BT.isnan().any()  # and no warning
        weight.copy_(kept)
        assert (model(rows).logp_BT - apart(model)(rows).logp_BT).abs().max() < 1e-9
    assert len(joins) == 2


def test_a_model_that_looks_to_the_right_masks_padding() -> None:
    torch.manual_seed(0)
    encoder = BertModel(
        BertConfig(
            vocab_size=64,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            initializer_range=0.5,
        )
    ).eval()
    rows = batch(*PAIRS).replace(group_B=None)
    with torch.no_grad():
        together = trunk.hidden_states(encoder, rows)
        for row, length in enumerate(rows.lengths_B.tolist()):
            alone = trunk.hidden_states(encoder, rows.select([row]))[0]
            assert (together[row, :length] - alone).abs().max() < 1e-5


def test_a_causal_model_needs_no_mask_for_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = CausalModel(make()), batch(*PAIRS).replace(group_B=None)
    with torch.no_grad():
        model(rows)
        monkeypatch.setattr(trunk, "_masked", refused)
        together = model(rows).logp_BT
        alone = model(rows.select([1])).logp_BT[0]
    assert (together[1, : alone.numel()] - alone).abs().max() < 1e-9
