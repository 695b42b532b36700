"""Models and tokenizers on disk, in the layout of transformers; nothing is unpickled."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from peft import PeftModel
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from accord.errors import ArtifactError, ModelError
from accord.models.build import (
    copy_frozen,
    critic_from_causal,
    critic_from_reward,
    new_causal,
    no_dropout,
    reward_from_causal,
    score_stats,
    set_score_stats,
    zero_head,
)
from accord.models.chat import stop_ids
from accord.models.lora import merge_lora
from accord.models.policy import CausalModel, ScoreModel, head_logits
from accord.models.quantize import four_bits, is_quantized, merged_from_4bit
from accord.models.state import load_state, pack_optimizer, save_state, unpack_optimizer

__all__ = [
    "check_vocabulary",
    "copy_frozen",
    "critic_from_causal",
    "critic_from_reward",
    "load_causal",
    "load_classifier",
    "load_reward",
    "load_state",
    "load_tokenizer",
    "max_positions",
    "model_card",
    "new_causal",
    "pack_optimizer",
    "reward_from_causal",
    "save_model",
    "save_state",
    "score_stats",
    "set_score_stats",
    "unpack_optimizer",
    "zero_head",
]

_DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


def load_tokenizer(path_or_id: str | Path, *, pad_token: str | None = None) -> PreTrainedTokenizerBase:
    """Load a tokenizer that pads with a token of its own.

    Args:
        path_or_id: a directory, or a name on the Hugging Face hub. pad_token: use this token of the
        vocabulary for padding; needed when the tokenizer has none, or pads with a
            token that ends replies (which would then be masked out, and never learned).

    Raises:
        ModelError: there is no tokenizer there, or no usable padding token.
    """
    where = str(path_or_id)
    directory = _local(path_or_id)
    if directory is not None:
        _check_json(directory, ("config.json", "tokenizer.json", "tokenizer_config.json"))
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        fix = "give a directory with tokenizer.json and tokenizer_config.json"
        raise ModelError(
            f"no tokenizer can be loaded: {_first_line(error)}",
            where=where,
            fix=fix if directory is not None else f"check the name and the network, or {fix}",
        ) from error
    tokenizer = cast(PreTrainedTokenizerBase, tokenizer)
    tokenizer.padding_side = "right"
    if pad_token is not None:
        if pad_token not in tokenizer.get_vocab():
            raise ModelError(f"pad_token {pad_token!r} is not in the vocabulary", where=where, fix=_pad_fix(tokenizer))
        tokenizer.pad_token = pad_token
    pad: Any = tokenizer.pad_token_id
    if pad is None or pad == tokenizer.eos_token_id:
        what = "has no padding token" if pad is None else f"pads with {tokenizer.eos_token!r}, which ends replies"
        raise ModelError(f"the tokenizer {what}", where=where, fix=_pad_fix(tokenizer))
    return tokenizer


def load_causal(
    path_or_id: str | Path, dtype: str | torch.dtype = "float32", *, load_in_4bit: bool = False
) -> PreTrainedModel:
    """Load a causal language model, dropout off.

    Args:
        path_or_id: a directory, or a name on the Hugging Face hub.
        dtype: type of the weights.
        load_in_4bit: hold linear layers in 4 bits, on the first CUDA device when there is one; see `quantize`.

    Raises:
        ModelError: there is no such model, its weights are pickled, damaged or incomplete, or its output head does
            something this version does not know.
    """
    model = _load(AutoModelForCausalLM, path_or_id, dtype, load_in_4bit=load_in_4bit)
    # With tied embeddings nothing would be missing, and the head of the classifier silently forgotten.
    made_as = [str(name) for name in getattr(model.config, "architectures", None) or ()]
    if made_as and all(name.endswith("Classification") for name in made_as):
        raise ModelError(
            f"this is a reward model or another classifier ({made_as[0]}), not a language model",
            where=str(path_or_id),
            fix="give the language model it was made from, e.g. the SFT stage",
        )
    _check_head(model, str(path_or_id))
    return model


def load_classifier(path_or_id: str | Path, dtype: str | torch.dtype = "float32") -> PreTrainedModel:
    """Load a sequence classifier with any number of labels, dropout off; errors as for `load_causal`."""
    return _load(AutoModelForSequenceClassification, path_or_id, dtype)


def load_reward(path_or_id: str | Path, dtype: str | torch.dtype = "float32") -> ScoreModel:
    """Load a reward model: a sequence classifier with one label and the head `score`, dropout off.

    Args:
        path_or_id: a directory, or a name on the Hugging Face hub.
        dtype: type of the weights.

    Raises:
        ModelError: as for `load_causal`; or there is no scalar head, or no padding token.
    """
    model = _load(AutoModelForSequenceClassification, path_or_id, dtype)
    if model.config.get_text_config().pad_token_id is None:
        raise ModelError(
            "the reward model has no pad_token_id, so other libraries would score the padding",
            where=str(path_or_id),
            fix="set pad_token_id in its config.json",
        )
    return ScoreModel(model)


def check_vocabulary(hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer with ids the model has no embedding for.

    Raises:
        ModelError: the tokenizer's largest id does not fit.
    """
    rows = cast(Any, hf.get_input_embeddings()).weight.shape[0]
    largest = max(tokenizer.get_vocab().values())
    if largest >= rows:
        raise ModelError(
            f"the tokenizer has ids up to {largest}, but the model has {rows} embeddings",
            fix="use the tokenizer the model was trained with, or resize the embeddings",
        )


