"""One scale for several series: gain, offset and shading are found, applied alike on planes and nodes, and undone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fit_scenes import SAGITTAL, empty_lattice, scan

import GaussianMRILib as gm
from GaussianMRILib.fitting.intensities import Scale, find_scale
from GaussianMRILib.fitting.lattice import lattice_of_volume
from GaussianMRILib.fitting.left_out import Judge
from GaussianMRILib.fitting.parts import Part
from GaussianMRILib.gaussians import GaussianLattice
from GaussianMRILib.volumes import spline_volume


def coil(points: np.ndarray) -> np.ndarray:
    """A sensitivity of .7 to 1.3 along a slanting direction."""
    return 1 + 0.3 * np.sin((points @ (0.5, 0.3, -0.8)) / 40)


def body(points: np.ndarray) -> np.ndarray:
    x, y, z = np.moveaxis(points, -1, 0)
    return 0.5 + 0.2 * np.sin(x / 7) * np.cos(y / 9) + 0.2 * np.sin(z / 8)


@pytest.fixture(scope="module")
def lattice() -> GaussianLattice:
    return empty_lattice()


def test_gain_offset_and_shading_are_found(lattice: GaussianLattice) -> None:
    points = lattice.points()
    truth = body(points)
    # What a coil makes of it: own = (truth - .1) / (1.6 coil) - .05, so truth = 1.6 coil (own + .05) + .1.
    own = torch.from_numpy((truth - 0.1) / (1.6 * coil(points)) - 0.05).float()
    reference, both = torch.from_numpy(truth).float(), torch.ones(own.shape, dtype=torch.bool)
    plain = find_scale(own, reference, both, lattice, shading=False)
    shaded = find_scale(own, reference, both, lattice, shading=True)
    assert plain is not None and plain.knots is None and shaded is not None and shaded.knots is not None
    left = [float((s.of_nodes(own, lattice) - reference).square().mean().sqrt()) for s in (plain, shaded)]
    assert left[0] > 0.05 and left[1] < 0.012
    found = shaded.factor(points.reshape(-1, 3)[::997]).numpy()
    expected = coil(points.reshape(-1, 3)[::997])
    ratio = found / expected
    assert np.abs(ratio / ratio.mean() - 1).max() < 0.15 and np.std(ratio / ratio.mean()) < 0.05


def test_without_shading_none_is_invented(lattice: GaussianLattice) -> None:
    truth = body(lattice.points())
    rng = np.random.default_rng(0)
    own = torch.from_numpy(0.5 * truth - 0.1 + rng.normal(0, 0.02, truth.shape)).float()
    both = torch.ones(own.shape, dtype=torch.bool)
    scale = find_scale(own, torch.from_numpy(truth).float(), both, lattice, shading=True)
    assert scale is not None and scale.knots is not None
    assert 0.95 < float(scale.knots.min()) and float(scale.knots.max()) < 1.05
    assert scale.gain == pytest.approx(2.0, rel=0.05)


def test_too_little_in_common_gives_no_scale(lattice: GaussianLattice) -> None:
    values = torch.rand(lattice.nodes.shape)
    both = torch.zeros(values.shape, dtype=torch.bool)
    both[0, 0, 0] = True
    assert find_scale(values, values, both, lattice, shading=True) is None
    both[:] = True
    assert find_scale(torch.zeros_like(values), values, both, lattice, shading=False) is None


def test_nodes_planes_and_back_agree(lattice: GaussianLattice) -> None:
    rng = np.random.default_rng(1)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, 5)] * 3, indexing="ij")
    knots = torch.from_numpy((1 + 0.1 * x - 0.2 * y + 0.05 * z).astype(np.float32))
    scale = Scale(gain=1.7, offset=-0.2, knots=knots, first=np.array([-80.0, -80, -70]), own_offset=0.1)
    planes = [
        gm.ImagePlane.from_normal((3, -4, 5), (0.2, 0.5, 0.8), spacing=(1.1, 0.9), shape=(71, 53)),
        gm.ImagePlane.from_normal((300, 0, 0), (1, 0, 0), spacing=(1, 1), shape=(1, 9)),  # beyond all knots
    ]
    points = np.concatenate([plane.points().reshape(-1, 3) for plane in planes])
    values = torch.from_numpy(rng.uniform(0, 1, len(points)).astype(np.float32))
    shared = scale.of_planes(values, planes)
    exact = 1.7 * scale.factor(points) * (values + 0.1) - 0.2
    torch.testing.assert_close(shared, exact, atol=1e-5, rtol=1e-5)
    assert scale.factor(np.array([[300.0, 0, 10]]))[0] == scale.factor(np.array([[80.0, 0, 10]]))[0]
    torch.testing.assert_close(scale.back_on_planes(shared, planes), values, atol=1e-5, rtol=1e-5)
    nodes = torch.rand(lattice.nodes.shape)
    exact = 1.7 * scale.factor(lattice.points().reshape(-1, 3)).reshape(nodes.shape) * (nodes + 0.1) - 0.2
    torch.testing.assert_close(scale.of_nodes(nodes, lattice), exact, atol=1e-4, rtol=1e-4)


def by_spline(part: Part) -> None:
    for block in part.blocks:
        part.lattices.append(lattice_of_volume(spline_volume(block), part.low, part.high))


def test_left_out_slices_see_shading() -> None:
    """Of a shaded stack, with a larger body than one knot, the slices are predicted better with a smooth gain."""
    axial = scan(slices=16, side=(80, 80))
    sagittal = scan(slices=16, side=(64, 80), axes=SAGITTAL, seed=1)
    shaded = replace(
        sagittal,
        pixels=np.stack(
            [pixels * coil(plane.points()) for pixels, plane in zip(sagittal.pixels, sagittal.planes(), strict=True)]
        ).astype(np.float32),
    )

    def score(stacks: list[gm.SliceStack], shading: bool) -> float:
        judge = Judge.of(stacks, by_spline, 0)
        assert judge is not None
        verdict = judge.verdict(("mean",), shading=shading, levels=False)
        return verdict.psnr[verdict.choice]

    assert score([axial, shaded], True) > score([axial, shaded], False) + 0.2
    report = gm.fit([axial, shaded], blend=0.0, prior="spline", fusion="mean", register=False).report["shading"]
    least, most = report["gain"]["array"]
    assert report["corrected"] and 0.6 < least < 0.95 < 1.05 < most < 1.6
    # Without shading one gain is better, and left-out slices say so.
    assert score([axial, sagittal], False) > score([axial, sagittal], True)
