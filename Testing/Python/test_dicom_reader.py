"""Reading DICOM made for the purpose: contrasts, pixel encodings, and files that are wrong."""

from __future__ import annotations

import logging
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import MR_IMAGE, enhanced, image, save, series
from hypothesis import HealthCheck, given, settings
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless, generate_uid
from test_geometry import degrees, directions, rotation, vectors

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.geometry import transform_points
from GaussianMRILib.stacks import check_same_frame, read_stacks

NOISE = np.random.default_rng(5).integers(0, 3000, (6, 5)).astype(np.uint16)


def at(z: float) -> tuple[float, float, float]:
    return (-10.0, -20.0, z)


def test_sorted_by_position_never_by_instance_number(tmp_path: Path) -> None:
    heights = [42.0, 30.0, 38.0, 34.0]
    for n, z in enumerate(heights):
        save(image(NOISE + np.uint16(z), at(z), InstanceNumber=n + 1), tmp_path / f"{n}.dcm")
    (stack,) = read_stacks(tmp_path)
    np.testing.assert_allclose(stack.ijk_to_ras[:, 2, 3], sorted(heights))
    np.testing.assert_allclose(stack.pixels[:, 0, 0] - stack.pixels[0, 0, 0], [0, 4, 8, 12])
    assert stack.thickness == 3.0 and stack.spacing == 4.0 and stack.name == "T2"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(directions, degrees, vectors)
def test_a_bright_pixel_is_at_its_place_in_space(tmp_path: Path, axis, angle, corner) -> None:
    """The place by the standard's equation, in LPS and with numbers as rounded in the file; RAS flips two
    signs."""
    turn = rotation(axis, angle)
    folder = tmp_path / generate_uid()
    folder.mkdir()
    row, column, k = 4, 1, 2
    for n in range(3):
        pixels = np.zeros((6, 5), np.uint16)
        if n == k:
            pixels[row, column] = 1000
        position = np.asarray(corner) + 4.0 * n * turn[:, 2]
        cosines = [f"{v:.12f}" for v in (*turn[:, 0], *turn[:, 1])]
        save(image(pixels, [f"{v:.10f}" for v in position], cosines), folder / f"{n}.dcm")
    (stack,) = read_stacks(folder)
    kk, jj, ii = np.unravel_index(np.argmax(stack.pixels), stack.pixels.shape)
    lps = np.asarray(corner) + turn @ [column * 0.5, row * 0.75, k * 4.0]
    np.testing.assert_allclose(
        transform_points(stack.ijk_to_ras[kk], [ii, jj, 0]), lps * [-1, -1, 1], atol=1e-6
    )
    np.testing.assert_allclose(transform_points(stack.grid(), [ii, jj, kk]), lps * [-1, -1, 1], atol=1e-6)


def test_slope_intercept_signed_values_and_unused_bits(tmp_path: Path) -> None:
    signed = np.asarray([[-2048, -1], [0, 2047]], np.int16)
    save(image(signed, at(0), RescaleSlope=2.5, RescaleIntercept=-10), tmp_path / "a.dcm")
    (stack,) = read_stacks(tmp_path / "a.dcm")
    np.testing.assert_allclose(stack.pixels[0], signed * 2.5 - 10)
    # Twelve bits in sixteen, the sign only in bit 11.
    packed = (signed.astype(np.int32) & 0x0FFF).astype(np.uint16)
    save(image(packed, at(0), BitsStored=12, HighBit=11, PixelRepresentation=1), tmp_path / "b.dcm")
    (stack,) = read_stacks(tmp_path / "b.dcm")
    np.testing.assert_allclose(stack.pixels[0], signed)


def test_monochrome1_is_inverted_in_mr_and_kept_in_ct(tmp_path: Path) -> None:
    changes = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    save(image(NOISE, at(0), **changes), tmp_path / "mr.dcm")
    (stack,) = read_stacks(tmp_path / "mr.dcm")
    np.testing.assert_allclose(stack.pixels[0], 4095.0 - NOISE)
    assert any("MONOCHROME1" in n for n in stack.notes)
    save(image(NOISE, at(0), Modality="CT", **changes), tmp_path / "ct.dcm")
    np.testing.assert_allclose(read_stacks(tmp_path / "ct.dcm")[0].pixels[0], NOISE)


def test_run_length_encoding(tmp_path: Path) -> None:
    path = save(image(NOISE, at(0)), tmp_path / "rle.dcm")
    import pydicom

    compressed = pydicom.dcmread(path)
    compressed.compress(RLELossless)
    compressed.save_as(path)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == RLELossless
    np.testing.assert_array_equal(read_stacks(path)[0].pixels[0], NOISE)


