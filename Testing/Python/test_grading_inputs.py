"""Network inputs: which slices, where, how bright, and that left is left."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from disc_scenes import linear_scan, linear_signal, made_disc, true_frame

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.geometry import ImagePlane
from GaussianMRILib.grading.disc import DiscGeometry
from GaussianMRILib.grading.inputs import (
    ALIGNED_DEGREES,
    GradingInput,
    acquired_input,
    alignment_degrees,
    normalised,
    resampled_input,
    vertebral_median,
)
from GaussianMRILib.grading.roi import COLUMNS, COUNT, ROWS, RegionOptions, region_of
from GaussianMRILib.phantom import Phantom, Scan, acquire
from GaussianMRILib.phantom.dicom import Study, write_series
from GaussianMRILib.stacks import SliceStack, read_stacks

CENTER = (3.0, -10.0, 20.0)
ONE = 2000.0  # median at which the linear scan stays below 2 after scaling


def expected(result: GradingInput, slot: int) -> np.ndarray:
    return linear_signal(result.planes[slot].points()) / ONE * 0.5 / 2


def inside(result: GradingInput, slot: int, stack: SliceStack) -> np.ndarray:
    """Pixels well inside the nearest slice, where a cubic spline of a linear function is exact."""
    index = result.planes[slot].points() @ np.linalg.inv(stack.ijk_to_ras[0])[:2, :3].T
    index = index + np.linalg.inv(stack.ijk_to_ras[0])[:2, 3]
    rows, columns = stack.shape[1:]
    return ((index > 6) & (index < [columns - 7, rows - 7])).all(axis=-1)


# ---- acquired slices ---------------------------------------------------------------------------------------


def test_type_follows_from_the_angle() -> None:
    disc = made_disc(tilt=30)
    assert alignment_degrees(disc, linear_scan(30)) == pytest.approx(0, abs=1e-6)
    assert alignment_degrees(disc, linear_scan(0)) == pytest.approx(30)
    assert acquired_input(disc, linear_scan(30), median=ONE).input_type == "A"
    assert acquired_input(disc, linear_scan(30 - ALIGNED_DEGREES + 0.1), median=ONE).input_type == "A"
    assert acquired_input(disc, linear_scan(30 - ALIGNED_DEGREES - 0.1), median=ONE).input_type == "N"
    assert acquired_input(disc, linear_scan(0), median=ONE, aligned_degrees=31).input_type == "A"


@pytest.mark.parametrize("tilt", [0.0, 30.0])
def test_nine_slices_show_what_the_scan_has_there(tilt: float) -> None:
    disc, stack = made_disc(tilt=30), linear_scan(tilt)
    result = acquired_input(disc, stack, median=ONE)
    assert result.mask.all() and result.images.shape == (COUNT, ROWS, COLUMNS)
    assert result.images.dtype == np.float32 and result.facts["slices"] == 9
    assert json.loads(json.dumps(result.facts)) == result.facts
    for slot in range(COUNT):
        kept = inside(result, slot, stack)
        assert kept.mean() > 0.9
        np.testing.assert_allclose(result.images[slot][kept], expected(result, slot)[kept], atol=1e-4)
    heights = [(p.center - region_of(disc).reference) @ p.normal for p in result.planes]
    np.testing.assert_allclose(np.diff(heights), 4.5, atol=1e-9)
    assert abs(heights[4]) <= 2.25 + 1e-9, "the nearest in the middle"
    # The signal rises to the left and to the back.
    assert (np.diff(result.images[4].mean(axis=0)[30:-30]) > 0).all()
    assert (np.diff(result.images[4].mean(axis=1)[10:-10]) > 0).all()


def test_the_order_of_slices_does_not_matter() -> None:
    stack = linear_scan(30)
    shuffled = stack.subset(np.random.default_rng(3).permutation(len(stack.pixels)))
    a, b = (acquired_input(made_disc(30), s, median=ONE) for s in (stack, shuffled))
    np.testing.assert_allclose(a.images, b.images, atol=1e-6)
    flipped = SliceStack.from_array(stack.pixels[::-1], stack.ijk_to_ras[::-1], thickness=4.0)
    np.testing.assert_allclose(a.images, acquired_input(made_disc(30), flipped, median=ONE).images, atol=1e-6)


def test_however_the_image_is_stored_left_is_at_larger_columns() -> None:
    stack = linear_scan(0)
    plain = acquired_input(made_disc(), stack, median=ONE)
    poses = stack.ijk_to_ras.copy()
    poses[:, :3, 3] += poses[:, :3, 0] * 159
    poses[:, :3, 0] *= -1
    mirrored = SliceStack.from_array(stack.pixels[:, :, ::-1], poses, thickness=4.0)
    np.testing.assert_allclose(
        acquired_input(made_disc(), mirrored, median=ONE).images, plain.images, atol=1e-5
    )


@pytest.mark.parametrize(
    ("first", "count", "slots"), [(5, 4, (2, 6)), (7, 3, (4, 7)), (2, 6, (0, 6)), (7, 1, (4, 5))]
)
def test_fewer_slices_are_padded(first: int, count: int, slots: tuple[int, int]) -> None:
    """Slice 7 of 15 is the nearest; it stays in the middle as far as that is possible."""
    disc = made_disc(tilt=0, center=CENTER)
    stack = linear_scan(0)
    part = stack.subset(range(first, first + count))
    result = acquired_input(disc, part, median=ONE)
    assert np.flatnonzero(result.mask).tolist() == list(range(*slots))
    assert (result.images[~result.mask] == 0).all() and (
        result.images[result.mask].mean(axis=(1, 2)) > 0
    ).all()
    whole = acquired_input(disc, stack, median=ONE)
    shown = [round(float(p.center[2]), 6) for p in result.planes]
    available = [round(float(part.plane(k).center[2]), 6) for k in range(count)]
    assert shown[slots[0] : slots[1]] == available
    assert set(shown) == set(available), "padding repeats the geometry of what is there"
    slot = int(np.argmin([abs(p.center[2] - CENTER[2]) + 99 * (not m)
                          for p, m in zip(result.planes, result.mask, strict=True)]))  # fmt: skip
    np.testing.assert_array_equal(result.images[slot], whole.images[4])


def test_share_outside_the_scan() -> None:
    disc = made_disc(tilt=0, center=CENTER)
    # 60 mm wide, 80 mm deep, centred on the disc: a third of the crop's 90 mm lies beside it.
    result = acquired_input(disc, linear_scan(0, shape=(80, 60)), median=ONE)
    assert result.outside == pytest.approx(1 / 3, abs=0.01)
    assert (result.images[:, :, :36] == 0).all() and (result.images[:, :, 38:186] > 0).all()
    assert acquired_input(disc, linear_scan(0), median=ONE).outside == 0
    with pytest.raises(GaussianMRIError, match="100% of it lies outside"):
        acquired_input(made_disc(tilt=0, center=(3, 190, 20)), linear_scan(0), median=ONE)


def test_slices_that_do_not_show_the_disc() -> None:
    with pytest.raises(
        GaussianMRIError, match=r"no slice lies within 30 mm of L5/S1; the nearest is 6[89] mm"
    ):
        acquired_input(made_disc(tilt=0, center=(3, -10, 120)), linear_scan(0), median=ONE)
    far = made_disc(tilt=0, center=(3, -10, 120), file="my/discs.json")
    with pytest.raises(GaussianMRIError, match=r"within 30 mm of L5/S1 \(my/discs\.json\); the nearest is"):
        acquired_input(far, linear_scan(0), median=ONE)
    near = RegionOptions(reach=5.0)
    assert acquired_input(made_disc(tilt=0, center=CENTER), linear_scan(0), near, median=ONE).count == 3
    planes = ImagePlane.from_axes(CENTER, [0, -1, 0], [0, 0, -1], spacing=(1, 1), shape=(60, 60)).stack(9, 4)
    poses = np.stack([plane.ijk_to_ras for plane in planes])
    with pytest.raises(GaussianMRIError, match=r"L5/S1 \(d\.json\): The slice stands on the disc; only axial"):
        acquired_input(
            made_disc(file="d.json"),
            SliceStack.from_array(np.zeros((9, 60, 60)), poses, thickness=4.0),
            median=ONE,
        )


# ---- intensities -------------------------------------------------------------------------------------------


def vertebrae(disc: DiscGeometry, stack: SliceStack, above: float, below: float) -> SliceStack:
    """Disc 900, what lies above and below it two other values."""
    height = disc.local(np.stack([plane.points() for plane in stack.planes()]))[..., 2]
    pixels = np.where(np.abs(height) < 5, 900.0, np.where(height > 0, above, below))
    return SliceStack.from_array(pixels, stack.ijk_to_ras, thickness=4.0, name="slab")


@pytest.mark.parametrize("tilt", [0.0, 30.0])
def test_vertebral_median_is_that_of_both_vertebrae(tilt: float) -> None:
    disc = made_disc(tilt=30)
    assert vertebral_median(vertebrae(disc, linear_scan(tilt), 200, 200), disc) == 200
    assert 100 < vertebral_median([vertebrae(disc, linear_scan(tilt), v, v) for v in (100, 101)], disc) < 101
    both = vertebrae(disc, linear_scan(tilt), 300, 100)
    assert 100 <= vertebral_median(both, disc) <= 300, "never the disc's 900"
    assert vertebral_median(both.subset(range(7, 15)), disc) == 300
    assert vertebral_median(both.subset(range(8)), disc) == 100


def test_no_vertebra_no_median() -> None:
    disc = made_disc(tilt=30)
    slab = vertebrae(disc, linear_scan(30, count=3, spacing=3.0), 200, 200)
    with pytest.raises(GaussianMRIError, match="slab: only 0 pixels show the vertebrae beside L5/S1"):
        acquired_input(disc, slab)
    assert acquired_input(disc, slab, median=200.0).count == 3
    with pytest.raises(GaussianMRIError, match="median intensity of 0"):
        vertebral_median(vertebrae(disc, linear_scan(30), 0, 0), disc)


def test_intensities_are_scaled_by_the_median() -> None:
    raw = np.array([[0, 100, 200, 800, 5000, -50, np.nan]], dtype=np.float32)
    np.testing.assert_allclose(normalised(raw, 200.0), [[0, 0.125, 0.25, 1, 1, 0, 0]])
    disc = made_disc(tilt=30)
    for gain in (1.0, 7.5):
        stack = vertebrae(disc, linear_scan(30), 200, 200)
        scaled = SliceStack.from_array(stack.pixels * gain, stack.ijk_to_ras, thickness=4.0)
        result = acquired_input(disc, scaled)
        assert result.facts["vertebral_median"] == pytest.approx(200 * gain)
        assert result.images[0].max() == pytest.approx(0.25) and result.images[4].max() == pytest.approx(1.0)


def test_what_is_no_input_is_refused() -> None:
    plane = region_of(made_disc()).plane()
    images, mask = np.zeros((9, ROWS, COLUMNS), np.float32), np.ones(9, bool)
    GradingInput(images, mask, (plane,) * 9, "A", 0.0)
    for bad in (
        (images[:8], mask, (plane,) * 9, "A", 0.0),
        (images, mask, (plane,) * 8, "A", 0.0),
        (images + 1.5, mask, (plane,) * 9, "A", 0.0),
        (images, ~mask, (plane,) * 9, "A", 0.0),
        (images, mask, (plane,) * 9, "B", 0.0),
        (images, mask, (plane,) * 9, "A", 1.5),
    ):
        with pytest.raises(GaussianMRIError):
            GradingInput(*bad)


# ---- resampled planes --------------------------------------------------------------------------------------


def test_voxel_interpolation_of_straight_slices_on_the_disc() -> None:
    disc, stack = made_disc(tilt=30, sagittal_depth=30.0), linear_scan(0, shape=(80, 90))
    told: list[float] = []
    result = resampled_input(
        disc,
        stack,
        "R-VI",
        RegionOptions(spacing=3.0),
        median=ONE,
        progress=lambda done, what: told.append(done),
    )
    assert result.input_type == "R-VI" and result.mask.all() and result.outside == 0
    assert result.facts["alignment_degrees"] == pytest.approx(30) and result.facts["spacing_mm"] == 3.0
    assert result.facts["thickness_mm"] == 0.0
    np.testing.assert_allclose(result.planes[4].normal, disc.normal, atol=1e-9)
    for slot in (0, 4, 8):
        # The nearest of eight voxels weigh more: within a voxel of the truth, 3 per mm.
        assert np.abs(result.images[slot] - expected(result, slot)).max() < 3 / ONE * 0.25
    assert told == sorted(told) and told[-1] == pytest.approx(1.0)


def test_planes_of_another_series_and_planes_beyond_the_scan() -> None:
    disc = made_disc(tilt=30)
    aligned = acquired_input(disc, linear_scan(30), median=ONE)
    result = resampled_input(disc, linear_scan(0), "R-VI", planes=aligned.planes[3:6], median=ONE)
    assert np.flatnonzero(result.mask).tolist() == [3, 4, 5]
    for a, b in zip(result.planes[3:6], aligned.planes[3:6], strict=True):
        np.testing.assert_array_equal(a.ijk_to_ras, b.ijk_to_ras)
    both = (result.images > 0) & (aligned.images > 0)
    assert np.abs(result.images - aligned.images)[both].max() < 2e-3
    few = resampled_input(
        disc, linear_scan(0, count=5, shape=(60, 60)), "R-VI", RegionOptions(spacing=8.0), median=ONE
    )
    assert 0.2 < few.outside < 0.9, "counted over all nine planes"
    assert 1 <= few.count < 9 and few.facts["slices"] == few.count
    assert [(image > 0).any() for image in few.images] == few.mask.tolist()


def test_a_field_renders_the_planes() -> None:
    disc, stack = made_disc(tilt=30), linear_scan(0)
    field = SimpleNamespace(render=lambda plane: linear_signal(plane.points()).astype(np.float32))
    result = resampled_input(disc, stack, "R-GS", field=field, median=ONE)  # type: ignore[arg-type]
    assert result.input_type == "R-GS" and result.facts["thickness_mm"] == 4.0
    np.testing.assert_allclose(result.images[2], expected(result, 2), atol=1e-6)


def test_gaussians_fitted_around_the_disc() -> None:
    disc = made_disc(tilt=20, sagittal_depth=20.0)
    stack = linear_scan(0, count=13, shape=(48, 56))
    told: list[str] = []
    result = resampled_input(disc, stack, "R-GS", median=ONE, progress=lambda done, what: told.append(what))
    error = np.abs(result.images - [expected(result, slot) for slot in range(COUNT)])
    assert np.median(error[2:7]) * ONE * 4 < 5, "of an intensity around 500"
    assert any("fitting" in what for what in told) and told[-1] == "resampling planes"
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 1

    with pytest.raises(GaussianMRIError, match="cancelled"):
        resampled_input(disc, stack, "R-GS", median=ONE, cancelled=cancelled)


def test_what_cannot_be_resampled() -> None:
    disc, stack = made_disc(), linear_scan()
    with pytest.raises(GaussianMRIError, match="no method"):
        resampled_input(disc, stack, "A")
    with pytest.raises(GaussianMRIError, match="no stack"):
        resampled_input(disc, [], "R-VI")
    far = made_disc(tilt=0, center=(3, -10, 300), file="d.csv")
    with pytest.raises(GaussianMRIError, match=r"no slice reaches the planes of L5/S1 \(d\.csv\)"):
        resampled_input(far, stack, "R-VI", median=ONE)
    with pytest.raises(GaussianMRIError, match="1 to 9 planes of 112 x 224"):
        resampled_input(disc, stack, "R-VI", planes=[stack.plane(0)], median=ONE)


# ---- a phantom through DICOM -------------------------------------------------------------------------------


def test_a_capsule_on_the_patients_left_is_at_larger_columns(tmp_path: Path) -> None:
    phantom = Phantom(2)
    frame = true_frame(phantom, "L5/S1")
    disc = DiscGeometry(
        frame, frame[:3, 3] + [17 * frame[:3, 1]], frame[:3, 3] - [17 * frame[:3, 1]], 50.0, "L5/S1", "truth"
    )
    assert phantom.capsule[0] < -15, "left in RAS"
    middle = np.array([0.0, phantom.capsule[1] + 45, phantom.capsule[2] - 4])
    planes = ImagePlane.from_axes(
        middle, [-1, 0, 0], [0, -1, 0], spacing=(1.4, 1.4), shape=(92, 92), thickness=4.0
    ).stack(4, 8.0)
    scan = Scan("axial", tuple(planes), noise=0.01, samples=2)
    write_series(tmp_path, Study("left", 2), 1, scan.planes, acquire(phantom, scan), "axial")
    (stack,) = read_stacks(tmp_path)
    result = acquired_input(disc, stack, RegionOptions(width=260.0, reach=60.0), median=450.0)
    assert result.input_type == "N"
    slot = int(np.argmin([abs((p.center - phantom.capsule) @ p.normal) + 99 * (not m)
                          for p, m in zip(result.planes, result.mask, strict=True)]))  # fmt: skip
    assert abs((result.planes[slot].center - phantom.capsule) @ result.planes[slot].normal) < 4.5
    place = np.linalg.inv(result.planes[slot].ijk_to_ras) @ [*phantom.capsule, 1]
    column, row = place[:2].round().astype(int)
    assert column > COLUMNS / 2 + 10 and row > ROWS / 2 + 10
    # Bright where the capsule is and dark air where its mirror image would be.
    here = result.images[slot, row - 1 : row + 2, column - 1 : column + 2].mean()
    mirrored = COLUMNS - 1 - column
    there = result.images[slot, row - 1 : row + 2, mirrored - 1 : mirrored + 2].mean()
    assert here > 0.2 and there < here / 3
