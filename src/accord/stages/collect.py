"""Stage: preferences about sampled candidates, from simulated annotators or from people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accord import lab, rng
from accord.collect.exporting.card import agreement
from accord.collect.exporting.combine import Combined, combine
from accord.data import write_records
from accord.data.samples import FIX, BadSample, read_samples
from accord.errors import ConfigError, DataError
from accord.memory import no_collection
from accord.pipeline import Context
from accord.progress import track
from accord.stages import people
from accord.stages.choosing import Comparison, chosen
from accord.stages.configs import CollectConfig
from accord.stages.datasets import load
from accord.types import Candidate, Preference


def run(cfg: CollectConfig, ctx: Context) -> dict[str, Any]:
    """Ask the annotators about every comparison, or hand over what people have said so far."""
    with no_collection():
        return _collected(cfg, ctx)


def _collected(cfg: CollectConfig, ctx: Context) -> dict[str, Any]:
    every = _comparisons(ctx.inputs["samples"].location, cfg.kind)
    if cfg.annotators == "lab":
        if not all(lab.is_lab(item.prompt) for item in every):
            raise ConfigError("annotators: lab can judge lab prompts only", fix="set annotators: people")
        items = chosen(cfg, ctx, every)
        preferences, extra = _simulate(cfg, ctx, items)
        measured, made = preferences, combine(preferences, people.combination(cfg, ctx))
    else:
        items = people.planned(cfg, ctx, lambda: chosen(cfg, ctx, every))
        preferences, measured, made = people.collect(cfg, ctx, items)
        extra = {}
    write_records(preferences, ctx.work.path("judgements.jsonl"))
    rows = _usable(list(made.labels), made)
    earlier = load(ctx, "earlier", Preference) if cfg.earlier is not None else []
    write_records([*earlier, *rows], ctx.work.path("preferences.jsonl"))
    write_records(rows, ctx.work.path("new.jsonl"))
    for note in made.notes:
        ctx.say(f"  {note}")
    by_annotator: dict[str, int] = {}
    for p in preferences:
        by_annotator[p.annotator] = by_annotator.get(p.annotator, 0) + 1
    agreed = agreement(measured)
    return {
        "num": len(preferences),
        "rows": len(earlier) + len(rows),
        "earlier": len(earlier),
        "num_pairs": len(items),
        "num_annotators": len(by_annotator),
        "ties": sum(p.tie for p in preferences),
        "both_bad": sum(p.both_bad for p in preferences),
        "agreement": None if agreed.raw.value is None else asdict(agreed.raw),
        **({"ranking_agreement": {n: asdict(e) for n, e in agreed.rankings.items()}} if agreed.rankings else {}),
        **({"agreement_on": "random slice"} if agreed.sliced else {}),
        **({"notes": list(made.notes)} if made.notes else {}),
        "annotators": {name: {"n": n, **extra.get(name, {})} for name, n in sorted(by_annotator.items())},
    }


def _usable(rows: list[Preference], made: Combined) -> list[Preference]:
    if rows:
        return rows
    raise DataError(
        f"{made.judgements} judgements leave no label: {'; '.join(made.notes) or 'all were left out'}",
        where="collect.aggregate",
        fix="collect more, or set tie_policy or aggregate differently",
    )


def _comparisons(location: str, kind: str) -> list[Comparison]:
    """Candidates of each prompt: two by two in order, an odd one out with the first; or all of them, to be ranked."""
    found: list[Comparison] = []
    if Path(location).is_dir():
        raise DataError(
            "the samples cannot be read: this is a directory",
            where=location,
            fix="name a sample stage, or its samples.jsonl",
        )
    for row in read_samples(location):
        if isinstance(row, BadSample):
            raise DataError(f"not a row of the sample stage: {row.reason}", where=row.where, fix=FIX)
        # Only what annotators and rewards need goes on; what else the sampler knew stays with the samples.
        replies = [Candidate(text=c.text, model=c.model) for c in row.candidates]
        if len(replies) < 2:
            continue
        if kind == "rank":
            found.append(Comparison(row.prompt, tuple(replies)))
            continue
        found += [Comparison(row.prompt, (replies[i], replies[i + 1])) for i in range(0, len(replies) - 1, 2)]
        if len(replies) % 2:
            found.append(Comparison(row.prompt, (replies[-1], replies[0])))
    if not found:
        raise DataError(
            "there is nothing to compare: no prompt has two replies",
            where=location,
            fix="sample with num_generations of 2 or more",
        )
    return found


def _simulate(
    cfg: CollectConfig, ctx: Context, items: Sequence[Comparison]
) -> tuple[list[Preference], dict[str, dict[str, Any]]]:
    """Let the lab's annotators judge; also say how often each agrees with gold, which people would not know."""
    pool = lab.pool(rng.derive(ctx.run.seed, ctx.work.stage, "pool"), cfg.num_annotators)
    preferences: list[Preference] = []
    right: dict[str, list[float]] = {a.id: [] for a in pool}
    with track(ctx.work.stage, total=len(items)) as bar:
        for number, item in enumerate(items):
            prompt, candidates = item.prompt, item.candidates
            draw = rng.generator(ctx.run.seed, ctx.work.stage, "assignment", number)
            overlap = draw.random() < cfg.overlap_fraction
            wanted = cfg.overlap_labels if overlap else cfg.labels_per_item
            golds = [lab.score(prompt, c.text) for c in candidates]
            gold = [g.utility for g in golds]
            for index in draw.permutation(len(pool))[: min(wanted, len(pool))]:
                annotator = pool[int(index)]
                seed = rng.derive(ctx.run.seed, ctx.work.stage, "judgement", number, annotator.id)
                judged = annotator.prefer(prompt, candidates, seed, golds)
                if item.meta:
                    judged = judged.model_copy(update={"meta": {**judged.meta, **item.meta}})
                preferences.append(judged)
                if judged.choice is not None and gold[0] != gold[1]:
                    right[annotator.id].append(float(gold[judged.choice] == max(gold)))
            bar.update(1)
    extra = {
        a.id: {
            "group": a.group,
            "gold_agreement": sum(right[a.id]) / len(right[a.id]) if right[a.id] else None,
        }
        for a in pool
    }
    return preferences, extra
