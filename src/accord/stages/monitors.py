"""Setting up what looks on while a policy is trained, and the SFT replies that scores are compared with (PAR)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from accord import rng
from accord.diagnose.behaviour import behaviour_set
from accord.diagnose.features import FILE, LEAST_ROWS, fit_space, load_space
from accord.engines.base import Sampling
from accord.errors import RewardError
from accord.pipeline import Context
from accord.stages.configs.base import Probe
from accord.stages.configs.diagnosis import DiagnosisConfig, Shaped
from accord.stages.diagnosing import Monitor, Saturation
from accord.stages.inputs import Watchable
from accord.stages.probe import Panel, encoded_as_fits, panel_of
from accord.train.rollouts import OnPolicy
from accord.train.rounds import EncodedPrompt, References, RolloutSettings, prompts_of, shaped_scores
from accord.types import Rollout

SHOWN = 64
"""Training prompts whose replies are shown at an alarm when there are no held-out ones."""
AT_ONCE = 16
"""Of these in one request: in training the prompts of a round are few and shared; no memory is planned for more."""
FEATURE_REPLIES = 256
"""SFT replies that stand in for the reward model's training replies when it has left nothing of them."""


def monitor_for(  # noqa: PLR0913
    ctx: Context,
    cfg: Probe,
    diagnosis: DiagnosisConfig,
    *,
    replies: OnPolicy,
    tokenizer: Any,
    module: nn.Module,
    sampling: Sampling,
    prompts: Sequence[EncodedPrompt],
    learned: Watchable | None,
    reward_location: str | None,
) -> Monitor | None:
    """Build the monitor of a stage while its policy is still the SFT model; None when it is switched off.

    Args:
        ctx: the running stage.
        cfg: the stage's section.
        diagnosis: its group `diagnosis`.
        replies: where rollouts come from.
        tokenizer: of the policy.
        module: what is trained.
        sampling: of one reply a prompt, as in measurements.
        prompts: held-out ones that are measured; none = no measurements.
        learned: reward model whose inputs are watched; None = there is none, or it reads steps.
        reward_location: its directory.
    """
    if not diagnosis.enabled:
        return None
    parts: dict[str, Any] = {"engine": replies.engine, "sampling": sampling, "policy": replies.policy}
    fixed = panel_of(ctx, prompts or replies.prompts[:SHOWN], "probe", **parts)
    if not prompts:
        fixed = replace(fixed, at_once=AT_ONCE)
    asked = encoded = panel = None
    if diagnosis.behaviour != "none" and prompts:
        seed = rng.derive(ctx.run.seed, ctx.work.stage, "behaviour")
        asked = behaviour_set(diagnosis.behaviour, [p.prompt for p in prompts], seed, diagnosis.behaviour_prompts)
        encoded = encoded_as_fits([a.prompt for a in asked], tokenizer, replies.engine, sampling.max_new_tokens)
        panel = panel_of(ctx, [p for p in encoded if p is not None], "behaviour", **parts)
    return Monitor(
        cfg=diagnosis,
        ctx=ctx,
        replies=replies,
        reward=replies.reward,
        fixed=fixed,
        panel=panel,
        asked=[a if e is not None else None for a, e in zip(asked or (), encoded or (), strict=True)],
        behaviours=asked or (),
        module=module,
        measures=bool(prompts),
        judges=bool(prompts) and (cfg.judge != "none" or cfg.judge_model is not None),
        q99=_watch_inputs(ctx, replies, learned, reward_location, parts),
        saturation=_saturation(replies.settings, replies.references),
    )


def references_for(
    ctx: Context, cfg: Shaped, replies: OnPolicy, *, num_rounds: int, resamples: bool
) -> References | None:
    """Scores of SFT replies to the prompts that training will draw, for PAR; None when it is off.

    Called while the policy is still the SFT model.

    Args:
        ctx: the running stage.
        cfg: the stage's section.
        replies: where rollouts will come from.
        num_rounds: of the run.
        resamples: whether prompts of other rounds may be drawn: then all have SFT replies.

    Raises:
        RewardError: an SFT reply has no score.
    """
    if cfg.reward_shaping != "par":
        return None
    size = replies.settings.num_prompts
    drawn = [p for r in range(num_rounds) for p in prompts_of(replies.prompts, r, size=size, seed=replies.seed)]
    wanted = list({p.ids: p for p in (replies.prompts if resamples else drawn)}.values())
    ctx.say(f"  par: {cfg.par_references} SFT replies to each of {len(wanted)} prompts")
    first = replies.settings.sampling
    sampling = Sampling(first.max_new_tokens, temperature=first.temperature, n=cfg.par_references)
    table: dict[tuple[int, ...], tuple[float, ...]] = {}
    for start in range(0, len(wanted), 512):
        part = wanted[start : start + 512]
        panel = panel_of(ctx, part, f"par {start}", engine=replies.engine, sampling=sampling, policy=replies.policy)
        doubled = tuple(p for p in part for _ in range(cfg.par_references))
        rollouts = Panel(doubled, (), replies.engine, sampling, replies.policy).rollouts(panel.completions())
        scores = [s.value for s in replies.reward(rollouts)]
        if any(s is None for s in scores):
            raise RewardError("an SFT reply has no score, so PAR has nothing to compare with", where=ctx.work.stage)
        known = [s for s in scores if s is not None]
        n = cfg.par_references
        table |= {p.ids: tuple(known[i * n : (i + 1) * n]) for i, p in enumerate(part)}
    return lambda rollout: table[tuple(rollout.prompt_ids)]


def _watch_inputs(
    ctx: Context, replies: OnPolicy, learned: Watchable | None, location: str | None, parts: dict[str, Any]
) -> float | None:
    """Let the reward model measure how far its inputs are from its training; the distance that 1 % exceed."""
    if learned is None or location is None:
        return None
    path = Path(location) / FILE
    if path.is_file():
        space = load_space(path)
    else:
        chosen: Sequence[EncodedPrompt] = replies.prompts[:FEATURE_REPLIES]
        if len(chosen) < LEAST_ROWS:
            return None
        panel = panel_of(ctx, chosen, "features", **parts)
        rollouts = panel.rollouts(panel.completions())
        sequences = [[*r.prompt_ids, *r.completion.token_ids] for r in rollouts]
        space = fit_space(learned.features(sequences, [len(r.completion.token_ids) for r in rollouts]))
        ctx.say("  diagnosis: the reward model left no features of its training; SFT replies take their place")
    learned.distances = space.distances
    return space.q99


def _saturation(settings: RolloutSettings, references: References | None) -> Saturation | None:
    """Scores that are bounded by a clip or PAR, before penalties; None when they are not."""
    if references is None and settings.score_clip is None:
        return None
    plain = RolloutSettings(
        settings.sampling, settings.num_prompts, 1, 1, 0.0, score_clip=settings.score_clip, missing_eos_penalty=None
    )
    clip = settings.score_clip or 0.0

    def shaped(rollouts: Sequence[Rollout]) -> list[float]:
        with torch.no_grad():
            return shaped_scores(rollouts, plain, references)[0].tolist()

    return Saturation(shaped, (-clip, clip) if references is None else (0.0, 1.0))
