"""Label maps of TotalSpineSeg and SPINEPS: their discs and canal, and maps that cannot be so."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from spine_scenes import CANAL, axial, sagittal, spine_map, spineps_pair, true_area, true_frames

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.grading.canal_study import StudyMeasures, measure_study
from GaussianMRILib.grading.disc import angle_degrees
from GaussianMRILib.grading.disc_files import read_disc_file
from GaussianMRILib.grading.label_schemes import (
    SPINEPS_REGIONS,
    SPINEPS_VERTEBRAE,
    TOTALSPINESEG,
    TOTALSPINESEG_2024,
    disc_of_name,
    scheme_of,
    spineps_discs,
)
from GaussianMRILib.grading.labels import LEVELS
from GaussianMRILib.grading.spine_labels import SpineLabels, canal_mask, spine_labels
from GaussianMRILib.labels import LabelFile, write_labels
from GaussianMRILib.stacks import SliceStack


@functools.cache
def spine() -> LabelFile:
    return spine_map()


@functools.cache
def spineps() -> tuple[LabelFile, LabelFile]:
    return spineps_pair()


def changed(labels: LabelFile, values: dict[int, int]) -> LabelFile:
    voxels = labels.voxels.copy()
    for old, new in values.items():
        voxels[labels.voxels == old] = new
    return LabelFile(voxels, labels.ijk_to_ras)


def stack_of(labels: LabelFile, name: str = "T2") -> SliceStack:
    return SliceStack.from_array(np.zeros(labels.voxels.shape, np.float32), labels.ijk_to_ras, name=name)


def problems(measures: StudyMeasures) -> dict[str, str]:
    return {row.level: row.problem for row in measures.measures if row.problem}


# ---- values and names ------------------------------------------------------------------------------------------


def test_values_of_both_programs() -> None:
    assert {level: TOTALSPINESEG.discs[level] for level in LEVELS} == dict(zip(LEVELS, (92, 93, 94, 95, 100), strict=True))
    vertebrae = [TOTALSPINESEG.vertebrae[name] for name in ("C1", "T1", "T12", "L1", "L5", "L6", "S1")]
    assert vertebrae == [11, 21, 32, 41, 45, 46, 50]
    assert TOTALSPINESEG.discs["T12/L1"] == 91 and TOTALSPINESEG.discs["C7/T1"] == 71 and set(TOTALSPINESEG.canal) == {1, 2}
    old = TOTALSPINESEG_2024
    assert {level: old.discs[level] for level in LEVELS} == dict(zip(LEVELS, (206, 205, 204, 203, 202), strict=True))
    assert [old.vertebrae[name] for name in ("L5", "L1", "C1", "S1")] == [18, 22, 41, 92] and set(old.canal) == {200, 201}
    assert [SPINEPS_VERTEBRAE.vertebrae[name] for name in ("T12", "L1", "L5", "L6", "S1", "T13")] == [19, 20, 24, 25, 26, 28]
    assert spineps_discs({24, 26})["L5/S1"] == 124 and set(SPINEPS_REGIONS.canal) == {60, 61}
    six = spineps_discs({24, 25, 26})
    assert (six["L5/L6"], six["L6/S1"]) == (124, 125) and "L5/S1" not in six
    assert spineps_discs({28})["T13/L1"] == 128 and spineps_discs({28})["T12/T13"] == 119


def test_which_program_wrote_a_map() -> None:
    assert scheme_of(spine()) is TOTALSPINESEG
    assert scheme_of(spine_map(TOTALSPINESEG_2024)) is TOTALSPINESEG_2024, "whose 92 is the sacrum, not a disc"
    vertebrae, regions = (scheme_of(labels) for labels in spineps())
    assert vertebrae is not None and vertebrae.name == SPINEPS_VERTEBRAE.name
    assert regions is SPINEPS_REGIONS, "whose 100 are all discs, not L5/S1"
    other = changed(spine(), {value: 1 for value in range(1, 255)})
    assert scheme_of(other) is None
    with pytest.raises(GaussianMRIError, match=r"nothing says what its values \[1\] are"):
        spine_labels(other, "mask.nii.gz")


def test_names_of_segments_are_believed_before_values() -> None:
    names = {1: "disc_L4_L5", 2: "vertebrae_L4", 3: "vertebrae_L5", 4: "spinal_canal", 5: "something"}
    where = {95: 1, 44: 2, 45: 3, 2: 4, 100: 5}
    others = {value: 0 for value in range(255) if value not in where}
    labels = replace(changed(spine(), others | where), segments={n: {"Name": name} for n, name in names.items()})
    found = spine_labels(labels, "spine.seg.nrrd")
    assert found.scheme.discs == {"L4/L5": 1} and found.scheme.vertebrae == {"L4": 2, "L5": 3} and found.scheme.canal == (4,)
    rows = measure_study({"spine.seg.nrrd": labels}).measures
    assert [row.level for row in rows if row.area is not None] == ["L4/L5"]


@pytest.mark.parametrize(
    ("name", "level"),
    [("disc_L5_S", "L5/S1"), ("L4-L5 disc", "L4/L5"), ("L4_ivd", "L4/L5"), ("disc_T12_L1", "T12/L1"), ("L5S1", "L5/S1"),
     ("vertebrae_L4", ""), ("L4", ""), ("Segment_1", "")],
)  # fmt: skip
def test_levels_of_names(name: str, level: str) -> None:
    assert disc_of_name(name) == level


# ---- all discs at once -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["TotalSpineSeg", "SPINEPS"])
def test_all_discs_and_their_canal(program: str) -> None:
    """Discs from sagittal slices, the canal from axial ones, each where it is seen best."""
    if program == "SPINEPS":
        maps, axials = dict(zip(("vert", "spine"), spineps(), strict=True)), spineps_pair(axial())[1]
    else:
        maps, axials = {"map": spine()}, spine_map(grid=axial())
    done: list[float] = []
    found = measure_study(maps, canal=("axial", axials), progress=done.append)
    assert problems(found) == {} and found.remarks == () and done[-1] == 1 and found.spine is not None
    discs, _ = found.spine.discs()
    for row in found.measures:
        truth = true_frames()[row.level]
        assert np.linalg.norm(discs[row.level].center - truth[:3, 3]) < 0.6
        assert angle_degrees(discs[row.level].normal, truth[:3, 2]) < 1
        assert row.area == pytest.approx(true_area(row.level), rel=0.03)
        assert row.diameter == pytest.approx(2 * CANAL[row.level][1], abs=0.6)
        assert row.notes == ()
    assert [row.below for row in found.measures] == [None] * 5


def test_a_file_of_discs_takes_both_programs(tmp_path: Path) -> None:
    write_labels(tmp_path / "vert.nii.gz", spineps()[0])
    discs, lines = read_disc_file(tmp_path / "vert.nii.gz", None)
    assert list(discs) == list(LEVELS) and lines == []
    assert discs["L5/S1"].facts["label"] == 124 and discs["L5/S1"].file.endswith("vert.nii.gz")
    write_labels(tmp_path / "spine.nii.gz", spineps()[1])
    discs, lines = read_disc_file(tmp_path / "spine.nii.gz", None, ("L5/S1",))
    assert discs == {} and "SPINEPS seg-spine) has no disc L5/S1" in lines[0]


def test_other_files_of_the_canal() -> None:
    bare = spine_map(canal=False)
    with pytest.raises(GaussianMRIError, match="no spinal canal in map"):
        measure_study({"map": bare})
    mask = LabelFile((spine().voxels == 2).astype(np.uint8) * 7, spine().ijk_to_ras)
    plain, other = measure_study({"map": spine()}), measure_study({"map": bare}, canal=("canal", mask))
    assert [row.area for row in plain.measures] == [row.area for row in other.measures]
    with pytest.raises(GaussianMRIError, match="bare has no spinal canal"):
        canal_mask(bare, "bare")
    with pytest.raises(GaussianMRIError, match="no discs in spine"):
        measure_study({"spine": spineps()[1]})


# ---- unusual spines --------------------------------------------------------------------------------------------


def test_six_lumbar_vertebrae() -> None:
    """L6: the lowest disc has L5/S1's value in TotalSpineSeg and its own in SPINEPS; neither is taken for L5/S1."""
    six = ("L1", "L2", "L3", "L4", "L5", "L6", "S1")
    scheme = replace(TOTALSPINESEG, discs=TOTALSPINESEG.discs | {"L6/S1": 100})
    pair = dict(zip(("map", "spine"), spineps_pair(vertebrae=six), strict=True))
    for maps in ({"map": spine_map(scheme, vertebrae=six)}, pair):
        found = measure_study(maps)
        assert problems(found) == {"L5/S1": "L6 lies between L5 and S1 in map, so that there is no L5/S1"}
        assert found.remarks == ("map has L6: a transitional vertebra, levels may be named otherwise",)
        assert all("L6 in the label map: levels may be named otherwise" in row.notes for row in found.measures[:4])
        assert found.measures[3].center is not None
        assert np.linalg.norm(true_frames(six)["L4/L5"][:3, 3] - found.measures[3].center) < 45


