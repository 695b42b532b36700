"""Stage: answers of several models to held-out prompts, judged, compared with a baseline."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from accord import lab, rng
from accord.engines.base import Sampling
from accord.errors import ConfigError, DataError, RewardError
from accord.evals.judged import Judged, compare, model_summary, rates
from accord.functional import kl
from accord.functional.masks import masked_sum
from accord.models import chat
from accord.models.build import score_stats
from accord.models.checkpoint import load_reward, load_tokenizer, max_positions
from accord.models.policy import CausalModel
from accord.pipeline import LAB, Context, Input
from accord.progress import track
from accord.rewards.learned import LearnedReward
from accord.stages.configs import EvaluateConfig
from accord.stages.datasets import load
from accord.stages.policies import engine_for, load_frozen, with_room
from accord.stages.training import device, prompt_key
from accord.train.rollouts import rollout_batch
from accord.types import Completion, Prompt, Rollout


def run(cfg: EvaluateConfig, ctx: Context) -> dict[str, Any]:
    """Generate, judge and compare; the same prompts and sampling seeds for every model."""
    prompts = load(ctx, "prompts", Prompt)
    models = ctx.many("models")
    base, base_tokenizer = load_frozen(models[cfg.baseline].location)
    fitting = with_room(
        prompts,
        base_tokenizer,
        longest=max_positions(base.inner),
        reply=cfg.max_completion_length,
        ctx=ctx,
        field="prompts",
    )
    prompts = [p.prompt for p in fitting]
    prompts = prompts if cfg.num_prompts < 0 else prompts[: cfg.num_prompts]
    judge = judge_of(cfg.judge, ctx, prompts)
    answers: dict[str, list[Completion]] = {}
    divergence: dict[str, float | None] = {}
    with track(ctx.work.stage, total=len(prompts) * len(models)) as bar:
        for name, source in models.items():
            policy, tokenizer = load_frozen(source.location)
            answers[name], ids = _answer(cfg, ctx, policy, tokenizer, prompts, bar.update)
            comparable = tokenizer.get_vocab() == base_tokenizer.get_vocab()
            if name == cfg.baseline:
                divergence[name] = 0.0  # of a model to itself
            else:
                divergence[name] = _kl(policy, base, ids, answers[name], tokenizer.pad_token_id) if comparable else None
    for name, source in ctx.many("answers").items():
        answers[name] = given_answers(source, prompts)
        divergence[name] = _kl_of_choice(source, models[cfg.baseline])
    judged = {name: judge(given) for name, given in answers.items()}
    lengths = {name: [len(c.token_ids) for c in given] for name, given in answers.items()}
    seed = rng.derive(ctx.run.seed, ctx.work.stage, "bootstrap")
    results: dict[str, Any] = {
        "judge": cfg.judge,
        "baseline": cfg.baseline,
        "sampling": {"temperature": cfg.temperature, "top_p": cfg.top_p, "top_k": cfg.top_k},
        "models": {
            name: {**model_summary(judged[name], lengths[name], seed=seed), "kl": divergence[name]} for name in answers
        },
        "win_rates": [
            compare(
                (name, judged[name], lengths[name]),
                (cfg.baseline, judged[cfg.baseline], lengths[cfg.baseline]),
                seed=seed,
            )
            for name in answers
            if name != cfg.baseline
        ],
        "extra": {},
    }
    if cfg.judge.startswith(LAB):
        groups = [str(p.meta.get("family", "")) for p in prompts]
        results["extra"]["rates"] = {name: rates(judged[name], groups) for name in answers}
        best = [lab.score(p, lab.best_reply(p)).utility for p in prompts]
        random = [lab.score(p, lab.random_reply(p, seed)).utility for p in prompts]
        results["extra"]["headroom"] = {"best": sum(best) / len(best), "random": sum(random) / len(random)}
    ctx.work.path("results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    _write_answers(ctx, prompts, answers, judged, cfg.judge.startswith(LAB))
    for row in results["win_rates"]:
        ctx.say(
            f"  {row['a']} against {row['b']}: win rate {row['win_rate']:.3f} [{row['low']:.3f}, {row['high']:.3f}], "
            f"length {row['length_a']:.1f} against {row['length_b']:.1f} tokens"
        )
    return {
        **{f"utility_{name}": results["models"][name]["utility"]["value"] for name in answers},
        **{f"win_rate_{row['a']}": row["win_rate"] for row in results["win_rates"]},
        "prompts": len(prompts),
    }


def _answer(
    cfg: EvaluateConfig,
    ctx: Context,
    policy: CausalModel,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    progress: Any,
) -> tuple[list[Completion], list[tuple[int, ...]]]:
    engine = engine_for(policy, tokenizer, cfg.max_batch, fast=cfg.fast_decode)
    sampling = Sampling(
        max_new_tokens=cfg.max_completion_length,
        temperature=cfg.temperature,
        top_p=cfg.top_p,
        top_k=cfg.top_k,
    )
    ids = [tuple(chat.encode_prompt(tokenizer, p.messages)) for p in prompts]
    made: list[Completion] = []
    for start in range(0, len(ids), cfg.max_batch):
        part = ids[start : start + cfg.max_batch]
        seeds = [rng.derive(ctx.run.seed, ctx.work.stage, "sampling", start + i) for i in range(len(part))]
        made += engine.generate(part, sampling, seeds=seeds)
        progress(len(part))
    engine.close()
    return made, ids


@torch.no_grad()
def _kl(
    policy: CausalModel,
    base: CausalModel,
    ids: Sequence[tuple[int, ...]],
    answers: Sequence[Completion],
    pad_id: int,
) -> float:
    """KL to the baseline summed over an answer at temperature 1, averaged over answers, nats (k1 estimator)."""
    total = 0.0
    for start in range(0, len(ids), 256):
        rollouts = [
            Rollout(prompt=_PLACE, prompt_ids=i, completion=c, group=str(n))
            for n, (i, c) in enumerate(zip(ids[start : start + 256], answers[start : start + 256], strict=True))
        ]
        for micro in rollout_batch(rollouts, pad_id).split(16384):
            on_device = micro.to(device())
            logp_BT, base_BT = policy(on_device).logp_BT, base(on_device).logp_BT
            assert logp_BT is not None and base_BT is not None
            total += float(masked_sum(kl.k1(logp_BT, base_BT), on_device.response_mask_BT))
    return total / len(ids)


_PLACE = Prompt.model_validate({"id": "", "messages": [{"role": "user", "content": "-"}]})


def given_answers(source: Input, prompts: Sequence[Prompt]) -> list[Completion]:
    """Replies that were chosen before, in the order of `prompts`.

    Raises:
        DataError: the file is not that of a `best_of_n` stage, or has no answer to one of the prompts.
    """
    path = Path(source.location)
    found: dict[str, Completion] = {}
    try:
        for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n"):
            row = json.loads(line)
            found[prompt_key(Prompt.model_validate(row["prompt"]))] = Completion.model_validate(row["candidates"][0])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"no answers can be read: {' '.join(str(error).split())[:200]}",
            where=str(path),
            fix="name a best_of_n stage, or its best.jsonl",
        ) from error
    missing = [p for p in prompts if prompt_key(p) not in found]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(prompts)} prompts are not answered by '{source.ref}', first: {missing[0].id}",
            where=str(path),
            fix="give that stage the prompts of the evaluation",
        )
    return [found[prompt_key(p)] for p in prompts]


def _kl_of_choice(source: Input, baseline: Input) -> float | None:
    """Upper bound of the KL of best-of-n to the baseline, when it is the baseline's replies that were chosen from."""
    manifest = source.artifact.manifest if source.artifact else None
    drawn_from = manifest.inputs.get("model_name_or_path") if manifest else None
    if manifest is None or drawn_from is None or drawn_from.fingerprint != baseline.fingerprint:
        return None
    return manifest.metrics.get("kl")


