"""Sample sizes as text."""

from __future__ import annotations

from accord.errors import ConfigError
from accord.stats.power import Design, comparisons_needed, minimum_detectable, power_of

_RATES = (0.51, 0.525, 0.55, 0.575, 0.6, 0.65)


def size_table(design: Design, win_rate: float | None, labels: int | None) -> str:
    """Return what a design needs and can show.

    Args:
        design: how labels are collected and tested.
        win_rate: only this one; None = the usual ones.
        labels: how many there are; None = not known.

    Raises:
        ConfigError: a win rate that so many ties do not allow.
    """
    lines = [
        f"two-sided test at {design.level:g}, power {design.power:.0%}, ties {design.ties:.0%}; "
        f"{design.labels_per_prompt:g} labels a prompt with correlation {design.icc:g}: "
        f"design effect {design.effect:.2f}",
        "",
        f"{'true win rate':>14}  {'labels needed':>13}  {'prompts':>8}"
        + ("  found with these labels" if labels else ""),
    ]
    for rate in (win_rate,) if win_rate is not None else _RATES:
        try:
            needed = comparisons_needed(rate, design)
            found = f"  {power_of(rate, labels, design):.0%}" if labels else ""
        except ValueError as error:
            raise ConfigError(
                str(error), where="--win-rate and --ties", fix="give a rate nearer to one half"
            ) from error
        prompts = -(-needed // design.labels_per_prompt)
        lines.append(f"{rate:>14.1%}  {needed:>13,}  {prompts:>8,.0f}{found}")
    if labels:
        least = minimum_detectable(labels, design)
        told = "nothing" if least is None else f"a win rate of {least:.1%} (or {1 - least:.1%})"
        lines += ["", f"{labels:,} labels can show {told}; smaller differences will mostly be missed"]
    return "\n".join(lines)
