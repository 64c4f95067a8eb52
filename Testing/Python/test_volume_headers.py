"""What NIfTI, Analyze and NRRD headers say of orientation, and label maps beside images."""

from __future__ import annotations

import gzip
import logging
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from click.testing import CliRunner
from dicom_files import series
from test_stacks_volumes import nifti, nifti_affine, write

from GaussianMRILib.cli import main
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.fitting.problem import Problem
from GaussianMRILib.stacks import read_stacks

SFORM = np.array([[-0.8, 0, 0, 20], [0, 0.8, 0, -30], [0, 0, 4, 5], [0, 0, 0, 1.0]])


def with_qform(path: Path, turn: float, offset: tuple[float, float, float], sform: np.ndarray | None) -> None:
    """A NIfTI file whose qform is turned by `turn` degrees about the left-right axis."""
    nifti(path, sform, qform_code=1, pixdim=(0.8, 0.8, 4))
    content = bytearray(path.read_bytes())
    struct.pack_into("<6f", content, 256, np.sin(np.radians(turn) / 2), 0, 0, *offset)
    path.write_bytes(content)


@pytest.mark.parametrize("packed", [False, True])
def test_without_orientation_there_is_a_remark_everywhere(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "v.nii"
    nifti(path, pixdim=(1, 1, 4), shape=(4, 6, 5))
    if packed:
        path = path.with_name("v.nii.gz")
        path.write_bytes(gzip.compress((tmp_path / "v.nii").read_bytes()))
    (stack,) = read_stacks(path)
    assert "no orientation in its header" in stack.notes[0]
    result = CliRunner().invoke(main, ["inspect", str(path)])
    assert "Stack 1: no orientation" in result.output
    report = Problem.pose(stack, "fast", 0, "cpu", None).report
    assert "no orientation" in report["stacks"][0]["notes"][0]


def test_analyze_files_have_a_remark(tmp_path: Path) -> None:
    nifti(tmp_path / "v.nii", SFORM)
    content = (tmp_path / "v.nii").read_bytes()
    header = bytearray(content[:348])
    header[344:348] = b"\0\0\0\0"
    header[252:328] = bytes(76)
    struct.pack_into("<f", header, 108, 0)
    (tmp_path / "a.hdr").write_bytes(header)
    with pytest.raises(GaussianMRIError, match=r"a\.hdr .* data file a\.img is missing"):
        read_stacks(tmp_path / "a.hdr")
    (tmp_path / "a.img").write_bytes(content[352:])
    for name in ("a.hdr", "a.img"):
        assert "an Analyze file" in read_stacks(tmp_path / name)[0].notes[0]
    (tmp_path / "a.hdr").unlink()
    with pytest.raises(GaussianMRIError, match=r"a\.img .* header file a\.hdr is missing"):
        read_stacks(tmp_path / "a.img")


def test_qform_and_sform_are_compared_where_the_volume_is(tmp_path: Path, caplog) -> None:
    straight = np.diag([0.8, 0.8, 4, 1.0])
    straight[:3, 3] = [1, 2, 3]
    path = tmp_path / "v.nii"
    with_qform(path, 0.0, (1, 2, 3), straight)
    assert read_stacks(path)[0].notes == ()
    with_qform(path, 0.0, (1, 2, 8), straight)
    assert "differ by 0.0 degrees and up to 5.0 mm" in read_stacks(path)[0].notes[0]
    with caplog.at_level(logging.WARNING, logger="GaussianMRI"):
        with_qform(path, 12.0, (1, 2, 3), straight)
        (stack,) = read_stacks(path)
    assert "differ by 12.0 degrees" in stack.notes[0] and stack.notes[0] in caplog.text
    np.testing.assert_allclose(stack.ijk_to_ras[0][:3, 3], [1, 2, 3], atol=1e-6)
    broken = straight.copy()
    broken[:3, :3] = 0
    with_qform(path, 12.0, (1, 2, 3), broken)
    (stack,) = read_stacks(path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<h", content, 254, 0)
    path.write_bytes(content)
    np.testing.assert_allclose(stack.grid(), nifti_affine(path), atol=1e-5)
    assert "the qform was used" in stack.notes[0]


@pytest.mark.parametrize("shift", [1e30, 1e8])
def test_places_and_spacings_that_no_scan_has(tmp_path: Path, shift: float) -> None:
    far = SFORM.copy()
    far[0, 3] = shift
    nifti(tmp_path / "far.nii", far)
    with pytest.raises(GaussianMRIError, match=r"far\.nii.*from the origin"):
        read_stacks(tmp_path / "far.nii")
    nifti(tmp_path / "thin.nii", SFORM @ np.diag([1, 1, 1e-7, 1]))
    with pytest.raises(GaussianMRIError, match=r"thin\.nii.*spacing"):
        read_stacks(tmp_path / "thin.nii")
    nifti(tmp_path / "fine.nii", SFORM @ np.diag([1e-6, 1e-6, 1, 1]))
    with pytest.raises(GaussianMRIError, match=r"fine\.nii.*spacing"):
        read_stacks(tmp_path / "fine.nii")


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-anterior-superior", (-1, 1, 1)),
        ("LAS", (-1, 1, 1)),
        ("right-anterior-superior", (1, 1, 1)),
        ("RAS", (1, 1, 1)),
        ("left-posterior-superior", (-1, -1, 1)),
        ("LPS", (-1, -1, 1)),
    ],
)
@pytest.mark.parametrize("detached", [False, True])
def test_every_anatomical_space_of_nrrd(tmp_path: Path, space: str, signs, detached: bool) -> None:
    pixels = np.arange(60, dtype="<i2").reshape(3, 4, 5)
    text = (
        f"NRRD0004\n# a comment: with a colon\ntype: short\ndimension: 3\nspace: {space}\nsizes: 5 4 3\n"
        "space directions: (0.8, 0.1,0) (-0.1,0.8,0) (0,0,4)\nkinds: domain domain domain\nendian: little\n"
        "encoding: raw\nspace origin: (10,-20,30)\n"
    )
    if detached:
        path = tmp_path / "v.nhdr"
        (tmp_path / "v.raw").write_bytes(pixels.tobytes())
        path.write_text(text + "data file: v.raw\n")
    else:
        path = tmp_path / "v.nrrd"
        path.write_bytes(text.encode() + b"\n" + pixels.tobytes())
    (stack,) = read_stacks(path)
    expected = np.array([[0.8, -0.1, 0, 10], [0.1, 0.8, 0, -20], [0, 0, 4, 30]]) * np.array(signs)[:, None]
    np.testing.assert_allclose(stack.grid()[:3], expected, atol=1e-9)
    np.testing.assert_array_equal(stack.pixels, pixels)


