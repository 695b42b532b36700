"""Attacks on a model, measured: what gets through, how often, and what it costs to close it."""
