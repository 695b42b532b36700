"""Hidden states of a batch: one row a sequence, several packed sequences a row, or groups joined behind their prompt.

Legend: B rows, T positions, D hidden size; U and L after joining.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import PreTrainedModel

from accord.batch import Batch, collate
from accord.errors import ModelError
from accord.models import attention, llama_trunk
from accord.models.attention import KERNEL, mask_of, use_attention
from accord.models.precision import runs_in_bfloat16, trunk_precision
from accord.models.sharing import Joined, join

_SWITCH = "accord_shares_prompts"
"""Attribute of a transformers model: may it join rows; None or absent = it has not been tried."""
_MASKS = "accord_masks_joined_rows"
"""Attribute of a transformers model: joined rows need a mask of all their tokens (no parts)."""
_PADDING = "accord_masks_padding"
"""Attribute of a transformers model: must padding at the right be masked; absent = not tried."""
_WRITTEN_OUT = "accord_written_out"
"""Attribute of a transformers model: does `accord.models.llama_trunk` run it; None or absent = not tried."""
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}


def states_at(backbone: nn.Module, batch: Batch, where_BT: Tensor) -> Tensor:
    """Last hidden states at some tokens, [N, D], row by row.

    Models that `accord.models.llama_trunk` can run are run by it, which computes the last block for these tokens only;
    for others the tokens are picked from `hidden_states`.

    Args:
        backbone: a transformers model without its output head.
        batch: rows to run.
        where_BT: True at the wanted tokens, which are no padding.

    Raises:
        ModelError: the rows are packed and the model takes no position ids.
    """
    if not bool(where_BT.any()) or not _is_written_out(backbone, batch):
        return hidden_states(backbone, batch)[where_BT]
    joined = _joined(backbone, batch, in_parts=True) or join(batch, torch.zeros_like(batch.lengths_B))
    flat = joined.ids_UL.shape[1] >= attention.PARTS_FROM
    if flat:
        joined = joined.flat(batch)
    return llama_trunk.states(backbone, joined, where_BT, flat=flat, low=_low(backbone))


def states_before(backbone: nn.Module, batch: Batch) -> Tensor:
    """The states from which the response tokens are predicted, [N, D]; see `states_at`."""
    where_BT = torch.zeros_like(batch.response_mask_BT)
    where_BT[:, :-1] = batch.response_mask_BT[:, 1:]
    return states_at(backbone, batch, where_BT)


def last_state(backbone: nn.Module, batch: Batch) -> Tensor:
    """The state at the last token of each row, [B, D]; see `states_at`."""
    return states_at(backbone, batch, _last(batch))


def hidden_states(backbone: nn.Module, batch: Batch) -> Tensor:
    """Run the trunk on right-padded rows, with attention mask and positions made from the lengths.

    Packed rows go in with positions that start again at 0 and without a mask: transformers makes the block-diagonal
    causal mask of every attention kernel from such positions (`accord.models.packing` checks that it does). Padding
    lies right of everything and is a block of its own, so no mask has to hide it.

    Groups are joined behind the prompt they share (`accord.models.sharing`) where the model can and it saves work.
    Rows apart go in without a mask where the model is causal, which is tried once: no token sees the padding to its
    right, and attention kernels that need no mask leave out half of the work.

    Args:
        backbone: a transformers model without its output head.
        batch: rows to run.

    Returns:
        Last hidden states, [B, T, D]; meaningless at padding.

    Raises:
        ModelError: the rows are packed and the model takes no position ids.
    """
    with trunk_precision(backbone, batch.ids_BT.device):
        states_BTD = _states(backbone, batch)
    # A trunk that ends in a matrix product (OPT) leaves autocast in bfloat16.
    return states_BTD.to(torch.promote_types(states_BTD.dtype, next(backbone.parameters()).dtype))


def _states(backbone: nn.Module, batch: Batch) -> Tensor:
    takes_positions = "position_ids" in inspect.signature(backbone.forward).parameters
    if batch.segment_BT is not None:
        if not takes_positions:
            raise ModelError(f"{type(backbone).__name__} takes no position ids", fix="set packing: false")
        out = backbone(input_ids=batch.ids_BT, position_ids=restarting_positions(batch.segment_BT), use_cache=False)
        return out.last_hidden_state
    joined = _joined(backbone, batch) if takes_positions else None
    if joined is not None:
        return joined.apart(_run(backbone, joined))
    if takes_positions and not _masks_padding(backbone, batch.ids_BT.device):
        return backbone(input_ids=batch.ids_BT, use_cache=False).last_hidden_state
    return _masked(backbone, batch, takes_positions)


def _masked(backbone: nn.Module, batch: Batch, takes_positions: bool) -> Tensor:
    mask_BT = batch.token_mask_BT.long()
    extra = {"position_ids": (mask_BT.cumsum(-1) - 1).clamp(min=0)} if takes_positions else {}
    out = backbone(input_ids=batch.ids_BT, attention_mask=mask_BT, use_cache=False, **extra)
    return out.last_hidden_state


def restarting_positions(segment_BT: Tensor) -> Tensor:
    """Position of every token within its own sequence of a packed row, from 0.

    Args:
        segment_BT: number of the sequence each token belongs to; padding has a number of its own.
    """
    place_BT = torch.arange(segment_BT.shape[1], device=segment_BT.device).expand_as(segment_BT)
    starts_BT = torch.ones_like(segment_BT, dtype=torch.bool)
    starts_BT[:, 1:] = segment_BT[:, 1:] != segment_BT[:, :-1]
    return place_BT - torch.where(starts_BT, place_BT, 0).cummax(dim=1).values


def share_prompts(module: nn.Module, on: bool) -> None:
    """Let the transformers models inside `module` encode shared prompts once (the default, where they can), or not.

    Copies made afterwards do the same.
    """
    for part in module.modules():
        if isinstance(part, PreTrainedModel):
            setattr(part, _SWITCH, on and None)


def write_out(module: nn.Module, on: bool) -> None:
    """Let the Llama-shaped models inside `module` be run by `accord.models.llama_trunk` (the default), or not.

    Copies made afterwards do the same.
    """
    for part in module.modules():
        if isinstance(part, PreTrainedModel):
            setattr(part, _WRITTEN_OUT, on and None)


def lays_flat(module: nn.Module) -> bool:
    """Whether all transformers models inside `module` share prompts and pay for no padding where rows are long."""
    parts = [part for part in module.modules() if isinstance(part, PreTrainedModel) and part.base_model is part]
    return bool(parts) and all(
        _written_out(part, next(part.parameters()).device) and _shares(part, next(part.parameters()).device)
        for part in parts
    )


def _is_written_out(backbone: nn.Module, batch: Batch) -> bool:
    if batch.segment_BT is not None or _window(backbone) < batch.ids_BT.shape[1]:
        return False
    return _written_out(backbone, batch.ids_BT.device)


def _written_out(backbone: nn.Module, device: torch.device) -> bool:
    if getattr(backbone, _WRITTEN_OUT, None) is False or device.type != "cpu":
        return False
    use_attention(backbone, device)
    if llama_trunk.obstacle(backbone) is not None:
        return False
    if getattr(backbone, _WRITTEN_OUT, None) is None:
        setattr(backbone, _WRITTEN_OUT, _can_write_out(backbone))
    return bool(getattr(backbone, _WRITTEN_OUT))


@torch.no_grad()
def _can_write_out(backbone: nn.Module) -> bool:
    """Whether the written-out trunk says on a probe what the model itself says; False with a warning."""
    rows = _probe(backbone)
    shared_B, low = rows.shared_prefix_B(), next(backbone.parameters()).dtype
    assert shared_B is not None
    with torch.autocast(rows.ids_BT.device.type, enabled=False):
        wanted_BTD = _masked(backbone, rows, takes_positions=True)
    for where_BT in (rows.token_mask_BT, rows.response_mask_BT & (rows.ids_BT % 2 == 0), _last(rows)):
        for flat in (False, True):
            for joined in (join(rows, shared_B, flat=flat), join(rows, torch.zeros_like(shared_B), flat=flat)):
                found = llama_trunk.states(backbone, joined, where_BT, flat=flat, low=low)
                if (error := _difference(found, wanted_BTD[where_BT])) is not None:
                    name = type(backbone).__name__
                    warnings.warn(
                        f"{name} is run by its own forward: written out it differs by {error:.1g}", stacklevel=2
                    )
                    return False
    return True


def _last(batch: Batch) -> Tensor:
    return torch.arange(batch.ids_BT.shape[1], device=batch.ids_BT.device) == batch.lengths_B[:, None] - 1


def _low(backbone: nn.Module) -> torch.dtype:
    return torch.bfloat16 if runs_in_bfloat16(backbone) else next(backbone.parameters()).dtype


def _joined(backbone: nn.Module, batch: Batch, *, in_parts: bool = False) -> Joined | None:
    """The rows joined, or None where that is not possible or saves nothing.

    Args:
        backbone: a transformers model without its output head.
        batch: rows to run.
        in_parts: long rows are run without a mask, so whatever is shared is saved.
    """
    shared_B = None if getattr(backbone, _SWITCH, None) is False else batch.shared_prefix_B()
    # A model's own attention window is no part of our mask.
    if shared_B is None or not bool(shared_B.any()) or batch.ids_BT.shape[1] > _window(backbone):
        return None
    if not _shares(backbone, batch.ids_BT.device):
        return None
    joined = join(batch, shared_B)
    if in_parts and joined.ids_UL.shape[1] >= attention.PARTS_FROM:
        return joined
    # Work of a layer in multiples of 4 D: 6 D a token in the matrices, and one for each pair of tokens in the
    # attention; without a mask of its own the kernel leaves out half the pairs.
    size = int(_config(backbone).hidden_size)
    (units, width), (rows, length) = joined.ids_UL.shape, batch.ids_BT.shape
    saves = units * width * (6 * size + width) < rows * length * (6 * size + length / 2)
    return joined if saves else None


def _shares(backbone: nn.Module, device: torch.device) -> bool:
    """Whether rows may be joined; tried once."""
    if getattr(backbone, _SWITCH, None) is None:
        setattr(backbone, _SWITCH, False)  # the probe itself compares with rows apart
        with torch.autocast(device.type, enabled=False):
            setattr(backbone, _SWITCH, _can_share(backbone))
    return bool(getattr(backbone, _SWITCH))


def _run(backbone: nn.Module, joined: Joined) -> Tensor:
    in_parts = _config(backbone)._attn_implementation == KERNEL and joined.ids_UL.device.type == "cpu"
    in_parts = in_parts and not getattr(backbone, _MASKS, False)
    mask = mask_of(joined) if in_parts else _mask(backbone, joined.visible_ULL)
    out = backbone(input_ids=joined.ids_UL, attention_mask=mask, position_ids=joined.position_UL, use_cache=False)
    return out.last_hidden_state


@torch.no_grad()
def _can_share(backbone: nn.Module) -> bool:
    """Whether rows of a group may be joined: the hidden states of a probe are the same joined and apart.

    False, with a warning, when the model refuses the mask or its hidden states differ.
    """
    apart = _probe(backbone)
    wanted = _states(backbone, apart)[apart.token_mask_BT]
    use_attention(backbone, apart.ids_BT.device)
    reason = None
    for masks in (False, True):
        setattr(backbone, _MASKS, masks)
        try:
            shared_B = apart.shared_prefix_B()
            assert shared_B is not None
            joined = join(apart, shared_B)
            found = joined.apart(_run(backbone, joined))[apart.token_mask_BT]
        except (RuntimeError, TypeError, ValueError) as refusal:
            reason = f"it refuses the mask ({str(refusal).splitlines()[0][:120]})"
            continue
        if (error := _difference(found, wanted)) is None:
            return True
        reason = f"its hidden states differ by {error:.1g}"
    warnings.warn(f"{type(backbone).__name__} cannot share prompts: {reason}; rows are encoded apart", stacklevel=2)
    return False


@torch.no_grad()
def _masks_padding(backbone: nn.Module, device: torch.device) -> bool:
    """Whether padding must be masked: a model that looks to the right says something else without the mask."""
    found = getattr(backbone, _PADDING, None)
    if found is None:
        use_attention(backbone, device)
        with torch.autocast(device.type, enabled=False):
            rows = _probe(backbone)
            wanted = _masked(backbone, rows, takes_positions=True)[rows.token_mask_BT]
            plain = backbone(input_ids=rows.ids_BT, use_cache=False).last_hidden_state[rows.token_mask_BT]
        found = _difference(plain, wanted) is not None
        setattr(backbone, _PADDING, found)
    return found


def _probe(backbone: nn.Module) -> Batch:
    """Rows of different lengths, three of them with a common beginning."""
    vocab = int(_config(backbone).vocab_size)
    prompt = [(7 * i + 1) % vocab for i in range(6)]
    rows = [[*prompt, *((5 * i + 3 * k + 2) % vocab for i in range(size))] for k, size in enumerate((4, 1, 3))]
    rows.append([(3 * i + 2) % vocab for i in range(5)])
    masks = [[place > 0 for place in range(len(row))] for row in rows]
    return collate(rows, masks, pad_id=0, group=[0, 0, 0, 1]).to(next(backbone.parameters()).device)


def _difference(found: Tensor, wanted: Tensor) -> float | None:
    """How far hidden states are apart, or None where that is rounding; NaN weights differ in nothing."""
    error = float((found - wanted).abs().max() / wanted.abs().max())
    return error if error > _TOLERANCE.get(wanted.dtype, 0.1) else None


def _mask(backbone: nn.Module, visible_ULL: Tensor) -> Tensor | BlockMask:
    """The mask [U, 1, L, L] as the attention kernel takes it: blocks, what is added to the scores, or True = sees."""
    visible = visible_ULL[:, None]
    kernel = _config(backbone)._attn_implementation
    if kernel == "flex_attention":
        units, length = visible_ULL.shape[:2]
        return create_block_mask(
            lambda b, _h, q, k: visible_ULL[b, q, k], units, None, length, length, device=str(visible_ULL.device)
        )
    if kernel != "eager":
        return visible
    dtype = next(backbone.parameters()).dtype
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, torch.finfo(dtype).min)


def _window(backbone: nn.Module) -> float:
    """Longest sequence whose tokens all see each other."""
    config = _config(backbone)
    sizes = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return min([size for size in sizes if size], default=float("inf"))


def _config(backbone: Any) -> Any:
    return backbone.config.get_text_config(decoder=True)