def test_label_maps_beside_images_are_left_out(tmp_path: Path, caplog) -> None:
    random = np.random.default_rng(3)
    write(tmp_path / "t2.nrrd", (1, 1, 4), np.eye(3), (0, 0, 0), pixels=random.normal(size=(5, 12, 12)))
    scan = random.integers(0, 40, (5, 12, 12)).astype(np.int16)  # a scan of few grey levels is none
    write(tmp_path / "coarse.nrrd", (1, 1, 4), np.eye(3), (0, 0, 0), pixels=scan)
    mask = np.zeros((5, 12, 12), np.uint8)
    mask[1:4, 3:9, 4:10] = 1
    write(tmp_path / "mask.nrrd", (1, 1, 4), np.eye(3), (0, 0, 0), pixels=mask)
    labels = mask * np.array([20, 21, 22, 23, 24], np.uint8)[:, None, None]
    write(tmp_path / "discs.nii", (1, 1, 4), np.eye(3), (0, 0, 0), pixels=labels)
    assert [stack.name for stack in read_stacks(tmp_path)] == ["coarse", "t2"]
    assert "discs.nii, mask.nrrd: a label map" in caplog.text
    (named,) = read_stacks(tmp_path / "mask.nrrd")
    assert "look like labels" in named.notes[0]


def test_volumes_of_a_folder_are_chosen_and_named_ones_are_taken(tmp_path: Path, monkeypatch) -> None:
    import GaussianMRILib.fitting

    for name in ("a", "b"):
        write(tmp_path / f"{name}.nrrd", (1, 1, 4), np.eye(3), (0, 0, 0))

    def given(stacks, **options: object) -> None:
        raise GaussianMRIError(f"fits {[stack.name for stack in stacks]}")

    monkeypatch.setattr(GaussianMRILib.fitting, "Fitter", given)
    output = ["-o", str(tmp_path / "f.npz")]
    text = CliRunner().invoke(main, ["fit", str(tmp_path), *output]).output
    assert "2 groups" in text and "no header says that they belong together" in text
    files = [str(tmp_path / f"{name}.nrrd") for name in "ab"]
    assert "fits ['a', 'b']" in CliRunner().invoke(main, ["fit", *files, *output]).output
    both = ["--stack", "1", "--stack", "2"]
    assert "fits ['a', 'b']" in CliRunner().invoke(main, ["fit", str(tmp_path), *both, *output]).output