def max_positions(hf: PreTrainedModel) -> int:
    """Return the longest sequence, in tokens, the model was made for."""
    config = hf.config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "seq_length"):
        value = getattr(config, name, None)
        if value is not None:
            return int(value)
    raise ModelError(f"the config of {type(hf).__name__} does not say how long a sequence may be")


def save_model(model: nn.Module, tokenizer: PreTrainedTokenizerBase, directory: str | Path, card: str) -> None:
    """Write a model the way transformers, TRL and vLLM load it.

    Safetensors, `config.json`, the tokenizer with `chat_template.jinja`, `generation_config.json` with
    every id that ends a reply, and the card as `README.md`. Adapters are merged into a copy. A value head
    is not part of this layout and is not written.

    Args:
        model: a `CausalModel`, a `ScoreModel`, or the model inside.
        tokenizer: goes with it.
        directory: created if needed.
        card: text of the model card, see `model_card`.

    Raises:
        ModelError: the tokenizer does not fit.
        ArtifactError: the disk refuses.
    """
    hf: Any = model.hf if isinstance(model, CausalModel | ScoreModel) else model
    if isinstance(hf, PeftModel):
        name = (model.adapter if isinstance(model, CausalModel) else None) or cast(str, hf.active_adapter)
        hf = merged_from_4bit(hf, name) if is_quantized(hf) else merge_lora(copy.deepcopy(hf), name)
    if not isinstance(hf, PreTrainedModel):
        raise ModelError(f"{type(hf).__name__} cannot be saved as a transformers model")
    check_vocabulary(hf, tokenizer)
    path = Path(directory)
    hf.config.pad_token_id = tokenizer.pad_token_id
    if hf.can_generate():
        known = hf.generation_config
        hf.generation_config = GenerationConfig(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=list(stop_ids(tokenizer, known if isinstance(known, GenerationConfig) else None)),
            pad_token_id=tokenizer.pad_token_id,
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        hf.save_pretrained(path)
        tokenizer.save_pretrained(path)
        (path / "README.md").write_text(card, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"the model cannot be written: {_first_line(error)}",
            where=str(path),
            fix="free some space, or choose a directory you may write to",
        ) from error


def model_card(
    *,
    title: str,
    body: str,
    base_model: str | None = None,
    datasets: Sequence[str] = (),
    tags: Sequence[str] = (),
    license: str | None = None,
) -> str:
    """Return the text of a model card: YAML front matter (as the Hugging Face hub reads it) and Markdown.

    Args:
        title: heading.
        body: Markdown below it.
        base_model: name of the model it was made from; left out when None.
        datasets: names of the data sets it was trained on.
        tags: further tags; "accord" and "rlhf" are always there.
        license: identifier; left out when unknown, never guessed.
    """
    front: dict[str, Any] = {"library_name": "transformers", "tags": ["accord", "rlhf", *tags]}
    for key, value in (("base_model", base_model), ("datasets", list(datasets)), ("license", license)):
        if value:
            front[key] = value
    header = yaml.safe_dump(front, sort_keys=True, allow_unicode=True)
    return f"---\n{header}---\n\n# {title}\n\n{body.strip()}\n"


def _load(
    auto: Any, path_or_id: str | Path, dtype: str | torch.dtype, *, load_in_4bit: bool = False
) -> PreTrainedModel:
    where = str(path_or_id)
    if isinstance(dtype, str):
        if dtype not in _DTYPES:
            raise ModelError(f"unknown dtype {dtype!r}", fix=f"use one of {', '.join(_DTYPES)}")
        dtype = _DTYPES[dtype]
    extra: dict[str, Any] = {}
    if load_in_4bit:
        extra["quantization_config"] = four_bits(dtype)
        extra["device_map"] = {"": "cuda:0" if torch.cuda.is_available() else "cpu"}
    directory = _local(path_or_id)
    if directory is not None:
        _check_directory(directory)
    try:
        with _no_progress_bar():
            model, report = auto.from_pretrained(
                where, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **extra
            )
    except SafetensorError as error:
        raise ModelError(
            f"the weights are damaged: {_first_line(error)}",
            where=where,
            fix="download or train the model again",
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        reason = _first_line(error)
        if "ignore_mismatched_sizes" in reason:  # its advice is not for us, and what it points at was silenced
            reason = "the weights have other shapes than config.json says"
        raise ModelError(f"no model can be loaded: {reason}", where=where, fix=_MODEL_FIX) from error
    missing = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if missing:
        raise ModelError(
            f"the weights do not fill the model; these would be random: {', '.join(missing[:5])}",
            where=where,
            fix="load it as what it is: a reward model needs a trained head `score`",
        )
    _check_finite(model, where)
    no_dropout(model)
    return cast(PreTrainedModel, model.eval())


_MODEL_FIX = "give a directory with config.json and *.safetensors, or the name of a model on the hub"


def _local(path_or_id: str | Path) -> Path | None:
    """The directory meant, or None for a name on the hub."""
    path = Path(path_or_id)
    if path.is_dir():
        return path
    text = str(path_or_id)
    if isinstance(path_or_id, Path) or path.is_absolute() or text.startswith(".") or text.count("/") != 1:
        what = "is a file, not a model directory" if path.exists() else "does not exist"
        raise ModelError(f"{text} {what}", where=text, fix=_MODEL_FIX)
    return None


def _check_directory(directory: Path) -> None:
    where = str(directory)
    if not (directory / "config.json").is_file():
        fix = _MODEL_FIX
        if (directory / "adapter_config.json").is_file():
            fix = "it holds LoRA adapters only; merge them into their base model first"
        raise ModelError("this is not a model directory: it has no config.json", where=where, fix=fix)
    _check_json(directory, ("config.json", "generation_config.json"))
    if not any(directory.glob("*.safetensors")):
        pickled = sorted(file.name for pattern in _PICKLED for file in directory.glob(pattern))
        if pickled:
            raise ModelError(
                f"the weights are pickled ({', '.join(pickled[:3])}) and could run any code when loaded",
                where=where,
                fix="convert them to safetensors in a place you trust (model.save_pretrained)",
            )
        raise ModelError("this model directory has no weights", where=where, fix=_MODEL_FIX)


def _check_json(directory: Path, names: Sequence[str]) -> None:
    for name in names:
        file = directory / name
        if not file.is_file():
            continue
        try:
            json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ModelError(f"{name} is not valid JSON: {error}", where=str(file), fix="write it again") from error


def _check_finite(model: PreTrainedModel, where: str) -> None:
    for name, weights in model.named_parameters():
        if not torch.isfinite(weights).all():
            raise ModelError(
                f"the weights hold numbers that are not finite, e.g. in {name}",
                where=where,
                fix="use an earlier checkpoint; the training that made this one had broken down",
            )


def _check_head(model: PreTrainedModel, where: str) -> None:
    """Compare our use of the output head with the model's own on a few tokens."""
    ids = torch.arange(4, device=model.device)[None]
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        ours, theirs = head_logits(model, hidden), model(input_ids=ids, use_cache=False).logits
    if not torch.allclose(ours, theirs.to(ours.dtype), atol=1e-3, rtol=1e-2):
        raise ModelError(
            f"{type(model).__name__} does more to its logits than apply its output head",
            where=where,
            fix="this architecture is not supported",
        )


def _pad_fix(tokenizer: PreTrainedTokenizerBase) -> str:
    unused = [
        token.content
        for index, token in sorted(tokenizer.added_tokens_decoder.items())
        if index not in (tokenizer.eos_token_id, tokenizer.bos_token_id)
    ]
    named = [token for token in unused if "pad" in token.lower()]
    hint = f", e.g. {(named or unused)[-1]!r}" if unused else ""
    return f"set pad_token to a token of the vocabulary that nothing else uses{hint}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
