"""Signals that training has begun to exploit the reward, and what to do about it."""
