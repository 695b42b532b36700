"""Stage: attack a policy, measure what gets through, and make preferences of it for the next round."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

from accord import rng
from accord.errors import ConfigError
from accord.evals.answering import DirectoryAnswerer
from accord.pipeline import LAB, Context
from accord.redteam import campaign
from accord.redteam.calibration import built_in_error
from accord.redteam.journal import Journal
from accord.redteam.judging import named
from accord.redteam.lab import lab_seeds
from accord.redteam.markdown import summary_markdown
from accord.redteam.pairs import make_pairs
from accord.redteam.seeds import Seed, own_seeds
from accord.redteam.sets import read_seeds
from accord.redteam.transforms import TRANSFORMS, Transform, choose, lab_transforms
from accord.report.redteam import write_page
from accord.stages.configs import RedteamConfig


def run(cfg: RedteamConfig, ctx: Context) -> dict[str, Any]:
    """Attack, judge, measure, write; a killed run asks nothing twice."""
    seeds, transforms = _seeds(cfg, ctx)
    attacker = None
    if cfg.attacker_model is not None:
        attacker = _model(cfg, ctx, "attacker_model", cfg.attacker_model)
    judge = named(cfg.judge)
    plan = campaign.Plan(
        seeds=seeds,
        transforms=transforms,
        target=_model(cfg, ctx, "model_name_or_path", cfg.model_name_or_path),
        judge=judge,
        attacker=cfg.attacker,
        attacker_model=attacker,
        template=cfg.template,
        k=cfg.k,
        max_tokens=cfg.max_completion_length,
        temperature=cfg.temperature,
        seed=rng.derive(ctx.run.seed, ctx.work.stage),
        error=built_in_error(judge),
        margin=cfg.margin,
    )
    attempts = campaign.run(plan, Journal(ctx.work.path("journal.jsonl")), ctx.say)
    campaign.save(ctx.work.path("redteam.jsonl").parent, plan, attempts)
    summary = campaign.summarise(attempts, plan.header(), error=plan.error, margin=cfg.margin)
    pairs = make_pairs(attempts, hold_out=cfg.hold_out, guards=cfg.guards, seed=plan.seed)
    with ctx.work.path("pairs.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(p.model_dump_json() + "\n" for p in pairs.preferences)
    ctx.work.path("redteam.json").write_text(json.dumps(summary.row(), indent=1), encoding="utf-8")
    ctx.work.path("redteam.md").write_text(summary_markdown(summary), encoding="utf-8")
    write_page(ctx.work.path("redteam.html"), summary, attempts)
    weak = [f.attack for f in summary.findings if f.weakness]
    worst, over = summary.worst, summary.over_refusal
    ctx.say(f"  weaknesses: {', '.join(weak) or 'none'} of {len(summary.findings)} attack families")
    return {
        "attempts": len(attempts),
        "asr": summary.all.asr1.value,
        "worst_asr": worst,
        "over_refusal": over,
        "weaknesses": len(weak),
        **pairs.counts(),
    }


def _model(cfg: RedteamConfig, ctx: Context, field: str, name: str) -> DirectoryAnswerer:
    return DirectoryAnswerer(ctx.inputs[field].location, max_batch=cfg.max_batch, name=name, say=ctx.say)


def _seeds(cfg: RedteamConfig, ctx: Context) -> tuple[list[Seed], list[Transform]]:
    """Seeds, and the wordings that fit them.

    Raises:
        ConfigError: the options of `lab:seeds` are wrong, or a wording needs a model that translates.
    """
    known = {name: t for name, t in TRANSFORMS.items() if not t.translates}  # a stage has no translator
    if cfg.seeds is None:
        return list(own_seeds()), choose(cfg.transforms, known)
    source = ctx.inputs["seeds"]
    if not source.ref.startswith(LAB):
        return read_seeds(source.location), choose(cfg.transforms, known)
    name, _, query = source.ref.removeprefix(LAB).partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    part = options.pop("split", "held_out")
    num = options.pop("num", "60")
    if name != "seeds" or options or not num.isdigit():
        raise ConfigError(
            f"'{source.ref}' are no seeds",
            where=f"{ctx.work.stage}.seeds",
            fix="write e.g. lab:seeds?num=60&split=held_out (train, eval, probe, held_out or all)",
        )
    seeds = lab_seeds(rng.derive(ctx.run.seed, "redteam/seeds"), int(num), part)
    return seeds, choose(cfg.transforms, lab_transforms())