def test_a_volume_that_cannot_be_read_does_not_cost_the_folder(tmp_path: Path, caplog) -> None:
    series(tmp_path / "dicom")
    (tmp_path / "broken.nii").write_bytes(b"nothing")
    assert [stack.name for stack in read_stacks(tmp_path)] == ["T2"]
    assert "broken.nii" in caplog.text
    with pytest.raises(GaussianMRIError, match=r"broken\.nii"):
        read_stacks([tmp_path / "dicom", tmp_path / "broken.nii"])


NRRD = "type: short\ndimension: 3\nsizes: 6 5 4\nendian: little\nencoding: raw\n"
DIRECTIONS = "space directions: (.5,0,0) (0,.75,0) (0,0,4)\nspace origin: (3,-4,10)\n"
MICRONS = "space directions: (500,0,0) (0,750,0) (0,0,4000)\nspace origin: (3000,-4000,10000)\n"
META = "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 6 5 4\nElementType = MET_SHORT\n"


def text_volume(path: Path, header: str) -> Path:
    end = "ElementDataFile = LOCAL\n" if path.suffix == ".mha" else "\n"
    start = "" if path.suffix == ".mha" else "NRRD0004\n"
    path.write_bytes(f"{start}{header}{end}".encode() + np.arange(120, dtype="<i2").tobytes())
    return path


@pytest.mark.parametrize(
    ("name", "header", "factor"),
    [
        ("a.nrrd", f'{NRRD}space: RAS\nspace units: "um" "um" "um"\n{MICRONS}', 1),
        ("a.nrrd", f'{NRRD}space: left-posterior-superior\nspace units: "cm" "cm" "cm"\n{DIRECTIONS}', 10),
        ("a.nrrd", f'{NRRD}space: RAS\nspace units: "mm" "mm" "mm"\n{DIRECTIONS}', 1),
        ("a.nrrd", f'{NRRD}space dimension: 3\nspace units: "cm" "cm" "cm"\n{DIRECTIONS}', 10),
        ("a.mha", f"{META}ElementSpacing = .5 .75 4\nOffset = 3 -4 10\nDistanceUnits = cm\n", 10),
        ("a.mha", f"{META}ElementSpacing = .5 .75 4\nOffset = 3 -4 10\nDistanceUnits = mm\n", 1),
    ],
)
def test_lengths_in_other_units_than_millimetres(tmp_path: Path, name: str, header: str, factor: float) -> None:
    (stack,) = read_stacks(text_volume(tmp_path / name, header))
    steps = np.linalg.norm(stack.ijk_to_ras[0][:3, :2], axis=0)
    np.testing.assert_allclose(steps, np.array([0.5, 0.75]) * factor, rtol=1e-9)
    assert stack.spacing == pytest.approx(4 * factor)
    np.testing.assert_allclose(np.abs(stack.ijk_to_ras[0][:3, 3]), np.array([3, 4, 10]) * factor, rtol=1e-9)


def test_several_units_are_refused(tmp_path: Path) -> None:
    path = text_volume(tmp_path / "a.nrrd", f'{NRRD}space: RAS\nspace units: "mm" "cm" "mm"\n{DIRECTIONS}')
    with pytest.raises(GaussianMRIError, match=r"a\.nrrd has several units of length \(cm, mm\)"):
        read_stacks(path)