def test_a_vertebra_is_missing() -> None:
    """L5 grown into the sacrum: what lies on the sacrum is not L5/S1, and nothing moves up by one."""
    four = ("T11", "T12", "L1", "L2", "L3", "L4", "S1")
    scheme = replace(TOTALSPINESEG, discs=TOTALSPINESEG.discs | {"L4/S1": 100})
    found = measure_study({"map": spine_map(scheme, vertebrae=four)})
    said = "map has no L5, though vertebrae above and below"
    assert problems(found) == {"L4/L5": said, "L5/S1": said}
    assert found.remarks == ("map lacks L5 between T11 and S1",)
    assert found.measures[2].area is not None


def test_two_vertebrae_of_one_label() -> None:
    twice = changed(spine(), {43: 44})
    found = measure_study({"map": twice})
    assert "map has L4 twice" in found.remarks
    assert problems(found)["L4/L5"] == "L4 is twice in map" == problems(found)["L3/L4"]
    assert found.measures[4].area is not None and found.measures[0].area is not None
    discs = measure_study({"map": changed(spine(), {94: 95})})
    assert problems(discs)["L4/L5"] == "L4/L5 is twice in map"


def test_an_arch_apart_from_its_body_is_one_vertebra() -> None:
    labels = LabelFile(spine().voxels.copy(), spine().ijk_to_ras)
    k, j, i = np.indices(labels.voxels.shape)
    y = (np.stack([i, j, k], axis=-1) @ labels.ijk_to_ras[:3, :3].T + labels.ijk_to_ras[:3, 3])[..., 1]
    body = labels.voxels == 44
    shift = round(44 / 0.9)
    arch = np.roll(body, shift, axis=2) & (y < -40) & (labels.voxels == 0)
    labels.voxels[arch] = 44
    assert arch.sum() > 0.25 * body.sum()
    assert SpineLabels(labels, TOTALSPINESEG, "map").double == ()


