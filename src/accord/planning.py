"""`accord plan`: what a run would do, how its batches are made up and what it needs, before anything runs.

Nothing here imports torch or loads a model: sizes come from the config, or from the files of a local model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from urllib.parse import parse_qsl

from accord.artifacts import Artifact, artifact_name, fingerprint, load_artifact
from accord.config import Config, RunConfig, dump
from accord.errors import ConfigError
from accord.footprint import (
    BYTES,
    Sizes,
    policy_bytes,
    sizes_of_directory,
    sizes_of_pretrain,
    trained_bytes,
)
from accord.pipeline import LAB, Stage, plan, resolve
from accord.stages import STAGES
from accord.stages.configs import (
    DPOConfig,
    EvaluateConfig,
    Fitted,
    PPOConfig,
    PretrainConfig,
    RewardConfig,
    SampleConfig,
    SFTConfig,
    SplitConfig,
    Training,
)
from accord.storage import MANIFEST
from accord.terminal import console, size_text, table

_ASSUMED_PROMPT = 256
"""Tokens of a prompt where no max_length limits it."""
_COUNTED_FILE = 2**28
"""Largest data file, bytes, whose lines are counted."""
_PROBE_ROWS = 128
"""Sequences that DPO decodes at a time in its measurements."""


@dataclass(frozen=True)
class Step:
    """One stage of the plan."""

    section: str
    """Name in the config."""
    inputs: tuple[str, ...]
    """`field: reference`."""
    status: str
    """`done (dir)`, `continues (dir)`, `to do`, or `to do, after x`."""


@dataclass(frozen=True)
class Memory:
    """Predicted bytes of one stage at its peak."""

    section: str
    """Name in the config."""
    parameters: int
    """Of the model the stage is about, a count."""
    trained: int = 0
    """Weights, gradients and Adam's moments of what is trained."""
    frozen: int = 0
    """Weights of what is only read: reference, reward model, base under LoRA."""
    cache: int = 0
    """Keys and values while replies are drawn."""
    activations: int = 0
    """Kept for the backward pass of one micro-batch."""
    logits: int = 0
    """One chunk of logits with its copies."""

    @property
    def peak(self) -> int:
        """Drawing replies and training take turns, so the larger of the two counts."""
        return self.trained + self.frozen + max(self.cache, self.activations + self.logits)


def print_plan(config: RunConfig) -> None:
    """Print stages, resolved config, batch arithmetic and memory.

    Raises:
        ConfigError: stages need each other in a circle, or an input is neither a stage nor an existing path.
        ArtifactError: a finished artifact of the run is damaged.
    """
    out = console()
    out.print(f"run {config.run.name}: {config.run.path} (seed {config.run.seed})")
    rows = [(s.section, "\n".join(s.inputs) or "-", s.status) for s in steps(config)]
    out.print(table(("stage", "inputs", "status"), rows))
    out.print("\nresolved config")
    out.print(dump(config), soft_wrap=True)
    out.print("batch arithmetic")
    for line in arithmetic(config):
        out.print(f"  {line}", soft_wrap=True)
    out.print("\npredicted peak memory")
    cells: list[tuple[str, ...]] = []
    for section, found in memory(config).items():
        if found is None:
            cells.append((section, "unknown", *["-"] * 5, "unknown"))
        elif found.parameters:
            sizes = (found.trained, found.frozen, found.cache, found.activations, found.logits, found.peak)
            cells.append((section, f"{found.parameters:,}", *map(size_text, sizes)))
    heads = ("stage", "parameters", "weights+grads+Adam", "frozen", "KV cache", "activations", "logits", "peak")
    out.print(table(heads, cells, right=range(1, 8)))
    out.print(
        "peak = trained + frozen + the larger of KV cache and (activations + logits). Not counted: about 0.5 GiB for\n"
        "Python and its libraries, the data, fragmentation. unknown: the model is not on this machine."
    )