def test_what_a_header_leaves_open_is_remarked(tmp_path: Path) -> None:
    open_space, no_spacing = "no anatomical space in its header", "no spacing in its header: 1 mm was taken"
    for name, header, remarks in (
        ("a.nrrd", f"{NRRD}space: RAS\n{DIRECTIONS}", []),
        ("b.nrrd", f"{NRRD}space dimension: 3\n{DIRECTIONS}", [open_space]),
        ("c.nrrd", f"{NRRD}space: scanner-xyz\n{DIRECTIONS}", [open_space]),
        ("d.nrrd", NRRD, [no_spacing, open_space]),
        ("e.mha", META, [no_spacing]),
        ("f.mha", f"{META}ElementSize = .5 .75 4\n", []),
    ):
        notes = read_stacks(text_volume(tmp_path / name, header))[0].notes
        notes = [note for note in notes if "labels" not in note]
        assert len(notes) == len(remarks), (name, notes)
        assert all(note.startswith(remark) for note, remark in zip(notes, remarks, strict=True))


def test_a_slope_of_zero_scales_nothing_and_a_qform_has_to_be_finite(tmp_path: Path) -> None:
    path = tmp_path / "v.nii"
    image = sitk.GetImageFromArray(np.arange(120, dtype=np.int16).reshape(4, 5, 6))
    image.SetSpacing((0.5, 0.75, 4.0))
    sitk.WriteImage(image, str(path))
    content = bytearray(path.read_bytes())
    struct.pack_into("<hh", content, 252, 1, 0)
    for slope, expected in ((0.0, 119.0), (1.0, 124.0), (2.0, 243.0)):
        struct.pack_into("<2f", content, 112, slope, 5.0)
        path.write_bytes(content)
        assert read_stacks(path)[0].pixels.max() == expected
    struct.pack_into("<f", content, 268, np.nan)
    path.write_bytes(content)
    with pytest.raises(GaussianMRIError, match=r"v\.nii.*qform that is not finite"):
        read_stacks(path)


@pytest.mark.parametrize("first", [True, False])
def test_a_list_of_one_volume_lies_where_the_volume_does(tmp_path: Path, first: bool) -> None:
    """Left-anterior-superior with an axis that is none in space, which versions of SimpleITK turn round."""
    voxels = np.arange(7 * 6 * 5, dtype="<i2")
    vectors = "(1,0,0) (0,1,0) (0,0,4)"
    sizes, directions = ("1 7 6 5", f"none {vectors}") if first else ("7 6 5 1", f"{vectors} none")
    kinds = "vector domain domain domain" if first else "domain domain domain list"
    (tmp_path / "a.nrrd").write_bytes(
        f"NRRD0005\ntype: short\ndimension: 4\nspace: left-anterior-superior\nsizes: {sizes}\nkinds: {kinds}\n"
        f"space directions: {directions}\nspace origin: (10,20,30)\nendian: little\nencoding: raw\n\n".encode()
        + voxels.tobytes()
    )
    (stack,) = read_stacks(tmp_path / "a.nrrd")
    assert np.array_equal(stack.pixels.ravel(), voxels)
    assert np.allclose(stack.ijk_to_ras[0][:3], [[-1, 0, 0, -10], [0, 1, 0, 20], [0, 0, 1, 30]])
    assert stack.spacing == pytest.approx(4)


@pytest.mark.parametrize("before", [0, 100_000])
def test_a_long_header_is_read_to_its_end_and_no_number_is_no_spacing(tmp_path: Path, before: int) -> None:
    words = "".join(f"word{n}:=value of it\n" for n in range(before // 20))
    for spacings, said in (("1 1 4", False), ("nan nan nan", True)):
        (tmp_path / "a.nrrd").write_bytes(
            f"NRRD0005\n{words}type: short\ndimension: 3\nsizes: 7 6 5\nspacings: {spacings}\nendian: little\n"
            "encoding: raw\n\n".encode()
            + bytes(420)
        )
        (stack,) = read_stacks(tmp_path / "a.nrrd")
        assert any("no spacing" in note for note in stack.notes) == said


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
@pytest.mark.parametrize("several", [False, True])
def test_names_of_voxel_files_in_any_script(tmp_path: Path, suffix: str, several: bool) -> None:
    folder = tmp_path / "患者 Müller"
    folder.mkdir()
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    names = [f"Größe {n}.raw" for n in range(3)] if several else ["Größe.raw"]
    for name, part in zip(names, np.split(voxels, len(names)), strict=True):
        (folder / name).write_bytes(part.tobytes())
    where = "LIST\n" + "\n".join(names) if several else names[0]
    header = (
        "NRRD0004\ntype: int16\ndimension: 3\nspace: RAS\nsizes: 5 4 3\nspace directions: (1,0,0) (0,1,0) (0,0,3)\n"
        f"space origin: (0,0,0)\nendian: little\nencoding: raw\ndata file: {where}\n"
        if suffix == ".nhdr"
        else "NDims = 3\nDimSize = 5 4 3\nElementSpacing = 1 1 3\nElementByteOrderMSB = False\nElementType = MET_SHORT\n"
        f"ElementDataFile = {where}\n"
    )
    (folder / f"Größe{suffix}").write_text(header, encoding="utf-8")
    (stack,) = read_stacks(folder)
    np.testing.assert_array_equal(stack.pixels, voxels)
    assert stack.name == "Größe"


@pytest.mark.parametrize("suffix", [".MHA", ".Mha", ".MHD", ".NRRD", ".NII", ".NII.GZ", ".HDR"])
def test_names_in_capitals(tmp_path: Path, suffix: str) -> None:
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    small = suffix.lower()
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / f"v{small}"))
    (tmp_path / f"v{small}").rename(tmp_path / f"V{suffix}")
    if suffix == ".HDR":
        (tmp_path / "v.img").rename(tmp_path / "V.IMG")
    np.testing.assert_array_equal(read_stacks(tmp_path / f"V{suffix}")[0].pixels, voxels)
    if suffix == ".HDR":
        np.testing.assert_array_equal(read_stacks(tmp_path / "V.IMG")[0].pixels, voxels)


