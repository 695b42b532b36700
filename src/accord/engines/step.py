"""One decoding step of a model, written out: the model's weights and numbers in a fraction of the time.

A general forward spends much of a small decoding step around the arithmetic: many small kernels and calls per layer, a
mask built anew, an attention kernel made for long queries. Here queries, keys and values are one product and are turned
at once, in place. Every call counts: beside products that empty the caches a small one takes three times as long as
alone. Attention belongs to whoever keeps keys and values (`accord.engines.grouped`); how a family's models
are put together is in its own file (`llama`, `gpt2`, `neox`, `bloom`, `pairs`).

The step reads copies of the weights, made when it is built (`accord.engines.weights`). A trunk that trains in bfloat16
(`accord.models.precision`) takes its steps in bfloat16, so that the sampler is the policy that is trained.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from accord.engines import bloom, gpt2, llama, neox, pairs
from accord.engines.anatomy import Anatomy, Function, Layer
from accord.engines.weights import Product
from accord.models.precision import runs_in_bfloat16, trunk_precision

FAMILIES: dict[str, Callable[[Any], Anatomy | str]] = {
    **llama.FAMILIES,
    **gpt2.FAMILIES,
    **neox.FAMILIES,
    **bloom.FAMILIES,
    **pairs.FAMILIES,
}
"""How models of a class of transformers are read."""
_PLAIN = ("torch.nn.", "transformers.models.", "transformers.activations", "transformers.pytorch_utils")
"""Where classes come from that compute what their names say."""


def read(model: nn.Module) -> Anatomy | str:
    """Take the model apart as it is now, or say why `DecodingStep` cannot run it.

    Args:
        model: Hugging Face causal LM, PEFT-wrapped or not.
    """
    inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # pyright: ignore
    name = type(inner).__name__
    if name not in FAMILIES or not type(inner).__module__.startswith("transformers.models."):
        return f"{name} is not one of {', '.join(sorted(FAMILIES))}"
    for path, module in inner.named_modules():
        if not type(module).__module__.startswith(_PLAIN):
            return f"{path} is a {type(module).__name__} of {type(module).__module__}, not a plain layer"
    embeddings = inner.get_input_embeddings()  # they are still called
    for module in model.modules():
        if module is not embeddings and (module._forward_hooks or module._forward_pre_hooks):
            return f"a {type(module).__name__} has a forward hook, which would not be called"
    try:
        return FAMILIES[name](inner)
    except AttributeError as error:  # another version of transformers may name a part otherwise
        return f"{name} is not put together as expected: {error}"


class Attention(Protocol):
    """Keeps keys and values, and says what queries see among them."""

    def __call__(self, layer: int, qkv_BND: Tensor, scaling: float, window: int | None) -> Tensor:
        """Store the step's keys and values and return the mixed values, [B, H * D].

        Args:
            layer: number of the layer.
            qkv_BND: queries, keys and values of the step's tokens; queries of one key head together.
            scaling: of the scores.
            window: tokens a query sees, its own included; None = all.
        """
        ...


class _Ready(NamedTuple):
    """A layer with its products."""

    layer: Layer
    qkv: Product
    attention_out: Product
    mlp_in: Product
    mlp_out: Product


class DecodingStep:
    """One token per row through a model, beside keys and values kept elsewhere.

    Args:
        anatomy: what `read` made of a model in eval mode. Its weights are copied now: build a new step after they
            changed.
        rows: about how many rows will go through at once.
        positions: tokens of the longest row there will be.
    """

    def __init__(self, anatomy: Anatomy, rows: int, positions: int) -> None:
        self.heads, self.key_heads, self.head_size = anatomy.heads, anatomy.key_heads, anatomy.head_size
        self.layers = len(anatomy.layers)
        self.dtype: torch.dtype = anatomy.head.weight_OI.dtype
        """Of keys, values and attention scores."""
        self.device = anatomy.head.weight_OI.device
        self.slopes_N = anatomy.slopes_N
        """Of biases on positions; see `Anatomy`."""
        self._key_order_D = anatomy.key_order_D
        self._trunk = anatomy.trunk
        self._takes_positions = "position_ids" in inspect.signature(anatomy.trunk.forward).parameters
        self._embed, self._norm, self._parallel = anatomy.embed, anatomy.norm, anatomy.parallel
        inner = torch.bfloat16 if runs_in_bfloat16(anatomy.trunk) else None
        self._layers = [
            _Ready(
                layer,
                Product(layer.qkv, inner, rows),
                Product([layer.attention_out], inner, rows),
                Product(layer.mlp_in, inner, rows, None if layer.gated else layer.activation),
                Product([layer.mlp_out], inner, rows),
            )
            for layer in anatomy.layers
        ]
        self._head = Product([anatomy.head], None, rows)
        like = anatomy.head.weight_OI[:1, :1]
        self._rotary = {name: _Rotary(*found, like, positions) for name, found in anatomy.rotary.items()}

    def read_prompts(self, ids_PT: Tensor, mask_PT: Tensor, position_PT: Tensor, cache: Cache) -> Tensor:
        """Run whole prompts through the trunk's own forward, in the precision it trains in, filling `cache`.

        Returns:
            Logits [P, V] after the last token of every prompt.
        """
        places = {"position_ids": position_PT} if self._takes_positions else {}
        with trunk_precision(self._trunk, self.device):
            out = self._trunk(input_ids=ids_PT, attention_mask=mask_PT, past_key_values=cache, use_cache=True, **places)
        if self._key_order_D is not None:
            kept: Any
            for kept in cache.layers:
                kept.keys = kept.keys[..., self._key_order_D]
        return self._head(out.last_hidden_state[:, -1])

    @torch.inference_mode()
    def __call__(self, token_B: Tensor, position_B: Tensor, attend: Attention, asked_A: Tensor | None = None) -> Tensor:
        """Return the logits after `token_B`, [B, V], or after those at `asked_A`, [A, V].

        Args:
            token_B: ids.
            position_B: the token's place in its own row.
            attend: keeps the token's keys and values and attends.
            asked_A: behind the last layer's attention only these tokens go on.
        """
        hidden_BH = self._embed(token_B, position_B)
        angles = {name: rotary(position_B) for name, rotary in self._rotary.items()}
        for index, (layer, qkv, attention_out, mlp_in, mlp_out) in enumerate(self._layers):
            read_BH = layer.attention_norm(hidden_BH)
            qkv_BND = qkv(read_BH).to(self.dtype).view(len(token_B), -1, self.head_size)
            self._place(layer, qkv_BND, angles)
            mixed_BE = attend(index, qkv_BND, layer.scaling, layer.window)
            if asked_A is not None and index == self.layers - 1:
                hidden_BH, read_BH, mixed_BE = hidden_BH[asked_A], read_BH[asked_A], mixed_BE[asked_A]
            before_BH, hidden_BH = hidden_BH, _add(hidden_BH, attention_out, mixed_BE, layer.attention_end)
            if layer.mlp_norm is not None:
                read_BH = layer.mlp_norm(before_BH if self._parallel else hidden_BH)
            inner_BI = mlp_in(read_BH)
            if layer.gated:
                gate_BI, up_BI = inner_BI.view(len(inner_BI), 2, -1).unbind(1)
                inner_BI = layer.activation.function(gate_BI) * up_BI
            hidden_BH = _add(hidden_BH, mlp_out, inner_BI, layer.mlp_end)
        return self._head(self._norm(hidden_BH))

    def _place(self, layer: Layer, qkv_BND: Tensor, angles: dict[str, tuple[Tensor, Tensor]]) -> None:
        """Norm and turn queries and keys, in place."""
        both = self.heads + self.key_heads
        if layer.query_norm is not None and layer.key_norm is not None:
            query_BHD, key_BKD = qkv_BND[:, : self.heads], qkv_BND[:, self.heads : both]
            query_BHD.copy_(layer.query_norm(query_BHD))
            key_BKD.copy_(layer.key_norm(key_BKD))
        if layer.rotary is not None:
            cos_B1R, sin_B1R = angles[layer.rotary]
            turned_BNR = qkv_BND[:, :both]
            if cos_B1R.shape[-1] < self.head_size:
                turned_BNR = turned_BNR[..., : cos_B1R.shape[-1]]
            # The sign is in the sine, so that turning by half is a roll.
            rolled_BNR = turned_BNR.roll(cos_B1R.shape[-1] // 2, -1)
            turned_BNR.mul_(cos_B1R).addcmul_(rolled_BNR, sin_B1R)


def _add(hidden_BH: Tensor, product: Product, x_BI: Tensor, end: Function | None) -> Tensor:
    return product.added(x_BI, hidden_BH) if end is None else hidden_BH + end(product(x_BI).to(hidden_BH.dtype))


class _Rotary:
    """Cosines and sines by position, read from a table where the embedding is the same for every length.

    Args:
        embedding: (states, positions [1, T]) -> cosines and sines [1, T, R].
        scaling: transformers' name of how the embedding is scaled.
        like: a tensor with the device and type of the states.
        positions: length of the table.
    """

    def __init__(self, embedding: Callable[..., Any], scaling: str, like: Tensor, positions: int) -> None:
        self._embedding, self._like = embedding, like
        self._table = None
        if scaling not in {"dynamic", "longrope"}:
            self._table = self._at(torch.arange(positions, device=like.device))

    def __call__(self, position_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cosines and signed sines [B, 1, R]."""
        if self._table is None:
            return self._at(position_B)
        cos_P1R, sin_P1R = self._table
        return cos_P1R.index_select(0, position_B), sin_P1R.index_select(0, position_B)

    def _at(self, position_P: Tensor) -> tuple[Tensor, Tensor]:
        cos_1PR, sin_1PR = self._embedding(self._like, position_ids=position_P[None])
        half = sin_1PR.shape[-1] // 2
        signed_1PR = torch.cat((-sin_1PR[..., :half], sin_1PR[..., half:]), -1)
        return cos_1PR.transpose(0, 1), signed_1PR.transpose(0, 1)