def steps(config: RunConfig) -> list[Step]:
    """The stages in order, and which of them are done: fingerprints are followed as far as inputs exist.

    Raises:
        ConfigError: an input is neither a stage nor an existing path.
        ArtifactError: a finished artifact of the run is damaged.
    """
    made: dict[str, Artifact] = {}
    before: list[str] = []
    found: list[Step] = []
    for section, stage, refs in plan(config, STAGES):
        for field, (_, reference) in refs.items():
            _check_reference(reference, f"{section}.{field}", config)
        needed = before if stage.whole_run else [_maker(ref) for _, ref in refs.values()]
        needed = [name for name in needed if name in config.sections]
        missing = list(dict.fromkeys(name for name in needed if name not in made))
        status = f"to do, after {', '.join(missing)}" if missing else _status(section, stage, config, made)
        inputs = tuple(f"{field}: {reference}" for field, (_, reference) in refs.items())
        found.append(Step(section, ("everything before",) if stage.whole_run else inputs, status))
        before.append(section)
    return found


def _status(section: str, stage: Stage, config: RunConfig, made: dict[str, Artifact]) -> str:
    """Status of a stage whose inputs are all there; a finished one is added to `made`."""
    hashes = {field: value.fingerprint for field, value in resolve(section, config, STAGES, made).items()}
    if stage.whole_run:
        hashes |= {f"run.{name}": artifact.fingerprint for name, artifact in made.items()}
    print_ = fingerprint(section, stage.version, config.sections[section], config.run.seed, hashes)
    final = config.run.path / artifact_name(section, print_)
    if final.exists():
        made[section] = load_artifact(final)
        return f"done ({final.name})"
    partial = final.with_name(f"{final.name}.partial")
    return f"continues ({partial.name})" if partial.is_dir() else "to do"


def _local(reference: str, config: RunConfig) -> Path | None:
    """File or directory a reference names, looked for where the pipeline looks."""
    places = (Path(reference).expanduser(), config.path.parent / reference)
    return next((place for place in places if place.exists()), None)


def _check_reference(reference: str, where: str, config: RunConfig) -> None:
    """Refuse now what a run would refuse when it gets there."""
    if _maker(reference) in config.sections or reference.startswith(LAB) or _local(reference, config) is not None:
        return
    looks_like_hub = reference.count("/") == 1 and not reference.startswith((".", "/", "~"))
    if not looks_like_hub or Path(reference).suffix in (".jsonl", ".json", ".parquet", ".csv"):
        raise ConfigError(
            f"'{reference}' is neither a stage of this run nor an existing path",
            where=f"{config.path}: {where}",
            fix=f"add a section '{_maker(reference)}:'" if _maker(reference) in STAGES else "check the path",
        )


def _maker(reference: str) -> str:
    """Section of a reference: `split:train` is a part of what `split` makes."""
    return reference.partition(":")[0]


def arithmetic(config: RunConfig) -> list[str]:
    """One line a stage that trains or samples: rows, steps and micro-batches."""
    lines: list[str] = []
    for section, _, _ in plan(config, STAGES):
        cfg = config.sections[section]
        if isinstance(cfg, PPOConfig):
            lines.append(f"{section}: {_ppo_line(cfg)}")
        elif isinstance(cfg, Fitted):
            lines.append(f"{section}: {_training_line(cfg, config)}")
        elif isinstance(cfg, SampleConfig):
            num = _at_most(cfg.num_prompts, _rows(cfg.prompts, config))
            total = "" if num is None else f" = {num * cfg.num_generations} replies"
            lines.append(
                f"{section}: {_number(num)} prompts x {cfg.num_generations} replies{total}, "
                f"{cfg.max_batch} at a time, at most {cfg.max_completion_length} tokens each"
            )
        elif isinstance(cfg, EvaluateConfig):
            num = _at_most(cfg.num_prompts, _rows(cfg.prompts, config))
            lines.append(
                f"{section}: {_number(num)} prompts x {len(cfg.models)} models, {cfg.max_batch} at a time, "
                f"at most {cfg.max_completion_length} tokens each"
            )
    return lines


def _ppo_line(cfg: PPOConfig) -> str:
    replies = cfg.train_batch_size * cfg.num_generations
    a_round = cfg.num_ppo_epochs * cfg.num_mini_batches
    return (
        f"{cfg.train_batch_size} prompts x {cfg.num_generations} replies = {replies} rollouts a round, "
        f"{cfg.num_ppo_epochs} epochs x {cfg.num_mini_batches} minibatches = {a_round} optimiser steps a round, "
        f"{cfg.num_rounds} rounds = {cfg.num_rounds * a_round} steps, {_micro(cfg)}"
    )


