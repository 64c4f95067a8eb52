"""Graded phantoms in coarse pixels, so that tests of whole studies take seconds."""

from __future__ import annotations

import pytest

from GaussianMRILib.grading.labels import STENOSES, Task
from GaussianMRILib.grading.options import GradingOptions, NetworkOptions
from GaussianMRILib.grading.roi import RegionOptions
from Testing.Experiment import cohort as graded_cohort
from Testing.Experiment.graded import GradedPhantom
from Testing.Experiment.options import ExperimentOptions

RECESS = {side: Task("subarticular_stenosis", side) for side in ("left", "right")}
CANAL = Task("spinal_canal_stenosis")
FORAMEN = {side: Task("neural_foraminal_narrowing", side) for side in ("left", "right")}


def stenosed(seed: int, *bulges: tuple[Task, float], mirrored: bool = False) -> GradedPhantom:
    """A phantom with these bulges (mm) and no others."""
    return GradedPhantom(seed, {**dict.fromkeys(STENOSES, 0.0), **dict(bulges)}, mirrored)


#: Constants of `graded_cohort`: fields of view as they are, 16 times fewer pixels, one sample each.
COARSE = {"PIXEL": 1.72, "SAMPLES": 1, "SAGITTAL_PIXEL": 5.0, "SAGITTAL_FIELD": (20, 20), "NOISE": 0.01}
#: An experiment of seconds on coarse phantoms.
TINY = ExperimentOptions(
    train=6, validation=3, test=5, paired=0.5, seed=3, views=2, resamples=50,
    region=RegionOptions(width=64.0),
    fit={"preset": "fast", "prior": "spline", "gaussians": 400, "passes": 1, "blend": 0.3},
    training=GradingOptions(
        input_size=(16, 32), epochs=1, batch=6, network=NetworkOptions(widen=0.125, layers=1, feed_forward=32)
    ),
)  # fmt: skip


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Phantoms in coarse pixels."""
    for name, value in COARSE.items():
        monkeypatch.setattr(graded_cohort, name, value)
