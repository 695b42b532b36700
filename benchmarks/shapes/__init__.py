"""Shapes of published results on a synthetic gold reward: `python -m benchmarks.shapes --out docs/results`."""
