"""Named random streams without state.

A stream is a pure function of (seed, names, counters): the seed of "ppo/sampling" at rollout 17 can be computed
without replaying rollouts 0 to 16. A resumed run therefore needs only its integer counters to draw exactly what the
uninterrupted run would have drawn, and adding a stream never shifts another one.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def derive(seed: int, *names: str | int) -> int:
    """Return the 63-bit seed of the stream `names` under `seed`.

    Args:
        seed: the run's seed.
        names: path of the stream, e.g. ``("ppo", "sampling", step)``; order matters.

    Returns:
        An integer in [0, 2**63), usable by numpy and torch generators.
    """
    text = "\x1f".join([str(int(seed)), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return a fresh numpy generator for the stream `names`."""
    return np.random.default_rng(derive(seed, *names))


def permutation(size: int, seed: int, *names: str | int) -> list[int]:
    """Return a permutation of ``range(size)`` drawn from the stream `names`."""
    return [int(i) for i in generator(seed, *names).permutation(size)]
