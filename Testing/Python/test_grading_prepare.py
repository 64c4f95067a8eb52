"""From studies to inputs of networks: types by angle, sides, splits by patient, and lines for what is left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from rsna_files import Copy, phantom, phantom_study, rewrite, scans, true_disc

from GaussianMRILib.cli.grade_prepare import prepare as prepare_command
from GaussianMRILib.cli.grade_prepare import validate as validate_command
from GaussianMRILib.cohort import CohortReport
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.grading.crops import CropSet
from GaussianMRILib.grading.disc import DiscGeometry
from GaussianMRILib.grading.disc_files import find_disc_file, read_disc_file
from GaussianMRILib.grading.disc_sources import write_discs
from GaussianMRILib.grading.inputs import acquired_input, alignment_degrees, vertebral_median
from GaussianMRILib.grading.prepare import PrepareOptions, disc_inputs, prepare
from GaussianMRILib.stacks import SliceStack

WITHOUT_FIT = ("A", "N", "R-VI")


def stack(name: str) -> SliceStack:
    planes, images = scans()[name]
    poses = np.stack([plane.ijk_to_ras for plane in planes])
    return SliceStack.from_array(
        images * 1000, poses, thickness=4.0, frame_of_reference=None, name=name, source={"series_uid": name}
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """Five studies of four patients: paired, aligned only, straight only, a broken one, and one that nobody graded."""
    copy = Copy(tmp_path_factory.mktemp("prepare") / "rsna")
    phantom_study(copy, "1")
    phantom_study(copy, "2", ("aligned", "sagittal"))
    phantom_study(copy, "3", ("straight", "sagittal"), patient="patient 1")
    phantom_study(copy, "4", ("straight", "sagittal"))
    phantom_study(copy, "5", ("aligned", "sagittal"))
    content = (copy.images / "4" / "41" / "5.dcm").read_bytes()
    (copy.images / "4" / "41" / "5.dcm").write_bytes(content[:2000])
    for study in "1234":
        copy.grade(
            study, left_subarticular_stenosis_l5_s1="Severe", right_subarticular_stenosis_l5_s1="Moderate"
        )
    copy.grade("5")
    copy.grades[-1][1:] = [""] * 25
    write_discs(copy.folder / "1.json", {"L5/S1": true_disc()})
    for study in "2345":
        (copy.folder / f"{study}.json").write_bytes((copy.folder / "1.json").read_bytes())
    copy.save()
    return copy


def test_a_cohort_is_prepared(copy: Copy, tmp_path: Path) -> None:
    options = PrepareOptions(types=WITHOUT_FIT, levels=("L5/S1",), discs=str(copy.folder))
    crops, report = prepare(
        copy.folder, tmp_path / "out", options, fractions={"train": 0.5, "test": 0.5}, workers=1
    )
    assert report.done == ["1", "2", "3", "5"] and report.failed == ["4"]
    line = report.rows["4"].lines[0]
    assert (
        "series 41 (Axial T2) is left out" in line
        and "5.dcm" in line
        and "no axial series can be used" in line
    )
    assert report.rows["5"].lines == ("none of its discs has a grade",)
    assert report.rows["1"].lines == report.rows["2"].lines == report.rows["3"].lines == ()
    types = {study: [case.input_type for case in crops if case.study_id == study] for study in "12345"}
    assert types == {"1": ["A", "N", "R-VI"], "2": ["A"], "3": ["N", "R-VI"], "4": [], "5": []}
    for case in crops:
        assert case.grades == {
            "left_subarticular_stenosis": "Severe",
            "right_subarticular_stenosis": "Moderate",
            "left_neural_foraminal_narrowing": "Normal/Mild",
            "right_neural_foraminal_narrowing": "Normal/Mild",
            "spinal_canal_stenosis": "Normal/Mild",
        }
        assert case.synthetic and case.level == "L5/S1" and case.outside < 0.2
        images, mask = crops.images(case)
        assert images.shape == (9, 112, 224) and mask.sum() >= 7 and 0.1 < images[mask].mean() < 0.6
    # Studies 1 and 3 are of one patient, whose ID stays out of the table.
    places = {case.study_id: (case.patient, case.split) for case in crops}
    assert places["1"] == places["3"] and places["1"][0] == "1" and places["1"][1] != places["2"][1]
    assert "patient 1" not in (tmp_path / "out" / "cases.csv").read_text()
    assert crops.facts["synthetic"] is True and crops.facts["data"] == "SYNTHETIC phantoms"
    again = CropSet.read(tmp_path / "out")
    assert [case.case_id for case in again] == [case.case_id for case in crops]
    _, resumed = prepare(
        copy.folder, tmp_path / "out", options, fractions={"train": 0.5, "test": 0.5}, workers=1
    )
    assert resumed.resumed == 4 and resumed.failed == ["4"]
    with pytest.raises(GaussianMRIError, match="other settings"):
        prepare(copy.folder, tmp_path / "out", options, fractions={"train": 0.5, "test": 0.5}, seed=1, workers=1,
                splits={study: "test" for study in "12345"})  # fmt: skip


def test_a_set_is_made_by_one_run(copy: Copy, tmp_path: Path) -> None:
    """Unlike the folder of a cohort: its split is of all its studies."""
    options = PrepareOptions(types=("A",), levels=("L5/S1",), discs=str(copy.folder))
    prepare(copy.folder, tmp_path / "out", options, studies=["1"], fractions={"test": 1.0}, workers=1)
    with pytest.raises(GaussianMRIError, match="other settings"):
        prepare(copy.folder, tmp_path / "out", options, studies=["2"], fractions={"test": 1.0}, workers=1)
    text = (Path(__file__).parents[2] / "docs" / "grading.md").read_text(encoding="utf-8")
    assert "a set of `prepare` is made by one run" in text and "Several runs of `cohort` may share a folder" in text


def test_a_study_is_prepared_again_where_its_discs_changed_or_its_inputs_are_gone(copy: Copy, tmp_path: Path) -> None:
    options = PrepareOptions(types=("A",), levels=("L5/S1",), discs=str(tmp_path / "discs"))
    (tmp_path / "discs").mkdir()
    for study in "12":
        write_discs(tmp_path / "discs" / f"{study}.json", {"L5/S1": true_disc()})

    def run() -> tuple[CropSet, CohortReport]:
        return prepare(
            copy.folder, tmp_path / "out", options, studies=["1", "2"], fractions={"test": 1.0}, workers=1
        )

    _, report = run()
    first, second = (tmp_path / "out" / report.rows[study].files[0] for study in "12")
    assert run()[1].resumed == 2
    first.unlink()
    crops, report = run()
    assert report.resumed == 1 and len(crops) == 2 and first.is_file()
    far = true_disc().frame.copy()
    far[0, 3] += 400
    write_discs(tmp_path / "discs" / "2.json", {"L5/S1": replace(true_disc(), frame=far)})
    crops, report = run()
    assert report.resumed == 1 and not second.exists()  # where the disc now is there is no image
    assert [case.study_id for case in crops] == [case.study_id for case in CropSet.read(tmp_path / "out")] == ["1"]


def test_processes_make_the_same(copy: Copy, tmp_path: Path) -> None:
    options = PrepareOptions(types=("A",), levels=("L5/S1",), discs=str(copy.folder))
    sets = [
        prepare(
            copy.folder, tmp_path / str(workers), options, studies=["1", "2"], fractions={"test": 1.0},
            workers=workers,
        )[0]
        for workers in (1, 2)
    ]  # fmt: skip
    here, there = ({case.study_id: crops.images(case)[0] for case in crops} for crops in sets)
    assert here.keys() == there.keys() == {"1", "2"}
    assert all(np.array_equal(here[study], there[study]) for study in here)


def test_acquired_types_go_by_the_angle() -> None:
    disc, aligned, straight = true_disc(), stack("aligned"), stack("straight")
    assert alignment_degrees(disc, aligned) < 0.5 and alignment_degrees(disc, straight) > 20
    inputs, problems = disc_inputs(disc, [straight, aligned], PrepareOptions(types=WITHOUT_FIT))
    assert list(inputs) == list(WITHOUT_FIT) and problems == []
    assert inputs["R-VI"].facts["stacks"] == ["straight"]  # never from the aligned series, which is the truth
    only, problems = disc_inputs(disc, [aligned], PrepareOptions())
    assert list(only) == ["A"] and problems == []
    # Resampled planes resemble the aligned slices more than the straight slices do.
    truth = inputs["A"].images[4]

    def likeness(kind: str) -> float:
        return float(np.corrcoef(inputs[kind].images[4].ravel(), truth.ravel())[0, 1])

    assert likeness("R-VI") > likeness("N") + 0.05


def test_left_is_left_from_the_files_to_the_input(copy: Copy, tmp_path: Path) -> None:
    """A bright spot in the patient's left recess appears in the right half of the crop, and nowhere else."""
    marked = Copy(tmp_path / "rsna")
    phantom_study(marked, "1", ("aligned", "sagittal"))
    disc = true_disc()
    place = phantom().frame.to_ras(-12, -20, 0)
    planes, _ = scans()["aligned"]
    k = int(np.argmin([abs((place - plane.origin) @ plane.normal) for plane in planes]))
    i, j, _ = (np.linalg.inv(planes[k].ijk_to_ras) @ [*place, 1])[:3].round().astype(int)

    def brighten(dataset: object) -> None:
        pixels = dataset.pixel_array.copy()
        pixels[j - 1 : j + 2, i - 1 : i + 2] = 4000
        dataset.PixelData = pixels.tobytes()

    rewrite(marked.images / "1" / "11" / f"{len(planes) - k}.dcm", brighten)
    marked.grade("1", left_subarticular_stenosis_l5_s1="Severe")
    write_discs(marked.images / "1" / "discs.json", {"L5/S1": disc})
    options = PrepareOptions(types=("A",), levels=("L5/S1",), discs="discs.json", overlays=True)
    crops, report = prepare(marked.save(), tmp_path / "out", options, fractions={"test": 1.0}, workers=1)
    assert report.failed == [] and [case.case_id for case in crops] == ["1-L5S1-A"]
    with Image.open(tmp_path / "out" / "overlays" / "1-L5S1-A.png") as picture:
        assert min(picture.size) > 300 and picture.mode == "RGB"
    images, _ = crops.images(crops.cases[0])
    bright = np.argwhere(images > 0.98)
    row, column = bright[:, 1].mean(), bright[:, 2].mean()
    left, back, _ = disc.local(place)
    width = 2 * disc.sagittal_depth
    behind = disc.local(disc.posterior)[2, 1]
    assert column - 111.5 == pytest.approx(left / width * 224, abs=4) and left > 10
    assert row - 55.5 == pytest.approx((back - behind) / width * 224, abs=4)
    assert set(bright[:, 0]) == {4}
    with np.load(crops.folder / crops.cases[0].file) as content:
        plane = content["planes"][4]
    assert np.linalg.norm((plane @ [column, row, 0, 1])[:3] - place) < 3


