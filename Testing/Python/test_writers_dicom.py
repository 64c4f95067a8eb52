"""Derived DICOM series: they read back where they were, and belong to the study that they were made of."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import enhanced, save, series
from hypothesis import given
from hypothesis import strategies as st
from test_geometry import planes
from test_writers import NORMAL_FILES, oblique, pictures

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.geometry import ImagePlane
from GaussianMRILib.stacks import SliceStack, read_stacks
from GaussianMRILib.writers import write_dicom_series


@pytest.fixture
def source(tmp_path: Path) -> SliceStack:
    series(tmp_path / "scan", SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Änne", EchoTime=90)
    return read_stacks(tmp_path / "scan")[0]


@NORMAL_FILES
@given(planes(), st.integers(1, 3), st.floats(-1e4, 1e4), st.floats(1e-3, 5e4))
def test_derived_series_reads_back_as_it_was_written(tmp_path: Path, plane, count, low, spread) -> None:
    listed = plane.stack(count, 1.5)
    images = np.random.default_rng(count).uniform(low, low + spread, (count, *plane.shape))
    folder = write_dicom_series(tmp_path / "series", images, listed, overwrite=True)
    (stack,) = read_stacks(folder)
    # Files come back sorted along i x j; the planes' normal is on that side.
    np.testing.assert_allclose(stack.ijk_to_ras, [p.ijk_to_ras for p in listed], atol=1e-5)
    np.testing.assert_allclose(
        stack.pixels, images, atol=max(0.5, spread / 65535) if spread >= 1000 else spread / 65535
    )
    assert stack.thickness == pytest.approx(plane.thickness or min(plane.spacing), rel=1e-9)


def test_derived_series_belongs_to_its_source(tmp_path: Path, source: SliceStack) -> None:
    folder = write_dicom_series(
        tmp_path / "series", pictures(), oblique(thickness=4.0), source=source, description="Oblique T2"
    )
    files = sorted(folder.iterdir())
    assert [f.name for f in files] == ["IM0001.dcm", "IM0002.dcm", "IM0003.dcm"]
    tags = [pydicom.dcmread(f) for f in files]
    original = [pydicom.dcmread(f) for f in sorted((tmp_path / "scan").iterdir())]
    first = tags[0]
    assert list(first.ImageType[:2]) == ["DERIVED", "SECONDARY"] and first.Modality == "MR"
    assert first.SOPClassUID == "1.2.840.10008.5.1.4.1.1.4" == first.file_meta.MediaStorageSOPClassUID
    assert first.StudyInstanceUID == "1.2.4" and first.FrameOfReferenceUID == "1.2.5"
    assert first.SeriesInstanceUID != "1.2.3" and len({t.SeriesInstanceUID for t in tags}) == 1
    uids = {t.SOPInstanceUID for t in tags}
    assert len(uids) == 3 and not uids & {t.SOPInstanceUID for t in original}
    assert str(first.PatientName) == "Müller^Änne" and first.EchoTime == 90
    assert first.SeriesDescription == "Oblique T2" and "GaussianMRI" in first.DerivationDescription
    referenced = [item.ReferencedSOPInstanceUID for item in first.SourceImageSequence]
    assert referenced == [t.SOPInstanceUID for t in original]
    assert first.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3"
    assert [t.InstanceNumber for t in tags] == [1, 2, 3]
    listed = oblique()
    for dataset, plane in zip(tags, listed, strict=True):
        np.testing.assert_allclose(
            np.asarray(dataset.ImagePositionPatient) * [-1, -1, 1], plane.origin, atol=1e-9
        )
        along = np.reshape(np.asarray(dataset.ImageOrientationPatient, float), (2, 3)) * [-1, -1, 1]
        np.testing.assert_allclose(along, [plane.i_axis, plane.j_axis], atol=1e-9)
        assert list(dataset.PixelSpacing) == [0.8, 0.5] and dataset.SliceThickness == 4.0
        assert dataset.SpacingBetweenSlices == 2.0
    # SimpleITK finds the same place by itself.
    image = sitk.ReadImage(str(files[1]))
    lps = np.asarray(image.TransformIndexToPhysicalPoint((8, 6, 0)))
    np.testing.assert_allclose(lps * [-1, -1, 1], listed[1].points()[6, 8], atol=1e-4)


def test_large_intensities_are_stored_as_they_are(tmp_path: Path, source: SliceStack) -> None:
    folder = write_dicom_series(tmp_path / "a", pictures(1, 0, 4000), oblique(1), source=source)
    tags = pydicom.dcmread(folder / "IM0001.dcm")
    assert tags.RescaleSlope == 1 and tags.RescaleIntercept == 0
    np.testing.assert_array_equal(tags.pixel_array, np.rint(pictures(1, 0, 4000)[0]))
    assert 0 < tags.WindowCenter < 4000 and tags.WindowWidth > 1000


def test_provenance_survives_json_and_several_sources_are_all_referred_to(tmp_path: Path, source) -> None:
    series(tmp_path / "other", SeriesInstanceUID="8.8")
    (other,) = read_stacks(tmp_path / "other")
    stored = json.loads(json.dumps(source.source))
    folder = write_dicom_series(tmp_path / "out", pictures(), oblique(), source=[stored, other.subset([1])])
    tags = pydicom.dcmread(folder / "IM0001.dcm")
    assert [s.SeriesInstanceUID for s in tags.ReferencedSeriesSequence] == ["1.2.3", "8.8"]
    assert len(tags.SourceImageSequence) == 5 and str(tags.PatientName) == "Müller^Änne"
    series(tmp_path / "elsewhere", FrameOfReferenceUID="1.2.99")
    with pytest.raises(GaussianMRIError, match="different frames"):
        write_dicom_series(
            tmp_path / "no", pictures(), oblique(), source=[source, *read_stacks(tmp_path / "elsewhere")]
        )
    for changes, message in (
        ({"StudyInstanceUID": "9.9"}, "different studies"), ({"Modality": "CT"}, "different modalities")
    ):  # fmt: skip
        series(tmp_path / message, SeriesInstanceUID="8.9", **changes)
        with pytest.raises(GaussianMRIError, match=message):
            write_dicom_series(tmp_path / "no", pictures(), oblique(), source=[source, *read_stacks(tmp_path / message)])
    # A reader may have made several stacks of one series.
    folder = write_dicom_series(tmp_path / "parts", pictures(), oblique(), source=[source.subset([0]), source.subset([2])])
    (referred,) = pydicom.dcmread(folder / "IM0001.dcm").ReferencedSeriesSequence
    assert len(referred.ReferencedInstanceSequence) == 2


def test_enhanced_source_is_referred_to_once_with_its_frames(tmp_path: Path) -> None:
    frames = [{"position": (0, 0, 4.0 * k)} for k in range(3)]
    save(enhanced(np.zeros((3, 6, 5), np.uint16), frames), tmp_path / "e.dcm")
    (stack,) = read_stacks(tmp_path / "e.dcm")
    folder = write_dicom_series(tmp_path / "out", pictures(1), oblique(1), source=stack)
    (item,) = pydicom.dcmread(folder / "IM0001.dcm").SourceImageSequence
    assert list(item.ReferencedFrameNumber) == [1, 2, 3]
    assert item.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.4.1"


def test_a_projection_is_not_taken_for_a_slice(tmp_path: Path) -> None:
    for modality, image_type in (
        ("MR", ["DERIVED", "SECONDARY", "PROJECTION IMAGE"]), ("CT", ["DERIVED", "SECONDARY", "AXIAL", "MAX_IP"])
    ):  # fmt: skip
        series(tmp_path / modality, Modality=modality)
        (stack,) = read_stacks(tmp_path / modality)
        out = tmp_path / f"{modality}-out"
        write_dicom_series(out, pictures(1), oblique(1, thickness=9.0), source=stack, projection="max")
        tags = pydicom.dcmread(out / "IM0001.dcm")
        assert tags.ImageType == image_type and tags.DerivationCodeSequence[0].CodeValue == "113078"
        assert tags.DerivationDescription.startswith("Maximum intensity projection of slabs")
        assert read_stacks(out)[0].source["contrast"]["component"] == "projection"
    for projection, thickness, reason in (("max", 0.0, "plane is thin"), ("maximum", 9.0, "no projection 'maximum'")):
        with pytest.raises(GaussianMRIError, match=reason):
            write_dicom_series(tmp_path / "no", pictures(1), oblique(1, thickness=thickness), projection=projection)


def test_images_of_another_modality_are_not_called_mr(tmp_path: Path) -> None:
    series(tmp_path / "pet", Modality="PT")
    with pytest.raises(GaussianMRIError, match="of MR and CT, and the source is PT"):
        write_dicom_series(tmp_path / "out", pictures(1), oblique(1), source=read_stacks(tmp_path / "pet"))
    assert not (tmp_path / "out").exists()


def test_what_a_study_does_not_say_stays_unsaid(tmp_path: Path) -> None:
    """Series of one study that differ in its date or patient are refused by archives, or shown as another patient's."""
    silent = ("PatientName", "PatientID", "StudyDate", "StudyTime", "StudyID", "PatientBirthDate", "AccessionNumber")
    paths = series(tmp_path / "in", StudyDate="20200102")
    for path in paths:
        dataset = pydicom.dcmread(path)
        for keyword in ("PatientName", "PatientID"):
            delattr(dataset, keyword)
        dataset.save_as(path)
    folder = write_dicom_series(tmp_path / "out", pictures(1), oblique(1), source=read_stacks(tmp_path / "in"))
    tags = pydicom.dcmread(folder / "IM0001.dcm")
    assert tags.StudyDate == "20200102" and tags.StudyInstanceUID == "1.2.4"
    assert not any(tags[keyword].value for keyword in silent if keyword != "StudyDate")


