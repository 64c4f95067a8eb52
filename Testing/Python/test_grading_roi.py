"""Regions of interest and planes aligned with a disc."""

from __future__ import annotations

import numpy as np
import pytest
from disc_scenes import linear_scan, made_disc, rotation

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.geometry import ImagePlane, transform_points
from GaussianMRILib.grading.disc import DiscGeometry, angle_degrees
from GaussianMRILib.grading.roi import COLUMNS, COUNT, ROWS, RegionOptions, aligned_planes, region_of


def moved(disc: DiscGeometry, matrix: np.ndarray) -> DiscGeometry:
    """The disc after a rigid motion."""
    return DiscGeometry(
        matrix @ disc.frame,
        transform_points(matrix, disc.posterior),
        transform_points(matrix, disc.anterior),
        disc.sagittal_depth,
        disc.level,
        disc.provenance,
        disc.series_depth,
    )


def test_the_default_region_is_the_papers() -> None:
    disc = made_disc(tilt=30)
    region = region_of(disc)
    assert region.width == 90 and region.height == 45, (
        "twice the depth of the slices that cross the disc; 2:1"
    )
    # Half way between the outermost slices the ellipse's back border is 17 mm behind its middle.
    np.testing.assert_allclose(disc.local(region.reference), [0, 17, 0], atol=1e-9)
    np.testing.assert_array_equal(region.axes, disc.frame[:3, :3])


@pytest.mark.parametrize(("depth", "width"), [("disc", 90), ("series", 120), ("half", 45)])
def test_readings_of_the_depth(depth: str, width: float) -> None:
    assert region_of(made_disc(), RegionOptions(depth=depth)).width == width
    assert region_of(made_disc(), RegionOptions(depth=depth, width=77)).width == 77


def test_readings_of_the_reference_point() -> None:
    disc = made_disc()
    mean = disc.local(region_of(disc, RegionOptions(reference="mean")).reference)
    expected = 17 * np.sqrt(1 - (np.linspace(-20, 20, 9) / 25) ** 2).mean()
    np.testing.assert_allclose(mean, [0, expected, 0], atol=1e-9)
    assert 2.5 < 17 - expected < 4, "in front of the other reading, as the documentation says"
    # Slices that are not centred on the disc: r stays between the outermost ones, on the border there.
    part = made_disc(posterior=disc.posterior[:6], anterior=disc.anterior[:6])
    lateral, depth, _ = part.local(region_of(part).reference)
    assert lateral == pytest.approx(-7.5)
    assert depth == pytest.approx(np.interp(-7.5, np.linspace(-20, 20, 9), disc.local(disc.posterior)[:, 1]))


@pytest.mark.parametrize("row", [0.0, 0.3, 0.5, 1.0])
def test_the_reference_point_lies_in_its_row(row: float) -> None:
    region = region_of(made_disc(), RegionOptions(row=row))
    column, line, height = transform_points(np.linalg.inv(region.plane().ijk_to_ras), region.reference)
    assert column == pytest.approx((COLUMNS - 1) / 2)
    assert (line + 0.5) / ROWS == pytest.approx(row)
    assert height == pytest.approx(0, abs=1e-9)


def test_aligned_planes_lie_as_axial_images_do() -> None:
    disc = made_disc(tilt=35)
    planes = aligned_planes(region_of(disc), spacing=3.0, thickness=2.0)
    assert len(planes) == COUNT and {plane.shape for plane in planes} == {(ROWS, COLUMNS)}
    for plane in planes:
        np.testing.assert_allclose(plane.i_axis, disc.left, atol=1e-12)
        np.testing.assert_allclose(plane.j_axis, disc.back, atol=1e-12)
        np.testing.assert_allclose(plane.normal, disc.normal, atol=1e-12)
        assert plane.spacing == pytest.approx((90 / COLUMNS, 45 / ROWS)) and plane.thickness == 2.0
    heights = [disc.local(plane.center)[2] for plane in planes]
    np.testing.assert_allclose(heights, 3.0 * np.arange(-4, 5), atol=1e-9)
    assert disc.local(aligned_planes(region_of(disc), 3)[0].center)[2] == pytest.approx(-4.0)


def test_the_crop_of_a_slice_lies_in_it_around_the_foot_of_the_reference_point() -> None:
    disc = made_disc(tilt=30)
    region = region_of(disc)
    for turned in (linear_scan().plane(4), linear_scan().plane(4).transformed(np.diag([-1.0, 1, -1, 1]))):
        crop = region.on_plane(turned)
        assert abs(turned.normal @ (crop.points() - turned.origin).reshape(-1, 3).T).max() < 1e-9
        np.testing.assert_allclose(crop.i_axis, [-1, 0, 0], atol=1e-12)
        np.testing.assert_allclose(crop.j_axis, [0, -1, 0], atol=1e-12)
        np.testing.assert_allclose(crop.normal, [0, 0, 1], atol=1e-12)
        assert np.linalg.norm((crop.center - region.reference)[:2]) < 1e-9
        assert crop.spacing == pytest.approx(region.plane().spacing)
        assert crop.thickness == turned.thickness
    aligned = region.on_plane(ImagePlane.from_normal(region.reference + 5 * disc.normal, -disc.normal))
    np.testing.assert_allclose(aligned.ijk_to_ras, region.plane().offset(5).ijk_to_ras, atol=1e-9)


def test_regions_move_with_the_patient() -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(np.array([1.0, 2, 3]), 17)
    matrix[:3, 3] = -40, 25, 60
    disc = made_disc()
    plain, after = region_of(disc), region_of(moved(disc, matrix))
    for a, b in zip(aligned_planes(plain), aligned_planes(after), strict=True):
        np.testing.assert_allclose(b.ijk_to_ras, matrix @ a.ijk_to_ras, atol=1e-9)
    plane = linear_scan().plane(3)
    np.testing.assert_allclose(
        after.on_plane(plane.transformed(matrix)).ijk_to_ras,
        matrix @ plain.on_plane(plane).ijk_to_ras,
        atol=1e-9,
    )
    assert angle_degrees(after.axes[:, 2], plain.axes[:, 2]) > 4


def test_what_cannot_be_a_region() -> None:
    with pytest.raises(GaussianMRIError, match="does not know the depth of a sagittal series"):
        region_of(made_disc(series_depth=None), RegionOptions(depth="series"))
    for options in ({"depth": "all"}, {"reference": "top"}, {"width": 0.0}, {"spacing": -1.0}, {"row": 1.2}):
        with pytest.raises(GaussianMRIError):
            RegionOptions(**options)
    with pytest.raises(GaussianMRIError, match="stands on the disc"):
        region_of(made_disc()).on_plane(ImagePlane.from_normal((0, 0, 0), (1, 0, 0)))
    assert RegionOptions(**RegionOptions(depth="half", width=60).to_dict()) == RegionOptions(
        depth="half", width=60
    )
