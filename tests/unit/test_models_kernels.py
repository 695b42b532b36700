"""Kernels that others wrote: errors that say what is missing, what is handed to Liger, FlexAttention's block mask."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from accord.batch import collate
from accord.errors import ModelError
from accord.models import kernels
from accord.models.kernels import use_kernels
from accord.models.policy import CausalModel
from accord.models.trunk import hidden_states, share_prompts
from train_models import tiny_llama


def test_the_attention_kernel_of_every_part_is_set() -> None:
    policy = CausalModel(tiny_llama(torch.float32))
    use_kernels(policy, None)
    assert policy.inner.config._attn_implementation == "sdpa"
    use_kernels(policy, "eager")
    assert policy.inner.config._attn_implementation == "eager"
    assert policy.inner.base_model.config._attn_implementation == "eager"


def test_a_kernel_that_is_not_installed_is_named() -> None:
    with pytest.raises(ModelError, match="cannot use flash_attention_2") as caught:
        use_kernels(CausalModel(tiny_llama(torch.float32)), "flash_attention_2")
    assert "attn_implementation: null" in str(caught.value.fix)


def test_liger_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = CausalModel(tiny_llama(torch.float32))
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="needs a package"):
        use_kernels(policy, None, liger=True)
    monkeypatch.setattr(kernels, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="CUDA"):
        use_kernels(policy, None, liger=True)


def test_liger_patches_the_layers_and_not_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    fake = SimpleNamespace(
        MODEL_TYPE_TO_APPLY_LIGER_FN={"llama": None}, _apply_liger_kernel_to_instance=lambda **o: seen.append(o)
    )
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.monkey_patch", fake)
    monkeypatch.setattr(kernels, "import_module", lambda name: sys.modules[name])
    monkeypatch.setattr(kernels, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    policy = CausalModel(tiny_llama(torch.float32))
    use_kernels(policy, None, liger=True)
    assert seen == [{"model": policy.inner, "fused_linear_cross_entropy": False, "cross_entropy": False}]
    fake.MODEL_TYPE_TO_APPLY_LIGER_FN.clear()
    with pytest.raises(ModelError, match="no kernels for llama"):
        use_kernels(policy, None, liger=True)


@pytest.mark.filterwarnings("ignore")  # of torch and transformers about FlexAttention on CPUs
def test_block_masks_of_flex_attention_keep_rows_apart() -> None:
    hf = tiny_llama(torch.float32, layers=2)
    prompt = [1, 2, 3, 4, 5, 6, 1, 2]
    rows = [[*prompt, 3, 4], [*prompt, 5], [*prompt, 2, 6, 3]]
    batch = collate(rows, [[place > 0 for place in range(len(row))] for row in rows], pad_id=0, group=[0, 0, 0])
    with torch.no_grad():
        share_prompts(hf, False)
        apart = hidden_states(hf.model, batch)[batch.token_mask_BT]
        hf.set_attn_implementation("flex_attention")
        share_prompts(hf, True)
        torch.compiler.set_stance("force_eager")  # its CPU kernels need a compiler, and have no backward pass
        try:
            joined = hidden_states(hf.model, batch)[batch.token_mask_BT]
        finally:
            torch.compiler.set_stance("default")
    assert hf.model.accord_shares_prompts is True
    assert (joined - apart).abs().max() < 1e-5
