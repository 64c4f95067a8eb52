"""No end of a series shows as a step: brightness is joined over centimetres, and what is equal stays as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fit_scenes import SAGITTAL, empty_lattice, scan
from scipy.ndimage import gaussian_filter

import GaussianMRILib as gm
from GaussianMRILib.fitting import levels
from GaussianMRILib.fitting.levels import Level, find_levels
from GaussianMRILib.fitting.parts import Part
from GaussianMRILib.gaussians import GaussianLattice


@pytest.fixture(scope="module")
def lattice() -> GaussianLattice:
    return empty_lattice()


def body(points: np.ndarray) -> np.ndarray:
    x, y, z = np.moveaxis(points, -1, 0)
    return 0.5 + 0.1 * np.sin(x / 3) * np.cos(y / 4) + 0.2 * np.sin(z / 30)


def fused(lattice: GaussianLattice, values: list[torch.Tensor], says: list[torch.Tensor]) -> torch.Tensor:
    """The mean of levelled parts."""
    top, bottom = torch.zeros_like(values[0]), torch.zeros_like(values[0])
    for level, value, say in zip(find_levels(lattice, values, says), values, says, strict=True):
        value, say = value.clone(), say.clone()
        for bricks, (gain, base, trust) in level.at_nodes(lattice):
            value[bricks] = value[bricks] * gain + base
            say[bricks] = say[bricks] * trust
        top += say * value
        bottom += say
    return top / bottom.clamp(min=1e-6)


def test_a_brighter_series_ends_without_a_step(lattice: GaussianLattice) -> None:
    points = lattice.points()
    x = points[..., 0]
    truth = torch.from_numpy(body(points)).float()
    says = [torch.ones_like(truth), torch.from_numpy((np.abs(x) < 30).astype(np.float32))]
    result = fused(lattice, [truth, truth + 0.2], says) - truth
    profile = np.array([float(result[np.abs(x - at) < 0.8].mean()) for at in np.arange(-60, 61, 1.5)])
    assert profile.max() > 0.08 and profile.argmax() == pytest.approx(len(profile) / 2, abs=8)  # the mean in the middle
    assert np.abs(profile[[0, 10, -11, -1]]).max() < 0.01
    assert np.abs(np.diff(profile)).max() < 0.02  # without levels .1


def test_a_saturated_band_takes_nothing_from_the_other_series(lattice: GaussianLattice) -> None:
    points = lattice.points()
    dark = 1 - 0.9 / (1 + np.exp(-(points[..., 1] - 25) / 2))  # within some mm, as saturation begins
    truth = torch.from_numpy(body(points)).float()
    band = torch.from_numpy(dark).float()
    says = [torch.ones_like(truth), torch.from_numpy((np.abs(points[..., 0]) < 36).astype(np.float32))]
    result = fused(lattice, [truth, truth * band], says)
    inside = torch.from_numpy((points[..., 1] > 35) & (np.abs(points[..., 0]) < 20))
    left, plain = (float(v[inside].mean() / truth[inside].mean()) for v in (result, (truth + truth * band) / 2))
    assert plain < 0.6 and left > 0.78
    # Its contrast is the bright series', not half of it.
    detail = [float((v - v.mean())[inside].std()) for v in (result, truth)]
    assert detail[0] > 0.85 * detail[1]


def test_equal_series_stay_as_they_are(lattice: GaussianLattice) -> None:
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(body(lattice.points())).float()
    noisy = [truth + torch.from_numpy(rng.normal(0, 0.02, truth.shape)).float() for _ in range(2)]
    says = [torch.ones_like(truth), torch.from_numpy((lattice.points()[..., 2] < 0).astype(np.float32))]
    for level in find_levels(lattice, noisy, says):
        gain, base, trust = level.maps
        assert float(gain.min()) == 1 and float(base.abs().max()) < 0.01
        assert float(trust.min()) > 0.8 and float(trust.mean()) > 0.97
    assert float((fused(lattice, noisy, says) - truth).square().mean().sqrt()) < 0.02


def test_a_part_that_meets_no_other_keeps_its_intensities(lattice: GaussianLattice) -> None:
    truth = torch.from_numpy(body(lattice.points())).float()
    above = torch.from_numpy((lattice.points()[..., 2] > 20).astype(np.float32))
    below = torch.from_numpy((lattice.points()[..., 2] < -20).astype(np.float32))
    for level in find_levels(lattice, [truth, 0.3 * truth], [above, below]):
        assert not list(level.at_nodes(lattice))


def test_planes_nodes_and_back_agree(lattice: GaussianLattice) -> None:
    rng = np.random.default_rng(1)
    maps = torch.from_numpy(rng.uniform(0.5, 1, (3, 6, 7, 8)).astype(np.float32))
    to_map = np.diag([1 / 12, 1 / 13, 1 / 11, 1.0])
    to_map[:3, 3] = (4, 3, 2)
    part = Part.of(scan(slices=4, side=(32, 40)))
    part.level = Level(maps, to_map)
    plane = gm.ImagePlane.from_axes((1.5, 2, 3.75), (1, 0, 0), (0, 1, 0), spacing=(1.5, 1.5), shape=(40, 30))
    values = torch.from_numpy(rng.uniform(0, 1, plane.shape[0] * plane.shape[1]).astype(np.float32))
    shared = part.shared(values.clone(), [plane])
    gain, base, _ = part.level.on_planes([plane])
    torch.testing.assert_close(shared, values * gain + base)
    torch.testing.assert_close(part.own(shared, [plane]), values, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cell_mm, error", [(1.5, 1e-5), (6.0, 2e-3)], ids=["computed at every node", "interpolated"])
def test_nodes_have_the_level_of_their_places(lattice: GaussianLattice, cell_mm: float, error: float) -> None:
    maps = np.random.default_rng(2).uniform(0.4, 1.6, (3, 40, 40, 40)).astype(np.float32)
    for one in maps:  # as smooth as a level is
        gaussian_filter(one, levels.WIDE_MM / levels.CELL_MM, output=one)
    maps = 1 + (maps - 1) * (0.2 / maps.std())
    middle = lattice.points().reshape(-1, 3).mean(axis=0)
    to_map = np.diag([1 / cell_mm] * 3 + [1.0])
    to_map[:3, 3] = 20 - middle / cell_mm
    level = Level(torch.from_numpy(maps.astype(np.float32)), to_map)
    worst, count = 0.0, 0
    for numbers, found in level.at_nodes(lattice):
        points = lattice.points(bricks=numbers.numpy())
        worst = max(worst, float((level.at(points).reshape(found.shape) - found).abs().max()))
        count += len(numbers)
    assert count > 0.5 * len(lattice.nodes) and worst < error


def test_a_fit_shows_no_step_where_a_darkened_series_ends() -> None:
    """Two simulated series, one of them with a saturated band and ending inside the other."""
    axial = scan(slices=16, side=(80, 80))
    sagittal = scan(slices=6, side=(64, 80), axes=SAGITTAL, seed=1)

    def saturated(plane: gm.ImagePlane) -> np.ndarray:
        return 1 - 0.9 / (1 + np.exp(-(plane.points()[..., 1] - 10) / 1.5))

    pixels = [p * saturated(plane) for p, plane in zip(sagittal.pixels, sagittal.planes(), strict=True)]
    dark = replace(sagittal, pixels=np.stack(pixels).astype(np.float32))
    field = gm.fit([axial, dark], blend=0.0, prior="spline", fusion="mean", register=False)
    plane, truth = axial.plane(8), axial.pixels[8]
    image = field.render(plane)
    points = plane.points()
    band = (points[..., 1] > 16) & np.isfinite(image) & (truth > np.percentile(truth, 40))
    inside = band & sagittal.inside(points)
    outside = band & ~sagittal.inside(points)
    assert inside.sum() > 50 and outside.sum() > 50
    ratio = [float(np.median(image[where] / truth[where])) for where in (inside, outside)]
    assert ratio[0] > 0.85 * ratio[1]  # the plain mean: about .55