def test_label_coordinates_give_discs(copy: Copy, tmp_path: Path) -> None:
    crops, report = prepare(
        copy.folder, tmp_path / "out", PrepareOptions(types=("A", "N"), levels=("L4/L5", "L5/S1")), studies=["1", "2"],
        fractions={"test": 1.0}, workers=1,
    )  # fmt: skip
    kinds = {(case.study_id, case.level, case.input_type) for case in crops}
    assert {("1", "L5/S1", "A"), ("1", "L5/S1", "N"), ("2", "L5/S1", "A")} <= kinds
    # No slice of these series lies near L4/L5, although it has a grade: a line and no input.
    assert not [case for case in crops if case.level == "L4/L5"]
    for study in "12":
        assert any(line.startswith("L4/L5: ") for line in report.rows[study].lines)


def test_slabs_of_the_neighbouring_level_are_not_taken() -> None:
    disc, aligned = true_disc(), stack("aligned")
    poses = _lifted(aligned.ijk_to_ras, disc.normal * 28)  # from 10 to 46 mm above the disc
    up = SliceStack.from_array(
        aligned.pixels,
        poses,
        thickness=4.0,
        frame_of_reference=None,
        name="upper slab",
        source={"series_uid": "x"},
    )
    inputs, problems = disc_inputs(disc, [up], PrepareOptions(types=("A",)))
    assert inputs == {} and problems == ["upper slab: its slices end 10 mm from L5/S1"]
    inputs, problems = disc_inputs(disc, [up, aligned], PrepareOptions(types=("A",)))
    assert inputs["A"].facts["stacks"] == ["aligned"] and problems == []
    inputs, problems = disc_inputs(disc, [aligned], PrepareOptions(types=("A",), fewest_slices=10))
    assert inputs == {} and problems == ["aligned: only 9 slices are near L5/S1"]


