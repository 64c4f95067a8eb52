"""The benchmark of ClipGS has the paper's setting in proportion."""

from __future__ import annotations

import pytest

from GaussianMRILib.cinematic.options import CLIPPINGS
from Testing.Benchmarks.cinematic_clipgs import METHODS, SPLATS, TITLES, TRAIN, options_of


def test_its_setting_is_the_paper_s_scaled_down() -> None:
    for method in CLIPPINGS:
        o = options_of(method, 1, False)
        assert o.second_step / o.first_step == pytest.approx(33 / 7) and o.iterations == 4000
        assert o.densify_until / o.iterations == 15_000 / 40_000 and o.opacity_reset == 300
        assert (o.start, o.densify, o.splats, o.cap, o.ssim_weight) == ("random", "3dgs", SPLATS, SPLATS, 0.2)
        assert o.method == method and o.seed == 1
    assert TRAIN >= 300 and set(METHODS) == {*CLIPPINGS, "face"} == set(TITLES)
