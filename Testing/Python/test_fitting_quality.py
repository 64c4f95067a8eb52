"""What a field's report says of its quality: of all series together where that was measured, else of which one."""

from __future__ import annotations

from typing import Any

import pytest
from fit_scenes import scan

import GaussianMRILib as gm
from GaussianMRILib.fitting.quality import Quality, why_unmeasured

HELD = {"stack": "sagittal", "slices": 1, "psnr_db": 19.8, "spline_psnr_db": 18.4}
STACKS = [{"name": "axial"}, {"name": "sagittal"}]
SCORES = {"mean": 25.9, "joint": 26.6, "axial alone": 21.4, "sagittal alone": 20.3}


def report(method: str, part: str | None = None) -> dict[str, Any]:
    fusion = {"method": method, "part": part, "left_out_slices": 8, "psnr_db": SCORES}
    return {"preset": "fast", "stacks": STACKS, "fusion": fusion, "held_out": HELD}


def test_a_fused_field_has_the_figure_of_all_its_series() -> None:
    assert Quality.of(report("joint")) == Quality(26.6, 8, "axial alone", 21.4)
    assert Quality.of(report("alone", "sagittal")) == Quality(20.3, 8, "axial alone", 21.4)


def test_where_nothing_says_how_good_they_are_together_the_probed_series_is_named() -> None:
    unjudged = {**report("mean"), "fusion": {"method": "mean", "note": "nothing says whether that helps"}}
    probe = Quality(19.8, 1, "cubic spline", 18.4, "sagittal")
    assert Quality.of(unjudged) == probe
    assert Quality.of({"stacks": STACKS, "held_out": HELD}) == probe  # the way to fuse was given
    assert Quality.of({"stacks": STACKS[1:], "held_out": HELD}) == Quality(19.8, 1, "cubic spline", 18.4)


@pytest.mark.parametrize(
    "options, why",
    [
        ({}, "there are too few slices to leave any out"),
        ({"blend": 0.0}, "no slices were left out"),
    ],
)
def test_what_was_not_measured_says_why(options: dict[str, Any], why: str) -> None:
    few = scan(slices=6, side=(16, 16))
    for progress in (fitter := gm.Fitter(few, **options)):
        if progress.stage == "fitting to slices":
            break
    assert Quality.of(fitter.field.report) is None and progress.held_out_psnr is None
    assert why_unmeasured(fitter.field.report) == why
    assert why_unmeasured({"preset": "paper"}) == "the preset paper leaves no slices out"