def test_ct_stays_ct_and_no_source_is_an_anonymous_study(tmp_path: Path) -> None:
    series(tmp_path / "ct", Modality="CT", RescaleIntercept=-1000)
    (stack,) = read_stacks(tmp_path / "ct")
    folder = write_dicom_series(tmp_path / "a", pictures(1, -1000, 300), oblique(1), source=stack)
    tags = pydicom.dcmread(folder / "IM0001.dcm")
    assert (
        tags.Modality == "CT" and tags.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2" and tags.RescaleType == "HU"
    )
    np.testing.assert_allclose(read_stacks(folder)[0].pixels, pictures(1, -1000, 300), atol=0.02)
    folder = write_dicom_series(
        tmp_path / "b", pictures(1), oblique(1), source=SliceStack.from_array(np.ones((2, 2, 2)), np.eye(4))
    )
    tags = pydicom.dcmread(folder / "IM0001.dcm")
    assert tags.PatientName == "Anonymous" and "SourceImageSequence" not in tags and tags.StudyInstanceUID


def test_planes_of_different_directions_are_one_series(tmp_path: Path, source: SliceStack) -> None:
    fan = [
        ImagePlane.from_normal((0, 0, 0), (0, np.sin(a), np.cos(a)), spacing=(0.5, 0.8), shape=(7, 9))
        for a in (0, 0.2, 0.4)
    ]
    stacks = read_stacks(write_dicom_series(tmp_path / "fan", pictures(), fan, source=source))
    assert [s.shape[0] for s in stacks] == [1, 1, 1]
    for stack, plane in zip(stacks, fan, strict=True):
        np.testing.assert_allclose(stack.plane(0).points(), plane.points(), atol=1e-6)


