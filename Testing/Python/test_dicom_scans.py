"""Reading DICOM from real scanners: every slice is where its own tags say, quirks included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.geometry import transform_points
from GaussianMRILib.stacks import SliceStack, check_same_frame, read_stacks

QUIRKS = "dicom_quirks/dicom2nifti_quirks_a.tar.xz"
FLIP = np.asarray([-1.0, -1.0, 1.0])


def headers(folder: Path, pixels: bool = False) -> list[pydicom.Dataset]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return [pydicom.dcmread(p, stop_before_pixels=not pixels) for p in files]


def assert_poses_match_tags(stack: SliceStack, datasets: list[pydicom.Dataset]) -> None:
    """Every slice against the file it came from, by SOP Instance UID and straight from the standard's
    equation."""
    by_uid = {d.SOPInstanceUID: d for d in datasets}
    uids = stack.source["slice_instance_uids"]
    assert len(set(uids)) == len(uids) == len(stack.pixels)
    last = None
    for k, uid in enumerate(uids):
        tags = by_uid[uid]
        position = np.asarray(tags.ImagePositionPatient, float)
        along_row, along_column = np.asarray(tags.ImageOrientationPatient, float).reshape(2, 3)
        row_spacing, column_spacing = (float(v) for v in tags.PixelSpacing)
        row, column = tags.Rows - 1, tags.Columns - 2
        expected = (position + along_row * column_spacing * column + along_column * row_spacing * row) * FLIP
        pose = stack.ijk_to_ras[k]
        # Cosines in the files are rounded to 4 to 6 digits and put back to unit length.
        np.testing.assert_allclose(transform_points(pose, [column, row, 0]), expected, atol=2e-3)
        np.testing.assert_allclose(pose[:3, 3], position * FLIP, atol=1e-9)
        normal = np.cross(along_row, along_column) * FLIP
        assert abs(pose[:3, 2] @ normal / np.linalg.norm(normal)) > 1 - 1e-6
        assert (stack.pixels.shape[1], stack.pixels.shape[2]) == (tags.Rows, tags.Columns)
        if last is not None:
            assert (pose[:3, 3] - last) @ pose[:3, 2] > 0, "slices are not sorted along their normal"
        last = pose[:3, 3]


def assert_pixels_match(stack: SliceStack, folder: Path) -> None:
    by_uid = {d.SOPInstanceUID: d for d in headers(folder, pixels=True)}
    for k, uid in enumerate(stack.source["slice_instance_uids"]):
        tags = by_uid[uid]
        values = tags.pixel_array * float(tags.get("RescaleSlope", 1)) + float(
            tags.get("RescaleIntercept", 0)
        )
        if "PixelPaddingValue" in tags and tags.PixelPaddingValue != 0:
            # No pixel was there: it has the lowest value of those that were.
            padded = tags.pixel_array == tags.PixelPaddingValue
            assert padded.any() and stack.pixels[k][padded].max() <= values[~padded].min()
            values[padded] = stack.pixels[k][padded]
        np.testing.assert_allclose(stack.pixels[k], values)


def test_gantry_tilt_of_18_5_degrees_and_varying_spacing(extracted: Callable[[str], Path]) -> None:
    folder = extracted("dicom_quirks/ge_ct_head_tilt_variable_spacing.tar.xz")
    (stack,) = read_stacks(folder)
    datasets = headers(folder)
    assert_poses_match_tags(stack, datasets)
    assert_pixels_match(stack, folder)
    assert len(stack.pixels) == 28
    walk = stack.ijk_to_ras[-1, :3, 3] - stack.ijk_to_ras[0, :3, 3]
    tilt = np.degrees(np.arccos(walk @ stack.normal / np.linalg.norm(walk)))
    np.testing.assert_allclose(tilt, float(datasets[0].GantryDetectorTilt), atol=0.01)
    distances = np.diff(stack.positions)
    np.testing.assert_allclose([distances.min(), distances.max()], [1.08, 7.00], atol=0.005)
    assert sorted(set(stack.slice_thickness.tolist())) == [4.0, 7.0]
    assert stack.grid() is None
    assert any("18.5 degrees" in n for n in stack.notes) and any("1.08 to 7.00" in n for n in stack.notes)


def test_spacing_between_slices_that_is_the_gap_is_not_believed(extracted: Callable[[str], Path]) -> None:
    folder = extracted("dicom_quirks/papaya_ge_axial_oblique_pd.tar.xz")
    (stack,) = read_stacks(folder)
    datasets = headers(folder)
    assert_poses_match_tags(stack, datasets)
    assert float(datasets[0].SpacingBetweenSlices) == 2.0
    assert stack.thickness == 5.0 and len(stack.pixels) == 20
    distances = np.diff(stack.positions)
    np.testing.assert_allclose([distances.min(), distances.max()], [6.96, 7.07], atol=0.005)


def test_a_missing_slice_stays_a_gap(extracted: Callable[[str], Path]) -> None:
    folder = extracted("mr_dicom/adi_ax_fse_t2_2p5mm.tar.xz")
    (stack,) = read_stacks(folder)
    assert_poses_match_tags(stack, headers(folder))
    distances = np.diff(stack.positions)
    assert stack.shape == (55, 512, 384) and stack.grid() is None
    assert np.count_nonzero(np.abs(distances - 2.5) < 1e-3) == 53
    (gap,) = np.flatnonzero(distances > 3)
    np.testing.assert_allclose(distances[gap], 5.0, atol=1e-3)
    assert stack.notes == (f"gap of 5.00 mm after slice {gap + 1}: 1 missing",)
    assert_pixels_match(stack, folder)
    assert stack.frame_of_reference == headers(folder)[0].FrameOfReferenceUID


def test_ten_orientations_are_ten_stacks(extracted: Callable[[str], Path]) -> None:
    folder = extracted("mr_dicom/canon_multiangle_b0_3mm.tar.xz")
    stacks = read_stacks(folder)
    datasets = headers(folder)
    assert [len(s.pixels) for s in stacks] == [40] * 10
    assert len({s.name for s in stacks}) == 10
    for stack in stacks:
        assert_poses_match_tags(stack, datasets)
        np.testing.assert_allclose(np.diff(stack.positions), 3.0, atol=1e-3)
    by_name = {s.name: s for s in stacks}
    straight = by_name["DTI_PA-ortho"].normal
    for name in ("DTI_PA-SAG_20d", "DTI_PA-COR_20d"):
        angle = np.degrees(np.arccos(abs(by_name[name].normal @ straight)))
        np.testing.assert_allclose(angle, 20, atol=0.2)
    assert abs(by_name["SAG_DTI_PA-ortho"].normal[0]) > 1 - 1e-9
    check_same_frame([s for s in stacks if not s.name.startswith("SAG")])
    with pytest.raises(GaussianMRIError, match="frames of reference"):
        check_same_frame(stacks)


def test_pixels_that_are_not_square_and_implicit_vr(extracted: Callable[[str], Path]) -> None:
    folder = extracted("mr_dicom/studyforrest_t1_0p67mm.tar.xz")
    stages: list[float] = []
    (stack,) = read_stacks(folder, progress=lambda fraction, what: stages.append(fraction))
    datasets = [pydicom.dcmread(p, stop_before_pixels=True) for p in sorted(folder.rglob("*.dcm"))]
    assert_poses_match_tags(stack, datasets)
    assert stack.shape == (384, 384, 274)
    np.testing.assert_allclose(stack.pixel_spacing, (0.699987828731537, 0.666666686534882), rtol=1e-9)
    np.testing.assert_allclose(np.diff(stack.positions), 0.6666667, atol=1e-6)
    assert stack.grid() is not None
    assert stages == sorted(stages) and stages[-1] == 1.0 and stages[0] < 0.01


@pytest.mark.parametrize(
    ("name", "distances", "angle"),
    [
        ("failing_gantrytilting_001", [4.851] * 3, 14.0),
        ("failing_sliceincrement_001", [5, 5, 10], 0.0),
        ("generic_anatomical_001_implicit", [1] * 3, 0.0),
        ("generic_compressed_j2k_001", [1] * 3, 0.0),
        ("generic_compressed_jpegls_001", [1] * 3, 0.0),
    ],
)
def test_single_stack_quirks(extracted, name: str, distances: list[float], angle: float) -> None:
    folder = extracted(QUIRKS) / name
    (stack,) = read_stacks(folder)
    assert_poses_match_tags(stack, headers(folder))
    np.testing.assert_allclose(np.diff(stack.positions), distances, atol=1e-3)
    assert stack.thickness == pytest.approx(np.median(distances), abs=1e-3)
    walk = stack.ijk_to_ras[-1, :3, 3] - stack.ijk_to_ras[0, :3, 3]
    tilt = np.degrees(np.arccos(np.clip(walk @ stack.normal / np.linalg.norm(walk), -1, 1)))
    np.testing.assert_allclose(tilt, angle, atol=0.01)
    assert any("missing" in n for n in stack.notes) == (name == "failing_sliceincrement_001")


def test_compressed_pixels_are_those_of_the_uncompressed_files(extracted: Callable[[str], Path]) -> None:
    plain, j2k, jpegls = (
        read_stacks(extracted(QUIRKS) / name)[0].pixels
        for name in (
            "generic_anatomical_001_implicit",
            "generic_compressed_j2k_001",
            "generic_compressed_jpegls_001",
        )
    )
    np.testing.assert_array_equal(j2k, jpegls)
    # The archive's pixels are noise, drawn anew for the implicit set: same range, other values.
    assert j2k.shape == plain.shape and j2k.min() == 0 and j2k.max() == plain.max()


def test_two_orientations_in_one_series_are_two_stacks(extracted: Callable[[str], Path]) -> None:
    folder = extracted(QUIRKS) / "failing_sliceorientation_001"
    datasets = headers(folder)
    stacks = read_stacks(folder)
    assert [s.shape[0] for s in stacks] == [2, 2]
    assert len({d.SeriesInstanceUID for d in datasets}) == 1
    for stack, spacing, word in zip(stacks, (3.3, 4.4), ("sagittal", "axial"), strict=True):
        assert_poses_match_tags(stack, datasets)
        assert stack.spacing == pytest.approx(spacing, abs=1e-3) and word in stack.name


def test_enhanced_multi_frame(extracted: Callable[[str], Path]) -> None:
    folder = extracted(QUIRKS) / "siemens_multiframe_anatomical_001"
    (stack,) = read_stacks(folder)
    (tags,) = headers(folder, pixels=True)
    groups = tags.PerFrameFunctionalGroupsSequence
    assert stack.shape == (8, 256, 256)
    order = [n - 1 for n in stack.source["slice_frame_numbers"]]
    assert sorted(order) == list(range(8))
    for k, n in enumerate(order):
        position = np.asarray(groups[n].PlanePositionSequence[0].ImagePositionPatient, float)
        np.testing.assert_allclose(stack.ijk_to_ras[k, :3, 3], position * FLIP, atol=1e-9)
        np.testing.assert_array_equal(stack.pixels[k], tags.pixel_array[n])
    assert np.all(np.diff(stack.positions) > 0) and stack.thickness == 0.9
    np.testing.assert_allclose(np.diff(stack.positions), 0.9, atol=1e-3)
