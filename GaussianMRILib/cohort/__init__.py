"""Many studies: one job each, through any `concurrent.futures.Executor`, resumable."""

from __future__ import annotations

from .run import CohortReport, CohortRow, Outcome, run_cohort, stopping

__all__ = ["CohortReport", "CohortRow", "Outcome", "run_cohort", "stopping"]
