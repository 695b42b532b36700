"""Stages dpo, ipo, simpo, cpo, orpo, kto: optimise a policy on judgements as they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from accord import rng
from accord.batch import Batch
from accord.engines.base import Sampling
from accord.errors import DataError
from accord.models.build import score_stats
from accord.models.checkpoint import load_reward
from accord.models.pair import device
from accord.models.policy import CausalModel
from accord.pipeline import Context
from accord.progress import track
from accord.rewards.learned import LearnedReward
from accord.stages import configs
from accord.stages.cards import model_card
from accord.stages.configs import MovingReference, OfflineConfig
from accord.stages.datasets import check_usable, load, write_dropped
from accord.stages.policies import Loaded, check_reward_tokenizer, load_policy
from accord.stages.probe import make_probe
from accord.stages.training import hold_out, mean_terms, prompt_key, steps_for, train
from accord.train.examples import Encoded, Example, from_preferences
from accord.train.loop import Hook
from accord.train.objectives import Pairwise, Rowwise
from accord.train.reference import OnlineReference, sync
from accord.train.sources import Offline, batch_of, digest_of, with_reference
from accord.train.unpaired import balance, from_unpaired, with_mismatches
from accord.types import Preference, Record, Unpaired

METHODS: dict[type[OfflineConfig], str] = {
    configs.DPOConfig: "direct preference optimisation (2305.18290)",
    configs.IPOConfig: "identity preference optimisation (2310.12036)",
    configs.SimPOConfig: "simple preference optimisation (2405.14734)",
    configs.CPOConfig: "contrastive preference optimisation (2401.08417)",
    configs.ORPOConfig: "odds ratio preference optimisation (2403.07691)",
    configs.KTOConfig: "Kahneman-Tversky optimisation (2402.01306)",
}
"""What the model card says."""
ONLY_LOSS: dict[type[OfflineConfig], str] = {
    configs.SimPOConfig: "simpo",
    configs.CPOConfig: "cpo",
    configs.ORPOConfig: "orpo",
}
"""The loss of the stages that have no `loss_type`."""


def objective_of(cfg: OfflineConfig) -> Pairwise | Rowwise:
    """The objective a section asks for, from the fields that both have."""
    kind = Rowwise if isinstance(cfg, configs.KTOConfig) else Pairwise
    options: dict[str, Any] = {f.name: getattr(cfg, f.name) for f in fields(kind) if f.name in type(cfg).model_fields}
    if kind is Pairwise:
        loss_type = options.get("loss_type", ONLY_LOSS.get(type(cfg)))
        options["loss_type"] = (loss_type,) if isinstance(loss_type, str) else loss_type
    return kind(**options)


def run(cfg: OfflineConfig, ctx: Context) -> dict[str, Any]:
    """Optimise the policy; a reference that stands still scores its rows once."""
    objective = objective_of(cfg)
    loaded = load_policy(ctx.inputs["model_name_or_path"].location, cfg, cfg.pad_token, f"{ctx.work.stage}.max_length")
    encoded, tested = _examples(cfg, ctx, loaded.tokenizer, objective)
    steps = steps_for(cfg, len(encoded.examples))
    seed = rng.derive(ctx.run.seed, ctx.work.stage, "data")
    source_of = partial(Offline, batch_size=cfg.train_batch_size, pad_id=loaded.pad_id, seed=seed)
    if isinstance(cfg, MovingReference) and cfg.sync_ref_model:
        feed = _moving(cfg, cfg.token_budget, loaded, source_of(encoded.examples), tested)
    elif isinstance(objective, Rowwise) or objective.needs_reference:
        used = Offline.drawn(len(encoded.examples), steps * cfg.train_batch_size, seed)
        both = (*(encoded.examples[i] for i in used), *tested)
        scored = _scored(cfg, ctx, loaded, both)
        tested = scored[len(used) :]
        examples = list(encoded.examples)  # those that are never drawn keep no reference log-probs
        for i, example in zip(used, scored, strict=False):
            examples[i] = example
        feed = _Feed(source_of(examples), _batches(tested, loaded.pad_id))
    else:
        feed = _Feed(source_of(encoded.examples), _batches(tested, loaded.pad_id))
    probe = _probe(cfg, ctx, loaded)

    def measure() -> dict[str, float]:
        """Held-out judgements, and the probe on held-out prompts where there is one."""
        online = feed.source if isinstance(feed.source, OnlineReference) else None
        batches = [online.scored(b) for b in feed.tested] if online else feed.tested
        held = mean_terms(objective, loaded.policy, batches, cfg.token_budget)
        numbers = dict(probe()) if probe is not None else {}
        if "loss" in held:
            numbers["loss"] = held["loss"]
        if "rewards/accuracies" in held:
            numbers["accuracy"] = held["rewards/accuracies"]
        return numbers

    metrics = train(
        ctx,
        cfg,
        module=loaded.policy,
        forward=loaded.policy,
        source=feed.source,
        objective=objective,
        steps=steps,
        show=("loss", "rewards/accuracies"),
        measure=measure,
        eval_every=cfg.eval_steps,
        guards=feed.hooks,
        carried={} if feed.ref is None else dict(feed.ref.named_parameters()),
    )
    unit = "replies" if isinstance(objective, Rowwise) else "pairs"
    metrics |= {unit: len(encoded.examples), "left_out": len(encoded.dropped)}
    card = model_card("policy", ctx, method=METHODS[type(cfg)], metrics=metrics)
    loaded.save(ctx.work.path("model"), card)
    return metrics


@dataclass(frozen=True)
class _Feed:
    """Where batches come from, for training and for the held-out loss, and what moves with them."""

    source: Offline | OnlineReference
    tested: list[Batch]
    ref: CausalModel | None = None
    hooks: tuple[Hook, ...] = ()


def _examples(
    cfg: OfflineConfig, ctx: Context, tokenizer: Any, objective: Pairwise | Rowwise
) -> tuple[Encoded, tuple[Example, ...]]:
    """Training examples, with what was left out, and held-out ones."""
    options: dict[str, Any] = {"max_length": cfg.max_length, "overlong": cfg.overlong}
    if isinstance(objective, Pairwise):
        pairs = load(ctx, "dataset", Preference, max_bad_rows=cfg.max_bad_rows)
        kept, held_out = hold_out(pairs, prompt_key, cfg.eval_fraction, ctx.run.seed)
        encoded = from_preferences(kept, tokenizer, **options)
        tested = from_preferences(held_out, tokenizer, **options).examples
    else:
        records = _judged(load(ctx, "dataset", Record, max_bad_rows=cfg.max_bad_rows), ctx)
        kept, held_out = hold_out(records, lambda r: prompt_key(r.prompt), cfg.eval_fraction, ctx.run.seed)
        encoded = from_unpaired(kept, tokenizer, **options)
        tested = from_unpaired(held_out, tokenizer, **options).examples
    ctx.say(f"  {encoded.describe()}")
    write_dropped(ctx.work.path("dropped.tsv"), encoded.dropped)
    check_usable(encoded, cfg.max_length)
    if isinstance(objective, Pairwise):
        return encoded, tested
    assert isinstance(cfg, configs.KTOConfig)
    ctx.say(f"  {balance(encoded.examples).describe(cfg.desirable_weight, cfg.undesirable_weight)}")
    if objective.needs_mismatches:
        seed = rng.derive(ctx.run.seed, ctx.work.stage, "mismatches")
        examples = with_mismatches(encoded.examples, max_length=cfg.max_length, seed=seed)
        encoded = Encoded(examples, encoded.dropped, encoded.truncated)
        if len({_reply(e) for e in tested}) < 2:
            ctx.say("  fewer than two different held-out replies: no held-out loss")
            return encoded, ()
        tested = with_mismatches(tested, max_length=cfg.max_length, seed=seed)
    return encoded, tested


def _reply(example: Example) -> tuple[int, ...]:
    """Tokens of a single reply."""
    (row,) = example.rows
    return row.ids[row.mask.index(True) :]


def _judged(records: Sequence[Record], ctx: Context) -> list[Unpaired | Preference]:
    """The records as replies with labels or as preferences.

    Raises:
        DataError: they are something else.
    """
    found = [r for r in records if isinstance(r, Unpaired | Preference)]
    if len(found) < len(records):
        raise DataError(
            f"{type(records[0]).__name__} records hold no judgements of replies",
            where=ctx.inputs["dataset"].ref,
            fix="give rows with prompt, completion and label, or preferences",
        )
    return found


def _moving(
    cfg: MovingReference, token_budget: int, loaded: Loaded, source: Offline, tested: Sequence[Example]
) -> _Feed:
    """TR-DPO: the reference follows the policy, so its log-probs are computed when a batch is drawn."""
    ref = loaded.reference()
    assert ref is not None
    online = OnlineReference(source, loaded.reference_forward(ref), token_budget=token_budget, device=device())
    hook = sync(ref, loaded.policy, alpha=cfg.ref_model_mixup_alpha, every=cfg.ref_model_sync_steps)
    return _Feed(online, _batches(tested, loaded.pad_id), ref, (hook,))


def _scored(cfg: OfflineConfig, ctx: Context, loaded: Loaded, examples: Sequence[Example]) -> tuple[Example, ...]:
    """The examples with the reference's log-probs; before training, the policy is the reference.

    They are kept beside the stages under what they are made of, so that other losses and rates on the same data and
    model read them, too.
    """
    kernels = (cfg.bf16, cfg.share_prompts, cfg.attn_implementation, cfg.use_liger_kernel, str(device()))
    how = (cfg.dtype, cfg.load_in_4bit, cfg.token_budget, *kernels)
    made_of = json.dumps([ctx.inputs["model_name_or_path"].fingerprint, how, digest_of(examples)])
    name = hashlib.sha256(made_of.encode()).hexdigest()[:16]
    with track("reference log-probs", total=sum(len(e.rows) for e in examples)) as bar:
        return with_reference(
            examples,
            loaded.reference_forward(None if loaded.uses_lora else loaded.policy),
            pad_id=loaded.pad_id,
            token_budget=cfg.token_budget,
            device=device(),
            cache=ctx.work.run_dir / "cache" / f"reference-{name}.safetensors",
            on_progress=bar.update,
        )


def _batches(examples: Sequence[Example], pad_id: int) -> list[Batch]:
    return [batch_of(examples[i : i + 32], pad_id) for i in range(0, len(examples), 32)]


def _probe(cfg: OfflineConfig, ctx: Context, loaded: Loaded) -> Any:
    """Measurements on held-out prompts; KL is always to the policy as it was at the start."""
    if "eval_prompts" not in ctx.inputs:
        return None
    reward = None
    if "reward_model" in ctx.inputs:
        location = ctx.inputs["reward_model"].location
        check_reward_tokenizer(loaded.tokenizer, location, cfg.pad_token, f"{ctx.work.stage}.reward_model")
        model = load_reward(location).to(device()).requires_grad_(False)
        mean, std = score_stats(model.inner.config)
        reward = LearnedReward(model, pad_id=loaded.pad_id, mean=mean, std=std)
    return make_probe(
        ctx,
        cfg,
        engine=loaded.engine(128),
        tokenizer=loaded.tokenizer,
        policy=loaded.policy,
        forward=loaded.policy,
        ref=loaded.reference_forward(loaded.reference()),
        reward=reward,
        sampling=Sampling(max_new_tokens=cfg.max_completion_length),
        token_budget=cfg.token_budget,
    )
