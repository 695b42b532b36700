"""Tiny models, batches and sources for the tests of the training loop."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from accord.batch import Batch, Forward, collate
from accord.engines.base import Caps, Sampling
from accord.engines.native import NativeEngine
from accord.models.build import copy_frozen, critic_from_causal, no_dropout, reward_from_causal, seeded
from accord.models.policy import ActorCritic, CausalModel, ScoreModel
from accord.train.credit import GAECredit
from accord.train.loop import Learner
from accord.train.objectives import DPO, NLL, PPO, BradleyTerry, PolicyGradient, SamplerCorrection
from accord.train.optim import adamw, schedule
from accord.train.rollouts import EncodedPrompt, OnPolicy, RolloutSettings
from accord.types import Completion, Message, Prompt, Rollout, Score

torch.set_num_threads(1)
VOCAB, PAD, BOS, STOP = 24, 0, 1, 2


def tiny_llama(dtype: torch.dtype = torch.float32, *, seed: int = 0, tie: bool = True, layers: int = 1) -> Any:
    """A Llama of a few thousand weights, away from the near-uniform distributions of a fresh model."""
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=STOP,
        tie_word_embeddings=tie,
        initializer_range=0.2,
    )
    with seeded(seed, "tiny"):
        model = LlamaForCausalLM(config)
    no_dropout(model)
    return model.to(dtype)


def causal(dtype: torch.dtype = torch.float32, **options: Any) -> CausalModel:
    return CausalModel(tiny_llama(dtype, **options), logit_chunk=5)


def scorer(dtype: torch.dtype = torch.float32, seed: int = 0) -> ScoreModel:
    return reward_from_causal(tiny_llama(dtype, seed=seed), seed)


def actor_critic(dtype: torch.dtype = torch.float32, seed: int = 0) -> ActorCritic:
    policy = causal(dtype, seed=seed)
    critic = critic_from_causal(tiny_llama(dtype, seed=seed + 1))
    with seeded(seed, "value-head"), torch.no_grad():
        critic.head.weight.normal_(0.0, 0.5)
    return ActorCritic(policy, critic)


def random_batch(num_groups: int, *, seed: int = 0, group_size: int = 2, longest: int = 12) -> Batch:
    """Rows of different lengths with every field an objective may want, in float64."""
    rand = torch.Generator().manual_seed(seed)
    num_rows = num_groups * group_size
    lengths = torch.randint(3, longest + 1, (num_rows,), generator=rand).tolist()
    starts = [int(torch.randint(1, n, (1,), generator=rand)) for n in lengths]
    batch = collate(
        [torch.randint(1, VOCAB, (n,), generator=rand).tolist() for n in lengths],
        [[t >= start for t in range(n)] for n, start in zip(lengths, starts, strict=True)],
        pad_id=PAD,
        group=[row // group_size for row in range(num_rows)],
    )

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rand, dtype=torch.float64)

    def of_pairs(values: Tensor) -> Tensor:
        return values.repeat_interleave(group_size)

    mask_BT = batch.response_mask_BT
    return batch.replace(
        **{
            name: torch.where(mask_BT, scale * noise(*mask_BT.shape) + shift, 0.0)
            for name, scale, shift in (
                ("old_logp_BT", 0.5, -3.0),
                ("ref_logp_BT", 0.5, -3.0),
                ("sampler_logp_BT", 0.5, -3.0),
                ("advantage_BT", 1.0, 0.0),
                ("return_BT", 1.0, 0.0),
                ("old_value_BT", 1.0, 0.0),
            )
        },
        weight_B=of_pairs(noise(num_groups).abs() + 0.1),
        target_B=of_pairs(torch.rand(num_groups, generator=rand, dtype=torch.float64)),
        margin_B=of_pairs(noise(num_groups).abs()),
    )


def widen(batch: Batch, extra: int, fill: int) -> Batch:
    """The same rows with more padding; token fields get NaN there, which nothing may read."""

    def pad(name: str, x: Tensor) -> Tensor:
        value = fill if name == "ids_BT" else False if name == "response_mask_BT" else float("nan")
        return nn.functional.pad(x, (0, extra), value=value)

    fields = {n: getattr(batch, n) for n in batch.__dataclass_fields__ if getattr(batch, n) is not None}
    return Batch(**{n: pad(n, x) if n.endswith("_BT") else x for n, x in fields.items()})


CONSTANT: dict[str, Any] = {"loss_aggregation": "constant", "max_completion_length": 12}
CASES: dict[str, tuple[Callable[[torch.dtype], nn.Module], Any, dict[str, bool]]] = {
    "nll": (causal, NLL(), {}),
    "bradley-terry": (scorer, BradleyTerry(center=0.01), {}),
    "dpo": (causal, DPO(beta=0.3, label_smoothing=0.1), {}),
    "ppo": (actor_critic, PPO(cliprange_value=0.3, vf_coef=0.5, entropy_coef=0.1), {"entropy": True}),
    "ppo by rows": (actor_critic, PPO(loss_aggregation="seq-mean-token-mean"), {}),
    "ppo over a constant": (actor_critic, PPO(dual_clip=3.0, **CONSTANT), {}),
    "grpo": (causal, PolicyGradient(beta=0.1, epsilon_high=0.28, delta=1.6, entropy_coef=0.1), {"entropy": True}),
    "dr_grpo": (causal, PolicyGradient(**CONSTANT), {}),
    "gspo": (causal, PolicyGradient(importance_sampling_level="sequence"), {}),
    "rloo": (causal, PolicyGradient(importance_sampling_level="sequence_sum", epsilon=1.0), {}),
    "cispo": (causal, PolicyGradient("cispo", epsilon_high=1.5, loss_aggregation="token-mean"), {}),
    "sapo": (causal, PolicyGradient("sapo", beta=0.1, kl_estimator="k2", use_bias_correction_kl=False), {}),
    "reinforce, other sampler": (
        causal,
        PolicyGradient("reinforce", correction=SamplerCorrection("token_truncate", 1.2)),
        {},
    ),
    "grpo, other sampler": (causal, PolicyGradient(correction=SamplerCorrection("sequence_mask", 3.0, 0.01)), {}),
    "ppo row sums": (actor_critic, PPO(loss_aggregation="seq-mean-token-sum"), {}),
}
"""Objective -> how to build its model, the objective, and what its forward pass is asked for."""


def make_learner(module: nn.Module, forward: Callable[[Batch], Forward] | None = None, **options: Any) -> Learner:
    settings: dict[str, Any] = {"learning_rate": 1e-2, "steps": 20, "overrides": None, "weight_decay": 0.0} | options
    return Learner(
        module=module,
        forward=module if forward is None else forward,
        optimizer=adamw(
            module,
            learning_rate=settings.pop("learning_rate"),
            overrides=settings.pop("overrides"),
            weight_decay=settings.pop("weight_decay"),
        ),
        schedule=schedule(settings.pop("kind", "linear"), steps=settings.pop("steps")),
        **settings,
    )


class ListSource:
    """Yields the given batches in turn; counts how many were asked for."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches, self.drawn, self.at_boundary = batches, 0, True

    def __iter__(self) -> Iterator[Batch]:
        while True:
            batch = self.batches[self.drawn % len(self.batches)]
            self.drawn += 1
            yield batch

    def report(self) -> dict[str, float]:
        return {"drawn": float(self.drawn)}

    def state(self) -> dict[str, Any]:
        return {"drawn": self.drawn}

    def restore(self, state: dict[str, Any]) -> None:
        self.drawn = state["drawn"]


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def words(ids: list[int]) -> str:
    return " ".join(f"w{i}" for i in ids)


