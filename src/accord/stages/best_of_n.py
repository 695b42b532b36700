"""Stage: best-of-n, the reply with the highest score out of n."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from accord import rng, stats
from accord.data import write_records
from accord.engines.base import Sampling
from accord.engines.native import engine_for
from accord.errors import RewardError
from accord.models.checkpoint import max_positions
from accord.pipeline import Context
from accord.progress import track
from accord.stages.configs.selection import BestOfNConfig
from accord.stages.datasets import load
from accord.stages.judging import judge_of
from accord.stages.policies import load_frozen, with_room
from accord.stages.scorers import load_scorer
from accord.train.selection import utility
from accord.types import Completion, Demonstration, Message, Prompt, Rollout


@dataclass(frozen=True)
class Pool:
    """The scored replies to one prompt, in the order in which they were drawn."""

    prompt: Prompt
    replies: tuple[Rollout, ...]
    """Those with a score."""
    values: tuple[float, ...]
    """What they are compared by."""
    judged: tuple[float, ...] | None
    """The judge's values."""
    other: Rollout
    """One more reply, which cannot be chosen: what best-of-n is compared with."""
    other_judged: float | None

    @property
    def best(self) -> int:
        """Index of the reply that is kept: of equal ones the first."""
        return self.values.index(max(self.values))


def run(cfg: BestOfNConfig, ctx: Context) -> dict[str, Any]:
    """Draw n replies a prompt, keep the best, and say what best-of-n gives for every smaller n too."""
    pools, errors = _pools(cfg, ctx)
    _write(ctx, pools)
    seed = rng.derive(ctx.run.seed, ctx.work.stage, "bootstrap")
    points = curve(pools, cfg.num_generations, seed)
    ctx.work.path("curve.json").write_text(json.dumps(points, indent=1), encoding="utf-8")
    best = [p.replies[p.best].completion for p in pools]
    metrics: dict[str, Any] = {
        "prompts": len(pools),
        "replies": sum(len(p.replies) for p in pools),
        "reward_errors": errors,
        "n": cfg.num_generations,
        "kl": stats.best_of_n_kl(cfg.num_generations),
        "proxy": points[-1]["proxy"]["value"],
        "proxy_of_one": points[0]["proxy"]["value"],
        "proxy_win_rate": _win_rate([(max(p.values), utility(p.other, cfg.missing_eos_penalty)) for p in pools]),
        "mean_length": sum(len(c.token_ids) for c in best) / len(best),
        "cut_fraction": sum(c.finish == "length" for c in best) / len(best),
    }
    if cfg.judge is not None:
        pairs = [(p.judged[p.best], p.other_judged) for p in pools if p.judged and p.other_judged is not None]
        metrics |= {
            "judged": points[-1]["judged"]["value"],
            "judged_of_one": points[0]["judged"]["value"],
            "win_rate": _win_rate(pairs),
        }
    return metrics


