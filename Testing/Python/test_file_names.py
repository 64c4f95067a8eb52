"""Names of files: suffixes in upper case, letters beyond ASCII, links to folders."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import series
from test_writers import oblique, pictures

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.files import atomic_write
from GaussianMRILib.labels import read_labels
from GaussianMRILib.stacks import read_stacks
from GaussianMRILib.stacks.volume_headers import unit_mm
from GaussianMRILib.writers import write_volume

#: Not every system lets everybody make links.
links = pytest.mark.skipif(os.name != "posix", reason="links to folders")


@pytest.mark.parametrize("name", ["V.MHA", "V.NRRD", "V.NII", "V.NII.GZ"])
def test_volumes_are_written_and_read_by_suffixes_in_upper_case(tmp_path: Path, name: str) -> None:
    planes, images = oblique(), pictures()
    write_volume(tmp_path / name, images, planes)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    (stack,) = read_stacks(tmp_path / name)
    assert np.abs(stack.pixels - images).max() < 1e-3 and stack.name == "V"


def test_headers_and_voxels_apart_are_read_by_suffixes_in_upper_case(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(pictures())
    for header, voxels in ((".mhd", ".raw"), (".nhdr", ".raw"), (".hdr", ".img")):
        folder = tmp_path / header[1:]
        folder.mkdir()
        sitk.WriteImage(image, str(folder / f"v{header}"))
        (folder / f"v{header}").rename(folder / f"v{header.upper()}")
        if voxels == ".img":
            (folder / f"v{voxels}").rename(folder / f"v{voxels.upper()}")
        assert read_stacks(folder / f"v{header.upper()}")[0].shape == (3, 7, 9), header
    (tmp_path / "v.Nii").write_bytes(b"")
    with pytest.raises(GaussianMRIError, match=r"ends in \.Nii, .* rename it to v\.nii\."):
        read_stacks(tmp_path / "v.Nii")


def test_a_long_name_keeps_both_its_suffixes_while_it_is_written(tmp_path: Path) -> None:
    with atomic_write(tmp_path / f"{'x' * 245}.NII.GZ") as temporary:
        assert temporary.name.endswith(".nii.gz")


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
@pytest.mark.parametrize("name", ["Müller", "患者 2"])
def test_names_of_voxel_files_have_any_letters(tmp_path: Path, suffix: str, name: str) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(pictures()), str(tmp_path / f"{name}{suffix}"))
    (stack,) = read_stacks(tmp_path / f"{name}{suffix}")
    assert stack.name == name and np.array_equal(stack.pixels, pictures())


def test_names_of_many_voxel_files_have_any_letters(tmp_path: Path) -> None:
    names = [f"Schicht ü{k}.raw" for k in range(3)]
    for image, name in zip(pictures(), names, strict=True):
        (tmp_path / name).write_bytes(image.astype("<f4").tobytes())
    lines = "\n".join(names)
    header = f"NDims = 3\nDimSize = 9 7 3\nElementType = MET_FLOAT\nElementDataFile = LIST\n{lines}\n"
    (tmp_path / "v.mhd").write_text(header, encoding="utf-8")
    assert np.array_equal(read_stacks(tmp_path / "v.mhd")[0].pixels, pictures())


@pytest.mark.skipif(os.name != "posix" or os.uname().sysname == "Darwin", reason="names that are not UTF-8")
def test_a_name_in_another_encoding_is_its_bytes(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"M\xfcller.raw")).write_bytes(pictures().astype("<f4").tobytes())
    header = b"NDims = 3\nDimSize = 9 7 3\nElementType = MET_FLOAT\nElementDataFile = M\xfcller.raw\n"
    (tmp_path / "v.mhd").write_bytes(header)
    assert read_stacks(tmp_path / "v.mhd")[0].shape == (3, 7, 9)


@pytest.mark.skipif(os.name != "posix" or os.uname().sysname == "Darwin", reason="names that are not UTF-8")
def test_a_volume_in_a_folder_named_in_another_encoding_is_an_error(tmp_path: Path) -> None:
    """ITK alone would end the process."""
    folder = tmp_path / os.fsdecode(b"M\xfcller")
    folder.mkdir()
    planes = oblique()
    write_volume(tmp_path / "v.nrrd", pictures(), planes)
    (tmp_path / "v.nrrd").rename(folder / "v.nrrd")
    for attempt in (
        lambda: write_volume(folder / "w.nrrd", pictures(), planes),
        lambda: read_stacks(folder / "v.nrrd"),
        lambda: read_labels(folder / "v.nrrd"),
    ):
        with pytest.raises(GaussianMRIError, match="no UTF-8"):
            attempt()
    assert [path.name for path in folder.iterdir()] == ["v.nrrd"]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_micrometre_is_known_in_both_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "v.mha").write_bytes("DistanceUnits = µm\nElementDataFile = LOCAL\n".encode(encoding))
    assert unit_mm(tmp_path / "v.mha") == 1e-3


@links
def test_links_to_folders_are_followed_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    series(tmp_path / "archive" / "t2", SeriesDescription="t2", SeriesInstanceUID="1.2.4")
    study = tmp_path / "studies" / "a"
    series(study / "t1", SeriesDescription="t1", SeriesInstanceUID="1.2.3")
    series(tmp_path / "studies" / "b" / "other", SeriesDescription="other", SeriesInstanceUID="1.2.5")
    (study / "linked").symlink_to(tmp_path / "archive")
    (study / "again").symlink_to(tmp_path / "archive" / "t2")
    (study / "round").symlink_to(study)
    (study / "out").symlink_to(tmp_path / "studies")
    (study / "gone").symlink_to(tmp_path / "nowhere")
    with caplog.at_level(logging.WARNING):
        assert sorted(stack.name for stack in read_stacks(study)) == ["t1", "t2"]
    assert any("gone: a link to what is not there" in record.getMessage() for record in caplog.records)