def encoded_prompts(count: int) -> list[EncodedPrompt]:
    rand = torch.Generator().manual_seed(5)
    return [
        EncodedPrompt(
            Prompt(id=f"p{i}", messages=(Message(role="user", content=f"question {i}"),)),
            (BOS, *torch.randint(3, VOCAB, (1 + i % 4,), generator=rand).tolist(), 3),
        )
        for i in range(count)
    ]


def count_reward(rollouts: list[Rollout]) -> list[Score]:
    """How often token 7 occurs, minus a little for length."""
    return [Score(value=r.completion.token_ids.count(7) - 0.05 * len(r.completion.token_ids)) for r in rollouts]


class Elsewhere:
    """The native engine over weights of its own, as on another device: a copy is made when weights are given.

    It may keep its log-probs to itself, or give wrong ones from some version of the weights on.
    """

    def __init__(self, module: ActorCritic, *, logps: bool = True, lies_from: int | None = None) -> None:
        self.source = module.policy.hf
        self.model = copy.deepcopy(self.source)
        self.inner = NativeEngine(self.model, stop_ids=(STOP,), pad_id=PAD, decode=words, max_batch=5, check=False)
        self.logps, self.lies_from = logps, lies_from
        self.version = -1
        self.written: list[tuple[int, str]] = []
        """Version of the weights and name of the thread of every request."""

    @property
    def caps(self) -> Caps:
        return Caps(weights="path", logps=self.logps, seeds=True)

    def generate(self, *args: Any, **options: Any) -> list[Completion]:
        self.written.append((self.version, threading.current_thread().name))
        done = self.inner.generate(*args, **options)
        by = 0.3 * (self.lies_from is not None and self.version >= self.lies_from)
        return [
            c.model_copy(update={"logps": tuple(x + by for x in c.logps or ()) if self.logps else None}) for c in done
        ]

    def update_weights(self, policy: object, version: int) -> None:
        self.model.load_state_dict(copy.deepcopy(self.source.state_dict()))
        self.version = version

    def close(self) -> None:
        self.inner.close()


def on_policy(
    module: ActorCritic,
    *,
    temperature: float = 1.0,
    prompts: int = 7,
    max_new_tokens: int = 6,
    n: int = 2,
    **options: Any,
) -> OnPolicy:
    """The PPO source of a tiny model with the native engine; its reference is the model as it is now."""
    ref = copy_frozen(module.policy)
    chosen: dict[str, Any] = {
        "num_prompts": 4,
        "num_epochs": 2,
        "num_minibatches": 2,
        "kl_coef": 0.05,
        "token_budget": 40,
    }
    parts: dict[str, Any] = {
        "forward": lambda b: module(b, temperature=temperature, entropy=True),
        "ref": lambda b: ref(b, temperature=temperature),
        "reward": count_reward,
        "credit": GAECredit(),
        "prompts": encoded_prompts(prompts),
        "seed": 3,
    }
    for key in list(options):
        if key in parts or key in {"engine", "policy_forward", "critic_forward", "say"}:
            parts[key] = options.pop(key)
    engine = parts.pop("engine", None) or NativeEngine(
        module.policy.hf, stop_ids=(STOP,), pad_id=PAD, decode=words, max_batch=5, check=False
    )
    sampling = Sampling(max_new_tokens, temperature=temperature, n=n)
    return OnPolicy(
        policy=module,
        engine=engine,
        settings=RolloutSettings(sampling=sampling, **chosen | options),
        pad_id=PAD,
        **parts,
    )
