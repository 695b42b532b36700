"""Mistakes in models, tokenizers, templates, samples and labels; disks that fill up and runs that are damaged."""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import torch
from bad_input_site import PAIRS, REPLIES, TRAIN, Case, Site
from safetensors.torch import load_file, save_file

from accord.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    EngineError,
    ModelError,
    RewardError,
    TrainingError,
    Waiting,
)
from accord.runlock import lock_run

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


def refuse(site: Site, name: str, code: int = errno.ENOSPC) -> None:
    """Let the disk refuse whatever opens a file of this name for writing."""
    real = Path.open

    def opened(self: Path, mode: str = "r", *args: Any, **keys: Any) -> Any:
        if self.name == name and mode[0] in "wax":
            raise OSError(code, os.strerror(code), str(self))
        return real(self, mode, *args, **keys)

    site.patch.setattr(Path, "open", opened)


def full_disk(name: str, stage: Callable[[Site], list[str]], code: int = errno.ENOSPC) -> Callable[[Site], list[str]]:
    """The disk is full when this file is written."""

    def make(site: Site) -> list[str]:
        argv = stage(site)
        refuse(site, name, code)
        return argv

    return make


def unwritable(site: Site) -> list[str]:
    """Permissions do not bind root, so the call itself is made to fail."""
    real = os.mkdir

    def mkdir(path: Any, *args: Any, **keys: Any) -> None:
        if Path(path).name == "runs":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        real(path, *args, **keys)

    argv = site.sft()
    site.patch.setattr(os, "mkdir", mkdir)
    return argv


def unreadable(site: Site) -> list[str]:
    argv = site.sft()
    real = Path.open

    def opened(self: Path, *args: Any, **keys: Any) -> Any:
        if self.name == "demos.jsonl":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return real(self, *args, **keys)

    site.patch.setattr(Path, "open", opened)
    return argv


