"""Is a reply like those the reward model was trained on? Mahalanobis distance in the reward model's last hidden state.

Baseline of "A Baseline Analysis of Reward Models' Ability To Accurately Analyze Foundation Models Under Distribution
Shift" (2311.14743) and of Lee et al. 2018 (1807.03888): principal components, a Gaussian with the shrunk covariance of
Ledoit and Wolf (2004, 10.1016/S0047-259X(03)00096-4), and the distance beyond which 1 % of held-out training replies
lie. Half of the replies fit the Gaussian and the other half the quantile: distances of the replies that a covariance
was fitted on are too small.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accord.errors import ModelError

Floats = NDArray[np.float64]
FILE = "accord_features.safetensors"
"""Beside the weights of a reward model."""
MOST_DIMENSIONS = 128
LEAST_ROWS = 64
"""Fewer replies say nothing about a 99 % quantile."""


@dataclass(frozen=True)
class FeatureSpace:
    """Where the features of training replies lie."""

    mean: Floats
    """[D]"""
    whitening: Floats
    """[D, K]: the distance of x is the norm of (x - mean) @ whitening."""
    q99: float
    """Distance that 99 % of held-out training replies do not exceed."""
    shrinkage: float
    """Weight of the scaled identity in the covariance, 0 to 1."""
    rows: int
    """Replies it was fitted on, both halves."""

    def distances(self, features: Floats) -> Floats:
        """Mahalanobis distance of each row, in standard deviations of the training replies.

        Args:
            features: [N, D].
        """
        return np.linalg.norm((np.asarray(features, dtype=np.float64) - self.mean) @ self.whitening, axis=1)

    def save(self, path: Path) -> None:
        """Write it as safetensors."""
        from safetensors.numpy import save_file

        numbers = {"q99": self.q99, "shrinkage": self.shrinkage, "rows": float(self.rows)}
        tensors = {name: np.array([value]) for name, value in numbers.items()}
        save_file({"mean": self.mean, "whitening": np.ascontiguousarray(self.whitening), **tensors}, str(path))


def load_space(path: Path) -> FeatureSpace:
    """Read what `FeatureSpace.save` wrote.

    Raises:
        ModelError: the file is missing, damaged, or something else.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found = load_file(str(path))
        numbers = {name: float(found[name][0]) for name in ("q99", "shrinkage", "rows")}
        mean, whitening = found["mean"].astype(np.float64), found["whitening"].astype(np.float64)
    except (OSError, SafetensorError, KeyError, IndexError) as error:
        raise ModelError(
            f"the features of the reward model's training replies cannot be read: {error}",
            where=str(path),
            fix="remove the file: the replies of the SFT model take its place",
        ) from error
    if whitening.ndim != 2 or mean.shape != whitening.shape[:1] or not np.isfinite(whitening).all():
        raise ModelError("the features of the reward model's training replies do not fit together", where=str(path))
    return FeatureSpace(mean, whitening, numbers["q99"], numbers["shrinkage"], int(numbers["rows"]))


def fit_space(features: Floats, *, most_dimensions: int = MOST_DIMENSIONS) -> FeatureSpace:
    """Fit the Gaussian on the even rows and the quantile on the odd ones.

    Args:
        features: [N, D], replies in any order that has nothing to do with what they are.
        most_dimensions: principal components kept at most.

    Raises:
        ValueError: fewer than `LEAST_ROWS` rows, or all rows are the same.
    """
    table = np.asarray(features, dtype=np.float64)
    if table.ndim != 2 or len(table) < LEAST_ROWS:
        raise ValueError(f"a feature space needs at least {LEAST_ROWS} replies, not {len(table)}")
    half, other = table[::2], table[1::2]
    mean = half.mean(axis=0)
    _, size, axes = np.linalg.svd(half - mean, full_matrices=False)
    kept = min(most_dimensions, int((size > 1e-8 * max(float(size[0]), 1e-300)).sum()))
    if kept == 0:
        raise ValueError("all replies have the same features")
    basis = axes[:kept].T
    covariance, shrinkage = ledoit_wolf((half - mean) @ basis)
    values, vectors = np.linalg.eigh(covariance)
    whitening = basis @ vectors / np.sqrt(values)
    space = FeatureSpace(mean, whitening, float("nan"), shrinkage, len(table))
    q99 = float(np.quantile(space.distances(other), 0.99))
    return FeatureSpace(mean, whitening, q99, shrinkage, len(table))


def ledoit_wolf(centred: Floats) -> tuple[Floats, float]:
    """Return the shrunk covariance and its shrinkage (Ledoit and Wolf 2004, section 3.3).

    (1 - s) S + s m I, with S = X'X / n, m = trace(S) / p, and s the ratio of the estimated error of S to its distance
    from m I, both in the Frobenius norm.

    Args:
        centred: [n, p], columns of mean 0.
    """
    n, p = centred.shape
    sample = centred.T @ centred / n
    level = float(np.trace(sample)) / p
    distance = float(((sample - level * np.eye(p)) ** 2).sum())
    # Sum over rows of |x x' - S|^2 = sum |x|^4 - n |S|^2.
    error = (float(((centred**2).sum(axis=1) ** 2).sum()) / n - float((sample**2).sum())) / n
    shrinkage = 1.0 if distance == 0 else min(1.0, max(0.0, error / distance))
    return (1 - shrinkage) * sample + shrinkage * level * np.eye(p), shrinkage