def test_a_mixed_name_of_nifti_says_what_to_call_it(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4), np.int16)), str(tmp_path / "v.nii.gz"))
    (tmp_path / "v.nii.gz").rename(tmp_path / "V.Nii.gz")
    with pytest.raises(GaussianMRIError, match=r"rename it to V\.nii\.gz"):
        read_stacks(tmp_path / "V.Nii.gz")


def test_a_slope_that_is_no_number_scales_nothing(tmp_path: Path) -> None:
    """As nifti1_io and nibabel take it; an intercept that is none beside a slope that is one is refused, as they do."""
    path = tmp_path / "v.nii"
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(120, dtype=np.int16).reshape(4, 5, 6)), str(path))
    content = bytearray(path.read_bytes())
    for values in ((np.nan, np.nan), (np.inf, 0.0), (np.nan, 5.0), (0.0, np.nan)):
        struct.pack_into("<2f", content, 112, *values)
        path.write_bytes(content)
        assert np.array_equal(read_stacks(path)[0].pixels.ravel(), np.arange(120))
    struct.pack_into("<2f", content, 112, 1.0, np.nan)
    path.write_bytes(content)
    with pytest.raises(GaussianMRIError, match="intercept is not finite"):
        read_stacks(path)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".hdr", ".img", ".img.gz", "Analyze"])
def test_voxels_of_nifti_that_are_no_numbers_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: type, suffix: str
) -> None:
    """The library that reads them makes zeros of them without a word."""
    single, packed = suffix.startswith(".nii"), suffix.endswith(".gz")
    path = tmp_path / (f"v{suffix}" if single else f"v{suffix}" if suffix in (".hdr", ".img") else "v.hdr")
    voxels = np.arange(105, dtype=kind).reshape(3, 5, 7) + 1
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / f"v{suffix}" if single else tmp_path / "v.hdr"))
    image = path if single else tmp_path / "v.img"
    if suffix == ".img.gz":
        image.rename(tmp_path / "whole")
        image = tmp_path / "v.img.gz"
        image.write_bytes(gzip.compress((tmp_path / "whole").read_bytes()))
    if suffix == "Analyze":
        header = bytearray(path.read_bytes())
        header[344:348] = bytes(4)
        path.write_bytes(header)
    read_stacks(path)
    assert "0 is taken" not in caplog.text
    content = bytearray((gzip.decompress if packed else bytes)(image.read_bytes()))
    for number, value in ((0, np.nan), (50, -np.inf), (104, np.nan)):
        start = (352 if single else 0) + number * voxels.itemsize
        content[start : start + voxels.itemsize] = np.array(value, voxels.dtype.newbyteorder("<")).tobytes()
    image.write_bytes((gzip.compress if packed else bytes)(content))
    assert (read_stacks(path)[0].pixels == 0).sum() == 3
    assert f"{path.name}: 3 voxels are NaN or infinite, for which 0 is taken" in caplog.text
