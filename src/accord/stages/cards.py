"""Model cards: what a saved model is, what it was made from and how well it did, in Hugging Face's form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accord import __version__
from accord.models import checkpoint
from accord.pipeline import Context


def model_card(what: str, ctx: Context, *, method: str, metrics: Mapping[str, Any], tags: tuple[str, ...] = ()) -> str:
    """Write the card of a model made by the running stage.

    Args:
        what: "reward model", "policy", ...
        ctx: the running stage; gives name, fingerprint and inputs.
        method: algorithm, with paper.
        metrics: final numbers.
        tags: further tags.
    """
    lineage = "\n".join(
        f"- `{field}`: {value.ref}" + (f" ({value.artifact.dir.name})" if value.artifact else "")
        for field, value in ctx.inputs.items()
    )
    numbers = "\n".join(
        f"| {name} | {value:.6g} |" if isinstance(value, float) else f"| {name} | {value} |"
        for name, value in metrics.items()
        if isinstance(value, (int, float, str))
    )
    body = (
        f"Made by Accord {__version__}, stage `{ctx.work.stage}`, fingerprint `{ctx.work.fingerprint}`.\n\n"
        f"Method: {method}.\n\n## Made from\n\n{lineage}\n\n## Numbers\n\n| metric | value |\n|---|---|\n{numbers}\n"
    )
    return checkpoint.model_card(title=f"{ctx.run.name}: {what}", body=body, tags=tags)
