"""NIfTI, NRRD and MetaImage: geometry against an independent reading of the headers."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import series
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_geometry import degrees, directions, rotation, vectors

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.fitting import Fitter
from GaussianMRILib.geometry import transform_points
from GaussianMRILib.stacks import check_same_contrast, read_stacks


def nifti_affine(path: Path) -> np.ndarray:
    """RAS affine of a little-endian NIfTI-1 file by the formulas of nifti1.h (sform, else quaternion)."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        header = file.read(348)
    qform_code, sform_code = struct.unpack_from("<hh", header, 252)
    affine = np.eye(4)
    if sform_code > 0:
        affine[:3] = np.reshape(struct.unpack_from("<12f", header, 280), (3, 4))
        return affine
    assert qform_code > 0
    b, c, d, *offset = struct.unpack_from("<6f", header, 256)
    pixdim = struct.unpack_from("<8f", header, 76)
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    turn = np.asarray(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
    affine[:3, :3] = turn * [pixdim[1], pixdim[2], pixdim[3] * (pixdim[0] or 1.0)]
    affine[:3, 3] = offset
    return affine


@pytest.mark.parametrize(
    ("name", "thickness"),
    [
        ("mr_spine/sct_lumbar_t2_1mm.nii.gz", 1.0),
        ("mr_spine/sct019_axial_mt0_5mm.nii.gz", 5.0),
        ("mr_spine/sct019_axial_mt1_5mm.nii.gz", 5.0),
        ("mr_spine/sct_ms_axial_t2_7p5mm.nii.gz", 7.5),
        ("ct/totalseg_cardiac_cta_1p5mm.nii.gz", 1.5),
        ("ct/tptbox_vertebra_ct_1p5mm.nii.gz", 1.5),
    ],
)
def test_real_nifti_files_are_where_their_headers_say(shared_data: Path, name: str, thickness: float) -> None:
    path = shared_data / name
    (stack,) = read_stacks(path)
    expected = nifti_affine(path)
    np.testing.assert_allclose(stack.grid(), expected, atol=2e-3)
    corner = np.asarray(stack.shape)[::-1] - 1.0
    far = transform_points(stack.ijk_to_ras[-1], [corner[0], corner[1], 0])
    np.testing.assert_allclose(far, transform_points(expected, corner), atol=5e-3)
    assert stack.thickness == pytest.approx(thickness, abs=1e-4)
    with gzip.open(path) as file:  # data by hand, at three places
        content = file.read()
    dims = struct.unpack_from("<8h", content, 40)
    datatype = struct.unpack_from("<h", content, 70)[0]
    slope, intercept = struct.unpack_from("<2f", content, 112)
    data = np.frombuffer(
        content, {2: "u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8", 512: "<u2"}[datatype],
        int(np.prod(dims[1:4])), int(struct.unpack_from("<f", content, 108)[0]),
    ).reshape(dims[3], dims[2], dims[1])  # fmt: skip
    values = data * (slope or 1.0) + intercept if slope == slope else data
    np.testing.assert_allclose(stack.pixels, values, rtol=1e-6, atol=1e-3)


def write(path: Path, spacing, turn, origin, shape=(3, 4, 5), pixels=None) -> tuple[sitk.Image, np.ndarray]:
    """A volume with one bright voxel in a gradient, written by SimpleITK in LPS."""
    if pixels is None:
        pixels = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        pixels[1, 2, 3] = 500
    image = sitk.GetImageFromArray(pixels)
    image.SetSpacing(list(spacing))
    image.SetDirection(np.asarray(turn).ravel().tolist())
    image.SetOrigin(list(origin))
    sitk.WriteImage(image, str(path))
    return image, pixels


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(directions, degrees, vectors, st.permutations([0.5, 0.75, 4.0]), st.booleans())
def test_bright_voxel_is_at_its_place(tmp_path: Path, suffix, axis, angle, origin, spacing, mirrored) -> None:
    turn = rotation(axis, angle) @ np.diag([1, 1, -1 if mirrored else 1])
    path = tmp_path / f"v{suffix}"
    image, pixels = write(path, spacing, turn, origin)
    (stack,) = read_stacks(path)
    # Slices lie across the coarsest axis, whichever it was in the file.
    assert stack.spacing == pytest.approx(4.0, rel=1e-5) and sorted(stack.shape) == [3, 4, 5]
    assert stack.shape[0] == image.GetSize()[spacing.index(4.0)]
    k, j, i = np.unravel_index(np.argmax(stack.pixels), stack.pixels.shape)
    lps = np.asarray(image.TransformIndexToPhysicalPoint((3, 2, 1)))
    place = transform_points(stack.ijk_to_ras[k], [i, j, 0])
    np.testing.assert_allclose(place, lps * [-1, -1, 1], atol=2e-3 if ".nii" in suffix else 1e-6)
    for k, j, i in np.ndindex(*stack.shape):  # and so is every other one
        lps = transform_points(stack.ijk_to_ras[k], [i, j, 0]) * [-1, -1, 1]
        assert pixels[image.TransformPhysicalPointToIndex(lps.tolist())[::-1]] == stack.pixels[k, j, i]


def test_isotropic_volumes_keep_their_last_axis(tmp_path: Path) -> None:
    write(tmp_path / "v.nrrd", (1.1, 1.0, 1.0), np.eye(3), (0, 0, 0))
    (stack,) = read_stacks(tmp_path / "v.nrrd")
    assert stack.shape == (3, 4, 5) and stack.name == "v"
    assert read_stacks(tmp_path / "v.nrrd", thickness=2.0)[0].thickness == 2.0


def nifti(path: Path, sform=None, qform_code=0, pixdim=(1, 1, 1), units=2, shape=(2, 3, 4)) -> np.ndarray:
    """A NIfTI-1 file written byte by byte."""
    pixels = np.arange(np.prod(shape), dtype="<i2").reshape(shape)
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    header[344:348] = b"n+1\0"
    struct.pack_into("<8h", header, 40, 3, *shape[::-1], 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, *pixdim, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    header[123] = units
    struct.pack_into("<hh", header, 252, qform_code, 0 if sform is None else 1)
    if sform is not None:
        struct.pack_into("<12f", header, 280, *np.asarray(sform, float)[:3].ravel())
    path.write_bytes(bytes(header) + pixels.tobytes())
    return pixels


SHEARED = np.asarray([[0.5, 0, 0, 5], [0, 0.75, 0.6, 6], [0, 0, 2, 7], [0, 0, 0, 1]])


@pytest.mark.parametrize("qform_code", [0, 1])
def test_sheared_sform_is_kept_exactly(tmp_path: Path, qform_code: int) -> None:
    """ITK refuses such a file, or quietly reads its qform instead; a tilted gantry makes them."""
    path = tmp_path / "tilted.nii"
    pixels = nifti(path, SHEARED, qform_code, (0.5, 0.75, 2.088))
    (stack,) = read_stacks(path)
    np.testing.assert_allclose(stack.grid(), SHEARED, atol=1e-6)
    np.testing.assert_array_equal(stack.pixels, pixels)
    np.testing.assert_allclose(stack.normal, [0, 0, 1])
    assert stack.spacing == pytest.approx(2.0)
    packed = tmp_path / "tilted.nii.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_allclose(read_stacks(packed)[0].grid(), SHEARED, atol=1e-6)


def test_nifti_2_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "two.nii").write_bytes(struct.pack("<i8s", 540, b"n+2\0\r\n\x1a\n") + bytes(600))
    with pytest.raises(GaussianMRIError, match=r"two\.nii is a NIfTI-2 file"):
        read_stacks(tmp_path / "two.nii")


def test_units_other_than_millimetres(tmp_path: Path) -> None:
    nifti(tmp_path / "m.nii", np.diag([0.001, 0.002, 0.004, 1]), pixdim=(0.001, 0.002, 0.004), units=1)
    np.testing.assert_allclose(read_stacks(tmp_path / "m.nii")[0].grid(), np.diag([1, 2, 4, 1.0]), rtol=1e-6)


def test_slices_that_are_parallelograms_are_refused(tmp_path: Path) -> None:
    affine = np.asarray([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1.0]])
    nifti(tmp_path / "skew.nii", affine)
    with pytest.raises(GaussianMRIError, match=r"skew\.nii.*not perpendicular"):
        read_stacks(tmp_path / "skew.nii")


