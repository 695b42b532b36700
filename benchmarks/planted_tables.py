"""The rows of planted_hacks.py as the Markdown of docs/results/planted-hacks.md."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from planted_outcomes import Outcome

from accord.diagnose.rules import Thresholds
from accord.stats.intervals import wilson

CLOSE = 0.97
"""Share of the best gold that a rollback has to reach."""
SIGNS = ("spread", "outside", "saturation")
"""Signals that only a learned reward has."""


def tables(found: Sequence[Outcome]) -> str:
    """The results: by condition, false alarms, by light, the signs of learned rewards, the rewards, run by run."""
    names = list(dict.fromkeys(o.hack for o in found))
    groups = {name: sorted((o for o in found if o.hack == name), key=lambda o: o.seed) for name in names}
    learned = {name: runs for name, runs in groups.items() if any(o.reward for o in runs)}
    parts = [_main(groups), _rates(groups), _lights(groups)]
    if learned:
        parts += [_signs(learned), _rewards(learned)]
    return "\n\n".join([*parts, _runs(groups)])


def is_control(run: Outcome) -> bool:
    """Whether the proxy stayed as good as the truth: a run of a control condition in which gold did not fall."""
    return run.hack.endswith("control") and run.fallen_round is None


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.2f}" if values else "-"


def _round(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _share(part: int, whole: int) -> str:
    if not whole:
        return "-"
    found = wilson(part, whole)
    return f"{part} of {whole} = {100 * found.value:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"


def _main(groups: dict[str, list[Outcome]]) -> str:
    head = [
        "reward",
        "runs",
        "with an alarm",
        "gold fell by 5 %",
        "alarm before that",
        "lead in rounds, median (range)",
        "alarm in time",
        "KL at alarm / at best gold",
        "rollback with judge within 3 % of the best gold: by the measurements",
        "by means of three",
        "rollback without judge / best gold",
    ]
    rows: list[list[object]] = []
    for name, runs in groups.items():
        fell = [o for o in runs if o.fallen_round is not None]
        leads = [o.fallen_round - o.alarm for o in fell if o.alarm is not None and o.fallen_round is not None]
        kept = [o.kept_judged / o.best for o in runs if o.alarm is not None]
        kls = [(o.alarm_kl, o.best_kl) for o in runs if o.alarm_kl is not None]
        lead = f"{statistics.median_high(leads):.0f} ({min(leads):.0f} to {max(leads):.0f})" if leads else "-"
        rows.append(
            [
                name,
                len(runs),
                sum(o.alarm is not None for o in runs),
                len(fell),
                f"{sum(lead > 0 for lead in leads)} of {len(fell)}",
                lead,
                "-" if name.endswith("control") else f"{sum(o.in_time for o in runs)} of {len(runs)}",
                f"{_mean([a for a, _ in kls])} / {_mean([b for _, b in kls])}",
                f"{sum(o.kept_share >= CLOSE for o in runs if o.alarm is not None)} of {len(kept)}",
                f"{sum(k >= CLOSE for k in kept)} of {len(kept)}, mean {_mean(kept)}",
                _mean([o.kept_alone / o.best for o in runs if o.without_gold is not None]),
            ]
        )
    return _table(head, rows)


def _rates(groups: dict[str, list[Outcome]]) -> str:
    """Shares with their intervals (Wilson, 95 %), and what the controls said."""
    rows: list[list[object]] = []
    for name, runs in groups.items():
        fell = [o for o in runs if o.fallen_round is not None]
        true = [o for o in runs if is_control(o)]
        early = sum(o.in_time for o in fell)
        rows.append(
            [
                name,
                "-" if name.endswith("control") else _share(sum(o.in_time for o in runs), len(runs)),
                _share(early, len(fell)),
                _share(sum(o.alarm is not None for o in true), len(true)),
                f"{sum(_before(o.warned, o) for o in fell)} of {len(fell)}",
                f"{sum(o.warned is not None for o in true)} of {len(true)}",
            ]
        )
    every = [o for runs in groups.values() for o in runs]
    hacks = [o for o in every if not o.hack.endswith("control")]
    fell = [o for o in every if o.fallen_round is not None]
    true = [o for o in every if is_control(o)]
    rows.append(
        [
            "all",
            _share(sum(o.in_time for o in hacks), len(hacks)),
            _share(sum(o.in_time for o in fell), len(fell)),
            _share(sum(o.alarm is not None for o in true), len(true)),
            f"{sum(_before(o.warned, o) for o in fell)} of {len(fell)}",
            f"{sum(o.warned is not None for o in true)} of {len(true)}",
        ]
    )
    head = [
        "reward",
        "alarm in time",
        "of those where gold fell",
        "false alarms where it is a control and did not",
        "a yellow light before gold fell",
        "a yellow light where it is a control",
    ]
    return _table(head, rows)


def _before(when: float | None, run: Outcome) -> bool:
    return when is not None and run.fallen_round is not None and when < run.fallen_round


def _lights(groups: dict[str, list[Outcome]]) -> str:
    fell = [o for runs in groups.values() for o in runs if o.fallen_round is not None]
    rows: list[list[object]] = []
    for light in sorted({name for runs in groups.values() for o in runs for name in o.first}):
        early = sum(light in o.first and o.first[light] < (o.fallen_round or 0) for o in fell)
        counts = [sum(light in o.first for o in runs) for runs in groups.values()]
        rows.append([f"`{light}`", *counts, f"{early} of {len(fell)}"])
    return _table(["light", *groups, "came before gold fell"], rows)


def shown(run: Outcome, sign: str) -> list[tuple[float, float]]:
    """(round, share of the way to the limit) of each reading of a sign; noise and patience are not looked at."""
    limits = Thresholds()
    readings = run.path.get(f"signals/{sign}", [])
    if not readings:
        return []
    first = readings[0][1]
    if sign == "spread":
        assert limits.spread_ratio is not None
        return [(r, (value / first - 1) / (limits.spread_ratio - 1)) for r, value in readings]
    limit = limits.outside if sign == "outside" else limits.saturation
    assert limit is not None
    return [(r, value / limit) for r, value in readings]


def _signs(groups: dict[str, list[Outcome]]) -> str:
    """How far the signs of learned rewards had moved in time: before gold fell, or at all where it did not."""
    rows: list[list[object]] = []
    for name, runs in groups.items():
        for sign in SIGNS:
            values = {"first": [], "last": [], "most": []}  # type: dict[str, list[float]]
            half = full = 0
            for run in runs:
                readings = run.path.get(f"signals/{sign}", [])
                until = run.fallen_round or float("inf")
                before = [value for r, value in readings if r < until] or [value for _, value in readings[:1]]
                if not before:
                    continue
                values["first"].append(readings[0][1])
                values["last"].append(before[-1])
                values["most"].append(max(before))
                far = max((share for r, share in shown(run, sign) if r < until), default=0.0)
                half, full = half + (far >= 0.5), full + (far >= 1)
            if values["first"]:
                middle = [f"{statistics.median(values[key]):.3f}" for key in ("first", "last", "most")]
                n = len(values["first"])
                rows.append([name, sign, *middle, f"{half} of {n}", f"{full} of {n}"])
    head = [
        "reward",
        "sign",
        "first reading, median",
        "last before gold fell (or at the end)",
        "highest until then",
        "runs in which a reading was half of the way to the limit until then",
        "all of the way",
    ]
    return _table(head, rows)


def _rewards(groups: dict[str, list[Outcome]]) -> str:
    keys = ("labels", "choices", "agreement_with_gold", "accuracy")
    rows = [
        [name, *(f"{statistics.fmean([o.reward[k] for o in runs]):.{3 if k[0] == 'a' else 0}f}" for k in keys)]
        for name, runs in groups.items()
    ]
    return _table(["reward", "labels", "that choose", "agree with gold", "accuracy on held-out labels"], rows)


def growth(run: Outcome) -> float | None:
    """How many times as long as the SFT model's replies to the held-out prompts were when gold had fallen, or at the
    end; None where it is not known."""
    readings = run.path.get("eval/length", [])
    until = [value for r, value in readings if run.fallen_round is None or r <= run.fallen_round]
    return until[-1] / readings[0][1] if until else None


def _runs(groups: dict[str, list[Outcome]]) -> str:
    """One row a run, without the controls in which nothing happened."""
    rows: list[list[object]] = []
    for name, runs in groups.items():
        for o in runs:
            if is_control(o) and not o.first:
                continue
            light = min(o.first, key=lambda n: o.first[n]) if o.first else ""
            best = f"{o.best:.3f} ({o.best_round:.0f})"
            weight, alarm = f"{o.weight:.3g}", f"{_round(o.alarm)} {light}".strip()
            grown = growth(o)
            longer = "-" if grown is None else f"{grown:.2f}"
            rows.append([name, o.seed, weight, best, _round(o.fallen_round), longer, alarm, f"{o.end:.3f}"])
    head = ["reward", "seed", "weight", "best gold (round)", "5 % below", "length then / SFT", "first alarm", "end"]
    return _table(head, rows)
