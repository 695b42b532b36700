"""Measuring models and reward models; nothing here trains."""