def test_folders_with_something_in_them_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    write_dicom_series(tmp_path / "mine", pictures(), oblique())  # empty: fine
    with pytest.raises(GaussianMRIError, match="not empty"):
        write_dicom_series(tmp_path / "mine", pictures(), oblique())
    write_dicom_series(tmp_path / "mine", pictures(1), oblique(1), overwrite=True)
    assert len(list((tmp_path / "mine").iterdir())) == 1
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(GaussianMRIError, match="not empty"):
        write_dicom_series(tmp_path / "mine", pictures(), oblique(), overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").exists() and len(list(tmp_path.iterdir())) == 1


def test_derived_from_a_real_scan(tmp_path: Path, extracted: Callable[[str], Path]) -> None:
    (stack,) = read_stacks(extracted("mr_dicom/adi_ax_fse_t2_2p5mm.tar.xz"))
    plane = ImagePlane.from_normal(stack.plane(27).center, (0.1, 0.3, 1), shape=(7, 9))
    images = pictures(1)
    images[0, 0] = np.nan
    folder = write_dicom_series(tmp_path / "out", images, plane, source=stack)
    (back,) = read_stacks(folder)
    assert back.frame_of_reference == stack.frame_of_reference
    np.testing.assert_allclose(back.plane(0).points(), plane.points(), atol=1e-6)
    written = pydicom.dcmread(folder / "IM0001.dcm")
    assert len(written.SourceImageSequence) == 55
    # What was not scanned is padding, and no measured pixel has its value.
    assert written.PixelPaddingValue == 0
    assert np.all(written.pixel_array[0] == 0) and written.pixel_array[1:].min() > 0
    assert np.all(back.pixels[0, 0] == back.pixels[0, 1:].min())
    np.testing.assert_allclose(back.pixels[0, 1:], images[0, 1:], atol=0.51 * float(written.RescaleSlope))


def test_odd_sources_give_conformant_series(tmp_path: Path, extracted: Callable[[str], Path]) -> None:
    """Values that their VR does not allow are not repeated, and what other values ask for is there."""
    (stack,) = read_stacks(extracted("mr_dicom/studyforrest_t1_0p67mm.tar.xz"))
    assert "00101010" not in stack.source["attributes"]  # PatientAge "42"
    plane = ImagePlane.from_normal(stack.plane(27).center, (0.1, 0.3, 1), shape=(7, 9))
    folder = write_dicom_series(tmp_path / "out", pictures(1) / 5000, plane, source=stack)
    written = pydicom.dcmread(folder / "IM0001.dcm")
    assert float(written.WindowWidth) < 1 and written.VOILUTFunction == "LINEAR_EXACT"
    assert ("Laterality" in written) != ("BodyPartExamined" in written)
    attributes = {
        **stack.source["attributes"],
        "00180020": {"vr": "CS", "Value": ["SE", "IR"]},
        "00120062": {"vr": "CS", "Value": ["YES"]},
    }
    attributes.pop("00180082", None), attributes.pop("00120063", None)
    folder = write_dicom_series(tmp_path / "more", pictures(1), plane, source={**stack.source, "attributes": attributes})
    written = pydicom.dcmread(folder / "IM0001.dcm")
    assert "InversionTime" in written and written.DeidentificationMethod


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize(
    "archive",
    [
        "mr_dicom/adi_ax_fse_t2_2p5mm.tar.xz", "mr_dicom/studyforrest_t1_0p67mm.tar.xz",
        "mr_dicom/canon_multiangle_b0_3mm.tar.xz", "dicom_quirks/dicom2nifti_quirks_a.tar.xz",
        "dicom_quirks/ge_ct_head_tilt_variable_spacing.tar.xz", "mr_multi/lumbar_hitachi.tar.xz",
    ],
)  # fmt: skip
def test_dciodvfy_finds_no_errors(tmp_path: Path, extracted: Callable[[str], Path], archive: str) -> None:
    for number, stack in enumerate(read_stacks(extracted(archive))[:4]):
        plane = ImagePlane.from_normal(stack.plane(0).center, (0.1, 0.3, 1), shape=(7, 9))
        images = pictures(1)
        images[0, 0] = np.nan
        folder = write_dicom_series(tmp_path / f"{number}", images, plane, source=stack)
        found = subprocess.run(["dciodvfy", folder / "IM0001.dcm"], capture_output=True, text=True)
        errors = [line for line in (found.stdout + found.stderr).splitlines() if line.startswith("Error")]
        assert not errors
