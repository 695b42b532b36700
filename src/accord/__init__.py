"""Accord: reinforcement learning from human feedback, from raw text to an aligned, measured model."""

from __future__ import annotations

__version__ = "0.1.0"
