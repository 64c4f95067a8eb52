"""Reader of the RSNA layout: every trap gives the right geometry, or a line and nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from rsna_files import (
    Copy,
    axial_planes,
    pixel,
    rewrite,
    sagittal_planes,
    values,
)

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.grading import rsna
from GaussianMRILib.grading.rsna import RsnaDataset, RsnaStudy
from GaussianMRILib.grading.rsna_tables import AXIAL, SAGITTAL_T1, SAGITTAL_T2
from GaussianMRILib.stacks import SliceStack


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "rsna")


def read(copy: Copy, study: str = "1") -> RsnaStudy:
    return RsnaDataset(copy.save(), copy.part).study(study)


def levels_of(study: RsnaStudy) -> list[str]:
    return [level for _, level in study.coordinates]


def check_values(stack: SliceStack, scale: float = 1000.0) -> None:
    """Every pixel has the value of its place: slices are where their pixels say (stored with 1/1000)."""
    for plane, pixels in zip(stack.planes(), stack.pixels, strict=True):
        expected = (1 + plane.points() @ [1, 2, 3] / 500) * scale
        assert np.abs(pixels - expected).max() <= 0.51
    assert (np.diff(stack.positions) > 0).all()


def full(copy: Copy, study: str = "1") -> None:
    copy.series(study, f"{study}1", AXIAL)
    copy.series(study, f"{study}2", SAGITTAL_T2)
    copy.series(study, f"{study}3", SAGITTAL_T1)
    copy.grade(study, left_subarticular_stenosis_l5_s1="Severe", spinal_canal_stenosis_l4_l5="Moderate")


def test_a_good_study_is_read_without_a_problem(copy: Copy) -> None:
    full(copy)
    place = np.array([-9.0, -4.0, 3.0])
    instance, x, y = pixel(axial_planes(), place)
    copy.mark("1", "11", instance, "Left Subarticular Stenosis", "L5/S1", x, y)
    study = read(copy)
    assert study.problems == [] and study.patient == "patient 1" and study.synthetic
    assert len(study.axial) == 1 and study.axial[0].shape == (6, 20, 24)
    assert study.sagittal_t2 is not None and study.sagittal_t1 is not None
    for stack in (*study.axial, study.sagittal_t2, study.sagittal_t1):
        check_values(stack)
    assert study.grades["left_subarticular_stenosis_l5_s1"] == "Severe" and len(study.grades) == 25
    found = study.coordinates["left_subarticular_stenosis", "L5/S1"]
    assert (
        np.allclose(found[:2], place[:2], atol=1e-6) and abs(found[2] - place[2]) <= 2.0
    )  # in the nearest slice
    assert rsna.validate(copy.folder, workers=1) == []


@pytest.mark.parametrize("upwards", [False, True])
def test_slices_are_sorted_by_position_whichever_way_instances_run(copy: Copy, upwards: bool) -> None:
    copy.series("1", "11", AXIAL, upwards=upwards)
    top, bottom = (6, 1) if upwards else (1, 6)
    copy.mark("1", "11", top, "Spinal Canal Stenosis", "L4/L5", 3.0, 7.0)
    copy.mark("1", "11", bottom, "Spinal Canal Stenosis", "L5/S1", 5.0, 7.0)
    study = read(copy)
    check_values(study.axial[0])
    planes = axial_planes()  # from the lowest to the highest
    assert np.allclose(study.coordinates["spinal_canal_stenosis", "L4/L5"], planes[-1].points()[7, 3])
    assert np.allclose(study.coordinates["spinal_canal_stenosis", "L5/S1"], planes[0].points()[7, 5])


def test_slabs_of_one_series_are_told_apart(copy: Copy) -> None:
    """Six slabs, two of one angle, in one series: the angles of a real one."""
    angles = (-6.5, -6.5, -6.0, 4.0, 12.5, 28.0)
    blocks = [axial_planes((0, 3.0 * n, 150 - 30 * n), 4, 4.0, angle) for n, angle in enumerate(angles)]
    planes = [plane for block in blocks for plane in block]
    copy.series("1", "11", AXIAL, planes)
    study = read(copy)
    assert study.problems == [] and [stack.shape[0] for stack in study.axial] == [4] * 6
    assert len({stack.name for stack in study.axial}) == 6
    for stack in study.axial:
        check_values(stack)
        assert np.allclose(np.diff(stack.positions), 4.0, atol=1e-6)
    middles = sorted(stack.plane(1).center[2] + 2 for stack in study.axial)
    assert np.allclose(middles, [0, 30, 60, 90, 120, 150], atol=0.3)
    by_height = sorted(study.axial, key=lambda stack: -stack.plane(0).center[2])
    tilts = [np.degrees(np.arctan2(-stack.normal[1], stack.normal[2])) for stack in by_height]
    assert np.allclose(tilts, angles, atol=1e-3)


def test_interleaved_slabs_of_one_angle_stay_apart(copy: Copy) -> None:
    planes = [*axial_planes((0, 0, 0), 5), *axial_planes((0, 9, 10), 5)]
    copy.series("1", "11", AXIAL, planes)
    study = read(copy)
    assert [stack.shape[0] for stack in study.axial] == [5, 5]
    for stack in study.axial:
        check_values(stack)
        assert np.allclose(np.diff(stack.positions), 4.0)


def test_sheared_blocks_stay_whole(copy: Copy) -> None:
    planes = [plane.transformed(_moved(0, 1.5 * k, 0)) for k, plane in enumerate(axial_planes())]
    copy.series("1", "11", AXIAL, planes)
    assert [stack.shape[0] for stack in read(copy).axial] == [6]


def _moved(x: float, y: float, z: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return matrix


def test_a_missing_slice_is_a_gap_that_nothing_crosses(copy: Copy) -> None:
    folder = copy.series("1", "11", AXIAL, axial_planes(count=9))
    (folder / "4.dcm").unlink()
    study = read(copy)
    assert sorted(stack.shape[0] for stack in study.axial) == [3, 5]
    assert any("gap of 8.00 mm" in p and "1 missing" in p for p in study.problems)


def test_two_axial_series_and_their_marks(copy: Copy) -> None:
    other = axial_planes((0, 5, 4), 7, 5.0, 12.0)
    copy.series("1", "11", AXIAL)
    copy.series("1", "12", AXIAL, other)
    copy.mark("1", "11", 2, "Left Subarticular Stenosis", "L4/L5", 15, 8)
    copy.mark("1", "12", 6, "Left Subarticular Stenosis", "L5/S1", 14, 9)
    study = read(copy)
    assert [stack.shape[0] for stack in study.axial] == [6, 7] and study.problems == []
    assert np.allclose(study.coordinates["left_subarticular_stenosis", "L5/S1"], other[1].points()[9, 14])
    assert np.allclose(
        study.coordinates["left_subarticular_stenosis", "L4/L5"], axial_planes()[4].points()[8, 15]
    )


def _without_spacing(dataset: pydicom.Dataset) -> None:
    del dataset.SpacingBetweenSlices
    if int(dataset.InstanceNumber) % 2:
        del dataset.SliceThickness


def _signed(dataset: pydicom.Dataset) -> None:
    pixels = dataset.pixel_array.astype(np.int16) - 1200
    dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 1, 16, 15
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "1200"
    dataset.PixelData = pixels.tobytes()


def _rle(dataset: pydicom.Dataset) -> None:
    dataset.compress(pydicom.uid.RLELossless)


@pytest.mark.parametrize("change", [_without_spacing, _signed, _rle])
def test_headers_and_pixels_of_all_kinds(copy: Copy, change: Callable[[pydicom.Dataset], None]) -> None:
    copy.series("1", "11", AXIAL, change=change)
    study = read(copy)
    assert study.problems == [] and study.axial[0].shape == (6, 20, 24)
    check_values(study.axial[0])
    assert study.axial[0].spacing == pytest.approx(4.0) and study.axial[0].thickness == pytest.approx(3.0)


def test_signed_pixels_below_zero_are_dark_and_not_bright(copy: Copy) -> None:
    copy.series("1", "11", AXIAL, change=lambda d: (_signed(d), setattr(d, "RescaleIntercept", "0")))
    stack = read(copy).axial[0]
    assert stack.pixels.max() < 0 and stack.pixels.min() > -500


def test_matrix_sizes_are_kept_apart(copy: Copy) -> None:
    copy.series("1", "11", AXIAL, [*axial_planes()])
    more = axial_planes((0, 0, 40), 5, shape=(30, 40))
    extra = copy.series("1", "hidden", AXIAL, more)
    copy.descriptions.pop()
    uid = pydicom.dcmread(copy.images / "1/11/1.dcm").SeriesInstanceUID
    for path in extra.iterdir():
        rewrite(
            path,
            lambda d: (
                setattr(d, "SeriesInstanceUID", uid),
                setattr(d, "InstanceNumber", d.InstanceNumber + 20),
            ),
        )
        path.rename(copy.images / "1" / "11" / f"{int(path.stem) + 20}.dcm")
    extra.rmdir()
    study = read(copy)
    assert sorted(stack.shape for stack in study.axial) == [(5, 30, 40), (6, 20, 24)]
    assert any("several sizes" in p for p in study.problems) and len(study.problems) == 1
    for stack in study.axial:
        check_values(stack)


# ---- what is left out ----------------------------------------------------------------------------------------


def _truncated(folder: Path) -> None:
    content = (folder / "3.dcm").read_bytes()
    (folder / "3.dcm").write_bytes(content[: len(content) - 300])


def _not_dicom(folder: Path) -> None:
    (folder / "3.dcm").write_text("<html>not found</html>")


def _nothing(folder: Path) -> None:
    shutil.rmtree(folder)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _no_position(folder: Path) -> None:
    rewrite(folder / "2.dcm", lambda d: delattr(d, "ImagePositionPatient"))


def _computed(folder: Path) -> None:
    rewrite(folder / "2.dcm", lambda d: setattr(d, "Modality", "CT"))


def _foreign(folder: Path) -> None:
    rewrite(folder / "2.dcm", lambda d: setattr(d, "SeriesInstanceUID", "1.2.3.4"))


def _echo(folder: Path) -> None:
    def change(dataset: pydicom.Dataset) -> None:
        dataset.SOPInstanceUID, dataset.InstanceNumber, dataset.EchoTime = "1.2.3.9", 30, "20"
        dataset.PixelData = dataset.PixelData[::-1]

    shutil.copy(folder / "2.dcm", folder / "30.dcm")
    rewrite(folder / "30.dcm", change)


def _black(folder: Path) -> None:
    for path in folder.iterdir():
        rewrite(path, lambda d: setattr(d, "PixelData", bytes(len(d.PixelData))))


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (_truncated, "3.dcm"),
        (_not_dicom, "not a DICOM file"),
        (_nothing, "its folder is not there"),
        (_empty, "its folder is empty"),
        (_no_position, "no position"),
        (_computed, "modality 'CT'"),
        (_foreign, "images of 2 series"),
        (_echo, "different images of one place"),
        (_black, "every image is empty"),
    ],
)
def test_a_series_is_used_whole_or_not_at_all(copy: Copy, spoil: Callable[[Path], None], line: str) -> None:
    full(copy)
    copy.series("1", "14", AXIAL, axial_planes((0, 4, 0), 8))
    copy.mark("1", "11", 4, "Left Subarticular Stenosis", "L5/S1", 15, 8)
    spoil(copy.images / "1" / "11")
    study = read(copy)
    assert [stack.name for stack in study.axial] == ["series 14"]
    assert sum("series 11" in p and "is left out" in p and line in p for p in study.problems) == 1
    assert study.coordinates == {}
    lines = rsna.validate(copy.folder, workers=1)
    assert any(text.startswith("1: ") and line in text for text in lines)


def test_copies_and_empty_slices(copy: Copy) -> None:
    folder = copy.series("1", "11", AXIAL, axial_planes(count=9))
    shutil.copy(folder / "2.dcm", folder / "30.dcm")
    rewrite(folder / "5.dcm", lambda d: setattr(d, "PixelData", bytes(len(d.PixelData))))
    study = read(copy)
    assert [stack.shape[0] for stack in study.axial] == [4, 4]
    assert any("1 files are copies" in p for p in study.problems)
    assert any("1 images are empty" in p for p in study.problems)
    # Two files claim Instance Number 2, but they are one image.
    assert any("are named by another number" in p for p in study.problems)


def test_orientation_has_to_be_as_described(copy: Copy) -> None:
    copy.series("1", "11", AXIAL, sagittal_planes())
    copy.series("1", "12", SAGITTAL_T2, axial_planes())
    copy.series("1", "13", AXIAL, axial_planes(tilt=-45.0))
    study = read(copy)
    assert [stack.name for stack in study.axial] == ["series 13"] and study.sagittal_t2 is None
    assert sum("another orientation" in p for p in study.problems) == 2


def test_instance_number_counts_and_not_the_file_name(copy: Copy) -> None:
    folder = copy.series("1", "11", AXIAL)
    for path in sorted(folder.iterdir(), key=lambda p: -int(p.stem)):
        path.rename(folder / f"{int(path.stem) + 1}.dcm")
    copy.mark("1", "11", 2, "Left Subarticular Stenosis", "L5/S1", 15, 8)
    study = read(copy)
    assert any("6 of 6 files are named by another number" in p for p in study.problems)
    assert np.allclose(
        study.coordinates["left_subarticular_stenosis", "L5/S1"], axial_planes()[4].points()[8, 15]
    )


def test_one_number_for_two_images(copy: Copy) -> None:
    folder = copy.series("1", "11", AXIAL)
    rewrite(folder / "5.dcm", lambda d: setattr(d, "InstanceNumber", 2))
    for instance, level in ((2, "L5/S1"), (3, "L4/L5"), (5, "L3/L4")):
        copy.mark("1", "11", instance, "Left Subarticular Stenosis", level, 15, 8)
    study = read(copy)
    assert levels_of(study) == ["L4/L5"] and study.axial[0].shape[0] == 6
    assert any("2 images have the Instance Number 2" in p for p in study.problems)


def test_marks_that_cannot_be(copy: Copy) -> None:
    full(copy)
    marks = [
        (40, "Left Subarticular Stenosis", "L1/L2", 5, 5),
        (2, "Left Subarticular Stenosis", "L2/L3", 24.6, 5),
        (2, "Left Subarticular Stenosis", "L3/L4", 5, -0.6),
        (2, "Left Subarticular Stenosis", "L4/L5", 23.4, 19.4),
        (4, "Right Subarticular Stenosis", "L5/S1", 18, 8),  # to the left of the left one
        (4, "Left Subarticular Stenosis", "L5/S1", 6, 8),
    ]
    for instance, condition, level, x, y in marks:
        copy.mark("1", "11", instance, condition, level, x, y)
    copy.mark("1", "99", 1, "Left Subarticular Stenosis", "L5/S1", 5, 5)
    copy.points.append(["1", "11", "2", "Left Facet Disease", "L5/S1", "1", "1"])
    copy.points.append(["1", "11", "2", "Left Subarticular Stenosis", "L5/S1", "", "1"])
    study = read(copy)
    assert levels_of(study) == ["L4/L5"]
    for text in (
        "on image 40 of series 11, which is not there",
        "at 25, 5 lies outside its image of 24 x 20",
        "at 5, -1 lies outside",
        "right subarticular stenosis L5/S1 contradicts",
        "left subarticular stenosis L5/S1 contradicts",
        "series 99, which is not used",
        "unknown 'Left Facet Disease L5/S1'",
        "are not numbers",
    ):
        assert sum(text in p for p in study.problems) == 1, text
    assert all(p.endswith("(train_label_coordinates.csv)") for p in study.problems if "mark" in p)


def test_marks_in_the_wrong_order_and_in_two_places(copy: Copy) -> None:
    copy.series("1", "11", AXIAL, axial_planes(count=12))
    for instance, level in ((2, "L3/L4"), (9, "L4/L5"), (6, "L5/S1"), (3, "L2/L3")):
        copy.mark("1", "11", instance, "Spinal Canal Stenosis", level, 12, 8)
    copy.mark("1", "11", 3, "Spinal Canal Stenosis", "L2/L3", 12, 14)
    copy.mark("1", "11", 2, "Spinal Canal Stenosis", "L3/L4", 12, 9)  # 2 mm away: the same
    study = read(copy)
    assert levels_of(study) == ["L3/L4"]
    planes = axial_planes(count=12)
    middle = (planes[10].points()[8, 12] + planes[10].points()[9, 12]) / 2
    assert np.allclose(study.coordinates["spinal_canal_stenosis", "L3/L4"], middle)
    assert any("spinal canal stenosis L2/L3 is marked at several places" in p for p in study.problems)
    assert sum("contradicts another" in p for p in study.problems) == 2


def test_tables_that_contradict_themselves(copy: Copy) -> None:
    full(copy)
    copy.grade("1", left_subarticular_stenosis_l5_s1="Severe", spinal_canal_stenosis_l4_l5="Severe")
    copy.grades[0][6] = ""  # left foraminal narrowing L1/L2 of one row is blank: the other row counts
    copy.grades[0][7] = copy.grades[1][7] = ""
    copy.grades[0][8] = copy.grades[1][8] = "Mild?"
    copy.descriptions.append(["1", "11", AXIAL])
    copy.descriptions.append(["1", "13", AXIAL])
    copy.descriptions.append(["1", "15", "Coronal STIR"])
    study = read(copy)
    assert study.grades["left_subarticular_stenosis_l5_s1"] == "Severe"
    assert study.grades["left_neural_foraminal_narrowing_l1_l2"] == "Normal/Mild"
    for blank in (
        "spinal_canal_stenosis_l4_l5", "left_neural_foraminal_narrowing_l2_l3", "left_neural_foraminal_narrowing_l3_l4"
    ):  # fmt: skip
        assert blank not in study.grades
    assert len(study.grades) == 22 and len(study.axial) == 1 and study.sagittal_t1 is None
    for text in (
        "more than once", "spinal_canal_stenosis_l4_l5 is Moderate and Severe", "unknown grade 'Mild?'",
        "series 13 is described as Sagittal T1 and as Axial T2", "unknown description 'Coronal STIR'",
    ):  # fmt: skip
        assert sum(text in p for p in study.problems) == 1, text


def test_studies_of_several_patients_or_places(copy: Copy) -> None:
    full(copy, "1")
    copy.series("1", "14", AXIAL, patient="somebody else")
    full(copy, "2")
    copy.series("2", "24", AXIAL, change=lambda d: setattr(d, "FrameOfReferenceUID", "1.2.3"))
    full(copy, "3")
    copy.series("3", "34", AXIAL, change=lambda d: setattr(d, "StudyInstanceUID", "1.2.3"))
    data = RsnaDataset(copy.save())
    with pytest.raises(GaussianMRIError, match="images of 2 patients") as error:
        data.study("1")
    assert "somebody" not in str(error.value)
    moved = data.study("2")
    assert [stack.name for stack in moved.axial] == ["series 21"]
    assert any("series 24 (Axial T2) is left out: its frame of reference" in p for p in moved.problems)
    assert any("several DICOM studies" in p for p in data.study("3").problems)


def test_a_copy_is_validated(copy: Copy) -> None:
    for study in ("1", "2", "3"):
        full(copy, study)
    copy.series("4", "41", SAGITTAL_T2, patient="patient 2")
    copy.grade("5")
    copy.grade("6")
    (copy.images / "6" / "61").mkdir(parents=True)
    copy.mark("77", "1", 1, "Spinal Canal Stenosis", "L1/L2", 1, 1)
    seen: list[tuple[int, int]] = []
    lines = rsna.validate(copy.save(), workers=1, progress=lambda done, total, _: seen.append((done, total)))
    assert seen == [(n, 6) for n in range(1, 7)]
    assert "2: the same patient as 4; they go into one split" in lines
    assert "4: the study has no row in train.csv" in lines and "4: no axial series can be used" in lines
    assert any(line.startswith("5: Study 5 is in the tables, but there is no folder") for line in lines)
    assert "6: series 61 is not described and is left out" in lines
    assert "77: label coordinates of a study that is nowhere else" in lines
    assert not [line for line in lines if line.startswith(("1:", "3:"))]
    assert rsna.validate(copy.folder, studies=["1", "3"], workers=1) == []


def test_everybody_is_one_patient(copy: Copy) -> None:
    for study in ("1", "2", "3"):
        copy.series(study, f"{study}1", AXIAL, patient="ANONYMOUS")
        copy.series(study, f"{study}2", SAGITTAL_T2, patient="ANONYMOUS")
        copy.grade(study)
    lines = rsna.validate(copy.save(), workers=1)
    assert lines == [
        "All studies have the same Patient ID: no split by patient is possible. Give each its own."
    ]


def test_what_is_no_copy(tmp_path: Path, copy: Copy) -> None:
    with pytest.raises(GaussianMRIError, match="has no train_images"):
        RsnaDataset(tmp_path)
    with pytest.raises(GaussianMRIError, match="train_series_descriptions"):
        RsnaDataset(copy.folder)
    full(copy)
    copy.save()
    with pytest.raises(GaussianMRIError, match="no study 9"):
        RsnaDataset(copy.folder).study("9")
    table = copy.folder / "train.csv"
    table.write_text(table.read_text() + "2,Severe\n")
    with pytest.raises(GaussianMRIError, match="line 3, has another number of cells"):
        RsnaDataset(copy.folder)
    table.write_text("name,age\n1,2\n")
    with pytest.raises(GaussianMRIError, match="no column study_id"):
        RsnaDataset(copy.folder)


def test_the_test_part_has_no_grades(tmp_path: Path) -> None:
    copy = Copy(tmp_path / "rsna", "test")
    copy.series("1", "11", AXIAL)
    study = RsnaDataset(copy.save(), "test").study("1")
    assert study.grades == {} and study.problems == [] and len(study.axial) == 1


def test_published_tables_are_read(shared_data: Path, tmp_path: Path) -> None:
    for path in (shared_data / "rsna_schema").glob("*.csv"):
        shutil.copy(path, tmp_path)
    (tmp_path / "train_images").mkdir()
    data = RsnaDataset(tmp_path)
    tables = data.tables
    assert len(data) == len(tables.grades) > 3 and not tables.problems
    assert tables.grades["900000001"]["right_neural_foraminal_narrowing_l4_l5"] == "Moderate"
    assert tables.grades["900000001"]["right_neural_foraminal_narrowing_l3_l4"] == "Normal/Mild"
    assert tables.series["900000001"]["9000000013"] == AXIAL
    point = tables.points["900000001"][0]
    assert (point.condition, point.level, point.instance) == ("spinal_canal_stenosis", "L1/L2", 8)
    assert point.x == pytest.approx(245.724389)


def test_pixels_of_other_series_are_not_read(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    full(copy)
    copy.mark("1", "13", 2, "Left Neural Foraminal Narrowing", "L5/S1", 15, 8)
    study = RsnaDataset(copy.save()).study("1", (AXIAL,))
    assert study.sagittal_t1 is None and study.sagittal_t2 is None and study.problems == []
    expected = sagittal_planes()[3].points()[8, 15]
    assert np.allclose(study.coordinates["left_neural_foraminal_narrowing", "L5/S1"], expected)
    assert np.allclose(values(sagittal_planes())[3][8, 15], 1 + expected @ [1, 2, 3] / 500)
