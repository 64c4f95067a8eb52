"""Files that the command line writes, beside other images and other programs."""

# ruff: noqa: F811  fixtures are imported

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from PIL import Image
from test_cli import field_file, markups, phantom, run, study  # noqa: F401

import GaussianMRILib as gm
from GaussianMRILib.phantom import Phantom


def test_a_derived_series_names_all_series_of_its_field_and_no_other_of_their_name(
    field_file: Path, study: Path, phantom: Phantom, tmp_path: Path
) -> None:
    import pydicom

    for number, folder in enumerate(("sagittal", "axial")):
        (tmp_path / folder).mkdir()
        for file in sorted((study / folder).iterdir()):
            dataset = pydicom.dcmread(file)
            dataset.SeriesDescription, dataset.SeriesNumber = "T2", number
            dataset.save_as(tmp_path / folder / file.name)
    (axial,), (sagittal,) = (gm.read_stacks(tmp_path / folder) for folder in ("axial", "sagittal"))
    assert [stack.name for stack in gm.read_stacks(tmp_path)] == ["T2", "T2 (2)"]  # the first is the sagittal one
    field = gm.GaussianField.load(field_file)
    assert field.report["stacks"][0]["series"] == axial.series_digest
    for case, stacks in enumerate(([axial], [axial, sagittal])):
        facts = [{"name": stack.name, "series": stack.series_digest} for stack in stacks]
        replace(field, report={"stacks": facts}).save(tmp_path / "field.npz")
        result = run(
            "resample", tmp_path / "field.npz", "--center", *phantom.landmark("sac"), "--normal", 0, 0.5, 0.87, "--size", 24,
            12, "--dicom", tmp_path / f"series{case}", "--source", tmp_path / "axial", "--source", tmp_path / "sagittal",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        (file,) = (tmp_path / f"series{case}").iterdir()
        named = [item.SeriesInstanceUID for item in pydicom.dcmread(file).ReferencedSeriesSequence]
        assert sorted(named) == sorted(stack.source["series_uid"] for stack in stacks)


def test_a_picture_of_pixels_that_are_not_square_keeps_its_shape(field_file: Path, markups: Path, tmp_path: Path) -> None:
    """Pixels are spread over the size of the markup, 20 x 16 mm, where a number of them alone is given."""
    result = run("resample", field_file, "--plane", markups, "--size", 20, 64, "--png", tmp_path / "p.png")
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size == (80, 64)


def test_without_a_terminal_a_warning_brings_no_line_of_progress(study: Path, tmp_path: Path) -> None:
    for folder in ("axial", "other"):
        shutil.copytree(study / "axial", tmp_path / folder)
    for name in ("one.zip", "two.tar.gz"):
        (tmp_path / "other" / name).write_bytes(b"")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    lines = run("inspect", tmp_path).stderr.splitlines()
    assert len(lines) > 1 and all(line.startswith("Warning: ") for line in lines), lines