@pytest.mark.parametrize("pixdim", [(1, 1, 0), (0, 0, 0), (1, 1, 2000), (1, np.nan, 1)])
def test_absurd_spacing_without_sform(tmp_path: Path, pixdim) -> None:
    nifti(tmp_path / "odd.nii", pixdim=pixdim)
    with pytest.raises(GaussianMRIError, match=r"odd\.nii"):
        read_stacks(tmp_path / "odd.nii")


def test_several_volumes_and_vectors_are_refused_with_advice(tmp_path: Path) -> None:
    four = sitk.JoinSeries([sitk.GetImageFromArray(np.ones((3, 4, 5), np.float32))] * 2)
    sitk.WriteImage(four, str(tmp_path / "four.nii"))
    with pytest.raises(GaussianMRIError, match=r"four\.nii holds 2 volumes"):
        read_stacks(tmp_path / "four.nii")
    one = sitk.JoinSeries([sitk.GetImageFromArray(np.ones((3, 4, 5), np.float32))])
    sitk.WriteImage(one, str(tmp_path / "one.nii"))
    assert read_stacks(tmp_path / "one.nii")[0].shape == (3, 4, 5)
    vector = sitk.GetImageFromArray(np.ones((3, 4, 5, 3), np.float32), isVector=True)
    sitk.WriteImage(vector, str(tmp_path / "rgb.nrrd"))
    with pytest.raises(GaussianMRIError, match=r"rgb\.nrrd has 3 values"):
        read_stacks(tmp_path / "rgb.nrrd")
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((4, 5), np.float32)), str(tmp_path / "flat.mha"))
    with pytest.raises(GaussianMRIError, match=r"flat\.mha is a 2D image"):
        read_stacks(tmp_path / "flat.mha")


