"""The report of a run: one self-contained HTML file, made from the files in the run directory."""

from accord.report.page import write_report

__all__ = ["write_report"]
