"""Grades as DICOM Structured Reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

pytest.importorskip("highdicom", reason="needs highdicom, which is not installed")

from GaussianMRILib import GaussianMRIError, ImagePlane
from GaussianMRILib.grading.labels import DISCLAIMER, LEVELS, Task
from GaussianMRILib.grading.structured_report import DISC_CODES, ReportedGrade, write_structured_report
from GaussianMRILib.phantom.dicom import Study, write_series

LPS = np.array([-1.0, -1.0, 1.0])
POINT = (4.0, -20.0, 11.0)
PLANE = ImagePlane.from_axes((2, -14, 9), (-1, 0, 0), (0, -0.8, -0.6), spacing=(0.31, 0.31), shape=(112, 224))
LEFT = ReportedGrade(
    Task("subarticular_stenosis", "left"),
    (0.25, 0.61, 0.14),
    "L5/S1 left subarticular: moderate 0.61",
    ("Checkpoint: abc", "Input type: R-GS"),
)
RIGHT = ReportedGrade(
    Task("neural_foraminal_narrowing", "right"),
    (0.7, 0.2, 0.1),
    "L5/S1 right neural foraminal: normal/mild 0.70",
    calibrated=True,
)


def series(folder: Path, study: str = "one", name: str = "T2") -> list[Path]:
    folder.mkdir()
    planes = ImagePlane.from_axes(
        (1, 2, 3), (-1, 0, 0), (0, -1, 0), spacing=(3, 3), shape=(12, 16), thickness=4
    ).stack(4, 4.5)
    write_series(folder, Study(study, 1), 1, planes, np.full((4, 12, 16), 0.4, np.float32), name)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return series(tmp_path_factory.mktemp("study") / "axial")


@pytest.fixture(scope="module")
def report(images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("report") / "grades.dcm"
    assert write_structured_report(path, images, "L5/S1", PLANE, POINT, [LEFT, RIGHT]) == path
    return pydicom.dcmread(path)


def items(node: Any, kind: str) -> list[Any]:
    """Every content item of a value type under a node."""
    found = []
    for item in node.get("ContentSequence", []):
        found += [item] if item.ValueType == kind else []
        found += items(item, kind)
    return found


def groups(report: Any) -> list[Any]:
    return [i for i in items(report, "CONTAINER") if i.ConceptNameCodeSequence[0].CodeValue == "125007"]


def value(group: Any, kind: str, concept: str) -> list[Any]:
    return [i for i in items(group, kind) if i.ConceptNameCodeSequence[0].CodeValue == concept]


def code(item: Any) -> tuple[str, str]:
    entry = item.ConceptCodeSequence[0]
    return str(entry.CodingSchemeDesignator), str(entry.CodeValue)


def test_the_report_stays_in_the_study_and_says_that_nobody_checked_it(
    report: Any, images: list[Path]
) -> None:
    source = pydicom.dcmread(images[0])
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "StudyDate"):
        assert report[keyword].value == source[keyword].value
    assert report.Modality == "SR" and report.SeriesInstanceUID != source.SeriesInstanceUID
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"  # Comprehensive 3D SR
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    referred = {
        i.ReferencedSOPInstanceUID for i in evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence
    }
    assert referred == {pydicom.dcmread(path).SOPInstanceUID for path in images}


@pytest.mark.parametrize(
    ("sets", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "Wang^XiaoDong=王^小东"), ("ISO_IR 100", "Müller^Jörg"), ("ISO 2022 IR 100", "Müller^Jörg"),
        ("", "Miller"), ("ISO_IR_100", "Miller"), (None, "Miller"),
    ],
)  # fmt: skip
def test_names_of_every_character_set(images: list[Path], tmp_path: Path, sets: Any, name: str) -> None:
    source = pydicom.dcmread(images[0])
    del source.SpecificCharacterSet
    if sets is not None:
        source.SpecificCharacterSet = sets
    source.PatientName = name
    source.save_as(tmp_path / "image.dcm")
    write_structured_report(tmp_path / "r.dcm", [tmp_path / "image.dcm"], "L5/S1", PLANE, POINT, [LEFT])
    written = pydicom.dcmread(tmp_path / "r.dcm")
    assert written.SpecificCharacterSet == "ISO_IR 192" and written.PatientName == name


def test_plane_and_point_are_where_they_were(report: Any, images: list[Path]) -> None:
    frame = pydicom.dcmread(images[0]).FrameOfReferenceUID
    plane, *graded = groups(report)
    (outline,) = items(plane, "SCOORD3D")
    assert outline.GraphicType == "POLYGON" and outline.ReferencedFrameOfReferenceUID == frame
    corners = np.reshape([float(v) for v in outline.GraphicData], (-1, 3)) * LPS
    np.testing.assert_allclose(corners[0], corners[-1])
    expected = PLANE.corners()
    for corner in expected:
        assert np.linalg.norm(corners - corner, axis=1).min() < 1e-3
    # Around the rectangle, not across it.
    sides = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    np.testing.assert_allclose(
        sorted(sides), sorted([224 * 0.31, 224 * 0.31, 112 * 0.31, 112 * 0.31]), atol=1e-3
    )
    for group in graded:
        (point,) = items(group, "SCOORD3D")
        assert point.GraphicType == "POINT" and point.ReferencedFrameOfReferenceUID == frame
        np.testing.assert_allclose(np.array(point.GraphicData, float) * LPS, POINT, atol=1e-4)


def test_sides_grades_and_what_stands_beside_them(report: Any) -> None:
    _, left, right = groups(report)
    sides = [code(value(group, "CODE", "272741003")[0]) for group in (left, right)]
    assert sides == [("SCT", "7771000"), ("SCT", "24028007")]  # left, right
    assert code(value(left, "CODE", "363698007")[0]) == ("SCT", "715056000")  # the L5/S1 disc
    assert code(value(left, "CODE", "246112005")[0]) == ("SCT", "6736007")  # moderate
    assert code(value(right, "CODE", "246112005")[0]) == ("99GAUSSIANMRI", "NORMAL_MILD")
    findings = [code(value(group, "CODE", "121071")[0])[1] for group in (left, right)]
    assert findings == ["SUBARTICULAR", "FORAMINAL"]
    numbers = [float(i.MeasuredValueSequence[0].NumericValue) for i in items(left, "NUM")]
    assert numbers == [0.25, 0.61, 0.14]
    assert value(left, "TEXT", "112039")[0].TextValue == LEFT.text
    said = [i.TextValue for i in value(left, "TEXT", "111002")]
    assert said == [*LEFT.facts, DISCLAIMER]
    names = [[i.ConceptNameCodeSequence[0] for i in items(side, "NUM")] for side in (left, right)]
    assert [side[2].CodeValue for side in names] == ["P_SEVERE", "P_SEVERE_C"]
    assert all(name.CodeMeaning.endswith(", uncalibrated") for name in names[0])
    assert all(name.CodeMeaning.endswith(", calibrated") for name in names[1])


def test_every_level_has_the_code_of_its_disc() -> None:
    from pydicom.sr import _snomed_dict  # noqa: F401  the dictionary is there
    from pydicom.sr.codedict import codes

    known = {codes.SCT.__getattr__(name).value: codes.SCT.__getattr__(name).meaning for name in dir(codes.SCT)
             if "ntervertebralDisc" in name}  # fmt: skip
    assert set(DISC_CODES) == set(LEVELS)
    for number, meaning in DISC_CODES.values():
        assert known[number].startswith(meaning)


def test_what_cannot_be_reported_is_refused(images: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "report.dcm"
    target.write_text("mine")
    other = series(tmp_path / "other", "two")
    bare = pydicom.dcmread(images[0])
    del bare.FrameOfReferenceUID
    bare.save_as(tmp_path / "bare.dcm")
    for call, message in (
        (lambda: write_structured_report(target, images, "L6/S1", PLANE, POINT, [LEFT]), "no level 'L6/S1'"),
        (lambda: write_structured_report(target, images, "L5/S1", PLANE, POINT, []), "no grade to report"),
        (
            lambda: write_structured_report(target, [], "L5/S1", PLANE, POINT, [LEFT]),
            "needs the DICOM images",
        ),
        (lambda: write_structured_report(target, images, "L5/S1", PLANE, (1, 2), [LEFT]), "three numbers"),
        (
            lambda: write_structured_report(target, images + other, "L5/S1", PLANE, POINT, [LEFT]),
            "2 different",
        ),
        (
            lambda: write_structured_report(target, [tmp_path / "bare.dcm"], "L5/S1", PLANE, POINT, [LEFT]),
            "frame",
        ),
        (
            lambda: write_structured_report(target, [target], "L5/S1", PLANE, POINT, [LEFT]),
            "not a DICOM file",
        ),
        (lambda: ReportedGrade(LEFT.task, (0.5, 0.2, 0.1), "x"), "sum to 1"),
        (
            lambda: write_structured_report(tmp_path / "no" / "a.dcm", images, "L5/S1", PLANE, POINT, [LEFT]),
            "cannot be written",
        ),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            call()
    assert target.read_text() == "mine"
    assert not list(tmp_path.glob(".partial*"))