def _pools(cfg: BestOfNConfig, ctx: Context) -> tuple[list[Pool], int]:
    """Draw, score and judge; also how many replies have no score."""
    policy, tokenizer = load_frozen(ctx.inputs["model_name_or_path"].location)
    prompts = load(ctx, "prompts", Prompt)[cfg.skip_prompts :]
    prompts = prompts if cfg.num_prompts < 0 else prompts[: cfg.num_prompts]
    fitting = with_room(
        prompts,
        tokenizer,
        longest=max_positions(policy.inner),
        reply=cfg.max_completion_length,
        ctx=ctx,
        field="prompts",
    )
    prompts = [p.prompt for p in fitting]
    scorer = load_scorer(cfg, ctx, tokenizer, prompts)
    judge = None if cfg.judge is None else judge_of(cfg.judge, ctx, prompts)
    engine = engine_for(policy.hf, tokenizer, cfg.max_batch, fast=cfg.fast_decode)
    size = cfg.num_generations + 1
    sampling = Sampling(cfg.max_completion_length, cfg.temperature, top_p=cfg.top_p, top_k=cfg.top_k, n=size)
    drawn: list[Rollout] = []
    with track(ctx.work.stage, total=len(fitting) * size) as bar:
        for start in range(0, len(fitting), cfg.max_batch):
            part = fitting[start : start + cfg.max_batch]
            seeds = [rng.derive(ctx.run.seed, ctx.work.stage, "sampling", start + i) for i in range(len(part))]
            made = engine.generate([p.ids for p in part], sampling, seeds=seeds)
            drawn += [
                Rollout(
                    prompt=part[i // size].prompt,
                    prompt_ids=part[i // size].ids,
                    completion=completion.model_copy(update={"model": cfg.model_name_or_path}),
                    group=str(start + i // size),
                )
                for i, completion in enumerate(made)
            ]
            bar.update(len(made))
    engine.close()
    scores = scorer.reward(drawn)
    drawn = [r.model_copy(update={"score": s}) for r, s in zip(drawn, scores, strict=True)]
    failed = [s.error for s in scores if s.value is None]
    # A prompt without anything to compare with, or to choose from, says nothing.
    rows = [drawn[i : i + size] for i in range(0, len(drawn), size)]
    usable = [i for i, row in enumerate(rows) if _scored(row[-1:]) and _scored(row[:-1])]
    if len(failed) > cfg.max_reward_errors * len(scores) or not usable:
        raise RewardError(
            f"{len(failed)} of {len(scores)} replies have no score; the first reason: {failed[0]}",
            where=ctx.work.stage,
            fix="mend the reward function, or raise max_reward_errors",
        )
    judged: list[list[float]] | None = None
    if judge is not None:
        columns = [[v.value for v in judge([row[j].completion for row in rows])] for j in range(size)]
        judged = [[column[i] for column in columns] for i in range(len(rows))]
    pools: list[Pool] = []
    for i in usable:
        replies, values = rows[i], None if judged is None else judged[i]
        kept = [j for j in range(size - 1) if _scored(replies[j : j + 1])]
        pools.append(
            Pool(
                prompt=prompts[i],
                replies=tuple(replies[j] for j in kept),
                values=tuple(utility(replies[j], cfg.missing_eos_penalty) for j in kept),
                judged=None if values is None else tuple(values[j] for j in kept),
                other=replies[-1],
                other_judged=None if values is None else values[-1],
            )
        )
    return pools, len(failed)


def curve(pools: Sequence[Pool], largest: int, seed: int) -> list[dict[str, Any]]:
    """Mean score (and judged value) of best-of-n for n = 1, 2, 4, ... and `largest`, from one pool a prompt.

    Args:
        pools: scored replies; a prompt with fewer than n of them does not count at that n.
        largest: replies that were drawn of each prompt.
        seed: of the bootstrap over prompts.

    Returns:
        One row an n: n, `kl` = log n - (n - 1) / n (an upper bound), `proxy` and `judged` with 95 % intervals.
    """
    points: list[dict[str, Any]] = []
    for n in sorted({*(2**k for k in range(largest.bit_length())), largest}):
        enough = [p for p in pools if len(p.values) >= n]
        if not enough:
            continue
        raw = [[_value(r) for r in p.replies] for p in enough]
        proxy = [stats.best_of_n_gold(p.values, scores, n) for p, scores in zip(enough, raw, strict=True)]
        point = {"n": n, "kl": stats.best_of_n_kl(n), "proxy": asdict(stats.bootstrap_mean(proxy, seed=seed))}
        judged = [stats.best_of_n_gold(p.values, p.judged, n) for p in enough if p.judged is not None]
        if judged:
            point["judged"] = asdict(stats.bootstrap_mean(judged, seed=seed))
        points.append(point)
    return points


def _scored(rollouts: Sequence[Rollout]) -> bool:
    return any(r.score is not None and r.score.value is not None for r in rollouts)


def _value(rollout: Rollout) -> float:
    assert rollout.score is not None and rollout.score.value is not None
    return rollout.score.value


def _win_rate(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """How often the first is larger, ties half, over prompts."""
    return asdict(stats.win_rate([0.5 if a == b else float(a > b) for a, b in pairs]))


def _row(prompt: Prompt, candidates: Sequence[Completion]) -> str:
    """A row of the form of the sample stage."""
    row = {"prompt": prompt.model_dump(mode="json"), "candidates": [c.model_dump(mode="json") for c in candidates]}
    return json.dumps(row, ensure_ascii=False) + "\n"


def _write(ctx: Context, pools: Sequence[Pool]) -> None:
    """The kept replies as answers and as demonstrations, the whole pool as samples, and all numbers."""
    names = ("best", "samples", "scores")
    texts: dict[str, list[str]] = {name: [] for name in names}
    demonstrations: list[Demonstration] = []
    for pool in pools:
        best = pool.replies[pool.best].completion
        texts["best"].append(_row(pool.prompt, [best]))
        texts["samples"].append(_row(pool.prompt, [r.completion for r in pool.replies]))
        numbers = {
            "id": pool.prompt.id,
            "best": pool.best,
            "scores": [_value(r) for r in pool.replies],
            "judged": pool.judged,
            "other": {"score": _value(pool.other), "judged": pool.other_judged, "text": pool.other.completion.text},
        }
        texts["scores"].append(json.dumps(numbers, ensure_ascii=False) + "\n")
        if best.text.strip():
            reply = Message(role="assistant", content=best.text)
            demonstrations.append(
                Demonstration(id=pool.prompt.id, messages=(*pool.prompt.messages, reply), meta=pool.prompt.meta)
            )
    for name in names:
        ctx.work.path(f"{name}.jsonl").write_text("".join(texts[name]), encoding="utf-8")
    if demonstrations:
        write_records(demonstrations, ctx.work.path("demonstrations.jsonl"))
