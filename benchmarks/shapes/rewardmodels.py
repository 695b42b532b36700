"""Proxies: small reward models trained on synthetic comparisons of replies of the reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from benchmarks.shapes.world import FEATURES, World, sample, stream
from torch import Tensor, nn

from accord.functional.reward_losses import accuracy_ties_half, bradley_terry, norm_gain_bias

STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY, EVERY = 400, 256, 3e-3, 0.01, 20


@dataclass(frozen=True)
class Pairs:
    """Comparisons: tokens of the replies preferred and not, [P, L]."""

    chosen: Tensor
    rejected: Tensor

    def __len__(self) -> int:
        """Number of comparisons."""
        return self.chosen.shape[0]


@dataclass(frozen=True)
class Proxy:
    """A trained reward model; mean 0 and standard deviation 1 under the reference."""

    network: nn.Sequential
    gain: float
    bias: float

    @torch.no_grad()
    def __call__(self, feature_BF: Tensor) -> Tensor:
        """Score of each reply."""
        return self.gain * self.network(feature_BF).squeeze(-1) + self.bias


def compare(world: World, count: int, *names: str | int, flips: float = 0.0) -> Pairs:
    """Label pairs of replies of the reference by the gold reward, and turn a share of the labels around.

    Args:
        world: its gold reward decides, without noise, as in Gao et al. 2022.
        count: comparisons.
        names: of the random stream.
        flips: share of labels turned around at random.
    """
    g = stream(world.seed, "pairs", *names)
    a, b = sample(world.ref_LV, count, g), sample(world.ref_LV, count, g)
    first = world.gold(world.features(a)) > world.gold(world.features(b))
    first ^= torch.rand(count, generator=g) < flips
    return Pairs(torch.where(first[:, None], a, b), torch.where(first[:, None], b, a))


def train_proxy(world: World, pairs: Pairs, width: int, *names: str | int) -> Proxy:
    """Fit a network with one hidden layer by the Bradley-Terry loss.

    A tenth of the pairs is held out, and of the networks seen every 20 steps the one with the lowest loss on them is
    kept; below 100 pairs ten are too few to choose by, and the last network is kept.

    Args:
        world: for the features and the replies that set the scale.
        pairs: labelled comparisons.
        width: units of the hidden layer.
        names: of the random stream (initial weights and order of the pairs).
    """
    g = stream(world.seed, "proxy", *names)
    network = nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, 1))
    with torch.no_grad():
        for layer in (network[0], network[2]):
            bound = layer.weight.shape[1] ** -0.5
            for parameter in (layer.weight, layer.bias):
                parameter.copy_((2 * torch.rand(parameter.shape, generator=g) - 1) * bound)
    chosen_PF, rejected_PF = world.features(pairs.chosen), world.features(pairs.rejected)
    held = len(pairs) // 10 if len(pairs) >= 100 else 0
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    best, lowest = None, float("inf")
    for step in range(1, STEPS + 1):
        rows = torch.randint(held, len(pairs), (min(len(pairs), BATCH),), generator=g)
        loss_P = bradley_terry(network(chosen_PF[rows]).squeeze(-1), network(rejected_PF[rows]).squeeze(-1))
        optimiser.zero_grad()
        loss_P.mean().backward()
        optimiser.step()
        if held and step % EVERY == 0:
            with torch.no_grad():
                loss_P = bradley_terry(network(chosen_PF[:held]).squeeze(-1), network(rejected_PF[:held]).squeeze(-1))
            if float(loss_P.mean()) < lowest:
                lowest = float(loss_P.mean())
                best = {name: value.clone() for name, value in network.state_dict().items()}
    if best is not None:
        network.load_state_dict(best)
    with torch.no_grad():
        score_B = network(world.features(sample(world.ref_LV, 20_000, stream(world.seed, "scale")))).squeeze(-1)
    gain, bias = norm_gain_bias(score_B)
    return Proxy(network, float(gain), float(bias))


def accuracy(world: World, proxy: Proxy, count: int = 20_000) -> float:
    """Share of fresh pairs of the reference that the proxy orders as gold does."""
    pairs = compare(world, count, "accuracy")
    return float(accuracy_ties_half(proxy(world.features(pairs.chosen)), proxy(world.features(pairs.rejected))).mean())
