"""Stage: preferences about sampled candidates, from simulated annotators or from people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accord import lab, rng
from accord.data import read, soft_labels, write_records
from accord.errors import ConfigError, DataError, Waiting
from accord.memory import no_collection
from accord.pipeline import Context
from accord.progress import track
from accord.stages.configs import CollectConfig
from accord.stages.datasets import load
from accord.stats import raw_agreement
from accord.types import Candidate, Completion, Preference, Prompt

Pair = tuple[Prompt, tuple[Candidate, Candidate]]


def run(cfg: CollectConfig, ctx: Context) -> dict[str, Any]:
    """Ask the annotators about every pair, or hand over what people have said so far."""
    pairs = _pairs(Path(ctx.inputs["samples"].location))
    if cfg.annotators == "lab":
        if not all(lab.is_lab(prompt) for prompt, _ in pairs):
            raise ConfigError("annotators: lab can judge lab prompts only", fix="set annotators: people")
        with no_collection():
            preferences, extra = _simulate(cfg, ctx, pairs)
    else:
        preferences, extra = _from_people(cfg, ctx, pairs), {}
    write_records(preferences, ctx.work.path("judgements.jsonl"))
    rows = soft_labels(preferences) if cfg.aggregate == "soft" else preferences
    earlier = load(ctx, "earlier", Preference) if cfg.earlier is not None else []
    write_records([*earlier, *rows], ctx.work.path("preferences.jsonl"))
    write_records(rows, ctx.work.path("new.jsonl"))
    by_annotator: dict[str, int] = {}
    for p in preferences:
        by_annotator[p.annotator] = by_annotator.get(p.annotator, 0) + 1
    agreement = raw_agreement(votes(preferences))
    return {
        "num": len(preferences),
        "rows": len(earlier) + len(rows),
        "earlier": len(earlier),
        "num_pairs": len(pairs),
        "num_annotators": len(by_annotator),
        "ties": sum(p.tie for p in preferences),
        "both_bad": sum(p.both_bad for p in preferences),
        "agreement": asdict(agreement) if agreement else None,
        "annotators": {name: {"n": n, **extra.get(name, {})} for name, n in sorted(by_annotator.items())},
    }


def _pairs(path: Path) -> list[Pair]:
    """Candidates of each prompt, two by two in order; an odd one out is paired with the first."""
    pairs: list[Pair] = []
    for number, line in enumerate(_lines(path), 1):
        try:
            row = json.loads(line)
            prompt = Prompt.model_validate(row["prompt"])
            replies = [Completion.model_validate(c) for c in row["candidates"]]
        except (ValueError, KeyError, TypeError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
            raise DataError(
                f"not a row of the sample stage: {reason}",
                where=f"{path}:{number}",
                fix='a row is {"prompt": Prompt, "candidates": [Completion, ...]}',
            ) from error
        candidates = [Candidate(text=c.text, model=c.model) for c in replies]
        for i in range(0, len(candidates) - 1, 2):
            pairs.append((prompt, (candidates[i], candidates[i + 1])))
        if len(candidates) % 2 and len(candidates) > 1:
            pairs.append((prompt, (candidates[-1], candidates[0])))
    if not pairs:
        raise DataError(
            "there is nothing to compare: no prompt has two replies",
            where=str(path),
            fix="sample with num_generations of 2 or more",
        )
    return pairs


def _lines(path: Path) -> list[str]:
    """Lines of a JSONL file; only line feeds end one, since texts may hold the other line ends of Unicode."""
    try:
        return path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the samples cannot be read: {error}", where=str(path), fix="name a sample stage, or its samples.jsonl"
        ) from error


def _simulate(
    cfg: CollectConfig, ctx: Context, pairs: Sequence[Pair]
) -> tuple[list[Preference], dict[str, dict[str, Any]]]:
    """Let the lab's annotators judge; also say how often each agrees with gold, which people would not know."""
    pool = lab.pool(rng.derive(ctx.run.seed, ctx.work.stage, "pool"), cfg.num_annotators)
    preferences: list[Preference] = []
    right: dict[str, list[float]] = {a.id: [] for a in pool}
    with track(ctx.work.stage, total=len(pairs)) as bar:
        for number, (prompt, candidates) in enumerate(pairs):
            draw = rng.generator(ctx.run.seed, ctx.work.stage, "assignment", number)
            overlap = draw.random() < cfg.overlap_fraction
            wanted = cfg.overlap_labels if overlap else cfg.labels_per_item
            golds = [lab.score(prompt, c.text) for c in candidates]
            gold = [g.utility for g in golds]
            for index in draw.permutation(len(pool))[: min(wanted, len(pool))]:
                annotator = pool[int(index)]
                seed = rng.derive(ctx.run.seed, ctx.work.stage, "judgement", number, annotator.id)
                judged = annotator.prefer(prompt, candidates, seed, golds)
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


def _from_people(cfg: CollectConfig, ctx: Context, pairs: Sequence[Pair]) -> list[Preference]:
    """Read people's labels, or write the tasks for them and wait."""
    # Beside the artifacts, not in one of them: labels outlive the configuration they were collected under.
    path = Path(cfg.labels) if cfg.labels else ctx.work.run_dir / f"{ctx.work.stage}-labels.jsonl"
    tasks = ctx.work.run_dir / f"{ctx.work.stage}-tasks.jsonl"
    with tasks.open("w", encoding="utf-8") as file:
        for number, (prompt, candidates) in enumerate(pairs):
            task = {
                "id": f"task-{number}",
                "prompt": prompt.model_dump(mode="json"),
                "candidates": [c.model_dump(mode="json") for c in candidates],
                # With it a task that got a verdict is a Preference row, and is read as one.
                "meta": {},
            }
            file.write(json.dumps(task, ensure_ascii=False) + "\n")
    found: Sequence[Preference] = ()
    if path.exists() and path.stat().st_size:
        dataset = read(str(path), Preference)
        found = [r for r in dataset.records if isinstance(r, Preference)]
    if len(found) < cfg.min_labels:
        raise Waiting(
            f"{len(found)} of {cfg.min_labels} labels",
            where=str(path),
            fix=f"the {len(pairs)} tasks are in {tasks}; write one Preference row a judgement to the file above "
            "(a task with choice, tie or both_bad and annotator added), then run the same command again",
        )
    return list(found)


def votes(preferences: Iterable[Preference]) -> list[tuple[str, str, str]]:
    """(pair of replies, annotator, verdict) of every judgement, as agreement statistics want them."""
    return [
        (
            "\x1e".join((p.prompt.id, *(c.text for c in p.candidates))),
            p.annotator,
            "tie" if p.tie else "both bad" if p.both_bad else str(p.choice),
        )
        for p in preferences
    ]