def judge_of(name: str, ctx: Context, prompts: Sequence[Prompt]) -> Callable[[Sequence[Completion]], list[Judged]]:
    """The judge as a function of the answers to `prompts`; loaded first, so that a wrong one costs no generation.

    Args:
        name: what the config field `judge` says.
        ctx: the running stage, with the input `judge`.
        prompts: what is answered.

    Raises:
        ConfigError: the lab is asked about prompts that are not its own.
    """
    if name.startswith(LAB):
        if not all(lab.is_lab(p) for p in prompts):
            raise ConfigError(f"{name} knows the truth about lab prompts only", fix="name a reward model as judge")

        def gold(answers: Sequence[Completion]) -> list[Judged]:
            golds = [lab.score(p, c.text) for p, c in zip(prompts, answers, strict=True)]
            return [Judged(g.utility, g.parts, g.labels) for g in golds]

        return gold
    location = ctx.inputs["judge"].location
    tokenizer: Any = load_tokenizer(location)
    model = load_reward(location).to(device()).requires_grad_(False)
    mean, std = score_stats(model.inner.config)
    reward = LearnedReward(model, pad_id=tokenizer.pad_token_id, mean=mean, std=std)

    def learned(answers: Sequence[Completion]) -> list[Judged]:
        # Text, not ids: the judged models may have other tokenizers than the judge.
        replies = [chat.encode_completion(tokenizer, c.text) for c in answers]
        sequences = [[*chat.encode_prompt(tokenizer, p.messages), *r] for p, r in zip(prompts, replies, strict=True)]
        scores = reward.score_ids(sequences, [len(r) for r in replies])
        bad = sum(not math.isfinite(s) for s in scores)
        if bad:
            raise RewardError(
                f"the judge gives {bad} of {len(scores)} answers no finite score",
                where=location,
                fix="train the reward model again, or name another judge",
            )
        return [Judged(value) for value in scores]

    return learned


def _write_answers(
    ctx: Context,
    prompts: Sequence[Prompt],
    answers: dict[str, list[Completion]],
    judged: dict[str, list[Judged]],
    in_lab: bool,
) -> None:
    key = "gold" if in_lab else "judged"
    with ctx.work.path("answers.jsonl").open("w", encoding="utf-8") as file:
        for i, prompt in enumerate(prompts):
            row = {
                "prompt": prompt.model_dump(mode="json"),
                "answers": {name: given[i].text for name, given in answers.items()},
                key: {
                    name: {"utility": values[i].value, "parts": dict(values[i].parts)}
                    for name, values in judged.items()
                },
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
