"""The SPIDER data: layout, what its labels mean, grades, and inputs of networks made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from spider_files import spider_labels, write_spider
from spine_scenes import spine_map, spineps_pair, true_frames

from GaussianMRILib.cli import main
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.grading.crops import CropSet
from GaussianMRILib.grading.label_schemes import SPIDER, SPINEPS_VERTEBRAE, TOTALSPINESEG_2024, scheme_of
from GaussianMRILib.grading.labels import LEVELS
from GaussianMRILib.grading.prepare import PrepareOptions, data_in, prepare
from GaussianMRILib.grading.spider import SpiderDataset
from GaussianMRILib.grading.spine_labels import SpineLabels

NAME = "disc_degeneration"


def test_the_scheme() -> None:
    assert SPIDER.vertebrae["L5"] == 1 and SPIDER.vertebrae["T12"] == 6 and SPIDER.canal == (100,)
    assert [SPIDER.discs[level] for level in LEVELS] == [205, 204, 203, 202, 201]
    assert scheme_of(spider_labels()) is SPIDER and scheme_of(spine_map(TOTALSPINESEG_2024)) is TOTALSPINESEG_2024
    seen_in_part = spider_labels()
    seen_in_part.voxels[seen_in_part.voxels == SPIDER.vertebrae["T12"]] = 106
    assert 106 in seen_in_part.voxels and scheme_of(seen_in_part) is SPIDER
    end_plates, _ = spineps_pair()
    end_plates.voxels[0, 0, 0] = 224
    scheme = scheme_of(end_plates)
    assert scheme is not None and scheme.name == SPINEPS_VERTEBRAE.name
    discs, problems = SpineLabels(spider_labels(), SPIDER, "mask").discs()
    assert not problems
    for level, disc in discs.items():
        assert np.linalg.norm(disc.center - true_frames()[level][:3, 3]) < 1.5, level


def test_a_copy_becomes_inputs(tmp_path: Path) -> None:
    folder = write_spider(tmp_path / "spider", {"1": [5, 3, 2, 1, 1], "12": [1, 2, 4, 3, 1]})
    data = data_in(str(folder))
    assert isinstance(data, SpiderDataset) and data.studies == ["1", "12"]
    assert data.grades_at("1", "L5/S1") == {NAME: "Severe"} and data.grades_at("12", "L1/L2") == {NAME: "Normal/Mild"}
    study = data.study("12")
    assert study.sagittal_t2 is not None and study.sagittal_t2.is_sagittal and study.sagittal_t2.pixels.min() == 0
    assert study.sagittal_t2.spacing == pytest.approx(4.4)
    options = PrepareOptions(types=("A", "S-T1", "S-T2"), levels=("L4/L5", "L5/S1"))
    crops, report = prepare(folder, tmp_path / "inputs", options, splits={"1": "train", "12": "test"}, workers=1)
    assert report.done == ["1", "12"] and not any(row.lines for row in report.rows.values())
    assert "CC BY 4.0" in crops.facts["data"] and not crops.facts["synthetic"]
    assert {case.case_id: case.grades[NAME] for case in crops} == {
        f"{patient}-{level}-{kind}": grade
        for patient, level, grade in (
            ("1", "L4L5", "Moderate"), ("1", "L5S1", "Severe"), ("12", "L4L5", "Normal/Mild"), ("12", "L5S1", "Normal/Mild"),
        )
        for kind in ("S-T1", "S-T2")
    }  # fmt: skip
    by_id = {case.case_id: crops.images(case)[0].astype(float) for case in crops}
    # In front of the reference point lies the disc, behind it the canal, bright in T2 and dark in T1.
    disc, canal = (slice(52, 60), slice(60, 90)), (slice(40, 72), slice(134, 146))
    assert by_id["1-L5S1-S-T2"][4][disc].mean() < 0.5 * by_id["12-L5S1-S-T2"][4][disc].mean()
    assert by_id["1-L5S1-S-T2"][4][canal].mean() > 3 * by_id["1-L5S1-S-T1"][4][canal].mean()


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    folder = write_spider(tmp_path / "spider", {"1": [1, 2, 3, 4, 5]}, t1_shift=12.0)
    table = folder / "radiological_gradings.csv"
    rows = ("1,1,0,0,0,0,0,0,0,4", "1,2,0,0,0,0,0,0,0,7", "1,x,0,0,0,0,0,0,0,1", "1,9,0,0,0,0,0,0,0,2")
    table.write_text("\n".join([table.read_text().strip(), *rows]) + "\n")
    data = SpiderDataset(folder)
    assert data.grades_at("1", "L5/S1") == {} and data.grades_at("1", "L4/L5") == {NAME: "Normal/Mild"}
    assert [problem.split(" (")[0] for problem in data.problems["1"]] == [
        "L5/S1: Pfirrmann grades 1 and 4; none is used", "L4/L5: Pfirrmann grade 7 does not exist",
        "line 9 of radiological_gradings.csv is not of whole numbers",
    ]  # fmt: skip
    study = data.study("1")
    assert study.sagittal_t1 is None and "lie up to 12 mm" in study.problems[-1]
    arguments = ["grade", "prepare", str(folder), "-o", str(tmp_path / "out"), "--split", "1", "0", "0", "-q"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert len(CropSet.read(tmp_path / "out")) == 4, "of four graded discs, T2 alone"
    (folder / "images" / "1_t2.mha").unlink()
    with pytest.raises(GaussianMRIError, match="no T2 series of patient 1"):
        SpiderDataset(folder).study("1")
    table.write_text("Patient,IVD label\n1,1\n")
    with pytest.raises(GaussianMRIError, match="no column Pfirrman grade"):
        SpiderDataset(folder)
    for path in (folder / "masks").iterdir():
        path.unlink()
    (folder / "masks").rmdir()
    with pytest.raises(GaussianMRIError, match="has no masks"):
        SpiderDataset(folder)