def test_a_short_slab_takes_the_scale_of_its_series() -> None:
    """Three slices in the disc show no vertebra, but the series' other slab does."""
    disc, aligned = true_disc(), stack("aligned")
    inside, above = aligned.subset([3, 4, 5]), aligned.subset([6, 7, 8])
    inputs, problems = disc_inputs(disc, [inside], PrepareOptions(types=("A",)))
    assert inputs == {} and "vertebrae" in problems[0]
    inputs, _ = disc_inputs(disc, [inside, above], PrepareOptions(types=("A",)))
    images = inputs["A"]
    assert images.mask.sum() == 3 and images.facts["slices"] == 3
    whole = disc_inputs(disc, [aligned], PrepareOptions(types=("A",)))[0]["A"]
    assert images.facts["vertebral_median"] == pytest.approx(whole.facts["vertebral_median"], rel=0.2)


def test_slices_that_end_at_a_disc_are_scaled_at_another() -> None:
    """Blocks of three slices show no vertebra; those of the series' nearest disc with more slices say its scale."""
    disc, aligned = true_disc(), stack("aligned")

    def block(
        level: str, mm: float, kept: list[int], gain: float = 1, series: str = "x"
    ) -> tuple[SliceStack, DiscGeometry]:
        """A slab like the one at the disc, and its disc, elsewhere along the spine."""
        slab, there = aligned.subset(kept), _moved(disc, level, mm)
        poses = _lifted(slab.ijk_to_ras, disc.normal * mm)
        return replace(slab, pixels=slab.pixels * gain, ijk_to_ras=poses, source={"series_uid": series}), there

    near, few, far, other = (
        block("L4/L5", 40, [3, 4, 5]), block("L3/L4", 80, list(range(9)), 2),
        block("L2/L3", 120, list(range(9)), 3), block("L1/L2", 160, list(range(9)), 5, "another"),
    )  # fmt: skip
    (own, _), others = block("L5/S1", 0, [3, 4, 5]), [disc, *(d for _, d in (other, far, few, near))]
    axial = [own, *(slab for slab, _ in (near, few, far, other))]
    options = PrepareOptions(types=("A",))
    images = disc_inputs(disc, axial, options, others=others)[0]["A"]
    expected = vertebral_median(few[0], few[1])
    assert images.facts["vertebral_median"] == expected != vertebral_median(*far)
    assert images.facts["vertebral_median_of"] == "L3/L4" and "the vertebrae beside L3/L4" in images.remarks[0]
    scaled = acquired_input(disc, own, median=expected)
    assert np.array_equal(images.images, scaled.images) and not scaled.remarks
    for lacking in ([disc], [disc, near[1], other[1]]):  # another series has another scale
        found, problems = disc_inputs(disc, axial, options, others=lacking)
        assert not found and "too few to scale" in problems[0]
    options = PrepareOptions(types=("N", "R-VI"), most_outside=0.95, aligned_degrees=-1)  # nothing counts as aligned
    tilt = disc_inputs(disc, axial, options, others=others)[0]
    assert [tilt[kind].facts.get("vertebral_median_of") for kind in ("N", "R-VI")] == ["L3/L4"] * 2


