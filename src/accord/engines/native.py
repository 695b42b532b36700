"""Generation in the learner's own process, with the learner's own weights, for any Hugging Face causal LM.

Any architecture is driven through its own forward; the families of `accord.engines.step` are decoded by
`GroupedDecoder` and `DecodingStep`, which can be switched off. `benchmarks/decode.py` measures both beside
`model.generate`, continuous batching and a bare loop.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from accord.engines.base import Caps, Sampling, check_request
from accord.engines.cache import CachedDecoder, Decoder, RecomputeDecoder, caches_keys_and_values
from accord.engines.grouped import GroupedDecoder
from accord.engines.schedule import Schedule
from accord.engines.step import DecodingStep, read
from accord.engines.stops import Decode
from accord.engines.watching import Watch, WatchedSchedule
from accord.engines.weights import packed
from accord.errors import EngineError
from accord.models import chat
from accord.models.attention import use_attention
from accord.models.lora import unwrap
from accord.models.precision import runs_in_bfloat16
from accord.rng import derive
from accord.types import Completion

_PROBE_LENGTH = 8


@dataclass(frozen=True)
class _Room:
    """What the rows of one call need."""

    slots: int
    """Most rows at once."""
    prompts: int
    """Most different prompts at once."""
    longest: int
    """Tokens of the longest prompt."""
    new_tokens: int
    refilled: bool
    """Whether rows join later."""


_PROBE_ROOM = _Room(slots=3, prompts=2, longest=6, new_tokens=4, refilled=True)


class NativeEngine:
    """In-process engine over a model that somebody else trains.

    Args:
        hf_model: Hugging Face causal LM, PEFT-wrapped or not; never copied. On a processor its attention becomes that
            of `accord.models.attention`, where it was torch's.
        stop_ids: every id that ends a completion (all EOS ids); may be empty.
        pad_id: any id of the vocabulary; stands where no token is and is never read as one.
        decode: token ids to text.
        model_name: recorded in the completions.
        max_batch: most sequences in flight; more wait and take the place of finished ones.
        fast: take the steps of models of known families by `DecodingStep`, and let the forward of others multiply
            by packed matrices (`accord.engines.weights`).
        check: compare fast and cached decoding with plain forwards on a small probe now; what disagrees is not
            used, with a warning.
        on_progress: called after every decoding step with the number of tokens it drew.

    Raises:
        EngineError: an id outside the vocabulary, or max_batch < 1.
    """

    def __init__(  # noqa: PLR0913 - a model, its special ids, and switches
        self,
        hf_model: nn.Module,
        *,
        stop_ids: tuple[int, ...],
        pad_id: int,
        decode: Decode,
        model_name: str = "",
        max_batch: int = 128,
        fast: bool = True,
        check: bool = True,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        self.model = hf_model
        self.version = 0
        self.on_progress = on_progress
        self._stop_ids, self._pad_id, self._decode = tuple(stop_ids), pad_id, decode
        self._model_name, self._max_batch = model_name, max_batch
        self._closed = False
        config = hf_model.config.get_text_config(decoder=True)  # pyright: ignore
        self._max_length: int | None = getattr(config, "max_position_embeddings", None)
        self._vocab_size: int = hf_model.get_input_embeddings().weight.shape[0]  # pyright: ignore
        if max_batch < 1:
            raise EngineError(f"max_batch is {max_batch}", fix="max_batch must be at least 1")
        for name, token in [("pad_id", pad_id), *(("stop_ids", token) for token in stop_ids)]:
            if not 0 <= token < self._vocab_size:
                raise EngineError(
                    f"{name} has {token}, outside the model's vocabulary of {self._vocab_size}",
                    fix="use the tokenizer that belongs to this model, or resize the model's embeddings",
                )
        for part in hf_model.modules():
            use_attention(part, next(hf_model.parameters()).device)
        self.cached = caches_keys_and_values(hf_model)
        """Whether a key-value cache is used; False means correct but slow."""
        self.fast = fast
        """Whether decoding is written out or packed where it can be."""
        if check and self.cached and (self._max_length or _PROBE_LENGTH) >= _PROBE_LENGTH:
            self._check_decoders()
        if not self.cached:
            warnings.warn(
                f"{type(hf_model).__name__} cannot use the engine's key-value cache: every token runs the "
                "whole sequence again, which is slow",
                stacklevel=2,
            )

    @property
    def caps(self) -> Caps:
        """Shares the learner's weights, keeps exact log-probabilities, honours seeds."""
        return Caps(weights="shared", logps=True, seeds=True, max_length=self._max_length)

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, *, seeds: Sequence[int] | None = None
    ) -> list[Completion]:
        """Return `sampling.n` completions per prompt, all of prompt 0 first; see `Engine.generate`.

        Log-probabilities are computed in float32 (float64 for a float64 model) from the distribution that was
        sampled. The model is in eval mode meanwhile, which also switches gradient checkpointing off.

        Raises:
            EngineError: the request cannot be answered, or the model's logits are not finite.
        """
        self._check_open()
        check_request(prompts, sampling, seeds, vocab_size=self._vocab_size, max_length=self._max_length)
        return self._run(Schedule, prompts, sampling, seeds)

    def generate_watched(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        seeds: Sequence[int],
        limits: Sequence[int],
        watch: Watch,
    ) -> list[Completion]:
        """Generate as `generate` does, each prompt with a limit of its own, showing every token to `watch`.

        Args:
            prompts: token ids, each at least one.
            sampling: the distribution and stops; its max_new_tokens is not read.
            seeds: one per prompt.
            limits: most new tokens of each prompt's completions, at least 1.
            watch: sees every token, and may end rows that nobody wants any more.

        Raises:
            EngineError: as `generate`.
        """
        self._check_open()
        for ids, seed, limit in zip(prompts, seeds, limits, strict=True):
            one = replace(sampling, max_new_tokens=limit)
            check_request([ids], one, [seed], vocab_size=self._vocab_size, max_length=self._max_length)
        longest = replace(sampling, max_new_tokens=max(limits, default=1))
        return self._run(partial(WatchedSchedule, limits=limits, watch=watch), prompts, longest, seeds)

    def _run(
        self,
        schedule: Callable[..., Schedule],
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int] | None,
    ) -> list[Completion]:
        if not prompts:
            return []
        if seeds is None:
            seeds = [derive(sampling.seed, "prompt", index) for index in range(len(prompts))]
        total = len(prompts) * sampling.n
        slots = min(self._max_batch, total)
        room = _Room(
            slots=slots,
            prompts=min(slots, len({tuple(ids) for ids in prompts})),
            longest=max(len(ids) for ids in prompts),
            new_tokens=sampling.max_new_tokens,
            refilled=total > slots,
        )
        with _inference(self.model), torch.no_grad(), self._decoder(room) as decoder:
            return schedule(
                decoder,
                prompts,
                sampling,
                seeds=seeds,
                slots=slots,
                stop_ids=self._stop_ids,
                decode=self._decode,
                model_name=self._model_name,
                device=next(self.model.parameters()).device,
                on_progress=self.on_progress,
            ).run()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the engine is closed", fix="make a new engine")

    def update_weights(self, policy: object, version: int) -> None:
        """Record the version; the weights are the learner's own, so there is nothing to copy.

        Args:
            policy: the learner's module; it must be, or contain, the engine's model. None skips the check.
            version: counts up with every update.

        Raises:
            EngineError: `policy` is another model, whose weights this engine would never use.
        """
        if isinstance(policy, nn.Module) and not any(m is self.model for m in policy.modules()):
            raise EngineError(
                f"the native engine shares weights with its model, and this {type(policy).__name__} lacks it",
                fix="build the engine from the model inside the policy that is trained",
            )
        self.version = version

    def close(self) -> None:
        """Refuse further work; the model belongs to the learner and stays."""
        self._closed = True

    @contextmanager
    def _decoder(self, room: _Room) -> Iterator[Decoder]:
        """Make a decoder for one call: the learner changes its weights in place, between calls."""
        # Rows that join later stand beside older ones, which need their whole length to the left and to the right.
        own = room.new_tokens * (2 if room.refilled else 1)
        anatomy = read(self.model) if self.fast else "the fast path is off"
        if not self.cached:
            yield RecomputeDecoder(self.model, pad_id=self._pad_id)
        elif isinstance(anatomy, str):
            with packed(self.model, room.slots) if self.fast else nullcontext():
                yield CachedDecoder(
                    self.model,
                    slots=room.slots,
                    columns=room.longest + own,
                    new_tokens=room.new_tokens,
                    pad_id=self._pad_id,
                )
        else:
            yield GroupedDecoder(
                DecodingStep(anatomy, room.slots, room.longest + room.new_tokens),
                prompts=room.prompts,
                longest=room.longest,
                slots=room.slots,
                own_columns=own,
                pad_id=self._pad_id,
            )

    def _check_decoders(self) -> None:
        """Switch off what changes the logits by padding, expanding, stepping or moving rows."""
        with _inference(self.model), torch.no_grad():
            plain = _probe(RecomputeDecoder(self.model, pad_id=self._pad_id), self._vocab_size)
            rounded = {torch.float64: 1e-8, torch.float32: 1e-4}.get(plain.dtype, 5e-2)
            # A trunk in bfloat16 steps in bfloat16; the plain forward is in float32.
            tolerance = 5e-2 if runs_in_bfloat16(self.model) else rounded

            def differs() -> bool:
                with self._decoder(_PROBE_ROOM) as decoder:
                    probed = _probe(decoder, self._vocab_size)
                error = (plain - probed).abs().max() / plain.abs().max()
                return float(error) > tolerance  # False for NaN weights: generating reports them

            written_out = self.fast and not isinstance(read(self.model), str)
            if written_out and differs():
                self.fast = written_out = False
                warnings.warn(
                    f"the fast decoding step changes the logits of {type(self.model).__name__}: using its own "
                    "forward, which is slower",
                    stacklevel=3,
                )
            if not written_out and differs():
                self.cached = False


