"""Predicted peak memory of every stage, phase by phase, from the config and the sizes of the models.

A stage loads its models, then rolls out, scores and updates in turn, and saves. What stays (weights, Adam's moments,
gradients, which live from a backward pass to the next optimiser step) is added to what a phase needs for itself. A
plan knows sizes and limits, not data: rows are taken to be as long as max_length allows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

from accord.config import Config, RunConfig
from accord.footprint import (
    BYTES,
    LOGITS_SCORED,
    LOGITS_TRAINED,
    LOGITS_TRAINED_WITH_ENTROPY,
    LOGITS_WITH_ENTROPY,
    Lora,
    Sizes,
    sizes_of_directory,
    sizes_of_pretrain,
)
from accord.pipeline import plan
from accord.stages import STAGES
from accord.stages.configs import (
    Adapters,
    EvaluateConfig,
    OfflineConfig,
    OnPolicyConfig,
    PPOConfig,
    PretrainConfig,
    RewardConfig,
    SampleConfig,
    SFTConfig,
    Training,
)
from accord.storage import MANIFEST

_ASSUMED_PROMPT = 256
"""Tokens of a prompt where no max_length limits it."""
_PROBE_ROWS = 128
"""Sequences that offline stages decode at a time in their measurements."""
_PREFILL_TOKENS = 16384
"""Prompt tokens that enter the cache at a time, and padded tokens of a forward of the reward model."""


@dataclass(frozen=True)
class Memory:
    """Predicted bytes of one stage."""

    section: str
    """Name in the config."""
    parameters: int
    """Of the model the stage is about, a count."""
    weights: int = 0
    """Of all models that are there while the stage trains."""
    optimiser: int = 0
    """Gradients and Adam's two moments of what is trained."""
    phases: Mapping[str, int] = field(default_factory=dict[str, int])
    """Peak of each phase: load, rollout, scoring, update, save."""

    @property
    def peak(self) -> int:
        """The phases take turns, so the largest counts."""
        return max(self.phases.values(), default=0)


@dataclass(frozen=True)
class _Policy:
    """A policy as a config wants it."""

    sizes: Sizes
    size: int
    """Bytes a number."""
    lora: Lora | None
    four_bits: bool

    @property
    def base(self) -> int:
        """Bytes of the weights below the adapters."""
        return self.sizes.weight_bytes(self.size, four_bits=self.four_bits)

    def adapter(self, lora: Lora) -> int:
        """Bytes of an adapter; peft keeps those of a 16-bit base in float32."""
        return self.sizes.lora_parameters(lora) * max(4, self.size)

    @property
    def trained(self) -> int:
        """Bytes of the weights that are trained."""
        return self.base if self.lora is None else self.adapter(self.lora)

    @property
    def weights(self) -> int:
        """Bytes of all weights."""
        return self.base if self.lora is None else self.base + self.adapter(self.lora)


def memory(config: RunConfig) -> dict[str, Memory | None]:
    """Predicted memory of every stage; None where it depends on a model that is not on this machine."""
    return {section: _memory(section, config.sections[section], config) for section, _, _ in plan(config, STAGES)}


def model_sizes(reference: str, config: RunConfig) -> Sizes | None:
    """Sizes of the model a reference leads to: through stages to `pretrain`, a local model or (None) the hub."""
    cfg = config.sections.get(reference)
    if isinstance(cfg, PretrainConfig):
        return sizes_of_pretrain(cfg)
    if cfg is not None:
        return model_sizes(getattr(cfg, "model_name_or_path", ""), config)
    path = _directory(reference, config)
    return None if path is None else sizes_of_directory(path)