def test_itk_decodes_what_pydicom_cannot_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    """The fallback gives stored values: it must not apply the rescale that the reader applies."""
    import pydicom

    values = np.random.default_rng(6).integers(-1000, 2000, (64, 64)).astype(np.int16)
    path = save(image(values, at(0), RescaleSlope=3, RescaleIntercept=7), tmp_path / "rle.dcm")
    compressed = pydicom.dcmread(path)
    compressed.compress(RLELossless)
    compressed.save_as(path)

    def no_decoder(dataset: Dataset) -> None:
        raise RuntimeError("no handler")

    monkeypatch.setattr(Dataset, "pixel_array", property(no_decoder))
    np.testing.assert_array_equal(read_stacks(path)[0].pixels[0], values * 3.0 + 7)
    # Video, which GDCM has no decoder for: an error that says so.
    compressed.file_meta.TransferSyntaxUID = pydicom.uid.UID("1.2.840.10008.1.2.4.100")
    compressed.save_as(path)
    with pytest.raises(GaussianMRIError, match=r"rle\.dcm cannot be decoded \(.+\): no handler.*plug-ins"):
        read_stacks(path)


@pytest.mark.parametrize(
    ("keyword", "values", "label"),
    [
        ("EchoTime", [10.0, 90.0], "echo time"),
        ("DiffusionBValue", [0.0, 1000.0], "b-value"),
        ("TemporalPositionIdentifier", [1, 2], "time point"),
        ("ImageType", [["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "M", "NORM"]], "image type"),
    ],
)
def test_repeated_positions_become_named_stacks(tmp_path: Path, keyword, values, label) -> None:
    for n, value in enumerate(values):
        series(tmp_path / str(n), prefix=str(n), **{keyword: value})
    stacks = read_stacks(tmp_path)
    assert [s.shape[0] for s in stacks] == [4, 4]
    assert all(label in s.name for s in stacks) and stacks[0].name != stacks[1].name
    assert all(np.allclose(np.diff(s.positions), 4) for s in stacks)


def test_numbers_that_count_up_with_the_slices_do_not_split_them(tmp_path: Path) -> None:
    """Two echoes whose acquisition number differs on every slice, as one vendor has it."""
    for echo in (1, 2):
        for k in range(4):
            tags = {"EchoNumbers": echo, "AcquisitionNumber": 10 * echo + k, "TriggerTime": 7.0 * k + echo}
            save(image(NOISE, at(30 + 4.0 * k), **tags), tmp_path / f"{echo}{k}.dcm")
    assert [s.shape[0] for s in read_stacks(tmp_path)] == [4, 4]


def test_a_trigger_time_of_its_own_for_every_image_is_no_contrast(tmp_path: Path) -> None:
    for repeat in range(2):
        for k in range(4):
            tags = {"TriggerTime": 100.0 * repeat + 7 * k, "InstanceNumber": 10 * repeat + k}
            save(image(NOISE, at(4.0 * k), **tags), tmp_path / f"{repeat}{k}.dcm")
    assert [s.shape[0] for s in read_stacks(tmp_path)] == [4, 4]


def test_repeats_without_any_difference_follow_acquisition_order(tmp_path: Path) -> None:
    for repeat in range(3):
        for k in range(2):
            path = tmp_path / f"{repeat}{k}.dcm"
            save(image(NOISE + np.uint16(repeat), at(4.0 * k), InstanceNumber=10 * repeat + k), path)
    stacks = read_stacks(tmp_path)
    assert [s.name[-8:] for s in stacks] == ["repeat 1", "repeat 2", "repeat 3"]
    np.testing.assert_allclose([s.pixels[0, 0, 0] - NOISE[0, 0] for s in stacks], [0, 1, 2])


def test_two_fields_of_view_side_by_side(tmp_path: Path) -> None:
    for k in range(3):
        save(image(NOISE, (-10, -20, 4.0 * k)), tmp_path / f"a{k}.dcm")
        save(image(NOISE, (40, -20, 4.0 * k)), tmp_path / f"b{k}.dcm")
    assert [s.shape[0] for s in read_stacks(tmp_path)] == [3, 3]


def test_matrix_spacing_and_series_split_too(tmp_path: Path) -> None:
    series(tmp_path / "a")
    series(tmp_path / "b", PixelSpacing=[1.0, 1.0])
    series(tmp_path / "c", SeriesInstanceUID="9.9", SeriesNumber=1)
    stacks = read_stacks([tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    assert [s.shape[0] for s in stacks] == [4, 4, 4]
    assert len({s.name for s in stacks}) == 3
    assert stacks[0].source["series_uid"] == "9.9"  # lowest series number first


def test_the_same_image_twice_is_read_once(tmp_path: Path) -> None:
    paths = series(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "copy.dcm").write_bytes(paths[2].read_bytes())
    (stack,) = read_stacks([tmp_path / "a", tmp_path / "b", paths[0]])
    assert stack.shape[0] == 4


def test_one_uid_for_every_slice_loses_none(tmp_path: Path) -> None:
    series(tmp_path, SOPInstanceUID="1.2.3.4")
    assert read_stacks(tmp_path)[0].shape[0] == 4


def test_frames_without_positions_are_not_taken_for_one_slice(tmp_path: Path) -> None:
    save(image(np.stack([NOISE] * 3), at(0), NumberOfFrames=3), tmp_path / "cine.dcm")
    with pytest.raises(GaussianMRIError, match="3 frames without a position"):
        read_stacks(tmp_path)
    broken = enhanced(np.stack([NOISE] * 3), [{"position": at(4.0 * k)} for k in range(3)])
    broken.NumberOfFrames = 5
    save(broken, tmp_path / "cine.dcm")
    with pytest.raises(GaussianMRIError, match=r"cine\.dcm says that it has 5 frames and describes 3"):
        read_stacks(tmp_path)


def test_a_series_behind_a_link_is_read(tmp_path: Path) -> None:
    series(tmp_path / "archive" / "scan")
    (tmp_path / "study").mkdir()
    try:
        (tmp_path / "study" / "ax").symlink_to(tmp_path / "archive" / "scan", target_is_directory=True)
    except OSError:
        pytest.skip("links need a permission here")
    assert [s.shape[0] for s in read_stacks(tmp_path / "study")] == [4]


def test_what_holds_images_but_is_none_says_how_to_read_them(tmp_path: Path, caplog) -> None:
    paths = series(tmp_path / "cd" / "scan")
    index = image(NOISE, at(0), DirectoryRecordSequence=[], Rows=None)
    save(index, tmp_path / "cd" / "DICOMDIR")
    with pytest.raises(GaussianMRIError, match=r"an index of other files \(DICOMDIR\)\. Give the folder that it lies in\.$"):
        read_stacks(tmp_path / "cd" / "DICOMDIR")
    (tmp_path / "only").mkdir()
    packed = tmp_path / "only" / "exam.zip"
    packed.write_bytes(b"PK\x03\x04" + bytes(200))
    with pytest.raises(GaussianMRIError, match=r"exam\.zip is an archive\. Unpack it"):
        read_stacks(packed)
    with pytest.raises(GaussianMRIError, match=r"exam\.zip: an archive.*\. Unpack it and give its folder\.$"):
        read_stacks(tmp_path / "only")
    packed.rename(tmp_path / "cd" / "exam.zip")
    assert len(read_stacks(tmp_path / "cd")) == 1 and "exam.zip: an archive" in caplog.text
    for empty in ("", ["", paths[0]]):
        with pytest.raises(GaussianMRIError, match="A path is empty"):
            read_stacks(empty)


@pytest.mark.parametrize(("thickness", "said"), [(30.0, True), (16.1, True), (16.0, False), (3.0, False)])
def test_slices_much_thicker_than_their_distance_are_remarked(tmp_path: Path, thickness, said, caplog) -> None:
    series(tmp_path, SliceThickness=thickness)
    (stack,) = read_stacks(tmp_path)
    assert stack.thickness == thickness and ("--thickness" in "".join(stack.notes)) == said
    assert (f"slices {thickness:g} mm thick every 4 mm" in caplog.text) == said
    assert not read_stacks(tmp_path, thickness=30.0)[0].notes


def test_enhanced_frames_with_echoes_orientations_and_rescale(tmp_path: Path) -> None:
    frames = [
        {"position": at(4.0 * k), "echo_time": te, "slope": te} for k in (1, 0, 2) for te in (10.0, 80.0)
    ]
    coronal = (1, 0, 0, 0, 0, -1)
    frames += [{"position": (0, 5.0 * k, 0), "orientation": coronal, "echo_time": 10.0} for k in range(2)]
    pixels = np.stack([NOISE + np.uint16(n) for n in range(len(frames))])
    save(enhanced(pixels, frames), tmp_path / "e.dcm")
    stacks = read_stacks(tmp_path)
    assert sorted(s.shape[0] for s in stacks) == [2, 3, 3]
    early = next(s for s in stacks if "echo time 10" in s.name)
    assert early.source["slice_frame_numbers"] == [3, 1, 5]
    np.testing.assert_allclose(early.pixels[0], (NOISE + 2.0) * 10)
    assert early.thickness == 3.0 and early.pixel_spacing == (0.5, 0.75)
    assert sum("coronal" in s.name for s in stacks) == 1


def test_thickness_comes_from_its_tag_else_from_the_spacing_or_the_caller(tmp_path: Path) -> None:
    series(tmp_path / "tag", SpacingBetweenSlices=1.0)
    series(tmp_path / "none", SliceThickness=None, SpacingBetweenSlices=1.0)
    series(tmp_path / "zero", SliceThickness=0)
    assert read_stacks(tmp_path / "tag")[0].thickness == 3.0
    assert read_stacks(tmp_path / "none")[0].thickness == 4.0
    assert read_stacks(tmp_path / "zero")[0].thickness == 4.0
    assert read_stacks(tmp_path / "none", thickness=2.5)[0].thickness == 2.5
    series(tmp_path / "single", count=1, SliceThickness=None)
    with pytest.raises(GaussianMRIError, match="single slice without a SliceThickness"):
        read_stacks(tmp_path / "single")
    assert read_stacks(tmp_path / "single", thickness=4)[0].shape[0] == 1
    with pytest.raises(GaussianMRIError, match="thickness"):
        read_stacks(tmp_path / "single", thickness=-1)
    with pytest.raises(GaussianMRIError, match="thickness"):
        read_stacks(tmp_path / "single", thickness=1e-30)


@pytest.mark.parametrize("thickness", [1e-30, 1e-4, 2000])
def test_a_thickness_that_no_scan_has_is_refused(tmp_path: Path, thickness: float) -> None:
    paths = series(tmp_path, 4)
    dataset = pydicom.dcmread(paths[2])
    dataset.SliceThickness = thickness
    dataset.save_as(paths[2])
    with pytest.raises(GaussianMRIError, match=r"a02\.dcm has a SliceThickness of .* mm, which no scan has"):
        read_stacks(paths)
    assert read_stacks(tmp_path)[0].shape[0] == 3


def test_frames_of_reference_are_kept_apart_and_reported(tmp_path: Path) -> None:
    series(tmp_path / "a")
    series(tmp_path / "b", FrameOfReferenceUID="1.2.99", SeriesInstanceUID="5.5")
    stacks = read_stacks(tmp_path)
    assert {s.frame_of_reference for s in stacks} == {"1.2.5", "1.2.99"}
    with pytest.raises(GaussianMRIError, match="2 different frames"):
        check_same_frame(stacks)


def test_constant_image_is_read_with_a_remark(tmp_path: Path) -> None:
    save(image(np.full((6, 5), 7, np.uint16), at(0)), tmp_path / "a.dcm")
    (stack,) = read_stacks(tmp_path)
    assert any("same value" in n for n in stack.notes)


def test_patient_names_are_never_logged(tmp_path: Path, caplog) -> None:
    series(tmp_path)
    save(image(NOISE, at(0), PixelSpacing=None), tmp_path / "x.dcm")
    with caplog.at_level(logging.DEBUG, logger="GaussianMRI"):
        read_stacks(tmp_path)
    assert "x.dcm" in caplog.text and "pixel spacing" in caplog.text
    assert "SECRET" not in caplog.text


# ---- files that are wrong


def test_nothing_to_read(tmp_path: Path) -> None:
    for bad, reason in [
        (tmp_path / "missing", "does not exist"),
        (tmp_path, "holds no DICOM"),
        ([], "No input"),
    ]:
        with pytest.raises(GaussianMRIError, match=reason):
            read_stacks(bad)


def test_text_named_dcm(tmp_path: Path, caplog) -> None:
    text = tmp_path / "notes.dcm"
    text.write_text("This is not an image.\n" * 20)
    with pytest.raises(GaussianMRIError, match=r"notes\.dcm is not a DICOM file"):
        read_stacks(text)
    with pytest.raises(GaussianMRIError, match=r"notes\.dcm: .*not DICOM"):
        read_stacks(tmp_path)
    series(tmp_path)
    assert read_stacks(tmp_path)[0].shape[0] == 4  # beside real images it is passed over, with a word
    assert "notes.dcm" in caplog.text


def test_reports_and_contours_beside_images_are_left_out(tmp_path: Path, caplog) -> None:
    series(tmp_path)
    for name, modality, class_uid in (
        ("sr", "SR", "1.2.840.10008.5.1.4.1.1.88.33"),
        ("rt", "RTSTRUCT", "1.2"),
    ):
        report = Dataset()
        report.SOPClassUID, report.SOPInstanceUID, report.Modality = class_uid, generate_uid(), modality
        report.PatientName = "SECRET"
        save(report, tmp_path / f"{name}.dcm")
    mosaic = image(NOISE, at(0), ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    save(mosaic, tmp_path / "mosaic.dcm")
    with caplog.at_level(logging.WARNING, logger="GaussianMRI"):
        assert [s.shape[0] for s in read_stacks(tmp_path)] == [4]
    assert "(SR)" in caplog.text and "(RTSTRUCT)" in caplog.text and "mosaic" in caplog.text
    with pytest.raises(GaussianMRIError, match=r"holds no image.*\(SR\)"):
        read_stacks(tmp_path / "sr.dcm")


@pytest.mark.parametrize("keep", [0.99, 0.9, 0.5])
def test_truncated_files_are_refused_by_name_and_left_out_of_a_folder(
    tmp_path: Path, keep: float, caplog
) -> None:
    big = np.random.default_rng(0).integers(0, 4000, (64, 64)).astype(np.uint16)
    for k in range(3):
        save(image(big, at(4.0 * k)), tmp_path / f"{k}.dcm")
    damaged = tmp_path / "1.dcm"
    content = damaged.read_bytes()
    damaged.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(GaussianMRIError, match=r"1\.dcm.*(truncated|damaged)"):
        read_stacks([tmp_path / "0.dcm", damaged, tmp_path / "2.dcm"])
    with caplog.at_level(logging.WARNING, logger="GaussianMRI"):
        assert [s.shape[0] for s in read_stacks(tmp_path)] == [2]
    assert "Left out" in caplog.text and "1.dcm" in caplog.text and "missing" in caplog.text


def test_pixel_data_cut_off_altogether(tmp_path: Path) -> None:
    paths = series(tmp_path)
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[: content.index(struct.pack("<HH", 0x7FE0, 0x0010))])
    with pytest.raises(GaussianMRIError, match=r"a01\.dcm has no pixel data"):
        read_stacks(paths)
    assert read_stacks(tmp_path)[0].shape[0] == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"PixelSpacing": [0, 0]}, "PixelSpacing of 0 x 0"),
        ({"PixelSpacing": [-1, 1]}, "PixelSpacing"),
        ({"PixelSpacing": [1e-6, 1e-6]}, "PixelSpacing"),
        ({"ImagePositionPatient": [0, 0, 1e30]}, "no scanner reaches"),
        ({"PixelSpacing": [5000, 5000]}, "PixelSpacing"),
        ({"PixelSpacing": [1]}, "PixelSpacing that is not 2 numbers"),
        ({"SliceThickness": 4000}, "SliceThickness of 4000 mm"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 1, 0]}, "unit vectors"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.7, 0.7, 0]}, "unit vectors"),
        ({"ImagePositionPatient": [1, 2]}, "not 3 numbers"),
    ],
)
def test_absurd_geometry_names_the_file(tmp_path: Path, change, reason: str, caplog) -> None:
    series(tmp_path)
    save(image(NOISE, at(46.0), **change), tmp_path / "odd.dcm")
    with pytest.raises(GaussianMRIError, match=rf"odd\.dcm.*{reason}"):
        read_stacks(tmp_path / "odd.dcm")
    with caplog.at_level(logging.WARNING, logger="GaussianMRI"):
        assert read_stacks(tmp_path)[0].shape[0] == 4
    assert "odd.dcm" in caplog.text and reason in caplog.text


def test_not_a_number_in_floating_point_pixels(tmp_path: Path) -> None:
    for k in range(3):
        values = np.ones((6, 5), np.float32)
        values[0, 1] = np.nan if k == 1 else 2
        dataset = image(NOISE, at(4.0 * k), PixelData=None)
        dataset.BitsAllocated = dataset.BitsStored = 32
        dataset.HighBit = 31
        dataset.add_new("FloatPixelData", "OF", values.tobytes())
        dataset.SOPClassUID = MR_IMAGE
        save(dataset, tmp_path / f"{k}.dcm")
    with pytest.raises(GaussianMRIError, match=r"1\.dcm has pixels that are NaN"):
        read_stacks([tmp_path / f"{k}.dcm" for k in range(3)])
    (stack,) = read_stacks(tmp_path)
    assert stack.shape[0] == 2 and "missing" in stack.notes[0]
