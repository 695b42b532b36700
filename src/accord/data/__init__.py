"""Data sets: read every common format, write the canonical ones, split by prompt. No torch."""

from __future__ import annotations

from accord.data.aggregate import soft_labels
from accord.data.read import BadRow, Dataset, read
from accord.data.splits import prompt_text, split_by, split_by_hash, split_by_prompt, unique_prompts
from accord.data.write import export_trl, ordered_pairs, write_records

__all__ = [
    "BadRow",
    "Dataset",
    "export_trl",
    "ordered_pairs",
    "prompt_text",
    "read",
    "soft_labels",
    "split_by",
    "split_by_hash",
    "split_by_prompt",
    "unique_prompts",
    "write_records",
]