def test_the_record_of_a_case_says_where_it_was_scaled(tmp_path: Path) -> None:
    copy = Copy(tmp_path / "rsna")
    phantom_study(copy, "1", ("aligned", "sagittal"))
    disc = true_disc()
    planes, _ = scans()["aligned"]
    for k in (0, 1, 2, 6, 7, 8):  # the slices beyond the end plates become those of another disc

        def lift(dataset: object) -> None:
            place = np.array(dataset.ImagePositionPatient, float) + disc.normal * 50 * [-1, -1, 1]
            dataset.ImagePositionPatient = [f"{value:.4f}" for value in place]

        rewrite(copy.images / "1" / "11" / f"{len(planes) - k}.dcm", lift)
    copy.grade("1", left_subarticular_stenosis_l5_s1="Severe")
    write_discs(copy.folder / "1.json", {"L5/S1": disc, "L4/L5": _moved(disc, "L4/L5", 50)})
    options = PrepareOptions(types=("A",), levels=("L5/S1",), discs=str(copy.folder))
    crops, report = prepare(copy.save(), tmp_path / "out", options, fractions={"test": 1.0}, workers=1)
    assert "L5/S1: intensities are scaled by the vertebrae beside L4/L5" in " ".join(report.rows["1"].lines)
    with np.load(crops.folder / crops.cases[0].file) as content:
        facts = json.loads(str(content["facts"]))
    assert facts["vertebral_median_of"] == "L4/L5" and facts["slices"] == 3


