"""`gaussianmri grade measure` and its DICOM Structured Report."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner, Result
from spine_scenes import BACK, CANAL, axial, spine_map, true_area

from GaussianMRILib.cli import main
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.geometry import ImagePlane, slice_poses
from GaussianMRILib.grading.canal import CUTOFFS_TEXT, CanalMeasure
from GaussianMRILib.grading.canal_report import report_images, write_canal_report
from GaussianMRILib.grading.disc_sources import write_discs
from GaussianMRILib.grading.labels import DISCLAIMER, LEVELS
from GaussianMRILib.grading.spine_labels import spine_labels
from GaussianMRILib.labels import LabelFile, write_labels
from GaussianMRILib.phantom.dicom import Study, write_series
from GaussianMRILib.stacks import read_stacks


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["grade", "measure", *map(str, arguments), "-q"], catch_exceptions=False)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """labels.nii.gz of a spine, and dicom/ of the scan on whose grid it lies."""
    folder = tmp_path_factory.mktemp("study")
    labels = spine_map(grid=axial(3.0))
    write_labels(folder / "labels.nii.gz", labels)
    (folder / "dicom").mkdir()
    planes = [
        ImagePlane(pose, labels.voxels.shape[1:], thickness=3.0)
        for pose in slice_poses(labels.ijk_to_ras, len(labels.voxels))
    ]
    write_series(folder / "dicom", Study("one", 1), 1, planes, np.full(labels.voxels.shape, 0.4, np.float32), "T2")
    return folder


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        return {row["level"]: row for row in csv.DictReader(file)}


def test_the_table_of_a_label_map(study: Path, tmp_path: Path) -> None:
    done = run(study / "labels.nii.gz", "-o", tmp_path / "measures.csv", "--json", tmp_path / "measures.json")
    assert done.exit_code == 0, done.output
    assert "area (mm²)" in done.output and CUTOFFS_TEXT in done.output and DISCLAIMER in done.output
    rows = rows_of(tmp_path / "measures.csv")
    assert list(rows) == list(LEVELS)
    for level, row in rows.items():
        assert float(row["area (mm²)"]) == pytest.approx(true_area(level), rel=0.03)
        assert float(row["AP diameter (mm)"]) == pytest.approx(2 * CANAL[level][1], abs=0.6)
        assert row["area (mm²)"] in done.output
    written = json.loads((tmp_path / "measures.json").read_text(encoding="utf-8"))
    assert [row["level"] for row in written["measures"]] == list(LEVELS) and written["disclaimer"] == DISCLAIMER
    one = run(study / "labels.nii.gz", "--level", "L4/L5")
    assert "L4/L5" in one.output and "L3/L4" not in one.output


def test_what_is_not_measured_is_a_line(study: Path, tmp_path: Path) -> None:
    labels = spine_map(grid=axial(3.0), vertebrae=("L3", "L4", "L5", "S1"))
    write_labels(tmp_path / "few.nii.gz", labels)
    done = run(tmp_path / "few.nii.gz", "-o", tmp_path / "measures.csv")
    assert done.exit_code == 0
    assert f"L1/L2: L1/L2 is not in the field of view of {tmp_path / 'few.nii.gz'}, which has L3 to S1" in done.output
    row = rows_of(tmp_path / "measures.csv")["L1/L2"]
    assert row["area (mm²)"] == "" and "field of view" in row["remarks"]
    bare = LabelFile(np.where(labels.voxels == 2, 0, labels.voxels).astype(np.uint8), labels.ijk_to_ras)
    write_labels(tmp_path / "bare.nii.gz", bare)
    failed = run(tmp_path / "bare.nii.gz", "-o", tmp_path / "none.csv")
    assert failed.exit_code == 1 and "There is no spinal canal in" in failed.output and not (tmp_path / "none.csv").exists()
    with_canal = run(tmp_path / "bare.nii.gz", "--canal", study / "labels.nii.gz", "--level", "L1/L2")
    assert with_canal.exit_code == 1 and "field of view" in with_canal.output, "no level was measured"


def test_discs_of_the_user_disagree(study: Path, tmp_path: Path) -> None:
    discs, _ = spine_labels(spine_map(grid=axial(3.0)), "map").discs(("L4/L5",))
    write_discs(tmp_path / "discs.json", {"L5/S1": replace(discs["L4/L5"], level="L5/S1")})
    done = run(study / "labels.nii.gz", "--discs", tmp_path / "discs.json", "--level", "L5/S1")
    alone = run("--canal", study / "labels.nii.gz", "--discs", tmp_path / "discs.json", "--level", "L5/S1")
    assert alone.exit_code == 0 and alone.output.splitlines()[2] == done.output.splitlines()[2]
    assert "lies at" not in alone.output and "Give LABELS" in run("--canal", study / "labels.nii.gz").output
    assert f"L5/S1 ({tmp_path / 'discs.json'}) lies at L4/L5 of {study / 'labels.nii.gz'}" in done.output


def test_outputs_are_checked_before_the_work(study: Path, tmp_path: Path) -> None:
    assert "must end in .csv" in run(study / "labels.nii.gz", "-o", tmp_path / "a.txt").output
    assert "--sr needs --scan" in run(study / "labels.nii.gz", "--sr", tmp_path / "a.dcm").output
    missing = run(tmp_path / "no.nii.gz")
    assert missing.exit_code == 1 and "no.nii.gz" in missing.output
    pytest.importorskip("highdicom", reason="needs highdicom, which is not installed")
    with_volume = run(study / "labels.nii.gz", "--scan", study / "labels.nii.gz", "--sr", tmp_path / "a.dcm")
    assert with_volume.exit_code == 1 and "The scan is not DICOM" in with_volume.output


# ---- DICOM SR ----------------------------------------------------------------------------------------------------


def items(node: Any, kind: str) -> list[Any]:
    found = []
    for item in node.get("ContentSequence", []):
        found += [item] if item.ValueType == kind else []
        found += items(item, kind)
    return found


def test_the_report_of_measures(study: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="needs highdicom, which is not installed")
    path = tmp_path / "measures.dcm"
    done = run(study / "labels.nii.gz", "--scan", study / "dicom", "--sr", path, "-o", tmp_path / "measures.csv")
    assert done.exit_code == 0, done.output
    report, source = pydicom.dcmread(path), pydicom.dcmread(next((study / "dicom").iterdir()))
    assert report.StudyInstanceUID == source.StudyInstanceUID and report.VerificationFlag == "UNVERIFIED"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500" and report.PreliminaryFlag == "PRELIMINARY"
    groups = [i for i in items(report, "CONTAINER") if i.ConceptNameCodeSequence[0].CodeValue == "125007"]
    assert len(groups) == len(LEVELS)
    rows = rows_of(tmp_path / "measures.csv")
    discs, _ = spine_labels(spine_map(grid=axial(3.0)), "map").discs()
    for level, group in zip(LEVELS, groups, strict=True):
        area, diameter = items(group, "NUM")
        values = [number.MeasuredValueSequence[0] for number in (area, diameter)]
        units = [value.MeasurementUnitsCodeSequence[0] for value in values]
        assert [(unit.CodingSchemeDesignator, unit.CodeValue) for unit in units] == [("UCUM", "mm2"), ("UCUM", "mm")]
        names = [number.ConceptNameCodeSequence[0].CodeValue for number in (area, diameter)]
        assert names == ["42798000", "81827009"]  # Area, Diameter (SNOMED CT)
        assert float(values[0].NumericValue) == pytest.approx(float(rows[level]["area (mm²)"]), abs=0.06)
        assert float(values[1].NumericValue) == pytest.approx(float(rows[level]["AP diameter (mm)"]), abs=0.06)
        (point,) = items(group, "SCOORD3D")
        ras = np.array(point.GraphicData, float) * [-1, -1, 1]
        np.testing.assert_allclose(discs[level].local(ras), [0, BACK, 0], atol=1)
        said = [i.TextValue for i in items(group, "TEXT")]
        assert CUTOFFS_TEXT in said and DISCLAIMER in said


def test_a_report_without_numbers_is_refused(study: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="needs highdicom, which is not installed")
    stacks = read_stacks(study / "dicom")
    images = report_images([study / "dicom"], stacks)
    assert len(images) == len(stacks[0].pixels)
    with pytest.raises(GaussianMRIError, match="measured at no level"):
        write_canal_report(tmp_path / "a.dcm", images, [CanalMeasure("L4/L5", problem="gone")])
    measured = CanalMeasure("L4/L5", 88.2, 3.0, 9.4, (0.0, -30.0, 10.0))
    assert write_canal_report(tmp_path / "a.dcm", images, [measured, CanalMeasure("L5/S1", problem="gone")]).exists()
    groups = [i for i in items(pydicom.dcmread(tmp_path / "a.dcm"), "CONTAINER")
              if i.ConceptNameCodeSequence[0].CodeValue == "125007"]  # fmt: skip
    assert len(groups) == 1
    with pytest.raises(GaussianMRIError, match="needs the DICOM images"):
        write_canal_report(tmp_path / "b.dcm", [], [measured])