def micro_tokens(cfg: Training) -> int:
    """Padded tokens of the largest micro-batch: what fits the budget, or the whole step when that is less."""
    rows = _rows_a_step(cfg)
    pair = 2 if isinstance(cfg, RewardConfig | OfflineConfig) else 1
    fitting = max(1, cfg.token_budget // (pair * cfg.max_length))
    return pair * cfg.max_length * min(fitting, rows)


def _rows_a_step(cfg: Training) -> int:
    if isinstance(cfg, OnPolicyConfig):
        return ceil(cfg.train_batch_size / cfg.num_mini_batches) * cfg.num_generations
    return cfg.train_batch_size


def _memory(section: str, cfg: Config, config: RunConfig) -> Memory | None:
    if isinstance(cfg, PretrainConfig):
        return _trained(section, cfg, _policy(cfg, sizes_of_pretrain(cfg)))
    if isinstance(cfg, SampleConfig | EvaluateConfig):
        return _sampled(section, cfg, config)
    if not isinstance(cfg, SFTConfig | RewardConfig | OnPolicyConfig | OfflineConfig):
        return Memory(section, 0)
    sizes = model_sizes(cfg.model_name_or_path, config)
    if sizes is None:
        return None
    policy = _policy(cfg, sizes)
    if isinstance(cfg, RewardConfig):
        return _rewarded(section, cfg, policy)
    if isinstance(cfg, OnPolicyConfig):
        return _on_policy(section, cfg, policy, config)
    if isinstance(cfg, OfflineConfig):
        return _offline(section, cfg, policy, config)
    return _trained(section, cfg, policy)


def _policy(cfg: Training, sizes: Sizes) -> _Policy:
    return _Policy(sizes, BYTES[cfg.dtype], _lora(cfg), bool(getattr(cfg, "load_in_4bit", False)))


def _lora(cfg: Config) -> Lora | None:
    return Lora(cfg.lora_r, cfg.lora_target_modules) if isinstance(cfg, Adapters) and cfg.use_peft else None


def _kept(cfg: Training, sizes: Sizes, tokens: int, size: int, lora: Lora | None) -> int:
    """Activations of one model for the backward pass."""
    usual = cfg.attn_implementation in (None, "sdpa") and cfg.dtype != "bfloat16" and not has_gpu()
    if sizes.written_out and usual and lora is None and not (isinstance(cfg, SFTConfig) and cfg.packing):
        whole = sizes.written_bytes(tokens, size, cfg.max_length, mixed=cfg.bf16)
    else:
        whole = sizes.mixed_bytes(tokens, lora) if cfg.bf16 else sizes.activation_bytes(tokens, size, lora)
    return sizes.recomputed_bytes(tokens, size, whole) if cfg.gradient_checkpointing else whole


def _optimiser(cfg: Training, trained: int) -> tuple[int, int]:
    """Bytes of (moments, gradients that are there while activations are): one micro-batch starts without gradients."""
    pair = 2 if isinstance(cfg, RewardConfig | OfflineConfig) else 1
    whole = _rows_a_step(cfg) * pair * cfg.max_length
    return 2 * trained, trained if whole > micro_tokens(cfg) else 0


def _update(cfg: Training, weights: int, trained: int, kept: int, transient: int) -> int:
    """Peak of an optimiser step: gradients grow while activations shrink."""
    moments, grads = _optimiser(cfg, trained)
    return weights + moments + max(grads + kept + transient, trained + transient // 3)


def _trained(section: str, cfg: Training, policy: _Policy, *, scoring: int = 0, extra: int = 0) -> Memory:
    """A language model trained on rows.

    Args:
        section: name in the config.
        cfg: of the stage.
        policy: the model.
        scoring: peak of a pass before training, 0 = there is none.
        extra: bytes of frozen models beside it.
    """
    tokens = micro_tokens(cfg)
    weights = policy.weights + extra
    transient = max(policy.sizes.logit_bytes(tokens, LOGITS_TRAINED), policy.sizes.forward_bytes(tokens, policy.size))
    kept = _kept(cfg, policy.sizes, tokens, policy.size, policy.lora)
    phases = {
        "load": weights,
        "update": _update(cfg, weights, policy.trained, kept, transient),
        "save": _saved(weights, policy.trained, _merged(policy)),
    }
    if scoring:
        phases["scoring"] = scoring
    return Memory(section, policy.sizes.parameters, weights, 3 * policy.trained, phases)


def _saved(weights: int, trained: int, merged: int) -> int:
    """The last checkpoint, with Adam's moments, or later the model: without them, beside the copy it is merged into."""
    return max(weights + 3 * trained, weights + trained + merged)


def _merged(policy: _Policy) -> int:
    """The copy into which adapters are merged."""
    return 0 if policy.lora is None else policy.sizes.parameters * policy.size + policy.adapter(policy.lora)


def _rewarded(section: str, cfg: RewardConfig, policy: _Policy) -> Memory:
    sizes, tokens = policy.sizes, micro_tokens(cfg)
    base = sizes.trunk_parameters * policy.size
    trained = base if policy.lora is None else policy.adapter(policy.lora)
    weights = base if policy.lora is None else base + trained
    kept = _kept(cfg, sizes, tokens, policy.size, policy.lora)
    transient = sizes.forward_bytes(tokens, policy.size)
    # When the scores are measured Adam's moments are gone and the last gradients are still there. An adapter adds its
    # product to that of the widest layer.
    widest = 0 if policy.lora is None else _PREFILL_TOKENS * sizes.mlp * policy.size
    phases = {
        "load": base + policy.base,  # the reward model is a copy, and what it was made from is dropped
        "update": _update(cfg, weights, trained, kept, transient),
        "scoring": weights + trained + sizes.forward_bytes(_PREFILL_TOKENS, policy.size) + widest,
        "save": _saved(weights, trained, 0 if policy.lora is None else weights),
    }
    return Memory(section, sizes.trunk_parameters, weights, 3 * trained, phases)


def _on_policy(section: str, cfg: OnPolicyConfig, policy: _Policy, config: RunConfig) -> Memory | None:
    """Policy (and critic) are trained; reference and reward model are read, wherever they live."""
    sizes, size = policy.sizes, policy.size
    reward = None if cfg.reward_model is None else model_sizes(cfg.reward_model, config)
    if cfg.reward_model is not None and reward is None:
        return None
    critic = isinstance(cfg, PPOConfig) and cfg.critic == "separate"
    trained, frozen, away, critic_lora = policy.trained, 0, 0, None
    if cfg.arrangement == "shared_base":
        critic_lora = _adapter_of(cfg.reward_model or "", config) or policy.lora
        assert critic_lora is not None
        frozen = policy.base + policy.adapter(critic_lora)
        trained += policy.adapter(critic_lora) if critic else 0
    else:
        judge = 0 if reward is None else reward.trunk_parameters * 4
        away = judge + (sizes.parameters * size if policy.lora is None else 0)
        frozen = policy.base if policy.lora is not None else 0
        trained += judge if critic else 0
    weights = trained + frozen + away
    present = trained + frozen + (0 if cfg.offload_frozen and has_gpu() else away)

    tokens = micro_tokens(cfg)
    scored = ceil(tokens * min(1.0, cfg.max_completion_length / cfg.max_length))
    kept = _kept(cfg, sizes, tokens, size, policy.lora)
    if critic and reward is not None:
        kept += _kept(cfg, reward, tokens, size if critic_lora else 4, critic_lora)
    update = max(sizes.logit_bytes(scored, LOGITS_TRAINED_WITH_ENTROPY), sizes.forward_bytes(tokens, size))

    rollouts = cfg.train_batch_size * cfg.num_generations
    prompt = max(1, cfg.max_length - cfg.max_completion_length)
    judged = _fitting(_PREFILL_TOKENS, cfg.max_length, rollouts)
    passes = [
        sizes.logit_bytes(scored, LOGITS_WITH_ENTROPY),
        sizes.forward_bytes(tokens, size),
        0 if reward is None else reward.forward_bytes(judged, size if critic_lora else 4),
    ]
    resident = present + 3 * trained
    copies = sizes.decoding_bytes(size, gpu=has_gpu()) if cfg.fast_decode and not (policy.lora and has_gpu()) else 0
    drawn = _drawn(sizes, size, (cfg.max_batch, rollouts, cfg.num_generations), prompt, cfg.max_completion_length)
    phases = {
        "load": weights + copies,  # an engine tries itself when it is made
        "rollout": resident + copies + drawn,
        "scoring": weights + 3 * trained + max(passes),
        "update": _update(cfg, present, trained, kept, update),
        "save": _saved(
            present,
            trained,
            0 if policy.lora is None else policy.base + 3 * policy.adapter(critic_lora or policy.lora),
        ),
    }
    return Memory(section, sizes.parameters, weights, 3 * trained, phases)


def _offline(section: str, cfg: OfflineConfig, policy: _Policy, config: RunConfig) -> Memory | None:
    """Reference log-probs are data; copies of the start stay for what needs the reference itself."""
    sizes, size = policy.sizes, policy.size
    extra = 0
    if policy.lora is None:  # copies of the start: one for the KL of the measurements, one that TR-DPO moves
        extra = ((cfg.eval_prompts is not None) + bool(getattr(cfg, "sync_ref_model", False))) * policy.base
    if cfg.reward_model is not None:
        reward = model_sizes(cfg.reward_model, config)
        if reward is None:
            return None
        extra += reward.trunk_parameters * 4
    tokens = micro_tokens(cfg)
    scoring = max(sizes.logit_bytes(tokens, LOGITS_SCORED - 1), sizes.forward_bytes(tokens, size))
    found = _trained(section, cfg, policy, scoring=policy.weights + extra + scoring, extra=extra)
    if cfg.eval_prompts is None:
        return found
    drawn = _drawn(
        sizes,
        size,
        (_PROBE_ROWS, cfg.eval_num_prompts, 1),
        max(1, cfg.max_length - cfg.max_completion_length),
        cfg.max_completion_length,
    )
    copies = sizes.decoding_bytes(size, gpu=has_gpu()) if not (policy.lora and has_gpu()) else 0
    phases = {
        **found.phases,
        "load": found.weights + copies,
        "rollout": found.weights + found.optimiser + copies + drawn,
    }
    return Memory(section, found.parameters, found.weights, found.optimiser, phases)


def _sampled(section: str, cfg: SampleConfig | EvaluateConfig, config: RunConfig) -> Memory | None:
    """Models are read one after the other: the next is loaded before the last is let go, beside the baseline."""
    models: Mapping[str, str] = cfg.models
    found = [model_sizes(reference, config) for reference in models.values()]
    known = [sizes for sizes in found if sizes is not None]
    if len(known) < len(found) or not known:
        return None
    largest = max(known, key=lambda sizes: sizes.parameters)
    loaded = min(2, len(known)) + isinstance(cfg, EvaluateConfig)
    weights = loaded * largest.parameters * 4
    rows = cfg.max_batch
    if cfg.num_prompts > 0:
        rows = min(rows, cfg.num_prompts * getattr(cfg, "num_generations", 1))
    group = getattr(cfg, "num_generations", 1)
    drawn = [_drawn(s, 4, (rows, rows, group), _ASSUMED_PROMPT, cfg.max_completion_length) for s in known]
    weights += largest.decoding_bytes(4, gpu=has_gpu()) if cfg.fast_decode else 0
    return Memory(section, largest.parameters, weights, 0, {"load": weights, "rollout": weights + max(drawn)})


def _drawn(sizes: Sizes, size: int, rows: tuple[int, int, int], prompt: int, reply: int) -> int:
    """Cache of the rows in flight, one layer of it copied for attention, and the logits of a step.

    Keys and values of a prompt are kept once for all its samples, as the decoder of written-out steps does; others
    keep them for every row.

    Args:
        sizes: of the model.
        size: bytes a number.
        rows: most rows at once; sequences to draw in all; samples of a prompt. Rows that wait for each other need twice
            the columns of a reply.
        prompt: tokens of the longest prompt.
        reply: tokens of the longest reply.
    """
    slots, total, group = rows
    at_once = min(slots, total)
    own = reply * (2 if total > slots else 1)
    prompts = min(at_once, ceil(total / group))
    cache = sizes.cache_bytes(prompts, min(prompt, sizes.positions), size) + sizes.cache_bytes(
        at_once, min(own, 2 * sizes.positions), size
    )
    entering = _fitting(_PREFILL_TOKENS, prompt, prompts)
    prefill = sizes.cache_bytes(1, entering, size) + max(
        sizes.forward_bytes(entering, size), sizes.cache_bytes(1, entering, size)
    )
    return max(cache + cache // sizes.blocks + at_once * sizes.vocab * 4 * 4, cache + prefill)


def _fitting(budget: int, length: int, rows: int) -> int:
    """Padded tokens of a forward over `rows` rows of `length` tokens within a budget."""
    return length * min(rows, max(1, budget // length))


def _adapter_of(reference: str, config: RunConfig) -> Lora | None:
    """Sizes of the adapter of a reward model: of its section, or of its files."""
    cfg = config.sections.get(reference)
    if cfg is not None:
        return _lora(cfg)
    path = _directory(reference, config)
    if path is None:
        return None
    for directory in (path, path / "adapter"):
        try:
            found = json.loads((directory / "adapter_config.json").read_text(encoding="utf-8"))
            return Lora(int(found["r"]), tuple(found["target_modules"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _directory(reference: str, config: RunConfig) -> Path | None:
    """Directory of the model files a reference names, looked for where the pipeline looks."""
    places = (Path(reference).expanduser(), config.path.parent / reference)
    path = next((place for place in places if reference and place.exists()), None)
    return path / "model" if path is not None and (path / MANIFEST).is_file() else path


def has_gpu() -> bool:
    """Whether the driver of a CUDA device is loaded; a plan imports no torch."""
    return Path("/proc/driver/nvidia/version").exists()
