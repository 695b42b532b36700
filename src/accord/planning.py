"""`accord plan`: what a run would do, how its batches are made up and what it needs, before anything runs.

Nothing here imports torch or loads a model: sizes come from the config, or from the files of a local model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from accord.artifacts import Artifact, artifact_name, fingerprint, load_artifact
from accord.config import RunConfig, dump
from accord.errors import ConfigError
from accord.forecast import memory
from accord.pipeline import LAB, Stage, plan, resolve
from accord.stages import STAGES
from accord.stages.configs import (
    BestOfNConfig,
    EvaluateConfig,
    Fitted,
    OfflineConfig,
    PPOConfig,
    PretrainConfig,
    RewardConfig,
    SampleConfig,
    Selecting,
    SplitConfig,
    Training,
)
from accord.terminal import console, size_text, table

_PHASES = ("load", "rollout", "scoring", "update", "save")
_COUNTED_FILE = 2**28
"""Largest data file, bytes, whose lines are counted."""


@dataclass(frozen=True)
class Step:
    """One stage of the plan."""

    section: str
    """Name in the config."""
    inputs: tuple[str, ...]
    """`field: reference`."""
    status: str
    """`done (dir)`, `continues (dir)`, `to do`, or `to do, after x`."""


def print_plan(config: RunConfig) -> None:
    """Print stages, resolved config, batch arithmetic and memory.

    Raises:
        ConfigError: stages need each other in a circle, or an input is neither a stage nor an existing path.
        ArtifactError: a finished artifact of the run is damaged.
    """
    out = console()
    out.print(f"run {config.run.name}: {config.run.path} (seed {config.run.seed})")
    if config.rounds is not None:
        repeated = ", ".join(config.rounds.stages)
        out.print(f"rounds: {config.rounds.count} of {repeated}; those of round k end in _k", soft_wrap=True)
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
            cells.append((section, "unknown", *["-"] * (2 + len(_PHASES)), "unknown"))
        elif found.parameters:
            phases = [size_text(found.phases[name]) if name in found.phases else "-" for name in _PHASES]
            sizes = (size_text(found.weights), size_text(found.optimiser))
            cells.append((section, f"{found.parameters:,}", *sizes, *phases, size_text(found.peak)))
    heads = ("stage", "parameters", "weights", "grads+Adam", *_PHASES, "peak")
    out.print(table(heads, cells, right=range(1, len(heads))))
    out.print(
        "Phases take turns: the peak is the largest. Not counted: about 0.5 GiB for Python and its libraries,\n"
        "the data, fragmentation. unknown: the model is not on this machine. docs/memory.md says how to make phases\n"
        "smaller."
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
        elif isinstance(cfg, Selecting):
            lines.append(f"{section}: {_selecting_line(cfg)}")
        elif isinstance(cfg, SampleConfig | BestOfNConfig):
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


def _selecting_line(cfg: Selecting) -> str:
    a_round = cfg.num_epochs * cfg.num_mini_batches
    return (
        f"{cfg.train_batch_size} prompts x {cfg.num_generations} replies = "
        f"{cfg.train_batch_size * cfg.num_generations} replies a round to choose from, "
        f"{cfg.num_epochs} epochs x {cfg.num_mini_batches} minibatches = {a_round} optimiser steps a round, "
        f"{cfg.num_rounds} rounds = {cfg.num_rounds * a_round} steps, {_micro(cfg)}"
    )


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
    unit = "pairs" if isinstance(cfg, RewardConfig | OfflineConfig) else "rows"
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
