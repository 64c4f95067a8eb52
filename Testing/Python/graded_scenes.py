"""Graded phantoms in coarse pixels, so that tests of whole studies take seconds."""

from __future__ import annotations

import pytest

from GaussianMRILib.grading.labels import TASKS, Task
from GaussianMRILib.grading.phantom import cohort as graded_cohort
from GaussianMRILib.grading.phantom.graded import GradedPhantom

RECESS = {side: Task("subarticular_stenosis", side) for side in ("left", "right")}
FORAMEN = {side: Task("neural_foraminal_narrowing", side) for side in ("left", "right")}


def stenosed(seed: int, *bulges: tuple[Task, float], mirrored: bool = False) -> GradedPhantom:
    """A phantom with these bulges (mm) and no others."""
    return GradedPhantom(seed, {**dict.fromkeys(TASKS, 0.0), **dict(bulges)}, mirrored)


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields of view as they are, 16 times fewer pixels, one sample each."""
    for name, value in {
        "PIXEL": 1.72, "SAMPLES": 1, "SAGITTAL_PIXEL": 5.0, "SAGITTAL_FIELD": (20, 20), "NOISE": 0.01,
    }.items():  # fmt: skip
        monkeypatch.setattr(graded_cohort, name, value)