def test_nan_pixels_name_file_and_slice(tmp_path: Path) -> None:
    pixels = np.ones((3, 4, 5), np.float32)
    pixels[2, 0, 0] = np.inf
    write(tmp_path / "nan.nrrd", (1, 1, 1), np.eye(3), (0, 0, 0), pixels=pixels)
    with pytest.raises(GaussianMRIError, match=r"nan\.nrrd.*slice 2"):
        read_stacks(tmp_path / "nan.nrrd")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_truncated_and_fake_volumes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"half{suffix}"
    random = np.random.default_rng(2).normal(size=(9, 30, 31)).astype(np.float32)
    write(path, (1, 1, 1), np.eye(3), (0, 0, 0), pixels=random)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(GaussianMRIError, match="half"):
        read_stacks(path)
    path.write_text("no image at all\n" * 100)
    with pytest.raises(GaussianMRIError, match="half"):
        read_stacks(path)
    path.write_bytes(b"")
    with pytest.raises(GaussianMRIError, match="half"):
        read_stacks(path)


def test_a_folder_may_hold_dicom_and_volumes(tmp_path: Path) -> None:
    series(tmp_path / "dicom")
    write(tmp_path / "v.nii.gz", (1, 1, 1), np.eye(3), (0, 0, 0))
    (tmp_path / "readme.txt").write_text("not an image")
    assert [s.name for s in read_stacks(tmp_path)] == ["T2", "v"]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_the_thickness_of_slices_is_in_the_file_that_dcm2niix_writes_beside(tmp_path: Path, suffix: str) -> None:
    path, beside = tmp_path / f"t2.a{suffix}", tmp_path / "t2.a.json"
    image = sitk.GetImageFromArray(np.arange(120, dtype=np.int16).reshape(4, 5, 6))
    image.SetSpacing((0.5, 0.75, 4.5))
    sitk.WriteImage(image, str(path))
    for content, thickness in (
        ('{"SliceThickness": 4, "EchoTime": 0.09}', 4.0),
        ('\ufeff{"SliceThickness": "3.5"}', 3.5),
        ('{"SliceThickness": 12}', 4.5),  # of the scan that was resampled
        ('{"SliceThickness": -1}', 4.5), ("[1, 2]", 4.5), ("{", 4.5), ('{"SliceThickness": true}', 4.5),
        ('{"SliceThickness": 1' + 400 * "0" + "}", 4.5),
    ):  # fmt: skip
        beside.write_text(content, encoding="utf-8")
        assert read_stacks(path)[0].thickness == pytest.approx(thickness)
        assert read_stacks(path, thickness=2.0)[0].thickness == 2.0
    assert len(read_stacks(tmp_path)) == 1
    for spacing in (0.7, 0.8, 0.9, 1.3):  # slices that overlap by half, in a header of float32
        image.SetSpacing((0.3, 0.3, spacing))
        sitk.WriteImage(image, str(path))
        beside.write_text(json.dumps({"SliceThickness": 2 * spacing}))
        assert read_stacks(path)[0].thickness == pytest.approx(2 * spacing)


T2 = {
    "Modality": "MR", "EchoTime": 0.095, "RepetitionTime": 3.5, "ScanningSequence": "SE", "SequenceVariant": "SK_SP_OSP",
    "SequenceName": "_tse2d1_15", "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"], "ScanOptions": "PFP_SFS",
}  # fmt: skip


