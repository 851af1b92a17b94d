"""A report on a store: one page of HTML that needs no network."""

from __future__ import annotations

from eegstore.report.writing import MAX_TRIALS, report

__all__ = ["MAX_TRIALS", "report"]
