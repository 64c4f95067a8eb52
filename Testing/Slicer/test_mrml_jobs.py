"""A fit beside an event loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

from mrml_scenes import bright_point, oblique_plane_node

from GaussianMRILib import GaussianMRIError, mrml
from GaussianMRILib.fitting import Progress
from GaussianMRILib.mrml.jobs import FitJob


class StepwiseFit:
    """A fit that takes each step when it is told to."""

    def __init__(self, steps: int = 3, error: Exception | None = None) -> None:
        self.allowed = threading.Semaphore(0)
        self.steps, self.error, self.taken, self.closed = steps, error, 0, threading.Event()
        self.progress: Progress | None = None
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def __iter__(self) -> Iterator[Progress]:
        try:
            for n in range(self.steps):
                assert self.allowed.acquire(timeout=30)
                self.taken += 1
                if self.error is not None:
                    raise self.error
                if self.cancelled:
                    raise GaussianMRIError("cancelled")
                self.progress = Progress(
                    stage="fitting",
                    fraction=n / self.steps,
                    loss=None,
                    held_out_psnr=21.5 if n else None,
                    elapsed=0.0,
                )
                yield self.progress
        finally:
            self.closed.set()

    @property
    def field(self) -> Any:
        return f"field after {self.taken}"


def until_ended(job: FitJob, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not job.poll():
        assert time.monotonic() < end


def test_a_fit_runs_while_the_caller_goes_on(scene: Any) -> None:
    volume = bright_point(scene)
    job = FitJob(mrml.fitter_from_nodes([volume], passes=2))
    with pytest.raises(GaussianMRIError, match="not ended"):
        job.field()
    job.start()
    longest, polls = 0.0, 0
    while True:
        started = time.perf_counter()
        ended = job.poll(0.02)
        longest, polls = max(longest, time.perf_counter() - started), polls + 1
        if ended:
            break
    assert polls > 3
    assert longest < 0.5  # a moment, not a step of the fit
    assert "100%" in job.describe()
    model = mrml.field_to_model(job.field(), scene=scene, volumes=[volume])
    assert mrml.resample(model, oblique_plane_node(scene)).GetScene() is scene


def test_describe_tells_stage_share_and_error_on_left_out_slices() -> None:
    fit = StepwiseFit()
    job = FitJob(fit)  # type: ignore[arg-type]
    assert "starting" in job.describe()
    job.start()
    fit.allowed.release(2)
    while job.progress is None or job.progress.held_out_psnr is None:
        assert not job.poll(0.01)
    text = job.describe()
    assert "fitting" in text and "33%" in text and "21.5 dB" in text
    fit.allowed.release(1)
    until_ended(job)


def test_cancel_is_immediate_and_the_thread_ends_with_its_step() -> None:
    fit = StepwiseFit()
    job = FitJob(fit)  # type: ignore[arg-type]
    job.start()
    assert not job.poll(0.01)
    job.cancel()
    assert job.poll(10.0) and fit.taken == 0  # although a step is under way
    with pytest.raises(GaussianMRIError, match="cancelled"):
        job.field()
    fit.allowed.release(3)
    assert fit.closed.wait(30) and fit.taken == 1


def test_a_cancelled_fit_ends_within_its_longest_step(scene: Any) -> None:
    job = FitJob(mrml.fitter_from_nodes([bright_point(scene)]))
    job.start()
    while job.progress is None or job.progress.fraction <= 0.02:
        assert not job.poll(0.01)
    job.cancel()
    job._thread.join(5)
    assert not job._thread.is_alive()
    assert job.progress.fraction < 0.9


def test_finish_early_keeps_the_field_as_it_stands() -> None:
    fit = StepwiseFit(steps=100)
    job = FitJob(fit)  # type: ignore[arg-type]
    job.start()
    fit.allowed.release(2)
    while fit.taken < 2:
        assert not job.poll(0.01)
    job.finish_early()
    fit.allowed.release(1)
    until_ended(job)
    assert job.field() == "field after 3"


def test_what_the_fit_raises_reaches_the_caller() -> None:
    fit = StepwiseFit(error=GaussianMRIError("no contrast"))
    job = FitJob(fit)  # type: ignore[arg-type]
    fit.allowed.release(1)
    job.start()
    until_ended(job)
    with pytest.raises(GaussianMRIError, match="no contrast"):
        job.field()