def scan_with(path: Path, **told: object) -> None:
    """A NIfTI file, and what dcm2niix would write beside it: seconds, and values of one attribute joined by "_"."""
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 900, (4, 6, 7)).astype(np.int16))
    image.SetSpacing((1, 1, 4))
    sitk.WriteImage(image, str(path))
    path.with_name(path.name.split(".")[0] + ".json").write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"EchoTime": 0.012, "RepetitionTime": 0.55}, "EchoTime 95 and 12 ms; RepetitionTime 3500 and 550 ms"),
        ({"ScanningSequence": "SE_IR", "InversionTime": 0.16}, "ScanningSequence SE and IR/SE"),
        ({"SequenceName": "*fl2d1"}, "SequenceName tse and fl"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "ImageType magnitude and phase"),
        ({"ScanOptions": "FS_PFP"}, "fat suppression absent and present"),
        ({"SequenceVariant": ["SK", "MTC"]}, "magnetisation transfer absent and present"),
        ({"Modality": "CT"}, "Modality MR and CT"),
        ({"MTState": True}, "magnetisation transfer absent and present"),
    ],
)
def test_the_file_that_dcm2niix_writes_beside_tells_contrasts_apart(tmp_path: Path, other: dict, text: str) -> None:
    """As DICOM headers do, whose times are in milliseconds."""
    scan_with(tmp_path / "a.nii.gz", **T2)
    scan_with(tmp_path / "b.nii", **{**T2, **other})
    said = rf"a and b show different contrasts, by a\.json and b\.json: {text}.*--any-contrast"
    with pytest.raises(GaussianMRIError, match=said):
        Fitter(read_stacks(tmp_path))
    scan_with(tmp_path / "b.nii", **{**T2, "EchoTime": 0.1, "SequenceName": "*tse2d1_17", "RepetitionTime": 4})
    check_same_contrast(read_stacks(tmp_path))


@pytest.mark.parametrize(
    ("image_type", "component"),
    [
        (["DERIVED", "PRIMARY", "M", "IN", "PHASE", "MAGNITUDE", "PHASE"], "in phase"),
        (["DERIVED", "PRIMARY", "OPP", "PHASE", "ND", "PHASE"], "out of phase"),
        (["DERIVED", "PRIMARY", "OPP_PHASE"], "out of phase"),
        (["DERIVED", "PRIMARY", "FRACTIONAL", "ANISO"], "anisotropy"),
        (["DERIVED", "PRIMARY", "MAX", "IP"], "projection"),
        (["ORIGINAL", "PRIMARY", "M", "SE", "M", "SE"], "magnitude"),
        (["ORIGINAL", "PRIMARY", "P", "ND", "PHASE"], "phase"),
        (["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"], "phase"),
    ],
)
def test_values_that_dcm2niix_takes_apart(tmp_path: Path, image_type: list[str], component: str) -> None:
    """It parts Image Type at every "_", and calls what has PHASE in it an image of phase."""
    scan_with(tmp_path / "a.nii", ImageType=image_type)
    assert read_stacks(tmp_path)[0].source["contrast"]["component"] == component


def test_names_of_private_attributes_are_not_compared(tmp_path: Path) -> None:
    """GE's PulseSequenceName is of one, and tells two kinds of spin echo apart that are one contrast in DICOM files."""
    told = {name: value for name, value in T2.items() if name != "SequenceName"}
    scan_with(tmp_path / "a.nii", **told, Manufacturer="GE", PulseSequenceName="fse-xl")
    scan_with(tmp_path / "b.nii", **told, Manufacturer="GE", PulseSequenceName="frfse-xl")
    check_same_contrast(read_stacks(tmp_path))
    for name, family in (("a", "tse"), ("b", "fl")):
        scan_with(tmp_path / f"{name}.nii", **told, Manufacturer="Siemens", PulseSequenceName=f"*{family}2d1")
    with pytest.raises(GaussianMRIError, match="SequenceName tse and fl"):
        check_same_contrast(read_stacks(tmp_path))


def test_dicom_and_the_file_beside_nifti_are_compared(tmp_path: Path) -> None:
    series(tmp_path / "dicom", EchoTime=95, RepetitionTime=3500)
    scan_with(tmp_path / "same.nii", EchoTime=0.095, RepetitionTime=3.5)
    scan_with(tmp_path / "t1.nii", EchoTime=0.012, RepetitionTime=0.5)
    dicom, same, t1 = (read_stacks(tmp_path / name)[0] for name in ("dicom", "same.nii", "t1.nii"))
    check_same_contrast([dicom, same])
    with pytest.raises(GaussianMRIError, match=r"by t1\.json: EchoTime 95 and 12 ms; RepetitionTime 3500 and 500 ms"):
        check_same_contrast([dicom, t1])


@pytest.mark.parametrize(
    "told",
    [
        {}, [1], "text", {"EchoTime": "x"}, {"EchoTime": True}, {"EchoTime": [0.1]}, {"EchoTime": -1}, {"EchoTime": None},
        {"EchoTime": 10**400}, {"ImageType": [1, {}, None]}, {"ScanOptions": 5}, {"Modality": {}}, {"SequenceName": ""},
    ],
)  # fmt: skip
def test_what_the_file_beside_does_not_say_is_unknown(tmp_path: Path, told: object) -> None:
    scan_with(tmp_path / "a.nii")
    (tmp_path / "a.json").write_text(json.dumps(told))
    scan_with(tmp_path / "b.nii", **T2)
    (known, other) = read_stacks(tmp_path)
    assert not any(known.source.get("contrast", {}).values())
    check_same_contrast([known, other])
