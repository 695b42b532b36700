"""`accord init`: a commented config and sample data that run as they are, to be replaced piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from accord import lab
from accord.errors import ConfigError
from accord.lab.demonstrations import sample_reply
from accord.rng import derive, generator
from accord.storage import io_errors, write_atomic

NUM_DOCUMENTS = 8000
NUM_DEMONSTRATIONS = 800
NUM_PROMPTS = 300
NUM_EVAL_PROMPTS = 80
NUM_PREFERENCES = 600
_TEMPLATES = ("run.yaml", "README.md")
_TRIES = 20
Row = Mapping[str, Any]


def write_starter(directory: Path) -> list[Path]:
    """Write `run.yaml`, `README.md` and `data/`.

    Args:
        directory: made when missing; may hold other files.

    Returns:
        The files written.

    Raises:
        ConfigError: one of the files is there already; nothing is written then.
        ArtifactError: the disk refuses.
    """
    makers = {
        "corpus": _corpus,
        "demonstrations": _demonstrations,
        "prompts": _prompts,
        "eval_prompts": _eval_prompts,
        "preferences": _preferences,
    }
    files = {directory / "data" / f"{name}.jsonl": maker for name, maker in makers.items()}
    templates = {directory / name: name for name in _TEMPLATES}
    with io_errors("write the starter files", directory):
        for path in (*templates, *files):
            if path.exists() or path.is_symlink():
                raise ConfigError(
                    f"{path} exists already and is not overwritten", fix="choose another directory, or move it away"
                )
        (directory / "data").mkdir(parents=True, exist_ok=True)
        package = resources.files("accord.starter")
        for path, name in templates.items():
            write_atomic(path, (package / name).read_bytes())
        for path, maker in files.items():
            write_atomic(path, "".join(json.dumps(row) + "\n" for row in maker()).encode())
    return [*templates, *files]


def _seed(name: str) -> int:
    return derive(0, "starter", name)


def _corpus() -> Iterator[Row]:
    for document in lab.corpus(_seed("corpus"), NUM_DOCUMENTS):
        yield {"text": document.text}


def _demonstrations() -> Iterator[Row]:
    for record in lab.demonstrations(_seed("demonstrations"), NUM_DEMONSTRATIONS):
        yield {"messages": [{"role": m.role, "content": m.content} for m in record.messages]}


def _prompts() -> Iterator[Row]:
    for prompt in lab.prompts(_seed("prompts"), NUM_PROMPTS, "train"):
        yield {"prompt": prompt.messages[-1].content}


def _eval_prompts() -> Iterator[Row]:
    for prompt in lab.prompts(_seed("eval_prompts"), NUM_EVAL_PROMPTS, "eval"):
        yield {"prompt": prompt.messages[-1].content}


def _preferences() -> Iterator[Row]:
    """Two replies of demonstrators to each prompt; the one of higher true utility is chosen."""
    for index, prompt in enumerate(lab.prompts(_seed("preferences"), NUM_PREFERENCES, "train")):
        rng = generator(_seed("preferences"), "replies", index)
        chosen, rejected = _two_replies(prompt, rng)
        yield {"prompt": prompt.messages[-1].content, "chosen": chosen, "rejected": rejected}


def _two_replies(prompt: Any, rng: np.random.Generator) -> tuple[str, str]:
    """Better and worse reply; where demonstrators do not differ, random words are the worse one."""
    first = sample_reply(prompt, rng)[0]
    for _ in range(_TRIES):
        second = sample_reply(prompt, rng)[0]
        a, b = (lab.score(prompt, text).utility for text in (first, second))
        if a != b:
            return (first, second) if a > b else (second, first)
    return lab.best_reply(prompt), lab.random_reply(prompt, int(rng.integers(2**31)))