def failing_weights(site: Site, argv: list[str], module: str) -> list[str]:
    """The disk fills up while tensors are written."""

    def save(*args: Any, **keys: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    site.patch.setattr(module, save)
    return argv


def held_lock(site: Site) -> list[str]:
    argv = site.sft()
    held = lock_run(site.dir / "runs" / "bad")
    held.__enter__()
    HELD.append(held)
    return argv


HELD: list[Any] = []
"""Locks that stay taken until the test is over."""


def samples(*rows: Any, **keys: Any) -> Callable[[Site], list[str]]:
    """Ask for judgements about these samples."""
    return lambda site: site.collect(site.rows("samples.jsonl", *rows), **keys)


def one_question(*replies: str) -> dict[str, Any]:
    """A row of the sample stage."""
    prompt = {"id": "p", "messages": [{"role": "user", "content": "Name a fish."}]}
    made = [
        {"text": text, "token_ids": [1], "logps": [0.0], "finish": "stop", "model": "sft"} for text in replies
    ]
    return {"prompt": prompt, "candidates": made}


def broken_labels(site: Site) -> list[str]:
    labels = site.file("labels.jsonl", '{"prompt": "Q?", "cho')
    return site.collect(site.rows("samples.jsonl", one_question("a", "b")), labels=labels, min_labels=1)


def changed_artifact(size: bool) -> Callable[[Site], list[str]]:
    """A run whose split was changed after it was made; the reward model would be trained on it."""

    def make(site: Site) -> list[str]:
        from accord.cli import load
        from accord.pipeline import run_pipeline
        from accord.stages import STAGES

        data = site.rows("pairs.jsonl", *PAIRS, *[{**p, "prompt": f"{p['prompt']} Now."} for p in PAIRS])
        split = {"dataset": data, "test_fraction": 0.3}
        made = run_pipeline(load(Path(site.config({"split": split})), ()), STAGES, say=lambda _: None)
        path = made["split"].path("train.jsonl")
        content = path.read_bytes()
        path.write_bytes(content + b"\n" if size else content.replace(b"Good", b"Evil"))
        reward = {"model_name_or_path": str(site.kit / "sft"), "dataset": "split", **TRAIN}
        return site.run({"split": split, "reward": reward})

    return make


def corrupt_manifest(site: Site) -> list[str]:
    argv = changed_artifact(True)(site)
    next((site.dir / "runs").glob("bad/split-*/manifest.json")).write_text('{"stage": "split"')
    return argv


def lost_manifest(site: Site) -> list[str]:
    argv = changed_artifact(True)(site)
    next((site.dir / "runs").glob("bad/split-*/manifest.json")).unlink()
    return argv


NO_EOS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
NOT_PREFIX = (
    "{{ bos_token }}{% if messages[-1].role == 'user' %}[last]{% endif %}{% for m in messages %}<|{{ m.role }}|>"
    "{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
REFUSES = "{{ raise_exception('only systems may speak') }}"
UPPER = NOT_PREFIX.replace("m.content", "m.content | upper")
LAB_SFT = {"prompts": "lab:prompts?num=2&split=eval"}
LONG = {"prompt": "Name a fish. " * 100}

MODELS = [
    Case("no config.json", ModelError, ("no config.json", "my-base"), sft_from(remove("config.json")), "sft"),
    Case("config.json cut", ModelError, ("config.json is not valid JSON",), sft_from(cut("config.json")), "sft"),
    Case("no weights", ModelError, ("no weights",), sft_from(remove(WEIGHTS)), "sft"),
    Case("pickles only", ModelError, ("pickled", "pytorch_model.bin", "safetensors"), sft_from(only_pickles), "sft"),
    Case("weights cut", ModelError, ("damaged",), sft_from(cut(WEIGHTS)), "sft"),
    Case("weights empty", ModelError, ("damaged",), sft_from(replace(WEIGHTS, b"")), "sft"),
    Case("weights with a false header", ModelError, ("damaged",), sft_from(lie_about_size), "sft"),
    Case("unknown architecture", ModelError, ("llemma",), sft_from(edit_json("config.json", model_type="llemma")), "sft"),
    Case("other sizes", ModelError, ("my-base",), sft_from(edit_json("config.json", hidden_size=32)), "sft"),
    Case("NaN weights", ModelError, ("not finite", "my-base"), sft_from(fill("model.norm", float("nan"))), "sft"),
    Case("no tokenizer", ModelError, ("tokenizer",), sft_from(remove("tokenizer.json", "tokenizer_config.json")), "sft"),
    Case("tokenizer cut", ModelError, ("tokenizer.json is not valid JSON",), sft_from(cut("tokenizer.json")), "sft"),
    Case("vocabulary mismatch", ModelError, ("embeddings", "my-base"), sft_from(smaller_embeddings), "sft"),
    Case("no template", ModelError, ("no chat template", "my-base"), sft_from(remove("chat_template.jinja")), "sft"),
    Case("template is no Jinja", ModelError, ("template", "my-base"), sft_from(template("{% for %}")), "sft"),
    Case("template refuses", ModelError, ("only systems may speak",), sft_from(template(REFUSES)), "sft"),
    Case("template rewrites", ModelError, ("does not write replies as they are",), sft_from(template(UPPER)), "sft"),
    Case("template ends nothing", ModelError, ("no special token after",), sft_from(template(NO_EOS)), "sft"),
    Case("template not a prefix", ModelError, ("not prefix-preserving",), sft_from(template(NOT_PREFIX)), "sft"),
    Case("pad is eos", ModelError, ("ends replies", "<|pad|>", "pad_token"), sft_from(edit_json("tokenizer_config.json", pad_token="<|end|>")), "sft"),
    Case("pad unknown", ModelError, ("'<pad>' is not in the vocabulary",), lambda s: s.sft(pad_token="<pad>"), "sft"),
    Case("no pad", ModelError, ("no padding token",), sft_from(edit_json("tokenizer_config.json", pad_token=None)), "sft"),
    Case("no eos", ModelError, ("my-base",), sft_from(edit_json("tokenizer_config.json", eos_token=None)), "sft"),
    Case("a classifier as a policy", ModelError, ("not a language model",), lambda s: s.sft(s.kit / "reward"), "sft"),
    Case("a policy as a reward model", ModelError, ("would be random", "`score`"), lambda s: s.ppo(reward=s.kit / "sft"), "ppo"),
    Case("a policy as a judge", ModelError, ("would be random",), lambda s: s.evaluate(judge=str(s.kit / "sft")), "evaluate"),
    Case("a file as a model", ModelError, ("not a model directory",), lambda s: s.sft(s.file("m.txt", "x")), "sft"),
    Case("no network", ModelError, ("accord-tests/no-such-model",), offline, "sft"),
    Case("no network for data", DataError, ("accord-tests/no-such-data",), offline_data, "sft"),
    Case("max_length too large", ConfigError, ("160 positions", "sft.max_length"), lambda s: s.sft(max_length=161), "sft"),
    Case("adapters on nothing", ModelError, ("nope",), lambda s: s.sft(use_peft=True, lora_target_modules=["nope"]), "sft"),
    Case("other tokenizer", ModelError, ("different tokenizers",), ppo_with(other_tokenizer), "ppo"),
    Case("NaN reward model", ModelError, ("not finite", "my-reward"), ppo_with(fill("score", float("nan"))), "ppo"),
    Case("infinite rewards", RewardError, ("4 of 4 rollouts", "max_reward_errors"), ppo_with(fill("score", 3e38), train_batch_size=4), "ppo"),
    Case("infinite judge", RewardError, ("no finite score", "my-reward"), judged_by(fill("score", 3e38)), "evaluate"),
    Case("diverging", TrainingError, ("not finite", "learning_rate"), lambda s: s.sft(max_steps=4, learning_rate=1e30, max_grad_norm=0.0), "sft"),
]  # fmt: skip

STAGES_MISUSED = [
    Case("prompt too long", EngineError, ("positions", "shorten"), lambda s: s.sample(prompts=s.rows("p.jsonl", LONG)), "sample"),
    Case("prompt too long to judge", EngineError, ("positions",), lambda s: s.evaluate(prompts=s.rows("p.jsonl", LONG)), "evaluate"),
    Case("prompts too long for PPO", DataError, ("no prompt leaves room", "ppo.prompts"), lambda s: s.ppo(prompts=s.rows("p.jsonl", LONG)), "ppo"),
    Case("probe too long", EngineError, ("positions",), lambda s: s.dpo(eval_prompts=s.rows("p.jsonl", LONG), **REPLIES), "dpo"),
    Case("the same reply twice", DataError, ("two different replies", "temperature"), lambda s: s.sample(temperature=0.0), "sample"),
    Case("lab judge elsewhere", ConfigError, ("lab prompts only",), lambda s: s.evaluate(judge="lab:gold"), "evaluate"),
    Case("lab judge in the probe", ConfigError, ("lab prompts only",), lambda s: s.dpo(judge="lab", eval_prompts=s.rows("p.jsonl", {"prompt": "Q?"})), "dpo"),
    Case("unknown lab judge", ConfigError, ("'lab:silver'", "lab:gold"), lambda s: s.evaluate(judge="lab:silver", **LAB_SFT), "evaluate"),
    Case("samples of another form", DataError, ("samples.jsonl:1", "candidates"), samples({"prompt": "Q?"}, annotators="lab"), "collect"),
    Case("samples cut", DataError, ("samples.jsonl:2",), lambda s: s.collect(s.file("samples.jsonl", json.dumps(one_question("a", "b")) + '\n{"pro'), annotators="lab"), "collect"),
    Case("samples not UTF-8", DataError, ("samples.jsonl",), lambda s: s.collect(s.file("samples.jsonl", b"\xff\xfe{"), annotators="lab"), "collect"),
    Case("samples empty", DataError, ("samples.jsonl",), lambda s: s.collect(s.file("samples.jsonl", ""), annotators="lab"), "collect"),
    Case("samples a directory", DataError, ("cannot be read",), lambda s: s.collect(str(s.kit / "sft"), annotators="lab"), "collect"),
    Case("samples of the lab", DataError, ("lab:prompts",), lambda s: s.collect("lab:prompts", annotators="lab"), "collect"),
    Case("single replies", DataError, ("nothing to compare",), samples(one_question("a"), annotators="lab"), "collect"),
    Case("lab annotators elsewhere", ConfigError, ("lab prompts only",), samples(one_question("a", "b"), annotators="lab"), "collect"),
    Case("labels missing", Waiting, ("0 of 500 labels", "tasks.jsonl"), samples(one_question("a", "b")), "collect"),
    Case("labels broken", DataError, ("labels.jsonl:1",), broken_labels, "collect"),
]  # fmt: skip

DISKS = [
    Case("not permitted", ArtifactError, ("Permission denied", "run.dir"), unwritable),
    Case("input not permitted", ArtifactError, ("Permission denied", "demos.jsonl"), unreadable),
    Case("run in use", ArtifactError, ("in use by process",), held_lock),
    Case("changed size", ArtifactError, ("train.jsonl has", "bytes instead of"), changed_artifact(True), "reward"),
    Case("changed content", ArtifactError, ("train.jsonl has changed content",), changed_artifact(False), "reward"),
    Case("damaged manifest", ArtifactError, ("manifest is damaged",), corrupt_manifest, "reward"),
    Case("lost manifest", ArtifactError, ("not a finished artifact",), lost_manifest, "reward"),
    Case("disk full at a checkpoint", ArtifactError, ("No space left", "free some space"), lambda s: failing_weights(s, s.sft(max_steps=2, save_steps=1), "accord.models.state.save_file"), "sft"),
    Case("disk full at the metrics", ArtifactError, ("No space left",), full_disk("metrics.jsonl", lambda s: s.sft()), "sft"),
    Case("disk full at the samples", ArtifactError, ("No space left", "samples.jsonl"), full_disk("samples.jsonl", lambda s: s.sample()), "sample"),
    Case("disk full at the card", ModelError, ("No space left",), full_disk("README.md", lambda s: s.sft()), "sft"),
    Case("disk full at the results", ArtifactError, ("No space left", "results.json"), full_disk("results.json", lambda s: s.evaluate()), "evaluate"),
    Case("disk full at the config", ArtifactError, ("No space left",), full_disk("config.yaml.tmp", lambda s: s.sft()), "sft"),
    Case("disk full at the manifest", ArtifactError, ("No space left", "manifest.json"), full_disk("manifest.json.tmp", lambda s: s.sft()), "sft"),
    Case("report in a file", ArtifactError, ("cannot be written", "a.txt"), lambda s: ["report", str(s.kit / "runs" / "bad"), "--out", s.file("a.txt", "") + "/report.html"]),
]  # fmt: skip
