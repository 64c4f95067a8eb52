"""The folder of network inputs: what goes in comes out, a kill leaves a whole set, mistakes are told."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from grading_cases import LEFT, RIGHT, Input, make_set, spots

from GaussianMRILib import GaussianMRIError, ImagePlane
from GaussianMRILib.grading.crops import COLUMNS, Case, CropSet, labels_of, preprocessing
from GaussianMRILib.grading.inputs import GradingInput
from GaussianMRILib.grading.roi import RegionOptions

GRADES = {LEFT.name: "Severe", "right_neural_foraminal_narrowing": "Normal/Mild"}
CASE = Case("7-L5S1-A", "7", "p7", "L5/S1", "A", "test", GRADES, synthetic=True)


def test_a_case_comes_back_as_it_was(tmp_path: Path) -> None:
    plane = ImagePlane.from_axes((1, 2, 3), (-1, 0, 0), (0, -1, 0), shape=(112, 224))
    images = np.random.default_rng(0).uniform(0, 1, (9, 112, 224)).astype(np.float32)
    mask = np.arange(9) < 6
    inputs = GradingInput(images, mask, (plane,) * 9, "A", 0.125, {"level": "L5/S1"})
    crops = CropSet.create(tmp_path / "set", {"data": "somebody's", "site": ("a", "b")})
    assert crops.add(CASE, inputs) == replace(CASE, outside=0.125)
    there = CropSet.read(tmp_path / "set")
    assert there.cases == [replace(CASE, outside=0.125)] and len(there) == 1 and CASE.case_id in there
    assert there.facts == {
        "data": "somebody's", "synthetic": False, "site": ["a", "b"], "preprocessing": preprocessing()
    }  # fmt: skip
    seen, known = there.images(CASE)
    assert seen.dtype == np.float16 and np.abs(seen - images).max() < 5e-4 and (known == mask).all()
    with np.load(there.folder / CASE.file) as content:
        assert np.array_equal(content["planes"], np.stack([plane.ijk_to_ras] * 9))
        assert json.loads(str(content["facts"])) == {"level": "L5/S1"}
    (row,) = csv.DictReader((there.folder / "cases.csv").read_text().splitlines())
    assert tuple(row) == COLUMNS
    assert row["left_subarticular_stenosis"] == "Severe" and row["right_subarticular_stenosis"] == ""
    assert row["file"] == "images/7-L5S1-A.npz" and row["outside"] == "0.1250" and row["synthetic"] == "yes"
    assert there.cases[0].label(LEFT) == 2 and there.cases[0].label(RIGHT) is None


def test_cases_are_chosen_by_split_type_level_and_grade(tmp_path: Path) -> None:
    crops = make_set(tmp_path / "set", {"train": 3, "test": 2}, sides=("left",), types=("A", "N"))
    assert len(crops) == 10 and len(crops.chosen("train")) == 6 and len(crops.chosen(input_types=["N"])) == 5
    assert [c.case_id for c in crops.chosen("test", ["A"], ["L5/S1"], LEFT)] == ["test0-A", "test1-A"]
    assert labels_of(crops.chosen("train", ["N"]), LEFT) == [0, 1, 2]
    with pytest.raises(GaussianMRIError, match=r"Case test0-A has no grade of right subarticular stenosis"):
        labels_of(crops.cases, RIGHT)
    assert not crops.chosen(levels=["L1/L2"]) and not crops.chosen(task=RIGHT)


def test_who_came_first_does_not_matter(tmp_path: Path) -> None:
    """Processes finish in any order; what is learned and drawn from a set must not depend on it."""
    inputs = spots(0, 0, np.random.default_rng(0))
    orders = []
    for name, numbers in (("one", [3, 1, 2]), ("other", [2, 3, 1])):
        crops = CropSet.create(tmp_path / name)
        for n in numbers:
            crops.add(replace(CASE, case_id=f"{n}-L5S1-A", study_id=str(n), patient=str(n)), inputs)
        for seen in (crops, CropSet.read(tmp_path / name)):
            orders.append([case.case_id for case in seen] + [case.study_id for case in seen.chosen("test")])
    assert orders == [orders[0]] * 4


def test_an_interrupted_set_goes_on(tmp_path: Path) -> None:
    make_set(tmp_path / "set", {"train": 3})
    table = tmp_path / "set" / "cases.csv"
    whole = table.read_bytes()
    table.write_bytes(whole[:-9])  # killed while the last row was written
    crops = CropSet.create(tmp_path / "set", {"data": "spots", "synthetic": True})
    assert [case.case_id for case in crops] == ["train0-A", "train1-A"] and "train2-A" not in crops
    crops = make_set(tmp_path / "set", {"train": 3})
    assert table.read_bytes() == whole and len(crops) == 3
    other = CropSet.read(tmp_path / "set")  # as another process sees it
    generator = np.random.default_rng(0)
    crops.add(replace(CASE, case_id="a"), spots(0, 0, generator))
    other.add(replace(CASE, case_id="b"), spots(0, 0, generator))
    cases = [case.case_id for case in CropSet.read(tmp_path / "set")]
    assert cases == ["a", "b", "train0-A", "train1-A", "train2-A"]
    with pytest.raises(GaussianMRIError, match=r"made otherwise \(data, more\)"):
        CropSet.create(tmp_path / "set", {"data": "others", "synthetic": True, "more": 1})
    assert not [path for path in (tmp_path / "set").rglob("*") if "partial" in path.name]


def test_a_patient_is_in_one_split(tmp_path: Path) -> None:
    crops = make_set(tmp_path / "set", {"train": 2, "test": 1}, types=("A", "N"))
    crops.assign({"train0": "validation", "nobody": "test"})
    splits = {case.case_id: case.split for case in CropSet.read(tmp_path / "set")}
    assert splits == {
        "train0-A": "validation", "train0-N": "validation", "train1-A": "train", "train1-N": "train",
        "test0-A": "test", "test0-N": "test",
    }  # fmt: skip
    table = tmp_path / "set" / "cases.csv"
    table.write_text(table.read_text().replace("L5/S1,N,train", "L5/S1,N,test"))
    with pytest.raises(GaussianMRIError, match="patient train1 is in the splits train and test"):
        CropSet.read(tmp_path / "set")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"case_id": "../a"}, "cannot name a case"),
        ({"level": "L6/S1"}, "'L6/S1' is none of L1/L2"),
        ({"input_type": "GS"}, "'GS' is none of A, N"),
        ({"split": "val"}, "'val' is none of train, validation, test"),
        ({"grades": {LEFT.name: "Bad"}}, "'Bad' of 'left_subarticular_stenosis'"),
        ({"grades": {"stenosis": "Severe"}}, "'Severe' of 'stenosis'"),
    ],
)
def test_a_case_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(GaussianMRIError, match=message):
        replace(CASE, **change)  # type: ignore[arg-type]


def test_images_no_network_must_see_are_refused(tmp_path: Path) -> None:
    crops = CropSet.create(tmp_path / "set")
    good = np.full((3, 4, 8), 0.5, np.float32)
    bad = {"0 to 1": good * 3, "at least one slice": good}
    for message, images in bad.items():
        with pytest.raises(GaussianMRIError, match=message):
            crops.add(CASE, Input(images, np.full(3, message == "0 to 1")))
    empty = good.copy()
    empty[1, 2, 3] = np.nan
    with pytest.raises(GaussianMRIError, match="0 to 1, they are nan"):
        crops.add(CASE, Input(empty, np.ones(3, bool)))
    other = {"options": RegionOptions(depth="half").to_dict()}
    with pytest.raises(GaussianMRIError, match=r"'depth': 'half'.*set of its own"):
        crops.add(CASE, Input(good, np.ones(3, bool), facts=other))
    assert not len(CropSet.read(tmp_path / "set")) and not list((tmp_path / "set" / "images").iterdir())
    halves = CropSet.create(
        tmp_path / "halves", {"preprocessing": preprocessing(RegionOptions(depth="half"))}
    )
    halves.add(CASE, Input(good, np.ones(3, bool), facts=other))


def test_damage_is_told(tmp_path: Path) -> None:
    crops = make_set(tmp_path / "set", {"train": 1})
    case = crops.cases[0]
    path = crops.folder / case.file
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(GaussianMRIError, match=r"train0-A\.npz is not .* or it is damaged.*Prepare study train0"):
        crops.images(case)
    header, table = crops.folder / "crops.json", crops.folder / "cases.csv"
    good = table.read_text()
    table.write_text(good.replace("L5/S1", "L5"))
    with pytest.raises(GaussianMRIError, match=r"Case train0-A: 'L5' is none"):
        CropSet.read(crops.folder)
    table.write_text(good.replace("0.2500", "much"))
    with pytest.raises(GaussianMRIError, match="line 2 is not a case, or it is damaged"):
        CropSet.read(crops.folder)
    table.write_text("case,study\n")
    with pytest.raises(GaussianMRIError, match="does not have the columns"):
        CropSet.read(crops.folder)
    text = header.read_text()
    header.write_text(text.replace('"version": 1,\n "facts"', '"version": 9,\n "facts"'))
    with pytest.raises(GaussianMRIError, match="newer version"):
        CropSet.read(crops.folder)
    header.write_text("[]")
    with pytest.raises(GaussianMRIError, match="grade prepare"):
        CropSet.read(crops.folder)
    with pytest.raises(GaussianMRIError, match=r"crops\.json cannot be read: it does not exist"):
        CropSet.read(tmp_path)