def _moved(disc: DiscGeometry, level: str, mm: float) -> DiscGeometry:
    """A disc like another, further up."""
    by, frame = disc.normal * mm, disc.frame.copy()
    frame[:3, 3] += by
    return replace(disc, frame=frame, posterior=disc.posterior + by, anterior=disc.anterior + by, level=level)


def _lifted(poses: np.ndarray, by: np.ndarray) -> np.ndarray:
    moved = poses.copy()
    moved[:, :3, 3] += by
    return moved


def test_a_region_outside_the_scan_is_left_out() -> None:
    disc, aligned = true_disc(), stack("aligned")
    narrow = aligned.window(slice(8, 20), slice(20, 42))
    inputs, problems = disc_inputs(disc, [narrow], PrepareOptions(types=("A",)))
    assert inputs == {} and "lies outside the scan" in problems[0]
    inputs, _ = disc_inputs(disc, [narrow], PrepareOptions(types=("A",), most_outside=0.9))
    assert 0.5 < inputs["A"].outside < 0.9


def test_files_of_discs(copy: Copy, tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    disc = true_disc()
    first = write_discs(tmp_path / "7.json", {"L5/S1": disc})
    second = write_discs(tmp_path / "7" / "discs.json", {"L5/S1": disc})
    assert find_disc_file(tmp_path, "7") == first
    first.unlink()
    assert find_disc_file(tmp_path, "7") == second
    assert find_disc_file(f"{tmp_path}/{{study}}/discs.json", "7") == second
    assert find_disc_file("discs.json", "7", tmp_path / "7") == second
    with pytest.raises(GaussianMRIError, match="no discs of study 8"):
        find_disc_file(tmp_path, "8")
    found, problems = read_disc_file(second, None, ("L5/S1",))
    assert np.allclose(found["L5/S1"].frame, disc.frame) and problems == []
    assert read_disc_file(second, None, ("L4/L5",))[0] == {}
    (tmp_path / "spinenet.csv").write_text("nothing\n1\n")
    with pytest.raises(GaussianMRIError, match="sagittal series, which this study lacks"):
        read_disc_file(tmp_path / "spinenet.csv", None)


def test_a_label_map_gives_discs(tmp_path: Path) -> None:
    from GaussianMRILib.geometry import ImagePlane
    from GaussianMRILib.writers import write_volume

    disc = true_disc()
    planes = ImagePlane.from_normal(disc.center, (0, 0, 1), spacing=(1.5, 1.5), shape=(50, 50)).stack(32, 1.5)
    local = disc.local(np.stack([plane.points() for plane in planes]))
    inside = (local[..., 0] / 25) ** 2 + (local[..., 1] / 17) ** 2 < 1
    labels = np.where(inside & (np.abs(local[..., 2]) < 4.5), 100.0, 0.0)
    write_volume(tmp_path / "7.nii.gz", labels, planes)
    found, problems = read_disc_file(find_disc_file(tmp_path, "7"), None, ("L4/L5", "L5/S1"))
    assert list(found) == ["L5/S1"] and len(problems) == 1 and problems[0].startswith("L4/L5: ")
    made = found["L5/S1"]
    assert np.linalg.norm(made.center - disc.center) < 1
    assert np.degrees(np.arccos(made.normal @ disc.normal)) < 2


def test_one_file_is_not_for_several_studies(copy: Copy, tmp_path: Path) -> None:
    with pytest.raises(GaussianMRIError, match="discs belong to one study"):
        prepare(copy.folder, tmp_path / "out", PrepareOptions(discs=str(copy.folder / "1.json")), workers=1)
    with pytest.raises(GaussianMRIError, match="Input types are"):
        PrepareOptions(types=("A", "B"))
    with pytest.raises(GaussianMRIError, match="are of one patient but in different splits"):
        prepare(
            copy.folder,
            tmp_path / "out",
            PrepareOptions(types=("A",)),
            splits={"1": "train", "3": "test"},
            workers=1,
        )


def test_the_commands(copy: Copy, tmp_path: Path) -> None:
    run = CliRunner()
    listed = tmp_path / "problems.txt"
    done = run.invoke(
        validate_command, [str(copy.folder), "--workers", "1", "-q", "-o", str(listed)], standalone_mode=False
    )
    assert done.return_value == 1 and "series 41 (Axial T2) is left out" in done.output
    assert "1: the same patient as 3" in listed.read_text() and "2:" not in listed.read_text()
    options = [
        "-o", str(tmp_path / "out"), "--type", "A", "--level", "L5/S1", "--discs", str(copy.folder),
        "--split", "0", "0", "1", "--study", "2", "--workers", "1", "-q", "--region", json.dumps({"depth": "half"}),
    ]  # fmt: skip
    done = run.invoke(prepare_command, [str(copy.folder), *options], catch_exceptions=False)
    assert done.exit_code == 0 and "1 cases: 0 train, 0 validation, 1 test" in done.output
    crops = CropSet.read(tmp_path / "out")
    assert crops.facts["preprocessing"]["depth"] == "half" and crops.cases[0].split == "test"
    options[1] = str(tmp_path / "two")
    done = run.invoke(prepare_command, [str(copy.folder), *options, "--study", "4"])
    assert isinstance(done.exception, GaussianMRIError) and "1 of 2 studies failed" in str(done.exception)
    assert "1 cases: 0 train, 0 validation, 1 test" in done.output and len(CropSet.read(tmp_path / "two")) == 1
    bad = run.invoke(prepare_command, [str(copy.folder), *options[:-1], "{"])
    assert isinstance(bad.exception, GaussianMRIError) and "--region" in str(bad.exception)