def _training_line(cfg: Fitted, config: RunConfig) -> str:
    if isinstance(cfg, PretrainConfig) and cfg.packing:
        tokens = cfg.train_batch_size * cfg.max_length
        steps = f"{cfg.num_train_epochs:g} epochs, steps unknown until the text is tokenized"
        if cfg.max_steps > 0:
            steps = f"{cfg.max_steps} steps = {cfg.max_steps * tokens / 1e6:.1f} million tokens"
        return f"{cfg.train_batch_size} windows of {cfg.max_length} = {tokens} tokens a step, {steps}, {_micro(cfg)}"
    unit = "pairs" if isinstance(cfg, RewardConfig | DPOConfig) else "rows"
    num = _rows(str(getattr(cfg, "dataset", "")), config)
    kept = None if num is None else num * (1 - cfg.eval_fraction)
    if cfg.max_steps > 0:
        steps = f"{cfg.max_steps} steps"
        if kept:
            steps += f" (about {cfg.max_steps * cfg.train_batch_size / kept:.1f} epochs)"
    elif kept:
        count = max(1, round(cfg.num_train_epochs * kept / cfg.train_batch_size))
        steps = f"{cfg.num_train_epochs:g} epochs over about {kept:.0f} {unit} = about {count} steps"
    else:
        steps = f"{cfg.num_train_epochs:g} epochs, steps unknown until the data is read"
    return f"{cfg.train_batch_size} {unit} a step, {steps}, {_micro(cfg)}"


