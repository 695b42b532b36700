"""Policy, critic, reference and reward model of an on-policy stage, arranged as the config wants them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from accord.batch import Batch, Forward
from accord.models.arrange import Parked, own_parameters, share_base
from accord.models.build import critic_from_reward, score_stats
from accord.models.checkpoint import load_reward
from accord.models.pair import device
from accord.models.policy import ActorCritic, CausalModel
from accord.models.trunk import share_prompts
from accord.rewards.learned import LearnedReward
from accord.stages.configs import Arranged
from accord.stages.policies import Loaded
from accord.types import Rollout, Score


@dataclass(frozen=True)
class Arrangement:
    """The models of one on-policy run."""

    module: CausalModel | ActorCritic
    """What is trained and checkpointed; the policy in it is `Loaded.policy`."""
    ref: Callable[[Batch], Forward]
    """Log-probabilities of the frozen reference."""
    reward: Callable[[Sequence[Rollout]], list[Score]]
    """Normalised scores of the learned reward model."""
    learned: LearnedReward
    """What `reward` asks."""
    parked: Parked | None
    """Frozen models that wait in host memory; None when they stay where they work."""

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Run the block with the frozen models on the device, so that it moves them once and not once a micro-batch."""
        if self.parked is None:
            yield
            return
        with self.parked.visit():
            yield

    def critic_rate(self, rate: float | None) -> dict[str, float] | None:
        """The base learning rate of the critic for `train(learning_rates=...)`; None = that of the policy."""
        return None if rate is None else dict.fromkeys(own_parameters(self.module, "critic"), rate)


def arrange(cfg: Arranged, loaded: Loaded, reward_location: str, *, temperature: float, critic: bool) -> Arrangement:
    """Load the reward model and put the models where `cfg` wants them.

    Args:
        cfg: `arrangement` and `offload_frozen`.
        loaded: the policy.
        reward_location: model directory of the reward model.
        temperature: of the reference's log-probs, that of sampling.
        critic: also make a critic that starts as the reward model.

    Raises:
        ModelError: the reward model cannot be loaded, or cannot share the policy's base.
    """
    if cfg.arrangement == "shared_base":
        shared = share_base(loaded.policy, reward_location)
        learned = LearnedReward(shared.reward, pad_id=loaded.pad_id, mean=shared.mean, std=shared.std)
        module = shared.module if critic else loaded.policy
        return Arrangement(module, loaded.reference_forward(None, temperature), learned, learned, None)
    judge = load_reward(reward_location)
    share_prompts(judge, getattr(cfg, "share_prompts", True))
    if not cfg.offload_frozen:
        judge = judge.to(device())
    mean, std = score_stats(judge.inner.config)
    module = ActorCritic(loaded.policy, critic_from_reward(judge).to(device())) if critic else loaded.policy
    judge.requires_grad_(False)
    reference = loaded.reference()
    ref = loaded.reference_forward(reference, temperature)
    learned = LearnedReward(judge, pad_id=loaded.pad_id, mean=mean, std=std)
    if not cfg.offload_frozen:
        return Arrangement(module, ref, learned, learned, None)
    learned.device = device()  # where it works, not where it waits
    parked = Parked(judge, *([] if reference is None else [reference]), device=device())

    def visiting_ref(batch: Batch) -> Forward:
        with parked.visit():
            return ref(batch)

    def visiting_reward(rollouts: Sequence[Rollout]) -> list[Score]:
        with parked.visit():
            return learned(rollouts)

    return Arrangement(module, visiting_ref, visiting_reward, learned, parked)