def _probe(decoder: Decoder, vocab_size: int) -> Tensor:
    """Return the logits of a fixed run: two prompts, three rows, two steps, one row dropped between them."""
    prompts = [[(7 * i + 3) % vocab_size for i in range(6)], [(5 * i + 1) % vocab_size for i in range(3)]]
    prefilled = decoder.prefill(prompts)
    device = prefilled.logits_PV.device
    decoder.admit(prefilled, torch.tensor([0, 1, 1], device=device))
    token_B = torch.tensor([2, 4, 6], device=device) % vocab_size
    first = decoder.step(token_B, torch.ones(3, dtype=torch.bool, device=device))
    decoder.keep(torch.tensor([2, 1], device=device))
    second = decoder.step(token_B[:2], torch.ones(2, dtype=torch.bool, device=device))
    return torch.cat([prefilled.logits_PV, first, second])


@contextmanager
def _inference(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode and give every module its own mode back afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def engine_for(hf_model: nn.Module, tokenizer: Any, max_batch: int, *, fast: bool = True) -> NativeEngine:
    """The engine over a model and its tokenizer, stopping at every end token that either knows.

    Args:
        hf_model: as for `NativeEngine`.
        tokenizer: of the model, with a padding token.
        max_batch: as for `NativeEngine`.
        fast: as for `NativeEngine`.
    """
    inner: Any = unwrap(hf_model)
    return NativeEngine(
        hf_model,
        stop_ids=chat.stop_ids(tokenizer, inner.generation_config),
        pad_id=tokenizer.pad_token_id,
        decode=lambda ids: chat.decode(tokenizer, ids),
        max_batch=max_batch,
        fast=fast,
    )
