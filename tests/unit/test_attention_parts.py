"""Attention in parts is softmax(q k^T) v over what each token of a joined row sees, and so are its gradients."""

from __future__ import annotations

import pytest
import torch
from joined_rows import SCALE, in_full, inputs
from torch import Tensor
from transformers import FalconConfig, FalconForCausalLM

from accord.batch import collate
from accord.models import attention
from accord.models.attention import AttentionInParts, parts_of, use_attention
from accord.models.sharing import Joined, join
from train_models import tiny_llama

EXACT = {torch.float64: 1e-12, torch.float32: 1e-5}


def joined(*, flat: bool) -> Joined:
    """Groups of three, one and two rows; the first share five tokens, the last nothing."""
    rows = [[*range(5), 10 + k, *range(size)] for k, size in enumerate((9, 0, 4))] + [[7] * 11, [1] * 4, [2] * 6]
    masks = [[place > 0 for place in range(len(row))] for row in rows]
    batch = collate(rows, masks, pad_id=0, group=[0, 0, 0, 1, 2, 2])
    shared_B = batch.shared_prefix_B()
    assert shared_B is not None
    assert shared_B.tolist() == [5, 5, 5, 0, 0, 0]
    return join(batch, shared_B, flat=flat)


def results(out: Tensor, given: list[Tensor]) -> list[Tensor]:
    weight = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), given)]


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("kept", [0, 8, 512])
@pytest.mark.parametrize("queries", [1, 3, 128])
@pytest.mark.parametrize("flat", [True, False])
def test_values_and_gradients(
    flat: bool, queries: int, kept: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_QUERIES", queries)
    monkeypatch.setattr(attention, "_KEPT_KEYS", kept)
    rows = joined(flat=flat)
    given = inputs(rows, dtype)
    out = AttentionInParts.apply(*given, tuple(parts_of(rows.units)), SCALE)
    real = (rows.row_UL >= -1)[:, None, :, None]  # what padding says is read by nobody
    wanted = results(torch.where(real, in_full(rows, *given), 0.0), given)
    for one, other in zip(results(out, given), wanted, strict=True):
        assert (one - other).abs().max() <= EXACT[dtype] * max(1.0, float(other.abs().max()))


def test_no_part_has_more_queries_than_the_limit_and_every_token_asks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_QUERIES", 4)
    parts = list(parts_of(joined(flat=True).units))
    assert max(part.queries.stop - part.queries.start for part in parts) <= 4
    asked = [place for part in parts for place in range(part.queries.start, part.queries.stop)]
    assert sorted(asked) == list(range(len(joined(flat=True).ids_UL[0])))


def test_the_softmax_of_many_keys_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = joined(flat=True)
    sizes: list[int] = []
    for kept in (10, 512):
        monkeypatch.setattr(attention, "_KEPT_KEYS", kept)
        seen: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, seen=seen: seen.append(t) or t, lambda t: t):
            AttentionInParts.apply(*inputs(rows, torch.float32), tuple(parts_of(rows.units)), SCALE)
        sizes.append(sum(t.numel() for t in seen))
        assert all(t.shape[2] <= kept for t in seen if t.dim() == 3)
    assert sizes[0] < sizes[1]


def test_sixteen_bits_are_rounded_once_at_the_end() -> None:
    rows = joined(flat=True)
    given = [t.detach().bfloat16() for t in inputs(rows, torch.float32)]
    out = AttentionInParts.apply(*given, tuple(parts_of(rows.units)), SCALE)
    assert torch.equal(
        out, AttentionInParts.apply(*(t.float() for t in given), tuple(parts_of(rows.units)), SCALE).bfloat16()
    )


def test_a_model_whose_attention_cannot_be_set_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    falcon = FalconForCausalLM(FalconConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=9))
    asked: list[str] = []
    monkeypatch.setattr(falcon, "set_attn_implementation", asked.append)
    use_attention(falcon, torch.device("cpu"))
    assert falcon.config._attn_implementation == "sdpa" and asked == []
    llama = tiny_llama()
    llama.set_attn_implementation("sdpa")
    use_attention(llama, torch.device("cpu"))
    assert llama.config._attn_implementation == attention.KERNEL
