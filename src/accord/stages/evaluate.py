"""Stage: answers of several models to held-out prompts, judged, compared with a baseline."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from accord import lab, rng
from accord.engines.base import Sampling
from accord.engines.native import engine_for
from accord.errors import DataError
from accord.evals.abilities import Ability, Outcomes, table
from accord.evals.abilities import markdown as abilities_markdown
from accord.evals.comparing import Match, measured, pairings, win_row
from accord.evals.judged import Judged, compare, model_summary, rates
from accord.evals.judging import open_judge
from accord.evals.measured import Measured, markdown
from accord.evals.scorers import measured as scored
from accord.evals.scorers import scorer_of
from accord.functional import kl
from accord.functional.masks import masked_sum
from accord.judges.base import Judge
from accord.models import chat
from accord.models.checkpoint import max_positions
from accord.models.pair import device
from accord.models.policy import CausalModel
from accord.pipeline import LAB, Context, Input
from accord.progress import track
from accord.stages import abilities, judging
from accord.stages.configs import EvaluateConfig
from accord.stages.datasets import load
from accord.stages.policies import load_frozen, with_room
from accord.stages.training import prompt_key
from accord.storage import write_atomic
from accord.train.rollouts import rollout_batch
from accord.types import Completion, Prompt, Rollout

KEPT = "answered"
"""Answers of the models that are done, while the stage runs."""


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
    sets = abilities.read_sets(list(cfg.abilities), ctx)
    scorers = {name: scorer_of(spec) for name, spec in cfg.scorers.items()}
    with ExitStack() as opened:
        scoring = judging.judge_of(cfg.judge, ctx, prompts) if judging.scores(cfg) else None
        judge = (
            scoring.judge
            if scoring is not None
            else opened.enter_context(open_judge(judging.choice_of(cfg, ctx), cache=ctx.work.run_dir / judging.CACHE))
        )
        accuracy = judging.measured_judge(cfg, ctx, judge)
        answers, divergence, able = _answers(cfg, ctx, base, base_tokenizer, prompts, sets)
        for name, source in ctx.many("answers").items():
            answers[name] = given_answers(source, prompts)
            divergence[name] = _kl_of_choice(source, models[cfg.baseline])
        judged = {} if scoring is None else {name: scoring(given) for name, given in answers.items()}
        pairs = pairings(list(answers), cfg.baseline, every=cfg.compare == "all" or scoring is not None)
        if scoring is not None:
            matches = [Match(a, b, tuple(map(scoring.preference, judged[a], judged[b]))) for a, b in pairs]
        else:
            matches = _matches(pairs, judge, answers, prompts)
        seed = rng.derive(ctx.run.seed, ctx.work.stage, "bootstrap")
        lengths = {name: [len(c.token_ids) for c in given] for name, given in answers.items()}
        texts = {name: [c.text for c in given] for name, given in answers.items()}
        rows = measured(matches, texts, [prompt_key(p) for p in prompts], judge=judge, accuracy=accuracy, seed=seed)
        for name, scorer in scorers.items():
            found = {who: scorer.score(list(zip(prompts, given, strict=True))) for who, given in texts.items()}
            rows += scored(scorer, found, cfg.baseline, name=name, seed=seed)
        results: dict[str, Any] = {
            "judge": cfg.judge if cfg.judge_model is None else f"{cfg.judge_model} at {cfg.judge}",
            "judge_accuracy": None if accuracy is None else accuracy.row(),
            "baseline": cfg.baseline,
            "sampling": {"temperature": cfg.temperature, "top_p": cfg.top_p, "top_k": cfg.top_k},
            "models": {
                name: {
                    **(
                        model_summary(judged[name], lengths[name], seed=seed)
                        if judged
                        else {"length": sum(lengths[name]) / len(prompts)}
                    ),
                    "kl": divergence[name],
                }
                for name in answers
            },
            "win_rates": _win_rates(cfg, matches, judged, lengths, seed),
            "measured": [row.row() for row in rows],
            "abilities": table(able, cfg.baseline, seed=seed),
            "extra": _of_the_lab(prompts, judged, seed) if cfg.judge.startswith(LAB) else {},
        }
    ctx.work.path("results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    ctx.work.path("results.md").write_text(_page(cfg, rows, results["abilities"]), encoding="utf-8")
    _write_answers(ctx, prompts, answers, judged, cfg.judge.startswith(LAB))
    shutil.rmtree(ctx.work.path(KEPT), ignore_errors=True)
    _say(ctx, results)
    return {
        **{f"utility_{name}": results["models"][name]["utility"]["value"] for name in judged},
        **{f"win_rate_{row['a']}": row["win_rate"] for row in results["win_rates"] if row["b"] == cfg.baseline},
        "prompts": len(prompts),
    }


def _answers(
    cfg: EvaluateConfig,
    ctx: Context,
    base: CausalModel,
    base_tokenizer: Any,
    prompts: Sequence[Prompt],
    sets: Sequence[abilities.Set],
) -> tuple[dict[str, list[Completion]], dict[str, float | None], list[Ability]]:
    """Answers, KL to the baseline and abilities of every model; what is there already is not made again."""
    models = ctx.many("models")
    answers: dict[str, list[Completion]] = {}
    divergence: dict[str, float | None] = {}
    outcomes: dict[str, dict[str, Outcomes]] = {}
    vocabularies: dict[str, dict[str, int]] = {}
    kept = ctx.work.path(KEPT)
    kept.mkdir(exist_ok=True)
    with track(ctx.work.stage, total=len(prompts) * len(models)) as bar:
        for number, (name, source) in enumerate(models.items()):
            path = kept / f"{number}.json"
            if not path.exists():
                policy, tokenizer = load_frozen(source.location)
                made, ids = _answer(cfg, ctx, policy, tokenizer, prompts, bar.update)
                comparable = tokenizer.get_vocab() == base_tokenizer.get_vocab()
                of_it = 0.0 if name == cfg.baseline else None  # of a model to itself
                if comparable and of_it is None:
                    own = None if _sampled_as_it_is(cfg) else policy
                    of_it = _kl(own, base, ids, made, tokenizer.pad_token_id)
                able = abilities.measure(
                    sets, policy, tokenizer, ctx, reply=cfg.max_completion_length, max_batch=cfg.max_batch
                )
                state = {
                    "answers": [c.model_dump(mode="json") for c in made],
                    "kl": of_it,
                    "abilities": {key: asdict(value) for key, value in able.items()},
                    "vocabulary": tokenizer.get_vocab() if sets else {},
                }
                write_atomic(path, json.dumps(state).encode())
            # Always as it is on the disk, so that a stage that was killed goes on with the very same numbers.
            state = json.loads(path.read_bytes())
            answers[name] = [Completion.model_validate(row) for row in state["answers"]]
            divergence[name] = state["kl"]
            outcomes[name] = {
                key: Outcomes(tuple(o["values"]), tuple(o["clusters"])) for key, o in state["abilities"].items()
            }
            vocabularies[name] = state["vocabulary"]
    return answers, divergence, abilities.abilities(sets, outcomes, vocabularies)


def _matches(
    pairs: Sequence[tuple[str, str]],
    judge: Judge,
    answers: Mapping[str, Sequence[Completion]],
    prompts: Sequence[Prompt],
) -> list[Match]:
    """Compare; in one request, so that people get all tasks at once."""
    items = [(p, x.text, y.text) for a, b in pairs for p, x, y in zip(prompts, answers[a], answers[b], strict=True)]
    said = judge.compare(items)
    size = len(prompts)
    return [Match(a, b, tuple(said[i * size : (i + 1) * size])) for i, (a, b) in enumerate(pairs)]


def _win_rates(
    cfg: EvaluateConfig,
    matches: Sequence[Match],
    judged: Mapping[str, Sequence[Judged]],
    lengths: Mapping[str, Sequence[int]],
    seed: int,
) -> list[dict[str, Any]]:
    """Against the baseline first; a judge of single answers also says by how much."""
    if not judged:
        return [win_row(match, lengths) for match in matches]
    return [
        compare((m.a, judged[m.a], lengths[m.a]), (m.b, judged[m.b], lengths[m.b]), seed=seed)
        for m in matches
        if m.b == cfg.baseline
    ]


def _of_the_lab(prompts: Sequence[Prompt], judged: Mapping[str, Sequence[Judged]], seed: int) -> dict[str, Any]:
    groups = [str(p.meta.get("family", "")) for p in prompts]
    best = [lab.score(p, lab.best_reply(p)).utility for p in prompts]
    random = [lab.score(p, lab.random_reply(p, seed)).utility for p in prompts]
    return {
        "rates": {name: rates(found, groups) for name, found in judged.items()},
        "headroom": {"best": sum(best) / len(best), "random": sum(random) / len(random)},
    }


def _page(cfg: EvaluateConfig, rows: Sequence[Measured], able: Sequence[Mapping[str, Any]]) -> str:
    parts = ["# Evaluation\n", markdown(rows)]
    if able:
        parts += ["## Base abilities\n", abilities_markdown(able, cfg.baseline)]
    return "\n".join(parts)


def _say(ctx: Context, results: Mapping[str, Any]) -> None:
    for row in results["win_rates"]:
        if row["win_rate"] is None:
            ctx.say(f"  {row['a']} against {row['b']}: no readable verdict")
            continue
        ctx.say(
            f"  {row['a']} against {row['b']}: win rate {row['win_rate']:.3f} [{row['low']:.3f}, {row['high']:.3f}], "
            f"length {row['length_a']:.1f} against {row['length_b']:.1f} tokens"
        )
    for row in results["abilities"]:
        lost = [name for name, found in row["models"].items() if found["worse"]]
        if lost:
            ctx.say(f"  {row['name']} ({row['kind']}) is worse than before in {', '.join(lost)}")


def _answer(
    cfg: EvaluateConfig,
    ctx: Context,
    policy: CausalModel,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    progress: Any,
) -> tuple[list[Completion], list[tuple[int, ...]]]:
    engine = engine_for(policy.hf, tokenizer, cfg.max_batch, fast=cfg.fast_decode)
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


def _sampled_as_it_is(cfg: EvaluateConfig) -> bool:
    """Whether the log-probs that come with an answer are the model's own."""
    return cfg.temperature == 1 and cfg.top_p == 1 and cfg.top_k == 0


@torch.no_grad()
def _kl(
    policy: CausalModel | None,
    base: CausalModel,
    ids: Sequence[tuple[int, ...]],
    answers: Sequence[Completion],
    pad_id: int,
) -> float:
    """KL to the baseline summed over an answer at temperature 1, averaged over answers, nats (k1 estimator).

    Args:
        policy: what wrote the answers; None = the log-probs that came with them are its own.
        base: the baseline.
        ids: prompts.
        answers: one a prompt.
        pad_id: any valid token id.
    """
    total = 0.0
    for start in range(0, len(ids), 256):
        rollouts = [
            Rollout(prompt=_PLACE, prompt_ids=i, completion=c, group=str(n))
            for n, (i, c) in enumerate(zip(ids[start : start + 256], answers[start : start + 256], strict=True))
        ]
        for micro in rollout_batch(rollouts, pad_id).split(16384):
            on_device = micro.to(device())
            logp_BT = on_device.sampler_logp_BT if policy is None else policy(on_device).logp_BT
            base_BT = base(on_device).logp_BT
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
