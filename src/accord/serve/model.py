"""The model that is served: found in a directory or a run, loaded once, its texts turned into token ids and back."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from accord.artifacts import Artifact, list_artifacts, load_artifact
from accord.engines.native import NativeEngine, engine_for
from accord.errors import AccordError, ConfigError
from accord.serve.asked import Given
from accord.serve.errors import bad
from accord.serve.spelling import Spelling
from accord.storage import MANIFEST

_MODEL = "model"
"""Directory of the model in an artifact."""
_INDEX = "run.json"


@dataclass(frozen=True)
class Place:
    """Where a model lies, and what it is called."""

    location: str
    """Directory or hub id."""
    name: str


def find_model(given: str, *, stage: str = "", name: str = "") -> Place:
    """Find the model that a text means: a directory in Hugging Face layout, a stage of a run, or a hub id.

    Args:
        given: directory of a model, of an artifact (`runs/demo/ppo-9b1c61f8`) or of a run (`runs/demo`), or a hub id.
        stage: which stage of a run; may be left out where the run has one policy.
        name: what clients call it; empty = name of stage or directory.

    Raises:
        ConfigError: a run with several models and no stage, or a stage of something that is no run.
        ArtifactError: the artifact is damaged.
    """
    path = Path(given).expanduser()
    if (path / "config.json").is_file() or not path.is_dir():
        if stage:
            raise ConfigError("--stage is for runs, and this is no run", where=given, fix="leave --stage out")
        return Place(str(path) if path.is_dir() else given, name or path.name or given)
    if (path / MANIFEST).is_file():
        artifact = load_artifact(path)
        return Place(str(artifact.path(_MODEL)), name or artifact.stage)
    return _of_run(path, stage, name)


def _of_run(path: Path, stage: str, name: str) -> Place:
    """The model of a stage that was made or used last."""
    models = {label: artifact for label, artifact in _by_section(path).items() if artifact.kind == "policy"}
    if not models:
        raise ConfigError(
            "there is no model here",
            where=str(path),
            fix="give a directory with config.json and *.safetensors, or a run that has made a policy",
        )
    chosen = stage or (next(iter(models)) if len(models) == 1 else "")
    if chosen not in models:
        what = f"this run has no model '{stage}'" if stage else "this run has several models"
        raise ConfigError(what, where=str(path), fix=f"choose one: --stage {', --stage '.join(models)}")
    return Place(str(models[chosen].path(_MODEL)), name or chosen)


def _by_section(path: Path) -> dict[str, Artifact]:
    """Artifacts by section of the run's config; by stage, the newest of each, where the run has no index."""
    artifacts = {artifact.dir.name: artifact for artifact in list_artifacts(path)}
    try:
        index: dict[str, str] = json.loads((path / _INDEX).read_text(encoding="utf-8"))["stages"]
        return {section: artifacts[directory] for section, directory in index.items() if directory in artifacts}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {artifact.stage: artifact for artifact in artifacts.values()}


@dataclass(frozen=True)
class ServedModel:
    """A loaded model.

    Encoding changes settings of a tokenizer and must not meet another use of it: `encode` is for one thread at a time,
    everything else, which only reads, may be called from any.
    """

    hf: PreTrainedModel
    engine: NativeEngine
    reader: PreTrainedTokenizerBase
    """Turns texts into ids."""
    writer: PreTrainedTokenizerBase
    """Turns ids into texts; a copy of `reader`."""
    spelling: Spelling
    stop_ids: tuple[int, ...]
    max_length: int
    """Most tokens of prompt and reply together."""
    chats: bool
    """Whether there is a chat template."""

    def encode(self, given: Given, param: str) -> tuple[int, ...]:
        """Token ids of a prompt.

        A conversation is written by the model's template, and what people wrote in it never becomes a control token. A
        text is encoded as the tokenizer does by itself: with its BOS token, if it adds one, and control tokens read as
        such, since whoever sends a text has written the template into it. Ids are taken as they are.

        Args:
            given: conversation, text or ids.
            param: name of the field it came from.

        Raises:
            ApiError: 400; it cannot be encoded, or an id is none of the model's.
        """
        from accord.models import chat

        if isinstance(given, str):
            ids = self.reader.encode(given, verbose=False)
            if not ids:
                raise bad(param, "the text has no tokens")
            return tuple(ids)
        if given and isinstance(given[0], int):
            rows = self.hf.get_input_embeddings().weight.shape[0]  # pyright: ignore
            wrong = [token for token in given if not 0 <= token < rows]  # pyright: ignore
            if wrong:
                raise bad(param, f"token id {wrong[0]} is none of the model's {rows}", "invalid_value")
            return given  # pyright: ignore
        if not self.chats:
            raise bad(param, "this model has no chat template: send a text to /v1/completions", "no_chat_template")
        try:
            return tuple(chat.encode_prompt(self.reader, given))  # pyright: ignore
        except AccordError as error:
            raise bad(param, f"the chat template cannot write this conversation: {error.what}") from error

    def decode(self, ids: list[int]) -> str:
        """Text of a reply, without special tokens."""
        from accord.models import chat

        return chat.decode(self.writer, ids)

    def written_out(self, ids: tuple[int, ...]) -> str:
        """Text of a prompt, special tokens included."""
        return b"".join(self.spelling.bytes_of(token) for token in ids).decode("utf-8", "replace")


def load_model(location: str, *, max_batch: int, dtype: str = "float32", pad_token: str | None = None) -> ServedModel:
    """Load a model to be served.

    Args:
        location: directory or hub id.
        max_batch: most replies decoded at a time.
        dtype: of the weights.
        pad_token: of the vocabulary, for tokenizers that have none.

    Raises:
        ModelError: it cannot be used.
    """
    from accord.models import chat
    from accord.models.checkpoint import max_positions
    from accord.models.pair import load_pair

    hf, reader = load_pair(location, dtype, pad_token, needs_template=False)
    writer = copy.deepcopy(reader)
    return ServedModel(
        hf.requires_grad_(False),
        engine_for(hf, writer, max_batch),
        reader,
        writer,
        Spelling(writer),
        chat.stop_ids(reader, hf.generation_config),
        max_positions(hf),
        bool(reader.chat_template),
    )
