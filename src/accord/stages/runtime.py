"""Process-wide settings of torch and transformers, made once before a stage runs."""

from __future__ import annotations

import ctypes
import os
import sys

import torch
from transformers.utils import logging

from accord.config import RunSettings

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def prepare(run: RunSettings) -> None:
    """Fix the number of threads (results depend on it bit for bit), keep memory, silence what is not for users."""
    torch.set_num_threads(run.threads or os.cpu_count() or 1)
    keep_freed_memory()
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def keep_freed_memory() -> None:
    """Make glibc reuse freed blocks instead of giving each large one back to the kernel.

    A tensor of some megabytes is mapped anew otherwise, and the kernel zeroes its pages every time: up to a tenth of
    the processor time of a training step. Nothing happens where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the largest that glibc takes
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
