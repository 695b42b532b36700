"""lm-eval and Inspect as clients: what they are called with, and what they talk to.

Both are programs of their own with many options; Accord starts them, hands on what it is not asked about, and ends with
their exit code. Keys travel in the environment, never on a command line.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from accord.errors import ConfigError
from accord.judges.wire import checked_address, is_address
from accord.serve import running
from accord.serve.app import Settings
from accord.serve.model import find_model


@dataclass(frozen=True)
class Target:
    """A model that is being served."""

    url: str
    """Up to and including /v1."""
    name: str
    key: str
    """Empty = none is needed."""
    tokenizer: str
    """Directory or hub id; empty = not known."""
    max_length: int | None
    """Most tokens of prompt and reply; None = the server does not say."""


@dataclass(frozen=True)
class LmEval:
    """What lm-eval is to do."""

    tasks: str
    chat: bool = False
    limit: float | None = None
    num_fewshot: int | None = None
    out: Path | None = None
    include_path: Path | None = None
    concurrency: int = 8
    rest: tuple[str, ...] = ()
    """Options of its own."""


@contextmanager
def target_of(
    model: str, *, stage: str, name: str, key_variable: str | None, max_batch: int, weights: running.Weights
) -> Generator[Target]:
    """The model a text means, served while the block runs; at an address it is served already.

    Raises:
        ConfigError: the address cannot be used, or the model not be found.
        ModelError: the model cannot be loaded.
    """
    if is_address(model):
        key = running.key_of(key_variable)
        url = checked_address(model)
        card = _card(url, name, key)
        length = card.get("max_model_len")
        yield Target(url, str(card["id"]), key, "", length if isinstance(length, int) else None)
        return
    place = find_model(model, stage=stage, name=name)
    key = running.new_key()  # other users of this machine can reach the port too
    settings = Settings(place.name, key=key)
    with running.serving(place, settings, capacity=running.Capacity(max_batch), weights=weights) as url:
        length = _card(url, place.name, key).get("max_model_len")
        yield Target(url, place.name, key, place.location, length if isinstance(length, int) else None)


def _card(url: str, name: str, key: str) -> Mapping[str, object]:
    """What a server says about a model; about its only one where no name is given."""
    import httpx

    try:
        answer = httpx.get(f"{url}/models", headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=30)
        answer.raise_for_status()
        cards = [card for card in answer.json()["data"] if name in ("", card["id"])]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"no list of models: {error}", where=f"{url}/models", fix="is the server running, and the key right?"
        ) from error
    if len(cards) != 1:
        raise ConfigError(f"{len(cards)} models of that name", where=f"{url}/models", fix="choose one by --model-name")
    return cards[0]


def require_lm_eval() -> None:
    """Refuse to go on without lm-eval and what it needs to talk to a server.

    Raises:
        ConfigError: it is not installed.
    """
    missing = [name for name in ("lm_eval", "aiohttp", "tenacity") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"lm-eval is not installed ({', '.join(missing)} missing)",
            fix="pip install -c constraints.txt 'accord-rlhf[lmeval]', or pip install 'lm-eval[api]'",
        )


def require_inspect(program: str) -> str:
    """Where Inspect's program is.

    Raises:
        ConfigError: it is not there.
    """
    beside = Path(sys.executable).with_name(program)  # of this environment, though it is not activated
    found = shutil.which(program) or (str(beside) if beside.is_file() else None)
    if found is None:
        raise ConfigError(
            f"Inspect is not installed: there is no program {program}",
            fix="pip install -c constraints.txt 'accord-rlhf[inspect]'; or inspect-ai and openai in an environment of "
            "their own, and --program ITS/bin/inspect",
        )
    return found


def lm_eval_command(target: Target, asked: LmEval, tokenizer: str = "") -> list[str]:
    """The command line of lm-eval.

    Args:
        target: what it talks to.
        asked: what it is to do.
        tokenizer: directory or hub id, where the target does not say.

    Raises:
        ConfigError: texts are to be scored, and no tokenizer is known.
    """
    tokenizer = tokenizer or target.tokenizer
    arguments: dict[str, object] = {"model": target.name, "num_concurrent": asked.concurrency, "max_retries": 3}
    if target.max_length is not None:
        arguments["max_length"] = target.max_length
    if asked.chat:
        kind, route = "local-chat-completions", "chat/completions"
    else:
        kind, route = "local-completions", "completions"
        if not tokenizer:
            raise ConfigError(
                "lm-eval needs the tokenizer of the model behind the address",
                fix="--tokenizer DIRECTORY_OR_HUB_ID; or --chat, which needs none",
            )
        arguments |= {"tokenizer": tokenizer, "tokenizer_backend": "huggingface", "tokenized_requests": True}
    arguments["base_url"] = f"{target.url}/{route}"
    command = [sys.executable, "-m", "lm_eval", "run", "--model", kind, "--tasks", asked.tasks]
    command += ["--model_args", json.dumps(arguments)]
    if asked.chat:
        command.append("--apply_chat_template")
    for option, value in (
        ("--limit", asked.limit),
        ("--num_fewshot", asked.num_fewshot),
        ("--output_path", asked.out),
        ("--include_path", asked.include_path),
    ):
        if value is not None:
            command += [option, f"{value:g}" if isinstance(value, float) else str(value)]
    return [*command, *asked.rest]


def inspect_command(
    program: str, target: Target, task: str, *, limit: int | None, out: Path | None, rest: Sequence[str]
) -> list[str]:
    """The command line of Inspect.

    Args:
        program: where it is.
        target: what it talks to.
        task: file or name.
        limit: most samples.
        out: directory of its logs.
        rest: options of its own.
    """
    if Path(task.partition("@")[0]).is_absolute():
        task = os.path.relpath(task)  # Inspect looks for files by patterns, which may not be absolute
    command = [program, "eval", task, "--model", f"openai-api/accord/{target.name}"]
    if limit is not None:
        command += ["--limit", str(limit)]
    if out is not None:
        command += ["--log-dir", str(out)]
    return [*command, *rest]


def run_client(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a client to its end; its exit code.

    Args:
        command: program and arguments.
        environment: variables on top of ours.
    """
    return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode
