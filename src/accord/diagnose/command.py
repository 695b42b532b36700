"""`accord diagnose RUN`: traffic lights, alarms and the most suspicious replies, in a terminal or as JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from accord.diagnose.hackability import Hackability
    from accord.diagnose.runs import LightNow, StageDiagnosis

RED_EXIT = 10
"""Exit code when the worst light is at least `--fail-on`: apart from those of errors, 1 to 9, and of waiting, 75."""
_LEVELS = ("green", "yellow", "red")


def diagnose(
    run: Annotated[Path, typer.Argument(help="runs/<name>, or the directory of one stage", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    fail_on: Annotated[
        Literal["red", "yellow", "never"], typer.Option(help=f"exit with {RED_EXIT} from this light on")
    ] = "red",
    samples: Annotated[int, typer.Option(min=0, help="suspicious replies shown for each alarm")] = 2,
) -> None:
    """Say whether training has begun to exploit the reward: lights, alarms, gold against proxy.

    Works on a run that is finished, running or killed. Of best-of-n stages it says whether the reward model can be
    gamed, before any policy is trained on it. Exits with 10 when a light is red.
    """
    from accord.diagnose import runs

    found = runs.diagnose_run(run)
    if as_json:
        typer.echo(json.dumps(runs.as_json(found), indent=1))
    else:
        for name, reward in found.reward_models.items():
            for line in _of_reward(name, reward):
                typer.echo(line)
        for stage in found.stages:
            for line in _of_stage(stage, samples):
                typer.echo(line)
    if fail_on != "never" and _LEVELS.index(found.light) >= _LEVELS.index(fail_on):
        raise typer.Exit(RED_EXIT)


def _of_stage(stage: StageDiagnosis, samples: int) -> Iterator[str]:
    from accord.diagnose.record import read_suspects

    state = "finished" if stage.finished else "not finished"
    light = stage.light.upper() if stage.recorded or stage.lights else "NOT WATCHED"
    yield f"{stage.stage} ({state}, step {stage.step}): {light}"
    if not stage.recorded:
        yield (
            "  only signals of its metric log are known"
            if stage.lights
            else "  no signal of its metric log has a light"
        )
    for one in stage.lights:
        if one.light != "green":
            yield f"  {one.light:<7} {one.rule:<16} {_numbers(one):<60} {one.says}"
    if stage.lights:
        yield f"  green   {', '.join(one.rule for one in stage.lights if one.light == 'green') or 'none'}"
    if stage.path:
        yield f"  gold    {_gold(stage)}"
    if stage.rolled_back_to is not None:
        yield f"  rolled back to the weights of step {stage.rolled_back_to}"
    for alarm in stage.alarms:
        yield f"  alarm   {alarm.get('says') or alarm['rule']}"
        for row in read_suspects(stage.directory, alarm)[:samples]:
            yield f"    asked  {_short(_question(row.get('prompt')))}"
            yield f"    policy {_short(row.get('reply'))}"
            yield f"    sft    {_short(row.get('sft_reply'))}"


def _numbers(one: LightNow) -> str:
    said: list[str] = []
    for signal, (scale, limit) in one.limits.items():
        now, sft = one.now.get(signal, math.nan), one.sft.get(signal, math.nan)
        text = f"{signal} {now:.3g}"
        more = f"limit {limit:.3g}" if scale == "level" else f"sft {sft:.3g}, {scale} {limit:.3g}"
        said.append(f"{text} ({more})")
    return ", ".join(said)


def _gold(stage: StageDiagnosis) -> str:
    best = max(stage.path, key=lambda p: p.gold)
    last = stage.path[-1]
    said = (
        f"{stage.path[0].gold:.3f} at the start, best {best.gold:.3f} at step {best.step} (KL {best.kl:.2f}), "
        f"now {last.gold:.3f} (KL {last.kl:.2f})"
    )
    peak = None if stage.curve is None else stage.curve.peak
    if peak is None or not math.isfinite(peak.kl):
        return said
    return f"{said}; the fitted curve peaks at KL {peak.kl:.3g}, R2 {stage.curve.r2:.2f}" if stage.curve else said


def _of_reward(name: str, found: Hackability) -> Iterator[str]:
    yield f"{name}: the reward model {found.verdict.upper()}: {found.says}"
    for point in found.points:
        judged = "" if point.judged is None else f"   judged {point.judged.value:.3f} +- {point.judged.error:.3f}"
        yield f"  best of {point.n:<4} KL <= {point.kl:.2f}   score {point.proxy.value:.3f}{judged}"
    for feature, found_r in sorted(found.paid_for.items(), key=lambda item: -abs(item[1].r)):
        before, after = found.growth[feature]
        mark = "pays for" if feature in found.gamed_by else "        "
        yield f"  {mark} {feature:<12} r {found_r.r:+.2f} +- {found_r.error:.2f}   mean {before:.3g} -> {after:.3g}"


def _question(prompt: object) -> str:
    last = prompt[-1] if isinstance(prompt, list) and prompt else {}
    return str(last.get("content", "")) if isinstance(last, dict) else ""


def _short(text: object, limit: int = 160) -> str:
    """One line that holds no control characters: replies come from a model."""
    line = " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in str(text or "")).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