def test_a_level_outside_the_field_of_view() -> None:
    few = spine_map(vertebrae=("L3", "L4", "L5", "S1"))
    found = measure_study({"map": few})
    assert problems(found)["L1/L2"] == "L1/L2 is not in the field of view of map, which has L3 to S1"
    assert problems(found)["L2/L3"].startswith("L2/L3 is not in the field of view")
    assert found.measures[2].level == "L3/L4" and found.measures[2].area is not None
    alone = measure_study({"map": changed(spine(), {value: 0 for value in range(11, 51)})})
    assert alone.measures[3].notes[-1] == "L4 and L5 not in the label map, so that the name L4/L5 is not checked"


def test_vertebrae_that_were_only_counted() -> None:
    """SPINEPS without its labelling network numbers vertebrae from the top."""
    counted = changed(spineps()[0], {19 + n: 1 + n for n in range(6)} | {119 + n: 101 + n for n in range(6)})
    found = measure_study({"vert": counted, "spine": spineps()[1]})
    assert set(problems(found)) == set(LEVELS)
    assert problems(found)["L5/S1"].startswith("the vertebrae of vert are counted from the top, not named")


# ---- files that were turned or belong elsewhere ------------------------------------------------------------------


def test_upside_down() -> None:
    turned = LabelFile(spine().voxels[:, ::-1], spine().ijk_to_ras)
    found = problems(measure_study({"map": turned}))
    assert set(found) == set(LEVELS) and "L4 does not lie above the disc L4/L5 in map" in found["L4/L5"]


