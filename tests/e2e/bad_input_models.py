"""Mistakes in models, tokenizers and chat templates."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import torch
from bad_input_site import PROMPTS, REPLIES, Case, Site
from safetensors.torch import load_file, save_file

from accord.errors import (
    ConfigError,
    DataError,
    ModelError,
    RewardError,
    TrainingError,
)

Change = Callable[[Path], None]
WEIGHTS = "model.safetensors"


def sft_from(change: Change, name: str = "base", **keys: Any) -> Callable[[Site], list[str]]:
    """Fine-tune a copy of a model that was changed."""

    def make(site: Site) -> list[str]:
        model = site.model(name)
        change(model)
        return site.sft(model, **keys)

    return make


def ppo_with(change: Change, **keys: Any) -> Callable[[Site], list[str]]:
    """PPO against a changed copy of the reward model."""

    def make(site: Site) -> list[str]:
        model = site.model("reward")
        change(model)
        return site.ppo(reward=model, **keys)

    return make


def proxied_by(change: Change) -> Callable[[Site], list[str]]:
    """DPO whose proxy curve is drawn by a changed copy of the reward model."""

    def make(site: Site) -> list[str]:
        model = site.model("reward")
        change(model)
        prompts = site.rows("prompts.jsonl", *PROMPTS)
        return site.dpo(reward_model=str(model), eval_prompts=prompts, **REPLIES)

    return make


def judged_by(change: Change) -> Callable[[Site], list[str]]:
    """An evaluation by a changed copy of the reward model."""

    def make(site: Site) -> list[str]:
        model = site.model("reward")
        change(model)
        return site.evaluate(judge=str(model))

    return make


def edit_json(name: str, **values: Any) -> Change:
    """Set keys of a JSON file."""

    def change(model: Path) -> None:
        path = model / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def remove(*names: str) -> Change:
    """Delete files."""

    def change(model: Path) -> None:
        for name in names:
            (model / name).unlink()

    return change


def template(text: str) -> Change:
    """Use this chat template."""
    return lambda model: (model / "chat_template.jinja").write_text(text) and None


def replace(name: str, content: bytes) -> Change:
    """Put other bytes into a file."""
    return lambda model: (model / name).write_bytes(content) and None


def cut(name: str) -> Change:
    """Cut a file in half."""
    return lambda model: os.truncate(model / name, (model / name).stat().st_size // 2)


def fill(prefix: str, value: float) -> Change:
    """Set the weights whose names start like this."""

    def change(model: Path) -> None:
        tensors = load_file(model / WEIGHTS)
        wanted = [name for name in tensors if name.startswith(prefix)]
        assert wanted
        for name in wanted:
            tensors[name] = torch.full_like(tensors[name], value)
        save_file(tensors, model / WEIGHTS, metadata={"format": "pt"})

    return change


def lie_about_size(model: Path) -> None:
    """A header that promises more than the file holds."""
    (model / WEIGHTS).write_bytes(struct.pack("<Q", 2**40) + b"{}")


def only_pickles(model: Path) -> None:
    (model / WEIGHTS).unlink()
    (model / "pytorch_model.bin").write_bytes(b"\x80\x02")


def smaller_embeddings(model: Path) -> None:
    """A model that does not know the last tokens of its tokenizer."""
    tensors = load_file(model / WEIGHTS)
    name = "model.embed_tokens.weight"
    rows = tensors[name].shape[0] - 9
    save_file({**tensors, name: tensors[name][:rows].clone()}, model / WEIGHTS, metadata={"format": "pt"})
    edit_json("config.json", vocab_size=rows)(model)


def other_tokenizer(model: Path) -> None:
    path = model / "tokenizer.json"
    found = json.loads(path.read_text())
    vocabulary = found["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.get)[300:302]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(found))


def offline(site: Site) -> list[str]:
    site.patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return site.sft("accord-tests/no-such-model")


def offline_data(site: Site) -> list[str]:
    site.patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return site.sft(dataset="accord-tests/no-such-data")


NO_EOS = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NOT_PREFIX = (
    "{{ bos_token }}{% if messages[-1].role == 'user' %}[last]{% endif %}{% for m in messages %}<|{{ m.role }}|>"
    "{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
REFUSES = "{{ raise_exception('only systems may speak') }}"
UPPER = NOT_PREFIX.replace("m.content", "m.content | upper")

MODELS = [
    Case("no config.json", ModelError, ("no config.json", "my-base"), sft_from(remove("config.json")), "sft"),
    Case("config.json cut", ModelError, ("config.json is not valid JSON",), sft_from(cut("config.json")), "sft"),
    Case("no weights", ModelError, ("no weights",), sft_from(remove(WEIGHTS)), "sft"),
    Case("pickles only", ModelError, ("pickled", "pytorch_model.bin", "safetensors"), sft_from(only_pickles), "sft"),
    Case("weights cut", ModelError, ("damaged",), sft_from(cut(WEIGHTS)), "sft"),
    Case("weights empty", ModelError, ("damaged",), sft_from(replace(WEIGHTS, b"")), "sft"),
    Case("weights with a false header", ModelError, ("damaged",), sft_from(lie_about_size), "sft"),
    Case(
        "unknown architecture", ModelError, ("llemma",), sft_from(edit_json("config.json", model_type="llemma")), "sft"
    ),
    Case(
        "other sizes",
        ModelError,
        ("my-base", "other shapes than config.json"),
        sft_from(edit_json("config.json", hidden_size=32)),
        "sft",
    ),
    Case("NaN weights", ModelError, ("not finite", "my-base"), sft_from(fill("model.norm", float("nan"))), "sft"),
    Case(
        "no tokenizer", ModelError, ("tokenizer",), sft_from(remove("tokenizer.json", "tokenizer_config.json")), "sft"
    ),
    Case("tokenizer cut", ModelError, ("tokenizer.json is not valid JSON",), sft_from(cut("tokenizer.json")), "sft"),
    Case("vocabulary mismatch", ModelError, ("embeddings", "my-base"), sft_from(smaller_embeddings), "sft"),
    Case("no template", ModelError, ("no chat template", "my-base"), sft_from(remove("chat_template.jinja")), "sft"),
    Case("template is no Jinja", ModelError, ("cannot be used", "my-base"), sft_from(template("{% for %}")), "sft"),
    Case("template refuses", ModelError, ("only systems may speak",), sft_from(template(REFUSES)), "sft"),
    Case("template rewrites", ModelError, ("does not write replies as they are",), sft_from(template(UPPER)), "sft"),
    Case("template ends nothing", ModelError, ("no special token after",), sft_from(template(NO_EOS)), "sft"),
    Case("template not a prefix", ModelError, ("not prefix-preserving",), sft_from(template(NOT_PREFIX)), "sft"),
    Case(
        "pad is eos",
        ModelError,
        ("ends replies", "<|pad|>", "pad_token"),
        sft_from(edit_json("tokenizer_config.json", pad_token="<|end|>")),
        "sft",
    ),
    Case("pad unknown", ModelError, ("'<pad>' is not in the vocabulary",), lambda s: s.sft(pad_token="<pad>"), "sft"),
    Case(
        "no pad", ModelError, ("no padding token",), sft_from(edit_json("tokenizer_config.json", pad_token=None)), "sft"
    ),
    Case(
        "no eos",
        ModelError,
        ("'eos_token' is undefined", "my-base"),
        sft_from(edit_json("tokenizer_config.json", eos_token=None)),
        "sft",
    ),
    Case("a classifier as a policy", ModelError, ("not a language model",), lambda s: s.sft(s.kit / "reward"), "sft"),
    Case(
        "a policy as a reward model",
        ModelError,
        ("would be random", "`score`"),
        lambda s: s.ppo(reward=s.kit / "sft"),
        "ppo",
    ),
    Case(
        "a policy as a judge",
        ModelError,
        ("would be random",),
        lambda s: s.evaluate(judge=str(s.kit / "sft")),
        "evaluate",
    ),
    Case("a file as a model", ModelError, ("not a model directory",), lambda s: s.sft(s.file("m.txt", "x")), "sft"),
    Case("no network", ModelError, ("accord-tests/no-such-model", "the network"), offline, "sft"),
    Case("no network for data", DataError, ("accord-tests/no-such-data",), offline_data, "sft"),
    Case(
        "max_length too large", ConfigError, ("160 positions", "sft.max_length"), lambda s: s.sft(max_length=161), "sft"
    ),
    Case(
        "adapters on nothing",
        ModelError,
        ("nope",),
        lambda s: s.sft(use_peft=True, lora_target_modules=["nope"]),
        "sft",
    ),
    Case("other tokenizer", ModelError, ("different tokenizers",), ppo_with(other_tokenizer), "ppo"),
    Case("other tokenizer of the proxy", ModelError, ("different tokenizers",), proxied_by(other_tokenizer), "dpo"),
    Case("NaN reward model", ModelError, ("not finite", "my-reward"), ppo_with(fill("score", float("nan"))), "ppo"),
    Case(
        "infinite rewards",
        RewardError,
        ("4 of 4 rollouts", "max_reward_errors"),
        ppo_with(fill("score", 3e38), train_batch_size=4),
        "ppo",
    ),
    Case("infinite judge", RewardError, ("no finite score", "my-reward"), judged_by(fill("score", 3e38)), "evaluate"),
    Case(
        "diverging",
        TrainingError,
        ("not finite", "learning_rate"),
        lambda s: s.sft(max_steps=4, learning_rate=1e30, max_grad_norm=0.0),
        "sft",
    ),
]
