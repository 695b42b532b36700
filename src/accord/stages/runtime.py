"""Process-wide settings of torch and transformers, made once before a stage runs."""

from __future__ import annotations

import os

import torch
from transformers.utils import logging

from accord.config import RunSettings


def prepare(run: RunSettings) -> None:
    """Fix the number of threads (results depend on it bit for bit) and silence what is not for users."""
    torch.set_num_threads(run.threads or os.cpu_count() or 1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
