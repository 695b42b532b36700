"""Reward functions: learned models and any Python callable."""