def test_left_and_right_exchanged() -> None:
    vertebrae, regions = (LabelFile(labels.voxels[::-1], labels.ijk_to_ras) for labels in spineps())
    with pytest.raises(GaussianMRIError, match=r"Left and right are exchanged in spine: its 43 \(left\)"):
        measure_study({"vert": vertebrae, "spine": regions})
    # A file of the scan's grid in whose header the axis to the side has the wrong sign.
    off = sagittal(shift=(9.0, 0, 0))
    labels = spine_map(grid=off)
    mirrored = np.diag([-1.0, 1, 1, 1]) @ labels.ijk_to_ras
    with pytest.raises(GaussianMRIError, match="map lies on T2 as in a mirror: left and right are exchanged"):
        measure_study({"map": LabelFile(labels.voxels, mirrored)}, stacks=[stack_of(labels)])
    assert measure_study({"map": labels}, stacks=[stack_of(labels)]).measures[0].area is not None


def test_another_frame_of_reference_and_another_grid() -> None:
    away = spine().ijk_to_ras.copy()
    away[:3, 3] += [0, 60, 0]
    with pytest.raises(GaussianMRIError, match="of map lies outside the scan: it is of another scan or frame"):
        measure_study({"map": LabelFile(spine().voxels, away)}, stacks=[stack_of(spine())])
    vertebrae, regions = spineps()
    moved = regions.ijk_to_ras.copy()
    moved[:3, 3] += [0, 0, 5]
    with pytest.raises(GaussianMRIError, match="vert and spine lie on different grids"):
        measure_study({"vert": vertebrae, "spine": LabelFile(regions.voxels, moved)})
    # Finer than the scan, and on it: no error.
    fine = measure_study({"map": spine_map(grid=axial(3.0))}, stacks=[stack_of(spine())], levels=("L3/L4",))
    assert fine.measures[0].area == pytest.approx(true_area("L3/L4"), rel=0.03)


def test_a_scan_that_does_not_cover_the_canal() -> None:
    narrow = stack_of(spine()).subset(range(7, 15))
    voxels = spine().voxels.copy()
    voxels[:7] = 0
    found = measure_study({"map": spine()}, stacks=[stack_of(spine())])
    cut = measure_study({"map": LabelFile(voxels, spine().ijk_to_ras)}, stacks=[narrow])
    assert found.measures[2].area is not None
    assert problems(cut)["L3/L4"] == "the canal is cut by the edge of the scan"


def test_the_users_level_and_the_maps() -> None:
    discs, _ = spine_labels(spine(), "map").discs()
    given = {"L5/S1": replace(discs["L4/L5"], level="L5/S1", file="mine.json"), "L3/L4": discs["L3/L4"]}
    found = measure_study({"map": spine()}, discs=given)
    assert problems(found)["L1/L2"] == "the file of discs has no such disc"
    assert "L5/S1 (mine.json) lies at L4/L5 of map, 0 mm from the middle of that disc" in found.measures[4].notes
    assert found.measures[4].area == pytest.approx(measure_study({"map": spine()}).measures[3].area)
    assert not any("lies at" in note for note in found.measures[2].notes)