def _micro(cfg: Training) -> str:
    rows = max(1, cfg.token_budget // cfg.max_length)
    return f"micro-batches of at most {cfg.token_budget} tokens ({rows} rows of {cfg.max_length})"


def _micro_tokens(cfg: Training) -> int:
    """Padded tokens of the largest micro-batch: the budget, or the whole step when that is less."""
    rows = cfg.train_batch_size
    if isinstance(cfg, PPOConfig):
        rows = ceil(rows / cfg.num_mini_batches) * cfg.num_generations
    pair = 2 if isinstance(cfg, RewardConfig | DPOConfig) else 1
    return max(pair * cfg.max_length, min(cfg.token_budget, rows * pair * cfg.max_length))


def _rows(reference: str, config: RunConfig) -> int | None:
    """Records of a data reference: lab sets say their number, small JSON-lines files are counted."""
    if reference.startswith(LAB):
        num = dict(parse_qsl(reference.partition("?")[2])).get("num", "1000")
        return int(num) if num.isdecimal() else None
    maker = config.sections.get(_maker(reference))
    if isinstance(maker, SplitConfig) and not maker.test_models:
        num = _at_most(maker.num_rows, _rows(maker.dataset, config))
        share = maker.test_fraction if reference.endswith(":test") else 1 - maker.test_fraction
        return None if num is None else round(num * share)
    path = None if maker is not None else _local(reference, config)
    if path is None or path.suffix != ".jsonl" or path.stat().st_size > _COUNTED_FILE:
        return None
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def _at_most(limit: int, found: int | None) -> int | None:
    return found if limit < 0 else limit if found is None else min(limit, found)


def _number(value: int | None) -> str:
    return "all" if value is None else str(value)


def memory(config: RunConfig) -> dict[str, Memory | None]:
    """Predicted memory of every stage; None where it depends on a model that is not on this machine."""
    return {section: _memory(section, config.sections[section], config) for section, _, _ in plan(config, STAGES)}


def model_sizes(reference: str, config: RunConfig) -> Sizes | None:
    """Sizes of the model a reference leads to: through stages to `pretrain`, a local model or (None) the hub."""
    cfg = config.sections.get(reference)
    if isinstance(cfg, PretrainConfig):
        return sizes_of_pretrain(cfg)
    if cfg is not None:
        return model_sizes(getattr(cfg, "model_name_or_path", ""), config)
    path = _local(reference, config) if reference else None
    if path is None:
        return None
    return sizes_of_directory(path / "model" if (path / MANIFEST).is_file() else path)


def _memory(section: str, cfg: Config, config: RunConfig) -> Memory | None:
    if isinstance(cfg, PretrainConfig):
        return _training_memory(section, cfg, sizes_of_pretrain(cfg))
    if isinstance(cfg, SampleConfig | EvaluateConfig):
        return _sampling_memory(section, cfg, config)
    if not isinstance(cfg, SFTConfig | RewardConfig | PPOConfig | DPOConfig):
        return Memory(section, 0)
    sizes = model_sizes(cfg.model_name_or_path, config)
    if sizes is None:
        return None
    if isinstance(cfg, PPOConfig):
        return _ppo_memory(section, cfg, sizes, model_sizes(cfg.reward_model, config))
    if isinstance(cfg, DPOConfig):
        return _dpo_memory(section, cfg, sizes, config)
    return _training_memory(section, cfg, sizes)


def _training_memory(section: str, cfg: Training, sizes: Sizes) -> Memory:
    reward = isinstance(cfg, RewardConfig)
    trained, frozen = policy_bytes(sizes, cfg)
    if isinstance(cfg, RewardConfig) and not cfg.use_peft:
        trained = trained_bytes(sizes.trunk_parameters, BYTES[cfg.dtype])
    return Memory(
        section,
        sizes.trunk_parameters if reward else sizes.parameters,
        trained=trained,
        frozen=frozen,
        activations=sizes.activation_bytes(_micro_tokens(cfg), BYTES[cfg.dtype]),
        logits=0 if reward else sizes.logit_bytes(_micro_tokens(cfg)),
    )


def _ppo_memory(section: str, cfg: PPOConfig, sizes: Sizes, reward: Sizes | None) -> Memory | None:
    """Policy and critic are trained; the reference (LoRA: the base itself) and the reward model are read."""
    if reward is None:
        return None
    size = BYTES[cfg.dtype]
    trained, frozen = policy_bytes(sizes, cfg)
    critic = reward.trunk_parameters
    rows = min(cfg.max_batch, cfg.train_batch_size * cfg.num_generations)
    columns = min(cfg.max_length, sizes.positions)
    return Memory(
        section,
        sizes.parameters,
        trained=trained + trained_bytes(critic, 4),
        frozen=(frozen or sizes.parameters * size) + critic * 4,
        cache=sizes.cache_bytes(rows, columns, size),
        activations=sizes.activation_bytes(_micro_tokens(cfg), size) + reward.activation_bytes(_micro_tokens(cfg), 4),
        logits=sizes.logit_bytes(_micro_tokens(cfg)),
    )


def _dpo_memory(section: str, cfg: DPOConfig, sizes: Sizes, config: RunConfig) -> Memory | None:
    size = BYTES[cfg.dtype]
    trained, frozen = policy_bytes(sizes, cfg)
    frozen = frozen or sizes.parameters * size
    if cfg.reward_model is not None:
        reward = model_sizes(cfg.reward_model, config)
        if reward is None:
            return None
        frozen += reward.trunk_parameters * 4
    probed = 0 if cfg.eval_prompts is None else min(cfg.eval_num_prompts, _PROBE_ROWS)
    columns = min(cfg.max_length, sizes.positions)
    return Memory(
        section,
        sizes.parameters,
        trained=trained,
        frozen=frozen,
        cache=sizes.cache_bytes(probed, columns, size),
        activations=sizes.activation_bytes(_micro_tokens(cfg), size),
        logits=sizes.logit_bytes(_micro_tokens(cfg)),
    )


def _sampling_memory(section: str, cfg: SampleConfig | EvaluateConfig, config: RunConfig) -> Memory | None:
    """Models are read one after the other: the next is loaded before the last is let go, beside the baseline."""
    models: Mapping[str, str] = cfg.models
    found = [model_sizes(reference, config) for reference in models.values()]
    known = [sizes for sizes in found if sizes is not None]
    if len(known) < len(found) or not known:
        return None
    largest = max(known, key=lambda sizes: sizes.parameters)
    loaded = min(2, len(known)) + isinstance(cfg, EvaluateConfig)
    columns = min(_ASSUMED_PROMPT + cfg.max_completion_length, largest.positions)
    return Memory(
        section,
        largest.parameters,
        frozen=loaded * largest.parameters * 4,
        cache=max(sizes.cache_bytes(cfg.max_batch, columns, 4) for sizes in known),
        logits=largest.logit_bytes(cfg.max_batch),
    )
