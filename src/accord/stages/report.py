"""Stage: the run as one self-contained HTML page."""

from __future__ import annotations

from typing import Any

from accord.pipeline import Context
from accord.report import write_report
from accord.stages.configs import ReportConfig


def run(_: ReportConfig, ctx: Context) -> dict[str, Any]:
    """Write `report.html` from the files of the run."""
    path = write_report(ctx.work.run_dir, ctx.work.path("report.html"))
    return {"bytes": path.stat().st_size}
